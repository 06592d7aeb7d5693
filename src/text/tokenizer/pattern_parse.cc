#include "text/tokenizer/pattern_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "checkpoint/printable.h"
#include "text/tokenizer/utf8.h"

namespace hadal::pattern {
namespace {

constexpr int kMaxDepth = 64;
constexpr int64_t kMaxRepeat = 65535;  // PCRE2's

struct Options {
  bool fold = false, dot_all = false;
};

CodeSet newline() { return {U'\n', U'\n'}; }
CodeSet everything() { return {0, kLastCodePoint}; }
CodeSet named(std::string_view name) { return *table_set(name); }

bool is_digit(char32_t c) { return c >= U'0' && c <= U'9'; }

int hex_value(char32_t c) {
  if (is_digit(c)) return static_cast<int>(c - U'0');
  if (c >= U'a' && c <= U'f') return static_cast<int>(c - U'a') + 10;
  if (c >= U'A' && c <= U'F') return static_cast<int>(c - U'A') + 10;
  return -1;
}

Node look(Node::Kind kind, CodeSet set) {
  Node node;
  node.kind = kind;
  node.children.push_back(set_node(std::move(set)));
  return node;
}

Node simple(Node::Kind kind) {
  Node node;
  node.kind = kind;
  return node;
}

bool has_unbounded(const Node& node) {
  if (node.kind == Node::kRepeat && node.max < 0 && node.greed != Node::kPossessive) return true;
  if (node.kind == Node::kAtomic || (node.kind == Node::kRepeat && node.greed == Node::kPossessive))
    return false;
  return std::any_of(node.children.begin(), node.children.end(), has_unbounded);
}

/// Recursive descent; depth_ counts every group, class and quantifier that is open.
class Parser {
 public:
  explicit Parser(std::string_view regex) {
    for (size_t at = 0; at < regex.size();) text_.push_back(utf8_next(regex, at));
  }

  Result<Node> run() {
    HADAL_TRY(Node node, branches(Options{}));
    if (!done()) return failed("an unmatched )");
    return node;
  }

 private:
  [[nodiscard]] bool done() const { return at_ >= text_.size(); }
  [[nodiscard]] char32_t peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : U'\0';
  }
  bool eat(std::u32string_view what) {
    if (std::u32string_view(text_).substr(at_, what.size()) != what) return false;
    at_ += what.size();
    return true;
  }
  static std::string utf8(std::u32string_view text) {
    std::string out;
    for (const char32_t c : text) utf8_append(out, c);
    return out;
  }

  /// branch | branch …, up to ) or the end.
  Result<Node> branches(Options options) {
    if (++depth_ > kMaxDepth)
      return failed(fmt::format("more than {} groups within each other", kMaxDepth));
    std::vector<Node> parts;
    do {
      HADAL_TRY(Node part, branch(options));
      parts.push_back(std::move(part));
    } while (eat(U"|"));
    --depth_;
    return alternate(std::move(parts));
  }

  Result<Node> branch(Options options) {
    std::vector<Node> parts;
    while (!done() && peek() != U'|' && peek() != U')') {
      if (eat(U"(?#")) {
        while (!done() && peek() != U')') ++at_;
        if (!eat(U")")) return failed("a comment without its end");
        continue;
      }
      if (const auto changed = inline_options(options)) {
        if (!changed->error.empty()) return failed(changed->error);
        if (changed->whole_group) {
          // Ruby: the options hold to the end of the group, its further branches included.
          HADAL_TRY(Node rest, branches(changed->options));
          parts.push_back(std::move(rest));
        } else {
          HADAL_TRY(Node inside, branches(changed->options));
          if (!eat(U")")) return failed("a group without its end");
          HADAL_TRY(parts.emplace_back(), quantified(std::move(inside)));
        }
        continue;
      }
      HADAL_TRY(Node atom, this->atom(options));
      HADAL_TRY(parts.emplace_back(), quantified(std::move(atom)));
    }
    return several_folded(std::move(parts));
  }

  struct OptionChange {
    Options options;
    bool whole_group = false;
    std::string error;
  };

  /// (?im-x) and (?im-x:
  std::optional<OptionChange> inline_options(Options options) {
    if (peek() != U'(' || peek(1) != U'?') return std::nullopt;
    const char32_t first = peek(2);
    if (first != U'-' && !(first >= U'a' && first <= U'z')) return std::nullopt;
    at_ += 2;
    bool on = true;
    for (; !done(); ++at_) {
      const char32_t c = peek();
      if (c == U'-') {
        on = false;
      } else if (c == U'i') {
        options.fold = on;
      } else if (c == U'm') {
        options.dot_all = on;
      } else if (c == U'x' && !on) {
        continue;
      } else if (c == U')') {
        ++at_;
        return OptionChange{options, true, ""};
      } else if (c == U':') {
        ++at_;
        return OptionChange{options, false, ""};
      } else {
        return OptionChange{options, false,
                            fmt::format("the option {} of a group", quote(utf8({&c, 1})))};
      }
    }
    return OptionChange{options, false, "a group without its end"};
  }

  /// The quantifiers behind an atom.
  Result<Node> quantified(Node node) {
    for (int stacked = 0;; ++stacked) {
      int64_t min = 0, max = 0;
      bool interval = false;
      if (eat(U"?")) {
        min = 0, max = 1;
      } else if (eat(U"*")) {
        min = 0, max = -1;
      } else if (eat(U"+")) {
        min = 1, max = -1;
      } else if (peek() == U'{') {
        HADAL_TRY(interval, this->interval(min, max));
        if (!interval) return node;
      } else {
        return node;
      }
      if (stacked == 4) return failed("more than four quantifiers on one item");
      Node::Greed greed = Node::kGreedy;
      // Ruby: {n}? is an optional {n}, and {n,m}+ a repeated {n,m}; both fall out of the loop.
      if (!(interval && min == max) && eat(U"?")) {
        greed = Node::kLazy;
      } else if (!interval && eat(U"+")) {
        greed = Node::kPossessive;
      }
      if (max < 0 && has_unbounded(node))
        return failed("a repetition without bound inside another");
      node = repeat(std::move(node), min, max, greed);
    }
  }

  /// {n}, {n,}, {,m}, {n,m}; false, nothing eaten: the brace is a letter.
  Result<bool> interval(int64_t& min, int64_t& max) {
    size_t i = at_ + 1;
    bool too_large = false;
    const auto number = [&]() -> int64_t {
      int64_t value = -1;
      for (; i < text_.size() && is_digit(text_[i]); ++i) {
        value = std::max<int64_t>(value, 0) * 10 + static_cast<int64_t>(text_[i] - U'0');
        if (value > kMaxRepeat) too_large = true, value = kMaxRepeat;
      }
      return value;
    };
    const int64_t first = number();
    int64_t second = first;
    if (i < text_.size() && text_[i] == U',') {
      ++i;
      second = number();
      if (first < 0 && second < 0) return false;
    } else if (first < 0) {
      return false;
    }
    if (i >= text_.size() || text_[i] != U'}') return false;
    if (too_large) return failed(fmt::format("a repetition of more than {}", kMaxRepeat));
    if (second >= 0 && first > second)
      return failed("an interval whose first number is the larger");
    min = std::max<int64_t>(first, 0), max = second;
    at_ = i + 1;
    return true;
  }

  Node letter(char32_t c, Options options) const {
    CodeSet set(c, c);
    if (!options.fold) return set_node(std::move(set));
    Node node = set_node(with_case(set));
    node.folded = true;
    for (const SeveralFold& fold : several_folds()) {
      if (!node.set.contains(fold.code)) continue;
      std::vector<Node> string;
      for (size_t i = 0; i < fold.size(); ++i)
        string.push_back(set_node(with_case({fold.folded[i], fold.folded[i]})));
      std::vector<Node> either;
      either.push_back(concat(std::move(string)));
      either.push_back(std::move(node));
      return alternate(std::move(either));
    }
    return node;
  }

  /// Under (?i), letters that spell what one character folds to match that character too: ss and ß.
  Result<Node> several_folded(std::vector<Node> parts) const {
    std::vector<Node> out;
    size_t free_from = 0;  // letters before this index are taken by an earlier fold
    for (size_t i = 0; i < parts.size(); ++i) {
      const SeveralFold* found = nullptr;
      std::vector<CodeSet::Range> codes;
      for (const SeveralFold& fold : several_folds()) {
        bool same = i + fold.size() <= parts.size();
        for (size_t k = 0; same && k < fold.size(); ++k)
          same = parts[i + k].kind == Node::kSet && parts[i + k].folded &&
                 parts[i + k].set.contains(fold.folded[k]);
        if (!same) continue;
        if (i < free_from || (found && found->size() != fold.size()))
          return failed(
              "letters under (?i) that several characters fold to in more than one way, such as "
              "ffi");
        found = &fold;
        codes.push_back({fold.code, fold.code});
      }
      if (!found) {
        if (i >= free_from) out.push_back(std::move(parts[i]));
        continue;
      }
      free_from = i + found->size();
      std::vector<Node> string;
      for (size_t k = 0; k < found->size(); ++k) string.push_back(parts[i + k]);
      std::vector<Node> either;
      either.push_back(concat(std::move(string)));
      either.push_back(set_node(CodeSet(std::move(codes))));
      out.push_back(alternate(std::move(either)));
    }
    return concat(std::move(out));
  }

  Result<Node> atom(Options options) {
    const char32_t c = text_[at_++];
    switch (c) {
      case U'(':
        return group(options);
      case U'[': {
        HADAL_TRY(CodeSet set, bracket(options));
        return set_node(std::move(set));
      }
      case U'\\':
        return escape(options);
      case U'.':
        return set_node(options.dot_all ? everything() : newline().complement());
      case U'^':
        return line_begin();
      case U'$':
        return line_end();
      case U'?':
      case U'*':
      case U'+':
        return failed("a quantifier without an item");
      default:
        return letter(c, options);
    }
  }

  static Node line_begin() {
    std::vector<Node> behind_newline;
    behind_newline.push_back(look(Node::kBehind, newline()));
    behind_newline.push_back(look(Node::kAhead, everything()));  // not at the end of the text
    std::vector<Node> either;
    either.push_back(simple(Node::kTextBegin));
    either.push_back(concat(std::move(behind_newline)));
    return alternate(std::move(either));
  }

  static Node line_end() {
    std::vector<Node> either;
    either.push_back(simple(Node::kTextEnd));
    either.push_back(look(Node::kAhead, newline()));
    return alternate(std::move(either));
  }

  Result<Node> group(Options options) {
    Node node;
    if (eat(U"?=")) {
      node.kind = Node::kAhead;
    } else if (eat(U"?!")) {
      node.kind = Node::kNotAhead;
    } else if (eat(U"?<=")) {
      node.kind = Node::kBehind;
    } else if (eat(U"?<!")) {
      node.kind = Node::kNotBehind;
    } else if (eat(U"?>")) {
      node.kind = Node::kAtomic;
    } else if (eat(U"?:")) {
      node.kind = Node::kConcat;
    } else if (eat(U"?<")) {
      while (!done() && peek() != U'>') ++at_;
      if (!eat(U">")) return failed("a group's name without its end");
      node.kind = Node::kConcat;
    } else if (peek() == U'?') {
      const char32_t kind = peek(1);
      return failed(fmt::format("a group of the kind (?{}", printable(utf8({&kind, 1}))));
    } else {
      node.kind = Node::kConcat;  // it captures, but nothing can refer to it
    }
    HADAL_TRY(Node inside, branches(options));
    if (!eat(U")")) return failed("a group without its end");
    if (node.kind == Node::kConcat) return inside;
    node.children.push_back(std::move(inside));
    return node;
  }

  /// \p{name}, \p{^name}, \P{name}; the p is eaten.
  Result<CodeSet> property(bool negated) {
    if (!eat(U"{")) return failed("\\p without braces");
    if (eat(U"^")) negated = !negated;
    const size_t begin = at_;
    while (!done() && peek() != U'}') ++at_;
    const std::string name = utf8(std::u32string_view(text_).substr(begin, at_ - begin));
    if (!eat(U"}")) return failed("\\p{ without its end");
    const auto set = property_set(name);
    if (!set) return failed(fmt::format("the character property {}", quote(name, 40)));
    return negated ? set->complement() : *set;
  }

  /// A set that a letter behind a backslash names, in brackets and outside.
  static std::optional<CodeSet> class_escape(char32_t c, bool in_brackets) {
    const std::string_view word = in_brackets ? "[\\w]" : "\\w";
    switch (c) {
      case U's':
        return named("whitespace");
      case U'S':
        return named("whitespace").complement();
      case U'd':
        return named("nd");
      case U'D':
        return named("nd").complement();
      case U'w':
        return named(word);
      case U'W':
        return named(word).complement();
      case U'h':
        return named("[:xdigit:]");
      case U'H':
        return named("[:xdigit:]").complement();
      default:
        return std::nullopt;
    }
  }

  /// A character that a backslash and `c` (eaten) write.
  Result<char32_t> character_escape(char32_t c) {
    switch (c) {
      case U't':
        return U'\t';
      case U'n':
        return U'\n';
      case U'r':
        return U'\r';
      case U'f':
        return U'\f';
      case U'v':
        return U'\v';
      case U'a':
        return U'\a';
      case U'e':
        return U'\x1b';
      case U'x': {
        const bool braces = eat(U"{");
        return hexadecimal(braces ? 8 : 2, braces);
      }
      case U'u':
        return hexadecimal(4, false);
      default:
        break;
    }
    const bool letter = (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z') || is_digit(c);
    if (letter) return failed(fmt::format("the escape \\{}", printable(utf8({&c, 1}))));
    return c;
  }

  Result<char32_t> hexadecimal(int digits, bool braces) {
    char32_t value = 0;
    int count = 0;
    for (; count < digits && hex_value(peek()) >= 0 && !done(); ++count, ++at_)
      value = value * 16 + static_cast<char32_t>(hex_value(peek()));
    const bool enough = braces ? count > 0 && eat(U"}") : digits == 2 ? count > 0 : count == digits;
    if (!enough) return failed("a code point without its digits");
    if (!braces && digits == 2 && value >= 0x80)
      return failed("\\x of a byte that is no character; write \\x{…}");
    if (value > kLastCodePoint || (value >= 0xD800 && value <= 0xDFFF))
      return failed(fmt::format("the code point {:X}", static_cast<uint32_t>(value)));
    return value;
  }

  Result<Node> escape(Options options) {
    if (done()) return failed("a backslash at the end");
    const char32_t c = text_[at_++];
    if (auto set = class_escape(c, false)) return set_node(*std::move(set));
    switch (c) {
      case U'p':
      case U'P': {
        HADAL_TRY(CodeSet set, property(c == U'P'));
        return set_node(std::move(set));
      }
      case U'N':
        return set_node(newline().complement());
      case U'O':
        return set_node(everything());
      case U'A':
        return simple(Node::kTextBegin);
      case U'z':
        return simple(Node::kTextEnd);
      case U'G':
        return simple(Node::kSearchBegin);
      case U'Z': {
        std::vector<Node> last_newline;
        last_newline.push_back(set_node(newline()));
        last_newline.push_back(simple(Node::kTextEnd));
        Node ahead = simple(Node::kAhead);
        ahead.children.push_back(concat(std::move(last_newline)));
        std::vector<Node> either;
        either.push_back(simple(Node::kTextEnd));
        either.push_back(std::move(ahead));
        return alternate(std::move(either));
      }
      case U'b':
      case U'B':
        return word_border(c == U'b');
      case U'R':
        return any_newline();
      default: {
        HADAL_TRY(const char32_t code, character_escape(c));
        return letter(code, options);
      }
    }
  }

  static Node word_border(bool border) {
    const CodeSet word = named("\\w");
    const auto both = [&](Node::Kind behind, Node::Kind ahead) {
      std::vector<Node> parts;
      parts.push_back(look(behind, word));
      parts.push_back(look(ahead, word));
      return concat(std::move(parts));
    };
    std::vector<Node> either;
    either.push_back(both(Node::kBehind, border ? Node::kNotAhead : Node::kAhead));
    either.push_back(both(Node::kNotBehind, border ? Node::kAhead : Node::kNotAhead));
    return alternate(std::move(either));
  }

  static Node any_newline() {
    std::vector<Node> two;
    two.push_back(set_node({U'\r', U'\r'}));
    two.push_back(set_node(newline()));
    CodeSet one(U'\n', U'\r');
    one.add(0x85, 0x85);
    one.add(0x2028, 0x2029);
    std::vector<Node> either;
    either.push_back(concat(std::move(two)));
    either.push_back(set_node(std::move(one)));
    Node atomic = simple(Node::kAtomic);
    atomic.children.push_back(alternate(std::move(either)));
    return atomic;
  }

  /// [:name:] and [:^name:]; nothing eaten where there is none.
  Result<std::optional<CodeSet>> posix() {
    if (peek() != U'[' || peek(1) != U':') return std::optional<CodeSet>();
    const size_t end = text_.find(U":]", at_ + 2);
    if (end == std::u32string::npos || end - at_ > 20) return std::optional<CodeSet>();
    std::u32string_view name = std::u32string_view(text_).substr(at_ + 2, end - at_ - 2);
    const bool negated = name.starts_with(U'^');
    if (negated) name.remove_prefix(1);
    if (!std::all_of(name.begin(), name.end(), [](char32_t c) { return c >= U'a' && c <= U'z'; }))
      return std::optional<CodeSet>();
    auto set = name == U"word" ? table_set("[\\w]") : table_set("[:" + utf8(name) + ":]");
    if (!set) return failed(fmt::format("the class [:{}:]", printable(utf8(name))));
    at_ = end + 2;
    return std::optional<CodeSet>(negated ? set->complement() : *set);
  }

  /// A class; its [ is eaten.
  Result<CodeSet> bracket(Options options) {
    if (++depth_ > kMaxDepth)
      return failed(fmt::format("more than {} groups or classes within each other", kMaxDepth));
    const bool negated = eat(U"^");
    std::optional<CodeSet> all;  // of the parts before the last &&
    CodeSet part;
    bool first = true;
    for (;; first = false) {
      if (done()) return failed("a character class without its end");
      if (peek() == U']' && !(first && text_.find(U']', at_ + 1) != std::u32string::npos)) break;
      if (eat(U"&&")) {
        part = options.fold ? with_case(part) : part;
        all = all ? all->intersected(part) : part;
        part = CodeSet();
        continue;
      }
      HADAL_TRY(auto named_class, posix());
      if (named_class) {
        part.add(*named_class);
      } else if (eat(U"[")) {
        HADAL_TRY(CodeSet inner, bracket(options));
        part.add(inner);
      } else {
        HADAL_TRY(member(part));
      }
    }
    ++at_;
    if (first) return failed("an empty character class");
    if (options.fold) part = with_case(part);
    if (all) part = all->intersected(part);
    if (options.fold && !negated) {
      for (const SeveralFold& fold : several_folds())
        if (part.contains(fold.code))
          return failed("a class under (?i) with a character that folds to several, such as ß");
    }
    --depth_;
    return negated ? part.complement() : part;
  }

  /// A letter, a range or an escaped set inside a class.
  Result<void> member(CodeSet& part) {
    bool is_set = false;
    HADAL_TRY(const char32_t from, member_letter(part, is_set));
    if (is_set) return {};
    // A - before ] or before a nested class is a letter of its own.
    if (peek() != U'-' || peek(1) == U']' || peek(1) == U'[' || at_ + 1 >= text_.size()) {
      part.add(from, from);
      return {};
    }
    ++at_;
    CodeSet other;
    HADAL_TRY(const char32_t to, member_letter(other, is_set));
    if (is_set) return failed("a range that ends in a class");
    if (to < from) return failed("a range whose end is before its begin");
    part.add(from, to);
    return {};
  }

  Result<char32_t> member_letter(CodeSet& part, bool& is_set) {
    if (done()) return failed("a character class without its end");
    const char32_t c = text_[at_++];
    if (c != U'\\') return c;
    if (done()) return failed("a backslash at the end");
    const char32_t escaped = text_[at_++];
    if (escaped == U'b') return U'\b';
    std::optional<CodeSet> set = class_escape(escaped, true);
    if (escaped == U'p' || escaped == U'P') {
      HADAL_TRY(set, property(escaped == U'P'));
    }
    if (!set) return character_escape(escaped);
    part.add(*set);
    is_set = true;
    return U'\0';
  }

  std::u32string text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Node set_node(CodeSet set) {
  Node node;
  node.kind = set.empty() ? Node::kNever : Node::kSet;
  node.set = std::move(set);
  return node;
}

// Flattens, and makes one set of (?=[A])[B]: a group around such a pair then repeats as a set does,
// without a stack.
Node concat(std::vector<Node> parts) {
  std::vector<Node> out;
  for (Node& part : parts) {
    if (part.kind == Node::kEmpty) continue;
    const bool follows_look = part.kind == Node::kSet && !out.empty() &&
                              out.back().kind == Node::kAhead &&
                              out.back().children[0].kind == Node::kSet;
    if (follows_look) {
      Node both = set_node(part.set.intersected(out.back().children[0].set));
      out.back() = std::move(both);
    } else if (part.kind == Node::kConcat) {
      for (Node& child : part.children) out.push_back(std::move(child));
    } else {
      out.push_back(std::move(part));
    }
  }
  if (out.size() == 1) return std::move(out[0]);
  Node node;
  node.kind = out.empty() ? Node::kEmpty : Node::kConcat;
  node.children = std::move(out);
  return node;
}

Node alternate(std::vector<Node> parts) {
  if (parts.size() == 1) return std::move(parts[0]);
  if (std::all_of(parts.begin(), parts.end(), [](const Node& n) { return n.kind == Node::kSet; })) {
    CodeSet all;
    for (const Node& part : parts) all.add(part.set);
    return set_node(std::move(all));
  }
  Node node;
  node.kind = Node::kAlternate;
  node.children = std::move(parts);
  return node;
}

Node repeat(Node child, int64_t min, int64_t max, Node::Greed greed) {
  Node node;
  node.kind = Node::kRepeat;
  node.greed = greed;
  node.min = min;
  node.max = max;
  node.children.push_back(std::move(child));
  return node;
}

Result<Node> parse(std::string_view regex) { return Parser(regex).run(); }

}  // namespace hadal::pattern

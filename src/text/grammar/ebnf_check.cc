#include "text/grammar/ebnf_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/printable.h"
#include "text/grammar/char_set.h"
#include "text/grammar/limits.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

/// A part of a rule. Kept flat: a grammar may be long, never deep.
struct Part {
  enum class Kind { kChars, kName, kSequence, kChoice, kTimes } kind = Kind::kSequence;
  std::vector<size_t> parts = {};
  size_t rule = 0;           ///< kName
  int64_t min = 0, max = 0;  ///< kTimes; max < 0: no end
};

struct Rule {
  std::string name;
  size_t body = SIZE_MAX;  ///< SIZE_MAX: not written yet
};

class Reader {
 public:
  Reader(std::string_view text, const FirstBytes& tokens, const EbnfLimits& limits)
      : text_(text), tokens_(tokens), limits_(limits) {}

  Status read() {
    blanks();
    while (at_ < text_.size()) {
      HADAL_TRY(const std::string_view name, take_name());
      const size_t rule = rule_of(name);
      if (rules_[rule].body != SIZE_MAX)
        return refused(fmt::format("the rule {} is given twice", quote(name)));
      blanks();
      if (limits_.ours && text_.substr(at_).starts_with("[max_chars="))
        at_ = std::min(text_.find(']', at_), text_.size() - 1) + 1;
      blanks();
      if (text_.substr(at_).starts_with("["))
        return refused("rule options such as name[…] are not supported");
      if (!take("::=")) return refused("expected ::= behind a rule's name");
      blanks();
      HADAL_TRY(rules_[rule].body, alternatives(0));
      if (rules_.size() > limits_.rules)
        return refused(fmt::format("it has more than {} rules", limits_.rules));
    }
    for (const Rule& rule : rules_)
      if (rule.body == SIZE_MAX)
        return refused(fmt::format("the rule {} is used but not given", quote(rule.name)));
    if (!by_name_.contains("root")) return refused("it has no rule `root`");
    if (visits_ > grammar_limits::kTokenVisits)
      return refused(
          fmt::format("it would take too long to compile: its places admit {} million tokens by "
                      "their first byte, {} million are allowed",
                      visits_ / 1000000, grammar_limits::kTokenVisits / 1000000));
    return {};
  }

  [[nodiscard]] const std::vector<Part>& parts() const { return parts_; }
  [[nodiscard]] const std::vector<Rule>& rules() const { return rules_; }

 private:
  Error refused(const std::string& what) const {
    const auto lines = std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(at_), '\n');
    return usage_error(fmt::format("grammar: {} (line {})", what, lines + 1));
  }
  bool take(std::string_view what) {
    if (!text_.substr(at_).starts_with(what)) return false;
    return at_ += what.size(), true;
  }
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void blanks() {
    while (at_ < text_.size()) {
      at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
      if (peek() != '#') return;
      at_ = std::min(text_.find('\n', at_), text_.size());
    }
  }

  static bool name_char(char c, bool first) {
    return c == '_' || c == '-' || c == '.' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (!first && c >= '0' && c <= '9');
  }
  Result<std::string_view> take_name() {
    const size_t begin = at_;
    while (name_char(peek(), at_ == begin)) ++at_;
    if (at_ == begin) {
      // What stands here is shown: it is most often a slip of the pen.
      return refused(fmt::format("expected a rule's name, found {}", quote(text_.substr(at_, 12))));
    }
    return text_.substr(begin, at_ - begin);
  }
  size_t rule_of(std::string_view name) {
    const auto [entry, added] = by_name_.emplace(name, rules_.size());
    if (added) rules_.push_back({.name = std::string(name)});
    return entry->second;
  }
  size_t add(Part part) {
    parts_.push_back(std::move(part));
    return parts_.size() - 1;
  }

  Result<size_t> alternatives(int depth) {
    if (depth > grammar_limits::kNesting)
      return refused(fmt::format("groups are nested deeper than {}", grammar_limits::kNesting));
    Part choice{.kind = Part::Kind::kChoice};
    do {
      blanks();
      HADAL_TRY(const size_t one, sequence(depth));
      choice.parts.push_back(one);
    } while (take("|"));
    return choice.parts.size() == 1 ? choice.parts[0] : add(std::move(choice));
  }

  /// Whether what stands here begins the next rule.
  bool rule_begins() const {
    size_t at = at_;
    while (at < text_.size() && name_char(text_[at], at == at_)) ++at;
    if (at == at_) return false;
    if (limits_.ours && text_.substr(at).starts_with("[max_chars=")) return true;
    at = std::min(text_.find_first_not_of(" \t\r\n", at), text_.size());
    return text_.substr(at).starts_with("::=");
  }

  Result<size_t> sequence(int depth) {
    Part out;
    while (at_ < text_.size() && peek() != '|' && peek() != ')') {
      const bool named = name_char(peek(), true);
      if (named && depth == 0 && rule_begins()) break;
      const int64_t before = visits_;
      HADAL_TRY(size_t one, element(depth));
      HADAL_TRY(one, repeated(one, visits_ - before));
      out.parts.push_back(one);
      blanks();
    }
    return out.parts.size() == 1 ? out.parts[0] : add(std::move(out));
  }

  Result<size_t> element(int depth) {
    if (take("(")) {
      HADAL_TRY(const size_t inner, alternatives(depth + 1));
      if (!take(")")) return refused("a ( is not closed");
      return inner;
    }
    if (take("\"")) return literal();
    if (take("[")) return char_class();
    HADAL_TRY(const std::string_view name, take_name());
    if (peek() == '(')
      return refused(fmt::format("macros such as {}(…) are not supported", printable(name)));
    return add({.kind = Part::Kind::kName, .rule = rule_of(name)});
  }

  /// A quantifier behind a part whose places cost `visits`.
  Result<size_t> repeated(size_t part, int64_t visits) {
    int64_t min = 0, max = -1;
    if (take("+")) {
      min = 1;
    } else if (take("?")) {
      max = 1;
    } else if (peek() == '{') {
      const size_t end = text_.find('}', at_);
      const std::string_view bounds =
          text_.substr(at_ + 1, std::min(end, text_.size()) - std::min(at_ + 1, text_.size()));
      const auto number = [](std::string_view digits) -> int64_t {
        if (digits.empty() || digits.find_first_not_of("0123456789") != digits.npos) return -2;
        return digits.size() > 9 ? INT32_MAX : std::stoll(std::string(digits));
      };
      const size_t comma = bounds.find(',');
      min = number(bounds.substr(0, comma));
      max = comma == bounds.npos         ? min
            : comma + 1 == bounds.size() ? -1
                                         : number(bounds.substr(comma + 1));
      if (end == text_.npos || min < 0 || max == -2)
        return refused("expected {m}, {m,} or {m,n} with numbers and without blanks");
      if (max >= 0 && max < min) return refused("a repetition's bounds are the wrong way round");
      if (std::max(min, max) > grammar_limits::kRepeats)
        return refused(fmt::format("a repetition goes beyond {}", grammar_limits::kRepeats));
      at_ = end + 1;
    } else if (!take("*")) {
      return part;
    }
    if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{')
      return refused("a quantifier follows another");
    // xgrammar writes short repetitions out.
    visits_ += visits * std::clamp<int64_t>(std::max(min, max) - 1, 0, 15);
    return add({.kind = Part::Kind::kTimes, .parts = {part}, .min = min, .max = max});
  }

  /// A character, an escape or a byte of what is no UTF-8.
  Result<char32_t> character(std::string_view more_escapes) {
    if (!take("\\")) {
      const Utf8Step step = utf8_step(text_.substr(at_));
      if (step.kind != Utf8Step::kValid) return refused("it holds bytes that are no UTF-8");
      if (step.code < 0x20 && step.code != '\t') return refused("a line ends inside quotes");
      at_ += step.bytes;
      return step.code;
    }
    const char c = peek();
    ++at_;
    constexpr std::string_view kNamed = "nrtbfav0e";
    constexpr std::string_view kMeant("\n\r\t\b\f\a\v\0\x1b", 9);
    if (const size_t i = kNamed.find(c); i != kNamed.npos && c != '\0') {
      return static_cast<char32_t>(kMeant[i]);
    }
    if (c == 'x' || c == 'u' || c == 'U') return hex(c == 'x' ? 0 : c == 'u' ? 4 : 8);
    if (c != '\0' && (std::string_view("\"\\/'?").find(c) != std::string_view::npos ||
                      more_escapes.find(c) != more_escapes.npos))
      return static_cast<char32_t>(c);
    return refused(fmt::format("the escape {} is unknown", quote("\\" + std::string(1, c))));
  }
  /// `digits` hex digits; 0: as many as there are.
  Result<char32_t> hex(size_t digits) {
    const size_t end =
        std::min(text_.find_first_not_of("0123456789abcdefABCDEF", at_), text_.size());
    const size_t count = digits == 0 ? end - at_ : digits;
    if (count == 0 || count > 8 || at_ + count > end)
      return refused("an escape wants more or fewer hex digits");
    const auto code =
        static_cast<char32_t>(std::stoul(std::string(text_.substr(at_, count)), nullptr, 16));
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      return refused("an escape stands for no code point");
    at_ += count;
    return code;
  }

  Result<size_t> literal() {
    bool empty = true;
    while (!take("\"")) {
      if (at_ >= text_.size()) return refused("a \" is not closed");
      HADAL_TRY(const char32_t c, character(""));
      count(CharSet::one(c));
      empty = false;
    }
    return add({.kind = empty ? Part::Kind::kSequence : Part::Kind::kChars});
  }

  Result<size_t> char_class() {
    constexpr std::string_view kEscapes = "^$.*+?()[]{}|/-";
    const bool negated = take("^");
    CharSet chars;
    while (!take("]")) {
      if (at_ >= text_.size()) return refused("a [ is not closed");
      HADAL_TRY(const char32_t first, character(kEscapes));
      char32_t last = first;
      if (peek() == '-' && !text_.substr(at_).starts_with("-]")) {
        ++at_;
        HADAL_TRY(last, character(kEscapes));
      }
      if (last < first) return refused("a range of a class is the wrong way round");
      chars.add(first, last);
    }
    chars = negated ? chars.complement() : chars.both(CharSet::all());
    if (chars.empty()) return refused("a class holds no character");
    count(chars);
    return add({.kind = Part::Kind::kChars});
  }

  /// Adds what a place that admits `chars` costs.
  void count(const CharSet& chars) {
    for (const CharRange& range : chars.ranges()) {
      std::string first, last;
      utf8_append(first, range.first);
      utf8_append(last, range.last);
      for (auto b = static_cast<unsigned char>(first[0]);; ++b) {
        visits_ += tokens_[b];
        if (b == static_cast<unsigned char>(last[0])) break;
      }
    }
  }

  std::string_view text_;
  const FirstBytes& tokens_;
  const EbnfLimits& limits_;
  size_t at_ = 0;
  int64_t visits_ = 0;
  std::vector<Part> parts_;
  std::vector<Rule> rules_;
  std::map<std::string, size_t, std::less<>> by_name_;
};

/// Which rules may be empty, which can end at all, and whether one begins with itself.
class Recursion {
 public:
  explicit Recursion(const Reader& reader)
      : parts_(reader.parts()),
        rules_(reader.rules()),
        empty_(fixed_point(false)),
        ends_(fixed_point(true)) {}

  Status check() const {
    for (size_t i = 0; i < rules_.size(); ++i)
      if (!ends_[rules_[i].body])
        return usage_error(fmt::format("grammar: the rule {} cannot end", quote(rules_[i].name)));
    std::vector<std::vector<size_t>> begins(rules_.size());
    for (size_t i = 0; i < rules_.size(); ++i) first_rules(rules_[i].body, begins[i]);
    // Depth first, without recursion: chains of rules may be long.
    std::vector<int> state(rules_.size());
    for (size_t root = 0; root < rules_.size(); ++root) {
      std::vector<std::pair<size_t, size_t>> path;
      if (state[root] == 0) path.emplace_back(root, 0);
      while (!path.empty()) {
        auto& [at, next] = path.back();
        state[at] = 1;
        if (next == begins[at].size()) {
          state[at] = 2;
          path.pop_back();
          continue;
        }
        const size_t to = begins[at][next++];
        if (state[to] == 1)
          return usage_error(fmt::format(
              "grammar: the rule {} is left-recursive: it can begin with itself; write repetitions "
              "by * or +, or put the recursion last",
              quote(rules_[to].name)));
        if (state[to] == 0) path.emplace_back(to, 0);
      }
    }
    return {};
  }

 private:
  using Known = std::vector<bool>;
  /// Whether a part may be nothing (`chars`: false) or may come to an end at all (true): one rule
  /// but for what a character does, by what is known of the parts inside.
  bool holds(const Part& part, const Known& known, bool chars) const {
    using Kind = Part::Kind;
    const auto is = [&](size_t i) { return known[i]; };
    switch (part.kind) {
      case Kind::kChars:
        return chars;
      case Kind::kName:
        return known[rules_[part.rule].body];
      case Kind::kSequence:
        return std::all_of(part.parts.begin(), part.parts.end(), is);
      case Kind::kChoice:
        return std::any_of(part.parts.begin(), part.parts.end(), is);
      case Kind::kTimes:
        return part.min == 0 || known[part.parts[0]];
    }
    return false;
  }

  /// The smallest set of parts that holds what `holds` says of it: by a list of what to look at
  /// again, so that long chains of rules cost no more than short ones.
  Known fixed_point(bool chars) const {
    std::vector<std::vector<size_t>> users(parts_.size());
    for (size_t i = 0; i < parts_.size(); ++i) {
      for (const size_t inner : parts_[i].parts) users[inner].push_back(i);
      if (parts_[i].kind == Part::Kind::kName) users[rules_[parts_[i].rule].body].push_back(i);
    }
    Known known(parts_.size());
    std::vector<size_t> todo(parts_.size());
    for (size_t i = 0; i < todo.size(); ++i) todo[i] = i;
    while (!todo.empty()) {
      const size_t at = todo.back();
      todo.pop_back();
      if (known[at] || !holds(parts_[at], known, chars)) continue;
      known[at] = true;
      todo.insert(todo.end(), users[at].begin(), users[at].end());
    }
    return known;
  }

  /// The rules that may stand first in a part.
  void first_rules(size_t body, std::vector<size_t>& out) const {
    std::vector<size_t> todo = {body};
    while (!todo.empty()) {
      const Part& part = parts_[todo.back()];
      todo.pop_back();
      if (part.kind == Part::Kind::kName) out.push_back(part.rule);
      for (const size_t inner : part.parts) {
        todo.push_back(inner);
        if (part.kind == Part::Kind::kSequence && !empty_[inner]) break;
      }
    }
  }

  const std::vector<Part>& parts_;
  const std::vector<Rule>& rules_;
  Known empty_, ends_;
};

}  // namespace

Status check_ebnf(std::string_view text, const FirstBytes& tokens, const EbnfLimits& limits) {
  if (text.size() > limits.bytes)
    return usage_error(fmt::format("grammar: it is longer than {} bytes", limits.bytes));
  if (text.find('\0') != text.npos) return usage_error("grammar: it holds a NUL byte");
  Reader reader(text, tokens, limits);
  HADAL_TRY(reader.read());
  return Recursion(reader).check();
}

}  // namespace hadal

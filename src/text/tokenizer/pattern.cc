#include "text/tokenizer/pattern.h"

#include <fmt/format.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "checkpoint/printable.h"
#include "text/tokenizer/pattern_parse.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

using pattern::Node;

constexpr size_t kMaxPattern = 1u << 14;  // the longest known has 1,500 bytes
constexpr size_t kMaxSets = 1000;
constexpr size_t kMaxKinds = 255;
constexpr size_t kBlock = 256;              // code points a block of the table of kinds
constexpr int64_t kUncounted = 100;         // rounds of a set that need not count as steps
constexpr size_t kStepsPerCharacter = 200;  // all known patterns need less than 20
constexpr size_t kFirstSteps = 256;         // of one match, before they are counted

/// The different sets of the tree; one more than kMaxSets is enough to know.
void collect(const Node& node, std::vector<const CodeSet*>& sets) {
  const auto same = [&](const CodeSet* set) { return *set == node.set; };
  if (node.kind == Node::kSet && sets.size() <= kMaxSets &&
      std::none_of(sets.begin(), sets.end(), same))
    sets.push_back(&node.set);
  for (const Node& child : node.children) collect(child, sets);
}

/// Which kind every code point is of: two code points are of one kind if every set holds both or
/// neither.
struct Kinds {
  std::vector<uint16_t> blocks;  // by code point / kBlock, an index into cells / kBlock
  std::vector<uint8_t> cells;
  std::vector<std::vector<bool>> signatures;  // by kind: which sets hold it

  [[nodiscard]] uint8_t of(char32_t code) const {
    return cells[size_t{blocks[code / kBlock]} * kBlock + code % kBlock];
  }
};

Result<Kinds> divide(const std::vector<const CodeSet*>& sets) {
  struct Change {
    char32_t at;
    uint32_t set;
  };
  std::vector<Change> changes;
  for (uint32_t i = 0; i < sets.size(); ++i) {
    for (const CodeSet::Range& range : sets[i]->ranges()) {
      changes.push_back({range.first, i});
      if (range.last < kLastCodePoint) changes.push_back({range.last + 1, i});
    }
  }
  std::sort(changes.begin(), changes.end(),
            [](const Change& a, const Change& b) { return a.at < b.at; });
  Kinds kinds;
  std::map<std::vector<bool>, uint8_t> known;
  std::vector<bool> signature(sets.size());
  std::vector<uint8_t> flat(size_t{kLastCodePoint} + 1);
  size_t next = 0;
  for (char32_t at = 0; at <= kLastCodePoint;) {
    for (; next < changes.size() && changes[next].at == at; ++next)
      signature[changes[next].set] = !signature[changes[next].set];
    const char32_t end = next < changes.size() ? changes[next].at : kLastCodePoint + 1;
    const auto [entry, fresh] = known.try_emplace(signature, static_cast<uint8_t>(known.size()));
    if (fresh) {
      if (known.size() > kMaxKinds)
        return failed(fmt::format("more than {} kinds of characters", kMaxKinds));
      kinds.signatures.push_back(signature);
    }
    std::fill(flat.begin() + at, flat.begin() + end, entry->second);
    at = end;
  }
  std::map<std::string_view, uint16_t> blocks;
  for (size_t at = 0; at < flat.size(); at += kBlock) {
    const std::string_view block(reinterpret_cast<const char*>(flat.data()) + at, kBlock);
    const auto [entry, fresh] = blocks.try_emplace(block, static_cast<uint16_t>(blocks.size()));
    if (fresh) kinds.cells.insert(kinds.cells.end(), block.begin(), block.end());
    kinds.blocks.push_back(entry->second);
  }
  return kinds;
}

/// The sets that a match may begin with, appended to `out`. Returns whether it may be empty.
bool beginnings(const Node& node, std::vector<const CodeSet*>& out) {
  bool empty =
      node.kind != Node::kSet && node.kind != Node::kNever && node.kind != Node::kAlternate;
  switch (node.kind) {
    case Node::kSet:
      out.push_back(&node.set);
      break;
    case Node::kConcat:
    case Node::kAtomic:
      for (size_t i = 0; empty && i < node.children.size(); ++i)
        empty = beginnings(node.children[i], out);
      break;
    case Node::kAlternate:
      for (const Node& child : node.children) empty = beginnings(child, out) || empty;
      break;
    case Node::kRepeat:
      empty = beginnings(node.children[0], out) || node.min == 0;
      break;
    default:
      break;
  }
  return empty;
}

/// Writes the tree as a pattern over kinds, for a match at the begin of a search or for one behind
/// it.
class Writer {
 public:
  Writer(const Kinds& kinds, const std::vector<const CodeSet*>& sets, bool behind)
      : kinds_(kinds), sets_(sets), behind_(behind) {}

  /// A repetition without bound of one set at the front of a branch that failed where a run of that
  /// set begins fails everywhere in the run: the ends it can reach are fewer. So it is tried at the
  /// begin alone, or a run of n characters that does not match would cost n * n steps.
  std::string top(const Node& node) {
    if (node.kind != Node::kAlternate) return guard(node) + write(node, false);
    std::string out;
    for (size_t i = 0; i < node.children.size(); ++i)
      out += (i == 0 ? "" : "|") + guard(node.children[i]) + write(node.children[i], false);
    return out;
  }

 private:
  std::string guard(const Node& node) {
    const Node& first = node.kind == Node::kConcat ? node.children[0] : node;
    if (!behind_ || first.kind != Node::kRepeat || first.max >= 0 ||
        first.children[0].kind != Node::kSet)
      return "";
    return "(?<!" + set(first.children[0].set) + ")";
  }

  std::string set(const CodeSet& wanted) {
    const auto found =
        std::find_if(sets_.begin(), sets_.end(), [&](const CodeSet* s) { return *s == wanted; });
    const auto index = static_cast<size_t>(found - sets_.begin());
    std::string out;
    for (size_t kind = 0; kind < kinds_.signatures.size(); ++kind)
      if (kinds_.signatures[kind][index]) out += fmt::format("\\x{:02x}", kind);
    return out.size() == 4 ? out : "[" + out + "]";
  }

  static bool can_fail(const Node& node) {
    const auto fails = [](const Node& child) { return can_fail(child); };
    switch (node.kind) {
      case Node::kEmpty:
        return false;
      case Node::kRepeat:
        return node.min > 0 && can_fail(node.children[0]);
      case Node::kAlternate:
        return std::all_of(node.children.begin(), node.children.end(), fails);
      case Node::kConcat:
      case Node::kAtomic:
        return std::any_of(node.children.begin(), node.children.end(), fails);
      default:
        return true;
    }
  }

  /// `retried`: what follows may fail, or nothing of what matches here is consumed.
  std::string repeat(const Node& node, bool retried) {
    const Node& child = node.children[0];
    // PCRE2's limit counts what is tried again, not how far each try goes. A long run that may be
    // scanned in vain counts its characters itself, by a callout.
    const bool counted =
        (retried || child.kind != Node::kSet) && (node.max < 0 || node.max > kUncounted);
    const std::string inside = write(child, retried || node.max < 0 || node.max > 1);
    std::string out = counted                    ? "(?:(?C)" + inside + ")"
                      : child.kind != Node::kSet ? "(?:" + inside + ")"
                                                 : inside;
    out += node.max < 0 ? fmt::format("{{{},}}", node.min)
                        : fmt::format("{{{},{}}}", node.min, node.max);
    return out + (node.greed == Node::kLazy ? "?" : node.greed == Node::kPossessive ? "+" : "");
  }

  std::string concat(const Node& node, bool retried) {
    std::vector<bool> behind;  // by child from the last on: what follows may fail
    for (auto child = node.children.rbegin(); child != node.children.rend(); ++child) {
      behind.push_back(retried);
      retried = retried || can_fail(*child);
    }
    std::string out;
    for (size_t i = 0; i < node.children.size(); ++i)
      out += write(node.children[i], behind[behind.size() - 1 - i]);
    return out;
  }

  std::string write(const Node& node, bool retried) {
    const auto group = [&](std::string_view open) {
      return std::string(open) + write(node.children[0], true) + ")";
    };
    switch (node.kind) {
      case Node::kEmpty:
        return "";
      case Node::kSet:
        return set(node.set);
      case Node::kConcat:
        return concat(node, retried);
      case Node::kAlternate: {
        std::string out = "(?:";
        for (size_t i = 0; i < node.children.size(); ++i)
          out += (i == 0 ? "" : "|") + write(node.children[i], retried);
        return out + ")";
      }
      case Node::kRepeat:
        return repeat(node, retried);
      case Node::kAtomic:
        return group("(?>");
      case Node::kAhead:
        return group("(?=");
      case Node::kNotAhead:
        return group("(?!");
      case Node::kBehind:
        return group("(?<=");
      case Node::kNotBehind:
        return group("(?<!");
      case Node::kTextBegin:
        return "\\A";
      case Node::kTextEnd:
        return "\\z";
      case Node::kSearchBegin:
        return behind_ ? "(?!)" : "";
      case Node::kNever:
        return "(?!)";
    }
    return "";
  }

  const Kinds& kinds_;
  const std::vector<const CodeSet*>& sets_;
  bool behind_;
};

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};

}  // namespace

struct Pattern::Code {
  struct Program {
    std::unique_ptr<pcre2_code, FreeCode> code;
    bool jit = false;
  };
  Kinds kinds;
  std::vector<bool>
      begins;  ///< by kind: a match may begin so; one more for a match at the end of the text
  Program at_begin, behind;  ///< of a search

  static Result<Program> compile(const std::string& text);
  static Result<Pattern> build(const Node& tree);
};

struct Pattern::Scratch::Memory {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = nullptr;
  std::vector<uint8_t> kinds;
  size_t steps = 0;  ///< that are left for this text

  static int count_step(pcre2_callout_block*, void* steps) {
    auto& left = *static_cast<size_t*>(steps);
    return left == 0 ? PCRE2_ERROR_CALLOUT : (--left, 0);
  }

  Memory() {
    if (!data || !context) throw std::bad_alloc();
    pcre2_set_callout(context, count_step, &steps);
    pcre2_set_heap_limit(context, 1u << 20);  // KiB; of a build of PCRE2 without JIT
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    if (stack) pcre2_jit_stack_free(stack);
  }

  int run(const Code::Program& pattern, size_t start, size_t count) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(kinds.data());
    if (!pattern.jit)
      return pcre2_match(pattern.code.get(), subject, count, start, 0, data, context);
    int rc = pcre2_jit_match(pattern.code.get(), subject, count, start, 0, data, context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
      // The 32 KiB of the machine stack do not do: one that grows with the text, kept for the rest
      // of this call.
      stack = pcre2_jit_stack_create(
          64 << 10, std::min<size_t>((64 << 20) + count * 256, size_t{1} << 30), nullptr);
      if (!stack) throw std::bad_alloc();
      pcre2_jit_stack_assign(context, nullptr, stack);
      rc = pcre2_jit_match(pattern.code.get(), subject, count, start, 0, data, context);
    }
    return rc;
  }

  /// Whether `pattern` matches at `start`.
  bool match(const Code::Program& pattern, size_t start, size_t count) {
    for (size_t limit = kFirstSteps;; limit *= 16) {
      limit = std::min<size_t>({limit, steps, UINT32_MAX});
      pcre2_set_match_limit(context, static_cast<uint32_t>(limit));
      const int rc = run(pattern, start, count);
      if (rc >= 0) return true;
      if (rc == PCRE2_ERROR_NOMATCH) return false;
      if (rc != PCRE2_ERROR_MATCHLIMIT || limit >= steps)
        throw std::runtime_error(fmt::format(
            "a pattern of the tokenizer gave up on a text of {} characters (PCRE2 error {})", count,
            rc));
      steps -= limit;
    }
  }
};

Pattern::Scratch::Scratch() : memory_(std::make_unique<Memory>()) {}
Pattern::Scratch::~Scratch() = default;

Pattern::Pattern() : code_(std::make_unique<Code>()) {}
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

// Anchored: PCRE2 counts the steps of each place by itself, so it may not go on to the next without
// us.
Result<Pattern::Code::Program> Pattern::Code::compile(const std::string& text) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  Program out;
  out.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                               PCRE2_ANCHORED, &error, &offset, nullptr));
  if (!out.code) {
    std::array<PCRE2_UCHAR, 160> message{};
    pcre2_get_error_message(error, message.data(), message.size());
    return failed(reinterpret_cast<const char*>(message.data()));
  }
  out.jit = pcre2_jit_compile(out.code.get(), PCRE2_JIT_COMPLETE) == 0;
  return out;
}

Result<Pattern> Pattern::Code::build(const Node& tree) {
  std::vector<const CodeSet*> sets, first;
  collect(tree, sets);
  if (sets.size() > kMaxSets)
    return failed(fmt::format("more than {} different sets of characters", kMaxSets));
  Pattern out;
  Code& code = *out.code_;
  HADAL_TRY(code.kinds, divide(sets));
  HADAL_TRY(code.at_begin, compile(Writer(code.kinds, sets, false).top(tree)));
  HADAL_TRY(code.behind, compile(Writer(code.kinds, sets, true).top(tree)));
  const bool empty = beginnings(tree, first);
  code.begins.assign(code.kinds.signatures.size() + 1, empty);
  for (size_t i = 0; i < sets.size(); ++i) {
    if (std::none_of(first.begin(), first.end(),
                     [&](const CodeSet* set) { return *set == *sets[i]; }))
      continue;
    for (size_t kind = 0; kind + 1 < code.begins.size(); ++kind)
      code.begins[kind] = code.begins[kind] || code.kinds.signatures[kind][i];
  }
  return out;
}

Result<Pattern> Pattern::compile(std::string_view regex) {
  const auto refused = [&](std::string_view why) {
    return failed(fmt::format("the pattern {} is not supported: {}", quote(regex, 120), why));
  };
  if (regex.size() > kMaxPattern) return refused(fmt::format("longer than {} bytes", kMaxPattern));
  if (!utf8_valid(regex)) return refused("no valid UTF-8");
  const Result<Node> tree = pattern::parse(regex);
  if (!tree) return refused(tree.error().message);
  Result<Pattern> built = Code::build(*tree);
  if (!built) return refused(built.error().message);
  return built;
}

Result<Pattern> Pattern::literal(std::string_view text) {
  std::vector<Node> letters;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = utf8_next(text, at);
    letters.push_back(pattern::set_node(CodeSet(c, c)));
  }
  return Code::build(pattern::concat(std::move(letters)));
}

Result<Pattern> Pattern::one_of(const CodeSet& set) { return Code::build(pattern::set_node(set)); }

Result<Pattern> Pattern::words(const CodeSet& word, const CodeSet& space) {
  CodeSet either = word;
  either.add(space);
  std::vector<Node> parts;
  parts.push_back(pattern::repeat(pattern::set_node(word), 1, -1));
  parts.push_back(pattern::repeat(pattern::set_node(either.complement()), 1, -1));
  return Code::build(pattern::alternate(std::move(parts)));
}

// Empty matches as in the library: one right behind the last match is passed over by one character.
void Pattern::find(std::string_view text, Piece piece, Scratch& scratch,
                   std::vector<Piece>& out) const {
  Scratch::Memory& memory = *scratch.memory_;
  memory.kinds.clear();
  for (size_t at = piece.begin; at < piece.end;)
    memory.kinds.push_back(code_->kinds.of(utf8_next(text, at)));
  size_t at = 0, byte = piece.begin;  // the same place in characters and in bytes
  const auto bytes_to = [&](size_t character) {
    for (; at < character; ++at) {
      const auto lead = static_cast<unsigned char>(text[byte]);
      byte += lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    }
    return byte;
  };
  const size_t count = memory.kinds.size();
  memory.kinds.push_back(static_cast<uint8_t>(code_->kinds.signatures.size()));  // the end
  memory.steps = (count + 16) * kStepsPerCharacter;
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(memory.data);
  size_t last_end = SIZE_MAX;
  for (size_t search = 0; search <= count;) {
    size_t place = search;
    while (place <= count &&
           !(code_->begins[memory.kinds[place]] &&
             memory.match(place == search ? code_->at_begin : code_->behind, place, count)))
      ++place;
    if (place > count) break;
    const size_t begin = bounds[0], end = bounds[1];
    if (begin == end && end == last_end) {
      ++search;
      continue;
    }
    search = last_end = end;
    const size_t first = bytes_to(begin);
    out.push_back({first, bytes_to(end)});
  }
}

}  // namespace hadal

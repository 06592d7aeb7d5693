#include "text/grammar/regex.h"

#include <algorithm>
#include <optional>

#include "checkpoint/printable.h"
#include "text/grammar/limits.h"

namespace hadal {
namespace {

using Step = Places::Step;

const CharSet kDigits = {{'0', '9'}};
const CharSet kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
/// What \s may write: blanks that every reader of regexes counts as such.
const CharSet kBlanks = {{'\t', '\r'}, {' ', ' '}};
/// What \S must not write: blanks by ECMA-262 or Python.
const CharSet kAnyBlank = {{'\t', '\r'},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                           {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                           {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
/// What `.` does not match.
const CharSet kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

/// A piece of the automaton with one entrance and one exit.
struct Piece {
  size_t begin = 0, end = 0;
};

class Reader {
 public:
  explicit Reader(std::string_view regex) : text_(code_points(regex)) {}

  Result<Piece> alternatives(int depth) {
    if (depth > grammar_limits::kNesting)
      return refused("groups nested deeper than " + std::to_string(grammar_limits::kNesting));
    Piece all = piece();
    do {
      HADAL_TRY(const Piece one, sequence(depth));
      places_.free(all.begin, one.begin);
      places_.free(one.end, all.end);
    } while (take(U'|'));
    return all;
  }

  [[nodiscard]] bool over() const { return at_ == text_.size(); }
  Error refused(const std::string& what) const {
    return usage_error("regex: " + what + " (at character " + std::to_string(at_ + 1) + ")");
  }
  Places& places() { return places_; }

 private:
  Piece piece() {
    const size_t begin = places_.add();
    return {begin, places_.add()};
  }
  bool take(char32_t c) {
    if (over() || text_[at_] != c) return false;
    return ++at_, true;
  }
  [[nodiscard]] char32_t peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : char32_t{0xFFFFFFFF};
  }

  Result<Piece> sequence(int depth) {
    Piece all = piece();
    size_t at = all.begin;
    while (!over() && peek() != U'|' && peek() != U')') {
      const size_t begin = at_;
      HADAL_TRY(Piece one, term(depth));
      HADAL_TRY(one, repeated(one, begin, depth));
      places_.free(at, one.begin);
      at = one.end;
      if (places_.count > grammar_limits::kRegexPlaces)
        return refused("with its repetitions written out it is longer than " +
                       std::to_string(grammar_limits::kRegexPlaces) + " places");
    }
    places_.free(at, all.end);
    return all;
  }

  Result<Piece> term(int depth) {
    Piece one = piece();
    const char32_t c = peek();
    if (take(U'^') || take(U'$')) {
      places_.free(one.begin, one.end, c == U'^' ? Step::kAtBegin : Step::kAtEnd);
      return one;
    }
    if (take(U'(')) {
      HADAL_TRY(open_group());
      HADAL_TRY(one, alternatives(depth + 1));
      if (!take(U')')) return refused("a group is not closed");
      return one;
    }
    if (c == U'*' || c == U'+' || c == U'?') return refused("nothing stands before a quantifier");
    if (c == U'{' && bounds()) return refused("nothing stands before a quantifier");
    CharSet chars;
    if (take(U'[')) {
      HADAL_TRY(chars, char_class());
    } else if (take(U'.')) {
      chars = kLineEnds.complement();
    } else if (take(U'\\')) {
      HADAL_TRY(chars, escape(false));
    } else {
      chars = CharSet::one(c);
      ++at_;
    }
    places_.chars(one.begin, one.end, std::move(chars));
    return one;
  }

  Status open_group() {
    if (!take(U'?')) return {};
    if (take(U':')) return {};
    const bool behind = peek() == U'<' && (peek(1) == U'=' || peek(1) == U'!');
    if (peek() == U'=' || peek() == U'!' || behind)
      return refused("look-around such as (?=…) is not supported");
    const bool named = peek() == U'<' || (peek() == U'P' && peek(1) == U'<');
    if (!named) return refused("a group of this kind, (?…, is not supported");
    while (!over() && peek() != U'>') ++at_;
    return take(U'>') ? Status() : refused("a group's name is not closed");
  }

  struct Bounds {
    int64_t min = 0, max = -1;  ///< max < 0: none
  };

  /// {m}, {m,} or {m,n}: taken if it stands here.
  std::optional<Bounds> bounds() {
    size_t at = at_ + 1;
    const auto number = [&]() -> std::optional<int64_t> {
      std::optional<int64_t> value;
      for (; at < text_.size() && text_[at] >= U'0' && text_[at] <= U'9'; ++at)
        value = std::min<int64_t>(value.value_or(0) * 10 + (text_[at] - U'0'), INT32_MAX);
      return value;
    };
    const auto min = number();
    if (!min || at >= text_.size()) return std::nullopt;
    Bounds out{*min, *min};
    if (text_[at] == U',') {
      ++at;
      out.max = number().value_or(-1);
    }
    if (at >= text_.size() || text_[at] != U'}') return std::nullopt;
    at_ = at + 1;
    return out;
  }

  /// What stands in [begin, at_) was read as `one`; a quantifier behind it reads it again for each
  /// time that it repeats.
  Result<Piece> repeated(Piece one, size_t begin, int depth) {
    std::optional<Bounds> times;
    const size_t end = at_;
    if (take(U'*')) {
      times = Bounds{0, -1};
    } else if (take(U'+')) {
      times = Bounds{1, -1};
    } else if (take(U'?')) {
      times = Bounds{0, 1};
    } else if (peek() == U'{') {
      times = bounds();
    }
    if (!times) return one;
    const size_t behind = at_;
    if (times->max >= 0 && times->max < times->min)
      return refused("a repetition's bounds are the wrong way round");
    if (std::max(times->min, times->max) > grammar_limits::kRegexRepeats)
      return refused("a repetition goes beyond " + std::to_string(grammar_limits::kRegexRepeats));
    HADAL_TRY(const Piece all, copies(one, begin, end, *times, depth));
    at_ = behind;
    if (peek() == U'+') return refused("possessive quantifiers are not supported");
    take(U'?');
    if (peek() == U'*' || peek() == U'+' || peek() == U'?')
      return refused("a quantifier follows another");
    return all;
  }

  Result<Piece> copies(Piece one, size_t begin, size_t end, Bounds times, int depth) {
    Piece all = piece();
    size_t at = all.begin;
    const int64_t written = std::max<int64_t>(1, times.max < 0 ? times.min : times.max);
    for (int64_t i = 0; i < written; ++i) {
      if (i > 0) {
        at_ = begin;
        HADAL_TRY(one, term(depth));
        HADAL_CHECK(at_ == end);
        if (places_.count > grammar_limits::kRegexPlaces)
          return refused("with its repetitions written out it is longer than " +
                         std::to_string(grammar_limits::kRegexPlaces) + " places");
      }
      if (i >= times.min) places_.free(at, all.end);
      if (times.max == 0) return all;
      places_.free(at, one.begin);
      at = one.end;
    }
    if (times.max < 0) places_.free(one.end, one.begin);
    places_.free(at, all.end);
    return all;
  }

  Result<CharSet> char_class() {
    const bool negated = take(U'^');
    CharSet out;
    while (!take(U']')) {
      if (over()) return refused("a class is not closed");
      HADAL_TRY(const CharSet first, class_member());
      const bool range = peek() == U'-' && peek(1) != U']' && at_ + 1 < text_.size();
      if (!range || first.single() < 0) {
        out.add(first);
        continue;
      }
      ++at_;
      HADAL_TRY(const CharSet last, class_member());
      if (last.single() < 0) {
        out.add(first);
        out.add(U'-', U'-');
        out.add(last);
      } else if (last.single() < first.single()) {
        return refused("a range of a class is the wrong way round");
      } else {
        out.add(static_cast<char32_t>(first.single()), static_cast<char32_t>(last.single()));
      }
    }
    return negated ? out.complement() : out.both(CharSet::all());
  }

  Result<CharSet> class_member() {
    if (take(U'\\')) return escape(true);
    if (over()) return refused("a class is not closed");
    return CharSet::one(text_[at_++]);
  }

  /// What follows a backslash.
  Result<CharSet> escape(bool in_class) {
    if (over()) return refused("it ends in a backslash");
    const char32_t c = text_[at_++];
    switch (c) {
      case U'd':
        return kDigits;
      case U'w':
        return kWord;
      case U'D':
      case U'W':
        return refused(
            "\\D and \\W are not supported, since readers of regexes differ in them "
            "beyond ASCII; [^0-9] and [^0-9A-Za-z_] say which is meant");
      case U's':
        return kBlanks;
      case U'S':
        return kAnyBlank.complement();
      case U't':
        return CharSet::one('\t');
      case U'n':
        return CharSet::one('\n');
      case U'r':
        return CharSet::one('\r');
      case U'f':
        return CharSet::one('\f');
      case U'v':
        return CharSet::one('\v');
      case U'x':
        return hex(2);
      case U'u':
        return peek() == U'{' ? braced_hex() : hex(4);
      case U'0':
        return CharSet::one(0);
      case U'b':
        if (in_class) return CharSet::one('\b');
        [[fallthrough]];
      case U'B':
        return refused("\\b and \\B are not supported");
      case U'p':
      case U'P':
        return refused("\\p{…} is not supported");
      case U'k':
        return refused("references to groups are not supported");
      default:
        break;
    }
    if (c >= U'1' && c <= U'9') return refused("references to groups are not supported");
    if (kWord.has(c))
      return refused(std::string("the escape \\") + static_cast<char>(c) + " is unknown");
    return CharSet::one(c);
  }

  static int digit(char32_t c) {
    if (c >= U'0' && c <= U'9') return static_cast<int>(c - U'0');
    if (c >= U'a' && c <= U'f') return static_cast<int>(c - U'a') + 10;
    if (c >= U'A' && c <= U'F') return static_cast<int>(c - U'A') + 10;
    return -1;
  }
  Result<CharSet> hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const int next = digit(peek());
      if (next < 0) return refused("an escape wants " + std::to_string(digits) + " hex digits");
      value = value * 16 + static_cast<char32_t>(next);
    }
    if (value >= 0xD800 && value < 0xE000) return refused("surrogates are not supported");
    return CharSet::one(value);
  }
  Result<CharSet> braced_hex() {
    char32_t value = 0;
    ++at_;
    while (digit(peek()) >= 0 && value <= 0x10FFFF)
      value = value * 16 + static_cast<char32_t>(digit(text_[at_++]));
    if (!take(U'}') || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
      return refused("\\u{…} wants a code point");
    return CharSet::one(value);
  }

  std::u32string text_;
  size_t at_ = 0;
  Places places_;
};

}  // namespace

Result<Automaton> read_regex(std::string_view regex, RegexScope scope) {
  if (regex.size() > grammar_limits::kRegexBytes)
    return usage_error("regex: longer than " + std::to_string(grammar_limits::kRegexBytes) +
                       " bytes");
  Reader reader(regex);
  HADAL_TRY(const Piece all, reader.alternatives(0));
  if (!reader.over()) return reader.refused("a ) closes no group");
  Places& places = reader.places();
  places.free(places.begin, all.begin);
  places.free(all.end, places.end);
  if (scope == RegexScope::kSomewhere) {
    places.chars(places.begin, places.begin, CharSet::all());
    places.chars(places.end, places.end, CharSet::all());
  }
  Result<Automaton> out = Automaton::from_places(places);
  if (!out) return usage_error("regex: " + quote(regex) + " " + out.error().message);
  return out;
}

}  // namespace hadal

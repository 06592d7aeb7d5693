#include "text/tokenizer/unicode.h"

#include <algorithm>
#include <array>
#include <span>

namespace hadal {
namespace {

struct NamedSet {
  std::string_view name;
  uint32_t begin, end;  // in kSetData
};

#include "text/tokenizer/unicode_sets.inc"

// Long names and unions of the general categories, and other names of sets. As in Oniguruma,
// \p{Punct} is P and no more.
constexpr std::array<std::pair<std::string_view, std::string_view>, 42> kAliases = {{
    {"l", "lu ll lt lm lo"},
    {"letter", "lu ll lt lm lo"},
    {"lc", "lu ll lt"},
    {"casedletter", "lu ll lt"},
    {"uppercaseletter", "lu"},
    {"lowercaseletter", "ll"},
    {"titlecaseletter", "lt"},
    {"modifierletter", "lm"},
    {"otherletter", "lo"},
    {"m", "mn mc me"},
    {"mark", "mn mc me"},
    {"combiningmark", "mn mc me"},
    {"nonspacingmark", "mn"},
    {"spacingmark", "mc"},
    {"enclosingmark", "me"},
    {"n", "nd nl no"},
    {"number", "nd nl no"},
    {"decimalnumber", "nd"},
    {"digit", "nd"},
    {"letternumber", "nl"},
    {"othernumber", "no"},
    {"p", "pc pd ps pe pi pf po"},
    {"punctuation", "pc pd ps pe pi pf po"},
    {"punct", "pc pd ps pe pi pf po"},
    {"connectorpunctuation", "pc"},
    {"dashpunctuation", "pd"},
    {"openpunctuation", "ps"},
    {"closepunctuation", "pe"},
    {"initialpunctuation", "pi"},
    {"finalpunctuation", "pf"},
    {"otherpunctuation", "po"},
    {"s", "sm sc sk so"},
    {"symbol", "sm sc sk so"},
    {"mathsymbol", "sm"},
    {"currencysymbol", "sc"},
    {"modifiersymbol", "sk"},
    {"othersymbol", "so"},
    {"z", "zs zl zp"},
    {"separator", "zs zl zp"},
    {"spaceseparator", "zs"},
    {"space", "whitespace"},
    {"alpha", "alphabetic"},
}};

CodeSet unpacked(std::span<const uint32_t> data) {
  std::vector<CodeSet::Range> ranges;
  ranges.reserve(data.size() / 2);
  char32_t last = 0;
  for (size_t i = 0; i + 1 < data.size(); i += 2) {
    const char32_t first = last + data[i];
    last = first + data[i + 1];
    ranges.push_back({first, last});
  }
  return CodeSet(std::move(ranges));
}

}  // namespace

CodeSet::CodeSet(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.first < b.first; });
  for (const Range& range : ranges) {
    if (!ranges_.empty() && range.first <= ranges_.back().last + 1) {
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    } else {
      ranges_.push_back(range);
    }
  }
}

void CodeSet::add(char32_t first, char32_t last) {
  const auto touches = [](const Range& range, char32_t code) { return range.last + 1 < code; };
  const auto begin = std::lower_bound(ranges_.begin(), ranges_.end(), first, touches);
  auto end = begin;
  for (; end != ranges_.end() && end->first <= last + 1; ++end) {
    first = std::min(first, end->first);
    last = std::max(last, end->last);
  }
  ranges_.insert(ranges_.erase(begin, end), {first, last});
}

void CodeSet::add(const CodeSet& other) {
  std::vector<Range> both = ranges_;
  both.insert(both.end(), other.ranges_.begin(), other.ranges_.end());
  *this = CodeSet(std::move(both));
}

CodeSet CodeSet::intersected(const CodeSet& other) const {
  CodeSet out;
  for (size_t i = 0, j = 0; i < ranges_.size() && j < other.ranges_.size();) {
    const char32_t first = std::max(ranges_[i].first, other.ranges_[j].first);
    const char32_t last = std::min(ranges_[i].last, other.ranges_[j].last);
    if (first <= last) out.ranges_.push_back({first, last});
    ranges_[i].last < other.ranges_[j].last ? ++i : ++j;
  }
  return out;
}

CodeSet CodeSet::complement() const {
  CodeSet out;
  char32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) out.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) out.ranges_.push_back({next, kLastCodePoint});
  return out;
}

bool CodeSet::contains(char32_t code) const {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), code,
                                      [](char32_t c, const Range& r) { return c < r.first; });
  return after != ranges_.begin() && code <= std::prev(after)->last;
}

std::optional<CodeSet> table_set(std::string_view name) {
  for (const NamedSet& set : kSets)
    if (set.name == name)
      return unpacked(std::span(kSetData).subspan(set.begin, set.end - set.begin));
  return std::nullopt;
}

std::optional<CodeSet> property_set(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c == ' ' || c == '_' || c == '-') continue;
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!letter) return std::nullopt;  // the table's other names are not for patterns
    plain.push_back(static_cast<char>(c | 0x20));
  }
  if (plain == "any") return CodeSet(0, kLastCodePoint);
  if (plain == "assigned") return table_set("cn")->complement();
  if (plain == "c" || plain == "other") {
    CodeSet set = *table_set("cc");
    for (const std::string_view part : {"cf", "co", "cn"}) set.add(*table_set(part));
    return set;
  }
  for (const auto& [alias, parts] : kAliases) {
    if (alias != plain) continue;
    CodeSet set;
    for (std::string_view rest = parts; !rest.empty();) {
      const size_t end = std::min(rest.find(' '), rest.size());
      set.add(*table_set(rest.substr(0, end)));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return set;
  }
  return table_set(plain);
}

CodeSet with_case(const CodeSet& set) {
  std::vector<CodeSet::Range> ranges = set.ranges();
  const std::span<const int32_t> data(kFoldData);
  int32_t code = 0;
  for (size_t i = 0; i + 1 < data.size();) {
    code += data[i];
    const auto others = static_cast<size_t>(data[i + 1]);
    if (set.contains(static_cast<char32_t>(code))) {
      for (size_t k = 0; k < others; ++k) {
        const auto other = static_cast<char32_t>(code + data[i + 2 + k]);
        ranges.push_back({other, other});
      }
    }
    i += 2 + others;
  }
  return CodeSet(std::move(ranges));
}

char32_t to_lower(char32_t code) {
  using Pair = std::pair<char32_t, char32_t>;
  static const std::vector<Pair> pairs = [] {
    std::vector<Pair> out;
    const std::span<const int32_t> data(kLowerData);
    int32_t upper = 0;
    for (size_t i = 0; i + 1 < data.size(); i += 2) {
      upper += data[i];
      out.emplace_back(static_cast<char32_t>(upper), static_cast<char32_t>(upper + data[i + 1]));
    }
    return out;
  }();
  const auto found = std::lower_bound(pairs.begin(), pairs.end(), Pair{code, 0});
  return found != pairs.end() && found->first == code ? found->second : code;
}

const std::vector<SeveralFold>& several_folds() {
  static const std::vector<SeveralFold> folds(std::begin(kSeveralFolds), std::end(kSeveralFolds));
  return folds;
}

}  // namespace hadal

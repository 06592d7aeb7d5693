#include "text/grammar/char_set.h"

#include <algorithm>

#include "text/tokenizer/utf8.h"

namespace hadal {

void CharSet::add(char32_t first, char32_t last) {
  if (last < first) return;
  const auto begin =
      std::lower_bound(ranges_.begin(), ranges_.end(), first,
                       [](const CharRange& range, char32_t c) { return range.last + 1 < c; });
  auto end = begin;
  while (end != ranges_.end() && end->first <= last + 1) {
    first = std::min(first, end->first);
    last = std::max(last, end->last);
    ++end;
  }
  ranges_.insert(ranges_.erase(begin, end), {first, last});
}

CharSet CharSet::complement() const { return all().without(*this); }

CharSet CharSet::without(const CharSet& other) const {
  CharSet out;
  for (CharRange range : ranges_) {
    for (const CharRange& hole : other.ranges_) {
      if (hole.last < range.first || hole.first > range.last) continue;
      if (hole.first > range.first) out.ranges_.push_back({range.first, hole.first - 1});
      range.first = hole.last + 1;
      if (range.first > range.last) break;
    }
    if (range.first <= range.last) out.ranges_.push_back(range);
  }
  return out;
}

CharSet CharSet::both(const CharSet& other) const {
  CharSet out;
  size_t i = 0, j = 0;
  while (i < ranges_.size() && j < other.ranges_.size()) {
    const char32_t first = std::max(ranges_[i].first, other.ranges_[j].first);
    const char32_t last = std::min(ranges_[i].last, other.ranges_[j].last);
    if (first <= last) out.ranges_.push_back({first, last});
    ranges_[i].last < other.ranges_[j].last ? ++i : ++j;
  }
  return out;
}

bool CharSet::has(char32_t c) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [c](const CharRange& range) { return range.first <= c && c <= range.last; });
}

int64_t CharSet::single() const {
  const bool one = ranges_.size() == 1 && ranges_[0].first == ranges_[0].last;
  return one ? static_cast<int64_t>(ranges_[0].first) : -1;
}

std::u32string code_points(std::string_view text) {
  std::u32string out;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    out += step.kind == Utf8Step::kValid ? step.code : U'\uFFFD';
    text.remove_prefix(std::max<size_t>(step.bytes, 1));
  }
  return out;
}

}  // namespace hadal

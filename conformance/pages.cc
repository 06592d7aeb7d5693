#include "pages.h"

#include <algorithm>
#include <cstring>

namespace hadal::conformance {

Pages::Pages(Random& random, const std::vector<Sequence>& sequences, const Group& group)
    : random_(random), group_(group), count_(static_cast<int64_t>(sequences.size())) {
  for (const Sequence& s : sequences)
    each_ = std::max(each_, (s.last + 1) / group.ratio / group.slots + 2);
  ids_ = random.shuffled(std::max<int64_t>(1, each_ * count_));
  blocks_ = static_cast<int64_t>(ids_.size());
  table_.assign(static_cast<size_t>(each_ * count_), -1);
  for (int64_t s = 0; s < count_; ++s) place(s, sequences[static_cast<size_t>(s)]);
}

Operand Pages::table() const {
  return ints({count_, std::max<int64_t>(1, each_)}, HADAL_DIM_S, table_);
}

Operand Pages::first() const { return ints({count_}, HADAL_DIM_S, first_); }

Operand Pages::list() const {
  const auto values = static_cast<int64_t>(list_.size());
  return ints({group_.listed == 0 ? 0 : values / group_.listed, group_.listed}, HADAL_DIM_T, list_);
}

template <typename Make>
Operand Pages::fill(int64_t width, Make make) {
  Operand o = output(group_.dtype, {blocks_, group_.slots, width}, HADAL_DIM_CONST);
  o.plane = true;
  const auto size =
      static_cast<size_t>(dtype_info(static_cast<DType>(group_.dtype))->block_bytes * width);
  o.data.assign(static_cast<size_t>(blocks_ * group_.slots) * size, std::byte{0xff});
  for (const int64_t slot : visible_) {
    const Bytes row = encode(make(), group_.dtype);
    std::memcpy(o.data.data() + static_cast<size_t>(slot) * size, row.data(), size);
  }
  return o;
}

Operand Pages::plane(int64_t width) {
  return fill(width, [&] { return random_.normals(width); });
}

Operand Pages::plane_of_signs(int64_t width) {
  return fill(width, [&] {
    std::vector<float> row(static_cast<size_t>(width));
    for (float& v : row) v = static_cast<float>(random_.range(-1, 1));
    return row;
  });
}

EntryRange Pages::range_of(int64_t position, int64_t first) const {
  if (group_.span == 0) return entry_range(position, first, group_.ratio, group_.window);
  if ((position + 1) % group_.period != 0) return {};
  return {std::max<int64_t>(0, position + 1 - group_.span), position + 1};
}

void Pages::place(int64_t s, const Sequence& sequence) {
  const int64_t first = group_.from_start ? 0 : sequence.first;
  first_.push_back(static_cast<int32_t>(first));
  std::vector<bool> seen(static_cast<size_t>((sequence.last + 1) / group_.ratio), false);
  for (int64_t t = 0; t < sequence.rows; ++t) {
    const EntryRange range = range_of(sequence.last - sequence.rows + 1 + t, first);
    if (group_.list != List::kNone) {
      for (const int32_t id : write_list(range))
        for (int64_t e = id * group_.block_size; e < (id + 1) * group_.block_size; ++e)
          if (range.holds(e)) seen[static_cast<size_t>(e)] = true;
    } else {
      for (int64_t e = range.begin; e < range.end; ++e) seen[static_cast<size_t>(e)] = true;
    }
  }
  for (size_t e = 0; e < seen.size(); ++e) {
    // What no row sees is gone from some sequences, and in others still there, as NaN.
    if (s % 2 != 0 && !seen[e]) continue;
    const auto entry = static_cast<int64_t>(e);
    int32_t& block = table_[static_cast<size_t>(s * each_ + entry / group_.slots)];
    if (block == -1) {
      block = ids_.back();
      ids_.pop_back();
    }
    if (seen[e]) visible_.push_back(block * group_.slots + entry % group_.slots);
  }
}

std::vector<int32_t> Pages::write_list(const EntryRange& range) {
  const int64_t row = rows_++;
  const bool any = group_.list == List::kAny || (group_.list == List::kSome && row % 3 == 1);
  const bool empty = group_.list == List::kEmpty || (group_.list == List::kSome && row % 3 == 2);
  const int64_t size = group_.block_size, begin = any ? 0 : range.begin / size,
                end = ((any ? each_ * group_.slots : range.end) + size - 1) / size;
  std::vector<int32_t> ids = random_.shuffled(any || range.begin < range.end ? end - begin : 0);
  const int64_t most = std::min(group_.listed, static_cast<int64_t>(ids.size()));
  ids.resize(static_cast<size_t>(empty ? 0 : random_.range(most / 2, most)));
  for (int32_t& id : ids) id += static_cast<int32_t>(begin);
  std::sort(ids.begin(), ids.end());
  list_.insert(list_.end(), ids.begin(), ids.end());
  list_.resize(static_cast<size_t>(rows_ * group_.listed), -1);
  return ids;
}

Case rows_case(Random& random, const std::vector<Sequence>& sequences, uint32_t position,
               uint32_t row_seq) {
  std::vector<int32_t> positions, seqs;
  for (size_t s = 0; s < sequences.size(); ++s)
    for (int64_t t = 0; t < sequences[s].rows; ++t) {
      positions.push_back(static_cast<int32_t>(sequences[s].last - sequences[s].rows + 1 + t));
      seqs.push_back(static_cast<int32_t>(s));
    }
  Case c;
  const auto tokens = static_cast<int64_t>(positions.size());
  c.rows[HADAL_DIM_T] = tokens;
  c.rows[HADAL_DIM_S] = static_cast<int64_t>(sequences.size());
  c.spare[HADAL_DIM_T] = random.range(0, 3);
  c.spare[HADAL_DIM_S] = random.range(0, 2);
  c.sliced = HADAL_DIM_T;
  c.every_row = tokens > 1;
  c.operands[position] = ints({tokens}, HADAL_DIM_T, positions);
  c.operands[row_seq] = ints({tokens}, HADAL_DIM_T, seqs);
  return c;
}

int64_t slot_of(const Operand& plane, const Operand& table, int64_t s, int64_t e) {
  const int64_t slots = plane.shape[1];
  return table.values<int32_t>()[s * table.shape[1] + e / slots] * slots + e % slots;
}

void refuse(Case c, uint32_t operand, size_t at, int32_t value, const std::string& name,
            std::vector<Case>& cases) {
  c.name = name;
  c.wrong_data = true;
  std::memcpy(c.operands[operand].data.data() + at * sizeof value, &value, sizeof value);
  cases.push_back(std::move(c));
}

}  // namespace hadal::conformance

#include "engine/step_inputs.h"

#include <algorithm>
#include <cstring>

#include "base/result.h"

namespace hadal {
namespace {

/// Gaps of up to so many bytes travel along: one copy of both parts costs less than two.
constexpr uint64_t kJoin = 256;

uint64_t bytes_of_rows(const hadal_tensor& part, int64_t rows) {
  return static_cast<uint64_t>(rows * part.extents[0] * part.strides[0]);
}

}  // namespace

StepInputs::StepInputs(const StepLayout& layout)
    : layout_(layout), small_(layout.small_inputs()), bytes_(layout.input_bytes) {
  for (const hadal_tensor& table : layout.block_table) {
    const uint64_t bytes = bytes_of_rows(table, layout.limits.sequences);
    std::fill_n(at<int32_t>(table), bytes / sizeof(int32_t), -1);
    filled_.emplace_back(static_cast<size_t>(layout.limits.sequences), 0);
  }
  lost();
}

void StepInputs::lost() {
  for (const hadal_tensor& table : layout_.block_table)
    tables_.emplace_back(table.offset,
                         table.offset + bytes_of_rows(table, layout_.limits.sequences));
}

void StepInputs::set_blocks(size_t group, int64_t slot, std::span<const int32_t> blocks) {
  const hadal_tensor& part = layout_.block_table[group];
  int32_t* table = at<int32_t>(part) + slot * layout_.limits.max_blocks[group];
  const auto count = static_cast<int64_t>(blocks.size());
  HADAL_CHECK(count <= layout_.limits.max_blocks[group]);
  int64_t& filled = filled_[group][static_cast<size_t>(slot)];
  int64_t first = 0, end = std::max(count, filled);
  const auto wanted = [&](int64_t i) { return i < count ? blocks[static_cast<size_t>(i)] : -1; };
  while (first < end && table[first] == wanted(first)) ++first;
  while (end > first && table[end - 1] == wanted(end - 1)) --end;
  filled = count;
  if (first == end) return;
  for (int64_t i = first; i < end; ++i) table[i] = wanted(i);
  const uint64_t row = part.offset + static_cast<uint64_t>(slot * part.strides[0]);
  tables_.emplace_back(row + static_cast<uint64_t>(first) * sizeof(int32_t),
                       row + static_cast<uint64_t>(end) * sizeof(int32_t));
}

void StepInputs::add_entry(int32_t token, int32_t in_prompt, int32_t in_output, float bias) {
  HADAL_CHECK(entries_ < layout_.limits.entries);
  int32_t* entry = at<int32_t>(layout_.entry) + entries_ * 3;
  entry[0] = token;
  entry[1] = in_prompt;
  entry[2] = in_output;
  at<float>(layout_.entry_bias)[entries_++] = bias;
}

void StepInputs::fill_up(int64_t tokens, int64_t tail) {
  filled_rows_ = rows;
  filled_rows_[HADAL_DIM_T] = std::max(tokens, rows[HADAL_DIM_T]);
  filled_rows_[HADAL_DIM_U] = std::max(tail, rows[HADAL_DIM_U]);
  if (filled_rows_ == rows) return;
  const auto fill = [&](const hadal_tensor& part, int byte) {
    if (part.space != HADAL_SPACE_INPUT) return;
    const uint64_t used = bytes_of_rows(part, rows[part.row_dim]);
    std::memset(bytes_.data() + part.offset + used, byte,
                bytes_of_rows(part, filled_rows_[part.row_dim]) - used);
  };
  for (const hadal_tensor& part : small_) fill(part, 0);
  if (layout_.limits.extra > 0) fill(layout_.extra, 0);
  fill(layout_.row_seq, 0xFF);  // -1
  fill(layout_.tail_row_seq, 0xFF);
}

void StepInputs::clear() {
  // A place of a sequence that the step lacks may name an adapter that is gone.
  if (layout_.limits.adapters)
    std::fill_n(at<int32_t>(layout_.adapter), layout_.limits.sequences, -1);
  entries_ = 0;
  masked = false;
  filled_rows_ = {};
}

std::vector<StepInputs::Range> StepInputs::changed() const {
  std::vector<std::pair<uint64_t, uint64_t>> ranges = tables_;
  const auto add = [&](const hadal_tensor& part, int64_t count) {
    if (part.space == HADAL_SPACE_INPUT && count > 0)
      ranges.emplace_back(part.offset, part.offset + bytes_of_rows(part, count));
  };
  const auto count = [&](uint32_t dim) { return std::max(rows[dim], filled_rows_[dim]); };
  for (const hadal_tensor& part : small_) add(part, count(part.row_dim));
  if (layout_.limits.extra > 0) add(layout_.extra, count(HADAL_DIM_T));
  if (masked) add(layout_.mask, rows[HADAL_DIM_R]);
  if (entries_ > 0) {  // constants: their extents are the limits
    const auto front = [&](const hadal_tensor& part) {
      ranges.emplace_back(part.offset,
                          part.offset + static_cast<uint64_t>(entries_ * part.strides[0]));
    };
    front(layout_.entry);
    front(layout_.entry_bias);
  }
  std::sort(ranges.begin(), ranges.end());
  std::vector<Range> joined;
  uint64_t begin = 0, end = 0;
  const auto flush = [&] {
    if (end > begin) joined.emplace_back(begin, std::span(bytes_).subspan(begin, end - begin));
  };
  for (const auto& [from, to] : ranges) {
    if (end == 0 || from > end + kJoin) {
      flush();
      begin = from;
      end = to;
    }
    end = std::max(end, to);
  }
  flush();
  return joined;
}

}  // namespace hadal

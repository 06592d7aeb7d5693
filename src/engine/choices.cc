#include "engine/choices.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "engine/working_memory.h"

namespace hadal {
namespace {

/// -1 stands behind the entries.
void sort_list(std::span<int32_t> list) {
  std::sort(list.begin(), list.end(), [](int32_t a, int32_t b) {
    return static_cast<uint32_t>(a) < static_cast<uint32_t>(b);
  });
}

bool differ(std::span<const int32_t> a, std::span<const int32_t> b) {
  std::vector<int32_t> x(a.begin(), a.end()), y(b.begin(), b.end());
  std::sort(x.begin(), x.end());
  std::sort(y.begin(), y.end());
  return x != y;
}

}  // namespace

Result<ChoiceCounts> compare_choices(const ChoiceLog& a, const ChoiceLog& b) {
  ChoiceCounts counts;
  if (a.size() != b.size()) return failed("one run chooses where the other does not");
  for (size_t call = 0; call < a.size(); ++call) {
    const size_t width = a[call].width;
    if (width != b[call].width || a[call].numbers.size() != b[call].numbers.size())
      return failed("one run chooses more than the other");
    for (size_t at = 0; width > 0 && at < a[call].numbers.size(); at += width) {
      ++counts.rows;
      counts.differ += differ(std::span(a[call].numbers).subspan(at, width),
                              std::span(b[call].numbers).subspan(at, width));
    }
  }
  return counts;
}

std::optional<uint32_t> chosen_operand(uint32_t op_id) {
  switch (op_id) {
    case HADAL_OP_ROUTER:
      return HADAL_ROUTER_EXPERT;
    case HADAL_OP_INDEX_TOPK:
      return HADAL_INDEX_TOPK_LIST;
    case HADAL_OP_INDEX_BLOCKS:
      return HADAL_INDEX_BLOCKS_LIST;
    default:
      return std::nullopt;
  }
}

Result<ChosenRows> read_choice(const Place& place, uint32_t op_id, const Tensor& list,
                               int64_t rows) {
  std::vector<std::byte> bytes(reach(list, rows));
  HADAL_TRY(place.device->copy_out(bytes, memory_of(place, list), list.offset));
  HADAL_TRY(place.device->sync());
  const auto width = static_cast<size_t>(list.extents[1]);
  const auto count = bytes.empty() ? 0 : static_cast<size_t>(list.extents[0] * rows);
  ChosenRows chosen{width, std::vector<int32_t>(count * width)};
  for (size_t row = 0; row < count; ++row) {
    const std::span numbers = std::span(chosen.numbers).subspan(row * width, width);
    std::memcpy(numbers.data(), bytes.data() + row * static_cast<size_t>(list.strides[0]),
                width * sizeof(int32_t));
    if (op_id != HADAL_OP_ROUTER) sort_list(numbers);
  }
  return chosen;
}

}  // namespace hadal

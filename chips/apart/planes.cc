#include "planes.h"

#include <cstring>

#include "base/dtype.h"
#include "chip.h"

namespace hadal::apart {
namespace {

// Number `column` of a slot, counted in numbers from the start of its block.
int64_t place(const host_chip::View& plane, int64_t slot, int64_t column) {
  return column * plane.extents[1] + slot;
}

}  // namespace

uint64_t block_bytes(uint32_t dtype, int64_t slots, int64_t width) {
  if (dtype != HADAL_F32 && dtype != HADAL_F16 && dtype != HADAL_BF16) return 0;
  uint64_t bytes = dtype == HADAL_F32 ? 4 : 2;
  if (slots < 1 || width < 1 || __builtin_mul_overflow(bytes, slots, &bytes) ||
      __builtin_mul_overflow(bytes, width, &bytes) ||
      __builtin_add_overflow(bytes, kAlignment - 1, &bytes))
    return 0;
  return bytes / kAlignment * kAlignment;
}

void read_numbers(const host_chip::View& plane, ref::Slot at, int64_t first, int64_t count,
                  float* to) {
  const std::byte* block = plane.row<std::byte>(at.block);
  for (int64_t i = 0; i < count; ++i)
    to[i] = ref::load(block, plane.dtype, place(plane, at.slot, first + i));
}

void write_numbers(const host_chip::View& plane, ref::Slot at, const float* from) {
  std::byte* block = plane.row<std::byte>(at.block);
  for (int64_t i = 0; i < plane.extents[2]; ++i)
    ref::store(block, plane.dtype, place(plane, at.slot, i), from[i]);
}

// Blocks are numbered anew in the order in which the table names them. A number that names no block
// stays as it is: none of the copy's has it either, so the operator still refuses it.
RowMajor::RowMajor(ref::Call& call, uint32_t plane_operand, uint32_t table_operand) {
  host_chip::View& plane = call.operands[plane_operand];
  host_chip::View& table = call.operands[table_operand];
  const int64_t slots = plane.extents[1], width = plane.extents[2];
  const auto bytes = static_cast<size_t>(dtype_info(plane.dtype)->block_bytes);
  std::vector<int32_t> renamed(static_cast<size_t>(plane.extents[0]), -1);
  std::vector<int64_t> blocks;
  for (int64_t s = 0; s < table.extents[0]; ++s)
    for (int64_t i = 0; i < table.extents[1]; ++i) {
      const int32_t block = table.row<int32_t>(s)[i];
      table_.push_back(block);
      if (block < 0 || block >= plane.extents[0]) continue;
      int32_t& name = renamed[static_cast<size_t>(block)];
      if (name < 0) {
        name = static_cast<int32_t>(blocks.size());
        blocks.push_back(block);
      }
      table_.back() = name;
    }
  numbers_.resize(blocks.size() * static_cast<size_t>(slots * width) * bytes);
  std::byte* to = numbers_.data();
  for (const int64_t block : blocks)
    for (int64_t slot = 0; slot < slots; ++slot)
      for (int64_t i = 0; i < width; ++i, to += bytes)
        std::memcpy(
            to, plane.row<std::byte>(block) + static_cast<size_t>(place(plane, slot, i)) * bytes,
            bytes);
  plane.data = numbers_.data();
  plane.extents[0] = static_cast<int64_t>(blocks.size());
  plane.strides[1] = width * static_cast<int64_t>(bytes);
  plane.strides[0] = slots * plane.strides[1];
  table.data = reinterpret_cast<std::byte*>(table_.data());
  table.strides[0] = table.extents[1] * static_cast<int64_t>(sizeof(int32_t));
}

}  // namespace hadal::apart

// Planes in a layout of this chip's own: within a block the numbers of one column lie side by side,
// [width, slots], and a block is a multiple of the alignment. Whoever outside reads a block as rows
// reads nonsense.
#pragma once

#include <cstdint>
#include <vector>

#include "common/host_chip.h"
#include "ref/ref.h"

namespace hadal::apart {

/// Of F32, F16 or BF16; 0 for any other type, or if it overflows.
uint64_t block_bytes(uint32_t dtype, int64_t slots, int64_t width);

/// Numbers [first, first + count) of a slot, as fp32.
void read_numbers(const host_chip::View& plane, ref::Slot at, int64_t first, int64_t count,
                  float* to);
/// All numbers of a slot, rounded to the plane's type.
void write_numbers(const host_chip::View& plane, ref::Slot at, const float* from);

/// The blocks that a block table names, as rows: for operators of chips/ref that read a plane.
class RowMajor {
 public:
  /// Replaces both operands of `call` by copies that live as long as this.
  RowMajor(ref::Call& call, uint32_t plane, uint32_t block_table);

 private:
  std::vector<std::byte> numbers_;
  std::vector<int32_t> table_;
};

}  // namespace hadal::apart

// What chips whose memory is host memory share: memories, copies, and the view of an operand in a
// step.
//
// Owns nothing of the mathematics. Used by chips/ref and chips/cpu, and by anybody who writes such
// a chip. Everything here keeps the rule of the contract: no exception crosses it, failures come as
// hadal_status with a text.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hadal/chip.h"

namespace hadal::host_chip {

/// What a hadal_memory is on such a chip.
struct Memory {
  std::byte* data = nullptr;
  uint64_t bytes = 0;
  bool owned = false;  ///< mapped by us; imported memory is not
};

/// Huge pages for anonymous memory that is worth them, if the system gives any; neighbours share
/// one.
void prefer_huge_pages(void* data, uint64_t bytes);

inline Memory* memory(hadal_memory* m) { return reinterpret_cast<Memory*>(m); }

/// Fills the memory and copy functions of the table. Anonymous memory is mapped lazily, zeroed,
/// 64-byte aligned. Copies happen at once: queues of such chips are synchronous.
void fill_memory_functions(hadal_chip& chip);

/// An operand as it stands in one step: where its data lies and how many rows it has now.
struct View {
  std::byte* data = nullptr;  ///< null for an absent operand and for weights
  hadal_dtype dtype = HADAL_DTYPE_NONE;
  uint32_t rank = 0;
  int64_t extents[HADAL_MAX_RANK] = {1, 1, 1, 1};  ///< [0] is this step's number of rows
  int64_t strides[HADAL_MAX_RANK] = {0, 0, 0, 0};
  hadal_weight* weight = nullptr;

  [[nodiscard]] bool present() const { return rank != 0; }
  template <typename T>
  [[nodiscard]] T* row(int64_t i) const {
    return reinterpret_cast<T*>(data + i * strides[0]);
  }
  template <typename T>
  [[nodiscard]] T* row(int64_t i, int64_t j) const {
    return reinterpret_cast<T*>(data + i * strides[0] + j * strides[1]);
  }
};

/// Whether the step is asked to give up; another thread may set the flag at any time.
inline bool stop_asked(const hadal_step& step) {
  return step.stop && __atomic_load_n(step.stop, __ATOMIC_RELAXED) != 0;
}

/// The memory that `t.offset` counts from; null for a weight, an absent operand, or a plane that
/// the step lacks.
hadal_memory* memory_of(const hadal_tensor& t, const hadal_step& step);

/// `index`: hadal_op.operands[i]; -1 gives an absent View.
View view(const hadal_tape& tape, int32_t index, const hadal_step& step);

/// Whether all bytes that a view of `t` spans lie in the memory that `t` is relative to.
bool lies_inside(const View& v, const hadal_tensor& t, const hadal_step& step);

}  // namespace hadal::host_chip

// What chips whose memory is host memory share: memories, queues, errors, and the view of an
// operand in a step.
//
// Owns nothing of the mathematics. Used by chips/ref and chips/cpu, and by anybody who writes such
// a chip. Everything here keeps the rule of the contract: no exception crosses it, failures come as
// hadal_status with a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "hadal/chip.h"

namespace hadal::host_chip {

/// What a hadal_memory is on such a chip.
struct Memory {
  std::byte* data = nullptr;
  uint64_t bytes = 0;
  bool owned = false;  ///< mapped by us; imported memory is not
};

inline Memory* memory(hadal_memory* m) { return reinterpret_cast<Memory*>(m); }

/// Writes `text` to `error` (may be null) and returns `status`.
hadal_status report(hadal_error* error, hadal_status status, const std::string& text);

/// Fills the memory and copy functions of the table. Anonymous memory is mapped lazily, zeroed,
/// 64-byte aligned. Copies happen at once: queues of such chips are synchronous.
void fill_memory_functions(hadal_chip& chip);

/// Copies `from` to `*out`, at most as many bytes as out->size says, and keeps that size. For
/// structs that begin with their size.
template <typename T>
void copy_sized(T* out, const T& from) {
  const uint32_t size = out->size;
  const size_t n = size < sizeof(T) ? size : sizeof(T);
  __builtin_memcpy(out, &from, n);
  out->size = size;
}

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

/// "matmul(x [512, 576] F32, w [1536, 576] Q4_K, …)": for error texts.
std::string describe(const hadal_op& op, const hadal_tensor* const* tensors);

/// Name of an operator in lower case ("gqa_attention"), "?" if unknown; and of its operand i.
const char* op_name(uint32_t id);
const char* operand_name(uint32_t id, uint32_t operand);
uint32_t operand_count(uint32_t id);
hadal_role operand_role(uint32_t id, uint32_t operand);

/// Checks what holds for every chip: number and presence of operands, dtypes and shapes as
/// ops_table.inc says, strides. HADAL_OK, or HADAL_INVALID with a text. tensors[i] belongs to
/// operand i; absent ones have space NONE.
hadal_status check_operands(const hadal_op& op, const hadal_tensor* tensors, hadal_error* error);

}  // namespace hadal::host_chip

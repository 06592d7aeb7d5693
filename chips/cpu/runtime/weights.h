// What a weight handle of the cpu chip is: rows as the file holds them, floats for vectors.
//
// Rows stay where they are (in the mapped file) if the source stays readable, else a copy is made.
// Kernels read the types of Layout as they lie; others are decoded to fp32 while they are
// multiplied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/dtype.h"
#include "hadal/chip.h"
#include "kernels/kernels.h"

namespace hadal::cpu {

/// Anonymous memory, zeroed, 64-byte aligned, huge pages advised.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept : data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr;
  }
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();
  /// False if there is no memory left.
  bool allocate(uint64_t bytes);
  [[nodiscard]] uint8_t* data() const { return data_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  uint64_t bytes_ = 0;
};

/// Rows [first, first + rows) of the handle as the file holds them.
struct NativeRows {
  const std::byte* data;
  int64_t first;
  int64_t rows;
  int64_t stride;
  const std::byte* scales;  ///< of the piece's own row 0; null: none
  int64_t scale_stride;
};

struct Weight {
  hadal_weight_desc desc{};
  DType dtype = HADAL_DTYPE_NONE;
  std::optional<Layout> layout;    ///< what a matmul reads; absent: decoded rows
  std::vector<NativeRows> native;  ///< ascending
  Mapping native_copy;
  Mapping vector;  ///< use: vector, float [cols]

  [[nodiscard]] bool quantises() const { return layout && is_int(*layout); }
  [[nodiscard]] int64_t panels() const { return (desc.rows + kPanel - 1) / kPanel; }
  [[nodiscard]] const float* values() const {
    return reinterpret_cast<const float*>(vector.data());
  }
  /// Columns to a block of scales; 0: none.
  [[nodiscard]] int64_t scale_cols() const {
    return desc.scale_dtype == HADAL_DTYPE_NONE ? 0 : desc.scale_block_cols;
  }
  /// Where rows [first, first + count) lie, at most kPanel; the last fills the panel.
  void find_panel(int64_t first, int64_t count, NativePanel* panel) const;
  /// Decodes columns [from, from + count) of a row (batch * rows + row) to fp32; both at block
  /// borders of the type.
  void decode(int64_t row, int64_t from, int64_t count, float* out) const;
};

inline Weight* weight_of(hadal_weight* w) { return reinterpret_cast<Weight*>(w); }

/// The layout that a matmul reads, if any; `exact`: none that multiplies as integers, since
/// activations are not rounded then.
std::optional<Layout> layout_of(const hadal_weight_desc& desc, bool exact);

hadal_status weight_bytes(const hadal_weight_desc& desc, uint64_t* bytes, hadal_error* error);
hadal_status weight_create(const hadal_weight_desc& desc, bool exact, const hadal_piece* pieces,
                           uint32_t count, Weight** out, hadal_error* error);

}  // namespace hadal::cpu

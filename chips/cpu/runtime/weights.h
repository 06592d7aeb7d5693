// What a weight handle of the cpu chip is: packed panels for matmul, native rows for gather, floats
// for vectors.
//
// Packing happens once, at weight_create, by all threads. Types without a packed layout keep their
// native rows (in place in the mapped file where the source stays readable, else a copy) and are
// decoded to fp32 while they are multiplied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/dtype.h"
#include "base/thread_pool.h"
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

  std::optional<Layout> layout;  ///< packed for matmul; absent: matmul decodes native rows
  Mapping packed;
  int64_t panels = 0;       ///< of one matrix
  int64_t panel_bytes = 0;  ///< K-major, kPanel rows
  int64_t blocks = 0;       ///< integer layouts: blocks of 32 along K
  Mapping panel_scales;     ///< FP8 with block scales: float [batch][panels][column blocks][kPanel]
  int64_t column_blocks = 0;

  std::vector<NativeRows> native;  ///< ascending
  Mapping native_copy;

  Mapping vector;  ///< use: vector, float [cols]

  [[nodiscard]] bool quantises() const { return layout && is_int(*layout); }
  [[nodiscard]] const uint8_t* panel(int64_t batch, int64_t index) const {
    return packed.data() + (batch * panels + index) * panel_bytes;
  }
  [[nodiscard]] const float* values() const {
    return reinterpret_cast<const float*>(vector.data());
  }

  /// Decodes columns [from, from + count) of a row (batch * rows + row) to fp32; both at block
  /// borders of the type.
  void decode(int64_t row, int64_t from, int64_t count, float* out) const;
};

inline Weight* weight_of(hadal_weight* w) { return reinterpret_cast<Weight*>(w); }

/// The layout that a handle with use `matmul` is packed to, if any.
std::optional<Layout> packed_layout(const hadal_weight_desc& desc);
/// The same; `exact`: none that multiplies as integers, since activations are not rounded then.
std::optional<Layout> packed_layout(const hadal_weight_desc& desc, bool exact);

/// Packs 16 rows (null: a row of zeros) of `k` values; `scales` only for F4_E2M1. Writes one panel.
void pack_panel(Layout layout, DType dtype, const uint8_t* const rows[kPanel],
                const uint8_t* const scales[kPanel], int64_t k, uint8_t* panel);
int64_t packed_panel_bytes(Layout layout, int64_t k);

hadal_status weight_bytes(const hadal_weight_desc& desc, bool exact, uint64_t* bytes,
                          hadal_error* error);
hadal_status weight_create(ThreadPool& pool, const hadal_weight_desc& desc, bool exact,
                           const hadal_piece* pieces, uint32_t count, Weight** out,
                           hadal_error* error);

}  // namespace hadal::cpu

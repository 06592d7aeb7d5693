// Weights on the device: rows side by side, as F32, F16 or BF16 (I32 or I64 where they are
// gathered), in the blocks of the file, or, where the file has scales beside the numbers, in blocks
// of the chip's own, a scale and its numbers (kernels/blocks.cl reads them).
//
// What is larger than one allocation lies in several buffers, whole rows in each; whole matrices
// where one fits. Operators launch their kernel for each (ops/launch.h, for_parts).
#pragma once

#include <algorithm>
#include <iterator>
#include <memory>
#include <vector>

#include "runtime/device.h"

namespace hadal::opencl {

/// The block formats that kernels read as they are.
constexpr uint32_t kBlockTypes[] = {HADAL_Q4_0,   HADAL_Q4_1,   HADAL_Q5_0, HADAL_Q5_1, HADAL_Q8_0,
                                    HADAL_Q2_K,   HADAL_Q3_K,   HADAL_Q4_K, HADAL_Q5_K, HADAL_Q6_K,
                                    HADAL_IQ4_NL, HADAL_IQ4_XS, HADAL_MXFP4};

/// Blocks of the chip's own: a scale, in fp32 or (E2M1) as it is, and the numbers of `values`
/// columns.
struct OwnBlock {
  const char* name;  ///< TYPE_… of the kernels
  int32_t type;
  uint32_t dtype;  ///< of the numbers
  int32_t values;
  int32_t scale_bytes;
  int32_t bytes;
};
constexpr OwnBlock kOwnBlocks[] = {{"E4M3_128", 101, HADAL_F8_E4M3, 128, 4, 132},
                                   {"E4M3_32", 100, HADAL_F8_E4M3, 32, 4, 36},
                                   {"I8_128", 102, HADAL_I8, 128, 4, 132},
                                   {"E2M1", 17, HADAL_F4_E2M1, 32, 1, 17}};

struct Weight {
  struct Part {
    cl_mem buffer = nullptr;
    int64_t first = 0;  ///< row, counted through all matrices
  };

  Weight() = default;
  ~Weight();
  Weight(const Weight&) = delete;
  Weight& operator=(const Weight&) = delete;

  [[nodiscard]] int64_t rows() const { return desc.batch * desc.rows; }
  /// The part that has a row.
  [[nodiscard]] size_t part_of(int64_t row) const {
    size_t i = parts.size() - 1;
    while (parts[i].first > row) --i;
    return i;
  }
  /// The row behind the last of a part.
  [[nodiscard]] int64_t end_of(size_t part) const {
    return part + 1 < parts.size() ? parts[part + 1].first : rows();
  }

  hadal_weight_desc desc{};
  Device* device = nullptr;
  int32_t type = 0;    ///< TYPE_… of the kernels
  int64_t stride = 0;  ///< bytes of a row on the device
  std::vector<Part> parts;
  uint64_t bytes = 0;
};

inline const Weight& weight_of(const hadal_weight* w) {
  return *reinterpret_cast<const Weight*>(w);
}

/// Why no weight of this type serves a use; empty if one does.
std::string check_dtype(uint32_t use, uint32_t dtype);
hadal_status weight_bytes(const Device& device, const hadal_weight_desc& desc, uint64_t* bytes,
                          hadal_error* error);
/// Reads the pieces before it returns.
hadal_status create_weight(Device& device, const hadal_weight_desc& desc, const hadal_piece* pieces,
                           uint32_t count, hadal_weight** out, hadal_error* error);
void weight_destroy(hadal_weight* w);
void weight_forms(uint32_t use, hadal_weight_form* forms, uint32_t* count);

}  // namespace hadal::opencl

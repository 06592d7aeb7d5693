// Weights on the device: rows side by side, as F32, F16 or BF16 (I32 or I64 where they are
// gathered), or in the blocks of the file.
#pragma once

#include <algorithm>
#include <iterator>
#include <memory>

#include "runtime/device.h"

namespace hadal::opencl {

/// The block formats that kernels read as they are.
constexpr uint32_t kBlockTypes[] = {HADAL_Q4_0,   HADAL_Q4_1,   HADAL_Q5_0, HADAL_Q5_1, HADAL_Q8_0,
                                    HADAL_Q2_K,   HADAL_Q3_K,   HADAL_Q4_K, HADAL_Q5_K, HADAL_Q6_K,
                                    HADAL_IQ4_NL, HADAL_IQ4_XS, HADAL_MXFP4};
inline bool is_block(uint32_t dtype) {
  return std::find(std::begin(kBlockTypes), std::end(kBlockTypes), dtype) != std::end(kBlockTypes);
}

struct Weight {
  hadal_weight_desc desc{};
  Device* device = nullptr;
  cl_mem buffer = nullptr;
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

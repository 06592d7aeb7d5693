#include "ops/operators.h"

#include <array>

namespace hadal::cpu {

std::span<const Operator* const> operators() {
  static const auto kById = [] {
    std::array<const Operator*, 64> by_id{};
    for (const Operator* row : {&kAdd,          &kCompress,      &kConvert,     &kCopyBlocks,
                                &kEmbed,        &kEngramGate,    &kGatedMatmul, &kGatherRows,
                                &kGqaAttention, &kGroupedMatmul, &kHcPost,      &kHcPre,
                                &kIndexBlocks,  &kIndexTopk,     &kKvWrite,     &kLatentAttention,
                                &kLoraAdd,      &kMatmul,        &kMoeCombine,  &kMoeSort,
                                &kNorm,         &kRope,          &kRouter,      &kSample,
                                &kSwiglu})
      by_id[row->id] = row;
    return by_id;
  }();
  return kById;
}

}  // namespace hadal::cpu

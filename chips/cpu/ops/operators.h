// The operators of this chip, a row each; the files of this folder define them.
#pragma once

#include <span>

#include "runtime/operator.h"

namespace hadal::cpu {

extern const Operator kAdd, kCompress, kConvert, kCopyBlocks, kEmbed, kEngramGate, kGatedMatmul,
    kGatherRows, kGqaAttention, kGroupedMatmul, kHcPost, kHcPre, kIndexBlocks, kIndexTopk, kKvWrite,
    kLatentAttention, kLoraAdd, kMatmul, kMoeCombine, kMoeSort, kNorm, kRope, kRouter, kSample,
    kSwiglu;

/// By id; null where this chip does not have the operator.
std::span<const Operator* const> operators();

}  // namespace hadal::cpu

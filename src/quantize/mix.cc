#include "quantize/mix.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace hadal::quantize {
namespace {

constexpr auto kMixes = std::to_array<Mix>({{"q8_0", HADAL_Q8_0, false, 7},
                                            {"q4_0", HADAL_Q4_0, false, 2},
                                            {"q4_k_m", HADAL_Q4_K, true, 15},
                                            {"q5_k_m", HADAL_Q5_K, true, 17},
                                            {"q6_k", HADAL_Q6_K, false, 18},
                                            {"bf16", HADAL_BF16, false, 32},
                                            {"f32", HADAL_F32, false, 0}});

/// Matrices that are read for a decision (a router, an indexer's head weights), or are small and
/// carry every layer's residual streams: they are not quantised.
constexpr auto kKept = std::to_array<std::string_view>(
    {"_norm.", "ffn_gate_inp.", "indexer.proj.", "hc_", "_ape.", "engram_q.", "engram_k."});
/// Of those, what readers expect in fp32.
constexpr auto kSingle =
    std::to_array<std::string_view>({"_norm.", "ffn_gate_inp.", "hc_", "_ape."});

bool is_part(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

bool has_any(std::string_view name, std::span<const std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return is_part(name, part); });
}

bool more_bits(int64_t layer, int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

DType mixed_type(const Mix& mix, const ModelShape& model, std::string_view name) {
  const bool head = name == "output.weight" || (model.tied && name == "token_embd.weight");
  if (head) return mix.base == HADAL_Q8_0 ? HADAL_Q8_0 : HADAL_Q6_K;
  const int64_t layer = layer_of(name);
  const bool values = is_part(name, ".attn_v."), down = is_part(name, ".ffn_down");
  if (mix.more_bits && (values || down) && more_bits(layer, model.layers)) return HADAL_Q6_K;
  // In the models of 70 billion eight heads share their values: small, and used by many.
  if (mix.base == HADAL_Q4_K && values && model.layers == 80) return HADAL_Q5_K;
  return mix.base;
}

/// The type itself, or one of smaller blocks of about the same bits where these rows are no whole
/// number of its blocks.
DType fitting(DType dtype, int64_t columns, DType plain) {
  constexpr std::array<std::pair<DType, DType>, 3> kSmaller = {
      {{HADAL_Q4_K, HADAL_Q5_0}, {HADAL_Q5_K, HADAL_Q5_1}, {HADAL_Q6_K, HADAL_Q8_0}}};
  for (const auto& [large, small] : kSmaller)
    if (dtype == large && !row_bytes(dtype, columns)) dtype = small;
  return row_bytes(dtype, columns) ? dtype : plain;
}

}  // namespace

std::span<const Mix> mixes() { return kMixes; }

const Mix* find_mix(std::string_view name) {
  const auto it =
      std::find_if(kMixes.begin(), kMixes.end(), [&](const Mix& mix) { return mix.name == name; });
  return it == kMixes.end() ? nullptr : &*it;
}

int64_t layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  int64_t layer = -1;
  if (name.starts_with(kPrefix))
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
  return layer;
}

DType written_type(const Mix& mix, const ModelShape& model, std::string_view name,
                   std::span<const int64_t> shape, DType source) {
  if (source >= HADAL_I8 && source <= HADAL_U64) return HADAL_I32;  // indices
  const DType plain = source == HADAL_F32 || source == HADAL_BF16 ? source : HADAL_F16;
  if (shape.size() < 2) return HADAL_F32;
  if (has_any(name, kKept)) return has_any(name, kSingle) ? HADAL_F32 : plain;
  if (is_plain(mix.base)) return mix.base;
  const bool fp4 = source == HADAL_F4_E2M1 || source == HADAL_MXFP4 || source == HADAL_NVFP4;
  if (fp4) return source == HADAL_NVFP4 ? HADAL_NVFP4 : HADAL_MXFP4;
  return fitting(mixed_type(mix, model, name), shape.back(), plain);
}

bool is_requantised(DType source, DType written) {
  return !is_plain(source) && source != HADAL_F4_E2M1 && source != HADAL_MXFP4 &&
         source != HADAL_NVFP4 && source != written;
}

}  // namespace hadal::quantize

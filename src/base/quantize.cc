#include "base/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/quant_blocks.h"
#include "base/quantize_fit.h"

namespace hadal {
namespace {

void store_u16(uint8_t* p, uint16_t v) {
  p[0] = static_cast<uint8_t>(v);
  p[1] = static_cast<uint8_t>(v >> 8);
}

/// Writes `value` as f16; false if it is too large for one.
bool store_f16(uint8_t* p, float value) {
  const uint16_t half = f32_to_f16(value);
  store_u16(p, half);
  return (half & 0x7c00u) != 0x7c00u;
}

float round_f16(float value) { return f16_to_f32(f32_to_f16(value)); }

using Codes = std::array<uint8_t, kSuperBlock>;

// --- blocks of 32 with one scale: x ≈ d · q

/// The f16 scale of 32 values whose codes lie in `range`.
float scale_of(const float* x, const float* w, Range range) {
  const float first = round_f16(best_scale<32>(x, w, range));
  if (first == 0) return first;
  // With the codes of the rounded scale, the scale that suits them best.
  const float second = round_f16(fitted_scale<32>(x, w, first, range));
  return scale_error<32>(x, w, second, range) < scale_error<32>(x, w, first, range) ? second
                                                                                    : first;
}

/// Nibbles as in Q4_0 and its like: values 0 to 15 low, 16 to 31 high.
void pack_nibbles(const uint8_t* codes, uint8_t* out) {
  for (int i = 0; i < 16; ++i)
    out[i] = static_cast<uint8_t>((codes[i] & 15) | (codes[16 + i] & 15) << 4);
}

void pack_fifth_bits(const uint8_t* codes, uint8_t* out) {
  uint32_t high = 0;
  for (int i = 0; i < 32; ++i) high |= uint32_t{codes[i] >> 4 & 1u} << i;
  store_u16(out, static_cast<uint16_t>(high));
  store_u16(out + 2, static_cast<uint16_t>(high >> 16));
}

bool encode_q4_0(const float* x, uint8_t* block) {
  constexpr Range kRange{-8, 7};
  std::array<float, 32> w;
  weigh<32>(x, w.data());
  const float d = scale_of(x, w.data(), kRange);
  Codes codes;
  for (size_t i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(code(x[i], d, kRange) + 8);
  pack_nibbles(codes.data(), block + 2);
  return store_f16(block, d);
}

bool encode_q5_0(const float* x, uint8_t* block) {
  constexpr Range kRange{-16, 15};
  std::array<float, 32> w;
  weigh<32>(x, w.data());
  const float d = scale_of(x, w.data(), kRange);
  Codes codes;
  for (size_t i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(code(x[i], d, kRange) + 16);
  pack_fifth_bits(codes.data(), block + 2);
  pack_nibbles(codes.data(), block + 6);
  return store_f16(block, d);
}

bool encode_q8_0(const float* x, uint8_t* block) {
  constexpr Range kRange{-127, 127};
  std::array<float, 32> w;
  weigh<32>(x, w.data());
  const float d = scale_of(x, w.data(), kRange);
  for (int i = 0; i < 32; ++i) block[2 + i] = static_cast<uint8_t>(code(x[i], d, kRange));
  return store_f16(block, d);
}

bool encode_q5_1(const float* x, uint8_t* block) {
  std::array<float, 32> w;
  weigh<32>(x, w.data());
  const Line line = best_line<32>(x, w.data(), 31, false);
  const float d = round_f16(line.scale), m = round_f16(line.min);
  Codes codes;
  for (size_t i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(code(x[i] - m, d, {0, 31}));
  pack_fifth_bits(codes.data(), block + 4);
  pack_nibbles(codes.data(), block + 8);
  return store_f16(block, d) && store_f16(block + 2, m);
}

// --- Q4_K, Q5_K: x ≈ d · scale · q - dmin · min in each of 8 groups of 32

/// A block of Q4_K or Q5_K in the making.
struct MinBlock {
  float d = 0, dmin = 0;
  std::array<int, 8> scale{}, min{};

  [[nodiscard]] Line line(size_t group) const { return line_with(scale[group], min[group]); }
  [[nodiscard]] Line line_with(int s, int m) const {
    return {d * static_cast<float>(s), -dmin * static_cast<float>(m)};
  }
};

constexpr int kSixBits = 63;

/// The best six-bit scale and minimum of a group near `wanted`; returns the error.
float choose_pair(const float* x, const float* w, const Line& wanted, float high, MinBlock& b,
                  size_t group) {
  const auto near = [](float value, float unit) {
    return unit > 0
               ? std::clamp(static_cast<int>(nearest(std::min(value / unit, 1000.0f))), 0, kSixBits)
               : 0;
  };
  const int s0 = near(wanted.scale, b.d), m0 = near(-wanted.min, b.dmin);
  float best = INFINITY;
  for (int s = std::max(0, s0 - 1); s <= std::min(kSixBits, s0 + 1); ++s)
    for (int m = std::max(0, m0 - 1); m <= std::min(kSixBits, m0 + 1); ++m) {
      const float error = line_error<32>(x, w, b.line_with(s, m), high);
      if (error >= best) continue;
      best = error;
      b.scale[group] = s;
      b.min[group] = m;
    }
  return best;
}

/// d and dmin that suit the block's codes, scales and minima best, rounded to f16.
MinBlock refitted(const float* x, const float* w, const MinBlock& b, float high) {
  double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
  for (size_t i = 0; i < kSuperBlock; ++i) {
    const size_t g = i / 32;
    const Line line = b.line(g);
    const double a = static_cast<double>(b.scale[g]) * code(x[i] - line.min, line.scale, {0, high});
    const double m = b.min[g], weight = w[i], value = x[i];
    aa += weight * a * a;
    ab += weight * a * m;
    bb += weight * m * m;
    xa += weight * value * a;
    xb += weight * value * m;
  }
  // Of Σ w (x - d a + dmin m)² the place where both derivatives are 0.
  const double det = aa * bb - ab * ab;
  MinBlock out = b;
  if (bb == 0 && aa > 0) out.d = static_cast<float>(xa / aa);
  if (det > 1e-9 * aa * bb) {
    out.d = static_cast<float>((xa * bb - xb * ab) / det);
    out.dmin = static_cast<float>((xa * ab - xb * aa) / det);
  }
  if (!(out.d > 0) || !(out.dmin >= 0)) return b;
  out.d = round_f16(out.d);
  out.dmin = round_f16(out.dmin);
  return out;
}

MinBlock best_min_block(const float* x, float high, Codes& codes) {
  std::array<float, kSuperBlock> w;
  std::array<Line, 8> wanted;
  float scale = 0, min = 0;
  for (size_t g = 0; g < 8; ++g) {
    weigh<32>(x + 32 * g, w.data() + 32 * g);
    wanted[g] = best_line<32>(x + 32 * g, w.data() + 32 * g, high, true);
    scale = std::max(scale, wanted[g].scale);
    min = std::max(min, -wanted[g].min);
  }
  const auto choose = [&](MinBlock& b) {
    float error = 0;
    for (size_t g = 0; g < 8; ++g)
      error += choose_pair(x + 32 * g, w.data() + 32 * g, wanted[g], high, b, g);
    return error;
  };
  MinBlock best;
  best.d = round_f16(scale / kSixBits);
  best.dmin = round_f16(min / kSixBits);
  float error = choose(best);
  for (int round = 0; round < kRefits; ++round) {
    for (size_t g = 0; g < 8; ++g) wanted[g] = best.line(g);
    MinBlock next = refitted(x, w.data(), best, high);
    const float less = choose(next);
    if (!(less < error)) break;
    error = less;
    best = next;
  }
  for (size_t i = 0; i < kSuperBlock; ++i) {
    const Line line = best.line(i / 32);
    codes[i] = static_cast<uint8_t>(code(x[i] - line.min, line.scale, {0, high}));
  }
  return best;
}

/// d, dmin and the 12 bytes of six-bit scales and minima.
bool store_min_block(const MinBlock& b, uint8_t* block) {
  uint8_t* packed = block + 4;
  for (size_t g = 0; g < 4; ++g) {
    packed[g] = static_cast<uint8_t>(b.scale[g] | (b.scale[4 + g] & 48) << 2);
    packed[4 + g] = static_cast<uint8_t>(b.min[g] | (b.min[4 + g] & 48) << 2);
    packed[8 + g] = static_cast<uint8_t>((b.scale[4 + g] & 15) | (b.min[4 + g] & 15) << 4);
  }
  return store_f16(block, b.d) && store_f16(block + 2, b.dmin);
}

/// 32 bytes a pair of groups: the low nibbles are one group, the high ones the next.
void pack_group_pairs(const Codes& codes, uint8_t* out) {
  for (size_t pair = 0; pair < 4; ++pair)
    for (size_t i = 0; i < 32; ++i)
      out[32 * pair + i] =
          static_cast<uint8_t>((codes[64 * pair + i] & 15) | (codes[64 * pair + 32 + i] & 15) << 4);
}

bool encode_q4_k(const float* x, uint8_t* block) {
  Codes codes;
  const MinBlock b = best_min_block(x, 15, codes);
  pack_group_pairs(codes, block + 16);
  return store_min_block(b, block);
}

bool encode_q5_k(const float* x, uint8_t* block) {
  Codes codes;
  const MinBlock b = best_min_block(x, 31, codes);
  for (size_t i = 0; i < 32; ++i) {
    int high = 0;
    for (size_t g = 0; g < 8; ++g) high |= (codes[32 * g + i] >> 4 & 1) << g;
    block[16 + i] = static_cast<uint8_t>(high);
  }
  pack_group_pairs(codes, block + 48);
  return store_min_block(b, block);
}

// --- Q6_K: x ≈ d · scale · q in each of 16 groups of 16

constexpr Range kSixBitCodes{-32, 31};

struct ScaleBlock {
  float d = 0;
  std::array<int, 16> scale{};
};

/// The best eight-bit scale of a group near `wanted`; returns the error.
float choose_scale(const float* x, const float* w, float wanted, ScaleBlock& b, size_t group) {
  const int s0 =
      b.d != 0 ? static_cast<int>(nearest(std::clamp(wanted / b.d, -128.0f, 127.0f))) : 0;
  float best = INFINITY;
  for (int s = std::max(-128, s0 - 1); s <= std::min(127, s0 + 1); ++s) {
    const float error = scale_error<16>(x, w, b.d * static_cast<float>(s), kSixBitCodes);
    if (error >= best) continue;
    best = error;
    b.scale[group] = s;
  }
  return best;
}

ScaleBlock refitted(const float* x, const float* w, const ScaleBlock& b) {
  double aa = 0, xa = 0;
  for (size_t i = 0; i < kSuperBlock; ++i) {
    const int s = b.scale[i / 16];
    const double a = static_cast<double>(s) * code(x[i], b.d * static_cast<float>(s), kSixBitCodes);
    aa += static_cast<double>(w[i]) * a * a;
    xa += static_cast<double>(w[i]) * static_cast<double>(x[i]) * a;
  }
  ScaleBlock out = b;
  if (aa > 0) out.d = round_f16(static_cast<float>(xa / aa));
  return out;
}

bool encode_q6_k(const float* x, uint8_t* block) {
  std::array<float, kSuperBlock> w;
  std::array<float, 16> wanted;
  float largest = 0;
  for (size_t g = 0; g < 16; ++g) {
    weigh<16>(x + 16 * g, w.data() + 16 * g);
    wanted[g] = best_scale<16>(x + 16 * g, w.data() + 16 * g, kSixBitCodes);
    if (std::abs(wanted[g]) > std::abs(largest)) largest = wanted[g];
  }
  const auto choose = [&](ScaleBlock& b) {
    float error = 0;
    for (size_t g = 0; g < 16; ++g)
      error += choose_scale(x + 16 * g, w.data() + 16 * g, wanted[g], b, g);
    return error;
  };
  ScaleBlock best;
  best.d = round_f16(largest / -128);
  float error = choose(best);
  for (int round = 0; round < kRefits; ++round) {
    for (size_t g = 0; g < 16; ++g) wanted[g] = best.d * static_cast<float>(best.scale[g]);
    ScaleBlock next = refitted(x, w.data(), best);
    const float less = choose(next);
    if (!(less < error)) break;
    error = less;
    best = next;
  }
  std::memset(block, 0, 192);
  for (size_t i = 0; i < kSuperBlock; ++i) {
    const float scale = best.d * static_cast<float>(best.scale[i / 16]);
    const int q = code(x[i], scale, kSixBitCodes) + 32;
    const size_t group = i / 32, at = i % 32;
    block[64 * (group / 4) + 32 * (group % 2) + at] |=
        static_cast<uint8_t>((q & 15) << (group % 4 < 2 ? 0 : 4));
    block[128 + 32 * (group / 4) + at] |= static_cast<uint8_t>((q >> 4) << (2 * (group % 4)));
  }
  for (size_t g = 0; g < 16; ++g) block[192 + g] = static_cast<uint8_t>(best.scale[g]);
  return store_f16(block + 208, best.d);
}

// --- all of them

/// Above this no f16 scale times any code reaches, and squares would overflow.
constexpr float kTooLarge = 1e9f;

template <int kValues, int kBytes, typename Encode>
bool all_blocks(const float* src, int64_t values, uint8_t* dst, Encode encode) {
  if (values % kValues != 0) return false;
  if (kValues > 1 &&
      std::any_of(src, src + values, [](float x) { return !(std::abs(x) <= kTooLarge); }))
    return false;
  bool ok = true;
  for (int64_t i = 0; i < values / kValues; ++i)
    ok = encode(src + i * kValues, dst + i * kBytes) && ok;
  return ok;
}

}  // namespace

bool can_encode(DType dtype) {
  switch (dtype) {
    case HADAL_F32:
    case HADAL_F16:
    case HADAL_BF16:
    case HADAL_I32:
    case HADAL_Q4_0:
    case HADAL_Q5_0:
    case HADAL_Q5_1:
    case HADAL_Q8_0:
    case HADAL_Q4_K:
    case HADAL_Q5_K:
    case HADAL_Q6_K:
      return true;
    default:
      return false;
  }
}

bool encode_from_f32(DType dtype, const float* src, int64_t values, void* dst) {
  auto* out = static_cast<uint8_t*>(dst);
  if (values < 0) return false;
  switch (dtype) {
    case HADAL_F32:
      if (values > 0) std::memcpy(out, src, static_cast<size_t>(values) * sizeof(float));
      return true;
    case HADAL_F16:
      return all_blocks<1, 2>(src, values, out,
                              [](const float* x, uint8_t* p) { return store_f16(p, *x); });
    case HADAL_BF16:
      return all_blocks<1, 2>(src, values, out, [](const float* x, uint8_t* p) {
        const uint16_t half = f32_to_bf16(*x);
        store_u16(p, half);
        return (half & 0x7f80u) != 0x7f80u;
      });
    case HADAL_I32:
      return all_blocks<1, 4>(src, values, out, [](const float* x, uint8_t* p) {
        const auto whole = static_cast<int32_t>(*x);
        std::memcpy(p, &whole, sizeof whole);
        return static_cast<float>(whole) == *x;
      });
    case HADAL_Q4_0:
      return all_blocks<32, 18>(src, values, out, encode_q4_0);
    case HADAL_Q5_0:
      return all_blocks<32, 22>(src, values, out, encode_q5_0);
    case HADAL_Q5_1:
      return all_blocks<32, 24>(src, values, out, encode_q5_1);
    case HADAL_Q8_0:
      return all_blocks<32, 34>(src, values, out, encode_q8_0);
    case HADAL_Q4_K:
      return all_blocks<256, 144>(src, values, out, encode_q4_k);
    case HADAL_Q5_K:
      return all_blocks<256, 176>(src, values, out, encode_q5_k);
    case HADAL_Q6_K:
      return all_blocks<256, 210>(src, values, out, encode_q6_k);
    default:
      return false;
  }
}

}  // namespace hadal

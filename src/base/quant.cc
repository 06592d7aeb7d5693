#include "base/quant.h"

#include "base/quant_blocks.h"

namespace hadal {
namespace {

// --- blocks of 32
// The low nibbles of 16 bytes are values 0 to 15, the high nibbles values 16 to 31.

void decode_q4_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((block[2 + i] & 15) - 8);
    out[16 + i] = d * static_cast<float>((block[2 + i] >> 4) - 8);
  }
}

void decode_q4_1(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const float m = load_f16(block + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(block[4 + i] & 15) + m;
    out[16 + i] = d * static_cast<float>(block[4 + i] >> 4) + m;
  }
}

/// Value i of the five-bit formats: a nibble, its fifth bit from a word.
int five_bits(uint32_t high, const uint8_t* nibbles, int i) {
  const int low = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
  return low | static_cast<int>(high >> i & 1u) << 4;
}

void decode_q5_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint32_t high = load_u32(block + 2);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(five_bits(high, block + 6, i) - 16);
}

void decode_q5_1(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const float m = load_f16(block + 2);
  const uint32_t high = load_u32(block + 4);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(five_bits(high, block + 8, i)) + m;
}

void decode_q8_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * d;
}

/// An activation format; its second half-precision number is the sum of the values and takes no
/// part.
void decode_q8_1(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(block[4 + i])) * d;
}

/// 128 bits, one a value: plus or minus the scale.
void decode_q1_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 128; ++i) out[i] = (block[2 + i / 8] >> (i % 8) & 1) != 0 ? d : -d;
}

// --- K formats: blocks of 256

// 16 × (4 bits scale, 4 bits minimum); 64 bytes of 2-bit values; f16 d, dmin
void decode_q2_k(const uint8_t* block, float* out) {
  const float d = load_f16(block + 80);
  const float dmin = load_f16(block + 82);
  for (int group = 0; group < 16; ++group) {
    const float dl = d * static_cast<float>(block[group] & 15);
    const float ml = dmin * static_cast<float>(block[group] >> 4);
    const uint8_t* values = block + 16 + 32 * (group / 8) + 16 * (group % 2);
    const int shift = 2 * (group / 2 % 4);
    for (int i = 0; i < 16; ++i)
      out[16 * group + i] = dl * static_cast<float>(values[i] >> shift & 3) - ml;
  }
}

// 32 bytes of third bits; 64 bytes of 2-bit values; 16 scales of 6 bits in 12 bytes; f16 d
void decode_q3_k(const uint8_t* block, float* out) {
  const float d = load_f16(block + 108);
  const uint8_t* scales = block + 96;
  for (int group = 0; group < 16; ++group) {
    const int low = scales[group % 8] >> (group < 8 ? 0 : 4) & 15;
    const int high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
    const float dl = d * static_cast<float>((low | high << 4) - 32);
    const uint8_t* values = block + 32 + 32 * (group / 8) + 16 * (group % 2);
    const uint8_t* bits = block + 16 * (group % 2);
    const int shift = 2 * (group / 2 % 4);
    const int bit = group / 2;
    // The third bit is stored inverted: where it is not set, 4 is taken away.
    for (int i = 0; i < 16; ++i) {
      const int value = (values[i] >> shift & 3) - ((bits[i] >> bit & 1) ^ 1) * 4;
      out[16 * group + i] = dl * static_cast<float>(value);
    }
  }
}

struct ScaleMin {
  int scale;
  int min;
};

/// Scale and minimum of group `i` of 8, 6 bits each, from the 12 bytes of Q4_K and Q5_K.
ScaleMin scale_min(const uint8_t* packed, int i) {
  if (i < 4) return {packed[i] & 63, packed[4 + i] & 63};
  const int both = packed[4 + i];
  return {(both & 15) | (packed[i - 4] >> 2 & 48), both >> 4 | (packed[i] >> 2 & 48)};
}

// f16 d, dmin; 12 bytes of scales; 128 bytes: per 32 of them, low nibbles are one group of 32
// values, high nibbles the next
void decode_q4_k(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const float dmin = load_f16(block + 2);
  for (int group = 0; group < 8; ++group) {
    const ScaleMin s = scale_min(block + 4, group);
    const float dl = d * static_cast<float>(s.scale);
    const float ml = dmin * static_cast<float>(s.min);
    const uint8_t* values = block + 16 + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int i = 0; i < 32; ++i)
      out[32 * group + i] = dl * static_cast<float>(values[i] >> shift & 15) - ml;
  }
}

// As Q4_K with 32 bytes of fifth bits before the nibbles
void decode_q5_k(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const float dmin = load_f16(block + 2);
  const uint8_t* high = block + 16;
  for (int group = 0; group < 8; ++group) {
    const ScaleMin s = scale_min(block + 4, group);
    const float dl = d * static_cast<float>(s.scale);
    const float ml = dmin * static_cast<float>(s.min);
    const uint8_t* values = block + 48 + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int i = 0; i < 32; ++i) {
      const int value = (values[i] >> shift & 15) | (high[i] >> group & 1) << 4;
      out[32 * group + i] = dl * static_cast<float>(value) - ml;
    }
  }
}

// 128 bytes of low nibbles; 64 bytes of high 2 bits; 16 scales of 8 bits; f16 d
void decode_q6_k(const uint8_t* block, float* out) {
  const float d = load_f16(block + 208);
  for (int group = 0; group < 8; ++group) {
    const uint8_t* low = block + 64 * (group / 4) + 32 * (group % 2);
    const uint8_t* high = block + 128 + 32 * (group / 4);
    const int low_shift = group % 4 < 2 ? 0 : 4;
    const int high_shift = 2 * (group % 4);
    for (int i = 0; i < 32; ++i) {
      const float dl = d * static_cast<float>(static_cast<int8_t>(block[192 + 2 * group + i / 16]));
      const int value = ((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32;
      out[32 * group + i] = dl * static_cast<float>(value);
    }
  }
}

/// An activation format: f32 d; 256 bytes; sums.
void decode_q8_k(const uint8_t* block, float* out) {
  float d = 0;
  std::memcpy(&d, block, sizeof d);
  for (int i = 0; i < kSuperBlock; ++i)
    out[i] = d * static_cast<float>(static_cast<int8_t>(block[4 + i]));
}

// --- ternary

/// Digit number `place` (from the most significant) of a byte that holds five ternary digits as a
/// fraction of 256; less 1.
float ternary(uint8_t byte, int power) {
  const uint32_t rest = static_cast<uint8_t>(byte * power);
  return static_cast<float>(static_cast<int>(rest * 3 >> 8) - 1);
}

// 32 and 16 bytes of five digits, 4 bytes of four; f16 d. Digit k of all bytes of a part lie
// together.
void decode_tq1_0(const uint8_t* block, float* out) {
  const float d = load_f16(block + 52);
  constexpr std::array<int, 5> kPowers = {1, 3, 9, 27, 81};
  for (int k = 0; k < 5; ++k)
    for (int i = 0; i < 32; ++i)
      out[32 * k + i] = d * ternary(block[i], kPowers[static_cast<size_t>(k)]);
  for (int k = 0; k < 5; ++k)
    for (int i = 0; i < 16; ++i)
      out[160 + 16 * k + i] = d * ternary(block[32 + i], kPowers[static_cast<size_t>(k)]);
  for (int k = 0; k < 4; ++k)
    for (int i = 0; i < 4; ++i)
      out[240 + 4 * k + i] = d * ternary(block[48 + i], kPowers[static_cast<size_t>(k)]);
}

// 64 bytes of 2-bit values; f16 d
void decode_tq2_0(const uint8_t* block, float* out) {
  const float d = load_f16(block + 64);
  for (int group = 0; group < 8; ++group)
    for (int i = 0; i < 32; ++i)
      out[32 * group + i] =
          d * static_cast<float>((block[32 * (group / 4) + i] >> (2 * (group % 4)) & 3) - 1);
}

// --- four-bit floats

/// Twice the e2m1 value of a nibble; the code for -0 gives 0, as in ggml.
constexpr std::array<float, 16> kE2m1Doubled = {0, 1,  2,  3,  4,  6,  8,  12,
                                                0, -1, -2, -3, -4, -6, -8, -12};

// e8m0 scale; 16 bytes, low nibbles first. The halved scale of the smallest codes is subnormal.
void decode_mxfp4(const uint8_t* block, float* out) {
  const uint32_t e = block[0];
  const float d = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * kE2m1Doubled[block[1 + i] & 15u];
    out[16 + i] = d * kE2m1Doubled[block[1 + i] >> 4];
  }
}

// 4 scales e4m3 without sign (0x7f counts as 0); 4 × 8 bytes, in each low nibbles first
void decode_nvfp4(const uint8_t* block, float* out) {
  for (int group = 0; group < 4; ++group) {
    const uint8_t code = block[group];
    // 0xff is no NaN here: its sign is not looked at and 0x7f alone is excepted, so it is 480.
    float d = code == 0xff ? 480.0f : e4m3_to_f32(code & 0x7f);
    d = code == 0x7f ? 0.0f : d * 0.5f;
    const uint8_t* values = block + 4 + 8 * group;
    for (int i = 0; i < 8; ++i) {
      out[16 * group + i] = d * kE2m1Doubled[values[i] & 15u];
      out[16 * group + 8 + i] = d * kE2m1Doubled[values[i] >> 4];
    }
  }
}

/// Two values a byte, the low nibble first (DeepSeek-V4's experts; no scale inside).
void decode_f4(const uint8_t* block, float* out) {
  out[0] = e2m1_to_f32(block[0] & 15u);
  out[1] = e2m1_to_f32(block[0] >> 4);
}

// --- all of them

/// A loop over blocks into which the decoder is inlined.
template <int kValues, int kBytes, BlockDecoder decode>
bool all_blocks(const uint8_t* src, int64_t values, float* dst) {
  if (values % kValues != 0) return false;
  for (int64_t i = 0; i < values / kValues; ++i) decode(src + i * kBytes, dst + i * kValues);
  return true;
}

template <typename T, typename Convert>
bool all_plain(const uint8_t* src, int64_t values, float* dst, Convert convert) {
  for (int64_t i = 0; i < values; ++i) {
    T value;
    std::memcpy(&value, src + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    dst[i] = convert(value);
  }
  return true;
}

template <typename T>
bool all_numbers(const uint8_t* src, int64_t values, float* dst) {
  return all_plain<T>(src, values, dst, [](T value) { return static_cast<float>(value); });
}

bool decode_blocks(DType dtype, const uint8_t* in, int64_t values, float* dst) {
  switch (dtype) {
    case HADAL_F4_E2M1:
      return all_blocks<2, 1, decode_f4>(in, values, dst);
    case HADAL_Q1_0:
      return all_blocks<128, 18, decode_q1_0>(in, values, dst);
    case HADAL_Q4_0:
      return all_blocks<32, 18, decode_q4_0>(in, values, dst);
    case HADAL_Q4_1:
      return all_blocks<32, 20, decode_q4_1>(in, values, dst);
    case HADAL_Q5_0:
      return all_blocks<32, 22, decode_q5_0>(in, values, dst);
    case HADAL_Q5_1:
      return all_blocks<32, 24, decode_q5_1>(in, values, dst);
    case HADAL_Q8_0:
      return all_blocks<32, 34, decode_q8_0>(in, values, dst);
    case HADAL_Q8_1:
      return all_blocks<32, 36, decode_q8_1>(in, values, dst);
    case HADAL_Q2_K:
      return all_blocks<256, 84, decode_q2_k>(in, values, dst);
    case HADAL_Q3_K:
      return all_blocks<256, 110, decode_q3_k>(in, values, dst);
    case HADAL_Q4_K:
      return all_blocks<256, 144, decode_q4_k>(in, values, dst);
    case HADAL_Q5_K:
      return all_blocks<256, 176, decode_q5_k>(in, values, dst);
    case HADAL_Q6_K:
      return all_blocks<256, 210, decode_q6_k>(in, values, dst);
    case HADAL_Q8_K:
      return all_blocks<256, 292, decode_q8_k>(in, values, dst);
    case HADAL_IQ1_S:
      return all_blocks<256, 50, decode_iq1_s>(in, values, dst);
    case HADAL_IQ1_M:
      return all_blocks<256, 56, decode_iq1_m>(in, values, dst);
    case HADAL_IQ2_XXS:
      return all_blocks<256, 66, decode_iq2_xxs>(in, values, dst);
    case HADAL_IQ2_XS:
      return all_blocks<256, 74, decode_iq2_xs>(in, values, dst);
    case HADAL_IQ2_S:
      return all_blocks<256, 82, decode_iq2_s>(in, values, dst);
    case HADAL_IQ3_XXS:
      return all_blocks<256, 98, decode_iq3_xxs>(in, values, dst);
    case HADAL_IQ3_S:
      return all_blocks<256, 110, decode_iq3_s>(in, values, dst);
    case HADAL_IQ4_NL:
      return all_blocks<32, 18, decode_iq4_nl>(in, values, dst);
    case HADAL_IQ4_XS:
      return all_blocks<256, 136, decode_iq4_xs>(in, values, dst);
    case HADAL_TQ1_0:
      return all_blocks<256, 54, decode_tq1_0>(in, values, dst);
    case HADAL_TQ2_0:
      return all_blocks<256, 66, decode_tq2_0>(in, values, dst);
    case HADAL_MXFP4:
      return all_blocks<32, 17, decode_mxfp4>(in, values, dst);
    case HADAL_NVFP4:
      return all_blocks<64, 36, decode_nvfp4>(in, values, dst);
    default:
      return false;  // BOOL, and codes that are in no table
  }
}

}  // namespace

bool decode_to_f32(DType dtype, const void* src, int64_t values, float* dst) {
  const auto* in = static_cast<const uint8_t*>(src);
  if (values < 0) return false;
  switch (dtype) {
    case HADAL_F32:
      return values == 0 ||
             std::memcpy(dst, in, static_cast<size_t>(values) * sizeof(float)) != nullptr;
    case HADAL_F16:
      return all_plain<uint16_t>(in, values, dst, f16_to_f32);
    case HADAL_BF16:
      return all_plain<uint16_t>(in, values, dst, bf16_to_f32);
    case HADAL_F64:
      return all_numbers<double>(in, values, dst);
    case HADAL_I8:
      return all_numbers<int8_t>(in, values, dst);
    case HADAL_I16:
      return all_numbers<int16_t>(in, values, dst);
    case HADAL_I32:
      return all_numbers<int32_t>(in, values, dst);
    case HADAL_I64:
      return all_numbers<int64_t>(in, values, dst);
    case HADAL_U8:
      return all_numbers<uint8_t>(in, values, dst);
    case HADAL_U16:
      return all_numbers<uint16_t>(in, values, dst);
    case HADAL_U32:
      return all_numbers<uint32_t>(in, values, dst);
    case HADAL_U64:
      return all_numbers<uint64_t>(in, values, dst);
    case HADAL_F8_E4M3:
      return all_plain<uint8_t>(in, values, dst, e4m3_to_f32);
    case HADAL_F8_E5M2:
      return all_plain<uint8_t>(in, values, dst, e5m2_to_f32);
    case HADAL_F8_E8M0:
      return all_plain<uint8_t>(in, values, dst, e8m0_to_f32);
    default:
      return decode_blocks(dtype, in, values, dst);
  }
}

}  // namespace hadal

// The IQ formats: blocks of 256 values as points of small lattices times a scale, signs kept apart.
#include <bit>

#include "base/quant_blocks.h"

namespace hadal {
namespace {

constexpr std::array<float, 4> kIq2Values = {8, 25, 43, 0};
constexpr std::array<float, 8> kIq3XxsValues = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr std::array<float, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                              1,    13,   25,  38,  53,  69,  89,  113};
constexpr float kIq1Delta = 0.125f;

/// Seven sign bits with their parity as the eighth: the number of minus signs is even.
uint32_t even_signs(uint32_t seven) {
  return seven | (static_cast<uint32_t>(std::popcount(seven)) & 1u) << 7;
}

float sign_of(uint32_t signs, int i) {
  return static_cast<float>(1 - 2 * static_cast<int>(signs >> i & 1u));
}

/// Eight values of an IQ2 point.
void put_iq2(float scale, uint32_t point, uint32_t signs, float* out) {
  for (int i = 0; i < 8; ++i)
    out[i] = scale * kIq2Values[point >> (2 * i) & 3u] * sign_of(signs, i);
}

/// Eight values from -1, 0, 1, moved by delta.
void put_iq1(float scale, uint32_t point, float delta, float* out) {
  for (int i = 0; i < 8; ++i)
    out[i] = scale * (static_cast<float>(static_cast<int>(point >> (2 * i) & 3u) - 1) + delta);
}

}  // namespace

// f16 d; 8 × { 4 point bytes; u32: 4 × 7 signs, 4 bits of scale }
void decode_iq2_xxs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int group = 0; group < 8; ++group) {
    const uint8_t* points = block + 2 + 8 * group;
    const uint32_t rest = load_u32(points + 4);
    const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.25f;
    for (int i = 0; i < 4; ++i)
      put_iq2(scale, kGridIq2Xxs[points[i]], even_signs(rest >> (7 * i) & 0x7fu),
              out + 32 * group + 8 * i);
  }
}

// f16 d; 32 × u16 (9 bits point, 7 bits signs); 16 scales of 4 bits
void decode_iq2_xs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint8_t* scales = block + 2 + 64;
  for (int i = 0; i < 32; ++i) {
    const uint32_t point = load_u16(block + 2 + 2 * i);
    const uint32_t nibble = uint32_t{scales[i / 4]} >> (i % 4 >= 2 ? 4 : 0) & 15u;
    put_iq2(d * (0.5f + static_cast<float>(nibble)) * 0.25f, kGridIq2Xs[point & 511u],
            even_signs(point >> 9), out + 8 * i);
  }
}

// f16 d; 32 low bytes of points; 32 bytes of signs; 8 bytes with the high 2 bits of points; 16
// scales of 4 bits
void decode_iq2_s(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint8_t* low = block + 2;
  const uint8_t* signs = low + 32;
  const uint8_t* high = signs + 32;
  const uint8_t* scales = high + 8;
  for (int i = 0; i < 32; ++i) {
    const uint32_t point = low[i] | (uint32_t{high[i / 4]} >> (2 * (i % 4)) & 3u) << 8;
    const uint32_t nibble = uint32_t{scales[i / 4]} >> (i % 4 >= 2 ? 4 : 0) & 15u;
    put_iq2(d * (0.5f + static_cast<float>(nibble)) * 0.25f, kGridIq2S[point], signs[i],
            out + 8 * i);
  }
}

// f16 d; 64 point bytes; 8 × u32: 4 × 7 signs, 4 bits of scale
void decode_iq3_xxs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int group = 0; group < 8; ++group) {
    const uint8_t* points = block + 2 + 8 * group;
    const uint32_t rest = load_u32(block + 2 + 64 + 4 * group);
    const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.5f;
    for (int i = 0; i < 8; ++i) {
      const uint32_t signs = even_signs(rest >> (7 * (i / 2)) & 0x7fu) >> (4 * (i % 2));
      const uint32_t point = kGridIq3Xxs[points[i]];
      for (int j = 0; j < 4; ++j)
        out[32 * group + 4 * i + j] =
            scale * kIq3XxsValues[point >> (3 * j) & 7u] * sign_of(signs, j);
    }
  }
}

// f16 d; 64 low bytes of points; 8 bytes with their ninth bits; 32 bytes of signs; 8 scales of 4
// bits
void decode_iq3_s(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint8_t* low = block + 2;
  const uint8_t* high = low + 64;
  const uint8_t* signs = high + 8;
  const uint8_t* scales = signs + 32;
  for (int i = 0; i < 64; ++i) {
    const uint32_t nibble = uint32_t{scales[i / 16]} >> (i / 8 % 2 != 0 ? 4 : 0) & 15u;
    const float scale = d * static_cast<float>(1 + 2 * nibble);
    const uint32_t point = kGridIq3S[low[i] | (uint32_t{high[i / 8]} >> (i % 8) & 1u) << 8];
    const uint32_t four_signs = uint32_t{signs[i / 2]} >> (4 * (i % 2));
    for (int j = 0; j < 4; ++j)
      out[4 * i + j] =
          scale * static_cast<float>(1 + 2 * (point >> (3 * j) & 7u)) * sign_of(four_signs, j);
  }
}

// f16 d; 32 low bytes of points; 8 × u16: 4 × 3 high bits, 3 bits of scale, sign of delta
void decode_iq1_s(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int group = 0; group < 8; ++group) {
    const uint32_t high = load_u16(block + 2 + 32 + 2 * group);
    const float scale = d * static_cast<float>(2 * (high >> 12 & 7u) + 1);
    const float delta = (high & 0x8000u) != 0 ? -kIq1Delta : kIq1Delta;
    for (int i = 0; i < 4; ++i) {
      const uint32_t point = block[2 + 4 * group + i] | (high >> (3 * i) & 7u) << 8;
      put_iq1(scale, kGridIq1S[point], delta, out + 32 * group + 8 * i);
    }
  }
}

// 32 low bytes of points; 16 bytes: 2 × (3 high bits, sign of delta); 4 × u16: 4 × 3 bits of scale,
// and 4 bits of the f16 d
void decode_iq1_m(const uint8_t* block, float* out) {
  const uint8_t* high = block + 32;
  const uint8_t* scales = high + 16;
  uint32_t d_bits = 0;
  for (int i = 0; i < 4; ++i) d_bits |= uint32_t{load_u16(scales + 2 * i)} >> 12 << (4 * i);
  const float d = f16_to_f32(static_cast<uint16_t>(d_bits));
  for (int i = 0; i < 32; ++i) {
    const uint32_t nibble = uint32_t{high[i / 2]} >> (4 * (i % 2)) & 15u;
    const int sixteen = i / 2;
    const uint32_t three =
        uint32_t{load_u16(scales + 2 * (sixteen / 4))} >> (3 * (sixteen % 4)) & 7u;
    put_iq1(d * static_cast<float>(2 * three + 1), kGridIq1S[block[i] | (nibble & 7u) << 8],
            (nibble & 8u) != 0 ? -kIq1Delta : kIq1Delta, out + 8 * i);
  }
}

// f16 d; 16 bytes, low nibbles first
void decode_iq4_nl(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * kIq4Values[block[2 + i] & 15u];
    out[16 + i] = d * kIq4Values[block[2 + i] >> 4];
  }
}

// f16 d; u16 with 8 × 2 high bits of scales; 4 bytes with their low 4 bits; 8 × 16 bytes as in
// IQ4_NL
void decode_iq4_xs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint32_t high = load_u16(block + 2);
  for (int group = 0; group < 8; ++group) {
    const uint32_t low = uint32_t{block[4 + group / 2]} >> (4 * (group % 2)) & 15u;
    const int scale = static_cast<int>(low | (high >> (2 * group) & 3u) << 4) - 32;
    const float dl = d * static_cast<float>(scale);
    const uint8_t* values = block + 8 + 16 * group;
    for (int i = 0; i < 16; ++i) {
      out[32 * group + i] = dl * kIq4Values[values[i] & 15u];
      out[32 * group + 16 + i] = dl * kIq4Values[values[i] >> 4];
    }
  }
}

}  // namespace hadal

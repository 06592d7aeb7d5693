// Inside of quant.cc and quant_iq.cc: how one block of each format becomes floats.
//
// A block decoder reads one block (any alignment) and writes block_values floats. The order of the
// multiplications is that of the Python package gguf, because it decides the rounding.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "base/floats.h"

namespace hadal {

constexpr int kSuperBlock = 256;  ///< values in a block of the K and IQ formats

using BlockDecoder = void (*)(const uint8_t* block, float* out);

inline uint16_t load_u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
inline uint32_t load_u32(const uint8_t* p) { return load_u16(p) | uint32_t{load_u16(p + 2)} << 16; }
inline float load_f16(const uint8_t* p) { return f16_to_f32(load_u16(p)); }

// quant_iq.cc
void decode_iq1_s(const uint8_t* block, float* out);
void decode_iq1_m(const uint8_t* block, float* out);
void decode_iq2_xxs(const uint8_t* block, float* out);
void decode_iq2_xs(const uint8_t* block, float* out);
void decode_iq2_s(const uint8_t* block, float* out);
void decode_iq3_xxs(const uint8_t* block, float* out);
void decode_iq3_s(const uint8_t* block, float* out);
void decode_iq4_nl(const uint8_t* block, float* out);
void decode_iq4_xs(const uint8_t* block, float* out);

// quant_grids.cc: lattice points, coordinates packed as indices of 2 bits (eight of them) or 3 bits
// (four).
extern const std::array<uint16_t, 256> kGridIq2Xxs;
extern const std::array<uint16_t, 512> kGridIq2Xs;
extern const std::array<uint16_t, 1024> kGridIq2S;
extern const std::array<uint16_t, 256> kGridIq3Xxs;
extern const std::array<uint16_t, 512> kGridIq3S;
extern const std::array<uint16_t, 2048> kGridIq1S;

}  // namespace hadal

// Small floating-point formats: f16, bf16, fp8 (e4m3fn, e5m2), e8m0 scales, fp4 (e2m1), to and from
// fp32.
//
// Header-only, without branches where the format allows it and without dependencies, so that
// kernels compiled for one instruction set may include it (no standard template is instantiated out
// of line). Every conversion to fp32 is exact; every conversion from fp32 rounds to nearest, ties
// to even, keeps infinities, and keeps NaN a (quiet) NaN. Formats: IEEE 754 binary16; "FP8 Formats
// for Deep Learning" (e4m3fn has no infinity, 0x7f and 0xff are NaN, 448 is its largest value); OCP
// Microscaling 1.0 (e8m0, e2m1).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace hadal {

constexpr float f16_to_f32(uint16_t h) {
  const uint32_t sign = uint32_t{h & 0x8000u} << 16;
  const uint32_t body = h & 0x7fffu;
  // The exponent is moved by 112 as an integer; a subnormal instead goes through 2^-14 + m * 2^-24,
  // minus 2^-14.
  const uint32_t normal = (body << 13) + (112u << 23);
  const uint32_t special = (body << 13) | 0x7f800000u;  // infinity, NaN with its payload
  const float magic = std::bit_cast<float>(113u << 23);
  const uint32_t tiny =
      std::bit_cast<uint32_t>(std::bit_cast<float>((113u << 23) | (body << 13)) - magic);
  const uint32_t bits = body >= 0x7c00u ? special : (body < 0x0400u ? tiny : normal);
  return std::bit_cast<float>(sign | bits);
}

constexpr uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t body = bits & 0x7fffffffu;
  // Normal: add half a unit (less one when the kept bit is even), then drop 13 bits; a carry into
  // the exponent is right, up to infinity for everything from 65520.
  const uint32_t normal = (body - (112u << 23) + 0x0fffu + ((body >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 0.5 puts the unit of the sum at 2^-24, so the hardware's addition does the
  // rounding.
  const float half = std::bit_cast<float>(126u << 23);
  const uint32_t small =
      body < (113u << 23) ? body : 0u;  // keeps the addition finite and exact where it is not used
  const uint32_t tiny = std::bit_cast<uint32_t>(std::bit_cast<float>(small) + half) - (126u << 23);
  const uint32_t nan = 0x7e00u | ((body >> 13) & 0x03ffu);
  uint32_t result = body < (113u << 23) ? tiny : normal;
  result = body >= 0x477ff000u ? 0x7c00u : result;
  result = body > 0x7f800000u ? nan : result;
  return static_cast<uint16_t>(sign | result);
}

constexpr float bf16_to_f32(uint16_t b) { return std::bit_cast<float>(uint32_t{b} << 16); }

constexpr uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan =
      (bits >> 16) |
      0x0040u;  // quiet, and a payload in the low half alone does not become infinity
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

constexpr float e4m3_to_f32(uint8_t b) {
  const uint32_t sign = uint32_t{b & 0x80u} << 24;
  const uint32_t body = b & 0x7fu;
  const uint32_t normal = (body << 20) + (120u << 23);
  const float magic = std::bit_cast<float>(121u << 23);  // 2^-6, the smallest normal
  const uint32_t tiny =
      std::bit_cast<uint32_t>(std::bit_cast<float>((121u << 23) | (body << 20)) - magic);
  uint32_t bits = body < 0x08u ? tiny : normal;
  bits = body == 0x7fu ? 0x7fc00000u : bits;
  return std::bit_cast<float>(sign | bits);
}

/// To the nearest, of two the even one; beyond 448 it stays 448, NaN stays NaN.
constexpr uint8_t f32_to_e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  const uint32_t body = bits & 0x7fffffffu;
  if (body > 0x7f800000u) return sign | 0x7fu;
  if (body >= (135u << 23) + (6u << 20)) return sign | 0x7eu;  // 448 and more
  if (body < (121u << 23)) {  // below 2^-6: multiples of 2^-9, put in place by an addition
    const float magic = std::bit_cast<float>(141u << 23);  // 2^14, whose ulp is 2^-9
    const uint32_t tiny = std::bit_cast<uint32_t>(std::bit_cast<float>(body) + magic);
    return static_cast<uint8_t>(sign | (tiny - (141u << 23)));
  }
  const uint32_t rounded = (body + 0x7ffffu + ((body >> 20) & 1u)) >> 20;
  return static_cast<uint8_t>(sign | std::min(rounded - (120u << 3), 0x7eu));
}

constexpr float e5m2_to_f32(uint8_t b) {
  return f16_to_f32(static_cast<uint16_t>(uint32_t{b} << 8));
}

/// A scale 2^(b-127): 0 is the subnormal 2^-127, 0xff NaN.
constexpr float e8m0_to_f32(uint8_t b) {
  uint32_t bits = b == 0 ? 0x00400000u : uint32_t{b} << 23;
  bits = b == 0xff ? 0x7fc00000u : bits;
  return std::bit_cast<float>(bits);
}

/// The low four bits: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
constexpr float e2m1_to_f32(uint8_t nibble) {
  const uint32_t sign = uint32_t{nibble & 8u} << 28;
  const uint32_t body = nibble & 7u;
  const uint32_t normal = (body << 22) + (126u << 23);
  const uint32_t tiny = body == 0 ? 0u : 0x3f000000u;
  return std::bit_cast<float>(sign | (body < 2u ? tiny : normal));
}

}  // namespace hadal

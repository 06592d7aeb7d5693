// The noise of `sample`: a function of (key, position, token), so that a draw is repeatable on any
// chip and on the host.
#pragma once

#include <cmath>
#include <cstdint>

namespace hadal::contract {

/// Word `token mod 4` of Philox-4x32-10 with counter (position, token div 4, 0, 0): "Parallel
/// Random Numbers: As Easy as 1, 2, 3" (Salmon et al. 2011).
inline uint32_t philox(uint32_t key_low, uint32_t key_high, uint32_t position, uint32_t token) {
  uint32_t c[4] = {position, token / 4, 0, 0};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {
        static_cast<uint32_t>(b >> 32) ^ c[1] ^ key_low, static_cast<uint32_t>(b),
        static_cast<uint32_t>(a >> 32) ^ c[3] ^ key_high, static_cast<uint32_t>(a)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return c[token % 4];
}

/// Gumbel noise of a token: -log(-log(u)), u of 24 bits and never 0 or 1. key: low and high word.
inline double gumbel(const uint32_t key[2], int32_t position, int32_t token) {
  const uint32_t x =
      philox(key[0], key[1], static_cast<uint32_t>(position), static_cast<uint32_t>(token));
  return -std::log(-std::log((static_cast<double>(x >> 8) + 0.5) * 0x1p-24));
}
/// It is never larger: -log(-log(1 - 2^-25)) = 17.33.
constexpr float kMostNoise = 17.5f;

}  // namespace hadal::contract

// The words of two blocks of 32 values of one row, for the kernels that multiply in place, in one
// zmm register. Included behind the words of AVX-512, inside its namespace.

using Y = __m512i;
using YSum = __m512i;  ///< of each block eight int32, four for each of its halves

inline __m128i y_load16(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline __m256i y_load32(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline Y y_load_two(const uint8_t* p, const uint8_t* q) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(y_load32(p)), y_load32(q), 1);
}
inline Y y_load(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Y y_set(int x) { return b_set(x); }
inline Y y_and(Y a, Y b) { return _mm512_and_si512(a, b); }
inline Y y_or(Y a, Y b) { return _mm512_or_si512(a, b); }
template <int kBits>
inline Y y_shift(Y a) {  // to the left
  if constexpr (kBits == 0) return a;
  return _mm512_slli_epi16(a, kBits);
}
inline Y y_shift_right(Y a, int bits) {
  return bits == 0 ? a : _mm512_srli_epi16(a, static_cast<unsigned>(bits));
}
/// 32 bytes twice, shifted to the right by two counts: to be masked.
inline Y y_load_shifted(const uint8_t* p, int first, int second) {
  const Y by = _mm512_inserti64x4(_mm512_set1_epi16(static_cast<int16_t>(first)),
                                  _mm256_set1_epi16(static_cast<int16_t>(second)), 1);
  return _mm512_srlv_epi16(_mm512_broadcast_i64x4(y_load32(p)), by);
}
/// 16 bytes each, twice.
inline Y y_two_twice(const uint8_t* p, const uint8_t* q) {
  return _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(y_load16(p)), 0xff00, y_load16(q));
}
/// 16 bytes each: the low nibbles, then the high ones.
inline Y y_nibbles(const uint8_t* p, const uint8_t* q) {
  const Y by = _mm512_set_epi64(0x0004000400040004, 0x0004000400040004, 0, 0, 0x0004000400040004,
                                0x0004000400040004, 0, 0);
  return _mm512_and_si512(_mm512_srlv_epi16(y_two_twice(p, q), by), b_set(15));
}
/// Both nibbles of 16 bytes each in turn, low ones first.
inline Y y_alternating_nibbles(const uint8_t* p, const uint8_t* q) {
  const Y x = _mm512_cvtepu8_epi16(
      _mm256_inserti128_si256(_mm256_castsi128_si256(y_load16(p)), y_load16(q), 1));
  return _mm512_and_si512(_mm512_or_si512(x, _mm512_slli_epi16(x, 4)), b_set(15));
}
/// Bit k of 32 to bit 4 of byte k.
inline Y y_fifth_bits(const uint8_t* p, const uint8_t* q) {
  uint32_t low, high;
  __builtin_memcpy(&low, p, 4);
  __builtin_memcpy(&high, q, 4);
  return _mm512_maskz_mov_epi8(low | static_cast<uint64_t>(high) << 32, b_set(16));
}
inline Y y_lut(const int8_t* table, Y nibbles) { return b_lut(table, nibbles); }
/// Swaps the second and the third 8 bytes of each.
inline Y y_swap_middle(Y a) { return _mm512_permutex_epi64(a, 0xd8); }

inline YSum y_dot(Y w, Y a) { return _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, a); }
/// Four rows of signed bytes times one of activations: as bytes more by 128, from as much less.
inline void y_four_dots_signed(const Y* w, Y a, YSum* s) {
  const Y sign = b_set(-128);
  const Y start = _mm512_sub_epi32(_mm512_setzero_si512(), y_dot(sign, a));
  for (int r = 0; r < 4; ++r) s[r] = _mm512_dpbusd_epi32(start, _mm512_xor_si512(w[r], sign), a);
}
/// The sums of four rows side by side: piece p of 16 bytes has those of half p % 2 of block p / 2.
/// kMax: the largest magnitude of a weight, which tells where sums fit in 16 bits.
template <int kMax>
inline Y y_four_rows(const YSum* s) {
  if constexpr (kMax <= 64) {
    const Y ones = _mm512_set1_epi16(1);
    const Y ab = _mm512_madd_epi16(_mm512_packs_epi32(s[0], s[1]), ones);
    const Y cd = _mm512_madd_epi16(_mm512_packs_epi32(s[2], s[3]), ones);
    if constexpr (kMax <= 32) return _mm512_madd_epi16(_mm512_packs_epi32(ab, cd), ones);
    const __m512 x = _mm512_castsi512_ps(ab), y = _mm512_castsi512_ps(cd);
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)),
                            _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
  } else {
    const auto two = [](Y a, Y b) {
      return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    };
    const Y ab = two(s[0], s[1]), cd = two(s[2], s[3]);
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  }
}
/// The pieces p0 + p1, p2 + p3, q0 + q1, q2 + q3.
inline Y y_add_pieces(Y p, Y q) {
  return _mm512_add_epi32(_mm512_shuffle_i32x4(p, q, 0x88), _mm512_shuffle_i32x4(p, q, 0xdd));
}
inline void y_store(uint8_t* p, Y a) { _mm512_storeu_si512(p, a); }
/// kW / 4 pieces of 16 bytes, `next` bytes from one to the other.
inline I i_load_pieces(const uint8_t* p, int64_t next) {
  I x = _mm512_castsi128_si512(y_load16(p));
  x = _mm512_inserti32x4(x, y_load16(p + next), 1);
  x = _mm512_inserti32x4(x, y_load16(p + 2 * next), 2);
  return _mm512_inserti32x4(x, y_load16(p + 3 * next), 3);
}

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
inline YSum y_dot_signed(Y w, Y a) {
  const __mmask64 negative = _mm512_movepi8_mask(w);
  return y_dot(_mm512_abs_epi8(w), _mm512_mask_sub_epi8(a, negative, _mm512_setzero_si512(), a));
}
/// Of eight blocks, in order: in the low half the sums of their first halves, in the high half of
/// the others.
inline __m512i y_halves(const YSum* s) {
  const auto two = [](Y a, Y b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  };
  const Y x = two(s[0], s[1]), y = two(s[2], s[3]);
  const Y sums = _mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
  // lane l of sums: half l % 2 of block 2p + l / 2, p = 0 … 3
  const Y order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
  return _mm512_permutexvar_epi32(order, sums);
}
inline void y_store_halves(const YSum* s, int32_t* first, int32_t* second) {
  const __m512i both = y_halves(s);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(first), _mm512_castsi512_si256(both));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(second), _mm512_extracti64x4_epi64(both, 1));
}
inline void y_store_sums(const YSum* s, int32_t* sums) {
  const __m512i both = y_halves(s);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums),
                      _mm256_add_epi32(_mm512_castsi512_si256(both),
                                       _mm512_extracti64x4_epi64(both, 1)));
}
/// The sums of the halves of both blocks.
inline void y_store_quarters(YSum s, int32_t* four) {
  const Y t = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_BADC));
  const Y u = _mm512_add_epi32(t, _mm512_shuffle_epi32(t, _MM_PERM_CDAB));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(four),
                   _mm512_castsi512_si128(_mm512_permutexvar_epi32(
                       _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), u)));
}

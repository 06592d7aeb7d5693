// The vector words of generic/*.inc for AVX2 + FMA + F16C: 8 floats, or 8 rows of 4 bytes.
// Included inside the namespace of a file that is compiled for this set, with a dots_*.h behind it.

constexpr int kW = 8;
using F = __m256;
using I = __m256i;
using B = __m256i;

inline F f_set(float x) { return _mm256_set1_ps(x); }
inline F f_zero() { return _mm256_setzero_ps(); }
inline F f_load(const float* p) { return _mm256_loadu_ps(p); }
inline void f_store(float* p, F x) { _mm256_storeu_ps(p, x); }
inline I tail_mask(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F f_load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, tail_mask(n)); }
inline void f_store_n(float* p, F x, int64_t n) { _mm256_maskstore_ps(p, tail_mask(n), x); }
inline F f_add(F a, F b) { return _mm256_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm256_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm256_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F f_max(F a, F b) { return _mm256_max_ps(a, b); }  // b if one is NaN
inline F f_min(F a, F b) { return _mm256_min_ps(a, b); }
inline F f_abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline F f_neg(F a) { return _mm256_xor_ps(_mm256_set1_ps(-0.0f), a); }
inline F f_from_i(I a) { return _mm256_cvtepi32_ps(a); }
inline I f_round(F a) { return _mm256_cvtps_epi32(a); }
inline F f_pow2(I n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
inline I f_bits(F a) { return _mm256_castps_si256(a); }
inline bool f_any_above(F a, F b) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
}
inline F f_nan_to(F a, F with) {
  return _mm256_blendv_ps(with, a, _mm256_cmp_ps(a, a, _CMP_ORD_Q));
}
inline float f_hsum(F a) {
  const __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 t = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
inline float f_hmax(F a) {
  const __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 t = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}
inline double d_hsum(F a) {  // in double, lanes ascending by halves
  const __m256d s = _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a)),
                                  _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)));
  const __m128d t = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
  return _mm_cvtsd_f64(t) + _mm_cvtsd_f64(_mm_unpackhi_pd(t, t));
}

inline F f_from_f16(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline F f_from_bf16(const void* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))), 16));
}
inline void f_to_f16(void* p, F a) {
  _mm_storeu_si128(static_cast<__m128i*>(p),
                   _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void f_to_bf16(void* p, F a) {
  const I bits = f_bits(a);
  const I odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const I up = _mm256_srli_epi32(
      _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const I nan = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const I ordered = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_ORD_Q));
  const I r = _mm256_blendv_epi8(nan, up, ordered);
  const I packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0x08);
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
inline I i_load_u8(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
/// By way of f16, whose exponent is 8 more and whose subnormal numbers cost nothing.
inline F f_from_e4m3(const uint8_t* p) {
  const __m128i b = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m128i body = _mm_and_si128(_mm_slli_epi16(b, 7), _mm_set1_epi16(0x3f80));
  const __m128i nan = _mm_srli_epi16(_mm_cmpeq_epi16(body, _mm_set1_epi16(0x3f80)), 1);
  const __m128i sign = _mm_and_si128(_mm_slli_epi16(b, 8), _mm_set1_epi16(-0x8000));
  return f_mul(_mm256_cvtph_ps(_mm_or_si128(_mm_or_si128(body, sign), nan)), f_set(256.0f));
}
/// Seven bits without a sign, 0x7f is 480.
inline F f_from_ue4m3(I bytes) {
  return f_mul(_mm256_castsi256_ps(_mm256_slli_epi32(bytes, 20)), f_set(0x1p120f));
}
inline F f_from_e5m2(const uint8_t* p) {
  const __m128i h =
      _mm_slli_epi16(_mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))), 8);
  return _mm256_cvtph_ps(h);
}
/// 2^(e - 128), as MXFP4 halves its scales: 255 is no NaN there.
inline F f_from_e8m0_half(I e) {
  const I small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
  const I normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
  return _mm256_castsi256_ps(
      _mm256_blendv_epi8(small, normal, _mm256_cmpgt_epi32(e, _mm256_set1_epi32(1))));
}

inline I i_zero() { return _mm256_setzero_si256(); }
inline I i_load(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline I i_set(int32_t x) { return _mm256_set1_epi32(x); }
inline I i_and(I a, I b) { return _mm256_and_si256(a, b); }
inline I i_or(I a, I b) { return _mm256_or_si256(a, b); }
inline I i_xor(I a, I b) { return _mm256_xor_si256(a, b); }
inline I i_mul(I a, I b) { return _mm256_mullo_epi32(a, b); }
inline I i_shift_right(I a, int bits) { return _mm256_srli_epi32(a, bits); }
/// `a`, but zero where `test` is `value`.
inline I i_zero_where(I a, I test, int32_t value) {
  return _mm256_andnot_si256(_mm256_cmpeq_epi32(test, i_set(value)), a);
}
/// The f16 in the low, in the high half of each dword.
inline F high_f16(I a) {
  const I high = _mm256_srli_epi32(a, 16);
  return _mm256_cvtph_ps(
      _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
}
inline F low_f16(I a) { return high_f16(_mm256_slli_epi32(a, 16)); }
inline I i_add(I a, I b) { return _mm256_add_epi32(a, b); }
inline I i_sub(I a, I b) { return _mm256_sub_epi32(a, b); }
inline I i_max(I a, I b) { return _mm256_max_epi32(a, b); }
template <int kBits>
inline I i_shl(I a) {
  return _mm256_slli_epi32(a, kBits);
}
inline int32_t i_hmax(I a) {
  const __m128i s = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i t = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1)));
}
inline int32_t i_hsum(I a) {
  const __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i t = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1)));
}
/// The low bytes of kW int32, saturated.
inline void i_to_s8(int8_t* p, I a) {
  const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(h, h));
}

inline B b_load(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline B b_set(int x) { return _mm256_set1_epi8(static_cast<char>(x)); }
inline B b_and(B a, B b) { return _mm256_and_si256(a, b); }
inline B b_or(B a, B b) { return _mm256_or_si256(a, b); }
template <int kBits>
inline B b_shift(B a) {  // left if positive; bits cross bytes: mask afterwards
  if constexpr (kBits > 0)
    return _mm256_slli_epi16(a, kBits);
  else if constexpr (kBits < 0)
    return _mm256_srli_epi16(a, -kBits);
  else
    return a;
}
inline B b_shift_right(B a, int bits) { return _mm256_srli_epi16(a, bits); }
/// w[g] gets bit 4g + v of row r's dword as bit 4 of its byte v.
inline void or_fifth_bits(const uint8_t* dwords, B* w) {
  const B bits = b_load(dwords);
  for (int g = 0; g < 8; ++g) {
    const B pick =
        _mm256_add_epi8(_mm256_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12, 0, 0,
                                         0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12),
                        b_set(g / 2));
    const B of = _mm256_set1_epi32(g % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010u));
    const B set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, pick), of), of);
    w[g] = b_or(w[g], b_and(set, b_set(16)));
  }
}
/// The four nibbles of the low half of each dword, a byte each.
inline B spread_nibbles(I a) {
  const I low = i_and(a, i_set(0xffff));
  const I two = i_and(i_or(low, _mm256_slli_epi32(low, 8)), i_set(0x00ff00ff));
  return i_and(i_or(two, _mm256_slli_epi32(two, 4)), i_set(0x0f0f0f0f));
}
/// out: dwords 0 … 3 from `offset` of 16 rows, each of all rows side by side.
inline void four_dwords(const uint8_t* const* rows, int64_t offset, uint8_t* out) {
  for (int half = 0; half < 16; half += 8, out += 32) {
    const auto pair = [&](int i) {  // rows i, 4 + i
      const auto load = [&](int r) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[half + r] + offset));
      };
      return _mm256_inserti128_si256(_mm256_castsi128_si256(load(i)), load(4 + i), 1);
    };
    const I a = pair(0), b = pair(1), c = pair(2), d = pair(3);
    const I ab = _mm256_unpacklo_epi32(a, b), cd = _mm256_unpacklo_epi32(c, d);
    const I ef = _mm256_unpackhi_epi32(a, b), gh = _mm256_unpackhi_epi32(c, d);
    const auto store = [&](int j, I x) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 64 * j), x);
    };
    store(0, _mm256_unpacklo_epi64(ab, cd));
    store(1, _mm256_unpackhi_epi64(ab, cd));
    store(2, _mm256_unpacklo_epi64(ef, gh));
    store(3, _mm256_unpackhi_epi64(ef, gh));
  }
}
inline B b_lut(const int8_t* table, B nibbles) {
  return _mm256_shuffle_epi8(
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))),
      nibbles);
}

inline B act4(const int8_t* a) {
  int32_t four;
  __builtin_memcpy(&four, a, 4);
  return _mm256_set1_epi32(four);
}
/// Keeps the order of the source and the value in its register: g++ 12 otherwise computes all
/// products of a step before it adds any, spills an accumulator, and waits for the store in every
/// step (12 instead of 6 cycles for 8 x 32 products, Zen 3).
inline void keep(I& x) { asm volatile("" : "+x"(x)); }

/// kW pairs of int16, for products with a pair that is the same for all rows.
inline I pair_mul(I pairs, int32_t pair) {
  return _mm256_madd_epi16(pairs, _mm256_set1_epi32(pair));
}
/// Bytes 0 and 1 of each dword, or 2 and 3, as int16.
inline I pairs_s8(I bytes, bool upper) {
  const I two = upper ? _mm256_srli_epi32(bytes, 16) : bytes;
  const I low = _mm256_srai_epi16(_mm256_slli_epi16(two, 8), 8);
  const I high = _mm256_slli_epi32(_mm256_srai_epi16(two, 8), 16);
  return _mm256_blend_epi16(low, high, 0xaa);
}
inline I low_of_pairs(I pairs) { return _mm256_srai_epi32(_mm256_slli_epi32(pairs, 16), 16); }
inline I high_of_pairs(I pairs) { return _mm256_srai_epi32(pairs, 16); }
/// Rows of activations of a float product whose sums are in registers, with four rows of weights.
constexpr int kDotRows = 2;
inline void prefetch_l2(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

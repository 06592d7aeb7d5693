// The vector words of generic/*.inc for AVX-512 (F, BW, VL, DQ, VNNI): 16 floats, or 16 rows of 4
// bytes. Included inside the namespace of the one file that is compiled for this set.

constexpr int kW = 16;
using F = __m512;
using I = __m512i;
using B = __m512i;

inline F f_set(float x) { return _mm512_set1_ps(x); }
inline F f_zero() { return _mm512_setzero_ps(); }
inline F f_load(const float* p) { return _mm512_loadu_ps(p); }
inline void f_store(float* p, F x) { _mm512_storeu_ps(p, x); }
inline __mmask16 tail_mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline F f_load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(tail_mask(n), p); }
inline void f_store_n(float* p, F x, int64_t n) { _mm512_mask_storeu_ps(p, tail_mask(n), x); }
inline F f_add(F a, F b) { return _mm512_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm512_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F f_max(F a, F b) { return _mm512_max_ps(a, b); }  // b if one is NaN
inline F f_min(F a, F b) { return _mm512_min_ps(a, b); }
inline F f_abs(F a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
inline F f_neg(F a) { return _mm512_xor_ps(_mm512_set1_ps(-0.0f), a); }
inline F f_from_i(I a) { return _mm512_cvtepi32_ps(a); }
inline I f_round(F a) { return _mm512_cvtps_epi32(a); }
inline F f_pow2(I n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
inline I f_bits(F a) { return _mm512_castps_si512(a); }
inline bool f_any_above(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
inline F f_nan_to(F a, F with) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), with, a);
}
inline __m256 low_half(F a) { return _mm512_castps512_ps256(a); }
inline __m256 high_half(F a) { return _mm512_extractf32x8_ps(a, 1); }
inline float f_hsum(F a) {
  const __m256 h = _mm256_add_ps(low_half(a), high_half(a));
  const __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 t = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
inline float f_hmax(F a) {
  const __m256 h = _mm256_max_ps(low_half(a), high_half(a));
  const __m128 s = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 t = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}
inline double d_hsum(F a) {  // in double, lanes ascending by halves
  const __m512d d = _mm512_add_pd(_mm512_cvtps_pd(low_half(a)), _mm512_cvtps_pd(high_half(a)));
  const __m256d s = _mm256_add_pd(_mm512_castpd512_pd256(d), _mm512_extractf64x4_pd(d, 1));
  const __m128d t = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
  return _mm_cvtsd_f64(t) + _mm_cvtsd_f64(_mm_unpackhi_pd(t, t));
}

inline F f_from_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline F f_from_bf16(const void* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))), 16));
}
inline void f_to_f16(void* p, F a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void f_to_bf16(void* p, F a) {
  const I bits = f_bits(a);
  const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const I up = _mm512_srli_epi32(
      _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const I nan = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  const I r = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), nan, up);
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(r));
}
inline I i_load_u8(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
/// By way of f16, whose exponent is 8 more and whose subnormal numbers cost nothing.
inline F f_from_e4m3(const uint8_t* p) {
  const __m256i b = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i body = _mm256_and_si256(_mm256_slli_epi16(b, 7), _mm256_set1_epi16(0x3f80));
  const __mmask16 nan = _mm256_cmpeq_epi16_mask(body, _mm256_set1_epi16(0x3f80));
  const __m256i sign = _mm256_and_si256(_mm256_slli_epi16(b, 8), _mm256_set1_epi16(-0x8000));
  const __m256i half =
      _mm256_mask_mov_epi16(_mm256_or_si256(body, sign), nan, _mm256_set1_epi16(0x7fff));
  return f_mul(_mm512_cvtph_ps(half), f_set(256.0f));
}
/// Seven bits without a sign, 0x7f is 480.
inline F f_from_ue4m3(I bytes) {
  return f_mul(_mm512_castsi512_ps(_mm512_slli_epi32(bytes, 20)), f_set(0x1p120f));
}
inline F f_from_e5m2(const uint8_t* p) {
  const __m256i h = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_cvtph_ps(_mm256_slli_epi16(h, 8));
}
/// 2^(e - 128), as MXFP4 halves its scales: 255 is no NaN there.
inline F f_from_e8m0_half(I e) {
  const I small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
  const I normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
  return _mm512_castsi512_ps(
      _mm512_mask_mov_epi32(small, _mm512_cmpgt_epi32_mask(e, _mm512_set1_epi32(1)), normal));
}

inline I i_zero() { return _mm512_setzero_si512(); }
inline I i_load(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline I i_set(int32_t x) { return _mm512_set1_epi32(x); }
inline I i_and(I a, I b) { return _mm512_and_si512(a, b); }
inline I i_or(I a, I b) { return _mm512_or_si512(a, b); }
inline I i_xor(I a, I b) { return _mm512_xor_si512(a, b); }
inline I i_mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
inline I i_shift_right(I a, int bits) { return _mm512_srli_epi32(a, static_cast<unsigned>(bits)); }
/// `a`, but zero where `test` is `value`.
inline I i_zero_where(I a, I test, int32_t value) {
  return _mm512_maskz_mov_epi32(_mm512_cmpneq_epi32_mask(test, i_set(value)), a);
}
/// The f16 in the low, in the high half of each dword.
inline F low_f16(I a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }
inline F high_f16(I a) { return low_f16(_mm512_srli_epi32(a, 16)); }
inline I i_add(I a, I b) { return _mm512_add_epi32(a, b); }
inline I i_sub(I a, I b) { return _mm512_sub_epi32(a, b); }
inline I i_max(I a, I b) { return _mm512_max_epi32(a, b); }
template <int kBits>
inline I i_shl(I a) {
  return _mm512_slli_epi32(a, kBits);
}
inline int32_t i_hmax(I a) { return _mm512_reduce_max_epi32(a); }
inline int32_t i_hsum(I a) { return _mm512_reduce_add_epi32(a); }
/// The low bytes of kW int32, saturated.
inline void i_to_s8(int8_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(a));
}

inline B b_load(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline B b_set(int x) { return _mm512_set1_epi8(static_cast<char>(x)); }
inline B b_and(B a, B b) { return _mm512_and_si512(a, b); }
inline B b_or(B a, B b) { return _mm512_or_si512(a, b); }
template <int kBits>
inline B b_shift(B a) {  // left if positive; bits cross bytes: mask afterwards
  if constexpr (kBits > 0)
    return _mm512_slli_epi16(a, kBits);
  else if constexpr (kBits < 0)
    return _mm512_srli_epi16(a, -kBits);
  else
    return a;
}
inline B b_shift_right(B a, int bits) { return _mm512_srli_epi16(a, static_cast<unsigned>(bits)); }
/// w[g] gets bit 4g + v of row r's dword as bit 4 of its byte v.
inline void or_fifth_bits(const uint8_t* dwords, B* w) {
  const B bits = b_load(dwords);
  const B bit = _mm512_set1_epi64(static_cast<int64_t>(0x8040201008040201));
  for (int g = 0; g < 8; ++g) {
    const B pick = _mm512_add_epi8(
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12)),
        b_set(g / 2));
    const B of = g % 2 == 0 ? _mm512_shuffle_epi32(bit, _MM_PERM_AAAA)
                            : _mm512_shuffle_epi32(bit, _MM_PERM_BBBB);
    const __mmask64 set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(bits, pick), of);
    w[g] = b_or(w[g], _mm512_maskz_mov_epi8(set, b_set(16)));
  }
}
/// The four nibbles of the low half of each dword, a byte each.
inline B spread_nibbles(I a) {
  const I low = _mm512_and_si512(a, i_set(0xffff));
  const I two =
      _mm512_and_si512(_mm512_or_si512(low, _mm512_slli_epi32(low, 8)), i_set(0x00ff00ff));
  return _mm512_and_si512(_mm512_or_si512(two, _mm512_slli_epi32(two, 4)), i_set(0x0f0f0f0f));
}
/// out: dwords 0 … 3 from `offset` of 16 rows, each of all rows side by side.
inline void four_dwords(const uint8_t* const* rows, int64_t offset, uint8_t* out) {
  const auto quad = [&](int i) {  // rows i, 4 + i, 8 + i, 12 + i
    const auto load = [&](int r) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + offset));
    };
    I x = _mm512_castsi128_si512(load(i));
    x = _mm512_inserti32x4(x, load(4 + i), 1);
    x = _mm512_inserti32x4(x, load(8 + i), 2);
    return _mm512_inserti32x4(x, load(12 + i), 3);
  };
  const I a = quad(0), b = quad(1), c = quad(2), d = quad(3);
  const I ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
  const I ef = _mm512_unpackhi_epi32(a, b), gh = _mm512_unpackhi_epi32(c, d);
  _mm512_storeu_si512(out, _mm512_unpacklo_epi64(ab, cd));
  _mm512_storeu_si512(out + 64, _mm512_unpackhi_epi64(ab, cd));
  _mm512_storeu_si512(out + 128, _mm512_unpacklo_epi64(ef, gh));
  _mm512_storeu_si512(out + 192, _mm512_unpackhi_epi64(ef, gh));
}
inline B b_lut(const int8_t* table, B nibbles) {
  return _mm512_shuffle_epi8(
      _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), nibbles);
}

inline B act4(const int8_t* a) {
  int32_t four;
  __builtin_memcpy(&four, a, 4);
  return _mm512_set1_epi32(four);
}
/// Rows of activations of a float product whose sums are in registers, with four rows of weights.
constexpr int kDotRows = 6;
/// Rows of activations that are multiplied at once: enough chains to hide the latency of dpbusd.
constexpr int rows_at_once(int) { return 4; }

/// sum[r][0] = groups [kFirst, kFirst + kCount) times row r.
template <int kBits, int kFirst, int kCount, int kRows, class Blocks>
inline void dots_u(const Blocks* b, const int8_t* q, I (&sum)[kRows][1]) {
  for (int r = 0; r < kRows; ++r) sum[r][0] = i_zero();
  if constexpr (kRows == 1) {  // two chains; int32 sums are exact in any order
    I odd = i_zero();
    for (int g = kFirst; g < kFirst + kCount; g += 2) {
      sum[0][0] = _mm512_dpbusd_epi32(sum[0][0], b[0].w[g], act4(q + 4 * g));
      odd = _mm512_dpbusd_epi32(odd, b[0].w[g + 1], act4(q + 4 * g + 4));
    }
    sum[0][0] = i_add(sum[0][0], odd);
  } else {
    for (int g = kFirst; g < kFirst + kCount; ++g)
      for (int r = 0; r < kRows; ++r)
        sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], b[0].w[g], act4(q + 32 * r + 4 * g));
  }
}

/// kW pairs of int16, for products with a pair that is the same for all rows.
inline I pair_mul(I pairs, int32_t pair) {
  return _mm512_madd_epi16(pairs, _mm512_set1_epi32(pair));
}

/// Signed weights: w + 128 as unsigned, less 128 times the sum of the activations.
struct Signed {
  B w[8];
};
inline void prepare_signed(Signed& s) {
  for (int g = 0; g < 8; ++g) s.w[g] = _mm512_xor_si512(s.w[g], b_set(-128));
}
/// `pairs`: the rows' sums of 16 activations, int16 pairs 4 bytes apart.
template <int kRows>
inline void dots_s(const Signed* const* b, const int8_t* q, const uint8_t* pairs,
                   I (&sum)[kRows][1]) {
  dots_u<8, 0, 8, kRows>(b[0], q, sum);
  for (int r = 0; r < kRows; ++r) {
    int32_t pair;
    __builtin_memcpy(&pair, pairs + 4 * r, 4);
    sum[r][0] = i_sub(sum[r][0], pair_mul(_mm512_set1_epi16(128), pair));
  }
}

/// Bytes 0 and 1 of each dword, or 2 and 3, as int16.
inline I pairs_s8(I bytes, bool upper) {
  const I two = upper ? _mm512_srli_epi32(bytes, 16) : bytes;
  const I low = _mm512_srai_epi16(_mm512_slli_epi16(two, 8), 8);
  const I high = _mm512_slli_epi32(_mm512_srai_epi16(two, 8), 16);
  return _mm512_mask_blend_epi16(0xaaaaaaaau, low, high);
}
inline I low_of_pairs(I pairs) { return _mm512_srai_epi32(_mm512_slli_epi32(pairs, 16), 16); }
inline I high_of_pairs(I pairs) { return _mm512_srai_epi32(pairs, 16); }
/// Two integer scales a row, one for each 16 values.
struct Scales {
  I first, second;
};
inline Scales split_pairs(I pairs) { return {low_of_pairs(pairs), high_of_pairs(pairs)}; }
/// The sums of both halves of a block, times their scales.
template <int kBits, int kRows, class Blocks>
inline void dots_scaled(const Blocks* b, const int8_t* q, I (&sum)[kRows][1]) {
  I second[kRows][1];
  dots_u<kBits, 0, 4, kRows>(b, q, sum);
  dots_u<kBits, 4, 4, kRows>(b, q, second);
  for (int r = 0; r < kRows; ++r)
    sum[r][0] = i_add(_mm512_mullo_epi32(sum[r][0], b[0].scales.first),
                      _mm512_mullo_epi32(second[r][0], b[0].scales.second));
}

/// Multiply-adds of the peak loop: 12 chains, the products not to be shared.
constexpr int kPeakInt8 = 12 * 64 * 2;
inline void int8_round(I* s, B w, B a) {
  for (int i = 0; i < 12; ++i) {
    asm volatile("" : "+v"(a));
    s[i] = _mm512_dpbusd_epi32(s[i], w, a);
  }
}
inline void prefetch_l2(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

// Dot products of unsigned weights and int8 activations with AVX-VNNI: vpdpbusd adds four products
// into an int32, so nothing can saturate. Included behind simd_avx2.h, inside a namespace.

inline __m256i y_dpbusd(__m256i w, __m256i a) {
  return _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), w, a);
}

/// Rows of activations that are multiplied at once: with two half panels, 8 chains hide the
/// latency.
constexpr int rows_at_once(int) { return 4; }

/// sum[r][h] = groups [kFirst, kFirst + kCount) of half panel h times row r.
template <int kBits, int kFirst, int kCount, int kRows, class Blocks>
inline void dots_u(const Blocks* b, const int8_t* q, I (&sum)[kRows][2]) {
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = i_zero();
  if constexpr (kRows == 1) {  // two chains a half; int32 sums are exact in any order
    I odd[2] = {i_zero(), i_zero()};
    HADAL_UNROLL
    for (int g = kFirst; g < kFirst + kCount; g += 2) {
      const B a0 = act4(q + 4 * g), a1 = act4(q + 4 * g + 4);
      for (int h = 0; h < 2; ++h) {
        sum[0][h] = _mm256_dpbusd_avx_epi32(sum[0][h], b[h].w[g], a0);
        odd[h] = _mm256_dpbusd_avx_epi32(odd[h], b[h].w[g + 1], a1);
      }
    }
    for (int h = 0; h < 2; ++h) sum[0][h] = i_add(sum[0][h], odd[h]);
  } else {
    HADAL_UNROLL
    for (int g = kFirst; g < kFirst + kCount; ++g) {
      const B w0 = b[0].w[g], w1 = b[1].w[g];
      for (int r = 0; r < kRows; ++r) {
        const B a = act4(q + 32 * r + 4 * g);
        sum[r][0] = _mm256_dpbusd_avx_epi32(sum[r][0], w0, a);
        sum[r][1] = _mm256_dpbusd_avx_epi32(sum[r][1], w1, a);
      }
    }
  }
}

/// Signed weights: w + 128 as unsigned, less 128 times the sum of the activations.
struct Signed {
  B w[8];
};
inline void prepare_signed(Signed& s) {
  for (int g = 0; g < 8; ++g) s.w[g] = _mm256_xor_si256(s.w[g], b_set(-128));
}
/// `pairs`: the rows' sums of 16 activations, int16 pairs 4 bytes apart.
template <int kRows>
inline void dots_s(const Signed* const* b, const int8_t* q, const uint8_t* pairs,
                   I (&sum)[kRows][2]) {
  const Signed both[2] = {*b[0], *b[1]};
  dots_u<8, 0, 8, kRows>(both, q, sum);
  for (int r = 0; r < kRows; ++r) {
    int32_t pair;
    __builtin_memcpy(&pair, pairs + 4 * r, 4);
    const I shift = pair_mul(_mm256_set1_epi16(128), pair);
    for (int h = 0; h < 2; ++h) sum[r][h] = i_sub(sum[r][h], shift);
  }
}

/// Two integer scales a row, one for each 16 values.
struct Scales {
  I first, second;
};
inline Scales split_pairs(I pairs) { return {low_of_pairs(pairs), high_of_pairs(pairs)}; }
/// The sums of both halves of a block, times their scales.
template <int kBits, int kRows, class Blocks>
inline void dots_scaled(const Blocks* b, const int8_t* q, I (&sum)[kRows][2]) {
  I second[kRows][2];
  dots_u<kBits, 0, 4, kRows>(b, q, sum);
  dots_u<kBits, 4, 4, kRows>(b, q, second);
  for (int r = 0; r < kRows; ++r)
    for (int h = 0; h < 2; ++h)
      sum[r][h] = i_add(_mm256_mullo_epi32(sum[r][h], b[h].scales.first),
                        _mm256_mullo_epi32(second[r][h], b[h].scales.second));
}

/// Multiply-adds of the peak loop: 12 chains, the products not to be shared.
constexpr int kPeakInt8 = 12 * 32 * 2;
inline void int8_round(I* s, B w, B a) {
  for (int i = 0; i < 12; ++i) {
    asm volatile("" : "+x"(a));
    s[i] = _mm256_dpbusd_avx_epi32(s[i], w, a);
  }
}

// Dot products of unsigned weights and int8 activations over AVX2: vpmaddubsw, whose int16 sums are
// flushed into int32 before they can saturate. Included behind simd_avx2.h, inside a namespace.

/// Products that fit in int16 in pairs: weights below 128.
inline __m256i y_dpbusd(__m256i w, __m256i a) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1));
}

/// How many products of kBits weights (below 2^kBits, unsigned) can be added in int16.
constexpr int int16_groups(int bits) { return bits <= 4 ? 8 : bits == 5 ? 4 : 2; }

/// Rows of activations that are multiplied at once: 4 rows and two half panels are 8 accumulators,
/// and 6 loads serve 8 multiplications. Where int16 sums must be flushed into int32 on the way, the
/// registers suffice for 2.
constexpr int rows_at_once(int flushes) { return flushes == 1 ? 4 : 2; }

/// sum[r][h] = groups [kFirst, kFirst + kCount) of half panel h times row r, each int16 pair times
/// by[h].
template <int kBits, int kFirst, int kCount, int kRows, bool kAdd, class Blocks>
inline void dots16(const Blocks* b, const int8_t* q, const I* by, I (&sum)[kRows][2]) {
  constexpr int kGroup = int16_groups(kBits) < kCount ? int16_groups(kBits) : kCount;
  if constexpr (!kAdd)
    for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = i_zero();
  HADAL_UNROLL
  for (int g = kFirst; g < kFirst + kCount; g += kGroup) {
    I s[kRows][2];
    if constexpr (kGroup <= 2) {
      for (int r = 0; r < kRows; ++r) {
        const B a0 = act4(q + 32 * r + 4 * g), a1 = act4(q + 32 * r + 4 * g + 4);
        for (int h = 0; h < 2; ++h)
          s[r][h] = _mm256_add_epi16(_mm256_maddubs_epi16(b[h].w[g], a0),
                                     _mm256_maddubs_epi16(b[h].w[g + 1], a1));
        for (int h = 0; h < 2; ++h) {
          sum[r][h] = i_add(sum[r][h], _mm256_madd_epi16(s[r][h], by[h]));
          keep(sum[r][h]);
        }
      }
      continue;
    }
    for (int r = 0; r < kRows; ++r) s[r][0] = s[r][1] = i_zero();
    HADAL_UNROLL
    for (int i = g; i < g + kGroup; ++i) {
      B w0 = b[0].w[i], w1 = b[1].w[i];
      if constexpr (kRows > 1) {
        keep(w0);
        keep(w1);
      }
      for (int r = 0; r < kRows; ++r) {
        const B a = act4(q + 32 * r + 4 * i);
        s[r][0] = _mm256_add_epi16(s[r][0], _mm256_maddubs_epi16(w0, a));
        s[r][1] = _mm256_add_epi16(s[r][1], _mm256_maddubs_epi16(w1, a));
        keep(s[r][0]);
        keep(s[r][1]);
      }
    }
    for (int r = 0; r < kRows; ++r)
      for (int h = 0; h < 2; ++h) sum[r][h] = i_add(sum[r][h], _mm256_madd_epi16(s[r][h], by[h]));
  }
}
template <int kBits, int kFirst, int kCount, int kRows, class Blocks>
inline void dots_u(const Blocks* b, const int8_t* q, I (&sum)[kRows][2]) {
  const I ones[2] = {_mm256_set1_epi16(1), _mm256_set1_epi16(1)};
  dots16<kBits, kFirst, kCount, kRows, false>(b, q, ones, sum);
}

/// Signed weights: |w| times a with w's sign.
struct Signed {
  B w[8];
  B magnitude[8];
};
inline void prepare_signed(Signed& s) {
  for (int g = 0; g < 8; ++g) s.magnitude[g] = _mm256_abs_epi8(s.w[g]);
}
template <int kRows>
inline void dots_s(const Signed* const* b, const int8_t* q, const uint8_t*, I (&sum)[kRows][2]) {
  const I ones = _mm256_set1_epi16(1);
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = i_zero();
  HADAL_UNROLL
  for (int g = 0; g < 8; ++g)
    for (int r = 0; r < kRows; ++r) {
      const B a = act4(q + 32 * r + 4 * g);
      for (int h = 0; h < 2; ++h) {
        const I p = _mm256_maddubs_epi16(b[h]->magnitude[g], _mm256_sign_epi8(a, b[h]->w[g]));
        sum[r][h] = i_add(sum[r][h], _mm256_madd_epi16(p, ones));
        keep(sum[r][h]);
      }
    }
}

/// Two integer scales a row, one for each 16 values.
struct Scales {
  I first, second;
};
inline Scales split_pairs(I pairs) {
  const I lo = _mm256_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13, 0, 1, 0, 1, 4,
                                5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
  return {_mm256_shuffle_epi8(pairs, lo),
          _mm256_shuffle_epi8(pairs, _mm256_add_epi8(lo, _mm256_set1_epi8(2)))};
}

/// The sums of both halves of a block, times their scales.
template <int kBits, int kRows, class Blocks>
inline void dots_scaled(const Blocks* b, const int8_t* q, I (&sum)[kRows][2]) {
  const I first[2] = {b[0].scales.first, b[1].scales.first},
          second[2] = {b[0].scales.second, b[1].scales.second};
  dots16<kBits, 0, 4, kRows, false>(b, q, first, sum);
  dots16<kBits, 4, 4, kRows, true>(b, q, second, sum);
}

/// Multiply-adds of the peak loop: 8 chains, the products not to be shared.
constexpr int kPeakInt8 = 8 * 32 * 2;
inline void int8_round(I* s, B w, B a) {
  for (int i = 0; i < 8; ++i) {
    asm volatile("" : "+x"(a));
    s[i] = _mm256_add_epi16(s[i], _mm256_maddubs_epi16(w, a));
  }
}

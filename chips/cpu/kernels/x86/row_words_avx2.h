// The words of two blocks of 32 values of one row, for the kernels that multiply in place, in two
// ymm registers. Included behind the words of a set, inside its namespace.

struct Y {
  __m256i v[2];
};
struct YSum {
  __m256i v[2];  ///< of each block eight int32, four for each of its halves
};
template <typename Of>
inline Y y_both(Of&& of) {
  return {{of(0), of(1)}};
}

inline __m256i y_load32(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline __m128i y_load16(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline Y y_load_two(const uint8_t* p, const uint8_t* q) { return {{y_load32(p), y_load32(q)}}; }
inline Y y_load(const uint8_t* p) { return y_load_two(p, p + 32); }
inline Y y_set(int x) {
  return y_both([&](int) { return _mm256_set1_epi8(static_cast<char>(x)); });
}
inline Y y_and(Y a, Y b) {
  return y_both([&](int i) { return _mm256_and_si256(a.v[i], b.v[i]); });
}
inline Y y_or(Y a, Y b) {
  return y_both([&](int i) { return _mm256_or_si256(a.v[i], b.v[i]); });
}
template <int kBits>
inline Y y_shift(Y a) {  // to the left
  if constexpr (kBits == 0) return a;
  return y_both([&](int i) { return _mm256_slli_epi16(a.v[i], kBits); });
}
inline Y y_shift_right(Y a, int bits) {
  return y_both([&](int i) { return bits == 0 ? a.v[i] : _mm256_srli_epi16(a.v[i], bits); });
}
/// 32 bytes twice, shifted to the right by two counts: to be masked.
inline Y y_load_shifted(const uint8_t* p, int first, int second) {
  const __m256i x = y_load32(p);
  return {{first == 0 ? x : _mm256_srli_epi16(x, first), _mm256_srli_epi16(x, second)}};
}
/// 16 bytes each: the low nibbles, then the high ones.
inline Y y_nibbles(const uint8_t* p, const uint8_t* q) {
  const auto one = [](const uint8_t* at) {
    const __m128i x = y_load16(at);
    return _mm256_and_si256(
        _mm256_inserti128_si256(_mm256_castsi128_si256(x), _mm_srli_epi16(x, 4), 1),
        _mm256_set1_epi8(15));
  };
  return {{one(p), one(q)}};
}
/// Both nibbles of 16 bytes each in turn, low ones first.
inline Y y_alternating_nibbles(const uint8_t* p, const uint8_t* q) {
  const auto one = [](const uint8_t* at) {
    const __m256i x = _mm256_cvtepu8_epi16(y_load16(at));
    return _mm256_and_si256(_mm256_or_si256(x, _mm256_slli_epi16(x, 4)), _mm256_set1_epi8(15));
  };
  return {{one(p), one(q)}};
}
/// Bit k of 32 to bit 4 of byte k.
inline Y y_fifth_bits(const uint8_t* p, const uint8_t* q) {
  const __m256i pick =
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i of = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const auto one = [&](const uint8_t* at) {
    int32_t bits;
    __builtin_memcpy(&bits, at, 4);
    const __m256i x = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), pick);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(x, of), of), _mm256_set1_epi8(16));
  };
  return {{one(p), one(q)}};
}
inline Y y_lut(const int8_t* table, Y nibbles) {
  const __m256i t = _mm256_broadcastsi128_si256(y_load16(reinterpret_cast<const uint8_t*>(table)));
  return y_both([&](int i) { return _mm256_shuffle_epi8(t, nibbles.v[i]); });
}
/// Swaps the second and the third 8 bytes of each.
inline Y y_swap_middle(Y a) {
  return y_both([&](int i) { return _mm256_permute4x64_epi64(a.v[i], 0xd8); });
}

inline YSum y_dot(Y w, Y a) { return {{y_dpbusd(w.v[0], a.v[0]), y_dpbusd(w.v[1], a.v[1])}}; }
/// Four rows of signed bytes times one of activations.
inline void y_four_dots_signed(const Y* w, Y a, YSum* s) {
  for (int r = 0; r < 4; ++r)
    s[r] = y_dot(y_both([&](int i) { return _mm256_abs_epi8(w[r].v[i]); }),
                 y_both([&](int i) { return _mm256_sign_epi8(a.v[i], w[r].v[i]); }));
}
/// The sums of four rows side by side: piece p of 16 bytes has those of half p % 2 of block p / 2.
/// kMax: the largest magnitude of a weight, which tells where sums fit in 16 bits.
template <int kMax>
inline Y y_four_rows(const YSum* s) {
  return y_both([&](int i) {
    const __m256i a = s[0].v[i], b = s[1].v[i], c = s[2].v[i], d = s[3].v[i];
    if constexpr (kMax <= 32) {
      const __m256i ones = _mm256_set1_epi16(1);
      const __m256i ab = _mm256_madd_epi16(_mm256_packs_epi32(a, b), ones);
      const __m256i cd = _mm256_madd_epi16(_mm256_packs_epi32(c, d), ones);
      return _mm256_madd_epi16(_mm256_packs_epi32(ab, cd), ones);
    } else {
      return _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    }
  });
}
/// The pieces p0 + p1, p2 + p3, q0 + q1, q2 + q3.
inline Y y_add_pieces(Y p, Y q) {
  const auto add = [](const Y& of) {
    return _mm256_add_epi32(_mm256_permute2x128_si256(of.v[0], of.v[1], 0x20),
                            _mm256_permute2x128_si256(of.v[0], of.v[1], 0x31));
  };
  return {{add(p), add(q)}};
}
inline void y_store(uint8_t* p, Y a) {
  for (int i = 0; i < 2; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32 * i), a.v[i]);
}
/// kW / 4 pieces of 16 bytes, `next` bytes from one to the other.
inline I i_load_pieces(const uint8_t* p, int64_t next) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(y_load16(p)), y_load16(p + next), 1);
}

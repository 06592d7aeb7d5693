// The vector words of generic/*.inc in plain C++: 8 lanes in arrays that any compiler turns into
// what the machine has. a * b + c is two roundings here (no fused instruction is assumed): this
// table has bits of its own. Included inside the namespace of portable.cc.

constexpr int kW = 8;
struct F {
  float v[kW];
};
struct I {
  int32_t v[kW];
};
struct B {
  uint8_t v[4 * kW];
};
#define HADAL_LANES for (int i = 0; i < kW; ++i)
#define HADAL_BYTES for (int i = 0; i < 4 * kW; ++i)

inline float as_float(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
inline uint32_t as_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

inline F f_set(float x) {
  F r;
  HADAL_LANES r.v[i] = x;
  return r;
}
inline F f_zero() { return f_set(0.0f); }
inline F f_load(const float* p) {
  F r;
  HADAL_LANES r.v[i] = p[i];
  return r;
}
inline void f_store(float* p, F x) { HADAL_LANES p[i] = x.v[i]; }
inline F f_load_n(const float* p, int64_t n) {
  F r;
  HADAL_LANES r.v[i] = i < n ? p[i] : 0.0f;
  return r;
}
inline void f_store_n(float* p, F x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = x.v[i];
}
inline F f_add(F a, F b) {
  F r;
  HADAL_LANES r.v[i] = a.v[i] + b.v[i];
  return r;
}
inline F f_sub(F a, F b) {
  F r;
  HADAL_LANES r.v[i] = a.v[i] - b.v[i];
  return r;
}
inline F f_mul(F a, F b) {
  F r;
  HADAL_LANES r.v[i] = a.v[i] * b.v[i];
  return r;
}
inline F f_div(F a, F b) {
  F r;
  HADAL_LANES r.v[i] = a.v[i] / b.v[i];
  return r;
}
inline F f_fma(F a, F b, F c) {
  F r;
  HADAL_LANES r.v[i] = a.v[i] * b.v[i] + c.v[i];
  return r;
}
inline F f_max(F a, F b) {
  F r;
  HADAL_LANES r.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return r;
}  // b if one is NaN
inline F f_min(F a, F b) {
  F r;
  HADAL_LANES r.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return r;
}
inline F f_abs(F a) {
  F r;
  HADAL_LANES r.v[i] = as_float(as_bits(a.v[i]) & 0x7fffffffu);
  return r;
}
inline F f_neg(F a) {
  F r;
  HADAL_LANES r.v[i] = -a.v[i];
  return r;
}
inline F f_from_i(I a) {
  F r;
  HADAL_LANES r.v[i] = static_cast<float>(a.v[i]);
  return r;
}
/// Nearest even, for |a| < 2^22 (all that is asked here); anything else gives some number.
inline I f_round(F a) {
  I r;
  HADAL_LANES {
    const float shifted = a.v[i] + 12582912.0f;
    r.v[i] = static_cast<int32_t>(as_bits(shifted) - 0x4b400000u);
  }
  return r;
}
inline F f_pow2(I n) {
  F r;
  HADAL_LANES r.v[i] = as_float(static_cast<uint32_t>(n.v[i] + 127) << 23);
  return r;
}
inline I f_bits(F a) {
  I r;
  HADAL_LANES r.v[i] = static_cast<int32_t>(as_bits(a.v[i]));
  return r;
}
inline bool f_any_above(F a, F b) {
  bool any = false;
  HADAL_LANES any |= a.v[i] > b.v[i];
  return any;
}
inline F f_nan_to(F a, F with) {
  F r;
  HADAL_LANES r.v[i] = a.v[i] == a.v[i] ? a.v[i] : with.v[i];
  return r;
}
inline float f_hsum(F a) {
  return ((a.v[0] + a.v[4]) + (a.v[2] + a.v[6])) + ((a.v[1] + a.v[5]) + (a.v[3] + a.v[7]));
}
inline float f_hmax(F a) {
  float m = a.v[0];
  HADAL_LANES m = a.v[i] > m ? a.v[i] : m;
  return m;
}
inline double d_hsum(F a) {
  double s = 0;
  HADAL_LANES s += static_cast<double>(a.v[i]);
  return s;
}

template <typename T>
inline T lane(const void* p, int i) {
  T x;
  __builtin_memcpy(&x, static_cast<const uint8_t*>(p) + static_cast<uint64_t>(i) * sizeof(T),
                   sizeof(T));
  return x;
}
inline F f_from_f16(const void* p) {
  F r;
  HADAL_LANES r.v[i] = hadal::f16_to_f32(lane<uint16_t>(p, i));
  return r;
}
inline F f_from_bf16(const void* p) {
  F r;
  HADAL_LANES r.v[i] = hadal::bf16_to_f32(lane<uint16_t>(p, i));
  return r;
}
inline void f_to_f16(void* p, F a) {
  HADAL_LANES {
    const uint16_t h = hadal::f32_to_f16(a.v[i]);
    __builtin_memcpy(static_cast<uint8_t*>(p) + 2 * i, &h, 2);
  }
}
inline void f_to_bf16(void* p, F a) {
  HADAL_LANES {
    const uint16_t h = hadal::f32_to_bf16(a.v[i]);
    __builtin_memcpy(static_cast<uint8_t*>(p) + 2 * i, &h, 2);
  }
}
inline I i_load_u8(const uint8_t* p) {
  I r;
  HADAL_LANES r.v[i] = p[i];
  return r;
}
inline F f_from_e4m3(const uint8_t* p) {
  F r;
  HADAL_LANES r.v[i] = hadal::e4m3_to_f32(p[i]);
  return r;
}
/// Seven bits without a sign, 0x7f is 480.
inline F f_from_ue4m3(I bytes) {
  F r;
  HADAL_LANES r.v[i] = as_float(static_cast<uint32_t>(bytes.v[i]) << 20) * 0x1p120f;
  return r;
}
inline F f_from_e5m2(const uint8_t* p) {
  F r;
  HADAL_LANES r.v[i] = hadal::e5m2_to_f32(p[i]);
  return r;
}
/// 2^(e - 128), as MXFP4 halves its scales: 255 is no NaN there.
inline F f_from_e8m0_half(I exponents) {
  F r;
  HADAL_LANES {
    const auto e = static_cast<uint32_t>(exponents.v[i]);
    r.v[i] = as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  }
  return r;
}

inline I i_zero() {
  I r;
  HADAL_LANES r.v[i] = 0;
  return r;
}
inline I i_load(const uint8_t* p) {
  I r;
  HADAL_LANES r.v[i] = lane<int32_t>(p, i);
  return r;
}
inline I i_set(int32_t x) {
  I r;
  HADAL_LANES r.v[i] = x;
  return r;
}
inline I i_and(I a, I b) {
  I r;
  HADAL_LANES r.v[i] = a.v[i] & b.v[i];
  return r;
}
inline I i_or(I a, I b) {
  I r;
  HADAL_LANES r.v[i] = a.v[i] | b.v[i];
  return r;
}
inline I i_xor(I a, I b) {
  I r;
  HADAL_LANES r.v[i] = a.v[i] ^ b.v[i];
  return r;
}
inline I i_mul(I a, I b) {
  I r;
  HADAL_LANES r.v[i] = a.v[i] * b.v[i];
  return r;
}
inline I i_shift_right(I a, int bits) {  // zeros come in
  I r;
  HADAL_LANES r.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> bits);
  return r;
}
/// `a`, but zero where `test` is `value`.
inline I i_zero_where(I a, I test, int32_t value) {
  I r;
  HADAL_LANES r.v[i] = test.v[i] == value ? 0 : a.v[i];
  return r;
}
/// The f16 in the low, in the high half of each dword.
inline F low_f16(I a) {
  F r;
  HADAL_LANES r.v[i] = hadal::f16_to_f32(static_cast<uint16_t>(a.v[i] & 0xffff));
  return r;
}
inline F high_f16(I a) { return low_f16(i_shift_right(a, 16)); }
inline I i_add(I a, I b) {
  I r;
  HADAL_LANES r.v[i] = a.v[i] + b.v[i];
  return r;
}
inline I i_sub(I a, I b) {
  I r;
  HADAL_LANES r.v[i] = a.v[i] - b.v[i];
  return r;
}
inline I i_max(I a, I b) {
  I r;
  HADAL_LANES r.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return r;
}
template <int kBits>
inline I i_shl(I a) {
  I r;
  HADAL_LANES r.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << kBits);
  return r;
}
inline int32_t i_hmax(I a) {
  int32_t m = a.v[0];
  HADAL_LANES m = a.v[i] > m ? a.v[i] : m;
  return m;
}
inline int32_t i_hsum(I a) {
  int32_t s = 0;
  HADAL_LANES s += a.v[i];
  return s;
}
inline void i_to_s8(int8_t* p, I a) {
  HADAL_LANES {
    const int32_t x = a.v[i];
    p[i] = static_cast<int8_t>(x < -128 ? -128 : x > 127 ? 127 : x);
  }
}

inline B b_load(const uint8_t* p) {
  B r;
  HADAL_BYTES r.v[i] = p[i];
  return r;
}
inline B b_set(int x) {
  B r;
  HADAL_BYTES r.v[i] = static_cast<uint8_t>(x);
  return r;
}
inline B b_and(B a, B b) {
  B r;
  HADAL_BYTES r.v[i] = static_cast<uint8_t>(a.v[i] & b.v[i]);
  return r;
}
inline B b_or(B a, B b) {
  B r;
  HADAL_BYTES r.v[i] = static_cast<uint8_t>(a.v[i] | b.v[i]);
  return r;
}
template <int kBits>
inline B b_shift(B a) {  // within the byte: the users mask what other sets let cross
  B r;
  HADAL_BYTES r.v[i] = static_cast<uint8_t>(kBits > 0 ? a.v[i] << (kBits > 0 ? kBits : 0)
                                                      : a.v[i] >> (kBits < 0 ? -kBits : 0));
  return r;
}
inline B b_lut(const int8_t* table, B nibbles) {
  B r;
  HADAL_BYTES r.v[i] = static_cast<uint8_t>(table[nibbles.v[i] & 15]);
  return r;
}

inline B b_shift_right(B a, int bits) {
  B r;
  HADAL_BYTES r.v[i] = static_cast<uint8_t>(a.v[i] >> bits);
  return r;
}
/// w[g] gets bit 4g + v of row r's dword as bit 4 of its byte v.
inline void or_fifth_bits(const uint8_t* dwords, B* w) {
  for (int g = 0; g < 8; ++g) HADAL_BYTES {
      const auto bits = lane<uint32_t>(dwords, i / 4);
      w[g].v[i] = static_cast<uint8_t>(w[g].v[i] | ((bits >> (4 * g + i % 4)) & 1u) << 4);
    }
}
/// The four nibbles of the low half of each dword, a byte each.
inline B spread_nibbles(I a) {
  B r;
  HADAL_BYTES r.v[i] =
      static_cast<uint8_t>((static_cast<uint32_t>(a.v[i / 4]) >> (4 * (i % 4))) & 15u);
  return r;
}
/// out: dwords 0 … 3 from `offset` of 16 rows, each of all rows side by side.
inline void four_dwords(const uint8_t* const* rows, int64_t offset, uint8_t* out) {
  for (int j = 0; j < 4; ++j)
    for (int r = 0; r < 16; ++r)
      __builtin_memcpy(out + 64 * j + 4 * r, rows[r] + offset + 4 * j, 4);
}

constexpr int rows_at_once(int) { return 1; }
constexpr int kDotRows = 1;

template <int kBits, int kFirst, int kCount, int kRows, class Blocks>
inline void dots_u(const Blocks* b, const int8_t* q, I (&sum)[kRows][2]) {
  for (int r = 0; r < kRows; ++r)
    for (int h = 0; h < 2; ++h) {
      I s = i_zero();
      for (int g = kFirst; g < kFirst + kCount; ++g)
        for (int j = 0; j < 4; ++j)
          HADAL_LANES s.v[i] += b[h].w[g].v[4 * i + j] * q[32 * r + 4 * g + j];
      sum[r][h] = s;
    }
}
struct Signed {
  B w[8];
};
inline void prepare_signed(Signed&) {}
template <int kRows>
inline void dots_s(const Signed* const* b, const int8_t* q, const uint8_t*, I (&sum)[kRows][2]) {
  for (int r = 0; r < kRows; ++r)
    for (int h = 0; h < 2; ++h) {
      I s = i_zero();
      for (int g = 0; g < 8; ++g)
        for (int j = 0; j < 4; ++j)
          HADAL_LANES s.v[i] +=
              static_cast<int8_t>(b[h]->w[g].v[4 * i + j]) * q[32 * r + 4 * g + j];
      sum[r][h] = s;
    }
}

/// Pairs of int16 in one int32, low half first.
inline int32_t low16(int32_t x) { return static_cast<int16_t>(static_cast<uint32_t>(x) & 0xffffu); }
inline int32_t high16(int32_t x) { return x >> 16; }
inline int32_t make_pair(int32_t low, int32_t high) {
  return static_cast<int32_t>((static_cast<uint32_t>(low) & 0xffffu) |
                              (static_cast<uint32_t>(high) << 16));
}
inline I pair_mul(I pairs, int32_t pair) {
  I r;
  HADAL_LANES r.v[i] = low16(pairs.v[i]) * low16(pair) + high16(pairs.v[i]) * high16(pair);
  return r;
}
/// Bytes 0 and 1 of each dword, or 2 and 3, as int16.
inline I pairs_s8(I bytes, bool upper) {
  I r;
  const int shift = upper ? 16 : 0;
  HADAL_LANES {
    const uint32_t two = static_cast<uint32_t>(bytes.v[i]) >> shift;
    r.v[i] = make_pair(static_cast<int8_t>(two & 255u), static_cast<int8_t>((two >> 8) & 255u));
  }
  return r;
}
inline I low_of_pairs(I pairs) {
  I r;
  HADAL_LANES r.v[i] = low16(pairs.v[i]);
  return r;
}
inline I high_of_pairs(I pairs) {
  I r;
  HADAL_LANES r.v[i] = high16(pairs.v[i]);
  return r;
}
struct Scales {
  I first, second;
};
inline Scales split_pairs(I pairs) { return {low_of_pairs(pairs), high_of_pairs(pairs)}; }
template <int kBits, int kRows, class Blocks>
inline void dots_scaled(const Blocks* b, const int8_t* q, I (&sum)[kRows][2]) {
  I second[kRows][2];
  dots_u<kBits, 0, 4, kRows>(b, q, sum);
  dots_u<kBits, 4, 4, kRows>(b, q, second);
  for (int r = 0; r < kRows; ++r)
    for (int h = 0; h < 2; ++h)
      HADAL_LANES sum[r][h].v[i] =
          sum[r][h].v[i] * b[h].scales.first.v[i] + second[r][h].v[i] * b[h].scales.second.v[i];
}

// ---- two blocks of 32 values of one row

struct Y {
  uint8_t v[64];
};
struct YSum {
  int32_t half[4];
};
#define HADAL_VALUES for (int i = 0; i < 64; ++i)
inline Y y_load_two(const uint8_t* p, const uint8_t* q) {
  Y r;
  HADAL_VALUES r.v[i] = i < 32 ? p[i] : q[i - 32];
  return r;
}
inline Y y_load(const uint8_t* p) { return y_load_two(p, p + 32); }
inline Y y_set(int x) {
  Y r;
  HADAL_VALUES r.v[i] = static_cast<uint8_t>(x);
  return r;
}
inline Y y_and(Y a, Y b) {
  Y r;
  HADAL_VALUES r.v[i] = static_cast<uint8_t>(a.v[i] & b.v[i]);
  return r;
}
inline Y y_or(Y a, Y b) {
  Y r;
  HADAL_VALUES r.v[i] = static_cast<uint8_t>(a.v[i] | b.v[i]);
  return r;
}
template <int kBits>
inline Y y_shift(Y a) {  // to the left
  Y r;
  HADAL_VALUES r.v[i] = static_cast<uint8_t>(a.v[i] << kBits);
  return r;
}
inline Y y_shift_right(Y a, int bits) {
  Y r;
  HADAL_VALUES r.v[i] = static_cast<uint8_t>(a.v[i] >> bits);
  return r;
}
/// 32 bytes twice, shifted to the right by two counts: to be masked.
inline Y y_load_shifted(const uint8_t* p, int first, int second) {
  Y r;
  HADAL_VALUES r.v[i] = static_cast<uint8_t>(p[i % 32] >> (i < 32 ? first : second));
  return r;
}
/// 16 bytes each: the low nibbles, then the high ones.
inline Y y_nibbles(const uint8_t* p, const uint8_t* q) {
  Y r;
  HADAL_VALUES r.v[i] =
      static_cast<uint8_t>(((i < 32 ? p : q)[i % 16] >> (i % 32 < 16 ? 0 : 4)) & 15);
  return r;
}
/// Both nibbles of 16 bytes each in turn, low ones first.
inline Y y_alternating_nibbles(const uint8_t* p, const uint8_t* q) {
  Y r;
  HADAL_VALUES r.v[i] = static_cast<uint8_t>(((i < 32 ? p : q)[i % 32 / 2] >> (4 * (i % 2))) & 15);
  return r;
}
/// Bit k of 32 to bit 4 of byte k.
inline Y y_fifth_bits(const uint8_t* p, const uint8_t* q) {
  Y r;
  HADAL_VALUES r.v[i] =
      static_cast<uint8_t>(((lane<uint32_t>(i < 32 ? p : q, 0) >> (i % 32)) & 1u) << 4);
  return r;
}
inline Y y_lut(const int8_t* table, Y nibbles) {
  Y r;
  HADAL_VALUES r.v[i] = static_cast<uint8_t>(table[nibbles.v[i] & 15]);
  return r;
}
/// Swaps the second and the third 8 bytes of each.
inline Y y_swap_middle(Y a) {
  Y r;
  HADAL_VALUES r.v[i] = a.v[i % 32 / 8 == 1 ? i + 8 : i % 32 / 8 == 2 ? i - 8 : i];
  return r;
}
inline YSum y_dot(Y w, Y a) {
  YSum s{};
  HADAL_VALUES s.half[i / 16] += w.v[i] * static_cast<int8_t>(a.v[i]);
  return s;
}
/// Four rows of signed bytes times one of activations.
inline void y_four_dots_signed(const Y* w, Y a, YSum* s) {
  for (int r = 0; r < 4; ++r) {
    s[r] = {};
    HADAL_VALUES s[r].half[i / 16] += static_cast<int8_t>(w[r].v[i]) * static_cast<int8_t>(a.v[i]);
  }
}
/// The sums of four rows side by side: piece p of 16 bytes has those of half p % 2 of block p / 2.
template <int kMax>
inline Y y_four_rows(const YSum* s) {
  int32_t sums[16];
  for (int i = 0; i < 16; ++i) sums[i] = s[i % 4].half[i / 4];
  Y r;
  __builtin_memcpy(r.v, sums, sizeof(sums));
  return r;
}
/// The pieces p0 + p1, p2 + p3, q0 + q1, q2 + q3.
inline Y y_add_pieces(Y p, Y q) {
  int32_t from[32], sums[16];
  __builtin_memcpy(from, p.v, 64);
  __builtin_memcpy(from + 16, q.v, 64);
  for (int i = 0; i < 16; ++i) sums[i] = from[i / 4 * 8 + i % 4] + from[i / 4 * 8 + 4 + i % 4];
  Y r;
  __builtin_memcpy(r.v, sums, sizeof(sums));
  return r;
}
inline void y_store(uint8_t* p, Y a) { __builtin_memcpy(p, a.v, 64); }
/// kW / 4 pieces of 16 bytes, `next` bytes from one to the other.
inline I i_load_pieces(const uint8_t* p, int64_t next) {
  I r;
  for (int i = 0; i < kW / 4; ++i)
    for (int j = 0; j < 4; ++j) r.v[4 * i + j] = lane<int32_t>(p + i * next, j);
  return r;
}
#undef HADAL_VALUES

/// Multiply-adds of the peak loop.
constexpr int kPeakInt8 = 12 * 4 * kW * 2;
inline void int8_round(I* s, B w, B a) {
  for (int g = 0; g < 12; ++g) {
    asm volatile("" : "+m"(a));
    for (int j = 0; j < 4; ++j)
      HADAL_LANES s[g].v[i] += w.v[4 * i + j] * static_cast<int8_t>(a.v[4 * i + j]);
  }
}
inline void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }
#undef HADAL_LANES
#undef HADAL_BYTES

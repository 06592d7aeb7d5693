// Weights as the file holds them: eight numbers of a block at once. Formats as in ggml; the order of
// the roundings is that of src/base/quant.cc, so a number is the same on every chip.
//
// WEIGHT_TYPE, where it is defined, is the type of all weights of this build: the choice below is
// then made by the compiler.

__constant float kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                             1,    13,   25,  38,  53,  69,  89,  113};
// Twice the value of e2m1; the code of -0 gives 0.
__constant float kE2m1Doubled[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                     0, -1, -2, -3, -4, -6, -8, -12};

float half_at(const __global uchar* p) { return vload_half(0, (const __global half*)p); }
uint word_at(const __global uchar* p) { return as_uint(vload4(0, p)); }
// Bits 0 to 7 of a byte, one each.
uint8 bits_of(uint byte) { return (uint8)(byte) >> (uint8)(0, 1, 2, 3, 4, 5, 6, 7) & 1u; }
float8 looked_up(__constant float* table, uint8 i) {
  return (float8)(table[i.s0], table[i.s1], table[i.s2], table[i.s3], table[i.s4], table[i.s5],
                  table[i.s6], table[i.s7]);
}
// Values i to i + 7 of 32 nibbles: the low ones of 16 bytes, then the high ones.
uint8 nibbles(const __global uchar* p, int i) {
  return convert_uint8(vload8(0, p + (i & 15))) >> (uint8)(i < 16 ? 0 : 4) & 15u;
}
// Scale and minimum of one of 8 groups, 6 bits each, of Q4_K and Q5_K.
int2 scale_min(const __global uchar* p, int i) {
  if (i < 4) return (int2)(p[i] & 63, p[4 + i] & 63);
  const int both = p[4 + i];
  return (int2)((both & 15) | (p[i - 4] >> 2 & 48), both >> 4 | (p[i] >> 2 & 48));
}

// Blocks of 32; `i`: a multiple of 8 below 32.
float8 small_block(const __global uchar* p, int type, int i) {
  if (type == TYPE_MXFP4) {
    const uint e = p[0];
    return as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23) *
           looked_up(kE2m1Doubled, nibbles(p + 1, i));
  }
  const float d = half_at(p);
  if (type == TYPE_Q4_0) return d * (convert_float8(nibbles(p + 2, i)) - 8.0f);
  if (type == TYPE_Q4_1) return d * convert_float8(nibbles(p + 4, i)) + half_at(p + 2);
  if (type == TYPE_Q5_0)
    return d * (convert_float8(nibbles(p + 6, i) | bits_of(word_at(p + 2) >> i) << 4) - 16.0f);
  if (type == TYPE_Q5_1)
    return d * convert_float8(nibbles(p + 8, i) | bits_of(word_at(p + 4) >> i) << 4) +
           half_at(p + 2);
  if (type == TYPE_Q8_0) return convert_float8(vload8(0, (const __global char*)p + 2 + i)) * d;
  return d * looked_up(kIq4, nibbles(p + 2, i));  // IQ4_NL
}

float8 q3_k(const __global uchar* p, int i) {
  const int g = i / 16, at = 16 * (g % 2) + i % 16;
  const int low = p[96 + g % 8] >> (g < 8 ? 0 : 4) & 15, high = p[104 + g % 4] >> (2 * (g / 4)) & 3;
  const uint8 two = convert_uint8(vload8(0, p + 32 + 32 * (g / 8) + at)) >> (uint8)(2 * (g / 2 % 4));
  const uint8 third = convert_uint8(vload8(0, p + at)) >> (uint8)(g / 2) & 1u;
  return half_at(p + 108) * (float)((low | high << 4) - 32) *
         (convert_float8((two & 3u) | third << 2) - 4.0f);
}

float8 q6_k(const __global uchar* p, int i) {
  const int g = i / 32, at = i % 32;
  const uint8 low = convert_uint8(vload8(0, p + 64 * (g / 4) + 32 * (g % 2) + at)) >>
                    (uint8)(g % 4 < 2 ? 0 : 4);
  const uint8 high = convert_uint8(vload8(0, p + 128 + 32 * (g / 4) + at)) >> (uint8)(2 * (g % 4));
  const float d = half_at(p + 208) * (float)((const __global char*)p)[192 + i / 16];
  return d * (convert_float8((low & 15u) | (high & 3u) << 4) - 32.0f);
}

// Blocks of 256; `i`: a multiple of 8 below 256.
float8 super_block(const __global uchar* p, int type, int i) {
  if (type == TYPE_Q3_K) return q3_k(p, i);
  if (type == TYPE_Q6_K) return q6_k(p, i);
  const int g = i / 32, at = i % 32;
  if (type == TYPE_Q2_K) {
    const int own = i / 16;
    const uint8 q = convert_uint8(vload8(0, p + 16 + 32 * (i / 128) + at)) >> (uint8)(2 * (g % 4)) & 3u;
    return half_at(p + 80) * (float)(p[own] & 15) * convert_float8(q) -
           half_at(p + 82) * (float)(p[own] >> 4);
  }
  if (type == TYPE_IQ4_XS) {
    const uint low = (uint)p[4 + g / 2] >> (4 * (g % 2)) & 15u;
    const uint high = ((uint)p[2] | (uint)p[3] << 8) >> (2 * g) & 3u;
    return half_at(p) * (float)((int)(low | high << 4) - 32) *
           looked_up(kIq4, nibbles(p + 8 + 16 * g, at));
  }
  const int2 s = scale_min(p + 4, g);
  const __global uchar* values = p + (type == TYPE_Q5_K ? 48 : 16) + 32 * (g / 2) + at;
  uint8 q = convert_uint8(vload8(0, values)) >> (uint8)(4 * (g % 2)) & 15u;
  if (type == TYPE_Q5_K) q |= (convert_uint8(vload8(0, p + 16 + at)) >> (uint8)(g) & 1u) << 4;
  return half_at(p) * (float)s.x * convert_float8(q) - half_at(p + 2) * (float)s.y;
}

int block_bytes(int type) {
  switch (type) {
    case TYPE_Q4_0: case TYPE_IQ4_NL: return 18;
    case TYPE_Q4_1: return 20;
    case TYPE_Q5_0: return 22;
    case TYPE_Q5_1: return 24;
    case TYPE_Q8_0: return 34;
    case TYPE_MXFP4: return 17;
    case TYPE_Q2_K: return 84;
    case TYPE_Q3_K: return 110;
    case TYPE_Q4_K: return 144;
    case TYPE_Q5_K: return 176;
    case TYPE_Q6_K: return 210;
    default: return 136;  // IQ4_XS
  }
}

// Numbers [at, at + 8) of a weight whose rows lie side by side; of a block format `at` is a multiple
// of 8.
float8 weight_load8(const __global uchar* w, int type, long at) {
#ifdef WEIGHT_TYPE
  type = WEIGHT_TYPE;
#endif
  if (type <= TYPE_BF16) return plane_load8(w, type, at);
  const bool small = type < TYPE_Q2_K || type == TYPE_IQ4_NL || type == TYPE_MXFP4;
  const int values = small ? 32 : 256, i = (int)(at & (values - 1));
  const __global uchar* p = w + (at - i) / values * block_bytes(type);
  return small ? small_block(p, type, i) : super_block(p, type, i);
}

// The last n < 8 numbers of a row: only plain types have such.
float8 weight_load_part(const __global uchar* w, int type, long at, int n) {
  return plane_load_part(w, type, at, n);
}

float weight_load(const __global uchar* w, int type, long at) {
  if (type <= TYPE_BF16) return plane_load(w, type, at);
  float v[8];
  vstore8(weight_load8(w, type, at & ~7L), 0, v);
  return v[at & 7];
}

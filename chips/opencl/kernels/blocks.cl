// Weights in blocks: eight numbers of a block at once. Formats as in ggml and in blocks of the chip's own; the order of
// the roundings is that of src/base/quant.cc, so a number is the same on every chip.
//
// WEIGHT_TYPE, where it is defined, is the type of all weights of this build: the choice below is
// then made by the compiler.

__constant float kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                             1,    13,   25,  38,  53,  69,  89,  113};
// Twice the value of e2m1; the code of -0 gives 0.
__constant float kE2m1Doubled[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                     0, -1, -2, -3, -4, -6, -8, -12};
__constant float kE2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                              -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

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
    case TYPE_E2M1: return 17;
    case TYPE_E4M3_32: return 36;
    case TYPE_E4M3_128: case TYPE_I8_128: return 132;
    default: return 136;  // IQ4_XS
  }
}

// E4M3 as fp32. Built of its bits, so that a device without subnormal numbers gives the same.
float8 e4m3(uint8 b) {
  const uint8 body = b & 127u;
  const float8 tiny = convert_float8(body) * 0x1p-9f;  // below 2^-6: multiples of 2^-9
  const float8 normal = as_float8((body << 20) + (120u << 23));
  const float8 number = select(normal, tiny, as_int8(body) < 8);
  const uint8 bits = as_uint8(number) | (b & 128u) << 24;
  return as_float8(select(bits, (uint8)(0x7fc00000u), as_int8(body) == 127));
}

// The chip's own blocks (runtime/weights.cc makes them): a scale in fp32, then 32 or 128 numbers of 8
// bits; `i`: a multiple of 8.
float8 scaled_block(const __global uchar* p, int type, int i) {
  const float scale = *(const __global float*)p;
  if (type == TYPE_I8_128) return convert_float8(vload8(0, (const __global char*)p + 4 + i)) * scale;
  return e4m3(convert_uint8(vload8(0, p + 4 + i))) * scale;
}

// A scale of E8M0, then 32 numbers of four bits, two neighbours a byte.
float8 e2m1_block(const __global uchar* p, int i) {
  const uint e = p[0];
  const uint scale = e == 0 ? 0x00400000u : e == 255 ? 0x7fc00000u : e << 23;
  const uint4 both = convert_uint4(vload4(0, p + 1 + i / 2));
  const uint8 low = (uint8)(both.s0, both.s0, both.s1, both.s1, both.s2, both.s2, both.s3, both.s3);
  return looked_up(kE2m1, low >> (uint8)(0, 4, 0, 4, 0, 4, 0, 4) & 15u) * as_float(scale);
}

// Numbers [c, c + 8) of a row of a weight; but of a plain type `c` is a multiple of 8. What stands
// behind the last number of a row in its block is 0.
float8 weight_load8(const __global uchar* row, int type, int c) {
#ifdef WEIGHT_TYPE
  type = WEIGHT_TYPE;
#endif
  if (type <= TYPE_BF16) return plane_load8(row, type, c);
  const bool wide = type == TYPE_I8_128 || type == TYPE_E4M3_128;
  const bool small = type < TYPE_Q2_K || type == TYPE_IQ4_NL || type == TYPE_MXFP4 ||
                     type == TYPE_E4M3_32;
  const int values = wide ? 128 : small ? 32 : 256, i = c & (values - 1);
  const __global uchar* p = row + (long)(c / values) * block_bytes(type);
  if (type == TYPE_E2M1) return e2m1_block(p, i);
  if (wide || type == TYPE_E4M3_32) return scaled_block(p, type, i);
  return small ? small_block(p, type, i) : super_block(p, type, i);
}

// The last n < 8 numbers of a row.
float8 weight_load_part(const __global uchar* row, int type, int c, int n) {
#ifdef WEIGHT_TYPE
  type = WEIGHT_TYPE;
#endif
  return type <= TYPE_BF16 ? plane_load_part(row, type, c, n) : weight_load8(row, type, c);
}

float weight_load(const __global uchar* row, int type, int c) {
  if (type <= TYPE_BF16) return plane_load(row, type, c);
  float v[8];
  vstore8(weight_load8(row, type, c & ~7), 0, v);
  return v[c & 7];
}

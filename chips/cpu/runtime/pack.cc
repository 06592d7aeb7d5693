// Packing: from the formats' native blocks to panels of 16 rows. See docs/kernels/matmul.md for the
// layouts.
//
// Works on words of four values ("groups": values 4g … 4g+3 of a block of 32, one byte each), so
// that a value costs about one instruction and packing runs near the speed of memory. Formats as in
// ggml and OCP Microscaling.
#include <algorithm>
#include <cstring>

#include "runtime/weights.h"

namespace hadal::cpu {
namespace {

constexpr uint32_t kNibbles = 0x0f0f0f0fu, kTwos = 0x03030303u, kOnes = 0x01010101u;

uint32_t word(const uint8_t* p) {
  uint32_t w;
  std::memcpy(&w, p, 4);
  return w;
}
void put(uint8_t* p, uint32_t w) { std::memcpy(p, &w, 4); }

// A plane of 4, 2 or 1 bit of one row: words 64 bytes apart. `p` is at this row's word of the first
// vector.
void put4(uint8_t* p, const uint32_t g[8]) {
  for (int j = 0; j < 4; ++j) put(p + 64 * j, (g[j] & kNibbles) | ((g[j + 4] & kNibbles) << 4));
}
void put2(uint8_t* p, const uint32_t g[8], int shift) {
  for (int v = 0; v < 2; ++v) {
    uint32_t w = 0;
    for (int j = 0; j < 4; ++j) w |= ((g[2 * j + v] >> shift) & kTwos) << (2 * j);
    put(p + 64 * v, w);
  }
}
void put1(uint8_t* p, const uint32_t g[8], int shift) {
  uint32_t w = 0;
  for (int j = 0; j < 8; ++j) w |= ((g[j] >> shift) & kOnes) << j;
  put(p, w);
}

// 16 bytes of nibbles: the low ones first.
void nibbles32(const uint8_t* q, uint32_t g[8]) {
  for (int j = 0; j < 4; ++j) {
    const uint32_t w = word(q + 4 * j);
    g[j] = w & kNibbles;
    g[j + 4] = (w >> 4) & kNibbles;
  }
}
// 32 bytes of which one nibble each is meant.
void nibble_of_bytes(const uint8_t* q, int shift, uint32_t g[8]) {
  for (int j = 0; j < 8; ++j) g[j] = (word(q + 4 * j) >> shift) & kNibbles;
}
// 32 bits, bit k of value k, to bit 4 of the bytes.
void fifth_bits(uint32_t bits, uint32_t g[8]) {
  for (int j = 0; j < 8; ++j) g[j] |= ((((bits >> (4 * j)) & 15u) * 0x00204081u) & kOnes) << 4;
}

// Scale and minimum of block j in the 12 bytes of Q4_K and Q5_K.
void scale_min(const uint8_t* s, int j, uint8_t* scale, uint8_t* min) {
  if (j < 4) {
    *scale = s[j] & 63;
    *min = s[j + 4] & 63;
  } else {
    *scale = static_cast<uint8_t>((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4));
    *min = static_cast<uint8_t>((s[j + 4] >> 4) | ((s[j] >> 6) << 4));
  }
}
// The 16 six-bit scales of Q3_K, less 32.
void q3_scales(const uint8_t* s, int8_t out[16]) {
  const uint32_t a = word(s), b = word(s + 4), c = word(s + 8);
  const uint32_t w[4] = {(a & kNibbles) | ((c & kTwos) << 4),
                         (b & kNibbles) | (((c >> 2) & kTwos) << 4),
                         ((a >> 4) & kNibbles) | (((c >> 4) & kTwos) << 4),
                         ((b >> 4) & kNibbles) | (((c >> 6) & kTwos) << 4)};
  for (int j = 0; j < 16; ++j)
    out[j] = static_cast<int8_t>(static_cast<int>((w[j / 4] >> (8 * (j % 4))) & 63u) - 32);
}

// One row's part (r = 0 … 15) of one record. `src`: the native block or superblock.
using PackRow = void (*)(const uint8_t* src, uint8_t* rec, int r);

void pack_q4_0(const uint8_t* s, uint8_t* rec, int r) {
  uint32_t g[8];
  nibbles32(s + 2, g);
  std::memcpy(rec + 2 * r, s, 2);
  put4(rec + kHalves + 4 * r, g);
}
void pack_q4_1(const uint8_t* s, uint8_t* rec, int r) {
  uint32_t g[8];
  nibbles32(s + 4, g);
  std::memcpy(rec + 2 * r, s, 2);
  std::memcpy(rec + kHalves + 2 * r, s + 2, 2);
  put4(rec + 2 * kHalves + 4 * r, g);
}
void pack_q5_0(const uint8_t* s, uint8_t* rec, int r) {
  uint32_t g[8];
  nibbles32(s + 6, g);
  fifth_bits(word(s + 2), g);
  std::memcpy(rec + 2 * r, s, 2);
  put4(rec + kHalves + 4 * r, g);
  put1(rec + kHalves + kPlane4 + 4 * r, g, 4);
}
void pack_q5_1(const uint8_t* s, uint8_t* rec, int r) {
  uint32_t g[8];
  nibbles32(s + 8, g);
  fifth_bits(word(s + 4), g);
  std::memcpy(rec + 2 * r, s, 2);
  std::memcpy(rec + kHalves + 2 * r, s + 2, 2);
  put4(rec + 2 * kHalves + 4 * r, g);
  put1(rec + 2 * kHalves + kPlane4 + 4 * r, g, 4);
}
void pack_q8_0(const uint8_t* s, uint8_t* rec, int r) {
  std::memcpy(rec + 2 * r, s, 2);
  for (int g = 0; g < 8; ++g) std::memcpy(rec + kHalves + 64 * g + 4 * r, s + 2 + 4 * g, 4);
}
void pack_q4_k(const uint8_t* s, uint8_t* rec, int r) {
  std::memcpy(rec + 2 * r, s, 2);
  std::memcpy(rec + kHalves + 2 * r, s + 2, 2);
  for (int i = 0; i < 8; ++i) {
    uint8_t* p = rec + 2 * kHalves + i * (32 + kPlane4);
    uint32_t g[8];
    scale_min(s + 4, i, p + r, p + 16 + r);
    nibble_of_bytes(s + 16 + 32 * (i / 2), 4 * (i % 2), g);
    put4(p + 32 + 4 * r, g);
  }
}
void pack_q5_k(const uint8_t* s, uint8_t* rec, int r) {
  std::memcpy(rec + 2 * r, s, 2);
  std::memcpy(rec + kHalves + 2 * r, s + 2, 2);
  for (int i = 0; i < 8; ++i) {
    uint8_t* p = rec + 2 * kHalves + i * (32 + kPlane4 + kPlane1);
    uint32_t g[8];
    scale_min(s + 4, i, p + r, p + 16 + r);
    nibble_of_bytes(s + 48 + 32 * (i / 2), 4 * (i % 2), g);
    for (int j = 0; j < 8; ++j) g[j] |= ((word(s + 16 + 4 * j) >> i) & kOnes) << 4;
    put4(p + 32 + 4 * r, g);
    put1(p + 32 + kPlane4 + 4 * r, g, 4);
  }
}
void pack_q6_k(const uint8_t* s, uint8_t* rec, int r) {
  std::memcpy(rec + 2 * r, s + 208, 2);
  for (int i = 0; i < 8; ++i) {
    uint8_t* p = rec + kHalves + i * (32 + kPlane4 + kPlane2);
    const uint8_t* low = s + 64 * (i / 4) + 32 * (i % 2);
    const uint8_t* high = s + 128 + 32 * (i / 4);
    uint32_t g[8];
    nibble_of_bytes(low, 4 * (i % 4 / 2), g);
    for (int j = 0; j < 8; ++j) g[j] |= ((word(high + 4 * j) >> (2 * (i % 4))) & kTwos) << 4;
    std::memcpy(p + 2 * r, s + 192 + 2 * i, 2);
    put4(p + 32 + 4 * r, g);
    put2(p + 32 + kPlane4 + 4 * r, g, 4);
  }
}
void pack_q3_k(const uint8_t* s, uint8_t* rec, int r) {
  int8_t scales[16];
  q3_scales(s + 96, scales);
  std::memcpy(rec + 2 * r, s + 108, 2);
  for (int i = 0; i < 8; ++i) {
    uint8_t* p = rec + kHalves + i * (32 + kPlane2 + kPlane1);
    uint32_t g[8];
    for (int j = 0; j < 8; ++j)
      g[j] = ((word(s + 32 + 32 * (i / 4) + 4 * j) >> (2 * (i % 4))) & kTwos) |
             (((word(s + 4 * j) >> i) & kOnes) << 2);
    std::memcpy(p + 2 * r, scales + 2 * i, 2);
    put2(p + 32 + 4 * r, g, 0);
    put1(p + 32 + kPlane2 + 4 * r, g, 2);
  }
}
void pack_q2_k(const uint8_t* s, uint8_t* rec, int r) {
  std::memcpy(rec + 2 * r, s + 80, 2);
  std::memcpy(rec + kHalves + 2 * r, s + 82, 2);
  for (int i = 0; i < 8; ++i) {
    uint8_t* p = rec + 2 * kHalves + i * (32 + kPlane2);
    uint32_t g[8];
    for (int j = 0; j < 8; ++j)
      g[j] = (word(s + 16 + 32 * (i / 4) + 4 * j) >> (2 * (i % 4))) & kTwos;
    std::memcpy(p + 2 * r, s + 2 * i, 2);
    put2(p + 32 + 4 * r, g, 0);
  }
}
void pack_iq4_xs(const uint8_t* s, uint8_t* rec, int r) {
  std::memcpy(rec + 2 * r, s, 2);
  const uint32_t high = word(s + 2) & 0xffffu;
  for (int i = 0; i < 8; ++i) {
    uint8_t* p = rec + kHalves + i * (16 + kPlane4);
    const uint32_t scale =
        ((s[4 + i / 2] >> (4 * (i % 2))) & 15u) | (((high >> (2 * i)) & 3u) << 4);
    uint32_t g[8];
    nibbles32(s + 8 + 16 * i, g);
    p[r] = static_cast<uint8_t>(static_cast<int>(scale) - 32);
    put4(p + 16 + 4 * r, g);
  }
}
void pack_mxfp4(const uint8_t* s, uint8_t* rec, int r) {
  uint32_t g[8];
  nibbles32(s + 1, g);
  rec[r] = s[0];
  put4(rec + 16 + 4 * r, g);
}
// A native block is two records: 64 values, 4 scales, each 16 values in 8 bytes, low nibbles first.
void pack_nvfp4(const uint8_t* s, uint8_t* rec, int r) {
  for (int i = 0; i < 2; ++i, rec += kLayoutInfo[kNVFP4].record_bytes) {
    uint32_t g[8];
    for (int h = 0; h < 2; ++h) {
      const uint8_t scale = s[2 * i + h];  // its sign is not looked at; 0x7f is zero, 0xff is 480
      rec[16 * h + r] = scale == 0x7f ? 0 : scale & 0x7f;
      for (int j = 0; j < 2; ++j) {
        const uint32_t w = word(s + 4 + 8 * (2 * i + h) + 4 * j);
        g[4 * h + j] = w & kNibbles;
        g[4 * h + 2 + j] = (w >> 4) & kNibbles;
      }
    }
    put4(rec + 32 + 4 * r, g);
  }
}

struct Packer {
  Layout layout;
  PackRow row;
  int native_bytes;  ///< of what one call packs
  int records;       ///< that one call writes
};
constexpr Packer kPackers[] = {
    {kQ4_0, pack_q4_0, 18, 1},   {kQ4_1, pack_q4_1, 20, 1},   {kQ5_0, pack_q5_0, 22, 1},
    {kQ5_1, pack_q5_1, 24, 1},   {kQ8_0, pack_q8_0, 34, 1},   {kQ4_K, pack_q4_k, 144, 1},
    {kQ5_K, pack_q5_k, 176, 1},  {kQ6_K, pack_q6_k, 210, 1},  {kQ3_K, pack_q3_k, 110, 1},
    {kQ2_K, pack_q2_k, 84, 1},   {kIQ4_NL, pack_q4_0, 18, 1}, {kIQ4_XS, pack_iq4_xs, 136, 1},
    {kMXFP4, pack_mxfp4, 17, 1}, {kNVFP4, pack_nvfp4, 36, 2},
};

// E2M1 pairs, low nibble first, one E8M0 scale for 32 values: to the MXFP4 layout.
void pack_f4(const uint8_t* row, const uint8_t* scales, int64_t k, uint8_t* panel, int r) {
  for (int64_t b = 0; b < k / kBlock; ++b, panel += kLayoutInfo[kMXFP4].record_bytes) {
    uint32_t g[8];
    for (int j = 0; j < 8; ++j) {
      const uint32_t lo = row[16 * b + 2 * j], hi = row[16 * b + 2 * j + 1];
      g[j] = (lo & 15u) | ((lo >> 4) << 8) | ((hi & 15u) << 16) | ((hi >> 4) << 24);
    }
    panel[r] = scales[b];
    put4(panel + 16 + 4 * r, g);
  }
}

template <typename T>
void interleave(const uint8_t* const rows[kPanel], int64_t k, uint8_t* panel) {
  constexpr int64_t kStrip = 64 / static_cast<int64_t>(sizeof(T));  // a cache line of each row
  for (int64_t from = 0; from < k; from += kStrip) {
    const int64_t n = std::min(kStrip, k - from);
    for (int r = 0; r < kPanel; ++r) {
      if (!rows[r]) continue;
      T strip[kStrip];
      std::memcpy(strip, rows[r] + from * static_cast<int64_t>(sizeof(T)),
                  static_cast<size_t>(n) * sizeof(T));
      for (int64_t i = 0; i < n; ++i)
        std::memcpy(panel + ((from + i) * kPanel + r) * static_cast<int64_t>(sizeof(T)), &strip[i],
                    sizeof(T));
    }
  }
}

}  // namespace

std::optional<Layout> packed_layout(const hadal_weight_desc& d) {
  const bool scaled = d.scale_dtype != HADAL_DTYPE_NONE;
  if (d.dtype == HADAL_F4_E2M1 && d.scale_dtype == HADAL_F8_E8M0 && d.scale_block_rows == 1 &&
      d.scale_block_cols == kBlock && d.cols % kBlock == 0)
    return kMXFP4;
  if (d.dtype == HADAL_F8_E4M3) return kE4M3;
  if (d.dtype == HADAL_F8_E5M2) return kE5M2;
  if (scaled) return std::nullopt;
  switch (d.dtype) {
    case HADAL_F32:
      return kF32;
    case HADAL_F16:
      return kF16;
    case HADAL_BF16:
      return kBF16;
    case HADAL_Q4_0:
      return kQ4_0;
    case HADAL_Q4_1:
      return kQ4_1;
    case HADAL_Q5_0:
      return kQ5_0;
    case HADAL_Q5_1:
      return kQ5_1;
    case HADAL_Q8_0:
      return kQ8_0;
    case HADAL_Q4_K:
      return kQ4_K;
    case HADAL_Q5_K:
      return kQ5_K;
    case HADAL_Q6_K:
      return kQ6_K;
    case HADAL_Q3_K:
      return kQ3_K;
    case HADAL_Q2_K:
      return kQ2_K;
    case HADAL_IQ4_NL:
      return kIQ4_NL;
    case HADAL_IQ4_XS:
      return kIQ4_XS;
    case HADAL_MXFP4:
      return kMXFP4;
    case HADAL_NVFP4:
      return kNVFP4;
    default:
      return std::nullopt;
  }
}

int64_t packed_panel_bytes(Layout layout, int64_t k) {
  if (!is_int(layout)) return (k * kPanel * kFloatBytes[layout - kIntLayouts] + 63) / 64 * 64;
  const LayoutInfo& info = kLayoutInfo[layout];
  return (k / kBlock / info.record_blocks * info.record_bytes + 63) / 64 * 64;
}

void pack_panel(Layout layout, DType dtype, const uint8_t* const rows[kPanel],
                const uint8_t* const scales[kPanel], int64_t k, uint8_t* panel) {
  if (!is_int(layout)) {
    switch (kFloatBytes[layout - kIntLayouts]) {
      case 4:
        return interleave<uint32_t>(rows, k, panel);
      case 2:
        return interleave<uint16_t>(rows, k, panel);
      default:
        return interleave<uint8_t>(rows, k, panel);
    }
  }
  if (dtype == HADAL_F4_E2M1) {
    for (int r = 0; r < kPanel; ++r)
      if (rows[r]) pack_f4(rows[r], scales[r], k, panel, r);
    return;
  }
  const Packer& packer = kPackers[layout];
  const LayoutInfo& info = kLayoutInfo[layout];
  const int64_t calls = k / kBlock / info.record_blocks / packer.records;
  for (int64_t i = 0; i < calls; ++i)
    for (int r = 0; r < kPanel; ++r)
      if (rows[r])
        packer.row(rows[r] + i * packer.native_bytes,
                   panel + i * packer.records * info.record_bytes, r);
}

}  // namespace hadal::cpu

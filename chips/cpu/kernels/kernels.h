// The table of kernels: what one instruction set gives to the cpu chip, as plain function pointers.
//
// A file of kernels is compiled with its own machine flags; it includes this header, intrinsics,
// and nothing that instantiates a standard template. The layouts that both sides must know (panels,
// quantised activations) are here; docs/kernels/matmul.md explains them. Nothing in a
// kernel depends on the number of rows, threads or neighbours: that is the rule of bits.
#pragma once

#include <cstdint>

/// Before a loop over the groups of a block that must be unrolled whole.
#if defined(__clang__)
#define HADAL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HADAL_UNROLL _Pragma("GCC unroll 16")
#endif

namespace hadal::cpu {

/// Layouts of weights that a kernel reads, integers first.
enum Layout : uint32_t {
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ3_K,
  kQ2_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
  kNVFP4,
  kF4_E2M1,  ///< E2M1 pairs, an E8M0 scale for 32 of them in rows of their own
  kIntLayouts,
  kF32 = kIntLayouts,
  kF16,
  kBF16,
  kE4M3,
  kE5M2,
  kLayouts
};
constexpr int kFloatLayouts = kLayouts - kIntLayouts;
constexpr int kCacheLayouts =
    kE4M3 - kIntLayouts;  ///< float layouts of cache planes, the first ones
constexpr bool is_int(Layout layout) { return layout < kIntLayouts; }

constexpr int kPanel = 16;  ///< output rows of a panel
constexpr int kBlock = 32;  ///< values of a block of activations
constexpr int kTile =
    32;  ///< rows of a tile of activations: its block fits in 2 KiB, the accumulators in L1
/// So few rows are multiplied in place, from the file's own rows; more of them are worth a panel,
/// or, by float weights, rows that are decoded once.
constexpr int64_t kInPlaceRows = 2, kFloatInPlaceRows = 4;

/// Bytes of one (row, block) of quantised activations: 32 int8, scale d, d * sum, two int16 sums
/// of 16. A tile of `rows` rows stores a block after the other, and in a block q[rows][32],
/// d[rows], dsum[rows], pair[rows]. Rows that are multiplied in place are stored one after the
/// other, as q[blocks][32], d[blocks], dsum[blocks], pair[blocks].
constexpr int64_t kActBytes = 32 + 4 + 4 + 4;
/// Where a row's block goes, in bytes: its 32 int8 and those of the next block; d and that of the
/// next block; from d to dsum to pair.
struct ActPlace {
  uint8_t *q, *numbers;
  int64_t next_q, next_numbers, plane;
};

/// Dwords of a record of the file, from `offset` on.
struct DwordRun {
  int offset, count;
};
/// A record of the file: so many blocks of 32 values and bytes; the dwords that hold its scales
/// ("heads") and its numbers ("quants"). A panel has of each record the heads, then the quants,
/// each dword of 16 rows side by side. kF4_E2M1: its head comes from the row of scales.
struct LayoutInfo {
  int blocks, bytes;
  DwordRun heads[2], quants;
  [[nodiscard]] constexpr int head_count() const { return heads[0].count + heads[1].count; }
  [[nodiscard]] constexpr int panel_bytes() const {
    return (head_count() + quants.count) * 4 * kPanel;
  }
};
constexpr LayoutInfo kLayoutInfo[kIntLayouts] = {
    {1, 18, {{0, 1}, {0, 0}}, {2, 4}},     // Q4_0: f16 d in the low half
    {1, 20, {{0, 1}, {0, 0}}, {4, 4}},     // Q4_1: f16 d, f16 min
    {1, 22, {{0, 1}, {0, 0}}, {2, 5}},     // Q5_0: d; 32 fifth bits, then nibbles
    {1, 24, {{0, 1}, {0, 0}}, {4, 5}},     // Q5_1: d, min; 32 fifth bits, then nibbles
    {1, 34, {{0, 1}, {0, 0}}, {2, 8}},     // Q8_0: d in the low half
    {8, 144, {{0, 4}, {0, 0}}, {16, 32}},  // Q4_K: d, dmin, 12 bytes of scales and minima
    {8, 176, {{0, 4}, {0, 0}}, {16, 40}},  // Q5_K: the same; 32 bytes of fifth bits, then nibbles
    {8, 210, {{192, 4}, {206, 1}}, {0, 48}},  // Q6_K: 16 int8 scales, d in the high half
    {8, 110, {{96, 3}, {106, 1}}, {0, 24}},   // Q3_K: 16 scales of 6 bits, d in the high half
    {8, 84, {{0, 4}, {80, 1}}, {16, 16}},     // Q2_K: 16 nibbles scale | min, d, dmin
    {1, 18, {{0, 1}, {0, 0}}, {2, 4}},        // IQ4_NL
    {8, 136, {{0, 2}, {0, 0}}, {8, 32}},      // IQ4_XS: d, high bits of the scales, low ones
    {1, 17, {{0, 1}, {0, 0}}, {1, 4}},        // MXFP4: exponent in the low byte
    {2, 36, {{0, 1}, {0, 0}}, {4, 8}},        // NVFP4: four UE4M3 scales
    {1, 16, {{0, 1}, {0, 0}}, {0, 4}},        // F4_E2M1
};
constexpr int kFloatBytes[kFloatLayouts] = {4, 2, 2, 1, 1};

/// 16 rows of weights as the file holds them; `scales` only for kF4_E2M1. Rows that a matrix does
/// not have repeat one that it has.
struct NativePanel {
  const uint8_t* rows[kPanel];
  const uint8_t* scales[kPanel];
};

/// In place, sums and scales take turns: so many blocks of 16 rows, whose sums stay in L1.
constexpr int64_t kInPlaceBlocks = 64;
/// Worker memory of in_place, in bytes: the sums of both halves of the blocks of 16 rows, and
/// heads.
constexpr int64_t kInPlaceBytes = (kInPlaceBlocks + 4) * kPanel * 4 * (2 * kInPlaceRows + 1);

/// Float weights: K is split so that a few rows of both sides stay in L1.
constexpr int64_t kFloatDepth = 512;

struct NormArgs {
  const float* x;
  const float* w;   ///< may be null
  const float* b;   ///< may be null
  float* residual;  ///< may be null
  float* out;
  int64_t n;
  float eps;
  bool layer;
};

constexpr int kAttentionTile = 64;  ///< positions

/// out[queries][64]: q . k of the positions of `groups` groups of 16, whose keys lie side by side,
/// [group][dim][16]; the rest of the 64 is untouched.
struct ScoresArgs {
  const float* q;
  int64_t queries, dim;
  const float* keys;
  int64_t groups;
  float* out;
};
/// out[queries][dim] = sums over `count` positions of p[query][position] values[position], rows of
/// out `stride` floats apart, whose end past dim is garbage. `next` (may be null): rows that will
/// be read soon. temp: [64][stride].
struct WeighArgs {
  const float* p;  ///< rows 64 apart
  int64_t queries, count, dim;
  const uint8_t* const* values;
  const uint8_t* const* next;
  float* temp;
  float* out;
  int64_t stride;
};
struct Best {
  float value;
  int32_t index;
};

struct KernelTable {
  const char* name;
  const char* instruction_sets;  ///< what it needs, for device_info

  // ---- matmul ----
  /// A row of activations: 32 values a block to int8, q = nearest(x * 127 / amax).
  void (*quantize)(const float* x, int64_t k, const ActPlace& to);
  /// The dwords of 16 rows of `records` records side by side: what int_panel reads.
  void (*make_panel[kIntLayouts])(const NativePanel& native, int64_t records, uint8_t* panel);
  /// out[rows][16] = panel (of `blocks` blocks) times a tile of activations. last_row (may be
  /// null): the last row that the panel was made of; what lies behind it is fetched for the next
  /// panel.
  void (*int_panel[kIntLayouts])(const uint8_t* panel, int64_t blocks, const uint8_t* tile,
                                 int64_t rows, const uint8_t* last_row, float* out);
  /// The same with the same bits from the file's own rows; `acts`: at most kInPlaceRows rows,
  /// stored one after the other. temp: kInPlaceBytes.
  void (*in_place[kIntLayouts])(const NativePanel& native, int64_t blocks, const uint8_t* acts,
                                int64_t rows, uint8_t* temp, float* out);
  /// k floats of a row of weights.
  void (*decode[kFloatLayouts])(const uint8_t* w, int64_t k, float* out);
  /// out[rows][16] = `count` rows of weights times rows of x (stride in floats), by lanes along K.
  /// scales (may be null): of each row of weights, a float for each `scale_cols` values.
  void (*dot[kFloatLayouts])(const uint8_t* const* w, int64_t count, const float* const* scales,
                             int64_t scale_cols, int64_t k, const float* x, int64_t stride,
                             int64_t rows, float* out);
  /// out[n] = acc[n] (+ bias[n]) (+ add[n]), n <= 16
  void (*finish)(const float* acc, const float* bias, const float* add, float* out, int64_t n);

  // ---- row by row ----
  void (*norm)(const NormArgs& args);
  void (*swiglu)(const float* gate, const float* up, float weight, float clamp, float* out,
                 int64_t n);
  void (*add)(float* x, const float* y, int64_t n);
  void (*scale)(float* x, float factor, int64_t n);
  /// pairs (i, i + half) of x, or (2i, 2i+1)
  void (*rope)(float* x, const float* cos, const float* sin, int64_t half, bool interleaved);
  void (*f32_to_f16)(const float* x, uint16_t* out, int64_t n);
  void (*f32_to_bf16)(const float* x, uint16_t* out, int64_t n);

  // ---- attention ----
  /// out[k][16] = k values of 16 rows. `next` (may be null): rows that will be read soon.
  void (*side_by_side[kCacheLayouts])(const uint8_t* const* rows, const uint8_t* const* next,
                                      int64_t k, float* out);
  void (*scores)(const ScoresArgs& args);
  void (*weigh[kCacheLayouts])(const WeighArgs& args);
  /// out[64] = sum over h, ascending, of weight[h] max(0, products[h][64]); a NaN counts as 0.
  void (*relu_weigh)(const float* products, const float* weight, int64_t heads, float* out);
  /// s[64], of which [lo, hi) are seen, becomes exp(s - max), the others 0; returns the maximum,
  /// *sum the sum.
  float (*softmax)(float* s, int64_t lo, int64_t hi, float* sum);
  /// o = o * a + t * b
  void (*merge)(float* o, const float* t, float a, float b, int64_t n);
  float (*exp1)(float x);

  // ---- sample ----
  Best (*argmax)(const float* x, int64_t n);  ///< lowest index of the largest; NaN counts as -inf
  double (*sum_exp)(const float* x, int64_t n,
                    float max);  ///< sum of exp(x - max); NaN counts as -inf
  /// First index >= from with x[index] > bound, or n.
  int64_t (*next_above)(const float* x, int64_t from, int64_t n, float bound);

  // ---- profile ----
  uint64_t (*read)(const void* data, int64_t bytes);
  int64_t (*int8_peak)(int64_t rounds);  ///< returns operations done
  int64_t (*fp32_peak)(int64_t rounds);
};

namespace portable {
extern const KernelTable kTable;
}
#if defined(__x86_64__)
namespace avx2 {
extern const KernelTable kTable;
}
namespace avx_vnni {
extern const KernelTable kTable;
}
namespace avx512 {
extern const KernelTable kTable;
}
#endif

}  // namespace hadal::cpu

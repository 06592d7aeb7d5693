// The table of kernels: what one instruction set gives to the cpu chip, as plain function pointers.
//
// A file of kernels is compiled with its own machine flags; it includes this header, intrinsics,
// and nothing that instantiates a standard template. The layouts that both sides must know (packed
// panels, quantised activations) are here; docs/kernels/matmul.md explains them. Nothing in a
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

/// Layouts of packed weights. One panel holds 16 output rows, K-major.
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
  kIntLayouts,
  kF32 = kIntLayouts,
  kF16,
  kBF16,
  kE4M3,
  kE5M2,
  kLayouts
};
constexpr int kFloatLayouts = kLayouts - kIntLayouts;
constexpr bool is_int(Layout layout) { return layout < kIntLayouts; }

constexpr int kPanel = 16;  ///< output rows of a panel
constexpr int kBlock = 32;  ///< values of a block of activations
constexpr int kTile =
    32;  ///< rows of a tile of activations: its block fits in 2 KiB, the accumulators in L1
constexpr int kPartials = 4;  ///< partial sums of a float dot product: value k goes to k mod 4

/// Bytes of one (row, block) of quantised activations: 32 int8, scale d, d * sum, two int16 sums
/// of 16. A tile of `rows` rows stores a block after the other, and in a block q[rows][32],
/// d[rows], dsum[rows], pair[rows].
constexpr int64_t kActBytes = 32 + 4 + 4 + 4;

/// Bytes of a record (16 rows, `record_blocks` blocks of 32 values) of an integer layout.
constexpr int kPlane4 = 256, kPlane2 = 128, kPlane1 = 64, kHalves = 32;
struct LayoutInfo {
  int record_blocks;
  int record_bytes;
};
constexpr LayoutInfo kLayoutInfo[kIntLayouts] = {
    {1, kHalves + kPlane4},                           // Q4_0: d, 4 bit
    {1, 2 * kHalves + kPlane4},                       // Q4_1: d, m, 4 bit
    {1, kHalves + kPlane4 + kPlane1},                 // Q5_0
    {1, 2 * kHalves + kPlane4 + kPlane1},             // Q5_1
    {1, kHalves + 512},                               // Q8_0
    {8, 2 * kHalves + 8 * (32 + kPlane4)},            // Q4_K: d, dmin, 8 of (scale, min, 4 bit)
    {8, 2 * kHalves + 8 * (32 + kPlane4 + kPlane1)},  // Q5_K
    {8,
     kHalves + 8 * (32 + kPlane4 + kPlane2)},  // Q6_K: d, 8 of (16 pairs of scales, 4 bit, 2 bit)
    {8, kHalves + 8 * (32 + kPlane2 + kPlane1)},  // Q3_K
    {8, 2 * kHalves +
            8 * (32 + kPlane2)},  // Q2_K: d, dmin, 8 of (16 pairs of nibbles scale | min, 2 bit)
    {1, kHalves + kPlane4},       // IQ4_NL
    {8, kHalves + 8 * (16 + kPlane4)},  // IQ4_XS
    {1, 16 + kPlane4},                  // MXFP4: exponent
    {1, 32 + kPlane4},                  // NVFP4: 16 pairs of UE4M3 scales
};
constexpr int kFloatBytes[kFloatLayouts] = {4, 2, 2, 1, 1};

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

/// Queries of one attention task against one tile of at most 64 positions; all queries see all of
/// [0, count).
constexpr int kAttentionTile = 64;
struct Best {
  float value;
  int32_t index;
};

struct KernelTable {
  const char* name;
  const char* instruction_sets;  ///< what it needs, for device_info

  // ---- matmul ----
  /// Row m of a tile of `rows` rows: 32 values a block to int8, q = nearest(x * 127 / amax).
  void (*quantize)(const float* x, int64_t k, uint8_t* tile, int64_t rows, int64_t m);
  /// out[rows][16] = packed panel (of `blocks` blocks) times a tile of activations.
  void (*int_panel[kIntLayouts])(const uint8_t* panel, int64_t blocks, const uint8_t* tile,
                                 int64_t rows, float* out);
  /// acc[rows][kPartials][16] += panel of k values times rows of x (stride in floats); k starts at
  /// a multiple of kPartials.
  void (*float_panel[kFloatLayouts])(const uint8_t* panel, int64_t k, const float* x,
                                     int64_t stride, int64_t rows, float* acc);
  /// out[rows][16] = the partial sums as a tree; with scale[16] (may be null): out += scale * tree.
  void (*fold)(const float* acc, int64_t rows, const float* scale, float* out);
  /// 16 rows of k floats (row-major, stride in floats) to a K-major panel.
  void (*transpose)(const float* rows, int64_t stride, int64_t k, float* panel);
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
  void (*f16_to_f32)(const uint16_t* x, float* out, int64_t n);
  void (*bf16_to_f32)(const uint16_t* x, float* out, int64_t n);

  // ---- attention ----
  /// s[q][64] = scale * q . k for the `count` rows of k; the rest of the 64 is untouched.
  void (*scores)(const float* q, int64_t q_stride, int64_t queries, const float* k, int64_t dim,
                 int64_t count, float scale, float* s);
  /// out[64] = sum over h, ascending, of weight[h] max(0, products[h][64]); a NaN counts as 0.
  void (*relu_weigh)(const float* products, const float* weight, int64_t heads, float* out);
  /// s[64], of which [lo, hi) are seen, becomes exp(s - max), the others 0; returns the maximum,
  /// *sum the sum.
  float (*softmax)(float* s, int64_t lo, int64_t hi, float* sum);
  /// o[q][dim] = sum over j in [lo, hi) of p[q][j] v[j]
  void (*weigh)(const float* p, int64_t queries, const float* v, int64_t dim, int64_t lo,
                int64_t hi, float* o, int64_t o_stride);
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

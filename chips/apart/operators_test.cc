// The operators of this folder against those of chips/ref in the same class of numerics.
#include "operators.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <vector>

#include "base/dtype.h"
#include "base/floats.h"
#include "memory.h"
#include "planes.h"
#include "weights.h"

namespace hadal::apart {
namespace {

/// Numbers between -1 and 1 that look random and never change.
std::vector<float> numbers(size_t count, uint32_t seed) {
  std::vector<float> values(count);
  for (float& v : values) {
    seed = seed * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
  }
  return values;
}

/// A call whose operands lie in host memory, for this chip and for ref.
class Case {
 public:
  Case(uint32_t id, hadal_numerics numerics) {
    op.id = id;
    call.op = &op;
    call.error = &error;
    call.rounding = {numerics, 0};
  }
  ~Case() {
    for (hadal_weight* w : weights_) weight_destroy(w);
  }
  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;

  template <typename T>
  host_chip::View& set(uint32_t operand, std::initializer_list<int64_t> shape,
                       const std::vector<T>& values, hadal_dtype dtype) {
    host_chip::View& v = call.operands[operand];
    memory_.emplace_back(values.size() * sizeof(T));
    std::memcpy(memory_.back().data(), values.data(), memory_.back().size());
    v.data = memory_.back().data();
    v.dtype = dtype;
    for (const int64_t e : shape) v.extents[v.rank++] = e;
    int64_t stride = dtype_info(dtype)->block_bytes;
    for (uint32_t d = v.rank; d-- > 0; stride *= v.extents[d]) v.strides[d] = stride;
    return v;
  }
  void f32(uint32_t operand, std::initializer_list<int64_t> shape, uint32_t seed) {
    int64_t count = 1;
    for (const int64_t e : shape) count *= e;
    set(operand, shape, numbers(static_cast<size_t>(count), seed), HADAL_F32);
  }
  void i32(uint32_t operand, std::initializer_list<int64_t> shape,
           const std::vector<int32_t>& values) {
    set(operand, shape, values, HADAL_I32);
  }
  template <typename T>
  void weight(uint32_t operand, Device& device, hadal_weight_desc desc, const std::vector<T>& data,
              const std::vector<float>& scales = {}) {
    host_chip::Memory values{.data = bytes(data), .bytes = data.size() * sizeof(T)};
    host_chip::Memory scale{.data = bytes(scales), .bytes = scales.size() * sizeof(float)};
    hadal_piece piece{};
    piece.memory = reinterpret_cast<hadal_memory*>(&values);
    piece.rows = desc.batch * desc.rows;
    piece.row_stride = desc.cols * static_cast<int64_t>(sizeof(T));
    if (!scales.empty()) {
      piece.scale_memory = reinterpret_cast<hadal_memory*>(&scale);
      piece.scale_row_stride = sizeof(float);
      desc.scale_dtype = HADAL_F32;
      desc.scale_block_rows = 1;
      desc.scale_block_cols = desc.cols;
    }
    host_chip::View& v = call.operands[operand];
    ASSERT_EQ(create_weight(device, nullptr, desc, &piece, 1, &v.weight, &error), HADAL_OK)
        << error.text;
    weights_.push_back(v.weight);
    v.dtype = static_cast<hadal_dtype>(desc.dtype);
    if (desc.batch > 1) v.extents[v.rank++] = desc.batch;
    if (desc.uses != HADAL_USE_VECTOR) v.extents[v.rank++] = desc.rows;
    v.extents[v.rank++] = desc.cols;
  }
  /// A plane of random numbers; interleaved by this chip's own kv_write layout in `own`.
  void plane(uint32_t operand, int64_t blocks, int64_t slots, int64_t width, hadal_dtype dtype,
             uint32_t seed) {
    const std::vector<float> values = numbers(static_cast<size_t>(blocks * slots * width), seed);
    const uint64_t block = block_bytes(dtype, slots, width);
    planes_.push_back({operand, values});
    host_chip::View& v = set(operand, {blocks, slots, width},
                             std::vector<std::byte>(static_cast<size_t>(blocks) * block), dtype);
    v.strides[0] = static_cast<int64_t>(block);
    for (int64_t i = 0; i < blocks * slots; ++i)
      write_numbers(v, {i / slots, i % slots}, values.data() + i * width);
  }

  /// OUT by this chip and by ref; at most `bound` apart.
  void expect_near(Operator own, Operator reference, uint32_t out, double bound) {
    const host_chip::View& v = call.operands[out];
    const auto count = static_cast<size_t>(v.extents[0] * v.strides[0]) / sizeof(float);
    ASSERT_EQ(own(call), HADAL_OK) << error.text;
    const std::vector<float> got(v.row<float>(0), v.row<float>(0) + count);
    std::memset(v.data, 0xff, count * sizeof(float));
    for (const auto& [operand, values] : planes_) {
      host_chip::View& plane = call.operands[operand];
      const int64_t width = plane.extents[2];
      plane.strides[1] = width * dtype_info(plane.dtype)->block_bytes;
      plane.strides[0] = plane.extents[1] * plane.strides[1];
      for (size_t i = 0; i < values.size(); ++i)
        ref::store(plane.data, plane.dtype, static_cast<int64_t>(i), values[i]);
    }
    ASSERT_EQ(reference(call), HADAL_OK) << error.text;
    for (size_t i = 0; i < count; ++i)
      ASSERT_NEAR(got[i], v.row<float>(0)[i], bound) << "number " << i;
  }

  hadal_op op{};
  ref::Call call;
  hadal_error error{.size = sizeof(hadal_error), .text = {}};

 private:
  template <typename T>
  static std::byte* bytes(const std::vector<T>& data) {
    return reinterpret_cast<std::byte*>(const_cast<T*>(data.data()));
  }
  struct Plane {
    uint32_t operand;
    std::vector<float> values;
  };
  std::deque<std::vector<std::byte>> memory_;
  std::vector<hadal_weight*> weights_;
  std::vector<Plane> planes_;
};

hadal_weight_desc desc_of(hadal_dtype dtype, int64_t batch, int64_t rows, int64_t cols) {
  hadal_weight_desc desc{};
  desc.size = sizeof desc;
  desc.dtype = dtype;
  desc.uses = HADAL_USE_MATMUL;
  desc.batch = batch;
  desc.rows = rows;
  desc.cols = cols;
  return desc;
}

std::vector<uint16_t> halves(const std::vector<float>& from) {
  std::vector<uint16_t> to;
  for (const float v : from) to.push_back(f32_to_bf16(v));
  return to;
}
std::vector<int8_t> int8s(const std::vector<float>& from) {
  std::vector<int8_t> to;
  for (const float v : from) to.push_back(static_cast<int8_t>(v * 127));
  return to;
}

TEST(ApartOperators, Matmul) {
  Device half{Kind::kHalf, {}}, row8{Kind::kRow8, {}};
  for (const int64_t m : {1, 3, 16, 40}) {
    for (const int64_t k : {32, 77}) {
      const std::vector<float> w = numbers(static_cast<size_t>(5 * k), 7);
      for (const Kind kind : {Kind::kHalf, Kind::kRow8}) {
        Case c(HADAL_OP_MATMUL, numerics_of(kind, HADAL_OP_MATMUL));
        c.f32(HADAL_MATMUL_X, {m, k}, 1);
        c.f32(HADAL_MATMUL_ADD, {m, 5}, 2);
        c.f32(HADAL_MATMUL_OUT, {m, 5}, 3);
        if (kind == Kind::kHalf)
          c.weight(HADAL_MATMUL_W, half, desc_of(HADAL_BF16, 1, 5, k), halves(w));
        else
          c.weight(HADAL_MATMUL_W, row8, desc_of(HADAL_I8, 1, 5, k), int8s(w), numbers(5, 9));
        hadal_weight_desc bias = desc_of(HADAL_F32, 1, 1, 5);
        bias.uses = HADAL_USE_VECTOR;
        c.weight(HADAL_MATMUL_BIAS, half, bias, numbers(5, 11));
        c.expect_near(matmul, ref::matmul, HADAL_MATMUL_OUT, kind == Kind::kHalf ? 1e-5 : 1e-3);
      }
    }
  }
}

TEST(ApartOperators, BatchedAndGroupedMatmul) {
  Device half{Kind::kHalf, {}}, row8{Kind::kRow8, {}};
  const std::vector<float> w = numbers(3 * 4 * 48, 7);
  Case batched(HADAL_OP_MATMUL, HADAL_NUMERICS_HALF);
  batched.f32(HADAL_MATMUL_X, {5, 3, 48}, 1);
  batched.f32(HADAL_MATMUL_OUT, {5, 3, 4}, 3);
  batched.weight(HADAL_MATMUL_W, half, desc_of(HADAL_BF16, 3, 4, 48), halves(w));
  batched.expect_near(matmul, ref::matmul, HADAL_MATMUL_OUT, 1e-5);
  for (const Kind kind : {Kind::kHalf, Kind::kRow8}) {
    Case c(HADAL_OP_GROUPED_MATMUL, numerics_of(kind, HADAL_OP_GROUPED_MATMUL));
    c.op.attr.experts.fan = 2;
    c.f32(HADAL_GROUPED_MATMUL_X, {3, 48}, 1);
    c.i32(HADAL_GROUPED_MATMUL_OFFSET, {4}, {0, 4, 4, 6});
    c.i32(HADAL_GROUPED_MATMUL_ORDER, {6}, {0, 2, 3, 5, 1, 4});
    c.f32(HADAL_GROUPED_MATMUL_OUT, {6, 4}, 3);
    if (kind == Kind::kHalf)
      c.weight(HADAL_GROUPED_MATMUL_W, half, desc_of(HADAL_BF16, 3, 4, 48), halves(w));
    else
      c.weight(HADAL_GROUPED_MATMUL_W, row8, desc_of(HADAL_I8, 3, 4, 48), int8s(w), numbers(12, 9));
    c.expect_near(grouped_matmul, ref::grouped_matmul, HADAL_GROUPED_MATMUL_OUT, 1e-3);
  }
}

TEST(ApartOperators, RowsOfHalfNeverDependOnTheirNumberThoseOfRow8Do) {
  for (const Kind kind : {Kind::kHalf, Kind::kRow8}) {
    Device device{kind, {}};
    const std::vector<float> w = numbers(64 * 96, 7), x = numbers(16 * 96, 1);
    std::vector<std::vector<float>> firsts;
    for (const int64_t m : {1, 16}) {
      Case c(HADAL_OP_MATMUL, HADAL_NUMERICS_EXACT);
      c.f32(HADAL_MATMUL_X, {m, 96}, 1);
      c.f32(HADAL_MATMUL_OUT, {m, 64}, 3);
      if (kind == Kind::kHalf)
        c.weight(HADAL_MATMUL_W, device, desc_of(HADAL_BF16, 1, 64, 96), halves(w));
      else
        c.weight(HADAL_MATMUL_W, device, desc_of(HADAL_I8, 1, 64, 96), int8s(w), numbers(64, 9));
      ASSERT_EQ(apart::matmul(c.call), HADAL_OK);
      const float* out = c.call[HADAL_MATMUL_OUT].row<float>(0);
      firsts.emplace_back(out, out + 64);
    }
    EXPECT_EQ(firsts[0] == firsts[1], kind == Kind::kHalf);
  }
}

TEST(ApartOperators, GqaAttention) {
  Device device{Kind::kHalf, {}};
  for (const hadal_dtype dtype : {HADAL_F32, HADAL_F16, HADAL_BF16}) {
    for (const uint32_t window : {0u, 5u}) {
      Case c(HADAL_OP_GQA_ATTENTION, HADAL_NUMERICS_HALF);
      c.op.attr.attention = {.scale = 0.7f, .kv_heads = 2, .window = window};
      c.f32(HADAL_GQA_ATTENTION_Q, {4, 6, 12}, 1);
      c.plane(HADAL_GQA_ATTENTION_K, 9, 16, 24, dtype, 2);
      c.plane(HADAL_GQA_ATTENTION_V, 9, 16, 20, dtype, 3);
      c.i32(HADAL_GQA_ATTENTION_POSITION, {4}, {40, 41, 7, 60});
      c.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {4}, {0, 0, 1, 0});
      c.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {2, 4}, {3, 8, 0, 5, 7, -1, -1, -1});
      c.i32(HADAL_GQA_ATTENTION_FIRST, {2}, {1, 0});
      hadal_weight_desc sink = desc_of(HADAL_F32, 1, 1, 6);
      sink.uses = HADAL_USE_VECTOR;
      c.weight(HADAL_GQA_ATTENTION_SINK, device, sink, numbers(6, 8));
      c.f32(HADAL_GQA_ATTENTION_OUT, {4, 6, 10}, 4);
      c.expect_near(gqa_attention, ref::gqa_attention, HADAL_GQA_ATTENTION_OUT, 4e-3);
    }
  }
}

TEST(ApartOperators, LatentAttention) {
  Case c(HADAL_OP_LATENT_ATTENTION, HADAL_NUMERICS_HALF);
  c.op.attr.latent.scale = 0.5f;
  c.op.attr.latent.segments[0] = {.ratio = 1, .window = 40};
  c.op.attr.latent.segments[1] = {.ratio = 2, .window = 0};
  c.f32(HADAL_LATENT_ATTENTION_Q, {3, 4, 12}, 1);
  c.f32(HADAL_LATENT_ATTENTION_TAIL, {3, 4, 4}, 2);
  c.i32(HADAL_LATENT_ATTENTION_POSITION, {3}, {50, 3, 51});
  c.i32(HADAL_LATENT_ATTENTION_ROW_SEQ, {3}, {0, 1, 0});
  c.plane(HADAL_LATENT_ATTENTION_PLANE, 6, 16, 16, HADAL_BF16, 3);
  c.i32(HADAL_LATENT_ATTENTION_BLOCK_TABLE, {2, 4}, {3, 1, 0, 5, 2, -1, -1, -1});
  c.i32(HADAL_LATENT_ATTENTION_FIRST, {2}, {0, 1});
  c.plane(HADAL_LATENT_ATTENTION_PLANE2, 5, 8, 16, HADAL_F16, 4);
  c.i32(HADAL_LATENT_ATTENTION_BLOCK_TABLE2, {2, 4}, {4, 1, 0, 3, 2, -1, -1, -1});
  c.i32(HADAL_LATENT_ATTENTION_FIRST2, {2}, {0, 0});
  c.i32(HADAL_LATENT_ATTENTION_LIST2, {3, 4}, {0, 7, 20, -1, 1, -1, -1, -1, 2, 9, 24, 25});
  c.f32(HADAL_LATENT_ATTENTION_OUT, {3, 4, 12}, 5);
  c.expect_near(latent_attention, ref::latent_attention, HADAL_LATENT_ATTENTION_OUT, 4e-3);
}

TEST(ApartOperators, CompressReadsThePlaneAsItIsLaidOut) {
  Case c(HADAL_OP_COMPRESS, HADAL_NUMERICS_EXACT);
  c.op.attr.compress = {.ratio = 4, .overlap = 1};
  c.plane(HADAL_COMPRESS_PLANE, 5, 8, 24, HADAL_F32, 3);
  c.i32(HADAL_COMPRESS_POSITION, {3}, {11, 12, 3});
  c.i32(HADAL_COMPRESS_ROW_SEQ, {3}, {0, 0, 1});
  c.i32(HADAL_COMPRESS_BLOCK_TABLE, {2, 2}, {4, 1, 2, -1});
  c.f32(HADAL_COMPRESS_OUT, {3, 6}, 5);
  c.expect_near(compress, ref::compress, HADAL_COMPRESS_OUT, 0);
}

TEST(ApartOperators, ABlockIsNoRunOfRows) {
  EXPECT_EQ(block_bytes(HADAL_BF16, 64, 3), 512u);
  EXPECT_EQ(block_bytes(HADAL_I8, 64, 3), 0u);
  std::vector<float> block(64);
  host_chip::View plane;
  plane.data = reinterpret_cast<std::byte*>(block.data());
  plane.dtype = HADAL_F32;
  plane.rank = 3;
  plane.extents[0] = 1;
  plane.extents[1] = 4;
  plane.extents[2] = 3;
  plane.strides[0] = 256;
  const std::vector<float> row = {1, 2, 3};
  write_numbers(plane, {0, 1}, row.data());
  EXPECT_EQ(block[1], 1.0f);
  EXPECT_EQ(block[5], 2.0f);
  EXPECT_EQ(block[9], 3.0f);
}

}  // namespace
}  // namespace hadal::apart

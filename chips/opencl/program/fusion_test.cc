// The matcher on tapes made by hand: what shares a launch, and what must not. Needs no device.
#include "program/fusion.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "runtime/weights.h"

namespace hadal::opencl {
namespace {

constexpr int64_t kRowsLimit = 16;

/// A tape over fp32 rows in scratch; a buffer is `width` numbers a row.
class FusionTest : public testing::Test {
 protected:
  FusionTest() {
    for (int64_t& limit : tape_.limits) limit = kRowsLimit;
    tape_.limits[HADAL_DIM_CONST] = 1;
    tape_.plane_count = 8;
  }

  int32_t add(hadal_tensor t) {
    t.extents[3] = t.strides[3] = 1;
    tape_.tensors.push_back(t);
    return static_cast<int32_t>(tape_.tensors.size()) - 1;
  }
  int32_t rows(int64_t width, hadal_dim dim = HADAL_DIM_T) {
    hadal_tensor t{};
    t.dtype = HADAL_F32;
    t.space = HADAL_SPACE_SCRATCH;
    t.rank = 2;
    t.row_dim = dim;
    t.extents[0] = 1;
    t.extents[1] = width;
    t.extents[2] = 1;
    t.strides[0] = width * 4;
    t.strides[1] = t.strides[2] = 4;
    t.offset = used_;
    used_ += (static_cast<uint64_t>(width * 4 * kRowsLimit) + 63) / 64 * 64;
    return add(t);
  }
  int32_t columns(int32_t of, int64_t first, int64_t count) {
    hadal_tensor t = tape_.tensors[static_cast<size_t>(of)];
    t.extents[1] = count;
    t.offset += static_cast<uint64_t>(first) * 4;
    return add(t);
  }
  int32_t heads(int32_t of, int64_t count) {
    hadal_tensor t = tape_.tensors[static_cast<size_t>(of)];
    t.rank = 3;
    t.extents[2] = t.extents[1] / count;
    t.extents[1] = count;
    t.strides[1] = t.extents[2] * 4;
    t.strides[2] = 4;
    return add(t);
  }
  int32_t input(int64_t width = 1) {
    hadal_tensor t{};
    t.dtype = HADAL_I32;
    t.space = HADAL_SPACE_INPUT;
    t.rank = 1;
    t.row_dim = HADAL_DIM_T;
    t.extents[0] = width;
    t.extents[1] = t.extents[2] = 1;
    t.strides[0] = 4;
    return add(t);
  }
  int32_t plane(uint32_t index, int64_t width) {
    hadal_tensor t{};
    t.dtype = HADAL_F16;
    t.space = HADAL_SPACE_PLANE;
    t.rank = 3;
    t.index = index;
    t.extents[0] = 4;
    t.extents[1] = 16;
    t.extents[2] = width;
    t.strides[0] = 32 * width;
    t.strides[1] = 2 * width;
    t.strides[2] = 2;
    return add(t);
  }
  int32_t weight(std::initializer_list<int64_t> shape, uint32_t dtype = HADAL_F32) {
    hadal_tensor t{};
    t.dtype = dtype;
    t.space = HADAL_SPACE_WEIGHT;
    t.rank = static_cast<uint32_t>(shape.size());
    std::copy(shape.begin(), shape.end(), t.extents);
    Weight& w = weights_[dtype];
    w.type = static_cast<int32_t>(dtype);
    if (w.parts.empty()) w.parts.resize(1);
    t.weight = reinterpret_cast<hadal_weight*>(&w);
    return add(t);
  }
  hadal_op& op(uint32_t id, std::initializer_list<std::pair<uint32_t, int32_t>> operands) {
    hadal_op made{};
    made.id = id;
    std::fill(std::begin(made.operands), std::end(made.operands), -1);
    for (const auto& [i, index] : operands) made.operands[i] = index;
    return tape_.ops.emplace_back(ProgramOp{made, id}).op;
  }
  void matmul(int32_t x, int32_t out, uint32_t dtype = HADAL_F32) {
    const int64_t k = tape_.tensors[static_cast<size_t>(x)].extents[1],
                  n = tape_.tensors[static_cast<size_t>(out)].extents[1];
    op(HADAL_OP_MATMUL,
       {{HADAL_MATMUL_X, x}, {HADAL_MATMUL_W, weight({n, k}, dtype)}, {HADAL_MATMUL_OUT, out}});
  }
  void norm(int32_t x, int32_t out) {
    op(HADAL_OP_NORM, {{HADAL_NORM_X, x}, {HADAL_NORM_OUT, out}});
  }
  void rope(int32_t x, uint32_t dims) {
    op(HADAL_OP_ROPE, {{HADAL_ROPE_X, x},
                       {HADAL_ROPE_POSITION, input()},
                       {HADAL_ROPE_INV_FREQ, weight({dims / 2})}})
        .attr.rope.dims = dims;
  }
  void kv_write(int32_t x, uint32_t index) {
    const int64_t width = tape_.tensors[static_cast<size_t>(x)].extents[1];
    op(HADAL_OP_KV_WRITE, {{HADAL_KV_WRITE_X, x},
                           {HADAL_KV_WRITE_PLANE, plane(index, width)},
                           {HADAL_KV_WRITE_POSITION, input()},
                           {HADAL_KV_WRITE_ROW_SEQ, input()},
                           {HADAL_KV_WRITE_BLOCK_TABLE, input(4)},
                           {HADAL_KV_WRITE_WRITE_FROM, input()}});
  }
  void add_to(int32_t x, int32_t y) { op(HADAL_OP_ADD, {{HADAL_ADD_X, x}, {HADAL_ADD_Y, y}}); }

  [[nodiscard]] std::vector<std::string> fused() const {
    std::vector<std::string> names;
    for (const Group& group : fuse(tape_)) names.push_back(name_of(tape_, group));
    return names;
  }

  using Names = std::vector<std::string>;
  std::map<uint32_t, Weight> weights_;  ///< by type; their buffers are never followed
  ProgramTape tape_;
  uint64_t used_ = 0;
};

TEST_F(FusionTest, GroupedAttentionUpToItsQueries) {
  const int32_t h = rows(64), q = rows(64), k = rows(32), v = rows(32);
  matmul(h, q);
  matmul(h, k);
  matmul(h, v);
  rope(heads(q, 4), 16);
  rope(heads(k, 2), 16);
  kv_write(k, 0);
  kv_write(v, 1);
  EXPECT_EQ(fused(), (Names{"matmul + matmul + matmul, kv_write", "rope + rope, kv_write"}));
}

TEST_F(FusionTest, NothingPassesWhatItDependsOn) {
  const int32_t a = rows(64), b = rows(64), c = rows(64);
  matmul(a, b);
  matmul(b, c);  // reads it
  matmul(c, a);  // writes what the first reads
  EXPECT_EQ(fused(), (Names{"matmul", "matmul", "matmul"}));
}

TEST_F(FusionTest, WhatIsWrittenOverStaysBehindItsReaders) {
  const int32_t a = rows(64), b = rows(64), c = rows(64), d = rows(64);
  matmul(a, b);
  norm(c, d);
  matmul(c, a);
  // Of its own it could stand in the first launch, whose matmul reads `a`.
  EXPECT_EQ(fused(), (Names{"matmul", "norm", "matmul"}));
}

TEST_F(FusionTest, ColumnsOfOneBufferDoNotMeet) {
  const int32_t kv = rows(48), other = rows(24);  // the second begins anywhere in the first's rows
  rope(heads(columns(kv, 32, 16), 1), 16);
  norm(columns(kv, 0, 32), columns(kv, 0, 32));
  kv_write(kv, 0);
  EXPECT_EQ(fused(), (Names{"rope, norm, kv_write"}));
  tape_.ops.clear();
  matmul(columns(other, 0, 8), columns(other, 8, 8));
  rope(heads(columns(other, 16, 8), 1), 8);
  EXPECT_EQ(fused(), (Names{"matmul + rope"}));
}

TEST_F(FusionTest, HeadsOfOneBufferDoNotMeet) {
  used_ = 64;  // rows of 96 bytes a head that do not begin at a multiple of it
  const int32_t q = rows(96), out = rows(64);
  hadal_tensor nope = tape_.tensors[static_cast<size_t>(heads(q, 4))], pe = nope;
  nope.extents[2] = 16;
  pe.extents[2] = 8;
  pe.offset += 16 * 4;
  rope(add(pe), 8);
  op(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, add(nope)},
                       {HADAL_MATMUL_W, weight({4, 16, 16})},
                       {HADAL_MATMUL_OUT, heads(out, 4)}});
  EXPECT_EQ(fused(), (Names{"rope + matmul"}));
}

TEST_F(FusionTest, AWorkItemFollowsItsOwnNumbersAlone) {
  const int32_t x = rows(64), g = rows(128), u = rows(128), y = rows(128);
  matmul(x, g);
  matmul(x, u);
  op(HADAL_OP_SWIGLU, {{HADAL_SWIGLU_GATE, g}, {HADAL_SWIGLU_UP, u}, {HADAL_SWIGLU_OUT, g}});
  add_to(y, g);
  EXPECT_EQ(fused(), (Names{"matmul, matmul, swiglu, add"}));
  add_to(columns(y, 0, 64), columns(g, 64, 64));  // other columns of what stands there
  EXPECT_EQ(fused().back(), "add");
}

TEST_F(FusionTest, RowsOfOtherKindsStayApart) {
  const int32_t x = rows(64), last = rows(64, HADAL_DIM_R);
  norm(x, x);
  norm(last, last);
  EXPECT_EQ(fused(), (Names{"norm + norm"}));  // side by side
  tape_.ops.clear();
  add_to(x, x);
  op(HADAL_OP_GATHER_ROWS,
     {{HADAL_GATHER_ROWS_X, x}, {HADAL_GATHER_ROWS_INDEX, input()}, {HADAL_GATHER_ROWS_OUT, last}});
  norm(last, last);
  EXPECT_EQ(fused(), (Names{"add", "gather_rows, norm"}));  // reads any row of what was added
}

TEST_F(FusionTest, ReadersOfAPlaneComeBehindItsWriters) {
  const int32_t row = rows(64), entry = rows(16);
  kv_write(row, 3);
  op(HADAL_OP_COMPRESS, {{HADAL_COMPRESS_PLANE, plane(3, 64)},
                         {HADAL_COMPRESS_POSITION, input()},
                         {HADAL_COMPRESS_ROW_SEQ, input()},
                         {HADAL_COMPRESS_BLOCK_TABLE, input(4)},
                         {HADAL_COMPRESS_OUT, entry}});
  norm(entry, entry);
  kv_write(entry, 4);
  EXPECT_EQ(fused(), (Names{"kv_write", "compress, norm, kv_write"}));
}

TEST_F(FusionTest, WhatMayWaitJoinsALaterLaunch) {
  const int32_t a = rows(64), b = rows(64), c = rows(64), d = rows(64), e = rows(64);
  norm(a, b);
  matmul(b, c);
  norm(a, d);
  norm(c, c);
  matmul(c, e);
  EXPECT_EQ(fused(), (Names{"norm + norm", "matmul", "norm", "matmul"}));
  tape_.ops.clear();
  matmul(a, b);  // may wait for the one below
  norm(c, c);
  matmul(c, d);
  EXPECT_EQ(fused(), (Names{"norm", "matmul + matmul"}));
}

TEST_F(FusionTest, ALaunchHasRoomForSoMany) {
  const int32_t x = rows(64);
  for (int i = 0; i < 9; ++i) matmul(x, rows(64));
  EXPECT_EQ(fuse(tape_).size(), 2u);
  tape_.ops.clear();
  for (const uint32_t dtype : {HADAL_F32, HADAL_F16, HADAL_BF16, HADAL_Q4_K})
    matmul(x, rows(64), dtype);
  EXPECT_EQ(fuse(tape_).size(), 2u);  // a build has loops for three types
  tape_.ops.clear();
  for (uint32_t i = 0; i < 5; ++i) kv_write(rows(64), i);
  EXPECT_EQ(fuse(tape_).size(), 2u);
}

TEST_F(FusionTest, AWeightInPartsHasALaunchOfItsOwn) {
  const int32_t x = rows(64);
  weights_[HADAL_F32].parts.resize(2);
  matmul(x, rows(64));
  matmul(x, rows(64));
  EXPECT_EQ(fused(), (Names{"matmul", "matmul"}));
}

}  // namespace
}  // namespace hadal::opencl

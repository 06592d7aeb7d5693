// What the chip takes: op_query's shape checks, and the range checks of indices before a step runs.
#include <algorithm>
#include <string>
#include <vector>

#include "base/host_chip.h"
#include "device.h"
#include "plan.h"

namespace hadal::cpu {

uint64_t matmul_temp_bytes();
uint64_t attention_temp_bytes(int64_t dim, int64_t dim_v, int64_t group);
uint64_t grouped_temp_bytes(int64_t k);
uint64_t router_temp_bytes(int64_t experts);
uint64_t index_temp_bytes(const hadal_op& op, const hadal_tensor* t);
uint64_t sample_temp_bytes(int64_t vocab);

namespace {

using host_chip::View;

/// The checks of one operator; the first that fails is kept.
class Checker {
 public:
  Checker(const hadal_op& op, const hadal_tensor* tensors) : op_(op), tensors_(tensors) {}

  const hadal_tensor& operator[](uint32_t i) const { return tensors_[i]; }
  [[nodiscard]] bool present(uint32_t i) const { return tensors_[i].space != HADAL_SPACE_NONE; }
  [[nodiscard]] int64_t extent(uint32_t i, uint32_t d) const { return tensors_[i].extents[d]; }
  [[nodiscard]] const std::string& why() const { return why_; }

  void require(bool holds, const std::string& text) {
    if (!holds && why_.empty()) why_ = text;
  }
  void dtype(uint32_t i, std::initializer_list<DType> allowed) {
    if (!present(i)) return;
    const bool ok = std::any_of(allowed.begin(), allowed.end(), [&](DType d) {
      return d == static_cast<DType>(tensors_[i].dtype);
    });
    require(ok, name(i) + " must not be " +
                    std::string(dtype_name(static_cast<DType>(tensors_[i].dtype))));
  }
  void rank(uint32_t i, uint32_t rank) {
    if (present(i))
      require(tensors_[i].rank == rank, name(i) + " must have rank " + std::to_string(rank));
  }
  /// Extent d of operand i is `n`. The first extent is not compared with this: it depends on the
  /// step.
  void extent_is(uint32_t i, uint32_t d, int64_t n) {
    if (present(i))
      require(tensors_[i].extents[d] == n,
              name(i) + ": extent " + std::to_string(d) + " must be " + std::to_string(n));
  }
  void same_rows(uint32_t a, uint32_t b) {
    if (present(a) && present(b))
      require(tensors_[a].row_dim == tensors_[b].row_dim &&
                  tensors_[a].extents[0] == tensors_[b].extents[0],
              name(a) + " and " + name(b) + " must have the same rows");
  }
  void same_shape(uint32_t a, uint32_t b) {
    if (!present(a) || !present(b)) return;
    same_rows(a, b);
    rank(b, tensors_[a].rank);
    for (uint32_t d = 1; d < tensors_[a].rank && d < HADAL_MAX_RANK; ++d)
      extent_is(b, d, tensors_[a].extents[d]);
  }
  /// Rows must be reachable as floats (or int32).
  void aligned(uint32_t i, int64_t to) {
    if (!present(i) || tensors_[i].space == HADAL_SPACE_WEIGHT) return;
    bool ok = tensors_[i].offset % static_cast<uint64_t>(to) == 0;
    for (uint32_t d = 0; d < tensors_[i].rank && d < HADAL_MAX_RANK; ++d)
      ok = ok && tensors_[i].strides[d] % to == 0;
    require(ok, name(i) + ": strides and offset must be multiples of " + std::to_string(to));
  }
  void floats(uint32_t i) {
    dtype(i, {HADAL_F32});
    aligned(i, 4);
  }
  void ints(uint32_t i, uint32_t rank_of) {
    dtype(i, {HADAL_I32});
    rank(i, rank_of);
    aligned(i, 4);
  }
  void plane(uint32_t i) {
    rank(i, 3);
    dtype(i, {HADAL_F32, HADAL_F16, HADAL_BF16});
    aligned(i, tensors_[i].dtype == HADAL_F32 ? 4 : 2);
    require(tensors_[i].extents[1] > 0, name(i) + " has blocks of 0 slots");
  }
  /// A vector handle of `n` values, if bound.
  void vector(uint32_t i, int64_t n) {
    if (!present(i)) return;
    rank(i, 1);
    extent_is(i, 0, n);
    if (tensors_[i].weight) {
      const Weight& w = *weight_of(tensors_[i].weight);
      require(w.vector.data() && w.desc.cols == n,
              name(i) + " was not created with use vector and " + std::to_string(n) + " values");
    }
  }
  /// A matrix handle of `batch` matrices [n, k], if bound.
  void matrix(uint32_t i, uint32_t use, int64_t batch, int64_t n, int64_t k) {
    const hadal_tensor& t = tensors_[i];
    const DType type = static_cast<DType>(t.dtype);
    require(type != HADAL_BOOL, name(i) + ": BOOL holds no numbers");
    const DTypeInfo* info = dtype_info(type);
    require(info && k % info->block_values == 0,
            name(i) + ": columns are no multiple of the type's block");
    if (!t.weight) return;
    const Weight& w = *weight_of(t.weight);
    require((w.desc.uses & use) != 0, name(i) + " was not created for this use");
    require(w.desc.batch == batch && w.desc.rows == n && w.desc.cols == k && w.dtype == type,
            name(i) + " is not the handle that its tensor says");
  }
  [[nodiscard]] std::string name(uint32_t i) const { return host_chip::operand_name(op_.id, i); }

 private:
  const hadal_op& op_;
  const hadal_tensor* tensors_;
  std::string why_;
};

void check_matmul(Checker& c) {
  const hadal_tensor &x = c[HADAL_MATMUL_X], &w = c[HADAL_MATMUL_W];
  c.floats(HADAL_MATMUL_X);
  c.floats(HADAL_MATMUL_ADD);
  c.floats(HADAL_MATMUL_OUT);
  c.require((x.rank == 2 || x.rank == 3) && w.rank == x.rank, "x and w must both have rank 2 or 3");
  const bool batched = x.rank == 3;
  const int64_t batch = batched ? x.extents[1] : 1, k = x.extents[batched ? 2 : 1];
  const int64_t n = w.extents[batched ? 1 : 0];
  c.require(k > 0 && n > 0 && batch > 0, "K, N and B must be at least 1");
  if (batched) c.extent_is(HADAL_MATMUL_W, 0, batch);
  c.extent_is(HADAL_MATMUL_W, batched ? 2 : 1, k);
  c.matrix(HADAL_MATMUL_W, HADAL_USE_MATMUL, batch, n, k);
  c.rank(HADAL_MATMUL_OUT, x.rank);
  c.same_rows(HADAL_MATMUL_X, HADAL_MATMUL_OUT);
  if (batched) c.extent_is(HADAL_MATMUL_OUT, 1, batch);
  c.extent_is(HADAL_MATMUL_OUT, batched ? 2 : 1, n);
  c.same_shape(HADAL_MATMUL_OUT, HADAL_MATMUL_ADD);
  c.vector(HADAL_MATMUL_BIAS, n);
}

void check_gated(Checker& c) {
  const int64_t k = c.extent(HADAL_GATED_MATMUL_X, 1), n = c.extent(HADAL_GATED_MATMUL_GATE, 0);
  c.floats(HADAL_GATED_MATMUL_X);
  c.floats(HADAL_GATED_MATMUL_OUT);
  for (const uint32_t i : {HADAL_GATED_MATMUL_X, HADAL_GATED_MATMUL_GATE, HADAL_GATED_MATMUL_UP,
                           HADAL_GATED_MATMUL_OUT})
    c.rank(i, 2);
  c.require(k > 0 && n > 0, "K and N must be at least 1");
  for (const uint32_t i : {HADAL_GATED_MATMUL_GATE, HADAL_GATED_MATMUL_UP}) {
    c.extent_is(i, 0, n);
    c.extent_is(i, 1, k);
    c.matrix(i, HADAL_USE_MATMUL, 1, n, k);
  }
  c.same_rows(HADAL_GATED_MATMUL_X, HADAL_GATED_MATMUL_OUT);
  c.extent_is(HADAL_GATED_MATMUL_OUT, 1, n);
}

void check_norm(Checker& c, const hadal_op& op) {
  const hadal_tensor& x = c[HADAL_NORM_X];
  for (const uint32_t i : {HADAL_NORM_X, HADAL_NORM_RESIDUAL, HADAL_NORM_OUT}) c.floats(i);
  c.require(x.rank == 2 || x.rank == 3, "x must have rank 2 or 3");
  c.same_shape(HADAL_NORM_X, HADAL_NORM_OUT);
  c.same_shape(HADAL_NORM_X, HADAL_NORM_RESIDUAL);
  const int64_t n = x.extents[x.rank == 3 ? 2 : 1];
  c.require(n > 0, "rows must not be empty");
  c.vector(HADAL_NORM_W, n);
  c.vector(HADAL_NORM_B, n);
  c.require(op.attr.norm.layer <= 1, "layer must be 0 or 1");
}

void check_rope(Checker& c, const hadal_op& op) {
  const hadal_rope_attr& a = op.attr.rope;
  c.floats(HADAL_ROPE_X);
  c.rank(HADAL_ROPE_X, 3);
  c.ints(HADAL_ROPE_POSITION, 1);
  c.same_rows(HADAL_ROPE_X, HADAL_ROPE_POSITION);
  c.require(a.dims % 2 == 0 && a.dims > 0, "dims must be even and not 0");
  c.require(int64_t{a.first} + a.dims <= c.extent(HADAL_ROPE_X, 2),
            "the turned dimensions lie outside the head");
  c.require(a.ratio >= 1, "ratio must be at least 1");
  c.vector(HADAL_ROPE_INV_FREQ, a.dims / 2);
}

void check_kv_write(Checker& c, const hadal_op& op) {
  c.floats(HADAL_KV_WRITE_X);
  c.rank(HADAL_KV_WRITE_X, 2);
  c.plane(HADAL_KV_WRITE_PLANE);
  c.extent_is(HADAL_KV_WRITE_X, 1, c.extent(HADAL_KV_WRITE_PLANE, 2));
  c.ints(HADAL_KV_WRITE_POSITION, 1);
  c.ints(HADAL_KV_WRITE_ROW_SEQ, 1);
  c.ints(HADAL_KV_WRITE_BLOCK_TABLE, 2);
  c.ints(HADAL_KV_WRITE_WRITE_FROM, 1);
  c.same_rows(HADAL_KV_WRITE_X, HADAL_KV_WRITE_POSITION);
  c.same_rows(HADAL_KV_WRITE_X, HADAL_KV_WRITE_ROW_SEQ);
  c.same_rows(HADAL_KV_WRITE_BLOCK_TABLE, HADAL_KV_WRITE_WRITE_FROM);
  c.require(op.attr.kv_write.ratio >= 1, "ratio must be at least 1");
}

void check_attention(Checker& c, const hadal_op& op) {
  const int64_t kv_heads = op.attr.attention.kv_heads, heads = c.extent(HADAL_GQA_ATTENTION_Q, 1);
  c.floats(HADAL_GQA_ATTENTION_Q);
  c.floats(HADAL_GQA_ATTENTION_OUT);
  c.rank(HADAL_GQA_ATTENTION_Q, 3);
  c.rank(HADAL_GQA_ATTENTION_OUT, 3);
  c.plane(HADAL_GQA_ATTENTION_K);
  c.plane(HADAL_GQA_ATTENTION_V);
  c.require(kv_heads > 0 && heads % kv_heads == 0 && heads > 0,
            "the heads must be a multiple of kv_heads");
  c.require(c.extent(HADAL_GQA_ATTENTION_K, 2) == kv_heads * c.extent(HADAL_GQA_ATTENTION_Q, 2),
            "k must be kv_heads * D wide");
  c.require(c.extent(HADAL_GQA_ATTENTION_V, 2) == kv_heads * c.extent(HADAL_GQA_ATTENTION_OUT, 2),
            "v must be kv_heads * Dv wide");
  c.require(c.extent(HADAL_GQA_ATTENTION_K, 1) == c.extent(HADAL_GQA_ATTENTION_V, 1),
            "k and v must have blocks of the same size");
  c.extent_is(HADAL_GQA_ATTENTION_OUT, 1, heads);
  c.same_rows(HADAL_GQA_ATTENTION_Q, HADAL_GQA_ATTENTION_OUT);
  c.ints(HADAL_GQA_ATTENTION_POSITION, 1);
  c.ints(HADAL_GQA_ATTENTION_ROW_SEQ, 1);
  c.ints(HADAL_GQA_ATTENTION_BLOCK_TABLE, 2);
  c.ints(HADAL_GQA_ATTENTION_FIRST, 1);
  c.same_rows(HADAL_GQA_ATTENTION_Q, HADAL_GQA_ATTENTION_POSITION);
  c.same_rows(HADAL_GQA_ATTENTION_Q, HADAL_GQA_ATTENTION_ROW_SEQ);
  c.same_rows(HADAL_GQA_ATTENTION_BLOCK_TABLE, HADAL_GQA_ATTENTION_FIRST);
  c.vector(HADAL_GQA_ATTENTION_SINK, heads);
}

void check_sample(Checker& c, const hadal_op& op) {
  const int64_t vocab = c.extent(HADAL_SAMPLE_LOGITS, 1);
  c.rank(HADAL_SAMPLE_LOGITS, 2);
  c.rank(HADAL_SAMPLE_PARAMS, 2);
  c.floats(HADAL_SAMPLE_LOGITS);
  c.floats(HADAL_SAMPLE_PARAMS);
  c.require(vocab > 0 && vocab < (int64_t{1} << 31),
            "the vocabulary must have 1 to 2^31 - 1 tokens");
  c.extent_is(HADAL_SAMPLE_PARAMS, 1, HADAL_PARAM_COUNT);
  c.dtype(HADAL_SAMPLE_SEED, {HADAL_U32});
  c.rank(HADAL_SAMPLE_SEED, 2);
  c.extent_is(HADAL_SAMPLE_SEED, 1, 2);
  c.aligned(HADAL_SAMPLE_SEED, 4);
  c.ints(HADAL_SAMPLE_POSITION, 1);
  c.ints(HADAL_SAMPLE_ENTRY_START, 2);
  c.extent_is(HADAL_SAMPLE_ENTRY_START, 1, 2);
  c.ints(HADAL_SAMPLE_ENTRY, 2);
  c.extent_is(HADAL_SAMPLE_ENTRY, 1, 3);
  c.floats(HADAL_SAMPLE_ENTRY_BIAS);
  c.rank(HADAL_SAMPLE_ENTRY_BIAS, 1);
  c.same_rows(HADAL_SAMPLE_ENTRY, HADAL_SAMPLE_ENTRY_BIAS);
  c.dtype(HADAL_SAMPLE_MASK, {HADAL_U32});
  c.rank(HADAL_SAMPLE_MASK, 2);
  c.extent_is(HADAL_SAMPLE_MASK, 1, (vocab + 31) / 32);
  c.aligned(HADAL_SAMPLE_MASK, 4);
  c.ints(HADAL_SAMPLE_TOKEN, 1);
  c.floats(HADAL_SAMPLE_LOGPROB);
  c.rank(HADAL_SAMPLE_LOGPROB, 1);
  c.ints(HADAL_SAMPLE_TOP_TOKEN, 2);
  c.rank(HADAL_SAMPLE_TOP_LOGPROB, 2);
  c.floats(HADAL_SAMPLE_TOP_LOGPROB);
  c.extent_is(HADAL_SAMPLE_TOP_TOKEN, 1, op.attr.sample.top);
  c.extent_is(HADAL_SAMPLE_TOP_LOGPROB, 1, op.attr.sample.top);
  c.require(int64_t{op.attr.sample.top} <= vocab, "more top tokens than the vocabulary has");
  for (const uint32_t i : {HADAL_SAMPLE_PARAMS, HADAL_SAMPLE_SEED, HADAL_SAMPLE_POSITION,
                           HADAL_SAMPLE_ENTRY_START, HADAL_SAMPLE_MASK, HADAL_SAMPLE_TOKEN,
                           HADAL_SAMPLE_LOGPROB, HADAL_SAMPLE_TOP_TOKEN, HADAL_SAMPLE_TOP_LOGPROB})
    c.same_rows(HADAL_SAMPLE_LOGITS, i);
}

void check_shapes(Checker& c, const hadal_op& op) {
  const auto two_rows = [&](uint32_t a, uint32_t b) {
    c.rank(a, 2);
    c.floats(a);
    c.floats(b);
    c.same_shape(a, b);
  };
  switch (op.id) {
    case HADAL_OP_EMBED:
      c.ints(HADAL_EMBED_TOKEN, 1);
      c.rank(HADAL_EMBED_TABLE, 2);
      c.rank(HADAL_EMBED_OUT, 2);
      c.floats(HADAL_EMBED_OUT);
      c.same_rows(HADAL_EMBED_TOKEN, HADAL_EMBED_OUT);
      c.extent_is(HADAL_EMBED_OUT, 1, c.extent(HADAL_EMBED_TABLE, 1));
      c.matrix(HADAL_EMBED_TABLE, HADAL_USE_GATHER, 1, c.extent(HADAL_EMBED_TABLE, 0),
               c.extent(HADAL_EMBED_TABLE, 1));
      break;
    case HADAL_OP_MATMUL:
      check_matmul(c);
      break;
    case HADAL_OP_NORM:
      check_norm(c, op);
      break;
    case HADAL_OP_ROPE:
      check_rope(c, op);
      break;
    case HADAL_OP_SWIGLU:
      two_rows(HADAL_SWIGLU_GATE, HADAL_SWIGLU_UP);
      two_rows(HADAL_SWIGLU_GATE, HADAL_SWIGLU_OUT);
      c.floats(HADAL_SWIGLU_WEIGHT);
      c.rank(HADAL_SWIGLU_WEIGHT, 1);
      c.same_rows(HADAL_SWIGLU_GATE, HADAL_SWIGLU_WEIGHT);
      c.require(op.attr.swiglu.clamp >= 0.0f, "clamp must not be negative");
      break;
    case HADAL_OP_GATED_MATMUL:
      check_gated(c);
      break;
    case HADAL_OP_ADD:
      two_rows(HADAL_ADD_X, HADAL_ADD_Y);
      break;
    case HADAL_OP_KV_WRITE:
      check_kv_write(c, op);
      break;
    case HADAL_OP_GQA_ATTENTION:
      check_attention(c, op);
      break;
    case HADAL_OP_GATHER_ROWS:
      for (const uint32_t i : {HADAL_GATHER_ROWS_X, HADAL_GATHER_ROWS_OUT}) {
        c.dtype(i, {HADAL_F32, HADAL_I32});
        c.rank(i, 2);
        c.aligned(i, 4);
      }
      c.ints(HADAL_GATHER_ROWS_INDEX, 1);
      c.same_rows(HADAL_GATHER_ROWS_INDEX, HADAL_GATHER_ROWS_OUT);
      c.extent_is(HADAL_GATHER_ROWS_OUT, 1, c.extent(HADAL_GATHER_ROWS_X, 1));
      break;
    case HADAL_OP_COPY_BLOCKS:
      c.plane(HADAL_COPY_BLOCKS_PLANE);
      c.ints(HADAL_COPY_BLOCKS_FROM, 1);
      c.ints(HADAL_COPY_BLOCKS_TO, 1);
      c.same_rows(HADAL_COPY_BLOCKS_FROM, HADAL_COPY_BLOCKS_TO);
      break;
    case HADAL_OP_CONVERT:
      for (const uint32_t i : {HADAL_CONVERT_X, HADAL_CONVERT_OUT}) {
        c.dtype(i, {HADAL_F32, HADAL_F16, HADAL_BF16});
        c.rank(i, 2);
        c.aligned(i, c[i].dtype == HADAL_F32 ? 4 : 2);
      }
      c.same_shape(HADAL_CONVERT_X, HADAL_CONVERT_OUT);
      break;
    case HADAL_OP_SAMPLE:
      check_sample(c, op);
      break;
    // Shapes and types of what follows are as ops_table.inc says: host_chip::check_operands.
    case HADAL_OP_ROUTER:
      c.vector(HADAL_ROUTER_BIAS, c.extent(HADAL_ROUTER_LOGITS, 1));
      if (c.present(HADAL_ROUTER_HASH))
        c.matrix(HADAL_ROUTER_HASH, HADAL_USE_GATHER, 1, c.extent(HADAL_ROUTER_HASH, 0),
                 c.extent(HADAL_ROUTER_HASH, 1));
      break;
    case HADAL_OP_MOE_SORT:
    case HADAL_OP_MOE_COMBINE:
      break;
    case HADAL_OP_GROUPED_MATMUL: {
      const hadal_tensor& w = c[HADAL_GROUPED_MATMUL_W];
      c.require(w.extents[0] > 0 && w.extents[1] > 0 && w.extents[2] > 0,
                "E, N and K must be at least 1");
      c.matrix(HADAL_GROUPED_MATMUL_W, HADAL_USE_MATMUL, w.extents[0], w.extents[1], w.extents[2]);
      break;
    }
    case HADAL_OP_INDEX_TOPK:
    case HADAL_OP_INDEX_BLOCKS:
      c.plane(HADAL_INDEX_TOPK_PLANE);
      break;
    case HADAL_OP_COMPRESS:
      c.plane(HADAL_COMPRESS_PLANE);
      if (c.present(HADAL_COMPRESS_APE))
        c.vector(HADAL_COMPRESS_APE, c.extent(HADAL_COMPRESS_APE, 0));
      break;
    case HADAL_OP_HC_PRE:
      for (const uint32_t i : {HADAL_HC_PRE_BASE, HADAL_HC_PRE_SCALE}) c.vector(i, c.extent(i, 0));
      break;
    case HADAL_OP_HC_POST:
      c.require(c.extent(HADAL_HC_POST_X, 1) <= 16, "at most 16 streams");
      break;
    case HADAL_OP_ENGRAM_GATE:
      for (const uint32_t i : {HADAL_ENGRAM_GATE_Q_WEIGHT, HADAL_ENGRAM_GATE_K_WEIGHT})
        c.vector(i, c.extent(i, 0));
      break;
    case HADAL_OP_LATENT_ATTENTION:
      for (const uint32_t plane : {HADAL_LATENT_ATTENTION_PLANE, HADAL_LATENT_ATTENTION_PLANE2})
        if (c.present(plane)) c.plane(plane);
      c.require(c.extent(HADAL_LATENT_ATTENTION_Q, 1) > 0, "there must be at least one head");
      c.vector(HADAL_LATENT_ATTENTION_SINK, c.extent(HADAL_LATENT_ATTENTION_Q, 1));
      break;
    default:
      c.require(false, "this chip does not have the operator");
  }
}

/// "operand [i] is 7, outside [0, 5)", if so.
std::string outside(const hadal_op& op, uint32_t operand, int64_t i, int64_t value, int64_t low,
                    int64_t end) {
  if (value >= low && value < end) return {};
  return std::string(host_chip::op_name(op.id)) + ": " + host_chip::operand_name(op.id, operand) +
         " [" + std::to_string(i) + "] is " + std::to_string(value) + ", outside [" +
         std::to_string(low) + ", " + std::to_string(end) + ")";
}

#define HADAL_RETURN_IF_TEXT(expr)                             \
  do {                                                         \
    if (std::string text = (expr); !text.empty()) return text; \
  } while (false)

std::string check_range(const hadal_op& op, const View& v, uint32_t operand, int64_t low,
                        int64_t end) {
  for (int64_t i = 0; i < v.extents[0]; ++i)
    HADAL_RETURN_IF_TEXT(outside(op, operand, i, *v.row<int32_t>(i), low, end));
  return {};
}

std::string check_kv_indices(const hadal_tape& tape, const hadal_op& op, const hadal_step& step) {
  const auto view = [&](uint32_t i) { return host_chip::view(tape, op.operands[i], step); };
  const View position = view(HADAL_KV_WRITE_POSITION), row_seq = view(HADAL_KV_WRITE_ROW_SEQ),
             table = view(HADAL_KV_WRITE_BLOCK_TABLE);
  const View plane = view(HADAL_KV_WRITE_PLANE), write_from = view(HADAL_KV_WRITE_WRITE_FROM);
  const int64_t ratio = op.attr.kv_write.ratio, slots = plane.extents[1];
  HADAL_RETURN_IF_TEXT(check_range(op, row_seq, HADAL_KV_WRITE_ROW_SEQ, 0, table.extents[0]));
  HADAL_RETURN_IF_TEXT(
      check_range(op, position, HADAL_KV_WRITE_POSITION, 0, table.extents[1] * slots * ratio));
  for (int64_t t = 0; t < position.extents[0]; ++t) {
    const int64_t p = *position.row<int32_t>(t), s = *row_seq.row<int32_t>(t);
    if (p < *write_from.row<int32_t>(s) || (p + 1) % ratio != 0) continue;
    const int64_t i = p / ratio / slots;
    HADAL_RETURN_IF_TEXT(
        outside(op, HADAL_KV_WRITE_BLOCK_TABLE, i, table.row<int32_t>(s)[i], -1, plane.extents[0]));
  }
  return {};
}

std::string check_attention_indices(const hadal_tape& tape, const hadal_op& op,
                                    const hadal_step& step) {
  const auto view = [&](uint32_t i) { return host_chip::view(tape, op.operands[i], step); };
  const View position = view(HADAL_GQA_ATTENTION_POSITION),
             row_seq = view(HADAL_GQA_ATTENTION_ROW_SEQ);
  const View table = view(HADAL_GQA_ATTENTION_BLOCK_TABLE), first = view(HADAL_GQA_ATTENTION_FIRST);
  const View k = view(HADAL_GQA_ATTENTION_K), v = view(HADAL_GQA_ATTENTION_V);
  const int64_t slots = k.extents[1], blocks = std::min(k.extents[0], v.extents[0]),
                window = op.attr.attention.window;
  HADAL_RETURN_IF_TEXT(check_range(op, row_seq, HADAL_GQA_ATTENTION_ROW_SEQ, 0, table.extents[0]));
  HADAL_RETURN_IF_TEXT(
      check_range(op, position, HADAL_GQA_ATTENTION_POSITION, 0, table.extents[1] * slots));
  // Rows of one sequence usually follow each other: their blocks are looked at once, from the
  // lowest to the highest seen.
  for (int64_t t = 0; t < position.extents[0];) {
    const int64_t s = *row_seq.row<int32_t>(t);
    int64_t lo = table.extents[1] * slots, hi = 0;
    for (; t < position.extents[0] && *row_seq.row<int32_t>(t) == s; ++t) {
      const int64_t end = int64_t{*position.row<int32_t>(t)} + 1;
      int64_t begin = std::max<int64_t>(0, *first.row<int32_t>(s));
      if (window > 0) begin = std::max(begin, end - window);
      if (begin >= end) continue;
      lo = std::min(lo, begin);
      hi = std::max(hi, end);
    }
    for (int64_t i = lo / slots; i * slots < hi; ++i)
      HADAL_RETURN_IF_TEXT(
          outside(op, HADAL_GQA_ATTENTION_BLOCK_TABLE, i, table.row<int32_t>(s)[i], 0, blocks));
  }
  return {};
}

std::string check_latent_indices(const hadal_tape& tape, const hadal_op& op,
                                 const hadal_step& step) {
  const auto view = [&](uint32_t i) { return host_chip::view(tape, op.operands[i], step); };
  const View position = view(HADAL_LATENT_ATTENTION_POSITION),
             row_seq = view(HADAL_LATENT_ATTENTION_ROW_SEQ);
  for (const uint32_t operand : {HADAL_LATENT_ATTENTION_PLANE, HADAL_LATENT_ATTENTION_PLANE2}) {
    const View plane = view(operand), table = view(operand + 1), first = view(operand + 2),
               list = view(operand + 3);
    if (!plane.present()) continue;
    const hadal_segment_attr& a =
        op.attr.latent.segments[operand == HADAL_LATENT_ATTENTION_PLANE ? 0 : 1];
    const int64_t slots = plane.extents[1], ratio = a.ratio, window = a.window;
    const int64_t entries = table.extents[1] * slots;
    HADAL_RETURN_IF_TEXT(
        check_range(op, row_seq, HADAL_LATENT_ATTENTION_ROW_SEQ, 0, table.extents[0]));
    HADAL_RETURN_IF_TEXT(
        check_range(op, position, HADAL_LATENT_ATTENTION_POSITION, 0, entries * ratio));
    for (int64_t t = 0; t < position.extents[0]; ++t) {
      const int64_t s = *row_seq.row<int32_t>(t);
      const auto mapped = [&](int64_t block) {
        return outside(op, operand + 1, block, table.row<int32_t>(s)[block], 0, plane.extents[0]);
      };
      const int64_t end = (int64_t{*position.row<int32_t>(t)} + 1) / ratio;
      int64_t begin = (std::max<int64_t>(0, *first.row<int32_t>(s)) + ratio - 1) / ratio;
      if (window > 0) begin = std::max(begin, end - window);
      if (!list.present()) {
        for (int64_t i = begin / slots; begin < end && i * slots < end; ++i)
          HADAL_RETURN_IF_TEXT(mapped(i));
        continue;
      }
      int64_t last = -1;
      for (int64_t i = 0; i < list.extents[1] && list.row<int32_t>(t)[i] >= 0; ++i) {
        const int64_t e = list.row<int32_t>(t)[i];
        HADAL_RETURN_IF_TEXT(outside(op, operand + 3, i, e, last + 1, entries));
        last = e;
        if (e >= begin && e < end) HADAL_RETURN_IF_TEXT(mapped(e / slots));
      }
    }
  }
  return {};
}

/// Of index_topk and index_blocks, which have the same operands up to LIST.
std::string check_index_indices(const hadal_tape& tape, const hadal_op& op,
                                const hadal_step& step) {
  const auto view = [&](uint32_t i) { return host_chip::view(tape, op.operands[i], step); };
  const View position = view(HADAL_INDEX_TOPK_POSITION), row_seq = view(HADAL_INDEX_TOPK_ROW_SEQ),
             plane = view(HADAL_INDEX_TOPK_PLANE), table = view(HADAL_INDEX_TOPK_BLOCK_TABLE),
             first = view(HADAL_INDEX_TOPK_FIRST),
             candidates = op.id == HADAL_OP_INDEX_TOPK ? view(HADAL_INDEX_TOPK_CANDIDATES) : View();
  const int64_t slots = plane.extents[1], ratio = op.attr.index.ratio,
                entries = table.extents[1] * slots, size = op.attr.index.block_size,
                blocks = candidates.present() ? (entries + size - 1) / size : 0;
  HADAL_RETURN_IF_TEXT(check_range(op, row_seq, HADAL_INDEX_TOPK_ROW_SEQ, 0, table.extents[0]));
  HADAL_RETURN_IF_TEXT(check_range(op, position, HADAL_INDEX_TOPK_POSITION, 0, entries * ratio));
  for (int64_t t = 0; t < position.extents[0]; ++t) {
    const int64_t s = *row_seq.row<int32_t>(t),
                  end = (int64_t{*position.row<int32_t>(t)} + 1) / ratio;
    const int64_t begin = (std::max<int64_t>(0, *first.row<int32_t>(s)) + ratio - 1) / ratio;
    const int32_t* pages = table.row<int32_t>(s);
    int64_t checked = 0;  // below it every page that is needed was looked at
    // A page of the entries [from, to) that is not mapped; -1: all are.
    const auto unmapped = [&](int64_t from, int64_t to) -> int64_t {
      if (to <= std::max(from, checked)) return -1;
      for (int64_t page = from / slots; page * slots < to; ++page) {
        if (pages[page] < 0 || pages[page] >= plane.extents[0]) return page;
        checked = (page + 1) * slots;
      }
      return -1;
    };
    const auto refuse = [&](int64_t page) {
      return outside(op, HADAL_INDEX_TOPK_BLOCK_TABLE, page, pages[page], 0, plane.extents[0]);
    };
    if (!candidates.present()) {
      if (const int64_t page = unmapped(begin, end); page >= 0) return refuse(page);
      continue;
    }
    // There may be thousands, a row: texts are for what is wrong.
    const int32_t* list = candidates.row<int32_t>(t);
    int64_t last = -1;
    for (int64_t i = 0; i < candidates.extents[1] && list[i] >= 0; ++i) {
      const int64_t block = list[i];
      if (block <= last || block >= blocks)
        return outside(op, HADAL_INDEX_TOPK_CANDIDATES, i, block, last + 1, blocks);
      last = block;
      if (const int64_t page =
              unmapped(std::max(begin, block * size), std::min(end, (block + 1) * size));
          page >= 0)
        return refuse(page);
    }
  }
  return {};
}

std::string check_compress_indices(const hadal_tape& tape, const hadal_op& op,
                                   const hadal_step& step) {
  const auto view = [&](uint32_t i) { return host_chip::view(tape, op.operands[i], step); };
  const View position = view(HADAL_COMPRESS_POSITION), row_seq = view(HADAL_COMPRESS_ROW_SEQ),
             plane = view(HADAL_COMPRESS_PLANE), table = view(HADAL_COMPRESS_BLOCK_TABLE);
  const int64_t slots = plane.extents[1], ratio = op.attr.compress.ratio;
  HADAL_RETURN_IF_TEXT(check_range(op, row_seq, HADAL_COMPRESS_ROW_SEQ, 0, table.extents[0]));
  HADAL_RETURN_IF_TEXT(
      check_range(op, position, HADAL_COMPRESS_POSITION, 0, table.extents[1] * slots));
  for (int64_t t = 0; t < position.extents[0]; ++t) {
    const int64_t end = int64_t{*position.row<int32_t>(t)} + 1;
    if (end % ratio != 0) continue;
    const int64_t begin = std::max<int64_t>(0, end - (op.attr.compress.overlap ? 2 : 1) * ratio);
    for (int64_t i = begin / slots; i * slots < end; ++i)
      HADAL_RETURN_IF_TEXT(outside(op, HADAL_COMPRESS_BLOCK_TABLE, i,
                                   table.row<int32_t>(*row_seq.row<int32_t>(t))[i], 0,
                                   plane.extents[0]));
  }
  return {};
}

std::string check_expert_indices(const hadal_tape& tape, const hadal_op& op,
                                 const hadal_step& step) {
  const auto view = [&](uint32_t i) { return host_chip::view(tape, op.operands[i], step); };
  if (op.id == HADAL_OP_ROUTER) {
    const View token = view(HADAL_ROUTER_TOKEN), hash = view(HADAL_ROUTER_HASH);
    if (!hash.present()) return {};
    HADAL_RETURN_IF_TEXT(check_range(op, token, HADAL_ROUTER_TOKEN, 0, hash.extents[0]));
    const int64_t experts = view(HADAL_ROUTER_LOGITS).extents[1], k = hash.extents[1];
    std::vector<float> listed(static_cast<size_t>(k));
    for (int64_t t = 0; t < token.extents[0]; ++t) {
      weight_of(hash.weight)->decode(*token.row<int32_t>(t), 0, k, listed.data());
      for (const float e : listed)
        HADAL_RETURN_IF_TEXT(
            outside(op, HADAL_ROUTER_HASH, t, static_cast<int64_t>(e), 0, experts));
    }
    return {};
  }
  if (op.id == HADAL_OP_MOE_SORT) {
    const View expert = view(HADAL_MOE_SORT_EXPERT);
    const int64_t experts = view(HADAL_MOE_SORT_OFFSET).extents[0] - 1;
    for (int64_t t = 0; t < expert.extents[0]; ++t)
      for (int64_t j = 0; j < expert.extents[1]; ++j)
        HADAL_RETURN_IF_TEXT(
            outside(op, HADAL_MOE_SORT_EXPERT, t, expert.row<int32_t>(t)[j], 0, experts));
    return {};
  }
  if (op.id == HADAL_OP_MOE_COMBINE)
    return check_range(op, view(HADAL_MOE_COMBINE_PLACE), HADAL_MOE_COMBINE_PLACE, 0,
                       view(HADAL_MOE_COMBINE_X).extents[0]);
  const View offset = view(HADAL_GROUPED_MATMUL_OFFSET), order = view(HADAL_GROUPED_MATMUL_ORDER);
  const int64_t rows = view(HADAL_GROUPED_MATMUL_OUT).extents[0];
  for (int64_t e = 0; e < offset.extents[0]; ++e)
    HADAL_RETURN_IF_TEXT(outside(op, HADAL_GROUPED_MATMUL_OFFSET, e, *offset.row<int32_t>(e),
                                 e == 0 ? 0 : *offset.row<int32_t>(e - 1), rows + 1));
  if (!order.present()) return {};
  return check_range(op, order, HADAL_GROUPED_MATMUL_ORDER, 0,
                     view(HADAL_GROUPED_MATMUL_X).extents[0] * op.attr.experts.fan);
}

std::string check_sample_indices(const hadal_tape& tape, const hadal_op& op,
                                 const hadal_step& step) {
  const auto view = [&](uint32_t i) { return host_chip::view(tape, op.operands[i], step); };
  const View start = view(HADAL_SAMPLE_ENTRY_START), entry = view(HADAL_SAMPLE_ENTRY),
             logits = view(HADAL_SAMPLE_LOGITS);
  for (int64_t r = 0; r < start.extents[0]; ++r) {
    const int32_t* range = start.row<int32_t>(r);
    if (range[0] >= range[1]) continue;
    HADAL_RETURN_IF_TEXT(outside(op, HADAL_SAMPLE_ENTRY_START, r, range[0], 0, entry.extents[0]));
    HADAL_RETURN_IF_TEXT(
        outside(op, HADAL_SAMPLE_ENTRY_START, r, range[1], 0, entry.extents[0] + 1));
    for (int32_t e = range[0]; e < range[1]; ++e)
      HADAL_RETURN_IF_TEXT(
          outside(op, HADAL_SAMPLE_ENTRY, e, entry.row<int32_t>(e)[0], 0, logits.extents[1]));
  }
  return {};
}

}  // namespace

std::string check_indices(const hadal_tape& tape, const hadal_op& op, const hadal_step& step) {
  const auto view = [&](uint32_t i) { return host_chip::view(tape, op.operands[i], step); };
  switch (op.id) {
    case HADAL_OP_EMBED:
      return check_range(op, view(HADAL_EMBED_TOKEN), HADAL_EMBED_TOKEN, 0,
                         view(HADAL_EMBED_TABLE).extents[0]);
    case HADAL_OP_GATHER_ROWS:
      return check_range(op, view(HADAL_GATHER_ROWS_INDEX), HADAL_GATHER_ROWS_INDEX, 0,
                         view(HADAL_GATHER_ROWS_X).extents[0]);
    case HADAL_OP_KV_WRITE:
      return check_kv_indices(tape, op, step);
    case HADAL_OP_GQA_ATTENTION:
      return check_attention_indices(tape, op, step);
    case HADAL_OP_COPY_BLOCKS: {
      const int64_t blocks = view(HADAL_COPY_BLOCKS_PLANE).extents[0];
      HADAL_RETURN_IF_TEXT(
          check_range(op, view(HADAL_COPY_BLOCKS_FROM), HADAL_COPY_BLOCKS_FROM, -1, blocks));
      return check_range(op, view(HADAL_COPY_BLOCKS_TO), HADAL_COPY_BLOCKS_TO, -1, blocks);
    }
    case HADAL_OP_SAMPLE:
      return check_sample_indices(tape, op, step);
    case HADAL_OP_LATENT_ATTENTION:
      return check_latent_indices(tape, op, step);
    case HADAL_OP_INDEX_TOPK:
    case HADAL_OP_INDEX_BLOCKS:
      return check_index_indices(tape, op, step);
    case HADAL_OP_COMPRESS:
      return check_compress_indices(tape, op, step);
    case HADAL_OP_ROUTER:
    case HADAL_OP_MOE_SORT:
    case HADAL_OP_GROUPED_MATMUL:
    case HADAL_OP_MOE_COMBINE:
      return check_expert_indices(tape, op, step);
    default:
      return {};
  }
}

uint64_t temp_bytes_of(const hadal_op& op, const hadal_tensor* t) {
  switch (op.id) {
    case HADAL_OP_MATMUL:
    case HADAL_OP_GATED_MATMUL:
      return matmul_temp_bytes();
    case HADAL_OP_ROPE:
      return op.attr.rope.dims * sizeof(float) + 64;
    case HADAL_OP_GQA_ATTENTION:
      return attention_temp_bytes(
          t[HADAL_GQA_ATTENTION_Q].extents[2], t[HADAL_GQA_ATTENTION_OUT].extents[2],
          t[HADAL_GQA_ATTENTION_Q].extents[1] / std::max(1u, op.attr.attention.kv_heads));
    case HADAL_OP_LATENT_ATTENTION:
      return attention_temp_bytes(t[HADAL_LATENT_ATTENTION_PLANE].extents[2],
                                  t[HADAL_LATENT_ATTENTION_OUT].extents[2],
                                  t[HADAL_LATENT_ATTENTION_Q].extents[1]);
    case HADAL_OP_GROUPED_MATMUL:
      return grouped_temp_bytes(t[HADAL_GROUPED_MATMUL_X].extents[1]);
    case HADAL_OP_INDEX_TOPK:
    case HADAL_OP_INDEX_BLOCKS:
      return index_temp_bytes(op, t);
    case HADAL_OP_ROUTER:
      return router_temp_bytes(t[HADAL_ROUTER_LOGITS].extents[1]);
    case HADAL_OP_SAMPLE:
      return sample_temp_bytes(t[HADAL_SAMPLE_LOGITS].extents[1]);
    default:
      return 8192;  // convert goes through 1024 floats
  }
}

hadal_status query_op(const hadal_op& op, const hadal_tensor* tensors, const int64_t* limits,
                      uint64_t* workspace_bytes, hadal_error* error) {
  *workspace_bytes = 0;
  if (const hadal_status s = host_chip::check_operands(op, tensors, error); s != HADAL_OK) return s;
  Checker c(op, tensors);
  check_shapes(c, op);
  if (!c.why().empty()) {
    const hadal_tensor* pointers[HADAL_MAX_OPERANDS] = {};
    for (uint32_t i = 0; i < host_chip::operand_count(op.id); ++i) pointers[i] = &tensors[i];
    return host_chip::report(error, HADAL_UNSUPPORTED,
                             host_chip::describe(op, pointers) + ": " + c.why());
  }
  switch (op.id) {
    case HADAL_OP_MATMUL:
    case HADAL_OP_GATED_MATMUL: {
      const hadal_tensor& x = tensors[HADAL_MATMUL_X];
      const int64_t rows = x.extents[0] * limits[x.row_dim];
      *workspace_bytes = x.rank == 3
                             ? static_cast<uint64_t>(quant_bytes(rows * x.extents[1], x.extents[2]))
                             : static_cast<uint64_t>(quant_bytes(rows, x.extents[1]));
      break;
    }
    case HADAL_OP_INDEX_TOPK:
    case HADAL_OP_INDEX_BLOCKS: {
      const hadal_tensor& q = tensors[HADAL_INDEX_TOPK_Q];
      *workspace_bytes = index_kept_bytes(op, tensors, q.extents[0] * limits[q.row_dim]);
      break;
    }
    case HADAL_OP_GQA_ATTENTION:
      *workspace_bytes = attention_parts_bytes(
          tensors[HADAL_GQA_ATTENTION_Q], tensors[HADAL_GQA_ATTENTION_K],
          tensors[HADAL_GQA_ATTENTION_V], tensors[HADAL_GQA_ATTENTION_BLOCK_TABLE],
          op.attr.attention, limits);
      break;
    default:
      break;
  }
  return HADAL_OK;
}

}  // namespace hadal::cpu

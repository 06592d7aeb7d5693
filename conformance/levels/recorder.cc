#include "levels/recorder.h"

#include <algorithm>
#include <cmath>

namespace hadal::conformance {

int32_t Recorder::tensor(uint32_t dtype, uint32_t space, uint32_t row_dim,
                         std::vector<int64_t> extents) {
  hadal_tensor t{};
  t.dtype = dtype;
  t.space = space;
  t.row_dim = row_dim;
  t.rank = static_cast<uint32_t>(extents.size());
  std::fill(std::begin(t.extents), std::end(t.extents), 1);
  std::copy(extents.begin(), extents.end(), t.extents);
  int64_t bytes = dtype_info(static_cast<DType>(dtype))->block_bytes;
  for (uint32_t d = t.rank; space != HADAL_SPACE_WEIGHT && d-- > 0;) {
    t.strides[d] = bytes;
    bytes *= t.extents[d];
  }
  if (space == HADAL_SPACE_PLANE) {
    t.index = planes_used++;
  } else if (space != HADAL_SPACE_WEIGHT) {
    const int64_t rows = row_dim == HADAL_DIM_CONST ? 1
                         : row_dim == HADAL_DIM_T   ? Tiny::kMaxRows
                                                    : 2;
    t.offset = used[space];
    const uint64_t unit = std::max<uint64_t>(chip_.info.alignment, 64);
    used[space] += (static_cast<uint64_t>(bytes * rows) + unit - 1) / unit * unit;
  }
  tensors.push_back(t);
  return static_cast<int32_t>(tensors.size()) - 1;
}

int32_t Recorder::plane(uint32_t role, int64_t width, uint32_t heads, uint32_t dtype) {
  const int32_t index =
      tensor(dtype, HADAL_SPACE_PLANE, HADAL_DIM_CONST, {Tiny::kBlocks, Tiny::kSlots, width});
  hadal_tensor& t = tensors[static_cast<size_t>(index)];
  t.flags = role;
  auto block = static_cast<uint64_t>(t.strides[0]);
  const hadal_plane_desc desc{sizeof(hadal_plane_desc), role, dtype, heads, Tiny::kSlots, width};
  hadal_error error = fresh_error();
  // What is refused here is refused again, with a text, where the memory is made.
  if (device_.opaque_planes() &&
      device_.chip->plane_bytes(device_.device, &desc, &block, &error) == HADAL_OK)
    t.strides[0] = static_cast<int64_t>(block);
  block_bytes = std::max(block_bytes, block);
  return index;
}

int32_t Recorder::view(int32_t of, int64_t from, std::vector<int64_t> extents) {
  hadal_tensor t = tensors[static_cast<size_t>(of)];
  t.rank = static_cast<uint32_t>(extents.size());
  std::fill(std::begin(t.extents), std::end(t.extents), 1);
  std::copy(extents.begin(), extents.end(), t.extents);
  int64_t stride = 4;
  for (uint32_t d = t.rank; d-- > 1;) {
    t.strides[d] = stride;
    stride *= t.extents[d];
  }
  t.offset += static_cast<uint64_t>(from) * 4;
  if (from != 0) t.flags |= HADAL_TENSOR_COLUMNS;
  tensors.push_back(t);
  return static_cast<int32_t>(tensors.size()) - 1;
}

int32_t Recorder::add_weight(std::shared_ptr<const WeightData> data, std::vector<int64_t> extents) {
  std::string violation;
  data = taken_ ? taken_->weights[weights.size()].second : adapt_weight(data, device_, violation);
  const int32_t index =
      tensor(data->desc.dtype, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, std::move(extents));
  weights.emplace_back(index, std::move(data));
  return index;
}

int32_t Recorder::weight(int64_t rows, int64_t cols, uint32_t uses, int64_t batch) {
  // Made even if the other model's is taken: the numbers that follow are the same then.
  const auto data = make_weight(random_, dtype_,
                                {.batch = std::max<int64_t>(batch, 1),
                                 .rows = rows,
                                 .cols = cols,
                                 .uses = uses,
                                 .pieces = 2});
  return add_weight(
      data, batch > 0 ? std::vector<int64_t>{batch, rows, cols} : std::vector<int64_t>{rows, cols});
}

int32_t Recorder::vector(const std::vector<float>& values) {
  return add_weight(make_vector(values), {static_cast<int64_t>(values.size())});
}

int32_t Recorder::frequencies(int64_t dims) {
  std::vector<float> values;
  for (int64_t i = 0; i < dims / 2; ++i)
    values.push_back(std::pow(1000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(dims)));
  return vector(values);
}

void Recorder::emit(uint32_t id, const Operands& operands, const hadal_attributes& attr) {
  hadal_op op{};
  op.id = id;
  op.attr = attr;
  std::fill(std::begin(op.operands), std::end(op.operands), -1);
  for (const auto& [operand, index] : operands) op.operands[operand] = index;
  ops.push_back(op);
}

int32_t Recorder::product(int32_t x, int64_t cols, int64_t out) {
  const int32_t y = rows(out, tensors[static_cast<size_t>(x)].row_dim);
  product_into(x, cols, y, out);
  return y;
}

void Recorder::product_into(int32_t x, int64_t cols, int32_t out, int64_t out_width, int32_t add) {
  const int32_t w = weight(out_width, cols);
  emit(
      HADAL_OP_MATMUL,
      {{HADAL_MATMUL_X, x}, {HADAL_MATMUL_W, w}, {HADAL_MATMUL_ADD, add}, {HADAL_MATMUL_OUT, out}});
}

void Recorder::norm(int32_t x, int32_t out, int64_t width) {
  hadal_attributes attr{};
  attr.norm.eps = 1e-5f;
  const int32_t w = constant(width, 1.0f / std::sqrt(static_cast<float>(width)));
  emit(HADAL_OP_NORM, {{HADAL_NORM_X, x}, {HADAL_NORM_W, w}, {HADAL_NORM_OUT, out}}, attr);
}

void Recorder::turn(int32_t x, const Turn& t) {
  hadal_attributes attr{};
  attr.rope = {.first = t.first,
               .dims = t.dims,
               .interleaved = t.interleaved,
               .inverse = t.inverse,
               .ratio = t.ratio,
               .amplitude = 1};
  emit(HADAL_OP_ROPE,
       {{HADAL_ROPE_X, x}, {HADAL_ROPE_POSITION, step.position}, {HADAL_ROPE_INV_FREQ, t.inv_freq}},
       attr);
}

void Recorder::kv_write(int32_t x, int32_t plane, uint32_t ratio) {
  hadal_attributes attr{};
  attr.kv_write.ratio = ratio;
  emit(HADAL_OP_KV_WRITE,
       {{HADAL_KV_WRITE_X, x},
        {HADAL_KV_WRITE_PLANE, plane},
        {HADAL_KV_WRITE_POSITION, step.position},
        {HADAL_KV_WRITE_ROW_SEQ, step.row_seq},
        {HADAL_KV_WRITE_BLOCK_TABLE, step.block_table},
        {HADAL_KV_WRITE_WRITE_FROM, step.write_from}},
       attr);
}

int32_t Recorder::gated(int32_t h, int64_t inner, int32_t x) {
  const int32_t y = rows(inner);
  const int32_t gate = weight(inner, Tiny::kWidth), up = weight(inner, Tiny::kWidth);
  emit(HADAL_OP_GATED_MATMUL, {{HADAL_GATED_MATMUL_X, h},
                               {HADAL_GATED_MATMUL_GATE, gate},
                               {HADAL_GATED_MATMUL_UP, up},
                               {HADAL_GATED_MATMUL_OUT, y}});
  const int32_t out = x >= 0 ? x : rows(Tiny::kWidth);
  product_into(y, inner, out, Tiny::kWidth, x);
  return out;
}

void Recorder::record_inputs() {
  const auto in = [&](uint32_t dtype, uint32_t dim, std::vector<int64_t> extents) {
    return tensor(dtype, HADAL_SPACE_INPUT, dim, std::move(extents));
  };
  step.token = in(HADAL_I32, HADAL_DIM_T, {1});
  step.position = in(HADAL_I32, HADAL_DIM_T, {1});
  step.row_seq = in(HADAL_I32, HADAL_DIM_T, {1});
  step.looked_up = in(HADAL_F32, HADAL_DIM_T, {1, Tiny::kLookedUp});
  step.write_from = in(HADAL_I32, HADAL_DIM_S, {1});
  step.first = in(HADAL_I32, HADAL_DIM_S, {1});
  step.block_table = in(HADAL_I32, HADAL_DIM_S, {1, Tiny::kBlocksEach});
  step.logit_row = in(HADAL_I32, HADAL_DIM_R, {1});
  step.params = in(HADAL_F32, HADAL_DIM_R, {1, HADAL_PARAM_COUNT});
  step.seed = in(HADAL_U32, HADAL_DIM_R, {1, 2});
  step.sample_position = in(HADAL_I32, HADAL_DIM_R, {1});
  step.entry_start = in(HADAL_I32, HADAL_DIM_R, {1, 2});
  step.entry = in(HADAL_I32, HADAL_DIM_CONST, {Tiny::kEntries, 3});
  step.entry_bias = in(HADAL_F32, HADAL_DIM_CONST, {Tiny::kEntries});
  const auto out = [&](uint32_t dtype, std::vector<int64_t> extents) {
    return tensor(dtype, HADAL_SPACE_OUTPUT, HADAL_DIM_R, std::move(extents));
  };
  step.logits = out(HADAL_F32, {1, Tiny::kVocabulary});
  step.out_token = out(HADAL_I32, {1});
  step.logprob = out(HADAL_F32, {1});
  step.top_token = out(HADAL_I32, {1, Tiny::kTop});
  step.top_logprob = out(HADAL_F32, {1, Tiny::kTop});
}

void Recorder::record_end(int32_t last, int32_t table) {
  hadal_attributes norm{}, sample{};
  norm.norm.eps = 1e-5f;
  sample.sample.top = Tiny::kTop;
  emit(
      HADAL_OP_NORM,
      {{HADAL_NORM_X, last}, {HADAL_NORM_W, constant(Tiny::kWidth, 0.25f)}, {HADAL_NORM_OUT, last}},
      norm);
  emit(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, last},
                         {HADAL_MATMUL_W, table},
                         {HADAL_MATMUL_OUT, step.logits}});  // tied: one handle, two uses
  emit(HADAL_OP_SAMPLE,
       {{HADAL_SAMPLE_LOGITS, step.logits},
        {HADAL_SAMPLE_PARAMS, step.params},
        {HADAL_SAMPLE_SEED, step.seed},
        {HADAL_SAMPLE_POSITION, step.sample_position},
        {HADAL_SAMPLE_ENTRY_START, step.entry_start},
        {HADAL_SAMPLE_ENTRY, step.entry},
        {HADAL_SAMPLE_ENTRY_BIAS, step.entry_bias},
        {HADAL_SAMPLE_TOKEN, step.out_token},
        {HADAL_SAMPLE_LOGPROB, step.logprob},
        {HADAL_SAMPLE_TOP_TOKEN, step.top_token},
        {HADAL_SAMPLE_TOP_LOGPROB, step.top_logprob}},
       sample);
}

}  // namespace hadal::conformance

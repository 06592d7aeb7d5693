#include "levels/tiny_model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

namespace hadal::conformance {
namespace {

constexpr int64_t kVocabulary = 97, kWidth = 64, kHeads = 4, kKvHeads = 2, kHeadDim = 16,
                  kInner = 96, kLayers = 2;
constexpr int64_t kSlots = 8, kBlocksEach = 5, kBlocks = 11, kMaxRows = 32, kTop = 3, kEntries = 4;
// Blocks of the two sequences, on purpose in no order.
constexpr int32_t kBlockTable[2][kBlocksEach] = {{7, 2, 9, 0, 4}, {3, 10, 1, 6, 8}};
constexpr int32_t kPrompt[2] = {23, 9};

}  // namespace

TinyModel::TinyModel(Chip& chip, const Device& device, uint32_t dtype, uint64_t seed,
                     const TinyModel* like)
    : chip_(chip), device_(device), like_(like), dtype_(dtype), random_(seed * 7919 + 5) {
  error_.size = sizeof error_;
  record();
  ready_ = build();
}

TinyModel::~TinyModel() {
  if (program_) chip_.table.program->destroy(program_);
  for (const auto& [index, data] : weights_)
    if (hadal_weight* w = tensors_[static_cast<size_t>(index)].weight)
      chip_.table.weight_destroy(w);
  for (hadal_memory* m : memories_) chip_.table.mem_free(m);
}

// ---- recording

int32_t TinyModel::tensor(uint32_t dtype, uint32_t space, uint32_t row_dim,
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
    t.index = planes_used_++;
  } else if (space != HADAL_SPACE_WEIGHT) {
    const int64_t rows = row_dim == HADAL_DIM_CONST ? 1 : row_dim == HADAL_DIM_T ? kMaxRows : 2;
    t.offset = used_[space];
    const uint64_t unit = std::max<uint64_t>(chip_.info.alignment, 64);
    used_[space] += (static_cast<uint64_t>(bytes * rows) + unit - 1) / unit * unit;
  }
  tensors_.push_back(t);
  return static_cast<int32_t>(tensors_.size()) - 1;
}

int32_t TinyModel::plane(uint32_t role) {
  const int32_t index =
      tensor(HADAL_F16, HADAL_SPACE_PLANE, HADAL_DIM_CONST, {kBlocks, kSlots, kKvHeads * kHeadDim});
  hadal_tensor& t = tensors_[static_cast<size_t>(index)];
  t.flags = role;
  auto block = static_cast<uint64_t>(t.strides[0]);
  const hadal_plane_desc desc{sizeof(hadal_plane_desc),        role,   HADAL_F16,
                              static_cast<uint32_t>(kKvHeads), kSlots, kKvHeads * kHeadDim};
  // What is refused here is refused again, with a text, where the memory is made.
  if (device_.opaque_planes() &&
      chip_.table.plane_bytes(device_.device, &desc, &block, &error_) == HADAL_OK)
    t.strides[0] = static_cast<int64_t>(block);
  block_bytes_ = std::max(block_bytes_, block);
  return index;
}

int32_t TinyModel::view(int32_t of, uint64_t byte_offset, std::vector<int64_t> extents) {
  hadal_tensor t = tensors_[static_cast<size_t>(of)];
  t.rank = static_cast<uint32_t>(extents.size());
  std::fill(std::begin(t.extents), std::end(t.extents), 1);
  std::copy(extents.begin(), extents.end(), t.extents);
  int64_t stride = 4;
  for (uint32_t d = t.rank; d-- > 1;) {
    t.strides[d] = stride;
    stride *= t.extents[d];
  }
  t.offset += byte_offset;
  if (byte_offset != 0) t.flags |= HADAL_TENSOR_COLUMNS;
  tensors_.push_back(t);
  return static_cast<int32_t>(tensors_.size()) - 1;
}

int32_t TinyModel::weight(uint32_t dtype, int64_t rows, int64_t cols, uint32_t uses) {
  // Made even if the other model's is taken: the numbers that follow are the same then.
  auto data = make_weight(random_, dtype, {.rows = rows, .cols = cols, .uses = uses, .pieces = 2});
  std::string violation;
  data = like_ ? like_->weights_[weights_.size()].second : adapt_weight(data, device_, violation);
  const int32_t index = tensor(data->desc.dtype, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, {rows, cols});
  weights_.emplace_back(index, std::move(data));
  return index;
}

int32_t TinyModel::vector(const std::vector<float>& values) {
  const int32_t index =
      tensor(HADAL_F32, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, {static_cast<int64_t>(values.size())});
  weights_.emplace_back(index, make_vector(values));
  return index;
}

void TinyModel::emit(uint32_t id, const std::vector<std::pair<uint32_t, int32_t>>& operands,
                     const hadal_attributes& attr) {
  hadal_op op{};
  op.id = id;
  op.attr = attr;
  std::fill(std::begin(op.operands), std::end(op.operands), -1);
  for (const auto& [operand, index] : operands) op.operands[operand] = index;
  ops_.push_back(op);
}

void TinyModel::record_layer(int32_t x) {
  const auto temporary = [&](int64_t width) {
    return tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, {1, width});
  };
  const float small = 1.0f / std::sqrt(static_cast<float>(kWidth));
  hadal_attributes norm{}, rope{}, write{}, attention{};
  norm.norm.eps = 1e-5f;
  rope.rope = {
      .first = 0, .dims = kHeadDim, .interleaved = 0, .inverse = 0, .ratio = 1, .amplitude = 1};
  write.kv_write.ratio = 1;
  attention.attention = {.scale = 0.05f, .kv_heads = kKvHeads, .window = 0};
  const int32_t norm_weight = vector(std::vector<float>(kWidth, small));
  const int32_t h = temporary(kWidth);
  emit(HADAL_OP_NORM, {{HADAL_NORM_X, x}, {HADAL_NORM_W, norm_weight}, {HADAL_NORM_OUT, h}}, norm);
  const int32_t qkv = temporary((kHeads + 2 * kKvHeads) * kHeadDim);
  const int32_t w = weight(dtype_, (kHeads + 2 * kKvHeads) * kHeadDim, kWidth, HADAL_USE_MATMUL);
  emit(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, h}, {HADAL_MATMUL_W, w}, {HADAL_MATMUL_OUT, qkv}});
  // Views of the merged product: heads of q, k and v in rows that are wider than they are.
  const int32_t q = view(qkv, 0, {1, kHeads, kHeadDim});
  const int32_t k = view(qkv, kHeads * kHeadDim * 4, {1, kKvHeads, kHeadDim});
  const int32_t k_row = view(qkv, kHeads * kHeadDim * 4, {1, kKvHeads * kHeadDim});
  const int32_t v_row = view(qkv, (kHeads + kKvHeads) * kHeadDim * 4, {1, kKvHeads * kHeadDim});
  std::vector<float> inv_freq;
  for (int64_t i = 0; i < kHeadDim / 2; ++i)
    inv_freq.push_back(std::pow(1000.0f, -static_cast<float>(i) / 8.0f));
  const int32_t frequencies = vector(inv_freq);
  for (const int32_t turned : {q, k})
    emit(HADAL_OP_ROPE,
         {{HADAL_ROPE_X, turned},
          {HADAL_ROPE_POSITION, position_},
          {HADAL_ROPE_INV_FREQ, frequencies}},
         rope);
  const int32_t k_plane = plane(HADAL_PLANE_KEY), v_plane = plane(HADAL_PLANE_VALUE);
  for (const auto& [row, plane] : {std::pair{k_row, k_plane}, std::pair{v_row, v_plane}})
    emit(HADAL_OP_KV_WRITE,
         {{HADAL_KV_WRITE_X, row},
          {HADAL_KV_WRITE_PLANE, plane},
          {HADAL_KV_WRITE_POSITION, position_},
          {HADAL_KV_WRITE_ROW_SEQ, row_seq_},
          {HADAL_KV_WRITE_BLOCK_TABLE, block_table_},
          {HADAL_KV_WRITE_WRITE_FROM, write_from_}},
         write);
  const int32_t mixed = temporary(kHeads * kHeadDim);
  emit(HADAL_OP_GQA_ATTENTION,
       {{HADAL_GQA_ATTENTION_Q, q},
        {HADAL_GQA_ATTENTION_K, k_plane},
        {HADAL_GQA_ATTENTION_V, v_plane},
        {HADAL_GQA_ATTENTION_POSITION, position_},
        {HADAL_GQA_ATTENTION_ROW_SEQ, row_seq_},
        {HADAL_GQA_ATTENTION_BLOCK_TABLE, block_table_},
        {HADAL_GQA_ATTENTION_FIRST, first_},
        {HADAL_GQA_ATTENTION_OUT, view(mixed, 0, {1, kHeads, kHeadDim})}},
       attention);
  const int32_t w_out = weight(dtype_, kWidth, kHeads * kHeadDim, HADAL_USE_MATMUL);
  emit(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, mixed},
                         {HADAL_MATMUL_W, w_out},
                         {HADAL_MATMUL_ADD, x},
                         {HADAL_MATMUL_OUT, x}});
  const int32_t h2 = temporary(kWidth);
  emit(HADAL_OP_NORM, {{HADAL_NORM_X, x}, {HADAL_NORM_W, norm_weight}, {HADAL_NORM_OUT, h2}}, norm);
  const int32_t inner = temporary(kInner);
  const int32_t gate = weight(dtype_, kInner, kWidth, HADAL_USE_MATMUL);
  const int32_t up = weight(dtype_, kInner, kWidth, HADAL_USE_MATMUL);
  emit(HADAL_OP_GATED_MATMUL, {{HADAL_GATED_MATMUL_X, h2},
                               {HADAL_GATED_MATMUL_GATE, gate},
                               {HADAL_GATED_MATMUL_UP, up},
                               {HADAL_GATED_MATMUL_OUT, inner}});
  const int32_t down = weight(dtype_, kWidth, kInner, HADAL_USE_MATMUL);
  emit(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, inner},
                         {HADAL_MATMUL_W, down},
                         {HADAL_MATMUL_ADD, x},
                         {HADAL_MATMUL_OUT, x}});
}

void TinyModel::record() {
  const auto in = [&](uint32_t dtype, uint32_t dim, std::vector<int64_t> extents) {
    return tensor(dtype, HADAL_SPACE_INPUT, dim, std::move(extents));
  };
  token_ = in(HADAL_I32, HADAL_DIM_T, {1});
  position_ = in(HADAL_I32, HADAL_DIM_T, {1});
  row_seq_ = in(HADAL_I32, HADAL_DIM_T, {1});
  write_from_ = in(HADAL_I32, HADAL_DIM_S, {1});
  first_ = in(HADAL_I32, HADAL_DIM_S, {1});
  block_table_ = in(HADAL_I32, HADAL_DIM_S, {1, kBlocksEach});
  logit_row_ = in(HADAL_I32, HADAL_DIM_R, {1});
  params_ = in(HADAL_F32, HADAL_DIM_R, {1, HADAL_PARAM_COUNT});
  seed_ = in(HADAL_U32, HADAL_DIM_R, {1, 2});
  sample_position_ = in(HADAL_I32, HADAL_DIM_R, {1});
  entry_start_ = in(HADAL_I32, HADAL_DIM_R, {1, 2});
  entry_ = in(HADAL_I32, HADAL_DIM_CONST, {kEntries, 3});
  entry_bias_ = in(HADAL_F32, HADAL_DIM_CONST, {kEntries});
  const auto out = [&](uint32_t dtype, std::vector<int64_t> extents) {
    return tensor(dtype, HADAL_SPACE_OUTPUT, HADAL_DIM_R, std::move(extents));
  };
  logits_ = out(HADAL_F32, {1, kVocabulary});
  out_token_ = out(HADAL_I32, {1});
  logprob_ = out(HADAL_F32, {1});
  top_token_ = out(HADAL_I32, {1, kTop});
  top_logprob_ = out(HADAL_F32, {1, kTop});

  const int32_t table = weight(dtype_, kVocabulary, kWidth, HADAL_USE_GATHER | HADAL_USE_MATMUL);
  const int32_t x = tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, {1, kWidth});
  emit(HADAL_OP_EMBED,
       {{HADAL_EMBED_TOKEN, token_}, {HADAL_EMBED_TABLE, table}, {HADAL_EMBED_OUT, x}});
  for (int64_t layer = 0; layer < kLayers; ++layer) record_layer(x);
  const int32_t last = tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_R, {1, kWidth});
  emit(HADAL_OP_GATHER_ROWS, {{HADAL_GATHER_ROWS_X, x},
                              {HADAL_GATHER_ROWS_INDEX, logit_row_},
                              {HADAL_GATHER_ROWS_OUT, last}});
  hadal_attributes norm{}, sample{};
  norm.norm.eps = 1e-5f;
  sample.sample.top = kTop;
  emit(HADAL_OP_NORM,
       {{HADAL_NORM_X, last},
        {HADAL_NORM_W, vector(std::vector<float>(kWidth, 0.25f))},
        {HADAL_NORM_OUT, last}},
       norm);
  emit(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, last},
                         {HADAL_MATMUL_W, table},
                         {HADAL_MATMUL_OUT, logits_}});  // tied: one handle, two uses
  emit(HADAL_OP_SAMPLE,
       {{HADAL_SAMPLE_LOGITS, logits_},
        {HADAL_SAMPLE_PARAMS, params_},
        {HADAL_SAMPLE_SEED, seed_},
        {HADAL_SAMPLE_POSITION, sample_position_},
        {HADAL_SAMPLE_ENTRY_START, entry_start_},
        {HADAL_SAMPLE_ENTRY, entry_},
        {HADAL_SAMPLE_ENTRY_BIAS, entry_bias_},
        {HADAL_SAMPLE_TOKEN, out_token_},
        {HADAL_SAMPLE_LOGPROB, logprob_},
        {HADAL_SAMPLE_TOP_TOKEN, top_token_},
        {HADAL_SAMPLE_TOP_LOGPROB, top_logprob_}},
       sample);
}

// ---- building

// For a chip that does not take it fused.
bool TinyModel::lower_gated(const hadal_op& op) {
  lowered_ = true;
  const int32_t* o = op.operands;
  const int32_t up = tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, {1, kInner});
  emit(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, o[HADAL_GATED_MATMUL_X]},
                         {HADAL_MATMUL_W, o[HADAL_GATED_MATMUL_GATE]},
                         {HADAL_MATMUL_OUT, o[HADAL_GATED_MATMUL_OUT]}});
  emit(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, o[HADAL_GATED_MATMUL_X]},
                         {HADAL_MATMUL_W, o[HADAL_GATED_MATMUL_UP]},
                         {HADAL_MATMUL_OUT, up}});
  emit(HADAL_OP_SWIGLU, {{HADAL_SWIGLU_GATE, o[HADAL_GATED_MATMUL_OUT]},
                         {HADAL_SWIGLU_UP, up},
                         {HADAL_SWIGLU_OUT, o[HADAL_GATED_MATMUL_OUT]}});
  return true;
}

// What a chip does not take fused is lowered, sampling is left out; anything else that it declines
// makes the model impossible.
bool TinyModel::accept_operators() {
  std::vector<hadal_op> ops;
  std::swap(ops, ops_);
  for (size_t i = 0; i < ops.size(); ++i) {
    const hadal_op op = ops[i];
    const Support support = ask_support(device_, op, tensors_, tape_.limits);
    const std::string& text = support.violation.empty() ? support.text : support.violation;
    error_ = fresh_error();
    text.copy(error_.text, sizeof error_.text - 1);
    if (!support.violation.empty()) return false;
    workspace_bytes_ = std::max(workspace_bytes_, support.workspace_bytes);
    const bool declined = support.status == HADAL_UNSUPPORTED;
    if (op.id == HADAL_OP_GATED_MATMUL && (like_ ? like_->lowered_ : declined)) {
      const size_t first = ops_.size();
      lower_gated(op);
      // Asked in their turn.
      ops.insert(ops.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                 ops_.begin() + static_cast<std::ptrdiff_t>(first), ops_.end());
      ops_.resize(first);
    } else if (op.id == HADAL_OP_SAMPLE && (like_ ? !like_->samples_ : declined)) {
      samples_ = false;
    } else if (support.status == HADAL_OK) {
      ops_.push_back(op);
      classes_.push_back(support.numerics);
      bool quantised = false;
      for (const int32_t index : op.operands)
        if (index >= 0)
          if (const hadal_tensor& t = tensors_[static_cast<size_t>(index)];
              t.space == HADAL_SPACE_WEIGHT)
            quantised = quantised || is_quantised(t.dtype);
      if (classes_.back().kind == HADAL_NUMERICS_UNSAID)
        classes_.back() = {quantised ? HADAL_NUMERICS_BLOCK8 : HADAL_NUMERICS_EXACT, 32};
    } else {
      declined_ = declined && is_quantised(dtype_);
      return false;
    }
  }
  return true;
}

bool TinyModel::allocate(uint64_t bytes, hadal_memory** out) {
  const hadal_chip& t = chip_.table;
  if (t.mem_alloc(device_.device, std::max<uint64_t>(bytes, 64), out, &error_) != HADAL_OK)
    return false;
  memories_.push_back(*out);
  return t.fill(device_.queue, *out, 0, bytes, 0xff, &error_) == HADAL_OK;
}

bool TinyModel::create_weights() {
  const hadal_chip& t = chip_.table;
  for (auto& [index, data] : weights_) {
    std::vector<hadal_piece> pieces;
    const auto import = [&](const Bytes& bytes, hadal_memory** out) {
      if (t.mem_import(device_.device, bytes.data(), bytes.size(), out, &error_) != HADAL_OK)
        return false;
      memories_.push_back(*out);
      return true;
    };
    for (const WeightData::Source& source : data->sources) {
      hadal_piece piece{};
      piece.offset = data->skew;
      piece.rows = source.rows;
      piece.row_stride = source.row_stride;
      if (!import(source.bytes, &piece.memory)) return false;
      if (!source.scale_bytes.empty()) {
        piece.scale_offset = data->skew;
        piece.scale_row_stride = source.scale_row_stride;
        if (!import(source.scale_bytes, &piece.scale_memory)) return false;
      }
      pieces.push_back(piece);
    }
    hadal_weight** w = &tensors_[static_cast<size_t>(index)].weight;
    if (t.weight_create(device_.device, &data->desc, pieces.data(),
                        static_cast<uint32_t>(pieces.size()), w, &error_) != HADAL_OK)
      return false;
  }
  return true;
}

// A tape says of every temporary where it is used last.
void TinyModel::mark_last_uses() {
  for (size_t i = 0; i < ops_.size(); ++i)
    for (uint32_t operand = 0; operand < HADAL_MAX_OPERANDS; ++operand) {
      const int32_t index = ops_[i].operands[operand];
      if (index < 0 || tensors_[static_cast<size_t>(index)].space != HADAL_SPACE_SCRATCH) continue;
      const auto shares = [&](int32_t other) {
        if (other < 0 || tensors_[static_cast<size_t>(other)].space != HADAL_SPACE_SCRATCH)
          return false;
        const hadal_tensor &a = tensors_[static_cast<size_t>(index)],
                           &b = tensors_[static_cast<size_t>(other)];
        return b.offset < a.offset + static_cast<uint64_t>(a.strides[0] * kMaxRows) &&
               a.offset < b.offset + static_cast<uint64_t>(b.strides[0] * kMaxRows);
      };
      bool later = false;
      for (size_t j = i + 1; j < ops_.size(); ++j)
        later =
            later || std::any_of(std::begin(ops_[j].operands), std::end(ops_[j].operands), shares);
      if (!later) ops_[i].last_use |= 1u << operand;
    }
}

bool TinyModel::create_memories() {
  input_image_.assign(tape_.input_bytes, std::byte{0xff});
  output_image_.assign(tape_.output_bytes, std::byte{0xff});
  planes_.resize(planes_used_);
  for (hadal_memory*& plane : planes_)
    if (!allocate(kBlocks * block_bytes_, &plane)) return false;
  if (!allocate(tape_.scratch_bytes, &scratch_) || !allocate(tape_.input_bytes, &inputs_) ||
      !allocate(tape_.output_bytes, &outputs_))
    return false;
  return workspace_bytes_ == 0 || allocate(workspace_bytes_, &workspace_);
}

bool TinyModel::build() {
  tape_.limits[HADAL_DIM_CONST] = 1;
  tape_.limits[HADAL_DIM_T] = tape_.limits[HADAL_DIM_U] = kMaxRows;
  tape_.limits[HADAL_DIM_S] = tape_.limits[HADAL_DIM_R] = 2;
  if (!accept_operators() || !create_weights()) return false;
  mark_last_uses();
  tape_.size = sizeof tape_;
  tape_.tensor_count = static_cast<uint32_t>(tensors_.size());
  tape_.tensors = tensors_.data();
  tape_.op_count = static_cast<uint32_t>(ops_.size());
  tape_.ops = ops_.data();
  tape_.scratch_bytes = used_[HADAL_SPACE_SCRATCH];
  tape_.input_bytes = used_[HADAL_SPACE_INPUT];
  tape_.output_bytes = used_[HADAL_SPACE_OUTPUT];
  tape_.plane_count = planes_used_;
  if (!create_memories()) return false;
  const hadal_program_table* program = chip_.table.program;
  return !program || program->prepare(device_.device, &tape_, &program_, &error_) == HADAL_OK;
}

bool TinyModel::spread(std::vector<const Device*> devices) {
  uint64_t bytes = workspace_bytes_;
  for (size_t i = 0; i < ops_.size(); ++i) {
    const Support support = ask_support(*devices[i], ops_[i], tensors_, tape_.limits);
    if (support.status != HADAL_OK) return false;
    bytes = std::max(bytes, support.workspace_bytes);
  }
  devices_ = std::move(devices);
  if (bytes <= workspace_bytes_) return true;
  workspace_bytes_ = bytes;
  return allocate(bytes, &workspace_);
}

// ---- running

template <typename T>
T* TinyModel::input(int32_t index) {
  return reinterpret_cast<T*>(input_image_.data() + tensors_[static_cast<size_t>(index)].offset);
}

void TinyModel::reset() {
  for (int32_t s = 0; s < 2; ++s) {
    known_[s].clear();
    for (int32_t i = 0; i < kPrompt[s]; ++i)
      known_[s].push_back((i * 31 + s * 17 + 5) % static_cast<int32_t>(kVocabulary));
    done_[s] = 0;
  }
  for (hadal_memory* plane : planes_)
    chip_.table.fill(device_.queue, plane, 0, kBlocks * block_bytes_, 0xff, &error_);
}

void TinyModel::fill_inputs(const std::vector<Chunk>& chunks, hadal_step& step,
                            std::vector<int32_t>& asked) {
  std::fill(input_image_.begin(), input_image_.end(), std::byte{0xff});
  for (int64_t e = 0; e < kEntries; ++e) {
    const int32_t entry[3] = {static_cast<int32_t>(e * 11), static_cast<int32_t>(e % 2),
                              static_cast<int32_t>(e % 3)};
    std::copy(entry, entry + 3, input<int32_t>(entry_) + e * 3);
    input<float>(entry_bias_)[e] = 0.25f * static_cast<float>(e);
  }
  int32_t t = 0, s = 0, r = 0;
  for (const Chunk& chunk : chunks) {
    for (int32_t i = 0; i < chunk.rows; ++i, ++t) {
      const int32_t at = done_[chunk.sequence] + i;
      input<int32_t>(token_)[t] = known_[chunk.sequence][static_cast<size_t>(at)];
      input<int32_t>(position_)[t] = at;
      input<int32_t>(row_seq_)[t] = s;
    }
    input<int32_t>(write_from_)[s] = 0;
    input<int32_t>(first_)[s] = 0;
    std::copy(kBlockTable[chunk.sequence], kBlockTable[chunk.sequence] + kBlocksEach,
              input<int32_t>(block_table_) + s * kBlocksEach);
    ++s;
    const int32_t end = done_[chunk.sequence] + chunk.rows;
    if (end != static_cast<int32_t>(known_[chunk.sequence].size())) continue;
    asked.push_back(chunk.sequence);
    input<int32_t>(logit_row_)[r] = t - 1;
    const float params[HADAL_PARAM_COUNT] = {0.8f, 40, 0.95f, 0.01f, 1.1f, 0.1f, 0.1f, 0};
    std::copy(params, params + HADAL_PARAM_COUNT, input<float>(params_) + r * HADAL_PARAM_COUNT);
    input<uint32_t>(seed_)[2 * r] = 17u + static_cast<uint32_t>(chunk.sequence);
    input<uint32_t>(seed_)[2 * r + 1] = 99;
    input<int32_t>(sample_position_)[r] = end;
    input<int32_t>(entry_start_)[2 * r] = 0;
    input<int32_t>(entry_start_)[2 * r + 1] = static_cast<int32_t>(kEntries);
    ++r;
  }
  step.rows[HADAL_DIM_CONST] = 1;
  step.rows[HADAL_DIM_T] = step.rows[HADAL_DIM_U] = t;
  step.rows[HADAL_DIM_S] = s;
  step.rows[HADAL_DIM_R] = r;
}

hadal_status TinyModel::run_tape(const hadal_step& step, RunMode mode) {
  const hadal_chip& t = chip_.table;
  if (mode == RunMode::kProgram) return t.program->run(program_, device_.queue, &step, &error_);
  if (mode == RunMode::kWholeTape)
    return t.op_run(device_.queue, &tape_, 0, tape_.op_count, &step, &error_);
  for (uint32_t i = 0; i < tape_.op_count; ++i) {
    hadal_queue* queue = devices_.empty() ? device_.queue : devices_[i]->queue;
    const hadal_status status = t.op_run(queue, &tape_, i, 1, &step, &error_);
    if (status != HADAL_OK) return status;
    // One queue does not wait for another.
    if (!devices_.empty()) t.queue_sync(queue, nullptr);
  }
  return HADAL_OK;
}

hadal_status TinyModel::step(const std::vector<Chunk>& chunks, RunMode mode,
                             const volatile int32_t* stop, std::vector<Answer>& answers) {
  const hadal_chip& t = chip_.table;
  hadal_step step{};
  std::vector<int32_t> asked;
  fill_inputs(chunks, step, asked);
  step.size = sizeof step;
  step.plane_count = tape_.plane_count;
  step.scratch = scratch_;
  step.inputs = inputs_;
  step.outputs = outputs_;
  step.workspace = mode == RunMode::kProgram ? nullptr : workspace_;
  step.planes = planes_.data();
  step.stop = stop;
  step.host_inputs = input_image_.data();
  error_.text[0] = '\0';
  t.copy_in(device_.queue, inputs_, 0, input_image_.data(), input_image_.size(), &error_);
  t.fill(device_.queue, scratch_, 0, tape_.scratch_bytes, 0xff, &error_);
  t.fill(device_.queue, outputs_, 0, tape_.output_bytes, 0xff, &error_);
  if (workspace_) t.fill(device_.queue, workspace_, 0, workspace_bytes_, 0xff, &error_);
  const auto start = std::chrono::steady_clock::now();
  hadal_status status = run_tape(step, mode);
  const hadal_status synced = t.queue_sync(device_.queue, status == HADAL_OK ? &error_ : nullptr);
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (status == HADAL_OK) status = synced;
  if (status != HADAL_OK) return status;
  t.copy_out(device_.queue, output_image_.data(), outputs_, 0, output_image_.size(), &error_);
  status = t.queue_sync(device_.queue, &error_);
  if (status != HADAL_OK) return status;
  for (const Chunk& chunk : chunks) done_[chunk.sequence] += chunk.rows;
  read_answers(asked, answers);
  return HADAL_OK;
}

void TinyModel::read_answers(const std::vector<int32_t>& asked, std::vector<Answer>& answers) {
  answers.clear();
  std::vector<int32_t> results = {logits_};
  if (samples_) results.insert(results.end(), {out_token_, logprob_, top_token_, top_logprob_});
  for (size_t r = 0; r < asked.size(); ++r) {
    Answer answer{.sequence = asked[r], .bits = {}, .logits = {}, .finite = true};
    for (const int32_t index : results) {
      const hadal_tensor& o = tensors_[static_cast<size_t>(index)];
      const std::byte* row =
          output_image_.data() + o.offset + r * static_cast<uint64_t>(o.strides[0]);
      answer.bits.insert(answer.bits.end(), row, row + o.strides[0]);
      for (int64_t i = 0; o.dtype == HADAL_F32 && i < o.strides[0] / 4; ++i) {
        float value = 0;
        std::memcpy(&value, row + i * 4, 4);
        answer.finite = answer.finite && std::isfinite(value);
        if (index == logits_) answer.logits.push_back(value);
      }
    }
    auto token = static_cast<int32_t>(std::max_element(answer.logits.begin(), answer.logits.end()) -
                                      answer.logits.begin());
    if (samples_)
      std::memcpy(&token,
                  output_image_.data() + tensors_[static_cast<size_t>(out_token_)].offset + r * 4,
                  4);
    std::vector<int32_t>& known = known_[asked[r]];
    if (forced_)
      token = static_cast<int32_t>((known.size() * 29 + static_cast<size_t>(asked[r]) * 13 + 3) %
                                   static_cast<size_t>(kVocabulary));
    known.push_back(std::clamp(token, 0, static_cast<int32_t>(kVocabulary) - 1));
    answers.push_back(std::move(answer));
  }
}

std::vector<Bytes> TinyModel::read_planes() {
  std::vector<Bytes> all;
  for (hadal_memory* plane : planes_) {
    all.emplace_back(kBlocks * block_bytes_);
    chip_.table.copy_out(device_.queue, all.back().data(), plane, 0, all.back().size(), &error_);
  }
  // The targets are written when this returns.
  chip_.table.queue_sync(device_.queue, &error_);
  return all;
}

}  // namespace hadal::conformance

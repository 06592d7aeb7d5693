#include "levels/tiny_model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

namespace hadal::conformance {
namespace {

// Blocks of the two sequences, on purpose in no order.
constexpr int32_t kBlockTable[2][Tiny::kBlocksEach] = {{7, 2, 9, 0, 4}, {3, 10, 1, 6, 8}};
constexpr int32_t kPrompt[2] = {23, 9};

}  // namespace

TinyModel::TinyModel(Chip& chip, const Device& device, const TinySpec& spec, const TinyModel* like)
    : chip_(chip),
      device_(device),
      like_(like),
      recorder_(chip, device, spec.dtype, spec.seed, like ? &like->recorder_ : nullptr) {
  error_ = fresh_error();
  record_family(recorder_, spec.family);
  ready_ = build();
}

int32_t TinyModel::block_of_sequence(int32_t sequence, int64_t number) {
  return kBlockTable[sequence][number];
}

TinyModel::~TinyModel() {
  if (program_) chip_.table.program->destroy(program_);
  for (const auto& [index, data] : recorder_.weights)
    if (hadal_weight* w = at(index).weight) chip_.table.weight_destroy(w);
  for (hadal_memory* m : memories_) chip_.table.mem_free(m);
}

// ---- building

// What a chip does not take fused is lowered, sampling is left out; anything else that it declines
// makes the model impossible. ref lowers what the model that it is like lowers, and what it lacks.
bool TinyModel::accept_operators() {
  std::vector<Planned> plan;
  for (size_t i = 0; i < recorder_.ops.size(); ++i) plan.push_back({recorder_.ops[i], {i, -1}});
  for (size_t i = 0; i < plan.size(); ++i) {
    const Planned now = plan[i];
    const Support support = ask_support(device_, now.op, recorder_.tensors, tape_.limits);
    error_ = fresh_error();
    const std::string& text = support.violation.empty() ? support.text : support.violation;
    text.copy(error_.text, sizeof error_.text - 1);
    if (!support.violation.empty()) return false;
    const bool declined = support.status == HADAL_UNSUPPORTED;
    const bool lowers =
        declined || (like_ && like_->lowered_.contains(now.origin.recorded) && now.origin.part < 0);
    std::vector<hadal_op> parts;
    if (lowers) parts = lower(now.op);
    if (!parts.empty()) {
      lowered_.insert(now.origin.recorded);
      std::vector<Planned> more;
      for (size_t p = 0; p < parts.size(); ++p)
        more.push_back({parts[p], {now.origin.recorded, static_cast<int>(p)}});
      plan.insert(plan.begin() + static_cast<std::ptrdiff_t>(i) + 1, more.begin(), more.end());
    } else if (now.op.id == HADAL_OP_SAMPLE && (like_ ? !like_->samples_ : declined)) {
      samples_ = false;
    } else if (!accept(now, support)) {
      declined_ = declined;
      return false;
    }
  }
  return true;
}

bool TinyModel::accept(const Planned& planned, const Support& support) {
  if (support.status != HADAL_OK) return false;
  workspace_bytes_ = std::max(workspace_bytes_, support.workspace_bytes);
  ops_.push_back(planned.op);
  origins_.push_back(planned.origin);
  Numerics numerics = support.numerics;
  bool quantised = false;
  for (const int32_t index : planned.op.operands)
    if (index >= 0 && at(index).space == HADAL_SPACE_WEIGHT)
      quantised = quantised || is_quantised(at(index).dtype);
  if (numerics.kind == HADAL_NUMERICS_UNSAID)
    numerics = {quantised ? HADAL_NUMERICS_BLOCK8 : HADAL_NUMERICS_EXACT, 32};
  classes_.push_back(like_ ? like_->class_of(planned.origin) : numerics);
  return true;
}

/// A part of an operator that this model runs whole is of the whole's class.
Numerics TinyModel::class_of(const Origin& origin) const {
  Numerics whole{HADAL_NUMERICS_EXACT, 32};
  for (size_t i = 0; i < origins_.size(); ++i) {
    if (origins_[i].recorded != origin.recorded) continue;
    if (origins_[i].part == origin.part) return classes_[i];
    if (origins_[i].part < 0) whole = classes_[i];
  }
  return whole;
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
  for (auto& [index, data] : recorder_.weights) {
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
    hadal_weight** w = &at(index).weight;
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
      if (index < 0 || at(index).space != HADAL_SPACE_SCRATCH) continue;
      const auto end = [](const hadal_tensor& t) {
        const int64_t rows = t.row_dim == HADAL_DIM_CONST ? 1 : Tiny::kMaxRows;
        return t.offset + static_cast<uint64_t>(t.strides[0] * t.extents[0] * rows);
      };
      const auto shares = [&](int32_t other) {
        if (other < 0 || at(other).space != HADAL_SPACE_SCRATCH) return false;
        const hadal_tensor &a = at(index), &b = at(other);
        return b.offset < end(a) && a.offset < end(b);
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
  planes_.resize(recorder_.planes_used);
  for (hadal_memory*& plane : planes_)
    if (!allocate(Tiny::kBlocks * recorder_.block_bytes, &plane)) return false;
  if (!allocate(tape_.scratch_bytes, &scratch_) || !allocate(tape_.input_bytes, &inputs_) ||
      !allocate(tape_.output_bytes, &outputs_))
    return false;
  return workspace_bytes_ == 0 || allocate(workspace_bytes_, &workspace_);
}

bool TinyModel::build() {
  tape_.limits[HADAL_DIM_CONST] = 1;
  tape_.limits[HADAL_DIM_T] = tape_.limits[HADAL_DIM_U] = Tiny::kMaxRows;
  tape_.limits[HADAL_DIM_S] = tape_.limits[HADAL_DIM_R] = 2;
  if (!accept_operators() || !create_weights()) return false;
  mark_last_uses();
  tape_.size = sizeof tape_;
  tape_.tensor_count = static_cast<uint32_t>(recorder_.tensors.size());
  tape_.tensors = recorder_.tensors.data();
  tape_.op_count = static_cast<uint32_t>(ops_.size());
  tape_.ops = ops_.data();
  tape_.scratch_bytes = recorder_.used[HADAL_SPACE_SCRATCH];
  tape_.input_bytes = recorder_.used[HADAL_SPACE_INPUT];
  tape_.output_bytes = recorder_.used[HADAL_SPACE_OUTPUT];
  tape_.plane_count = recorder_.planes_used;
  if (!create_memories()) return false;
  const hadal_program_table* program = chip_.table.program;
  return !program || program->prepare(device_.device, &tape_, &program_, &error_) == HADAL_OK;
}

bool TinyModel::spread(std::vector<const Device*> devices) {
  uint64_t bytes = workspace_bytes_;
  for (size_t i = 0; i < ops_.size(); ++i) {
    const Support support = ask_support(*devices[i], ops_[i], recorder_.tensors, tape_.limits);
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
  return reinterpret_cast<T*>(input_image_.data() + at(index).offset);
}

void TinyModel::reset() {
  for (int32_t s = 0; s < 2; ++s) {
    known_[s].clear();
    for (int32_t i = 0; i < kPrompt[s]; ++i)
      known_[s].push_back((i * 31 + s * 17 + 5) % static_cast<int32_t>(Tiny::kVocabulary));
    done_[s] = 0;
  }
  choices_ = {};
  candidates_ = {};
  for (hadal_memory* plane : planes_)
    chip_.table.fill(device_.queue, plane, 0, Tiny::kBlocks * recorder_.block_bytes, 0xff, &error_);
}

void TinyModel::fill_inputs(const std::vector<Chunk>& chunks, hadal_step& step,
                            std::vector<int32_t>& asked) {
  const StepTensors& in = recorder_.step;
  std::fill(input_image_.begin(), input_image_.end(), std::byte{0xff});
  for (int64_t e = 0; e < Tiny::kEntries; ++e) {
    const int32_t entry[3] = {static_cast<int32_t>(e * 11), static_cast<int32_t>(e % 2),
                              static_cast<int32_t>(e % 3)};
    std::copy(entry, entry + 3, input<int32_t>(in.entry) + e * 3);
    input<float>(in.entry_bias)[e] = 0.25f * static_cast<float>(e);
  }
  int32_t t = 0, s = 0, r = 0;
  rows_.clear();
  for (const Chunk& chunk : chunks) {
    for (int32_t i = 0; i < chunk.rows; ++i, ++t) {
      const int32_t where = done_[chunk.sequence] + i;
      rows_.emplace_back(chunk.sequence, where);
      const int32_t token = known_[chunk.sequence][static_cast<size_t>(where)];
      input<int32_t>(in.token)[t] = token;
      input<int32_t>(in.position)[t] = where;
      input<int32_t>(in.row_seq)[t] = s;
      // An n-gram's memory: of the token here, whatever stands before it.
      for (int32_t c = 0; c < Tiny::kLookedUp; ++c)
        input<float>(in.looked_up)[t * Tiny::kLookedUp + c] =
            static_cast<float>((token * 37 + c * 11) % 23 - 11) / 16.0f;
    }
    input<int32_t>(in.write_from)[s] = 0;
    input<int32_t>(in.first)[s] = 0;
    std::copy(kBlockTable[chunk.sequence], kBlockTable[chunk.sequence] + Tiny::kBlocksEach,
              input<int32_t>(in.block_table) + s * Tiny::kBlocksEach);
    ++s;
    const int32_t end = done_[chunk.sequence] + chunk.rows;
    if (end != static_cast<int32_t>(known_[chunk.sequence].size())) continue;
    asked.push_back(chunk.sequence);
    input<int32_t>(in.logit_row)[r] = t - 1;
    fill_sampling(r++, chunk.sequence, end);
  }
  // Rows of no sequence fill a step up to the bucket that the chip wants.
  for (const int32_t end = bucket_of(t); t < end; ++t) {
    input<int32_t>(in.token)[t] = 0;
    input<int32_t>(in.position)[t] = 0;
    input<int32_t>(in.row_seq)[t] = -1;
    std::fill_n(input<float>(in.looked_up) + t * Tiny::kLookedUp, Tiny::kLookedUp, 0.0f);
  }
  step.rows[HADAL_DIM_CONST] = 1;
  step.rows[HADAL_DIM_T] = step.rows[HADAL_DIM_U] = t;
  step.rows[HADAL_DIM_S] = s;
  step.rows[HADAL_DIM_R] = r;
}

int32_t TinyModel::bucket_of(int32_t rows) const {
  if (!chip_.is_1_1() || rows == 0) return rows;
  for (const uint32_t bucket : chip_.info.row_buckets)
    if (bucket >= static_cast<uint32_t>(rows))
      return std::min(static_cast<int32_t>(bucket), static_cast<int32_t>(Tiny::kMaxRows));
  return rows;
}

void TinyModel::fill_sampling(int32_t r, int32_t sequence, int32_t position) {
  const StepTensors& in = recorder_.step;
  const float params[HADAL_PARAM_COUNT] = {0.8f, 40, 0.95f, 0.01f, 1.1f, 0.1f, 0.1f, 0};
  std::copy(params, params + HADAL_PARAM_COUNT, input<float>(in.params) + r * HADAL_PARAM_COUNT);
  input<uint32_t>(in.seed)[2 * r] = 17u + static_cast<uint32_t>(sequence);
  input<uint32_t>(in.seed)[2 * r + 1] = 99;
  input<int32_t>(in.sample_position)[r] = position;
  input<int32_t>(in.entry_start)[2 * r] = 0;
  input<int32_t>(in.entry_start)[2 * r + 1] = static_cast<int32_t>(Tiny::kEntries);
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
    if (followed_)
      if (const hadal_status followed = follow_choice(ops_[i]); followed != HADAL_OK)
        return followed;
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
  keep_choices();
  for (const Chunk& chunk : chunks) done_[chunk.sequence] += chunk.rows;
  read_answers(asked, answers);
  return HADAL_OK;
}

void TinyModel::read_answers(const std::vector<int32_t>& asked, std::vector<Answer>& answers) {
  answers.clear();
  const StepTensors& step = recorder_.step;
  std::vector<int32_t> results = {step.logits};
  if (samples_)
    results.insert(results.end(), {step.out_token, step.logprob, step.top_token, step.top_logprob});
  for (size_t r = 0; r < asked.size(); ++r) {
    Answer answer{.sequence = asked[r], .bits = {}, .logits = {}, .finite = true};
    for (const int32_t index : results) {
      const hadal_tensor& o = at(index);
      const std::byte* row =
          output_image_.data() + o.offset + r * static_cast<uint64_t>(o.strides[0]);
      answer.bits.insert(answer.bits.end(), row, row + o.strides[0]);
      for (int64_t i = 0; o.dtype == HADAL_F32 && i < o.strides[0] / 4; ++i) {
        float value = 0;
        std::memcpy(&value, row + i * 4, 4);
        answer.finite = answer.finite && std::isfinite(value);
        if (index == step.logits) answer.logits.push_back(value);
      }
    }
    auto token = static_cast<int32_t>(std::max_element(answer.logits.begin(), answer.logits.end()) -
                                      answer.logits.begin());
    if (samples_) std::memcpy(&token, output_image_.data() + at(step.out_token).offset + r * 4, 4);
    std::vector<int32_t>& known = known_[asked[r]];
    if (forced_)
      token = static_cast<int32_t>((known.size() * 29 + static_cast<size_t>(asked[r]) * 13 + 3) %
                                   static_cast<size_t>(Tiny::kVocabulary));
    known.push_back(std::clamp(token, 0, static_cast<int32_t>(Tiny::kVocabulary) - 1));
    answers.push_back(std::move(answer));
  }
}

std::vector<Bytes> TinyModel::read_planes() {
  std::vector<Bytes> all;
  for (hadal_memory* plane : planes_) {
    all.emplace_back(Tiny::kBlocks * recorder_.block_bytes);
    chip_.table.copy_out(device_.queue, all.back().data(), plane, 0, all.back().size(), &error_);
  }
  // The targets are written when this returns.
  chip_.table.queue_sync(device_.queue, &error_);
  return all;
}

}  // namespace hadal::conformance

// Records the tape of a tiny model by hand, over the C contract alone: tensors, weights and
// operators in program order. Owns what it made of weights; creates nothing on a device.
//
// Families are recorded in families_*.cc; TinyModel (tiny_model.h) builds and runs what was
// recorded.
#pragma once

#include "kit.h"

namespace hadal::conformance {

/// What every tiny model has.
struct Tiny {
  static constexpr int64_t kVocabulary = 97, kWidth = 64, kSlots = 8, kBlocksEach = 5, kBlocks = 11,
                           kMaxRows = 32, kTop = 3, kEntries = 4, kLookedUp = 32;
};

/// Indices of the tensors that a step brings and gives.
struct StepTensors {
  int32_t token = 0, position = 0, row_seq = 0, write_from = 0, first = 0, block_table = 0,
          logit_row = 0, looked_up = 0;
  int32_t params = 0, seed = 0, sample_position = 0, entry_start = 0, entry = 0, entry_bias = 0;
  int32_t logits = 0, out_token = 0, logprob = 0, top_token = 0, top_logprob = 0;
};

/// A rotation of the heads of a tensor.
struct Turn {
  uint32_t first = 0, dims = 0, interleaved = 0, inverse = 0, ratio = 1;
  int32_t inv_freq = -1;
};

class Recorder {
 public:
  using Operands = std::vector<std::pair<uint32_t, int32_t>>;
  /// `taken`: weights to take instead of the own, in their order; or null.
  Recorder(const Chip& chip, const Device& device, uint32_t dtype, uint64_t seed,
           const Recorder* taken)
      : chip_(chip), device_(device), dtype_(dtype), random_(seed * 7919 + 5), taken_(taken) {}

  // ---- tensors
  int32_t tensor(uint32_t dtype, uint32_t space, uint32_t row_dim, std::vector<int64_t> extents);
  /// [T, width] (or of another row count) of fp32 in scratch.
  int32_t rows(int64_t width, uint32_t row_dim = HADAL_DIM_T) {
    return tensor(HADAL_F32, HADAL_SPACE_SCRATCH, row_dim, {1, width});
  }
  /// Numbers that an operator chooses: outputs of the step, so that they can be read after a
  /// program has run.
  int32_t choice(int64_t count) {
    choices.push_back(tensor(HADAL_I32, HADAL_SPACE_OUTPUT, HADAL_DIM_T, {1, count}));
    return choices.back();
  }
  int32_t plane(uint32_t role, int64_t width, uint32_t heads = 1, uint32_t dtype = HADAL_F16);
  /// The memory of fp32 rows `of` from column `from` on, in another shape.
  int32_t view(int32_t of, int64_t from, std::vector<int64_t> extents);

  // ---- weights, with random values
  int32_t weight(int64_t rows, int64_t cols, uint32_t uses = HADAL_USE_MATMUL, int64_t batch = 0);
  int32_t vector(const std::vector<float>& values);
  int32_t constant(int64_t count, float value) {
    return vector(std::vector<float>(static_cast<size_t>(count), value));
  }
  int32_t randoms(int64_t count, float scale) { return vector(random_.normals(count, scale)); }
  int32_t frequencies(int64_t dims);

  // ---- operators
  void emit(uint32_t id, const Operands& operands, const hadal_attributes& attr = {});
  /// A new tensor x W^T of a random matrix.
  int32_t product(int32_t x, int64_t cols, int64_t out);
  void product_into(int32_t x, int64_t cols, int32_t out, int64_t out_width, int32_t add = -1);
  /// rms norm with a weight that gives rows of length 1, so that products stay small.
  void norm(int32_t x, int32_t out, int64_t width);
  void turn(int32_t x, const Turn& turn);
  void kv_write(int32_t x, int32_t plane, uint32_t ratio = 1);
  /// x += W_down (silu(W_gate h) W_up h); without `x` a new tensor.
  int32_t gated(int32_t h, int64_t inner, int32_t x = -1);

  void record_inputs();
  void record_end(int32_t last, int32_t table);

  StepTensors step;
  std::vector<hadal_tensor> tensors;
  std::vector<hadal_op> ops;
  std::vector<std::pair<int32_t, std::shared_ptr<const WeightData>>> weights;  // tensor, data
  std::vector<int32_t> choices;                                                // tensors
  uint64_t used[6] = {};
  uint32_t planes_used = 0;
  uint64_t block_bytes = 0;  // of the planes' largest blocks

 private:
  int32_t add_weight(std::shared_ptr<const WeightData> data, std::vector<int64_t> extents);

  const Chip& chip_;
  const Device device_;
  uint32_t dtype_;
  Random random_;
  const Recorder* taken_;
};

/// Records a model of a family (families.h) from its embedding to sampling.
void record_family(Recorder& recorder, const std::string& family);
/// The layers of DeepSeek-V4 and V4.1: streams in, the hidden rows of the end out.
void record_v4(Recorder& r, int32_t table, bool delayed);
/// A mixture of experts: h -> out (+ x).
enum class Scores { kSoftmax, kSigmoid, kSqrtSoftplus };
void record_experts(Recorder& r, int32_t h, Scores scores, int32_t out, int32_t add);

}  // namespace hadal::conformance

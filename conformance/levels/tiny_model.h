// A llama of two layers with random weights, recorded by hand: what the kit runs whole.
//
// Owns its weights, planes, step memories and the block table of two sequences; refuses nothing.
// The same model can be built on ref, from the weights as the chip under test takes them, with each
// operator on a device of its own: in the classes of numerics that the chip answered.
// Used by tapes.cc alone.
#pragma once

#include "kit.h"

namespace hadal::conformance {

/// `rows` tokens more of a sequence in one step.
struct Chunk {
  int32_t sequence = 0;
  int32_t rows = 0;
};

/// What a step gave for the last row of one sequence's chunk, if the chunk reached the end of what
/// is known.
struct Answer {
  int32_t sequence = 0;
  Bytes bits;  ///< logits, then, if the chip takes sample, token and log-probabilities
  std::vector<float> logits;
  bool finite = true;
};

enum class RunMode { kWholeTape, kOneByOne, kProgram };

class TinyModel {
 public:
  TinyModel(Chip& chip, const Device& device, uint32_t dtype, uint64_t seed)
      : TinyModel(chip, device, dtype, seed, nullptr) {}
  /// On ref: the operators and the very weights of `like`, a model of the chip under test.
  TinyModel(Chip& ref, const Device& device, uint32_t dtype, uint64_t seed, const TinyModel* like);
  TinyModel(const TinyModel&) = delete;
  TinyModel& operator=(const TinyModel&) = delete;
  ~TinyModel();

  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] bool declined() const {
    return declined_;
  }  ///< the chip does not take this type of weight
  [[nodiscard]] std::string error() const { return error_.text; }
  [[nodiscard]] double seconds() const { return seconds_; }

  /// Of each operator, as the chip answered; UNSAID is said: block8 for quantised weights.
  [[nodiscard]] const std::vector<Numerics>& classes() const { return classes_; }
  /// Operator i runs on devices[i], in RunMode::kOneByOne. They are all of one chip.
  bool spread(std::vector<const Device*> devices);
  /// What follows a prompt is then given, and not sampled: so different chips see the same tokens.
  void force_tokens() { forced_ = true; }
  [[nodiscard]] bool reads_planes() const { return !device_.opaque_planes(); }

  /// Forgets both sequences; planes and temporaries become NaN.
  void reset();
  hadal_status step(const std::vector<Chunk>& chunks, RunMode mode, const volatile int32_t* stop,
                    std::vector<Answer>& answers);
  std::vector<Bytes> read_planes();

 private:
  int32_t tensor(uint32_t dtype, uint32_t space, uint32_t row_dim, std::vector<int64_t> extents);
  int32_t plane(uint32_t role);
  int32_t view(int32_t of, uint64_t byte_offset, std::vector<int64_t> extents);
  int32_t weight(uint32_t dtype, int64_t rows, int64_t cols, uint32_t uses);
  int32_t vector(const std::vector<float>& values);
  void emit(uint32_t id, const std::vector<std::pair<uint32_t, int32_t>>& operands,
            const hadal_attributes& attr = {});
  void record();
  void record_layer(int32_t x);
  bool build();
  bool accept_operators();
  bool lower_gated(const hadal_op& op);
  bool allocate(uint64_t bytes, hadal_memory** out);
  bool create_weights();
  void mark_last_uses();
  bool create_memories();
  hadal_status run_tape(const hadal_step& step, RunMode mode);
  void read_answers(const std::vector<int32_t>& asked, std::vector<Answer>& answers);
  void fill_inputs(const std::vector<Chunk>& chunks, hadal_step& step, std::vector<int32_t>& asked);
  template <typename T>
  T* input(int32_t index);

  Chip& chip_;
  const Device device_;
  const TinyModel* like_;
  uint32_t dtype_;
  Random random_;
  bool ready_ = false;
  bool declined_ = false;
  bool lowered_ = false;  // gated_matmul
  bool samples_ = true;
  bool forced_ = false;
  hadal_error error_{};
  double seconds_ = 0;

  hadal_tape tape_{};
  std::vector<hadal_tensor> tensors_;
  std::vector<hadal_op> ops_;
  std::vector<Numerics> classes_;       // of ops_
  std::vector<const Device*> devices_;  // of ops_; empty: all on device_
  std::vector<std::pair<int32_t, std::shared_ptr<const WeightData>>> weights_;  // tensor, data
  uint64_t used_[6] = {};
  uint32_t planes_used_ = 0;
  uint64_t block_bytes_ = 0;  // of the planes' largest blocks
  // Indices of tensors.
  int32_t token_ = 0, position_ = 0, row_seq_ = 0, write_from_ = 0, first_ = 0, block_table_ = 0,
          logit_row_ = 0;
  int32_t params_ = 0, seed_ = 0, sample_position_ = 0, entry_start_ = 0, entry_ = 0,
          entry_bias_ = 0;
  int32_t logits_ = 0, out_token_ = 0, logprob_ = 0, top_token_ = 0, top_logprob_ = 0;

  std::vector<hadal_memory*> memories_;
  std::vector<hadal_memory*> planes_;
  hadal_memory *scratch_ = nullptr, *inputs_ = nullptr, *outputs_ = nullptr, *workspace_ = nullptr;
  uint64_t workspace_bytes_ = 0;
  hadal_program* program_ = nullptr;
  Bytes input_image_, output_image_;

  std::vector<int32_t> known_[2];  // tokens of each sequence: its prompt, then what was sampled
  int32_t done_[2] = {0, 0};       // how many of them are in the planes
};

}  // namespace hadal::conformance

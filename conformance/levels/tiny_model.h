// A tiny model with random weights, as recorder.h records it: what the kit runs whole.
//
// Owns its weights, planes, step memories and the block table of two sequences. What the chip does
// not take fused is lowered here, sampling is left out; another decline makes the model impossible.
// The same model can be built on ref, from the weights as the chip under test takes them, with each
// operator on a device of its own: in the classes of numerics that the chip answered.
// Used by models.cc and oracle.cc alone.
#pragma once

#include <set>

#include "levels/choices.h"
#include "levels/recorder.h"

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

/// What is recorded.
struct TinySpec {
  std::string family;
  uint32_t dtype = HADAL_F32;  ///< of the weights
  uint64_t seed = 1;
};

class TinyModel {
 public:
  TinyModel(Chip& chip, const Device& device, const TinySpec& spec)
      : TinyModel(chip, device, spec, nullptr) {}
  /// On ref: the operators and the very weights of `like`, a model of the chip under test.
  TinyModel(Chip& ref, const Device& device, const TinySpec& spec, const TinyModel* like);
  TinyModel(const TinyModel&) = delete;
  TinyModel& operator=(const TinyModel&) = delete;
  ~TinyModel();

  [[nodiscard]] bool ready() const { return ready_; }
  /// The chip does not take an operator that it must take, or this type of weight or plane.
  [[nodiscard]] bool declined() const { return declined_; }
  [[nodiscard]] std::string error() const { return error_.text; }
  [[nodiscard]] double seconds() const { return seconds_; }

  /// Of each operator, as the chip answered; UNSAID is said: block8 for quantised weights. On ref:
  /// as the model that this one is like.
  [[nodiscard]] const std::vector<Numerics>& classes() const { return classes_; }
  /// Operator i runs on devices[i], in RunMode::kOneByOne. They are all of one chip.
  bool spread(std::vector<const Device*> devices);
  /// What follows a prompt is then given, and not sampled: so different chips see the same tokens.
  void force_tokens() { forced_ = true; }
  /// What was chosen since reset(), and the operators that chose.
  [[nodiscard]] const Choices& choices() const { return choices_; }
  [[nodiscard]] std::vector<Chooser> choosers() const;
  /// On ref, in RunMode::kOneByOne: these choices are taken from now on, and not its own; null: its
  /// own. candidates(): what there was to choose from, since reset().
  void follow_choices(const Choices* followed) { followed_ = followed; }
  [[nodiscard]] const ByChoice<Candidates>& candidates() const { return candidates_; }
  [[nodiscard]] bool reads_planes() const { return !device_.opaque_planes(); }

  /// Forgets both sequences; planes and temporaries become NaN.
  void reset();
  hadal_status step(const std::vector<Chunk>& chunks, RunMode mode, const volatile int32_t* stop,
                    std::vector<Answer>& answers);
  std::vector<Bytes> read_planes();

 private:
  /// An operator as it was recorded, or a part of one that is lowered.
  struct Origin {
    size_t recorded = 0;
    int part = -1;  // -1: whole
  };
  struct Planned {
    hadal_op op;
    Origin origin;
  };

  bool build();
  bool accept_operators();
  bool accept(const Planned& planned, const Support& support);
  std::vector<hadal_op> lower(const hadal_op& op);
  std::vector<hadal_op> lower_gated(const hadal_op& op);
  std::vector<hadal_op> lower_experts(const hadal_op& op);
  std::vector<hadal_op> lower_mla(const hadal_op& op);
  [[nodiscard]] Numerics class_of(const Origin& origin) const;
  bool allocate(uint64_t bytes, hadal_memory** out);
  bool create_weights();
  void mark_last_uses();
  bool create_memories();
  hadal_status run_tape(const hadal_step& step, RunMode mode);
  void keep_choices();
  hadal_status follow_choice(const hadal_op& op);
  [[nodiscard]] Candidates candidates_of(const hadal_op& op, int32_t row, const Bytes& operand,
                                         const Bytes& weight, const Bytes& plane);
  [[nodiscard]] static int32_t block_of_sequence(int32_t sequence, int64_t number);
  hadal_status fetch(hadal_memory* memory, uint64_t offset, Bytes& to);
  hadal_status fetch_rows(int32_t index, Bytes& to);
  void read_answers(const std::vector<int32_t>& asked, std::vector<Answer>& answers);
  void fill_inputs(const std::vector<Chunk>& chunks, hadal_step& step, std::vector<int32_t>& asked);
  [[nodiscard]] int32_t bucket_of(int32_t rows) const;
  void fill_sampling(int32_t r, int32_t sequence, int32_t position);
  [[nodiscard]] hadal_tensor& at(int32_t index) {
    return recorder_.tensors[static_cast<size_t>(index)];
  }
  template <typename T>
  T* input(int32_t index);

  Chip& chip_;
  const Device device_;
  const TinyModel* like_;
  Recorder recorder_;
  bool ready_ = false;
  bool declined_ = false;
  std::set<size_t> lowered_;  // recorded operators
  bool samples_ = true;
  bool forced_ = false;
  hadal_error error_{};
  double seconds_ = 0;

  hadal_tape tape_{};
  std::vector<hadal_op> ops_;
  std::vector<Origin> origins_;         // of ops_
  std::vector<Numerics> classes_;       // of ops_
  std::vector<const Device*> devices_;  // of ops_; empty: all on device_

  std::vector<hadal_memory*> memories_;
  std::vector<hadal_memory*> planes_;
  hadal_memory *scratch_ = nullptr, *inputs_ = nullptr, *outputs_ = nullptr, *workspace_ = nullptr;
  uint64_t workspace_bytes_ = 0;
  hadal_program* program_ = nullptr;
  Bytes input_image_, output_image_;

  Choices choices_;
  ByChoice<Candidates> candidates_;
  const Choices* followed_ = nullptr;
  std::vector<std::pair<int32_t, int32_t>> rows_;  // of the step: sequence, position

  std::vector<int32_t> known_[2];  // tokens of each sequence: its prompt, then what was sampled
  int32_t done_[2] = {0, 0};       // how many of them are in the planes
};

}  // namespace hadal::conformance

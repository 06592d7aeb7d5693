// Model: a family, bound to a checkpoint. Knows no chip, no text, no engine.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "models/spec.h"
#include "ops/ops.h"
#include "weights/binder.h"

namespace hadal {

/// What a caller asks of a family beside its logits.
struct FamilyOptions {
  bool draft = false;  ///< load what the checkpoint has for drafts
  /// Rows of a prompt that the model's tail runs, instead of as many as exactness needs.
  std::optional<int64_t> tail_rows;
  /// Which part of the model this rank runs: Ops is told the same number of ranks.
  Shard shard;
};

/// The vocabulary as Engram hashes it: tokens whose texts differ in case, accents and kinds of
/// blanks alone share an id.
struct CompressedVocabulary {
  std::vector<int32_t> id_of_token;
  int64_t count = 0;  ///< different ids
};

/// One sequence's part of a step: all its tokens, and which of their rows the step runs.
struct SequenceRows {
  std::span<const int32_t> tokens;
  int64_t begin = 0, rows = 0;
};

/// Tables that stay in the file: FileTable.
struct FileTableTotals {
  double parameters = 0, used_by_a_token = 0, bytes = 0;
};

class Model {
 public:
  virtual ~Model() = default;
  [[nodiscard]] virtual const ModelSpec& spec() const = 0;

  /// Binds the weight slots to the checkpoint's tensors; one error lists all that is missing,
  /// surplus, misshapen.
  virtual Status bind(const Checkpoint& checkpoint) = 0;
  /// After bind: every weight, source and operand.
  [[nodiscard]] std::deque<Weight>& weights() { return weights_; }
  /// After bind: the checkpoint's tensors that this family knows and does not use.
  [[nodiscard]] const std::vector<std::string>& unused() const { return unused_; }

  /// After bind: what the host reads from the file while the model runs, beside weights().
  [[nodiscard]] virtual FileTableTotals file_tables() const { return {}; }
  /// Whether take_vocabulary must be called before the model runs.
  [[nodiscard]] virtual bool needs_compressed_vocabulary() const { return false; }
  virtual Status take_vocabulary(const CompressedVocabulary& /*vocabulary*/) { return {}; }
  /// What the host works out for a step's rows, in their order: extra [T, spec().extra_width].
  virtual void fill_extra(std::span<const SequenceRows> /*step*/, float* /*extra*/) const {}

  /// The main forward pass: token ids to the step output `logits`, sampling included.
  virtual void forward(Ops& ops, const StepPlanes& planes) const = 0;
  // The passes of a draft, with FamilyOptions::draft. Row t takes hidden row draft_row[t].
  /// MTP: hidden rows and the tokens behind them to the step output `logits`. A row stands at the
  /// position of its token. What a further row is made of goes in front of `hidden`, in the order
  /// of the logits. DSpark: caches what the blocks need to know of the rows; no logits.
  virtual void draft(Ops& /*ops*/, const StepPlanes& /*planes*/) const {}
  /// DSpark: the block's rows (R is T) to the step output `base`; a row sees up to `horizon`.
  virtual void draft_block(Ops& /*ops*/, const StepPlanes& /*planes*/) const {}
  /// DSpark: behind draft_block, whose rows have their tokens as far as they are known: logits,
  /// tokens and confidences of the block's rows logit_row[r].
  virtual void draft_next(Ops& /*ops*/, const StepPlanes& /*planes*/) const {}

 protected:
  std::deque<Weight> weights_;
  std::vector<std::string> unused_;
};

/// A family with its own specification, which has the ModelSpec as `model`.
template <typename S>
class FamilyModel : public Model {
 public:
  using Spec = S;
  explicit FamilyModel(S spec) : spec_(std::move(spec)) {}
  [[nodiscard]] const ModelSpec& spec() const final { return spec_.model; }

 protected:
  S spec_;
};

/// The family that `config` names by model_type (or architectures); the error lists what is known.
Result<std::unique_ptr<Model>> make_model(const Config& config, const FamilyOptions& options = {});

/// Every model_type that make_model knows.
std::vector<std::string> known_families();

}  // namespace hadal

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
#include "models/weights.h"
#include "ops/ops.h"

namespace hadal {

/// The planes of one step as operands: planes.of(plane, layer) is [blocks, slots, width] of that
/// layer.
class StepPlanes {
 public:
  /// dtypes[i]: of plane i. blocks[g]: the most blocks that group g can have (a limit, not an
  /// allocation).
  StepPlanes(const ModelSpec& spec, std::span<const DType> dtypes, std::span<const int64_t> blocks);
  [[nodiscard]] const Tensor& of(size_t plane, int64_t layer) const;
  /// Layers of all planes together: the number of memories that a step carries.
  [[nodiscard]] uint32_t count() const { return static_cast<uint32_t>(tensors_.size()); }

 private:
  std::vector<Tensor> tensors_;
  std::vector<size_t> first_;  // of each plane in tensors_
};

/// What a caller wants of a model beside its logits.
struct ModelOptions {
  bool draft = false;  ///< load the layer of multi-token prediction
  /// V4.1: rows of a prompt that the tail runs, instead of as many as exactness needs
  std::optional<int64_t> v41_tail;

  /// The error of a family that cannot draft, if that is asked.
  [[nodiscard]] Status refuse_draft(const Config& config) const {
    if (!draft) return {};
    return failed(config.origin() + ": no layer of multi-token prediction that Hadal can run");
  }
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
  /// The slots, in the order in which they should be loaded.
  [[nodiscard]] std::deque<Weight>& weights() { return weights_; }
  /// After bind: the checkpoint's tensors that this family knows and does not use.
  [[nodiscard]] const std::vector<std::string>& unused() const { return unused_; }

  /// After bind: what the host reads from the file while the model runs, beside weights().
  [[nodiscard]] virtual FileTableTotals file_tables() const { return {}; }
  /// Whether prepare() needs the vocabulary's compressed ids (text/tokenizer/compressed_ids.h).
  [[nodiscard]] virtual bool wants_compressed_ids() const { return false; }
  /// ids[i]: of token i; `count`: how many different ones.
  virtual Status take_compressed_ids(const std::vector<int32_t>& /*ids*/, int64_t /*count*/) {
    return {};
  }
  /// What the host works out for a step's rows, in their order: extra [T, spec().extra_width].
  virtual void prepare(std::span<const SequenceRows> /*step*/, float* /*extra*/) const {}

  /// The main forward pass: token ids to the step output `logits`, sampling included.
  virtual void forward(Ops& ops, const StepPlanes& planes) const = 0;
  /// With ModelOptions::draft: hidden rows of the main pass and the tokens behind them to the step
  /// output `logits`. Row r stands at the position of its token and takes hidden row draft_row[r].
  virtual void draft(Ops& /*ops*/, const StepPlanes& /*planes*/) const {}

 protected:
  std::deque<Weight> weights_;
  std::vector<std::string> unused_;
};

/// The family that `config` names by model_type (or architectures); the error lists what is known.
Result<std::unique_ptr<Model>> make_model(const Config& config, const ModelOptions& options = {});

/// Every model_type that make_model knows.
std::vector<std::string> known_families();

}  // namespace hadal

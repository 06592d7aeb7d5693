// StepBuilder: scheduled rows into the flat block of a step's inputs.
//
// Each row whose logits are wanted has its own sampling parameters, penalty counts and mask; those
// of a row behind drafts count the drafts as if they were true.
#pragma once

#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "engine/scheduler.h"
#include "engine/step_inputs.h"
#include "models/model.h"

namespace hadal {

class StepBuilder {
 public:
  StepBuilder(const ModelSpec& spec, const StepLayout& layout);

  /// The inputs of the main pass, but for what the model works out itself (extra_rows).
  StepInputs& build(std::span<const ScheduledRows> step);
  /// Of StepInputs.
  void lost() { inputs_.lost(); }
  /// Of the same step, what the model needs for its own part of the inputs. Valid until the next.
  [[nodiscard]] std::vector<SequenceRows> extra_rows(std::span<const ScheduledRows> step);

  /// Rows of logits of the main pass whose mask allows no token at all.
  [[nodiscard]] const std::vector<int64_t>& dead_ends() const { return dead_ends_; }

  /// A row of the draft pass whose logits are wanted: whose, and the position of the hidden row.
  using DraftRow = std::pair<const Sequence*, int64_t>;
  /// The inputs of the draft pass behind the step: row i of it drafts at position i + 1, where the
  /// token is known. No rows: there is nothing to draft.
  StepInputs& build_draft(std::span<const ScheduledRows> step, std::vector<DraftRow>& wanted);

 private:
  void fill_sequence(const Sequence& seq);
  void fill_adapter(const Sequence& seq);
  void fill_logit_row(const Sequence& seq, int64_t row, int64_t position);
  void fill_sampling(const Sequence& seq, int64_t row, int64_t drafts);
  void fill_entries(const Sequence& seq, int64_t drafts);
  void fill_mask(const Sequence& seq, int64_t row, int64_t drafts);
  void finish_masks(int64_t rows);
  [[nodiscard]] static std::vector<TokenId> banned(const Sequence& seq, int64_t drafts);

  const std::vector<PlaneGroup>& groups_;
  const StepLayout& layout_;
  StepInputs inputs_;
  std::vector<int64_t> dead_ends_;
  std::vector<int64_t> masked_rows_;              // of the step's rows of logits, ascending
  std::deque<std::vector<TokenId>> with_drafts_;  // tokens and drafts of those that have any
};

}  // namespace hadal

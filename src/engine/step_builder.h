// StepBuilder: scheduled rows into the flat block of a step's inputs.
//
// Each row whose logits are wanted has its own sampling parameters, penalty counts and mask; those
// of a row behind drafts count the drafts as if they were true. The drafter fills its passes with
// the same parts.
#pragma once

#include <deque>
#include <span>
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

  /// Empty inputs, to be filled by hand.
  StepInputs& begin();
  /// What the step says of the sequence as a whole.
  void fill_sequence(const Sequence& seq);
  /// A row whose logits are read and nothing else: greedy, without penalties. position: that of the
  /// token that it would choose.
  void fill_logit_row(const Sequence& seq, int64_t row, int64_t position);
  /// Then: how the row chooses a token, with these drafts before it.
  void fill_sampling(const Sequence& seq, int64_t row, std::span<const TokenId> drafts);

 private:
  void fill_adapter(const Sequence& seq);
  void fill_entries(const Sequence& seq, std::span<const TokenId> drafts);
  void fill_mask(const Sequence& seq, int64_t row, std::span<const TokenId> drafts);
  [[nodiscard]] static std::vector<TokenId> banned(const Sequence& seq,
                                                   std::span<const TokenId> drafts);

  const std::vector<PlaneGroup>& groups_;
  const StepLayout& layout_;
  StepInputs inputs_;
  std::vector<int64_t> dead_ends_;
  std::deque<std::vector<TokenId>> with_drafts_;  // tokens and drafts of those that have any
};

}  // namespace hadal

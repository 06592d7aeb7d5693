// Drafter: guesses of what follows, by the part of a model that is made for it: multi-token
// prediction, run once for each token, or DSpark, one pass for a block of tokens (models/blocks).
//
// It runs behind every step of the main model, when the step's tokens are known: the draft's own
// caches then hold all that is known, and the next step may verify guesses. A draft is chosen by
// the sequence's own way of sampling, with the noise of its position, which the verified row draws
// as well: so it agrees as often as can be, and what is generated is the same without it. Decides
// nothing: how many guesses, and which of them are verified, is the engine's.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/model_runner.h"
#include "engine/sampled.h"
#include "engine/scheduler.h"
#include "engine/step_builder.h"

namespace hadal {

/// A sequence of the step for which drafts are wanted: at least one. Every token before its last
/// one must have been run, and its positions below Drafter::positions must have blocks.
struct DraftWish {
  Sequence* seq = nullptr;
  int64_t count = 0;
  std::function<void(const DraftRow& row)> on_row = {};  ///< if set, sees every drafted row
};

/// What follows a sequence's tokens, perhaps. May be fewer than wished: at most a block of DSpark,
/// and nothing behind a place where a mask allows no token.
struct Drafts {
  std::vector<TokenId> tokens;
  /// How likely each is right if those before it are; DSpark alone tells.
  std::vector<float> confidences;
};

class Drafter {
 public:
  /// Both must outlive it. The builder's inputs are filled anew by draft().
  Drafter(ModelRunner& runner, StepBuilder& builder);

  /// Positions of a sequence that must have blocks where `count` tokens are drafted: what is
  /// written behind the last known token counts for nothing, and is written again when it is known.
  [[nodiscard]] int64_t positions(const Sequence& seq, int64_t count) const;

  /// Behind the step that the runner ran last, whose right tokens the sequences hold by now; what
  /// the step computed beside them is left out. Drafts in the order of the wishes.
  /// `Sequence::drafts` is not touched.
  Result<std::vector<Drafts>> draft(std::span<const ScheduledRows> step,
                                    std::span<const DraftWish> wishes);

 private:
  using Pass = ModelRunner::DraftPass;
  /// A wish under way.
  struct Guess {
    const DraftWish* wish;
    Drafts* drafts;
    int64_t row = 0;  ///< MTP: of `hidden`, its last state; DSpark: of the block, its first row
    bool open = true;
    [[nodiscard]] bool goes_on() const {
      return open && static_cast<int64_t>(drafts->tokens.size()) < wish->count;
    }
  };
  /// A row of logits that somebody wants to see: whose, and the position of the hidden row.
  struct Seen {
    const Sequence* seq;
    int64_t position;
    int64_t row;
  };
  Status follow_mtp(std::span<const ScheduledRows> step, std::vector<Guess>& guesses);
  Status chain(std::vector<Guess>& guesses);
  Status follow_dspark(std::span<const ScheduledRows> step);
  Status block(std::span<Guess> guesses);
  void fill_row(StepInputs& inputs, int64_t t, TokenId token, int64_t position,
                const Sequence& seq) const;
  void fill_choice(StepInputs& inputs, int64_t r, int64_t row, const Guess& guess);
  void fill_sequence(StepInputs& inputs, const Sequence& seq, int64_t& slots);
  Status take(const StepInputs& inputs, std::span<Guess* const> guesses);
  Status show(const Guess& guess, int64_t row, float confidence) const;

  ModelRunner& runner_;
  StepBuilder& builder_;
  const DraftSpec& spec_;
  const StepLayout& layout_;
};

}  // namespace hadal

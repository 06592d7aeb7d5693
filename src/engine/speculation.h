// Speculation: how many guessed tokens of which sequences a step verifies, and how many a draft
// model is asked for.
//
// A guess that is verified costs a row; it gives a token if it and all guesses before it are right.
// How likely that is, is learned from what became of earlier guesses of the same kind, or told by
// the draft model (DSpark); what a row costs, from StepTimes, and what a draft costs, from the
// drafts before. Of all sequences together, guesses are taken in the order of their odds while the
// expected tokens a second grow; where the first one already lowers them, nothing is guessed. (The
// rule of DeepSeek's DSpark, section 3.2.) It changes no token: a guess is kept only where it is
// what is sampled anyway.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "engine/step_times.h"

namespace hadal {

class Speculation {
 public:
  /// Looks for guesses of the sequences that are about to generate, and leaves each as many as pay
  /// in Sequence::drafts, those of a draft model included. Those that Request::propose gave stay as
  /// they are.   longest: of a sequence; most: guesses of one sequence, by the step's rows of
  /// logits
  void propose(std::span<const std::unique_ptr<Sequence>> running, const StepTimes& times,
               int64_t longest, int64_t most, int64_t vocab_size);
  /// So many of a sequence's guesses were verified, and so many of those were right.
  void verified(Sequence& seq, int64_t drafts, int64_t accepted);

  /// How many tokens a draft model should draft for each of so many sequences, `context` positions
  /// deep together; at most `most`.
  [[nodiscard]] int64_t wanted(const StepTimes& times, int64_t sequences, double context,
                               int64_t most);
  /// What a draft model drafted for a sequence: its guesses at the next step. confidences: how
  /// likely each is right if those before it are; empty: as often as others at its place were.
  void drafted(Sequence& seq, std::vector<TokenId> tokens,
               std::span<const float> confidences) const;
  /// Drafting `tokens` of `sequences` took so long.
  void drafting_took(double seconds, int64_t sequences, int64_t tokens);

  [[nodiscard]] int64_t drafted() const { return drafted_; }
  [[nodiscard]] int64_t accepted() const { return accepted_; }

  /// Guesses of one sequence and step.
  static constexpr int64_t kMostDrafts = 16;

 private:
  /// How often guesses were right, the latest counting most.
  struct Odds {
    double right = 1, tried = 2;
    [[nodiscard]] double value() const { return right / tried; }
    void add(bool was_right);
    void fade();
  };
  /// Kinds of guesses that are looked up: by how many tokens had stood before, 3 … 4, 5 … 8,
  /// 9 … 16, more.
  static constexpr size_t kKinds = 4;

  [[nodiscard]] static size_t kind_of(int64_t match);
  void look_up(Sequence& seq, int64_t room);
  void choose(std::span<const std::unique_ptr<Sequence>> running, const StepTimes& times);

  std::array<Odds, kKinds> odds_;
  std::array<Odds, kMostDrafts> model_;  ///< of a draft model's guesses, by their place
  double draft_seconds_ = 0;             ///< for a token of each sequence
  int64_t drafted_ = 0, accepted_ = 0;
};

}  // namespace hadal

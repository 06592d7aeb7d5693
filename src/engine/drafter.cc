#include "engine/drafter.h"

#include <algorithm>
#include <cmath>

namespace hadal {

Drafter::Drafter(ModelRunner& runner, StepBuilder& builder)
    : runner_(runner), builder_(builder), spec_(runner.spec().draft), layout_(runner.layout()) {}

int64_t Drafter::positions(const Sequence& seq, int64_t count) const {
  // MTP's first guess comes of the row of the last known token itself.
  return seq.size() - 1 + std::max(spec_.is_dspark() ? spec_.block : 1, count);
}

Result<std::vector<Drafts>> Drafter::draft(std::span<const ScheduledRows> step,
                                           std::span<const DraftWish> wishes) {
  std::vector<Drafts> drafts(wishes.size());
  std::vector<Guess> guesses;
  for (size_t i = 0; i < wishes.size(); ++i)
    guesses.push_back({.wish = &wishes[i], .drafts = &drafts[i]});
  if (spec_.is_mtp()) {
    HADAL_TRY(follow_mtp(step, guesses));
    HADAL_TRY(chain(guesses));
    return drafts;
  }
  HADAL_TRY(follow_dspark(step));
  const auto at_once = static_cast<size_t>(layout_.limits.logit_rows / spec_.block);
  for (size_t i = 0; i < guesses.size(); i += at_once)
    HADAL_TRY(block(std::span(guesses).subspan(i, std::min(at_once, guesses.size() - i))));
  return drafts;
}

void Drafter::fill_row(StepInputs& inputs, int64_t t, TokenId token, int64_t position,
                       const Sequence& seq) const {
  inputs.at<int32_t>(layout_.token)[t] = token;
  inputs.at<int32_t>(layout_.position)[t] = static_cast<int32_t>(position);
  inputs.at<int32_t>(layout_.row_seq)[t] = static_cast<int32_t>(seq.slot);
}

/// Row r of the logits, made of row `row`, chooses the guess's next token.
void Drafter::fill_choice(StepInputs& inputs, int64_t r, int64_t row, const Guess& guess) {
  const Sequence& seq = *guess.wish->seq;
  const auto drafted = static_cast<int64_t>(guess.drafts->tokens.size());
  inputs.at<int32_t>(layout_.logit_row)[r] = static_cast<int32_t>(row);
  builder_.fill_logit_row(seq, r, seq.size() + drafted);
  builder_.fill_sampling(seq, r, guess.drafts->tokens);
}

void Drafter::fill_sequence(StepInputs& inputs, const Sequence& seq, int64_t& slots) {
  builder_.fill_sequence(seq);
  // The row of the first token has no state before it: MTP's caches begin at slot 1.
  if (spec_.is_mtp())
    for (const hadal_tensor& first : layout_.first) inputs.at<int32_t>(first)[seq.slot] = 1;
  slots = std::max(slots, seq.slot + 1);
}

// Row i of the step drafts at position i + 1, where the token is known.
Status Drafter::follow_mtp(std::span<const ScheduledRows> step, std::vector<Guess>& guesses) {
  StepInputs& inputs = builder_.begin();
  std::vector<Seen> seen;
  std::vector<Guess*> chosen;
  int64_t hidden_row = 0, t = 0, r = 0, slots = 0;
  for (const ScheduledRows& part : step) {
    const Sequence& seq = *part.seq;
    const auto guess = std::find_if(guesses.begin(), guesses.end(),
                                    [&](const Guess& g) { return g.wish->seq == part.seq; });
    for (int64_t i = part.begin; i < part.begin + part.rows; ++i, ++hidden_row) {
      if (i + 1 >= seq.size()) continue;
      fill_row(inputs, t, seq.tokens[static_cast<size_t>(i + 1)], i + 1, seq);
      inputs.at<int32_t>(layout_.draft_row)[t] = static_cast<int32_t>(hidden_row);
      const bool shown = seq.request.on_draft_logits && i >= seq.next_logits();
      const bool guessed = guess != guesses.end() && i + 2 == seq.size();
      if (shown || guessed) {
        inputs.at<int32_t>(layout_.logit_row)[r] = static_cast<int32_t>(t);
        builder_.fill_logit_row(seq, r, i + 2);
        if (shown) seen.push_back({&seq, i, r});
        // Rows that are shown chose already: a guess's tokens are taken by the number of its row.
        if (guessed) {
          builder_.fill_sampling(seq, r, {});
          guess->row = r;
          chosen.push_back(&*guess);
        }
        ++r;
      }
      ++t;
    }
    fill_sequence(inputs, seq, slots);
  }
  for (Guess& guess : guesses)
    guess.open = std::find(chosen.begin(), chosen.end(), &guess) != chosen.end();
  inputs.rows = {1, t, slots, r, t};
  if (t == 0) return {};
  HADAL_TRY(runner_.run_draft(Pass::kRows, inputs));
  std::vector<float> logits;
  for (const Seen& row : seen) {
    HADAL_TRY(read_row(runner_, layout_.logits, row.row, logits));
    row.seq->request.on_draft_logits(row.position, logits);
  }
  return take(inputs, chosen);
}

// Each further row is made of the state of the row before it and the token just drafted.
Status Drafter::chain(std::vector<Guess>& guesses) {
  std::vector<Guess*> live;
  while (true) {
    live.clear();
    for (Guess& guess : guesses)
      if (guess.goes_on()) live.push_back(&guess);
    if (live.empty()) return {};
    StepInputs& inputs = builder_.begin();
    int64_t t = 0, slots = 0;
    for (Guess* guess : live) {
      const Sequence& seq = *guess->wish->seq;
      const std::vector<TokenId>& drafted = guess->drafts->tokens;
      fill_row(inputs, t, drafted.back(), seq.size() - 1 + static_cast<int64_t>(drafted.size()),
               seq);
      inputs.at<int32_t>(layout_.draft_row)[t] = static_cast<int32_t>(guess->row);
      fill_choice(inputs, t, t, *guess);
      fill_sequence(inputs, seq, slots);
      guess->row = t++;
    }
    inputs.rows = {1, t, slots, t, t};
    HADAL_TRY(runner_.run_draft(Pass::kRows, inputs));
    HADAL_TRY(take(inputs, live));
  }
}

// What a block needs to know of the rows whose tokens are right.
Status Drafter::follow_dspark(std::span<const ScheduledRows> step) {
  StepInputs& inputs = builder_.begin();
  int64_t hidden_row = 0, t = 0, slots = 0;
  for (const ScheduledRows& part : step) {
    const Sequence& seq = *part.seq;
    // Where a row chose a token, the row of that token is still to come.
    const int64_t right = seq.size() - (part.sampled_rows > 0 ? 1 : 0);
    for (int64_t i = part.begin; i < part.begin + part.rows; ++i) {
      if (layout_.limits.tail && i < seq.tail_start) continue;
      const int64_t from = hidden_row++;
      if (i >= right) continue;
      fill_row(inputs, t, seq.tokens[static_cast<size_t>(i)], i, seq);
      inputs.at<int32_t>(layout_.draft_row)[t++] = static_cast<int32_t>(from);
    }
    fill_sequence(inputs, seq, slots);
  }
  inputs.rows = {1, t, slots, 0, t};
  if (t == 0) return {};
  HADAL_TRY(runner_.run_draft(Pass::kRows, inputs));
  return runner_.sync();
}

Status Drafter::block(std::span<Guess> guesses) {
  const int64_t size = spec_.block;
  StepInputs& inputs = builder_.begin();
  int64_t t = 0, slots = 0;
  for (Guess& guess : guesses) {
    const Sequence& seq = *guess.wish->seq;
    const int64_t anchor = seq.size() - 1;
    guess.row = t;
    for (int64_t r = 0; r < size; ++r, ++t) {
      fill_row(inputs, t, r == 0 ? seq.tokens.back() : spec_.noise_token, anchor + r, seq);
      inputs.at<int32_t>(layout_.horizon)[t] = static_cast<int32_t>(anchor + size - 1);
      inputs.at<int32_t>(layout_.draft_row)[t] = 0;  // not used
      inputs.at<int32_t>(layout_.logit_row)[t] = static_cast<int32_t>(t);
      builder_.fill_logit_row(seq, t, anchor + 1 + r);
    }
    fill_sequence(inputs, seq, slots);
  }
  inputs.rows = {1, t, slots, t, t};
  HADAL_TRY(runner_.run_draft(Pass::kBlock, inputs));
  HADAL_TRY(runner_.sync());
  std::vector<Guess*> live;
  for (int64_t r = 0; r < size; ++r) {
    live.clear();
    for (Guess& guess : guesses)
      if (guess.goes_on()) live.push_back(&guess);
    if (live.empty()) return {};
    builder_.begin();
    int64_t choice = 0;
    for (Guess* guess : live) {
      const auto& tokens = guess->drafts->tokens;
      inputs.at<int32_t>(layout_.token)[guess->row + r] =
          tokens.empty() ? guess->wish->seq->tokens.back() : tokens.back();
      fill_choice(inputs, choice++, guess->row + r, *guess);
    }
    inputs.rows[HADAL_DIM_R] = choice;
    HADAL_TRY(runner_.run_draft(Pass::kNext, inputs));
    HADAL_TRY(take(inputs, live));
  }
  return {};
}

/// The tokens that the rows of the last pass chose for the guesses.
Status Drafter::take(const StepInputs& inputs, std::span<Guess* const> guesses) {
  const auto rows = static_cast<size_t>(inputs.rows[HADAL_DIM_R]);
  if (rows == 0) return runner_.sync();
  std::vector<float> confidences(spec_.is_dspark() ? rows : 0);
  Status queued;
  if (spec_.is_dspark())
    queued = runner_.read(layout_.confidence, 0, static_cast<int64_t>(rows), confidences.data());
  HADAL_TRY(const Sampled sampled, read_sampled(runner_, inputs, false));
  HADAL_TRY(std::move(queued));
  const std::vector<int64_t> dead_ends = builder_.dead_ends();
  for (size_t i = 0; i < guesses.size(); ++i) {
    Guess& guess = *guesses[i];
    const auto row = spec_.is_mtp() ? static_cast<size_t>(guess.row) : i;
    const auto at = static_cast<int64_t>(row);
    if (std::find(dead_ends.begin(), dead_ends.end(), at) != dead_ends.end()) {
      guess.open = false;
      continue;
    }
    float confidence = 1;
    if (spec_.is_dspark()) {
      confidence = 1 / (1 + std::exp(-confidences[row]));
      guess.drafts->confidences.push_back(confidence);
    }
    if (guess.wish->on_row) HADAL_TRY(show(guess, at, confidence));
    guess.drafts->tokens.push_back(sampled.tokens[row]);
  }
  return {};
}

Status Drafter::show(const Guess& guess, int64_t row, float confidence) const {
  std::vector<float> logits, base;
  HADAL_TRY(read_row(runner_, layout_.logits, row, logits));
  if (spec_.is_dspark()) {
    const auto drafted = static_cast<int64_t>(guess.drafts->tokens.size());
    HADAL_TRY(read_row(runner_, layout_.base, guess.row + drafted, base));
  }
  guess.wish->on_row({.logits = logits, .base = base, .confidence = confidence});
  return {};
}

}  // namespace hadal

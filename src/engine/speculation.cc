#include "engine/speculation.h"

#include <algorithm>

namespace hadal {
namespace {

/// What a trial leaves of the weight of those before it: some fifty count.
constexpr double kMemory = 0.98;
/// What a guess that was not tried leaves of what is known of its kind: after some thousand of them
/// one is tried again.
constexpr double kForgetting = 0.999;
/// Odds of a kind of which nothing is known.
constexpr double kFirstRight = 1, kFirstTried = 2;

void keep_valid(std::vector<TokenId>& drafts, int64_t most, int64_t vocab_size) {
  if (static_cast<int64_t>(drafts.size()) > most) drafts.resize(static_cast<size_t>(most));
  const auto outside = std::find_if(drafts.begin(), drafts.end(),
                                    [&](TokenId id) { return id < 0 || id >= vocab_size; });
  drafts.erase(outside, drafts.end());
}

/// Guesses that are verified where it pays.
bool is_weighed(const Sequence& seq) { return !seq.drafts.empty() && !seq.draft_odds.empty(); }

}  // namespace

void Speculation::Odds::add(bool was_right) {
  right = right * kMemory + (was_right ? 1 : 0);
  tried = tried * kMemory + 1;
}

/// Nothing is learned of what is never tried: what is known fades towards what was at first.
void Speculation::Odds::fade() {
  right = kFirstRight + (right - kFirstRight) * kForgetting;
  tried = kFirstTried + (tried - kFirstTried) * kForgetting;
}

size_t Speculation::kind_of(int64_t match) {
  return match <= 4 ? 0 : match <= 8 ? 1 : match <= 16 ? 2 : 3;
}

/// What was looked up takes the place of a draft model's guesses where it is likelier.
void Speculation::look_up(Sequence& seq, int64_t room) {
  PromptLookup::Guess guess = seq.lookup->guess(seq.tokens, std::min(room, kMostDrafts));
  if (guess.tokens.empty()) return;
  const double odds = odds_[kind_of(guess.match)].value();
  if (!seq.drafts.empty() && seq.draft_odds[0] >= odds) return;
  seq.draft_odds.assign(guess.tokens.size(), odds);
  seq.drafts = std::move(guess.tokens);
  seq.draft_match = guess.match;
}

void Speculation::propose(std::span<const std::unique_ptr<Sequence>> running,
                          const StepTimes& times, int64_t longest, int64_t most,
                          int64_t vocab_size) {
  bool any = false;
  for (const auto& seq : running) {
    const Request& request = seq->request;
    if (seq->prefilling() || (!seq->drafts.empty() && seq->draft_odds.empty())) continue;
    const int64_t room =
        std::min({request.max_new_tokens - seq->generated() - 1, longest - seq->size(), most});
    if (room <= 0) {
      seq->drafts.clear();
    } else if (request.propose) {
      seq->drafts = request.propose(seq->tokens, room);
      seq->draft_odds.clear();
    } else if (seq->lookup) {
      look_up(*seq, room);
    }
    keep_valid(seq->drafts, std::max<int64_t>(0, room), vocab_size);
    any = any || is_weighed(*seq);
  }
  if (any) choose(running, times);
}

void Speculation::choose(std::span<const std::unique_ptr<Sequence>> running,
                         const StepTimes& times) {
  struct Candidate {
    Sequence* seq;
    double odds;  ///< that this guess and those before it are right
  };
  std::vector<Candidate> candidates;
  StepTimes::Load load;
  double tokens = 0;
  for (const auto& seq : running) {
    if (seq->prefilling()) continue;
    const bool weighed = is_weighed(*seq);
    const int64_t rows = 1 + (weighed ? 0 : static_cast<int64_t>(seq->drafts.size()));
    load.rows += rows;
    load.context += static_cast<double>(rows * seq->size());
    tokens += 1;
    double odds = 1;
    for (size_t i = 0; weighed && i < seq->drafts.size(); ++i)
      candidates.push_back({seq.get(), odds *= seq->draft_odds[i]});
  }
  // Those of one sequence stay in their order: their odds fall.
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.odds > b.odds; });
  double rate = times.known() ? tokens / times.seconds(load.rows, load.context) : 0;
  size_t taken = 0;
  for (; times.known() && taken < candidates.size(); ++taken) {
    const Candidate& next = candidates[taken];
    load.rows += 1;
    load.context += static_cast<double>(next.seq->size());
    const double more = (tokens + next.odds) / times.seconds(load.rows, load.context);
    if (more <= rate) break;
    tokens += next.odds;
    rate = more;
  }
  for (const auto& seq : running) {
    if (seq->prefilling() || !is_weighed(*seq)) continue;
    const auto mine =
        std::count_if(candidates.begin(), candidates.begin() + static_cast<ptrdiff_t>(taken),
                      [&](const Candidate& c) { return c.seq == seq.get(); });
    if (mine == 0) (seq->draft_match > 0 ? odds_[kind_of(seq->draft_match)] : model_[0]).fade();
    seq->drafts.resize(static_cast<size_t>(mine));
  }
}

void Speculation::verified(Sequence& seq, int64_t drafts, int64_t accepted) {
  drafted_ += drafts;
  accepted_ += accepted;
  seq.stats.drafted_tokens += drafts;
  seq.stats.accepted_tokens += accepted;
  if (drafts == 0 || seq.draft_odds.empty()) return;
  // Behind the first wrong guess nothing was tried.
  for (int64_t i = 0; i < std::min(drafts, accepted + 1); ++i)
    (seq.draft_match > 0 ? odds_[kind_of(seq.draft_match)] : model_[static_cast<size_t>(i)])
        .add(i < accepted);
  seq.draft_odds.clear();
}

int64_t Speculation::wanted(const StepTimes& times, int64_t sequences, double context,
                            int64_t most) {
  if (!times.known() || sequences == 0) return 0;
  most = std::min(most, kMostDrafts);
  const auto n = static_cast<double>(sequences);
  double best = n / times.seconds(sequences, context), tokens = n, odds = 1;
  int64_t count = 0;
  for (int64_t k = 1; k <= most; ++k) {
    odds *= model_[static_cast<size_t>(k - 1)].value();
    tokens += n * odds;
    const auto rows = static_cast<double>(k + 1);
    const double seconds = times.seconds(sequences * (k + 1), context * rows) +
                           draft_seconds_ * static_cast<double>(k);
    if (tokens / seconds <= best) break;
    best = tokens / seconds;
    count = k;
  }
  if (count == 0) model_[0].fade();
  return count;
}

void Speculation::drafted(Sequence& seq, std::vector<TokenId> tokens,
                          std::span<const float> confidences) const {
  seq.draft_odds.clear();
  for (size_t i = 0; i < tokens.size(); ++i)
    seq.draft_odds.push_back(confidences.empty() ? model_[std::min(i, model_.size() - 1)].value()
                                                 : static_cast<double>(confidences[i]));
  seq.drafts = std::move(tokens);
  seq.draft_match = 0;
}

void Speculation::drafting_took(double seconds, int64_t sequences, int64_t tokens) {
  if (tokens == 0 || sequences == 0) return;
  const double each = seconds * static_cast<double>(sequences) / static_cast<double>(tokens);
  draft_seconds_ = draft_seconds_ == 0 ? each : draft_seconds_ + (each - draft_seconds_) / 8;
}

}  // namespace hadal

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

}  // namespace

size_t Speculation::kind_of(int64_t match) {
  return match <= 4 ? 0 : match <= 8 ? 1 : match <= 16 ? 2 : 3;
}

void Speculation::propose(std::span<const std::unique_ptr<Sequence>> running,
                          const StepTimes& times, int64_t longest, int64_t most,
                          int64_t vocab_size) {
  bool any = false;
  for (const auto& seq : running) {
    const Request& request = seq->request;
    if (seq->prefilling() || !seq->drafts.empty()) continue;
    const int64_t room =
        std::min({request.max_new_tokens - seq->generated() - 1, longest - seq->size(), most});
    if (room <= 0) continue;
    if (request.propose) {
      seq->drafts = request.propose(seq->tokens, room);
    } else if (seq->lookup) {
      PromptLookup::Guess guess = seq->lookup->guess(seq->tokens, std::min(room, kMostDrafts));
      seq->drafts = std::move(guess.tokens);
      seq->draft_match = guess.match;
      any = any || !seq->drafts.empty();
    }
    keep_valid(seq->drafts, room, vocab_size);
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
    const bool guessed = seq->lookup && !seq->request.propose;
    const int64_t rows = 1 + (guessed ? 0 : static_cast<int64_t>(seq->drafts.size()));
    load.rows += rows;
    load.context += static_cast<double>(rows * seq->size());
    tokens += 1;
    if (!guessed) continue;
    double odds = 1;
    for (size_t i = 0; i < seq->drafts.size(); ++i)
      candidates.push_back({seq.get(), odds *= odds_[kind_of(seq->draft_match)].value()});
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
    if (seq->prefilling() || !seq->lookup || seq->request.propose || seq->drafts.empty()) continue;
    const auto mine =
        std::count_if(candidates.begin(), candidates.begin() + static_cast<ptrdiff_t>(taken),
                      [&](const Candidate& c) { return c.seq == seq.get(); });
    if (mine == 0) {
      // Nothing is learned of what is never tried: what is known fades towards what was at first.
      Odds& odds = odds_[kind_of(seq->draft_match)];
      odds.right = kFirstRight + (odds.right - kFirstRight) * kForgetting;
      odds.tried = kFirstTried + (odds.tried - kFirstTried) * kForgetting;
    }
    seq->drafts.resize(static_cast<size_t>(mine));
  }
}

void Speculation::verified(Sequence& seq, int64_t drafts, int64_t accepted) {
  drafted_ += drafts;
  accepted_ += accepted;
  seq.stats.drafted_tokens += drafts;
  seq.stats.accepted_tokens += accepted;
  if (drafts == 0 || !seq.lookup || seq.request.propose) return;
  Odds& odds = odds_[kind_of(seq.draft_match)];
  // Behind the first wrong guess nothing was tried.
  for (int64_t i = 0; i < std::min(drafts, accepted + 1); ++i) {
    odds.right = odds.right * kMemory + (i < accepted ? 1 : 0);
    odds.tried = odds.tried * kMemory + 1;
  }
}

}  // namespace hadal

#include "engine/scheduler.h"

#include <algorithm>

#include "base/result.h"

namespace hadal {
namespace {

/// Rows left of the chunk of the prompt that the request asked for; the whole rest where it asked
/// for none.
int64_t chunk_rows(Sequence& seq) {
  const std::vector<int64_t>& chunks = seq.request.chunks;
  if (chunks.empty()) return seq.pending();
  if (seq.chunk_left == 0) {
    const auto index = std::min<size_t>(static_cast<size_t>(seq.chunk_index++), chunks.size() - 1);
    seq.chunk_left = chunks[index];
  }
  return std::min(seq.chunk_left, seq.pending());
}

/// What a step still has room for.
struct Room {
  int64_t tokens = 0, logits = 0, entries = 0;
  void take(const Room& other) {
    tokens -= other.tokens;
    logits -= other.logits;
    entries -= other.entries;
  }
};

/// What the next token of a sequence needs, without drafts.
Room least_of(const Sequence& seq) {
  return {.tokens = 1, .logits = 1, .entries = static_cast<int64_t>(seq.counts.size())};
}

/// Forgets drafts that the step has no rows, logits or penalty entries for.
void cut_drafts(Sequence& seq, const Room& room) {
  const auto count = static_cast<int64_t>(seq.counts.size());
  int64_t fits = 0, entries = count;
  for (const auto most = static_cast<int64_t>(seq.drafts.size()); fits < most; ++fits) {
    entries += count == 0 ? 0 : count + fits + 1;
    if (fits + 2 > std::min(room.tokens, room.logits) || entries > room.entries) break;
  }
  seq.drafts.resize(static_cast<size_t>(fits));
}

/// The rows of one sequence, none where the room does not reach.
ScheduledRows rows_of(Sequence& seq, const Room& room, const Room& room_for_drafts) {
  ScheduledRows part{.seq = &seq, .begin = seq.computed};
  part.rows = std::min(seq.prefilling() ? chunk_rows(seq) : seq.pending(), room.tokens);
  const bool every = seq.request.on_logits || seq.request.on_draft_logits;
  const int64_t before = std::max<int64_t>(0, seq.next_logits() - seq.computed);
  if (every) part.rows = std::min(part.rows, before + room.logits);
  const bool last = seq.computed + part.rows == seq.size();
  if (every) part.logit_rows = std::max<int64_t>(0, part.rows - before);
  if (!last || seq.request.max_new_tokens == 0) return part;
  cut_drafts(seq, room_for_drafts);
  const auto drafts = static_cast<int64_t>(seq.drafts.size());
  part.sampled_rows = 1 + drafts;
  part.rows += drafts;
  part.logit_rows = std::max<int64_t>(part.logit_rows, 1) + drafts;
  const auto entries = static_cast<int64_t>(seq.counts.size()) * part.sampled_rows;
  if (part.logit_rows > room.logits || entries > room.entries) part.rows = 0;
  return part;
}

}  // namespace

std::vector<ScheduledRows> choose_rows(std::span<const std::unique_ptr<Sequence>> running,
                                       const StepLimits& limits) {
  std::vector<ScheduledRows> step;
  Room room{.tokens = limits.tokens, .logits = limits.logit_rows, .entries = limits.entries};
  Room others;
  for (const auto& seq : running) {
    const Room least = least_of(*seq);
    others.take({-least.tokens, -least.logits, -least.entries});
  }
  for (const bool prefilling : {false, true}) {
    for (const auto& seq : running) {
      if (seq->prefilling() != prefilling || room.tokens == 0) continue;
      // Guesses of one leave every other one its next token.
      others.take(least_of(*seq));
      Room for_drafts = room;
      for_drafts.take(others);
      const ScheduledRows part = rows_of(*seq, room, for_drafts);
      if (part.rows == 0) continue;
      Room taken{.tokens = part.rows, .logits = part.logit_rows, .entries = 0};
      for (int64_t i = 0; i < part.sampled_rows && !seq->counts.empty(); ++i)
        taken.entries += static_cast<int64_t>(seq->counts.size()) + i;
      room.take(taken);
      step.push_back(part);
    }
  }
  return step;
}

Scheduler::Scheduler(BlockManager& blocks, const StepLimits& limits, bool draft)
    : blocks_(blocks), limits_(limits), draft_(draft) {
  for (int64_t slot = limits.sequences - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

void Scheduler::admit() {
  while (!waiting_.empty() && !free_slots_.empty() &&
         (running_.empty() || blocks_.has_room(waiting_.front()->size() + 1))) {
    std::unique_ptr<Sequence> seq = std::move(waiting_.front());
    waiting_.erase(waiting_.begin());
    start(std::move(seq));
  }
}

void Scheduler::start(std::unique_ptr<Sequence> seq) {
  // The lowest slot, so that a step names no more sequences than it must.
  const auto lowest = std::min_element(free_slots_.begin(), free_slots_.end());
  seq->slot = *lowest;
  free_slots_.erase(lowest);
  blocks_.attach_prefix(*seq);
  // A draft is made of the hidden row before it: that one is computed again, without writing.
  if (draft_ && seq->computed > 0) --seq->computed;
  const auto place = std::find_if(running_.begin(), running_.end(), [&](const auto& other) {
    return other->id.value > seq->id.value;
  });
  running_.insert(place, std::move(seq));
}

/// Takes blocks and slot from a sequence; where it stands is a boundary of the prefix tree.
void Scheduler::give_up(Sequence& seq) {
  blocks_.remember(seq, true);
  blocks_.release(seq);
  free_slots_.push_back(std::exchange(seq.slot, -1));
}

void Scheduler::preempt(Sequence& seq) {
  ++preemptions_;
  give_up(seq);
  seq.computed = 0;
  seq.chunk_left = 0;
  seq.drafts.clear();
  const auto at = std::find_if(running_.begin(), running_.end(),
                               [&](const auto& other) { return other.get() == &seq; });
  const auto place = std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& other) {
    return other->id.value > seq.id.value;
  });
  waiting_.insert(place, std::move(*at));
  running_.erase(at);
}

std::vector<ScheduledRows> Scheduler::next() {
  std::vector<ScheduledRows> step = choose_rows(running_, limits_);
  for (size_t i = 0; i < step.size();) {
    Sequence* seq = step[i].seq;
    // A draft layer stands one position further.
    if (blocks_.reserve(*seq, step[i].begin + step[i].rows + (draft_ ? 1 : 0))) {
      ++i;
      continue;
    }
    // One alone always fits: the engine admits nothing longer than the cache.
    HADAL_CHECK(running_.size() > 1);
    Sequence* youngest = running_.back().get();
    preempt(*youngest);
    const auto gone = std::find_if(step.begin(), step.end(),
                                   [&](const ScheduledRows& r) { return r.seq == youngest; });
    if (gone == step.end()) continue;
    if (gone - step.begin() < static_cast<ptrdiff_t>(i)) --i;
    step.erase(gone);
  }
  return step;
}

void Scheduler::remove(SeqId id) {
  for (auto* list : {&waiting_, &running_})
    for (auto it = list->begin(); it != list->end(); ++it) {
      if ((*it)->id != id) continue;
      if ((*it)->slot >= 0) give_up(**it);
      list->erase(it);
      return;
    }
}

}  // namespace hadal

#include "engine/scheduler.h"

#include <algorithm>
#include <tuple>

#include "base/result.h"

namespace hadal {
namespace {

/// One that waits lets those behind it pass for so long, in seconds, where it does not fit and they
/// do. Then the places that become free are kept for it.
constexpr double kPatience = 2;
/// The part of a step's rows for prompts that belongs to the oldest prompt.
constexpr int64_t kOldestPart = 4;
/// Rows of prompts that a step takes even where its time is used up: prompts go on.
constexpr int64_t kLeastPromptRows = 8;
/// Prompts are cut at multiples of it where a step's time says where: kernels work on such tiles.
constexpr int64_t kRowTile = 8;

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
  return {.tokens = 1, .logits = 1, .entries = seq.entries_behind(0)};
}

/// Forgets drafts that the step has no rows, logits or penalty entries for.
void cut_drafts(Sequence& seq, const Room& room) {
  int64_t fits = 0, entries = seq.entries_behind(0);
  for (const auto most = static_cast<int64_t>(seq.drafts.size()); fits < most; ++fits) {
    entries += seq.entries_behind(fits + 1);
    if (fits + 2 > std::min(room.tokens, room.logits) || entries > room.entries) break;
  }
  seq.drafts.resize(static_cast<size_t>(fits));
}

/// Penalty entries of all rows of a part.
int64_t entries_of(const ScheduledRows& part) {
  int64_t entries = 0;
  for (int64_t i = 0; i < part.sampled_rows; ++i) entries += part.seq->entries_behind(i);
  return entries;
}

/// The rows of one sequence, none where the room does not reach. most: rows of a prompt.
ScheduledRows rows_of(Sequence& seq, const Room& room, const Room& room_for_drafts, int64_t most) {
  ScheduledRows part{.seq = &seq, .begin = seq.computed};
  const int64_t wanted = seq.prefilling() ? std::min(chunk_rows(seq), most) : seq.pending();
  part.rows = std::min(wanted, room.tokens);
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
  if (part.logit_rows > room.logits || entries_of(part) > room.entries) part.rows = 0;
  return part;
}

/// Builds one step: decoding sequences first, then prompts.
class Chooser {
 public:
  Chooser(std::span<const std::unique_ptr<Sequence>> running, const StepBudget& budget,
          const StepTimes& times)
      : running_(running),
        budget_(budget),
        times_(times),
        room_{.tokens = budget.limits.tokens,
              .logits = budget.limits.logit_rows,
              .entries = budget.limits.entries} {
    for (const auto& seq : running) {
      const Room least = least_of(*seq);
      others_.take({-least.tokens, -least.logits, -least.entries});
    }
  }

  std::vector<ScheduledRows> choose() {
    std::vector<Sequence*> prompts;
    for (const auto& seq : running_) {
      if (seq->prefilling())
        prompts.push_back(seq.get());
      else
        take(*seq, 1);
    }
    if (!prompts.empty()) choose_prompts(std::move(prompts));
    return std::move(step_);
  }

 private:
  /// Takes rows of a sequence into the step; how many.
  int64_t take(Sequence& seq, int64_t most) {
    if (room_.tokens == 0 || most == 0) return 0;
    // Guesses of one leave every other one its next token.
    others_.take(least_of(seq));
    Room for_drafts = room_;
    for_drafts.take(others_);
    const ScheduledRows part = rows_of(seq, room_, for_drafts, most);
    if (part.rows == 0) return 0;
    room_.take({.tokens = part.rows, .logits = part.logit_rows, .entries = entries_of(part)});
    load_.rows += part.rows;
    load_.context += part.context();
    step_.push_back(part);
    return part.rows;
  }

  /// Rows of prompts that the step's time allows.
  [[nodiscard]] int64_t prompt_rows(const std::vector<Sequence*>& prompts) const {
    if (budget_.seconds <= 0) return room_.tokens;
    double deepest = 0;
    for (const Sequence* seq : prompts)
      deepest = std::max(deepest, static_cast<double>(seq->computed));
    const int64_t rows = times_.room(budget_.seconds, load_, deepest, room_.tokens);
    return std::min(room_.tokens, std::max(kLeastPromptRows, rows / kRowTile * kRowTile));
  }

  void choose_prompts(std::vector<Sequence*> prompts) {
    if (budget_.fixed_chunk > 0) return choose_chunks(prompts);
    int64_t rows = prompt_rows(prompts);
    // Those of larger priorities get what the smaller ones leave.
    std::stable_sort(prompts.begin(), prompts.end(), [](const Sequence* a, const Sequence* b) {
      return std::tuple(a->request.priority, a->pending()) <
             std::tuple(b->request.priority, b->pending());
    });
    const auto oldest =
        std::min_element(prompts.begin(), prompts.end(), [](const Sequence* a, const Sequence* b) {
          return std::tuple(a->request.priority, a->id.value) <
                 std::tuple(b->request.priority, b->id.value);
        });
    int64_t kept = std::min(rows / kOldestPart, (*oldest)->pending());
    for (Sequence* seq : prompts) {
      if (seq == *oldest) kept = 0;
      // The oldest one's part is not given to others before its turn.
      rows -= take(*seq, seq == *oldest ? rows : rows - kept);
    }
  }

  /// Whole chunks at multiples of the fixed length, or nothing.
  void choose_chunks(const std::vector<Sequence*>& prompts) {
    for (Sequence* seq : prompts) {
      const int64_t rows =
          std::min(budget_.fixed_chunk - seq->computed % budget_.fixed_chunk, seq->pending());
      if (rows <= room_.tokens) take(*seq, rows);
    }
  }

  std::span<const std::unique_ptr<Sequence>> running_;
  const StepBudget& budget_;
  const StepTimes& times_;
  Room room_, others_;
  StepTimes::Load load_;
  std::vector<ScheduledRows> step_;
};

bool comes_before(const Sequence& a, const Sequence& b) {
  return std::tuple(a.request.priority, a.id.value) < std::tuple(b.request.priority, b.id.value);
}

}  // namespace

std::vector<ScheduledRows> choose_rows(std::span<const std::unique_ptr<Sequence>> running,
                                       const StepBudget& budget, const StepTimes& times) {
  return Chooser(running, budget, times).choose();
}

Scheduler::Scheduler(BlockManager& blocks, const StepLimits& limits, const Options& options)
    : blocks_(blocks),
      budget_{
          .limits = limits, .seconds = options.step_seconds, .fixed_chunk = options.fixed_chunk},
      draft_(options.draft) {
  for (int64_t slot = limits.sequences - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

void Scheduler::insert(List& list, std::unique_ptr<Sequence> seq) {
  const auto place = std::find_if(list.begin(), list.end(),
                                  [&](const auto& other) { return comes_before(*seq, *other); });
  list.insert(place, std::move(seq));
}

void Scheduler::add(std::unique_ptr<Sequence> seq) { insert(waiting_, std::move(seq)); }

std::vector<SeqId> Scheduler::expired(double now) const {
  std::vector<SeqId> ids;
  for (const List* list : {&waiting_, &running_})
    for (const auto& seq : *list)
      if (seq->request.deadline && *seq->request.deadline <= now) ids.push_back(seq->id);
  return ids;
}

/// Whether the cache holds the sequence beside what the running ones still have to compute.
bool Scheduler::has_room(const Sequence& seq) const {
  int64_t tokens = seq.size() + 1;
  for (const auto& other : running_) tokens += other->pending();
  return running_.empty() || blocks_.has_room(tokens);
}

/// Whether the sequence can start now, if need be in the place of ones that are less urgent. Nobody
/// loses a place in vain, as far as sizes tell.
bool Scheduler::make_room(const Sequence& seq) {
  int64_t wanted = seq.size() + 1, freed = 0, staying = 0;
  for (const auto& other : running_) {
    if (other->request.priority > seq.request.priority) {
      freed += other->computed;
    } else {
      wanted += other->pending();
      ++staying;
    }
  }
  const bool place = !free_slots_.empty() || staying < static_cast<int64_t>(running_.size());
  if (!place || (staying > 0 && !blocks_.has_room(wanted - freed))) return false;
  while (free_slots_.empty() || !has_room(seq)) {
    if (running_.empty()) return false;
    Sequence& last = *running_.back();
    if (last.request.priority <= seq.request.priority) return false;
    preempt(last);
  }
  return true;
}

void Scheduler::admit(double now) {
  for (size_t i = 0; i < waiting_.size();) {
    const Sequence& seq = *waiting_[i];
    if (seq.leader.value >= 0) {  // its prompt is on the way
      ++i;
      continue;
    }
    const SeqId id = seq.id;
    const bool fits = make_room(seq);
    // Those that lost their place for it stand behind it.
    if (fits) {
      std::unique_ptr<Sequence> next = std::move(waiting_[i]);
      HADAL_CHECK(next->id == id);
      waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
      start(std::move(next));
    } else if (free_slots_.empty() || now - seq.arrival > kPatience) {
      return;
    } else {
      ++i;
    }
  }
}

/// The lowest slot, so that a step names no more sequences than it must.
void Scheduler::take_slot(Sequence& seq) {
  const auto lowest = std::min_element(free_slots_.begin(), free_slots_.end());
  seq.slot = *lowest;
  free_slots_.erase(lowest);
}

void Scheduler::start(std::unique_ptr<Sequence> seq) {
  take_slot(*seq);
  blocks_.attach_prefix(*seq);
  if (seq->stats.preemptions == 0) seq->stats.cached_tokens = seq->shared_tokens;
  // A draft is made of the hidden row before it: that one is computed again, without writing.
  if (draft_ && seq->computed > 0) --seq->computed;
  insert(running_, std::move(seq));
}

/// Takes blocks and slot from a sequence; where it stands is a boundary of the prefix tree.
void Scheduler::give_up(Sequence& seq) {
  blocks_.remember(seq, true);
  blocks_.release(seq);
  free_slots_.push_back(std::exchange(seq.slot, -1));
}

void Scheduler::preempt(Sequence& seq) {
  ++preemptions_;
  ++seq.stats.preemptions;
  give_up(seq);
  seq.computed = 0;
  seq.chunk_left = 0;
  seq.drafts.clear();
  const auto at = std::find_if(running_.begin(), running_.end(),
                               [&](const auto& other) { return other.get() == &seq; });
  std::unique_ptr<Sequence> taken = std::move(*at);
  running_.erase(at);
  insert(waiting_, std::move(taken));
}

std::vector<ScheduledRows> Scheduler::next(const StepTimes& times) {
  std::vector<ScheduledRows> step = choose_rows(running_, budget_, times);
  for (size_t i = 0; i < step.size();) {
    Sequence* seq = step[i].seq;
    // A draft layer stands one position further.
    if (blocks_.reserve(*seq, step[i].begin + step[i].rows + (draft_ ? 1 : 0))) {
      ++i;
      continue;
    }
    // One alone always fits: the engine admits nothing longer than the cache.
    HADAL_CHECK(running_.size() > 1);
    Sequence* last = running_.back().get();
    preempt(*last);
    const auto gone = std::find_if(step.begin(), step.end(),
                                   [&](const ScheduledRows& r) { return r.seq == last; });
    if (gone == step.end()) continue;
    if (gone - step.begin() < static_cast<ptrdiff_t>(i)) --i;
    step.erase(gone);
  }
  return step;
}

/// Whoever waited for this one's prompt waits like everybody.
void Scheduler::leave_followers(SeqId leader) {
  for (const auto& seq : waiting_)
    if (seq->leader == leader) seq->leader = {};
}

std::unique_ptr<Sequence> Scheduler::remove(SeqId id) {
  for (List* list : {&waiting_, &running_})
    for (auto it = list->begin(); it != list->end(); ++it) {
      if ((*it)->id != id) continue;
      std::unique_ptr<Sequence> seq = std::move(*it);
      list->erase(it);
      if (seq->slot >= 0) give_up(*seq);
      leave_followers(id);
      return seq;
    }
  return nullptr;
}

Status Scheduler::start_followers(const Sequence& leader,
                                  const std::function<Status(std::span<const BlockCopy>)>& copy) {
  for (size_t i = 0; i < waiting_.size() && !free_slots_.empty();) {
    Sequence& seq = *waiting_[i];
    std::vector<BlockCopy> copies;
    if (!(seq.leader == leader.id) || !blocks_.fork(leader, seq, copies)) {
      ++i;
      continue;
    }
    std::unique_ptr<Sequence> follower = std::move(waiting_[i]);
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
    follower->leader = {};
    take_slot(*follower);
    follower->stats.cached_tokens = follower->shared_tokens;
    if (draft_ && follower->computed > 0) --follower->computed;
    insert(running_, std::move(follower));
    HADAL_TRY(copy(copies));
  }
  leave_followers(leader.id);
  return {};
}

}  // namespace hadal

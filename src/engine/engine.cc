#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/limits.h"

namespace hadal {
namespace {

Status check_whole(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return usage_error(std::string(name) + " is " + std::to_string(value) +
                     ", expected a whole number from " + std::to_string(low) + " to " +
                     std::to_string(high));
}

Status check_ids(std::span<const TokenId> ids, int64_t vocab_size) {
  const auto outside =
      std::find_if(ids.begin(), ids.end(), [&](TokenId id) { return id < 0 || id >= vocab_size; });
  if (outside == ids.end()) return {};
  return usage_error("token id " + std::to_string(*outside) + " is outside the vocabulary of " +
                     std::to_string(vocab_size));
}

/// A step has room for so many of them, and its operators trust their ids.
Status check_biases(const Request& request, int64_t vocab_size) {
  HADAL_TRY(check_limit(limit("logit_bias"), static_cast<int64_t>(request.logit_bias.size())));
  for (const auto& [token, bias] : request.logit_bias) {
    HADAL_TRY(check_ids(std::span(&token, 1), vocab_size));
    HADAL_TRY(check_limit(limit("logit_bias[]"), bias));
  }
  HADAL_TRY(check_whole("bad words in tokens", static_cast<int64_t>(request.bad_words.size()), 0,
                        kMostBadWords));
  for (const std::vector<TokenId>& word : request.bad_words) {
    if (word.empty()) return usage_error("a bad word has no tokens");
    HADAL_TRY(check_ids(word, vocab_size));
  }
  return {};
}

Status check_request(const Request& request, int64_t vocab_size) {
  if (request.prompt.empty())
    return usage_error("the prompt is empty: at least one token is needed");
  HADAL_TRY(check_ids(request.prompt, vocab_size));
  HADAL_TRY(check_biases(request, vocab_size));
  const SamplingParams& s = request.sampling;
  HADAL_TRY(check_limit(limit("temperature"), s.temperature));
  HADAL_TRY(check_limit(limit("top_k"), int64_t{s.top_k}));
  HADAL_TRY(check_limit(limit("top_p"), s.top_p));
  HADAL_TRY(check_limit(limit("min_p"), s.min_p));
  HADAL_TRY(check_limit(limit("repetition_penalty"), s.repetition_penalty));
  HADAL_TRY(check_limit(limit("presence_penalty"), s.presence_penalty));
  HADAL_TRY(check_limit(limit("frequency_penalty"), s.frequency_penalty));
  for (const int64_t rows : request.chunks) HADAL_TRY(check_whole("a chunk", rows, 1, INT32_MAX));
  HADAL_TRY(check_whole("logits_from", request.logits_from, 0,
                        static_cast<int64_t>(request.prompt.size()) - 1));
  return check_whole("top_logprobs", request.top_logprobs, 0,
                     std::min(kMaxTopLogprobs, vocab_size));
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::load(const Checkpoint& checkpoint,
                                             const RunnerOptions& options,
                                             const LoadProgress& progress, EngineOptions engine) {
  HADAL_TRY(std::unique_ptr<ModelRunner> runner, ModelRunner::open(checkpoint, options));
  HADAL_TRY(runner->load(progress));
  return std::make_unique<Engine>(std::move(runner), std::move(engine));
}

Engine::Engine(std::unique_ptr<ModelRunner> runner, EngineOptions options)
    : options_(std::move(options)),
      runner_(std::move(runner)),
      blocks_(runner_->spec(), runner_->blocks()),
      // A layer of multi-token prediction writes one position further than the tokens reach.
      longest_(std::min(runner_->context(), blocks_.longest() - (spec().draft.is_mtp() ? 1 : 0))),
      scheduler_(blocks_, runner_->layout().limits,
                 {.draft = spec().draft.is_mtp(),
                  .step_seconds = options_.step_seconds,
                  .fixed_chunk = runner_->row_invariant() ? 0 : runner_->layout().limits.tokens}),
      builder_(runner_->spec(), runner_->layout()) {
  if (runner_->options().draft) drafter_ = std::make_unique<Drafter>(*runner_, builder_);
  if (!options_.now)
    options_.now = [] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
          .count();
    };
  if (!options_.log) options_.log = [](std::string_view) {};
}

Result<SeqId> Engine::add(Request request) {
  HADAL_TRY(const std::vector<SeqId> ids, add_samples(request, 1));
  return ids[0];
}

Result<std::vector<SeqId>> Engine::add_samples(const Request& request, int64_t n) {
  HADAL_TRY(check_limit(limit("n"), n));
  HADAL_TRY(check_request(request, runner_->spec().vocab_size));
  if (request.adapter != -1 && !runner_->has_adapter(request.adapter))
    return usage_error("adapter " + std::to_string(request.adapter) + " is not loaded; -1 is none");
  const auto size = static_cast<int64_t>(request.prompt.size());
  if (size > longest_)
    return memory_error("the prompt has " + std::to_string(size) + " tokens, the " +
                        (longest_ < runner_->context() ? "cache" : "context") + " holds " +
                        std::to_string(longest_));
  std::vector<SeqId> ids;
  for (int64_t i = 0; i < n; ++i) {
    Request sample = request;
    sample.sampling.sample += static_cast<uint32_t>(i);
    ids.push_back(enqueue(std::move(sample), ids.empty() ? SeqId{} : ids[0]));
  }
  return ids;
}

SeqId Engine::enqueue(Request request, SeqId leader) {
  auto seq = std::make_unique<Sequence>();
  seq->id = {next_id_++};
  seq->leader = leader;
  seq->arrival = now();
  seq->tokens = request.prompt;
  // Rows that were computed with an adapter are of no use without it. A digest has no line break:
  // no key of a caller's can be that of another adapter.
  const Digest* adapter = runner_->adapter_digest(request.adapter);
  seq->prefix_key = (adapter ? hex(*adapter) : "") + "\n" + request.cache_key;
  if (request.constraint) seq->constraint = request.constraint();
  if (request.prompt_lookup) seq->lookup.emplace();
  seq->request = std::move(request);
  for (const auto& [token, bias] : seq->request.logit_bias) seq->entries[token].bias += bias;
  if (seq->request.sampling.has_penalties())
    for (const TokenId token : seq->tokens) ++seq->entries[token].in_prompt;
  const SeqId id = seq->id;
  scheduler_.add(std::move(seq));
  return id;
}

Status Engine::swap_to(const SwapOptions& options) {
  HADAL_CHECK(idle() && !swap_);
  if (runner_->spec().shard.ranks > 1)
    return usage_error("pages of a model in parts cannot be kept in a file; leave --kv-file out");
  HADAL_TRY(swap_, PageSwap::open(*runner_, options));
  blocks_.use_store(*swap_);
  return {};
}

void Engine::save_pages() { blocks_.save_all(); }

EngineCounts Engine::counts() const {
  EngineCounts counts = counts_;
  counts.drafted_tokens = speculation_.drafted();
  counts.accepted_tokens = speculation_.accepted();
  counts.fallback_operators = runner_->fallback_operators();
  counts.transferred_bytes = static_cast<int64_t>(runner_->transferred_bytes());
  return counts;
}

/// Asks for drafts behind a step: those that requests want to see, and those that pay.
Result<std::vector<DraftWish>> Engine::wishes(std::span<const ScheduledRows> step,
                                              std::span<const TokenEvent> events) {
  std::vector<DraftWish> wishes;
  std::vector<Sequence*> generating;
  double context = 0;
  for (const ScheduledRows& part : step) {
    Sequence& seq = *part.seq;
    const Request& request = seq.request;
    if (request.on_draft && !seq.draft_shown && part.begin + part.rows >= seq.size() - 1) {
      seq.draft_shown = true;
      if (!blocks_.reserve(seq, drafter_->positions(seq, request.draft_tokens)))
        return memory_error("the cache has no room for " + std::to_string(request.draft_tokens) +
                            " drafts behind a prompt of " + std::to_string(seq.prompt_size()) +
                            " tokens");
      wishes.push_back({.seq = &seq, .count = request.draft_tokens, .on_row = request.on_draft});
    }
    const bool ends = std::any_of(events.begin(), events.end(), [&](const TokenEvent& event) {
      return event.seq == seq.id && event.finish != FinishReason::kNone;
    });
    if (part.sampled_rows == 0 || ends || request.propose || request.on_draft) continue;
    generating.push_back(&seq);
    context += static_cast<double>(seq.size());
  }
  const auto sequences = static_cast<int64_t>(generating.size());
  const int64_t rows = runner_->layout().limits.logit_rows - sequences;
  const int64_t most = sequences > 0 ? rows / sequences : 0;
  const int64_t count = options_.draft_tokens
                            ? std::min(*options_.draft_tokens, most)
                            : speculation_.wanted(times_, sequences, context, most);
  for (Sequence* seq : generating) {
    const int64_t room = std::min(
        {count, seq->request.max_new_tokens - seq->generated() - 1, longest_ - seq->size()});
    if (room > 0 && blocks_.reserve(*seq, drafter_->positions(*seq, room)))
      wishes.push_back({.seq = seq, .count = room});
  }
  return wishes;
}

Status Engine::draft(std::span<const ScheduledRows> step, std::span<const TokenEvent> events) {
  HADAL_TRY(const std::vector<DraftWish> wanted, wishes(step, events));
  const double start = now();
  HADAL_TRY(std::vector<Drafts> made, drafter_->draft(step, wanted));
  int64_t tokens = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    tokens += static_cast<int64_t>(made[i].tokens.size());
    if (wanted[i].on_row) continue;
    speculation_.drafted(*wanted[i].seq, std::move(made[i].tokens), made[i].confidences);
    if (options_.draft_tokens) wanted[i].seq->draft_odds.clear();
  }
  speculation_.drafting_took(now() - start, static_cast<int64_t>(wanted.size()), tokens);
  return {};
}

/// Hands out the logits of the positions whose tokens are known to be right.
Status Engine::deliver_logits(const ScheduledRows& part, int64_t first_row,
                              int64_t verified) const {
  if (!part.seq->request.on_logits) return {};
  std::vector<float> logits(static_cast<size_t>(runner_->layout().limits.vocab));
  const int64_t first = part.begin + part.rows - part.logit_rows;
  for (int64_t i = 0; i < part.logit_rows && first + i < part.begin + verified; ++i) {
    HADAL_TRY(read_row(*runner_, runner_->layout().logits, first_row + i, logits));
    part.seq->request.on_logits(first + i, logits);
  }
  return {};
}

FinishReason Engine::finish_of(const Sequence& seq) const {
  const auto& ending = seq.request.ending;
  if (std::find(ending.begin(), ending.end(), seq.tokens.back()) != ending.end())
    return FinishReason::kEnding;
  if (seq.generated() >= seq.request.max_new_tokens) return FinishReason::kLength;
  return seq.size() > longest_ ? FinishReason::kContext : FinishReason::kNone;
}

TokenEvent Engine::event_of(const Sequence& seq, int64_t row, const Sampled& sampled) const {
  const auto r = static_cast<size_t>(row);
  TokenEvent event{.seq = seq.id,
                   .token = sampled.tokens[r],
                   .logprob = sampled.logprobs[r],
                   .stats = seq.stats};
  const auto width = static_cast<size_t>(runner_->layout().limits.top);
  for (size_t i = 0; i < static_cast<size_t>(seq.request.top_logprobs); ++i)
    if (const TokenId token = sampled.top_tokens[r * width + i]; token >= 0)
      event.top.push_back({token, sampled.top_logprobs[r * width + i]});
  return event;
}

// NaN counts as minus infinity where a token is chosen, so that one alone among the logits would
// never be seen: a request's first row is looked at whole. What goes wrong later spreads through
// the last matrix to all logits, and to the log-probability of the chosen token.
Result<bool> Engine::starts_finite(const ScheduledRows& part, int64_t row) const {
  if (part.sampled_rows == 0 || part.seq->generated() > 0) return true;
  std::vector<float> logits(static_cast<size_t>(runner_->layout().limits.vocab));
  HADAL_TRY(read_row(*runner_, runner_->layout().logits, row, logits));
  return std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
}

void Engine::accept(const ScheduledRows& part, int64_t first_row, const Sampled& sampled,
                    std::vector<TokenEvent>& events) {
  Sequence& seq = *part.seq;
  if (part.sampled_rows == 0) return;
  const std::vector<TokenId> drafts = std::exchange(seq.drafts, {});
  const int64_t size = seq.size();
  for (int64_t i = 0; i < part.sampled_rows; ++i) {
    TokenEvent event = event_of(seq, first_row + i, sampled);
    const auto& dead_ends = builder_.dead_ends();
    if (std::find(dead_ends.begin(), dead_ends.end(), first_row + i) != dead_ends.end()) {
      event.token = -1;
      event.finish = FinishReason::kError;
      event.error = failed("the grammar allows no token here");
    } else if (!std::isfinite(event.logprob)) {
      event.token = -1;
      event.finish = FinishReason::kError;
    } else {
      seq.tokens.push_back(event.token);
      if (seq.request.sampling.has_penalties()) ++seq.entries[event.token].in_output;
      if (seq.constraint) seq.constraint->accept(event.token);
      event.finish = finish_of(seq);
      ++counts_.new_tokens;
    }
    events.push_back(std::move(event));
    if (events.back().finish != FinishReason::kNone) break;
    if (i == static_cast<int64_t>(drafts.size()) ||
        drafts[static_cast<size_t>(i)] != seq.tokens.back())
      break;
  }
  speculation_.verified(seq, static_cast<int64_t>(drafts.size()),
                        std::max<int64_t>(0, seq.size() - size - 1));
}

void Engine::end_expired(std::vector<TokenEvent>& events) {
  for (const SeqId id : scheduler_.expired(now()))
    events.push_back({.seq = id, .finish = FinishReason::kDeadline, .stats = retire(id)});
}

/// Takes a request out and counts what it was.
RequestStats Engine::retire(SeqId id) {
  const std::unique_ptr<Sequence> seq = scheduler_.remove(id);
  if (!seq) return {};
  counts_.prompt_tokens += seq->prompt_size();
  counts_.cached_tokens += seq->stats.cached_tokens;
  return seq->stats;
}

void Engine::cancel(SeqId id) {
  if (ahead_)  // an error takes back what was ahead, no more
    if (const Status waited = settle(runner_->sync()); !waited) note_loss(waited.error());
  (void)retire(id);
}

bool Engine::may_run_ahead(std::span<const ScheduledRows> step) const {
  // With others about, one might have to give up blocks that are not written yet; groups that keep
  // the last rows have blocks for one step; pages are read from a device that has nothing to do;
  // and a chip of 1.0 may still read the inputs.
  const auto& groups = runner_->spec().groups;
  const bool keeps_all = std::all_of(groups.begin(), groups.end(),
                                     [](const PlaneGroup& group) { return group.keep == 0; });
  return keeps_all && !swap_ && runner_->copies_at_once() && !ahead_ && step.size() == 1 &&
         scheduler_.running().size() == 1 && scheduler_.waiting().empty() &&
         step[0].logit_rows == 0 && step[0].begin + step[0].rows < step[0].seq->size() && !drafter_;
}

void Engine::run_ahead(const ScheduledRows& part) {
  Sequence& seq = *part.seq;
  ahead_ = {&seq, part.rows, seq.chunk_left, seq.chunk_index};
  seq.computed = part.begin + part.rows;
  seq.chunk_left -= std::min(seq.chunk_left, part.rows);
}

Status Engine::settle(Status waited) {
  if (!waited) builder_.lost();
  const std::optional<Ahead> ahead = std::exchange(ahead_, std::nullopt);
  if (!ahead) return waited;
  if (waited) {
    blocks_.advance(*ahead->seq, ahead->rows);
  } else {
    ahead->seq->computed -= ahead->rows;
    ahead->seq->chunk_left = ahead->chunk_left;
    ahead->seq->chunk_index = ahead->chunk_index;
  }
  return waited;
}

void Engine::note_loss(const Error& why) {
  if (!runner_->lost() || !devices_.lost.empty()) return;
  devices_.lost = why.message;
  ++devices_.losses;
}

Status Engine::reopen() {
  if (!scheduler_.running().empty()) return failed("a device failed while answers were generated");
  if (!devices_.away) options_.log("a device is lost: " + devices_.lost);
  ahead_.reset();
  builder_.lost();
  blocks_.forget();
  if (Status opened = runner_->reopen(options_.log); !opened) {
    if (!devices_.away)  // told once, however often it is tried
      options_.log("no answers can be generated: " + opened.error().message);
    devices_.away = true;
    devices_.lost = opened.error().message;
    return opened;
  }
  devices_.away = false;
  devices_.lost.clear();
  ++devices_.reopened;
  return {};
}

Result<std::vector<TokenEvent>> Engine::step() {
  if (!devices_.lost.empty()) HADAL_TRY(reopen());
  auto events = run_step();
  if (!events) note_loss(events.error());
  return events;
}

Result<std::vector<TokenEvent>> Engine::run_step() {
  std::vector<TokenEvent> events;
  if (ahead_ && !(scheduler_.waiting().empty() && scheduler_.expired(now()).empty()))
    HADAL_TRY(settle(runner_->sync()));
  end_expired(events);
  scheduler_.admit(now());
  const StepLimits& limits = runner_->layout().limits;
  speculation_.propose(scheduler_.running(), times_, longest_, limits.logit_rows - 1,
                       runner_->spec().vocab_size);
  const std::vector<ScheduledRows> step = scheduler_.next(times_);
  if (step.empty()) return events;
  StepInputs& inputs = builder_.build(step);
  const bool top = std::any_of(step.begin(), step.end(), [](const ScheduledRows& part) {
    return part.sampled_rows > 0 && part.seq->request.top_logprobs > 0;
  });
  runner_->fill_extra(builder_.extra_rows(step), inputs);
  const bool waited_for = !ahead_;
  const double start = now();
  Status queued = runner_->run(inputs, {.mask = inputs.masked, .top = top});
  if (queued && may_run_ahead(step)) {
    run_ahead(step[0]);
    return events;
  }
  if (!queued) (void)runner_->sync();  // what runs still must not tell its failure to a later step
  Result<Sampled> read = queued ? read_sampled(*runner_, inputs, top) : queued.error();
  HADAL_TRY(settle(read ? Status() : read.error()));
  Sampled sampled = *std::move(read);
  if (waited_for) measure(step, now() - start);

  int64_t row = 0;
  std::vector<int64_t> verified;  // a part: rows whose tokens are right
  for (const ScheduledRows& part : step) {
    const auto drafts = static_cast<int64_t>(part.seq->drafts.size());
    const int64_t size = part.seq->size();
    const int64_t first_sampled = row + part.logit_rows - part.sampled_rows;
    HADAL_TRY(const bool finite, starts_finite(part, first_sampled));
    if (!finite) sampled.logprobs[static_cast<size_t>(first_sampled)] = NAN;
    accept(part, first_sampled, sampled, events);
    const int64_t right = std::max<int64_t>(0, part.seq->size() - size - 1);
    verified.push_back(part.rows - std::max<int64_t>(0, drafts - right));
    HADAL_TRY(deliver_logits(part, row, verified.back()));
    row += part.logit_rows;
  }
  HADAL_TRY(after_step(step, verified, inputs, events));
  return events;
}

/// Counts the step, and learns how long it took.
void Engine::measure(std::span<const ScheduledRows> step, double seconds) {
  StepTimes::Load load;
  for (const ScheduledRows& part : step) {
    load.rows += part.rows;
    load.context += part.context();
  }
  times_.measured(load.rows, load.context, seconds);
}

/// Everything behind the tokens of a step: caches, samples that waited for a prompt, ends.
Status Engine::after_step(std::span<const ScheduledRows> step, std::span<const int64_t> verified,
                          const StepInputs& inputs, std::vector<TokenEvent>& events) {
  for (TokenEvent& event : events)
    if (event.finish == FinishReason::kError && !event.error)
      event.error = runner_->explain_not_finite(inputs);
  if (drafter_) HADAL_TRY(draft(step, events));
  ++counts_.steps;
  for (size_t i = 0; i < step.size(); ++i) {
    Sequence& seq = *step[i].seq;
    const bool in_prompt = step[i].begin < seq.prompt_size();
    advance(step[i], verified[i], events);
    if (!in_prompt || seq.computed < seq.prompt_size()) continue;
    HADAL_TRY(scheduler_.start_followers(
        seq, [&](std::span<const BlockCopy> copies) { return runner_->copy_blocks(copies); }));
  }
  for (TokenEvent& event : events) {
    if (event.finish == FinishReason::kNone) continue;
    event.stats = retire(event.seq);
  }
  return {};
}

/// What a step leaves of a sequence; a request that generates nothing ends here.
void Engine::advance(const ScheduledRows& part, int64_t verified, std::vector<TokenEvent>& events) {
  Sequence& seq = *part.seq;
  const bool broken = std::any_of(events.begin(), events.end(), [&](const TokenEvent& event) {
    return event.seq == seq.id && event.finish == FinishReason::kError;
  });
  if (broken) seq.request.reuse_prefix = false;  // nobody else shall meet these numbers
  seq.computed = part.begin + verified;
  seq.chunk_left -= std::min(seq.chunk_left, part.rows);
  if (part.logit_rows > 0) seq.delivered = std::min(seq.computed, seq.size());
  blocks_.advance(seq, verified);
  if (seq.request.max_new_tokens == 0 && seq.pending() == 0)
    events.push_back({.seq = seq.id, .finish = FinishReason::kLength});
}

}  // namespace hadal

#include "engine/engine.h"

#include <algorithm>
#include <cmath>

namespace hadal {
namespace {

Status check_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  std::string text = std::to_string(value);
  return usage_error(std::string(name) + " is " + text + ", expected a number from " +
                     std::to_string(low) + " to " + std::to_string(high));
}

Status check_sampling(const SamplingParams& s) {
  HADAL_TRY(check_range("temperature", static_cast<double>(s.temperature), 0, 100));
  HADAL_TRY(check_range("top_k", static_cast<double>(s.top_k), 0, 2147483647.0));
  HADAL_TRY(check_range("top_p", static_cast<double>(s.top_p), 0, 1));
  HADAL_TRY(check_range("min_p", static_cast<double>(s.min_p), 0, 1));
  HADAL_TRY(
      check_range("repetition_penalty", static_cast<double>(s.repetition_penalty), 0.01, 100));
  HADAL_TRY(check_range("presence_penalty", static_cast<double>(s.presence_penalty), -100, 100));
  return check_range("frequency_penalty", static_cast<double>(s.frequency_penalty), -100, 100);
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::load(const Checkpoint& checkpoint,
                                             const RunnerOptions& options,
                                             const LoadProgress& progress) {
  HADAL_TRY(std::unique_ptr<ModelRunner> runner, ModelRunner::open(checkpoint, options));
  HADAL_TRY(runner->load(progress));
  return std::make_unique<Engine>(std::move(runner));
}

Engine::Engine(std::unique_ptr<ModelRunner> runner)
    : runner_(std::move(runner)),
      blocks_(runner_->spec(), runner_->blocks()),
      inputs_(runner_->layout()) {}

Result<SeqId> Engine::add(Request request) {
  const ModelSpec& spec = runner_->spec();
  if (request.prompt.empty())
    return usage_error("the prompt is empty: at least one token is needed");
  const auto outside = std::find_if(request.prompt.begin(), request.prompt.end(),
                                    [&](TokenId id) { return id < 0 || id >= spec.vocab_size; });
  if (outside != request.prompt.end())
    return usage_error("token id " + std::to_string(*outside) + " is outside the vocabulary of " +
                       std::to_string(spec.vocab_size));
  HADAL_TRY(check_sampling(request.sampling));
  const auto size = static_cast<int64_t>(request.prompt.size());
  if (size > runner_->context())
    return memory_error("the prompt has " + std::to_string(size) + " tokens, the context holds " +
                        std::to_string(runner_->context()));
  auto seq = std::make_unique<Sequence>();
  seq->id = {next_id_++};
  seq->tokens = request.prompt;
  seq->request = std::move(request);
  if (seq->request.sampling.has_penalties())
    for (const TokenId id : seq->tokens) ++seq->counts[id].first;
  seq->waiting = true;
  sequences_.push_back(std::move(seq));
  return sequences_.back()->id;
}

// As many sequences as a step holds have a place in it. Only then do they look for their prefix:
// by now more of it may be cached, and what waits holds no block.
void Engine::admit() {
  auto places = runner_->layout().limits.sequences;
  for (const auto& seq : sequences_) places -= seq->waiting ? 0 : 1;
  for (const auto& seq : sequences_) {
    if (!seq->waiting || places <= 0) continue;
    --places;
    seq->waiting = false;
    blocks_.attach_prefix(*seq);
    // A draft is made of the hidden row before it: that one is computed again, without writing.
    if (runner_->options().draft && seq->computed > 0) --seq->computed;
  }
}

void Engine::finish(Sequence& seq) {
  if (!seq.waiting) {
    blocks_.remember(seq, true);
    blocks_.release(seq);
  }
  std::erase_if(sequences_, [&](const auto& s) { return s.get() == &seq; });
}

void Engine::cancel(SeqId id) {
  for (const auto& seq : sequences_)
    if (seq->id == id) return finish(*seq);
}

Status Engine::make_room(std::vector<ScheduledRows>& rows) {
  std::vector<ScheduledRows> kept;
  for (const ScheduledRows& r : rows) {
    // A draft stands one position further.
    const int64_t end = r.begin + r.rows + (runner_->options().draft ? 1 : 0);
    size_t g = 0;
    bool room = blocks_.reserve(*r.seq, end, &g);
    while (!room) {
      const int64_t had = blocks_.capacity(g), most = runner_->max_blocks(g);
      if (had >= most) break;
      const int64_t wanted = std::min(most, std::max(2 * had, had + blocks_.blocks_for(g, r.rows)));
      HADAL_TRY(runner_->grow(g, wanted));
      blocks_.grow(g, wanted);
      room = blocks_.reserve(*r.seq, end, &g);
    }
    if (room) kept.push_back(r);
  }
  if (kept.empty()) return memory_error("the cache is full: no sequence can go on");
  rows = std::move(kept);
  return {};
}

void Engine::fill_sampling(const Sequence& seq, int64_t row, int64_t position) {
  const StepLayout& l = runner_->layout();
  const SamplingParams& s = seq.request.sampling;
  float* params = inputs_.at<float>(l.sample_params) + row * HADAL_PARAM_COUNT;
  params[HADAL_PARAM_TEMPERATURE] = s.temperature;
  params[HADAL_PARAM_TOP_K] = static_cast<float>(s.temperature == 0 ? 1 : s.top_k);
  params[HADAL_PARAM_TOP_P] = s.top_p;
  params[HADAL_PARAM_MIN_P] = s.min_p;
  params[HADAL_PARAM_REPETITION] = s.repetition_penalty;
  params[HADAL_PARAM_PRESENCE] = s.presence_penalty;
  params[HADAL_PARAM_FREQUENCY] = s.frequency_penalty;
  params[HADAL_PARAM_RESERVED] = 0;
  uint32_t* seed = inputs_.at<uint32_t>(l.sample_seed) + row * 2;
  seed[0] = static_cast<uint32_t>(s.seed);
  seed[1] = static_cast<uint32_t>(s.seed >> 32);
  inputs_.at<int32_t>(l.sample_position)[row] = static_cast<int32_t>(position);
  int32_t* range = inputs_.at<int32_t>(l.entry_start) + row * 2;
  range[0] = static_cast<int32_t>(inputs_.entries);
  for (const auto& [token, count] : seq.counts) {
    int32_t* entry = inputs_.at<int32_t>(l.entry) + inputs_.entries * 3;
    entry[0] = token;
    entry[1] = count.first;
    entry[2] = count.second;
    inputs_.at<float>(l.entry_bias)[inputs_.entries++] = 0;
  }
  range[1] = static_cast<int32_t>(inputs_.entries);
}

void Engine::fill_inputs(const std::vector<ScheduledRows>& rows) {
  const StepLayout& l = runner_->layout();
  const std::vector<PlaneGroup>& groups = runner_->spec().groups;
  int64_t t = 0, u = 0, r = 0, s = 0;
  inputs_.entries = 0;
  for (const ScheduledRows& part : rows) {
    const Sequence& seq = *part.seq;
    for (int64_t i = 0; i < part.rows; ++i, ++t) {
      const int64_t position = part.begin + i;
      inputs_.at<int32_t>(l.token)[t] = seq.tokens[static_cast<size_t>(position)];
      inputs_.at<int32_t>(l.position)[t] = static_cast<int32_t>(position);
      inputs_.at<int32_t>(l.row_seq)[t] = static_cast<int32_t>(s);
      const bool wanted = i >= part.rows - part.logit_rows;
      if (wanted) {
        inputs_.at<int32_t>(l.logit_row)[r] = static_cast<int32_t>(u);
        fill_sampling(seq, r++, position + 1);
      }
      if (!l.limits.tail) {
        ++u;
      } else if (position >= seq.tail_start) {
        inputs_.at<int32_t>(l.tail_row)[u] = static_cast<int32_t>(t);
        inputs_.at<int32_t>(l.tail_position)[u] = static_cast<int32_t>(position);
        inputs_.at<int32_t>(l.tail_row_seq)[u] = static_cast<int32_t>(s);
        ++u;
      }
    }
    for (size_t g = 0; g < seq.blocks.size(); ++g) {
      inputs_.at<int32_t>(l.write_from[g])[s] = static_cast<int32_t>(seq.shared_tokens);
      inputs_.at<int32_t>(l.first[g])[s] =
          groups[g].tail ? static_cast<int32_t>(seq.tail_first) : 0;
      int32_t* table = inputs_.at<int32_t>(l.block_table[g]) + s * l.limits.max_blocks[g];
      std::fill_n(std::copy(seq.blocks[g].begin(), seq.blocks[g].end(), table),
                  l.limits.max_blocks[g] - static_cast<int64_t>(seq.blocks[g].size()), -1);
    }
    ++s;
  }
  inputs_.rows = {1, t, s, r, u};
  if (l.limits.extra == 0) return;
  std::vector<SequenceRows> step;
  step.reserve(rows.size());
  for (const ScheduledRows& part : rows)
    step.push_back({.tokens = part.seq->tokens, .begin = part.begin, .rows = part.rows});
  runner_->prepare(step, inputs_.at<float>(l.extra));
}

// Row i of the step drafts at position i + 1, where its token is known; no slot 0 ever exists.
Status Engine::draft(const std::vector<ScheduledRows>& rows) {
  const StepLayout& l = runner_->layout();
  int64_t hidden_row = 0, t = 0, r = 0, s = 0;
  std::vector<std::pair<const Sequence*, int64_t>>
      wanted;  // of each logit row: whose, and position
  for (const ScheduledRows& part : rows) {
    const Sequence& seq = *part.seq;
    for (int64_t i = part.begin; i < part.begin + part.rows; ++i, ++hidden_row) {
      if (i + 1 >= seq.size()) continue;
      inputs_.at<int32_t>(l.token)[t] = seq.tokens[static_cast<size_t>(i + 1)];
      inputs_.at<int32_t>(l.position)[t] = static_cast<int32_t>(i + 1);
      inputs_.at<int32_t>(l.row_seq)[t] = static_cast<int32_t>(s);
      inputs_.at<int32_t>(l.draft_row)[t] = static_cast<int32_t>(hidden_row);
      if (seq.request.on_draft_logits) {
        inputs_.at<int32_t>(l.logit_row)[r] = static_cast<int32_t>(t);
        fill_sampling(seq, r++, i + 2);
        wanted.emplace_back(&seq, i);
      }
      ++t;
    }
    for (const hadal_tensor& first : l.first) inputs_.at<int32_t>(first)[s] = 1;
    ++s;
  }
  if (t == 0) return {};
  inputs_.rows = {1, t, s, r, t};
  HADAL_TRY(runner_->run_draft(inputs_));
  std::vector<float> logits(static_cast<size_t>(l.limits.vocab));
  for (size_t i = 0; i < wanted.size(); ++i) {
    HADAL_TRY(runner_->read(l.logits, static_cast<int64_t>(i), 1, logits.data()));
    wanted[i].first->request.on_draft_logits(wanted[i].second, logits);
  }
  return {};
}

Status Engine::deliver_logits(const ScheduledRows& rows, int64_t first_row) {
  if (!rows.seq->request.on_logits) return {};
  const StepLayout& l = runner_->layout();
  std::vector<float> logits(static_cast<size_t>(l.limits.vocab));
  for (int64_t i = 0; i < rows.logit_rows; ++i) {
    HADAL_TRY(runner_->read(l.logits, first_row + i, 1, logits.data()));
    rows.seq->request.on_logits(rows.begin + rows.rows - rows.logit_rows + i, logits);
  }
  return {};
}

TokenEvent Engine::accept(Sequence& seq, TokenId token, float logprob) {
  seq.tokens.push_back(token);
  if (seq.request.sampling.has_penalties()) ++seq.counts[token].second;
  TokenEvent event{.seq = seq.id, .token = token, .logprob = logprob};
  const auto& ending = seq.request.ending;
  if (std::find(ending.begin(), ending.end(), token) != ending.end())
    event.finish = FinishReason::kEnding;
  else if (seq.generated() >= seq.request.max_new_tokens)
    event.finish = FinishReason::kLength;
  else if (seq.size() > runner_->context())
    event.finish = FinishReason::kContext;
  return event;
}

Result<std::vector<TokenEvent>> Engine::step() {
  std::vector<TokenEvent> events;
  admit();
  std::vector<ScheduledRows> rows = schedule(sequences_, runner_->layout().limits);
  if (rows.empty()) return events;
  HADAL_TRY(make_room(rows));
  fill_inputs(rows);
  HADAL_TRY(runner_->run(inputs_));

  const StepLayout& l = runner_->layout();
  const int64_t count = inputs_.rows[HADAL_DIM_R];
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::vector<float> logprobs(static_cast<size_t>(count));
  HADAL_TRY(runner_->read(l.sampled, 0, count, tokens.data()));
  HADAL_TRY(runner_->read(l.logprob, 0, count, logprobs.data()));
  int64_t row = 0;
  for (const ScheduledRows& part : rows) {
    HADAL_TRY(deliver_logits(part, row));
    row += part.logit_rows;
  }
  inputs_.entries = 0;
  if (runner_->options().draft) HADAL_TRY(draft(rows));
  row = 0;
  std::vector<Sequence*> done;
  for (const ScheduledRows& part : rows) {
    Sequence& seq = *part.seq;
    row += part.logit_rows;
    seq.computed += part.rows;
    seq.chunk_left -= std::min(seq.chunk_left, part.rows);
    blocks_.advance(seq, part.rows);
    if (seq.computed < seq.size()) continue;
    if (seq.request.max_new_tokens > 0) {
      const auto last = static_cast<size_t>(row - 1);
      events.push_back(accept(seq, tokens[last], logprobs[last]));
    } else {
      events.push_back({.seq = seq.id, .finish = FinishReason::kLength});
    }
    if (events.back().finish != FinishReason::kNone) done.push_back(&seq);
  }
  for (Sequence* seq : done) finish(*seq);
  return events;
}

}  // namespace hadal

#include "engine/step_builder.h"

#include <algorithm>
#include <limits>

namespace hadal {

StepBuilder::StepBuilder(const ModelSpec& spec, const StepLayout& layout)
    : groups_(spec.groups), layout_(layout), inputs_(layout) {}

/// What the step says of the sequence as a whole.
void StepBuilder::fill_sequence(const Sequence& seq) {
  fill_adapter(seq);
  for (size_t g = 0; g < groups_.size(); ++g) {
    inputs_.at<int32_t>(layout_.write_from[g])[seq.slot] = static_cast<int32_t>(seq.shared_tokens);
    inputs_.at<int32_t>(layout_.first[g])[seq.slot] =
        groups_[g].tail ? static_cast<int32_t>(seq.tail_first) : 0;
    inputs_.set_blocks(g, seq.slot, seq.blocks[g]);
  }
}

void StepBuilder::fill_adapter(const Sequence& seq) {
  if (layout_.limits.adapters) inputs_.at<int32_t>(layout_.adapter)[seq.slot] = seq.request.adapter;
}

/// A row whose logits are read and nothing else: greedy, without penalties.
void StepBuilder::fill_logit_row(const Sequence& seq, int64_t row, int64_t position) {
  float* params = inputs_.at<float>(layout_.sample_params) + row * HADAL_PARAM_COUNT;
  std::fill_n(params, HADAL_PARAM_COUNT, 0.0F);
  params[HADAL_PARAM_TOP_K] = 1;
  params[HADAL_PARAM_TOP_P] = 1;
  params[HADAL_PARAM_REPETITION] = 1;
  uint32_t* key = inputs_.at<uint32_t>(layout_.sample_seed) + row * 2;
  key[0] = static_cast<uint32_t>(seq.request.sampling.key());
  key[1] = static_cast<uint32_t>(seq.request.sampling.key() >> 32);
  inputs_.at<int32_t>(layout_.sample_position)[row] = static_cast<int32_t>(position);
  int32_t* range = inputs_.at<int32_t>(layout_.entry_start) + row * 2;
  range[0] = range[1] = static_cast<int32_t>(inputs_.entries());
}

/// How the row chooses a token, `drafts` of the sequence's drafts before it.
void StepBuilder::fill_sampling(const Sequence& seq, int64_t row, int64_t drafts) {
  const SamplingParams& s = seq.request.sampling;
  float* params = inputs_.at<float>(layout_.sample_params) + row * HADAL_PARAM_COUNT;
  // So low a temperature would divide logits into infinities; the largest wins anyhow.
  const bool greedy = s.temperature < 1e-6F;
  params[HADAL_PARAM_TEMPERATURE] = greedy ? 0 : s.temperature;
  params[HADAL_PARAM_TOP_K] = static_cast<float>(greedy ? 1 : s.top_k);
  params[HADAL_PARAM_TOP_P] = s.top_p;
  params[HADAL_PARAM_MIN_P] = s.min_p;
  params[HADAL_PARAM_REPETITION] = s.repetition_penalty;
  params[HADAL_PARAM_PRESENCE] = s.presence_penalty;
  params[HADAL_PARAM_FREQUENCY] = s.frequency_penalty;
  fill_entries(seq, drafts);
  inputs_.at<int32_t>(layout_.entry_start)[row * 2 + 1] = static_cast<int32_t>(inputs_.entries());
  if (seq.constraint) fill_mask(seq, row, drafts);
}

void StepBuilder::fill_entries(const Sequence& seq, int64_t drafts) {
  const auto add = [&](const std::map<TokenId, SamplingEntry>& entries) {
    for (const auto& [token, entry] : entries)
      inputs_.add_entry(token, entry.in_prompt, entry.in_output, entry.bias);
  };
  if (drafts > 0 && seq.request.sampling.has_penalties()) {
    auto entries = seq.entries;
    for (int64_t i = 0; i < drafts; ++i) ++entries[seq.drafts[static_cast<size_t>(i)]].in_output;
    add(entries);
  } else {
    add(seq.entries);
  }
  for (const TokenId token : banned(seq, drafts))
    inputs_.add_entry(token, 0, 0, -std::numeric_limits<float>::infinity());
}

/// Tokens that would complete a bad word behind the answer and so many drafts.
std::vector<TokenId> StepBuilder::banned(const Sequence& seq, int64_t drafts) {
  std::vector<TokenId> tokens;
  const int64_t size = seq.size() + drafts;
  for (const std::vector<TokenId>& word : seq.request.bad_words) {
    const int64_t from = size - static_cast<int64_t>(word.size()) + 1;
    bool begun = from >= seq.prompt_size();
    for (size_t i = 0; begun && i + 1 < word.size(); ++i)
      begun = seq.token_at(from + static_cast<int64_t>(i)) == word[i];
    if (begun) tokens.push_back(word.back());
  }
  return tokens;
}

void StepBuilder::fill_mask(const Sequence& seq, int64_t row, int64_t drafts) {
  const int64_t words = layout_.mask.extents[1];
  uint32_t* mask = inputs_.at<uint32_t>(layout_.mask);
  const std::span<uint32_t> allowed(mask + row * words, static_cast<size_t>(words));
  std::fill(allowed.begin(), allowed.end(), ~uint32_t{0});
  if (!seq.constraint->restrict(std::span(seq.drafts).first(static_cast<size_t>(drafts)), allowed))
    return;
  masked_rows_.push_back(row);
  // Where few tokens are left, a bad word may be all of them.
  for (const TokenId token : banned(seq, drafts))
    allowed[static_cast<size_t>(token / 32)] &= ~(uint32_t{1} << (token % 32));
  // Bits beyond the vocabulary stand for no token.
  if (const int64_t rest = layout_.limits.vocab % 32; rest > 0)
    allowed.back() &= (uint32_t{1} << rest) - 1;
  if (std::all_of(allowed.begin(), allowed.end(), [](uint32_t word) { return word == 0; }))
    dead_ends_.push_back(row);
}

/// Where one row has a mask, the step's other rows allow everything.
void StepBuilder::finish_masks(int64_t rows) {
  inputs_.masked = !masked_rows_.empty();
  if (!inputs_.masked) return;
  const int64_t words = layout_.mask.extents[1];
  uint32_t* mask = inputs_.at<uint32_t>(layout_.mask);
  size_t next = 0;
  for (int64_t row = 0; row < rows; ++row) {
    if (next < masked_rows_.size() && masked_rows_[next] == row)
      ++next;
    else
      std::fill_n(mask + row * words, words, ~uint32_t{0});
  }
}

StepInputs& StepBuilder::build(std::span<const ScheduledRows> step) {
  int64_t t = 0, u = 0, r = 0, slots = 0;
  inputs_.clear();
  dead_ends_.clear();
  masked_rows_.clear();
  for (const ScheduledRows& part : step) {
    const Sequence& seq = *part.seq;
    for (int64_t i = 0; i < part.rows; ++i, ++t) {
      const int64_t position = part.begin + i, left = part.rows - i;
      inputs_.at<int32_t>(layout_.token)[t] = seq.token_at(position);
      inputs_.at<int32_t>(layout_.position)[t] = static_cast<int32_t>(position);
      inputs_.at<int32_t>(layout_.row_seq)[t] = static_cast<int32_t>(seq.slot);
      if (left <= part.logit_rows) {
        inputs_.at<int32_t>(layout_.logit_row)[r] = static_cast<int32_t>(u);
        fill_logit_row(seq, r, position + 1);
        if (left <= part.sampled_rows) fill_sampling(seq, r, part.sampled_rows - left);
        ++r;
      }
      if (!layout_.limits.tail) {
        ++u;
      } else if (position >= seq.tail_start) {
        inputs_.at<int32_t>(layout_.tail_row)[u] = static_cast<int32_t>(t);
        inputs_.at<int32_t>(layout_.tail_position)[u] = static_cast<int32_t>(position);
        inputs_.at<int32_t>(layout_.tail_row_seq)[u] = static_cast<int32_t>(seq.slot);
        ++u;
      }
    }
    fill_sequence(seq);
    slots = std::max(slots, seq.slot + 1);
  }
  finish_masks(r);
  inputs_.rows = {1, t, slots, r, u};
  return inputs_;
}

std::vector<SequenceRows> StepBuilder::extra_rows(std::span<const ScheduledRows> step) {
  std::vector<SequenceRows> rows;
  with_drafts_.clear();
  for (const ScheduledRows& part : step) {
    std::span<const TokenId> tokens = part.seq->tokens;
    if (!part.seq->drafts.empty()) {
      auto& all = with_drafts_.emplace_back(part.seq->tokens);
      all.insert(all.end(), part.seq->drafts.begin(), part.seq->drafts.end());
      tokens = all;
    }
    rows.push_back({.tokens = tokens, .begin = part.begin, .rows = part.rows});
  }
  return rows;
}

StepInputs& StepBuilder::build_draft(std::span<const ScheduledRows> step,
                                     std::vector<DraftRow>& wanted) {
  int64_t hidden_row = 0, t = 0, r = 0, slots = 0;
  inputs_.clear();
  for (const ScheduledRows& part : step) {
    const Sequence& seq = *part.seq;
    for (int64_t i = part.begin; i < part.begin + part.rows; ++i, ++hidden_row) {
      if (i + 1 >= seq.size()) continue;
      inputs_.at<int32_t>(layout_.token)[t] = seq.tokens[static_cast<size_t>(i + 1)];
      inputs_.at<int32_t>(layout_.position)[t] = static_cast<int32_t>(i + 1);
      inputs_.at<int32_t>(layout_.row_seq)[t] = static_cast<int32_t>(seq.slot);
      inputs_.at<int32_t>(layout_.draft_row)[t] = static_cast<int32_t>(hidden_row);
      if (seq.request.on_draft_logits && i >= seq.next_logits()) {
        inputs_.at<int32_t>(layout_.logit_row)[r] = static_cast<int32_t>(t);
        fill_logit_row(seq, r++, i + 2);
        wanted.emplace_back(&seq, i);
      }
      ++t;
    }
    fill_adapter(seq);
    // No slot 0 ever exists in the draft layer's cache.
    for (const hadal_tensor& first : layout_.first) inputs_.at<int32_t>(first)[seq.slot] = 1;
    slots = std::max(slots, seq.slot + 1);
  }
  inputs_.rows = {1, t, slots, r, t};
  return inputs_;
}

}  // namespace hadal

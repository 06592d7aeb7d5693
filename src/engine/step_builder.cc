#include "engine/step_builder.h"

#include <algorithm>
#include <limits>

namespace hadal {

StepBuilder::StepBuilder(const ModelSpec& spec, const StepLayout& layout)
    : groups_(spec.groups), layout_(layout), inputs_(layout) {}

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

void StepBuilder::fill_sampling(const Sequence& seq, int64_t row, std::span<const TokenId> drafts) {
  const SamplingParams& s = seq.request.sampling;
  float* params = inputs_.at<float>(layout_.sample_params) + row * HADAL_PARAM_COUNT;
  // So low a temperature would divide logits into infinities; the largest wins anyhow.
  const bool greedy = s.temperature < 1e-6F;
  params[HADAL_PARAM_TEMPERATURE] = greedy ? 0 : s.temperature;
  params[HADAL_PARAM_TOP_K] = static_cast<float>(greedy ? 1 : std::max(0, s.top_k));
  params[HADAL_PARAM_TOP_P] = s.top_p;
  params[HADAL_PARAM_MIN_P] = s.min_p;
  params[HADAL_PARAM_REPETITION] = s.repetition_penalty;
  params[HADAL_PARAM_PRESENCE] = s.presence_penalty;
  params[HADAL_PARAM_FREQUENCY] = s.frequency_penalty;
  fill_entries(seq, drafts);
  inputs_.at<int32_t>(layout_.entry_start)[row * 2 + 1] = static_cast<int32_t>(inputs_.entries());
  if (seq.constraint) fill_mask(seq, row, drafts);
}

void StepBuilder::fill_entries(const Sequence& seq, std::span<const TokenId> drafts) {
  const auto add = [&](const std::map<TokenId, SamplingEntry>& entries) {
    for (const auto& [token, entry] : entries)
      inputs_.add_entry(token, entry.in_prompt, entry.in_output, entry.bias);
  };
  if (!drafts.empty() && seq.request.sampling.has_penalties()) {
    auto entries = seq.entries;
    for (const TokenId draft : drafts) ++entries[draft].in_output;
    add(entries);
  } else {
    add(seq.entries);
  }
  for (const TokenId token : banned(seq, drafts))
    inputs_.add_entry(token, 0, 0, -std::numeric_limits<float>::infinity());
}

/// Tokens that would complete a bad word behind the answer and these drafts.
std::vector<TokenId> StepBuilder::banned(const Sequence& seq, std::span<const TokenId> drafts) {
  std::vector<TokenId> tokens;
  const int64_t size = seq.size() + static_cast<int64_t>(drafts.size());
  const auto token_at = [&](int64_t position) {
    return position < seq.size() ? seq.tokens[static_cast<size_t>(position)]
                                 : drafts[static_cast<size_t>(position - seq.size())];
  };
  for (const std::vector<TokenId>& word : seq.request.bad_words) {
    const int64_t from = size - static_cast<int64_t>(word.size()) + 1;
    bool begun = from >= seq.prompt_size();
    for (size_t i = 0; begun && i + 1 < word.size(); ++i)
      begun = token_at(from + static_cast<int64_t>(i)) == word[i];
    if (begun) tokens.push_back(word.back());
  }
  return tokens;
}

void StepBuilder::fill_mask(const Sequence& seq, int64_t row, std::span<const TokenId> drafts) {
  const int64_t words = layout_.mask.extents[1];
  uint32_t* mask = inputs_.at<uint32_t>(layout_.mask);
  const std::span<uint32_t> allowed(mask + row * words, static_cast<size_t>(words));
  std::fill(allowed.begin(), allowed.end(), ~uint32_t{0});
  if (!seq.constraint->restrict(drafts, allowed)) return;
  if (!inputs_.masked) {  // where one row has a mask, the others allow everything
    std::fill(mask, allowed.data(), ~uint32_t{0});
    std::fill(allowed.data() + words, mask + layout_.limits.logit_rows * words, ~uint32_t{0});
  }
  inputs_.masked = true;
  // Where few tokens are left, a bad word may be all of them.
  for (const TokenId token : banned(seq, drafts))
    allowed[static_cast<size_t>(token / 32)] &= ~(uint32_t{1} << (token % 32));
  // Bits beyond the vocabulary stand for no token.
  if (const int64_t rest = layout_.limits.vocab % 32; rest > 0)
    allowed.back() &= (uint32_t{1} << rest) - 1;
  if (std::all_of(allowed.begin(), allowed.end(), [](uint32_t word) { return word == 0; }))
    dead_ends_.push_back(row);
}

StepInputs& StepBuilder::begin() {
  inputs_.clear();
  dead_ends_.clear();
  return inputs_;
}

StepInputs& StepBuilder::build(std::span<const ScheduledRows> step) {
  int64_t t = 0, u = 0, r = 0, slots = 0;
  begin();
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
        if (left <= part.sampled_rows)
          fill_sampling(seq, r,
                        std::span(seq.drafts).first(static_cast<size_t>(part.sampled_rows - left)));
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

}  // namespace hadal

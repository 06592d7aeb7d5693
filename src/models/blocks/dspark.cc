#include "models/blocks/dspark.h"

#include <algorithm>
#include <functional>

namespace hadal {

Result<DsparkSpec> DsparkSpec::from_config(const Config& config, const MoeSpec& moe, int64_t stages,
                                           ModelSpec& model) {
  DsparkSpec s;
  s.stages = stages;
  if (stages < 1 || stages > 64)
    return failed(config.origin() + ": dspark_block_size is there, but " + std::to_string(stages) +
                  " stages of DSpark; expected 1 to 64 (compress_ratios behind the layers, or "
                  "num_nextn_predict_layers)");
  HADAL_TRY(s.block_size, config.integer("dspark_block_size", 1, 64));
  HADAL_TRY(s.markov_rank, config.integer("dspark_markov_rank", 1, 65536));
  HADAL_TRY(const int64_t noise, config.integer("dspark_noise_token_id", 0, model.vocab_size - 1));
  HADAL_TRY(s.target_layer_ids, config.integers("dspark_target_layer_ids"));
  const std::vector<int64_t>& targets = s.target_layer_ids;
  const bool ascending =
      std::adjacent_find(targets.begin(), targets.end(), std::greater_equal<>()) == targets.end();
  if (targets.empty() || !ascending || targets.front() < 0 ||
      targets.back() >= model.num_hidden_layers)
    return failed(config.origin() + ": dspark_target_layer_ids must be layers, in ascending order");
  s.moe = moe;
  HADAL_TRY(s.moe.n_routed_experts,
            config.integer("dspark_n_routed_experts", 1, 65536, moe.n_routed_experts));
  HADAL_TRY(s.moe.num_experts_per_tok,
            config.integer("dspark_num_experts_per_tok", 1, s.moe.n_routed_experts,
                           std::min(moe.num_experts_per_tok, s.moe.n_routed_experts)));
  HADAL_TRY(s.moe.divide(config, model.shard));
  model.draft = {.kind = DraftSpec::Kind::kDspark,
                 .hidden = static_cast<int64_t>(targets.size()) * model.hidden_size,
                 .block = s.block_size,
                 .noise_token = static_cast<int32_t>(noise)};
  return s;
}

bool DsparkSpec::is_target(int64_t layer) const {
  return std::binary_search(target_layer_ids.begin(), target_layer_ids.end(), layer);
}

DsparkWeights bind_dspark(WeightBinder& b, const std::string& first, const std::string& last,
                          const DsparkSpec& s, const ModelSpec& model, const MarkovNames& names) {
  const int64_t hidden = model.hidden_size, rank = s.markov_rank;
  const auto markov = [&](const char* name) { return last + "markov_head." + name + ".weight"; };
  DsparkWeights w;
  w.main_proj = b.matrix(first + "main_proj.weight", hidden, model.draft.hidden);
  w.main_norm = b.vector(first + "main_norm.weight", hidden);
  w.norm = b.vector(last + "norm.weight", hidden);
  w.markov_embed = b.matrix(markov(names.markov_embed), model.vocab_size, rank, HADAL_USE_GATHER);
  w.markov_head = b.matrix(markov(names.markov_head), model.vocab_size, rank);
  w.confidence = b.matrix(last + "confidence_head.proj.weight", 1, hidden + rank);
  return w;
}

// The sum of the streams: dspark_context makes the mean of it.
void dspark_tap(Ops& ops, const DsparkSpec& s, int64_t layer, int64_t streams, Tensor x) {
  if (!s.is_target(layer)) return;
  const auto& targets = s.target_layer_ids;
  const auto at = std::find(targets.begin(), targets.end(), layer);
  const int64_t hidden = x.extents[1] / streams;
  Tensor all = ops.inputs().hidden;
  all.row_dim = x.row_dim;
  const Tensor tap = columns(all, (at - targets.begin()) * hidden, hidden);
  ops.copy(columns(x, 0, hidden), tap);
  for (int64_t i = 1; i < streams; ++i) ops.add(tap, columns(x, i * hidden, hidden));
}

// The norm divides by the number of streams n: norm(y / n) with eps is norm(y) with n² eps.
void dspark_context(Ops& ops, const DsparkWeights& w, const ModelSpec& model, int64_t streams,
                    Tensor c) {
  Scratch scratch(ops);
  const Tensor taps = scratch.rows(HADAL_DIM_T, model.draft.hidden);
  ops.gather_hidden(taps);
  ops.matmul(taps, *w.main_proj, c);
  ops.rms_norm(c, *w.main_norm, model.rms_norm_eps * static_cast<double>(streams * streams), c);
}

Tensor dspark_state(const Ops& ops, const ModelSpec& model) {
  return columns(ops.hidden_front(), 0, model.hidden_size);
}

void dspark_base(Ops& ops, const DsparkWeights& w, const ModelSpec& model, const EndWeights& ends,
                 Tensor h) {
  Scratch scratch(ops);
  const Tensor last = scratch.rows(HADAL_DIM_R, model.hidden_size);
  ops.rms_norm(h, *w.norm, model.rms_norm_eps, last);
  ops.matmul(last, *ends.lm_head, ops.inputs().base);
}

void dspark_next(Ops& ops, const DsparkSpec& s, const DsparkWeights& w, const ModelSpec& model) {
  const int64_t hidden = model.hidden_size, rank = s.markov_rank;
  const Tensor logits = ops.inputs().logits;
  Scratch scratch(ops);
  const Tensor markov = scratch.rows(HADAL_DIM_T, rank),
               both = scratch.rows(HADAL_DIM_R, hidden + rank);
  ops.embed(*w.markov_embed, markov);
  ops.gather_logit_rows(markov, columns(both, hidden, rank));
  ops.gather_earlier_rows(dspark_state(ops, model), columns(both, 0, hidden));
  ops.gather_earlier_rows(ops.inputs().base, logits);
  ops.matmul(columns(both, hidden, rank), *w.markov_head, logits, {}, logits);
  ops.matmul(both, *w.confidence, ops.inputs().confidence);
  ops.sample();
}

}  // namespace hadal

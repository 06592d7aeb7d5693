#include "models/blocks/moe.h"

#include <algorithm>
#include <cmath>

#include "checkpoint/printable.h"

namespace hadal {
namespace {

constexpr double kLargest = 1e30;  ///< of a factor: far above any model's, and finite in fp32

/// How many layers stand before the first with experts: first_k_dense_replace, or what newer files
/// have instead (or beside it, and then it counts), a list of each layer's kind.
Result<int64_t> dense_layers(const Config& config, int64_t layers) {
  HADAL_TRY(const int64_t first, config.integer("first_k_dense_replace", 0, 4096, 0));
  HADAL_TRY(const std::vector<std::string> kinds, config.texts("mlp_layer_types"));
  if (kinds.empty()) return std::min(first, layers);
  if (static_cast<int64_t>(kinds.size()) != layers)
    return failed(config.origin() + ": mlp_layer_types names " + std::to_string(kinds.size()) +
                  " layers, num_hidden_layers is " + std::to_string(layers));
  const auto dense = std::find_if(kinds.begin(), kinds.end(),
                                  [](const std::string& kind) { return kind != "dense"; });
  for (auto kind = dense; kind != kinds.end(); ++kind)
    if (*kind != "sparse")
      return failed(config.origin() + ": mlp_layer_types: " + quote(*kind) + " at layer " +
                    std::to_string(kind - kinds.begin()) +
                    "; known are layers that are \"dense\", and behind them \"sparse\" ones");
  return dense - kinds.begin();
}

/// scoring_func, topk_method and the groups, as DeepSeek's Gate reads them.
Result<Router> router_of(const Config& config, int64_t experts, int64_t chosen, bool* has_bias) {
  Router r;
  HADAL_TRY(const std::string scoring, config.text("scoring_func", "softmax"));
  if (scoring == "sigmoid") {
    r.score = HADAL_ROUTER_SIGMOID;
  } else if (scoring == "sqrtsoftplus") {
    r.score = HADAL_ROUTER_SQRT_SOFTPLUS;
  } else if (scoring != "softmax") {
    return failed(config.origin() + ": scoring_func " + quote(scoring) +
                  " is not known; known are softmax, sigmoid and sqrtsoftplus");
  }
  const bool softmax = r.score == HADAL_ROUTER_SOFTMAX;
  HADAL_TRY(const int64_t groups, config.integer("n_group", 1, experts, 1));
  // A file that names no method: only softmax goes without the bias; groups came with the limit.
  HADAL_TRY(const std::string method,
            config.text("topk_method", !softmax     ? "noaux_tc"
                                       : groups > 1 ? "group_limited_greedy"
                                                    : "greedy"));
  if (method != "greedy" && method != "group_limited_greedy" && method != "noaux_tc")
    return failed(config.origin() + ": topk_method " + quote(method) +
                  " is not known; known are greedy, group_limited_greedy and noaux_tc");
  *has_bias = method == "noaux_tc";
  if (method != "greedy") {
    r.groups = groups;
    HADAL_TRY(r.groups_kept, config.integer("topk_group", 1, groups, groups));
    if (experts % groups != 0)
      return failed(config.origin() + ": n_routed_experts " + std::to_string(experts) +
                    " is no multiple of n_group " + std::to_string(groups));
    if (chosen > experts / groups * r.groups_kept)
      return failed(config.origin() + ": num_experts_per_tok is " + std::to_string(chosen) +
                    ", the " + std::to_string(r.groups_kept) + " groups kept have " +
                    std::to_string(experts / groups * r.groups_kept) + " experts");
    r.group_best = *has_bias ? std::min<int64_t>(2, experts / groups) : 1;
  }
  HADAL_TRY(r.normalise, config.boolean("norm_topk_prob", !softmax));
  HADAL_TRY(r.scale, config.real("routed_scaling_factor", 1.0));
  return r;
}

}  // namespace

Result<MoeSpec> MoeSpec::from_config(const Config& config, ModelSpec& model) {
  MoeSpec s;
  HADAL_TRY(const bool bias, config.boolean("mlp_bias", false));
  if (bias) return failed(config.origin() + ": mlp_bias is true; no such model is known");
  HADAL_TRY(s.n_routed_experts, config.integer("n_routed_experts", 1, 65536));
  HADAL_TRY(s.num_experts_per_tok, config.integer("num_experts_per_tok", 1, s.n_routed_experts));
  HADAL_TRY(s.divide(config, model.shard));
  HADAL_TRY(s.n_shared_experts, config.integer("n_shared_experts", 0, 1024, 0));
  HADAL_TRY(s.moe_intermediate_size, width_of(config, "moe_intermediate_size"));
  HADAL_TRY(s.first_k_dense_replace, dense_layers(config, model.num_hidden_layers));
  HADAL_TRY(s.moe_layer_freq, config.integer("moe_layer_freq", 1, 4096, 1));
  if (s.first_k_dense_replace > 0 || s.moe_layer_freq > 1) {
    HADAL_TRY(s.intermediate_size, width_of(config, "intermediate_size"));
    model.field("intermediate_size", s.intermediate_size);
  }
  HADAL_TRY(s.router, router_of(config, s.n_routed_experts, s.num_experts_per_tok, &s.has_bias));
  model.field("n_routed_experts", s.n_routed_experts);
  model.field("num_experts_per_tok", s.num_experts_per_tok);
  model.field("n_shared_experts", s.n_shared_experts);
  model.field("moe_intermediate_size", s.moe_intermediate_size);
  model.field("first_k_dense_replace", s.first_k_dense_replace);
  HADAL_TRY(s.swiglu_limit, config.real("swiglu_limit", 0.0));
  if (!(s.swiglu_limit >= 0 && s.swiglu_limit <= kLargest))
    return failed(config.origin() + ": swiglu_limit must be from 0 to 1e30");
  if (!(std::abs(s.router.scale) <= kLargest))
    return failed(config.origin() + ": routed_scaling_factor must be from -1e30 to 1e30");
  HADAL_TRY(const std::string scoring, config.text("scoring_func", "softmax"));
  model.field("scoring_func", scoring);
  if (s.router.groups > 1) {
    model.field("n_group", s.router.groups);
    model.field("topk_group", s.router.groups_kept);
  }
  model.field("norm_topk_prob", s.router.normalise);
  model.field("routed_scaling_factor", std::to_string(s.router.scale));
  if (s.swiglu_limit > 0) model.field("swiglu_limit", std::to_string(s.swiglu_limit));
  return s;
}

Status MoeSpec::divide(const Config& config, const Shard& shard) {
  experts = Share::of_rank(n_routed_experts, shard);
  if (n_routed_experts >= shard.ranks) return {};
  return failed(config.origin() + ": " + std::to_string(n_routed_experts) +
                " routed experts cannot be divided over " + std::to_string(shard.ranks) +
                " ranks; at most one rank an expert");
}

MoeWeights bind_moe(WeightBinder& b, const std::string& p, const MoeSpec& s, const ModelSpec& model,
                    const MoeNames& names) {
  const int64_t hidden = model.hidden_size, experts = s.n_routed_experts,
                width = s.moe_intermediate_size;
  const auto bank = [&](const char* name, int64_t rows, int64_t cols) {
    return b.experts(p + "experts.", std::string(name) + ".weight", s.experts, rows, cols,
                     s.active());
  };
  MoeWeights w;
  w.gate = b.matrix(p + "gate.weight", experts, hidden);
  if (names.tid2eid)
    w.tid2eid = b.indices(p + names.tid2eid, model.vocab_size, s.num_experts_per_tok);
  else if (s.has_bias)
    w.e_score_correction_bias = b.vector(p + names.bias, experts);
  w.gate_proj = bank(names.gate_proj, width, hidden);
  w.up_proj = bank(names.up_proj, width, hidden);
  w.down_proj = bank(names.down_proj, hidden, width);
  if (s.n_shared_experts > 0)
    w.shared_experts = bind_ffn(
        b, p + "shared_experts.", hidden, s.n_shared_experts * width,
        {.gate_proj = names.gate_proj, .up_proj = names.up_proj, .down_proj = names.down_proj});
  return w;
}

namespace {

/// What this rank's experts give.
void moe_part(Ops& ops, const MoeSpec& s, const MoeWeights& w, Tensor h, Tensor out,
              std::optional<Tensor> add) {
  Scratch scratch(ops);
  const auto dim = static_cast<hadal_dim>(h.row_dim);
  Tensor logits = scratch.rows(dim, s.n_routed_experts);
  Tensor expert = scratch.make(HADAL_I32, dim, {1, s.num_experts_per_tok});
  Tensor weight = scratch.rows(dim, s.num_experts_per_tok);
  ops.matmul(h, *w.gate, logits);
  ops.router(logits, optional(w.e_score_correction_bias), s.router, expert, weight,
             optional(w.tid2eid));
  std::optional<Tensor> shared;
  if (s.n_shared_experts > 0) {
    shared = scratch.like(out);
    ffn_part(ops, w.shared_experts, h, *shared, {}, s.swiglu_limit);
  }
  const ExpertRange range = {.first = s.experts.first, .of = s.experts.whole() ? 0 : s.experts.of};
  ops.moe_experts(h, expert, weight, *w.gate_proj, *w.up_proj, *w.down_proj, out, s.swiglu_limit,
                  shared, add, range);
}

}  // namespace

void moe_ffn(Ops& ops, const MoeSpec& s, const MoeWeights& w, Tensor h, Tensor out,
             std::optional<Tensor> add) {
  ops.sum_of_ranks(out, add, [&](Tensor to, std::optional<Tensor> own_add) {
    moe_part(ops, s, w, h, to, own_add);
  });
}

FeedForwardWeights bind_feed_forward(WeightBinder& b, const std::string& p, const MoeSpec& s,
                                     bool is_moe, const ModelSpec& model) {
  FeedForwardWeights w{.is_moe = is_moe, .moe = {}, .mlp = {}};
  if (is_moe)
    w.moe = bind_moe(b, p, s, model);
  else
    w.mlp = bind_ffn(b, p, model.hidden_size, s.intermediate_size);
  return w;
}

void feed_forward(Ops& ops, const MoeSpec& s, const FeedForwardWeights& w, Tensor h, Tensor x) {
  if (w.is_moe)
    moe_ffn(ops, s, w.moe, h, x, x);
  else
    dense_ffn(ops, w.mlp, h, x, x);
}

}  // namespace hadal

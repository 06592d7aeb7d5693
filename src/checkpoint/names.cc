#include "checkpoint/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "checkpoint/gguf_keys.h"

namespace hadal {
namespace {

struct NameRow {
  std::string_view gguf;
  std::string_view official;
};

/// Outside of the layers, all architectures.
constexpr auto kOuter = std::to_array<NameRow>({
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
});

/// Within blk.N. → model.layers.N., dense transformer layers.
constexpr auto kDense = std::to_array<NameRow>({
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"attn_output", "self_attn.o_proj"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
});

/// DeepSeek's mixture of experts. GGUF stacks the experts into one tensor [experts, out, in]; the
/// official files have one tensor an expert, so the stacked ones bear the official name without its
/// number.
constexpr auto kExperts = std::to_array<NameRow>({
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_exps", "mlp.experts.gate_proj"},
    {"ffn_up_exps", "mlp.experts.up_proj"},
    {"ffn_down_exps", "mlp.experts.down_proj"},
    {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
    {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
});

/// Multi-head latent attention. k_b and v_b are the halves of kv_b_proj, k_b transposed.
constexpr auto kLatent = std::to_array<NameRow>({
    {"attn_q_a", "self_attn.q_a_proj"},
    {"attn_q_a_norm", "self_attn.q_a_layernorm"},
    {"attn_q_b", "self_attn.q_b_proj"},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
    {"attn_kv_b", "self_attn.kv_b_proj"},
    {"attn_k_b", "self_attn.k_b_proj"},
    {"attn_v_b", "self_attn.v_b_proj"},
});

/// The lightning indexer, and the MTP layer behind the others.
constexpr auto kSparse = std::to_array<NameRow>({
    {"indexer.attn_q_b", "self_attn.indexer.wq_b"},
    {"indexer.attn_k", "self_attn.indexer.wk"},
    {"indexer.k_norm", "self_attn.indexer.k_norm"},
    {"indexer.proj", "self_attn.indexer.weights_proj"},
    {"nextn.eh_proj", "eh_proj"},
    {"nextn.enorm", "enorm"},
    {"nextn.hnorm", "hnorm"},
    {"nextn.embed_tokens", "embed_tokens"},
    {"nextn.shared_head_norm", "shared_head.norm"},
    {"nextn.shared_head_head", "shared_head.head"},
});

/// DeepSeek-V4 and V4.1, whose official names are of another make: outside of the layers, and
/// within blk.N. → layers.N. Of a file that also holds DSpark's three stages, their parts outside
/// of blk.N.
constexpr auto kV4Outer = std::to_array<NameRow>({
    {"token_embd.weight", "embed.weight"},
    {"output_norm.weight", "norm.weight"},
    {"output.weight", "head.weight"},
    {"output_hc_fn.weight", "hc_head_fn"},
    {"output_hc_base.weight", "hc_head_base"},
    {"output_hc_scale.weight", "hc_head_scale"},
    {"fc.weight", "mtp.0.main_proj.weight"},
    {"enc.output_norm.weight", "mtp.0.main_norm.weight"},
    {"markov_w1.weight", "mtp.2.markov_head.embed.weight"},
    {"markov_w2.weight", "mtp.2.markov_head.head.weight"},
    {"conf_proj.weight", "mtp.2.confidence_head.proj.weight"},
});
constexpr auto kV4 = std::to_array<NameRow>({
    {"attn_norm.weight", "attn_norm.weight"},
    {"ffn_norm.weight", "ffn_norm.weight"},
    {"hc_attn_fn.weight", "hc_attn_fn"},
    {"hc_attn_base.weight", "hc_attn_base"},
    {"hc_attn_scale.weight", "hc_attn_scale"},
    {"hc_ffn_fn.weight", "hc_ffn_fn"},
    {"hc_ffn_base.weight", "hc_ffn_base"},
    {"hc_ffn_scale.weight", "hc_ffn_scale"},
    {"attn_q_a.weight", "attn.wq_a.weight"},
    {"attn_q_a_norm.weight", "attn.q_norm.weight"},
    {"attn_q_b.weight", "attn.wq_b.weight"},
    {"attn_kv.weight", "attn.wkv.weight"},
    {"attn_kv_a_norm.weight", "attn.kv_norm.weight"},
    {"attn_sinks.weight", "attn.attn_sink"},
    {"attn_output_a.weight", "attn.wo_a.weight"},
    {"attn_output_b.weight", "attn.wo_b.weight"},
    {"attn_compressor_kv.weight", "attn.compressor.wkv.weight"},
    {"attn_compressor_gate.weight", "attn.compressor.wgate.weight"},
    {"attn_compressor_ape.weight", "attn.compressor.ape"},
    {"attn_compressor_norm.weight", "attn.compressor.norm.weight"},
    {"indexer.attn_q_b.weight", "attn.indexer.wq_b.weight"},
    {"indexer.attn_k.weight", "attn.indexer.wk.weight"},
    {"indexer.k_norm.weight", "attn.indexer.k_norm.weight"},
    {"indexer.proj.weight", "attn.indexer.weights_proj.weight"},
    {"indexer_compressor_kv.weight", "attn.indexer.compressor.wkv.weight"},
    {"indexer_compressor_gate.weight", "attn.indexer.compressor.wgate.weight"},
    {"indexer_compressor_ape.weight", "attn.indexer.compressor.ape"},
    {"indexer_compressor_norm.weight", "attn.indexer.compressor.norm.weight"},
    {"ffn_gate_inp.weight", "ffn.gate.weight"},
    {"ffn_gate_tid2eid.weight", "ffn.gate.tid2eid"},
    {"exp_probs_b.bias", "ffn.gate.bias"},
    {"exp_probs_b_vl.bias", "ffn.gate.bias_vl"},
    {"ffn_gate_exps.weight", "ffn.experts.w1.weight"},
    {"ffn_down_exps.weight", "ffn.experts.w2.weight"},
    {"ffn_up_exps.weight", "ffn.experts.w3.weight"},
    {"ffn_gate_shexp.weight", "ffn.shared_experts.w1.weight"},
    {"ffn_down_shexp.weight", "ffn.shared_experts.w2.weight"},
    {"ffn_up_shexp.weight", "ffn.shared_experts.w3.weight"},
    {"engram_embd.weight", "engram.embed.weight"},
    {"engram_q.weight", "engram.q_weight"},
    {"engram_k.weight", "engram.k_weight"},
    {"engram_wkv.weight", "engram.wkv.weight"},
    {"engram_q_norm.weight", "engram.q_weight"},  // one writer's names of the last three
    {"engram_k_norm.weight", "engram.k_weight"},
    {"engram_kv.weight", "engram.wkv.weight"},
});

/// Whole names that do not follow stem + ".weight" or ".bias".
constexpr auto kWhole = std::to_array<NameRow>({
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"},
});

const NameRow* find_row(std::span<const NameRow> rows, std::string_view gguf) {
  const auto it =
      std::find_if(rows.begin(), rows.end(), [&](const NameRow& row) { return row.gguf == gguf; });
  return it == rows.end() ? nullptr : &*it;
}

}  // namespace

std::string official_name(std::string_view architecture, std::string_view gguf_name) {
  const Architecture* known = find_architecture(architecture);
  if (!known) return std::string(gguf_name);
  if (known->v4)
    if (const NameRow* row = find_row(kV4Outer, gguf_name)) return std::string(row->official);
  std::string_view rest = gguf_name;
  std::string prefix;
  if (rest.starts_with("blk.")) {
    const size_t dot = rest.find('.', 4);
    if (dot == std::string_view::npos || dot == 4) return std::string(gguf_name);
    const std::string_view number = rest.substr(4, dot - 4);
    const bool digits =
        std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || (number.size() > 1 && number[0] == '0')) return std::string(gguf_name);
    prefix = fmt::format("model.layers.{}.", number);
    rest.remove_prefix(dot + 1);
    if (known->v4) {
      const NameRow* row = find_row(kV4, rest);
      return row ? fmt::format("layers.{}.{}", number, row->official) : std::string(gguf_name);
    }
    if (known->experts)
      if (const NameRow* row = find_row(kWhole, rest)) return prefix + std::string(row->official);
  }
  const size_t end = rest.rfind('.');
  if (end == std::string_view::npos) return std::string(gguf_name);
  const std::string_view stem = rest.substr(0, end);
  const std::string_view kind = rest.substr(end);
  if (kind != ".weight" && kind != ".bias") return std::string(gguf_name);
  const NameRow* row = prefix.empty() ? find_row(kOuter, stem) : find_row(kDense, stem);
  if (!row && !prefix.empty() && known->experts) row = find_row(kExperts, stem);
  if (!row && !prefix.empty() && known->latent) row = find_row(kLatent, stem);
  if (!row && !prefix.empty() && known->latent) row = find_row(kSparse, stem);
  return row ? fmt::format("{}{}{}", prefix, row->official, kind) : std::string(gguf_name);
}

std::string published_name(std::string_view model_type, std::string_view name) {
  constexpr std::string_view kModel = "model.", kHyperHead = "hc_head.hc_",
                             kNorm = ".attn.norm.weight";
  if (!model_type.starts_with("deepseek_v4")) return std::string(name);
  if (name == "lm_head.weight") return "head.weight";
  if (!name.starts_with(kModel)) return std::string(name);
  name.remove_prefix(kModel.size());
  if (name == "embed_tokens.weight") return "embed.weight";
  if (name.starts_with(kHyperHead)) return "hc_head_" + std::string(name.substr(kHyperHead.size()));
  if (name.ends_with(kNorm))
    return std::string(name.substr(0, name.size() - kNorm.size())) + ".attn.kv_norm.weight";
  return std::string(name);
}

namespace {

/// Within a layer: transformers' modules of DeepSeek-V4, and the names of the published files.
constexpr auto kV4Modules = std::to_array<NameRow>({
    {"self_attn.q_a_proj", "attn.wq_a"},
    {"self_attn.q_b_proj", "attn.wq_b"},
    {"self_attn.kv_proj", "attn.wkv"},
    {"self_attn.o_a_proj", "attn.wo_a"},
    {"self_attn.o_b_proj", "attn.wo_b"},
    {"self_attn.compressor.kv_proj", "attn.compressor.wkv"},
    {"self_attn.compressor.gate_proj", "attn.compressor.wgate"},
    {"self_attn.compressor.indexer.kv_proj", "attn.indexer.compressor.wkv"},
    {"self_attn.compressor.indexer.gate_proj", "attn.indexer.compressor.wgate"},
    {"self_attn.compressor.indexer.q_b_proj", "attn.indexer.wq_b"},
    {"self_attn.compressor.indexer.scorer.weights_proj", "attn.indexer.weights_proj"},
    {"mlp.gate", "ffn.gate"},
    {"mlp.shared_experts.gate_proj", "ffn.shared_experts.w1"},
    {"mlp.shared_experts.down_proj", "ffn.shared_experts.w2"},
    {"mlp.shared_experts.up_proj", "ffn.shared_experts.w3"},
});

}  // namespace

std::string adapted_name(std::string_view model_type, std::string_view module) {
  constexpr std::string_view kModel = "model.", kLayers = "layers.";
  const bool v4 = model_type.starts_with("deepseek_v4");
  if (!v4) return (module.starts_with(kLayers) ? "model." : "") + std::string(module) + ".weight";
  std::string name(module.substr(module.starts_with(kModel) ? kModel.size() : 0));
  const size_t number = name.find('.', kLayers.size());
  if (name.starts_with(kLayers) && number != std::string::npos)
    for (const NameRow& row : kV4Modules)
      if (std::string_view(name).substr(number + 1) == row.gguf)
        name = name.substr(0, number + 1) + std::string(row.official);
  return name + ".weight";
}

// --- the way back, for writing

std::string gguf_name(const Architecture& architecture, std::string_view official) {
  const auto back = [&](std::span<const NameRow> rows, std::string_view name) {
    const auto it = std::find_if(rows.begin(), rows.end(),
                                 [&](const NameRow& row) { return row.official == name; });
    return it == rows.end() ? std::string() : std::string(it->gguf);
  };
  std::string_view rest = official;
  const std::string_view layers = architecture.v4 ? "layers." : "model.layers.";
  const bool inner = rest.starts_with(layers);
  std::string prefix;
  if (inner) {
    const size_t dot = std::min(rest.find('.', layers.size()), rest.size() - 1);
    prefix = fmt::format("blk.{}.", rest.substr(layers.size(), dot - layers.size()));
    rest.remove_prefix(dot + 1);
  }
  std::string found;
  if (architecture.v4) {
    found = inner ? back(kV4, rest) : back(kV4Outer, rest);
    return found.empty() ? found : prefix + found;
  }
  if (inner && architecture.experts) found = back(kWhole, rest);
  if (!found.empty()) return prefix + found;
  const size_t end = std::min(rest.rfind('.'), rest.size());
  const std::string_view stem = rest.substr(0, end);
  found = inner ? back(kDense, stem) : back(kOuter, stem);
  if (found.empty() && inner && architecture.experts) found = back(kExperts, stem);
  if (found.empty() && inner && architecture.latent) found = back(kLatent, stem);
  if (found.empty() && inner && architecture.latent) found = back(kSparse, stem);
  return found.empty() ? found : prefix + found + std::string(rest.substr(end));
}

}  // namespace hadal

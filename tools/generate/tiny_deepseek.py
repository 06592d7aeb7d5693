"""Tiny random models of DeepSeek's mixture-of-experts families: weights, oracles, GGUF files (oracle venv).

deepseek_v2, deepseek_v3, deepseek_v32 and deepseek_v4 are compared with transformers, which reads the official tensor names.
transformers has no `deepseek` (MoE-16B): `reference_v1` is an independent double-precision implementation, written from the paper
(arXiv 2401.06066). For deepseek_v41, which no release of it has either, deepseek_v41_reference.py is one.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from deepseek_draft_reference import LatentDrafts, V4Drafts, V41Drafts
from deepseek_v41_reference import Reference, hash_multipliers, hash_primes
from gguf import GGMLQuantizationType as Q
from safetensors.torch import save_file
from tiny_models import Array, GgufTokenizer, Tiny, add_gguf_rope, add_gguf_tokenizer, exact, permute, rope_of

KINDS = {
    "deepseek": "DeepseekForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "deepseek_v32": "DeepseekV32ForCausalLM",
    "deepseek_v4": "DeepseekV4ForCausalLM",
    "deepseek_v41": "DeepseekV41ForCausalLM",
}
GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "self_attn.indexer.wq_b": "indexer.attn_q_b",
    "self_attn.indexer.wk": "indexer.attn_k",
    "self_attn.indexer.k_norm": "indexer.k_norm",
    "self_attn.indexer.weights_proj": "indexer.proj",
    "eh_proj": "nextn.eh_proj",
    "enorm": "nextn.enorm",
    "hnorm": "nextn.hnorm",
    "embed_tokens": "nextn.embed_tokens",
    "shared_head.norm": "nextn.shared_head_norm",
    "shared_head.head": "nextn.shared_head_head",
}


def is_moe(config: dict[str, Any], layer: int) -> bool:
    return bool(layer >= config["first_k_dense_replace"] and layer % config.get("moe_layer_freq", 1) == 0)


class Maker:
    """Random weights of a Tiny, one tensor after the other."""

    def __init__(self, config: dict[str, Any], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tiny = Tiny(config, {})

    def add(self, name: str, values: Array) -> None:
        self.tiny.weights[name] = exact(values)

    def matrix(self, name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        self.add(name, self.rng.normal(0, gain / math.sqrt(columns), (rows, columns)))

    def norm(self, name: str, width: int) -> None:
        self.add(name, 1 + 0.2 * self.rng.normal(0, 1, width))


def add_hyper(m: Maker, c: dict[str, Any], prefix: str, mixed: int, scales: int) -> None:
    """Hyper-connections far enough from zero to show an error."""
    m.matrix(prefix + "fn", mixed, c["hc_mult"] * c["hidden_size"])
    m.add(prefix + "base", 0.5 * m.rng.normal(0, 1, mixed))
    m.add(prefix + "scale", 1 + 0.3 * m.rng.normal(0, 1, scales))


def add_sites(m: Maker, c: dict[str, Any], p: str) -> None:
    """Norms and hyper-connections of a V4 layer."""
    for site in ("attn", "ffn"):
        m.norm(f"{p}{site}_norm.weight", c["hidden_size"])
        add_hyper(m, c, f"{p}hc_{site}_", c["hc_mult"] * (c["hc_mult"] + 2), 3)


def add_v4_attention(m: Maker, c: dict[str, Any], a: str) -> None:
    """What every V4 layer's attention has."""
    hidden, heads, dim = c["hidden_size"], c["num_attention_heads"], c["head_dim"]
    m.matrix(a + "wq_a.weight", c["q_lora_rank"], hidden)
    m.norm(a + "q_norm.weight", c["q_lora_rank"])
    m.matrix(a + "wq_b.weight", heads * dim, c["q_lora_rank"])
    m.matrix(a + "wkv.weight", dim, hidden)
    m.norm(a + "kv_norm.weight", dim)
    m.add(a + "attn_sink", m.rng.normal(0, 1, heads))
    m.matrix(a + "wo_a.weight", c["o_groups"] * c["o_lora_rank"], heads * dim // c["o_groups"])
    m.matrix(a + "wo_b.weight", hidden, c["o_groups"] * c["o_lora_rank"])


def add_index_queries(m: Maker, c: dict[str, Any], p: str) -> None:
    m.matrix(p + "wq_b.weight", c["index_n_heads"] * c["index_head_dim"], c["q_lora_rank"])
    m.matrix(p + "weights_proj.weight", c["index_n_heads"], c["hidden_size"])


def add_v4_experts(m: Maker, c: dict[str, Any], p: str) -> None:
    def ffn(prefix: str, width: int) -> None:
        for name, rows, columns in (("w1", width, c["hidden_size"]), ("w3", width, c["hidden_size"]), ("w2", c["hidden_size"], width)):
            m.matrix(f"{prefix}{name}.weight", rows, columns, 1.5)

    for e in range(c["n_routed_experts"]):
        ffn(f"{p}experts.{e}.", c["moe_intermediate_size"])
    ffn(p + "shared_experts.", c["n_shared_experts"] * c["moe_intermediate_size"])


def add_draft_layer(m: Maker, c: dict[str, Any], p: str, experts: int) -> None:
    """A layer with a window alone, whose experts a bias helps to choose."""
    add_sites(m, c, p)
    add_v4_attention(m, c, p + "attn.")
    m.matrix(p + "ffn.gate.weight", experts, c["hidden_size"], 2.0)
    m.add(p + "ffn.gate.bias", 0.1 * m.rng.normal(0, 1, experts))
    add_v4_experts(m, c | {"n_routed_experts": experts}, p + "ffn.")


def add_v4_mtp(m: Maker, c: dict[str, Any]) -> None:
    """The module of the preview: multi-token prediction."""
    p, hidden = "mtp.0.", c["hidden_size"]
    add_draft_layer(m, c, p, c["n_routed_experts"])
    m.matrix(p + "e_proj.weight", hidden, hidden)
    m.matrix(p + "h_proj.weight", hidden, hidden)
    for name in ("enorm", "hnorm", "norm"):
        m.norm(f"{p}{name}.weight", hidden)
    add_hyper(m, c, p + "hc_head_", c["hc_mult"], 1)


def add_dspark(m: Maker, c: dict[str, Any], stages: int, markov: tuple[str, str]) -> None:
    """The stages of DSpark; what makes the drafts differ weighs enough to show."""
    hidden, experts, rank = c["hidden_size"], c.get("dspark_n_routed_experts", c["n_routed_experts"]), c["dspark_markov_rank"]
    last = f"mtp.{stages - 1}."
    for i in range(stages):
        add_draft_layer(m, c, f"mtp.{i}.", experts)
    m.matrix("mtp.0.main_proj.weight", hidden, len(c["dspark_target_layer_ids"]) * hidden)
    m.norm("mtp.0.main_norm.weight", hidden)
    m.norm(last + "norm.weight", hidden)
    m.matrix(f"{last}markov_head.{markov[0]}.weight", c["vocab_size"], rank, math.sqrt(rank))
    m.matrix(f"{last}markov_head.{markov[1]}.weight", c["vocab_size"], rank)
    m.matrix(last + "confidence_head.proj.weight", 1, hidden + rank)


def random_v4(config: dict[str, Any], seed: int) -> Tiny:
    """DeepSeek-V4 under the names of the official files."""
    m, c = Maker(config, seed), config
    hidden = c["hidden_size"]

    def compressor(prefix: str, ratio: int, width: int) -> None:
        rows = width * (2 if ratio == 4 else 1)
        m.matrix(prefix + "wkv.weight", rows, hidden)
        m.matrix(prefix + "wgate.weight", rows, hidden)
        m.add(prefix + "ape", 0.5 * m.rng.normal(0, 1, (ratio, rows)))
        m.norm(prefix + "norm.weight", width)

    m.matrix("embed.weight", c["vocab_size"], hidden, math.sqrt(hidden))
    for i in range(c["num_hidden_layers"]):
        p, ratio = f"layers.{i}.", c["compress_ratios"][i]
        a = p + "attn."
        add_sites(m, c, p)
        add_v4_attention(m, c, a)
        if ratio:
            compressor(a + "compressor.", ratio, c["head_dim"])
        if ratio == 4:
            compressor(a + "indexer.compressor.", ratio, c["index_head_dim"])
            add_index_queries(m, c, a + "indexer.")
        m.matrix(p + "ffn.gate.weight", c["n_routed_experts"], hidden, 2.0)
        if i < c["num_hash_layers"]:
            name = p + "ffn.gate.tid2eid"
            m.tiny.weights[name] = np.stack(
                [m.rng.choice(c["n_routed_experts"], c["num_experts_per_tok"], replace=False) for _ in range(c["vocab_size"])]
            )
            m.tiny.stored[name] = torch.from_numpy(m.tiny.weights[name])
        else:
            m.add(p + "ffn.gate.bias", 0.1 * m.rng.normal(0, 1, c["n_routed_experts"]))
        add_v4_experts(m, c, p + "ffn.")
    add_hyper(m, c, "hc_head_", c["hc_mult"], 1)
    m.norm("norm.weight", hidden)
    m.matrix("head.weight", c["vocab_size"], hidden)
    stages = len(c["compress_ratios"]) - c["num_hidden_layers"]
    if "dspark_block_size" in c:
        add_hyper(m, c, f"mtp.{stages - 1}.hc_head_", c["hc_mult"], 1)
        add_dspark(m, c, stages, ("markov_w1", "markov_w2"))
    elif stages > 0:
        add_v4_mtp(m, c)
    return m.tiny


def random_v41(config: dict[str, Any], seed: int) -> Tiny:
    """DeepSeek-V4.1 under the names of the official files; with a vision_config, also a few tensors that text does not use."""
    m, c = Maker(config, seed), config["text_config"]
    hidden, n, experts = c["hidden_size"], c["hc_mult"], c["n_routed_experts"]
    columns = (c["engram_max_ngram_size"] - 1) * c["engram_n_heads"] * c["engram_head_dim"]
    m.matrix("embed.weight", c["vocab_size"], hidden, math.sqrt(hidden))
    for i in range(c["num_hidden_layers"]):
        p = f"layers.{i}."
        a, e = p + "attn.", p + "engram."
        add_sites(m, c, p)
        add_v4_attention(m, c, a)
        if i in c["kv_source_layer_ids"]:
            m.matrix(a + "compressor.wkv.weight", c["head_dim"], hidden)
            if c["compress_ratios"][i] > 1:
                m.matrix(a + "compressor.wgate.weight", c["head_dim"], hidden, 1.5)
            m.norm(a + "compressor.norm.weight", c["head_dim"])
            m.matrix(a + "indexer.wk.weight", c["index_head_dim"], c["head_dim"])
            m.norm(a + "indexer.k_norm.weight", c["index_head_dim"])
        if i in c["index_source_layer_ids"]:
            add_index_queries(m, c, a + "indexer.")
        m.matrix(p + "ffn.gate.weight", experts, hidden, 2.0)
        m.add(p + "ffn.gate.bias", 0.1 * m.rng.normal(0, 1, experts))
        m.add(p + "ffn.gate.bias_vl", m.rng.normal(0, 1, experts))
        add_v4_experts(m, c, p + "ffn.")
        if i in c["engram_layer_ids"]:
            m.matrix(
                e + "embed.weight",
                c["engram_num_embeddings"][c["engram_layer_ids"].index(i)],
                c["engram_head_dim"],
                math.sqrt(c["engram_head_dim"]),
            )
            m.matrix(e + "wkv.weight", (n + 1) * hidden, columns)
            for name in ("q_weight", "k_weight"):
                m.add(e + name, 1 + 0.5 * m.rng.normal(0, 1, (n, hidden)))
    m.norm("norm.weight", hidden)
    m.matrix("head.weight", c["vocab_size"], hidden)
    if "dspark_block_size" in c:
        add_dspark(m, c, c["num_nextn_predict_layers"], ("embed", "head"))
        for i in range(c["num_nextn_predict_layers"]):
            m.add(f"mtp.{i}.ffn.gate.bias_vl", m.rng.normal(0, 1, c.get("dspark_n_routed_experts", experts)))
    if "vision_config" in config:
        m.matrix("vision.patch_embed.proj.weight", 16, 12)
        m.norm("vision.blocks.0.norm1.weight", 16)
        m.matrix("aligner.w1.weight", hidden, 16)
        for name in ("start", "end", "newline"):
            m.add("image_" + name, m.rng.normal(0, 1, hidden))
    return m.tiny


def scale_of(top: Array, largest: float) -> Array:
    """The smallest power of two that brings `top` to `largest` or below."""
    return np.exp2(np.ceil(np.log2(np.maximum(top, 2.0**-40) / largest)))


def e8m0(scale: Array) -> torch.Tensor:
    return torch.from_numpy((np.log2(scale) + 127).astype(np.uint8)).view(torch.float8_e8m0fnu)


def blocks_to_fp8(tiny: Tiny, name: str, high: int, wide: int) -> None:
    """A tensor as e4m3 with one E8M0 scale for `high` x `wide` numbers, partial blocks at the edges."""
    value = tiny.weights[name]
    rows, columns = value.shape
    scale = np.ones((-(-rows // high), -(-columns // wide)), np.float32)
    quantised, decoded = torch.empty(rows, columns, dtype=torch.float8_e4m3fn), np.empty_like(value)
    for r in range(scale.shape[0]):
        for c in range(scale.shape[1]):
            block = (slice(high * r, high * (r + 1)), slice(wide * c, wide * (c + 1)))
            scale[r, c] = scale_of(np.abs(value[block]).max(), 448.0)
            quantised[block] = torch.from_numpy(value[block] / scale[r, c]).to(torch.float8_e4m3fn)
            decoded[block] = quantised[block].float().numpy() * scale[r, c]
    tiny.weights[name], tiny.stored[name] = decoded, quantised
    tiny.stored[name.removesuffix(".weight") + ".scale"] = e8m0(scale)


def to_v4_formats(tiny: Tiny, block: int) -> None:
    """Experts in FP4 with one E8M0 scale for 32 numbers, the large dense matrices in FP8 with one for block x block."""
    codes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
    dense = ("wq_a", "wq_b", "wkv", "wo_a", "wo_b", "w1", "w2", "w3", "main_proj")
    for name in list(tiny.weights):
        stem, value = name.removesuffix(".weight"), tiny.weights[name]
        if stem == name or stem.split(".")[-1] not in dense or ".compressor." in name or name.startswith("aligner."):
            continue
        if ".experts." not in name:
            blocks_to_fp8(tiny, name, block, block)
            continue
        rows, columns = value.shape
        blocks = value.reshape(rows, columns // 32, 32)
        scale = scale_of(np.abs(blocks).max(-1), 6.0)
        code = np.abs(blocks[..., None] / scale[..., None, None] - codes).argmin(-1).astype(np.uint8).reshape(rows, columns)
        tiny.weights[name] = (codes[code].reshape(blocks.shape) * scale[..., None]).reshape(rows, columns).astype(np.float32)
        tiny.stored[name] = torch.from_numpy((code[:, ::2] | code[:, 1::2] << 4).view(np.int8))
        tiny.stored[stem + ".scale"] = e8m0(scale)
    tiny.config["quantization_config"] = {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "scale_fmt": "ue8m0",
        "weight_block_size": [block, block],
    }
    tiny.config["expert_dtype"] = "fp4"


def to_v41_formats(tiny: Tiny) -> None:
    """As the official files: blocks of 32 x 32, Engram's rows in FP8 with a scale for 32 numbers, the smallest tensors in F32."""
    to_v4_formats(tiny, 32)
    for name in list(tiny.weights):
        if name.endswith(".engram.embed.weight"):
            blocks_to_fp8(tiny, name, 1, 32)
        elif ".hc_" in name or name.split(".")[-1] in ("attn_sink", "bias", "bias_vl"):
            tiny.stored[name] = torch.from_numpy(tiny.weights[name])


def random_weights(config: dict[str, Any], seed: int) -> Tiny:
    """Norms 1 + 0.2 N(0,1), matrices N(0,1)/sqrt(fan_in), the router's bias 0.1 N(0,1)."""
    if config["model_type"] == "deepseek_v4":
        return random_v4(config, seed)
    if config["model_type"] == "deepseek_v41":
        return random_v41(config, seed)
    rng = np.random.default_rng(seed)
    tiny = Tiny(config, {})
    c, w = config, tiny.weights
    hidden, heads = c["hidden_size"], c["num_attention_heads"]

    def matrix(name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        w[name + ".weight"] = exact(rng.normal(0, gain / math.sqrt(columns), (rows, columns)))

    def norm(name: str, width: int) -> None:
        w[name + ".weight"] = exact(1 + 0.2 * rng.normal(0, 1, width))

    def ffn(prefix: str, width: int) -> None:
        matrix(prefix + "gate_proj", width, hidden)
        matrix(prefix + "up_proj", width, hidden)
        matrix(prefix + "down_proj", hidden, width)

    def layer(i: int) -> None:
        p, a = f"model.layers.{i}.", f"model.layers.{i}.self_attn."
        norm(p + "input_layernorm", hidden)
        if "kv_lora_rank" in c:
            q_width = heads * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
            if c["q_lora_rank"]:
                matrix(a + "q_a_proj", c["q_lora_rank"], hidden)
                norm(a + "q_a_layernorm", c["q_lora_rank"])
                matrix(a + "q_b_proj", q_width, c["q_lora_rank"])
            else:
                matrix(a + "q_proj", q_width, hidden)
            matrix(a + "kv_a_proj_with_mqa", c["kv_lora_rank"] + c["qk_rope_head_dim"], hidden)
            norm(a + "kv_a_layernorm", c["kv_lora_rank"])
            matrix(a + "kv_b_proj", heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), c["kv_lora_rank"])
            matrix(a + "o_proj", hidden, heads * c["v_head_dim"])
            if "index_topk" in c:
                matrix(a + "indexer.wq_b", c["index_n_heads"] * c["index_head_dim"], c["q_lora_rank"])
                matrix(a + "indexer.wk", c["index_head_dim"], hidden)
                norm(a + "indexer.k_norm", c["index_head_dim"])
                w[a + "indexer.k_norm.bias"] = exact(rng.normal(0, 0.3, c["index_head_dim"]))
                matrix(a + "indexer.weights_proj", c["index_n_heads"], hidden)
        else:
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                matrix(a + name, hidden, hidden)
        norm(p + "post_attention_layernorm", hidden)
        if not is_moe(c, i):
            ffn(p + "mlp.", c["intermediate_size"])
            return
        matrix(p + "mlp.gate", c["n_routed_experts"], hidden, 2.0)
        if c.get("topk_method") == "noaux_tc":
            w[p + "mlp.gate.e_score_correction_bias"] = exact(0.1 * rng.normal(0, 1, c["n_routed_experts"]))
        for e in range(c["n_routed_experts"]):
            ffn(p + f"mlp.experts.{e}.", c["moe_intermediate_size"])
        if c.get("n_shared_experts"):
            ffn(p + "mlp.shared_experts.", c["n_shared_experts"] * c["moe_intermediate_size"])

    matrix("model.embed_tokens", c["vocab_size"], hidden, math.sqrt(hidden))
    for i in range(c["num_hidden_layers"]):
        layer(i)
    norm("model.norm", hidden)
    matrix("lm_head", c["vocab_size"], hidden)
    for i in range(c["num_hidden_layers"], c["num_hidden_layers"] + c.get("num_nextn_predict_layers", 0)):
        p = f"model.layers.{i}."
        layer(i)
        for name in ("enorm", "hnorm", "shared_head.norm"):
            norm(p + name, hidden)
        matrix(p + "eh_proj", hidden, 2 * hidden)
        w[p + "embed_tokens.weight"] = w["model.embed_tokens.weight"].copy()
        w[p + "shared_head.head.weight"] = w["lm_head.weight"].copy()
    return tiny


# --- oracles ---------------------------------------------------------------------------------------------------------------


def oracle(tiny: Tiny) -> Callable[[list[int]], Array]:
    """ids -> logits [n, vocab]."""
    if tiny.arch == "deepseek":
        return lambda ids: reference_v1(tiny, ids)
    if tiny.arch == "deepseek_v41":
        return ReferenceV41(tiny)
    import transformers

    config = {k: v for k, v in tiny.config.items() if k not in ("quantization_config", "expert_dtype")} | {"torch_dtype": "float32"}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        save_file({n: torch.from_numpy(w) for n, w in tiny.weights.items()}, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
        ).eval()

    @torch.no_grad()
    def run(ids: list[int]) -> Array:
        return model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()

    return run


def drafts_of(tiny: Tiny) -> LatentDrafts | V4Drafts | V41Drafts:
    """The reference of a model's drafts."""
    if tiny.arch == "deepseek_v41":
        return V41Drafts(tiny.config["text_config"], tiny.weights, tiny.token_table)
    return (V4Drafts if tiny.arch == "deepseek_v4" else LatentDrafts)(tiny.config, tiny.weights)


class ReferenceV41:
    """Logits by deepseek_v41_reference, which goes on where the last call's ids go on; `closest`: the smallest lead of any choice."""

    def __init__(self, tiny: Tiny) -> None:
        self.model = Reference(tiny.config["text_config"], tiny.weights, tiny.token_table)
        self.ids: list[int] = []
        self.rows: list[Array] = []

    def __call__(self, ids: list[int]) -> Array:
        done = len(self.ids)
        if not 0 < done < len(ids) or ids[:done] != self.ids:
            self.model.restart()
            self.rows, done = [], 0
        self.rows.append(self.model.step(ids[done:]).astype(np.float32))
        self.ids = list(ids)
        return np.concatenate(self.rows)

    @property
    def closest(self) -> float:
        return min(self.model.closest.values())


def mtp_oracle(tiny: Tiny) -> Callable[[list[int]], Array]:
    """ids -> draft logits [n - 1, vocab] of the first MTP layer, put together from transformers' own decoder layer."""
    import transformers

    c = tiny.config
    layers = c["num_hidden_layers"]
    config = c | {"num_hidden_layers": layers + 1, "torch_dtype": "float32"}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        save_file({n: torch.from_numpy(w) for n, w in tiny.weights.items()}, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        whole = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
        ).eval()
    block = whole.model.layers[layers]
    whole.model.layers = whole.model.layers[:layers]  # what is left is the main model
    w = {n: torch.from_numpy(v) for n, v in tiny.weights.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + c["rms_norm_eps"]) * w[f"model.layers.{layers}.{name}.weight"]

    @torch.no_grad()
    def run(ids: list[int]) -> Array:
        hidden = whole.model(torch.tensor([ids]), use_cache=False).last_hidden_state[:, :-1]
        embedded = w["model.embed_tokens.weight"][ids[1:]][None]
        x = torch.cat([norm(embedded, "enorm"), norm(hidden, "hnorm")], -1) @ w[f"model.layers.{layers}.eh_proj.weight"].T
        n = len(ids) - 1
        positions = torch.arange(1, n + 1)[None]
        mask = torch.triu(torch.full((n, n), float("-inf")), 1)[None, None]
        out = block(x, attention_mask=mask, position_ids=positions, position_embeddings=whole.model.rotary_emb(x, positions))
        out = out[0] if isinstance(out, tuple) else out
        return (norm(out, "shared_head.norm") @ w["lm_head.weight"].T)[0].numpy()

    return run


def reference_v1(tiny: Tiny, ids: list[int]) -> Array:
    c, heads = tiny.config, tiny.config["num_attention_heads"]
    w = {n: v.astype(np.float64) for n, v in tiny.weights.items()}
    n, dim = len(ids), c["hidden_size"] // heads
    theta, rope = rope_of(c)
    assert rope["type"] == "default"
    # frequencies and angles are rounded to float32, as every implementation has them
    inv = np.array([np.float32(1) / np.float32(theta ** np.float64(np.float32(i) / np.float32(dim))) for i in range(0, dim, 2)], np.float32)
    angle = (np.arange(n, dtype=np.float32)[:, None] * inv[None]).astype(np.float64)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

    def norm(x: Array, name: str) -> Array:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + c["rms_norm_eps"]) * w[name + ".weight"]

    def turn(x: Array) -> Array:
        a, b = x[..., : dim // 2], x[..., dim // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def softmax(x: Array) -> Array:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def ffn(x: Array, p: str) -> Array:
        g = x @ w[p + "gate_proj.weight"].T
        return (g / (1 + np.exp(-g)) * (x @ w[p + "up_proj.weight"].T)) @ w[p + "down_proj.weight"].T

    def experts(x: Array, p: str) -> Array:
        score = softmax(x @ w[p + "gate.weight"].T)
        out = ffn(x, p + "shared_experts.")
        for t in range(n):
            chosen = np.argsort(-score[t], kind="stable")[: c["num_experts_per_tok"]]
            total = score[t, chosen].sum() if c["norm_topk_prob"] else 1.0
            for e in chosen:
                out[t] += c["routed_scaling_factor"] * score[t, e] / total * ffn(x[t : t + 1], p + f"experts.{e}.")[0]
        return out

    x = w["model.embed_tokens.weight"][ids]
    hidden_from = np.triu(np.full((n, n), -np.inf), 1)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h = norm(x, p + "input_layernorm")
        q, k, v = ((h @ w[p + f"self_attn.{s}_proj.weight"].T).reshape(n, heads, dim) for s in "qkv")
        q, k = turn(q), turn(k)
        scores = np.einsum("thd,shd->hts", q, k) / math.sqrt(dim) + hidden_from
        o = np.einsum("hts,shd->thd", softmax(scores), v).reshape(n, -1)
        x = x + o @ w[p + "self_attn.o_proj.weight"].T
        h = norm(x, p + "post_attention_layernorm")
        x = x + (experts(h, p + "mlp.") if is_moe(c, i) else ffn(h, p + "mlp."))
    return (norm(x, "model.norm") @ w["lm_head.weight"].T).astype(np.float32)


# --- GGUF ------------------------------------------------------------------------------------------------------------------


def save_gguf(tiny: Tiny, path: Path, kind: Q, old: bool = False) -> None:
    """Arch `deepseek`, `deepseek2` or `deepseek32` (which keeps the MTP layer), as llama.cpp's converter writes them.

    old: kv_b whole, as before the converter split it.
    """
    c = tiny.config
    path.parent.mkdir(parents=True, exist_ok=True)
    latent = "kv_lora_rank" in c
    sparse = "index_topk" in c
    w = gguf.GGUFWriter(path, "deepseek32" if sparse else "deepseek2" if latent else "deepseek")
    layers = c["num_hidden_layers"] + (c.get("num_nextn_predict_layers", 0) if sparse else 0)
    w.add_name("tiny random " + tiny.arch)
    add_gguf_keys(w, c, layers, old)
    add_gguf_rope(w, c)

    def add(name: str, value: Array) -> None:
        if value.ndim == 1 or kind == Q.F32 or name.endswith("ffn_gate_inp.weight"):
            w.add_tensor(name, np.ascontiguousarray(value, np.float32))
        elif kind == Q.F16:
            w.add_tensor(name, value.astype(np.float16))
        else:
            w.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(value, np.float32), kind), raw_dtype=kind)

    for whole, short in (("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")):
        add(short + ".weight", tiny.weights[whole + ".weight"])
    for i in range(layers):
        p, b = f"model.layers.{i}.", f"blk.{i}."
        for name, value in tiny.weights.items():
            if not name.startswith(p) or ".experts." in name:
                continue
            stem, suffix = name[len(p) :].rsplit(".", 1)
            if stem == "self_attn.kv_b_proj":
                if old:
                    add(b + "attn_kv_b.weight", value)
                else:
                    nope = c["qk_nope_head_dim"]
                    halves = value.reshape(c["num_attention_heads"], nope + c["v_head_dim"], -1)
                    add(b + "attn_k_b.weight", halves[:, :nope].swapaxes(1, 2))
                    add(b + "attn_v_b.weight", halves[:, nope:])
            elif suffix == "e_score_correction_bias":
                add(b + "exp_probs_b.bias", value)
            elif stem in ("self_attn.q_proj", "self_attn.k_proj") and not latent:
                add(b + GGUF_NAMES[stem] + ".weight", permute(value, c["num_attention_heads"]))
            else:
                add(f"{b}{GGUF_NAMES[stem]}.{suffix}", value)
        if is_moe(c, i):
            for part in ("gate", "up", "down"):
                add(
                    b + f"ffn_{part}_exps.weight",
                    np.stack([tiny.weights[p + f"mlp.experts.{e}.{part}_proj.weight"] for e in range(c["n_routed_experts"])]),
                )
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def add_gguf_keys(w: gguf.GGUFWriter, c: dict[str, Any], layers: int, old: bool) -> None:
    latent = "kv_lora_rank" in c
    sparse = "index_topk" in c
    w.add_vocab_size(c["vocab_size"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(layers)
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(1 if latent and not old else c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_leading_dense_block_count(c["first_k_dense_replace"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_expert_count(c["n_routed_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_shared_count(c["n_shared_experts"])
    w.add_expert_weights_scale(c["routed_scaling_factor"])
    if latent:
        nope, rope_dim, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        if c["q_lora_rank"]:
            w.add_q_lora_rank(c["q_lora_rank"])
        w.add_kv_lora_rank(c["kv_lora_rank"])
        w.add_rope_dimension_count(rope_dim)
        if old:
            w.add_key_length(nope + rope_dim)
            w.add_value_length(v)
        else:
            w.add_key_length(c["kv_lora_rank"] + rope_dim)
            w.add_value_length(c["kv_lora_rank"])
            w.add_key_length_mla(nope + rope_dim)
            w.add_value_length_mla(v)
        if not old:
            w.add_expert_group_count(c["n_group"])
            w.add_expert_group_used_count(c["topk_group"])
            w.add_expert_weights_norm(c["norm_topk_prob"])
            sigmoid = c["scoring_func"] == "sigmoid"
            w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID if sigmoid else gguf.ExpertGatingFuncType.SOFTMAX)
    else:
        w.add_rope_dimension_count(c["hidden_size"] // c["num_attention_heads"])
    if sparse:
        w.add_nextn_predict_layers(layers - c["num_hidden_layers"])
        for key, value in (("head_count", "index_n_heads"), ("key_length", "index_head_dim"), ("top_k", "index_topk")):
            w.add_uint32(f"deepseek32.attention.indexer.{key}", c[value])


V4_NAMES = {
    "attn.wq_a.weight": "attn_q_a",
    "attn.q_norm.weight": "attn_q_a_norm",
    "attn.wq_b.weight": "attn_q_b",
    "attn.wkv.weight": "attn_kv",
    "attn.kv_norm.weight": "attn_kv_a_norm",
    "attn.attn_sink": "attn_sinks",
    "attn.wo_a.weight": "attn_output_a",
    "attn.wo_b.weight": "attn_output_b",
    "attn.compressor.wkv.weight": "attn_compressor_kv",
    "attn.compressor.wgate.weight": "attn_compressor_gate",
    "attn.compressor.ape": "attn_compressor_ape",
    "attn.compressor.norm.weight": "attn_compressor_norm",
    "attn.indexer.wq_b.weight": "indexer.attn_q_b",
    "attn.indexer.weights_proj.weight": "indexer.proj",
    "attn.indexer.compressor.wkv.weight": "indexer_compressor_kv",
    "attn.indexer.compressor.wgate.weight": "indexer_compressor_gate",
    "attn.indexer.compressor.ape": "indexer_compressor_ape",
    "attn.indexer.compressor.norm.weight": "indexer_compressor_norm",
    "attn.indexer.wk.weight": "indexer.attn_k",
    "attn.indexer.k_norm.weight": "indexer.k_norm",
    "engram.embed.weight": "engram_embd",
    "engram.q_weight": "engram_q",
    "engram.k_weight": "engram_k",
    "engram.wkv.weight": "engram_wkv",
    "ffn.gate.weight": "ffn_gate_inp",
    "ffn.gate.tid2eid": "ffn_gate_tid2eid",
    "ffn.shared_experts.w1.weight": "ffn_gate_shexp",
    "ffn.shared_experts.w2.weight": "ffn_down_shexp",
    "ffn.shared_experts.w3.weight": "ffn_up_shexp",
}


OFFICIAL_FORM_NAMES = {"engram_q": "engram_q_norm", "engram_k": "engram_k_norm", "engram_wkv": "engram_kv"}


def add_v4_keys(w: gguf.GGUFWriter, c: dict[str, Any]) -> None:
    """Keys that V4 and V4.1 have in common."""
    w.add_vocab_size(c["vocab_size"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(1)
    w.add_key_length(c["head_dim"])
    w.add_value_length(c["head_dim"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_q_lora_rank(c["q_lora_rank"])
    w.add_sliding_window(c["sliding_window"])
    w.add_rope_dimension_count(c["qk_rope_head_dim"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_expert_count(c["n_routed_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_shared_count(c["n_shared_experts"])
    w.add_expert_weights_scale(c["routed_scaling_factor"])
    w.add_expert_weights_norm(c["norm_topk_prob"])
    for key, value in (
        ("attention.output_group_count", c["o_groups"]),
        ("attention.output_lora_rank", c["o_lora_rank"]),
        ("attention.indexer.head_count", c["index_n_heads"]),
        ("attention.indexer.key_length", c["index_head_dim"]),
        ("attention.indexer.top_k", c["index_topk"]),
        ("hyper_connection.count", c["hc_mult"]),
        ("hyper_connection.sinkhorn_iterations", c["hc_sinkhorn_iters"]),
        ("hash_layer_count", c.get("num_hash_layers", 0)),
        ("expert_gating_func", 4),
    ):
        w.add_uint32(f"{w.arch}.{key}", value)
    w.add_float32(f"{w.arch}.hyper_connection.epsilon", c["hc_eps"])
    w.add_float32(f"{w.arch}.attention.compress_rope_freq_base", c["compress_rope_theta"])
    w.add_array(f"{w.arch}.attention.compress_ratios", c["compress_ratios"])
    w.add_array(f"{w.arch}.swiglu_clamp_exp", [c["swiglu_limit"]] * c["num_hidden_layers"])
    add_gguf_rope(w, {k: v for k, v in c.items() if k != "rope_scaling"})
    rope = c["rope_scaling"]
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(rope["factor"])
    w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    w.add_float32(f"{w.arch}.rope.scaling.yarn_beta_fast", rope["beta_fast"])
    w.add_float32(f"{w.arch}.rope.scaling.yarn_beta_slow", rope["beta_slow"])


def add_engram_tables(w: gguf.GGUFWriter, tiny: Tiny) -> None:
    """What the hash is made of, as numbers; the padding token by its compressed id."""
    c = tiny.config["text_config"]
    primes = [[p for heads in layer for p in heads] for layer in hash_primes(c)]
    tables = {
        "multipliers": [
            m for i in c["engram_layer_ids"] for m in hash_multipliers(i, c["engram_max_ngram_size"], c["engram_compressed_vocab_size"])
        ],
        "primes": [prime for layer in primes for prime in layer],
        "offsets": [sum(layer[:i]) for layer in primes for i in range(len(layer))],
    }
    for key, values in tables.items():
        w.add_key_value(f"{w.arch}.engram.{key}", values, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT64)
    w.add_array(f"{w.arch}.engram.token_map", tiny.token_table)
    w.add_uint32(f"{w.arch}.engram.pad_id", tiny.token_table[c["engram_pad_id"]])


def add_v41_keys(w: gguf.GGUFWriter, tiny: Tiny, form: str) -> None:
    """V4.1's own keys; form: "tables" or "numbers", of Engram's hash."""
    c = tiny.config["text_config"]
    for key in ("kv_source_layer_ids", "index_source_layer_ids"):
        w.add_array(f"{w.arch}.attention.{key}", c[key])
    for key in ("candidate_source_layer_id", "candidate_topk_blocks", "candidate_block_size"):
        w.add_uint32(f"{w.arch}.attention.{key}", c[key])
    w.add_array(f"{w.arch}.engram.layer_ids", c["engram_layer_ids"])
    names = {"head_count": "n_heads", "key_length": "head_dim", "max_ngram_size": "max_ngram_size"}
    if form == "numbers":
        names |= {"vocab_size": "vocab_size", "pad_token_id": "pad_id", "compressed_vocab_size": "compressed_vocab_size"}
    for key, name in names.items():
        w.add_uint32(f"{w.arch}.engram.{key}", c["engram_" + name])
    if form == "tables":
        add_engram_tables(w, tiny)


def add_official_keys(w: gguf.GGUFWriter, tiny: Tiny) -> None:
    """The form of a writer that keeps the names of config.json, and the whole of it."""
    c = tiny.config["text_config"]
    w.add_string(f"{w.arch}.config", json.dumps(tiny.config))
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "n_routed_experts", "num_experts_per_tok"):
        w.add_uint32(f"{w.arch}.{key}", c[key])
    w.add_string(f"{w.arch}.engram.encoding", "e4m3_e8m0_32_row264")
    w.add_array(f"{w.arch}.engram.layer_ids", c["engram_layer_ids"])
    w.add_array(f"{w.arch}.engram.rows", c["engram_num_embeddings"])
    add_engram_tables(w, tiny)


def save_v4_gguf(tiny: Tiny, path: Path, kind: Q, form: str = "", tokenizer: GgufTokenizer | None = None) -> None:
    """Arch `deepseek4` or, with a form, `deepseek41`: names and keys as the engines that read it expect them.

    FP4 experts are kept as MXFP4."""
    c = tiny.config.get("text_config", tiny.config)
    path.parent.mkdir(parents=True, exist_ok=True)
    w = gguf.GGUFWriter(path, "deepseek41" if form else "deepseek4")
    w.add_name("tiny random " + tiny.arch)
    if form == "official":
        add_official_keys(w, tiny)
    else:
        add_v4_keys(w, c)
    if form in ("tables", "numbers"):
        add_v41_keys(w, tiny, form)
    if tokenizer:
        add_gguf_tokenizer(w, tokenizer)

    def add(name: str, value: Array) -> None:
        if value.dtype.kind in "iu":
            w.add_tensor(name, value if value.dtype == np.int8 else value.astype(np.int32))
        elif value.ndim == 1 or "hc_" in name or "_ape" in name or "gate_inp" in name or "engram_q" in name or "engram_k." in name:
            w.add_tensor(name, np.ascontiguousarray(value, np.float32))
        elif kind == Q.F16 and "_exps" in name and "expert_dtype" in tiny.config:
            data = gguf.quants.quantize(np.ascontiguousarray(value, np.float32), Q.MXFP4)
            assert np.array_equal(gguf.quants.dequantize(data, Q.MXFP4), value)
            w.add_tensor(name, data, raw_dtype=Q.MXFP4)
        else:
            w.add_tensor(
                name,
                value.astype(np.float16) if kind == Q.F16 else gguf.quants.quantize(np.ascontiguousarray(value, np.float32), kind),
                raw_dtype=kind,
            )

    for whole, short in (
        ("embed.weight", "token_embd"),
        ("norm.weight", "output_norm"),
        ("head.weight", "output"),
        ("hc_head_fn", "output_hc_fn"),
        ("hc_head_base", "output_hc_base"),
        ("hc_head_scale", "output_hc_scale"),
    ):
        if whole in tiny.weights:
            add(short + ".weight", tiny.weights[whole])
    for i in range(c["num_hidden_layers"]):
        p, b = f"layers.{i}.", f"blk.{i}."
        for name, value in tiny.weights.items():
            rest = name.removeprefix(p)
            if rest == name or ".experts." in name:
                continue
            if rest.startswith("ffn.gate.bias"):
                add(b + rest.replace("ffn.gate.bias", "exp_probs_b") + ".bias", value)
                continue
            short = V4_NAMES.get(rest, rest.removesuffix(".weight"))
            if form == "official":
                short = OFFICIAL_FORM_NAMES.get(short, short)
                if rest == "engram.embed.weight":  # 32 numbers and their scale, a row's scales behind its numbers
                    value = np.concatenate(
                        [tiny.stored[n].view(torch.int8).numpy() for n in (name, name.removesuffix("weight") + "scale")], 1
                    )
            add(b + short + ".weight", value)
        for part, short in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
            add(
                f"{b}ffn_{short}_exps.weight",
                np.stack([tiny.weights[f"{p}ffn.experts.{e}.{part}.weight"] for e in range(c["n_routed_experts"])]),
            )
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()

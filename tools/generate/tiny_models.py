"""Tiny random models of the dense families, written as a safetensors folder or as a GGUF file (oracle venv: numpy, torch, gguf).

A model is a `Tiny`: the config.json as it will lie on disk, and the weights under the official names in float32. The weights
are exact in bfloat16 and in float16, so that one set of reference logits serves every file that keeps them in either type.
Used by make_golden.py and make_quant_models.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file

Array = np.ndarray
PROJECTIONS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@dataclass
class Tiny:
    config: dict[str, Any]
    weights: dict[str, Array]
    stored: dict[str, torch.Tensor] = field(default_factory=dict)  # what save_folder writes where it is not plain bf16
    token_table: list[int] = field(default_factory=list)  # of each token id the compressed one, where a model hashes them

    @property
    def arch(self) -> str:
        return str(self.config["model_type"])

    @property
    def head_dim(self) -> int:
        return int(self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"])


def exact(values: Array) -> Array:
    """Rounds to bfloat16 and drops what float16 could not hold exactly."""
    rounded = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16).float().numpy()
    return np.where(np.abs(rounded) < 2.0**-14, np.float32(0), rounded)


def random_weights(config: dict[str, Any], seed: int) -> Tiny:
    """Norms 1 + 0.2 N(0,1), projections N(0,1)/sqrt(fan_in), biases 0.3 N(0,1): large enough that an error shows."""
    rng = np.random.default_rng(seed)
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    tiny = Tiny(config, {})
    dim = tiny.head_dim
    w = tiny.weights

    def matrix(name: str, rows: int, columns: int, bias: bool = False) -> None:
        w[name + ".weight"] = exact(rng.normal(0, 1 / math.sqrt(columns), (rows, columns)))
        if bias:
            w[name + ".bias"] = exact(rng.normal(0, 0.3, rows))

    def norm(name: str, width: int) -> None:
        w[name + ".weight"] = exact(1 + 0.2 * rng.normal(0, 1, width))

    tied = config.get("tie_word_embeddings", False)
    w["model.embed_tokens.weight"] = exact(rng.normal(0, 2 / math.sqrt(hidden) if tied else 1, (vocab, hidden)))
    qkv_bias = config["model_type"] == "qwen2" or config.get("attention_bias", False)
    mlp_bias = config.get("mlp_bias", False)
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        norm(p + "input_layernorm", hidden)
        matrix(p + "self_attn.q_proj", heads * dim, hidden, qkv_bias)
        matrix(p + "self_attn.k_proj", kv * dim, hidden, qkv_bias)
        matrix(p + "self_attn.v_proj", kv * dim, hidden, qkv_bias)
        matrix(p + "self_attn.o_proj", hidden, heads * dim, config.get("attention_bias", False))
        if config["model_type"] == "qwen3":
            norm(p + "self_attn.q_norm", dim)
            norm(p + "self_attn.k_norm", dim)
        norm(p + "post_attention_layernorm", hidden)
        matrix(p + "mlp.gate_proj", ffn, hidden, mlp_bias)
        matrix(p + "mlp.up_proj", ffn, hidden, mlp_bias)
        matrix(p + "mlp.down_proj", hidden, ffn, mlp_bias)
    norm("model.norm", hidden)
    if not tied:
        matrix("lm_head", vocab, hidden)
    return tiny


def to_fp8(tiny: Tiny, scale_type: torch.dtype) -> None:
    """Replaces every projection by FP8 E4M3 with one scale a block of 128 x 128, partial blocks at the edges."""
    for name in [n for n in tiny.weights if n.endswith("_proj.weight")]:
        weight = torch.from_numpy(tiny.weights[name])
        rows, columns = weight.shape
        quantised = torch.empty(rows, columns, dtype=torch.float8_e4m3fn)
        scales = torch.empty(-(-rows // 128), -(-columns // 128), dtype=scale_type)
        decoded = torch.empty_like(weight)
        for r in range(scales.shape[0]):
            for c in range(scales.shape[1]):
                block = (slice(128 * r, 128 * (r + 1)), slice(128 * c, 128 * (c + 1)))
                scale = (weight[block].abs().max() / 448).to(scale_type)
                scales[r, c] = scale
                quantised[block] = (weight[block] / scale.float()).clamp(-448, 448).to(torch.float8_e4m3fn)
                decoded[block] = quantised[block].float() * scale.float()
        tiny.weights[name] = decoded.numpy()
        tiny.stored[name] = quantised
        tiny.stored[name + "_scale_inv"] = scales
    tiny.config["quantization_config"] = {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }


def save_folder(tiny: Tiny, folder: Path, shards: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(tiny.config, indent=2) + "\n")
    tensors = {n: torch.from_numpy(v).to(torch.bfloat16) for n, v in tiny.weights.items() if n not in tiny.stored} | tiny.stored

    def save(part: dict[str, torch.Tensor], file: str) -> None:
        save_file(part, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)

    if shards == 1:
        save(tensors, "model.safetensors")
        return
    names = sorted(tensors)
    index: dict[str, str] = {}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        part = names[s * len(names) // shards : (s + 1) * len(names) // shards]
        save({n: tensors[n] for n in part}, file)
        index |= dict.fromkeys(part, file)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1) + "\n"
    )


# --- GGUF ------------------------------------------------------------------------------------------------------------------


def permute(weight: Array, heads: int) -> Array:
    """The row order of arch `llama`: each head's two rotary halves interleaved."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def unpermute(weight: Array, heads: int) -> Array:
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def gguf_name(name: str) -> str:
    for whole, short in (("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")):
        if name.startswith(whole + "."):
            return short + name[len(whole) :]
    _, _, layer, rest = name.split(".", 3)
    stem, suffix = rest.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[stem]}.{suffix}"


def heads_of(tiny: Tiny, name: str) -> int:
    """The number of heads whose rows arch `llama` permutes in this tensor, 0 for tensors left alone."""
    if tiny.arch != "llama":
        return 0
    return {"q_proj": tiny.config["num_attention_heads"], "k_proj": tiny.config["num_key_value_heads"]}.get(name.split(".")[-2], 0)


def rope_of(config: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """(theta, scaling) from either style of config.json."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = float(rope.pop("rope_theta", config.get("rope_theta", 10000.0)))
    rope["type"] = rope.pop("rope_type", rope.get("type", "default"))
    return theta, rope


def llama3_factors(theta: float, rope: dict[str, Any], dim: int) -> Array:
    """What llama.cpp's converter writes as rope_freqs.weight: the divisor of each frequency."""
    factors = []
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    for i in range(dim // 2):
        wave = 2 * math.pi * theta ** (2 * i / dim)
        if wave < high:
            factors.append(1.0)
        elif wave > low:
            factors.append(float(rope["factor"]))
        else:
            smooth = (rope["original_max_position_embeddings"] / wave - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def add_gguf_rope(w: gguf.GGUFWriter, config: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    theta, rope = rope_of(config)
    w.add_rope_freq_base(theta)
    if rope["type"] == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    elif rope["type"] == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if "attn_factor" in rope:
            w.add_rope_scaling_attn_factors(rope["attn_factor"])
        if "mscale_all_dim" in rope:
            w.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
        for key in ("beta_fast", "beta_slow"):
            if key in rope and "mscale_all_dim" in rope:
                w.add_float32(f"{w.arch}.rope.scaling.yarn_{key}", rope[key])
    return theta, rope


@dataclass
class GgufTokenizer:
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    bos: int
    eos: int
    template: str
    add_bos: bool


def add_gguf_tokenizer(w: gguf.GGUFWriter, tokenizer: GgufTokenizer) -> None:
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(tokenizer.pre)
    w.add_token_list(tokenizer.tokens)
    w.add_token_types(tokenizer.types)
    w.add_token_merges(tokenizer.merges)
    w.add_bos_token_id(tokenizer.bos)
    w.add_eos_token_id(tokenizer.eos)
    w.add_add_bos_token(tokenizer.add_bos)
    w.add_chat_template(tokenizer.template)


def save_gguf(tiny: Tiny, path: Path, type_of: Callable[[str], Q], seed: int = 0, tokenizer: GgufTokenizer | None = None) -> None:
    """Writes the file; `type_of` maps an official matrix name to its stored type. tiny.weights become what the file decodes to."""
    c = tiny.config
    path.parent.mkdir(parents=True, exist_ok=True)
    w = gguf.GGUFWriter(path, tiny.arch)
    w.add_name("tiny random " + tiny.arch)
    w.add_vocab_size(c["vocab_size"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    if tiny.arch != "qwen2":
        w.add_key_length(tiny.head_dim)
        w.add_value_length(tiny.head_dim)
        w.add_rope_dimension_count(tiny.head_dim)
    theta, rope = add_gguf_rope(w, c)
    if rope["type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(theta, rope, tiny.head_dim))
    if tokenizer:
        add_gguf_tokenizer(w, tokenizer)
    rng = np.random.default_rng(seed)
    for name, value in tiny.weights.items():
        heads = heads_of(tiny, name)
        stored = permute(value, heads) if heads else value
        kind = type_of(name) if value.ndim == 2 else Q.F32
        if kind == Q.F32:
            w.add_tensor(gguf_name(name), np.ascontiguousarray(stored, np.float32))
            continue
        data = stored.astype(np.float16) if kind == Q.F16 else encode(stored, kind, rng)
        w.add_tensor(gguf_name(name), data, raw_dtype=kind)
        decoded = dequantize(data, kind).astype(np.float32).reshape(value.shape)
        tiny.weights[name] = np.ascontiguousarray(unpermute(decoded, heads) if heads else decoded)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# --- quantised blocks ------------------------------------------------------------------------------------------------------

CAN_QUANTISE = (Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.TQ1_0, Q.TQ2_0, Q.MXFP4)
# where a block keeps its float16 scale, and its float16 minimum with the mean code that the minimum must cancel
SCALE_AT = {
    Q.Q2_K: 80,
    Q.Q3_K: 108,
    Q.Q4_K: 0,
    Q.Q5_K: 0,
    Q.Q6_K: 208,
    Q.IQ2_XXS: 0,
    Q.IQ2_XS: 0,
    Q.IQ2_S: 0,
    Q.IQ3_XXS: 0,
    Q.IQ3_S: 0,
    Q.IQ1_S: 0,
    Q.IQ4_NL: 0,
    Q.IQ4_XS: 0,
}
MINIMUM_AT = {Q.Q2_K: (82, 1.5), Q.Q4_K: (2, 7.5), Q.Q5_K: (2, 15.5)}
ALL_TYPES = (Q.F32, Q.F16, *CAN_QUANTISE, *SCALE_AT, Q.IQ1_M, Q.NVFP4)


def encode(values: Array, kind: Q, rng: np.random.Generator) -> Array:
    """`values` in `kind`, or, where no quantiser exists, random valid blocks of the same shape and spread."""
    if kind in CAN_QUANTISE:
        return quantize(np.ascontiguousarray(values, np.float32), kind)
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = values.shape
    count = rows * columns // per_block
    raw = rng.integers(0, 256, (count, size), dtype=np.uint8)
    spread = float(values.std())
    if kind == Q.NVFP4:  # four E4M3 scales of about 0.02 to 0.04, then codes
        raw[:, :4] = rng.integers(0x0A, 0x13, (count, 4), dtype=np.uint8)
        return raw.reshape(rows, -1)

    def with_scale(scale: Array) -> Array:
        half = scale.astype(np.float16)
        if kind == Q.IQ1_M:  # the four nibbles of the scale are the high nibbles of four words
            bits = half.view(np.uint16)
            words = raw[:, 48:56].copy().view(np.uint16) & 0x0FFF
            for i in range(4):
                words[:, i] |= ((bits >> (4 * i)) & 0xF) << 12
            raw[:, 48:56] = words.view(np.uint8)
            return raw
        at = SCALE_AT[kind]
        raw[:, at : at + 2] = half.view(np.uint8).reshape(count, 2)
        if kind in MINIMUM_AT:
            at, mean = MINIMUM_AT[kind]
            raw[:, at : at + 2] = (scale * mean).astype(np.float16).view(np.uint8).reshape(count, 2)
        return raw

    unit = dequantize(with_scale(np.full(count, 2.0**-6)), kind).std() * 2.0**6
    signs = np.ones(count) if kind in MINIMUM_AT else rng.choice([-1.0, 1.0], count)
    return with_scale(signs * spread / unit * rng.uniform(0.6, 1.4, count)).copy().reshape(rows, -1)

#!/usr/bin/env python3
"""Makes model files of published shapes with random weights, for measuring speed and memory (needs numpy alone).

    make_models.py [--out .models/bench] [--layers N] [--experts N] [--vocab N] [--seed 7] [--force] SHAPE-TYPE...

SHAPE: qwen1.5b (R1-Distill-Qwen-1.5B), llama8b (R1-Distill-Llama-8B), v2lite (V2-Lite), v3slice (V3's widths with 4 layers, 3 of
them dense as published). TYPE: q4_k_m, q8_0: a GGUF file with the types that llama.cpp's quantiser gives each tensor; bf16, fp8: a
folder as it is published, config.json, safetensors and tokenizer (fp8: E4M3 with a scale a block of 128 x 128).

Shapes, types and metadata are those of the real files, so that an engine does the work that it would do on the real model. The
weights are normal or uniform with spread 1/sqrt(columns), so that activations keep their size and logits are finite; the words of
the vocabulary are made up, as many as published. A tensor depends on the seed and on its name alone. A file is written piece by
piece, under another name until it is whole. A model that is smaller than published (--layers …) says so in its name. llama.cpp
knows V2-Lite by its 27 layers and reads it with no other number.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray
GGUF_TYPES = ("q4_k_m", "q8_0")
FOLDER_TYPES = ("bf16", "fp8")
SPARE_DISK = 4 << 30  # bytes that stay free


class NoRoom(Exception):
    """The disk does not hold the model."""


# --- shapes: what config.json says -----------------------------------------------------------------------------------------

COMMON = {"hidden_act": "silu", "torch_dtype": "bfloat16", "tie_word_embeddings": False}
YARN = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1}
LATENT = COMMON | {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 163840,
    "attention_bias": False,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "moe_layer_freq": 1,
}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen1.5b": COMMON
    | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 131072,
    },
    "llama8b": COMMON
    | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "max_position_embeddings": 131072,
    },
    "v2lite": LATENT
    | {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "vocab_size": 102400,
        "hidden_size": 2048,
        "intermediate_size": 10944,
        "moe_intermediate_size": 1408,
        "num_hidden_layers": 27,
        "first_k_dense_replace": 1,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "q_lora_rank": None,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "n_group": 1,
        "topk_group": 1,
        "topk_method": "greedy",
        "scoring_func": "softmax",
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        "rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
    },
    "v3slice": LATENT
    | {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "vocab_size": 129280,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 4,
        "first_k_dense_replace": 3,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "q_lora_rank": 1536,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "num_nextn_predict_layers": 0,
        "rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
    },
}
# what a GGUF calls the pre-tokenizer; folders have qwen2's pattern, whatever their family
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE = {"qwen2": "qwen2", "llama": "llama-bpe", "deepseek_v2": "deepseek-llm", "deepseek_v3": "deepseek-v3"}


@dataclass(frozen=True)
class Model:
    """One model to make: `name` as on the command line, the config, and whether it is as published."""

    name: str
    config: dict[str, Any]
    kind: str
    seed: int

    @property
    def is_folder(self) -> bool:
        return self.kind in FOLDER_TYPES


def model_of(name: str, layers: int = 0, experts: int = 0, vocab: int = 0, seed: int = 7) -> Model:
    shape, _, kind = name.partition("-")
    if shape not in SHAPES or kind not in GGUF_TYPES + FOLDER_TYPES:
        raise ValueError(
            f"{name} is no SHAPE-TYPE; shapes are {', '.join(SHAPES)}, types {', '.join(GGUF_TYPES)} (GGUF) and "
            f"{', '.join(FOLDER_TYPES)} (a folder)"
        )
    c = dict(SHAPES[shape])
    smaller = ""
    if layers and layers != c["num_hidden_layers"]:
        c["num_hidden_layers"] = layers
        smaller += f"-{layers}layers"
        if "first_k_dense_replace" in c:
            c["first_k_dense_replace"] = min(c["first_k_dense_replace"], layers - 1)
    if experts and experts != c.get("n_routed_experts", experts):
        if experts % c["n_group"] or experts // c["n_group"] * c["topk_group"] < c["num_experts_per_tok"]:
            raise ValueError(
                f"{name}: {experts} experts do not give {c['n_group']} groups of which {c['topk_group']} hold {c['num_experts_per_tok']}"
            )
        c["n_routed_experts"] = experts
        smaller += f"-{experts}experts"
    if vocab and vocab != c["vocab_size"]:
        if vocab < 260:
            raise ValueError(f"a vocabulary holds 256 bytes and two markers; {vocab} are too few")
        c["vocab_size"] = vocab
        smaller += f"-{vocab}words"
    if seed != 7:
        smaller += f"-seed{seed}"
    c["bos_token_id"], c["eos_token_id"] = c["vocab_size"] - 2, c["vocab_size"] - 1
    if kind == "fp8":
        c["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
    return Model(name + smaller, c, kind, seed)


# --- values: the bytes of a tensor -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """`shape` is outermost first; the values have `mean` and `std`."""

    name: str
    shape: tuple[int, ...]
    type: str
    std: float
    mean: float = 0.0

    @property
    def bytes(self) -> int:
        row, size = BLOCKS[self.type]
        return math.prod(self.shape) // row * size


# of each type the values of a block, and its bytes
BLOCKS = {"f32": (1, 4), "bf16": (1, 2), "e4m3": (1, 1), "q8_0": (32, 34), "q5_0": (32, 22), "q4_k": (256, 144), "q6_k": (256, 210)}
GGML_IDS = {"f32": 0, "q5_0": 6, "q8_0": 8, "q4_k": 12, "q6_k": 14, "bf16": 30}
PIECE = 1 << 24  # values made at a time


@functools.cache
def quantiles() -> Array:
    """The standard normal distribution as 65536 equally likely values: a random 16-bit number picks one."""
    normal = NormalDist()
    half = np.array([normal.inv_cdf((i + 0.5) / 65536) for i in range(32768, 65536)])
    return np.concatenate([-half[::-1], half])


def to_bf16(values: Array) -> Array:
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_e4m3(values: Array) -> Array:
    codes = np.arange(127)  # 127 would be NaN
    exponents, fractions = codes >> 3, codes & 7
    positive = np.where(exponents == 0, fractions * 2.0**-9, (8 + fractions) * 2.0 ** (exponents - 10.0))
    nearest = np.searchsorted((positive[1:] + positive[:-1]) / 2, np.abs(values))
    return (nearest | np.where(values < 0, 128, 0)).astype(np.uint8)


E4M3_TOP = 448 / NormalDist().inv_cdf(65535.5 / 65536)  # the spread of E4M3 codes whose largest is 448


@functools.lru_cache(8)
def codes_of(type_: str, std: float, mean: float) -> Array:
    """What each 16-bit random number becomes: the quantiles in `type_`."""
    if type_ == "bf16":
        return to_bf16(quantiles() * std + mean)
    if type_ == "e4m3":
        return to_e4m3(np.clip(quantiles() * E4M3_TOP, -448, 448))
    return np.rint(quantiles() / quantiles()[-1] * 127).astype(np.int8)  # q8_0


def half(value: float) -> Array:
    return np.array([value], np.float16).view(np.uint8)


def blocks(rng: np.random.Generator, t: Tensor, count: int) -> Array:
    """`count` blocks of a quantised type: random codes under constant scales."""
    size = BLOCKS[t.type][1]
    if t.type == "q8_0":
        out = np.empty((count, size), np.uint8)
        out[:, :2] = half(t.std * quantiles()[-1] / 127)
        out[:, 2:] = codes_of("q8_0", 0, 0)[rng.integers(0, 65536, (count, 32), np.uint16)].view(np.uint8)
        return out
    out = rng.integers(0, 256, (count, size), np.uint8)
    if t.type == "q5_0":
        out[:, :2] = half(t.std / 9.23)
    elif t.type == "q4_k":  # eight scales and eight minima of 32 each; the minima cancel the mean code
        out[:, :2], out[:, 2:4] = half(t.std / (32 * 4.61)), half(t.std / (32 * 4.61) * 7.5)
        out[:, 4:16] = [160] * 8 + [0] * 4
    else:  # q6_k
        out[:, 192:208], out[:, 208:] = 16, half(t.std / (16 * 18.47))
    return out


def pieces(t: Tensor, seed: int) -> Iterator[Array]:
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(t.name.encode())]))
    row = BLOCKS[t.type][0]
    left = math.prod(t.shape) // row
    while left > 0:
        count = min(left, PIECE // row)
        left -= count
        if t.type == "f32":
            yield (rng.standard_normal(count, np.float32) * np.float32(t.std) + np.float32(t.mean)).astype("<f4")
        elif row == 1:
            yield codes_of(t.type, t.std, t.mean)[rng.integers(0, 65536, count, np.uint16)]
        else:
            yield blocks(rng, t, count)


def write_values(file: BinaryIO, t: Tensor, seed: int) -> None:
    for piece in pieces(t, seed):
        file.write(piece.tobytes())


# --- tensors: what the weights are called, and in which type they lie ------------------------------------------------------


def more_bits(layer: int, layers: int) -> bool:
    """The layers whose attn_v and ffn_down a Q4_K_M file keeps in the larger type."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


class Tensors:
    """Collects the tensors of a model under the names of its format: of a pair of names the official one, or GGUF's."""

    def __init__(self, model: Model) -> None:
        self.model, self.c, self.list = model, model.config, list[Tensor]()
        self.layer = -1
        self.add_all()

    def prefix(self) -> str:
        if self.layer < 0:
            return ""
        return f"model.layers.{self.layer}." if self.model.is_folder else f"blk.{self.layer}."

    def matrix(self, official: str, gguf: str, *shape: int, large: bool = False, std: float = 0, plain: bool = False) -> None:
        """`large`: of a kind that Q4_K_M keeps in the larger type; `plain`: never quantised."""
        name = self.prefix() + (official if self.model.is_folder else gguf) + ".weight"
        std = std or 1 / math.sqrt(shape[-1])
        kind = self.model.kind
        if kind == "fp8" and not plain:
            self.list.append(Tensor(name, shape, "e4m3", std))
            scale = std / E4M3_TOP
            self.list.append(Tensor(name + "_scale_inv", tuple(-(-n // 128) for n in shape), "f32", scale / 10, scale))
            return
        if self.model.is_folder:
            type_ = "bf16"
        elif plain:
            type_ = "f32"
        elif kind == "q8_0":
            type_ = "q8_0"
        else:
            type_ = "q6_k" if large else "q4_k"
            if shape[-1] % 256:  # columns that no block of 256 fills
                type_ = {"q6_k": "q8_0", "q4_k": "q5_0"}[type_]
        self.list.append(Tensor(name, shape, type_, std))

    def vector(self, official: str, gguf: str, width: int, mean: float, std: float, exact: bool = False) -> None:
        name = self.prefix() + (official if self.model.is_folder else gguf)
        self.list.append(Tensor(name, (width,), "bf16" if self.model.is_folder and not exact else "f32", std, mean))

    def norm(self, official: str, gguf: str, width: int) -> None:
        self.vector(official + ".weight", gguf + ".weight", width, 1, 0.1)

    def add_all(self) -> None:
        c = self.c
        width, vocab = c["hidden_size"], c["vocab_size"]
        folder, large = self.model.is_folder, self.model.kind == "q4_k_m"
        if folder:
            self.list.append(Tensor("model.embed_tokens.weight", (vocab, width), "bf16", 1))
            self.list.append(Tensor("lm_head.weight", (vocab, width), "bf16", 1 / math.sqrt(width)))
        else:
            self.matrix("", "token_embd", vocab, width, std=1)
            self.matrix("", "output", vocab, width, large=large)
        self.norm("model.norm", "output_norm", width)
        for self.layer in range(c["num_hidden_layers"]):
            self.norm("input_layernorm", "attn_norm", width)
            self.norm("post_attention_layernorm", "ffn_norm", width)
            if "kv_lora_rank" in c:
                self.latent_attention()
            else:
                self.grouped_attention()
            if self.layer < c.get("first_k_dense_replace", c["num_hidden_layers"]):
                self.feed_forward("mlp.", "", c["intermediate_size"])
            else:
                self.experts()

    def grouped_attention(self) -> None:
        c = self.c
        width, heads, kv = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
        dim, large = width // heads, more_bits(self.layer, c["num_hidden_layers"])
        for official, gguf, rows in (("q", "attn_q", heads * dim), ("k", "attn_k", kv * dim), ("v", "attn_v", kv * dim)):
            self.matrix(f"self_attn.{official}_proj", gguf, rows, width, large=large and official == "v")
            if c["model_type"] == "qwen2":
                self.vector(f"self_attn.{official}_proj.bias", gguf + ".bias", rows, 0, 0.1)
        self.matrix("self_attn.o_proj", "attn_output", width, heads * dim)

    def latent_attention(self) -> None:
        c = self.c
        width, heads, q_rank, rank = c["hidden_size"], c["num_attention_heads"], c["q_lora_rank"], c["kv_lora_rank"]
        nope, rope, value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        if q_rank:
            self.matrix("self_attn.q_a_proj", "attn_q_a", q_rank, width)
            self.norm("self_attn.q_a_layernorm", "attn_q_a_norm", q_rank)
            self.matrix("self_attn.q_b_proj", "attn_q_b", heads * (nope + rope), q_rank)
        else:
            self.matrix("self_attn.q_proj", "attn_q", heads * (nope + rope), width)
        self.matrix("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", rank + rope, width)
        self.norm("self_attn.kv_a_layernorm", "attn_kv_a_norm", rank)
        if self.model.is_folder:
            self.matrix("self_attn.kv_b_proj", "", heads * (nope + value), rank)
        else:  # two halves, the first transposed
            self.matrix("", "attn_k_b", heads, rank, nope, std=1 / math.sqrt(rank))
            self.matrix("", "attn_v_b", heads, value, rank)
        self.matrix("self_attn.o_proj", "attn_output", width, heads * value)

    def feed_forward(self, official: str, gguf: str, inner: int, several: tuple[int, ...] = ()) -> None:
        """`gguf`: what follows ffn_gate and so on; `several`: a dimension before the others."""
        width, large = self.c["hidden_size"], more_bits(self.layer, self.c["num_hidden_layers"])
        self.matrix(official + "gate_proj", "ffn_gate" + gguf, *several, inner, width)
        self.matrix(official + "up_proj", "ffn_up" + gguf, *several, inner, width)
        self.matrix(official + "down_proj", "ffn_down" + gguf, *several, width, inner, large=large)

    def experts(self) -> None:
        c = self.c
        count, inner = c["n_routed_experts"], c["moe_intermediate_size"]
        self.matrix("mlp.gate", "ffn_gate_inp", count, c["hidden_size"], plain=True)
        if c["topk_method"] == "noaux_tc":
            self.vector("mlp.gate.e_score_correction_bias", "exp_probs_b.bias", count, 0, 0.05, exact=True)
        if self.model.is_folder:
            for e in range(count):
                self.feed_forward(f"mlp.experts.{e}.", "", inner)
        else:
            self.feed_forward("", "_exps", inner, (count,))
        self.feed_forward("mlp.shared_experts.", "_shexp", c["n_shared_experts"] * inner)


# --- vocabulary ------------------------------------------------------------------------------------------------------------


def byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(b if b in plain else next(moved)) for b in range(256)]


def words(count: int) -> tuple[list[str], list[str]]:
    """`count` words and their merges: the bytes, then every word so far with every byte behind it."""
    letters = byte_letters()
    out, merges = list(letters), []
    while len(out) < count:
        left, right = out[(len(out) - 256) // 256], letters[len(out) % 256]
        merges.append(f"{left} {right}")
        out.append(left + right)
    return out, merges


BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"


def write_tokenizer(folder: Path, c: dict[str, Any]) -> None:
    count = c["vocab_size"] - 2
    tokens, merges = words(count)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": count + i, "content": text} | flags for i, text in enumerate((BOS, EOS))],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges},
    }
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(
        folder / "tokenizer_config.json",
        {"add_bos_token": True, "bos_token": BOS, "eos_token": EOS, "tokenizer_class": "LlamaTokenizerFast"},
    )


# --- a published folder ----------------------------------------------------------------------------------------------------

SHARD = 5 << 30
SAFETENSORS_NAMES = {"f32": "F32", "bf16": "BF16", "e4m3": "F8_E4M3"}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def shards_of(tensors: list[Tensor]) -> list[list[Tensor]]:
    shards: list[list[Tensor]] = [[]]
    size = 0
    for t in tensors:
        if shards[-1] and size + t.bytes > SHARD:
            shards.append([])
            size = 0
        shards[-1].append(t)
        size += t.bytes
    return shards


def write_folder(folder: Path, model: Model, tensors: list[Tensor]) -> None:
    folder.mkdir()
    shards = shards_of(tensors)
    places: dict[str, str] = {}
    for number, shard in enumerate(shards):
        file_name = f"model-{number + 1:05d}-of-{len(shards):06d}.safetensors"
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for t in shard:
            header[t.name] = {"dtype": SAFETENSORS_NAMES[t.type], "shape": list(t.shape), "data_offsets": [end, end + t.bytes]}
            end += t.bytes
            places[t.name] = file_name
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file_name).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for t in shard:
                write_values(file, t, model.seed)
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": sum(t.bytes for t in tensors)}, "weight_map": places})
    write_json(folder / "config.json", model.config)
    write_tokenizer(folder, model.config)


# --- a GGUF file -----------------------------------------------------------------------------------------------------------

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
ALIGNMENT = 32


def packed_text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def packed_value(value: Any) -> bytes:
    """A metadata value behind its type."""
    if isinstance(value, bool):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    if isinstance(value, float):
        return struct.pack("<If", F32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + packed_text(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(packed_text, value))
    return struct.pack("<IIQ", ARRAY, I32, len(value)) + np.array(value, "<i4").tobytes()


def latent_metadata(c: dict[str, Any]) -> dict[str, Any]:
    rank, rope, scaling = c["kv_lora_rank"], c["qk_rope_head_dim"], c["rope_scaling"]
    out = {
        "attention.head_count_kv": 1,
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + rope,
        "attention.value_length": rank,
        "attention.key_length_mla": c["qk_nope_head_dim"] + rope,
        "attention.value_length_mla": c["v_head_dim"],
        "rope.dimension_count": rope,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": float(scaling["factor"]),
        "rope.scaling.original_context_length": scaling["original_max_position_embeddings"],
        "rope.scaling.yarn_log_multiplier": 0.1 * scaling["mscale_all_dim"],
        "leading_dense_block_count": c["first_k_dense_replace"],
        "expert_feed_forward_length": c["moe_intermediate_size"],
        "expert_count": c["n_routed_experts"],
        "expert_used_count": c["num_experts_per_tok"],
        "expert_shared_count": c["n_shared_experts"],
        "expert_weights_scale": c["routed_scaling_factor"],
        "expert_weights_norm": c["norm_topk_prob"],
        "expert_gating_func": {"softmax": 1, "sigmoid": 2}[c["scoring_func"]],
    }
    if c["q_lora_rank"]:
        out["attention.q_lora_rank"] = c["q_lora_rank"]
    if c["n_group"] > 1:
        out |= {"expert_group_count": c["n_group"], "expert_group_used_count": c["topk_group"]}
    return out


def metadata(model: Model) -> dict[str, Any]:
    c = model.config
    latent = "kv_lora_rank" in c
    arch = "deepseek2" if latent else c["model_type"]
    own = {
        "vocab_size": c["vocab_size"],
        "context_length": c["max_position_embeddings"],
        "embedding_length": c["hidden_size"],
        "block_count": c["num_hidden_layers"],
        "feed_forward_length": c["intermediate_size"],
        "attention.head_count": c["num_attention_heads"],
        "attention.layer_norm_rms_epsilon": c["rms_norm_eps"],
        "rope.freq_base": c["rope_theta"],
    }
    if latent:
        own |= latent_metadata(c)
    else:
        own |= {"attention.head_count_kv": c["num_key_value_heads"], "rope.dimension_count": c["hidden_size"] // c["num_attention_heads"]}
    tokens, merges = words(c["vocab_size"] - 2)
    return {
        "general.architecture": arch,
        "general.name": model.name + ", random weights",
        "general.file_type": {"q4_k_m": 15, "q8_0": 7}[model.kind],
        **{f"{arch}.{key}": value for key, value in own.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PRE[c["model_type"]],
        "tokenizer.ggml.tokens": [*tokens, BOS, EOS],
        "tokenizer.ggml.token_type": [1] * len(tokens) + [3, 3],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": c["bos_token_id"],
        "tokenizer.ggml.eos_token_id": c["eos_token_id"],
        "tokenizer.ggml.add_bos_token": True,
    }


def write_gguf(path: Path, model: Model, tensors: list[Tensor]) -> None:
    keys = metadata(model)
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)))
        for key, value in keys.items():
            file.write(packed_text(key) + packed_value(value))
        at = 0
        for t in tensors:
            dims = t.shape[::-1]  # innermost first
            file.write(packed_text(t.name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, GGML_IDS[t.type], at))
            at += t.bytes + -t.bytes % ALIGNMENT
        file.write(b"\0" * (-file.tell() % ALIGNMENT))
        for t in tensors:
            write_values(file, t, model.seed)
            file.write(b"\0" * (-t.bytes % ALIGNMENT))


# --- making ----------------------------------------------------------------------------------------------------------------


def path_of(out: Path, model: Model) -> Path:
    return out / (model.name if model.is_folder else model.name + ".gguf")


def size_of(path: Path) -> int:
    return sum(f.stat().st_size for f in path.iterdir()) if path.is_dir() else path.stat().st_size


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make(out: Path, model: Model, force: bool = False) -> Path:
    """The model's path; makes it where it is not there. Raises NoRoom where the disk is too small."""
    path = path_of(out, model)
    if path.exists() and not force:
        return path
    tensors = Tensors(model).list
    needed = sum(t.bytes for t in tensors)
    out.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    remove(unfinished)
    remove(path)
    free = shutil.disk_usage(out).free
    if needed + SPARE_DISK > free:
        raise NoRoom(
            f"{model.name} needs {needed / 1e9:.1f} GB of disk; {free / 1e9:.1f} GB are free, of which {SPARE_DISK / 1e9:.1f} GB stay so"
        )
    (write_folder if model.is_folder else write_gguf)(unfinished, model, tensors)
    unfinished.rename(path)
    return path


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("names", nargs="+", metavar="SHAPE-TYPE")
    a.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / ".models" / "bench")
    a.add_argument("--layers", type=int, default=0, help="another number of layers than published")
    a.add_argument("--experts", type=int, default=0, help="another number of experts")
    a.add_argument("--vocab", type=int, default=0, help="another number of words")
    a.add_argument("--seed", type=int, default=7)
    a.add_argument("--force", action="store_true", help="make again what is there")
    o = a.parse_args()
    try:
        models = [model_of(name, o.layers, o.experts, o.vocab, o.seed) for name in o.names]
    except ValueError as why:
        a.error(str(why))
    for model in models:
        there, start = path_of(o.out, model).exists() and not o.force, time.monotonic()
        try:
            path = make(o.out, model, o.force)
        except NoRoom as why:
            print(f"not made: {why}", file=sys.stderr)
            return 1
        said = "was there already" if there else f"made in {time.monotonic() - start:.0f} s"
        print(f"{path}  {size_of(path) / 1e9:.2f} GB, {said}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

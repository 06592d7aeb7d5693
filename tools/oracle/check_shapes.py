#!/usr/bin/env python3
"""Random valid shapes of every family: the program beside the oracle (oracle venv).

    check_shapes.py BINARY [--families v3,v4,…] [--seed 1] [--count 50] [--minutes 5] [--keep FOLDER] [--ref 0.2]

Each case draws a configuration, weights and a prompt, and compares `hadal logits` (weights and cache float32) with transformers, or with
our double-precision references for MoE-16B and V4.1: KL below 1e-6 at every position; the same bits however the prompt is cut, batched,
reused or threaded; the same greedy ids. A prompt ends before the first choice of experts or entries that the oracle itself finds close.
Cases are numbered: --seed 17 --count 1 repeats number 17 of a family. What fails is kept, with the commands that show it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Q
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "generate"))
import deepseek_v41_reference as r41
import make_golden
import tiny_deepseek
import tiny_models

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
import transformers.models.deepseek_v2.modeling_deepseek_v2 as modeling_v2  # noqa: E402

turn_v2 = modeling_v2.apply_rotary_emb  # which cannot look at odd strides
modeling_v2.apply_rotary_emb = lambda q, k, f: turn_v2(q.contiguous(), k.contiguous(), f)
torch.set_num_threads(1)
EXACT, CLOSE, LEAD = 1e-6, 3e-5, 0.01
Array = np.ndarray


# --- how close the oracle's choices were ------------------------------------------------------------------------------------


class Margins:
    """The smallest relative lead of a choice at each position."""

    def __init__(self) -> None:
        self.rows: Array = np.zeros(0)
        self.skip: tuple[int, int] = (0, 0)  # groups, experts of each: the two best of a group are only added up

    def start(self, n: int) -> None:
        self.rows = np.full(n, np.inf)

    def take(self, values: Array, k: int, zero_ties: bool = False) -> None:
        if not values.size:
            return
        values = values.reshape(-1, values.shape[-1])
        if values.shape[1] <= k or len(values) != len(self.rows):
            return
        top = -np.partition(-values, (k - 1, k), axis=1)
        a, b = top[:, k - 1].astype(np.float64), top[:, k].astype(np.float64)
        fine = ~(b > -1e30)
        with np.errstate(invalid="ignore"):
            gap = np.where(fine | np.isinf(a), np.inf, (a - b) / np.maximum(1, np.abs(a)))
        if zero_ties:
            gap = np.where((a == 0) & (b == 0), np.inf, gap)
        self.rows = np.minimum(self.rows, gap)


margins = Margins()
torch_topk = torch.topk


def watched_topk(x: torch.Tensor, k: int, *a: Any, **kw: Any) -> Any:
    if not (k == 2 and x.dim() == 3 and tuple(x.shape[1:]) == margins.skip):
        margins.take(x.detach().float().numpy(), k)
    return torch_topk(x, k, *a, **kw)


torch.topk = watched_topk
torch.Tensor.topk = watched_topk  # type: ignore[method-assign,assignment]
ref_best = r41.best


def watched_best(score: Array, allowed: Array, k: int) -> tuple[Array, float]:
    margins.take(np.where(allowed, score, -np.inf), k, True)
    return ref_best(score, allowed, k)


r41.best = watched_best


class NumpyOfV1:
    """numpy as reference_v1 sees it: its argsort tells how close the experts were."""

    k = 1

    def __init__(self) -> None:
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def argsort(self, negative: Array, kind: str) -> Array:
        n = len(margins.rows)
        if n and len(negative) > self.k:
            top = np.sort(-negative)[::-1]
            row = self.calls % n
            margins.rows[row] = min(margins.rows[row], top[self.k - 1] - top[self.k])
        self.calls += 1
        return np.argsort(negative, kind=kind)


def oracle_of(tiny: tiny_models.Tiny, saved: Path | None, oracle_config: dict[str, Any] | None) -> Any:
    """ids -> logits; with `saved` also writes the folder as transformers saves it."""
    c = oracle_config or tiny.config
    if tiny.arch == "deepseek":
        tiny_deepseek.np = v1 = NumpyOfV1()
        v1.k = c["num_experts_per_tok"]

        def run_v1(ids: list[int]) -> Array:
            v1.calls = 0
            return tiny_deepseek.reference_v1(tiny, ids)

        return run_v1
    if tiny.arch == "deepseek_v41":
        model = r41.Reference(c["text_config"], tiny.weights, tiny.token_table)
        return lambda ids: model.logits(ids).astype(np.float32)
    config = {k: v for k, v in c.items() if k not in ("quantization_config", "expert_dtype")} | {"torch_dtype": "float32"}
    rope = config.get("rope_scaling")
    if rope and "attn_factor" in rope:
        rope = dict(rope)
        rope["attention_factor"] = rope.pop("attn_factor") * (0.1 * math.log(rope["factor"]) + 1)
        config["rope_scaling"] = rope
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        save_file(
            {n: torch.from_numpy(w).contiguous() for n, w in tiny.weights.items()},
            Path(folder) / "model.safetensors",
            metadata={"format": "pt"},
        )
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True
        )
        model.eval()
        missing = [n for n in info["missing_keys"] if not (n == "lm_head.weight" and c.get("tie_word_embeddings"))]
        assert not missing, f"oracle misses {missing[:4]}"
        if saved:
            model.to(torch.bfloat16).save_pretrained(saved)
            model.to(torch.float32)
            model = transformers.AutoModelForCausalLM.from_pretrained(  # buffers of rope must not stay rounded
                folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
            ).eval()

    @torch.no_grad()
    def run(ids: list[int]) -> Array:
        return model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()

    return run


# --- drawing ------------------------------------------------------------------------------------------------------------------

R = random.Random
ODD = (1, 2, 3, 4, 5, 6)


def pick(r: R, *values: Any) -> Any:
    return r.choice(values)


BIG = False
WHOLE_BLOCKS = False


def width(r: R, low: int, high: int, step: int = 1) -> int:
    """Now and then a multiple of 16 or 32, mostly anything."""
    if BIG:
        high *= 4
    if WHOLE_BLOCKS:
        return 32 * r.randrange(1, 4)
    if r.random() < 0.3:
        return max(16, r.randrange(low, high + 1) // 16 * 16)
    return r.randrange(low, high + 1) // step * step or step


def theta(r: R) -> float:
    return pick(r, 10000.0, 100.0, 500.0, 1000000.0, 12345.0)


def yarn(r: R, mscale: bool) -> dict[str, Any]:
    rope: dict[str, Any] = {
        pick(r, "type", "rope_type"): "yarn",
        "factor": pick(r, 4.0, 2.0, 40.0, 1.5, 8),
        "original_max_position_embeddings": pick(r, 16, 32, 64, 100),
    }
    if r.random() < 0.8:
        rope |= {"beta_fast": pick(r, 2.0, 4.0, 1.5, 32), "beta_slow": pick(r, 0.25, 0.1, 1)}
    if r.random() < 0.15:
        rope["truncate"] = pick(r, False, True)
    if mscale:
        m = pick(r, 1.0, 0.707, 0.5, 1.3)
        kind = r.random()
        if kind < 0.7:
            rope |= {"mscale": m, "mscale_all_dim": m}
        elif kind < 0.8:
            rope |= {"mscale": m, "mscale_all_dim": pick(r, 1.0, 0.4)}
        elif kind < 0.9:
            rope |= {"mscale_all_dim": m}
    elif r.random() < 0.3:
        rope["attention_factor"] = pick(r, 1.0, 0.75, 1.2)
    return rope


def vocab(r: R) -> int:
    return pick(r, 1000, 4097, 2222) if BIG else pick(r, 320, 97, 128, 257, 511, 33, 1000)


def prompt_length(r: R, limit: int, likes: tuple[int, ...] = ()) -> int:
    kind = r.random()
    if kind > 0.97:
        return limit
    if likes and kind < 0.4:
        return min(limit, max(1, pick(r, *likes) + pick(r, -1, 0, 1, 2)))
    if kind < 0.5 and not BIG:
        return r.randrange(1, 12)
    if kind < 0.75:
        return r.randrange(12, min(limit, 100))
    return r.randrange(min(limit - 1, 100), limit)


def dense(r: R) -> dict[str, Any]:
    arch = pick(r, "llama", "qwen2", "qwen3")
    heads = pick(r, 1, 2, 3, 4, 5, 6, 7, 8) if not BIG else pick(r, 7, 12, 16, 21, 33, 40)
    kv = pick(r, *[k for k in range(1, heads + 1) if heads % k == 0])
    dim = pick(r, 2, 4, 6, 8, 10, 14, 16, 20, 24, 32, 40, 64, 66)
    own = arch == "qwen3" or (arch == "llama" and r.random() < 0.5)
    hidden = heads * (r.randrange(1, (480 if BIG else 120) // heads + 1) if own else dim)
    c = make_golden.config(
        arch,
        hidden,
        heads,
        kv,
        width(r, 1, 150),
        layers=r.randrange(1, 5),
        vocab_size=vocab(r),
        rope_theta=theta(r),
        tie_word_embeddings=r.random() < 0.4,
        rms_norm_eps=pick(r, 1e-6, 1e-5, 1e-3),
        bos_token_id=0,
        eos_token_id=1,
    )
    if own:
        c["head_dim"] = dim
    if arch != "qwen2" and r.random() < 0.3:
        c["attention_bias"] = True
    if arch == "llama" and r.random() < 0.2:
        c["mlp_bias"] = True
    kind = r.random()
    if kind < 0.25:
        c["rope_scaling"] = yarn(r, False)
        if r.random() < 0.15:
            c["rope_scaling"].pop("attention_factor", None)
            c["rope_scaling"]["attn_factor"] = pick(r, 0.8782488562869419, 1.0, 0.5)
    elif kind < 0.4:
        c["rope_scaling"] = {pick(r, "type", "rope_type"): "linear", "factor": pick(r, 4.0, 2.0, 1.5)}
    elif kind < 0.55:
        low = pick(r, 1.0, 0.5)
        c["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": pick(r, 8.0, 3.0),
            "low_freq_factor": low,
            "high_freq_factor": low * pick(r, 4.0, 2.0),
            "original_max_position_embeddings": pick(r, 16, 64, 100),
        }
    if "rope_scaling" in c and "attn_factor" not in c["rope_scaling"] and r.random() < 0.4:
        rope = c.pop("rope_scaling")
        if "type" in rope:
            rope["rope_type"] = rope.pop("type")
        c["rope_parameters"] = rope | {"rope_theta": c.pop("rope_theta")}
    if arch != "llama" and r.random() < 0.35:
        c |= {
            "use_sliding_window": True,
            "sliding_window": r.randrange(1, 60),
            "max_window_layers": r.randrange(0, c["num_hidden_layers"] + 1),
        }
        if r.random() < 0.3:
            c["layer_types"] = [pick(r, "full_attention", "sliding_attention") for _ in range(c["num_hidden_layers"])]
    return c


def latent(r: R, kind: str) -> dict[str, Any]:
    """deepseek (v1), v2, v3, v32."""
    heads = pick(r, *ODD) if not BIG else pick(r, 7, 8, 12, 16, 17, 24)
    dim = pick(r, 2, 4, 8, 10, 16, 20)
    if WHOLE_BLOCKS:
        heads = pick(r, 1, 2, 4)
        dim = 32
    hidden = (
        32 * heads * r.randrange(1, 3)
        if WHOLE_BLOCKS and kind != "deepseek"
        else heads * (dim if kind == "deepseek" else r.randrange(1 if heads > 2 else 5, (400 if BIG else 100) // heads))
    )
    layers = r.randrange(1, 5)
    groups = 1 if kind == "deepseek" or r.random() < 0.4 else pick(r, 2, 3, 4, 5)
    each = r.randrange(2, 20 if BIG else 7) if groups > 1 else r.randrange(2, 80 if BIG else 20)
    kept = r.randrange(1, groups + 1)
    c = make_golden.deepseek(
        kind,
        hidden,
        heads,
        vocab_size=vocab(r),
        intermediate_size=width(r, 1, 120),
        moe_intermediate_size=width(r, 1, 70),
        num_hidden_layers=layers,
        n_routed_experts=groups * each,
        n_shared_experts=r.randrange(1, 4),
        num_experts_per_tok=r.randrange(1, kept * each + 1 if r.random() < 0.3 else min(7, kept * each) + 1),
        first_k_dense_replace=r.randrange(0, layers + 1) if r.random() < 0.7 else 1,
        routed_scaling_factor=pick(r, 1.0, 2.5, 16.0, 0.7),
        rope_theta=theta(r),
        rms_norm_eps=pick(r, 1e-6, 1e-5, 1e-3),
        bos_token_id=0,
        eos_token_id=1,
    )
    if kind == "deepseek":
        c |= {"norm_topk_prob": r.random() < 0.5, "moe_layer_freq": pick(r, 1, 1, 2)}
        return c
    c |= {
        "kv_lora_rank": width(r, 1, 70),
        "qk_nope_head_dim": width(r, 1, 40),
        "qk_rope_head_dim": pick(r, 2, 4, 6, 8, 10, 16, 32, 64),
        "v_head_dim": width(r, 1, 40),
        "q_lora_rank": width(r, 1, 60) if kind == "deepseek_v32" or r.random() < 0.6 else None,
        "n_group": groups,
        "topk_group": kept,
    }
    if r.random() < 0.6:
        c["rope_scaling"] = yarn(r, True)
    if kind == "deepseek_v2":
        c["topk_method"] = "group_limited_greedy" if groups > 1 else pick(r, "greedy", "greedy", "group_limited_greedy")
    else:
        c |= {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": r.random() < 0.75}
        if r.random() < 0.4:
            c["num_nextn_predict_layers"] = pick(r, 1, 1, 2)
        if kind == "deepseek_v3" and r.random() < 0.15:
            c["rope_interleave"] = pick(r, True, False)
    if r.random() < 0.15 and kind != "deepseek_v32":
        c["tie_word_embeddings"] = True
        c.pop("num_nextn_predict_layers", None)
    if kind == "deepseek_v32":
        many = r.random() < 0.75
        c |= {
            "index_n_heads": pick(r, 16, 17, 24, 32) if many else pick(r, 1, 3, 5),
            "index_head_dim": c["qk_rope_head_dim"] + r.randrange(0, 30),
            "index_topk": pick(r, 1, 2, 3, 7, 8, 16, 17, 33, 64, 100) if many else pick(r, 64, 200, 2048),
        }
    if "rope_scaling" in c and r.random() < 0.25:
        rope = c.pop("rope_scaling")
        if "type" in rope:
            rope["rope_type"] = rope.pop("type")
        c["rope_parameters"] = rope | {"rope_theta": c.pop("rope_theta")}
    return c


def shared_kv(r: R, quantised: bool) -> dict[str, Any]:
    """What V4 and V4.1 have in common."""
    heads = pick(r, 1, 2, 3, 4, 5, 6, 8) if not BIG else pick(r, 6, 8, 12, 16, 32)
    while True:
        dim, rope = width(r, 2, 60), pick(r, 2, 4, 6, 8, 16, 32)
        if rope <= dim and int(dim * (rope / dim)) == rope:
            break
    experts = r.randrange(2, 40 if BIG else 12)
    many = r.random() < 0.8
    c = {
        "hidden_size": 32 * r.randrange(1, 10 if BIG else 4) if quantised else width(r, 5, 90),
        "num_attention_heads": heads,
        "head_dim": dim,
        "qk_rope_head_dim": rope,
        "q_lora_rank": width(r, 1, 60),
        "o_groups": pick(r, *[g for g in range(1, heads + 1) if heads % g == 0]),
        "o_lora_rank": width(r, 1, 30),
        "sliding_window": r.randrange(1, 41) if r.random() < 0.85 else pick(r, 64, 127, 128, 129, 200),
        "rope_theta": theta(r),
        "compress_rope_theta": pick(r, 160000.0, 1000.0, 10000.0),
        "index_n_heads": pick(r, 16, 17, 20, 32) if many else pick(r, 1, 3, 5),
        "index_head_dim": rope + r.randrange(0, 30),
        "index_topk": r.randrange(1, 40) if many else pick(r, 80, 128, 512),
        "hc_mult": pick(r, 1, 2, 3, 4, 4),
        "hc_sinkhorn_iters": pick(r, 1, 2, 6, 20),
        "hc_eps": pick(r, 1e-6, 1e-6, 1e-3),
        "n_routed_experts": experts,
        "num_experts_per_tok": r.randrange(1, min(7, experts) + 1),
        "moe_intermediate_size": 32 * r.randrange(1, 3) if quantised else width(r, 1, 50),
        "routed_scaling_factor": pick(r, 1.5, 2.5, 1.0),
        "swiglu_limit": pick(r, 0.3, 1.5, 10.0),
        "vocab_size": vocab(r),
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    kind = r.random()
    c["rope_scaling"] = None
    if kind < 0.8:
        c["rope_scaling"] = {
            pick(r, "type", "rope_type"): "yarn",
            "factor": pick(r, 4.0, 16, 2.0),
            "original_max_position_embeddings": pick(r, 16, 64, 100),
            "beta_fast": pick(r, 2, 4, 32),
            "beta_slow": pick(r, 0.25, 0.1, 1),
        }
    return c


LAYER_TYPES = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


def v4(r: R, quantised: bool) -> dict[str, Any]:
    c = dict(make_golden.V4) | shared_kv(r, quantised)
    layers = r.randrange(1, 6)
    kinds = pick(r, (0, 4, 128), (0, 4, 128), (4,), (128,), (0,), (4, 128), (0, 4), (0, 128))
    ratios = [pick(r, *kinds) for _ in range(layers)]
    mtp = pick(r, 0, 1, 1, 2)
    c |= {
        "num_hidden_layers": layers,
        "compress_ratios": ratios + [0] * mtp,
        "num_nextn_predict_layers": mtp,
        "num_hash_layers": r.randrange(0, layers + 1) if r.random() < 0.6 else 1,
        "rms_norm_eps": pick(r, 1e-6, 1e-5, 1e-3),
    }
    if c["rope_scaling"] is None:
        del c["rope_scaling"]
    return c


def v4_forms(r: R, c: dict[str, Any]) -> dict[str, Any]:
    """The same configuration as newer files have it."""
    c = dict(c)
    layers = c["num_hidden_layers"]
    if r.random() < 0.5:
        c["layer_types"] = [LAYER_TYPES[x] for x in c.pop("compress_ratios")[:layers]]
    if r.random() < 0.5:
        hashed = min(layers, c.pop("num_hash_layers"))
        c["mlp_layer_types"] = ["hash_moe"] * hashed + ["moe"] * (layers - hashed)
    if r.random() < 0.5:
        c["partial_rotary_factor"] = c["qk_rope_head_dim"] / c["head_dim"]
        if r.random() < 0.6:
            del c["qk_rope_head_dim"]
    if r.random() < 0.6:
        rope = dict(c.pop("rope_scaling", None) or {"rope_type": "default"})
        if "type" in rope:
            rope["rope_type"] = rope.pop("type")
        part = make_golden_part(c)
        if rope["rope_type"] == "yarn":
            rope["attention_factor"] = 1.0
        c["rope_parameters"] = {
            "main": {"rope_type": "default", "rope_theta": c.pop("rope_theta"), "partial_rotary_factor": part},
            "compress": rope | {"rope_theta": c.pop("compress_rope_theta"), "partial_rotary_factor": part},
        }
    return c


def make_golden_part(c: dict[str, Any]) -> float:
    return c.get("partial_rotary_factor") or c["qk_rope_head_dim"] / c["head_dim"]


def v41(r: R, quantised: bool) -> tuple[dict[str, Any], Any]:
    text = dict(make_golden.V41_TEXT) | shared_kv(r, quantised)
    layers = r.randrange(1, 9)
    tail = min(layers - 1, pick(r, 0, 1, 2, 3, 4))
    last = layers - 1 - tail
    sources = sorted({last, *(i for i in range(last) if r.random() < 0.35)})
    ratios, now = [], 0
    for i in range(layers):
        if i in sources:
            now = pick(r, 1, 2, 4, 8, 1, 2, 2, 1, 16, 128 if r.random() < 0.3 else 2)
        ratios.append(now if i in sources or (now and r.random() < 0.8) else 0)
    able = [i for i in range(layers) if ratios[i]]
    choosers = sorted({*sources, *(i for i in able if r.random() < 0.5)})
    candidates = [i for i in choosers if i >= last]
    blocks = pick(r, -1, *candidates, *candidates)
    topk = text["index_topk"]
    text |= {
        "num_hidden_layers": layers,
        "compress_ratios": ratios + [0] * pick(r, 0, 0, 3),
        "kv_source_layer_ids": sources,
        "index_source_layer_ids": choosers,
        "candidate_source_layer_id": blocks,
        "candidate_topk_blocks": max(1, pick(r, topk - 1, topk, topk + 1, topk + 5, topk // 2, 1, 2, 3, 2048)),
        "candidate_block_size": pick(r, 1, 2, 3, 4, 5, 8, 16, 500),
        "num_nextn_predict_layers": 0,
        "rms_norm_eps": pick(r, 1e-20, 1e-20, 1e-6),
        "n_shared_experts": pick(r, 1, 1, 2),
    }
    count = pick(r, 0, 1, 1, 2, 2, 3)
    engram = sorted(r.sample(range(layers), min(count, layers)))
    if engram and r.random() < 0.3:
        engram[0] = 0
    text |= {
        "engram_layer_ids": engram,
        "engram_vocab_size": pick(r, 2, 13, 61, 97, 200),
        "engram_max_ngram_size": r.randrange(2, 6),
        "engram_n_heads": r.randrange(1, 5),
        "engram_head_dim": width(r, 1, 40),
        "engram_pad_id": r.randrange(0, 320),
    }
    tokenizer = None
    if engram:
        tokenizer = pick(r, make_golden.tokenizer, make_golden.tokenizer_v41)()
        text |= {"vocab_size": pick(r, 320, 320, 337), "engram_compressed_vocab_size": max(r41.token_table(tokenizer)) + 1}
    c = make_golden.deepseek_v41(None, **text)
    return c, tokenizer


# --- other stored forms -------------------------------------------------------------------------------------------------------


def to_fp8(tiny: tiny_models.Tiny, high: int, wide: int, scale_type: torch.dtype) -> None:
    """As tiny_models.to_fp8, any block, and kv_a_proj_with_mqa and the indexer's matrices as well."""
    for name in list(tiny.weights):
        if not name.endswith(("_proj.weight", "_with_mqa.weight", "indexer.wq_b.weight", "indexer.wk.weight")) or "weights_proj" in name:
            continue
        weight = torch.from_numpy(tiny.weights[name])
        rows, columns = weight.shape
        quantised, decoded = torch.empty(rows, columns, dtype=torch.float8_e4m3fn), torch.empty_like(weight)
        scales = torch.empty(-(-rows // high), -(-columns // wide), dtype=torch.float32)
        for r in range(scales.shape[0]):
            for c in range(scales.shape[1]):
                block = (slice(high * r, high * (r + 1)), slice(wide * c, wide * (c + 1)))
                top = weight[block].abs().max().clamp(min=2.0**-20)
                scale = (
                    torch.exp2(torch.ceil(torch.log2(top / 448)))
                    if scale_type == torch.float8_e8m0fnu
                    else (top / 448).to(scale_type).float()
                )
                scales[r, c] = scale
                quantised[block] = (weight[block] / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
                decoded[block] = quantised[block].float() * scale
        tiny.weights[name], tiny.stored[name] = decoded.numpy(), quantised
        tiny.stored[name + "_scale_inv"] = (
            tiny_deepseek.e8m0(scales.numpy()) if scale_type == torch.float8_e8m0fnu else scales.to(scale_type)
        )
    tiny.config["quantization_config"] = {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [high, wide],
    }


def to_v4_fp8(tiny: tiny_models.Tiny, high: int, wide: int) -> None:
    """V4-Base: everything large in FP8."""
    dense_names = ("wq_a", "wq_b", "wkv", "wo_a", "wo_b", "w1", "w2", "w3")
    for name in list(tiny.weights):
        stem = name.removesuffix(".weight")
        if stem != name and stem.split(".")[-1] in dense_names and ".compressor." not in name:
            tiny_deepseek.blocks_to_fp8(tiny, name, high, wide)
    tiny.config["quantization_config"] = {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "scale_fmt": "ue8m0",
        "weight_block_size": [high, wide],
    }


# --- one case -----------------------------------------------------------------------------------------------------------------

FAMILIES = ("dense", "v1", "v2", "v3", "v32", "v4", "v41")
KINDS = {"v1": "deepseek", "v2": "deepseek_v2", "v3": "deepseek_v3", "v32": "deepseek_v32"}
FORMS = ("plain", "plain", "plain", "fp8", "gguf", "gguf", "saved", "quant")


class Case:
    def __init__(self, family: str, number: int, folder: Path, only_form: str = "") -> None:
        self.name, self.family, self.folder = f"{family}-{'big' if BIG else ''}{number}", family, folder
        r = self.r = random.Random(f"{family} {'big' if BIG else ''}{number}")
        self.model = folder / "model"
        self.form = only_form or pick(r, *FORMS)
        self.limit = 700 if BIG else 300 if family in ("v4", "v41") else 200
        self.likes: tuple[int, ...] = ()
        self.tokens = 0
        self.notes = ""
        self.mtp: Any = None
        oracle_config = None
        global WHOLE_BLOCKS
        WHOLE_BLOCKS = self.form == "quant" and family not in ("dense", "v41")
        if self.form == "quant" and not WHOLE_BLOCKS:
            self.form = "gguf" if family == "dense" else "plain"
        c, tiny, tokenizer = self.draw(number)
        self.set_limits(tiny, c)
        if self.form in ("gguf", "quant") and not self.gguf_holds(c):
            self.form = "plain"
        kind = pick(r, Q.F16, Q.BF16, Q.F32)
        if self.form == "quant":
            kind = pick(r, Q.Q8_0, Q.Q4_0, Q.Q5_0, Q.MXFP4)
            self.notes = kind.name
            self.round_to(tiny, kind)
        if self.form == "saved" and family in ("v1", "v41"):
            self.form = "plain"
        if self.form == "saved" and "attn_factor" in (c.get("rope_scaling") or {}):
            self.form = "plain"
        self.tiny = tiny
        if self.form == "fp8":
            self.quantise(r, tiny)
        saved = self.model if self.form == "saved" else None
        if saved and r.random() < 0.4:  # as one makes it of the configuration class: without what transformers takes for granted
            self.notes = "class"
            for key in ("scoring_func", "moe_layer_freq", "torch_dtype", "hidden_act", "topk_method", "n_shared_experts"):
                if not (key == "topk_method" and family == "v2") and not (
                    key == "n_shared_experts" and c.get(key) != {"v2": 2}.get(family, 1)
                ):
                    tiny.config.pop(key, None)
        if family == "v4" and self.form in ("plain", "fp8"):
            forms = v4_forms(r, tiny.config)
            oracle_config = dict(tiny.config)
            tiny.config.clear()
            tiny.config.update(forms)
            if r.random() < 0.4:  # tensors of MTP, known and unused
                tiny.stored["mtp.0.attn_norm.weight"] = (
                    torch.ones(c["hidden_size"], dtype=torch.bfloat16) if "hidden_size" in c else torch.ones(4)
                )
            # the oracle reads the new form as well
            oracle_config = dict(forms)
        if family == "v41":
            self.leave_out(r)
            oracle_config = c
        if family == "v41" and c["text_config"]["engram_layer_ids"]:
            tiny.token_table = r41.token_table(tokenizer)
        self.oracle = oracle_of(tiny, saved, oracle_config)
        if family == "v3" and tiny.config.get("num_nextn_predict_layers") and self.form not in ("gguf", "saved", "quant"):
            plain = tiny_models.Tiny({k: v for k, v in tiny.config.items() if k != "quantization_config"}, tiny.weights)
            self.mtp = lambda ids: tiny_deepseek.mtp_oracle(plain)(ids)
        self.save(tiny, c, kind)
        if family == "v41" and c["text_config"]["engram_layer_ids"]:
            make_golden.save_tokenizer(self.model, tokenizer)
        text = c.get("text_config", c)
        self.vocab = min(text["vocab_size"], 300) if family == "v41" else text["vocab_size"]

    def draw(self, number: int) -> tuple[dict[str, Any], tiny_models.Tiny, Any]:
        """A configuration, weights for it and, where the family hashes a vocabulary, a tokenizer."""
        r, family, tokenizer = self.r, self.family, None
        if family == "dense":
            c = dense(r)
            tiny = tiny_models.random_weights(c, number)
        elif family == "v4":
            c = v4(r, self.form == "fp8" and r.random() < 0.7)
            tiny = tiny_deepseek.random_weights(c, number)
            self.likes = (128, 256, c["sliding_window"], 4 * c["index_topk"], 4)
        elif family == "v41":
            quantised = self.form == "fp8"
            c, tokenizer = v41(r, quantised)
            tiny = tiny_deepseek.random_weights(c, number)
            text = c["text_config"]
            self.likes = (128, 256, text["sliding_window"], max(text["compress_ratios"]) * text["index_topk"])
        else:
            c = latent(r, KINDS[family])
            tiny = tiny_deepseek.random_weights(c, number)
            self.likes = (c.get("index_topk", 64), 64, 128)
            if c["tie_word_embeddings"]:
                tiny.weights["model.embed_tokens.weight"] = tiny_models.exact(
                    tiny.weights["model.embed_tokens.weight"] * 2 / math.sqrt(c["hidden_size"])
                )
                del tiny.weights["lm_head.weight"]
        return c, tiny, tokenizer

    def set_limits(self, tiny: tiny_models.Tiny, c: dict[str, Any]) -> None:
        """How long a prompt may be, in the configuration as well."""
        r, family = self.r, self.family
        margins.skip = (0, 0)
        if c.get("topk_method") == "noaux_tc" and "n_group" in c:
            margins.skip = (c["n_group"], c["n_routed_experts"] // c["n_group"])
        if not BIG:
            self.limit = min(self.limit, c.get("max_position_embeddings", 512))
        tiny.config["max_position_embeddings"] = c["max_position_embeddings"] = (
            1024 if BIG else pick(r, 512, 512, self.limit) if family != "v41" else 512
        )
        if family == "v41":
            c.pop("max_position_embeddings")
            c["text_config"]["max_position_embeddings"] = 1024 if BIG else 512

    def save(self, tiny: tiny_models.Tiny, c: dict[str, Any], kind: Q) -> None:
        """Writes the model, unless transformers has done so."""
        r, family = self.r, self.family
        if self.form in ("gguf", "quant"):
            self.model = self.folder / "model.gguf"
            if family == "v4":
                tiny_deepseek.save_v4_gguf(tiny, self.model, kind)
            elif family == "dense":
                tiny_models.save_gguf(tiny, self.model, lambda n: r.choice((Q.F16, Q.BF16, Q.F32)))
            else:
                old = family == "v2" and c["q_lora_rank"] is None and r.random() < 0.4 and self.form != "quant"
                tiny_deepseek.save_gguf(tiny, self.model, kind, old)
        elif self.form != "saved":
            if r.random() < 0.3:
                self.mix_types(r, tiny)
            tiny_models.save_folder(tiny, self.model, shards=pick(r, 1, 1, 2))

    def round_to(self, tiny: tiny_models.Tiny, kind: Q) -> None:
        """The weights as a GGUF in this type holds them; each must survive another rounding."""

        def rounded(x: Array) -> Array:
            x = np.ascontiguousarray(x, np.float32)
            once = tiny_models.dequantize(tiny_models.quantize(x, kind), kind).astype(np.float32).reshape(x.shape)
            again = tiny_models.dequantize(tiny_models.quantize(once, kind), kind).astype(np.float32).reshape(x.shape)
            if not np.array_equal(once, again):
                raise Skip(f"{kind.name} does not keep what it made")
            return once

        c = tiny.config
        for name, value in tiny.weights.items():
            if value.ndim == 1 or value.dtype.kind == "i" or name.endswith(("mlp.gate.weight", "ffn.gate.weight", ".ape")) or "hc_" in name:
                continue
            if name.endswith("kv_b_proj.weight"):
                halves = value.reshape(c["num_attention_heads"], c["qk_nope_head_dim"] + c["v_head_dim"], -1).copy()
                nope = c["qk_nope_head_dim"]
                halves[:, :nope] = rounded(halves[:, :nope].swapaxes(1, 2)).swapaxes(1, 2)
                halves[:, nope:] = rounded(halves[:, nope:])
                tiny.weights[name] = halves.reshape(value.shape)
            elif self.family == "v1" and name.endswith(("q_proj.weight", "k_proj.weight")):
                tiny.weights[name] = rounded(value)  # rows are permuted, blocks lie within rows
            else:
                tiny.weights[name] = rounded(value)

    def mix_types(self, r: R, tiny: tiny_models.Tiny) -> None:
        """Each tensor as BF16, F16 or F32, which all hold it exactly; the experts of a bank alike."""
        self.notes = (self.notes + " mixed").strip()
        bank: dict[str, torch.dtype] = {}
        for name, value in tiny.weights.items():
            if name.endswith("tid2eid"):
                tiny.stored[name] = torch.from_numpy(value).to(pick(r, torch.int32, torch.int64))
            elif name not in tiny.stored:
                parts = name.split(".")
                group = ".".join("E" if i and parts[i - 1] == "experts" else part for i, part in enumerate(parts))
                dtype = bank.setdefault(group, pick(r, torch.bfloat16, torch.float16, torch.float32))
                tiny.stored[name] = torch.from_numpy(value).to(dtype)

    def leave_out(self, r: R) -> None:
        """Keys of V4.1 whose value is the one that they have when missing."""
        text = dict(self.tiny.config["text_config"])
        n, ratios, sources = text["num_hidden_layers"], text["compress_ratios"], text["kv_source_layer_ids"]
        runs = [i for i in range(n) if ratios[i] and (i == 0 or ratios[i - 1] != ratios[i])]
        for key, value in (("candidate_source_layer_id", sources[-1]), ("index_source_layer_ids", sources), ("kv_source_layer_ids", runs)):
            if text[key] == value and r.random() < 0.4:
                del text[key]
        if "image_token_id" in self.tiny.config and r.random() < 0.2:
            self.tiny.config.pop("image_token_id")
        self.tiny.config = self.tiny.config | {"text_config": text}

    def gguf_holds(self, c: dict[str, Any]) -> bool:
        if self.family == "v41":
            return False
        if self.family == "v4":
            return "rope_scaling" in c
        rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type"))
        if self.family == "dense":
            if c.get("use_sliding_window") or (kind == "llama3" and c["model_type"] != "llama"):
                return False
            if c.get("attention_bias") or c.get("mlp_bias"):
                return False
            if c["model_type"] == "qwen2" and (c.get("head_dim")):
                return False
            return kind != "yarn" or not {"beta_fast", "attention_factor", "truncate"} & set(rope)
        if c.get("moe_layer_freq", 1) > 1 or c["tie_word_embeddings"] or c.get("rope_interleave") is False:
            return False
        if self.family == "v1" and (c["norm_topk_prob"] or c["routed_scaling_factor"] != 1):
            return False
        if self.family == "v2" and c["topk_method"] == "group_limited_greedy" and c["n_group"] == 1:
            return False
        if kind == "yarn":
            return "truncate" not in rope and "mscale" in rope and rope["mscale"] == rope.get("mscale_all_dim")
        return True

    def quantise(self, r: R, tiny: tiny_models.Tiny) -> None:
        high, wide = pick(r, (128, 128), (128, 128), (64, 64), (32, 32), (16, 48), (1, 32), (7, 5), (48, 16))
        self.notes = f"fp8 {high}x{wide}"
        if self.family == "v41":
            tiny_deepseek.to_v41_formats(tiny)
        elif self.family == "v4":
            if tiny.config["hidden_size"] % 32 == 0 and tiny.config["moe_intermediate_size"] % 32 == 0 and r.random() < 0.8:
                tiny_deepseek.to_v4_formats(tiny, pick(r, 128, 64, 32, 48))
            else:
                to_v4_fp8(tiny, high, wide)
        else:
            to_fp8(tiny, high, wide, pick(r, torch.float32, torch.float32, torch.bfloat16, torch.float8_e8m0fnu))

    def draw_prompt(self) -> tuple[list[int], Array, float]:
        """Of a few prompts the one with the longest part before a close choice."""
        best: tuple[list[int], Array, float] | None = None
        for _ in range(3):
            want = prompt_length(self.r, self.limit, self.likes)
            ids = [self.r.randrange(self.vocab) for _ in range(want)]
            margins.start(len(ids))
            logits = self.oracle(ids)
            close = np.flatnonzero(~(margins.rows > CLOSE))
            n = int(close[0]) if len(close) else len(ids)
            if n and (best is None or n > len(best[0])):
                best = ids[:n], logits[:n], float(margins.rows[:n].min())
            if best and n == want:
                break
        if not best:
            raise Skip("every prompt begins with a close choice")
        return best

    def greedy(self, ids: list[int], row: Array, most: int) -> list[int]:
        out: list[int] = []
        while len(out) < most and len(ids) + len(out) < self.limit:
            top = np.sort(row)[-2:]
            if not top[1] - top[0] > LEAD:
                break
            out.append(int(row.argmax()))
            if self.family == "v41" and out[-1] >= self.vocab:
                out.pop()
                break
            if len(out) < most:
                margins.start(len(ids) + len(out))
                row = self.oracle(ids + out)[-1]
                if not margins.rows.min() > CLOSE:
                    break
        return out


class Skip(Exception):
    pass


def kls(a: Array, b: Array) -> Array:
    if a.shape != b.shape or not np.isfinite(b).all():
        return np.full(len(a), np.inf)
    a, b = a.astype(np.float64), b.astype(np.float64)
    la = a - a.max(-1, keepdims=True)
    la -= np.log(np.exp(la).sum(-1, keepdims=True))
    lb = b - b.max(-1, keepdims=True)
    lb -= np.log(np.exp(lb).sum(-1, keepdims=True))
    return (np.exp(la) * (la - lb)).sum(-1)


def call(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=300)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return done.stdout.strip()


class Comparison:
    """The program on one case: its rows beside the oracle's and beside one another. What is wrong is gathered in `faults`."""

    def __init__(self, binary: str, case: Case) -> None:
        self.binary, self.case, self.out = binary, case, case.folder / "out.npy"
        self.ids, self.logits, closest = case.draw_prompt()
        self.n = len(self.ids)
        self.types = ["--weights", "f32", "--kv-cache-dtype", "f32"]
        self.faults: list[str] = []
        self.repeat: dict[str, Any] = {"ids": self.ids, "form": case.form, "notes": case.notes, "closest": closest, "commands": []}

    def call(self, *options: str) -> str:
        text = ",".join(map(str, self.ids))
        command = [self.binary, options[0], str(self.case.model), "--ids", text, *options[1:], *self.types]
        self.repeat["commands"].append(" ".join(command).replace(text, "IDS"))
        return call(command)

    def rows(self, *options: str, chip: str = "cpu") -> bytes | None:
        self.out.unlink(missing_ok=True)
        try:
            self.call("logits", "--out", str(self.out), "--chip", chip, *options)
        except (RuntimeError, subprocess.TimeoutExpired) as why:
            self.faults.append(f"{chip} {' '.join(options)}: {why}")
            return None
        data = self.out.read_bytes()
        return data[10 + int.from_bytes(data[8:10], "little") :]

    def kl(self) -> Array:
        """At each position, from the oracle's rows to those written last."""
        return kls(self.logits, np.load(self.out))

    def exact(self, what: str, found: Array) -> bool:
        if found.max() < EXACT:
            return True
        where = int(np.flatnonzero(~(found < EXACT))[0])
        self.faults.append(f"{what}KL {found.max():.1e}, first at position {where} of {self.n}")
        return False

    def same_bits(self, what: str, base: bytes | None, options: list[tuple[str, ...]]) -> None:
        for o in options:
            found = self.rows(*o)
            if base is None or found is None:
                continue
            if found != (base if "--from" not in o else base[len(base) // self.n * int(o[o.index("--from") + 1]) :]):
                self.faults.append(f"{what}{' '.join(o)} gives other bits")

    def cuts(self) -> list[tuple[str, ...]]:
        """Ways to run the same prompt."""
        r, n = self.case.r, self.n
        options: list[tuple[str, ...]] = [
            ("--chunk", "1"),
            ("--chunk", "7"),
            ("--batch", "8"),
            ("--threads", "1"),
            ("--threads", "3"),
            ("--chunk", "3,5,1,17,2,16,31,33"),
            ("--batch", "8", "--threads", "3", "--chunk", "7"),
            ("--eager",),
            ("--from", str(n - 1)),
            ("--from", str(max(0, n - r.randrange(1, 6))), "--chunk", str(r.randrange(1, 20))),
        ]
        options = r.sample(options, 5)
        unit = 128 if self.case.family in ("v4", "v41") else 64
        if n > unit:
            k = r.randrange(unit, n)
            options += [("--reuse", str(k)), ("--reuse", str(k), "--from", str(r.randrange(max(0, n - 5), n)))]
            if n > 130 and k != 130:
                options += [("--reuse", "130", "--from", str(n - 2)), ("--reuse", "130", "--chunk", "9")]
            if n > 256:
                options += [("--reuse", str(r.randrange(256, n)), "--from", str(n - 1))]
        return options

    def native(self, options: list[tuple[str, ...]]) -> None:
        """The weights as they are: exact where the file keeps them so, near where it does not."""
        r, case = self.case.r, self.case
        self.types[1] = "native"
        base = self.rows()
        if base is not None:
            found = self.kl()
            kept_exact = case.form not in ("fp8", "quant")
            bound = 5e-3 if case.form == "fp8" else 5e-2
            if not kept_exact and not found.mean() < bound and self.rows("--kernels", "int8", chip="ref") is not None:
                bound = max(bound, 2 * float(self.kl().mean()))  # a choice may turn on rounding
            if not (found.max() < EXACT if kept_exact else found.mean() < bound):
                self.faults.append(f"native: KL max {found.max():.1e} mean {found.mean():.1e}")
            self.same_bits("native ", base, r.sample(options, 2))
        if self.n <= 150 and r.random() < 0.5 and self.rows(chip="ref") is not None:
            self.exact("ref native: ", self.kl())
        self.types[1] = "f32"

    def drafts(self) -> None:
        r, n = self.case.r, self.n
        expected = self.case.mtp(self.ids)
        whole = self.rows("--mtp")
        if whole is None:
            return
        if not self.exact("--mtp: ", kls(expected, np.load(self.out))):
            np.save(self.case.folder / "oracle_mtp.npy", expected)
        for o in (("--chunk", "7"), ("--batch", "8"), ("--reuse", str(r.randrange(64, n)) if n > 65 else "0")):
            if self.rows("--mtp", *o) not in (None, whole):
                self.faults.append(f"--mtp {' '.join(o)} gives other bits")

    def greedy(self) -> None:
        expected = self.case.greedy(self.ids, self.logits[-1], 4)
        if not expected:
            return
        self.repeat["greedy"] = expected
        try:
            said = self.call("generate", "--max-new", str(len(expected)), "--greedy", "--ignore-eos", "--print-ids", "--chip", "cpu")
            if said != ",".join(map(str, expected)):
                self.faults.append(f"greedy ids {said[:60]}, expected {expected}")
        except (RuntimeError, subprocess.TimeoutExpired) as why:
            self.faults.append(f"generate: {why}")

    def run(self, ref_part: float) -> float:
        """The largest KL on float32; NaN where the program gave no rows."""
        r = self.case.r
        base = self.rows()
        if base is None:
            return math.nan
        found = self.kl()
        if not self.exact("", found):
            np.save(self.case.folder / "oracle.npy", self.logits)
        options = self.cuts()
        self.same_bits("", base, options)
        if r.random() < 0.3:
            self.native(options)
        if r.random() < 0.15:
            kept, self.types = self.types, []
            self.same_bits("by default ", self.rows(), r.sample(options, 3))
            self.types = kept
        if r.random() < ref_part and self.n <= 150 and self.rows(chip="ref") is not None:
            self.exact("ref: ", self.kl())
        if self.case.mtp and self.n > 1:
            self.drafts()
        self.greedy()
        return float(found.max())


def run(binary: str, case: Case, ref_part: float) -> tuple[str, list[str], dict[str, Any]]:
    """One line, what is wrong, and what repeats it."""
    c = Comparison(binary, case)
    worst = c.run(ref_part)
    line = f"{case.name:12} {case.form:6} {case.notes:12} {c.n:4} tokens  closest {c.repeat['closest']:8.1e}  KL {worst:8.1e}"
    return line, c.faults, c.repeat


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("--families", default=",".join(FAMILIES))
    a.add_argument("--form", default="")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--count", type=int, default=20)
    a.add_argument("--minutes", type=float, default=1e9)
    a.add_argument("--ref", type=float, default=0.2, help="the part of short prompts that run on ref, too")
    a.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "hadal-shapes", help="where what fails is kept")
    a.add_argument("--big", action="store_true", help="larger shapes and longer prompts")
    a.add_argument("--verbose", action="store_true")
    args = a.parse_args()
    global BIG
    BIG = args.big
    end = time.time() + 60 * args.minutes
    totals: dict[str, list[float]] = {}
    failed = skipped = 0
    for number in range(args.seed, args.seed + args.count):
        for family in args.families.split(","):
            if time.time() > end:
                break
            with tempfile.TemporaryDirectory(prefix="hadal-shapes-") as scratch:
                folder = Path(scratch)
                try:
                    case = Case(family, number, folder, args.form)
                    line, faults, repeat = run(args.binary, case, args.ref)
                except Skip as why:
                    skipped += 1
                    print(f"{family}-{number}: skipped, {why}", flush=True)
                    continue
                except Exception as why:
                    skipped += 1
                    print(f"{family}-{number}: no oracle: {type(why).__name__}: {str(why)[:300]}", flush=True)
                    if args.verbose:
                        traceback.print_exc()
                    continue
                kl = float(line.split("KL")[1])
                totals.setdefault(family, []).append(kl)
                print(line, "FAILED " + "; ".join(faults) if faults else "ok", flush=True)
                if faults:
                    failed += 1
                    kept = args.keep / f"fail-{case.name}"
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(folder, kept)
                    (kept / "repeat.json").write_text(json.dumps(repeat | {"faults": faults}, indent=1).replace(scratch, str(kept)))
                    (kept / "config.json").write_text(json.dumps(case.tiny.config, indent=1))
    for family, found in totals.items():
        fine = [x for x in found if x == x]
        print(f"{family:6} {len(found):4} cases, worst KL {max(fine, default=math.nan):.1e}")
    print(f"{sum(map(len, totals.values())) - failed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

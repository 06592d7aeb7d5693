#!/usr/bin/env python3
"""What a config.json may say in several ways, or leave out: the program beside transformers (oracle venv).

    check_configs.py BINARY

Each case changes the config.json of a golden model: transformers and `hadal logits` (weights and cache float32) must agree, or both
refuse it. Where transformers knows no such model, the case names the change that it knows and that must mean the same.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
IDS = list(range(5, 45))
OUT = "left out"
Change = dict[str, Any]
DEFAULT, LINEAR = {"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "beta_fast": 2.0, "beta_slow": 0.25}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CASES: list[tuple[str, Change, Change | None]] = [
    ("llama", {}, None),
    ("llama", {"hidden_act": "swish"}, None),
    ("llama", {"model_type": ""}, {}),
    ("llama", {"model_type": OUT}, {}),
    ("llama", {"rms_norm_eps": OUT}, None),
    ("llama", {"rope_theta": OUT}, None),
    ("llama", {"partial_rotary_factor": 0.5}, None),
    ("llama-tied-head-dim", {"partial_rotary_factor": 0.5}, None),
    ("llama-linear", {"partial_rotary_factor": 0.5}, None),
    ("llama-llama3", {"partial_rotary_factor": 0.5}, None),
    ("llama", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}, None),
    ("llama", {"layer_types": ["sliding_attention"] * 2, "sliding_window": 4}, None),
    ("llama-linear", {"rope_scaling": LINEAR | {"rope_theta": 777.0}}, None),
    ("llama-linear", {"rope_scaling": LINEAR | {"rope_type": "default", "type": "linear"}}, None),
    ("llama-llama3", {"rope_scaling": LLAMA3}, None),
    ("llama-llama3", {"original_max_position_embeddings": 32}, None),
    ("qwen2", {"attention_bias": False}, None),
    ("qwen2", {"layer_types": ["sliding_attention"] * 2, "sliding_window": 4}, None),
    ("qwen2", {"use_sliding_window": True, "sliding_window": OUT, "max_window_layers": 0}, None),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}, None),
    ("qwen2", {"num_key_value_heads": OUT}, None),
    ("qwen3", {"head_dim": OUT}, None),
    ("qwen3", {"rope_theta": 123.0}, None),
    ("qwen3", {"rope_theta": 123.0, "rope_parameters": DEFAULT}, None),
    ("qwen3", {"rope_theta": 123.0, "rope_parameters": {}}, None),
    ("qwen3", {"rope_scaling": LINEAR}, None),
    ("qwen3", {"rope_scaling": {}}, None),
    ("qwen3", {"rope_scaling": {"type": "default"}}, None),
    ("qwen3-yarn", {"original_max_position_embeddings": 16}, None),
    ("qwen3-yarn", {"rope_parameters": YARN}, None),
    ("qwen3-yarn", {"rope_parameters": YARN | {"factor": None, "original_max_position_embeddings": 32}}, None),
    ("qwen3-yarn", {"max_position_embeddings": 32}, None),
    ("deepseek-v2", {"topk_method": OUT}, None),
    ("deepseek-v2", {"n_shared_experts": OUT}, None),
    ("deepseek-v2", {"mlp_bias": True}, None),
    ("deepseek-v3-plain", {"n_group": OUT, "topk_group": OUT}, None),
    ("deepseek-v3-plain", {"scoring_func": OUT, "topk_method": OUT}, None),
    ("deepseek-v3-plain", {"routed_scaling_factor": OUT}, None),
    ("deepseek-v3-plain", {"partial_rotary_factor": 0.5}, None),
    ("deepseek-v3-plain", {"rope_scaling": LINEAR | {"mscale_all_dim": 1.0}}, None),
    ("deepseek-v3-plain", {"rope_interleave": False}, None),
    ("deepseek-v3-plain", {"norm_topk_prob": OUT}, None),
    ("deepseek-v3-plain", {"model_type": "kimi_k2", "seq_aux": True}, {}),
    ("deepseek-v3", {"partial_rotary_factor": 0.5}, None),
    ("deepseek-v32", {"mlp_layer_types": ["dense", "sparse", "sparse"], "first_k_dense_replace": 3}, None),
    ("deepseek-v4", {"scoring_func": OUT, "swiglu_limit": OUT}, None),
    ("deepseek-v4", {"model_type": ""}, {}),
]
HEADS = ("other", "same", "alone")  # what stands in the place of lm_head.weight of a tied model


def folder_of(place: Path, family: str, change: Change, head: str = "") -> Path:
    folder = Path(shutil.copytree(GOLDEN / family, place))
    config = {k: v for k, v in (json.loads((folder / "config.json").read_text()) | change).items() if v != OUT}
    (folder / "config.json").write_text(json.dumps(config))
    if head:
        tensors = load_file(folder / "model.safetensors")
        embedding = tensors["model.embed_tokens.weight"]
        tensors["lm_head.weight"] = embedding.flip(0).contiguous() if head == "other" else embedding.clone()
        if head == "alone":
            del tensors["model.embed_tokens.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def oracle(folder: Path) -> np.ndarray | None:
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True
        )
        if set(info["missing_keys"]) - {"lm_head.weight"}:
            return None
        with torch.no_grad():
            return model.eval()(torch.tensor([IDS]), use_cache=False).logits[0].float().numpy()
    except (RuntimeError, ValueError, KeyError, TypeError):
        return None


def program(binary: str, folder: Path) -> tuple[np.ndarray | None, str]:
    out = folder / "logits.npy"
    done = subprocess.run(
        [binary, "logits", str(folder), "--ids", ",".join(map(str, IDS)), "--out", str(out), "--weights", "f32", "--kv-cache-dtype", "f32"],
        capture_output=True,
        text=True,
    )
    return (np.load(out) if done.returncode == 0 else None), done.stderr.strip()


def divergence(a: np.ndarray, b: np.ndarray) -> float:
    def log_softmax(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64) - x.max(axis=1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=1, keepdims=True))

    p, q = log_softmax(a), log_softmax(b)
    return float((np.exp(p) * (p - q)).sum(axis=1).max())


def main() -> int:
    binary = sys.argv[1]
    failures = 0
    cases = [(family, change, known, "") for family, change, known in CASES]
    cases += [("llama-tied-head-dim", {}, None, head) for head in HEADS]
    for family, change, known, head in cases:
        with tempfile.TemporaryDirectory() as place:
            expected = oracle(folder_of(Path(place) / "o", family, change if known is None else known, head))
            found, said = program(binary, folder_of(Path(place) / "h", family, change, head))
        if expected is None or found is None:
            good, word = (
                expected is found,
                f"refused: {said.split('/h/')[-1]}" if expected is found else f"transformers {expected is not None}, {said}",
            )
        else:
            kl = divergence(expected, found)
            good, word = kl < 1e-6 and math.isfinite(kl), f"KL {kl:.1e}"
        failures += not good
        print("ok  " if good else "FAIL", family, head, json.dumps(change), word, flush=True)
    print(f"{len(cases)} cases, {failures} failures")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())

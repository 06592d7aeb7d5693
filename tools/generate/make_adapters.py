#!/usr/bin/env python3
"""Makes the adapters of tests/adapters, for the tiny checkpoints of tests/golden, and their reference logits (run in the oracle venv).

    make_adapters.py [--out tests/adapters] [NAME...]     write them (all of them, or those named)
    make_adapters.py --check [NAME...]                    make them again elsewhere and compare the logits with what is stored

Each folder is an adapter as peft writes it, beside a golden.json: the base, others that hold the same model, and prompts with their
logits (float32 .npy, one row a position from `first` on). The oracle is that of the base, transformers or DeepSeek's formulas, with
each adapted matrix replaced by W + scale B A, computed in double and rounded once.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import make_golden
import numpy as np
import tiny_deepseek
import tiny_models
import torch
from safetensors.torch import save_file
from tiny_models import Tiny

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
LATENT = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj")
# Of DeepSeek-V4: transformers' names of the modules, and those of the published files, which the tiny model has.
V4 = {
    "self_attn.q_a_proj": "attn.wq_a",
    "self_attn.q_b_proj": "attn.wq_b",
    "self_attn.kv_proj": "attn.wkv",
    "self_attn.o_b_proj": "attn.wo_b",
    "self_attn.compressor.kv_proj": "attn.compressor.wkv",
    "self_attn.compressor.gate_proj": "attn.compressor.wgate",
    "self_attn.compressor.indexer.kv_proj": "attn.indexer.compressor.wkv",
    "self_attn.compressor.indexer.q_b_proj": "attn.indexer.wq_b",
    "mlp.shared_experts.gate_proj": "ffn.shared_experts.w1",
    "mlp.shared_experts.up_proj": "ffn.shared_experts.w3",
    "mlp.shared_experts.down_proj": "ffn.shared_experts.w2",
}


@dataclass
class Adapter:
    base: str
    modules: tuple[str, ...]  # ends of names of matrices
    rank: int = 4
    alpha: float = 8
    dtype: torch.dtype = torch.float32
    twins: tuple[str, ...] = ()  # other checkpoints of the same model
    config: dict[str, Any] = field(default_factory=dict)  # keys beyond the usual ones
    infix: str = ""  # peft's name of the adapter in its tensors' names


ADAPTERS = {
    "llama": Adapter("llama", (*ATTENTION, *MLP)),
    "llama-few": Adapter(
        "llama",
        ("layers.1.self_attn.q_proj", "down_proj"),
        rank=6,
        alpha=5,
        dtype=torch.bfloat16,
        config={"use_rslora": True, "rank_pattern": {"down_proj": 3}, "alpha_pattern": {"layers.0.mlp.down_proj": 9}},
        infix=".default",
    ),
    "llama-llama3": Adapter("llama-llama3", (*ATTENTION, "up_proj"), rank=5, twins=("llama-llama3-gguf",)),
    "qwen2": Adapter("qwen2", (*ATTENTION, *MLP), rank=3, alpha=6, dtype=torch.float16, twins=("qwen2-gguf",)),
    "deepseek-moe": Adapter(
        "deepseek-moe",
        (*ATTENTION, "mlp.gate_proj", "mlp.down_proj", "shared_experts.up_proj"),
        dtype=torch.bfloat16,
        twins=("deepseek-moe-gguf",),
    ),
    "deepseek-v2-lite": Adapter("deepseek-v2-lite", ("q_proj", "kv_a_proj_with_mqa", "o_proj"), rank=2, twins=("deepseek-v2-lite-gguf",)),
    "deepseek-v3": Adapter(
        "deepseek-v3", (*LATENT, *(f"mlp.{m}" for m in MLP), *(f"shared_experts.{m}" for m in MLP)), twins=("deepseek-v3-gguf",)
    ),
    "deepseek-v4": Adapter("deepseek-v4", tuple(V4), rank=3, alpha=6, dtype=torch.bfloat16, twins=("deepseek-v4-gguf",)),
}


def base_model(name: str) -> Tiny:
    config = dict(make_golden.CONFIGS[name])
    make = tiny_deepseek.random_weights if config["model_type"] in tiny_deepseek.KINDS else tiny_models.random_weights
    return make(config, 100 + list(make_golden.CONFIGS).index(name))


def module_of(name: str, tiny: Tiny) -> str:
    """The module of a matrix, as transformers calls it; "" for what no adapter may have."""
    module = name.removesuffix(".weight")
    layers = int(tiny.config["num_hidden_layers"])
    parts = module.removeprefix("model.").split(".", 2)
    if module == name or parts[0] != "layers" or int(parts[1]) >= layers or ".experts." in module or tiny.weights[name].ndim != 2:
        return ""
    if tiny.arch != "deepseek_v4":
        return module
    return next((f"model.layers.{parts[1]}.{ours}" for ours, published in V4.items() if published == parts[2]), "")


def pattern(adapter: Adapter, key: str, module: str, otherwise: float) -> float:
    found = [v for k, v in adapter.config.get(key, {}).items() if module.endswith("." + k)]
    return float(found[0]) if found else otherwise


def make(name: str, out: Path) -> None:
    adapter = ADAPTERS[name]
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7000 + list(ADAPTERS).index(name))
    tiny = base_model(adapter.base)
    tensors: dict[str, torch.Tensor] = {}
    for weight in sorted(tiny.weights):
        module = module_of(weight, tiny)
        if not module or not any(module.endswith("." + m) for m in adapter.modules):
            continue
        rows, columns = tiny.weights[weight].shape
        rank = int(pattern(adapter, "rank_pattern", module, adapter.rank))
        scale = pattern(adapter, "alpha_pattern", module, adapter.alpha) / (math.sqrt(rank) if adapter.config.get("use_rslora") else rank)
        a = torch.from_numpy(rng.normal(0, columns**-0.5, (rank, columns))).to(adapter.dtype)
        b = torch.from_numpy(rng.normal(0, 0.3 / scale * rank**-0.5, (rows, rank))).to(adapter.dtype)
        tensors[f"base_model.model.{module}.lora_A{adapter.infix}.weight"] = a.contiguous()
        tensors[f"base_model.model.{module}.lora_B{adapter.infix}.weight"] = b.contiguous()
        merged = tiny.weights[weight].astype(np.float64) + scale * (b.double().numpy() @ a.double().numpy())
        tiny.weights[weight] = merged.astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": f"tiny/{adapter.base}",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "target_modules": sorted({m.rsplit(".", 1)[-1] for m in adapter.modules}),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "task_type": "CAUSAL_LM",
    } | adapter.config
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    write_reference(folder, adapter, tiny)


def write_reference(folder: Path, adapter: Adapter, merged: Tiny) -> None:
    """The logits of the base's own prompts, the last 24 rows of the long one."""
    model = make_golden.oracle(merged)
    base = json.loads((GOLDEN / adapter.base / "golden.json").read_text())
    prompts = []
    for i, p in enumerate(base["prompts"][1:]):
        ids = p["ids"]
        first = max(0, len(ids) - 24)
        np.save(folder / f"logits{i}.npy", model(ids)[first:].astype(np.float32))
        prompts.append({"ids": ids, "first": first, "logits": f"logits{i}.npy"})
    golden = {
        "versions": {p: version(p) for p in ("transformers", "torch", "numpy")},
        "bases": [adapter.base, *adapter.twins],
        "prompts": prompts,
    }
    make_golden.write_golden(folder, golden)


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("names", nargs="*", metavar="NAME")
    a.add_argument("--out", type=Path, default=ROOT / "tests" / "adapters")
    a.add_argument("--check", action="store_true")
    args = a.parse_args()
    torch.set_num_threads(1)
    names = args.names or list(ADAPTERS)
    out = Path(tempfile.mkdtemp(prefix="adapters-")) if args.check else args.out
    failed = 0
    for name in names:
        make(name, out)
        said = f"{name:20} {sum(f.stat().st_size for f in (out / name).iterdir()) / 1024:7.0f} KiB"
        if args.check:
            stored = sorted((args.out / name).glob("logits*.npy"))
            worst = max((float(np.abs(np.load(f) - np.load(out / name / f.name)).max()) for f in stored), default=math.inf)
            failed += worst >= 1e-4
            said += f"   largest difference {worst:.1e}   {'ok' if worst < 1e-4 else 'DIFFERS'}"
        print(said, flush=True)
    if args.check:
        shutil.rmtree(out)
        print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

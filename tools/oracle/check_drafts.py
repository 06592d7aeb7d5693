#!/usr/bin/env python3
"""Random shapes of every model with drafts: `hadal logits --mtp`, `--chain` and `--draft` beside the reference (oracle venv).

    check_drafts.py BINARY [--seed 1] [--count 40] [--kinds v32,v4,dspark,v41]

Each case draws a configuration, weights and a prompt: KL below 1e-6 in every row, confidences within 1e-5, the same bits however the
prompt is cut, batched and reused. Cases are numbered: --seed 17 --count 1 repeats number 17.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "generate"))
import deepseek_v41_reference as r41
import make_golden
import tiny_deepseek
import tiny_models

LENGTHS = (2, 3, 30, 129, 140, 200, 290)
CHAIN = 4


def v32(r: random.Random) -> dict[str, Any]:
    return make_golden.CONFIGS["deepseek-v32"] | {
        "index_topk": r.choice([4, 16, 100]),
        "q_lora_rank": r.choice([20, 40]),
        "num_hidden_layers": r.choice([1, 3]),
    }


def v4(r: random.Random, stages: int = 1) -> dict[str, Any]:
    layers = r.randrange(1, 5)
    return make_golden.V4 | {
        "num_hidden_layers": layers,
        "compress_ratios": [r.choice([0, 4, 128]) for _ in range(layers)] + [0] * stages,
        "hc_mult": r.choice([1, 2, 3, 4]),
        "num_hash_layers": r.randrange(0, layers + 1),
        "sliding_window": r.choice([3, 9, 24, 128, 150]),
        "swiglu_limit": r.choice([0.7, 10.0]),
        "rms_norm_eps": r.choice([1e-6, 1e-3]),
    }


def dspark(r: random.Random) -> dict[str, Any]:
    c = v4(r, r.randrange(1, 4))
    layers = c["num_hidden_layers"]
    return c | {
        "dspark_block_size": r.randrange(1, 8),
        "dspark_noise_token_id": r.randrange(c["vocab_size"]),
        "dspark_markov_rank": r.choice([4, 12, 33]),
        "dspark_target_layer_ids": sorted(r.sample(range(layers), r.randrange(1, layers + 1))),
    }


def v41(r: random.Random) -> dict[str, Any]:
    stages = r.randrange(1, 4)
    text = make_golden.CONFIGS["deepseek-v41-fp4"]["text_config"] | {
        "num_nextn_predict_layers": stages,
        "hc_mult": r.choice([1, 2, 4]),
        "sliding_window": r.choice([4, 9, 128, 140]),
        "dspark_block_size": r.randrange(1, 7),
        "dspark_target_layer_ids": sorted(r.sample(range(7), r.randrange(1, 5))),
        "dspark_n_routed_experts": r.choice([3, 5]),
        "dspark_num_experts_per_tok": r.choice([1, 2]),
        "compress_ratios": [0, 2, 2, 1, 1, 1, 0] + [0] * stages,
    }
    if r.random() < 0.5:
        del text["dspark_n_routed_experts"], text["dspark_num_experts_per_tok"]
    return make_golden.deepseek_v41(**text)


KINDS = {"v32": v32, "v4": v4, "dspark": dspark, "v41": v41}


def largest_kl(reference: np.ndarray, found: np.ndarray) -> float:
    if reference.shape != found.shape:
        return float("inf")

    def log_softmax(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64) - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    p, q = log_softmax(reference), log_softmax(found)
    return float((np.exp(p) * (p - q)).sum(-1).max())


def run(binary: str, number: int, kinds: list[str], folder: Path) -> tuple[str, bool]:
    """One line, and whether it is good."""
    r = random.Random(number)
    kind = r.choice(kinds)
    tiny = tiny_deepseek.random_weights(KINDS[kind](r), number)
    tiny_models.save_folder(tiny, folder, shards=1)
    if kind == "v41":
        tiny.token_table = r41.token_table(make_golden.tokenizer_v41())
        make_golden.save_tokenizer(folder, make_golden.tokenizer_v41())
    ids = [r.randrange(300) for _ in range(r.choice(LENGTHS))]
    out, base, conf = (folder / f"{name}.npy" for name in ("out", "base", "conf"))
    command = [binary, "logits", str(folder), "--ids", ",".join(map(str, ids)), "--weights", "f32", "--kv-cache-dtype", "f32"]
    command += ["--chip", r.choice(["cpu", "ref"]), "--out", str(out)]

    def call(*options: str) -> np.ndarray:
        done = subprocess.run(command + list(options), capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip()[-200:])
        return np.load(out)

    said = f"{number:4} {kind:7} {len(ids):4} tokens"
    model = tiny_deepseek.drafts_of(tiny)
    try:
        if kind in ("v32", "v4"):
            every, chained = model.drafts(ids, CHAIN)
            flags = ["--mtp", "--chain", str(CHAIN)]
            kls = [largest_kl(every, call("--mtp"))]
            whole = call(*flags)
            kls.append(largest_kl(chained, whole))
            sure = 0.0
        else:
            made = model.block(ids)
            flags = ["--draft", "--base", str(base), "--conf", str(conf)]
            whole = call(*flags)
            kls = [largest_kl(made["draft"], whole), largest_kl(made["base"], np.load(base))]
            sure = float(np.abs(made["conf"] - np.load(conf)).max())
        cuts = (["--chunk", str(r.choice([1, 5, 64]))], ["--reuse", str(len(ids) - 1), "--batch", "3"])
        same = all(np.array_equal(whole, call(*flags, *cut)) for cut in cuts)
    except RuntimeError as why:
        return f"{said}  FAILED {why}", False
    good = max(kls) < 1e-6 and sure < 1e-5 and same
    closest = getattr(model, "close", getattr(model, "closest", float("nan")))
    verdict = "ok" if good else f"FAILED; the closest choice is {closest:.1e}" + ("" if same else "; other bits when cut")
    return f"{said}  KL {max(kls):.1e}  confidences {sure:.1e}  {verdict}", good


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--count", type=int, default=40)
    a.add_argument("--kinds", default=",".join(KINDS))
    args = a.parse_args()
    passed = 0
    for number in range(args.seed, args.seed + args.count):
        with tempfile.TemporaryDirectory(prefix="hadal-drafts-") as folder:
            line, good = run(args.binary, number, args.kinds.split(","), Path(folder))
        passed += good
        print(line, flush=True)
    print(f"{passed} passed, {args.count - passed} failed")
    return 0 if passed == args.count else 1


if __name__ == "__main__":
    raise SystemExit(main())

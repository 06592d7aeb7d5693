#!/usr/bin/env python3
"""Runs tiny checkpoints on a chip that rounds, and compares its distance with what its class of numerics explains (standard library only).

    run_classes.py BINARY CHIP CLASS [--model GGUF] [NAME...]

CHIP is a chip's name or path, CLASS the kernel table of `ref` that rounds as the chip says it does (half, fp8, row8, int8). On dense
models the mean KL of CHIP's logits to those of `ref`, exact, must be at most twice that of `ref` in that class; the greedy choice
must be the same wherever the exact margin exceeds six standard deviations of what the class changes in that row. Where experts or
entries are chosen, a few rows of random models choose otherwise on either side: they say how often, not how exact the numbers are, so
there the median is compared, and tokens are counted, not judged. With --model that file must also answer a question on CHIP: 24 tokens, the
same twice.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import npy  # noqa: E402

PROMPTS, TOKENS = 4, 67
QUESTION = "What is the colour of the sea?"


def call(*args: str) -> str:
    done = subprocess.run(args, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return done.stdout


def deviation(exact: list, rounded: list) -> float:
    """Of logits, from row to row: what the class changes."""
    changes = [a - b for e, r in zip(exact, rounded) for a, b in zip(r, e)]
    return math.sqrt(math.fsum(c * c for c in changes) / len(changes))


def flips(exact: list, rounded: list, found: list) -> int:
    """Rows whose greedy choice differs although the margin is beyond what the class explains."""
    count = 0
    for e, r, f in zip(exact, rounded, found):
        best, chosen = max(range(len(e)), key=e.__getitem__), max(range(len(f)), key=f.__getitem__)
        if best == chosen:
            continue
        sigma = deviation([e], [r])
        if e[best] - e[chosen] > 6 * math.sqrt(2) * sigma:
            count += 1
    return count


def compare(binary: str, chip: str, table: str, name: str, scratch: Path) -> bool:
    golden = json.loads((HERE / name / "golden.json").read_text())
    model = str(HERE / name / golden["model"])
    rng = random.Random(name)
    source = HERE / golden.get("same_as", name)
    vocabulary = max(max(p["ids"]) for p in json.loads((source / "golden.json").read_text())["prompts"]) + 1
    rows: dict[str, list] = {"exact": [], "class": [], "chip": []}
    for _ in range(PROMPTS):
        ids = ",".join(str(rng.randrange(vocabulary)) for _ in range(TOKENS))
        for key, options in {"exact": ["ref"], "class": ["ref", "--kernels", table], "chip": [chip]}.items():
            out = scratch / f"{key}.npy"
            call(binary, "logits", model, "--ids", ids, "--kv-cache-dtype", "f32", "--out", str(out), "--chip", *options)
            rows[key] += npy.load(out)
    chooses = name.startswith("deepseek")
    middle = statistics.median if chooses else statistics.fmean
    rounded, found = (middle(npy.kls(rows["exact"], rows[key])) for key in ("class", "chip"))
    flipped = flips(rows["exact"], rows["class"], rows["chip"])
    good = found <= 2 * rounded + 1e-9 and (chooses or flipped == 0)
    kls = f"{'median' if chooses else 'mean  '} KL {found:8.1e}, ref in {table} {rounded:8.1e}"
    print(f"{name:32} {kls}, {flipped} choices flipped  {'ok' if good else 'FAILED'}", flush=True)
    return good


def answers(binary: str, chip: str, model: str) -> bool:
    if not Path(model).exists():
        print(f"{model} is not there: no question asked")
        return True
    asked = [binary, "generate", model, "--text", QUESTION, "--greedy", "--max-new", "24", "--ignore-eos", "--print-ids"]
    said = [call(*asked, "--chip", chip) for _ in range(2)]
    good = said[0] == said[1] and said[0].count(",") == 23
    print(f"{Path(model).name}: {said[0].strip()}  {'ok' if good else 'FAILED: ' + said[1]}")
    return good


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("chip")
    a.add_argument("table", metavar="CLASS")
    a.add_argument("names", nargs="*", metavar="NAME")
    a.add_argument("--model", default="")
    args = a.parse_args()
    names = args.names or sorted(f.parent.name for f in HERE.glob("*/golden.json"))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hadal-classes-") as scratch:
        for name in names:
            try:
                failed += not compare(args.binary, args.chip, args.table, name, Path(scratch))
            except RuntimeError as why:
                print(f"{name:32} FAILED {why}", flush=True)
                failed += 1
    if args.model:
        failed += not answers(args.binary, args.chip, args.model)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

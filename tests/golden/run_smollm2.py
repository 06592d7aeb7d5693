#!/usr/bin/env python3
"""Compares the program on the real default model with what transformers said (tests/golden_smollm2.json; standard library only).

    run_smollm2.py BINARY MODEL.gguf

With float32 weights and cache, the `cpu` chip must continue three prompts with the very tokens of transformers in float32, and
give the log-probabilities of the most likely next tokens to 1e-3. On native weights, whose activations are quantised, the mean KL
over all positions of the same text must be 5e-3 at most. Exit 77,
which ctest counts as skipped, where the model is not there.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import npy  # noqa: E402

NEW, NATIVE_KL = 24, 5e-3


def hadal(*args: str) -> str:
    done = subprocess.run(args, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{' '.join(args[:3])}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def main() -> int:
    binary, model = sys.argv[1], sys.argv[2]
    if not Path(model).exists():
        print(f"{model} is not there; make model fetches it")
        return 77
    exact = ["--weights", "f32", "--kv-cache-dtype", "f32"]
    faults: list[str] = []
    native: list[float] = []  # KL of every position
    for p in json.loads((HERE.parent / "golden_smollm2.json").read_text())["prompts"]:
        ids = ",".join(map(str, p["ids"]))
        said = hadal(binary, "generate", model, "--ids", ids, "--max-new", str(NEW), "--greedy", "--ignore-eos", "--print-ids", *exact)
        if said != ",".join(map(str, p["greedy"][:NEW])):
            faults.append(f"{p['text']}: {said}, expected {p['greedy'][:NEW]}")
        with tempfile.TemporaryDirectory() as scratch:
            text, found = ",".join(map(str, p["ids"] + p["greedy"])), []
            for options in (exact, []):
                out = Path(scratch) / "logits.npy"
                hadal(binary, "logits", model, "--ids", text, "--out", str(out), *options)
                found.append(npy.load(out))
            row = found[0][len(p["ids"]) - 1]
            native += npy.kls(*found)
        top = max(row)
        total = top + math.log(math.fsum(math.exp(x - top) for x in row))
        worst = max(abs(row[token] - total - expected) for token, expected in p["top"])
        print(f"{p['text']}: largest difference of a log-probability {worst:.1e}")
        if not worst < 1e-3:
            faults.append(f"{p['text']}: log-probabilities differ by {worst}")
    mean = sum(native) / len(native)
    print(f"native weights: mean KL {mean:.2e} over {len(native)} positions")
    if not mean <= NATIVE_KL:
        faults.append(f"native weights: a mean KL of {mean:.2e} is more than {NATIVE_KL}")
    print("\n".join(faults) or "as transformers")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())

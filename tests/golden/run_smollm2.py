#!/usr/bin/env python3
"""Compares the program on the real default model with what transformers said (tests/golden_smollm2.json; standard library only).

    run_smollm2.py BINARY MODEL.gguf

With float32 weights and cache, the `cpu` chip must continue three prompts with the very tokens of transformers in float32, and
give the log-probabilities of the most likely next tokens to 1e-3. On native weights the first words must be the same. Exit 77,
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

NEW, NATIVE_NEW = 24, 4


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
    faults = []
    for p in json.loads((HERE.parent / "golden_smollm2.json").read_text())["prompts"]:
        ids = ",".join(map(str, p["ids"]))
        for options, count in ((exact, NEW), ([], NATIVE_NEW)):
            said = hadal(binary, "generate", model, "--ids", ids, "--max-new", str(count), "--greedy", "--ignore-eos", "--print-ids", *options)
            if said != ",".join(map(str, p["greedy"][:count])):
                faults.append(f"{p['text']} {' '.join(options) or 'native'}: {said}, expected {p['greedy'][:count]}")
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "logits.npy"
            hadal(binary, "logits", model, "--ids", ids, "--out", str(out), *exact)
            row = npy.load(out)[-1]
        top = max(row)
        total = top + math.log(math.fsum(math.exp(x - top) for x in row))
        worst = max(abs(row[token] - total - expected) for token, expected in p["top"])
        print(f"{p['text']}: largest difference of a log-probability {worst:.1e}")
        if not worst < 1e-3:
            faults.append(f"{p['text']}: log-probabilities differ by {worst}")
    print("\n".join(faults) or "as transformers")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())

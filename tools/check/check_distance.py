#!/usr/bin/env python3
"""How far a chip is from the exact model on quantised weights, and how much of that its rounding of activations explains.

    check_distance.py BINARY MODEL... [--chip cpu] [--prompts 12] [--tokens 4] [--vocab 256]

For every model (files, folders, or folders of them) some short random prompts run three times on native weights: on the chip; on `ref`,
exact; on `ref --kernels int8`, which rounds activations as docs/numerics.md lets a chip round them. Reported are the mean KL of the
chip to the exact run, that of `ref`'s own rounding to the exact run, and how many prompts the chip follows `ref`'s rounded run on, to
a KL below 1e-9 at every position. It cannot follow on all: a value at the edge of two integers falls to either side by the last bit of
a sum, and from there on all later roundings differ; formats whose products are shifted (Q4_0, IQ4) meet that more often. But a prompt
that is followed shows that nothing but the rounding differs, and none is followed by accident. A sixth of the prompts must be followed,
and the chip's mean KL may not exceed twice that of the rounding alone. Standard library only.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import npy
from check_bits import models

FOLLOWS = 1e-9


def logits(binary: str, model: Path, ids: str, options: list[str], out: Path) -> list[list[float]]:
    subprocess.run(
        [binary, "logits", str(model), "--ids", ids, "--out", str(out), "--kv-cache-dtype", "f32", *options],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return npy.load(out)


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("models", nargs="+", type=Path)
    a.add_argument("--chip", default="cpu")
    a.add_argument("--prompts", type=int, default=12)
    a.add_argument("--tokens", type=int, default=4, help="of each prompt")
    a.add_argument("--vocab", type=int, default=256, help="ids are drawn below this number")
    args = a.parse_args()
    rng = random.Random(17)
    prompts = [",".join(str(rng.randrange(args.vocab)) for _ in range(args.tokens)) for _ in range(args.prompts)]
    passed = failed = 0
    print(f"{'':32} {'to the exact run':>17} {'rounding alone':>15}   follows it on")
    with tempfile.TemporaryDirectory(prefix="hadal-distance-") as scratch:
        out = Path(scratch) / "logits.npy"
        for model in models(args.models):
            name = model.parent.name if model.name == "model.gguf" else model.stem if model.suffix == ".gguf" else model.name
            distance: list[float] = []
            alone: list[float] = []
            follows = 0
            try:
                for ids in prompts:
                    exact, rounded, chip = (
                        logits(args.binary, model, ids, options, out)
                        for options in (["--chip", "ref"], ["--chip", "ref", "--kernels", "int8"], ["--chip", args.chip])
                    )
                    distance += npy.kls(exact, chip)
                    alone += npy.kls(exact, rounded)
                    follows += max(npy.kls(rounded, chip)) < FOLLOWS
            except subprocess.CalledProcessError as why:
                failed += 1
                print(f"{name:32} exit {why.returncode}: {why.stderr.decode(errors='replace').strip()[-200:]}   FAILED", flush=True)
                continue
            mean, mean_alone = sum(distance) / len(distance), sum(alone) / len(alone)
            good = 6 * follows >= len(prompts) and mean <= max(2 * mean_alone, FOLLOWS)
            passed, failed = passed + good, failed + (not good)
            print(f"{name:32} {mean:17.1e} {mean_alone:15.1e}   {follows:2} of {len(prompts)}   {'ok' if good else 'FAILED'}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""How far from unrounded activations? distance.py HADAL MODEL [--tokens N] [--text FILE]

The mean KL of the next-token distributions, over the first N tokens of a text: of `hadal logits` as it runs, and of llama.cpp on the same
file, to those of `hadal logits --weights f32 --kv-cache-dtype f32`, where weights are decoded and activations stay floats. One JSON line
a side. `make distance` installs what it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import NO_PEER, SampleError, Work, has_peer, peer_sample, run

TIMEOUT = 3600.0
HERE = Path(__file__).resolve().parent
TEXTS = [HERE.parent / "README.md", Path(__file__).resolve()]  # prose and a program
SIDES: dict[str, list[str]] = {"hadal": [], "hadal, f32 cache": ["--kv-cache-dtype", "f32"]}
REFERENCE = ["--weights", "f32", "--kv-cache-dtype", "f32"]


def divergences(reference: Any, found: Any) -> Iterator[tuple[float, bool]]:
    """Of each row: KL(reference || found) and whether both have the same best token."""
    for r, f in zip(reference, found, strict=True):
        p, q = (x.astype(np.float64) - x.max() for x in (r, f))
        p, q = (x - np.log(np.exp(x).sum()) for x in (p, q))
        yield float((np.exp(p) * (p - q)).sum()), bool(r.argmax() == f.argmax())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hadal")
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--text", type=Path, action="append")
    args = parser.parse_args()
    try:
        text = "\n".join(path.read_text() for path in args.text or TEXTS)
        ids = json.loads(run([args.hadal, "tokenize", args.model, "--json", "--text", text], TIMEOUT).text)[: args.tokens]
        with tempfile.TemporaryDirectory() as folder:

            def logits(name: str, options: list[str]) -> Any:
                out = f"{folder}/{name}.npy"
                run([args.hadal, "logits", args.model, "--ids", ",".join(map(str, ids)), "--out", out, *options], TIMEOUT)
                return np.load(out, mmap_mode="r")

            reference = logits("reference", REFERENCE)
            sides = {name: logits(name, options) for name, options in SIDES.items()}
            if has_peer():
                out = f"{folder}/peer.npy"
                peer_sample(args.model, Work(ids=tuple(ids), out=out), os.cpu_count() or 1)
                sides["llama.cpp"] = np.load(out, mmap_mode="r")
            else:
                print(NO_PEER, file=sys.stderr)
            for name, found in sides.items():
                kl, same = np.array(list(divergences(reference, found))).T
                line = {"side": name, "tokens": len(ids), "kl_mean": kl.mean(), "kl_error": kl.std() / len(kl) ** 0.5}
                print(json.dumps(line | {"kl_max": kl.max(), "same_best": same.mean()}), flush=True)
    except (SampleError, OSError) as error:
        print(f"distance.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

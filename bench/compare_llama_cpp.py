#!/usr/bin/env python3
"""Hadal beside llama.cpp on one GGUF file: five samples a side, taken in turns (needs llama-cpp-python).

    compare_llama_cpp.py BINARY MODEL.gguf [--samples 5] [--threads N] [--prefill 512] [--decode 64] [--depth 0] [--batch 1]

Each sample is a process of its own with one warm-up, and the sides alternate, first one then the other leading, so that a slow
phase of the machine meets both. Every sample is printed as a JSON line; the last lines give the medians, the spread and the
ratio. Build the peer for this very machine, or the comparison means nothing:
    CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python
peers.py makes a table of many such rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys

import measure


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("model")
    for name, value in (("samples", 5), ("threads", os.cpu_count() or 1), ("prefill", 512), ("decode", 64), ("depth", 0), ("batch", 1)):
        a.add_argument("--" + name, type=int, default=value)
    a.add_argument("--hadal-options", default="", help="further options for hadal bench, in one argument")
    o = a.parse_args()
    if not measure.has_peer():
        print(measure.NO_PEER, file=sys.stderr)
        return 1
    work = measure.Work(o.prefill, o.decode, o.depth, o.batch)
    sides = {
        "hadal": lambda: measure.hadal_sample(o.binary, o.model, work, o.threads, o.hadal_options)[0],
        "llama.cpp": lambda: measure.peer_sample(o.model, work, o.threads),
    }
    speeds: dict[str, dict[str, list[float]]] = {}
    try:
        for sample, side, rows in measure.in_turns(sides, o.samples):
            for row in rows:
                speeds.setdefault(row["test"], {}).setdefault(side, []).append(row["tok_s"])
                named = {"engine": side, "sample": sample, "model": os.path.basename(o.model), "threads": o.threads}
                print(json.dumps(named | row | {"model": named["model"]}), flush=True)
    except measure.SampleError as why:
        print(f"a sample failed: {why}", file=sys.stderr)
        return 1
    for test, by_side in speeds.items():
        middle = {side: statistics.median(values) for side, values in by_side.items()}
        said = ", ".join(f"{side} {measure.spread(values)} tok/s" for side, values in by_side.items())
        ratio = f", hadal / llama.cpp {middle['hadal'] / middle['llama.cpp']:.2f}" if len(middle) == 2 else ""
        print(f"{test}: {said}{ratio} (median of {o.samples})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

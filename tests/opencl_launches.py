#!/usr/bin/env python3
"""Counts the launches of a step on the chip opencl, for a tiny model of each family (standard library only).

    opencl_launches.py BINARY CHIP

The chip counts, its option `stats` tells. A layer of a dense model may take 8 launches, one of MLA with experts 14; what stands before
and behind the layers may take 3 more. The others are held to what they take now. Steps of one row and of many must take the same.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent / "golden"
ENDS = 3
# Launches of a layer: dense, with experts.
LAYERS = {
    "llama": (8, 0),
    "llama-bias": (8, 0),
    "qwen2": (8, 0),
    "qwen3": (8, 0),
    "deepseek-moe": (8, 11),
    "deepseek-v2": (12, 14),
    "deepseek-v2-lite": (11, 13),
    "deepseek-v3": (12, 14),
    "deepseek-v32": (17, 19),
    "deepseek-v4": (0, 24),
    "deepseek-v41": (0, 25),
}
COUNTED = re.compile(r"programs: (\d+) steps, ([0-9.]+) launches a step")


def limit_of(name: str) -> int:
    config = json.loads((GOLDEN / name / "config.json").read_text())
    config = config.get("text_config", config)
    dense, experts = LAYERS[name]
    layers = config["num_hidden_layers"]
    plain = layers if experts == 0 else config.get("first_k_dense_replace", 0)
    return plain * dense + (layers - plain) * experts + ENDS


def launches(binary: str, chip: str, name: str, work: list[str]) -> float:
    call = [binary, "bench", str(GOLDEN / name), "--chip", chip, "--chip-option", "stats=1", "--samples", "1", "--no-peaks", *work]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    found = COUNTED.search(done.stderr)
    if done.returncode or not found:
        raise RuntimeError(f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return float(found.group(2))


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__.strip().splitlines()[2].strip())
        return 2
    broken = 0
    for name in LAYERS:
        many = launches(*sys.argv[1:], name, ["--prefill", "24", "--decode", "0"])
        one = launches(*sys.argv[1:], name, ["--prefill", "", "--decode", "8"])
        limit = limit_of(name)
        good = one == many and one <= limit
        broken += not good
        print(
            f"{name:20} {one:6.1f} launches in a step of one row, {many:6.1f} in one of 24, at most {limit}: {'ok' if good else 'FAILED'}"
        )
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())

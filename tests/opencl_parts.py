#!/usr/bin/env python3
"""Tiny models on the opencl chip with weights in many small buffers: the bits of whole ones (standard library only).

opencl_parts.py HADAL CHIP MODEL...      models: names in tests/golden
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent / "golden"


def call(args: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(args, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False)


def command(hadal: str, chip: str, name: str) -> list[str]:
    golden = json.loads((GOLDEN / name / "golden.json").read_text())
    source = GOLDEN / golden.get("same_as", name)
    prompts = json.loads((source / "golden.json").read_text())["prompts"]
    ids = max((p["ids"] for p in prompts), key=len)
    return [hadal, "logits", str(GOLDEN / name / golden["model"]), "--ids", ",".join(map(str, ids)), "--chip", chip]


def same_bits(line: list[str], out: Path) -> str:
    """Why the bits differ, or nothing."""
    found = []
    for options in ([], ["--chip-option", "split-kib=1"], ["--chip-option", "split-kib=3"]):
        out.unlink(missing_ok=True)
        done = call([*line, "--out", str(out), *options])
        if done.returncode != 0:
            return f"{' '.join(options)} ends with {done.returncode}: {done.stderr.strip()}"
        found.append(out.read_bytes())
    return "" if found[0] == found[1] == found[2] else "other bits with weights in parts"


def main() -> int:
    if len(sys.argv) < 4:
        print(__doc__.strip().splitlines()[-1].strip())
        return 2
    hadal, chip, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    faults = []
    with tempfile.TemporaryDirectory(prefix="hadal-parts-") as scratch:
        for name in names:
            why = same_bits(command(hadal, chip, name), Path(scratch) / "logits.npy")
            print(f"{name}: {why or 'the same bits'}", flush=True)
            faults += [why] if why else []
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())

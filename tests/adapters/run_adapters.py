#!/usr/bin/env python3
"""Runs the hadal program with every adapter here and compares with the reference logits (standard library only).

    run_adapters.py BINARY [--chips ref,cpu] [NAME...]

Each adapter is laid on its base of tests/golden and on the other checkpoints of the same model. Every position's KL to the reference
must stay below 1e-6; whole, token by token, in chunks of 7, with one thread and two, operator by operator, and beside neighbours that
have no adapter, this one, or another one, the bits must be the same; and with --adapter none they must be those of the base alone.
Weights and cache are float32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
sys.path.insert(0, str(HERE.parent))
import npy  # noqa: E402

BOUND, FAR = 1e-6, 1e-2


def logits(binary: str, model: str, ids: list[int], out: Path, args: list[str]) -> bytes:
    out.unlink(missing_ok=True)
    command = [binary, "logits", model, "--ids", ",".join(map(str, ids)), "--out", str(out), *args]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return out.read_bytes()


def run(binary: str, name: str, base: str, chip: str) -> tuple[str, bool]:
    """One line of the table, and whether it is good."""
    golden = json.loads((HERE / name / "golden.json").read_text())
    stored = json.loads((GOLDEN / base / "golden.json").read_text())
    model = str(GOLDEN / base / stored["model"])
    types = ["--weights", "f32", "--kv-cache-dtype", "f32", "--chip", chip]
    lora = ["--lora", f"it={HERE / name}"]
    # A second one, of another rank, on the same model where there is one.
    other = next(
        (f.parent for f in sorted(HERE.glob("*/golden.json")) if f.parent.name != name and base in json.loads(f.read_text())["bases"]), None
    )
    two = ["--lora", f"other={other}", *lora, "--adapter", "it"] if other else [*lora, "--lora", f"it2={HERE / name}", "--adapter", "it"]
    ways = {
        "--chunk 1": [*lora, "--chunk", "1"],
        "--chunk 7": [*lora, "--chunk", "7"],
        "two threads": [*lora, "--threads", "2"],
        "one thread": [*lora, "--threads", "1"],
        "--eager": [*lora, "--eager"],
        "neighbours": [*lora, "--batch", "4"],
        "another adapter": two,
        "neighbours of another adapter": [*two, "--batch", "4", "--chunk", "7"],
    }
    faults: list[str] = []
    found: list[float] = []
    moved: list[float] = []
    try:
        with tempfile.TemporaryDirectory(prefix="hadal-adapters-") as scratch:
            out, plain = Path(scratch) / "logits.npy", Path(scratch) / "plain.npy"
            for p in golden["prompts"]:
                ids = p["ids"]
                bits = logits(binary, model, ids, out, [*types, *lora])
                rows = npy.load(out)[p["first"] :]
                found += npy.kls(npy.load(HERE / name / p["logits"]), rows)
                alone = logits(binary, model, ids, plain, types)
                moved += npy.kls(npy.load(plain)[p["first"] :], rows)
                faults += [f"other bits: {what}" for what, args in ways.items() if logits(binary, model, ids, out, [*types, *args]) != bits]
                for what in ([], ["--batch", "4"]):
                    if logits(binary, model, ids, plain, [*types, *lora, "--adapter", "none", *what]) != alone:
                        faults.append(f"--adapter none {' '.join(what)} gives other bits than no adapters")
    except (RuntimeError, OSError, ValueError) as why:
        return f"{name:18} {base:22} {chip:6} FAILED {why}", False
    if not max(found) < BOUND:
        faults.insert(0, "KL too large")
    if not max(moved) > FAR:
        faults.insert(0, f"the adapter changes nothing worth the name: {max(moved):.1e}")
    return f"{name:18} {base:22} {chip:6} max KL {max(found):8.1e}  {'FAILED ' + '; '.join(faults) if faults else 'ok'}", not faults


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("names", nargs="*", metavar="NAME")
    a.add_argument("--chips", default="ref,cpu")
    args = a.parse_intermixed_args()
    names = args.names or sorted(f.parent.name for f in HERE.glob("*/golden.json"))
    if not names:
        print("no adapters found")
        return 1
    jobs = [
        (args.binary, name, base, chip)
        for name in names
        for base in json.loads((HERE / name / "golden.json").read_text())["bases"]
        for chip in args.chips.split(",")
    ]
    passed = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for line, good in pool.map(lambda job: run(*job), jobs):
            passed += good
            print(line, flush=True)
    print(f"{passed} passed, {len(jobs) - passed} failed")
    return 0 if passed == len(jobs) else 1


if __name__ == "__main__":
    raise SystemExit(main())

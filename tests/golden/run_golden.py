#!/usr/bin/env python3
"""Runs the hadal program on every tiny checkpoint here and compares with the reference logits (standard library only).

    run_golden.py BINARY [--chips ref,cpu] [--native] [NAME...]

Each model runs whole, token by token and in chunks of 7; each position's KL to the reference must stay below 1e-6, the cuts
must give the same bits, and the greedy continuation the same ids. So do drafts, which also run behind a reused prefix and in a batch:
multi-token prediction, its chain, and DSpark, with the same bound and confidences within 1e-5. By default weights and cache are
float32. With --native the weights stay as they are stored: `ref` must meet the same bound, since it decodes exactly; other chips
may quantise activations and must keep a mean KL of 5e-3 at most, or where a choice among experts or entries turns on it, of twice
what `ref` gives with rounded activations (`--kernels int8`); neither tokens nor drafts that hang on a chosen token are compared.
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
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import npy  # noqa: E402

EXACT, NATIVE = 1e-6, 5e-3
CUTS = ([], ["--chunk", "1"], ["--chunk", "7"])
DRAFT_CUTS = (*CUTS, ["--reuse", "REUSE"], ["--batch", "4"], ["--reuse", "REUSE", "--chunk", "5", "--batch", "3"])
SURE = 1e-5  # of a confidence, which lies between 0 and 1


class Refused(Exception):
    pass


def call(args: list[str], golden: dict[str, Any]) -> str:
    done = subprocess.run(args, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return done.stdout
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == 1 and golden.get("may_refuse", "\0") in last:
        raise Refused(last)
    raise RuntimeError(f"exit {done.returncode}: {last}")


def same_bits(command: list[str], out: Path, golden: dict[str, Any], what: str, faults: list[str]) -> None:
    """Runs the prompt whole, which leaves its rows in `out`, and cut, which must give the same bytes."""
    bits = []
    for cut in reversed(CUTS):  # whole last
        out.unlink(missing_ok=True)
        call([*command, "--out", str(out), *cut], golden)
        bits.append(out.read_bytes())
    faults += [f"{' '.join(cut)} gives other bits {what}" for cut, found in zip(reversed(CUTS), bits) if found != bits[-1]]


def drafts(command: list[str], p: dict[str, Any], source: Path, scratch: Path, rounds: bool, faults: list[str]) -> list[float]:
    """Runs each kind of draft that a prompt has, cut in all ways, and gives the KLs to the reference.

    rounds: not of those that hang on tokens which a chain chose.
    """
    n, found = len(p["ids"]), []
    kinds = [("mtp", ["--mtp"])]
    if "chain" in p:
        kinds.append(("chain", ["--mtp", "--chain", str(len(npy.load(source / p["chain"])))]))
    kinds.append(("draft", ["--draft", "--base", str(scratch / "base.npy"), "--conf", str(scratch / "conf.npy")]))
    for kind, flags in kinds:
        if kind not in p:
            continue
        parts = [k for k in (kind, "base", "conf") if k in p and (k == kind or kind == "draft")]
        files = {k: scratch / f"{k}.npy" for k in parts}
        bits = {}
        for cut in reversed(DRAFT_CUTS):  # whole last
            reuse = [str(n - 1) if c == "REUSE" else c for c in cut]
            if n < 2 and "--reuse" in cut:
                continue
            call([*command, *flags, "--out", str(files[kind]), *reuse], {})
            bits[" ".join(cut)] = [f.read_bytes() for f in files.values()]
        faults += [f"{cut} gives other bits of {kind} on {n} tokens" for cut, found_bits in bits.items() if found_bits != bits[""]]
        for part, file in files.items():
            if rounds and part in ("chain", "draft", "conf"):
                continue
            reference, rows = npy.load(source / p[part]), npy.load(file)
            if part == "conf":
                off = max(abs(a - b) for a, b in zip(reference[0], rows[0], strict=True))
                faults += [f"a confidence is {off:.1e} away on {n} tokens"] if not off < SURE else []
            else:
                found += npy.kls(reference, rows[p.get(f"{part}_first", 0) :])
    return found


def run(binary: str, name: str, chip: str, native: bool) -> tuple[str, bool]:
    """One line of the table, and whether it is good."""
    folder = HERE / name
    golden = json.loads((folder / "golden.json").read_text())
    source = HERE / golden["same_as"] if "same_as" in golden else folder
    prompts = json.loads((source / "golden.json").read_text())["prompts"]
    model = str(folder / golden["model"])
    types = ["--weights", "native" if native else "f32", "--kv-cache-dtype", "f32"]
    mean_bound = native and chip != "ref"
    found: list[float] = []
    rounded: list[float] = []
    faults: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="hadal-golden-") as scratch:
            out, other = Path(scratch) / "logits.npy", Path(scratch) / "rounded.npy"
            for p in prompts:
                ids = ["--ids", ",".join(map(str, p["ids"]))]
                logits = [binary, "logits", model, *ids, *types]
                same_bits([*logits, "--chip", chip], out, golden, f"on {len(p['ids'])} tokens", faults)
                reference, first = npy.load(source / p["logits"]), p.get("first", 0)
                found += npy.kls(reference, npy.load(out)[first:])
                if mean_bound:
                    call([*logits, "--chip", "ref", "--kernels", "int8", "--out", str(other)], golden)
                    rounded += npy.kls(reference, npy.load(other)[first:])
                if folder == source or golden.get("drafts"):
                    found += drafts([*logits, "--chip", chip], p, source, Path(scratch), mean_bound, faults)
                if not mean_bound:
                    limit = ["--max-new", str(len(p["greedy"])), "--greedy", "--ignore-eos", "--print-ids"]
                    said = call([binary, "generate", model, *ids, *limit, *types, "--chip", chip], golden).strip()
                    if said != ",".join(map(str, p["greedy"])):
                        faults.append(f"greedy ids differ after {len(p['ids'])} tokens: {said[:60]}")
    except Refused as why:
        return f"{name:32} {chip:6} refused, which is allowed: {why}", True
    except (RuntimeError, OSError, ValueError) as why:
        return f"{name:32} {chip:6} FAILED {why}", False
    worst, mean = max(found), sum(found) / len(found)
    bound = max(NATIVE, 2 * sum(rounded) / len(rounded)) if rounded else 0.0
    if not (mean <= bound if mean_bound else worst < EXACT):
        faults.insert(0, f"KL too large, first at position {next((i for i, k in enumerate(found) if not k < EXACT), 0)} of all prompts")
    return f"{name:32} {chip:6} mean KL {mean:8.1e}  max {worst:8.1e}  {'FAILED ' + '; '.join(faults) if faults else 'ok'}", not faults


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("names", nargs="*", metavar="NAME")
    a.add_argument("--chips", default="ref,cpu")
    a.add_argument("--native", action="store_true")
    args = a.parse_args()
    names = args.names or sorted(f.parent.name for f in HERE.glob("*/golden.json"))
    if not names:
        print("no golden checkpoints found")
        return 1
    jobs = [(args.binary, name, chip, args.native) for name in names for chip in args.chips.split(",")]
    passed = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for line, good in pool.map(lambda job: run(*job), jobs):
            passed += good
            print(line, flush=True)
    print(f"{passed} passed, {len(jobs) - passed} failed")
    return 0 if passed == len(jobs) else 1


if __name__ == "__main__":
    raise SystemExit(main())

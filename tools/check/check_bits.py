#!/usr/bin/env python3
"""The same-bits check: a row's logits depend on the weights, the chip and that row's inputs, and on nothing else.

    check_bits.py BINARY MODEL... [--chips ref,cpu] [--tokens 131] [--vocab N] [--weights native,f32] [--quick]

For every model, the logits of one prompt alone are compared byte by byte with those of the same prompt among eight, with one,
two and three threads, token by token, cut at odd places, after a reused prefix of 64 and of 128, without the tape, on a second run, and
when only the last rows are asked for.
MODEL may also be a folder of model folders and files. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

VARIANTS = {
    "again": [],
    "batch 8": ["--batch", "8"],
    "threads 1": ["--threads", "1"],
    "threads 2": ["--threads", "2"],
    "threads 3": ["--threads", "3"],
    "chunk 1": ["--chunk", "1"],
    "chunk 3,5,1,17,2,…": ["--chunk", "3,5,1,17,2,16,31,33"],
    "eager": ["--eager"],
    "batch 8, threads 3, chunk 7": ["--batch", "8", "--threads", "3", "--chunk", "7"],
}
QUICK = ("batch 8", "threads 3", "chunk 1", "chunk 3,5,1,17,2,…", "eager")


def models(paths: list[Path]) -> list[Path]:
    """The paths themselves, or what lies in a folder that is no model."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir() and not (path / "config.json").exists():
            inside = [*path.glob("*.gguf"), *path.glob("*/*.gguf"), *(c.parent for c in path.glob("*/config.json"))]
            found += sorted(inside)
        else:
            found.append(path)
    return found


def logits(args: list[str], out: Path) -> bytes | str:
    """The rows as they were written, or what the program said instead."""
    out.unlink(missing_ok=True)
    done = subprocess.run([*args, "--out", str(out)], capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode or not out.exists():
        return f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    data = out.read_bytes()
    return data[10 + int.from_bytes(data[8:10], "little") :]


def position_limit(binary: str, model: Path) -> int:
    """The longest sequence that the model takes; a large number where the program cannot say."""
    done = subprocess.run([binary, "inspect", str(model), "--json"], capture_output=True, text=True, errors="replace")
    return int(json.loads(done.stdout)["spec"]["max_position_embeddings"]) if done.returncode == 0 else 1 << 30


def variants(tokens: int, quick: bool) -> dict[str, list[str]]:
    """What is compared; the last rows alone, too, since a model may then compute fewer rows."""
    found = {what: options for what, options in VARIANTS.items() if not quick or what in QUICK}
    last = str(tokens - 2)
    for k in (64, 130):
        if k < tokens:
            found[f"reuse {k}"] = ["--reuse", str(k)]
            found[f"reuse {k}, the last rows"] = ["--reuse", str(k), "--from", last]
    return found | {"the last rows": ["--from", last], "the last rows, chunk 5": ["--from", last, "--chunk", "5"]}


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("models", nargs="+", type=Path)
    a.add_argument("--chips", default="ref,cpu")
    a.add_argument("--weights", default="native")
    a.add_argument(
        "--tokens", type=int, default=131, help="length of the prompt; above 64, better above 130, so that a prefix can be reused"
    )
    a.add_argument("--vocab", type=int, default=256, help="ids are drawn below this number")
    a.add_argument("--quick", action="store_true", help="without four of the comparisons")
    args = a.parse_args()
    if args.tokens <= 64:
        a.error("--tokens must be above 64")
    rng = random.Random(11)
    drawn = [str(rng.randrange(args.vocab)) for _ in range(args.tokens)]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="hadal-bits-") as scratch:
        out = Path(scratch) / "logits.npy"
        for model in models(args.models):
            name = model.parent.name if model.name == "model.gguf" else model.name
            tokens = min(args.tokens, position_limit(args.binary, model))
            ids = ",".join(drawn[:tokens])
            for chip in args.chips.split(","):
                for weights in args.weights.split(","):
                    base = [args.binary, "logits", str(model), "--ids", ids, "--chip", chip, "--weights", weights]
                    alone = logits(base, out)
                    faults = [alone] if isinstance(alone, str) else []
                    if isinstance(alone, bytes):
                        for what, options in variants(tokens, args.quick).items():
                            found = logits(base + options, out)
                            if isinstance(found, str):
                                faults.append(f"{what} ({found})")
                            elif not found or not alone.endswith(found) or ("--from" not in options and found != alone):
                                faults.append(what)
                    passed += not faults
                    failed += bool(faults)
                    print(f"{name:40} {chip:6} {weights:6} {'FAILED: ' + '; '.join(faults) if faults else 'same bits'}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    raise SystemExit(main())

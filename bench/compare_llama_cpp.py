#!/usr/bin/env python3
"""Hadal beside llama.cpp on one GGUF file: five samples a side, taken in turns (needs llama-cpp-python).

    compare_llama_cpp.py BINARY MODEL.gguf [--samples 5] [--threads N] [--prefill 512] [--decode 64] [--depth 0] [--batch 1]

Each sample is a process of its own with one warm-up, and the sides alternate, first one then the other leading, so that a slow
phase of the machine meets both. Every sample is printed as a JSON line; the last lines give the medians, the spread and the
ratio. Build the peer for this very machine, or the comparison means nothing:
    CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def hadal_sample(o: argparse.Namespace) -> list[dict[str, Any]]:
    lines = subprocess.run(
        [
            o.binary,
            "bench",
            o.model,
            "--prefill",
            str(o.prefill) if o.prefill else "",
            "--decode",
            str(o.decode),
            "--depth",
            str(o.depth),
            "--batch",
            str(o.batch),
            "--samples",
            "1",
            "--no-peaks",
            "--threads",
            str(o.threads),
            *o.hadal_options.split(),
        ],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    ).stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def peer_sample(o: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs in a process of its own (--peer): the same work through llama.cpp's C functions, sampling left out."""
    import llama_cpp as ll

    silence = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(silence, None)
    ll.llama_backend_init()
    model = ll.llama_model_load_from_file(o.model.encode(), ll.llama_model_default_params())
    if not model:
        raise SystemExit("llama.cpp cannot load the model")
    settings = ll.llama_context_default_params()
    settings.n_ctx = o.batch * (max(o.prefill, o.depth + o.decode + 8) + 8)
    settings.n_batch, settings.n_ubatch, settings.n_seq_max = 2048, 512, o.batch
    settings.n_threads = settings.n_threads_batch = o.threads
    context = ll.llama_init_from_model(model, settings)
    if not context:
        raise SystemExit("llama.cpp cannot make a context")
    vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    rng, batch = random.Random(1), ll.llama_batch_init(2048, 0, 1)

    def decode(rows: list[tuple[int, int, bool]]) -> None:
        """One call for rows of (sequence, position, logits wanted)."""
        batch.n_tokens = len(rows)
        for i, (sequence, position, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = rng.randrange(vocab), position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if ll.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        ll.llama_synchronize(context)

    def prompt(sequence: int, length: int) -> None:
        for at in range(0, length, 2048):
            decode([(sequence, p, p == length - 1) for p in range(at, min(length, at + 2048))])

    def seconds(work: Callable[[], None]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def clear() -> None:
        ll.llama_memory_clear(ll.llama_get_memory(context), True)

    def generate(first: int, count: int) -> None:
        for p in range(first, first + count):
            decode([(s, p, True) for s in range(o.batch)])

    found = []
    prompt(0, 32)
    clear()
    if o.prefill:
        found.append({"test": f"pp{o.prefill}", "tok_s": o.prefill / seconds(lambda: prompt(0, o.prefill))})
        clear()
    if o.decode:
        for s in range(o.batch):
            prompt(s, max(o.depth, 1))
        at = max(o.depth, 1)
        generate(at, 2)
        found.append(
            {
                "test": f"tg{o.decode}",
                "depth": o.depth,
                "batch": o.batch,
                "tok_s": o.batch * o.decode / seconds(lambda: generate(at + 2, o.decode)),
            }
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return [
        f
        | {
            "peak_rss_mib": peak,
            "version": importlib.metadata.version("llama-cpp-python"),
            "built_for": ll.llama_print_system_info().decode().strip(),
        }
        for f in found
    ]


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("model")
    for name, value in (("samples", 5), ("threads", os.cpu_count() or 1), ("prefill", 512), ("decode", 64), ("depth", 0), ("batch", 1)):
        a.add_argument("--" + name, type=int, default=value)
    a.add_argument("--hadal-options", default="", help="further options for hadal bench, in one argument")
    a.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    o = a.parse_args()
    if o.peer:
        print(json.dumps(peer_sample(o)))
        return 0

    def peer() -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--peer"], stdout=subprocess.PIPE, check=True, text=True
        )
        return json.loads(done.stdout.splitlines()[-1])

    sides: dict[str, Callable[[], list[dict[str, Any]]]] = {"hadal": lambda: hadal_sample(o), "llama.cpp": peer}
    speeds: dict[str, dict[str, list[float]]] = {}
    for sample in range(o.samples):
        for side in list(sides) if sample % 2 == 0 else list(sides)[::-1]:
            for row in sides[side]():
                speeds.setdefault(row["test"], {}).setdefault(side, []).append(row["tok_s"])
                print(
                    json.dumps(
                        {"engine": side, "sample": sample, "model": os.path.basename(o.model), "threads": o.threads}
                        | row
                        | {"model": os.path.basename(o.model)}
                    ),
                    flush=True,
                )
    for test, by_side in speeds.items():
        middle = {side: statistics.median(values) for side, values in by_side.items()}
        said = ", ".join(f"{side} {middle[side]:.1f} [{min(v):.1f}-{max(v):.1f}] tok/s" for side, v in by_side.items())
        ratio = f", hadal / llama.cpp {middle['hadal'] / middle['llama.cpp']:.2f}" if len(middle) == 2 else ""
        print(f"{test}: {said}{ratio} (median of {o.samples})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What compare_llama_cpp.py and peers.py share: one sample of either engine, and samples taken in turns (standard library alone).

Each sample is a process of its own with one warm-up (a load: with none). The sides alternate, first one then the other leading, so
that a slow phase of the machine meets both. While a process runs, its resident memory is read, split into anonymous pages and pages
of files.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
PEER = Path(__file__).resolve().with_name("llama_cpp_sample.py")
NO_PEER = f"llama-cpp-python is not installed for {sys.executable} (make compare and make bench-peers install it)"


class SampleError(Exception):
    """A sample that did not come about, in words."""


@dataclass(frozen=True)
class Work:
    """One sample. `repeats`: prompts in one process, whose median counts; `warm`: a prompt before, so many tokens long."""

    prefill: int = 0
    decode: int = 0
    depth: int = 0
    batch: int = 1
    repeats: int = 1
    warm: int = 0
    load: bool = False  # nothing but the time from the start to the first token
    ids: tuple[int, ...] = ()  # of llama.cpp: nothing but the logits of these, to the file `out`
    out: str = ""


@dataclass
class Finished:
    text: str
    first_byte: float  # seconds from the start to the first byte of stdout
    anonymous_mib: float
    files_mib: float
    resident_mib: float  # the most of both together


def resident(pid: int) -> tuple[int, int] | None:
    """Anonymous KiB and those of files; None where this system does not say or the process has ended."""
    found = {"RssAnon": -1, "RssFile": -1}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0])
    except OSError:
        return None
    return (found["RssAnon"], found["RssFile"]) if min(found.values()) >= 0 else None


def run(command: list[str], timeout: float) -> Finished:
    """Runs it to its end; raises SampleError with what it said last."""
    anonymous = files = both = 0
    ended = threading.Event()

    def watch(pid: int) -> None:
        nonlocal anonymous, files, both
        while not ended.wait(0.02):
            if pages := resident(pid):
                anonymous, files, both = max(anonymous, pages[0]), max(files, pages[1]), max(both, sum(pages))

    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            watcher = threading.Thread(target=watch, args=(process.pid,))
            limit = threading.Timer(timeout, process.kill)
            watcher.start()
            limit.start()
            try:
                assert process.stdout is not None
                text = os.read(process.stdout.fileno(), 1 << 16)
                first = time.perf_counter() - start
                text += process.stdout.read()
                code = process.wait()
            finally:
                limit.cancel()
                ended.set()
                watcher.join()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    if code:
        if code < 0 and time.perf_counter() - start >= timeout:
            raise SampleError(f"was ended after {timeout:.0f} s")
        raise SampleError(f"{'was ended by signal' if code < 0 else 'exit'} {abs(code)}" + (f": {said[-1][:300]}" if said else ""))
    return Finished(text.decode(errors="replace"), first, anonymous / 1024, files / 1024, both / 1024)


def with_memory(rows: Rows, done: Finished) -> Rows:
    if not done.resident_mib:
        return rows
    memory = {"rss_mib": done.resident_mib, "rss_anonymous_mib": done.anonymous_mib, "rss_files_mib": done.files_mib}
    return [row | {key: round(value, 1) for key, value in memory.items()} for row in rows]


def hadal_sample(
    binary: str, model: str, w: Work, threads: int, options: str = "", peaks: bool = False, timeout: float = 3600
) -> tuple[Rows, dict[str, float]]:
    """The measurements, and with `peaks` what the machine could do in the same minute."""
    if w.load:
        command = [binary, "generate", model, "--ids", "1", "--max-new", "1", "--greedy", "--ignore-eos", "--print-ids"]
        done = run([*command, "--threads", str(threads), *options.split()], timeout)
        return with_memory([{"test": "load", "seconds": done.first_byte}], done), {}
    prefills = [n for n in (w.warm, w.prefill) if n]
    command = [binary, "bench", model, "--prefill", ",".join(map(str, prefills)), "--decode", str(w.decode), "--depth", str(w.depth)]
    command += ["--batch", str(w.batch), "--samples", str(w.repeats), "--threads", str(threads), *([] if peaks else ["--no-peaks"])]
    done = run([*command, *options.split()], timeout)
    lines = [json.loads(line) for line in done.text.splitlines() if line.startswith("{")]
    probes = {k: v for line in lines if line["test"] == "peaks" for k, v in line.items() if k != "test"}
    rows = [line for line in lines if line["test"] != "peaks"]
    return with_memory(rows[1:] if w.warm else rows, done), probes


def has_peer() -> bool:
    return importlib.util.find_spec("llama_cpp") is not None


def peer_sample(model: str, w: Work, threads: int, timeout: float = 3600) -> Rows:
    work = json.dumps(asdict(w) | {"model": model, "threads": threads})
    done = run([sys.executable, str(PEER), work], timeout)
    return with_memory(json.loads(done.text.splitlines()[-1]), done)


def in_turns(sides: dict[str, Callable[[], Any]], samples: int) -> Iterator[tuple[int, str, Any]]:
    """(sample, side, what it gave), the sides alternating."""
    for sample in range(samples):
        for side in list(sides) if sample % 2 == 0 else list(sides)[::-1]:
            yield sample, side, sides[side]()


def spread(values: list[float]) -> str:
    """The median, in brackets the least and the most; with three digits at least."""
    middle = statistics.median(values)
    digits = 0 if middle >= 1000 else 1 if middle >= 10 else 2
    return f"{middle:.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"

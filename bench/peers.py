#!/usr/bin/env python3
"""The table of figures: Hadal beside llama.cpp, and beside what this machine could do in the same minute.

    peers.py BINARY [ROW...] [--models .models/bench] [--model NAME=PATH] [--samples 5] [--threads N] [--out FILE] [--no-make] [--list]

ROW is MODEL/TEST, * and ? as in file names; by default the rows that --list marks. MODEL is a name of make_models.py, which makes
what is missing; --model takes another file or folder for it, or names a model of your own. Samples are taken in turns as measure.py
says it, with a probe of the machine's peaks in every sample of Hadal. The table gives medians, in brackets the least and the most;
"better" is how many times faster or smaller Hadal is; "of peak" is what each side reached of the peak that binds it most, of the
probes beside its own samples. For llama.cpp it counts the bytes and operations that Hadal needs for the same tokens.

  prefill  a prompt of 512 tokens                    decode   64 tokens of one sequence
  two      steps of 2 rows of one sequence           eight    32 tokens of each of 8 sequences, all together
  deep     32 tokens behind 4096                     load     the file in the page cache, to the first token: of Hadal the whole process
  memory   the most resident during a prompt of               up to its first byte, of llama.cpp without Python's start
           512 and 64 tokens, and the most of either kind

Every sample is a JSON line of the file --out, after a line about the machine. Exit 0: all rows that can be measured were.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import make_models
import measure

ROOT = Path(__file__).resolve().parents[1]
LLAMA = "llama.cpp"
TESTS = {
    "prefill": measure.Work(prefill=512),
    "decode": measure.Work(decode=64),
    "two": measure.Work(prefill=2, repeats=16),
    "eight": measure.Work(decode=32, batch=8),
    "deep": measure.Work(decode=32, depth=4096),
    "load": measure.Work(load=True),
    "memory": measure.Work(prefill=512, decode=64),
}
MODELS = ("qwen1.5b-q4_k_m", "qwen1.5b-q8_0", "qwen1.5b-bf16", "v3slice-fp8", "v2lite-q8_0", "v2lite-q4_k_m")
# without a name: every test of the usual file, four of the others, none of V2-Lite, whose files have 10 and 17 GB
DEFAULT = ("qwen1.5b-q4_k_m/*", *(f"{model}/{test}" for model in MODELS[1:4] for test in ("prefill", "decode", "load", "memory")))
WARM_EXPERTS = 512  # a prompt so long meets every expert
MEMORY_SAMPLES = 2  # memory hardly varies
METRICS = {"load": {"": "seconds"}, "memory": {"": "rss_mib", "anonymous": "rss_anonymous_mib", "of files": "rss_files_mib"}}
UNITS = {"tok_s": "tok/s", "seconds": "s"}


class NotRun(Exception):
    """Why a row is not measured, in words."""


@dataclass
class Row:
    name: str
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # by metric, then by side
    of_peak: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # by side, then by peak: per cent
    remarks: list[str] = field(default_factory=list)


# --- the machine -----------------------------------------------------------------------------------------------------------


def said_by(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def cpu_facts() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    return facts.get("model name", platform.machine()).strip(), set(facts.get("flags", "").split())


def peer_facts() -> tuple[str, str]:
    """Version and instruction sets of llama.cpp; asked in another process, so that this one stays small."""
    if not measure.has_peer():
        return "", ""
    code = (
        "import importlib.metadata as m, llama_cpp as l; print(m.version('llama-cpp-python')); print(l.llama_print_system_info().decode())"
    )
    lines = said_by([sys.executable, "-c", code]).splitlines()
    return (lines[0], lines[-1].strip(" |")) if len(lines) >= 2 else ("", "")


def machine(binary: str, threads: int, samples: int) -> dict[str, Any]:
    cpu, flags = cpu_facts()
    chips = said_by([binary, "chips", "--lang", "en"]).splitlines()
    kernels = [line.split("kernel table", 1)[1].strip() for line in chips if "kernel table" in line]
    version, built_for = peer_facts()
    missing = [
        flag for flag in ("avx2", "avx512f", "avx512_vnni") if flag in flags and flag.removesuffix("f").upper() + " = 1" not in built_for
    ]
    return {
        "test": "machine",
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "hadal": said_by([binary, "--version"]).removeprefix("hadal "),
        "commit": said_by(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
        "kernels": kernels[0] if kernels else "",
        "llama_cpp_python": version,
        "built_for": built_for,
        "not_built_for": missing if version else [],
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load_average": round(os.getloadavg()[0], 2),
        "threads": threads,
        "samples": samples,
    }


def describe(m: dict[str, Any]) -> str:
    peer = f"llama-cpp-python {m['llama_cpp_python']}, built for {m['built_for']}" if m["llama_cpp_python"] else measure.NO_PEER
    lines = [
        f"{m['when']}  {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB; {m['system']}",
        f"hadal {m['hadal']}" + (f", commit {m['commit']}" if m["commit"] else "") + f", kernel table {m['kernels'] or 'unknown'}",
        peer,
        f"{m['threads']} threads, {m['samples']} samples a side, taken in turns; load average before {m['load_average']}",
    ]
    if m["not_built_for"]:
        lines.append(f"WARNING: llama.cpp was built without {', '.join(m['not_built_for'])}, which this CPU has: the ratios mean nothing")
    if m["load_average"] > 0.5:
        lines.append("WARNING: something else runs on this machine; what is measured beside it is worth little")
    return "\n".join(lines)


# --- one row ---------------------------------------------------------------------------------------------------------------


def warm_page_cache(path: Path) -> None:
    buffer = bytearray(1 << 24)
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with file.open("rb", buffering=0) as f:
            while f.readinto(buffer):
                pass


def is_mixture(name: str) -> bool:
    return name.startswith(("v2lite", "v3slice"))


def work_of(model: str, test: str) -> measure.Work:
    work = TESTS[test]
    return replace(work, warm=WARM_EXPERTS) if is_mixture(model) and not work.load else work


def percents(row: dict[str, Any], tok_s: float, probes: dict[str, float]) -> dict[str, float]:
    """What `tok_s` needs of each peak, in per cent: Hadal's row says what a token needs, and against which peak its dots count."""
    found = {}
    if "percent_of_read_peak" in row:
        found["read"] = row["percent_of_read_peak"]
    if dots := row.get("percent_of_dot_peak"):
        peak = row["gop_s"] / dots * 100
        name = min((k for k in probes if k != "read_gb_s"), key=lambda k: abs(probes[k] - peak), default="dot")
        found[name.split("_")[0]] = dots
    return {name: value * tok_s / row["tok_s"] for name, value in found.items()}


class Table:
    def __init__(self, o: argparse.Namespace, log: TextIO) -> None:
        self.o, self.log, self.rows, self.failed = o, log, list[Row](), False
        self.warm: Path | None = None
        self.peer = measure.has_peer()
        self.own = dict(text.split("=", 1) for text in o.model)

    def write(self, value: dict[str, Any]) -> None:
        print(json.dumps(value, ensure_ascii=False), file=self.log, flush=True)

    def path(self, model: str) -> Path:
        """The model's file or folder, made where it is missing, its pages in the page cache."""
        if model in self.own:
            path = Path(self.own[model])
            if not path.exists():
                raise NotRun(f"{path} is not there")
        else:
            wanted = make_models.model_of(model)
            path = make_models.path_of(self.o.models, wanted)
            if not path.exists() and self.o.no_make:
                raise NotRun(f"{path} is not there (bench/make_models.py {model} makes it)")
            if not path.exists():
                print(f"{model}: making {path}", file=sys.stderr, flush=True)
            try:
                make_models.make(self.o.models, wanted)
            except (make_models.NoRoom, OSError) as why:
                raise NotRun(str(why)) from why
        if path != self.warm:
            warm_page_cache(path)
            self.warm = path
        return path

    def check_memory(self, path: Path, work: measure.Work) -> None:
        """Of Hadal by its own plan; llama.cpp packs weights anew beside the mapped file, so that a file must leave it some room."""
        context = str(work.batch * (max(work.prefill, work.warm, work.depth + work.decode) + 64))
        text = said_by([self.o.binary, "plan", str(path), "--ctx", context, "--json", *self.o.hadal_options.split()])
        plan = json.loads(text) if text.startswith("{") else {}
        free = plan.get("bytes", {}).get("available", 0)
        if not plan.get("fits", True):
            raise NotRun(f"Hadal needs {plan['bytes']['total'] / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free")
        size = make_models.size_of(path)
        if free and size > 0.85 * free:
            raise NotRun(f"the model has {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free")

    def measure(self, name: str) -> None:
        model, test = name.rsplit("/", 1)
        row = Row(name)
        self.rows.append(row)
        try:
            path = self.path(model)
            self.check_memory(path, work_of(model, test))
        except NotRun as why:
            row.remarks.append(f"not run: {why}")
            self.write({"row": name, "not_run": str(why)})
            return
        work, o = work_of(model, test), self.o
        peaks = test not in ("load", "memory")
        sides: dict[str, Callable[[], Any]] = {
            "hadal": lambda: measure.hadal_sample(o.binary, str(path), work, o.threads, o.hadal_options, peaks, o.timeout)
        }
        if path.is_dir():
            row.remarks.append("no peer reads such a folder")
        elif not self.peer:
            row.remarks.append(f"{LLAMA} not run: llama-cpp-python is not installed")
        else:
            sides[LLAMA] = lambda: (measure.peer_sample(str(path), work, o.threads, o.timeout), {})
        self.sample(row, test, sides)

    def sample(self, row: Row, test: str, sides: dict[str, Callable[[], Any]]) -> None:
        def guarded(side: str) -> Callable[[], Any]:
            def call() -> Any:
                if side in broken:
                    return None
                try:
                    return sides[side]()
                except (measure.SampleError, OSError, ValueError, IndexError) as why:
                    broken.add(side)
                    self.failed = True
                    row.remarks.append(f"{side} FAILED: {why}")
                    self.write({"row": row.name, "engine": side, "failed": str(why)})
                    return None

            return call

        broken: set[str] = set()
        guards = {side: guarded(side) for side in sides}
        if test == "load":  # once uncounted, so that everything lies in the page cache
            for call in guards.values():
                call()
        samples = min(self.o.samples, MEMORY_SAMPLES) if test == "memory" else self.o.samples
        turns: dict[int, dict[str, Any]] = {}
        for sample, side, found in measure.in_turns(guards, samples):
            if found is None:
                continue
            measured, probes = found[0][-1], found[1]
            for metric, key in METRICS.get(test, {"": "tok_s"}).items():
                if key in measured:
                    row.values.setdefault(metric, {}).setdefault(side, []).append(measured[key])
            named = {"row": row.name, "engine": side, "sample": sample, "threads": self.o.threads}
            self.write(named | measured | ({"probes": probes} if probes else {}))
            turns.setdefault(sample, {})[side] = (measured, probes)
        for turn in turns.values():
            self.add_percents(row, turn)
        if test == "memory" and not row.values and not row.remarks:
            row.remarks.append("not run: this system has no /proc that tells anonymous pages from those of files")

    @staticmethod
    def add_percents(row: Row, turn: dict[str, Any]) -> None:
        """Both sides of a turn against the probes of Hadal's sample."""
        if "hadal" not in turn or not turn["hadal"][1]:
            return
        own, probes = turn["hadal"]
        for side in ("hadal", LLAMA):
            if side in turn:
                for peak, value in percents(own, turn[side][0]["tok_s"], probes).items():
                    row.of_peak.setdefault(side, {}).setdefault(peak, []).append(value)


# --- the table -------------------------------------------------------------------------------------------------------------


def peak_text(row: Row) -> str:
    """The peak that binds Hadal most, and what each side reached of it."""
    by_peak = {peak: statistics.median(v) for peak, v in row.of_peak.get("hadal", {}).items()}
    if not by_peak:
        return ""
    peak = max(by_peak, key=lambda name: by_peak[name])
    reached = [statistics.median(row.of_peak[side][peak]) for side in ("hadal", LLAMA) if peak in row.of_peak.get(side, {})]
    return " / ".join(f"{value:.0f}" for value in reached) + f" % {peak}"


def table_lines(rows: list[Row]) -> list[str]:
    lines = [["", "Hadal", LLAMA, "", "better", "of peak", ""]]
    for row in rows:
        if not row.values:
            lines.append([row.name, "-", "-", "", "", "", "; ".join(row.remarks)])
        for metric, sides in row.values.items():
            key = METRICS.get(row.name.rsplit("/", 1)[1], {"": "tok_s"})[metric]
            middle = {side: statistics.median(v) for side, v in sides.items()}
            better = ""
            if len(middle) == 2 and min(middle.values()) > 0:
                ratio = middle["hadal"] / middle[LLAMA]
                better = f"{ratio if key == 'tok_s' else 1 / ratio:.2f}"
            texts = [measure.spread(sides[side]) if side in sides else "-" for side in ("hadal", LLAMA)]
            name, remarks = (f"  {metric}", "") if metric else (row.name, "; ".join(row.remarks))
            lines.append([name, *texts, UNITS.get(key, "MiB"), better, "" if metric else peak_text(row), remarks])
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    return ["  ".join([cell.ljust(width) for cell, width in zip(line, widths)] + line[6:]).rstrip() for line in lines]


def probe_text(log: Path) -> str:
    """The least and the most of each probe over the whole run, of this run's lines."""
    found: dict[str, list[float]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        for name, value in json.loads(line).get("probes", {}).items():
            found.setdefault(name, []).append(value)
    return "Peaks of this machine meanwhile: " + ", ".join(f"{k} {measure.spread(v)}" for k, v in found.items()) if found else ""


def chosen(o: argparse.Namespace) -> list[str]:
    own = [text.split("=", 1)[0] for text in o.model]
    rows = [f"{model}/{test}" for model in dict.fromkeys([*MODELS, *own]) for test in TESTS]
    patterns = o.rows or [*DEFAULT, *(f"{name}/*" for name in own)]
    for pattern in patterns:
        if not fnmatch.filter(rows, pattern):
            raise ValueError(f"no row is called {pattern}; --list names them")
    return [row for row in rows if any(fnmatch.fnmatch(row, pattern) for pattern in patterns)]


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("rows", nargs="*", metavar="ROW")
    a.add_argument("--models", type=Path, default=ROOT / ".models" / "bench", help="where the made models lie")
    a.add_argument("--model", action="append", default=[], metavar="NAME=PATH", help="another file or folder for a model")
    a.add_argument("--samples", type=int, default=5)
    a.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    a.add_argument("--timeout", type=float, default=3600, help="most seconds of a sample")
    a.add_argument("--hadal-options", default="", help="further options for hadal, in one argument")
    a.add_argument("--out", type=Path, help="JSON lines of all samples; by default a new file in --models")
    a.add_argument("--no-make", action="store_true", help="do not make models that are missing")
    a.add_argument("--list", action="store_true", help="name the rows, those of a run without names by a *")
    o = a.parse_intermixed_args()
    try:
        if bad := [text for text in o.model if "=" not in text]:
            raise ValueError(f"--model {bad[0]}: expected NAME=PATH")
        rows = chosen(o)
    except ValueError as why:
        a.error(str(why))
    if o.list:
        usual = set(rows)
        o.rows = ["*/*"]
        print("\n".join(f"{'*' if row in usual else ' '} {row}" for row in chosen(o)))
        return 0
    if not said_by([o.binary, "--version"]):
        print(f"{o.binary} does not run; make program builds it", file=sys.stderr)
        return 1
    out = o.out or o.models / time.strftime("peers-%Y%m%d-%H%M%S.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    facts = machine(o.binary, o.threads, o.samples)
    print(describe(facts) + "\n", flush=True)
    with out.open("w", encoding="utf-8") as log:
        table = Table(o, log)
        table.write(facts)
        for number, name in enumerate(rows):
            print(f"[{number + 1}/{len(rows)}] {name}", file=sys.stderr, flush=True)
            table.measure(name)
    print("\n".join(table_lines(table.rows)))
    print("\n" + "\n".join(filter(None, [probe_text(out), f"All samples: {out}"])))
    return 1 if table.failed or not any(row.values for row in table.rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""Throughput of a server of OpenAI's chat API: clients at once, in turns with a peer, on one model.

serve.py HADAL MODEL.gguf [--clients 1,8,32] [--samples 3] [--tokens 64] [--requests N] [--peer PYTHON]

Each client is a thread of one client process, and streams one answer after the other: prompts of mixed length, answers of exactly
--tokens tokens where the server lets itself be told so (ignore_eos). Prints for each number of clients and each side: new tokens/s,
seconds to the first token and between tokens (p50/p99), the client's own CPU seconds, and the server's. PYTHON: one that has
xllamacpp, whose server (llama.cpp's) is the peer; without it only Hadal is measured. Standard library only.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "server"))
from harness import Server

PEER = """
import sys, time
import xllamacpp as x
p = x.CommonParams()
p.model.path = sys.argv[1]
p.n_parallel = int(sys.argv[2])
p.n_ctx = int(sys.argv[3])
p.n_gpu_layers = 0
p.cpuparams.n_threads = 2
p.cpuparams_batch.n_threads = 2
s = x.Server(p)
print("ready", s.listening_address, flush=True)
time.sleep(36000)
"""


class Peer:
    def __init__(self, python: str, model: str, slots: int) -> None:
        self.model = "peer"
        self.process = subprocess.Popen(
            [python, "-c", PEER, model, str(slots), str(slots * 1024)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("ready"):
                self.host, port_text = line.split()[1].removeprefix("http://").rsplit(":", 1)
                self.port = int(port_text)
                break

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


WORDS = "the sea is deep and dark below the waves where no light falls and cold water moves slowly over old stones".split()


def prompt(number: int) -> str:
    words = [WORDS[(number * 7 + i * 3) % len(WORDS)] for i in range(10 + (number * 37) % 150)]
    return f"Question {number}: go on with this text. " + " ".join(words)


class Run:
    """`count` requests by so many clients."""

    def __init__(self, server: Any, clients: int, count: int, tokens: int, first_number: int) -> None:
        self.server, self.tokens = server, tokens
        self.numbers = list(range(first_number, first_number + count))
        self.lock = threading.Lock()
        self.first: list[float] = []
        self.gaps: list[float] = []
        self.new_tokens = 0
        self.failed = 0
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        server_cpu = server.cpu_seconds()
        start = time.monotonic()
        threads = [threading.Thread(target=self.client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        self.client_cpu = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
        self.server_cpu = server.cpu_seconds() - server_cpu

    def client(self) -> None:
        while True:
            with self.lock:
                if not self.numbers:
                    return
                number = self.numbers.pop()
            self.ask(number)

    def ask(self, number: int) -> None:
        body = {
            "model": self.server.model,
            "messages": [{"role": "user", "content": prompt(number)}],
            "max_tokens": self.tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=600)
        begin = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        times, used = [], 0
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            if b'"content":"' in line or b'"content": "' in line:
                times.append(time.monotonic())
            if b'"completion_tokens"' in line:
                used = json.loads(line[6:])["usage"]["completion_tokens"]
        connection.close()
        with self.lock:
            if response.status != 200 or not times:
                self.failed += 1
                return
            self.new_tokens += used
            self.first.append(times[0] - begin)
            self.gaps += [b - a for a, b in itertools.pairwise(times)]


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--requests", type=int, default=0, help="a sample; 0: as many as clients, 4 at least")
    parser.add_argument("--peer")
    o = parser.parse_args()
    most = max(int(n) for n in o.clients.split(","))
    sides: dict[str, Any] = {
        "hadal": Server(
            o.binary,
            o.model,
            "--parallel",
            str(min(most, 32)),
            "--queue",
            "1024",
            "--log",
            "off",
            "--cache-tokens",
            str(min(most, 32) * 1024),
        )
    }
    if o.peer:
        sides["peer"] = Peer(o.peer, o.model, min(most, 32))
    number = 0
    for clients in (int(n) for n in o.clients.split(",")):
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        for _ in range(o.samples):
            for name, side in sides.items():
                count = o.requests or max(clients, 4)
                runs[name].append(Run(side, clients, count, o.tokens, number))
            number += 1000
        for name, done in runs.items():
            speeds = [run.new_tokens / run.seconds for run in done]
            first = [t for run in done for t in run.first]
            gaps = [t for run in done for t in run.gaps]
            tokens = sum(run.new_tokens for run in done)
            print(
                f"{clients:3} clients {name:6} {statistics.median(speeds):7.1f} new tokens/s [{min(speeds):.1f}-{max(speeds):.1f}]  "
                f"first {quantile(first, 0.5):6.2f} / {quantile(first, 0.99):6.2f} s  between {1000 * quantile(gaps, 0.5):6.1f} / "
                f"{1000 * quantile(gaps, 0.99):6.1f} ms  client CPU {sum(r.client_cpu for r in done):5.2f} s  server CPU "
                f"{1000 * sum(r.server_cpu for r in done) / max(tokens, 1):6.1f} ms a token  failed {sum(r.failed for r in done)}",
                flush=True,
            )
        if "peer" in runs:
            ratios = [a.new_tokens / a.seconds / (b.new_tokens / b.seconds) for a, b in zip(runs["hadal"], runs["peer"]) if b.new_tokens]
            print(f"{clients:3} clients ratio  {statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]", flush=True)
    for side in sides.values():
        side.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

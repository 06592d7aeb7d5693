#!/usr/bin/env python3
"""Overload: many more clients than `hadal serve` has places. Nobody is lost, and nearly as much is done as at saturation.

overload.py BINARY [--clients 128] [--slots 2] [--seconds 60] [--goodput 0.95] [--health 0.05]     standard library only

The server runs on the first core, the clients, processes of their own, on the last one. They obey Retry-After. Saturation is measured by
twice as many clients as there are places, before and after the load. Goodput is tokens of answers with 200 in a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from harness import SMOLLM2, Server, serving
from wire import connect, metric, mib, post, quantile, read_responses, talk

GROWTH = 64 << 20
PER_PROCESS = 32


@dataclass
class Tally:
    """What clients saw."""

    statuses: dict[int, int] = field(default_factory=dict)
    tokens: int = 0  # of answers that came within the time
    sent: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of answers with 200

    def add(self, other: Tally) -> None:
        for status, count in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
        self.tokens += other.tokens
        self.sent += other.sent
        self.faults += other.faults
        self.seconds += other.seconds


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Any:
    writer.write(request)
    await writer.drain()
    raw = b""
    while True:
        piece = await reader.read(65536)
        if not piece:
            raise ConnectionError(f"closed after {len(raw)} bytes")
        raw += piece
        found, fault = read_responses(raw, False)
        if fault:
            raise ConnectionError(fault)
        if found and found[0].whole:
            return found[0]


async def client(port: int, number: int, end: float, tokens: int, tally: Tally) -> None:
    """Asks until `end`, and waits as long as it is told."""
    source = random.Random(number)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < end:
        prompt = f"Client {number} asks about the sea, {source.randrange(10**6)}:"
        body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
        began = time.monotonic()
        tally.sent += 1
        try:
            response = await asyncio.wait_for(exchange(reader, writer, post("/v1/completions", json.dumps(body).encode())), 120)
        except (OSError, asyncio.TimeoutError) as error:
            tally.faults.append(f"client {number}: lost a request: {type(error).__name__} {error}")
            return
        status = response.status
        tally.statuses[status] = tally.statuses.get(status, 0) + 1
        if status == 200:
            tally.seconds.append(time.monotonic() - began)
            if time.monotonic() <= end:
                tally.tokens += json.loads(response.body)["usage"]["completion_tokens"]
            continue
        wait = response.headers.get("retry-after", "")
        if status not in (429, 503) or not wait.isdigit():
            tally.faults.append(f"client {number}: {status}, Retry-After {wait!r}: {response.body[:120]!r}")
            wait = "1"
        await asyncio.sleep(min(float(wait), max(0.0, end - time.monotonic())))
    writer.close()


def clients(port: int, first: int, count: int, end: float, tokens: int, core: int, out: Connection) -> None:
    os.sched_setaffinity(0, {core})

    async def all_of_them() -> Tally:
        tally = Tally()
        await asyncio.gather(*(client(port, first + number, end, tokens, tally) for number in range(count)))
        return tally

    out.send(asyncio.run(all_of_them()))


def watch(port: int, end: float, core: int, out: Connection) -> None:
    """Asks for /health 20 times a second, on new connections, and for the queue once a second."""
    os.sched_setaffinity(0, {core})
    seconds: list[float] = []
    queue, faults = 0.0, []
    while time.monotonic() < end:
        result = talk(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seconds.append(result.seconds)
        if result.statuses != [200]:
            faults.append(f"/health: {result.statuses} {result.fault}")
        if len(seconds) % 20 == 0:
            text = talk(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").responses[0].body.decode()
            queue = max(queue, metric(text, "hadal_requests_waiting"))
        time.sleep(0.05)
    out.send((seconds, queue, faults))


@dataclass
class Phase:
    tally: Tally
    goodput: float
    health: list[float]
    queue: float


def phase(server: Server, count: int, seconds: float, tokens: int, core: int) -> Phase:
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + seconds
    pipes, running = [], []
    for first in range(0, count, PER_PROCESS):
        mine, theirs = context.Pipe(False)
        arguments = (server.port, first, min(PER_PROCESS, count - first), end, tokens, core, theirs)
        running.append(context.Process(target=clients, args=arguments))
        pipes.append(mine)
    watcher, theirs = context.Pipe(False)
    running.append(context.Process(target=watch, args=(server.port, end, core, theirs)))
    for process in running:
        process.start()
    tally = Tally()
    for pipe in pipes:
        tally.add(pipe.recv())
    health, queue, faults = watcher.recv()
    tally.faults += faults
    for process in running:
        process.join()
    return Phase(tally, tally.tokens / seconds, health, queue)


def burst(server: Server, slots: int) -> list[str]:
    """64 requests in one moment, while nothing else runs: as many as have a place or may wait are taken, and not one more."""
    body = json.dumps({"prompt": "All at once", "max_tokens": 64, "ignore_eos": True}).encode()
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(contextlib.closing(connect(server.port, 60))) for _ in range(64)]
        for link in links:
            link.sendall(post("/v1/completions", body))
        statuses: list[int] = []
        for link in links:
            raw = b""
            while not raw.startswith(b"HTTP/1.1 ") or b"\r\n" not in raw:
                raw += link.recv(4096) or b"HTTP/1.1 000\r\n"
            statuses.append(int(raw[9:12]))
    taken = statuses.count(200)
    print(f"64 at once: {taken} taken, {statuses.count(429)} refused")
    # an answer takes longer than the burst, but for the first ones on a slow day
    faults = [f"{taken} of 64 at once were taken; {slots} run and {4 * slots} may wait"] if taken > 6 * slots else []
    return faults + ([f"64 at once: {Counter(statuses)}"] if set(statuses) != {200, 429} else [])


def judge(before: Phase, load: Phase, after: Phase, options: argparse.Namespace) -> list[str]:
    saturation = (before.goodput + after.goodput) / 2
    share = load.goodput / saturation
    print(f"saturation {before.goodput:.1f} and {after.goodput:.1f} tokens/s; under load {load.goodput:.1f}: {100 * share:.1f} %")
    print(f"answers {load.tally.statuses} of {load.tally.sent}; longest queue seen {load.queue:.0f}")
    served = load.tally.seconds
    print(f"seconds of a 200: p50 {quantile(served, 0.5):.2f}, p99 {quantile(served, 0.99):.2f}")
    p50, p99 = quantile(load.health, 0.5), quantile(load.health, 0.99)
    print(f"/health: p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms of {len(load.health)}")
    faults = [*before.tally.faults, *load.tally.faults, *after.tally.faults]
    for name, part in (("before", before), ("after", after)):
        if set(part.tally.statuses) != {200}:
            faults.append(f"saturation {name} the load had refusals: {part.tally.statuses}")
    counted = sum(load.tally.statuses.values())
    if counted != load.tally.sent:
        faults.append(f"{load.tally.sent - counted} of {load.tally.sent} requests got no answer")
    if not load.tally.statuses.get(429) and not load.tally.statuses.get(503):
        faults.append("nobody was refused: that was no overload")
    if share < options.goodput:
        faults.append(f"goodput is {100 * share:.1f} % of saturation, {100 * options.goodput:.0f} % are wanted")
    if p99 >= options.health:
        faults.append(f"/health took {1000 * p99:.0f} ms at p99, {1000 * options.health:.0f} ms are allowed")
    if load.queue > 4 * options.slots:
        faults.append(f"{load.queue:.0f} requests waited, {4 * options.slots} may")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--clients", type=int, default=128)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tokens", type=int, default=24, help="of an answer")
    parser.add_argument("--goodput", type=float, default=0.95, help="at least this part of saturation")
    parser.add_argument("--health", type=float, default=0.05, help="seconds that /health may take at p99")
    parser.add_argument("--model", default=str(SMOLLM2))
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if not os.path.exists(options.model) or len(cores) < 2:
        print(f"needs two cores and {options.model}: make model")
        return 77
    os.sched_setaffinity(0, {cores[0]})  # the server's, which inherits it
    with serving(options.binary, options.model, "--parallel", str(options.slots), "--log", "off") as server:
        os.sched_setaffinity(0, {cores[-1]})
        few = 2 * options.slots
        phase(server, few, 2, options.tokens, cores[-1])  # warm
        before = phase(server, few, options.seconds / 2, options.tokens, cores[-1])
        resident = server.resident()
        load = phase(server, options.clients, options.seconds, options.tokens, cores[-1])
        growth = server.resident() - resident
        after = phase(server, few, options.seconds / 2, options.tokens, cores[-1])
        faults = burst(server, options.slots)
    faults += judge(before, load, after, options)
    print(f"memory: {mib(resident)} at saturation, {growth / 2**20:+.1f} MiB by the load")
    if growth >= GROWTH:
        faults.append(f"memory grew by {mib(growth)}")
    for fault in faults[:20]:
        print("FAULT", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""SIGTERM under load: what runs is answered to its end, what comes is told to go elsewhere, and the exit is 0. A second one aborts.

shutdown.py BINARY [--rounds 20] [--seed 1]     standard library only
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from harness import GOLDEN, Server, wait_until
from wire import Talk, connect, post, talk

MODEL = str(GOLDEN / "deepseek-v41")
OPTIONS = (
    "--chat-format",
    "deepseek-v3",
    "--drain-seconds",
    "120",
    "--parallel",
    "4",
    "--queue",
    "64",
    "--queue-tokens",
    "100000",
    "--log",
    "off",
)
LONG = {"prompt": "Hello", "max_tokens": 300, "ignore_eos": True, "n": 2, "temperature": 1, "seed": 1}


@dataclass
class Seen:
    """One request: when it was sent, and what came of it."""

    sent: float
    stream: bool
    result: Talk | None = None
    error: str = ""


@dataclass
class Load:
    server: Server
    seen: list[Seen] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, stream: bool) -> Seen:
        body = json.dumps({**LONG, "stream": stream}).encode()
        one = Seen(time.monotonic(), stream)
        self.seen.append(one)
        try:
            one.result = talk(self.server.port, post("/v1/completions", body), seconds=60)
        except ConnectionRefusedError:
            one.error = "refused"
        except OSError as error:
            one.error = type(error).__name__
        return one

    def loop(self, number: int) -> None:
        while not self.over.is_set():
            one = self.ask(stream=bool(number % 2))
            if one.error:
                return
            if one.result and one.result.statuses == [503]:
                time.sleep(0.01)


def judge(one: Seen, signalled: float) -> str:
    """What is wrong with what a request got; "" if nothing is."""
    before = one.sent < signalled
    if one.error:
        return f"{one.error}, though it was sent before the signal" if before else ""
    result = one.result
    assert result
    if not result.responses:
        # behind the signal the door is closed at some moment: whoever knocks just then sees the connection end
        return "no answer, though it was sent before the signal" if before else ""
    response = result.responses[0]
    if response.status == 503:
        return "" if "retry-after" in response.headers else "503 without Retry-After"
    if response.status != 200:
        return f"answered {response.status}"
    if not response.whole:
        return "cut short"
    if one.stream and not response.body.rstrip().endswith(b"data: [DONE]"):
        return f"a stream that ends with {response.body[-80:]!r}"
    if one.stream and b"error" in response.body:
        return f"a stream with an error: {response.body[-200:]!r}"
    if not one.stream and len(response.json()["choices"]) != 2:
        return "an answer without its choices"
    return ""


def readiness(server: Server) -> int | None:
    """The status of /readyz; None where nobody answers any more."""
    try:
        return talk(server.port, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").statuses[0]
    except (OSError, IndexError):
        return None


def drained(binary: str, source: random.Random, totals: dict[str, int]) -> list[str]:
    server = Server(binary, MODEL, *OPTIONS)
    load = Load(server)
    threads = [threading.Thread(target=load.loop, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.3 + source.random() * 0.4)
    signalled = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    not_ready = wait_until(lambda: readiness(server) in (503, None), 2)
    status = server.process.wait(60)
    load.over.set()
    for thread in threads:
        thread.join()
    faults = [what for what in (judge(one, signalled) for one in load.seen) if what]
    if status != 0:
        faults.append(f"exit {status}: {''.join(server.log[-3:])}")
    if not not_ready:
        faults.append("/readyz says 200 two seconds behind the signal")
    ended = [one.result.statuses[0] for one in load.seen if one.result and one.result.responses]
    open_then = [one for one in load.seen if one.sent < signalled and (not one.result or one.sent + one.result.seconds > signalled)]
    totals["ran"] += len(open_then)
    totals["answered"] += ended.count(200)
    totals["turned away"] += ended.count(503)
    totals["door closed"] += sum(bool(one.error) for one in load.seen)
    return faults


def at_once(binary: str) -> list[str]:
    """A server that says it is ready also stops as one that is."""
    statuses = []
    for _ in range(10):
        server = Server(binary, MODEL, *OPTIONS)
        statuses.append(server.stop())
    return [] if statuses == [0] * 10 else [f"SIGTERM just behind the ready line: exits {statuses}, {server.log[-3:]}"]


def aborted(binary: str) -> list[str]:
    """Two signals: the second ends the process at once, by its own status."""
    server = Server(binary, MODEL, *OPTIONS)
    links: list[Any] = []
    for _ in range(4):
        link = connect(server.port)
        link.sendall(post("/v1/completions", json.dumps({**LONG, "n": 16, "stream": True}).encode()))
        if not links:
            link.recv(1000)  # the others may have to wait for a place
        links.append(link)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    if server.process.poll() is not None:
        return ["it had nothing left to do: no test of the second signal"]
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    status = server.process.wait(30)
    for link in links:
        link.close()
    faults = [] if status == 128 + signal.SIGTERM else [f"the second signal: exit {status}"]
    return faults + ([f"the second signal took {time.monotonic() - began:.1f} s"] if time.monotonic() - began > 2 else [])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    source = random.Random(options.seed)
    totals = {"ran": 0, "answered": 0, "turned away": 0, "door closed": 0}
    faults: list[str] = []
    for number in range(options.rounds):
        faults += [f"round {number}: {fault}" for fault in drained(options.binary, source, totals)]
    faults += at_once(options.binary) + aborted(options.binary)
    print(f"{options.rounds} rounds: " + ", ".join(f"{count} {name}" for name, count in totals.items()) + f"; {len(faults)} faults")
    if totals["ran"] < 2 * options.rounds or totals["turned away"] == 0:
        faults.append("too little ran, or nobody was turned away: no test")
    for fault in faults[:20]:
        print("FAULT", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

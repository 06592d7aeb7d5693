#!/usr/bin/env python3
"""How long `hadal serve` waits for slow clients: long enough for honest ones, and not for ever. All of them at once; takes 90 seconds.

patience.py BINARY     standard library only
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness import GOLDEN, Server, serving
from wire import connect, post, talk

LONGEST = 90.0
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
LONG = {"prompt": "Hi", "max_tokens": 450, "ignore_eos": True, "stream": True, "n": 16, "logprobs": 5}


@dataclass
class Slow:
    """A client: what it sends at first, what it drips once a second, and when the connection has to end."""

    name: str
    first: bytes
    drip: bytes
    least: float  # seconds
    most: float
    seconds: float = -1.0
    got: bytes = b""


def clients() -> list[Slow]:
    length = HEAD + b"Content-Length: 1000\r\n\r\n{"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    return [
        Slow("says nothing", b"", b"", 25, 40),
        Slow("half a line", b"GET /hea", b"", 25, 40),
        Slow("half a head", HEAD, b"", 25, 40),
        Slow("a head by drops", HEAD + b"X-A: ", b"b", 25, 40),
        Slow("headers by drops", HEAD, b"X-A: b\r\n", 25, 40),
        Slow("half a body", length, b"", 55, 75),
        Slow("half a chunk", chunked + b"5\r\nab", b"", 55, 75),
        Slow("idle behind an answer", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"", 65, 88),
    ]


def wait_for_end(port: int, slow: Slow) -> None:
    began = time.monotonic()
    link = connect(port)
    try:
        link.sendall(slow.first)
        while time.monotonic() - began < LONGEST:
            ready, _, _ = select.select([link], [], [], 1)
            if ready:
                piece = link.recv(65536)
                if not piece:
                    break
                slow.got += piece
            elif slow.drip:
                link.sendall(slow.drip)
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        slow.seconds = time.monotonic() - began
        link.close()


def unread(server: Server, faults: list[str]) -> None:
    """A stream that is larger than all buffers and that nobody reads is dropped, and its work ends."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    link.connect(("127.0.0.1", server.port))
    began = time.monotonic()
    link.sendall(post("/v1/completions", json.dumps(LONG).encode()))
    while time.monotonic() - began < 75:
        text = server.request("GET", "/metrics")[2]
        if "hadal_clients_slow_total 0" not in text and "hadal_requests_running 0" in text:
            link.close()
            return
        time.sleep(0.5)
    faults.append("a stream that nobody reads is neither finished nor dropped after 75 s")
    link.close()


def by_drops_but_honest(server: Server, faults: list[str]) -> None:
    """A body that takes 40 seconds, a piece every second, is no attack."""
    body = json.dumps({"prompt": "Hi", "max_tokens": 2}).encode()

    def drops() -> Iterator[bytes]:
        yield HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
        for byte in body:
            time.sleep(40 / len(body))
            yield bytes([byte])

    result = talk(server.port, drops(), seconds=80)
    if result.statuses != [200]:
        faults.append(f"a body of 40 seconds: {result.statuses} {result.fault}")


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    faults: list[str] = []
    slow = clients()
    with serving(sys.argv[1], GOLDEN / "qwen3", "--chat-format", "deepseek-v3", "--log", "off") as server:
        work: list[Callable[[], None]] = [lambda one=one: wait_for_end(server.port, one) for one in slow]
        work += [lambda: unread(server, faults), lambda: by_drops_but_honest(server, faults)]
        running = [threading.Thread(target=run) for run in work]
        for thread in running:
            thread.start()
        worst = 0.0
        while any(thread.is_alive() for thread in running):
            worst = max(worst, talk(server.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").seconds)
            time.sleep(0.5)
    for one in slow:
        print(f"{one.name:<24} ended after {one.seconds:5.1f} s, with {one.got[:32]!r}")
        if not one.least <= one.seconds <= one.most:
            faults.append(f"{one.name}: ended after {one.seconds:.1f} s, {one.least:.0f} to {one.most:.0f} are right")
    print(f"/health beside them: at most {1000 * worst:.1f} ms")
    if worst > 1:
        faults.append(f"/health took {worst:.1f} s")
    for fault in faults:
        print("FAULT", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

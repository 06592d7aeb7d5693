"""What a hostile client does on the wire, below the bodies: each attack opens its own connections and says what went wrong.

An attack is a function of the port; it returns the faults it found, none if the server did what it has to.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from wire import LONGEST, Talk, connect, post, talk

BODY = json.dumps({"prompt": "Hi", "max_tokens": 2, "temperature": 0}).encode()
PATH = "/v1/completions"
HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"  # the request that smuggling hides
STREAM = json.dumps({"prompt": "Hi", "max_tokens": 400, "ignore_eos": True, "stream": True}).encode()

Attack = Callable[[int], list[str]]


def head(*lines: str, first: str = f"POST {PATH} HTTP/1.1") -> bytes:
    return "\r\n".join([first, *lines]).encode("latin-1") + b"\r\n\r\n"


def refused(result: Talk, allowed: range | tuple[int, ...] = range(400, 500)) -> list[str]:
    """Exactly one refusal and then the end, or the end at once: what follows on such a connection is nobody's request."""
    faults = [result.fault] if result.fault and not result.statuses else []
    if len(result.responses) > 1:
        faults.append(f"{len(result.responses)} answers, {result.statuses}: what was hidden was heard")
    if result.responses and result.statuses[0] not in allowed:
        faults.append(f"answered {result.statuses[0]}: {result.responses[0].body[:120]!r}")
    if not result.responses and not (result.closed or result.reset):
        faults.append("neither refused nor closed")
    if result.responses and not (result.closed or result.reset):
        faults.append("the connection stays open behind it")
    return faults


def smuggling() -> Iterator[tuple[str, bytes]]:
    length = f"Content-Length: {len(BODY)}"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    host = "Host: localhost"
    yield "length and chunked", head(host, length, "Transfer-Encoding: chunked") + chunked + HIDDEN
    yield "chunked and length", head(host, "Transfer-Encoding: chunked", length) + chunked + HIDDEN
    yield "chunked and length 0", head(host, "Transfer-Encoding: chunked", "Content-Length: 0") + chunked + HIDDEN
    yield "two lengths", head(host, length, "Content-Length: 5") + BODY + HIDDEN
    yield "two equal lengths", head(host, length, length) + BODY + HIDDEN
    yield "lengths in a list", head(host, f"Content-Length: {len(BODY)}, {len(BODY)}") + BODY + HIDDEN
    for value in ("-1", "+5", "0x10", "1e3", "5 5", "", "5;", "９", "18446744073709551616", "99999999999999999999999", "5\x0b"):
        shown = value.encode("utf-8").decode("latin-1")
        yield f"length {value!r}", head(host, f"Content-Length: {shown}") + BODY + HIDDEN
    for value in (
        "chunked, chunked",
        "identity",
        "gzip, chunked",
        "xchunked",
        "chunked;q=1",
        '"chunked"',
        "chunked\x0b",
        "chunked, identity",
        "",
    ):
        yield f"coding {value!r}", head(host, f"Transfer-Encoding: {value}") + chunked + HIDDEN
    yield "two codings", head(host, "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + chunked + HIDDEN
    yield "coding in HTTP/1.0", head(host, "Transfer-Encoding: chunked", first=f"POST {PATH} HTTP/1.0") + chunked + HIDDEN
    yield "a space before the colon", head(host, f"Content-Length : {len(BODY)}") + BODY + HIDDEN
    yield "a folded line", head(host, "X-A: b", " c: d", length) + BODY + HIDDEN
    yield "a folded length", head(host, "Content-Length:", f" {len(BODY)}") + BODY + HIDDEN
    yield "a bare CR in a header", head(host, f"X-A: b\rContent-Length: {len(BODY)}") + BODY + HIDDEN
    yield "bare LFs", head(host, length).replace(b"\r\n", b"\n") + BODY + HIDDEN
    yield "a bare LF at the end", head(host, length)[:-4] + b"\n\n" + BODY + HIDDEN
    yield "NUL in a header", head(host, "X-A: a\0b", length) + BODY + HIDDEN
    yield "no host", head(length) + BODY + HIDDEN
    yield "two hosts", head(host, "Host: elsewhere", length) + BODY + HIDDEN
    yield "a host with a path", head("Host: localhost/x", length) + BODY + HIDDEN
    yield "a header without a colon", head(host, "frog", length) + BODY + HIDDEN
    yield "an empty header name", head(host, ": x", length) + BODY + HIDDEN


def bad_chunks() -> Iterator[tuple[str, bytes]]:
    for name, chunks in (
        ("no size", b"\r\n"),
        ("no hexadecimal size", b"frog\r\nfrog\r\n"),
        ("a size below zero", b"-1\r\nx\r\n0\r\n\r\n"),
        ("a size with 0x", b"0x2\r\nhi\r\n0\r\n\r\n"),
        ("a size of 2^63", b"8000000000000000\r\nhi\r\n"),
        ("a size of 2^64 + 2", b"10000000000000002\r\nhi\r\n0\r\n\r\n"),
        ("a size of a gigabyte", b"40000000\r\nhi"),
        ("a chunk too long for its size", b"2\r\nhello\r\n0\r\n\r\n"),
        ("a chunk ended by LF", b"2\r\nhi\n0\r\n\r\n"),
        ("a size ended by LF", b"2\nhi\r\n0\r\n\r\n"),
        ("a bare CR in an extension", b"2;a=b\rc\r\nhi\r\n0\r\n\r\n"),
        ("an extension of a megabyte", b"2;" + b"a" * (1 << 20) + b"\r\nhi\r\n0\r\n\r\n"),
        ("10^5 extensions", b"1;a=b\r\nx\r\n" * 100_000 + b"0\r\n\r\n"),
        ("a trailer of a megabyte", b"2\r\nhi\r\n0\r\n" + b"X-A: b\r\n" * (1 << 17) + b"\r\n"),
        ("a size after spaces", b"  2\r\nhi\r\n0\r\n\r\n"),
    ):
        yield name, head("Host: localhost", "Transfer-Encoding: chunked") + chunks


def lines() -> Iterator[tuple[str, bytes, tuple[int, ...]]]:
    plain = "Host: localhost"
    bad = tuple(range(400, 500))
    yield "HTTP/0.9", b"GET /\r\n\r\n", bad
    yield "HTTP/2.0", head(plain, first="GET / HTTP/2.0"), (505,)
    yield "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505, 400, 501)
    yield "HTTP/1.9x", head(plain, first="GET / HTTP/1.9x"), bad
    yield "http/1.1", head(plain, first="GET / http/1.1"), bad
    yield "two spaces", head(plain, first="GET  / HTTP/1.1"), bad
    yield "a tab", head(plain, first="GET\t/\tHTTP/1.1"), bad
    yield "no method", head(plain, first=" / HTTP/1.1"), bad
    yield "an unknown method", head(plain, first="FROG / HTTP/1.1"), (501, 405, 400)
    yield "CONNECT", head(plain, first="CONNECT localhost:22 HTTP/1.1"), (501, 405, 400)
    yield "TRACE", head(plain, first="TRACE / HTTP/1.1"), (501, 405, 400)
    yield "a long method", head(plain, first="A" * 5000 + " / HTTP/1.1"), (400, 501, 431)
    yield "a target of 60 KB", head(plain, first="GET /" + "a" * 60000 + " HTTP/1.1"), (414, 431)
    yield "10^4 headers", head(plain, *[f"X-{i}: b" for i in range(10**4)]), (431,)
    yield "101 headers", head(plain, *[f"X-{i}: b" for i in range(101)]), (431,)
    yield "a header of 64 MiB", head(plain, "X-A: " + "b" * (64 << 20)), (431,)
    yield "a line of 64 MiB", b"G" * (64 << 20), (400, 431, 414)
    yield "expect a frog", head(plain, "Expect: frog", "Content-Length: 2") + b"{}", (417,)
    yield "TLS", bytes.fromhex("160301020001000201030300") + bytes(range(256)) * 2, bad
    yield "random bytes", random.Random(5).randbytes(4096), bad
    yield "empty lines", b"\r\n" * 1000, bad
    yield "a redis command", b"*1\r\n$4\r\nINFO\r\n", bad


def one_refusal(name: str, data: bytes, allowed: range | tuple[int, ...] = range(400, 500)) -> tuple[str, Attack]:
    def attack(port: int) -> list[str]:
        result = talk(port, data, half_close=True, want=9)
        late = [f"took {result.seconds:.1f} s"] if result.seconds > LONGEST else []
        return refused(result, allowed) + late

    return name, attack


# --- paths


def strange_paths(port: int) -> list[str]:
    faults = []
    for target in (
        "/../etc/passwd", "/v1/../health", "/v1/%2e%2e/health", "/%00", "/v1/models/%00", "/%ff%fe", "/%zz", "//", "/v1//models",
        "http://", "http://localhost", "http://elsewhere/health", "*", "health", "/health#x", "/health?" + "a" * 8000,
        "/v1/models/../../etc", "/\\..\\x",
        "/v1/models/" + "x/" * 2000, "/%0d%0aX-Evil:%20yes", "/v1/models/%0d%0aX-Evil:%20yes",
    ):  # fmt: skip
        result = talk(port, head("Host: localhost", "Connection: close", first=f"GET {target} HTTP/1.1"))
        if result.fault or len(result.responses) != 1 or not 200 <= result.statuses[0] < 500:
            faults.append(f"{target[:40]}: {result.statuses} {result.fault}")
        elif "x-evil" in result.responses[0].headers:
            faults.append(f"{target}: a header of the client's own making is in the answer")
        elif result.statuses[0] == 200 and b"root:" in result.responses[0].body:
            faults.append(f"{target}: a file was read")
    return faults


# --- connections that behave badly


def half_head(port: int) -> list[str]:
    for part in (b"P", b"POST " + PATH.encode(), head("Host: localhost", "Content-Length: 5")[:-2], head("Host: localhost")[:-1]):
        with contextlib.closing(connect(port)) as link:
            link.sendall(part)
    result = talk(port, head("Host: localhost", "Content-Length: 5")[:-2], half_close=True)
    return [] if result.closed or result.reset else [f"half a head, and the end: {result.statuses} {result.fault}"]


def half_body(port: int) -> list[str]:
    faults = []
    whole = post(PATH, BODY)
    chunked = head("Host: localhost", "Transfer-Encoding: chunked") + b"%x\r\n" % len(BODY) + BODY
    for cut in (whole[:-1], whole[: -len(BODY)], chunked, chunked + b"\r\n0\r\n"):
        with contextlib.closing(connect(port)) as link:
            link.sendall(cut)  # and gone
        result = talk(port, cut, half_close=True)
        if 200 in result.statuses:
            faults.append("half a body was taken for a whole one")
        elif not (result.closed or result.reset):
            faults.append(f"half a body, and the end: {result.statuses} {result.fault}")
    return faults


def by_byte(port: int) -> list[str]:
    """A legal request in chunks of one byte, sent byte by byte."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    data = head("Host: localhost", "Transfer-Encoding: chunked") + chunks
    result = talk(port, (data[i : i + 1] for i in range(len(data))))
    return [] if result.statuses == [200] else [f"{result.statuses} {result.fault}"]


def many_small_chunks(port: int) -> list[str]:
    """A body of 2 MiB in chunks of one byte each, as 12 MiB on the wire: refused or taken, in time."""
    chunks = b"1\r\n \r\n" * (2 << 20)
    result = talk(port, head("Host: localhost", "Transfer-Encoding: chunked") + chunks + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
    ok = len(result.statuses) == 1 and (result.statuses[0] == 200 or 400 <= result.statuses[0] < 500)
    return [] if ok else [f"{result.statuses} {result.fault}"]


def pipelined(port: int) -> list[str]:
    """20 requests in one piece are answered in order; a broken one in their middle ends the connection behind its refusal."""
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    result = talk(port, (health + post(PATH, BODY)) * 10, want=20)
    faults = [] if result.statuses == [200] * 20 else [f"20 pipelined: {result.statuses} {result.fault}"]
    bodies = [response.body for response in result.responses]
    if any(b"text_completion" not in body for body in bodies[1::2]) or any(b"status" not in body for body in bodies[::2]):
        faults.append("pipelined answers are out of order")
    result = talk(port, health * 3 + b"FROG\r\n\r\n" + health * 3, want=9)
    if result.statuses != [200, 200, 200, 400]:
        faults.append(f"a broken one among six: {result.statuses} {result.fault}")
    return faults


def pipelined_flood(port: int) -> list[str]:
    """10^4 requests whose answers nobody reads."""
    with contextlib.closing(connect(port, 3)) as link, contextlib.suppress(TimeoutError, ConnectionError):
        link.sendall((b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n") * 10**4)
        time.sleep(0.2)
    return []


def leavers(port: int, count: int = 200) -> list[str]:
    """200 connections that leave in the middle of their answers, half of them by a reset."""
    faults: list[str] = []

    def leave(number: int) -> None:
        try:
            link = connect(port)
            link.sendall(post(PATH, STREAM))
            if number % 4:
                link.recv(1 + number % 700)
            if number % 2:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            link.close()
        except OSError as error:
            faults.append(f"leaver {number}: {error}")

    running = [threading.Thread(target=leave, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return faults[:3]


def idle_crowd(port: int) -> list[str]:
    """300 connections that say nothing, or half a line."""
    with contextlib.ExitStack() as stack:
        for number in range(300):
            link = stack.enter_context(contextlib.closing(connect(port)))
            link.sendall(b"" if number % 2 else b"GET /he")
        result = talk(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return [] if result.statuses == [200] else [f"/health beside 300 idle ones: {result.statuses} {result.fault}"]


def slow_reader(port: int) -> list[str]:
    """Long streams that nobody reads, through a window as small as it gets."""
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            link = socket.socket()
            stack.enter_context(contextlib.closing(link))
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            link.connect(("127.0.0.1", port))
            link.sendall(post(PATH, json.dumps({"prompt": "Hi", "max_tokens": 450, "ignore_eos": True, "stream": True, "n": 8}).encode()))
        time.sleep(0.5)
    return []


def unread_body(port: int) -> list[str]:
    """A refused head whose body of 64 MiB comes all the same."""
    result = talk(port, [head("Host: localhost", f"Content-Length: {64 << 20}"), *[b"x" * (1 << 20)] * 64])
    return [] if result.reset or result.statuses == [413] else [f"{result.statuses} {result.fault}"]


def attacks() -> list[tuple[str, Attack]]:
    found = [one_refusal(f"smuggling: {name}", data) for name, data in smuggling()]
    found += [one_refusal(f"chunks: {name}", data) for name, data in bad_chunks()]
    found += [one_refusal(f"line: {name}", data, allowed) for name, data, allowed in lines()]
    for attack in (
        strange_paths, half_head, half_body, by_byte, many_small_chunks, pipelined, pipelined_flood, leavers, idle_crowd,
        slow_reader, unread_body,
    ):  # fmt: skip
        found.append((attack.__name__.replace("_", " "), attack))
    return found

"""HTTP byte by byte: what a client does that no library would do, and a strict reading of what comes back. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST = 10.0  # seconds that any answer may take


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True  # its end was seen

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Talk:
    """What one connection brought."""

    responses: list[Response] = field(default_factory=list)
    closed: bool = False  # by the server, orderly
    reset: bool = False
    seconds: float = 0.0
    fault: str = ""  # what is no HTTP

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.responses]


def post(path: str, body: bytes, *headers: str, host: str = "localhost") -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _chunks(raw: bytes, at: int) -> tuple[bytes, int, bool, str]:
    body = b""
    while True:
        end = raw.find(b"\r\n", at)
        if end < 0:
            return body, len(raw), False, ""
        try:
            size = int(raw[at:end].split(b";")[0], 16)
        except ValueError:
            return body, len(raw), False, f"a chunk of the size {raw[at:end][:40]!r}"
        if len(raw) < end + 2 + size + 2:
            return body + raw[end + 2 :], len(raw), False, ""
        if raw[end + 2 + size : end + 4 + size] != b"\r\n":
            return body, len(raw), False, "a chunk without an end"
        body += raw[end + 2 : end + 2 + size]
        at = end + 4 + size
        if size == 0:
            return body, at, True, ""


def read_responses(raw: bytes, closed: bool) -> tuple[list[Response], str]:
    """All responses in `raw`, interim ones left out, and what is wrong with them."""
    found: list[Response] = []
    at = 0
    while at < len(raw):
        end = raw.find(b"\r\n\r\n", at)
        if end < 0:
            return found, "" if not closed else f"half a head: {raw[at : at + 80]!r}"
        lines = raw[at:end].decode("latin-1").split("\r\n")
        words = lines[0].split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            return found, f"no status line: {lines[0][:80]!r}"
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        status, at = int(words[1]), end + 4
        if status in (100, 103):
            continue
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body, at, whole, fault = _chunks(raw, at)
            if fault:
                return found, fault
        elif "content-length" in headers:
            length = int(headers["content-length"])
            body = raw[at : at + length]
            whole, at = len(body) == length, at + length
        else:
            body, whole, at = raw[at:], closed, len(raw)
        found.append(Response(status, headers, body, whole))
    return found, ""


def connect(port: int, timeout: float = LONGEST) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def talk(
    port: int, parts: bytes | Iterable[bytes], *, pause: float = 0.0, half_close: bool = False, want: int = 1, seconds: float = LONGEST
) -> Talk:
    """Sends the parts, and reads until `want` whole responses are there, the server closes, or the time is over. `half_close` says that
    nothing more is sent. A server that answers and closes while we still send is fine: what it said counts."""
    began = time.monotonic()
    result = Talk()
    raw = bytearray()
    with contextlib.closing(connect(port, seconds)) as link:
        try:
            for part in [parts] if isinstance(parts, bytes) else parts:
                link.sendall(part)
                if pause:
                    time.sleep(pause)
            if half_close:
                link.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            result.reset = True
        except TimeoutError:
            result.fault = "the server does not take what is sent"
        try:
            while True:
                link.settimeout(max(0.01, began + seconds - time.monotonic()))
                piece = link.recv(65536)
                if not piece:
                    result.closed = True
                    break
                raw += piece
                found, _ = read_responses(bytes(raw), False)
                if sum(response.whole for response in found) >= want:
                    break
        except ConnectionResetError:
            result.reset = True
        except TimeoutError:
            result.fault = result.fault or "neither an answer nor an end"
    result.seconds = time.monotonic() - began
    result.responses, fault = read_responses(bytes(raw), result.closed)
    result.fault = result.fault or fault
    return result


# --- the server's process


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def peak_resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def metric(text: str, name: str) -> float:
    """The sum of a metric over all labels; 0 where it is not there."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


def quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def mib(count: float) -> str:
    return f"{count / 2**20:.1f} MiB"


# --- answers


def strict_json(raw: bytes | str) -> Any:
    """Numbers stay as they are written, so that two of them are equal only if they are written alike."""
    return json.loads(raw, parse_float=lambda text: "float " + text)


def choices_of(raw: bytes | str) -> Any:
    """An answer of the completions or chat API without what differs each time."""
    return strict_json(raw)["choices"]

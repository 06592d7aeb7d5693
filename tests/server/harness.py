"""A `hadal serve` of a test's own, and plain requests to it. Standard library only."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
SMOLLM2 = ROOT / ".models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


class Server:
    """Started with any free port; stopped by SIGTERM at the end, which must succeed."""

    def __init__(self, binary: str, model: str | Path, *options: str, env: dict[str, str] | None = None, seconds: float = 120) -> None:
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [binary, "serve", str(model), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        assert self.process.stdout and self.process.stderr
        threading.Thread(target=self._read_log, daemon=True).start()
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        found = re.match(r"ready: (https?)://(\S+):(\d+) serves (\S+)", line)
        if not found:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"no ready line but {line!r}; stderr: {''.join(self.log)}")
        self.scheme, self.host, self.port = found[1], found[2], int(found[3])
        self.model = found[4]
        self.curl = self.process.stdout.readline()
        self.url = f"{self.scheme}://{self.host}:{self.port}"

    def _read_log(self) -> None:
        assert self.process.stderr
        with self.process.stderr:
            for line in self.process.stderr:
                self.log.append(line)

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM, and the exit status. Killed, and an error, where that takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self.process.stdout:
                self.process.stdout.close()

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 120
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers (lower case) and the body, parsed where it is JSON. A body that is no bytes or text is sent as JSON."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            raw = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            if found.get("content-type", "").startswith("application/json"):
                return response.status, found, json.loads(raw)
            return response.status, found, raw.decode()
        finally:
            connection.close()

    def post(self, path: str, headers: dict[str, str] | None = None, **body: Any) -> tuple[int, dict[str, str], Any]:
        return self.request("POST", path, body, headers)

    def events(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Iterator[str]:
        """The data of each server-sent event."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), headers or {})
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {response.read().decode()}")
            for raw in response:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("data: "):
                    yield line[6:]

    def resident(self) -> int:
        """Bytes of resident memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(binary: str, model: str | Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    server = Server(binary, model, *options, env=env)
    try:
        yield server
    finally:
        status = server.stop()
        if status != 0:
            raise RuntimeError(f"the server ended with {status}: {''.join(server.log[-20:])}")


def wait_until(condition: Any, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())

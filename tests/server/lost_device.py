#!/usr/bin/env python3
"""`hadal serve` whose device is lost: who runs is told, who waits goes on, and whoever asks hears how it is.

lost_device.py BINARY PLUGIN [unittest options]     PLUGIN: libhadal_apart_half.so. Standard library only
"""

from __future__ import annotations

import re
import sys
import threading
import unittest
from typing import Any

from harness import GOLDEN, Server, wait_until

BINARY = PLUGIN = ""
MODEL = GOLDEN / "qwen3"


class LostDevice(unittest.TestCase):
    def serve(self, *options: str, **chip: int) -> Server:
        settings = [text for name, value in chip.items() for text in ("--chip-option", f"{name.replace('_', '-')}={value}")]
        self.server = Server(BINARY, MODEL, "--chip", PLUGIN, "--ctx", "256", "--no-prompt-lookup", "--log", "off", *settings, *options)
        self.addCleanup(self.server.stop)
        return self.server

    def ask(self, tokens: int) -> tuple[int, dict[str, str], Any]:
        return self.server.post("/v1/completions", prompt="abc", max_tokens=tokens, seed=1, ignore_eos=True)

    def metric(self, name: str) -> int:
        found = re.search(rf"(?m)^{name} (\d+)$", self.server.request("GET", "/metrics")[2])
        assert found, name
        return int(found[1])

    def logged(self, *words: str) -> None:
        """These lines, in this order, and no other that names the device."""
        wait_until(lambda: words[-1] in "".join(self.server.log))
        told = [line for line in self.server.log if "device is" in line or "cannot" in line or "no answers" in line]
        self.assertEqual(len(told), len(words), told)
        for line, word in zip(told, words):
            self.assertIn(word, line)

    def test_comes_back_and_who_waited_is_answered(self) -> None:
        server = self.serve("--parallel", "1", fail_at_run=60)
        answers: list[tuple[int, dict[str, str], Any]] = []
        long = threading.Thread(target=lambda: answers.append(self.ask(200)))
        long.start()
        wait_until(lambda: self.metric("hadal_requests_running") == 1 or answers)
        status, _, body = self.ask(2)  # behind it: there is one place
        long.join()
        self.assertEqual(status, 200, body)
        self.assertEqual(answers[0][0], 503)
        self.assertIn("fell off the bus", answers[0][2]["error"]["message"])
        self.assertEqual(server.request("GET", "/health")[0], 200)
        self.assertEqual([self.metric(f"hadal_device_{name}") for name in ("up", "lost_total", "reopened_total")], [1, 1, 1])
        self.logged("a device is lost: ", "the device is open again")

    def test_stays_away(self) -> None:
        server = self.serve(fail_at_run=8, stays_away=1)
        self.assertEqual(self.ask(100)[0], 503)
        self.assertTrue(wait_until(lambda: "does not answer" in server.request("GET", "/health")[2].get("reason", "")))
        for path, status in (("/health", 503), ("/readyz", 503), ("/healthz", 200)):
            self.assertEqual(server.request("GET", path)[0], status, path)
        for _ in range(3):
            status, headers, body = self.ask(2)
            self.assertEqual(status, 503, body)
            self.assertIn("does not answer", body["error"]["message"])
            self.assertGreater(int(headers["retry-after"]), 0)
        self.assertEqual([self.metric(f"hadal_device_{name}") for name in ("up", "lost_total", "reopened_total")], [0, 1, 0])
        self.logged("a device is lost: ", "no answers can be generated: ")

    def test_the_cpu_takes_its_part(self) -> None:
        server = self.serve("--fallback", "allow", fail_at_run=8, stays_away=1)
        before = self.ask(2)[2]["system_fingerprint"]
        self.assertEqual(self.metric("hadal_fallback_operators"), 0)
        self.assertEqual(self.ask(100)[0], 503)
        status, _, body = self.ask(2)
        self.assertEqual(status, 200, body)
        self.assertNotEqual(body["system_fingerprint"], before)
        self.assertEqual(server.request("GET", "/health")[0], 200)
        self.assertGreater(self.metric("hadal_fallback_operators"), 0)
        self.assertEqual([self.metric(f"hadal_device_{name}") for name in ("up", "lost_total", "reopened_total")], [1, 1, 1])
        self.logged("a device is lost: ", "the cpu takes its part")

    def test_of_a_model_in_parts_ends_the_server(self) -> None:
        server = self.serve("--ranks", "2", fail_at_run=30)
        self.assertEqual(self.ask(100)[0], 503)
        self.assertEqual(server.process.wait(60), 1)
        self.assertTrue(wait_until(lambda: "start again" in server.log[-1]), server.log)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    BINARY, PLUGIN = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(warnings="ignore")

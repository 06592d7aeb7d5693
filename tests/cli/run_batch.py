#!/usr/bin/env python3
"""Tests of `hadal batch`: the same answers as one by one, faults as lines, going on after a cut, prefixes on disk.

run_batch.py BINARY [unittest options]        standard library only
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
MODEL = str(GOLDEN / "qwen3")
BINARY = ""
PLUGIN = os.environ.get("HADAL_TEST_PLUGIN", "")  # libhadal_apart_half.so, whose options lose the device


def line(custom_id: str, url: str, **body: Any) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "any", **body}})


def chat(custom_id: str, text: str, **more: Any) -> str:
    return line(custom_id, "/v1/chat/completions", messages=[{"role": "user", "content": text}], **more)


def completion(custom_id: str, prompt: Any, **more: Any) -> str:
    return line(custom_id, "/v1/completions", prompt=prompt, **more)


REQUESTS = [
    chat("plain", "Hello", max_tokens=12, seed=1),
    chat("two", "Hello", max_tokens=9, n=3, seed=5, temperature=1),
    chat("scored", "Hello there", max_tokens=5, logprobs=True, top_logprobs=3, temperature=0),
    chat("object", "Say", max_tokens=40, seed=3, response_format={"type": "json_object"}),
    completion("raw", "abc", max_tokens=20, seed=2),
    completion("ids", [1, 2, 3, 4], max_tokens=8, temperature=0),
    completion("many", ["one", "two", "three"], max_tokens=4, n=2, seed=4),
    completion("echo", "abcdef", max_tokens=3, echo=True, logprobs=2, temperature=0),
    completion("biased", "abc", max_tokens=4, logit_bias={"5": 100}, temperature=0),
    completion("regex", "abc", max_tokens=20, seed=7, structured_outputs={"regex": "(yes|no)!"}),
    completion("long", "many words " * 40, max_tokens=6, seed=9),
    completion("longer", "many words " * 40 + "more", max_tokens=6, seed=9),
]
REFUSED = [
    chat("too hot", "x", temperature=101),
    completion("no such id", [10**6], max_tokens=1),
    chat("bad schema", "x", response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "frog"}}}),
]
FAULTS = ["{", json.dumps({"custom_id": "x"}), chat("plain", "again"), line("elsewhere", "/v1/images")]


class Batch(unittest.TestCase):
    def setUp(self) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.addCleanup(self.scratch.cleanup)

    def batch(self, lines: list[str], *args: str, out: str = "out.jsonl", code: int = 0) -> dict[str, Any]:
        requests = self.folder / "requests.jsonl"
        requests.write_text("\n".join(lines) + "\n")
        command = [
            BINARY,
            "batch",
            MODEL,
            str(requests),
            "--out",
            str(self.folder / out),
            "--ctx",
            "512",
            "--chat-format",
            "deepseek-v3.1",
            *args,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, code, done.stderr)
        self.stderr = done.stderr
        return self.results(out)

    def results(self, out: str = "out.jsonl") -> dict[str, Any]:
        found = [json.loads(text) for text in (self.folder / out).read_text().splitlines()]
        return {r["custom_id"] or r["id"]: r for r in found if r["error"] is None} | {r["id"]: r for r in found if r["error"]}

    @staticmethod
    def told(results: dict[str, Any]) -> dict[str, Any]:
        """What must be the same every time."""
        told = {}
        for name, result in results.items():
            body = dict(result["response"]["body"])
            body.pop("created", None)
            if "usage" in body:
                body["usage"] = {k: v for k, v in body["usage"].items() if k in ("prompt_tokens", "completion_tokens")}
            told[name] = (result["response"]["status_code"], {k: v for k, v in body.items() if k != "id"})
        return told

    def test_many_at_once_are_answered_as_one_by_one(self) -> None:
        together = self.told(self.batch(REQUESTS, "--parallel", "8"))
        self.assertEqual(len(together), len(REQUESTS))
        for name, (status, body) in together.items():
            self.assertEqual(status, 200, f"{name}: {body}")
        one_by_one = self.told(self.batch(REQUESTS, "--parallel", "1", "--threads", "1", out="one.jsonl"))
        self.assertEqual(together, one_by_one)
        by_clock = self.told(self.batch(REQUESTS, "--step-ms", "1", "--no-prompt-lookup", out="clock.jsonl"))
        self.assertEqual(together, by_clock)

    def test_what_is_asked_for_comes(self) -> None:
        results = self.batch(REQUESTS)
        body = {name: result["response"]["body"] for name, result in results.items()}
        self.assertEqual(len(body["two"]["choices"]), 3)
        self.assertEqual(len({c["message"]["content"] for c in body["two"]["choices"]}), 3)
        scored = body["scored"]["choices"][0]["logprobs"]
        tokens = (scored["content"] or []) + (scored.get("reasoning_content") or [])
        self.assertEqual(len(tokens), 5)
        for token in tokens:
            self.assertEqual(token["logprob"], token["top_logprobs"][0]["logprob"])
        self.assertEqual([c["index"] for c in body["many"]["choices"]], list(range(6)))
        echo = body["echo"]["choices"][0]
        self.assertTrue(echo["text"].startswith("abcdef"))
        self.assertIsNone(echo["logprobs"]["token_logprobs"][0])
        self.assertTrue(all(p < 0 for p in echo["logprobs"]["token_logprobs"][1:]))
        self.assertEqual(len(set(body["biased"]["choices"][0]["text"])), 1)
        self.assertIn(body["regex"]["choices"][0]["text"], ("yes!", "no!"))
        said = body["object"]["choices"][0]["message"]["content"]
        self.assertTrue(said.strip().startswith("{"), said)
        fingerprints = {b["system_fingerprint"] for b in body.values()}
        self.assertEqual(len(fingerprints), 1)
        self.assertRegex(fingerprints.pop(), "^hadal-[0-9a-f]{16}$")

    def test_faults_are_lines_and_end_nothing(self) -> None:
        results = self.batch(FAULTS[:2] + REQUESTS[:1] + REFUSED + FAULTS[2:] + REQUESTS[4:5])
        self.assertEqual(results["plain"]["response"]["status_code"], 200)
        self.assertEqual(results["raw"]["response"]["status_code"], 200)
        for name in ("too hot", "no such id", "bad schema"):
            response = results[name]["response"]
            self.assertEqual(response["status_code"], 400, response)
            self.assertIn("message", response["body"]["error"])
        self.assertEqual(sum(r["response"] is None for r in results.values()), len(FAULTS))

    def test_goes_on_where_it_was(self) -> None:
        whole = self.told(self.batch(REQUESTS))
        out = self.folder / "out.jsonl"
        lines = out.read_text().splitlines(keepends=True)
        out.write_text("".join(lines[:5]) + lines[5][:40])  # a crash in the middle of a line
        self.assertEqual(self.told(self.batch(REQUESTS)), whole)
        self.assertIn("5 done before", self.stderr)
        self.batch(REQUESTS)
        self.assertIn("0 answered, 0 failed, 12 done before", self.stderr)
        self.batch(REQUESTS, "--fresh")
        self.assertIn("12 answered", self.stderr)

    def test_an_interrupt_keeps_what_is_done(self) -> None:
        lines = [completion(f"r{i}", "abc", max_tokens=200, seed=i, ignore_eos=True) for i in range(400)]
        requests = self.folder / "requests.jsonl"
        requests.write_text("\n".join(lines) + "\n")
        out = self.folder / "out.jsonl"
        command = [BINARY, "batch", MODEL, str(requests), "--out", str(out), "--ctx", "512", "--parallel", "4"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for _ in range(600):
            if out.exists() and out.stat().st_size > 2000:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, stderr)
        self.assertIn("goes on where it was", stderr)
        done = self.results()
        self.assertGreater(len(done), 0)
        self.assertLess(len(done), 400)

    def test_prefixes_on_disk_are_found_again(self) -> None:
        lines = [completion("long", "many words " * 40, max_tokens=6, seed=9)]
        pages = str(self.folder / "pages")
        first = self.batch(lines, "--kv-file", pages)["long"]["response"]["body"]
        second = self.batch(lines, "--kv-file", pages, out="again.jsonl")["long"]["response"]["body"]
        self.assertEqual(first["choices"], second["choices"])
        self.assertEqual(first["usage"]["prompt_cache_hit_tokens"], 0)
        self.assertGreater(second["usage"]["prompt_cache_hit_tokens"], 64)
        # Another key does not find them.
        salted = [completion("long", "many words " * 40, max_tokens=6, seed=9, cache_salt="me")]
        third = self.batch(salted, "--kv-file", pages, out="salted.jsonl")["long"]["response"]["body"]
        self.assertEqual(third["choices"], first["choices"])
        self.assertEqual(third["usage"]["prompt_cache_hit_tokens"], 0)

    @unittest.skipUnless(PLUGIN, "HADAL_TEST_PLUGIN is not set")
    def test_a_lost_device_is_not_the_requests_fault(self) -> None:
        def choices(results: dict[str, Any]) -> dict[str, Any]:
            return {name: result["response"]["body"]["choices"] for name, result in results.items()}

        lines = [completion(f"r{i}", "abc", max_tokens=8, seed=i, ignore_eos=True) for i in range(20)]
        chip = ("--chip", PLUGIN, "--parallel", "2", "--no-prompt-lookup")
        whole = choices(self.batch(lines, *chip, out="whole.jsonl"))
        self.assertEqual(choices(self.batch(lines, *chip, "--chip-option", "fail-at-run=30", out="lost.jsonl")), whole)
        self.assertIn("20 answered, 0 failed;", self.stderr)
        self.assertIn("a device is lost", self.stderr)
        # what is left where it stays away is no result: a run with a good device has all the rest
        some = self.batch(lines, *chip, "--chip-option", "fail-at-run=30", "--chip-option", "stays-away=1", code=1)
        self.assertGreater(len(some), 0)
        self.assertLess(len(some), 20)
        self.assertRegex(self.stderr, r"requests without an answer: \d+ and all behind them, since .*does not answer")
        self.assertEqual(choices(self.batch(lines, *chip)), whole)
        self.assertIn(f"{20 - len(some)} answered, 0 failed, {len(some)} done before", self.stderr)

    def test_refuses_what_is_no_batch(self) -> None:
        self.batch(REQUESTS[:1])
        foreign = self.folder / "foreign.jsonl"
        foreign.write_text("a diary\n")
        for args, code in (
            ([str(self.folder / "none.jsonl")], 4),
            ([str(self.folder / "requests.jsonl"), "--out", str(foreign)], 2),
            ([str(self.folder / "requests.jsonl"), "--parallel", "0"], 2),
            (["-"], 2),
        ):
            done = subprocess.run([BINARY, "batch", MODEL, *args], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
            self.assertEqual(done.returncode, code, f"{args}: {done.stderr}")
            self.assertRegex(done.stderr, r"^hadal: .+\n$")
        self.assertEqual(foreign.read_text(), "a diary\n")


if __name__ == "__main__":
    BINARY = sys.argv.pop(1)
    unittest.main()

#!/usr/bin/env python3
"""Tests of hadal chip test and hadal chip compare as a user meets them: what is refused, what the exit status says, what is written.

run_kit.py BINARY [unittest options]        standard library only
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
LLAMA = str(TESTS / "golden" / "llama")
OK, FAILED, USAGE = 0, 1, 2
BINARY = ""


class Kit(unittest.TestCase):
    folder: Path
    whole: dict[str, Any]

    @classmethod
    def setUpClass(cls) -> None:
        cls.holder = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.holder.name)
        # all levels and speed, in one run
        files = ("--json", str(cls.folder / "whole.json"), "--html", str(cls.folder / "whole.html"))
        levels = ("--level", "all", "--level", "speed")
        done = cls.chip("test", "ref", "--quick", "--light", "--for", "llama", *levels, *files)
        assert done.returncode == OK, done.stdout + done.stderr
        cls.whole = json.loads((cls.folder / "whole.json").read_text())

    @classmethod
    def tearDownClass(cls) -> None:
        cls.holder.cleanup()

    @staticmethod
    def chip(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([BINARY, "chip", *args], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)

    def expect(self, code: int, *args: str) -> subprocess.CompletedProcess[str]:
        done = self.chip(*args)
        self.assertEqual(done.returncode, code, f"{args}: {done.stdout[-800:]}{done.stderr}")
        return done

    def changed(self, change: Callable[[dict[str, Any]], None]) -> subprocess.CompletedProcess[str]:
        """What compare says of the whole result and a copy that was changed."""
        other: dict[str, Any] = json.loads(json.dumps(self.whole))
        change(other)
        (self.folder / "other.json").write_text(json.dumps(other))
        return self.chip("compare", str(self.folder / "whole.json"), str(self.folder / "other.json"))

    def test_one_run_has_verdicts_and_the_roofline(self) -> None:
        self.assertEqual(self.whole["levels"][-1], "speed")
        self.assertEqual([v["verdict"] for v in self.whole["verdicts"]], ["pass"])
        self.assertEqual(self.whole["speed"]["operators"]["matmul"][0]["weights"], "BF16")
        page = (self.folder / "whole.html").read_text()
        self.assertIn("1 of 1 model families pass.", page)
        self.assertIn("Roofline of the operators", page)

    def test_names_in_the_plot_do_not_overlap(self) -> None:
        page = (self.folder / "whole.html").read_text()
        names = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" style="font-size:11px">([a-z_]+)</text>', page)
        self.assertGreater(len(names), 3)
        boxes = [(float(x), float(x) + 5 * len(name), float(y) - 10, float(y)) for x, y, name in names]
        for i, (left, right, top, bottom) in enumerate(boxes):
            for l2, r2, t2, b2 in boxes[:i]:
                self.assertFalse(left < r2 and l2 < right and top < b2 and t2 < bottom, names[i])

    def test_what_passes_less_is_worse(self) -> None:
        same = self.changed(lambda r: None)
        self.assertEqual((same.returncode, same.stdout), (OK, "nothing changed\n"))

        def drop(key: str, index: int) -> Callable[[dict[str, Any]], None]:
            return lambda r: r[key].pop(index)

        def decline(r: dict[str, Any]) -> None:
            next(c for c in r["checks"] if c["name"] == "matmul")["declined"] += 1

        first = next(i for i, c in enumerate(self.whole["checks"]) if c["name"] == "matmul")
        for change, said in (
            (drop("checks", first), "no case computed any more: matmul  WORSE"),
            (drop("verdicts", 0), "llama: pass -> absent  WORSE"),
            (decline, "WORSE"),
        ):
            done = self.changed(change)
            self.assertEqual(done.returncode, FAILED, said)
            self.assertIn(said, done.stdout)

    def test_a_family_passes_or_the_status_says_no(self) -> None:
        narrow = self.expect(FAILED, "test", "ref", "--quick", "--for", "llama", "--level", "operators", "--op", "add")
        self.assertTrue(narrow.stdout.endswith("0 of 1 model families pass, 1 not tested; no check failed\n"), narrow.stdout)
        self.expect(OK, "test", "ref", "--quick", "--op", "add")

    def test_a_wrong_word_is_no_failure_of_the_chip(self) -> None:
        real = ("--level", "real", "--model", LLAMA)
        for words, said in (
            (("--level", "real", "--model", "/nonexistent"), "/nonexistent"),
            ((*real, "--ranks", "abc"), "--ranks"),
            ((*real, "--positions", "-3"), "--positions"),
            ((*real, "--fallback", "maybe"), "--fallback"),
            ((*real, "--place", "head: nothing"), "chip 'nothing' is unknown"),
            (("--seed", "-1"), "expected a whole number"),
            (("--seed", "99999999999999999999"), "expected a whole number"),
            (("--level", "loads", "--op", "matmul"), "the level loads does not go by operators"),
            (("--op", "add", "--json", "/nonexistent/x.json"), "/nonexistent/x.json cannot be written"),
            (("--op", "add", "--html", "/nonexistent/x.html"), "/nonexistent/x.html cannot be written"),
            (("--op", "add", "--device", "3"), "device 3 does not exist"),
            (("--op",), "--op: 1 required"),
        ):
            done = self.expect(USAGE, "test", "ref", *words)
            self.assertIn(said, done.stdout + done.stderr, words)
            self.assertNotIn("FAILED", done.stdout, words)

    def test_help_and_lists(self) -> None:
        said = self.expect(OK, "--help").stdout
        for command in ("test", "compare", "trace", "distance"):
            self.assertRegex(said, rf"(?m)^  {command} ")
        self.assertIn("found tset", self.expect(USAGE, "tset").stderr)
        self.assertIn("--expect-failure", self.expect(OK, "test", "--help").stdout)
        self.assertRegex(self.expect(OK, "test", "ref", "--list").stdout, r"(?m)^matmul +\d+ cases$")
        self.assertIn("add: X [", self.expect(OK, "test", "ref", "--list-cases", "--op", "add").stdout)
        self.assertIn("hadal chip trace --help tells more", self.expect(USAGE, "trace", LLAMA, "--draft", "auto").stderr)


if __name__ == "__main__":
    BINARY = sys.argv.pop(1)
    unittest.main(verbosity=1)

#!/usr/bin/env python3
"""Tests of --lora and --adapter as a user meets them.

run_lora.py BINARY [unittest options]        standard library only
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
MODEL, V3 = str(TESTS / "golden" / "llama"), str(TESTS / "golden" / "deepseek-v3")
ONE, TWO = str(TESTS / "adapters" / "llama"), str(TESTS / "adapters" / "llama-few")
OK, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 4
IDS = ("--ids", "175,186,4,9,106,90,201")
BINARY = ""


class Lora(unittest.TestCase):
    def expect(self, code: int, *args: str) -> str:
        done = subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, code, f"{args}: {done.stderr}")
        if code == OK:
            return done.stdout
        self.assertEqual(done.stdout, "")
        self.assertRegex(done.stderr, r"^hadal: .+\n$", "one line that begins with the program's name")
        return done.stderr

    def ids(self, *args: str) -> str:
        return self.expect(OK, "generate", MODEL, *IDS, "--print-ids", "--greedy", "--ignore-eos", "--max-new", "12", *args)

    def test_an_adapter_changes_the_answer_and_none_does_not(self) -> None:
        plain, one, two = self.ids(), self.ids("--lora", f"a={ONE}"), self.ids("--lora", f"b={TWO}")
        self.assertEqual(len({plain, one, two}), 3)
        both = ("--lora", f"a={ONE}", "--lora", f"b={TWO}")
        self.assertEqual(self.ids(*both, "--adapter", "a"), one)
        self.assertEqual(self.ids(*both, "--adapter", "b"), two)
        self.assertEqual(self.ids(*both, "--adapter", "none"), plain)

    def test_plan_tells_names_and_bytes(self) -> None:
        said = self.expect(OK, "plan", MODEL, "--lora", f"tone={ONE}")
        self.assertRegex(said, r"adapters +[0-9.]+ MiB: tone")
        found = json.loads(self.expect(OK, "plan", MODEL, "--lora", f"tone={ONE}", "--json"))["bytes"]
        self.assertGreater(found["adapters"], 20000)
        without = json.loads(self.expect(OK, "plan", MODEL, "--json"))["bytes"]
        self.assertEqual(without["adapters"], 0)
        self.assertEqual(found["weights"], without["weights"])
        self.assertNotIn("adapters", self.expect(OK, "plan", MODEL))

    def test_wrong_usage(self) -> None:
        generate = ("generate", MODEL, *IDS, "--print-ids")
        for args, word in (
            (("--lora", ONE), "NAME=FOLDER"),
            (("--lora", f"={ONE}"), "NAME=FOLDER"),
            (("--lora", "a="), "NAME=FOLDER"),
            (("--lora", f"none={ONE}"), "none"),
            (("--lora", f"a={ONE}", "--lora", f"b={TWO}"), "--adapter"),
            (("--lora", f"a={ONE}", "--lora", f"a={TWO}"), '"a"'),
            (("--lora", f"a={ONE}", "--adapter", "c"), "loaded are a"),
            (("--adapter", "c"), "none is"),
        ):
            more = ("--adapter", "a") if args[-1] == f"a={TWO}" else ()
            self.assertIn(word, self.expect(USAGE, *generate, *args, *more))

    def test_broken_adapters_are_named(self) -> None:
        generate = ("generate", MODEL, *IDS, "--print-ids", "--lora")
        self.assertIn("nowhere", self.expect(NOT_FOUND, *generate, "a=/nowhere"))
        self.assertIn("adapter_config.json", self.expect(FAILED, *generate, f"a={MODEL}"))
        self.assertIn("kv_a_proj_with_mqa", self.expect(FAILED, *generate, f"a={TESTS / 'adapters' / 'deepseek-v3'}"))
        self.assertIn("layers.1.mlp.down_proj", self.expect(FAILED, "generate", V3, *IDS, "--print-ids", "--lora", f"a={TWO}"))
        with tempfile.TemporaryDirectory(prefix="hadal-lora-") as folder:
            broken = Path(folder) / "broken"
            shutil.copytree(ONE, broken)
            file = broken / "adapter_model.safetensors"
            data = file.read_bytes()
            for cut in (0, 5, 8, 100, len(data) - 1):
                file.write_bytes(data[:cut])
                self.assertIn("adapter_model.safetensors", self.expect(FAILED, *generate, f"a={broken}"))
            file.write_bytes(data)
            config = json.loads((broken / "adapter_config.json").read_text())
            (broken / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
            self.assertIn("use_dora", self.expect(FAILED, *generate, f"a={broken}"))


if __name__ == "__main__":
    BINARY = sys.argv.pop(1)
    unittest.main()

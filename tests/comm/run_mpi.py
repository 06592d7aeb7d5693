#!/usr/bin/env python3
"""Runs processes under mpirun (standard library only): sums are right to the bit, whatever goes wrong on one rank ends them all, and
the program under it behaves as one.

    run_mpi.py [COMM_RANK PLUGIN [HADAL]] [unittest options]

A rank that aborts, one that goes without a word and one that is killed must each end the run within seconds, with a line that
names it. Of the program, rank 0 alone reads standard input, writes files, listens and refuses. Exits 77 where mpirun is not
installed, or the plug-in is not built.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
MODEL, CHAT_MODEL = str(GOLDEN / "deepseek-v3"), str(GOLDEN / "qwen3")
RANKS = 4
SECONDS = 20
GONE = "it is gone before the others were done"
PROGRAMS: list[str] = []  # COMM_RANK, PLUGIN, HADAL


def mpirun(command: list[str], ranks: int) -> list[str]:
    """The call; `command` may go on with ":" and another command, which a second rank runs."""
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    # of the transports only shared memory, so that no network is looked for
    return ["mpirun", *root, "--oversubscribe", "--mca", "btl", "self,vader", "-n", str(ranks), *command]


def ran(command: list[str], ranks: int, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(mpirun(command, ranks), input=given, capture_output=True, text=True, errors="replace", timeout=120)


def rank_0_of(launcher: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"\0OMPI_COMM_WORLD_RANK=0\0" in Path(f"/proc/{pid}/environ").read_bytes())


class World(unittest.TestCase):
    """The plug-in, by a program that does nothing else."""

    def test_sums_are_right(self) -> None:
        done = ran([*PROGRAMS[:2], "sum"], RANKS)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("the sums are right"), RANKS, done.stdout)

    def test_whatever_goes_wrong_on_one_ends_all(self) -> None:
        for how, line in (
            ("abort", "rank 3 of 4 ends the run: no memory for its part of the model"),
            ("gone", "rank 3 of 4 ends the run: " + GONE),
            ("killed", "process rank 3 with PID"),  # mpirun's own line
        ):
            with self.subTest(how):
                begun = time.monotonic()
                done = ran([*PROGRAMS[:2], how], RANKS)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(line, done.stdout + done.stderr)
                self.assertLess(time.monotonic() - begun, SECONDS)

    def test_alone_it_says_what_it_needs(self) -> None:
        alone = subprocess.run([*PROGRAMS[:2], "sum"], capture_output=True, text=True, timeout=60)
        self.assertEqual(alone.returncode, 1)
        self.assertIn("was not started by mpirun", alone.stderr)


class Program(unittest.TestCase):
    """hadal in two processes."""

    TOKENS = ("--greedy", "--max-new", "6", "--ignore-eos", "--print-ids")

    def setUp(self) -> None:
        if len(PROGRAMS) < 3:
            self.skipTest("the program is not built")
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)

    def together(self, code: int, *words: str, given: str = "", second: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """second: other words of rank 1."""
        command = [PROGRAMS[2], *words]
        done = ran([*command, ":", "-n", "1", PROGRAMS[2], *second], 1, given) if second else ran(command, 2, given)
        self.assertEqual(done.returncode, code, f"{words}: {done.stderr}")
        return done

    def threads(self, *words: str, given: str = "") -> str:
        command = [PROGRAMS[2], *words, "--ranks", "2"]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=True).stdout

    def test_standard_input_is_read_by_rank_0(self) -> None:
        words: tuple[str, ...] = ("generate", MODEL, "--ids", "-", *self.TOKENS)
        self.assertEqual(self.together(0, *words, given="1,2,3,4,5,6,7").stdout, self.threads(*words, given="1,2,3,4,5,6,7"))
        words = ("run", CHAT_MODEL, "--chat-format", "chatml", "--max-new", "4", "--greedy", "--json")
        said, expected = (
            json.loads(text) for text in (self.together(0, *words, given="hello\n").stdout, self.threads(*words, given="hello\n"))
        )
        self.assertEqual(said["content"], expected["content"])

    def test_a_batch_writes_its_results_once(self) -> None:
        file, out = self.folder / "asked.jsonl", self.folder / "results.jsonl"
        body = {"model": "any", "prompt": "abc", "max_tokens": 3, "temperature": 0}
        names = ["one", "two", "three"]
        asked = [{"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body} for name in names]
        file.write_text("".join(json.dumps(line) + "\n" for line in asked))
        out.write_text("of an earlier run\n")
        done = self.together(0, "batch", CHAT_MODEL, str(file), "--out", str(out), "--fresh")
        self.assertEqual(done.stderr.count("3 answered"), 1, done.stderr)
        self.assertEqual(sorted(json.loads(line)["custom_id"] for line in out.read_text().splitlines()), sorted(names))

    def test_a_server_listens_and_answers(self) -> None:
        command = mpirun([PROGRAMS[2], "serve", CHAT_MODEL, "--port", "0", "--log", "off"], 2)
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            ready = server.stdout.readline()
            found = re.match(r"ready: (http://\S+)", ready)
            assert found is not None, ready
            body = json.dumps({"model": "qwen3", "prompt": "abc", "max_tokens": 3}).encode()
            request = urllib.request.Request(found[1] + "/v1/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                self.assertEqual(json.load(answer)["usage"]["completion_tokens"], 3)
            os.kill(rank_0_of(server), signal.SIGTERM)
            _, said = server.communicate(timeout=SECONDS)
        finally:
            server.terminate()
        self.assertEqual(server.returncode, 0, said)
        self.assertEqual(said.count("listening on"), 1, said)
        self.assertIn("every request was answered", said)

    def test_a_plan_is_of_one_rank(self) -> None:
        whole = subprocess.run([PROGRAMS[2], "plan", MODEL, "--json"], capture_output=True, text=True, timeout=60, check=True)
        part = json.loads(self.together(0, "plan", MODEL, "--json").stdout)
        self.assertEqual(part["ranks"], 2)
        self.assertLess(part["bytes"]["weights"], json.loads(whole.stdout)["bytes"]["weights"])
        self.assertIn("rank 0 of 2", self.together(0, "plan", MODEL).stdout)

    def test_a_refusal_is_said_once(self) -> None:
        for code, words, line in (
            (4, ("generate", "no-such-model", "--ids", "1"), "no-such-model"),
            (2, ("generate", MODEL, "--ids", "1", "--no-such-option"), "no-such-option"),
            (4, ("serve", CHAT_MODEL, "--config", "no-such-file"), "no-such-file"),
            (2, ("run", CHAT_MODEL), "the prompt is empty"),
            (2, ("chip", "trace", MODEL), "looks at one device"),
        ):
            with self.subTest(words[0]):
                said = self.together(code, *words).stderr
                self.assertEqual(said.count(line), 1, said)
                self.assertNotIn(GONE, said)

    def test_a_rank_that_would_compute_something_else_is_refused(self) -> None:
        words = ("generate", MODEL, "--ids", "1,2,3", *self.TOKENS)
        for more, line in (
            (("--chip", "ref"), "it has another chip than rank 0: ref; rank 0 has cpu"),
            (("--kv-cache-dtype", "bf16"), "it has another --kv-cache-dtype than rank 0: BF16; rank 0 has F16"),
            (("--weights", "f32"), "it has another --weights than rank 0: f32; rank 0 has native"),
            (("--numerics", "exact"), "it has another --numerics than rank 0: exact; rank 0 has fastest"),
        ):
            with self.subTest(more):
                self.assertIn("rank 1 of 2 ends the run: " + line, self.together(1, *words, second=(*words, *more)).stderr)

        said = self.together(2, *words, second=(*words, "--no-such-option")).stderr
        self.assertIn("hadal: The following argument was not expected: --no-such-option", said)

    def test_a_rank_with_another_model_is_refused(self) -> None:
        words = ("generate", MODEL, "--ids", "1,2,3", *self.TOKENS)
        like = self.folder / "like"
        shutil.copytree(MODEL, like)
        weights = like / "model.safetensors"
        data = bytearray(weights.read_bytes())
        begin = 8 + struct.unpack("<Q", data[:8])[0]
        data[begin : begin + 64] = bytes(reversed(data[begin : begin + 64]))
        weights.write_bytes(data)
        for other in (str(like), str(GOLDEN / "deepseek-v2")):  # of the same shape, and of another
            with self.subTest(other):
                said = self.together(1, *words, second=("generate", other, *words[2:])).stderr
                self.assertIn("rank 1 of 2 ends the run: it has another model than rank 0: " + other, said)


if __name__ == "__main__":
    while len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        PROGRAMS.append(sys.argv.pop(1))
    if len(PROGRAMS) < 2:
        print("skipped: libhadal_comm_mpi.so is not built (package libopenmpi-dev)")
        sys.exit(77)
    if shutil.which("mpirun") is None:
        print("skipped: mpirun is not installed (package openmpi-bin)")
        sys.exit(77)
    os.environ["HADAL_CHIPS"] = str(Path(PROGRAMS[1]).resolve().parent)
    unittest.main(verbosity=2)

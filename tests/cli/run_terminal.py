#!/usr/bin/env python3
"""Tests of the hadal program at a terminal and in pipes: what is typed, pasted and piped in, and an output that goes away.

run_terminal.py BINARY [unittest options]        standard library only
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import termios
import time
import unittest
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
BINARY = ""
OK, FAILED, USAGE = 0, 1, 2
QWEN3 = str(GOLDEN / "qwen3")
ASK = ["run", QWEN3, "--chat-format", "deepseek-r1", "--greedy", "--max-new", "12", "--json"]
LOCALES: tuple[dict[str, str], ...] = (
    {"LC_ALL": "C.UTF-8"},
    {"LC_ALL": "C"},
    {},
    {"LANG": "xx_XX.UTF-8"},
    {"LC_ALL": "POSIX", "LOCPATH": "/nonexistent"},
)
PASTE, PASTE_END = b"\x1b[200~", b"\x1b[201~"


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "LOCPATH"))}
    return kept | {"TERM": "xterm"} | more


def hadal(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([BINARY, *args], input=stdin, capture_output=True, timeout=120, env=environment())


def asked(question: str) -> tuple[int, str]:
    """How many tokens the question's prompt has and what is answered: equal only if the question arrived byte for byte."""
    return heard(hadal(*ASK, question).stdout)


def heard(line: bytes) -> tuple[int, str]:
    answer = json.loads(line)
    return answer["prompt_tokens"], answer.get("reasoning", "") + answer["content"]


class Terminal:
    """The program with a pseudo-terminal as its input and error output; its standard output is a pipe, or the terminal too."""

    def __init__(self, args: list[str], locale: dict[str, str] | None = None, *, output: bool = False) -> None:
        self.master, slave = pty.openpty()
        self.screen = b""
        self.process = subprocess.Popen(
            [BINARY, *args],
            stdin=slave,
            stderr=slave,
            stdout=slave if output else subprocess.PIPE,
            env=environment(**(locale or {})),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        if self.process.stdout:
            self.process.stdout.close()

    def send(self, keys: bytes) -> None:
        while keys:  # no more at once than a terminal's queue holds
            os.write(self.master, keys[:1000])
            keys = keys[1000:]
            self.look(0.02)

    def look(self, seconds: float) -> bool:
        """Takes in what is shown; False at the end."""
        while select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:
                return False
            if not data:
                return False
            self.screen += data
        return True

    def wait_for(self, text: bytes, seconds: float = 60) -> bytes:
        """Waits until `text` is shown and returns the screen up to its end; what comes after remains."""
        end = time.monotonic() + seconds
        while text not in self.screen:
            if (not self.look(0.02) and text not in self.screen) or time.monotonic() > end:
                raise AssertionError(f"{text!r} is not shown, but {self.screen[-2000:]!r}")
        shown, self.screen = self.screen.split(text, 1)
        return shown + text

    def answer(self) -> tuple[int, str]:
        assert self.process.stdout
        end = time.monotonic() + 60
        while not select.select([self.process.stdout], [], [], 0.02)[0]:
            self.look(0)
            if time.monotonic() > end:
                raise AssertionError(f"no answer; shown is {self.screen[-2000:]!r}")
        return heard(self.process.stdout.readline())

    def end(self) -> int:
        while self.look(0.1):
            if self.process.poll() is not None:
                break
        return self.process.wait(timeout=60)


class Prompt(unittest.TestCase):
    def expect(self, keys: bytes, question: str, locale: dict[str, str] | None = None) -> None:
        with Terminal(ASK, locale) as terminal:
            terminal.wait_for(b">>> ")
            terminal.send(keys)
            self.assertEqual(terminal.answer(), asked(question), f"{keys!r} in {locale}")
            terminal.wait_for(b">>> ")
            terminal.send(b"\x04")
            self.assertEqual(terminal.end(), OK)

    def test_what_tells_questions_apart(self) -> None:
        self.assertEqual(len({asked(question) for question in ("é", "è", "e", "é\n", "中文", "文中")}), 6)

    def test_characters_arrive_as_typed(self) -> None:
        for locale in LOCALES:
            with self.subTest(locale=locale):
                self.expect("Où est l'été? 中文 😀\r".encode(), "Où est l'été? 中文 😀", locale)

    def test_characters_are_edited_whole(self) -> None:
        for locale in LOCALES:
            with self.subTest(locale=locale):
                self.expect("é中x\x7f\x7f文".encode() + b"\x1b[D\x1b[Da\r", "aé文", locale)

    def test_history(self) -> None:
        with Terminal(ASK) as terminal:
            terminal.wait_for(b">>> ")
            terminal.send("a\\\ré中\r".encode())
            first = terminal.answer()
            terminal.send(b"/clear\r\x1b[A\x1b[A\r")
            self.assertEqual(terminal.answer(), first)

    def test_a_paste_is_one_question(self) -> None:
        for locale in LOCALES:
            with self.subTest(locale=locale):
                self.expect(
                    b"see: " + PASTE + "une é\r  deux\r\n\ttrois 中\n/clear\r".encode() + PASTE_END + b"ok\r",
                    "see: une é\n  deux\n\ttrois 中\n/clear\nok",
                    locale,
                )
        self.expect(PASTE + b"x\r" * 100 + PASTE_END + b"\r", "\n".join(["x"] * 100))  # more than the screen has lines
        self.expect(PASTE + PASTE_END + b"a" + PASTE + b"\x03b" + PASTE_END + b"\r", "a\x03b")

    def test_a_long_paste(self) -> None:
        text = "\n".join(f"line {i} of a file" for i in range(3000))
        said = hadal(*ASK, text).stderr.strip()
        self.assertRegex(said, rb"\d{4,} tokens")
        with Terminal(ASK) as terminal:
            terminal.wait_for(b">>> ")
            terminal.send(PASTE + text.replace("\n", "\r").encode() + PASTE_END + b"\r")
            terminal.wait_for(said)
            terminal.send(b"a\r")
            self.assertEqual(terminal.answer(), asked("a"))

    def test_several_lines(self) -> None:
        self.expect(b"one\\\rtwo\\\r\\\rthree\r", "one\ntwo\n\nthree")
        self.expect(b"one\x1b\rtwo\x1b\nthree\r", "one\ntwo\nthree")

    def test_interrupt_clears_the_line(self) -> None:
        self.expect(b"wrong\x03right\r", "right")
        self.expect(b"\x03\x03right\r", "right")
        self.expect(b"wrong\\\rwrong\x03right\r", "right")
        self.expect(PASTE + b"wrong\rwrong" + PASTE_END + b"\x1b[D\x03right\r", "right")
        for locale in LOCALES:
            with self.subTest(locale=locale):
                self.expect(b"wrong\x03" + "é\r".encode(), "é", locale)

    def test_interrupts_during_an_answer_and_after(self) -> None:
        with Terminal(["run", QWEN3, "--chat-format", "deepseek-r1", "--chip", "ref", "--json"]) as terminal:
            terminal.wait_for(b">>> ")
            terminal.send(b"why?\r")
            for _ in range(30):
                terminal.send(b"\x03")
                terminal.look(0.01)
            terminal.answer()
            terminal.send(b"/help\r")
            terminal.wait_for(b"/clear")

    def test_what_is_typed_is_shown(self) -> None:
        with Terminal(ASK, {"LC_ALL": "C"}, output=True) as terminal:
            terminal.wait_for(b">>> ")
            terminal.send("é中".encode())
            terminal.wait_for("é中".encode())
            terminal.send(b"\x7f\r")
            shown = terminal.wait_for(b"}")
            self.assertEqual(heard(shown[shown.index(b"{") :]), asked("é"))

    def test_commands(self) -> None:
        with Terminal(ASK) as terminal:
            shown = terminal.wait_for(b">>> ")
            self.assertIn(b"/help", shown)
            for unknown in (b"/no_think", b"/cler"):
                terminal.send(unknown + b"\r")
                terminal.wait_for(b"unknown command " + unknown + b"; there are /clear, /undo, /help, /exit")
            terminal.send(b"/help\r")
            self.assertIn(b"backslash", terminal.wait_for(b"Ctrl-C"))
            terminal.send(b"/exit\r")
            self.assertEqual(terminal.end(), OK)
        self.expect(b"/no_think what is 2+2\r", "/no_think what is 2+2")
        self.expect(b"/no_think\\\rwhat is 2+2\r", "/no_think\nwhat is 2+2")
        self.expect(b"/usr/bin\r", "/usr/bin")


class PipedIn(unittest.TestCase):
    def answers(self, question: str, *args: str, **more: object) -> None:
        done = subprocess.run([BINARY, *ASK, *args], capture_output=True, timeout=60, **more)  # type: ignore[call-overload]
        self.assertEqual(done.returncode, OK, done.stderr)
        self.assertEqual(heard(done.stdout), asked(question))

    def test_context_and_question_are_joined(self) -> None:
        self.answers("le contexte é\n\nwhy?", "why?", input="le contexte é\n\n".encode())
        self.answers("why?", "why?", input=b"")
        self.answers("why?", "why?", input=b"\n")
        self.answers("context", input=b"context\n")
        with tempfile.TemporaryFile() as file:
            file.write(b"two\nlines\n")
            file.seek(0)
            self.answers("two\nlines\n\nwhy?", "why?", stdin=file)

    def test_no_context(self) -> None:
        self.answers("why?", "why?", stdin=subprocess.DEVNULL)
        self.answers("why?", "why?", preexec_fn=lambda: os.close(0))
        with open("/dev/zero", "rb") as zero:  # has no end
            self.answers("why?", "why?", stdin=zero)
        for nothing in ({"stdin": subprocess.DEVNULL}, {"preexec_fn": lambda: os.close(0)}):
            done = subprocess.run([BINARY, *ASK], capture_output=True, timeout=60, **nothing)  # type: ignore[call-overload]
            self.assertEqual(done.returncode, USAGE)

    def test_a_silent_pipe_is_waited_for_aloud(self) -> None:
        reader, writer = os.pipe()
        process = subprocess.Popen([BINARY, *ASK, "why?"], stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stderr
        self.assertIn(b"standard input", process.stderr.readline())
        os.write(writer, b"late")
        os.close(writer)
        os.close(reader)
        self.assertEqual(heard(process.communicate(timeout=60)[0]), asked("late\n\nwhy?"))

    def test_what_cannot_be_read(self) -> None:
        folder = os.open("/", os.O_RDONLY)
        done = subprocess.run([BINARY, "generate", QWEN3, "--ids", "-"], stdin=folder, capture_output=True, timeout=60)
        os.close(folder)
        self.assertEqual((done.returncode, done.stdout), (FAILED, b""))
        self.assertRegex(done.stderr, b"^hadal: cannot read standard input: .+\n$")


COMMANDS: tuple[tuple[list[str], bytes], ...] = (
    (["--help"], b""),
    (["run", "--help"], b""),
    (["--version"], b""),
    (["version"], b""),
    (["version", "--json"], b""),
    (["completion", "bash"], b""),
    (["completion", "zsh"], b""),
    (["completion", "fish"], b""),
    (["chips"], b""),
    (["chips", "--json"], b""),
    (["inspect", QWEN3], b""),
    (["inspect", QWEN3, "--json"], b""),
    (["inspect", QWEN3, "--deep", "--tensors", "--metadata"], b""),
    (["plan", QWEN3], b""),
    (["plan", QWEN3, "--json"], b""),
    (["tokenize", QWEN3, "--text", "a"], b""),
    (["tokenize", QWEN3, "--text", "a", "--json"], b""),
    (["tokenize", QWEN3, "--stdin-json"], b'"a"\n'),
    (["encode", QWEN3, "--chat-format", "chatml", "--messages", "-"], b'{"messages":[{"role":"user","content":"a"}]}\n'),
    (["parse", "--format", "deepseek-r1"], b'["a"]\n'),
    (["bench", QWEN3, "--prefill", "8", "--decode", "2", "--samples", "1"], b""),
    (["bench", QWEN3, "--prefill", "8", "--decode", "0", "--samples", "1", "--no-peaks"], b""),
    (["generate", QWEN3, "--text", "a", "--max-new", "4", "--ignore-eos"], b""),
    (["generate", QWEN3, "--ids", "1", "--max-new", "4", "--print-ids"], b""),
    (["generate", QWEN3, "--text", "a", "--max-new", "4", "--json"], b""),
    (ASK, b"a"),
    (ASK[:-1], b"a"),
)


class Completion(unittest.TestCase):
    def complete(self, *words: str) -> list[str]:
        script = hadal("completion", "bash").stdout.decode()
        script += 'COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _hadal; printf "%s\\n" "${COMPREPLY[@]}"'
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "my model.gguf").touch()
            said = subprocess.run(
                ["bash", "-c", script, "bash", "hadal", *words], capture_output=True, text=True, check=True, cwd=folder, timeout=60
            )
        self.assertEqual(said.stderr, "")
        return said.stdout.split("\n")[:-1]

    def test_bash(self) -> None:
        self.assertEqual(self.complete("gen"), ["generate"])
        self.assertEqual(self.complete("--ver"), ["--version"])
        self.assertEqual(self.complete("run", "my"), ["my model.gguf"])
        self.assertEqual(self.complete("run", "m", "--hide"), ["--hide-thinking"])
        self.assertEqual(self.complete("plan", "--weights", ""), ["native", "f32"])
        self.assertEqual(self.complete("completion", ""), ["bash", "zsh", "fish"])

    def test_fish_describes(self) -> None:
        script = hadal("completion", "fish").stdout.decode()
        self.assertIn(
            "-l weights -d 'native: as the file has them; f32: decoded at load, activations unrounded' -x -a 'native f32'\n", script
        )
        self.assertIn("-l hide-thinking -d 'do not show the model\\'s thoughts'\n", script)


class OutputThatIsGone(unittest.TestCase):
    def refuses(self, args: list[str], stdin: bytes, word: bytes, **more: object) -> None:
        done = subprocess.run([BINARY, *args], input=stdin, stderr=subprocess.PIPE, timeout=60, env=environment(), **more)  # type: ignore[call-overload]
        with self.subTest(args=args):
            self.assertEqual(done.returncode, FAILED, done.stderr)
            self.assertTrue(done.stderr.endswith(b"hadal: cannot write to standard output: " + word + b"\n"), done.stderr)
            self.assertEqual(done.stderr.count(b"hadal: "), 1)

    def test_a_full_disk(self) -> None:
        for args, stdin in COMMANDS:
            with open("/dev/full", "wb") as full:
                self.refuses(args, stdin, b"No space left on device", stdout=full)

    def test_a_reader_that_has_gone(self) -> None:
        for args, stdin in COMMANDS:
            reader, writer = os.pipe()
            os.close(reader)
            self.refuses(args, stdin, b"Broken pipe", stdout=writer)
            os.close(writer)

    def test_a_closed_output(self) -> None:
        for args, stdin in COMMANDS:
            self.refuses(args, stdin, b"Bad file descriptor", preexec_fn=lambda: os.close(1))

    def test_a_file_does_not_take_the_place_of_a_closed_output(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "logits.npy"
            subprocess.run(
                [BINARY, "logits", QWEN3, "--ids", "1,2", "--out", str(file)],
                preexec_fn=lambda: [os.close(fd) for fd in (0, 1, 2)],
                timeout=60,
            )
            self.assertTrue(file.read_bytes().startswith(b"\x93NUMPY"))

    def test_long_work_ends(self) -> None:
        """Each of these takes minutes where nothing stops it; the reader goes after the first byte, or before one comes."""
        with tempfile.TemporaryDirectory() as folder:
            model = shutil.copytree(QWEN3, Path(folder) / "model")
            config = json.loads((model / "config.json").read_text())
            (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1 << 17}))
            generate = ["generate", str(model), "--ids", "5", "--max-new", "100000", "--ignore-eos"]
            ask = [str(model) if word == QWEN3 else "100000" if word == "12" else word for word in ASK]
            bench = ["bench", QWEN3, "--no-peaks", "--decode", "0", "--chip", "ref"]
            for args, wait in (
                (generate, True),
                ([*generate, "--print-ids"], False),
                ([*generate, "--json"], False),
                ([*ask, "a"], False),
                ([*bench, "--samples", "1", "--prefill", ",".join(["400"] * 999)], True),
                ([*bench, "--samples", "999", "--prefill", "400"], False),
            ):
                with self.subTest(args=args):
                    process = subprocess.Popen([BINARY, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
                    assert process.stdout and process.stderr
                    process.stdout.read(1) if wait else time.sleep(0.2)
                    process.stdout.close()
                    try:
                        self.assertEqual(process.wait(timeout=20), FAILED)
                        self.assertIn(b"hadal: cannot write to standard output: Broken pipe", process.stderr.read())
                    finally:
                        process.kill()
                        process.wait()
                        process.stderr.close()


class ControlCharacters(unittest.TestCase):
    generate = ["generate", QWEN3, "--ids", "5", "--max-new", "400", "--ignore-eos", "--temperature", "9", "--top-p", "1", "--seed", "1"]
    controls = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

    def shown(self, args: list[str]) -> str:
        with Terminal(args, {"LC_ALL": "C.UTF-8"}, output=True) as terminal:
            terminal.end()
            return terminal.screen.decode().replace("\r\n", "\n")

    def test_of_a_model(self) -> None:
        said = hadal(*self.generate).stdout.decode()
        self.assertRegex(said, self.controls, "this seed shows nothing")
        escaped = self.controls.sub(lambda c: "".join(f"\\x{byte:02x}" for byte in c[0].encode()), said.replace("\r\n", "\n"))
        self.assertEqual(self.shown(self.generate), escaped)

    def test_of_names(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            name = Path(folder) / "\x1b[31m\x9b"
            name.symlink_to(QWEN3)
            for args in (["inspect", str(name)], ["plan", str(name)], ["inspect", str(name) + "x"]):
                shown = self.shown(args)
                self.assertIn("\\x1b[31m\\xc2\\x9b", shown)
                self.assertNotRegex(shown, self.controls)
            self.assertIn(str(name), hadal("inspect", str(name)).stdout.decode())


if __name__ == "__main__":
    BINARY = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)

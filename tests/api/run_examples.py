#!/usr/bin/env python3
"""The example programs, as they are built in the tree; and built out of it against an installed libhadal, by pkg-config and by
find_package: run_examples.py BUILD [unittest options]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "tests/golden/qwen3")
BUILD = Path()
FORMAT = "deepseek-v3.1"


def run(*command: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(c) for c in command], input=stdin, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300
    )
    if done.returncode:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


class Examples(unittest.TestCase):
    def check(self, folder: Path, **environment: str) -> None:
        self.assertRegex(run(folder / "example_chat", MODEL, "Hello", FORMAT, **environment).stdout, r"\[\d+ tokens\]\n$")
        batch = run(folder / "example_batch", MODEL, FORMAT, stdin="one\ntwo\nthree\n", **environment)
        self.assertRegex(batch.stderr, r"\d+ tokens in \d+ steps")
        loop = run(folder / "example_event_loop", MODEL, "Hello", **environment).stdout
        self.assertRegex(loop, r"\[\d+ tokens, \d+ ticks meanwhile\]\n$")

    def test_in_the_tree(self) -> None:
        self.check(BUILD / "bin")

    def test_errors_are_lines(self) -> None:
        for name, arguments in (("chat", ["x"]), ("batch", []), ("event_loop", ["x"])):
            done = subprocess.run([BUILD / "bin" / f"example_{name}", "/nowhere", *arguments], capture_output=True, text=True, input="")
            self.assertEqual(done.returncode, 1)
            self.assertIn("/nowhere", done.stderr)


class Installed(Examples):
    @classmethod
    def setUpClass(cls) -> None:
        cls.scratch = tempfile.TemporaryDirectory()
        cls.prefix = Path(cls.scratch.name) / "prefix"
        run("cmake", "--install", BUILD, "--prefix", cls.prefix, "--component", "library")
        cls.library = next(cls.prefix.rglob("libhadal.so")).parent

    @classmethod
    def tearDownClass(cls) -> None:
        cls.scratch.cleanup()

    def test_by_find_package(self) -> None:
        # a copy of the examples: nothing of the tree is seen
        source, build = Path(self.scratch.name) / "source", Path(self.scratch.name) / "build"
        shutil.copytree(ROOT / "examples", source)
        run("cmake", "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        run("cmake", "--build", build)
        self.check(build)

    def test_by_pkg_config(self) -> None:
        folder = Path(self.scratch.name) / "pkg"
        folder.mkdir()
        path = {"PKG_CONFIG_PATH": str(self.library / "pkgconfig")}
        flags = run("pkg-config", "--cflags", "--libs", "hadal", **path).stdout.split()
        for name, compiler in (("chat.c", ["cc", "-std=c11"]), ("batch.cc", ["c++", "-std=c++20"]), ("event_loop.c", ["cc"])):
            run(*compiler, ROOT / "examples" / name, "-o", folder / f"example_{Path(name).stem}", *flags)
        self.check(folder, LD_LIBRARY_PATH=str(self.library))

    def test_statically(self) -> None:
        if not (self.library / "libhadal.a").exists():
            self.skipTest("no static library was built")
        path = {"PKG_CONFIG_PATH": str(self.library / "pkgconfig")}
        flags = run("pkg-config", "--static", "--cflags", "--libs", "hadal", **path).stdout.split()
        flags = [str(self.library / "libhadal.a") if f == "-lhadal" else f for f in flags]
        program = Path(self.scratch.name) / "chat_static"
        run("cc", "-std=c11", ROOT / "examples/chat.c", "-o", program, *flags)
        needed = run("readelf", "-d", program).stdout
        self.assertNotIn("libhadal", needed)
        self.assertRegex(run(program, MODEL, "Hello", FORMAT).stdout, r"\[\d+ tokens\]\n$")

    def test_what_is_installed_is_stripped_and_named(self) -> None:
        sections = run("readelf", "-S", self.library / "libhadal.so").stdout
        self.assertNotIn(".debug_info", sections)
        self.assertTrue((self.library / "libhadal.so").is_symlink())


if __name__ == "__main__":
    BUILD = Path(sys.argv.pop(1)).resolve()
    unittest.main()

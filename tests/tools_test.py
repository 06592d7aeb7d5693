#!/usr/bin/env python3
"""Tests of what the other tests rely on: the checks of the tree, the KL, the .npy reader (standard library only)."""

from __future__ import annotations

import math
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from array import array
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools" / "dev"), str(ROOT / "tests")]
import check_functions  # noqa: E402
import check_layers  # noqa: E402
import npy  # noqa: E402


class Layers(unittest.TestCase):
    def faults(self, files: dict[str, list[str]]) -> list[str]:
        """What check_layers says of a tree where each file includes those listed."""
        there = ("src/base/result.h", "src/models/model.h", "src/models/blocks/mla.h", "src/text/tokenizer.h", "src/engine/engine.h")
        there += ("src/weights/binder.h", "chips/cpu/pool.h", "include/hadal/chip.h", "include/hadal/hadal.h")
        with tempfile.TemporaryDirectory() as folder:
            for name, includes in ({name: [] for name in there} | files).items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("#include <vector>\n" + "".join(f'#include "{include}"\n' for include in includes))
            return check_layers.check(Path(folder))[1]

    def test_what_is_allowed(self) -> None:
        allowed = {
            "src/weights/x.cc": ["base/result.h", "hadal/chip.h"],
            "src/models/x.cc": ["base/result.h", "models/model.h", "weights/binder.h", "hadal/chip.h"],
            "chips/cpu/x.cc": ["pool.h", "base/result.h", "hadal/chip.h"],
            "src/engine/x.cc": ["text/tokenizer.h"],
            "src/session/x.cc": ["engine/engine.h"],
            "apps/hadal/x.cc": ["engine/engine.h"],
        }
        self.assertEqual(self.faults(allowed), [])

    def test_what_is_not(self) -> None:
        for file, include in (
            ("src/models/x.cc", "text/tokenizer.h"),
            ("src/models/x.cc", "engine/engine.h"),
            ("src/weights/x.cc", "models/model.h"),
            ("src/base/x.cc", "models/model.h"),
            ("src/models/x.cc", "../text/tokenizer.h"),
            ("chips/ref/x.cc", "../cpu/pool.h"),
            ("chips/cpu/x.cc", "models/model.h"),
            ("src/engine/x.cc", "../../chips/cpu/pool.h"),
            ("src/session/x.cc", "hadal/chip.h"),
            ("chips/cpu/x.cc", "hadal/hadal.h"),
            ("src/text/x.cc", "hadal/chip.h"),
            ("src/strange/x.cc", "base/result.h"),
            ("src/text/x.cc", "no/such.h"),
        ):
            with self.subTest(file=file, include=include):
                self.assertEqual(len(self.faults({file: [include]})), 1)

    def test_circles(self) -> None:
        down = {"src/models/dense/dense.h": ["models/blocks/mla.h"], "src/models/blocks/mla.h": ["models/model.h"]}
        self.assertEqual(self.faults(down | {"src/models/registry.cc": ["models/dense/dense.h"]}), [])  # which only lists
        two = self.faults({"src/models/blocks/mla.h": ["models/dense/x.h"], "src/models/dense/x.h": ["models/blocks/mla.h"]})
        self.assertEqual(len(two), 1)
        self.assertIn("src/models/blocks/mla.h includes from src/models/dense", two[0])
        self.assertEqual(len(self.faults(down | {"src/models/model.h": ["models/dense/dense.h"]})), 1)


class Functions(unittest.TestCase):
    def lengths(self, text: str) -> list[tuple[str, int]]:
        return [(name, last - first + 1) for name, first, last in check_functions.cpp_functions(text)]

    def test_what_a_function_is(self) -> None:
        for text, expected in (
            ("int f() {\n  return 1;\n}\n", [("int f()", 3)]),
            ("namespace a::b {\nnamespace {\nint f(\n    int x) { return x; }\n}  // }\n}\n", [("int f( int x)", 2)]),
            ("struct S {\n  int a = 1;\n  int f() const {\n    if (a) {\n    }\n    return a;\n  }\n};\n", [("int f() const", 5)]),
            ("class T final : public U {\n public:\n  T() : a_{1}, b_(2) {\n  }\n};\n", [("T() : a_{1}, b_(2)", 2)]),
            ("const int k[] = {\n  1,\n  2,\n};\nenum class E : int { kA };\n", []),
            (
                "template <typename T>\nT f(T x) {\n  auto g = [](T y) {\n    return y;\n  };\n  return g(x);\n}\n",
                [("template <typename T> T f(T x)", 7)],
            ),
            ('int f() {\n  char c = \'{\';\n  const char* s = "}}\\"{";\n  return R"x({{{)x"[0] + 1\'000;\n}\n', [("int f()", 5)]),
            ("#define OPEN {\\\n  {\nint f() { return 1; /* } */ }\n", [("int f()", 1)]),
            ("bool operator==(S a, S b) {\n  return true;\n}\nTEST(A, B) {\n}\n", [("bool operator==(S a, S b)", 3), ("TEST(A, B)", 2)]),
            ("std::vector<int> f(std::vector<int> x = {1}) {\n}\n", [("std::vector<int> f(std::vector<int> x = {1})", 2)]),
            ('extern "C" {\nint f(void) {\n}\n}\n', [("int f(void)", 2)]),
        ):
            with self.subTest(text=text):
                self.assertEqual(self.lengths(text), expected)

    def test_unbalanced(self) -> None:
        self.assertRaises(ValueError, self.lengths, "int f() {\n")
        self.assertRaises(ValueError, self.lengths, "}\n")

    def test_the_limit(self) -> None:
        cpp, python = "int f() {\n" + "  g();\n" * 78 + "}\n", "def f():\n" + "    g()\n" * 79
        for name, text, more in (("src/a.cc", cpp, "  g();\n}\n"), ("tools/dev/a.py", python, "    g()\n")):
            with self.subTest(name=name), tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                path.parent.mkdir(parents=True)
                path.write_text(text)
                self.assertEqual(check_functions.check(Path(folder)), (1, []))
                path.write_text(text.removesuffix("}\n") + more)
                self.assertEqual(len(check_functions.check(Path(folder))[1]), 1)


class Snippets(unittest.TestCase):
    def test_what_compiles(self) -> None:
        for code, expected in (("// src/a.cc\nint f() { return 1; }\n", 0), ("// src/a.cc\nint f() { return g; }\n", 1), ("int f();\n", 1)):
            with self.subTest(code=code), tempfile.TemporaryDirectory() as folder:
                document = Path(folder) / "x.md"
                document.write_text(f"```cpp\n{code}```\n")
                command = [sys.executable, ROOT / "tools/dev/check_snippets.py", document, "c++"]
                self.assertEqual(subprocess.run(command, capture_output=True).returncode, expected)


class Packages(unittest.TestCase):
    def test_what_a_system_lacks(self) -> None:
        """A package that the system has not is left out in words; where it has it, nothing is said."""
        with tempfile.TemporaryDirectory() as folder:
            tool = Path(folder) / "tools" / "dev" / "install_packages.sh"
            tool.parent.mkdir(parents=True)
            tool.write_bytes((ROOT / "tools/dev/install_packages.sh").read_bytes())
            (Path(folder) / "packages.txt").write_text("run bash\nrun no-such-program  ubuntu-22.04\n")
            (Path(folder) / "bin").mkdir()
            for program in ("awk", "dirname", "sed"):  # neither dpkg-query nor apt-get
                (Path(folder) / "bin" / program).symlink_to(shutil.which(program) or "")
            for version, said in (("22.04", "ubuntu-22.04 has no no-such-program"), ("24.04", "bash no-such-program")):
                (Path(folder) / "os-release").write_text(f'ID=ubuntu\nVERSION_ID="{version}"\n')
                done = subprocess.run(
                    ["/bin/bash", tool, "run"],
                    capture_output=True,
                    text=True,
                    env={"OS_RELEASE": f"{folder}/os-release", "PATH": f"{folder}/bin"},
                )
                with self.subTest(version=version):
                    self.assertIn(said, done.stderr)


class Numbers(unittest.TestCase):
    def test_kl(self) -> None:
        a = array("f", [1.0, 2.0, 3.0])
        self.assertEqual(npy.kl(a, a), 0.0)
        self.assertAlmostEqual(npy.kl(array("f", [0, 0]), array("f", [0, math.log(3)])), math.log(2) - 0.5 * math.log(3), places=6)
        self.assertAlmostEqual(npy.kl(a, array("f", [101.0, 102.0, 103.0])), 0.0, places=9)
        self.assertEqual(npy.kl(a, array("f", [1.0, math.nan, 3.0])), math.inf)
        self.assertEqual(npy.kl(a, array("f", [1.0, 2.0])), math.inf)
        self.assertEqual(npy.kls([a, a], [a]), [math.inf, math.inf])

    def test_npy(self) -> None:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
        header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
        whole = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack("<6f", *range(6))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.npy"
            path.write_bytes(whole)
            self.assertEqual([list(r) for r in npy.load(path)], [[0, 1, 2], [3, 4, 5]])
            for broken in (whole[:-4], whole.replace(b"<f4", b"<f8"), b"nothing"):
                path.write_bytes(broken)
                self.assertRaises(ValueError, npy.load, path)


if __name__ == "__main__":
    unittest.main()

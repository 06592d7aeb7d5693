#!/usr/bin/env python3
"""Tests of what the other tests rely on: the include rule, the KL, the .npy reader (standard library only)."""

from __future__ import annotations

import math
import struct
import sys
import tempfile
import unittest
from array import array
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools" / "dev"), str(ROOT / "tests")]
import check_layers  # noqa: E402
import npy  # noqa: E402


class Layers(unittest.TestCase):
    def faults(self, **files: str) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            base = dict.fromkeys(
                (
                    "src/base/result.h",
                    "src/models/model.h",
                    "src/text/tokenizer.h",
                    "src/engine/engine.h",
                    "chips/cpu/pool.h",
                    "include/hadal/chip.h",
                    "include/hadal/hadal.h",
                ),
                "",
            )
            given = {name.replace("__", "/").replace("_cc", ".cc"): text for name, text in files.items()}
            for name, text in (base | given).items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check_layers.check(Path(folder))[1]

    def test_what_is_allowed(self) -> None:
        self.assertEqual(
            self.faults(
                src__models__x_cc='#include "base/result.h"\n#include "models/model.h"\n#include "hadal/chip.h"\n#include <vector>\n',
                chips__cpu__x_cc='#include "pool.h"\n#include "base/result.h"\n#include "hadal/chip.h"\n',
                src__engine__x_cc='#include "text/tokenizer.h"\n',
                apps__hadal__x_cc='#include "engine/engine.h"\n',
            ),
            [],
        )

    def test_what_is_not(self) -> None:
        for file, include in (
            ("src__models__x_cc", "text/tokenizer.h"),
            ("src__models__x_cc", "engine/engine.h"),
            ("src__base__x_cc", "models/model.h"),
            ("src__models__x_cc", "../text/tokenizer.h"),
            ("chips__ref__x_cc", "../cpu/pool.h"),
            ("chips__cpu__x_cc", "models/model.h"),
            ("src__engine__x_cc", "../../chips/cpu/pool.h"),
            ("chips__cpu__x_cc", "hadal/hadal.h"),
            ("src__text__x_cc", "hadal/chip.h"),
            ("src__strange__x_cc", "base/result.h"),
            ("src__text__x_cc", "no/such.h"),
        ):
            with self.subTest(file=file, include=include):
                self.assertEqual(len(self.faults(**{file: f'#include "{include}"\n'})), 1)


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

#!/usr/bin/env python3
"""Compiles the C++ of a document against this tree: check_snippets.py DOCUMENT COMPILER [TREE]

A snippet is a fenced block of `cpp` that begins with its path, `// src/…` or `// chips/cpu/…`. All are laid into a folder that is
searched before the tree, so that they may include each other; each .cc is then checked by the compiler with warnings as errors, without
being linked.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")


def main() -> int:
    document, compiler = Path(sys.argv[1]), sys.argv[2]
    tree = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(__file__).resolve().parents[2]
    blocks = re.findall(r"^```cpp\n(.*?)^```$", document.read_text(), re.M | re.S)
    faults = 0
    with tempfile.TemporaryDirectory() as scratch:
        for block in blocks:
            named = re.match(r"// ((?:src|chips/cpu)/\S+)\n", block)
            if not named:
                print(f"{document}: a block of C++ does not begin with its path: {block.splitlines()[0]}")
                faults += 1
                continue
            file = Path(scratch) / named.group(1)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block)
        sources = sorted(Path(scratch).rglob("*.cc"))
        search = [f"-I{root}/{folder}" for folder in ("src", "chips", "chips/cpu", "include") for root in (scratch, tree)]
        for file in sources:
            done = subprocess.run([compiler, "-std=c++20", "-fsyntax-only", *WARNINGS, *search, file])
            faults += bool(done.returncode)
            print(f"{file.relative_to(scratch)}: {'FAILED' if done.returncode else 'compiles'}", flush=True)
    return 1 if faults or not sources else 0


if __name__ == "__main__":
    sys.exit(main())

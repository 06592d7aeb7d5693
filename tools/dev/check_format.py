#!/usr/bin/env python3
"""Checks every C and C++ file under version control with the pinned clang-format; exit 77 (skipped) where that is not installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FORMAT = "clang-format-19"


def main() -> int:
    root = Path(__file__).resolve().parents[2]
    if not shutil.which(FORMAT):
        print(f"{FORMAT} is not installed")
        return 77
    listed = subprocess.run(["git", "ls-files", "*.cc", "*.h", "*.c"], cwd=root, capture_output=True, text=True)
    files = [f for f in listed.stdout.split("\n") if f and (root / f).exists()]
    if listed.returncode or not files:
        print("this is no git checkout, or it has no sources")
        return 77
    done = subprocess.run([FORMAT, "--dry-run", "-Werror", "--ferror-limit=1", *files], cwd=root, capture_output=True, text=True)
    faulty = sorted({line.split(":")[0] for line in done.stderr.splitlines() if ": error: " in line})
    print("\n".join(faulty) + f"\n{len(files)} files, {len(faulty)} not formatted (make format)")
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())

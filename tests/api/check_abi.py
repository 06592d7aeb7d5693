#!/usr/bin/env python3
"""Compares libhadal's binary interface with the dump in the repository, by abidiff: check_abi.py LIBRARY [--write]

What is appended (functions, fields at the end of structs) is a new dump, which `make abi` writes; what changes or goes is a fault, until
the major number of the ABI grows. Exit 77 (skipped) where abigail-tools is missing, or on another machine than the dump is of.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DUMP = ROOT / "tests/api/libhadal.abi"


def dump(library: str, to: Path) -> None:
    flags = ["--headers-dir", str(ROOT / "include/hadal"), "--drop-private-types", "--no-show-locs", "--no-corpus-path"]
    flags += ["--no-comp-dir-path", "--no-elf-needed", "--exported-interfaces-only"]
    subprocess.run(["abidw", *flags, "--out-file", str(to), library], check=True)


def main() -> int:
    library = sys.argv[1]
    if not shutil.which("abidw"):
        print("abigail-tools is not installed")
        return 77
    if not Path(library).exists():
        print(f"{library} is not built")
        return 77
    if "--write" in sys.argv[2:]:
        dump(library, DUMP)
        return 0
    machine = re.search(r"architecture='elf-(\w+)-", DUMP.read_text())
    if not machine or {"x86_64": "amd"}.get(platform.machine()) != machine.group(1):
        print(f"the dump is of another machine than {platform.machine()}")
        return 77
    with tempfile.TemporaryDirectory() as scratch:
        now = Path(scratch) / "now.abi"
        dump(library, now)
        compared = subprocess.run(["abidiff", str(DUMP), str(now)], capture_output=True, text=True)
    print(compared.stdout + compared.stderr)
    if compared.returncode:
        print("the interface changed: what was appended is written by `make abi`; anything else needs another major number")
    return 1 if compared.returncode else 0


if __name__ == "__main__":
    sys.exit(main())

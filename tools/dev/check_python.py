#!/usr/bin/env python3
"""Checks every Python file with the pinned ruff (rules and format: ruff.toml); exit 77 (skipped) where that is not installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUFF = ROOT / ".venv" / "bin" / "ruff"


def main() -> int:
    pinned = re.search(r"^ruff==(\S+)", (ROOT / "tools/dev/requirements.txt").read_text(), re.M)
    installed = subprocess.run([RUFF, "--version"], capture_output=True, text=True).stdout.split()[-1:] if RUFF.exists() else []
    if pinned is None or installed != [pinned.group(1)]:
        print("the pinned ruff is not in .venv; tools/dev/make_venv.sh tools/dev/requirements.txt installs it")
        return 77
    commands = (["check", "--quiet"], ["format", "--check", "--quiet"])
    faulty = [command[0] for command in commands if subprocess.run([RUFF, *command, "--no-cache", "."], cwd=ROOT).returncode]
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Tests of `hadal serve` by the official clients of the APIs that it speaks: openai, anthropic, ollama.

run_clients.py BINARY [FILE...] [unittest options]

FILE: one of FILES below, with or without a class and a test behind a dot; all if none is named. The clients are those that
tools/dev/requirements.txt pins; the test runs by .venv's Python where there is one. Exit 77 (skipped) where they are not installed.
"""

from __future__ import annotations

import os
import sys
import unittest
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FILES = ("clients_openai", "clients_responses", "clients_deepseek", "clients_anthropic", "clients_ollama", "scripted")
CLIENTS = ("openai", "anthropic", "ollama")


def missing_clients() -> list[str]:
    """Those that are not installed as pinned."""
    pinned = dict(line.split("==") for line in (ROOT / "tools/dev/requirements.txt").read_text().split() if "==" in line)
    missing = []
    for name in CLIENTS:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found != pinned[name]:
            missing.append(f"{name} {pinned[name]} (found: {found})")
    return missing


def main() -> int:
    python = ROOT / ".venv" / "bin" / "python"
    missing = missing_clients()
    if missing and python.exists() and Path(sys.prefix).resolve() != python.parent.parent.resolve():
        os.execv(python, [str(python), *sys.argv])
    if missing:
        print(f"not installed: {', '.join(missing)}; tools/dev/make_venv.sh tools/dev/requirements.txt installs them")
        return 77
    os.environ["HADAL_TEST_PROGRAM"] = str(Path(sys.argv[1]).resolve())
    for name in ("OPENAI", "ANTHROPIC", "OLLAMA"):  # nothing of a user's own settings
        for variable in [v for v in os.environ if v.startswith(name + "_")]:
            del os.environ[variable]
    sys.path.insert(0, str(HERE))
    chosen = [argument for argument in sys.argv[2:] if argument.split(".")[0] in FILES]
    options = [argument for argument in sys.argv[2:] if argument not in chosen]
    done = unittest.main(module=None, argv=[sys.argv[0], *options, *(chosen or FILES)], exit=False)
    return 0 if done.result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())

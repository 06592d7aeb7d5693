#!/usr/bin/env python3
"""Runs every fault of conformance/faulty and prints what caught it, as a Markdown table (standard library only; ctest on the path).

    faults.py BUILD [REGEX]

A fault is a test of ctest, `fault_NUMBER_NAME`, which this runs as it stands; REGEX chooses some by that name. What a fault does is read
from conformance/faulty/faults.inc. Exit status 1 if one was not caught.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

FAULTS = Path(__file__).resolve().parents[2] / "conformance" / "faulty" / "faults.inc"
LONGEST = 160  # of what the check said


def tests(build: str, regex: str) -> list[dict]:
    said = subprocess.run(
        ["ctest", "--test-dir", build, "--show-only=json-v1", "-R", "^fault_[0-9]+_"], capture_output=True, text=True, check=True
    )
    return [t for t in json.loads(said.stdout)["tests"] if re.search(regex, t["name"]) and t.get("command")]


def environment(test: dict) -> dict[str, str]:
    words = dict(os.environ)
    for p in test["properties"]:
        if p["name"] == "ENVIRONMENT":
            words.update(v.split("=", 1) for v in p["value"])
    return words


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print(__doc__)
        return 2
    what = {m[1]: m[2] for m in re.finditer(r'^FAULT\((\d+), \w+, \w+, "(.*)"\)$', FAULTS.read_text(), re.MULTILINE)}
    print("| Fault | What it does | Caught by | What the check said |\n|---|---|---|---|")
    missed = 0
    for test in tests(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else ""):
        number = test["name"].split("_")[1]
        if number not in what:  # a test of the kit without a fault
            continue
        done = subprocess.run(
            test["command"], capture_output=True, text=True, errors="replace", env=environment(test), stdin=subprocess.DEVNULL
        )
        caught = re.search(r"^caught by (.*?): (.*)$", done.stdout, re.MULTILINE)
        if done.returncode or not caught:
            missed += 1
        check, said = (caught[1], caught[2]) if caught else ("**nothing**", "")
        said = said.replace("|", "\\|")
        said = said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
        print(f"| {number} | {what[number]} | {check} | {said} |", flush=True)
    print(f"\n{missed} not caught", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""Runs ctest in build folders, names what was skipped or failed, and closes with one line: N passed, N failed.

    run_tests.py BUILD_FOLDER [options for ctest...] [-- BUILD_FOLDER [options...]]...

With several folders each has such a line and the last one is their sum. HADAL_TOTALS: a file to which `passed failed` is appended.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree


def run(build: str, options: list[str]) -> tuple[int, int]:
    """How many passed and how many failed; that none could run is a failure."""
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.xml")
        command = ["ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error", "-j", str(os.cpu_count() or 1)]
        code = subprocess.run([*command, "--output-junit", report, *options]).returncode
        by_status: dict[str, list[str]] = {}
        if os.path.exists(report):
            for case in tree.parse(report).getroot().iter("testcase"):
                by_status.setdefault(case.get("status", ""), []).append(case.get("name", ""))
    passed, skipped = by_status.pop("run", []), by_status.pop("notrun", []) + by_status.pop("disabled", [])
    failed = [name for names in by_status.values() for name in names]
    if not failed and (code or not passed):
        failed = [f"ctest in {build}"]
    for word, names in (("Skipped", skipped), ("Failed", failed)):
        if names:
            print(f"{word}: {', '.join(names)}")
    return len(passed), len(failed)


def main() -> int:
    parts = [list(part) for dash, part in itertools.groupby(sys.argv[1:], lambda word: word == "--") if not dash]
    passed = failed = 0
    for build, *options in parts:
        some = run(build, options)
        if len(parts) > 1:
            print(f"{some[0]} passed, {some[1]} failed in {build}", flush=True)
        passed, failed = passed + some[0], failed + some[1]
    if totals := os.environ.get("HADAL_TOTALS"):
        with open(totals, "a") as file:
            print(passed, failed, file=file)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

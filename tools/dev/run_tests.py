#!/usr/bin/env python3
"""Runs ctest in a build folder, names what was skipped, and closes with one line: N passed, N failed, N skipped.

run_tests.py BUILD_FOLDER [options for ctest...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree


def main() -> int:
    build, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.xml")
        code = subprocess.run(
            [
                "ctest",
                "--test-dir",
                build,
                "--output-on-failure",
                "--no-tests=error",
                "-j",
                str(os.cpu_count() or 1),
                "--output-junit",
                report,
                *options,
            ]
        ).returncode
        if not os.path.exists(report):
            print("0 passed, 1 failed")
            return code or 1
        by_status: dict[str, list[str]] = {}
        for case in tree.parse(report).getroot().iter("testcase"):
            by_status.setdefault(case.get("status", ""), []).append(case.get("name", ""))
    passed, skipped = by_status.pop("run", []), by_status.pop("notrun", []) + by_status.pop("disabled", [])
    failed = [name for names in by_status.values() for name in names]
    if not passed and not failed:
        code = code or 1
    for word, names in (("Skipped", skipped), ("Failed", failed)):
        if names:
            print(f"{word}: {', '.join(names)}")
    print(f"{len(passed)} passed, {len(failed)} failed" + (f", {len(skipped)} skipped" if skipped else ""), flush=True)
    return code or bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""Compiles every kernel of the opencl chip with clang: as strict OpenCL C 1.2 and as 3.0, for each type of weight, with sub-groups
and without fp64; warnings are errors. Nothing is run. Skipped (77) where there is no clang-19 (standard library only).

    check_opencl_kernels.py OPENCL_SOURCES      the program of the build that prints them
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SKIPPED = 77
SHARED = {"common", "blocks", "steps"}  # they stand before every file
WEIGHTS = {"products", "fused"}  # built for a type of weight each
FLAGS = ["-x", "cl", "-target", "spir64"]
WHOLE_HEADER = ["-cl-no-stdinc", "-Xclang", "-finclude-default-header"]  # clang knows Intel's functions by it alone
WARNINGS = ["-fsyntax-only", "-Wall", "-Wextra", "-Wshadow", "-Wdouble-promotion", "-Wno-unused-parameter", "-Werror"]
PLAIN = [["-cl-std=CL1.2"], ["-cl-std=CL3.0"], ["-cl-std=CL1.2", "-Xclang", "-cl-ext=-cl_khr_fp64"]]
INTEL = ["-cl-std=CL1.2", "-DSUB_GROUPS_INTEL", "-Xclang", "-cl-ext=+cl_intel_subgroups"]
SUB_GROUPS = [["-cl-std=CL3.0", "-DSUB_GROUPS_KHR"], INTEL]


def builds(file: Path) -> list[list[str]]:
    """The options of every build of a file."""
    options = [*PLAIN, *SUB_GROUPS]
    if file.stem not in WEIGHTS:
        return options
    types = re.findall(r"#define TYPE_\w+ (\d+)", file.read_text())
    options += [["-cl-std=CL1.2", f"-DWEIGHT_TYPE={t}", f"-DTILE_ROWS={rows}"] for t in types for rows in (1, 4)]
    if file.stem == "fused":
        options += [["-cl-std=CL1.2", "-DONLY_ROWS"], ["-cl-std=CL1.2", "-DFIRST_TYPE=2", "-DSECOND_TYPE=39", "-DTHIRD_TYPE=42"]]
        options += [[*own, "-DONLY_ROWS"] for own in SUB_GROUPS]
    return options


def compile_one(job: tuple[str, Path, list[str]]) -> str:
    """What clang says, or nothing."""
    clang, file, options = job
    flags = [*FLAGS, *WHOLE_HEADER] if "-DSUB_GROUPS_INTEL" in options else FLAGS
    done = subprocess.run([clang, *flags, *WARNINGS, *options, str(file)], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if "error" in line][:3]
    return f"{file.name} {' '.join(options)}: " + "; ".join(lines or [f"exit {done.returncode}"])


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__.strip().splitlines()[-1].strip())
        return 2
    clang = shutil.which("clang-19")
    if not clang:
        print("skipped: clang-19 is not there")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="hadal-kernels-") as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        files = [f for f in sorted(Path(folder).glob("*.cl")) if f.stem not in SHARED]
        jobs = [(clang, file, options) for file in files for options in builds(file)]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            faults = [line for line in pool.map(compile_one, jobs) if line]
    print("\n".join([*faults, f"{len(jobs)} builds of {len(files)} files, {len(faults)} with errors"]))
    return 1 if faults or not files else 0


if __name__ == "__main__":
    raise SystemExit(main())

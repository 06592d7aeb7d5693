#!/usr/bin/env python3
"""Compiles template.c as a chip maker does: check_alone.py COMPILER

In a folder of its own, with nothing but a copy of include/hadal/, by the command in the file's comment, with and without warnings as
errors. The plug-in must show hadal_chip_query and nothing else, and must need nothing but the C library.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wno-missing-field-initializers", "-Werror")
HEADERS = ("chip.h", "chip_parts.h", "operators.h", "operators.inc", "dtypes.inc")  # those of a chip, and what they include
LIBRARIES = re.compile(r"^(libc|libm|ld-linux[^.]*|linux-vdso)\.so")


def output(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def main() -> int:
    source = ROOT / "chips/template/template.c"
    command = re.search(r"^ \* +cc (-std=c11 .*)$", source.read_text(), re.M)
    if not command:
        print("template.c does not say how it is compiled")
        return 1
    faults = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "include/hadal").mkdir(parents=True)
        shutil.copy(source, folder)
        for header in HEADERS:
            shutil.copy(ROOT / "include/hadal" / header, folder / "include/hadal")
        for extra in ((), WARNINGS, ("-fvisibility=hidden",)):
            done = subprocess.run([sys.argv[1], *command.group(1).split(), *extra], cwd=folder, capture_output=True, text=True)
            if done.returncode or (extra and done.stderr):
                faults.append(f"does not compile with {' '.join(extra) or 'the command of its comment'}:\n{done.stderr}")
        if not faults:
            plugin = "libhadal_template.so"
            shown = [line.split()[-1] for line in output("nm", "-D", "--defined-only", plugin, cwd=folder).splitlines()]
            if shown != ["hadal_chip_query"]:
                faults.append(f"shows {', '.join(shown)}, expected hadal_chip_query alone")
            needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", plugin, cwd=folder))
            if strange := [name for name in needed if not LIBRARIES.match(name)]:
                faults.append(f"needs {', '.join(strange)}, expected the C library alone")
    print("\n".join(faults) or "template.c compiles alone")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

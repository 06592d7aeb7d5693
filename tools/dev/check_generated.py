#!/usr/bin/env python3
"""Makes every generated file again and compares it with the one in the repository.

    check_generated.py [--all] [--write]

Files whose generator needs packages that are not installed are named and left alone; with --all (`make oracle`, whose .venv has
them) that is a fault. --write puts what the generators make in place of what is there. tests/golden has a check of its own:
tools/generate/make_golden.py --check.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = (  # file, its generator, which writes to standard output, and the packages that this imports
    ("docs/operators.md", "make_operators_doc.py", ()),
    ("include/hadal/operators.h", "make_operators_header.py", ()),
    ("src/base/quant_grids.cc", "make_quant_grids.py", ("gguf", "numpy")),
    ("src/text/tokenizer/unicode_sets.inc", "make_unicode_sets.py", ("tokenizers", "unicodedata2")),
    ("tests/data/quant_golden.bin", "make_quant_golden.py", ("gguf", "numpy")),
)


def main() -> int:
    every, write = "--all" in sys.argv[1:], "--write" in sys.argv[1:]
    faults = 0
    for file, generator, packages in GENERATED:
        missing = [p for p in packages if importlib.util.find_spec(p) is None]
        if missing:
            print(f"{file}: not checked, since {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed")
            faults += every
            continue
        made = subprocess.run([sys.executable, ROOT / "tools/generate" / generator], stdout=subprocess.PIPE)
        if write and made.returncode == 0:
            (ROOT / file).write_bytes(made.stdout)
        same = made.returncode == 0 and made.stdout == (ROOT / file).read_bytes()
        faults += not same
        print(f"{file}: {'as' if same else 'NOT what'} tools/generate/{generator} makes it")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Checks docs/add-a-chip.md and its translation: check_chip_page.py COMPILER [HADAL]

A block of C that begins with `/* template.c */` or `/* chip_parts.h */` must stand in that file word for word; any other begins with a
name of its own and is compiled as C11 against include/. Both pages must have the same blocks, and the same table of operators by family.
With the program HADAL that table must be what `hadal plan` says of the golden checkpoints.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/add-a-chip.md", "docs/add-a-chip.zh.md")
QUOTED = {"template.c": "chips/template/template.c", "chip_parts.h": "include/hadal/chip_parts.h"}
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wno-unused-function", "-Wno-missing-field-initializers", "-Werror")
# Columns of the table, and the golden checkpoints that they stand for.
COLUMNS = {
    "dense": ("llama", "qwen2", "qwen3"),
    "MoE": ("deepseek-moe",),
    "V2, V3": ("deepseek-v2", "deepseek-v3"),
    "V3.2": ("deepseek-v32",),
    "V4": ("deepseek-v4",),
    "V4.1": ("deepseek-v41",),
}


def blocks_of(page: str) -> list[str]:
    return re.findall(r"^```c\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)


def table_of(page: str) -> dict[str, set[str]]:
    """Operators of each column: those whose cell is ●."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in (ROOT / page).read_text().splitlines() if line.startswith("|")]
    heads = [i for i, row in enumerate(rows) if row[1 : 1 + len(COLUMNS)] == list(COLUMNS)]
    if len(heads) != 1:
        return {}
    found: dict[str, set[str]] = {column: set() for column in COLUMNS}
    for row in rows[heads[0] + 2 :]:
        if len(row) < 1 + len(COLUMNS):
            break
        for column, cell in zip(COLUMNS, row[1:]):
            if cell.startswith("●"):
                found[column].update(re.findall(r"`(\w+)`", row[0]))
    return found


def emitted(program: str, model: str) -> set[str]:
    """Operators of a golden checkpoint on `ref`, which takes no fused experts and no fused MLA."""
    command = [program, "plan", str(ROOT / "tests/golden" / model), "--json", "--chip", "ref"]
    classes = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["numerics"]
    return {operator for operators in classes.values() for operator in operators}


def check_blocks(compiler: str) -> list[str]:
    faults = []
    quoted = {name: (ROOT / file).read_text() for name, file in QUOTED.items()}
    english, chinese = (blocks_of(page) for page in PAGES)
    if english != chinese:
        faults.append(f"{PAGES[1]}: its blocks of C are not those of {PAGES[0]}")
    if not english:
        faults.append(f"{PAGES[0]}: no blocks of C")
    for block in english:
        name = re.match(r"/\* (\S+\.[ch]) \*/\n", block)
        if not name:
            faults.append(f"a block of C does not begin with its name: {block.splitlines()[0]}")
        elif name.group(1) in quoted:
            if block[name.end() :] not in quoted[name.group(1)]:
                faults.append(f"no longer stands in {name.group(1)}:\n{block}")
        else:
            with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
                file.write(block)
                file.flush()
                command = [compiler, "-std=c11", "-fsyntax-only", *WARNINGS, f"-I{ROOT}/include", file.name]
                if subprocess.run(command).returncode:
                    faults.append(f"{name.group(1)} does not compile")
    return faults


def check_table(program: str | None) -> list[str]:
    faults = []
    tables = [table_of(page) for page in PAGES]
    if not tables[0] or tables[0] != tables[1]:
        faults.append("the pages have no table of operators by family, or two that differ")
    for column, models in COLUMNS.items() if program and tables[0] else ():
        said, found = tables[0][column], set().union(*(emitted(program, model) for model in models))
        if said != found:
            faults.append(f"{column}: the table lacks {sorted(found - said)}, and has {sorted(said - found)} too much")
    return faults


def main() -> int:
    faults = check_blocks(sys.argv[1]) + check_table(sys.argv[2] if len(sys.argv) > 2 else None)
    print("\n".join(faults) or f"{', '.join(PAGES)}: as the tree has it")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

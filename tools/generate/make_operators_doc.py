#!/usr/bin/env python3
"""Makes docs/operators.md from include/hadal/operators.inc, the one list of operators; writes to standard output."""

from __future__ import annotations

import sys

from operator_table import COSTS, OPERATORS, calls, comments

HEAD = """# Operators

Made from `include/hadal/operators.inc` by `tools/generate/make_operators_doc.py`: change the table, not this file.

What a chip implements. Rows of a tensor are its first extent; T, S, R are row counts of the step (token rows, sequences, rows
whose logits are wanted), and M stands for any of them. A name in a shape is the same number wherever it stands in that
operator. How far a result may lie from the exact one is derived in [numerics.md](numerics.md).
"""

ROLES = {
    "IN": "in",
    "OUT": "out",
    "INOUT": "in and out",
    "OPT_IN": "in, may be absent",
    "OPT_INOUT": "in and out, may be absent",
    "WEIGHT": "weight",
    "OPT_WEIGHT": "weight, may be absent",
}


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    costs = {a[0]: a for _, a in calls(COSTS)}
    lines = comments(OPERATORS)
    rules = lines[next(i for i, c in enumerate(lines) if c.startswith("Common rules.")) :]
    out = [HEAD, " ".join(rules).replace("Common rules.", "**Common rules.**"), ""]
    operators = list(calls(OPERATORS))
    out += ["| Operator | Code | Level | What it computes |", "|---|---|---|---|"]
    for macro, a in operators:
        if macro == "HADAL_OP":
            out.append(f"| [{a[0].lower()}](#{a[0].lower()}) | {a[1]} | {a[2].lower()} | `{cell(a[3])}` |")
    cost: list[str] = []
    for macro, a in operators:
        if macro == "HADAL_OP":
            out += cost + ["", f"## {a[0].lower()}", "", f"`{a[3]}`", "", a[4][0].upper() + a[4][1:] + ".", ""]
            out += ["| Operand | Role | Shape | Types | |", "|---|---|---|---|---|"]
            flops, size = (text.replace("s.", "") for text in costs[a[0]][1:])
            cost = ["", f"Cost: {flops} operations, {size} bytes."]
        else:
            out.append(f"| {a[1]} | {ROLES[a[2]]} | {cell(a[3])} | {a[4]} | {cell(a[5])} |")
    text = "\n".join(out + cost) + "\n"
    sys.stdout.write(text.replace("..\n", ".\n"))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Makes docs/operators.md from include/hadal/ops_table.inc, the one list of operators.

tools/generate/make_operators_doc.py          write it
tools/generate/make_operators_doc.py --check  exit 1 if it is not what this would write
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "include/hadal/ops_table.inc"

HEAD = """# Operators

Made from `include/hadal/ops_table.inc` by `tools/generate/make_operators_doc.py`: change the table, not this file.

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


def arguments(text):
    """The arguments of a macro call: strings joined and unquoted, everything else as it stands."""
    parts, depth, quoted, current = [], 0, False, ""
    for i, c in enumerate(text):
        if c == '"' and text[i - 1] != "\\":
            quoted = not quoted
        if not quoted:
            depth += (c in "([") - (c in ")]")
            if c == "," and depth == 0:
                parts.append(current)
                current = ""
                continue
        current += c
    parts.append(current)
    return [join_strings(p.strip()) for p in parts]


def join_strings(text):
    if not text.startswith('"'):
        return text
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text))


def calls(text):
    """(macro, arguments) for each HADAL_… call of the table, in order."""
    for match in re.finditer(r"^HADAL_(OP|OPERAND|OP_END|OP_COST)\(", text, re.MULTILINE):
        depth, quoted, at = 1, False, match.end()
        while depth:
            c = text[at]
            if c == '"':
                quoted = not quoted
            if not quoted:
                depth += (c == "(") - (c == ")")
            at += 1
        yield match.group(1), arguments(text[match.end() : at - 1])


def cell(text):
    return text.replace("|", "\\|")


def main():
    table = TABLE.read_text(encoding="utf-8")
    comments = [line[3:] for line in table.splitlines() if line.startswith("// ")]
    rules = comments[next(i for i, c in enumerate(comments) if c.startswith("Common rules.")) :]
    out = [HEAD, " ".join(rules).replace("Common rules.", "**Common rules.**"), ""]
    operators = list(calls(table))
    out += ["| Operator | Code | Level | What it computes |", "|---|---|---|---|"]
    for macro, a in operators:
        if macro == "OP":
            out.append(f"| [{a[0].lower()}](#{a[0].lower()}) | {a[1]} | {a[2].lower()} | `{cell(a[3])}` |")
    for macro, a in operators:
        if macro == "OP":
            out += ["", f"## {a[0].lower()}", "", f"`{a[3]}`", "", a[4][0].upper() + a[4][1:] + ".", ""]
            out += ["| Operand | Role | Shape | Types | |", "|---|---|---|---|---|"]
        elif macro == "OPERAND":
            out.append(f"| {a[1]} | {ROLES[a[2]]} | {cell(a[3])} | {a[4]} | {cell(a[5])} |")
        elif macro == "OP_COST":
            out += ["", f"Cost: {a[1].replace('s.', '')} operations, {a[2].replace('s.', '')} bytes."]
    text = "\n".join(out) + "\n"
    sys.stdout.write(text.replace("..\n", ".\n"))


if __name__ == "__main__":
    main()

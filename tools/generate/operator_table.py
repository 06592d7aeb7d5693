"""Reads the public tables: include/hadal/operators.inc and its relatives, as lists of macro calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = ROOT / "include/hadal/operators.inc"
DTYPES = ROOT / "include/hadal/dtypes.inc"
COSTS = ROOT / "src/contract/operator_costs.inc"


def comments(path: Path) -> list[str]:
    """The comment lines of a table, without their slashes."""
    return [line[3:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("// ")]


def calls(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(macro, arguments) of each HADAL_… call of a table, in order: strings joined and unquoted, all else as it stands."""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^(HADAL_[A-Z_]+)\(", text, re.MULTILINE):
        depth, quoted, at = 1, False, match.end()
        while depth:
            c = text[at]
            if c == '"':
                quoted = not quoted
            if not quoted:
                depth += (c == "(") - (c == ")")
            at += 1
        yield match.group(1), _arguments(text[match.end() : at - 1])


def _arguments(text: str) -> list[str]:
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
    return [_join_strings(p.strip()) for p in parts]


def _join_strings(text: str) -> str:
    if not text.startswith('"'):
        return text
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text))

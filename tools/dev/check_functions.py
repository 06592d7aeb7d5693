#!/usr/bin/env python3
"""Names every function of more than 80 lines, from the line of its signature to that of its last brace (C++) or statement (Python).

    check_functions.py [ROOT]

C++ is read as characters: strings, comments and preprocessor lines are blanked, and a brace opens a function where it stands in a
namespace or a type, behind something with parentheses. What is in a function (lambdas, local types) counts as part of it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT = 80
FOLDERS = ("src", "apps", "tools", "tests", "bench")  # chips/ and conformance/ are not held to it yet
NOISE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^()\\\s]*)\(.*?\)\1"|"(?:[^"\\\n]|\\.)*"'
    r"|\b\d[\w.]*(?:'[\w.]+)+|'(?:[^'\\\n]|\\.)+'|^[ \t]*#(?:[^\n\\]|\\.)*",
    re.S | re.M,
)
TYPE = re.compile(r"\b(?:class|struct|union|enum)\b")


def blank(text: str) -> str:
    """The same text, as many lines and columns, without what may hold a brace that is none."""
    return NOISE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def kind_of(head: str) -> str:
    """What a brace in a namespace or a type opens: `head` stands between it and the statement before."""
    if re.search(r"\bnamespace\b|\bextern\s*$", head):
        return "scope"
    plain = re.sub(r"template\s*<[^{}()]*>\s*", "", head)
    if TYPE.match(plain.strip()) and "(" not in re.sub(r"\b(?:alignas|__attribute__)\s*\([^)]*\)", "", plain):
        return "scope"
    return "function" if "(" in head else "code"


def cpp_functions(text: str) -> Iterator[tuple[str, int, int]]:
    """(signature, first line, last line) of each function; ValueError where braces do not match."""
    text = blank(text)
    stack: list[tuple[str, str, int]] = []  # what each open brace opened: kind, head, where the head begins
    start, parentheses = 0, 0
    for at, c in enumerate(text):
        if c in "()":
            parentheses += 1 if c == "(" else -1
        elif c == "{":
            outer = stack[-1][0] if stack else "scope"
            head = text[start:at]
            # an initialiser inside a function's parentheses, or one of a member before the body: `: a_{1} {`
            inside = parentheses > 0 or (outer == "scope" and re.search(r"[:,]\s*\w+(?:<[^{}]*>)?\s*$", head) and ")" in head)
            kind = "part" if inside else "code" if outer in ("code", "function") else kind_of(head)
            stack.append((kind, head, start + len(head) - len(head.lstrip())))
            if not inside:
                start = at + 1
        elif c == "}":
            if not stack:
                raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: a brace closes that none opened")
            kind, head, begin = stack.pop()
            if kind == "function":
                yield " ".join(head.split()), text.count("\n", 0, begin) + 1, text.count("\n", 0, at) + 1
            if kind != "part":
                start = at + 1
        elif (c == ";" and parentheses == 0) or (
            c == ":" and parentheses == 0 and re.search(r"\b(?:public|private|protected)\s*$", text[start:at])
        ):
            start = at + 1
    if stack:
        raise ValueError(f"the brace of `{' '.join(stack[0][1].split())[:60]}` is never closed")


def python_functions(text: str) -> Iterator[tuple[str, int, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno or node.lineno


def check(root: Path) -> tuple[int, list[str]]:
    """Number of functions read, and one line a fault."""
    count, faults = 0, []
    readers = {".cc": cpp_functions, ".h": cpp_functions, ".py": python_functions}
    for file in sorted(f for folder in FOLDERS for f in (root / folder).rglob("*") if f.suffix in readers):
        path = file.relative_to(root).as_posix()
        try:
            for name, first, last in readers[file.suffix](file.read_text()):
                count += 1
                if last - first >= LIMIT:
                    faults.append(f"{path}:{first}: {last - first + 1} lines: {name[:80]}")
        except ValueError as why:
            faults.append(f"{path}: {why}")
    return count, faults


def main() -> int:
    count, faults = check(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
    print("\n".join([*faults, f"{count} functions, {len(faults)} longer than {LIMIT} lines"]))
    return 1 if faults or not count else 0


if __name__ == "__main__":
    raise SystemExit(main())

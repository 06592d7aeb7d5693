#!/usr/bin/env python3
"""Holds the include rule of docs/architecture.md from one table: a folder sees itself, lower floors and public headers.

    check_layers.py [ROOT]

Folders of one floor are siblings and do not see each other. A folder in chips/ sees src/base, src/contract, chips/common and
the public header, nothing else.
Nor may any folders include each other in a circle, those inside one room no more than others.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

# folder: (floor, public headers it may include)
CONTRACT = ("hadal/chip.h", "hadal/chip_parts.h", "hadal/operators.h", "hadal/operators.inc", "hadal/dtypes.inc")
PUBLIC = (*CONTRACT, "hadal/comm.h", "hadal/version.h", "hadal/hadal.h", "hadal/hadal.hpp")
FLOORS: dict[str, tuple[float, tuple[str, ...]]] = {
    "src/base": (0, (*CONTRACT, "hadal/version.h")),
    "src/contract": (0.5, CONTRACT),
    "src/device": (1, (*CONTRACT, "hadal/comm.h", "hadal/version.h")),
    "src/ops": (2, (*CONTRACT, "hadal/version.h")),
    "src/checkpoint": (2, (*CONTRACT, "hadal/version.h")),
    "src/weights": (3, (*CONTRACT, "hadal/version.h")),
    "src/models": (4, (*CONTRACT, "hadal/version.h")),
    "src/text": (4, ("hadal/version.h",)),
    "src/engine": (5, (*CONTRACT, "hadal/version.h")),
    "src/quantize": (5, (*CONTRACT, "hadal/version.h")),
    "src/session": (6, ("hadal/version.h",)),
    "src/api": (7, PUBLIC),
    "apps": (8, PUBLIC),
    "tests": (9, PUBLIC),  # fuzzers of what apps read
    "bench": (8, PUBLIC),
}
SEES_ONLY: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # other side of the contract: (folders, public headers)
    "chips": (("src/base", "src/contract", "chips/common"), CONTRACT),
    "comm": ((), ("hadal/chip.h", "hadal/comm.h")),
    "conformance": (("src/base", "src/contract", "chips/common"), (*CONTRACT, "hadal/version.h")),
    # two stand-ins for accelerators, for tests: they borrow operators from ref
    "chips/apart": (("src/base", "src/contract", "chips/common", "chips/ref"), CONTRACT),
    # what a chip maker copies: it may know the contract alone
    "chips/template": ((), ("hadal/chip.h", "hadal/chip_parts.h", "hadal/operators.h")),
    "include": ((), PUBLIC),
}
# Files that only list what lies below them: no part of their folder where circles are sought.
LISTS = ("src/models/registry.cc",)
SOURCES = {".h", ".hpp", ".c", ".cc", ".cpp", ".cu", ".cl", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<(hadal/[^>]+)>)', re.M)


def room_of(path: str) -> str | None:
    """The folder of the table that holds `path`; each chip is a folder of its own."""
    parts = path.split("/")
    if parts[0] == "chips" and len(parts) > 2:
        return "/".join(parts[:2])
    two = "/".join(parts[:2])
    return two if two in FLOORS else parts[0] if parts[0] in FLOORS or parts[0] in SEES_ONLY else None


def target_of(root: Path, path: str, name: str) -> str | None:
    """The file, relative to the root, that an include means; None if no such file is found."""
    room = room_of(path) or ""
    for base in (os.path.dirname(path), room, "src", "include", "chips", "apps", "."):
        candidate = os.path.normpath(os.path.join(base, name))
        if (root / candidate).is_file():
            return candidate
    return None


def fault(root: Path, path: str, name: str) -> str | None:
    room = room_of(path)
    if room is None:
        return None
    kind = "chips" if room.startswith("chips/") and room not in SEES_ONLY else room
    folders, headers = SEES_ONLY.get(kind, ((), ())) if kind in SEES_ONLY else ((), FLOORS[room][1])
    target = target_of(root, path, name)
    if target is None:
        return f'includes "{name}", which is not found'
    other = room_of(target)
    if other == room:
        return None
    if target.startswith("include/"):
        short = target[len("include/") :]
        return None if short in headers else f"may not include the public header {short}"
    if other is None:
        return f"includes {target}, which belongs to no folder of the table"
    if kind in SEES_ONLY:
        return None if other in folders else f"{room} may not see {other} ({target})"
    if other.split("/")[0] in SEES_ONLY:
        return f"{room} may not see {other} ({target})"
    if FLOORS[other][0] < FLOORS[room][0]:
        return None
    return f"{room} (floor {FLOORS[room][0]}) may not see {other} (floor {FLOORS[other][0]}): {target}"


def circles(edges: dict[str, dict[str, str]]) -> list[str]:
    """One line for each set of folders that reach one another; edges[a][b] is a file of folder a that includes one of b."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        todo = [start]
        while todo:
            new = [b for b in edges.get(todo.pop(), {}) if b not in found]
            found.update(new)
            todo += new
        return found

    reach = {folder: reached(folder) for folder in edges}
    rings = {frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in edges if a in reach[a]}
    return [
        "a circle: " + ", ".join(f"{edges[a][b]} includes from {b}" for a in sorted(ring) for b in sorted(edges[a]) if b in ring)
        for ring in sorted(rings, key=sorted)
    ]


def check(root: Path) -> tuple[int, list[str]]:
    """Number of files read, and one line a fault."""
    faults, count = [], 0
    edges: dict[str, dict[str, str]] = {}
    for top in sorted({folder.split("/")[0] for folder in (*FLOORS, *SEES_ONLY)}):
        for file in sorted((root / top).rglob("*")):
            if file.suffix not in SOURCES or not file.is_file():
                continue
            path, count = file.relative_to(root).as_posix(), count + 1
            if top == "src" and room_of(path) is None:
                faults.append(f"{path}: its folder is not in the table of tools/dev/check_layers.py")
            text = file.read_text(errors="replace")
            for match in INCLUDE.finditer(text):
                name = match.group(1) or match.group(2)
                if said := fault(root, path, name):
                    faults.append(f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {said}")
                folder, other = os.path.dirname(path), os.path.dirname(target_of(root, path, name) or path)
                if other != folder and path not in LISTS:
                    edges.setdefault(folder, {}).setdefault(other, path)
    return count, faults + circles(edges)


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    count, faults = check(root)
    print("\n".join([*faults, f"{count} files, {len(faults)} against the include rule"]))
    return 1 if faults or not count else 0


if __name__ == "__main__":
    raise SystemExit(main())

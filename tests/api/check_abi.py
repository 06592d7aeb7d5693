#!/usr/bin/env python3
"""Compares a binary interface with its dump in the repository, by abidiff: check_abi.py LIBRARY DUMP [--write [--new-major]]

Two have a dump: libhadal, and the chip contract, whose library only holds every type of chip.h. What is appended (functions, fields at
the end of structs, codes at the end of enums) is a new dump, which `make abi` writes. What moves, changes or goes is a fault, which
cannot be written until the major number of that interface grows (--new-major). Exit 77 (skipped) where abigail-tools is missing, or on
another machine than the dump is of.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# They stand in arrays, whose other side counts in steps of the size that it knows: they cannot grow.
IN_ARRAYS = ("hadal_tensor", "hadal_op", "hadal_piece", "hadal_weight_form", "hadal_attributes")


def dump(library: str, to: Path) -> None:
    flags = ["--no-show-locs", "--no-corpus-path", "--no-comp-dir-path", "--no-elf-needed", "--exported-interfaces-only"]
    if Path(library).name.startswith("libhadal"):  # behind whose handles lie types of our own
        flags += ["--headers-dir", str(ROOT / "include/hadal"), "--drop-private-types"]
    subprocess.run(["abidw", *flags, "--out-file", str(to), library], check=True)


class Types:
    """Of a dump: structs with their members, enums with their values, exported names."""

    def __init__(self, file: Path) -> None:
        root = ElementTree.parse(file).getroot()
        self.elements = {e.get("id", ""): e for e in root.iter() if e.get("id")}
        self.sizes: dict[str, int] = {}
        self.members: dict[str, dict[str, tuple[int, str]]] = {}
        self.values: dict[str, dict[str, int]] = {}
        for e in root.iter():
            name = e.get("name", "")
            if e.tag in ("class-decl", "union-decl") and e.get("is-declaration-only") != "yes" and name.startswith("hadal_"):
                self.sizes[name] = int(e.get("size-in-bits", "0"))
                self.members[name] = {
                    variable.get("name", ""): (int(member.get("layout-offset-in-bits", "0")), self.type_name(variable.get("type-id", "")))
                    for member in e.iter("data-member")
                    for variable in member.iter("var-decl")
                }
            if e.tag == "enum-decl" and name.startswith("hadal_"):
                self.values[name] = {v.get("name", ""): int(v.get("value", "0")) for v in e.iter("enumerator")}
        self.symbols = {e.get("name", "") for e in root.iter("elf-symbol")}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Types) and all(
            getattr(self, part) == getattr(other, part) for part in ("sizes", "members", "values", "symbols")
        )

    def type_name(self, identity: str) -> str:
        """A type in words: through typedefs to what is behind them, so that a renamed one is no other."""
        e = self.elements.get(identity)
        if e is None:
            return "?"
        inner = e.get("type-id", "")
        if e.tag == "typedef-decl":
            behind = self.elements.get(inner)
            return self.type_name(inner) if behind is not None and behind.tag != "function-type" else e.get("name", "")
        if e.tag == "pointer-type-def":
            return self.type_name(inner) + "*"
        if e.tag == "qualified-type-def":
            return "const " + self.type_name(inner) if e.get("const") == "yes" else self.type_name(inner)
        if e.tag == "array-type-def":
            lengths = "".join(f"[{r.get('length')}]" for r in e.iter("subrange"))
            return self.type_name(inner) + lengths
        if e.tag == "function-type":
            parameters = ", ".join(self.type_name(p.get("type-id", "")) for p in e.findall("parameter"))
            returned = e.find("return")
            return f"{self.type_name(returned.get('type-id', '')) if returned is not None else 'void'}({parameters})"
        return e.get("name", e.tag)


def broken_promises(old: Types, new: Types) -> list[str]:
    """What somebody who was built against the old interface would meet as a fault."""
    faults = [f"{symbol} is gone" for symbol in sorted(old.symbols - new.symbols)]
    for name, members in old.members.items():
        if name not in new.members:
            faults.append(f"struct {name} is gone")
            continue
        for member, place in members.items():
            found = new.members[name].get(member)
            if found != place:
                now = f"{found[1]} at bit {found[0]}" if found else "gone"
                faults.append(f"{name}.{member}: was {place[1]} at bit {place[0]}, now {now}")
        if new.sizes[name] < old.sizes[name] or (name in IN_ARRAYS and new.sizes[name] != old.sizes[name]):
            faults.append(f"{name}: {old.sizes[name] // 8} bytes became {new.sizes[name] // 8}")
    for name, values in old.values.items():
        for code, value in values.items():
            count = code.endswith(("_COUNT", "_OPERANDS"))  # grows with what is appended
            found_value = new.values.get(name, {}).get(code)
            if found_value is None or (found_value != value and not (count and found_value > value)):
                faults.append(f"{code}: was {value}, now {found_value if found_value is not None else 'gone'}")
    return faults


def write(library: str, file: Path, new_major: bool) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        now = Path(scratch) / "now.abi"
        dump(library, now)
        faults = broken_promises(Types(file), Types(now)) if file.exists() and not new_major else []
        if not faults:
            shutil.copyfile(now, file)
    for fault in faults:
        print(fault)
    if faults:
        print("this breaks whoever was built before: not written. It needs another major number, and --new-major here")
    return 1 if faults else 0


def compare(library: str, file: Path) -> int:
    machine = re.search(r"architecture='elf-(\w+)-", file.read_text())
    if not machine or {"x86_64": "amd"}.get(platform.machine()) != machine.group(1):
        print(f"the dump is of another machine than {platform.machine()}")
        return 77
    with tempfile.TemporaryDirectory() as scratch:
        now = Path(scratch) / "now.abi"
        dump(library, now)
        compared = subprocess.run(["abidiff", str(file), str(now)], capture_output=True, text=True)
        old, new = Types(file), Types(now)
    faults = broken_promises(old, new)
    if not faults and old != new:
        faults = ["something was appended that the dump does not have yet"]
    print(compared.stdout + compared.stderr)
    for fault in faults:
        print(fault)
    if compared.returncode or faults:
        print("the interface changed: what was appended is written by `make abi`; anything else needs another major number")
    return 1 if compared.returncode or faults else 0


def main() -> int:
    a = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    a.add_argument("library")
    a.add_argument("dump", type=Path)
    a.add_argument("--write", action="store_true")
    a.add_argument("--new-major", action="store_true")
    o = a.parse_args()
    if not shutil.which("abidw"):
        print("abigail-tools is not installed")
        return 77
    if not Path(o.library).exists():
        print(f"{o.library} is not built")
        return 77
    return write(o.library, o.dump, o.new_major) if o.write else compare(o.library, o.dump)


if __name__ == "__main__":
    sys.exit(main())

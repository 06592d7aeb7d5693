#!/usr/bin/env python3
"""Makes include/hadal/operators.h, the plain enums of the chip contract, from operators.inc and dtypes.inc; writes to standard output."""

from __future__ import annotations

import textwrap

from operator_table import DTYPES, OPERATORS, calls

HEAD = """/* clang-format off */
/* The enums of the chip contract: element types, operators and the places of their operands.
 *
 * Made from operators.inc and dtypes.inc by tools/generate/make_operators_header.py: change those, not
 * this file. What an operator computes, and how far it may be off: docs/operators.md.
 */
#ifndef HADAL_OPERATORS_H
#define HADAL_OPERATORS_H

#ifdef __cplusplus
extern "C" {
#endif
"""

TAIL = """
#ifdef __cplusplus
}
#endif
#endif"""

WIDTH = 100


def comment(text: str, indent: str = "") -> str:
    """A C comment of `text`, wrapped."""
    one = f"{indent}/* {text} */"
    if len(one) <= WIDTH:
        return one
    lines = textwrap.wrap(text, WIDTH - len(indent) - 3, break_long_words=False)
    return "\n".join(f"{indent}{'/*' if i == 0 else ' *'} {line}" for i, line in enumerate(lines)) + " */"


def enum(name: str, lines: list[str]) -> list[str]:
    return ["", f"typedef enum {name} {{", *lines, f"}} {name};"]


def dtypes() -> list[str]:
    rows = [a for _, a in calls(DTYPES)]
    lines = ["  HADAL_DTYPE_NONE = 0,"]
    for name, code, values, size, _ggml, _safetensors in rows:
        block = f" /* {values} values in {size} bytes */" if int(values) > 1 else ""
        lines.append(f"  HADAL_{name} = {code},{block}")
    return enum("hadal_dtype", [*lines, "  HADAL_DTYPE_FORCE_32BIT = 0x7fffffff"])


def operators() -> list[str]:
    lines, operands = ["  HADAL_OP_NONE = 0,"], []
    places: dict[str, list[str]] = {}
    formulas: dict[str, str] = {}
    for macro, a in calls(OPERATORS):
        if macro == "HADAL_OP":
            lines.append(f"  HADAL_OP_{a[0]} = {a[1]},")
            formulas[a[0]] = a[3]
            places[a[0]] = []
        else:
            op, name, role, shape, types, text = a
            facts = ", ".join(x for x in (role.lower().replace("_", " "), shape, types.replace(" ", " or "), text) if x)
            at = len(places[op])
            line = f"  HADAL_{op}_{name} = {at},"
            places[op].append(f"{line} /* {facts} */" if len(line) + len(facts) + 7 <= WIDTH else f"{comment(facts, '  ')}\n{line}")
    for op, lines_of in places.items():
        operands += ["", comment(formulas[op])]
        operands += enum(f"hadal_operands_{op}", [*lines_of, f"  HADAL_{op}_OPERANDS = {len(lines_of)}"])[1:]
    return enum("hadal_op_id", [*lines, "  HADAL_OP_ID_FORCE_32BIT = 0x7fffffff"]) + operands


def main() -> None:
    print("\n".join([HEAD.rstrip(), *dtypes(), *operators(), TAIL]))


if __name__ == "__main__":
    main()

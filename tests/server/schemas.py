#!/usr/bin/env python3
"""Schemas and grammars without end: broken ones are refused, good ones obeyed, and what is kept of them stays within its bound.

schemas.py BINARY [--broken 500] [--good 2000] [--seed 1] [--growth 64]     standard library only

Broken ones are good ones with something changed, so that they come deep into the compiler; what is only strange may be taken, but an
answer to it has to be JSON. Every good one is another, so that no cache helps. Growth counts from the first tenth of the good ones on.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness import GOLDEN, Server, serving
from wire import LONGEST, Talk, mib, post, quantile, talk

KEYWORDS = (
    "type properties required items enum const anyOf allOf oneOf not $ref $defs pattern minLength maxLength minimum maximum multipleOf "
    "minItems maxItems prefixItems additionalProperties patternProperties format uniqueItems contains dependentRequired if then else title"
).split()
STRANGE: list[Any] = [
    -1,
    0,
    2**31,
    2**63,
    1e308,
    0.1,
    "",
    "x",
    "(",
    "#/",
    None,
    [],
    {},
    [[]],
    {"": {}},
    True,
    ["string", "frog"],
    "é" * 999,
]


def good(source: random.Random, depth: int = 0) -> dict[str, Any]:
    """A schema whose least instance is short."""
    kind = source.randrange(3 if depth > 1 else 6)
    if kind == 0:
        return {"enum": [f"{source.randrange(10**6)}" for _ in range(source.randint(1, 3))]}
    if kind == 1:
        return {"type": "boolean"}
    if kind == 2:
        return {"type": "string", "pattern": f"^[a-f]{{1,{source.randint(1, 4)}}}$"}
    if kind == 3:
        return {"type": "array", "items": good(source, depth + 1), "minItems": 1, "maxItems": 2}
    names = [f"p{source.randrange(10**4)}" for _ in range(source.randint(1, 3))]
    members = {name: good(source, depth + 1) for name in names}
    return {"type": "object", "properties": members, "required": sorted(members), "additionalProperties": False}


def places(value: Any) -> list[Any]:
    """Every object and list in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ([value] if isinstance(value, (dict, list)) else []) + [place for part in inner for place in places(part)]


def broken(source: random.Random) -> Any:
    schema: Any = good(source)
    for _ in range(source.randint(1, 3)):
        place = source.choice(places(schema) or [schema])
        if isinstance(place, dict):
            place[source.choice(KEYWORDS)] = copy.deepcopy(source.choice(STRANGE))
        elif isinstance(place, list):
            place.append(copy.deepcopy(source.choice(STRANGE)))
    return schema


def body_of(schema: Any, strict: bool, tokens: int) -> bytes:
    shape = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": strict}}
    messages = [{"role": "user", "content": "Fill it in"}]
    return json.dumps({"messages": messages, "max_tokens": tokens, "temperature": 1, "seed": 1, "response_format": shape}).encode()


def fits(value: Any, schema: dict[str, Any]) -> bool:
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema["type"]
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str) and 1 <= len(value) <= 4 and set(value) <= set("abcdef")
    if kind == "array":
        return isinstance(value, list) and 1 <= len(value) <= 2 and all(fits(entry, schema["items"]) for entry in value)
    members = schema["properties"]
    return isinstance(value, dict) and set(value) == set(members) and all(fits(value[name], members[name]) for name in members)


def fault_of(result: Talk, schema: Any, is_good: bool) -> str:
    if result.seconds > LONGEST or len(result.responses) != 1:
        return f"{result.statuses} after {result.seconds:.1f} s {result.fault}"
    status = result.statuses[0]
    if status != 200:
        return "" if 400 <= status < 500 and not is_good else f"{status}: {result.responses[0].body[:200]!r}"
    choice = result.responses[0].json()["choices"][0]
    if choice["finish_reason"] != "stop":
        return ""
    try:
        value = json.loads(choice["message"]["content"])
    except ValueError:
        return f"answered by what is no JSON: {choice['message']['content'][:100]!r}"
    return "" if not is_good or fits(value, schema) else f"answered by {value}"


class Run:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.faults: list[str] = []
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()

    def ask(self, schema: Any, is_good: bool) -> None:
        result = talk(self.server.port, post("/v1/chat/completions", body_of(schema, is_good, 120)), seconds=2 * LONGEST)
        self.seconds.append(result.seconds)
        self.statuses[f"{'good' if is_good else 'broken'} {result.statuses}"] += 1
        fault = fault_of(result, schema, is_good)
        if fault:
            self.faults.append(f"{json.dumps(schema)[:300]}: {fault}")

    def all(self, schemas: list[Any], is_good: bool) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda schema: self.ask(schema, is_good), schemas))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--broken", type=int, default=500)
    parser.add_argument("--good", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--growth", type=int, default=64, help="MiB; 0: is not looked at")
    options = parser.parse_args()
    source = random.Random(options.seed)
    with serving(options.binary, GOLDEN / "qwen3", "--chat-format", "deepseek-v3", "--log", "off", "--queue", "1000") as server:
        run = Run(server)
        run.all([broken(source) for _ in range(options.broken)], False)
        run.all([good(source) for _ in range(options.good // 10)], True)
        before = server.resident()
        for _ in range(9):
            run.all([good(source) for _ in range(options.good // 10)], True)
        growth = server.resident() - before
        health = server.request("GET", "/health")[0]
    print(", ".join(f"{count} {what}" for what, count in sorted(run.statuses.items())))
    print(f"seconds: p50 {quantile(run.seconds, 0.5):.3f}, p99 {quantile(run.seconds, 0.99):.3f}, most {max(run.seconds):.3f}")
    print(f"memory {mib(before)} after a tenth of the good ones, {growth / 2**20:+.1f} MiB since; {len(run.faults)} faults")
    if options.growth and growth > options.growth << 20:
        run.faults.append(f"memory grew by {mib(growth)}")
    if health != 200 or not run.statuses["good [200]"] or not run.statuses["broken [400]"]:
        run.faults.append(f"/health {health}; {dict(run.statuses)}: no test")
    for fault in run.faults[:20]:
        print("FAULT", fault)
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())

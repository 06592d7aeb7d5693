#!/usr/bin/env python3
"""Whether what grammars of JSON schemas let through satisfies them, over the JSON-Schema-Test-Suite.

    check_json_schemas.py SAMPLE_GRAMMARS MODEL [--suite FOLDER] [--samples 20] [--draft NAME]... [--every N] [--out FILE]

SAMPLE_GRAMMARS: tests/sample_grammars.cc, built. MODEL: what it takes its vocabulary from; `tiny` is one of single bytes, made here.
The suite lies in the source distribution of the PyPI package `jsonschema`, which is fetched if no folder is given; the validator is
that package. For each schema that is accepted, all samples must validate. And no fewer schemas may be accepted than those that
xgrammar by itself accepts and whose own samples validate. Exit code: 1 if either fails, 77 where suite or validator cannot be had.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

PACKAGE = "jsonschema==4.26.0"
DRAFTS = ("draft4", "draft6", "draft7", "draft2019-09", "draft2020-12")


def fetch_suite(folder: Path) -> Path | None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary", "jsonschema"]
        + ["--dest", str(folder), PACKAGE],
        capture_output=True,
    )
    archives = list(folder.glob("jsonschema-*.tar.gz"))
    if done.returncode or not archives:
        return None
    with tarfile.open(archives[0]) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.glob("jsonschema-*/json/tests"), None)


def tiny_tokenizer(folder: Path) -> Path:
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in visible]
    names = {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(others)}
    vocab = {names[b]: b for b in range(256)}
    end = {
        "id": 256,
        "content": "<|endoftext|>",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    path = folder / "tokenizer.json"
    path.write_text(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": [end],
                "pre_tokenizer": level,
                "decoder": level,
                "model": {"type": "BPE", "vocab": vocab, "merges": []},
            }
        )
    )
    return path


def schemas(suite: Path, drafts: list[str]) -> list[tuple[str, str, Any]]:
    """(draft, where, schema)"""
    out = []
    for draft in drafts:
        for file in sorted((suite / draft).rglob("*.json")):
            for case in json.loads(file.read_text(encoding="utf-8")):
                out.append((draft, f"{draft}/{file.relative_to(suite / draft)}: {case['description']}", case["schema"]))
    return out


def run(program: Path, model: Path, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answer to each task; where the program dies or hangs, that says so and the next task gets a new one."""
    answers: list[dict[str, Any]] = []
    while len(answers) < len(tasks):
        lines = "".join(json.dumps(t) + "\n" for t in tasks[len(answers) :])
        try:
            done = subprocess.run(
                [program, model], input=lines, capture_output=True, text=True, timeout=30 * (len(tasks) - len(answers)) + 60
            )
            found = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
            why = done.stderr.strip()[-300:] or f"exit {done.returncode}"
        except subprocess.TimeoutExpired as stopped:
            found = [json.loads(line) for line in (stopped.stdout or b"").decode().split("\n")[:-1]]
            why = "does not end"
        answers += found
        if len(answers) < len(tasks):
            answers.append({"died": why})
    return answers


def fault(validator: Any, schema: Any, answer: dict[str, Any]) -> str | None:
    """What is wrong with an accepted schema's samples; None if nothing."""
    if "died" in answer:
        return "died: " + answer["died"]
    if not answer["samples"]:
        return "no sample came to its end"
    for text in answer["samples"]:
        try:
            value = json.loads(text)
        except ValueError:
            return f"{text!r} is no JSON"
        try:
            if not validator(schema).is_valid(value):
                return f"{text!r} does not validate"
        except Exception as error:  # references that only the suite's own server resolves
            return f"the validator fails: {type(error).__name__}"
    return None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("model")
    parser.add_argument("--suite", type=Path, help="JSON-Schema-Test-Suite/tests")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--draft", action="append", choices=DRAFTS)
    parser.add_argument("--every", type=int, default=1, help="one schema of so many")
    parser.add_argument("--times", action="store_true", help="also how long a mask takes")
    parser.add_argument("--no-plain", action="store_true", help="without xgrammar by itself")
    parser.add_argument("--out", type=Path, help="a line of JSON for each schema")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    try:
        from jsonschema import validators
    except ImportError:
        print("The Python package jsonschema is not here: skipped")
        return 77
    with tempfile.TemporaryDirectory(prefix="hadal-schemas-") as name:
        suite = args.suite or fetch_suite(Path(name))
        if not suite or not suite.is_dir():
            print("The JSON-Schema-Test-Suite cannot be had: skipped")
            return 77
        model = tiny_tokenizer(Path(name)) if args.model == "tiny" else Path(args.model)
        todo = schemas(suite, args.draft or list(DRAFTS))[:: args.every]
        tasks = [{"text": json.dumps(s), "samples": args.samples, "seed": i, "times": args.times} for i, (_, _, s) in enumerate(todo)]
        ours = run(args.program, model, tasks)
        plain = [] if args.no_plain else run(args.program, model, [t | {"plain": True, "times": False} for t in tasks])
    classes = {
        "draft4": validators.Draft4Validator,
        "draft6": validators.Draft6Validator,
        "draft7": validators.Draft7Validator,
        "draft2019-09": validators.Draft201909Validator,
        "draft2020-12": validators.Draft202012Validator,
    }

    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    bad = []
    lines = []
    for i, (draft, where, schema) in enumerate(todo):
        refused = ours[i].get("refused")
        wrong = None if refused is not None else fault(classes[draft], schema, ours[i])
        counts["accepted"] += refused is None
        counts["accepted and valid"] += refused is None and wrong is None
        counts["unfinished"] += ours[i].get("unfinished", 0)
        if refused is not None:
            reasons[refused.split(" at ")[0].split(":")[0] + (" " + refused.split("`")[1] if "`" in refused else "")] += 1
        if wrong:
            bad.append(f"{where}\n    {json.dumps(schema)[:300]}\n    {wrong}")
        if plain:
            good = "refused" not in plain[i] and fault(classes[draft], schema, plain[i]) is None
            counts["xgrammar accepts"] += "refused" not in plain[i]
            counts["xgrammar accepts and its samples validate"] += good
            counts["of those refused by us"] += good and refused is not None
        lines.append(json.dumps({"where": where, "schema": schema, "refused": refused, "wrong": wrong, "plain": bool(plain) and good}))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")
    print(f"{len(todo)} schemas, {args.samples} samples each: " + ", ".join(f"{k} {v}" for k, v in counts.items()))
    print("refused: " + ", ".join(f"{k} {v}" for k, v in reasons.most_common(25)))
    compile_ms = sorted(a["compile_ms"] for a in ours if "refused" not in a and "died" not in a)
    if compile_ms:
        print(f"compiling: p50 {compile_ms[len(compile_ms) // 2]:.1f} ms, max {compile_ms[-1]:.1f} ms")
    fills = sorted(t for a in ours for t in a.get("fill_us", []))
    if fills:
        print(
            f"masks: {len(fills)}, p50 {fills[len(fills) // 2]:.1f} us, p99 {fills[len(fills) * 99 // 100]:.1f} us, max {fills[-1]:.1f} us"
        )
    for line in bad[:20]:
        print("WRONG " + line)
    print(f"{counts['accepted and valid']} right, {len(bad)} wrong")
    enough = not plain or counts["accepted"] >= counts["xgrammar accepts and its samples validate"]
    if not enough:
        print("fewer schemas are accepted than xgrammar's own good ones")
    return 0 if enough and not bad else 1


if __name__ == "__main__":
    sys.exit(main())

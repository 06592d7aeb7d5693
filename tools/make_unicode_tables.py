#!/usr/bin/env python3
"""Writes src/text/tokenizer/unicode_tables.inc: what the `tokenizers` library takes each code point for.

The library is asked, not a standard: every class is the answer of its own pattern engine, pre-tokenizers and normalisers to
all code points. Needs: tokenizers (the version is written into the file), libutf8proc (whose normalisation the inert list
corrects), and a Python whose unicodedata is of the version that PCRE2 10.42 has (14.0.0, Python 3.11).

  tools/make_unicode_tables.py [OUTPUT]
"""
import ctypes
import ctypes.util
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

LAST = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)
CODES = [c for c in range(LAST + 1) if c not in SURROGATES]
ALL = "".join(map(chr, CODES))
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn".split()
SCRIPTS = """Arabic Armenian Bengali Bopomofo Cherokee Common Coptic Cyrillic Devanagari Ethiopic Georgian Greek Gujarati Gurmukhi
 Han Hangul Hebrew Hiragana Inherited Kannada Katakana Khmer Lao Latin Malayalam Mongolian Myanmar Oriya Sinhala Syriac Tamil
 Telugu Thaana Thai Tibetan Yi""".split()


def matched(pattern):
    """The code points that a pattern for one character matches, in the library's engine."""
    split = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed", invert=True)
    return {ord(c) for piece, _ in split.pre_tokenize_str(ALL) for c in piece}


def kept(pre_tokenizer):
    return {ord(c) for piece, _ in pre_tokenizer.pre_tokenize_str(ALL) for c in piece}


def isolated(pre_tokenizer):
    """The code points that a pre-tokenizer cuts off from the letters around them."""
    text = "a" + "a".join(map(chr, CODES)) + "a"
    found, at = set(), 0
    for piece, _ in pre_tokenizer.pre_tokenize_str(text):
        if len(piece) == 1 and piece != "a":
            found.add(ord(piece))
    return found


def ranges(codes):
    out = []
    for c in sorted(codes):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def block(name, comment, numbers, width=100):
    lines, line = [], " "
    for n in numbers:
        word = f" 0x{n:X},"
        if len(line) + len(word) > width:
            lines.append(line)
            line = " "
        line += word
    lines.append(line)
    return f"// {comment}\ninline constexpr uint32_t {name}[] = {{\n" + "\n".join(lines) + "\n};\n"


def flat(codes):
    return [n for pair in ranges(codes) for n in pair]


def general_categories():
    category = ["Cn"] * (LAST + 1)
    for c in SURROGATES:
        category[c] = "Cs"
    for name in CATEGORIES:
        if name in ("Cs", "Cn"):
            continue
        for c in matched(rf"\p{{{name}}}"):
            assert category[c] == "Cn", hex(c)
            category[c] = name
    assert {c for c in CODES if category[c] == "Cn"} == matched(r"\p{Cn}")
    for group in "LMNPSZ":
        assert {c for c in CODES if category[c][0] == group} == matched(rf"\p{{{group}}}"), group
    return category


def utf8proc_form(form):
    """utf8proc's normalisation of a text."""
    lib = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
    lib.utf8proc_version.restype = ctypes.c_char_p
    lib.utf8proc_unicode_version.restype = ctypes.c_char_p
    lib.utf8proc_map.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t, ctypes.POINTER(ctypes.c_void_p), ctypes.c_int]
    lib.utf8proc_map.restype = ctypes.c_ssize_t
    libc = ctypes.CDLL(None)
    libc.free.argtypes = [ctypes.c_void_p]
    stable, compat, compose, decompose = 2, 4, 8, 16
    option = stable | {"NFC": compose, "NFD": decompose, "NFKC": compose | compat, "NFKD": decompose | compat}[form]

    def run(text):
        raw, out = text.encode(), ctypes.c_void_p()
        size = lib.utf8proc_map(raw, len(raw), ctypes.byref(out), option)
        assert size >= 0
        result = ctypes.string_at(out, size).decode()
        libc.free(out)
        return result

    return run, lib.utf8proc_unicode_version().decode()


def inert():
    """Code points that utf8proc decomposes, composes or reorders and the library does not."""
    found = set()
    # One mark of a low and one of a high class on each side shows whether a code point has a class of its own.
    frames = [("", ""), ("a\u0345", ""), ("a", "\u0334"), ("a\u0300", "\u0334")]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        ours, version = utf8proc_form(form)
        library = getattr(normalizers, form)()
        for c in CODES:
            for before, after in frames:
                text = before + chr(c) + after
                if ours(text) != library.normalize_str(text):
                    # The library must leave it alone, or cutting the text there would be wrong.
                    assert library.normalize_str("a\u0345" + chr(c) + "\u0334") == "a\u0345" + chr(c) + "\u0334", hex(c)
                    assert library.normalize_str(chr(c)) == chr(c), hex(c)
                    found.add(c)
                    break
    return found, version


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "src/text/tokenizer/unicode_tables.inc"
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    category = general_categories()
    index = {name: i for i, name in enumerate(CATEGORIES)}
    starts = [c for c in range(LAST + 1) if c == 0 or category[c] != category[c - 1]]
    changed = [c for c in CODES if unicodedata.category(chr(c)) != category[c]]
    was, last = [], None
    for c in changed:
        old = index[unicodedata.category(chr(c))]
        if last and last[1] == c - 1 and last[2] == old and category[c] == category[c - 1]:
            last[1] = c
        else:
            last = [c, c, old]
            was.append(last)
    numeric = isolated(pre_tokenizers.Digits(individual_digits=True))
    punctuation = isolated(pre_tokenizers.Punctuation())
    space = set(CODES) - kept(pre_tokenizers.WhitespaceSplit())
    library_word = set()
    # Whitespace() keeps \w+ and [^\w\s]+: what stays together with a letter is \w.
    whitespace = pre_tokenizers.Whitespace()
    for c in CODES:
        if c not in space and len(whitespace.pre_tokenize_str("a" + chr(c))) == 1:
            library_word.add(c)
    lower = normalizers.Lowercase()
    lib = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
    lib.utf8proc_tolower.argtypes = [ctypes.c_int32]
    lib.utf8proc_tolower.restype = ctypes.c_int32
    lowers = []
    for c in CODES:
        out = lower.normalize_str(chr(c))
        if [ord(x) for x in out] != [lib.utf8proc_tolower(c)]:
            assert len(out) <= 2
            lowers += [c, ord(out[0]), ord(out[1]) if len(out) > 1 else 0]
    inert_codes, utf8proc_version = inert()

    parts = [
        "// Made by tools/make_unicode_tables.py from the answers of tokenizers "
        f"{tokenizers.__version__} (PCRE2 Unicode 14.0.0, utf8proc Unicode {utf8proc_version}).\n"
        "// Do not edit. Lists of ranges are pairs: first, last.\n",
        block("kCategoryStarts", "code << 5 | category of the code points from here on; the order of kCategoryNames",
              [c << 5 | index[category[c]] for c in starts]),
        "inline constexpr std::string_view kCategoryNames[] = {"
        + ", ".join(f'"{n}"' for n in CATEGORIES) + "};\n",
        block("kCategoryBefore", "first, last, category in Unicode 14 of what has another category now",
              [n for row in was for n in row]),
        block("kWord", r"\w in a pattern", flat(matched(r"\w"))),
        block("kSpace", r"\s in a pattern", flat(matched(r"\s"))),
        block("kAlpha", "[[:alpha:]]", flat(matched("[[:alpha:]]"))),
        block("kPunct", "[[:punct:]]", flat(matched("[[:punct:]]"))),
        block("kUpper", "[[:upper:]]", flat(matched("[[:upper:]]"))),
        block("kLower", "[[:lower:]]", flat(matched("[[:lower:]]"))),
        block("kNumeric", "what the Digits pre-tokenizer cuts", flat(numeric)),
        block("kPunctuation", "what the Punctuation pre-tokenizer cuts", flat(punctuation)),
        block("kWhitespace", "what WhitespaceSplit and Strip remove", flat(space)),
        block("kLibraryWord", "\\w of the Whitespace pre-tokenizer and of single_word", flat(library_word)),
        block("kLowerExceptions", "code, its one or two lower-case code points (or 0), where utf8proc_tolower differs", lowers),
        block("kInert", "what utf8proc normalises and the library leaves alone", flat(inert_codes)),
    ]
    for script in SCRIPTS:
        parts.append(block(f"kScript{script}", f"\\p{{{script}}}", flat(matched(rf"\p{{{script}}}"))))
    parts.append("struct Script {\n  std::string_view name;\n  std::span<const uint32_t> ranges;\n};\n"
                 "inline constexpr Script kScripts[] = {\n"
                 + "\n".join(f'    {{"{s.lower()}", kScript{s}}},' for s in SCRIPTS) + "\n};\n")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(parts))
    print(f"{path}: {len(starts)} runs of categories, {len(was)} changed since 14, {len(inert_codes)} inert")


if __name__ == "__main__":
    main()

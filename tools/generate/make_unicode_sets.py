#!/usr/bin/env python3
"""Derives src/text/tokenizer/unicode_sets.inc by asking the `tokenizers` library about every code point.

The library mixes four versions of Unicode (Oniguruma's for patterns, Rust's for Digits and Lowercase, an old crate's for NFC and
StripAccents, the `regex` crate's for added tokens), so the tables come from its answers and from no data file.

    tools/generate/make_unicode_sets.py > src/text/tokenizer/unicode_sets.inc
"""

import tokenizers
import unicodedata2
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
ALL = "".join(map(chr, CODE_POINTS))

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
PROPERTIES = """Alphabetic White_Space Lowercase Uppercase Ideographic Emoji Emoji_Presentation Emoji_Modifier Extended_Pictographic
Math Dash Hex_Digit ASCII_Hex_Digit Diacritic XID_Start XID_Continue ID_Start ID_Continue Variation_Selector
Default_Ignorable_Code_Point Word Alnum Graph Print Blank Cntrl Lower Upper""".split()
SCRIPTS = """Adlam Arabic Armenian Avestan Balinese Bengali Bopomofo Braille Cherokee Common Coptic Cuneiform Cyrillic
Devanagari Ethiopic Georgian Glagolitic Gothic Greek Gujarati Gurmukhi Han Hangul Hebrew Hiragana Inherited Javanese Kannada Katakana
Khmer Lao Latin Malayalam Meetei_Mayek Mongolian Myanmar Nko Ogham Ol_Chiki Oriya Runic Sinhala Sundanese Syriac Tamil Telugu Thaana
Thai Tibetan Tifinagh Vai Yi""".split()


def matches(pattern, text=ALL):
    """The characters that a pattern of one character matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for piece, _ in split.pre_tokenize_str(text) for c in piece}


def pieces_of_one(pre_tokenizer):
    """Characters that the pre-tokenizer isolates from a letter before and after."""
    found = set()
    for c in CODE_POINTS:
        pieces = [p for p, _ in pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")]
        if pieces == ["a", chr(c), "a"]:
            found.add(c)
    return found


def dropped(pre_tokenizer):
    """Characters that the pre-tokenizer removes between two letters."""
    return {c for c in CODE_POINTS if [p for p, _ in pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")] == ["a", "a"]}


def added_token_sets():
    """What an added token with single_word and lstrip takes for a word character and for a space."""

    def make(**flags):
        tokenizer = Tokenizer(models.BPE({}, []))
        tokenizer.add_tokens([AddedToken("[T]", normalized=False, **flags)])
        return tokenizer

    single, strip = make(single_word=True), make(lstrip=True)
    word = {c for c in CODE_POINTS if not single.encode("[T]" + chr(c)).ids}
    space = {c for c in CODE_POINTS if strip.encode(chr(c) + "[T]").offsets[0][0] == 0}
    return word, space


def simple_folds():
    """Classes of characters that (?i) takes for one another, as {character: others}, and the folds to several characters."""
    cased = sorted(
        set().union(*[matches(r"\p{%s}" % g) for g in ("Lu", "Ll", "Lt")])
        | matches(r"[\x{345}\x{2160}-\x{2188}\x{24B6}-\x{24E9}]")
        | matches(r"[\p{Lm}\p{Lo}&&\p{Georgian}]")
    )
    text = "\n".join(map(chr, cased))
    folds = {}
    for c in cased:
        same = matches(r"(?i:\x{%x})" % c, text) - {c}
        if same:
            folds[c] = sorted(same)
    several = {}
    for c in CODE_POINTS:
        fold = chr(c).casefold()
        if len(fold) > 1 and [
            p for p, _ in pre_tokenizers.Split(Regex(r"(?i:\x{%x})" % c), "isolated").pre_tokenize_str("~" + fold + "~")
        ] == ["~", fold, "~"]:
            several[c] = fold
    return folds, several


def stripped_accents():
    """What StripAccents drops: the marks of an old Unicode."""
    strip = normalizers.StripAccents()
    return {c for c in CODE_POINTS if not strip.normalize_str(chr(c))}


def lower():
    """Lowercase, as {character: lower}. U+0130 alone becomes two and is left out: NFD leaves none of it."""
    step = normalizers.Lowercase()
    found = {c: step.normalize_str(chr(c)) for c in CODE_POINTS}
    assert [c for c, low in found.items() if len(low) != 1] == [0x130]
    return {c: ord(low) for c, low in found.items() if len(low) == 1 and ord(low) != c}


def inert():
    """Characters that normalise in today's Unicode and stay as they are in the library's."""
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    found = set()
    for c in CODE_POINTS:
        ch = chr(c)
        kind = unicodedata2.combining(ch)
        changes = unicodedata2.normalize("NFKD", ch) != ch
        if changes and nfkd.normalize_str(ch) == ch:
            found.add(c)
        if kind:
            moved = nfd.normalize_str("a" + ch + "\u0334") != "a" + ch + "\u0334" or nfd.normalize_str("a\u0345" + ch) != "a\u0345" + ch
            if not moved and kind != 1:
                found.add(c)
    return found


def ranges(points):
    out = []
    for c in sorted(points):
        # A gap of the surrogates alone does not end a range: no text holds them.
        if out and (c == out[-1][1] + 1 or (out[-1][1] == 0xD7FF and c == 0xE000)):
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def wrapped(numbers):
    line = ""
    for n in numbers:
        item = f"{n},"
        if len(line) + len(item) > 118:
            print(line)
            line = ""
        line += item
    print(line)


def write():
    sets = {}
    for name in CATEGORIES + PROPERTIES + SCRIPTS:
        sets[name.lower().replace("_", "")] = matches(r"\p{%s}" % name)
    sets["\\w"] = matches(r"\w")
    sets["[\\w]"] = matches(r"[\w]")
    sets["[:punct:]"] = matches(r"[[:punct:]]")
    for name in "alnum alpha blank cntrl digit graph lower print space upper xdigit".split():
        sets[f"[:{name}:]"] = matches(r"[[:%s:]]" % name)
    sets["rust numeric"] = pieces_of_one(pre_tokenizers.Digits(True))
    sets["rust punctuation"] = pieces_of_one(pre_tokenizers.Punctuation("isolated"))
    sets["rust space"] = dropped(pre_tokenizers.WhitespaceSplit())
    sets["regex word"], sets["regex space"] = added_token_sets()
    sets["rust accent"] = stripped_accents()
    sets["inert"] = inert()
    folds, several = simple_folds()
    print(
        f"// Generated by tools/generate/make_unicode_sets.py from tokenizers {tokenizers.__version__}, unicodedata2 "
        f"{unicodedata2.unidata_version}; do not edit."
    )
    flat, index = [], []
    for name, points in sets.items():
        index.append((name, len(flat)))
        last = 0
        for lo, hi in ranges(points):
            flat += [lo - last, hi - lo]
            last = hi
    print("// Every set as alternating gaps and lengths: the distance from the last end, then the range's length less one.")
    print("constexpr uint32_t kSetData[] = {")
    wrapped(flat)
    print("};\nconstexpr NamedSet kSets[] = {")
    for (name, start), end in zip(index, [s for _, s in index[1:]] + [len(flat)]):
        print('{"%s", %d, %d},' % (name.replace("\\", "\\\\"), start, end))
    print("};\n// Case equivalents, as (distance from the last character, number of others, the others as distances from it).")
    print("constexpr int32_t kFoldData[] = {")
    numbers, last = [], 0
    for c, others in sorted(folds.items()):
        numbers += [c - last, len(others)] + [o - c for o in others]
        last = c
    wrapped(numbers)
    print("};\n// Lower case, as (distance from the last character, distance to its lower case).")
    print("constexpr int32_t kLowerData[] = {")
    numbers, last = [], 0
    for c, low in sorted(lower().items()):
        numbers += [c - last, low - c]
        last = c
    wrapped(numbers)
    print("};\n// Characters that (?i) takes for a string of several.")
    print("constexpr SeveralFold kSeveralFolds[] = {")
    for c, fold in sorted(several.items()):
        print("{0x%X, {%s}}," % (c, ", ".join("0x%X" % ord(x) for x in fold)))
    print("};")


if __name__ == "__main__":
    write()

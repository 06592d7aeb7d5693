#!/usr/bin/env python3
"""Makes a corpus of broken GGUF files and safetensors folders, each wrong by construction, for tools/check/run_broken_files.py.

    tools/generate/make_broken_files.py OUT [--seed 1]

Nothing but Python's standard library. It builds one small valid model in either format (a llama of one layer) and derives
every case from it. OUT/manifest.jsonl has a line for each case: its path, what is wrong, and the stage that must refuse it:

    valid   nothing is wrong (the two models that the cases come from), or nothing that anybody uses: must be accepted
    open    opening must refuse it: `inspect` and `generate` both
    bind    a sound container with a wrong model in it: `generate` must refuse it, `inspect` may show it
"""

import argparse
import json
import pathlib
import random
import shutil
import struct

HIDDEN, FFN, HEADS, KV_HEADS, CONTEXT = 32, 64, 4, 2, 64
BIG = [1 << 31, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
CODES = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 26: (1, 4)}
NAN, INF = float("nan"), float("inf")


# --- the valid GGUF ---------------------------------------------------------------------------------------------------------


def byte_level_tokens():
    """The 256 one-byte tokens of byte-level BPE, two merged ones, and two special ones."""
    shown = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    letters = {b: chr(b) for b in shown}
    for n, b in enumerate(b for b in range(256) if b not in letters):
        letters[b] = chr(256 + n)
    return [letters[b].encode() for b in range(256)] + [b"th", b"he", b"<s>", b"</s>"]


def base_metadata():
    tokens = byte_level_tokens()
    n = len(tokens)
    return [
        ("general.architecture", STRING, b"llama"),
        ("general.name", STRING, b"tiny"),
        ("llama.block_count", U32, 1),
        ("llama.context_length", U32, CONTEXT),
        ("llama.embedding_length", U32, HIDDEN),
        ("llama.feed_forward_length", U32, FFN),
        ("llama.attention.head_count", U32, HEADS),
        ("llama.attention.head_count_kv", U32, KV_HEADS),
        ("llama.rope.dimension_count", U32, HIDDEN // HEADS),
        ("llama.rope.freq_base", F32, 10000.0),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("llama.vocab_size", U32, n),
        ("tokenizer.ggml.model", STRING, b"gpt2"),
        ("tokenizer.ggml.pre", STRING, b"llama-bpe"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        ("tokenizer.ggml.token_type", ARRAY, (I32, [1] * (n - 2) + [3, 3])),
        ("tokenizer.ggml.merges", ARRAY, (STRING, [b"t h", b"h e"])),
        ("tokenizer.ggml.bos_token_id", U32, n - 2),
        ("tokenizer.ggml.eos_token_id", U32, n - 1),
        ("tokenizer.ggml.add_bos_token", BOOL, 1),
    ]


def base_tensors():
    """(name, dims innermost first, type); rows of one layer, tied embedding."""
    kv = HIDDEN // HEADS * KV_HEADS
    return [
        ("token_embd.weight", [HIDDEN, len(byte_level_tokens())], 8),
        ("output_norm.weight", [HIDDEN], 0),
        ("blk.0.attn_norm.weight", [HIDDEN], 0),
        ("blk.0.attn_q.weight", [HIDDEN, HIDDEN], 2),
        ("blk.0.attn_k.weight", [HIDDEN, kv], 8),
        ("blk.0.attn_v.weight", [HIDDEN, kv], 1),
        ("blk.0.attn_output.weight", [HIDDEN, HIDDEN], 2),
        ("blk.0.ffn_norm.weight", [HIDDEN], 0),
        ("blk.0.ffn_gate.weight", [HIDDEN, FFN], 2),
        ("blk.0.ffn_up.weight", [HIDDEN, FFN], 2),
        ("blk.0.ffn_down.weight", [FFN, HIDDEN], 8),
    ]


def tensor_bytes(dims, kind):
    values, size = BLOCKS[kind]
    total = dims[0] // values * size
    for dim in dims[1:]:
        total *= dim
    return total


class Gguf:
    """Bytes under construction. `marks` remembers what lies where: (kind, offset, bytes)."""

    def __init__(self):
        self.out = bytearray()
        self.marks = []

    def number(self, kind, code, value):
        self.marks.append((kind, len(self.out), struct.calcsize(code)))
        self.out += struct.pack(code, value)

    def string(self, text):
        self.number("length", "<Q", len(text))
        self.out += text

    def value(self, kind, value):
        if kind == STRING:
            self.string(value)
        elif kind == ARRAY:
            element, values = value
            self.number("element", "<I", element)
            self.number("elements", "<Q", len(values))
            for entry in values:
                self.value(element, entry)
        else:
            self.number("value", CODES[kind], value)


def offsets_of(tensors, alignment=32):
    """(name, offset) of each tensor, one behind the other."""
    at = 0
    for name, dims, kind in tensors:
        at += -at % alignment
        yield name, at
        at += tensor_bytes(dims, kind)


def write_gguf(metadata, tensors, version=3, alignment=32, offsets=None, pads=None):
    """`offsets` replaces tensor offsets by name, `pads` puts bytes of no tensor before one.

    The last tensor's bytes end the file: any cut hits something."""
    g = Gguf()
    g.out += b"GGUF"
    g.number("version", "<I", version)
    g.number("tensors", "<Q", len(tensors))
    g.number("keys", "<Q", len(metadata))
    for key, kind, value in metadata:
        g.string(key.encode() if isinstance(key, str) else key)
        g.number("type", "<I", kind)
        g.value(kind, value)
    body = bytearray()
    for name, dims, kind in tensors:
        g.string(name.encode() if isinstance(name, str) else name)
        g.number("dims", "<I", len(dims))
        for dim in dims:
            g.number("dim", "<Q", dim)
        g.number("tensor type", "<I", kind)
        body += bytes(-len(body) % alignment + (pads or {}).get(name, 0))
        g.number("offset", "<Q", (offsets or {}).get(name, len(body)))
        body += tensor_content(tensor_bytes(dims, kind), kind)
    g.out += bytes(-len(g.out) % alignment)
    g.header = len(g.out)
    g.out += body
    return g


def tensor_content(size, kind):
    """Small numbers of that type; their values do not matter, but they are finite."""
    unit = {
        0: struct.pack("<f", 0.5),
        1: struct.pack("<e", 0.05),
        2: struct.pack("<e", 0.01) + bytes(range(16)),
        8: struct.pack("<e", 0.001) + bytes(range(32)),
        26: struct.pack("<i", 1),
    }[kind]
    return (unit * (size // len(unit) + 1))[:size]


def without(rows, name):
    return [row for row in rows if row[0] != name]


def replaced(rows, new):
    assert any(row[0] == new[0] for row in rows), new[0]
    return [new if row[0] == new[0] else row for row in rows]


# --- broken GGUF ------------------------------------------------------------------------------------------------------------


class Corpus:
    def __init__(self, folder):
        self.folder = folder
        self.lines = []

    def next_name(self, what):
        slug = "".join(c if c.isalnum() else "-" for c in what.lower())[:60].strip("-")
        return f"{len(self.lines):05}-{slug}"

    def file(self, what, data, stage="open", suffix=".gguf"):
        path = self.folder / (self.next_name(what) + suffix)
        path.write_bytes(bytes(data))
        self.add(path, what, stage)

    def model(self, what, files, stage="open"):
        path = self.folder / self.next_name(what)
        path.mkdir()
        for name, data in files.items():
            (path / name).write_bytes(data if isinstance(data, (bytes, bytearray)) else data.encode())
        self.add(path, what, stage)

    def add(self, path, what, stage):
        self.lines.append({"path": str(path.relative_to(self.folder)), "what": what, "stage": stage})

    def close(self):
        (self.folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.lines))


def patched(data, offset, raw):
    return data[:offset] + raw + data[offset + len(raw) :]


def gguf_fields(corpus, base, rng):
    """Every count, length, type and offset of the header, one at a time, set to what cannot be."""
    data = bytes(base.out)
    values = {
        "version": [0, 1, 4, 255, 1 << 24, 3 << 24, 0xFFFFFFFF],
        "tensors": BIG,
        "keys": BIG,
        "type": [13, 255, 0xFFFFFFFF],
        "element": [ARRAY, 13, 0xFFFFFFFF],
        "elements": BIG,
        "dims": [0, 5, 1 << 31, 0xFFFFFFFF],
        "dim": [0, 1 << 31, 1 << 32, 1 << 62] + BIG[2:],
        "tensor type": [4, 5, 31, 33, 36, 38, 99, 1000, 0xFFFFFFFF],
        "offset": [1, 16, 31, 1 << 31, 1 << 40, (1 << 63) - 32, 1 << 63, (1 << 64) - 32, (1 << 64) - 1],
    }
    lengths = [mark for mark in base.marks if mark[0] == "length"]
    for kind, offset, size in base.marks:
        code = {4: "<I", 8: "<Q"}.get(size)
        for value in values.get(kind, []):
            corpus.file(f"{kind} at {offset} is {value}", patched(data, offset, struct.pack(code, value)))
    for _, offset, _ in rng.sample(lengths, 60):
        corpus.file(f"string length at {offset} is huge", patched(data, offset, struct.pack("<Q", rng.choice(BIG))))


def gguf_truncations(corpus, base, rng):
    data = bytes(base.out)
    cuts = {0, 1, 3, base.header, len(data) - 1} | {mark[1] for mark in base.marks if mark[0] != "length" and mark[0] != "value"}
    cuts |= {mark[1] + mark[2] - 1 for mark in base.marks if mark[0] in ("tensors", "keys", "elements", "dims", "dim", "offset")}
    cuts |= {rng.randrange(len(data)) for _ in range(60)}
    for cut in sorted(cuts):
        corpus.file(f"cut at {cut} of {len(data)}", data[:cut])


def gguf_flips(corpus, base, rng):
    """Random bytes where every other value is wrong: the magic, and the upper bytes of lengths, counts and types."""
    data = bytes(base.out)
    places = [(0, 4)] + [
        (offset + size // 2, size - size // 2)
        for kind, offset, size in base.marks
        if kind in ("length", "tensors", "keys", "elements", "type", "element", "dims", "tensor type")
    ]
    for _ in range(250):
        broken = bytearray(data)
        for begin, count in rng.sample(places, rng.randrange(1, 4)):
            broken[begin + rng.randrange(count)] ^= rng.randrange(1, 256)
        if broken != data:
            corpus.file("flipped bytes in the header", broken)


def gguf_containers(corpus, meta, tensors):
    """Wrong as a container, whatever the model."""
    for alignment in [0, 1, 3, 4, 33, 1 << 21, 1 << 31, 0xFFFFFFFF]:
        corpus.file(f"alignment {alignment}", write_gguf(meta + [("general.alignment", U32, alignment)], tensors).out)
    corpus.file("alignment is a string", write_gguf(meta + [("general.alignment", STRING, b"32")], tensors).out)
    corpus.file("alignment is an array", write_gguf(meta + [("general.alignment", ARRAY, (U32, [32]))], tensors).out)
    for row in meta:
        corpus.file(f"key {row[0]} twice", write_gguf(meta + [row], tensors).out)
    for row in tensors:
        corpus.file(f"tensor {row[0]} twice", write_gguf(meta, tensors + [row]).out)
    for row in tensors[1:]:
        corpus.file(f"{row[0]} overlaps the embedding", write_gguf(meta, tensors, offsets={row[0]: 0}).out)
    for name, offset in offsets_of(tensors):
        corpus.file(f"a gap before {name}", write_gguf(meta, tensors, offsets={name: offset + 32}, pads={name: 32}).out)
    huge = (1 << 63) - 64
    for dims in [[huge], [1 << 32, 1 << 31], [1 << 31, 1 << 31, 2], [1 << 16] * 4, [3, 0x5555555555555556], [1 << 61, 8]]:
        rows = [("a", dims, 24), ("b", dims, 24)]
        corpus.file(f"two tensors of {dims} int8, sizes wrap", raw_tensors(meta, rows))
    for dims, kind in [([33], 2), ([31, 4], 8), ([255], 12), ([128], 14), ([1], 39), ([63], 40), ([100], 41)]:
        corpus.file(f"a row of {dims[0]} is no whole block of type {kind}", raw_tensors(meta, [("a", dims, kind)]))
    for name in [b"", b"a\nb", b"\x1b[31m", b"\xff\xfe", b"x" * 2000]:
        corpus.file(f"a tensor named {name[:8]!r}", write_gguf(meta, tensors + [(name, [8], 0)]).out)
    corpus.file("an empty key", write_gguf(meta + [("", U32, 1)], tensors).out)
    for key, value in [("a.bool", 2), ("tokenizer.ggml.add_bos_token", 255)]:
        corpus.file(f"{key} is the bool {value}", write_gguf(without(meta, key) + [(key, BOOL, value)], tensors).out)
    nested = Gguf()
    for _ in range(1000):
        nested.number("element", "<I", ARRAY)
        nested.number("elements", "<Q", 1)
    base = write_gguf(meta + [("deep", U32, 0)], tensors)
    at = bytes(base.out).index(b"deep") + 4
    corpus.file("arrays nested 1000 deep", patched(bytes(base.out), at, struct.pack("<I", ARRAY) + bytes(nested.out)))


def raw_tensors(meta, rows):
    """Entries whose sizes are lies; 4 KB of data."""
    g = Gguf()
    g.out += b"GGUF" + struct.pack("<IQQ", 3, len(rows), len(meta))
    for key, kind, value in meta:
        g.string(key.encode())
        g.number("type", "<I", kind)
        g.value(kind, value)
    for name, dims, kind in rows:
        g.string(name.encode())
        g.out += struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, 0)
    g.out += bytes(-len(g.out) % 32) + bytes(4096)
    return g.out


def gguf_models(corpus, meta, tensors):
    """Metadata of wrong types and impossible values; missing and misshapen tensors."""
    for key, kind, _ in meta:
        if key.startswith("general.name") or key == "tokenizer.ggml.pre":
            continue
        for other, wrong in [(STRING, b"7"), (F32, 0.5), (ARRAY, (STRING, [b"a"])), (BOOL, 1), (U32, 1)]:
            fits = other == kind or (kind == F32 and other == U32)
            if not fits:
                corpus.file(f"{key} has type {other}", write_gguf(replaced(meta, (key, other, wrong)), tensors).out)
        if kind == U32 and key.startswith("llama."):
            for other, wrong in [
                (U32, 0),
                (I32, -1),
                (U32, 10**9),
                (U32, 0xFFFFFFFF),
                (10, 1 << 63),
                (10, (1 << 64) - 1),
                (11, -(1 << 63)),
            ]:
                stage = "open" if (wrong != 10**9 and wrong != 0xFFFFFFFF) or key not in ("llama.context_length",) else "bind"
                if stage == "open":
                    corpus.file(f"{key} is {wrong}", write_gguf(replaced(meta, (key, other, wrong)), tensors).out)
            corpus.file(f"{key} is an array of 10^5", write_gguf(replaced(meta, (key, ARRAY, (U32, list(range(100000))))), tensors).out)
        stage = "open" if key in ("general.architecture", "tokenizer.ggml.tokens") else "bind"
        if (
            key.startswith("llama.")
            and key
            not in (
                "llama.vocab_size",
                "llama.rope.dimension_count",
                "llama.rope.freq_base",
                "llama.context_length",
                "llama.attention.head_count_kv",
            )
        ) or stage == "open":
            corpus.file(f"{key} is missing", write_gguf(without(meta, key), tensors).out, stage)
    for key in ["llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"]:
        for wrong in [NAN, INF, -INF, -1.0, 0.0]:
            corpus.file(f"{key} is {wrong}", write_gguf(replaced(meta, (key, F32, wrong)), tensors).out)
    for row in [
        ("llama.rope.scaling.factor", F32, NAN),
        ("llama.rope.scaling.factor", F32, 0.0),
        ("llama.rope.scaling.factor", F32, -4.0),
        ("llama.rope.scaling.factor", STRING, b"4"),
        ("llama.rope.scaling.type", U32, 1),
        ("llama.attention.key_length", U32, 0),
        ("llama.attention.key_length", U32, 10**9),
        ("llama.attention.value_length", I32, -8),
        ("llama.rope.scale_linear", F32, INF),
    ]:
        corpus.file(f"{row[0]} is {row[2]}", write_gguf(meta + [row], tensors).out)
    for key, wrong in [
        ("llama.embedding_length", 64),
        ("llama.embedding_length", 33),
        ("llama.feed_forward_length", 96),
        ("llama.block_count", 2),
        ("llama.block_count", 4096),
        ("llama.attention.head_count", 3),
        ("llama.attention.head_count", 5),
        ("llama.attention.head_count_kv", 3),
        ("llama.attention.head_count_kv", 8),
        ("llama.vocab_size", 100000),
    ]:
        corpus.file(f"{key} is {wrong}", write_gguf(replaced(meta, (key, U32, wrong)), tensors).out, "bind")
    corpus.file("an unknown architecture", write_gguf(replaced(meta, ("general.architecture", STRING, b"nosuch")), tensors).out, "bind")
    for wrong in [b"", b"\xff\xfe\n", b"x" * 5000]:
        stage = "bind" if wrong == b"\xff\xfe\n" else "open"
        corpus.file(f"architecture {wrong[:8]!r}", write_gguf(replaced(meta, ("general.architecture", STRING, wrong)), tensors).out, stage)
    for name, dims, kind in tensors:
        corpus.file(f"{name} is missing", write_gguf(meta, without(tensors, name)).out, "bind")
        corpus.file(f"{name} has one dimension more", write_gguf(meta, replaced(tensors, (name, dims + [2], kind))).out, "bind")
        wider = [dims[0] * 2] + dims[1:]
        corpus.file(f"{name} is too wide", write_gguf(meta, replaced(tensors, (name, wider, kind))).out, "bind")
        if len(dims) == 2 and name != "token_embd.weight":
            corpus.file(f"{name} has too few rows", write_gguf(meta, replaced(tensors, (name, [dims[0], dims[1] - 1], kind))).out, "bind")
    corpus.file("no tensors", write_gguf(meta, []).out, "bind")


def gguf_tokenizers(corpus, meta, tensors):
    tokens = byte_level_tokens()
    n = len(tokens)

    def put(what, *rows, drop=(), stage="open"):
        changed = meta
        for row in rows:
            changed = replaced(changed, row) if any(r[0] == row[0] for r in changed) else changed + [row]
        for key in drop:
            changed = without(changed, key)
        corpus.file(what, write_gguf(changed, tensors).out, stage)

    listed, types = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
    put("0 tokens", (listed, ARRAY, (STRING, [])))
    put("0 tokens, 0 types", (listed, ARRAY, (STRING, [])), (types, ARRAY, (I32, [])))
    put("1 token, ids beyond", (listed, ARRAY, (STRING, [b"a"])), (types, ARRAY, (I32, [1])))
    put(
        "1 token, default ids",
        (listed, ARRAY, (STRING, [b"a"])),
        ("tokenizer.ggml.bos_token_id", U32, 1),
        drop=[types, "tokenizer.ggml.eos_token_id"],
    )
    used = ["bos", "eos", "eot", "eom"]
    for key in used + ["padding", "unknown", "seperator", "mask", "fim_pre", "fim_suf", "fim_mid"]:
        for kind, wrong in [
            (U32, n),
            (U32, 1 << 31),
            (I32, -2),
            (10, 1 << 32),
            (10, (1 << 64) - 1),
            (STRING, b"1"),
            (F32, 1.0),
            (ARRAY, (U32, [1])),
        ]:
            put(f"{key} id is {wrong}", (f"tokenizer.ggml.{key}_token_id", kind, wrong), stage="open" if key in used else "valid")
    for token in [b"<0x-1>", b"<0xZZ>", b"<0x100>", b"<0x1>", b"<0x>", b"", b"0x41", b"<0x 1>", b"<0x+1>", b"<0x1g>"]:
        put(f"byte token {token!r}", (listed, ARRAY, (STRING, [token] + tokens[1:])), (types, ARRAY, (I32, [6] + [1] * (n - 1))))
    put("a token of 4 MiB", (listed, ARRAY, (STRING, [b"x" * (4 << 20)] + tokens[1:])))
    put("a token of 65537 bytes", (listed, ARRAY, (STRING, [b"x" * 65537] + tokens[1:])))
    put("a merge of 4 MiB", ("tokenizer.ggml.merges", ARRAY, (STRING, [b"x " * (2 << 20)])))
    for bad in [[1] * (n - 1), [1] * (n + 1), [], [1] * (n - 1) + [7], [1] * (n - 1) + [-1], [1] * (n - 1) + [(1 << 31) - 1]]:
        put(f"token types end in {bad[-1:]} of {len(bad)}", (types, ARRAY, (I32, bad)))
    for kind in [0, 1, 2, 3, 7, 12]:
        put(f"tokens are an array of type {kind}", (listed, ARRAY, (kind, [1] * n)))
        put(f"merges are an array of type {kind}", ("tokenizer.ggml.merges", ARRAY, (kind, [1, 0])))
    put("token types are floats", (types, ARRAY, (F32, [1.0] * n)))
    put("token types are strings", (types, ARRAY, (STRING, [b"1"] * n)))
    put("more tokens than embedding rows", (listed, ARRAY, (STRING, tokens + [b"zz"])), (types, ARRAY, (I32, [1] * (n + 1))))
    put("2^20+1 tokens", (listed, ARRAY, (STRING, [b""] * ((1 << 20) + 1))), drop=[types])
    put("the chat template is a number", ("tokenizer.chat_template", U32, 1))
    put("temperature is NaN", ("general.sampling.temp", F32, NAN))
    put("temperature is a string", ("general.sampling.temp", STRING, b"hot"))


def gguf_splits(corpus, meta, tensors):
    def rows(number, count, total=None):
        out = [("split.no", 2, number), ("split.count", 2, count)]
        return out + ([("split.tensors.count", I32, total)] if total is not None else [])

    for number, count in [(0, 2), (1, 2), (5, 2), (65535, 65535), (2, 2), (0, 65535)]:
        corpus.file(f"part {number} of {count}, alone", write_gguf(meta + rows(number, count), tensors).out)
    corpus.file("split.count is a string", write_gguf(meta + [("split.count", STRING, b"2")], tensors).out)
    corpus.file("split.count is negative", write_gguf(meta + [("split.count", I32, -1)], tensors).out)
    corpus.file("split.no is 2^63", write_gguf(meta + [("split.no", 10, 1 << 63), ("split.count", U32, 2)], tensors).out)
    half = len(tensors) // 2

    def pair(what, first, second, stage="open"):
        folder = corpus.folder / corpus.next_name(what)
        folder.mkdir()
        (folder / "m-00001-of-00002.gguf").write_bytes(bytes(first))
        if second is not None:
            (folder / "m-00002-of-00002.gguf").write_bytes(bytes(second))
        corpus.add(folder / "m-00001-of-00002.gguf", what, stage)

    one = write_gguf(meta + rows(0, 2, len(tensors)), tensors[:half]).out
    two = write_gguf(rows(1, 2, len(tensors)), tensors[half:]).out
    pair("a sound split", one, two, "valid")
    pair("the second part is missing", one, None)
    pair("the second part is of a model with more tensors", one, write_gguf(rows(1, 2, len(tensors) + 1), tensors[half:]).out)
    pair(
        "the second part is of a model with another name",
        one,
        write_gguf([("general.name", STRING, b"other")] + rows(1, 2, len(tensors)), tensors[half:]).out,
    )
    pair("the second part says it is the first", one, write_gguf(rows(0, 2), tensors[half:]).out)
    pair("the second part is of three", one, write_gguf(rows(1, 3), tensors[half:]).out)
    pair("the second part is cut", one, two[:-1])
    pair("the second part is empty", one, b"")
    pair("the second part is no GGUF", one, b"hello")
    pair("both parts have a tensor", one, write_gguf(rows(1, 2), tensors[:half]).out)
    pair("the parts have too few tensors", one, write_gguf(rows(1, 2), tensors[half:-1]).out)


def gguf_others(corpus, good):
    for what, data in [
        ("empty", b""),
        ("one byte", b"G"),
        ("zeros", bytes(100)),
        ("text", b"hello, I am no model\n" * 20),
        ("old GGML", b"lmgg" + bytes(100)),
        ("an ELF file", b"\x7fELF" + bytes(100)),
        ("a zip file", b"PK\x03\x04" + bytes(100)),
        ("escapes", b"\x1b[2J\x1b[31m" * 10),
        ("newlines", b"\n" * 100),
        ("0xff", b"\xff" * 100),
        ("only the magic", b"GGUF"),
        ("the magic and 0xff", b"GGUF" + b"\xff" * 100),
        ("version 3, then 0xff", b"GGUF\x03\0\0\0" + b"\xff" * 100),
        ("big-endian", b"GGUF\0\0\0\x03" + good[8:]),
        ("the magic reversed", b"FUGG" + good[4:]),
    ]:
        corpus.file(what, data)
        corpus.file(what + ", named .bin", data, suffix=".bin" if data[:4] != b"GGUF" else ".gguf")


# --- safetensors ------------------------------------------------------------------------------------------------------------


def base_config():
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT,
        "vocab_size": 260,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "hidden_act": "silu",
        "bos_token_id": 258,
        "eos_token_id": 259,
    }


def base_weights():
    """(name, shape), all F32."""
    kv = HIDDEN // HEADS * KV_HEADS
    layer = "model.layers.0."
    return [
        ("model.embed_tokens.weight", [260, HIDDEN]),
        ("model.norm.weight", [HIDDEN]),
        (layer + "input_layernorm.weight", [HIDDEN]),
        (layer + "self_attn.q_proj.weight", [HIDDEN, HIDDEN]),
        (layer + "self_attn.k_proj.weight", [kv, HIDDEN]),
        (layer + "self_attn.v_proj.weight", [kv, HIDDEN]),
        (layer + "self_attn.o_proj.weight", [HIDDEN, HIDDEN]),
        (layer + "post_attention_layernorm.weight", [HIDDEN]),
        (layer + "mlp.gate_proj.weight", [FFN, HIDDEN]),
        (layer + "mlp.up_proj.weight", [FFN, HIDDEN]),
        (layer + "mlp.down_proj.weight", [HIDDEN, FFN]),
    ]


def header_of(weights):
    header, at = {}, 0
    for name, shape in weights:
        size = 4
        for dim in shape:
            size *= dim
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return header, struct.pack("<f", 0.02) * (at // 4)


def container(header, data):
    text = header if isinstance(header, (bytes, bytearray)) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data


def st_headers(corpus, config, rng):
    header, data = header_of(base_weights())
    good = container(header, data)
    text = json.dumps(header)

    def put(what, blob, stage="open"):
        corpus.model(what, {"config.json": config, "model.safetensors": blob}, stage)

    length = len(text)
    for wrong in [0, 1, 2, length - 1, length + 1, len(good), 100_000_001, *BIG]:
        put(f"header length {wrong}", struct.pack("<Q", wrong) + good[8:])
    for cut in sorted(
        {0, 1, 7, 8, 9, length, 8 + length, len(good) - 1, len(good) - 4}
        | {rng.randrange(len(good)) for _ in range(20)}
        | {rng.randrange(8 + length) for _ in range(40)}
    ):
        put(f"cut at {cut}", good[:cut])
    put("one byte more", good + b"x")
    put("a second header behind", good + good)
    for wrong in [
        "",
        "[]",
        "null",
        "1",
        '"x"',
        "{",
        "}",
        "{}x",
        text[:-1],
        text + "]",
        text + text,
        " " + text,
        "\ufeff" + text,
        text.replace(":", ";", 1),
        text.replace('"', "'"),
        "[" * 100000,
        '{"a":' * 100000,
        "{" + '"a":{' * 4,
        '{"a":[[[[1]]]]}',
        "\0" * 50,
    ]:
        put(f"header {wrong[:12]!r}", container(wrong, data))
    put("header is no UTF-8", container(text.encode().replace(b"norm", b"n\xffrm", 1), data))
    put("metadata holds a number", container({"__metadata__": {"a": 1}, **header}, data))
    put("metadata is a list", container({"__metadata__": ["a"], **header}, data))
    put("metadata is nested", container({"__metadata__": {"a": {"b": "c"}}, **header}, data))


def st_entries(corpus, config):
    """What the header says of one tensor: its type, shape, place, name and number."""
    header, data = header_of(base_weights())
    text = json.dumps(header)

    def put(what, blob):
        corpus.model(what, {"config.json": config, "model.safetensors": blob}, "open")

    for name, _ in base_weights():
        entry = header[name]
        begin, end = entry["data_offsets"]

        def lie(what, name=name, entry=entry, **change):
            put(f"{name}: {what}", container({**header, name: {**entry, **change}}, data))

        for wrong in ["F33", "", "f32", "F16", "I64", "BOOL", "\x1b[31m", 1, None, ["F32"], {"a": "F32"}]:
            lie(f"dtype {wrong!r}", dtype=wrong)
        for wrong in [
            [],
            [0],
            [1],
            [-1, HIDDEN],
            entry["shape"] + [2],
            [1 << 32, 1 << 32],
            [(1 << 64) - 1],
            [1 << 63],
            [1 << 70],
            [1.5],
            ["8"],
            [None],
            [[8]],
            "8",
            8,
            None,
            {},
            [1] * 9,
        ]:
            lie(f"shape {wrong!r}", shape=wrong)
        for wrong in [
            [end, begin],
            [begin, end + 4],
            [begin + 4, end],
            [begin + 4, end + 4],
            [-4, end],
            [begin, 1 << 31],
            [begin, (1 << 63) - 1],
            [begin, (1 << 64) - 1],
            [1 << 63, 1 << 63],
            [begin],
            [],
            [begin, end, end],
            [begin, float(end)],
            [begin, str(end)],
            None,
            begin,
            [begin, 10**30],
        ]:
            lie(f"offsets {wrong!r}", data_offsets=wrong)
        for key in entry:
            put(f"{name} has no {key}", container({**header, name: {k: v for k, v in entry.items() if k != key}}, data))
        lie("has a further key", more=1)
        for wrong in [None, 1, "x", [], {}]:
            put(f"{name} is {wrong!r}", container({**header, name: wrong}, data))
        put(f"{name} is missing, a hole in the data", container({k: v for k, v in header.items() if k != name}, data))
        put(f"{name} twice", container(text[:-1] + "," + json.dumps({name: entry})[1:], data))
        put(f"{name} under two names", container({**header, "copy": entry}, data))
        put(f"{name} with a newline", container({name + "\n" if k == name else k: v for k, v in header.items()}, data))


def st_weights(corpus, config):
    weights = base_weights()
    for at, (name, shape) in enumerate(weights):
        rest = weights[:at] + weights[at + 1 :]
        for what, rows in [
            ("is missing", rest),
            ("has a row more", weights[:at] + [(name, [shape[0] + 1] + shape[1:])] + weights[at + 1 :]),
            ("has one dimension more", weights[:at] + [(name, shape + [1])] + weights[at + 1 :]),
            ("is empty", weights[:at] + [(name, [0] + shape[1:])] + weights[at + 1 :]),
        ]:
            corpus.model(f"{name} {what}", {"config.json": config, "model.safetensors": container(*header_of(rows))}, "bind")


def st_indexes(corpus, config):
    weights = base_weights()
    parts = {"model-00001-of-00002.safetensors": weights[:5], "model-00002-of-00002.safetensors": weights[5:]}
    shards = {name: container(*header_of(rows)) for name, rows in parts.items()}
    first, second = parts
    good = {name: shard for shard, rows in parts.items() for name, _ in rows}

    def put(what, index, files=None, stage="open"):
        text = index if isinstance(index, str) else json.dumps(index)
        corpus.model(what, {"config.json": config, "model.safetensors.index.json": text, **(shards if files is None else files)}, stage)

    def of(weight_map):
        return {"metadata": {"total_size": 1}, "weight_map": weight_map}

    put("a sound index", of(good), stage="valid")
    victim = weights[0][0]
    for wrong in [
        "../model-00001-of-00002.safetensors",
        "/etc/passwd",
        "/etc/passwd.safetensors",
        "a/../b.safetensors",
        "./" + first,
        "",
        ".",
        "..",
        "x.bin",
        "a\0.safetensors",
        "..\\x.safetensors" + "/",
        "x" * 300 + ".safetensors",
        "\n.safetensors",
        "\x1b[31m.safetensors",
        "nosuch.safetensors",
        second,
        "~/x.safetensors/..",
        "config.json",
        "model.safetensors.index.json",
        1,
        None,
        ["a"],
        {"a": "b"},
        True,
    ]:
        put(f"a tensor in {wrong!r}", of({**good, victim: wrong}))
    put("a tensor that no file has", of({**good, "ghost": first}))
    put("a tensor that the index leaves out", of({k: v for k, v in good.items() if k != victim}))
    put("an empty map", of({}))
    for wrong in [
        "",
        "[]",
        "{}",
        "null",
        "1",
        '{"weight_map": []}',
        '{"weight_map": null}',
        '{"weight_map": 1}',
        '{"weight_map": "x"}',
        "[" * 100000,
        '{"weight_map":' * 100000,
        json.dumps(of(good))[:-1],
        json.dumps(of(good)) + "x",
        '{"metadata":' + "[" * 1000 + "]" * 1000 + "}",
        json.dumps(of(good))[:-2] + ',"' + victim + '":"' + first + '"}}',
    ]:
        put(f"index {wrong[:16]!r}", wrong)
    text = json.dumps(of(good))
    for cut in range(1, len(text), 23):
        put(f"index cut at {cut}", text[:cut])
    for name in shards:
        put(f"{name} is missing", of(good), {k: v for k, v in shards.items() if k != name})
        put(f"{name} is empty", of(good), {**shards, name: b""})
        put(f"{name} is cut", of(good), {**shards, name: shards[name][:-1]})
        corpus.model(f"{name} alone, no index", {"config.json": config, name: shards[name]})
    put("both files are the same", of(good), {first: shards[first], second: shards[first]})


def st_configs(corpus):
    weights = container(*header_of(base_weights()))
    config = base_config()

    def put(what, text, stage="open"):
        corpus.model(what, {"config.json": text, "model.safetensors": weights}, stage)

    text = json.dumps(config)
    for cut in range(0, len(text), 5):
        put(f"config.json cut at {cut}", text[:cut])
    for wrong in [
        "[]",
        "[" + text + "]",
        "null",
        "1",
        '"x"',
        text + "x",
        text + text,
        "[" * 100000,
        '{"a":' * 100000,
        "\0" * 10,
        "NaN",
        "{'a': 1}",
        "{a: 1}",
        '{"a": "' + "x" * (5 << 20) + '"}',
        "\x1b[31m",
        text.replace("1e-05", "NaN"),
        text.replace("1e-05", "Infinity"),
        text.replace("1e-05", "1e999"),
        text.replace("1e-05", "0x1"),
        text.replace("1e-05", "01"),
    ]:
        put(f"config.json {wrong[:12]!r}", wrong)
    put("config.json is no UTF-8", text.encode().replace(b"llama", b"ll\xffma"))
    corpus.model("no config.json", {"model.safetensors": weights})
    corpus.model("no weights", {"config.json": text})
    corpus.model("an empty folder", {})
    corpus.model("generation_config.json is a list", {"config.json": text, "model.safetensors": weights, "generation_config.json": "[]"})
    for wrong in ["[]", "{", '{"chat_template": 1}', '{"chat_template": {}}', "[" * 100000]:
        corpus.model(
            f"tokenizer_config.json {wrong[:12]!r}", {"config.json": text, "model.safetensors": weights, "tokenizer_config.json": wrong}
        )


def st_config_values(corpus):
    weights = container(*header_of(base_weights()))
    config = base_config()

    def put(what, text, stage="open"):
        corpus.model(what, {"config.json": text, "model.safetensors": weights}, stage)

    numbers = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "max_position_embeddings",
    ]
    for key in numbers:
        for wrong in [
            "8",
            True,
            1e300,
            -1,
            0,
            10**9 if key != "max_position_embeddings" else 1 << 40,
            1.5,
            {},
            [[1]],
            [],
            "\x1b[31m",
            10**30,
            1 << 63,
        ]:
            lists = isinstance(wrong, list) and not wrong and key in ("intermediate_size", "num_attention_heads", "num_key_value_heads")
            put(f"{key} is {wrong!r}", json.dumps({**config, key: wrong}), "bind" if lists else "open")
    for key in ["rms_norm_eps", "rope_theta"]:
        for wrong in ["1", True, 0, -1e-5, [], {}, [1e-5]]:
            put(f"{key} is {wrong!r}", json.dumps({**config, key: wrong}))
    for key, wrong in [
        ("model_type", 1),
        ("model_type", ["llama"]),
        ("model_type", {}),
        ("rope_scaling", 4),
        ("rope_scaling", "linear"),
        ("rope_scaling", [4]),
        ("rope_scaling", {"type": 1}),
        ("rope_scaling", {"rope_type": ["a"]}),
        ("rope_scaling", {"type": "linear", "factor": 0}),
        ("rope_scaling", {"type": "linear", "factor": "4"}),
        ("rope_scaling", {"type": "linear", "factor": -1}),
        ("rope_parameters", 4),
        ("rope_parameters", {"rope_theta": "x"}),
        ("rope_parameters", {"rope_type": 1}),
    ]:
        changed = {**config, key: wrong}
        if key == "rope_parameters":
            changed.pop("rope_theta")
        put(f"{key} is {wrong!r}", json.dumps(changed))
    config = {k: v for k, v in config.items() if k != "architectures"}  # which names the family where model_type does not
    for key in ["model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]:
        put(f"no {key}", json.dumps({k: v for k, v in config.items() if k != key}), "bind")
        put(f"{key} is null", json.dumps({**config, key: None}), "bind")
    for key, wrong in [
        ("model_type", "nosuch"),
        ("hidden_size", 64),
        ("num_hidden_layers", 2),
        ("num_attention_heads", 3),
        ("num_key_value_heads", 3),
        ("intermediate_size", 96),
        ("vocab_size", 261),
        ("rope_scaling", {"type": "nosuch", "factor": 2.0}),
    ]:
        put(f"{key} is {wrong!r}", json.dumps({**config, key: wrong}), "bind")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if (args.out / "manifest.jsonl").exists():
        shutil.rmtree(args.out)  # an earlier corpus
    args.out.mkdir(parents=True)  # a folder of its own: nothing of yours is overwritten
    rng = random.Random(args.seed)
    corpus = Corpus(args.out)

    meta, tensors = base_metadata(), base_tensors()
    base = write_gguf(meta, tensors)
    config = json.dumps(base_config())
    corpus.file("a sound GGUF file", base.out, "valid")
    corpus.model("a sound folder", {"config.json": config, "model.safetensors": container(*header_of(base_weights()))}, "valid")
    gguf_fields(corpus, write_gguf(meta, tensors), rng)
    gguf_truncations(corpus, base, rng)
    gguf_flips(corpus, base, rng)
    gguf_containers(corpus, meta, tensors)
    gguf_models(corpus, meta, tensors)
    gguf_tokenizers(corpus, meta, tensors)
    gguf_splits(corpus, meta, tensors)
    gguf_others(corpus, bytes(base.out))
    st_headers(corpus, config, rng)
    st_entries(corpus, config)
    st_weights(corpus, config)
    st_indexes(corpus, config)
    st_configs(corpus)
    st_config_values(corpus)
    corpus.close()
    print(f"{len(corpus.lines)} cases in {args.out}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""hadal quantize beside llama.cpp's own quantiser (oracle venv, and llama-cpp-python 0.3.36).

    check_quantize.py BINARY MODEL [--types q8_0 q4_0 …] [--tokens 256] [--text FILE] [--weights native] [--work DIR]

MODEL (a folder or a GGUF) is written as a BF16 file by Hadal; from that one file both quantise to every type. Reported for each:
the mean KL of Hadal's logits of the quantised file to those of the BF16 file over a text (random ids where MODEL has no tokenizer),
for both files, their ratio, their sizes, and how many tensors have another type in one than in the other. Fails where Hadal's KL is
more than 1.05 times llama.cpp's, and where the package gguf dequantises a tensor of Hadal's file to other bits than Hadal does.
Where llama.cpp refuses the file (rows that are no whole blocks, with q8_0 and q4_0), Hadal's numbers stand alone.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from gguf.quants import dequantize

ROOT = Path(__file__).resolve().parent.parent
FILE_TYPES = {"q8_0": 7, "q4_0": 2, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}
LIMIT = 1.05
MOST_VALUES = 1 << 26  # of a tensor that is compared bit for bit
PLAIN = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.I32)


def hadal(binary: str, *args: str, stdin: str | None = None) -> str:
    done = subprocess.run([binary, *args], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"hadal {' '.join(args)}: {done.stderr}")
    return done.stdout


def prompt_ids(binary: str, model: str, text: Path, tokens: int) -> str:
    listed = subprocess.run([binary, "tokenize", model, "--text", text.read_text(), "--json"], capture_output=True, text=True)
    if listed.returncode == 0:
        ids = json.loads(listed.stdout)[:tokens]
    else:
        rng = random.Random(11)
        rows = int(json.loads(hadal(binary, "inspect", model, "--json"))["spec"]["vocab_size"])
        ids = [rng.randrange(rows) for _ in range(tokens)]
    return ",".join(map(str, ids))


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


class Measure:
    def __init__(self, binary: str, ids: str, weights: str, work: Path) -> None:
        self.binary, self.ids, self.weights, self.work = binary, ids, weights, work
        self.exact = np.empty(0)

    def log_probs(self, model: Path) -> np.ndarray:
        out = self.work / "logits.npy"
        hadal(self.binary, "logits", str(model), "--ids", "-", "--out", str(out), "--weights", self.weights, stdin=self.ids)
        return log_softmax(np.load(out))

    def kl(self, model: Path) -> float:
        other = self.log_probs(model)
        return float((np.exp(self.exact) * (self.exact - other)).sum(axis=1).mean())


def llama_quantize(source: Path, out: Path, kind: str) -> bool:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[kind]
    return llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)) == 0


def types_of(path: Path) -> dict[str, gguf.GGMLQuantizationType]:
    return {t.name: t.tensor_type for t in gguf.GGUFReader(path).tensors}


def same_bits(binary: str, path: Path, work: Path) -> list[str]:
    """Tensors that Hadal decodes to other bits than the package gguf."""
    decoded = work / "decoded.gguf"
    hadal(binary, "quantize", str(path), str(decoded), "--type", "f32", "--allow-requantize", "--force")
    mine = {t.name: t for t in gguf.GGUFReader(decoded).tensors}
    wrong = []
    for t in gguf.GGUFReader(path).tensors:
        if t.tensor_type in PLAIN or t.n_elements > MOST_VALUES:
            continue
        theirs = dequantize(t.data, t.tensor_type).astype(np.float32).reshape(-1)
        if not np.array_equal(theirs.view(np.uint32), np.ascontiguousarray(mine[t.name].data).reshape(-1).view(np.uint32)):
            wrong.append(t.name)
    decoded.unlink()
    return wrong


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("model")
    a.add_argument("--types", nargs="+", default=list(FILE_TYPES), choices=list(FILE_TYPES))
    a.add_argument("--tokens", type=int, default=256)
    a.add_argument("--text", type=Path, default=ROOT / "docs" / "numerics.md")
    a.add_argument("--weights", default="native", choices=["native", "f32"])
    a.add_argument("--work", type=Path, help="where the files are written (several times the model's size); a temporary folder")
    args = a.parse_args()
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="hadal-quantize-", dir=args.work) as scratch:
        work = Path(scratch)
        source = work / "bf16.gguf"
        hadal(args.binary, "quantize", args.model, str(source), "--type", "bf16", "--allow-requantize")
        measure = Measure(args.binary, prompt_ids(args.binary, args.model, args.text, args.tokens), args.weights, work)
        measure.exact = measure.log_probs(source)
        print(f"{Path(args.model).name}: {len(measure.exact)} tokens, BF16 {source.stat().st_size / 1e6:.1f} MB")
        print(f"{'type':8} {'KL':>11} {'llama.cpp':>11} {'ratio':>7} {'MB':>9} {'llama.cpp':>9}  tensors of another type")
        for kind in args.types:
            ours, theirs = work / "hadal.gguf", work / "llama.gguf"
            hadal(args.binary, "quantize", str(source), str(ours), "--type", kind, "--force")
            kl = measure.kl(ours)
            line = f"{kind:8} {kl:11.4e}"
            if llama_quantize(source, theirs, kind):
                other = measure.kl(theirs)
                mine, its = types_of(ours), types_of(theirs)
                differ = [n for n in mine if mine[n] != its.get(n)]
                line += f" {other:11.4e} {kl / other:7.3f}"
                line += f" {ours.stat().st_size / 1e6:9.1f} {theirs.stat().st_size / 1e6:9.1f}  {len(differ)}"
                line += "".join(f" {n} {mine[n].name}/{its[n].name}" for n in differ[:2] if n in its)
                bad += kl > LIMIT * other
            else:
                line += f" {'refused':>11} {'':7} {ours.stat().st_size / 1e6:9.1f}"
            print(line, flush=True)
            wrong = same_bits(args.binary, ours, work)
            bad += len(wrong)
            if wrong:
                print(f"  the package gguf decodes {len(wrong)} tensors to other bits, {wrong[0]} first")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""hadal quantize beside llama.cpp's own quantiser (oracle venv, and llama-cpp-python 0.3.36).

    check_quantize.py BINARY MODEL [--types q8_0 q4_0 …] [--tokens 256] [--text FILE] [--weights native] [--work DIR]

MODEL (a folder or a GGUF; "wide-v3": a random V3 in FP8 with rows of whole super-blocks) is written as a BF16 file by Hadal; from that
one file both quantise to every type. Reported for each: the mean KL of Hadal's logits of the quantised file to those of the BF16 file,
for both files, their ratio with its standard error, their sizes, and how many tensors have another type in one than in the other. The
tokens are those of a text, or eight prompts of random ids where MODEL has no tokenizer: a random mixture of experts chooses others at
the least difference, and few tokens show nothing. Fails where Hadal's KL is more than 1.05 times llama.cpp's by more than twice the
standard error, and where the package gguf dequantises a tensor of Hadal's file to other bits than Hadal does. Where llama.cpp refuses
the file, Hadal's numbers stand alone.
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
import torch
from gguf.quants import dequantize

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "generate"))
import make_golden
import tiny_deepseek
import tiny_models

ROOT = Path(__file__).resolve().parents[2]
FILE_TYPES = {"q8_0": 7, "q4_0": 2, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}
LIMIT = 1.05
MOST_VALUES = 1 << 26  # of a tensor that is compared bit for bit
PLAIN = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.I32)


WIDE_V3 = {
    "hidden_size": 512,
    "intermediate_size": 768,
    "moe_intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "n_routed_experts": 16,
    "n_group": 4,
    "topk_group": 2,
    "q_lora_rank": 256,
    "kv_lora_rank": 256,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
}


def write_wide_v3(folder: Path) -> None:
    tiny = tiny_deepseek.random_weights(make_golden.CONFIGS["deepseek-v3-fp8"] | WIDE_V3, 23)
    tiny_models.to_fp8(tiny, torch.float32)
    tiny_models.save_folder(tiny, folder)


def hadal(binary: str, *args: str, stdin: str | None = None) -> str:
    done = subprocess.run([binary, *args], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"hadal {' '.join(args)}: {done.stderr}")
    return done.stdout


def prompts(binary: str, model: str, text: Path, tokens: int) -> list[str]:
    listed = subprocess.run([binary, "tokenize", model, "--text", text.read_text(), "--json"], capture_output=True, text=True)
    if listed.returncode == 0:
        return [",".join(map(str, json.loads(listed.stdout)[:tokens]))]
    spec = json.loads(hadal(binary, "inspect", model, "--json"))["spec"]
    rng = random.Random(11)
    length = min(500, int(spec["max_position_embeddings"]))
    return [",".join(str(rng.randrange(int(spec["vocab_size"]))) for _ in range(length)) for _ in range(8)]


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


class Measure:
    def __init__(self, binary: str, ids: list[str], weights: str, work: Path) -> None:
        self.binary, self.ids, self.weights, self.out = binary, ids, weights, work / "logits.npy"
        self.exact = np.empty(0)

    def log_probs(self, model: Path) -> np.ndarray:
        parts = []
        for ids in self.ids:
            hadal(self.binary, "logits", str(model), "--ids", "-", "--out", str(self.out), "--weights", self.weights, stdin=ids)
            parts.append(log_softmax(np.load(self.out)))
        return np.concatenate(parts)

    def kls(self, model: Path) -> np.ndarray:
        other = self.log_probs(model)
        return (np.exp(self.exact) * (self.exact - other)).sum(axis=1)


def ratio_of(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Of the means, and its standard error (positions taken as independent)."""
    ratio = ours.mean() / theirs.mean()
    return ratio, float((ours - ratio * theirs).std() / theirs.mean() / len(ours) ** 0.5)


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
        source, model = work / "bf16.gguf", args.model
        if model == "wide-v3":
            model = str(work / model)
            write_wide_v3(Path(model))
        hadal(args.binary, "quantize", model, str(source), "--type", "bf16", "--allow-requantize")
        measure = Measure(args.binary, prompts(args.binary, model, args.text, args.tokens), args.weights, work)
        measure.exact = measure.log_probs(source)
        print(f"{Path(model).name}: {len(measure.exact)} tokens, BF16 {source.stat().st_size / 1e6:.1f} MB")
        print(f"{'type':8} {'KL':>11} {'llama.cpp':>11} {'ratio':>13} {'MB':>9} {'llama.cpp':>9}  tensors of another type")
        for kind in args.types:
            ours, theirs = work / "hadal.gguf", work / "llama.gguf"
            hadal(args.binary, "quantize", str(source), str(ours), "--type", kind, "--force")
            kls = measure.kls(ours)
            line = f"{kind:8} {kls.mean():11.4e}"
            if llama_quantize(source, theirs, kind):
                other = measure.kls(theirs)
                ratio, error = ratio_of(kls, other)
                mine, its = types_of(ours), types_of(theirs)
                differ = [n for n in mine if mine[n] != its.get(n)]
                line += f" {other.mean():11.4e} {ratio:6.3f} ±{error:5.3f}"
                line += f" {ours.stat().st_size / 1e6:9.1f} {theirs.stat().st_size / 1e6:9.1f}  {len(differ)}"
                line += "".join(f" {n} {mine[n].name}/{its[n].name}" for n in differ[:2] if n in its)
                bad += ratio - 2 * error > LIMIT
            else:
                line += f" {'refused':>11} {'':13} {ours.stat().st_size / 1e6:9.1f}"
            print(line, flush=True)
            wrong = same_bits(args.binary, ours, work)
            bad += len(wrong)
            if wrong:
                print(f"  the package gguf decodes {len(wrong)} tensors to other bits, {wrong[0]} first")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

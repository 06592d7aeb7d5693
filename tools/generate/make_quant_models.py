#!/usr/bin/env python3
"""Writes tiny GGUF models, one a quantised type and architecture, or checks the program on them (oracle venv).

    make_quant_models.py FOLDER [--arch llama,qwen2,qwen3] [--types Q4_K,…]       writes FOLDER/ARCH-TYPE.gguf
    make_quant_models.py FOLDER --check BINARY [--chips ref,cpu]                  native weights against --weights f32

Every matrix of a file has its type; where the gguf package has no quantiser, blocks are random valid bytes with scales that give
weights of spread 1/sqrt(K). The check compares native weights with decoded ones: a chip that decodes exactly (ref) must give a
KL below 1e-6 at every position, one that quantises activations (cpu) a mean KL of at most 5e-3.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tiny_models
from gguf import GGMLQuantizationType as Q

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import npy

CONFIG = {
    "vocab_size": 320,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


def write(folder: Path, archs: list[str], kinds: list[Q]) -> None:
    for arch in archs:
        for kind in kinds:
            tiny = tiny_models.random_weights(CONFIG | {"model_type": arch}, seed=int(kind))
            tiny_models.save_gguf(tiny, folder / f"{arch}-{kind.name}.gguf", lambda name, kind=kind: kind, seed=int(kind) + 1)
    print(f"{len(archs) * len(kinds)} models in {folder}")


def logits(binary: str, model: Path, chip: str, weights: str, ids: str, out: Path) -> list:
    subprocess.run(
        [binary, "logits", str(model), "--ids", ids, "--out", str(out), "--chip", chip, "--weights", weights, "--kv-cache-dtype", "f32"],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return npy.load(out)


def check(folder: Path, binary: str, chips: list[str]) -> int:
    ids = ",".join(map(str, np.random.default_rng(5).integers(0, CONFIG["vocab_size"], 70)))
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "logits.npy"
        for model in sorted(folder.glob("*.gguf")):
            said, good = [], True
            try:
                reference = logits(binary, model, "ref", "f32", ids, out)
                for chip in chips:
                    found = npy.kls(reference, logits(binary, model, chip, "native", ids, out))
                    mean, worst = sum(found) / len(found), max(found)
                    good &= worst < 1e-6 if chip == "ref" else mean <= 5e-3
                    said.append(f"{chip}: mean {mean:8.1e} max {worst:8.1e}")
            except subprocess.CalledProcessError as why:
                good, said = False, [f"exit {why.returncode}: {why.stderr.decode(errors='replace').strip()[-200:]}"]
            passed, failed = passed + good, failed + (not good)
            print(f"{model.stem:18} {'   '.join(said)}   {'ok' if good else 'FAILED'}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder", type=Path)
    a.add_argument("--arch", default="llama,qwen2,qwen3")
    a.add_argument("--types", default=",".join(kind.name for kind in tiny_models.ALL_TYPES))
    a.add_argument("--check", metavar="BINARY")
    a.add_argument("--chips", default="ref,cpu")
    args = a.parse_args()
    if args.check:
        return check(args.folder, args.check, args.chips.split(","))
    write(args.folder, args.arch.split(","), [Q[name] for name in args.types.split(",")])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

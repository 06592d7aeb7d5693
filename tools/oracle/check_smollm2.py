#!/usr/bin/env python3
"""Compares SmolLM2 with transformers in float32 on the very weights that the GGUF file decodes to (oracle venv).

    check_smollm2.py BINARY MODEL.gguf [--new 48] [--chips ref,cpu]
    check_smollm2.py --golden MODEL.gguf        write tests/golden_smollm2.json, what `make test` compares with

Three prompts, each continued greedily. `ref` with a float32 cache must choose the same tokens with a KL of at most 1e-5 at every
position; `cpu` on native weights must keep a mean KL of 5e-3 at most on the same text; and on both chips a prompt run whole must
give the same bits as one run token by token.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf.quants import dequantize

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "generate"))
import tiny_models  # noqa: E402

QUESTIONS = (
    "What is the capital of France?",
    "Write one sentence about the deep sea.",
    "List three prime numbers and say why they are prime.",
)


def field(reader: gguf.GGUFReader, key: str) -> Any:
    return reader.fields[key].contents()


def oracle(reader: gguf.GGUFReader) -> Any:
    """LlamaForCausalLM with the decoded weights, rows of q and k in the official order."""
    tensors = {
        t.name: dequantize(t.data, t.tensor_type).astype(np.float32).reshape([int(n) for n in reversed(t.shape)]) for t in reader.tensors
    }
    heads, kv = int(field(reader, "llama.attention.head_count")), int(field(reader, "llama.attention.head_count_kv"))
    config = transformers.LlamaConfig(
        vocab_size=tensors["token_embd.weight"].shape[0],
        hidden_size=int(field(reader, "llama.embedding_length")),
        intermediate_size=int(field(reader, "llama.feed_forward_length")),
        num_hidden_layers=int(field(reader, "llama.block_count")),
        num_attention_heads=heads,
        num_key_value_heads=kv,
        rms_norm_eps=float(field(reader, "llama.attention.layer_norm_rms_epsilon")),
        max_position_embeddings=int(field(reader, "llama.context_length")),
        rope_theta=float(field(reader, "llama.rope.freq_base")),
        tie_word_embeddings="output.weight" not in tensors,
        attn_implementation="eager",
    )
    model = transformers.LlamaForCausalLM(config).float().eval()
    names = [n for n in model.state_dict() if n != "lm_head.weight" or not config.tie_word_embeddings]
    weights = {}
    for name in names:
        value = tensors.pop(tiny_models.gguf_name(name))
        count = {"q_proj": heads, "k_proj": kv}.get(name.split(".")[-2])
        weights[name] = torch.from_numpy(np.ascontiguousarray(tiny_models.unpermute(value, count) if count else value))
    if tensors:
        raise SystemExit(f"tensors that the oracle does not know: {sorted(tensors)}")
    model.load_state_dict(weights, strict=not config.tie_word_embeddings)
    return model


def prompts(reader: gguf.GGUFReader) -> list[list[int]]:
    """The three questions in ChatML, by the tokenizer in the file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field(reader, "tokenizer.ggml.merges")]
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, merges))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(
        [AddedToken(s, special=True, normalized=False) for s, kind in zip(tokens, field(reader, "tokenizer.ggml.token_type")) if kind == 3]
    )
    system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    return [t.encode(f"{system}<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n").ids for q in QUESTIONS]


@torch.no_grad()
def continued(model: Any, ids: list[int], new: int) -> tuple[list[int], np.ndarray, float]:
    """The greedy continuation, the logits of every position of both, and the closest choice among the new tokens."""
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids)),
        do_sample=False,
        max_new_tokens=new,
        min_new_tokens=new,
        eos_token_id=None,
        pad_token_id=0,
    )[0]
    logits = model(out[None], use_cache=False).logits[0].numpy()
    top = np.sort(logits[len(ids) - 1 : -1], axis=1)[:, -2:]
    return out[len(ids) :].tolist(), logits, float((top[:, 1] - top[:, 0]).min())


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64) - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def kls(reference: np.ndarray, found: np.ndarray) -> np.ndarray:
    p, q = log_softmax(reference), log_softmax(found)
    return (np.exp(p) * (p - q)).sum(axis=1)


def run(args: list[str]) -> str:
    done = subprocess.run(args, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{' '.join(args[:3])}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("paths", nargs="+", metavar="[BINARY] MODEL")
    a.add_argument("--new", type=int, default=48)
    a.add_argument("--chips", default="ref,cpu")
    a.add_argument("--golden", action="store_true")
    args = a.parse_args()
    binary, file = args.paths[0], args.paths[-1]
    reader = gguf.GGUFReader(file)
    model, stored, passed, failed = oracle(reader), [], 0, 0

    def judge(what: str, good: bool) -> None:
        nonlocal passed, failed
        passed, failed = passed + good, failed + (not good)
        print(f"  {what}   {'ok' if good else 'FAILED'}", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        out = f"{scratch}/logits.npy"
        for question, ids in zip(QUESTIONS, prompts(reader)):
            greedy, reference, margin = continued(model, ids, args.new)
            print(f"{question} ({len(ids)} tokens, closest choice {margin:.1e})", flush=True)
            if args.golden:
                last = log_softmax(reference[len(ids) - 1 : len(ids)])[0]
                top = np.argsort(-last)[:16]
                stored.append(
                    {
                        "text": question,
                        "ids": ids,
                        "greedy": greedy,
                        "margin": margin,
                        "top": [[int(i), round(float(last[i]), 6)] for i in top],
                    }
                )
                continue
            text = ",".join(map(str, ids + greedy))
            for chip in args.chips.split(","):
                base = [binary, "logits", file, "--ids", text, "--chip", chip, "--out", out]
                exact = ["--kv-cache-dtype", "f32"] if chip == "ref" else []
                run(base + exact)
                whole = Path(out).read_bytes()
                found = kls(reference, np.load(out))
                good = found.max() <= 1e-5 if chip == "ref" else found.mean() <= 5e-3
                judge(f"{chip}: KL mean {found.mean():.2e}, max {found.max():.2e}", bool(good))
                run([*base, *exact, "--chunk", "1"])
                judge(f"{chip}: whole prompt and token by token give the same bits", Path(out).read_bytes() == whole)
                said = run(
                    [
                        binary,
                        "generate",
                        file,
                        "--ids",
                        ",".join(map(str, ids)),
                        "--max-new",
                        str(args.new),
                        "--greedy",
                        "--ignore-eos",
                        "--print-ids",
                        "--chip",
                        chip,
                        *exact,
                    ]
                )
                same = sum(a == b for a, b in zip(said.split(","), map(str, greedy)))
                if chip == "ref":
                    judge(f"{chip}: {same} of {args.new} greedy tokens the same", same == args.new)
                else:
                    print(f"  {chip}: {same} of {args.new} greedy tokens the same (for information)")
    if args.golden:
        target = ROOT / "tests" / "golden_smollm2.json"
        target.write_text(
            json.dumps(
                {"model": Path(file).name, "versions": {p: version(p) for p in ("transformers", "torch", "gguf")}, "prompts": stored}
            )
            + "\n"
        )
        return 0
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""The mathematics of DeepSeek-V4.1's text model in double precision, one function an equation (oracle venv).

    deepseek_v41_reference.py FOLDER...     reads each folder's files, runs the prompts of its golden.json, whole and in chunks of 7,
                                            and tells how far the stored logits are

transformers has no such class yet; this is written from what is known of the model, not from anyone's code. Not reproduced, on purpose:
the roundings that DeepSeek's own program simulates or makes (FP8 and FP4 activations and caches, FP8 before an expert's w2, BF16 between
the sublayers), its index-key slot that layers overwrite for one another, image tokens (gate.bias_vl, the vision tower; the hash of a dead
id is here), DSpark's drafts (mtp.*). Rotary frequencies and angles are rounded to float32, as every implementation has them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
DEAD = -1  # the compressed id of an image token


# --- Engram: token table and hash --------------------------------------------------------------------------------------------


def token_table(tokenizer: Any) -> list[int]:
    """Of every id of a `tokenizers.Tokenizer` the compressed id, which texts share that differ in case, accents and blanks alone."""
    from tokenizers import Regex
    from tokenizers import normalizers as n

    blank = "\ue000"  # keeps a lone blank from being stripped
    normal = n.Sequence(
        [
            n.NFKC(),
            n.NFD(),
            n.StripAccents(),
            n.Lowercase(),
            n.Replace(Regex("[ \t\r\n]+"), " "),
            n.Replace(Regex("^ $"), blank),
            n.Strip(),
            n.Replace(blank, " "),
        ]
    )
    numbers: dict[str, int] = {}
    table = []
    for i in range(tokenizer.get_vocab_size(with_added_tokens=True)):
        text = tokenizer.decode([i], skip_special_tokens=False)
        key = tokenizer.id_to_token(i) if "\ufffd" in text else normal.normalize_str(text) or text
        table.append(numbers.setdefault(key, len(numbers)))
    return table


def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def hash_primes(c: Mapping[str, Any]) -> list[list[list[int]]]:
    """[engram layer][size - 2][head]: the rows of each head's part of the table; no prime is used twice."""
    used: set[int] = set()

    def above(n: int) -> int:
        n += 1
        while n in used or not is_prime(n):
            n += 1
        used.add(n)
        return n

    out = []
    for _ in c["engram_layer_ids"]:
        sizes = []
        for _ in range(2, c["engram_max_ngram_size"] + 1):
            heads = [c["engram_vocab_size"] - 1]
            for _ in range(c["engram_n_heads"]):
                heads.append(above(heads[-1]))
            sizes.append(heads[1:])
        out.append(sizes)
    return out


def hash_multipliers(layer: int, max_ngram: int, compressed_vocab: int) -> list[int]:
    """One odd number for each look back; its product with an id fits into 63 bits."""
    bound = max(1, (2**63 - 1) // compressed_vocab // 2)
    return [2 * int(v) + 1 for v in np.random.default_rng(10007 * layer).integers(0, bound, size=max_ngram, dtype=np.int64)]


def look_back(ids: Sequence[int], t: int, count: int, pad: int) -> list[int]:
    """ids[t], ids[t - 1], ...; from the start of the sequence or a dead id on, `pad`."""
    found: list[int] = []
    for s in range(t, t - count, -1):
        if s < 0 or ids[s] == DEAD:
            break
        found.append(ids[s])
    return found + [pad] * (count - len(found))


def hash_rows(ids: Sequence[int], first: int, multipliers: Sequence[int], primes: Sequence[Sequence[int]], pad: int) -> Array:
    """Rows of a layer's table for the positions from `first` on; `ids` are compressed.   [positions, sizes * heads]"""
    rows = []
    for t in range(first, len(ids)):
        products = [c * m for c, m in zip(look_back(ids, t, len(multipliers), pad), multipliers)]
        mixed, offset, row = products[0], 0, []
        for product, heads in zip(products[1:], primes):
            mixed ^= product
            for prime in heads:
                row.append(mixed % prime + offset)
                offset += prime
        rows.append(row)
    return np.array(rows, np.int64).reshape(len(ids) - first, -1)


# --- pieces ------------------------------------------------------------------------------------------------------------------


def rms(x: Array, eps: float) -> Array:
    return np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def frequencies(theta: float, dims: int, yarn: Mapping[str, Any] | None) -> Array:
    f = theta ** (-np.arange(0, dims, 2) / dims)
    if yarn is None:
        return f

    def dim(rotations: float) -> float:
        return dims * math.log(yarn["original_max_position_embeddings"] / (2 * math.pi * rotations)) / (2 * math.log(theta))

    low, high = max(math.floor(dim(yarn["beta_fast"])), 0), min(math.ceil(dim(yarn["beta_slow"])), dims - 1)
    ramp = np.clip((np.arange(dims // 2) - low) / (high - low if high > low else 0.001), 0, 1)
    return f / yarn["factor"] * ramp + f * (1 - ramp)


def rotate(x: Array, angles: Array) -> Array:
    """The last numbers of x, in pairs of neighbours, turned.   x [T, ..., dim], angles [T, pairs]"""
    pairs = angles.shape[-1]
    angles = angles.reshape(angles.shape[0], *[1] * (x.ndim - 2), pairs)
    out = x.copy()
    a, b = x[..., -2 * pairs :: 2], x[..., 1 - 2 * pairs :: 2]
    out[..., -2 * pairs :: 2] = a * np.cos(angles) - b * np.sin(angles)
    out[..., 1 - 2 * pairs :: 2] = a * np.sin(angles) + b * np.cos(angles)
    return out


def sinkhorn(logits: Array, iterations: int, eps: float) -> Array:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    c = e / e.sum(-1, keepdims=True) + eps
    c = c / (c.sum(-2, keepdims=True) + eps)
    for _ in range(iterations - 1):
        c = c / (c.sum(-1, keepdims=True) + eps)
        c = c / (c.sum(-2, keepdims=True) + eps)
    return c


def best(score: Array, allowed: Array, k: int) -> tuple[Array, float]:
    """Of each row the k largest allowed scores as a mask, the lower index first among equals; and how close the choice was."""
    masked = np.where(allowed, score, -np.inf)
    order = np.argsort(-masked, axis=1, kind="stable")
    chosen = np.zeros_like(allowed)
    np.put_along_axis(chosen, order[:, :k], True, axis=1)
    gap = math.inf
    if score.shape[1] > k:
        ranked = np.take_along_axis(masked, order[:, k - 1 : k + 1], axis=1)
        ranked = ranked[np.isfinite(ranked[:, 1])]
        gap = float((ranked[:, 0] - ranked[:, 1]).min(initial=math.inf))
    return chosen & allowed, gap


# --- the model ---------------------------------------------------------------------------------------------------------------


class Reference:
    """`step` runs further tokens of one sequence and gives their logits; `logits` starts anew.

    config: the text_config. weights: decoded, under the checkpoint's names. table: of each token id the compressed id.
    closest: since the start, the smallest lead of a chosen entry, candidate block or expert before one that was not chosen.
    watch: if set, is called with a name and an array for the streams before and after each sublayer, and for the choices.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Array], table: Sequence[int]) -> None:
        c = self.c = dict(config)
        self.w = {n: np.asarray(v, np.float64) for n, v in weights.items()}
        self.table = list(table)
        assert not c["engram_layer_ids"] or max(self.table) + 1 == c["engram_compressed_vocab_size"], max(self.table) + 1
        self.primes = dict(zip(c["engram_layer_ids"], hash_primes(c)))
        self.multipliers = {i: hash_multipliers(i, c["engram_max_ngram_size"], c["engram_compressed_vocab_size"]) for i in self.primes}
        self.main = frequencies(c["rope_theta"], c["qk_rope_head_dim"], None)
        self.compress = frequencies(c["compress_rope_theta"], c["qk_rope_head_dim"], c["rope_scaling"])
        self.watch: Callable[[str, Array], None] | None = None
        self.restart()

    def restart(self) -> None:
        self.first = 0  # positions that have been run
        self.ids: list[int] = []  # compressed
        self.kept: dict[str, Array] = {}  # caches: rows so far
        self.source = -1  # the layer whose entries are used
        self.chosen: Array | None = None  # which of them, and which may be, in this step
        self.candidates: Array | None = None
        self.closest = {"entry": math.inf, "block": math.inf, "expert": math.inf}

    def keep(self, name: str, rows: Array) -> Array:
        self.kept[name] = np.concatenate([self.kept[name], rows]) if name in self.kept else rows
        return self.kept[name]

    def see(self, name: str, value: Array) -> None:
        if self.watch:
            self.watch(name, value)

    def matmul(self, x: Array, name: str) -> Array:
        return x @ self.w[name + ".weight"].T

    def norm(self, x: Array, name: str) -> Array:
        return x / rms(x, self.c["rms_norm_eps"]) * self.w[name + ".weight"]

    def angles(self, layer: int, positions: Array) -> Array:
        f = self.compress if self.c["compress_ratios"][layer] else self.main
        return (positions.astype(np.float32)[:, None] * f.astype(np.float32)).astype(np.float64)

    def hyper(self, x: Array, p: str) -> tuple[Array, Array, Array]:
        """pre, post, comb of one site."""
        c, n = self.c, self.c["hc_mult"]
        flat = x.reshape(len(x), -1)
        m = flat / rms(flat, c["rms_norm_eps"]) @ self.w[p + "fn"].T
        base, (s0, s1, s2) = self.w[p + "base"], self.w[p + "scale"]
        pre = sigmoid(s0 * m[:, :n] + base[:n]) + c["hc_eps"]
        post = 2 * sigmoid(s1 * m[:, n : 2 * n] + base[n : 2 * n])
        comb = sinkhorn((s2 * m[:, 2 * n :] + base[2 * n :]).reshape(-1, n, n), c["hc_sinkhorn_iters"], c["hc_eps"])
        return pre, post, comb

    def engram(self, x: Array, layer: int) -> Array:
        c, p = self.c, f"layers.{layer}.engram."
        n, d = x.shape[1:]
        rows = hash_rows(self.ids, self.first, self.multipliers[layer], self.primes[layer], self.table[c["engram_pad_id"]])
        self.see(p + "rows", rows)
        both = self.matmul(self.w[p + "embed.weight"][rows].reshape(len(x), -1), p + "wkv")
        key, value = both[:, : n * d].reshape(-1, n, d), both[:, None, n * d :]
        unit = x / rms(x, c["rms_norm_eps"]) * self.w[p + "q_weight"] * key / rms(key, c["rms_norm_eps"]) * self.w[p + "k_weight"]
        dot = unit.sum(-1, keepdims=True) / math.sqrt(d)
        return x + sigmoid(np.copysign(np.sqrt(np.maximum(np.abs(dot), 1e-6)), dot)) * value

    def compressor(self, y: Array, layer: int) -> None:
        """Adds the entries and index keys of the groups that are complete now."""
        p, r = f"layers.{layer}.attn.", self.c["compress_ratios"][layer]
        kv = self.keep(p + "kv rows", self.matmul(y, p + "compressor.wkv"))
        gate = self.keep(p + "gate rows", self.matmul(y, p + "compressor.wgate")) if r > 1 else np.zeros_like(kv)
        groups = np.arange(self.first // r, len(kv) // r)
        at = slice(groups[0] * r, (groups[-1] + 1) * r) if len(groups) else slice(0)
        kv, gate = (v[at].reshape(-1, r, v.shape[1]) for v in (kv, gate))
        e = np.exp(gate - gate.max(1, keepdims=True))
        latent = self.norm((e / e.sum(1, keepdims=True) * kv).sum(1), p + "compressor.norm")
        angles = self.angles(layer, groups * r)
        self.keep(p + "entries", rotate(latent, angles))
        self.keep(p + "keys", rotate(self.norm(self.matmul(latent, p + "indexer.wk"), p + "indexer.k_norm"), angles))

    def indexer(self, y: Array, c_q: Array, layer: int, visible: Array) -> Array:
        """Which entries each position attends to.   visible, result [T, entries]"""
        c, p = self.c, f"layers.{layer}.attn.indexer."
        heads, dim = c["index_n_heads"], c["index_head_dim"]
        q = rotate(self.matmul(c_q, p + "wq_b").reshape(len(y), heads, dim), self.angles(layer, self.positions))
        dots = np.maximum(q @ self.kept[f"layers.{self.source}.attn.keys"].T, 0)
        score = np.einsum("th,the->te", self.matmul(y, p + "weights_proj") / math.sqrt(dim * heads), dots)
        self.see(p + "score", score)
        if self.candidates is not None:
            visible = visible & self.candidates
        chosen, gap = best(score, visible, c["index_topk"])
        self.closest["entry"] = min(self.closest["entry"], gap)
        if layer == c["candidate_source_layer_id"]:
            self.candidates = self.candidate_blocks(score, visible)
        return chosen

    def candidate_blocks(self, score: Array, visible: Array) -> Array:
        """Which entries lie in the best blocks."""
        size, (rows, entries) = self.c["candidate_block_size"], score.shape
        padded = np.full((rows, -(-entries // size) * size), -np.inf)
        padded[:, :entries] = np.where(visible, score, -np.inf)
        block = padded.reshape(rows, -1, size).max(-1)
        last = visible.sum(1) - 1
        block[last >= 0, last[last >= 0] // size] = np.inf
        chosen, gap = best(block, block > -np.inf, self.c["candidate_topk_blocks"])
        self.closest["block"] = min(self.closest["block"], gap)
        return np.repeat(chosen, size, axis=1)[:, :entries]

    def attention(self, y: Array, layer: int) -> Array:
        c, p, at = self.c, f"layers.{layer}.attn.", self.positions
        heads, dim, r = c["num_attention_heads"], c["head_dim"], c["compress_ratios"][layer]
        angles = self.angles(layer, at)
        c_q = self.norm(self.matmul(y, p + "wq_a"), p + "q_norm")
        q = rotate(self.matmul(c_q, p + "wq_b").reshape(len(y), heads, dim), angles)
        kv = self.keep(p + "kv", rotate(self.norm(self.matmul(y, p + "wkv"), p + "kv_norm"), angles))
        ago = at[:, None] - np.arange(len(kv))
        seen = (ago >= 0) & (ago < c["sliding_window"])
        if r:
            if layer in c["kv_source_layer_ids"]:
                self.source = layer
                self.compressor(y, layer)
            entries = self.kept[f"layers.{self.source}.attn.entries"]
            if layer in c["index_source_layer_ids"]:
                self.chosen = self.indexer(y, c_q, layer, np.arange(len(entries)) < (at[:, None] + 1) // r)
            assert self.chosen is not None
            self.see(p + "chosen", self.chosen)
            kv, seen = np.concatenate([kv, entries]), np.concatenate([seen, self.chosen], 1)
        logits = np.where(seen[:, None], q @ kv.T / math.sqrt(dim), -np.inf)
        sink = self.w[p + "attn_sink"][:, None]
        top = np.maximum(logits.max(-1, keepdims=True), sink)
        e = np.exp(logits - top)
        o = rotate(e / (e.sum(-1, keepdims=True) + np.exp(sink - top)) @ kv, -angles)
        groups, rank = c["o_groups"], c["o_lora_rank"]
        wo_a = self.w[p + "wo_a.weight"].reshape(groups, rank, -1)
        low = np.einsum("tgi,gri->tgr", o.reshape(len(y), groups, -1), wo_a, optimize=True).reshape(len(y), -1)
        return self.matmul(low, p + "wo_b")

    def expert(self, y: Array, p: str) -> Array:
        limit = self.c["swiglu_limit"]
        gate, up = np.minimum(self.matmul(y, p + "w1"), limit), np.clip(self.matmul(y, p + "w3"), -limit, limit)
        return self.matmul(gate * sigmoid(gate) * up, p + "w2")

    def moe(self, y: Array, layer: int) -> Array:
        c, p = self.c, f"layers.{layer}.ffn."
        score = np.sqrt(np.logaddexp(0, self.matmul(y, p + "gate") / c.get("gate_temp", 1.0)))
        chosen, gap = best(score + self.w[p + "gate.bias"], np.ones(score.shape, bool), c["num_experts_per_tok"])
        self.closest["expert"] = min(self.closest["expert"], gap)
        weight = np.where(chosen, score, 0)
        weight = weight / (weight.sum(-1, keepdims=True) + 1e-20) * c["routed_scaling_factor"]
        out = self.expert(y, p + "shared_experts.")
        for e in range(c["n_routed_experts"]):
            rows = np.flatnonzero(chosen[:, e])
            out[rows] += weight[rows, e, None] * self.expert(y[rows], f"{p}experts.{e}.")
        return out

    def sublayer(self, x: Array, pre: Array, run: Callable[[Array], Array], name: str, site: str) -> tuple[Array, Array]:
        """Streams after a sublayer, and the pre of its site for the next one."""
        new_pre, post, comb = self.hyper(x, f"{name}hc_{site}_")
        f = run(self.norm(np.einsum("tn,tnd->td", pre, x), f"{name}{site}_norm"))
        x = post[..., None] * f[:, None] + np.einsum("tjk,tjd->tkd", comb, x)
        self.see(f"{name}{site}", x)
        return x, new_pre

    def step(self, ids: Sequence[int]) -> Array:
        n = self.c["hc_mult"]
        self.ids += [self.table[i] for i in ids] if self.table else list(ids)
        self.positions = np.arange(self.first, self.first + len(ids))
        self.candidates = None
        x = np.repeat(self.w["embed.weight"][list(ids)][:, None], n, axis=1)
        pre = np.tile(np.eye(n)[0], (len(ids), 1))
        for layer in range(self.c["num_hidden_layers"]):
            p = f"layers.{layer}."
            if layer in self.primes:
                x = self.engram(x, layer)
                self.see(p + "engram", x)
            x, pre = self.sublayer(x, pre, partial(self.attention, layer=layer), p, "attn")
            x, pre = self.sublayer(x, pre, partial(self.moe, layer=layer), p, "ffn")
        self.first += len(ids)
        return self.norm(np.einsum("tn,tnd->td", pre, x), "norm") @ self.w["head.weight"].T

    def logits(self, ids: Sequence[int]) -> Array:
        self.restart()
        return self.step(ids)


# --- files -------------------------------------------------------------------------------------------------------------------


def read_folder(folder: Path) -> Reference:
    """A checkpoint small enough for memory, its FP8 and FP4 tensors decoded."""
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    config = json.loads((folder / "config.json").read_text())
    tensors = {n: t for f in sorted(folder.glob("*.safetensors")) for n, t in load_file(f).items()}
    block = config.get("quantization_config", {}).get("weight_block_size", [1, 1])
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    weights = {}
    for name, t in tensors.items():
        scale_name = name.removesuffix("weight") + "scale"
        if name.endswith(".weight") and scale_name in tensors:
            scale = np.exp2(tensors[scale_name].view(torch.uint8).numpy().astype(np.float64) - 127)
            if t.dtype == torch.int8:  # FP4, the even column in the low half
                code = t.numpy().view(np.uint8)
                weights[name] = np.repeat(scale, 32, axis=1) * values[np.stack([code & 15, code >> 4], -1).reshape(len(code), -1)]
                continue
            high, wide = (1, 32) if name.endswith(".engram.embed.weight") else block
            spread = np.repeat(np.repeat(scale, high, axis=0), wide, axis=1)
            weights[name] = t.float().numpy() * spread[: t.shape[0], : t.shape[1]]
        elif not name.endswith(".scale"):
            weights[name] = t.float().numpy()
    return Reference(config["text_config"], weights, token_table(Tokenizer.from_file(str(folder / "tokenizer.json"))))


def main() -> int:
    for folder in map(Path, sys.argv[1:]):
        model = read_folder(folder)
        for prompt in json.loads((folder / "golden.json").read_text())["prompts"]:
            ids, first = prompt["ids"], prompt.get("first", 0)
            whole = model.logits(ids)
            closest = dict(model.closest)
            stored = np.abs(whole[first:] - np.load(folder / prompt["logits"])).max()
            model.restart()
            cut = np.abs(np.concatenate([model.step(ids[i : i + 7]) for i in range(0, len(ids), 7)]) - whole).max()
            greedy = list(ids)
            for _ in prompt["greedy"]:
                greedy.append(int(model.logits(greedy)[-1].argmax()))
            said = "ok" if stored < 1e-5 and cut < 1e-9 and greedy[len(ids) :] == prompt["greedy"] else "DIFFERS"
            print(
                f"{folder.name:24} {len(ids):4} tokens  stored {stored:.1e}  in chunks {cut:.1e}  closest "
                + ", ".join(f"{k} {v:.1e}" for k, v in closest.items())
                + f"  {said}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

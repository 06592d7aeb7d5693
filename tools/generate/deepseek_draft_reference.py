"""The drafts of DeepSeek-V3, V3.2, V4 and V4.1 in double precision, with the main models that they start from (oracle venv).

Written from the equations of the reports and of what is known of the published code, from nobody's code: multi-token prediction of V3,
V3.2 and V4, alone and chained, and DSpark of V4 and V4.1. Whole sequences, no caches: a draft of one more token runs everything again.
`make_golden.py` holds the main models here to the logits that transformers gives. Rotary frequencies and angles are rounded to float32,
as every implementation has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from deepseek_v41_reference import Array, Reference, best, frequencies, rms, rotate, sigmoid


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def angles_of(f: Array, positions: Array) -> Array:
    return (positions.astype(np.float32)[:, None] * f.astype(np.float32)).astype(np.float64)


class LatentDrafts:
    """DeepSeek-V3 and, where the configuration has an indexer, V3.2.   ids -> main logits, draft logits, chained draft logits"""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        self.c = c = dict(config)
        self.w = {n: np.asarray(v, np.float64) for n, v in weights.items()}
        yarn = c.get("rope_scaling")
        self.freq = frequencies(c["rope_theta"], c["qk_rope_head_dim"], yarn)
        m = 0.1 * yarn["mscale_all_dim"] * math.log(yarn["factor"]) + 1 if yarn else 1.0
        self.scale = m * m / math.sqrt(c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
        self.closest = math.inf

    def matmul(self, x: Array, name: str) -> Array:
        return x @ self.w[name + ".weight"].T

    def norm(self, x: Array, name: str, eps: float | None = None) -> Array:
        return x / rms(x, self.c["rms_norm_eps"] if eps is None else eps) * self.w[name + ".weight"]

    def halves(self, x: Array, angles: Array) -> Array:
        """The first numbers of x turned, the first half of them with the second."""
        n = angles.shape[-1]
        angles = angles.reshape(angles.shape[0], *[1] * (x.ndim - 2), n)
        a, b = x[..., :n], x[..., n : 2 * n]
        turned = [a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)]
        return np.concatenate([*turned, x[..., 2 * n :]], -1)

    def indexer(self, h: Array, c_q: Array, p: str, angles: Array, visible: Array) -> Array:
        c, heads, dim = self.c, self.c["index_n_heads"], self.c["index_head_dim"]
        k = self.matmul(h, p + "wk")
        k = (k - k.mean(-1, keepdims=True)) / np.sqrt(k.var(-1, keepdims=True) + 1e-6)
        k = self.halves(k * self.w[p + "k_norm.weight"] + self.w[p + "k_norm.bias"], angles)
        q = self.halves(self.matmul(c_q, p + "wq_b").reshape(len(h), heads, dim), angles)
        score = np.einsum("th,ths->ts", self.matmul(h, p + "weights_proj"), np.maximum(q @ k.T, 0)) / math.sqrt(heads * dim)
        chosen, gap = best(score, visible, c["index_topk"])
        self.closest = min(self.closest, gap)
        return chosen

    def attention(self, h: Array, p: str, positions: Array) -> Array:
        c, heads, nope = self.c, self.c["num_attention_heads"], self.c["qk_nope_head_dim"]
        angles, rank = angles_of(self.freq, positions), c["kv_lora_rank"]
        c_q = self.norm(self.matmul(h, p + "q_a_proj"), p + "q_a_layernorm", 1e-6)
        q = rotate(self.matmul(c_q, p + "q_b_proj").reshape(len(h), heads, -1), angles)
        kv = self.matmul(h, p + "kv_a_proj_with_mqa")
        latent, k_pe = self.norm(kv[:, :rank], p + "kv_a_layernorm", 1e-6), rotate(kv[:, rank:], angles)
        both = self.matmul(latent, p + "kv_b_proj").reshape(len(h), heads, -1)
        k = np.concatenate([both[..., :nope], np.repeat(k_pe[:, None], heads, axis=1)], -1)
        seen = np.tril(np.ones((len(h), len(h)), bool))
        if "index_topk" in c:
            seen = self.indexer(h, c_q, p + "indexer.", angles, seen)
        score = np.where(seen, self.scale * np.einsum("thd,shd->hts", q, k), -np.inf)
        return self.matmul(np.einsum("hts,shd->thd", softmax(score), both[..., nope:]).reshape(len(h), -1), p + "o_proj")

    def ffn(self, h: Array, p: str) -> Array:
        gate = self.matmul(h, p + "gate_proj")
        return self.matmul(gate * sigmoid(gate) * self.matmul(h, p + "up_proj"), p + "down_proj")

    def moe(self, h: Array, p: str) -> Array:
        c, groups = self.c, self.c["n_group"]
        score = sigmoid(self.matmul(h, p + "gate"))
        choice = score + self.w[p + "gate.e_score_correction_bias"]
        grouped = choice.reshape(len(h), groups, -1)
        kept, gap = best(np.sort(grouped, -1)[..., -2:].sum(-1), np.ones((len(h), groups), bool), c["topk_group"])
        chosen, lead = best(choice, np.repeat(kept, grouped.shape[-1], axis=1), c["num_experts_per_tok"])
        self.closest = min(self.closest, gap, lead)
        weight = np.where(chosen, score, 0)
        weight = weight / (weight.sum(-1, keepdims=True) + 1e-20) * c["routed_scaling_factor"]
        out = self.ffn(h, p + "shared_experts.")
        for e in range(c["n_routed_experts"]):
            rows = np.flatnonzero(chosen[:, e])
            out[rows] += weight[rows, e, None] * self.ffn(h[rows], f"{p}experts.{e}.")
        return out

    def layer(self, x: Array, number: int, positions: Array) -> Array:
        p = f"model.layers.{number}."
        x = x + self.attention(self.norm(x, p + "input_layernorm"), p + "self_attn.", positions)
        h = self.norm(x, p + "post_attention_layernorm")
        return x + (self.moe(h, p + "mlp.") if number >= self.c["first_k_dense_replace"] else self.ffn(h, p + "mlp."))

    def hidden(self, ids: Sequence[int]) -> Array:
        x = self.w["model.embed_tokens.weight"][list(ids)]
        for i in range(self.c["num_hidden_layers"]):
            x = self.layer(x, i, np.arange(len(ids)))
        return self.norm(x, "model.norm")

    def logits(self, ids: Sequence[int]) -> Array:
        return self.matmul(self.hidden(ids), "lm_head")

    def draft_states(self, h: Array, tokens: Sequence[int]) -> Array:
        """z of rows whose tokens stand at positions 1, 2, ...   h [rows, hidden]"""
        p = f"model.layers.{self.c['num_hidden_layers']}."
        e = self.norm(self.w["model.embed_tokens.weight"][list(tokens)], p + "enorm")
        x = self.matmul(np.concatenate([e, self.norm(h, p + "hnorm")], -1), p + "eh_proj")
        return self.norm(self.layer(x, self.c["num_hidden_layers"], np.arange(1, len(tokens) + 1)), p + "shared_head.norm")

    def drafts(self, ids: Sequence[int], count: int) -> tuple[Array, Array]:
        """Draft logits of every row, and those of a greedy chain of `count` behind the last id."""
        return chain(self.hidden(ids)[:-1], list(ids[1:]), count, self.draft_states, lambda z: self.matmul(z, "lm_head"))


def chain(
    h: Array, tokens: list[int], count: int, states: Callable[[Array, Sequence[int]], Array], head: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Each further row takes the state of the row before it and the token that it drafted."""
    z = states(h, tokens)
    every = head(z)
    chained = [every[-1]]
    while len(chained) < count:
        h, tokens = np.concatenate([h, z[-1:]]), [*tokens, int(chained[-1].argmax())]
        z = states(h, tokens)
        chained.append(head(z[-1:])[0])
    return every, np.array(chained)


class StreamDrafts(Reference):
    """What the drafts of V4 and V4.1 have in common, for layers with a window alone: `p` is a layer's prefix.

    Of the base class the pieces are used that need nothing but configuration and weights: hyper, norm, matmul, expert.
    """

    query_norm = True  # V4: of each head, without a weight
    markov = ("markov_w1", "markov_w2")

    def setup(self, config: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        self.c = dict(config)
        self.w = {n: np.asarray(v, np.float64) for n, v in weights.items()}
        self.main = frequencies(self.c["rope_theta"], self.c["qk_rope_head_dim"], None)
        self.watch = None
        self.close = math.inf

    def queries(self, y: Array, p: str, angles: Array) -> tuple[Array, Array]:
        c_q = self.norm(self.matmul(y, p + "wq_a"), p + "q_norm")
        q = self.matmul(c_q, p + "wq_b").reshape(len(y), self.c["num_attention_heads"], -1)
        return c_q, rotate(q / rms(q, self.c["rms_norm_eps"]) if self.query_norm else q, angles)

    def keys(self, y: Array, p: str, angles: Array) -> Array:
        return rotate(self.norm(self.matmul(y, p + "wkv"), p + "kv_norm"), angles)

    def attend(self, q: Array, kv: Array, seen: Array, p: str, angles: Array) -> Array:
        c = self.c
        logits = np.where(seen[:, None], q @ kv.T / math.sqrt(c["head_dim"]), -np.inf)
        sink = np.broadcast_to(self.w[p + "attn_sink"][:, None], (*logits.shape[:2], 1))
        weight = softmax(np.concatenate([logits, sink], -1))[..., :-1]
        o = rotate(weight @ kv, -angles)
        wo_a = self.w[p + "wo_a.weight"].reshape(c["o_groups"], c["o_lora_rank"], -1)
        low = np.einsum("tgi,gri->tgr", o.reshape(len(q), c["o_groups"], -1), wo_a, optimize=True)
        return self.matmul(low.reshape(len(q), -1), p + "wo_b")

    def experts(self, y: Array, p: str, count: int, k: int, chosen: Array | None = None) -> Array:
        score = np.sqrt(np.logaddexp(0, self.matmul(y, p + "gate")))
        if chosen is None:
            chosen, gap = best(score + self.w[p + "gate.bias"], np.ones(score.shape, bool), k)
            self.close = min(self.close, gap)
        weight = np.where(chosen, score, 0)
        weight = weight / (weight.sum(-1, keepdims=True) + 1e-20) * self.c["routed_scaling_factor"]
        out = self.expert(y, p + "shared_experts.")
        for e in range(count):
            rows = np.flatnonzero(chosen[:, e])
            out[rows] += weight[rows, e, None] * self.expert(y[rows], f"{p}experts.{e}.")
        return out

    def main_experts(self, y: Array, p: str, chosen: Array | None = None) -> Array:
        return self.experts(y, p, self.c["n_routed_experts"], self.c["num_experts_per_tok"], chosen)

    def draft_experts(self, y: Array, p: str) -> Array:
        c = self.c
        return self.experts(
            y, p, c.get("dspark_n_routed_experts", c["n_routed_experts"]), c.get("dspark_num_experts_per_tok", c["num_experts_per_tok"])
        )

    def site(self, x: Array, p: str, name: str, run: Callable[[Array], Array]) -> Array:
        """V4's: one sublayer, with the collapse of its own site.   x [T, n, d]"""
        pre, post, comb = self.hyper(x, f"{p}hc_{name}_")
        f = run(self.norm(np.einsum("tn,tnd->td", pre, x), f"{p}{name}_norm"))
        return post[..., None] * f[:, None] + np.einsum("tjk,tjd->tkd", comb, x)

    def collapse(self, x: Array, p: str) -> Array:
        n, flat = self.c["hc_mult"], x.reshape(len(x), -1)
        m = flat / rms(flat, self.c["rms_norm_eps"]) @ self.w[p + "fn"].T
        pre = sigmoid(self.w[p + "scale"][0] * m + self.w[p + "base"][:n]) + self.c["hc_eps"]
        return np.einsum("tn,tnd->td", pre, x)

    # --- DSpark

    def stages(self) -> int:
        return sum(f"mtp.{i}.attn_norm.weight" in self.w for i in range(64))

    def block_rows(self, x: Array, stage: Callable[[int, Array], Array]) -> Array:
        """The rows of a block behind all stages, collapsed; stage(i, y) is the attention of stage i.   x [rows, n, d]"""
        for i in range(self.stages()):
            p = f"mtp.{i}."
            x = self.site(x, p, "attn", lambda y, i=i: stage(i, y))
            x = self.site(x, p, "ffn", lambda y, p=p: self.draft_experts(y, p + "ffn."))
        return self.collapse(x, f"mtp.{self.stages() - 1}.hc_head_")

    def dspark(self, taps: Array, anchor: int) -> dict[str, Array]:
        """The block behind positions 0 ... p - 1, whose taps these are: logits, without the chain, confidences.   taps [p, targets d]"""
        c, p = self.c, len(taps)
        last, size = f"mtp.{self.stages() - 1}.", c["dspark_block_size"]
        context = self.norm(self.matmul(taps, "mtp.0.main_proj"), "mtp.0.main_norm")
        at = np.arange(p, p + size)
        angles, before = angles_of(self.main, at), angles_of(self.main, np.arange(p))

        def attention(i: int, y: Array) -> Array:
            a = f"mtp.{i}.attn."
            _, q = self.queries(y, a, angles)
            kv = np.concatenate([self.keys(context, a, before)[-c["sliding_window"] :], self.keys(y, a, angles)])
            return self.attend(q, kv, np.ones((size, len(kv)), bool), a, angles)

        ids = [anchor] + [c["dspark_noise_token_id"]] * (size - 1)
        h = self.block_rows(np.repeat(self.w["embed.weight"][ids][:, None], c["hc_mult"], axis=1), attention)
        base = self.norm(h, last + "norm") @ self.w["head.weight"].T
        lookup, head = (self.w[f"{last}markov_head.{name}.weight"] for name in self.markov)
        logits, sure, token = [], [], anchor
        for r in range(size):
            logits.append(base[r] + head @ lookup[token])
            sure.append(float(sigmoid(self.w[last + "confidence_head.proj.weight"][0] @ np.concatenate([h[r], lookup[token]]))))
            token = int(logits[-1].argmax())
        return {"draft": np.array(logits), "base": base, "conf": np.array(sure)}


class V4Drafts(StreamDrafts):
    """DeepSeek-V4: the main model, multi-token prediction, DSpark."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        self.setup(config, weights)
        self.compressed = frequencies(self.c["compress_rope_theta"], self.c["qk_rope_head_dim"], self.c["rope_scaling"])

    def entries(self, y: Array, p: str, ratio: int) -> Array:
        """Compressed entries, turned."""
        kv, gate, ape = self.matmul(y, p + "wkv"), self.matmul(y, p + "wgate"), self.w[p + "ape"]
        count, made = len(y) // ratio, []
        for i in range(count):
            group = slice(i * ratio, (i + 1) * ratio)
            v, z = kv[group], gate[group] + ape
            if ratio == 4:  # the first half of the group before, the second of its own
                width = v.shape[1] // 2
                v, z = v[:, width:], z[:, width:]
                if i:
                    group = slice((i - 1) * ratio, i * ratio)
                    v, z = np.concatenate([kv[group, :width], v]), np.concatenate([(gate[group] + ape)[:, :width], z])
            made.append((softmax(z, 0) * v).sum(0))
        latent = np.array(made).reshape(count, self.w[p + "norm.weight"].shape[0])
        return rotate(self.norm(latent, p + "norm"), angles_of(self.compressed, np.arange(count) * ratio))

    def attention(self, y: Array, layer: int) -> Array:
        c, p, n = self.c, f"layers.{layer}.attn.", len(y)
        ratio, at = c["compress_ratios"][layer], np.arange(n)
        angles = angles_of(self.compressed if ratio else self.main, at)
        c_q, q = self.queries(y, p, angles)
        kv, seen = self.keys(y, p, angles), self.window(n)
        if ratio:
            entries = self.entries(y, p + "compressor.", ratio)
            visible = np.arange(len(entries)) < (at[:, None] + 1) // ratio
            if ratio == 4:
                visible = self.chosen(y, c_q, p + "indexer.", angles, visible)
            kv, seen = np.concatenate([kv, entries]), np.concatenate([seen, visible], 1)
        return self.attend(q, kv, seen, p, angles)

    def chosen(self, y: Array, c_q: Array, p: str, angles: Array, visible: Array) -> Array:
        c = self.c
        keys = self.entries(y, p + "compressor.", 4)
        q = rotate(self.matmul(c_q, p + "wq_b").reshape(len(y), c["index_n_heads"], -1), angles)
        score = np.einsum("th,the->te", self.matmul(y, p + "weights_proj"), np.maximum(q @ keys.T, 0))
        chosen, gap = best(score / math.sqrt(c["index_n_heads"] * c["index_head_dim"]), visible, c["index_topk"])
        self.close = min(self.close, gap)
        return chosen

    def window(self, n: int) -> Array:
        ago = np.arange(n)[:, None] - np.arange(n)
        return (ago >= 0) & (ago < self.c["sliding_window"])

    def streams(self, ids: Sequence[int]) -> tuple[Array, list[Array]]:
        """The streams behind the last layer, and their means behind each target layer."""
        c, taps = self.c, []
        x = np.repeat(self.w["embed.weight"][list(ids)][:, None], c["hc_mult"], axis=1)
        for i in range(c["num_hidden_layers"]):
            p = f"layers.{i}."
            x = self.site(x, p, "attn", lambda y, i=i: self.attention(y, i))
            table = self.w.get(p + "ffn.gate.tid2eid")
            chosen = None
            if table is not None:
                chosen = np.zeros((len(ids), c["n_routed_experts"]), bool)
                np.put_along_axis(chosen, table[list(ids)].astype(int), True, 1)
            x = self.site(x, p, "ffn", lambda y, p=p, chosen=chosen: self.main_experts(y, p + "ffn.", chosen))
            if i in c.get("dspark_target_layer_ids", ()):
                taps.append(x.mean(1))
        return x, taps

    def logits(self, ids: Sequence[int]) -> Array:
        return self.norm(self.collapse(self.streams(ids)[0], "hc_head_"), "norm") @ self.w["head.weight"].T

    def draft_states(self, x: Array, tokens: Sequence[int]) -> Array:
        """The streams of rows whose tokens stand at positions 1, 2, ...   x [rows, n, d]"""
        p, at = "mtp.0.", np.arange(1, len(tokens) + 1)
        e = self.norm(self.w["embed.weight"][list(tokens)], p + "enorm")
        y = self.matmul(e, p + "e_proj")[:, None] + self.matmul(self.norm(x, p + "hnorm"), p + "h_proj")
        angles = angles_of(self.main, at)

        def attention(h: Array) -> Array:
            a = p + "attn."
            return self.attend(self.queries(h, a, angles)[1], self.keys(h, a, angles), self.window(len(at)), a, angles)

        y = self.site(y, p, "attn", attention)
        return self.site(y, p, "ffn", lambda h: self.main_experts(h, p + "ffn."))

    def drafts(self, ids: Sequence[int], count: int) -> tuple[Array, Array]:
        """Draft logits of every row, and those of a greedy chain of `count` behind the last id."""

        def head(x: Array) -> Array:
            return self.norm(self.collapse(x, "mtp.0.hc_head_"), "mtp.0.norm") @ self.w["head.weight"].T

        return chain(self.streams(ids)[0][:-1], list(ids[1:]), count, self.draft_states, head)

    def block(self, ids: Sequence[int]) -> dict[str, Array]:
        taps = np.concatenate(self.streams(ids)[1], -1)[:-1]
        return self.dspark(taps, ids[-1])


class V41Drafts(StreamDrafts):
    """DSpark of DeepSeek-V4.1, on taps of its own reference: what enters the target layers, behind their Engram."""

    query_norm = False
    markov = ("embed", "head")

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Array], table: Sequence[int]) -> None:
        self.setup(config, weights)
        self.model = Reference(config, weights, table)

    def taps(self, ids: Sequence[int]) -> Array:
        entering: dict[int, Array] = {0: np.repeat(self.w["embed.weight"][list(ids)][:, None], self.c["hc_mult"], axis=1)}

        def watch(name: str, x: Array) -> None:
            _, layer, what = name.split(".", 2)
            if what == "ffn":
                entering[int(layer) + 1] = x
            if what == "engram":
                entering[int(layer)] = x

        self.model.watch = watch
        self.model.logits(ids)
        self.model.watch = None
        return np.concatenate([entering[i].mean(1) for i in self.c["dspark_target_layer_ids"]], -1)

    def block_rows(self, x: Array, stage: Callable[[int, Array], Array]) -> Array:
        pre = np.tile(np.eye(self.c["hc_mult"])[0], (len(x), 1))
        for i in range(self.stages()):
            p = f"mtp.{i}."
            x, pre = self.sublayer(x, pre, lambda y, i=i: stage(i, y), p, "attn")
            x, pre = self.sublayer(x, pre, lambda y, p=p: self.draft_experts(y, p + "ffn."), p, "ffn")
        return np.einsum("tn,tnd->td", pre, x)

    def block(self, ids: Sequence[int]) -> dict[str, Array]:
        return self.dspark(self.taps(ids)[:-1], ids[-1])

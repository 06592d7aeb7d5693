#!/usr/bin/env python3
"""Makes the tiny checkpoints of tests/golden and their reference logits with transformers (run in the oracle venv).

    make_golden.py [--out tests/golden] [NAME...]     write them (all of them, or those named)
    make_golden.py --check [NAME...]                  make them again elsewhere and compare logits and drafts with what is stored
    make_golden.py --drafts [NAME...]                 write the drafts of those that are there, and the weights they need, anew

Each folder holds a model and a golden.json: seed, versions, where the model lies, and prompts with their logits (float32 .npy,
one row a position, `first` if only later ones are stored) and the greedy continuation. No greedy choice is closer than 0.01 to its
runner-up. Models with drafts have theirs: `mtp`, `chain`, or `draft` with `base` and `conf`, by deepseek_draft_reference.py.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import deepseek_v41_reference
import numpy as np
import tiny_deepseek
import tiny_models
import torch
import transformers
from gguf import GGMLQuantizationType as Q
from tiny_models import Tiny

ROOT = Path(__file__).resolve().parents[2]
VOCAB = 320
BOS, USER, ASSISTANT, EOS = "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"
SPECIAL = (BOS, EOS, USER, ASSISTANT, "<think>", "</think>")
SPECIAL_V41 = (*SPECIAL, "<｜image｜>")
ALIKE = (
    "the",
    " the",
    "The",
    " The",
    "THE",
    "é",
    "É",
    "ñ",
    "Å",
    "ß",
    "Σ",
    "ς",
    "σ",
    "İ",
    "²",
    "ª",
    "½",
    "\u00a0",
    "\u0301",
    "e\u0301",
    "fi",
    "ﬁ",
    "Ａ",
    "ａ",
    "１",
    "\u3000",
    "\u2003",
    "\u212a",
    "\u212b",
    "①",
    "…",
    "...",
    "가",
    "क",
    "ा",
    "  ",
    "\n\n",
    "\r\n",
    " \n",
)
TEMPLATE = (
    "{{bos_token}}{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}"
    "{%- elif message['role'] == 'assistant' %}{% set content = message['content'] %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}"
    "{%- endif %}{%- endfor %}{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"
)
QWEN2_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CORPUS = [
    "The hadal zone is the deepest region of the ocean, lying within its trenches.",
    "Below six thousand metres there is no light.",
    "How many sums does the machine do? One, two, three and then it rests.",
    "the and that there then this with thing in on an is",
]


def with_parts(t: Any) -> Any:
    """A tokenizer of the pattern of qwen2 around a byte-level BPE."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    t.decoder = decoders.ByteLevel()
    return t


def with_special(t: Any, special: tuple[str, ...]) -> Any:
    from tokenizers import AddedToken

    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    assert t.get_vocab_size() == VOCAB, t.get_vocab_size()
    return t


def tokenizer() -> Any:
    """A byte-level BPE of 320 tokens with the pattern of qwen2 and DeepSeek's control tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    t = with_parts(Tokenizer(models.BPE()))
    t.train_from_iterator(
        CORPUS * 3,
        trainers.BpeTrainer(vocab_size=VOCAB - len(SPECIAL), show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )
    return with_special(t, SPECIAL)


def tokenizer_v41() -> Any:
    """One of 320 tokens whose texts often differ by case, accents, blanks or compatible forms only; some are parts of a character."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    as_text = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for word in ALIKE:
        letters = as_text.pre_tokenize_str(word)[0][0]
        for end in range(2, len(letters) + 1):
            if letters[:end] not in vocab:
                merges.append((letters[: end - 1], letters[end - 1]))
                vocab[letters[:end]] = len(vocab)
    assert len(vocab) == VOCAB - len(SPECIAL_V41), len(vocab)
    return with_special(with_parts(Tokenizer(models.BPE(vocab=vocab, merges=merges))), SPECIAL_V41)


def save_tokenizer(folder: Path, t: Any) -> None:
    t.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "add_bos_token": True,
                "add_eos_token": False,
                "bos_token": BOS,
                "eos_token": EOS,
                "pad_token": EOS,
                "model_max_length": 16384,
                "tokenizer_class": "LlamaTokenizerFast",
                "chat_template": TEMPLATE,
            },
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )


def gguf_tokenizer(t: Any) -> tiny_models.GgufTokenizer:
    data = json.loads(t.to_str())
    ids = {i: t for t, i in data["model"]["vocab"].items()} | {t["id"]: t["content"] for t in data["added_tokens"]}
    added = {t["id"] for t in data["added_tokens"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    where = {t: i for i, t in ids.items()}
    return tiny_models.GgufTokenizer(
        "qwen2",
        [ids[i] for i in range(VOCAB)],
        [3 if i in added else 1 for i in range(VOCAB)],
        merges,
        where[BOS],
        where[EOS],
        TEMPLATE,
        True,
    )


# --- variants --------------------------------------------------------------------------------------------------------------


def config(arch: str, hidden: int, heads: int, kv: int, ffn: int, layers: int = 2, **more: Any) -> dict[str, Any]:
    names = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
    base = {
        "architectures": [names[arch]],
        "model_type": arch,
        "vocab_size": VOCAB,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "bos_token_id": 314,
        "eos_token_id": 315,
        "torch_dtype": "bfloat16",
    }
    return base | more


def yarn(**more: Any) -> dict[str, Any]:
    return {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, **more}


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64, "rope_type": "llama3"}
R1_0528_ATTN_FACTOR = 0.8782488562869419  # 1 / (0.1 ln 4 + 1), as in the config.json of DeepSeek-R1-0528-Qwen3-8B
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": config("llama", 64, 4, 4, 88, rope_theta=10000.0, pretraining_tp=1, attention_bias=False),
    "llama-linear": config("llama", 48, 3, 1, 72, rope_theta=100000.0, rope_scaling={"type": "linear", "factor": 4.0}),
    "llama-llama3": config("llama", 96, 3, 1, 64, rope_theta=500000.0, rms_norm_eps=1e-5, rope_scaling=LLAMA3, tie_word_embeddings=True),
    "llama-tied-head-dim": config(
        "llama",
        72,
        4,
        2,
        104,
        head_dim=24,
        tie_word_embeddings=True,
        mlp_bias=False,
        rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "default", "rope_theta": 20000.0},
    ),
    "llama-bias": config("llama", 48, 2, 1, 72, rope_theta=10000.0, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama-fp8": config("llama", 160, 5, 1, 96, rope_theta=10000.0, tie_word_embeddings=True),
    "qwen2": config(
        "qwen2", 72, 6, 2, 64, rope_theta=10000.0, sliding_window=4096, use_sliding_window=False, max_window_layers=21, use_mrope=False
    ),
    "qwen2-tied-sharded": config("qwen2", 72, 3, 1, 104, rope_theta=1000000.0, tie_word_embeddings=True),
    "qwen3": config(
        "qwen3",
        64,
        4,
        2,
        72,
        head_dim=32,
        tie_word_embeddings=True,
        attention_bias=False,
        rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    "qwen3-yarn": config(
        "qwen3",
        48,
        3,
        1,
        72,
        layers=3,
        head_dim=32,
        max_position_embeddings=128,
        attention_bias=False,
        rope_parameters=yarn(rope_theta=10000.0, beta_fast=2.0, beta_slow=0.25),
    ),
    "qwen3-yarn-attention-factor": config(
        "qwen3",
        48,
        2,
        1,
        72,
        head_dim=32,
        attention_bias=False,
        rope_theta=1000000.0,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        rope_scaling=yarn(attention_factor=0.75),
    ),
    "qwen3-yarn-attn-factor": config(
        "qwen3",
        48,
        2,
        1,
        80,
        head_dim=32,
        attention_bias=False,
        rope_theta=1000000.0,
        max_position_embeddings=128,
        rope_scaling=yarn(attn_factor=R1_0528_ATTN_FACTOR),
    ),
    "qwen3-fp8": config("qwen3", 96, 5, 1, 136, head_dim=32, attention_bias=False, rope_theta=1000000.0, tie_word_embeddings=True),
    "q8_0": config("llama", 96, 3, 1, 160, rope_theta=10000.0, tie_word_embeddings=True),
    "quant-32": config("llama", 128, 4, 2, 192, rope_theta=10000.0),
    "quant-k": config("qwen2", 256, 4, 1, 256, layers=1, rope_theta=10000.0, tie_word_embeddings=True),
    "quant-iq": config("qwen3", 256, 4, 1, 256, head_dim=64, rope_theta=10000.0, tie_word_embeddings=True),
}


def deepseek(kind: str, hidden: int, heads: int, **more: Any) -> dict[str, Any]:
    base = {
        "architectures": [tiny_deepseek.KINDS[kind]],
        "model_type": kind,
        "vocab_size": VOCAB,
        "hidden_size": hidden,
        "intermediate_size": 88,
        "moe_intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "num_experts_per_tok": 3,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        "scoring_func": "softmax",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 512,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 314,
        "eos_token_id": 315,
        "torch_dtype": "bfloat16",
    }
    if kind != "deepseek":
        base |= {
            "q_lora_rank": None,
            "kv_lora_rank": 24,
            "qk_nope_head_dim": 20,
            "qk_rope_head_dim": 16,
            "v_head_dim": 12,
            "topk_method": "greedy",
            "n_group": 1,
            "topk_group": 1,
        }
    return base | more


def deepseek_yarn(mscale: float) -> dict[str, Any]:
    return {
        "type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "beta_fast": 2.0,
        "beta_slow": 0.25,
        "mscale": mscale,
        "mscale_all_dim": mscale,
    }


V3 = {
    "q_lora_rank": 28,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "n_routed_experts": 16,
    "n_group": 4,
    "topk_group": 2,
    "num_experts_per_tok": 4,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
}
CONFIGS |= {
    "deepseek-moe": deepseek("deepseek", 60, 3),
    "deepseek-v2-lite": deepseek("deepseek_v2", 60, 3, rope_scaling=deepseek_yarn(0.707)),
    "deepseek-v2": deepseek(
        "deepseek_v2",
        72,
        4,
        q_lora_rank=36,
        topk_method="group_limited_greedy",
        n_routed_experts=16,
        n_group=4,
        topk_group=2,
        routed_scaling_factor=4.0,
        rope_scaling=deepseek_yarn(1.0),
    ),
    "deepseek-v3": deepseek("deepseek_v3", 64, 4, **V3, rope_scaling=deepseek_yarn(1.0), num_nextn_predict_layers=1),
    "deepseek-v3-plain": deepseek("deepseek_v3", 56, 2, **V3 | {"q_lora_rank": None, "n_group": 1, "topk_group": 1}, num_hidden_layers=2),
    "deepseek-v3-fp8": deepseek(
        "deepseek_v3",
        160,
        5,
        **V3 | {"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "q_lora_rank": 136},
        num_hidden_layers=2,
        kv_lora_rank=132,
        qk_nope_head_dim=24,
        v_head_dim=20,
        rope_scaling=deepseek_yarn(0.707),
    ),
    "deepseek-v32": deepseek(
        "deepseek_v32",
        64,
        4,
        **V3,
        rope_scaling=deepseek_yarn(1.0),
        index_n_heads=16,
        index_head_dim=24,
        index_topk=16,
        num_nextn_predict_layers=1,
    ),
}
V4 = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "model_type": "deepseek_v4",
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 40,
    "qk_rope_head_dim": 16,
    "q_lora_rank": 48,
    "o_groups": 2,
    "o_lora_rank": 20,
    "sliding_window": 24,
    "compress_ratios": [0, 4, 128, 4, 128, 0],
    "compress_rope_theta": 160000.0,
    "rope_theta": 10000.0,
    "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 2, "beta_slow": 0.25},
    "index_n_heads": 16,
    "index_head_dim": 24,
    "index_topk": 12,
    "hc_mult": 4,
    "hc_sinkhorn_iters": 6,
    "hc_eps": 1e-6,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 32,
    "num_hash_layers": 2,
    "scoring_func": "sqrtsoftplus",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.5,
    "swiglu_limit": 1.5,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 512,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "num_nextn_predict_layers": 1,
    "bos_token_id": 314,
    "eos_token_id": 315,
    "torch_dtype": "bfloat16",
}
CONFIGS |= {
    "deepseek-v4": V4,
    "deepseek-v4-fp4": V4
    | {
        "num_hidden_layers": 3,
        "hc_mult": 2,
        "compress_ratios": [128, 4, 0],
        "num_hash_layers": 1,
        "head_dim": 48,
        "o_groups": 4,
        "sliding_window": 9,
    },
}
DSPARK = {"dspark_block_size": 5, "dspark_noise_token_id": 300, "dspark_markov_rank": 12}
V41_TEXT = {k: v for k, v in V4.items() if k not in ("architectures", "num_hash_layers")} | {
    "model_type": "deepseek_v41_text",
    "num_hidden_layers": 7,
    "head_dim": 32,
    "gate_temp": 1.0,
    "n_routed_experts": 5,
    "num_experts_per_tok": 2,
    "rms_norm_eps": 1e-20,
    "bos_token_id": 313,
    "eos_token_id": 314,
    "engram_compressed_vocab_size": 256,
}


def deepseek_v41(vision: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The composite config.json; `more` goes to its text_config."""
    text = V41_TEXT | more
    text["engram_num_embeddings"] = [sum(map(sum, sizes)) for sizes in deepseek_v41_reference.hash_primes(text)]
    return {
        "architectures": [tiny_deepseek.KINDS["deepseek_v41"]],
        "model_type": "deepseek_v41",
        "image_token_id": VOCAB - 1,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": text["bos_token_id"],
        "eos_token_id": text["eos_token_id"],
        "text_config": text,
    } | ({"vision_config": vision} if vision else {})


CONFIGS |= {
    "deepseek-v41": deepseek_v41(
        hidden_size=48,
        qk_rope_head_dim=8,
        q_lora_rank=24,
        o_lora_rank=12,
        sliding_window=10,
        compress_ratios=[0, 2, 2, 1, 1, 1, 1],
        kv_source_layer_ids=[1, 2, 3],
        index_source_layer_ids=[1, 2, 3, 4, 6],
        candidate_source_layer_id=3,
        candidate_topk_blocks=12,
        candidate_block_size=4,
        index_head_dim=20,
        index_topk=8,
        moe_intermediate_size=16,
        engram_layer_ids=[1, 5],
        engram_vocab_size=61,
        engram_max_ngram_size=4,
        engram_n_heads=3,
        engram_head_dim=12,
        engram_pad_id=2,
        num_nextn_predict_layers=0,
    ),
    "deepseek-v41-fp4": deepseek_v41(
        {"model_type": "deepseek_v41_vision", "hidden_size": 16, "num_hidden_layers": 1, "patch_size": 2},
        rope_scaling=yarn(original_max_position_embeddings=64, beta_fast=2, beta_slow=0.25),
        hc_mult=2,
        qk_rope_head_dim=16,
        q_lora_rank=40,
        o_lora_rank=16,
        sliding_window=9,
        compress_ratios=[0, 2, 2, 1, 1, 1, 0, 0, 0],
        kv_source_layer_ids=[1, 3],
        index_source_layer_ids=[1, 2, 3, 4, 5],
        candidate_source_layer_id=3,
        candidate_topk_blocks=2,
        candidate_block_size=5,
        index_head_dim=24,
        index_topk=12,
        moe_intermediate_size=32,
        engram_layer_ids=[1, 3],
        engram_vocab_size=97,
        engram_max_ngram_size=3,
        engram_n_heads=2,
        engram_head_dim=64,
        engram_pad_id=314,
        num_nextn_predict_layers=2,
        **DSPARK | {"dspark_block_size": 4},
        dspark_target_layer_ids=[3, 5, 6],
        dspark_n_routed_experts=3,
        dspark_num_experts_per_tok=1,
    ),
    "deepseek-v4-dspark": V4
    | DSPARK
    | {
        "num_hidden_layers": 4,
        "hc_mult": 2,
        "compress_ratios": [0, 4, 128, 4, 0, 0],
        "num_hash_layers": 1,
        "sliding_window": 20,
        "n_routed_experts": 6,
        "dspark_target_layer_ids": [1, 3],
    },
}
DEEPSEEK_TWINS: dict[
    str, tuple[str, Q, bool | str]
] = {  # GGUF files: of which model, in what type, with the old key set; V4.1: in what form
    "deepseek-moe-gguf": ("deepseek-moe", Q.F16, False),
    "deepseek-v2-lite-gguf": ("deepseek-v2-lite", Q.F16, False),
    "deepseek-v2-lite-old-gguf": ("deepseek-v2-lite", Q.F32, True),
    "deepseek-v2-gguf": ("deepseek-v2", Q.BF16, False),
    "deepseek-v3-gguf": ("deepseek-v3", Q.F16, False),
    "deepseek-v32-gguf": ("deepseek-v32", Q.F16, False),
    "deepseek-v4-gguf": ("deepseek-v4", Q.F16, False),
    "deepseek-v41-gguf": ("deepseek-v41", Q.F16, "tables"),
    "deepseek-v41-fp4-gguf": ("deepseek-v41-fp4", Q.F16, "numbers"),
    "deepseek-v41-fp4-official-gguf": ("deepseek-v41-fp4", Q.F16, "official"),
}
WITH_DRAFTS = ("deepseek-v3", "deepseek-v32", "deepseek-v4", "deepseek-v4-dspark", "deepseek-v41-fp4")
CHAIN = 6  # tokens of a chain of drafts
ROWS = 64  # so many rows of drafts by multi-token prediction are stored, the last
# GGUF files of a model above, in types that hold its weights exactly: they share its logits.
TWINS: dict[str, tuple[str, Callable[[str], Q]]] = {
    "llama-linear-gguf": ("llama-linear", lambda n: Q.F16),
    "llama-llama3-gguf": ("llama-llama3", lambda n: {"q_proj": Q.F32, "k_proj": Q.F16}.get(n.split(".")[-2], Q.BF16)),
    "qwen2-gguf": ("qwen2", lambda n: Q.F16),
    "qwen3-gguf": ("qwen3", lambda n: Q.BF16),
    "qwen3-yarn-attn-factor-gguf": ("qwen3-yarn-attn-factor", lambda n: Q.BF16),
}
EMBED, HEAD = "model.embed_tokens", "lm_head"
QUANT_TYPES: dict[str, dict[int | str, Q | list[Q]]] = {  # per layer in the order of PROJECTIONS
    "q8_0": {EMBED: Q.Q8_0, 0: [Q.Q8_0] * 7, 1: [Q.Q8_0] * 7},
    "quant-32": {
        EMBED: Q.Q4_0,
        HEAD: Q.Q8_0,
        0: [Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.IQ4_NL, Q.MXFP4],
        1: [Q.Q5_1, Q.NVFP4, Q.Q4_0, Q.MXFP4, Q.Q4_1, Q.Q5_0, Q.Q8_0],
    },
    "quant-k": {EMBED: Q.Q6_K, 0: [Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.Q3_K, Q.Q2_K, Q.Q4_K, Q.Q6_K]},
    "quant-iq": {
        EMBED: Q.IQ4_XS,
        0: [Q.IQ2_XXS, Q.IQ2_XS, Q.IQ2_S, Q.IQ3_XXS, Q.IQ3_S, Q.IQ1_S, Q.IQ1_M],
        1: [Q.TQ1_0, Q.TQ2_0, Q.IQ4_XS, Q.IQ1_M, Q.IQ2_XXS, Q.IQ3_S, Q.IQ3_XXS],
    },
}
CLOSE = 3e-5  # a choice of entries or experts by less might fall otherwise in single precision
LAST = {"deepseek-v41": 80, "deepseek-v41-fp4": 48}  # only so many rows of logits are stored
LONG = {
    "deepseek-v4": 277,
    "deepseek-v4-fp4": 260,
    "deepseek-v4-dspark": 150,
    "deepseek-v3": 100,
    "deepseek-v32": 100,
    "deepseek-v41": 150,
    "deepseek-v41-fp4": 400,
    "llama": 116,
    "qwen3-yarn": 116,
    "llama-llama3": 100,
    "qwen2": 72,
}  # others: 56 tokens, beyond every original length of 32


def quant_type_of(name: str) -> Callable[[str], Q]:
    table = QUANT_TYPES[name]

    def type_of(tensor: str) -> Q:
        stem = tensor.rsplit(".", 1)[0]
        if stem in table:
            return table[stem]  # type: ignore[return-value]
        _, _, layer, rest = stem.split(".", 3)
        return table[int(layer)][tiny_models.PROJECTIONS.index(rest)]  # type: ignore[index]

    return type_of


# --- the oracle ------------------------------------------------------------------------------------------------------------


def oracle(tiny: Tiny) -> Callable[[list[int]], np.ndarray]:
    """ids -> logits, by the transformers model with exactly tiny.weights, in float32."""
    if tiny.arch in tiny_deepseek.KINDS:
        return tiny_deepseek.oracle(tiny)
    c = {k: v for k, v in tiny.config.items() if k not in ("quantization_config", "torch_dtype", "architectures")}
    if "rope_scaling" in c and "attn_factor" in c["rope_scaling"]:  # transformers ignores this key: give it the amplitude that is meant
        rope = dict(c["rope_scaling"])
        rope["attention_factor"] = rope.pop("attn_factor") * (0.1 * math.log(rope["factor"]) + 1)
        c["rope_scaling"] = rope
    kind = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[c.pop("model_type")]
    made = getattr(transformers, kind + "Config")(**c, attn_implementation="eager")
    with torch.no_grad():
        model = getattr(transformers, kind + "ForCausalLM")(made).float().eval()
    weights = {n: torch.from_numpy(w) for n, w in tiny.weights.items()}
    missing, surplus = model.load_state_dict(weights, strict=False)
    assert not surplus and set(missing) <= ({"lm_head.weight"} if c["tie_word_embeddings"] else set()), (missing, surplus)

    @torch.no_grad()
    def run(ids: list[int]) -> np.ndarray:
        return model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()

    return run


def prompt(
    logits_of: Callable[[list[int]], np.ndarray], rng: np.random.Generator, length: int, new: int, banned: int = -1
) -> tuple[list[int], np.ndarray, list[int]]:
    """Of a dozen prompts without a close choice, nor the banned id, the one whose continuation repeats itself least.

    An oracle that chooses entries or experts may tell in `closest` by how little it chose them.
    """
    best: tuple[list[int], np.ndarray, list[int]] | None = None
    kept = 0
    while kept < 12:
        ids = [int(i) for i in rng.integers(0, VOCAB - len(SPECIAL), length)]
        first = logits_of(ids)
        row, continued = first[-1], list(ids)
        for _ in range(new):
            top = np.sort(row)[-2:]
            if top[1] - top[0] <= 0.01 or row.argmax() == banned or getattr(logits_of, "closest", math.inf) <= CLOSE:
                break
            continued.append(int(row.argmax()))
            row = logits_of(continued)[-1]
        else:
            kept += 1
            if best is None or len(set(continued[length:])) > len(set(best[2])):
                best = ids, first, continued[length:]
    assert best
    return best


def write_reference(folder: Path, name: str, tiny: Tiny, seed: int, where: str) -> None:
    model = oracle(tiny)
    rng = np.random.default_rng(seed + 1000)
    prompts = []
    for i, (length, new) in enumerate(((1, 4), (9, 24), (LONG.get(name, 56), 8))):
        ids, logits, greedy = prompt(model, rng, length, new, tiny.config.get("image_token_id", -1))
        first = max(0, length - LAST.get(name, length))
        np.save(folder / f"logits{i}.npy", logits[first:])
        prompts.append({"ids": ids} | ({"first": first} if first else {}) | {"logits": f"logits{i}.npy", "greedy": greedy})
        if name == "deepseek-v3" and length > 1:
            np.save(folder / f"mtp{i}.npy", tiny_deepseek.mtp_oracle(tiny)(ids))
            prompts[-1]["mtp"] = f"mtp{i}.npy"
    if name in WITH_DRAFTS:
        write_drafts(folder, tiny, prompts)
    golden = {
        "seed": seed,
        "versions": {p: version(p) for p in ("transformers", "torch", "numpy", "gguf")},
        "model": where,
        "prompts": prompts,
    }
    if name == "llama-bias":
        golden["may_refuse"] = "bias"
    write_golden(folder, golden)


def write_drafts(folder: Path, tiny: Tiny, prompts: list[dict[str, Any]]) -> None:
    """Adds the drafts behind each prompt, and checks that the reference agrees with the logits that they start from."""
    model = tiny_deepseek.drafts_of(tiny)
    for i, p in enumerate(prompts):
        ids, made = p["ids"], {}
        if hasattr(model, "logits") and tiny.arch != "deepseek_v41":
            off = np.abs(model.logits(ids)[p.get("first", 0) :] - np.load(folder / p["logits"])).max()
            assert off < 1e-4, f"the reference of {folder.name} is {off} away on {len(ids)} tokens"
        if "dspark_markov_rank" in tiny.config.get("text_config", tiny.config):
            made = model.block(ids)
            chained = made["draft"]
        elif len(ids) > 1:
            every, chained = model.drafts(ids, CHAIN)
            made = {"chain": chained}
            if "mtp" in p:
                assert np.abs(every - np.load(folder / p["mtp"])).max() < 1e-4
            else:
                made["mtp"] = every[-ROWS:]
                if len(every) > ROWS:
                    p["mtp_first"] = len(every) - ROWS
        else:
            continue
        tops = np.sort(chained, -1)
        assert (tops[:, -1] - tops[:, -2]).min() > 0.01, f"{folder.name}, {len(ids)} tokens: a draft is chosen too closely"
        for key, rows in made.items():
            np.save(folder / f"{key}{i}.npy", rows.astype(np.float32))
            p[key] = f"{key}{i}.npy"


def add_drafts(name: str, folder: Path) -> None:
    """The weights, with those of the drafts, and the drafts; what the model had before stays as it is."""
    from safetensors.torch import load_file

    tiny = tiny_of(name)
    before = load_file(folder / "model.safetensors")
    tiny_models.save_folder(tiny, folder, shards=1)
    after = load_file(folder / "model.safetensors")
    for tensor, value in before.items():
        same = tensor in after and value.shape == after[tensor].shape
        if not same or not torch.equal(value.view(torch.uint8), after[tensor].view(torch.uint8)):
            assert tensor.startswith(("mtp.", "vision.", "aligner.", "image_")), f"{name}: {tensor} would change"
    golden = json.loads((folder / "golden.json").read_text())
    write_drafts(folder, tiny, golden["prompts"])
    write_golden(folder, golden)


def write_golden(folder: Path, golden: dict[str, Any]) -> None:
    text = json.dumps(golden, indent=1)
    lines, inside = [], False
    for line in text.splitlines():  # lists of numbers on one line
        if inside:
            lines[-1] += line.strip() + (" " if line.rstrip().endswith(",") else "")
            inside = not line.strip().startswith("]")
        else:
            lines.append(line)
            inside = line.rstrip().endswith(('"ids": [', '"greedy": ['))
    (folder / "golden.json").write_text("\n".join(lines) + "\n")


def tiny_of(name: str) -> Tiny:
    """The weights of a model in its published types."""
    make_weights = tiny_deepseek.random_weights if CONFIGS[name]["model_type"] in tiny_deepseek.KINDS else tiny_models.random_weights
    tiny = make_weights(dict(CONFIGS[name]), 100 + list(CONFIGS).index(name))
    if name.endswith("-fp4"):
        if tiny.arch == "deepseek_v41":
            tiny_deepseek.to_v41_formats(tiny)
        else:
            tiny_deepseek.to_v4_formats(tiny, 128)
    if name.endswith("-fp8"):
        tiny_models.to_fp8(tiny, torch.bfloat16 if name == "qwen3-fp8" else torch.float32)
    if tiny.arch == "deepseek_v41":
        tiny.token_table = deepseek_v41_reference.token_table(tokenizer_v41())
    return tiny


def make(name: str, out: Path) -> None:
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    base, kinds = TWINS.get(name, (DEEPSEEK_TWINS[name][0] if name in DEEPSEEK_TWINS else name, None))
    seed = 100 + list(CONFIGS).index(base)
    make_weights = tiny_deepseek.random_weights if CONFIGS[base]["model_type"] in tiny_deepseek.KINDS else tiny_models.random_weights
    tiny = make_weights(dict(CONFIGS[base]), seed)
    if name in DEEPSEEK_TWINS:
        _, kind, form = DEEPSEEK_TWINS[name]
        if base.endswith("-fp4"):
            tiny_deepseek.to_v41_formats(tiny)
        if tiny.arch == "deepseek_v41":
            tiny.token_table = deepseek_v41_reference.token_table(tokenizer_v41())
            tiny_deepseek.save_v4_gguf(tiny, folder / "model.gguf", kind, str(form), gguf_tokenizer(tokenizer_v41()))
        elif tiny.arch == "deepseek_v4":
            tiny_deepseek.save_v4_gguf(tiny, folder / "model.gguf", kind)
        else:
            tiny_deepseek.save_gguf(tiny, folder / "model.gguf", kind, bool(form))
        # llama.cpp's converter keeps multi-token prediction in this architecture alone.
        write_golden(folder, {"model": "model.gguf", "same_as": base} | ({"drafts": True} if base == "deepseek-v32" else {}))
        return
    if kinds:
        tiny_models.save_gguf(tiny, folder / "model.gguf", kinds, tokenizer=gguf_tokenizer(tokenizer()) if base == "qwen3" else None)
        write_golden(folder, {"model": "model.gguf", "same_as": base})
        return
    if name in QUANT_TYPES:
        tiny_models.save_gguf(tiny, folder / "model.gguf", quant_type_of(name), seed)
        write_reference(folder, name, tiny, seed, "model.gguf")
        return
    tiny = tiny_of(name)
    tiny_models.save_folder(tiny, folder, shards=2 if name.endswith("-sharded") else 1)
    if name == "qwen3":
        save_tokenizer(folder, tokenizer())
    if tiny.arch == "deepseek_v41":
        save_tokenizer(folder, tokenizer_v41())
    write_reference(folder, name, tiny, seed, ".")


def main() -> int:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("names", nargs="*", metavar="NAME")
    a.add_argument("--out", type=Path, default=ROOT / "tests" / "golden")
    a.add_argument("--check", action="store_true")
    a.add_argument("--drafts", action="store_true")
    args = a.parse_args()
    torch.set_num_threads(1)
    if args.drafts:
        for name in args.names or WITH_DRAFTS:
            add_drafts(name, args.out / name)
        return 0
    names = args.names or [*CONFIGS, *TWINS, *DEEPSEEK_TWINS]
    out = Path(tempfile.mkdtemp(prefix="golden-")) if args.check else args.out
    failed = 0
    for name in names:
        make(name, out)
        size = sum(f.stat().st_size for f in (out / name).iterdir())
        said = f"{name:32} {size / 1024:7.0f} KiB"
        if args.check:
            stored = sorted((args.out / name).glob("*.npy"))
            worst = max((float(np.abs(np.load(f) - np.load(out / name / f.name)).max()) for f in stored), default=0.0)
            same = worst < 1e-4 and {f.name for f in stored} == {f.name for f in (out / name).glob("*.npy")}
            failed += not same
            said += f"   largest difference {worst:.1e}   {'ok' if same else 'DIFFERS'}"
        print(said, flush=True)
    if args.check:
        shutil.rmtree(out)
        print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""Tests of `hadal quantize`: what it writes is read as the model that it was made of, and what it cannot do is refused.

run_quantize.py BINARY [unittest options]        standard library only
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
GOLDEN = TESTS / "golden"
sys.path.insert(0, str(TESTS))
import npy  # noqa: E402

BINARY = ""
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
# Folders in BF16, whose numbers a BF16 file holds exactly; in the second list rows of q and k change their places, so that sums over
# a head have another order.
SAME_BITS = (
    "qwen2",
    "qwen2-tied-sharded",
    "qwen3",
    "qwen3-yarn",
    "qwen3-yarn-attention-factor",
    "deepseek-v2-lite",
    "deepseek-v2",
    "deepseek-v3-plain",
    "deepseek-v3",
    "deepseek-v32",
    "deepseek-v4",
)
REORDERED = ("llama", "llama-linear", "llama-llama3", "llama-tied-head-dim", "deepseek-moe")
# Decoded numbers of these need more than BF16.
SAME_BITS_AS_F32 = ("qwen3-fp8", "deepseek-v3-fp8", "deepseek-v4-fp4")
IDS = ",".join(str(7 * i % 311) for i in range(40))


def hadal(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


class Quantize(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="hadal-quantize-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        self.out = self.folder / "out.gguf"

    def expect(self, code: int, *args: str) -> subprocess.CompletedProcess[str]:
        done = hadal(*args)
        self.assertEqual(done.returncode, code, f"{args}: {done.stderr}")
        if code != OK:
            self.assertEqual(done.stdout, "")
            self.assertRegex(done.stderr, r"^hadal: .+\n$")
            self.assertEqual([p.name for p in self.folder.iterdir() if p.name.startswith("out.gguf.")], [], "a temporary file stayed")
        return done

    def quantize(self, name: str, kind: str, *options: str) -> Path:
        self.expect(OK, "quantize", str(GOLDEN / name), str(self.out), "--type", kind, "--force", *options)
        return self.out

    def logits(self, model: Path, *options: str) -> list:
        out = self.folder / "logits.npy"
        self.expect(OK, "logits", str(model), "--ids", IDS, "--out", str(out), "--kv-cache-dtype", "f32", *options)
        return npy.load(out)

    def test_a_bf16_file_is_the_folder_bit_for_bit(self) -> None:
        for name in SAME_BITS:
            with self.subTest(name=name):
                written = self.quantize(name, "bf16")
                self.assertEqual(self.logits(GOLDEN / name, "--weights", "f32"), self.logits(written, "--weights", "f32"))

    def test_what_a_folder_leaves_to_its_family_is_written(self) -> None:
        folder = self.folder / "model"
        shutil.copytree(GOLDEN / "deepseek-v3", folder)
        config = json.loads((folder / "config.json").read_text())
        for key in ("scoring_func", "routed_scaling_factor"):  # both as the family has them
            del config[key]
        (folder / "config.json").write_text(json.dumps(config))
        self.expect(OK, "quantize", str(folder), str(self.out), "--type", "bf16")
        self.assertEqual(self.logits(GOLDEN / "deepseek-v3", "--weights", "f32"), self.logits(self.out, "--weights", "f32"))

    def test_decoded_fp8_and_fp4_are_the_folder_bit_for_bit(self) -> None:
        for name in SAME_BITS_AS_F32:
            with self.subTest(name=name):
                written = self.quantize(name, "f32")
                self.assertEqual(self.logits(GOLDEN / name, "--weights", "f32"), self.logits(written, "--weights", "f32"))

    def test_reordered_rows_are_the_same_model(self) -> None:
        for name in REORDERED:
            with self.subTest(name=name):
                folder = self.logits(GOLDEN / name, "--weights", "f32")
                self.assertLess(max(npy.kls(folder, self.logits(self.quantize(name, "bf16"), "--weights", "f32"))), 1e-9)

    def test_quantised_models_stay_near_and_nearer_with_more_bits(self) -> None:
        for name in ("qwen3", "deepseek-v3-fp8", "deepseek-v4-fp4"):
            exact, sizes, kls = self.logits(GOLDEN / name, "--weights", "f32"), [], []
            for kind in ("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0", "bf16"):
                written = self.quantize(name, kind)
                found = npy.kls(exact, self.logits(written, "--weights", "f32"))
                kls.append(sum(found) / len(found))
                sizes.append(written.stat().st_size)
            self.assertLess(kls[0], 0.5, name)
            self.assertEqual(kls[2:], sorted(kls[2:], reverse=True), name)
            self.assertEqual(sizes[2:], sorted(sizes[2:]), name)

    def test_fp4_experts_are_written_as_they_are(self) -> None:
        written = self.quantize("deepseek-v4-fp4", "q8_0")
        listed = json.loads(self.expect(OK, "inspect", str(written), "--tensors", "--json").stdout)["tensors"]
        tensors = {t["file_name"]: t["type"] for t in listed}
        self.assertEqual({tensors[f"blk.{i}.ffn_{part}_exps.weight"] for i in range(3) for part in ("gate", "up", "down")}, {"MXFP4"})
        exact = self.quantize("deepseek-v4-fp4", "f32")
        first = self.logits(exact, "--weights", "f32")
        mixed = self.logits(self.quantize("deepseek-v4-fp4", "bf16"), "--weights", "f32")
        self.assertLess(max(npy.kls(first, mixed)), 1e-4)

    def test_the_vocabulary_and_the_template_come_along(self) -> None:
        written = str(self.quantize("qwen3", "q8_0"))
        for text in ("The hadal zone, 6000 m:  naïve café — 深海!\n", "<｜User｜>hi<think>", "It's 1234567 WE'LL\r\n\n  x"):
            folder = self.expect(OK, "tokenize", str(GOLDEN / "qwen3"), "--text", text, "--json").stdout
            self.assertEqual(folder, self.expect(OK, "tokenize", written, "--text", text, "--json").stdout)
        described = [json.loads(self.expect(OK, "inspect", model, "--json").stdout) for model in (str(GOLDEN / "qwen3"), written)]
        self.assertEqual(described[0]["chat_format"], described[1]["chat_format"])
        self.assertIn("pre-tokenizer", described[1]["tokenizer"])

    def test_from_gguf_to_gguf(self) -> None:
        model = GOLDEN / "qwen3-gguf" / "model.gguf"
        first = self.folder / "first.gguf"
        self.expect(OK, "quantize", str(model), str(first), "--type", "q8_0")
        error = self.expect(FAILED, "quantize", str(first), str(self.out), "--type", "q4_0").stderr
        self.assertRegex(error, r"tensor \S+ is Q8_0 already, as Q\w+ it would lose quality once more.*--allow-requantize")
        self.assertFalse(self.out.exists())
        self.expect(OK, "quantize", str(first), str(self.out), "--type", "q8_0")  # nothing is quantised again
        self.assertEqual(self.logits(first), self.logits(self.out))
        self.expect(OK, "quantize", str(first), str(self.out), "--type", "q4_0", "--allow-requantize", "--force")

    def test_what_a_gguf_cannot_say_is_refused_by_name(self) -> None:
        self.assertIn("attention_bias", self.expect(FAILED, "quantize", str(GOLDEN / "llama-bias"), str(self.out), "--type", "q8_0").stderr)
        copy = Path(shutil.copytree(GOLDEN / "deepseek-v3", self.folder / "model"))
        config = json.loads((copy / "config.json").read_text())
        for key, value in (("rope_scaling", config["rope_scaling"] | {"mscale": 0.5}), ("moe_layer_freq", 2)):
            with self.subTest(key=key):
                (copy / "config.json").write_text(json.dumps(config | {key: value}))
                error = self.expect(FAILED, "quantize", str(copy), str(self.out), "--type", "q8_0").stderr
                self.assertRegex(error, key if key != "moe_layer_freq" else "moe_layer_freq|missing")
                self.assertFalse(self.out.exists())

    def test_an_existing_file_is_kept(self) -> None:
        self.out.write_text("mine")
        self.assertIn("--force", self.expect(USAGE, "quantize", str(GOLDEN / "qwen3"), str(self.out), "--type", "q8_0").stderr)
        self.assertEqual(self.out.read_text(), "mine")
        self.quantize("qwen3", "q8_0")
        self.assertIn("the model itself", self.expect(USAGE, "quantize", str(self.out), str(self.out), "--type", "q8_0", "--force").stderr)
        self.expect(USAGE, "quantize", str(GOLDEN / "qwen3"), str(self.folder / "x.gguf"), "--type", "q3_k")
        error = self.expect(FAILED, "quantize", str(GOLDEN / "qwen3"), str(self.folder / "no" / "x"), "--type", "q8_0").stderr
        self.assertIn("cannot create", error)

    def test_a_full_disk_leaves_nothing(self) -> None:
        done = subprocess.run(
            [BINARY, "quantize", str(GOLDEN / "qwen3"), str(self.out), "--type", "bf16"],
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)),
        )
        self.assertEqual(done.returncode, FAILED, done.stderr)
        self.assertRegex(done.stderr, r"out\.gguf: cannot write .*\n$")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_an_interrupt_leaves_nothing(self) -> None:
        # large enough that the interrupt comes in time
        model = TESTS.parent / ".models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
        if not model.exists():
            self.skipTest("the model of `make run` is not there")
        process = subprocess.Popen(
            [BINARY, "quantize", str(model), str(self.out), "--type", "q4_k_m", "--allow-requantize", "--threads", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 30
        while not list(self.folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, INTERRUPTED, error)
        self.assertIn("nothing was written", error)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_values_that_are_no_numbers_are_refused(self) -> None:
        copy = Path(shutil.copytree(GOLDEN / "qwen3", self.folder / "model"))
        file = copy / "model.safetensors"
        data = bytearray(file.read_bytes())
        size = int.from_bytes(data[:8], "little")
        at = 8 + size + json.loads(data[8 : 8 + size])["model.layers.0.mlp.up_proj.weight"]["data_offsets"][0]
        data[at : at + 2] = b"\xc0\x7f"
        file.write_bytes(data)
        error = self.expect(FAILED, "quantize", str(copy), str(self.out), "--type", "q8_0").stderr
        self.assertRegex(error, r"up_proj\.weight.*row 0 holds values that are no finite numbers")


if __name__ == "__main__":
    BINARY = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)

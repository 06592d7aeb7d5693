#!/usr/bin/env python3
"""Tests of the hadal program as a user meets it: exit codes, what goes to stdout and to stderr, and that both stay in bounds.

run_cli.py BINARY [unittest options]        standard library only
"""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
GOLDEN = TESTS / "golden"
sys.path.insert(0, str(TESTS))
import npy  # noqa: E402

BINARY = ""
PLUGIN = os.environ.get("HADAL_TEST_PLUGIN", "")  # libhadal_apart_half.so, whose options lose the device
OK, FAILED, USAGE, MEMORY, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 4, 130
QWEN3, QWEN3_GGUF = str(GOLDEN / "qwen3"), str(GOLDEN / "qwen3-gguf" / "model.gguf")
LEFT_OUT = "left out"  # instead of a value: the key is not there
MTP = str(GOLDEN / "deepseek-v32")  # its layer 3 is the one of multi-token prediction


def hadal(*args: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BINARY, *args], input=stdin, capture_output=True, text=True, timeout=120, env=os.environ | (env or {}))


# HADAL_CHIP may name any chip: what asks for fp32 weights, for threads of the chip's own, or for another device that computes as it does
# is left out then
OWN_CHIP = unittest.skipUnless(os.environ.get("HADAL_CHIP", "cpu") in ("cpu", "ref"), "asks for what only our own chips have")


class Program(unittest.TestCase):
    def expect(self, code: int, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = hadal(*args, stdin=stdin)
        self.assertEqual(done.returncode, code, f"{args}: {done.stderr}")
        if code not in (OK, INTERRUPTED):
            self.assertEqual(done.stdout, "", f"{args}: a failure prints nothing on stdout")
            self.assertRegex(done.stderr, r"^hadal: .+\n$", "one line that begins with the program's name")
            self.assertNotRegex(done.stderr, r"terminate called|std::|basic_string|nlohmann", "no inner words in a message")
        return done


def rewrite_tensors(folder: Path, change: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]) -> None:
    """Rewrites model.safetensors: `change` gets its header and its data."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors, rest = change(json.loads(data[8 : 8 + size]), data[8 + size :])
    header = json.dumps(tensors).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + rest)


def rename_tensor(folder: Path, old: str, new: str) -> None:
    rewrite_tensors(folder, lambda tensors, data: ({new if n == old else n: t for n, t in tensors.items()}, data))


class HelpAndVersion(Program):
    def test_help_names_the_commands(self) -> None:
        said = self.expect(OK, "--help").stdout
        for command in (
            "run",
            "generate",
            "logits",
            "tokenize",
            "encode",
            "parse",
            "inspect",
            "plan",
            "quantize",
            "bench",
            "chips",
            "doctor",
            "version",
        ):
            self.assertIn(command, said)
            self.assertIn("--help", self.expect(OK, command, "--help").stdout)

    def test_version(self) -> None:
        self.assertRegex(self.expect(OK, "--version").stdout, r"^hadal \d+\.\d+\.\d+\n$")
        self.expect(OK, "version")
        json.loads(self.expect(OK, "version", "--json").stdout)

    def test_chips_lists_ref_and_cpu(self) -> None:
        said = self.expect(OK, "chips").stdout
        self.assertIn("ref", said)
        self.assertIn("cpu", said)

    def test_chips_as_json_have_the_fields_of_the_page(self) -> None:
        page = (TESTS.parent / "docs/doctor.md").read_text()
        chips = [json.loads(line) for line in self.expect(OK, "chips", "cpu", "ref", "--json").stdout.splitlines()]
        self.assertEqual([c["chip"] for c in chips], ["cpu", "ref"])
        for chip in chips:
            self.assertTrue(chip["runs"])
            self.assertEqual(chip["matmul_types"]["F32"], "exact")
            self.assertEqual([d["device"] for d in chip["devices"]], [chip["device"]])
            for key in chip:
                self.assertIn(f"`{key}`", page)

    def test_the_language_of_chips_and_doctor(self) -> None:
        def said(command: str, *options: str, **variables: str) -> str:
            environment = {k: v for k, v in os.environ.items() if k != "LANG" and not k.startswith("LC_")} | variables
            done = subprocess.run([BINARY, command, *options], capture_output=True, text=True, timeout=120, env=environment)
            self.assertEqual(done.returncode, OK, done.stderr)
            return done.stdout

        for command, english, chinese in (("chips", "kernel table", "内核表"), ("doctor", "huge pages", "大页")):
            self.assertIn(english, said(command))
            self.assertIn(chinese, said(command, LANG="zh_CN.UTF-8"))
            self.assertIn(english, said(command, LANG="zh_CN.UTF-8", LC_ALL="C"))
            self.assertIn(chinese, said(command, "--lang", "zh", LC_ALL="C"))
            self.assertIn(english, said(command, "--lang", "en", LANG="zh_CN.UTF-8"))
            self.assertTrue(said(command, "--json", LANG="zh_CN.UTF-8").isascii())

    def plugin_folder(self) -> Path:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        return Path(scratch.name)

    def test_chips_name_a_plugin_that_others_may_write_and_the_command(self) -> None:
        folder = self.plugin_folder()
        file = folder / "libhadal_mine.so"
        file.write_bytes(b"")
        file.chmod(0o666)
        environment = {"HADAL_CHIPS": f"relative:{folder}", "LC_ALL": "C"}
        done = hadal("chips", env=environment)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn(f"to mend it: chmod go-w {file}", done.stdout)
        self.assertIn(f"{folder}: mine", done.stdout)
        self.assertIn("relative: no absolute path", done.stdout)
        done = hadal("doctor", env=environment)
        self.assertEqual(done.returncode, OK)  # cpu runs without it
        self.assertIn(f"to mend it: chmod go-w {file}", done.stdout)
        self.assertRegex(done.stdout, r"wrong +HADAL_CHIPS +relative: no absolute path")

    def test_names_of_plugins_harm_no_terminal_and_no_shell(self) -> None:
        folder = self.plugin_folder()
        file = folder / "libhadal_na me;$(touch x)\x1b[31m\n.so"
        file.write_bytes(b"")
        file.chmod(0o666)
        environment = {"HADAL_CHIPS": str(folder), "LC_ALL": "C"}
        for command in (("chips",), ("doctor",), ("doctor", "--lang", "zh")):
            said = hadal(*command, env=environment).stdout
            self.assertNotIn("\x1b", said)
            self.assertIn(r"na me;$(touch x)\x1b[31m\x0a", said)
        chips = [json.loads(line) for line in hadal("chips", "--json", env=environment).stdout.splitlines()]
        mine = next(c for c in chips if c["chip"].startswith("na me"))
        subprocess.run(["bash", "-c", mine["command"]], check=True, cwd=folder)
        self.assertEqual(file.stat().st_mode & 0o777, 0o644)
        self.assertEqual([f.name for f in folder.iterdir()], [file.name])  # the command did this alone

    def test_chips_that_are_not_there(self) -> None:
        for name in ("nosuch", "./no/such.so", ""):
            done = hadal("chips", "--lang", "en", name, "cpu")
            self.assertNotEqual(done.returncode, OK)
            self.assertRegex(done.stdout, r"^\S+: not found \(")
            self.assertIn("kernel table", done.stdout)  # of the other one
        self.assertNotIn("does not run", done.stdout)

    def test_a_driver_that_crashes_ends_nobody_else(self) -> None:
        folder = self.plugin_folder()
        shutil.copy(Path(BINARY).parent / "testing_chip.so", folder / "libhadal_testing.so")
        environment = {"HADAL_CHIPS": str(folder), "HADAL_TESTING_CHIP": "crash when opened", "LC_ALL": "C"}
        crashes = "it crashes when its devices are opened and asked (Aborted)"
        done = hadal("chips", env=environment)
        self.assertEqual(done.returncode, FAILED)
        self.assertRegex(done.stdout, "(?s)" + re.escape(crashes) + ".*Plug-ins .* were looked for")
        chip = json.loads(hadal("chips", "testing", "--json", env=environment).stdout)
        self.assertFalse(chip["runs"])
        self.assertIn(crashes, chip["error"])
        done = hadal("doctor", env=environment)
        self.assertEqual(done.returncode, OK)
        self.assertRegex(done.stdout, r"wrong +testing +.*" + re.escape(crashes))
        done = hadal("doctor", QWEN3, "--chip", "testing", "--json", env=environment)
        self.assertEqual(done.returncode, FAILED)
        model = json.loads(done.stdout)["model"]
        self.assertIn(crashes, model[-1]["text"])
        self.assertEqual(model[-1]["command"], f"hadal plan {QWEN3} --chip cpu")

    def test_doctor_of_a_model(self) -> None:
        said = json.loads(self.expect(OK, "doctor", QWEN3, "--chip", "cpu", "--json").stdout)
        self.assertTrue(said["can_run"])
        verdicts = {f["check"]: f["verdict"] for f in said["machine"] + said["chips"] + said["model"]}
        for check in ("processor", "memory", "open_files", "plugin_folders", "model", "model_plan", "model_memory"):
            self.assertIn(check, verdicts)
        for text in ("model", "model_plan", "model_conversion", "model_memory"):
            self.assertEqual(verdicts[text], "ok")
        absent = hadal("doctor", "no/such/model.gguf", "--json")
        self.assertEqual(absent.returncode, FAILED)
        self.assertFalse(json.loads(absent.stdout)["can_run"])
        self.assertEqual(json.loads(absent.stdout)["model"][0]["verdict"], "missing")

    def test_what_the_doctor_proposes_for_a_model_runs(self) -> None:
        folder = self.plugin_folder() / "a model;"
        shutil.copytree(GOLDEN / "deepseek-v3", folder)
        environment = os.environ | {"HADAL_TESTING_CHIP": "", "PATH": f"{Path(BINARY).resolve().parent}:{os.environ['PATH']}"}
        template, testing = (str(Path(BINARY).resolve().parent / name) for name in ("libhadal_template.so", "testing_chip.so"))
        for chip, device, proposed in (
            (template, "0", f"--chip {template} --fallback allow"),  # it takes the operators of dense models alone
            (testing, "0", "--chip cpu"),  # it has no memory
            ("nosuch", "0", "--chip cpu"),
            ("cpu", "7", "--chip cpu"),
        ):
            done = hadal("doctor", str(folder), "--chip", chip, "--device", device, "--json", env=environment)
            self.assertEqual(done.returncode, FAILED, done.stderr)
            command = json.loads(done.stdout)["model"][-1]["command"]
            self.assertEqual(command, f"hadal plan '{folder}' {proposed}")
            if chip == template:
                self.assertEqual(done.stderr.count("router"), 1)  # each operator is named once
            ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, env=environment)
            self.assertEqual(ran.returncode, OK, ran.stderr)


class ExitCodes(Program):
    def test_wrong_usage(self) -> None:
        for args in (
            [],
            ["frobnicate"],
            ["generate"],
            ["generate", QWEN3],
            ["generate", QWEN3, "--ids", "1", "--no-such-option"],
            ["generate", QWEN3, "--ids", "1,x"],
            ["generate", QWEN3, "--ids", "1", "--max-new", "0"],
            ["generate", QWEN3, "--ids", "-1", "--print-ids"],
            ["generate", QWEN3, "--ids", "320", "--print-ids"],
            ["generate", QWEN3, "--ids", "1", "--text", "x"],
            ["logits", QWEN3, "--ids", "", "--out", "x.npy"],
            ["generate", QWEN3, "--ids", "1", "--kv-cache-dtype", "f8"],
            ["generate", QWEN3, "--ids", "99999999999999999999"],
        ):
            with self.subTest(args=args):
                self.expect(USAGE, *args)

    @OWN_CHIP
    def test_a_thread_that_cannot_start_is_named(self) -> None:
        def limited(*args: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [BINARY, *args],
                capture_output=True,
                text=True,
                timeout=120,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
            )

        if limited("version").returncode != OK:
            self.skipTest("a sanitizer's shadow memory fits under no limit of address space")
        done = limited("generate", QWEN3, "--ids", "1", "--print-ids", "--threads", "1024")
        self.assertEqual(done.returncode, MEMORY, done.stderr)
        self.assertRegex(done.stderr, r"cannot start worker thread \d+ of 1024: .*ulimit -v 1048576 KiB.*; fewer with --threads\n$")

    def test_not_found(self) -> None:
        for args in (
            ["generate", "no/such/model", "--ids", "1"],
            ["inspect", "no-such.gguf"],
            ["tokenize", "no.json", "--text", "x"],
            ["generate", QWEN3, "--ids", "1", "--print-ids", "--chip", "./no-such-chip.so"],
        ):
            with self.subTest(args=args):
                self.expect(NOT_FOUND, *args)

    def test_broken_files(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, data in (("empty.gguf", b""), ("short.gguf", Path(QWEN3_GGUF).read_bytes()[:5000]), ("text.gguf", b"hello\n" * 100)):
                path = Path(folder) / name
                path.write_bytes(data)
                with self.subTest(name=name):
                    self.assertIn(name, self.expect(FAILED, "inspect", str(path)).stderr)
                    self.expect(FAILED, "generate", str(path), "--ids", "1", "--print-ids", "--ignore-eos")

    def test_tensors_that_do_not_match_the_configuration(self) -> None:
        for family in ("qwen3", "deepseek-moe", "deepseek-v3", "deepseek-v32", "deepseek-v4", "deepseek-v41"):
            for mistake in ("missing", "unknown"):
                with self.subTest(family=family, mistake=mistake), tempfile.TemporaryDirectory() as folder:
                    copy = Path(shutil.copytree(GOLDEN / family, Path(folder) / "model"))
                    name = {"deepseek-v4": "layers.0.attn_norm.weight", "deepseek-v41": "layers.0.attn_norm.weight"}.get(
                        family, "model.layers.0.input_layernorm.weight"
                    )
                    renamed = name.replace("layers.0.", "layers.0.strange_")
                    rename_tensor(copy, name, renamed)
                    error = self.expect(FAILED, "inspect", str(copy)).stderr
                    self.assertRegex(error, f"{mistake}[^:]*: {re.escape(name if mistake == 'missing' else renamed)}")

    def test_experts_by_token_that_do_not_exist(self) -> None:
        for layer, bad in itertools.product((0, 1), (8, -1, 2**31 - 1, -(2**31), 2**40)):
            with self.subTest(layer=layer, expert=bad), tempfile.TemporaryDirectory() as folder:
                copy = Path(shutil.copytree(GOLDEN / "deepseek-v4", Path(folder) / "model"))
                file = copy / "model.safetensors"
                data = bytearray(file.read_bytes())
                size = int.from_bytes(data[:8], "little")
                table = json.loads(data[8 : 8 + size])[f"layers.{layer}.ffn.gate.tid2eid"]
                self.assertEqual(table["dtype"], "I64")
                begin, end = (8 + size + at for at in table["data_offsets"])
                data[begin:end] = bad.to_bytes(8, "little", signed=True) * ((end - begin) // 8)
                file.write_bytes(data)
                for chip in ("cpu", "ref"):
                    error = self.expect(
                        FAILED, "generate", str(copy), "--ids", "1,2", "--max-new", "2", "--print-ids", "--chip", chip
                    ).stderr
                    self.assertRegex(error, r"(expert|hash)\s?\[\d+\].*outside \[0, 8\)")

    def test_values_of_config_json_that_cannot_be(self) -> None:
        for family, change, said in (
            (
                "deepseek-v41-fp4",
                {"quantization_config": {"quant_method": "fp8", "weight_block_size": [2**63 - 1, 2**63 - 1]}},
                "weight_block_size",
            ),
            ("deepseek-v41-fp4", {"quantization_config": {"quant_method": "fp8", "weight_block_size": "x"}}, "weight_block_size"),
            ("deepseek-v41", {"kv_source_layer_ids": [0]}, "kv_source_layer_ids"),
            ("deepseek-v41", {"kv_source_layer_ids": [1, 1, 2, 3]}, "kv_source_layer_ids"),
            ("deepseek-v41", {"index_source_layer_ids": [1, 2]}, "index_source_layer_ids"),
            ("deepseek-v41", {"candidate_source_layer_id": 5}, "candidate_source_layer_id"),
            ("deepseek-v41", {"compress_ratios": [0, 3, 3, 1, 1, 1, 1]}, "compress_ratios"),
            ("deepseek-v41", {"engram_compressed_vocab_size": 300}, "engram_compressed_vocab_size"),
            ("deepseek-v41", {"engram_layer_ids": [5, 1]}, "engram_layer_ids"),
            ("deepseek-v41", {"gate_temp": 2.0}, "gate_temp"),
            ("deepseek-v41", {"sliding_window": 0}, "sliding_window"),
            ("deepseek-v4", {"swiglu_limit": -1}, "swiglu_limit"),
            ("deepseek-v4", {"compress_rates": {"compressed_sparse_attention": 8}}, "compress_rates"),
            ("deepseek-v3", {"num_experts_per_tok": 9}, "num_experts_per_tok"),
            ("deepseek-v3", {"num_attention_heads": 0}, "num_attention_heads"),
        ):
            with self.subTest(family=family, change=change), tempfile.TemporaryDirectory() as folder:
                copy = Path(shutil.copytree(GOLDEN / family, Path(folder) / "model"))
                config = json.loads((copy / "config.json").read_text())
                inner = config["text_config"] if "text_config" in config and "quantization_config" not in change else config
                inner.update(change)
                (copy / "config.json").write_text(json.dumps(config))
                self.assertIn(said, self.expect(FAILED, "generate", str(copy), "--ids", "1", "--print-ids").stderr)

    def test_a_tail_that_a_model_does_not_have(self) -> None:
        self.assertIn("--v41-tail", self.expect(USAGE, "generate", QWEN3, "--ids", "1", "--print-ids", "--v41-tail", "5").stderr)

    def test_context_too_small(self) -> None:
        ids = ",".join(["7"] * 40)
        self.expect(MEMORY, "generate", QWEN3, "--ids", ids, "--max-new", "4", "--print-ids", "--ignore-eos", "--ctx", "16")
        self.assertIn("(--ctx 512)", self.expect(MEMORY, "generate", QWEN3, "--ids", "1", "--print-ids", "--ctx", "100000").stderr)
        self.expect(MEMORY, "logits", QWEN3, "--ids", ",".join(["7"] * 600), "--out", os.devnull)  # the model's limit is 512

    def test_output_that_cannot_be_written(self) -> None:
        self.expect(NOT_FOUND if not Path("/no/such").exists() else FAILED, "logits", QWEN3, "--ids", "1", "--out", "/no/such/folder/x.npy")
        self.expect(FAILED, "logits", QWEN3, "--ids", ",".join(["3"] * 200), "--out", "/dev/full")

    def test_a_closed_pipe_is_no_crash(self) -> None:
        done = subprocess.run(
            [
                "bash",
                "-c",
                '"$0" generate "$1" --ids 5 --max-new 300 --ignore-eos --print-ids | true; echo ${PIPESTATUS[0]}',
                BINARY,
                QWEN3,
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertIn(int(done.stdout), (OK, FAILED))


class FolderConfigs(Program):
    """What config.json may say in several ways, or wrongly. tools/check_configs.py holds the same against transformers."""

    def copy(self, family: str, change: dict[str, Any]) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        copy = Path(shutil.copytree(GOLDEN / family, Path(folder.name) / "model"))
        config = {k: v for k, v in (json.loads((copy / "config.json").read_text()) | change).items() if v != LEFT_OUT}
        (copy / "config.json").write_text(json.dumps(config))
        return copy

    def logits(self, folder: Path) -> bytes:
        out = folder / "logits.npy"
        self.expect(OK, "logits", str(folder), "--ids", "5,6,7,8,9,10,11,12", "--out", str(out), "--weights", "f32")
        return out.read_bytes()

    @OWN_CHIP
    def test_two_ways_to_say_the_same(self) -> None:
        default, linear = {"rope_type": "default", "rope_theta": 10000.0}, {"rope_type": "linear", "factor": 4.0}
        for family, one, other in (
            ("llama", {"hidden_act": "swish"}, {}),
            ("llama", {"model_type": ""}, {}),
            ("llama", {"model_type": LEFT_OUT}, {}),
            ("llama-tied-head-dim", {"partial_rotary_factor": 0.5}, {}),
            ("llama", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0}, {}),
            ("deepseek-v4", {"model_type": ""}, {}),
            ("qwen3", {"rope_theta": 123.0, "rope_parameters": default}, {"rope_parameters": default}),
            ("qwen3", {"rope_theta": 123.0, "rope_parameters": {}}, {"rope_parameters": default | {"rope_theta": 123.0}}),
            ("qwen3", {"rope_scaling": linear}, {"rope_parameters": default | linear}),
            (
                "llama-llama3",
                {"original_max_position_embeddings": 32},
                {
                    "rope_scaling": {
                        "rope_type": "llama3",
                        "factor": 8.0,
                        "low_freq_factor": 1.0,
                        "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 32,
                    }
                },
            ),
            ("deepseek-v3-plain", {"model_type": "kimi_k2", "seq_aux": True, "use_qk_norm": False, "ep_size": 1}, {}),
            (
                "deepseek-v3",
                {"n_shared_experts": LEFT_OUT, "scoring_func": LEFT_OUT, "topk_method": LEFT_OUT},
                {"n_shared_experts": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc"},
            ),
            ("deepseek-v32", {"mlp_layer_types": ["dense", "sparse", "sparse"], "first_k_dense_replace": 3}, {"first_k_dense_replace": 1}),
        ):
            with self.subTest(family=family, one=one):
                self.assertEqual(self.logits(self.copy(family, one)), self.logits(self.copy(family, other)))

    def test_refused_by_name(self) -> None:
        for family, change, said in (
            ("llama", {"hidden_act": "gelu" + "x" * 70000}, 'hidden_act "gelux'),
            ("llama", {"model_type": "m" * 70000, "architectures": ["X"]}, 'architecture "mmm'),
            ("llama", {"rope_scaling": {"type": "t" * 70000, "factor": 2.0}}, 'type "ttt'),
            ("llama-linear", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
            ("deepseek-v3-plain", {"model_type": "kimi_k3", "head_gate": 2}, '"kimi_k3".*"head_gate": 2'),
            *(
                ("llama", {"quantization_config": {"quant_method": m, "bits": 4}}, f'quant_method "{m}" is not known')
                for m in ("awq", "gptq", "bitsandbytes", "compressed-tensors")
            ),
        ):
            with self.subTest(family=family, said=said):
                error = self.expect(FAILED, "inspect", str(self.copy(family, change))).stderr
                self.assertRegex(error, said)
                self.assertLess(len(error), 600)

    def test_long_names_of_tensors_are_cut(self) -> None:
        folder = self.copy("llama", {})
        rename_tensor(folder, "model.norm.weight", "n" * 1000)
        error = self.expect(FAILED, "inspect", str(folder)).stderr
        self.assertIn("n" * 80 + "…", error)
        self.assertNotIn("n" * 100, error)

    @OWN_CHIP
    def test_a_tied_head_that_is_another_matrix_is_used(self) -> None:
        def with_head(values: bytes) -> Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]:
            def change(tensors: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
                begin, end = tensors["model.embed_tokens.weight"]["data_offsets"]
                head = data[begin:end] if values == b"" else (values * (end - begin))[: end - begin]
                tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] | {"data_offsets": [len(data), len(data) + len(head)]}
                return tensors, data + head

            return change

        plain = self.logits(self.copy("llama-tied-head-dim", {}))
        for values, tied, same in ((b"", True, True), (b"\x80\x3f\x00\x40\x40\xc0", True, False)):
            untied = self.copy("llama-tied-head-dim", {"tie_word_embeddings": False})
            folder = self.copy("llama-tied-head-dim", {"tie_word_embeddings": tied})
            for f in (folder, untied):
                rewrite_tensors(f, with_head(values))
            self.assertEqual(self.logits(folder), self.logits(untied))
            self.assertEqual(self.logits(folder) == plain, same)

    def test_scaling_of_the_original_context(self) -> None:
        folder = self.copy("qwen3-yarn", {"max_position_embeddings": 32})
        self.assertRegex(self.expect(OK, "inspect", str(folder)).stdout, r"max_position_embeddings +128\n")
        self.expect(OK, "logits", str(folder), "--ids", ",".join(["7"] * 100), "--out", os.devnull)

    def test_files_that_are_no_models_yet(self) -> None:
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            folder = self.copy("llama", {})
            (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 3087467144\n")
            self.assertRegex(self.expect(FAILED, "inspect", str(folder)).stderr, f"{re.escape(name)}: a Git LFS pointer.*git lfs pull")

    def test_a_folder_with_gguf_files(self) -> None:
        folder = self.copy("llama", {})
        (folder / "model.safetensors").unlink()
        shutil.copy(QWEN3_GGUF, folder / "one.gguf")
        self.assertIn("GGUF v3", self.expect(OK, "inspect", str(folder)).stdout)
        shutil.copy(QWEN3_GGUF, folder / "two.gguf")
        self.assertIn('"one.gguf", "two.gguf"', self.expect(FAILED, "inspect", str(folder)).stderr)

    def test_too_little_address_space(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            large = Path(folder) / "large.gguf"
            with large.open("wb") as file:
                file.truncate(2**40)
            limited = ["bash", "-c", 'ulimit -v 8000000; exec "$0" "$@"', BINARY]
            if subprocess.run([*limited, "version"], capture_output=True).returncode != OK:
                self.skipTest("a sanitizer's shadow memory fits under no limit of address space")
            done = subprocess.run([*limited, "inspect", str(large)], capture_output=True, text=True)
            self.assertEqual(done.returncode, MEMORY, done.stderr)
            self.assertRegex(done.stderr, r"cannot map its 1099511627776 bytes: .*8192000000 bytes.*ulimit -v")


class Generation(Program):
    golden = json.loads((GOLDEN / "qwen3" / "golden.json").read_text())["prompts"][1]
    ids = ",".join(map(str, golden["ids"]))

    @OWN_CHIP
    def test_both_formats_give_the_reference(self) -> None:
        expected = ",".join(map(str, self.golden["greedy"])) + "\n"
        for model in (QWEN3, QWEN3_GGUF, str(GOLDEN / "qwen3" / "model.safetensors")):
            with self.subTest(model=model):
                said = self.expect(
                    OK,
                    "generate",
                    model,
                    "--ids",
                    self.ids,
                    "--max-new",
                    str(len(self.golden["greedy"])),
                    "--greedy",
                    "--ignore-eos",
                    "--print-ids",
                    "--weights",
                    "f32",
                    "--kv-cache-dtype",
                    "f32",
                ).stdout
                self.assertEqual(said, expected)

    def test_a_seed_decides(self) -> None:
        run = ["generate", QWEN3, "--ids", self.ids, "--max-new", "30", "--ignore-eos", "--print-ids", "--temperature", "1.5", "--seed"]
        self.assertEqual(self.expect(OK, *run, "1").stdout, self.expect(OK, *run, "1", "--threads", "1").stdout)
        self.assertNotEqual(self.expect(OK, *run, "1").stdout, self.expect(OK, *run, "2").stdout)

    def test_a_negative_seed_is_a_random_one(self) -> None:
        run = ["generate", QWEN3, "--ids", self.ids, "--max-new", "30", "--ignore-eos", "--print-ids", "--temperature", "1.5"]
        answers = {self.expect(OK, *run, "--seed", "-1").stdout for _ in range(4)}
        self.assertGreater(len(answers), 1)

    def test_a_cache_smaller_than_the_prompt_is_refused_with_both_numbers(self) -> None:
        refused = self.expect(MEMORY, "generate", QWEN3, "--ids", ",".join(["7"] * 100), "--print-ids", "--cache-tokens", "64")
        self.assertIn("the prompt has 100 tokens, the cache holds 64", refused.stderr)

    def test_a_bench_whose_sequences_do_not_fit_ends(self) -> None:
        run = ["bench", QWEN3, "--no-peaks", "--prefill", "", "--batch", "4", "--depth", "60", "--decode", "16", "--samples", "2"]
        self.expect(MEMORY, *run, "--cache-tokens", "128")

    PROFILE = ("bench", QWEN3, "--profile", "--prefill", "9", "--depth", "20", "--decode", "6", "--batch", "2", "--samples", "2")

    def test_a_profile_has_the_operators_of_the_model(self) -> None:
        lines = [json.loads(line) for line in self.expect(OK, *self.PROFILE, "--json").stdout.splitlines()]
        self.assertEqual(
            [(line["test"], line.get("rows"), line.get("steps")) for line in lines], [("peaks", None, None), ("pp9", 9, 3), ("tg6", 2, 7)]
        )
        peaks, tables = lines[0], lines[1:]
        plan = json.loads(self.expect(OK, "plan", QWEN3, "--json").stdout)
        layers = json.loads((Path(QWEN3) / "config.json").read_text())["num_hidden_layers"]
        for table in tables:
            rows = table["operators"]
            self.assertEqual(set(rows), {name for names in plan["numerics"].values() for name in names})
            self.assertEqual(rows["kv_write"]["calls"], 2 * layers)  # keys, values
            for name, row in rows.items():
                for key in ("calls", "first_us", "warm_us", "bytes", "percent"):
                    self.assertGreater(row[key], 0, f"{name}: {key}")
                self.assertGreaterEqual(row["launch_us"] or 0, 0)
                if row["percent_without_launch"]:
                    self.assertAlmostEqual(
                        row["percent_without_launch"] / row["percent"], row["warm_us"] / (row["warm_us"] - row["launch_us"]), places=6
                    )
            written = rows["kv_write"]  # computes nothing
            self.assertEqual((written["flops"], written["bound"]), (0, "memory"))
            by_hand = 100 * written["bytes"] / (peaks["read_gb_s"] * 1e3) / written["warm_us"]
            self.assertAlmostEqual(written["percent"] / by_hand, 1, places=6)
            roof_us = sum(row["percent"] / 100 * row["warm_us"] for row in rows.values())
            self.assertAlmostEqual(table["tok_s_roofline"] * roof_us / 1e6 / table["rows"], 1, places=6)
            self.assertAlmostEqual(table["percent_of_roofline"], 100 * table["tok_s"] / table["tok_s_roofline"], places=6)
            for key in ("calls", "warm_us", "bytes", "flops"):
                self.assertAlmostEqual(table["all"][key] / sum(row[key] for row in rows.values()), 1, places=6)

    def test_a_profile_to_read(self) -> None:
        said = self.expect(OK, *self.PROFILE).stdout
        for line in ("pp9, depth 0, batch 1: 3 steps of 9 rows", "tg6, depth 20, batch 2: 7 steps of 2 rows"):
            self.assertIn(line, said)
        self.assertRegex(said, r"(?m)^matmul +\d+( +[\d.]+){3,}")
        self.assertEqual(len(re.findall(r"(?m)^the whole step: [\d.]+ tokens/s, the roofline allows [\d.]+ \([\d.]+ %\)", said)), 2)

    def test_what_cannot_be_profiled_is_refused(self) -> None:
        for option in (["--ranks", "2"], ["--place", "experts: cpu"], ["--fallback", "allow"]):
            self.assertIn("looks at one device", self.expect(USAGE, *self.PROFILE, *option).stderr)
        self.assertIn("--no-peaks", self.expect(USAGE, *self.PROFILE, "--no-peaks").stderr)
        self.assertIn(
            "neither a prompt nor decoding", self.expect(USAGE, "bench", QWEN3, "--profile", "--prefill", "", "--decode", "0").stderr
        )
        self.assertIn("at most 512 tokens", self.expect(USAGE, "bench", QWEN3, "--profile", "--prefill", "513").stderr)

    def test_json(self) -> None:
        found = json.loads(
            self.expect(OK, "generate", QWEN3, "--ids", self.ids, "--max-new", "5", "--greedy", "--ignore-eos", "--json").stdout
        )
        self.assertEqual(len(found["ids"]), 5)

    def test_ids_from_standard_input(self) -> None:
        run = ["--max-new", "5", "--greedy", "--ignore-eos", "--print-ids"]
        self.assertEqual(
            self.expect(OK, "generate", QWEN3, "--ids", "-", *run, stdin=self.ids + "\n").stdout,
            self.expect(OK, "generate", QWEN3, "--ids", self.ids, *run).stdout,
        )

    def test_logits_file(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "logits.npy"
            self.expect(OK, "logits", QWEN3, "--ids", "1,2,3", "--out", str(out))
            rows = npy.load(out)
            self.assertEqual((len(rows), len(rows[0])), (3, 320))

    def test_logits_of_drafts(self) -> None:
        dspark = str(GOLDEN / "deepseek-v4-dspark")
        with tempfile.TemporaryDirectory() as folder:
            out, base, conf = (Path(folder) / f"{name}.npy" for name in ("out", "base", "conf"))
            to = ["--ids", "1,2,3", "--out", str(out)]
            self.expect(OK, "logits", MTP, *to, "--mtp")
            self.assertEqual(len(npy.load(out)), 2)
            first = npy.load(out)[-1]
            self.expect(OK, "logits", MTP, *to, "--mtp", "--chain", "4")
            rows = npy.load(out)
            self.assertEqual(len(rows), 4)
            self.assertEqual(rows[0], first, "a chain begins with the last row of --mtp")
            self.expect(OK, "logits", dspark, *to, "--draft", "--base", str(base), "--conf", str(conf))
            self.assertEqual([len(npy.load(file)) for file in (out, base, conf)], [5, 5, 1])
            self.assertIn(b"'shape': (5, )", conf.read_bytes()[:128])
            self.assertTrue(all(0 < c < 1 for c in npy.load(conf)[0]))
            self.expect(OK, "logits", dspark, "--ids", "7", "--out", str(out), "--draft")
            self.assertEqual(len(npy.load(out)), 5)
            for code, model, options, why in (
                (USAGE, MTP, ["--draft"], "--mtp shows that"),
                (USAGE, dspark, ["--mtp"], "--draft shows that"),
                (FAILED, QWEN3, ["--mtp"], "nothing for drafts"),
                (FAILED, QWEN3, ["--draft"], "nothing for drafts"),
                (USAGE, MTP, ["--chain", "3"], "goes with --mtp"),
                (USAGE, MTP, ["--mtp", "--chain", "65"], "1 to 64"),
                (USAGE, MTP, ["--mtp", "--draft"], "one of them"),
                (USAGE, MTP, ["--mtp", "--from", "1"], "main model's"),
                (USAGE, MTP, ["--mtp", "--conf", str(conf)], "go with --draft"),
                (MEMORY, MTP, ["--mtp", "--chain", "4", "--ctx", "6"], "context of 6"),
            ):
                self.assertIn(why, self.expect(code, "logits", model, *to, *options).stderr)
            self.assertIn("two ids", self.expect(USAGE, "logits", MTP, "--ids", "1", "--out", str(out), "--mtp").stderr)

    def test_interrupt(self) -> None:
        process = subprocess.Popen(
            [BINARY, "generate", QWEN3, "--ids", "5", "--max-new", "500", "--ignore-eos", "--print-ids", "--chip", "ref", "--ctx", "512"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        # it may have been done already, or not yet have its handler
        self.assertIn(process.returncode, (OK, INTERRUPTED, -signal.SIGINT))


class SeveralDevices(Program):
    """Placement, ranks, fallback and the tracer, as a user says them."""

    IDS = ("--ids", "1,2,3,4,5", "--greedy", "--max-new", "8", "--ignore-eos", "--print-ids")

    def tokens(self, *args: str) -> str:
        said = self.expect(OK, "generate", str(GOLDEN / "deepseek-v3"), *self.IDS, *args).stdout
        self.assertEqual(said.count(","), 7)
        return said

    @OWN_CHIP
    def test_parts_on_another_device_compute_the_same(self) -> None:
        alone = self.tokens()
        for place in ("experts: cpu:0#2", "layers 1-: cpu:0#2; head: cpu", "all: cpu:0#2"):
            self.assertEqual(self.tokens("--place", place), alone, place)

    @OWN_CHIP
    def test_a_plan_says_what_is_where(self) -> None:
        said = self.expect(OK, "plan", str(GOLDEN / "deepseek-v3"), "--place", "experts: ref").stdout
        self.assertRegex(said, r"(?m)^  cpu:0: \d+ weights")
        self.assertRegex(said, r"(?m)^  ref:0: \d+ weights")

    @OWN_CHIP
    def test_ranks_say_the_same(self) -> None:
        self.assertEqual(self.tokens("--weights", "f32"), self.tokens("--weights", "f32", "--ranks", "2"))

    @unittest.skipUnless(PLUGIN, "HADAL_TEST_PLUGIN is not set")
    def test_what_is_said_of_a_broken_answer_has_its_own_line(self) -> None:
        lost = ("--chip", PLUGIN, "--chip-option", "fail-at-run=8", "--greedy", "--max-new", "60")
        for command in (
            ("run", QWEN3, "How deep is it?", "--chat-format", "deepseek-v3"),
            ("generate", QWEN3, "--ids", "1,2,3", "--ignore-eos"),
        ):
            done = hadal(*command, *lost)
            self.assertEqual(done.returncode, FAILED, done.stderr)
            self.assertRegex(done.stdout, r"[^\n]\n$")
            self.assertRegex(done.stderr, r"(?m)^hadal: .*fell off the bus")

    def test_what_cannot_be_is_refused_in_words(self) -> None:
        model = str(GOLDEN / "llama")
        for words, said in (
            (("--place", "layer 0"), "names no device"),
            (("--place", "layers 0-99: cpu"), "the model has layers 0 to"),
            (("--place", "experts: cpu"), "the model has no experts"),
            (("--place", "head: cpu:7"), "device 7 does not exist"),
            (("--place", "head: nothing"), "chip 'nothing' is unknown"),
            (("--device", "3"), "device 3 does not exist"),
            (("--ranks", "64"), "cannot be divided over 64 ranks"),
        ):
            result = hadal("generate", model, "--ids", "1,2", "--print-ids", *words)
            self.assertNotEqual(result.returncode, OK, words)
            self.assertIn(said, result.stderr)

    def test_a_tracer_follows_a_chip(self) -> None:
        said = self.expect(OK, "chip", "trace", str(GOLDEN / "llama"), "--ids", "1,2,3").stdout
        self.assertIn("no operator leaves the reference", said)

    @OWN_CHIP  # others may refuse such a weight at once
    def test_a_tracer_blames_no_chip_for_a_models_numbers(self) -> None:
        def spoil(tensors: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
            at = tensors["lm_head.weight"]["data_offsets"][0]
            return tensors, data[:at] + b"\xc0\x7f" + data[at + 2 :]  # NaN in BF16

        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "llama"
            shutil.copytree(GOLDEN / "llama", copy)
            rewrite_tensors(copy, spoil)
            done = hadal("chip", "trace", str(copy), "--ids", "1,2,3")
            self.assertEqual(done.returncode, FAILED)
            self.assertIn("not finite any more: they first come out of lm_head", done.stderr)
            self.assertNotIn("f16", done.stderr)

    def test_a_tracer_looks_at_one_device(self) -> None:
        trace = ("chip", "trace", str(GOLDEN / "llama"), "--ids", "1,2,3")
        self.assertNotIn("--place", self.expect(OK, "chip", "trace", "--help").stdout)
        self.assertIn("leave out --place, leave out --ranks", self.expect(USAGE, *trace, "--place", "head: cpu", "--ranks", "2").stderr)
        done = hadal(*trace, env={"HADAL_PLACE": "head: cpu"})
        self.assertEqual(done.returncode, USAGE)
        self.assertIn("looks at one device: unset HADAL_PLACE", done.stderr)

    @OWN_CHIP
    def test_a_bench_says_what_is_where(self) -> None:
        run = ("bench", QWEN3, "--prefill", "9", "--decode", "0", "--samples", "1")
        alone = json.loads(self.expect(OK, *run).stdout.splitlines()[-1])
        self.assertEqual((alone["device"], alone["place"], alone["fallback"], alone["ranks"]), (0, "", "forbid", 1))
        placed = [json.loads(line) for line in self.expect(OK, *run, "--place", "layers 1-: ref").stdout.splitlines()]
        self.assertEqual([line["test"] for line in placed], ["pp9"], "the peaks of one device say nothing of two")
        self.assertEqual(placed[0]["place"], "layers 1-: ref")
        self.assertEqual([d["device"] for d in placed[0]["devices"]][-1], "ref:0")
        ranks = json.loads(self.expect(OK, *run, "--ranks", "2").stdout.splitlines()[-1])
        self.assertEqual(ranks["ranks"], 2)
        self.assertNotIn("gb_s", ranks)
        for line in (placed[0], ranks):
            self.assertFalse([key for key in line if key.startswith("percent")])

    def test_the_distance_of_a_chip_and_of_several(self) -> None:
        moe = str(GOLDEN / "deepseek-v3")
        for words in ((), ("--ranks", "2"), ("--place", "experts: cpu#2"), ("--place", "layers 1-: cpu#2; head: cpu")):
            said = self.expect(OK, "chip", "distance", moe, "--positions", "24", *words).stdout
            self.assertIn("24 positions on", said, words)
            self.assertIn("mean divergence from exact ref", said, words)
            self.assertTrue(said.endswith("keeps both rules\n"), words)
        said = self.expect(OK, "chip", "distance", str(GOLDEN / "llama"), "--positions", "4", "--place", "auto").stdout
        self.assertRegex(said, r"4 positions on \S+, auto: (all of it is there|[a-z]+.*: )")
        self.assertIn("at least one token", self.expect(2, "chip", "distance", moe, "--ids", "\n").stderr)


class Conversations(Program):
    """`run --save`, `--resume` and what lists them."""

    ask = ("run", QWEN3, "--chat-format", "chatml", "--max-new", "4", "--greedy", "--quiet")

    def setUp(self) -> None:
        self.home = tempfile.TemporaryDirectory()
        self.addCleanup(self.home.cleanup)
        self.env = {"XDG_DATA_HOME": self.home.name}

    def run_in_home(self, code: int, *args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [BINARY, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=os.environ | self.env
        )
        self.assertEqual(done.returncode, code, f"{args}: {done.stderr}")
        return done

    def saved(self, name: str) -> dict[str, Any]:
        return json.loads((Path(self.home.name) / "hadal" / "conversations" / f"{name}.json").read_text())

    def test_is_saved_resumed_and_listed(self) -> None:
        first = self.run_in_home(OK, *self.ask, "--save", "talk", "first é").stdout
        self.assertEqual([m["role"] for m in self.saved("talk")["messages"]], ["user", "assistant"])
        self.run_in_home(OK, *self.ask, "--resume", "talk", "second")
        messages = self.saved("talk")["messages"]
        self.assertEqual([m["content"] for m in messages if m["role"] == "user"], ["first é", "second"])
        self.assertEqual(messages[1]["content"] + "\n", first)
        listed = json.loads(self.run_in_home(OK, "conversations", "--json").stdout)
        self.assertEqual([(c["name"], c["questions"], c["first"]) for c in listed], [("talk", 2, "first é")])
        self.assertIn("talk", self.run_in_home(OK, "conversations").stdout)

    def test_another_conversation_is_not_overwritten(self) -> None:
        self.run_in_home(OK, *self.ask, "--save", "talk", "first")
        before = self.saved("talk")
        self.assertIn("--resume", self.run_in_home(USAGE, *self.ask, "--save", "talk", "other").stderr)
        self.assertEqual(self.saved("talk"), before)

    def test_a_resumed_conversation_computes_nothing_again(self) -> None:
        pages = str(Path(self.home.name) / "pages")
        more = ["--kv-file", pages, "--json"]
        said = self.run_in_home(OK, *self.ask, *more, "--save", "long", "a question " * 20)
        self.assertEqual(json.loads(said.stdout)["cached_tokens"], 0)
        first = json.loads(said.stdout)
        said = self.run_in_home(OK, *self.ask, *more, "--resume", "long", "and another")
        # Whole units of 64 tokens; so small a model's answer is spelled by other tokens when it is read again.
        self.assertEqual(json.loads(said.stdout)["cached_tokens"], first["prompt_tokens"] // 64 * 64)
        self.assertGreater(first["prompt_tokens"], 128)

    def test_a_resumed_conversation_overwrites_no_other(self) -> None:
        for name in ("one", "other"):
            self.run_in_home(OK, *self.ask, "--save", name, name)
        before = self.saved("other")
        self.run_in_home(USAGE, *self.ask, "--resume", "one", "--save", "other", "x")
        self.assertEqual(self.saved("other"), before)
        self.run_in_home(OK, *self.ask, "--resume", "one", "--save", "one", "x")

    def test_a_place_that_cannot_be_written_is_refused_at_once(self) -> None:
        for code, place in ((USAGE, self.home.name + "/"), (FAILED, "/dev/null/x.json"), (FAILED, "n" * 300)):
            self.assertEqual(self.run_in_home(code, *self.ask, "--save", place, "x").stdout, "")
        self.assertEqual([f for _, _, files in os.walk(self.home.name) for f in files], [])

    def test_what_cannot_be_resumed_is_refused_before_loading(self) -> None:
        self.assertIn("none.json", self.run_in_home(NOT_FOUND, *self.ask, "--resume", "none", "x").stderr)
        broken = Path(self.home.name) / "broken.json"
        broken.write_text('{"messages": 3}')
        self.assertIn("messages", self.run_in_home(FAILED, *self.ask, "--resume", str(broken), "x").stderr)

    def test_json_and_the_context(self) -> None:
        answer = json.loads(self.run_in_home(OK, *self.ask, "--json", "hello").stdout)
        self.assertEqual((answer["finish"], answer["new_tokens"]), ("length", 4))
        full = self.run_in_home(MEMORY, *self.ask, "--ctx", "4", "a long question")
        self.assertRegex(full.stderr, r"the prompt has \d+ tokens, the context holds 4")


class Text(Program):
    text = "The hadal zone, 6000 m:  naïve café — 深海!\n"

    def test_tokenize_is_the_same_from_both_formats(self) -> None:
        line = json.dumps(self.text) + "\n"
        folder = json.loads(self.expect(OK, "tokenize", QWEN3, "--stdin-json", stdin=line).stdout)
        self.assertGreater(len(folder), 10)
        self.assertEqual(folder, json.loads(self.expect(OK, "tokenize", QWEN3_GGUF, "--stdin-json", stdin=line).stdout))
        self.assertEqual(folder, json.loads(self.expect(OK, "tokenize", QWEN3 + "/tokenizer.json", "--stdin-json", stdin=line).stdout))

    def test_pre_tokenizer_by_name(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            nameless, other = str(Path(scratch) / "nameless.gguf"), str(Path(scratch) / "other.gguf")
            data = Path(QWEN3_GGUF).read_bytes()
            at = data.index(b"tokenizer.ggml.pre")
            Path(nameless).write_bytes(data.replace(b"tokenizer.ggml.pre", b"tokenizer.ggml.xxx", 1))
            Path(other).write_bytes(data[:at] + data[at:].replace(b"qwen2", b"qwen0", 1))
            args = ["--text", self.text, "--json"]
            right = self.expect(OK, "tokenize", QWEN3_GGUF, *args)
            self.assertEqual(right.stderr, "")
            self.assertRegex(
                self.expect(FAILED, "tokenize", nameless, *args).stderr, r"tokenizer\.ggml\.pre is missing; known are llama-bpe, qwen2, "
            )
            for model, said in (
                (nameless, ""),
                (other, 'hadal: note: key "tokenizer.ggml.pre" is "qwen0": taken as "qwen2", as asked for\n'),
            ):
                done = self.expect(OK, "tokenize", model, *args, "--pre-tokenizer", "qwen2")
                self.assertEqual((done.stdout, done.stderr), (right.stdout, said))
                done = self.expect(OK, "generate", model, "--text", "the", "--max-new", "2", "--greedy", "--pre-tokenizer", "qwen2")
                self.assertEqual(done.stderr, said)
                for command in ("inspect", "plan"):
                    self.assertEqual(self.expect(OK, command, model, "--pre-tokenizer", "qwen2").stderr, said)
            self.assertIn("llama-bpe", self.expect(USAGE, "tokenize", QWEN3_GGUF, *args, "--pre-tokenizer", "nobody").stderr)
            self.assertIn("tokenizer.json", self.expect(USAGE, "tokenize", QWEN3, *args, "--pre-tokenizer", "qwen2").stderr)

    def test_keys_that_no_default_stands_for(self) -> None:
        data = (GOLDEN / "deepseek-v3-gguf" / "model.gguf").read_bytes()
        with tempfile.TemporaryDirectory() as scratch:
            model = Path(scratch) / "m.gguf"
            for key in (
                "expert_group_count",
                "expert_group_used_count",
                "expert_weights_scale",
                "rope.scaling.original_context_length",
                "rope.scaling.yarn_log_multiplier",
            ):
                whole = b"deepseek2." + key.encode()
                model.write_bytes(data.replace(whole, whole[:-1] + b"_", 1))
                for command in (["inspect", str(model)], ["generate", str(model), "--ids", "1", "--max-new", "1", "--print-ids"]):
                    said = self.expect(FAILED, *command).stderr
                    self.assertIn(f'key "deepseek2.{key}": missing, and no published model has the file\'s shape', said)

    def test_engram_tables_that_are_not_those_of_the_hash(self) -> None:
        data = (GOLDEN / "deepseek-v41-gguf" / "model.gguf").read_bytes()
        with tempfile.TemporaryDirectory() as scratch:
            model = Path(scratch) / "m.gguf"
            for table, size in (("multipliers", 8), ("primes", 8), ("offsets", 8), ("token_map", 4)):
                key = b"deepseek41.engram." + table.encode()
                at = data.index(key) + len(key) + 16 + 5 * size  # behind types and length, at the sixth number
                model.write_bytes(data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :])
                said = self.expect(FAILED, "generate", str(model), "--ids", "1", "--max-new", "1", "--print-ids").stderr
                self.assertRegex(said, rf"engram_{table}\[5\] is \d+ in the file, expected \d+")

    def test_an_id_that_nobody_uses_gives_a_note(self) -> None:
        def string(text: bytes) -> bytes:
            return len(text).to_bytes(8, "little") + text

        with tempfile.TemporaryDirectory() as scratch:
            model = Path(scratch) / "m.gguf"
            data = Path(QWEN3_GGUF).read_bytes()
            bos = string(b"tokenizer.ggml.bos_token_id")
            at = data.index(bos) + len(bos) + 4  # behind the value's type
            beyond = data[:at] + (320).to_bytes(4, "little") + data[at + 4 :]
            model.write_bytes(beyond)
            self.assertIn("bos_token_id", self.expect(FAILED, "inspect", str(model)).stderr)
            model.write_bytes(
                beyond.replace(bos, string(b"tokenizer.ggml.mask_token_id")).replace(
                    string(b"tiny random qwen3"), string(b"tiny random qwen")
                )
            )  # the header keeps its size
            said = (
                'hadal: note: key "tokenizer.ggml.mask_token_id" is ignored: expected a token id below the 320 of the vocabulary, '
                "found uint32 320\n"
            )
            for args in (
                ["inspect", str(model)],
                ["plan", str(model)],
                ["run", str(model), "hi", "--max-new", "1", "--chat-format", "deepseek-r1", "--quiet"],
                ["generate", str(model), "--ids", "1", "--max-new", "1", "--print-ids"],
            ):
                self.assertTrue(self.expect(OK, *args).stderr.startswith(said))  # a chip that converts says so behind it

    def test_control_tokens(self) -> None:
        line = json.dumps("<｜User｜>hi<think>") + "\n"
        found = json.loads(self.expect(OK, "tokenize", QWEN3, "--stdin-json", stdin=line).stdout)
        self.assertEqual((found[0], found[-1]), (316, 318))

    def test_encode(self) -> None:
        messages = json.dumps({"messages": [{"role": "user", "content": "How deep?"}]})
        said = json.loads(self.expect(OK, "encode", QWEN3, "--messages", "-", "--chat-format", "deepseek-r1", stdin=messages).stdout)
        self.assertEqual(said["format"], "deepseek-r1")
        self.assertIn("<｜User｜>How deep?<｜Assistant｜>", said["prompt"])
        self.assertIn("--chat-format", self.expect(FAILED, "encode", QWEN3, "--messages", "-", stdin=messages).stderr)
        for broken in ("", "{", "[1]", '[{"role":"user"}]', "[" * 100000):
            with self.subTest(broken=broken[:20]):
                self.assertIn(hadal("encode", QWEN3, "--messages", "-", stdin=broken).returncode, (FAILED, USAGE))

    def test_run_answers(self) -> None:
        done = self.expect(OK, "run", QWEN3, "How deep is it?", "--max-new", "8", "--chat-format", "deepseek-r1")
        self.assertTrue(done.stdout.endswith("\n"))

    def test_inspect_and_plan(self) -> None:
        for model in (QWEN3, QWEN3_GGUF):
            self.assertIn("qwen3", self.expect(OK, "inspect", model).stdout.lower())
            json.loads(self.expect(OK, "inspect", model, "--json").stdout)
            json.loads(self.expect(OK, "plan", model, "--json").stdout)

    def test_a_model_larger_than_memory_runs_from_the_disk(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(GOLDEN / "llama", Path(folder) / "model"))
            config = json.loads((copy / "config.json").read_text())
            wide, narrow = 1 << 20, config["intermediate_size"]
            weights = copy / "model.safetensors"
            with weights.open("rb") as file:
                found = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            header: dict[str, Any] = {}
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            end = last = 0
            while end < 2 * memory:  # layers as the first one, as wide as may be
                for name, tensor in found.items():
                    if name == "__metadata__" or (".layers." in name and ".layers.0." not in name) or (last > 0 and ".layers." not in name):
                        continue
                    size = tensor["data_offsets"][1] - tensor["data_offsets"][0]
                    shape = [wide if n == narrow and ".mlp." in name else n for n in tensor["shape"]]
                    size = size * wide // narrow if ".mlp." in name else size
                    header[name.replace(".layers.0.", f".layers.{last}.")] = {**tensor, "shape": shape, "data_offsets": [end, end + size]}
                    end += size
                last += 1
            config.update(intermediate_size=wide, num_hidden_layers=last)
            config.pop("layer_types", None)
            (copy / "config.json").write_text(json.dumps(config))
            text = json.dumps(header).encode()
            with weights.open("wb") as file:  # a sparse file: it takes no room on the disk
                file.write(len(text).to_bytes(8, "little") + text)
                file.truncate(8 + len(text) + end)
            found = json.loads(self.expect(OK, "plan", str(copy), "--chip", "cpu", "--json").stdout)
            self.assertTrue(found["fits"])
            memory = found["bytes"]
            self.assertLess(memory["needed"], memory["available"])
            self.assertEqual(memory["needed"], memory["total"] - memory["mapped"])
            self.assertGreater(memory["missing"], 0)
            said = self.expect(OK, "plan", str(copy), "--chip", "cpu").stdout
            self.assertIn("GiB of the weights do not fit in memory: they are read from the disk again and again", said)
            # a chip that does not read them where they are mapped
            done = hadal("plan", str(copy), "--chip", "ref", "--weights", "f32")
            self.assertEqual(done.returncode, MEMORY)
            self.assertRegex(done.stderr, r"needs .* GiB of memory \(weights .* GiB, cache")
            # one that would convert every smaller type back: no command mends that
            template = str(Path(BINARY).resolve().parent / "libhadal_template.so")
            found = json.loads(hadal("doctor", str(copy), "--chip", template, "--json").stdout)["model"][-1]
            self.assertEqual((found["check"], found["verdict"]), ("model_memory", "wrong"))
            self.assertNotIn("command", found)

    def test_inspect_fails_behind_its_page_without_the_tokenizer_that_is_needed(self) -> None:
        for family, broken, said in (
            ("qwen3", "{", "tokenizer.json: no JSON object"),
            ("deepseek-v41", "{}", "model: expected an object"),
            ("deepseek-v41", None, "has no tokenizer"),
            ("qwen3", None, ""),
        ):
            with self.subTest(family=family, broken=broken), tempfile.TemporaryDirectory() as folder:
                copy = Path(shutil.copytree(GOLDEN / family, Path(folder) / "model"))
                (copy / "tokenizer.json").write_text(broken) if broken else (copy / "tokenizer.json").unlink()
                for options in ([], ["--json"]):
                    done = hadal("inspect", str(copy), *options)
                    self.assertEqual(done.returncode, FAILED if said else OK, done.stderr)
                    self.assertIn("vocab", done.stdout)
                    self.assertIn(said, done.stderr)

    def test_generated_text_has_one_bos_and_no_ending(self) -> None:
        run = ["--max-new", "3", "--greedy", "--json"]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(GOLDEN / "qwen3", Path(folder) / "model"))
            config = json.loads((copy / "tokenizer_config.json").read_text())
            bos = config["bos_token"]
            plain = json.loads(self.expect(OK, "generate", str(copy), "--text", "How deep?", *run).stdout)
            marked = json.loads(self.expect(OK, "generate", str(copy), "--text", bos + "How deep?", *run).stdout)
            self.assertEqual((plain["ids"], plain["prompt_tokens"]), (marked["ids"], marked["prompt_tokens"]))
            # The first token now ends the answer, though the tokenizer has it as an ordinary one.
            (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": plain["ids"][0], "top_k": 5}))
            ended = json.loads(self.expect(OK, "generate", str(copy), "--text", "How deep?", *run).stdout)
            self.assertEqual((ended["ids"], ended["text"]), (plain["ids"][:1], ""))

    def test_r1_may_leave_out_the_beginning_of_its_thought(self) -> None:
        said = self.expect(OK, "parse", "--format", "deepseek-r1-0528", stdin='["why</th", "ink>be", "cause"]').stdout
        self.assertEqual(json.loads(said), {"reasoning": "why", "content": "because", "tool_calls": []})

    def test_inspect_names_what_is_not_used(self) -> None:
        self.assertEqual([], json.loads(self.expect(OK, "inspect", QWEN3, "--json").stdout)["unused"])
        unused = json.loads(self.expect(OK, "inspect", MTP, "--json").stdout)["unused"]
        self.assertIn("model.layers.3.eh_proj.weight", unused)
        self.assertFalse([name for name in unused if not name.startswith("model.layers.3.")])
        self.assertRegex(self.expect(OK, "inspect", MTP).stdout, r"known, not used +model\.layers\.3\.\*\n")


if __name__ == "__main__":
    BINARY = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)

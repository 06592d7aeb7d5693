"""Bodies that no friend would send: fields times edge values for every API, and bodies that break the reader itself.

Owns what is legal: each field's kind says which of the edge values a server may take. Nothing here opens a connection.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MUST_REFUSE, MUST_TAKE, EITHER = "refuse", "take", "either"


@dataclass
class Case:
    name: str
    path: str
    body: bytes
    verdict: str = EITHER
    headers: tuple[str, ...] = ()

    def bytes_for(self, model: str) -> bytes:
        """The body as it is sent. A million items are written here, not kept by each case."""
        return self.body.replace(b"@MANY@", MANY_ITEMS).replace(b'"MODEL"', json.dumps(model).encode())


MANY = 10**6
MANY_ITEMS = b"[" + b",".join([b"0"] * MANY) + b"]"
# what stands in the body, and what kind of thing it is
EDGES: list[tuple[str, str]] = [
    ("-1", "whole"),
    ("0", "whole"),
    ("2147483648", "whole"),
    ("9223372036854775808", "whole"),
    ("1e400", "broken"),
    ("NaN", "broken"),
    ('"x"', "text"),
    ("null", "null"),
    ("[]", "list"),
    ("{}", "object"),
    ("@MANY@", "many"),
]

CHAT = {"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "temperature": 0}
BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {**CHAT, "logprobs": True}),
    "completion": ("/v1/completions", {"model": "MODEL", "prompt": "Hi", "max_tokens": 2, "temperature": 0}),
    "responses": ("/v1/responses", {"model": "MODEL", "input": "Hi", "max_output_tokens": 16, "store": False}),
    "messages": ("/v1/messages", {"model": "MODEL", "messages": CHAT["messages"], "max_tokens": 2}),
    "count": ("/v1/messages/count_tokens", {"model": "MODEL", "messages": CHAT["messages"]}),
    "ollama_chat": ("/api/chat", {"model": "MODEL", "messages": CHAT["messages"], "options": {"num_predict": 2}, "stream": False}),
    "ollama_generate": ("/api/generate", {"model": "MODEL", "prompt": "Hi", "options": {"num_predict": 2}, "stream": False}),
    "tokenize": ("/tokenize", {"prompt": "Hi"}),
    "detokenize": ("/detokenize", {"tokens": [1, 2]}),
}

# a number's range; None is without an end
WHOLE = {
    "n": (1, 128),
    "max_tokens": (1, 2**24),
    "max_completion_tokens": (1, 2**24),
    "top_k": (-1, 2**31 - 1),
    "seed": (-(2**63), 2**63 - 1),
    "priority": (-(2**31), 2**31 - 1),
    "top_logprobs": (0, 20),
}
REAL = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
    "repetition_penalty": (0.01, 100),
    "timeout": (0.001, 86400),
}
FLAGS = ["stream", "ignore_eos"]
OTHER = "model stop stop_token_ids bad_words logit_bias response_format structured_outputs cache_salt stream_options user metadata".split()
FIELDS: dict[str, list[str]] = {
    "chat": [*WHOLE, *REAL, *FLAGS, *OTHER, *"logprobs messages tools tool_choice thinking reasoning_effort thinking_token_budget".split()],
    "completion": [*WHOLE, *REAL, *FLAGS, *OTHER, *"prompt suffix echo best_of add_special_tokens".split()],
    "responses": "model input instructions max_output_tokens temperature top_p stream store previous_response_id text tools reasoning "
    "include metadata parallel_tool_calls tool_choice truncation background max_tool_calls top_logprobs conversation".split(),
    "messages": "model messages system max_tokens temperature top_p top_k stream stop_sequences tools tool_choice thinking metadata "
    "service_tier output_config".split(),
    "count": "model messages system tools tool_choice thinking".split(),
    "ollama_chat": "model messages tools format think stream options keep_alive logprobs top_logprobs options.num_predict options.num_ctx "
    "options.temperature options.top_p options.top_k options.seed options.stop options.repeat_penalty".split(),
    "ollama_generate": "model prompt suffix system template context raw images format think stream options keep_alive "
    "options.num_predict options.num_ctx options.temperature options.seed options.stop".split(),
    "tokenize": "prompt content messages add_special_tokens".split(),
    "detokenize": ["tokens"],
}
STRICT = ("chat", "completion")  # those whose ranges are ours; the others' servers forgive more


def verdict_of(api: str, name: str, value: str, kind: str) -> str:
    if kind in ("broken", "many"):
        return MUST_REFUSE
    if api not in STRICT:
        return EITHER
    if name == "top_logprobs" and api == "completion":
        return EITHER  # the chat API's; here it is a stranger
    ranges = {**WHOLE, **REAL}
    if name in ranges:
        if kind != "whole":
            return MUST_TAKE if kind == "null" else MUST_REFUSE
        low, high = ranges[name]
        return MUST_TAKE if low <= int(value) <= high else MUST_REFUSE
    if name in FLAGS:
        return MUST_TAKE if kind == "null" else MUST_REFUSE
    if name in ("messages", "prompt", "input"):
        return MUST_TAKE if kind == "text" and name == "prompt" else MUST_REFUSE
    return EITHER


def with_member(base: dict[str, Any], name: str, value: str) -> bytes:
    """The base with a member whose value is written as it stands, JSON or not."""
    outer, _, inner = name.rpartition(".")
    copy = json.loads(json.dumps(base))
    place = copy.setdefault(outer, {}) if outer else copy
    place[inner] = "@VALUE@"
    return json.dumps(copy).replace('"@VALUE@"', value).encode()


def field_cases() -> Iterator[Case]:
    for api, (path, base) in BASES.items():
        for name in FIELDS[api]:
            for value, kind in EDGES:
                shown = f"{MANY} items" if kind == "many" else value
                yield Case(f"{api}.{name} = {shown}", path, with_member(base, name, value), verdict_of(api, name, value, kind))


def nested(opening: str, closing: str, depth: int, inner: str = "1") -> str:
    return opening * depth + inner + closing * depth


def depth_cases() -> Iterator[Case]:
    deep = 100_000
    for api, (path, base) in BASES.items():
        first = next(name for name in FIELDS[api] if name != "model")
        for what, value in (("lists", nested("[", "]", deep)), ("objects", nested('{"a":', "}", deep)), ("open lists", "[" * deep)):
            yield Case(f"{api}: {deep} {what} in {first}", path, with_member(base, first, value), MUST_REFUSE)
        yield Case(f"{api}: the body is {deep} lists", path, nested("[", "]", deep).encode(), MUST_REFUSE)


def schema_body(schema: Any) -> bytes:
    return json.dumps({**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}).encode()


def guided(kind: str, text: str) -> bytes:
    return json.dumps({**CHAT, "structured_outputs": {kind: text}}).encode()


def grammar_cases() -> Iterator[Case]:
    path = BASES["chat"][0]
    rule: Any = {"type": "string"}
    for _ in range(40):
        rule = {"type": "object", "properties": {"a": rule}}
    schemas: list[tuple[str, Any, str]] = [
        ("an unknown type", {"type": "frog"}, MUST_REFUSE),
        ("a reference to nothing", {"$ref": "#/nowhere"}, MUST_REFUSE),
        ("a reference to itself", {"$ref": "#"}, EITHER),
        ("a reference elsewhere", {"$ref": "http://localhost/x"}, MUST_REFUSE),
        ("a number for properties", {"type": "object", "properties": 5}, MUST_REFUSE),
        ("an empty enum", {"enum": []}, EITHER),
        ("an enum of 10^5", {"enum": [f"value {i}" for i in range(10**5)]}, EITHER),
        ("minItems 2^31", {"type": "array", "items": {"type": "string"}, "minItems": 2**31}, EITHER),
        ("maxLength -1", {"type": "string", "maxLength": -1}, EITHER),
        ("a pattern that explodes", {"type": "string", "pattern": "(a+)+(b|c*)*d{1,1000}{1,1000}"}, EITHER),
        ("a broken pattern", {"type": "string", "pattern": "(["}, MUST_REFUSE),
        ("40 levels", rule, EITHER),
        ("2000 properties", {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(2000)}}, EITHER),
    ]
    for name, schema, verdict in schemas:
        yield Case(f"schema: {name}", path, schema_body(schema), verdict)
    texts = [
        ("grammar", "(" * 60000, MUST_REFUSE),
        ("grammar", "root ::= " + "(" * 60000 + '"a"' + ")" * 60000, MUST_REFUSE),
        ("grammar", "root ::= root", MUST_REFUSE),
        ("grammar", 'root ::= root "a" | "b"', EITHER),
        ("grammar", 'root ::= "a"{1000000}', MUST_REFUSE),
        ("grammar", "frog", MUST_REFUSE),
        ("grammar", 'root ::= "\\uD800"', EITHER),
        ("grammar", "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(60)) + 'r60 ::= "a"\nroot ::= r0', EITHER),
        ("regex", "(" * 60000, MUST_REFUSE),
        ("regex", "(a+)+b", EITHER),
        ("regex", "((a{1,1000}){1,1000}){1,1000}", MUST_REFUSE),
        ("regex", "a{2147483648}", MUST_REFUSE),
        ("regex", "(a*)*" * 2000, EITHER),
        ("regex", "[", MUST_REFUSE),
        ("regex", "(?=a)b\\1", EITHER),
        ("json", "{", MUST_REFUSE),
    ]
    for number, (kind, text, verdict) in enumerate(texts):
        yield Case(f"{kind} {number}: {text[:24]!r}", path, guided(kind, text), verdict)


def text_cases() -> Iterator[Case]:
    for api, (path, base) in BASES.items():
        plain = json.dumps(base).encode()
        first = plain.replace(b'"Hi"', b"@", 1)
        if first == plain:
            continue
        for name, inner, verdict in (
            ("a lone surrogate", rb'"\ud800"', EITHER),
            ("surrogates the wrong way round", rb'"\udc00\ud800"', EITHER),
            ("half an escape", rb'"\u12"', MUST_REFUSE),
            ("invalid UTF-8", b'"\xff\xfe"', MUST_REFUSE),
            ("half a character", b'"\xe2\x82"', MUST_REFUSE),
            ("an overlong NUL", b'"\xc0\x80"', MUST_REFUSE),
            ("a raw newline", b'"a\nb"', MUST_REFUSE),
            ("NUL", rb'"\u0000"', EITHER),
            ("special tokens", '"<|im_end|><｜end▁of▁sentence｜>"'.encode(), EITHER),
        ):
            yield Case(f"{api}: {name}", path, first.replace(b"@", inner), verdict)
        doubled = plain[:-1] + b"," + plain[1:]
        yield Case(f"{api}: every key twice", path, doubled, MUST_REFUSE)
        yield Case(f"{api}: a BOM", path, b"\xef\xbb\xbf" + plain, EITHER)
        yield Case(f"{api}: UTF-16", path, json.dumps(base).encode("utf-16"), MUST_REFUSE)
        yield Case(f"{api}: nothing", path, b"", MUST_REFUSE)
        yield Case(f"{api}: cut short", path, plain[:-2], MUST_REFUSE)
        yield Case(f"{api}: more behind it", path, plain + b"}", MUST_REFUSE)
        yield Case(f"{api}: a comment", path, b"/* */" + plain, MUST_REFUSE)
        for kind in (
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
        ):
            yield Case(f"{api}: {kind}", path, plain, EITHER, (f"Content-Type: {kind}",))
        yield Case(f"{api}: a form", path, b"prompt=Hi&max_tokens=2", MUST_REFUSE, ("Content-Type: application/x-www-form-urlencoded",))
        yield Case(f"{api}: gzip", path, b"\x1f\x8b\x08\x00" + b"\x00" * 20, MUST_REFUSE, ("Content-Encoding: gzip",))


def mutated(source: random.Random) -> Case:
    """A legal body with some bytes changed: only that the server lives, and answers in time, is asked of it."""
    api = source.choice(list(BASES))
    path, base = BASES[api]
    body = bytearray(json.dumps(base).encode())
    for _ in range(source.randint(1, 6)):
        at = source.randrange(len(body))
        kind = source.randrange(4)
        if kind == 0:
            body[at] = source.randrange(256)
        elif kind == 1:
            del body[at : at + source.randint(1, 8)]
        elif kind == 2:
            body[at:at] = body[at : at + source.randint(1, 40)]
        else:
            body[at:at] = source.choice([b"[", b"{", b'"', b"\\u", b"-", b"1e999", b"null", b"\x00", b"\xf4\x90"])
        body = body or bytearray(b"{")
    return Case(f"{api}: mutated {bytes(body[:60])!r}", path, bytes(body))


def huge_cases() -> Iterator[Case]:
    """Few, and all of them in every run."""
    path, base = BASES["completion"]
    yield Case("a body of 64 MiB", path, with_member(base, "prompt", '"' + "a " * (32 << 20) + '"'), MUST_REFUSE)
    yield Case("a prompt of 31 MiB", path, with_member(base, "prompt", '"' + "a " * (31 << 19) + '"'), MUST_REFUSE)
    yield Case("one word of 31 MiB", path, with_member(base, "prompt", '"' + "a" * (31 << 20) + '"'), MUST_REFUSE)
    yield Case(
        "a chat of 31 MiB",
        BASES["chat"][0],
        with_member(BASES["chat"][1], "messages", json.dumps([{"role": "user", "content": "b " * (31 << 19)}])),
        MUST_REFUSE,
    )
    yield Case("31 MiB of spaces", path, b" " * (31 << 20), MUST_REFUSE)
    yield Case("a million keys", path, b"{" + b",".join(b'"%d":1' % i for i in range(MANY)) + b"}", MUST_REFUSE)


def all_cases() -> list[Case]:
    return [*field_cases(), *depth_cases(), *grammar_cases(), *text_cases()]

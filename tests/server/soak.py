#!/usr/bin/env python3
"""Soak: thousands of requests of every kind and mood. Memory, descriptors and threads stay, and answers are those made alone.

soak.py BINARY [--requests 5000] [--clients 12] [--seed 1] [--model PATH] [--growth 0.01]     standard library only

The mixture: whole answers, streams read to their end, slow readers, clients that leave (before, in, and behind the answer's beginning),
requests that are refused, schemas, shared prefixes, over every API. Golden answers are made at the start, one by one. After a fifth of
the requests, and at the end, all is quiet for a moment, and what the server holds is compared: memory may grow by 1 %, and by 16 MiB at
most. (A tiny model's process of 23 MiB is still warming by a few pages until about 5,000 requests: give it 30,000.)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from harness import GOLDEN, Server, serving, wait_until
from wire import connect, descriptors, metric, mib, post, read_responses, strict_json, talk, threads

MOST_GROWTH = 16 << 20
OPTIONS = ("--chat-format", "deepseek-v3", "--parallel", "8", "--queue", "1000", "--queue-tokens", "1000000")
BOUNDS = ("--store-responses", "50", "--log", "off")
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {"type": "boolean"}}, "required": ["a", "b"]}
SHAPE = {"type": "json_schema", "json_schema": {"name": "s", "schema": {**SCHEMA, "additionalProperties": False}, "strict": True}}


@dataclass
class Question:
    api: str
    path: str
    body: dict[str, Any]
    golden: Any = None


def questions(model: str) -> list[Question]:
    """Each is answered the same whenever it is asked: greedy, or drawn with a seed."""
    prefix = "The same long beginning that many conversations share. " * 4
    found: list[Question] = []
    for number in range(6):
        text = (prefix if number % 2 else "") + f"Question {number}?"
        how = {"temperature": 0} if number % 3 else {"temperature": 1, "seed": number}
        messages = [{"role": "user", "content": text}]
        found += [
            Question("chat", "/v1/chat/completions", {"messages": messages, "max_tokens": 12, "logprobs": True, **how}),
            Question("completion", "/v1/completions", {"prompt": text, "max_tokens": 16, "logprobs": 2, "ignore_eos": True, **how}),
            Question("messages", "/v1/messages", {"model": model, "messages": messages, "max_tokens": 12, "temperature": 0, "top_k": 1}),
            Question("responses", "/v1/responses", {"input": text, "max_output_tokens": 16, "temperature": 0, "store": number % 2 == 0}),
        ]
        options = {"num_predict": 12, "temperature": 0, "seed": number}
        found.append(Question("ollama", "/api/chat", {"model": model, "messages": messages, "options": options, "stream": False}))
        found.append(Question("generate", "/api/generate", {"model": model, "prompt": text, "options": options, "stream": False}))
    for number in range(4):
        body = {"messages": [{"role": "user", "content": f"Fill {number}"}], "max_tokens": 60, "seed": number, "response_format": SHAPE}
        found.append(Question("schema", "/v1/chat/completions", body))
    return found


INVALID: list[tuple[str, bytes]] = [
    ("/v1/chat/completions", b'{"messages": 5}'),
    ("/v1/chat/completions", b"{"),
    ("/v1/completions", b'{"prompt": "x", "max_tokens": -1}'),
    ("/v1/completions", b'{"prompt": "' + b"word " * 40000 + b'"}'),
    ("/v1/completions", b'{"prompt": "x", "structured_outputs": {"regex": "("}}'),
    ("/v1/messages", b'{"max_tokens": 1}'),
    ("/api/chat", b'{"model": "nowhere", "messages": []}'),
    ("/v1/responses/none", b""),
    ("/v1/nowhere", b"{}"),
]


def essence(api: str, raw: bytes) -> Any:
    """What of a whole answer must always be the same: no ids, times, or counts of what was cached."""
    answer = strict_json(raw)
    if api == "messages":
        return answer["content"], answer["stop_reason"], answer["usage"]["output_tokens"]
    if api == "responses":
        texts = [part["text"] for item in answer["output"] if item["type"] == "message" for part in item["content"]]
        return texts, answer["status"], answer["usage"]["output_tokens"]
    if api == "ollama":
        return answer["message"], answer["done_reason"], answer["eval_count"]
    if api == "generate":
        return answer["response"], answer["done_reason"], answer["eval_count"]
    return answer["choices"], answer["usage"]["completion_tokens"]


def events(raw: bytes) -> list[Any]:
    lines = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: ")]
    return [strict_json(line) for line in lines if line != "[DONE]"]


def streamed_text(api: str, raw: bytes) -> str:
    """The text that a whole stream carries."""
    if api in ("ollama", "generate"):
        pieces = [json.loads(line) for line in raw.decode().splitlines() if line]
        return "".join(piece["message"]["content"] if api == "ollama" else piece["response"] for piece in pieces)
    found = events(raw)
    if api == "messages":
        return "".join(event["delta"].get("text", "") for event in found if event["type"] == "content_block_delta")
    if api == "responses":
        return "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    if api == "completion":
        return "".join(event["choices"][0]["text"] for event in found if event["choices"])
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in found if event["choices"])


def golden_text(api: str, golden: Any) -> str:
    if api == "messages":
        return "".join(block.get("text", "") for block in golden[0])
    if api == "responses":
        return "".join(golden[0])
    if api == "ollama":
        return golden[0]["content"]
    if api == "generate":
        return golden[0]
    choice = golden[0][0]
    return choice["text"] if api == "completion" else choice["message"]["content"]


class Soak:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.questions = questions(server.model)
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()
        for question in self.questions:
            result = talk(server.port, post(question.path, json.dumps(question.body).encode()))
            if result.statuses != [200]:
                raise RuntimeError(f"{question.path}: {result.statuses} {result.fault} {result.responses[:1]}")
            question.golden = essence(question.api, result.responses[0].body)

    def fault(self, what: str) -> None:
        with self.lock:
            self.faults.append(what)

    def request(self, question: Question, stream: bool) -> bytes:
        return post(question.path, json.dumps({**question.body, "stream": stream}).encode())

    # --- moods

    def whole(self, source: random.Random) -> None:
        question = source.choice(self.questions)
        result = talk(self.server.port, self.request(question, False), seconds=60)
        if result.statuses != [200]:
            self.fault(f"{question.path}: {result.statuses} {result.fault}")
        elif essence(question.api, result.responses[0].body) != question.golden:
            self.fault(f"{question.path}: differs: {result.responses[0].body[:300]!r} is not {str(question.golden)[:300]}")

    def stream(self, source: random.Random, slow: bool = False) -> None:
        question = source.choice(self.questions)
        link = connect(self.server.port, 60)
        if slow:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.sendall(self.request(question, True))
        raw, found = b"", []
        while not (found and found[0].whole):
            piece = link.recv(source.randint(1, 200) if slow else 65536)
            if not piece:
                break
            raw += piece
            found, _ = read_responses(raw, False)
            if slow:
                time.sleep(0.002)
        link.close()
        if not found or not found[0].whole or found[0].status != 200:
            self.fault(f"{question.path}: a stream ended early: {raw[-200:]!r}")
            return
        text, golden = streamed_text(question.api, found[0].body), golden_text(question.api, question.golden)
        if text != golden:
            self.fault(f"{question.path}: the stream says {text!r}, the golden answer {golden!r}")

    def slow(self, source: random.Random) -> None:
        self.stream(source, slow=True)

    def leave(self, source: random.Random) -> None:
        question = source.choice(self.questions)
        request = self.request(question, source.random() < 0.7)
        link = connect(self.server.port)
        if source.random() < 0.2:
            request = request[: source.randrange(len(request))]
        link.sendall(request)
        if source.random() < 0.6:
            link.settimeout(source.random() * 0.02)
            with contextlib.suppress(TimeoutError):
                link.recv(source.randint(1, 1000))
        if source.random() < 0.5:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.close()

    def invalid(self, source: random.Random) -> None:
        path, body = source.choice(INVALID)
        result = talk(self.server.port, post(path, body), seconds=60)
        if len(result.statuses) != 1 or not 400 <= result.statuses[0] < 500:
            self.fault(f"{path} {body[:40]!r}: {result.statuses} {result.fault}")

    MOODS = {"whole": 40, "stream": 15, "slow": 5, "leave": 30, "invalid": 10}

    def run(self, count: int, clients: int, seed: int) -> None:
        work: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            work.put(seed + number)

        def loop() -> None:
            while True:
                try:
                    source = random.Random(work.get_nowait())
                except queue.Empty:
                    return
                mood = source.choices(list(self.MOODS), list(self.MOODS.values()))[0]
                try:
                    getattr(self, mood)(source)
                except (OSError, ValueError, KeyError, LookupError) as error:
                    self.fault(f"{mood}: {type(error).__name__} {error}")
                with self.lock:
                    self.counts[mood] += 1

        running = [threading.Thread(target=loop) for _ in range(clients)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    def settle(self) -> tuple[int, int, int]:
        """Resident memory, descriptors and threads, once nothing is under way."""

        def quiet() -> bool:
            text = self.server.request("GET", "/metrics")[2]
            names = [f"hadal_requests_{what}" for what in ("waiting", "running", "preparing")]
            return all(metric(text, name) == 0 for name in names) and metric(text, "hadal_connections_open") <= 1

        if not wait_until(quiet, 20):
            self.fault("something is still under way, though every client has gone")
        time.sleep(0.2)
        pid = self.server.process.pid
        return self.server.resident(), descriptors(pid), threads(pid)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default=str(GOLDEN / "qwen3"))
    parser.add_argument("--growth", type=float, default=0.01, help="part by which memory may grow; 0: is not looked at")
    options = parser.parse_args()
    with serving(options.binary, options.model, *OPTIONS, *BOUNDS) as server:
        soak = Soak(server)
        fifth = options.requests // 5
        soak.run(fifth, options.clients, options.seed << 32)
        early = soak.settle()
        soak.run(options.requests - fifth, options.clients, (options.seed << 32) + fifth)
        late = soak.settle()
    faults = soak.faults
    growth = late[0] - early[0]
    print(f"{sum(soak.counts.values())} requests: " + ", ".join(f"{count} {mood}" for mood, count in soak.counts.items()))
    print(f"memory {mib(early[0])} after a fifth, {mib(late[0])} at the end: {100 * growth / early[0]:+.2f} %")
    print(f"descriptors {early[1]} and {late[1]}, threads {early[2]} and {late[2]}; {len(faults)} faults before that")
    if options.growth and growth > min(options.growth * early[0], MOST_GROWTH):
        faults.append(f"memory grew by {mib(growth)}")
    if late[1:] != early[1:]:
        faults.append("descriptors or threads are not as many as before")
    for fault in faults[:20]:
        print("FAULT", fault[:600])
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Bits: an answer under load is the answer alone. 64 prompts, with logprobs, first one by one, then through HTTP all at once.

bits.py BINARY [MODEL ...] [--prompts 64] [--tokens 64] [--parallel 8]     standard library only

Numbers are compared as they are written in the JSON. The second server is asked twice: with empty caches, and with full ones. Beside
the prompts clients come and go whose answers nobody keeps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import GOLDEN, Server, serving
from wire import connect, post, strict_json, talk

MODELS = ("qwen3", "deepseek-v3", "deepseek-v41")  # one of each kind of cache
OPTIONS = ("--chat-format", "deepseek-v3", "--queue", "1000", "--queue-tokens", "1000000", "--log", "off")


def questions(count: int, tokens: int, seed: int = 7) -> list[tuple[str, dict[str, Any]]]:
    """Chats and completions, greedy and drawn, of many lengths, some with a common beginning."""
    source = random.Random(seed)
    words = "sea whale deep dark light pressure kelp reef tide squid vent trench".split()
    common = " ".join(source.choice(words) for _ in range(30))
    found: list[tuple[str, dict[str, Any]]] = []
    for number in range(count):
        text = " ".join(source.choice(words) for _ in range(source.randint(1, 40)))
        if number % 4 == 0:
            text = common + " " + text
        body: dict[str, Any] = {"max_tokens": tokens, "ignore_eos": True, "seed": number}
        body["temperature"] = 0 if number % 3 else 0.9
        if number % 2:
            found.append(("/v1/completions", {**body, "prompt": text, "logprobs": 5}))
        else:
            messages = [{"role": "user", "content": text}]
            found.append(("/v1/chat/completions", {**body, "messages": messages, "logprobs": True, "top_logprobs": 5}))
    return found


@contextlib.contextmanager
def with_tokenizer(model: str) -> Iterator[Path]:
    """The model's folder; that of a tiny model which has no tokenizer is completed by another tiny model's, of the same vocabulary."""
    path = GOLDEN / model if (GOLDEN / model).exists() else Path(model)
    if path.is_file() or (path / "tokenizer.json").exists():
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        for file in [*path.glob("*.json"), *path.glob("*.safetensors"), *(GOLDEN / "qwen3").glob("tokenizer*.json")]:
            (Path(scratch) / file.name).symlink_to(file)
        yield Path(scratch)


def ask(server: Server, question: tuple[str, dict[str, Any]]) -> Any:
    path, body = question
    result = talk(server.port, post(path, json.dumps(body).encode()), seconds=300)
    if result.statuses != [200]:
        raise RuntimeError(f"{result.statuses} {result.fault}: {result.responses[0].body[:200] if result.responses else ''!r}")
    return strict_json(result.responses[0].body)["choices"]


class Crowd:
    """Clients that ask for something long, take some of it, and leave."""

    def __init__(self, server: Server, count: int) -> None:
        self.server = server
        self.over = threading.Event()
        self.came = 0
        self.threads = [threading.Thread(target=self.loop, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def loop(self, seed: int) -> None:
        source = random.Random(seed)
        while not self.over.is_set():
            body = {"prompt": [5, 6, 7] * source.randint(1, 60), "max_tokens": 200, "ignore_eos": True, "stream": True, "temperature": 1}
            link = connect(self.server.port)
            link.sendall(post("/v1/completions", json.dumps(body).encode()))
            link.settimeout(1)
            with contextlib.suppress(TimeoutError):
                link.recv(source.randint(1, 4000))
            time.sleep(source.random() * 0.05)
            link.close()
            self.came += 1

    def stop(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def check(binary: str, model: str, path: Path, options: argparse.Namespace) -> int:
    """The number of answers that differ."""
    asked = questions(options.prompts, options.tokens)
    with serving(binary, path, *OPTIONS, "--parallel", "1") as server:
        alone = [ask(server, question) for question in asked]
    different = 0
    with serving(binary, path, *OPTIONS, "--parallel", str(options.parallel)) as server:
        for name in ("empty", "full"):
            crowd = Crowd(server, 4)
            try:
                with ThreadPoolExecutor(len(asked)) as pool:
                    together = list(pool.map(lambda question: ask(server, question), asked))
            finally:
                crowd.stop()
            wrong = [number for number, pair in enumerate(zip(alone, together)) if pair[0] != pair[1]]
            different += len(wrong)
            print(
                f"{model}, caches {name}: {len(asked) - len(wrong)}/{len(asked)} equal, beside {crowd.came} that came and left", flush=True
            )
            for number in wrong[:3]:
                print(f"  {asked[number][0]} {number}: {str(alone[number])[:200]}\n    not {str(together[number])[:200]}")
            if crowd.came == 0:
                raise RuntimeError("no crowd came: that was no load")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--parallel", type=int, default=8)
    options = parser.parse_args()
    different = 0
    for model in options.models:
        with with_tokenizer(model) as path:
            different += check(options.binary, model, path, options)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

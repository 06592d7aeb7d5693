#!/usr/bin/env python3
"""kill -9 in the middle of work, and a start on what is left: the file of prefixes and that of responses are sound, and are used.

kill_loop.py BINARY [--rounds 20] [--seed 1]     standard library only

Answers behind each start must be the golden ones, made by a server without a file. Over all rounds prefixes from the file must have been
hit, and every response that a client was given must be there.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from harness import GOLDEN, Server, serving
from wire import mib, post, strict_json, talk

MODEL = str(GOLDEN / "qwen3")
# a cache so small that prefixes move to the file all the time
OPTIONS = ("--chat-format", "deepseek-v3", "--parallel", "4", "--cache-tokens", "2048", "--log", "off")
PROMPTS = 12


def question(number: int) -> dict[str, Any]:
    ids = [1 + (number * 37 + at * at) % 250 for at in range(400)]
    return {"prompt": ids, "max_tokens": 12, "temperature": 0, "logprobs": 2, "ignore_eos": True}


def ask(server: Server, number: int) -> tuple[Any, int]:
    """The choices, and how many of the prompt's tokens were found."""
    result = talk(server.port, post("/v1/completions", json.dumps(question(number)).encode()))
    if result.statuses != [200]:
        raise RuntimeError(f"{result.statuses} {result.fault}")
    answer = strict_json(result.responses[0].body)
    return answer["choices"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]


class Clients:
    """Ask until the server dies, and remember which responses they were given."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.given: dict[str, str] = {}
        self.threads = [threading.Thread(target=self.loop, args=(seed * 10 + number,)) for number in range(4)]
        for thread in self.threads:
            thread.start()

    def loop(self, seed: int) -> None:
        source = random.Random(seed)
        try:
            while True:
                if source.random() < 0.7:
                    ask(self.server, source.randrange(PROMPTS))
                    continue
                body = {"input": f"Remember {source.randrange(1000)}", "max_output_tokens": 16}
                result = talk(self.server.port, post("/v1/responses", json.dumps(body).encode()))
                if result.statuses == [200] and result.responses[0].whole:
                    answer = result.responses[0].json()
                    self.given[answer["id"]] = json.dumps(answer["output"])
        except (OSError, RuntimeError, ValueError):
            return  # it was killed


def round_of(binary: str, options: list[str], golden: list[Any], kept: dict[str, str], source: random.Random) -> tuple[list[str], int]:
    """One life: what is wrong with what it found, and how many tokens it found in the file."""
    faults: list[str] = []
    server = Server(binary, MODEL, *options)
    try:
        hits = 0
        for number in source.sample(range(PROMPTS), PROMPTS):
            choices, cached = ask(server, number)
            hits += cached  # each is asked once: what is found, another life computed
            if choices != golden[number]:
                faults.append(f"prompt {number} is answered otherwise, {cached} tokens were found")
        for name in source.sample(sorted(kept), min(40, len(kept))):
            status, _, answer = server.request("GET", f"/v1/responses/{name}")
            if status != 200:
                faults.append(f"response {name} is lost: {status}")
            elif json.dumps(answer["output"]) != kept[name]:
                faults.append(f"response {name} is another")
        clients = Clients(server, source.randrange(10**6))
        time.sleep(0.2 + source.random() * 0.6)
    finally:
        server.process.kill()
        server.process.wait()
    for thread in clients.threads:
        thread.join()
    kept.update(clients.given)
    return faults, hits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    source = random.Random(arguments.seed)
    with serving(arguments.binary, MODEL, *OPTIONS) as server:
        golden = [ask(server, number)[0] for number in range(PROMPTS)]
    faults: list[str] = []
    hits, kept = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        pages, store = Path(scratch) / "pages", Path(scratch) / "responses"
        options = [*OPTIONS, "--kv-file", str(pages), "--kv-file-size", "0.05", "--store", str(store)]
        for number in range(arguments.rounds):
            wrong, found = round_of(arguments.binary, options, golden, kept, source)
            faults += [f"round {number}: {what}" for what in wrong]
            hits.append(found)
        sizes = ", ".join(f"{path.name} {mib(path.stat().st_size)}" for path in sorted(Path(scratch).iterdir()))
    print(f"{arguments.rounds} lives ended by kill -9; tokens found in the file: {hits}; {len(kept)} responses given; {sizes}")
    if hits[0] != 0:
        faults.append("the first life found something: that was not from the file")
    if arguments.rounds > 1 and sum(hits[1:]) == 0:
        faults.append("no life found anything of the one before it")
    if not kept:
        faults.append("no response was given")
    for fault in faults[:20]:
        print("FAULT", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Keys: who gets in where, how much a key may use, and that neither keys nor prompts are written anywhere.

keys.py BINARY [unittest options]     standard library only

The routes are read from apps/server/routes.cc, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import json
import re
import signal
import stat
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any

from harness import GOLDEN, ROOT, Server, wait_until
from wire import post, talk

BINARY = ""
MODEL = GOLDEN / "qwen3"
RIGHT, OTHER, WRONG = "sk-right-0123456789abcdef", "sk-other-0123456789abcdef", "sk-wrong-0123456789abcdef"
HEALTH = {"/health", "/v1/health", "/healthz", "/livez", "/readyz"}  # the only ones that anybody may ask
CANARY = "CaNaRy7Zq"

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
BODIES: dict[str, Any] = {
    "kChat": CHAT,
    "kCompletions": {"prompt": "Hi", "max_tokens": 2},
    "kResponses": {"input": "Hi", "max_output_tokens": 16},
    "kInputTokens": {"input": "Hi"},
    "kEmbeddings": {"input": "Hi"},
    "kMessages": CHAT,
    "kCountTokens": CHAT,
    "kOllamaChat": {"messages": CHAT["messages"], "stream": False, "options": {"num_predict": 2}},
    "kOllamaGenerate": {"prompt": "Hi", "stream": False, "options": {"num_predict": 2}},
    "kTokenize": {"prompt": "Hi"},
    "kDetokenize": {"tokens": [1]},
}
CALLS = {"kChat", "kCompletions", "kResponses", "kInputTokens", "kMessages", "kCountTokens", "kOllamaChat", "kOllamaGenerate"}
STORED = {"kResponse", "kResponseItems", "kResponseCancel", "kResponseDelete"}
# what the right key is answered where that is not 200
OTHERWISE = {"kEmbeddings": {400, 404, 501}, "kResponseCancel": {400}}  # none run in the background


def routes() -> list[tuple[str, str, str, bool]]:
    """Method, path, endpoint, and whether it needs no key, of every line of the table."""
    source = (ROOT / "apps/server/routes.cc").read_text()
    table = source[source.index("kRoutes[] = {") : source.index("\n};")]
    found = re.findall(r'\{"([A-Z]+)", "([^"]+)", (k\w+)(?:, ApiKind::k\w+)?(, true)?\}', table)
    if len(found) != table.count('{"'):
        raise RuntimeError("a line of the table of routes is not understood")
    return [(method, path, endpoint, bool(is_open)) for method, path, endpoint, is_open in found]


class KeyFile:
    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "keys.json"

    def write(self, *keys: dict[str, Any], text: str | None = None) -> str:
        self.path.write_text(json.dumps({"keys": list(keys)}) if text is None else text)
        self.path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        return str(self.path)


def started(keys: KeyFile, *options: str, env: dict[str, str] | None = None) -> Server:
    return Server(BINARY, MODEL, "--chat-format", "deepseek-v3", "--api-keys", str(keys.path), *options, env=env)


def bearer(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.keys = KeyFile()
        self.servers: list[Server] = []

    def serve(self, *options: str, env: dict[str, str] | None = None) -> Server:
        server = started(self.keys, *options, env=env)
        self.servers.append(server)
        return server

    def tearDown(self) -> None:
        for server in self.servers:
            self.assertEqual(server.stop(), 0, "".join(server.log[-5:]))
        self.keys.folder.cleanup()

    def signal_and_wait(self, server: Server, what: str) -> None:
        count = len(server.log)
        server.process.send_signal(signal.SIGHUP)
        self.assertTrue(wait_until(lambda: any(what in line for line in server.log[count:])), "".join(server.log[count:]))


class Routes(Case):
    def stored(self, server: Server) -> str:
        return server.request("POST", "/v1/responses", {"input": "Hi", "max_output_tokens": 16}, bearer(RIGHT))[2]["id"]

    def test_table(self) -> None:
        """Every route without a key, with a wrong one, with one that may not use the model and owns nothing, with the right one."""
        self.keys.write({"name": "right", "key": RIGHT}, {"name": "other", "key": OTHER, "models": ["another-model"]})
        server = self.serve()
        print(f"\n{'route':<52} none wrong other right")
        for method, path, endpoint, is_open in routes():
            row: dict[str, int] = {}
            for who, key in (("none", None), ("wrong", WRONG), ("other", OTHER), ("right", RIGHT)):
                name = self.stored(server) if endpoint in STORED else server.model
                body = BODIES.get(endpoint)
                if endpoint.startswith("kOllama") and method == "POST":
                    body = {"model": server.model, **(body or {})}  # these need its name
                row[who] = server.request(method, path.replace("{id}", name), body, bearer(key))[0]
            print(f"{method + ' ' + path:<52} " + "   ".join(str(status) for status in row.values()))
            with self.subTest(route=f"{method} {path}"):
                self.assertEqual(is_open, path in HEALTH, "is open, or is not, against the rule")
                if is_open:
                    self.assertEqual(set(row.values()), {200})
                    continue
                self.assertEqual((row["none"], row["wrong"]), (401, 401))
                self.assertIn(row["right"], OTHERWISE.get(endpoint, {200}))
                if endpoint in STORED or endpoint in CALLS or endpoint == "kModel":
                    allowed = {404, 400} if endpoint == "kResponseCancel" else {404}
                    self.assertIn(row["other"], allowed, "of another's response, or of a model it may not use")

    def test_lists_hold_what_the_key_may_use(self) -> None:
        self.keys.write({"name": "right", "key": RIGHT}, {"name": "other", "key": OTHER, "models": ["another-model"]})
        server = self.serve()
        for path in ("/v1/models", "/models", "/anthropic/v1/models", "/api/tags", "/api/ps"):
            with self.subTest(path=path):
                self.assertIn(server.model, json.dumps(server.request("GET", path, None, bearer(RIGHT))[2]))
                self.assertNotIn(server.model, json.dumps(server.request("GET", path, None, bearer(OTHER))[2]))
        self.assertEqual(server.request("POST", "/api/show", {"model": server.model}, bearer(OTHER))[0], 404)

    def test_spellings(self) -> None:
        """No other way to write a path, a method or a key leads past the door."""
        self.keys.write({"name": "right", "key": RIGHT})
        server = self.serve()
        for first in (
            "GET /metrics/", "GET /metrics?x", "GET //metrics", "GET /%6detrics", "HEAD /metrics",
            "GET http://localhost/metrics",
            "GET /health/../metrics", "GET /health/%2e%2e/metrics", "GET /health;/metrics", "GET /METRICS", "GET /nowhere",
            "OPTIONS /metrics",
            "POST /metrics", "GET /docs", "GET /openapi.json", "GET /",
        ):  # fmt: skip
            with self.subTest(first=first):
                result = talk(server.port, f"{first} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), half_close=True)
                self.assertIn(result.statuses, ([401], [400], [404]))
                self.assertNotIn("access-control-allow-origin", result.responses[0].headers)
        for lines in (
            ["Authorization: " + RIGHT], ["Authorization: Basic " + RIGHT], ["Authorization: Bearer"], ["Authorization: Bearer "],
            [f"Authorization: Bearer {RIGHT}x"], [f"Authorization: Bearer {RIGHT[:-1]}"], [f"Authorization: Bearer {RIGHT.upper()}"],
            [f"Authorization: Bearer {WRONG}", f"Authorization: Bearer {RIGHT}"], ["X-Api-Key: "], [f"Cookie: key={RIGHT}"],
            [f"Authorization: Bearer {RIGHT},{RIGHT}"], ["Authorization: Bearer " + "x" * 60000],
        ):  # fmt: skip
            with self.subTest(lines=[line[:60] for line in lines]):
                head = "\r\n".join(["GET /v1/models HTTP/1.1", "Host: localhost", *lines]) + "\r\n\r\n"
                self.assertIn(talk(server.port, head.encode(), half_close=True).statuses, ([401], [431]))
        for lines in (f"Authorization: bearer {RIGHT}", f"X-Api-Key: {RIGHT}"):
            head = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n"
            self.assertEqual(talk(server.port, head.encode()).statuses, [200])

    def test_refused_before_the_body(self) -> None:
        """Who has no key does not get to send 30 MiB first."""
        self.keys.write({"name": "right", "key": RIGHT})
        server = self.serve()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {30 << 20}\r\n\r\n"
        result = talk(server.port, head.encode())
        self.assertEqual(result.statuses, [401])
        self.assertLess(result.seconds, 2)

    def test_stored_responses_are_their_owners(self) -> None:
        self.keys.write({"name": "right", "key": RIGHT}, {"name": "other", "key": OTHER})
        server = self.serve()
        name = self.stored(server)
        for method, path in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
            self.assertEqual(server.request(method, f"/v1/responses/{name}{path}", None, bearer(OTHER))[0], 404)
        follow = {"input": "And?", "previous_response_id": name, "max_output_tokens": 16}
        self.assertIn(server.request("POST", "/v1/responses", follow, bearer(OTHER))[0], (400, 404))
        self.assertEqual(server.request("POST", "/v1/responses", follow, bearer(RIGHT))[0], 200)
        self.assertEqual(server.request("GET", f"/v1/responses/{name}", None, bearer(RIGHT))[0], 200)

    def test_prefixes_are_not_shared(self) -> None:
        """Another key's cached prefix is not hit: neither the counts nor the time may tell."""
        self.keys.write({"name": "right", "key": RIGHT}, {"name": "other", "key": OTHER})
        server = self.serve()
        body = {"prompt": "a common beginning " * 12, "max_tokens": 1}

        def cached(key: str, **more: Any) -> int:
            usage = server.request("POST", "/v1/completions", {**body, **more}, bearer(key))[2]["usage"]
            return usage["prompt_tokens_details"]["cached_tokens"]

        self.assertEqual(cached(RIGHT), 0)
        self.assertGreater(cached(RIGHT), 0)
        self.assertEqual(cached(OTHER), 0)
        self.assertEqual(cached(OTHER, cache_salt="right\n"), 0)


class Limits(Case):
    def complete(self, server: Server, key: str, **more: Any) -> tuple[int, dict[str, str], Any]:
        return server.request("POST", "/v1/completions", {"prompt": "Hi", "max_tokens": 2, "temperature": 0, **more}, bearer(key))

    def test_requests_a_minute(self) -> None:
        self.keys.write({"name": "few", "key": RIGHT, "requests_per_minute": 3}, {"name": "free", "key": OTHER})
        server = self.serve()
        seen = [self.complete(server, RIGHT) for _ in range(4)]
        self.assertEqual([status for status, _, _ in seen], [200, 200, 200, 429])
        self.assertEqual([head["x-ratelimit-remaining-requests"] for _, head, _ in seen], ["2", "1", "0", "0"])
        self.assertTrue(1 <= int(seen[3][1]["retry-after"]) <= 20, seen[3][1])
        self.assertEqual(self.complete(server, OTHER)[0], 200)
        metrics = server.request("GET", "/metrics", None, bearer(OTHER))[2]
        self.assertRegex(metrics, r'hadal_requests_total\{key="few",status="200"[^}]*\} 3')

    def test_tokens_a_minute(self) -> None:
        self.keys.write({"name": "few", "key": RIGHT, "tokens_per_minute": 60})
        server = self.serve()
        self.assertEqual(self.complete(server, RIGHT, max_tokens=100, ignore_eos=True)[0], 200)
        status, head, body = self.complete(server, RIGHT)
        self.assertEqual(status, 429, body)
        self.assertGreater(int(head["retry-after"]), 1)

    def test_a_crowd_of_one_key(self) -> None:
        """max_running holds however many come at once, and its place is free again behind each, also behind one that left."""
        self.keys.write({"name": "one", "key": RIGHT, "max_running": 2}, {"name": "free", "key": OTHER})
        server = self.serve("--parallel", "8")
        statuses: list[int] = []
        long = {"max_tokens": 400, "n": 8, "ignore_eos": True}

        def ask() -> None:
            statuses.append(self.complete(server, RIGHT, **long)[0])

        running = [threading.Thread(target=ask) for _ in range(12)]
        for thread in running:
            thread.start()
        self.assertEqual(self.complete(server, OTHER)[0], 200)
        for thread in running:
            thread.join()
        self.assertEqual(set(statuses), {200, 429})
        self.assertGreaterEqual(statuses.count(200), 2)
        stream = json.dumps({"prompt": "Hi", **long, "stream": True}).encode()
        for _ in range(5):
            talk(server.port, post("/v1/completions", stream, f"Authorization: Bearer {RIGHT}"), seconds=0.05)  # and gone
        self.assertTrue(wait_until(lambda: self.complete(server, RIGHT)[0] == 200, 20), "a place was lost")
        self.assertEqual([self.complete(server, RIGHT)[0] for _ in range(4)], [200] * 4)


class Reload(Case):
    def test_good_and_broken_files(self) -> None:
        self.keys.write({"name": "right", "key": RIGHT})
        server = self.serve()

        def status(key: str) -> int:
            return server.request("GET", "/v1/models", None, bearer(key))[0]

        self.assertEqual((status(RIGHT), status(OTHER)), (200, 401))
        self.keys.write({"name": "other", "key": OTHER})
        self.signal_and_wait(server, "SIGHUP: 1 keys")
        self.assertEqual((status(RIGHT), status(OTHER)), (401, 200))
        broken = [
            "{", "", "[]", '{"keys": []}', "\0" * 100, '{"keys": [{"name": "x", "key": "short"}]}', "[" * 100_000,
            json.dumps({"keys": [{"name": "x", "key": RIGHT, "frog": 1}]}),
            json.dumps({"keys": [{"name": "x", "key": RIGHT}, {"name": "x", "key": OTHER}]}),
            json.dumps({"keys": [{"name": "x", "key": RIGHT}]})[:-1],
        ]  # fmt: skip
        for text in broken:
            with self.subTest(text=text[:40]):
                self.keys.write(text=text)
                self.signal_and_wait(server, "the keys stay as they were")
                self.assertEqual((status(RIGHT), status(OTHER)), (401, 200))
        self.keys.path.unlink()
        self.signal_and_wait(server, "the keys stay as they were")
        self.assertEqual(status(OTHER), 200)
        for key in (RIGHT, OTHER):
            self.assertNotIn(key, "".join(server.log))

    def test_a_running_answer_outlives_its_key(self) -> None:
        self.keys.write({"name": "right", "key": RIGHT}, {"name": "other", "key": OTHER})
        server = self.serve()
        body = {"prompt": "Hi", "max_tokens": 400, "n": 16, "ignore_eos": True}
        seen: list[int] = []
        asker = threading.Thread(target=lambda: seen.append(server.request("POST", "/v1/completions", body, bearer(RIGHT))[0]))
        asker.start()
        time.sleep(0.1)
        self.keys.write({"name": "other", "key": OTHER})
        self.signal_and_wait(server, "SIGHUP: 1 keys")
        asker.join()
        self.assertEqual(seen, [200])

    def test_start_without_a_good_file(self) -> None:
        for text in ("{", '{"keys": []}'):
            self.keys.write(text=text)
            with self.assertRaises(RuntimeError):
                started(self.keys)
        with self.assertRaises(RuntimeError):
            Server(BINARY, MODEL, "--host", "0.0.0.0")  # open to all, and nobody needs a key


class Secrets(Case):
    """A canary in every place of a request that holds a user's words, and another as the key. Names of fields, roles and types are no
    words: an error that says what is wrong may quote them."""

    def bodies(self) -> list[tuple[str, dict[str, Any]]]:
        chat = {"messages": [{"role": "user", "content": CANARY}], "max_tokens": 3}
        tool = {"type": "function", "function": {"name": "f", "description": CANARY, "parameters": {"type": "object"}}}
        broken = {"type": "object", "properties": {CANARY: {"type": "frog"}}}
        shape = {"type": "json_schema", "json_schema": {"name": "s", "schema": broken}}
        return [
            ("/v1/chat/completions", chat),
            ("/v1/chat/completions", {**chat, "temperature": -1}),
            ("/v1/chat/completions", {**chat, "tools": [tool], "stop": [CANARY], "bad_words": [CANARY]}),
            ("/v1/chat/completions", {**chat, "stop": [CANARY * 300]}),
            ("/v1/chat/completions", {**chat, "response_format": shape}),
            ("/v1/chat/completions", {**chat, "structured_outputs": {"regex": CANARY + "("}}),
            ("/v1/chat/completions", {**chat, "structured_outputs": {"grammar": CANARY}}),
            ("/v1/chat/completions", {**chat, "messages": [{"role": "user", "content": {CANARY: 1}}]}),
            ("/v1/chat/completions", {**chat, "user": CANARY, "metadata": {CANARY: CANARY}}),
            ("/v1/completions", {"prompt": CANARY, "max_tokens": 3, "echo": True}),
            ("/v1/completions", {"prompt": CANARY * 2000}),
            ("/v1/completions", {"prompt": [CANARY, 5]}),
            ("/v1/completions", {"prompt": "Hi", "suffix": CANARY}),
            ("/v1/responses", {"input": CANARY, "instructions": CANARY, "max_output_tokens": 16}),
            ("/v1/responses", {"input": [{"type": "frog", "content": CANARY}]}),
            ("/v1/messages", {**chat, "system": CANARY}),
            ("/v1/messages", {**chat, "messages": [{"role": "user", "content": [{"type": "frog", "text": CANARY}]}]}),
            ("/api/chat", {**chat, "model": "qwen3", "stream": False}),
            ("/api/generate", {"model": "qwen3", "prompt": CANARY, "system": CANARY, "stream": False, "format": CANARY}),
            ("/tokenize", {"prompt": CANARY}),
            ("/tokenize", {"prompt": {CANARY: CANARY}}),
        ]

    def check(self, form: str) -> None:
        self.keys.write({"name": "right", "key": RIGHT})
        server = self.serve("--log", form)
        for path, body in self.bodies():
            server.request("POST", path, body, bearer(RIGHT))
            status, _, answer = server.request("POST", path, body, bearer(WRONG))
            self.assertEqual(status, 401)
            self.assertNotIn(WRONG, json.dumps(answer))
        server.request("POST", "/v1/completions", '{"prompt": "' + CANARY + '"', bearer(RIGHT))
        server.request("POST", "/v1/completions", CANARY, bearer(RIGHT))
        server.request("GET", f"/v1/models?q={CANARY}", None, bearer(RIGHT))
        metrics = server.request("GET", "/metrics", None, bearer(RIGHT))[2]
        front = server.request("GET", "/", None, bearer(RIGHT))[2]
        self.assertEqual(server.stop(), 0)
        time.sleep(0.2)
        log = "".join(server.log)
        self.assertGreater(log.count("/v1/chat/completions"), 5)
        for secret in (RIGHT, WRONG, RIGHT[3:], WRONG[3:]):
            for where, text in (("log", log), ("metrics", metrics), ("front page", front), ("ready line", server.curl)):
                self.assertNotIn(secret, text, f"a key is in the {where}")
        self.assertNotIn(CANARY, metrics)
        found = [line.strip() for line in log.splitlines() if CANARY in line]
        self.assertFalse(found, "users' words are in the log:\n" + "\n".join(found))

    def test_text_log(self) -> None:
        self.check("text")

    def test_json_log(self) -> None:
        self.check("json")

    def test_key_of_the_environment(self) -> None:
        server = Server(BINARY, MODEL, "--chat-format", "deepseek-v3", env={"HADAL_API_KEY": RIGHT})
        self.servers.append(server)
        self.assertEqual(server.request("GET", "/v1/models", None, bearer(RIGHT))[0], 200)
        self.assertEqual(server.request("GET", "/v1/models")[0], 401)
        self.assertNotIn(RIGHT, "".join(server.log) + server.curl)

    def test_errors_do_not_repeat_prompts(self) -> None:
        self.keys.write({"name": "right", "key": RIGHT})
        server = self.serve()
        for path, body in self.bodies():
            status, _, answer = server.request("POST", path, {**body, "temperature": -5, "options": {"temperature": "x"}}, bearer(RIGHT))
            if status >= 400:
                prompt = json.dumps(answer).count(CANARY * 2)  # of the long ones
                self.assertEqual(prompt, 0, f"{path}: {answer}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    BINARY = sys.argv.pop(1)
    unittest.main(warnings="ignore")

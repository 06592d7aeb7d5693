"""`hadal serve` by the official client of the Ollama API. Run by run_clients.py."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

import ollama
from clients import KEY, Clients
from harness import Server, wait_until
from model_text import FORMATS, Call
from stages import LONG_SYSTEM, Paint, Staged, middle_model, roomy_model

ASK: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


class Real(Staged):
    """With the real small model."""

    server: ClassVar[Server]
    clients: ClassVar[Clients]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.serve_real()
        cls.clients = cls.clients_of(cls.server)
        cls.client = cls.clients.ollama

    def chat(self, *, options: dict[str, Any] | None = None, **more: Any) -> Any:
        options = {"num_predict": 12, "temperature": 0, **(options or {})}
        return self.client.chat(**{"model": "smol", "messages": ASK, **more}, options=options)

    def generate(self, prompt: str | None, *, options: dict[str, Any] | None = None, **more: Any) -> Any:
        return self.client.generate(model="smol", prompt=prompt, options={"num_predict": 12, "temperature": 0, **(options or {})}, **more)

    def test_what_is_served(self) -> None:
        [listed] = self.client.list().models
        self.assertEqual(listed.model, "smol:latest")
        self.assertGreater(listed.size, 50_000_000)
        self.assertTrue(listed.digest)
        self.assertIsNotNone(listed.modified_at)
        self.assertEqual((listed.details.format, listed.details.family, listed.details.quantization_level), ("gguf", "llama", "Q4_1"))
        shown = self.client.show("smol")
        self.assertIn("completion", shown.capabilities)
        self.assertEqual(shown.modelinfo["general.architecture"], "llama")
        self.assertGreater(shown.modelinfo["llama.context_length"], 1000)
        self.assertTrue(shown.template)
        self.assertEqual(self.client.show("smol:latest").modelinfo, shown.modelinfo)
        [running] = self.client.ps().models
        self.assertEqual((running.model, running.digest), (listed.model, listed.digest))
        self.assertIsNotNone(running.expires_at)

    def test_a_chat_whole_and_streamed_says_the_same(self) -> None:
        whole = self.chat()
        self.assertEqual((whole.model, whole.done, whole.message.role), ("smol", True, "assistant"))
        self.assertIn(whole.done_reason, ("stop", "length"))
        text = whole.message.content
        self.assertTrue(text.strip())
        self.assertGreater(whole.prompt_eval_count, 0)
        self.assertLessEqual(whole.eval_count, 12)
        self.assertGreaterEqual(whole.total_duration, whole.eval_duration)
        self.assertGreater(whole.eval_duration, 0)
        parts = list(self.chat(stream=True))
        self.assertEqual("".join(part.message.content or "" for part in parts), text)
        self.assertEqual([part.done for part in parts], [False] * (len(parts) - 1) + [True])
        self.assertEqual((parts[-1].eval_count, parts[-1].done_reason), (whole.eval_count, whole.done_reason))
        self.assertGreater(parts[-1].prompt_eval_duration, 0)
        self.assertEqual(self.chat(model="smol:latest").message.content, text)

    def test_generate(self) -> None:
        whole = self.generate("What is the capital of France?")
        self.assertEqual(whole.response, self.chat().message.content, "a prompt is a chat of one message")
        streamed = list(self.generate("What is the capital of France?", stream=True))
        self.assertEqual("".join(part.response for part in streamed), whole.response)
        self.assertTrue(streamed[-1].done)
        self.assertIn("Paris", self.generate("The capital of France is", raw=True).response)
        system = self.generate("Who are you?", system="You are a pirate.")
        self.assertGreater(system.prompt_eval_count, 0)
        loaded = self.generate(None)
        self.assertEqual((loaded.done, loaded.done_reason, loaded.response), (True, "load", ""))
        unloaded = self.generate(None, keep_alive=0)
        self.assertEqual(unloaded.done_reason, "unload")

    def test_async_clients_at_once(self) -> None:
        expected = self.chat().message.content

        async def ask() -> list[str]:
            async with ollama.AsyncClient(host=self.server.url) as client:
                body: Any = {"model": "smol", "messages": ASK, "options": {"num_predict": 12, "temperature": 0}}

                async def one(stream: bool) -> str:
                    if not stream:
                        return (await client.chat(**body)).message.content or ""
                    return "".join([part.message.content or "" async for part in await client.chat(**body, stream=True)])

                return list(await asyncio.gather(*(one(i % 2 == 0) for i in range(6))))

        self.assertEqual(asyncio.run(ask()), [expected] * 6)

    def test_options(self) -> None:
        def seeded(seed: int) -> str:
            return self.chat(options={"temperature": 1.5, "seed": seed}).message.content

        self.assertEqual(seeded(7), seeded(7))
        self.assertEqual(len({seeded(seed) for seed in (1, 2, 3)}), 3)
        text = self.chat().message.content
        word = text.split()[2]
        stopped = self.chat(options={"stop": ["@@@", word]})
        self.assertEqual((stopped.message.content, stopped.done_reason), (text[: text.index(word)], "stop"))
        cut = self.chat(options={"num_predict": 2})
        self.assertEqual((cut.done_reason, cut.eval_count), ("length", 2))
        # what tunes Ollama's own runner changes nothing
        self.assertEqual(self.chat(options={"num_gpu": 1, "num_thread": 2, "mirostat": 0, "num_ctx": 2048}).message.content, text)
        self.assertEqual(self.chat(keep_alive="10m").message.content, text)

    def test_logprobs(self) -> None:
        whole = self.chat(logprobs=True, top_logprobs=2)
        self.assertEqual("".join(token.token for token in whole.logprobs), whole.message.content)
        for token in whole.logprobs:
            self.assertEqual(len(token.top_logprobs), 2)
            self.assertEqual(token.top_logprobs[0].token, token.token)
        streamed = [token for part in self.chat(logprobs=True, stream=True) for token in part.logprobs or []]
        self.assertEqual([token.token for token in streamed], [token.token for token in whole.logprobs])

    def test_formats(self) -> None:
        ask: Any = {"messages": [{"role": "user", "content": "Name a paint, as JSON."}], "options": {"num_predict": 100, "seed": 1}}
        for format_ in (Paint.model_json_schema(), Paint.model_json_schema(mode="serialization")):
            self.assertIsInstance(Paint.model_validate_json(self.chat(**ask, format=format_).message.content), Paint)
            streamed = "".join(part.message.content or "" for part in self.chat(**ask, format=format_, stream=True))
            self.assertIsInstance(Paint.model_validate_json(streamed), Paint)
        generated = self.generate("Name a paint.", format=Paint.model_json_schema(), options={"num_predict": 100})
        self.assertIsInstance(Paint.model_validate_json(generated.response), Paint)
        loose = self.chat(**ask, format="json")
        if loose.done_reason == "stop":
            self.assertIsInstance(json.loads(loose.message.content), dict)

    def test_the_second_call_finds_the_prompt_in_the_cache(self) -> None:
        """Ollama's API has no number for it: the server's own has."""

        def cached() -> float:
            metrics = self.server.request("GET", "/metrics")[2]
            lines = [line.split() for line in metrics.splitlines() if line.startswith("hadal_cached_prompt_tokens_total")]
            return sum(float(line[-1]) for line in lines)

        messages = [{"role": "system", "content": LONG_SYSTEM + "Ollama."}, *ASK]
        first = self.chat(messages=messages)
        before = cached()
        second = self.chat(messages=messages)
        self.assertGreater(cached(), before)
        self.assertEqual((first.message.content, first.prompt_eval_count), (second.message.content, second.prompt_eval_count))

    def test_errors(self) -> None:
        def error(status: int, call: Any) -> str:
            with self.assertRaises(ollama.ResponseError) as caught:
                call()
            self.assertEqual(caught.exception.status_code, status, caught.exception)
            self.assertTrue(caught.exception.error)
            self.assertNotIn("{", caught.exception.error[:1], "the client takes the text out of the body")
            return caught.exception.error

        self.assertIn("temperature", error(400, lambda: self.chat(options={"temperature": -1})))
        self.assertIn("temperature", error(400, lambda: list(self.chat(options={"temperature": -1}, stream=True))))
        self.assertIn("nothing", error(404, lambda: self.chat(model="nothing")))
        self.assertIn("nothing", error(404, lambda: self.client.show("nothing")))
        self.assertIn("context", error(400, lambda: self.chat(messages=[{"role": "user", "content": "word " * 20000}])))
        self.assertIn("num_ctx", error(400, lambda: self.chat(options={"num_ctx": 1 << 20})))
        image = [{"role": "user", "content": "see", "images": [b"\x89PNG"]}]
        self.assertIn("image", error(400, lambda: self.chat(messages=image)))
        self.assertIn("tools", error(400, lambda: self.chat(tools=[{"type": "function", "function": {"name": "f"}}])))
        self.assertIn("embeddings", error(400, lambda: self.client.embed(model="smol", input="x")))
        self.assertIn("embeddings", error(400, lambda: self.client.embeddings(model="smol", prompt="x")))
        self.assertIn("middle", error(400, lambda: self.generate("a", suffix="b")))
        error(413, lambda: self.chat(messages=[{"role": "user", "content": "x" * (33 << 20)}]))
        for call in (lambda: self.client.pull("x"), lambda: self.client.delete("x"), lambda: self.client.copy("x", "y")):
            error(404, call)
        self.assertTrue(self.chat().message.content, "the server goes on")

    def test_a_client_that_leaves(self) -> None:
        stream = self.chat(options={"num_predict": 4000}, stream=True)
        next(stream)
        stream.close()
        self.assertTrue(wait_until(lambda: "hadal_requests_running 0\n" in self.server.request("GET", "/metrics")[2]))


class Crowded(Staged):
    """One place, and one more that may wait. The client has no retries of its own."""

    def test_a_full_queue_is_said(self) -> None:
        server = self.serve_real("--queue", "1", places=1)
        client = self.clients_of(server).ollama
        body: Any = {"model": "smol", "messages": ASK, "options": {"num_predict": 4000}}
        long = client.chat(**body, stream=True)
        next(long)

        async def both() -> None:
            async with ollama.AsyncClient(host=server.url) as waiting:
                task = asyncio.create_task(waiting.chat(**{**body, "options": {"num_predict": 2}}))
                while "hadal_requests_waiting 1\n" not in server.request("GET", "/metrics")[2]:
                    await asyncio.sleep(0.02)
                with self.assertRaises(ollama.ResponseError) as full:
                    client.chat(**body)
                self.assertEqual(full.exception.status_code, 429)
                long.close()
                self.assertEqual((await task).eval_count, 2)

        asyncio.run(asyncio.wait_for(both(), 60))


class Keys(Staged):
    def test_a_key_is_needed(self) -> None:
        server = self.serve(roomy_model(self.folder()), "--chat-format", "deepseek-v4.1", "--api-key", KEY, "--parallel", "1")
        good = ollama.Client(host=server.url, headers={"Authorization": f"Bearer {KEY}"})
        self.assertEqual(len(good.list().models), 1)
        self.assertTrue(good.chat(model="roomy", messages=ASK, options={"num_predict": 1}).done)
        bad = ollama.Client(host=server.url, headers={"Authorization": "Bearer sk-wrong"})
        for call in (
            lambda: bad.list(),
            lambda: bad.ps(),
            lambda: bad.show("roomy"),
            lambda: bad.chat(model="roomy", messages=ASK),
            lambda: list(bad.chat(model="roomy", messages=ASK, stream=True)),
            lambda: bad.generate(model="roomy", prompt="x"),
        ):
            with self.assertRaises(ollama.ResponseError) as refused:
                call()
            self.assertEqual(refused.exception.status_code, 401)
            self.assertNotIn("sk-wrong", refused.exception.error)
        good.close()
        bad.close()


class Scripts(Staged):
    """Conversations with thoughts and tools, with the answers of a script."""

    def test_thoughts_out_and_back_in_and_results_of_tools(self) -> None:
        def get(k: str) -> str:
            """Gets a thing.

            Args:
                k: which
            """
            return f"script:{k}."

        for form in FORMATS:
            thinks_on = form.name != "deepseek-v3.1"  # which drops all thoughts, and opens none behind results
            answers = {
                "first": form.answer("script:second.", "Well:", [Call("get", {"k": "third"})]),
                "second": form.answer("hm", "it is"),
                "third": form.answer("so" if thinks_on else None, "it was"),
            }
            client = self.clients_of(self.serve_script(answers, form.name)).ollama
            messages: list[Any] = [{"role": "user", "content": "script:first."}]
            answer = client.chat(model="script", messages=messages, tools=[get], think=True).message
            self.assertEqual((answer.thinking, answer.content), ("script:second.", "Well:"), form.name)
            [call] = answer.tool_calls
            self.assertEqual((call.function.name, dict(call.function.arguments)), ("get", {"k": "third"}))
            result = {"role": "tool", "tool_name": "get", "content": "nothing"}
            if thinks_on:
                again = client.chat(model="script", messages=[*messages, answer, result], tools=[get], think=True).message
                self.assertEqual((again.thinking, again.content), ("hm", "it is"), form.name)
            result["content"] = get(**call.function.arguments)
            last = client.chat(model="script", messages=[*messages, answer, result], tools=[get], think=True).message
            self.assertEqual((last.thinking or "", last.content), ("so" if thinks_on else "", "it was"), form.name)

    def test_think(self) -> None:
        """Left out it is on, as in Ollama; a level is an effort where the format knows efforts."""
        client = self.clients_of(self.serve_script({"a": "hm</think>so"}, "deepseek-v4.1")).ollama
        ask: Any = {"model": "script", "messages": [{"role": "user", "content": "script:a"}]}
        for think in (None, True, "low", "high"):
            message = client.chat(**ask, think=think).message
            self.assertEqual((message.thinking, message.content), ("hm", "so"), think)
            generated = client.generate(model="script", prompt="script:a", think=think)
            self.assertEqual((generated.thinking, generated.response), ("hm", "so"), think)
        off = client.chat(**ask, think=False).message
        self.assertEqual((off.thinking, off.content), (None, "hm</think>so"))
        self.assertEqual(sorted(client.show("script").capabilities), ["completion", "thinking", "tools"])
        plain = self.clients_of(self.serve_script({"a": "so"}, "chatml")).ollama
        self.assertEqual(plain.chat(**ask).message.content, "so")
        with self.assertRaises(ollama.ResponseError) as cannot:
            plain.chat(**ask, think=True)
        self.assertEqual(cannot.exception.status_code, 400)

    def test_the_middle_is_filled_in(self) -> None:
        client = self.clients_of(self.serve_script({"a": "    return x\n"}, "chatml", middle_model(self.folder()))).ollama
        self.assertEqual(client.generate(model="script", prompt="def script:a.\n", suffix="\nf(1)").response, "    return x\n")
        self.assertIn("insert", client.show("script").capabilities)

"""`hadal serve` by the official client of the OpenAI API. Run by run_clients.py."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from typing import Any, ClassVar

import openai
from clients import KEY, Clients
from harness import Server, wait_until
from pydantic import BaseModel, ConfigDict
from stages import LONG_SYSTEM, Colour, Staged, roomy_model

ASK: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


class Paint(BaseModel):
    colour: Colour
    glossy: bool


class Mix(BaseModel):
    """A tool whose arguments even a model of random weights ends."""

    model_config = ConfigDict(extra="forbid")
    first: Colour
    second: Colour


class Real(Staged):
    """With the real small model."""

    server: ClassVar[Server]
    clients: ClassVar[Clients]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.serve_real()
        cls.clients = cls.clients_of(cls.server)
        cls.client = cls.clients.openai

    def chat(self, **more: Any) -> Any:
        return self.client.chat.completions.create(**{"model": "smol", "messages": ASK, "max_tokens": 12, "temperature": 0, **more})

    def test_models(self) -> None:
        [model] = list(self.client.models.list())
        self.assertEqual((model.id, model.object), ("smol", "model"))
        self.assertGreater(model.created, 1_500_000_000)
        self.assertEqual(self.client.models.retrieve("smol").id, "smol")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("nothing")

    def test_a_chat_whole_and_streamed_says_the_same(self) -> None:
        whole = self.chat()
        self.assertEqual(whole.object, "chat.completion")
        self.assertRegex(whole.id, r"^chatcmpl-\w+$")
        self.assertEqual(whole.model, "smol")
        self.assertTrue(whole.system_fingerprint)
        self.assertTrue(whole._request_id)
        text = whole.choices[0].message.content
        self.assertTrue(text.strip())
        usage = whole.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertLessEqual(usage.completion_tokens, 12)
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), text)
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, usage.completion_tokens)
        self.assertEqual([c.usage for c in chunks[:-2]], [None] * (len(chunks) - 2))
        with self.client.chat.completions.stream(model="smol", messages=ASK, max_tokens=12, temperature=0) as stream:
            deltas = [event.delta for event in stream if event.type == "content.delta"]
            self.assertEqual(stream.current_completion_snapshot.choices[0].message.content, text)
        self.assertEqual("".join(deltas), text)

    def test_async_clients_at_once(self) -> None:
        expected = self.chat().choices[0].message.content

        async def ask() -> list[str]:
            async with self.clients.async_openai() as client:

                async def one(stream: bool) -> str:
                    body: Any = {"model": "smol", "messages": ASK, "max_tokens": 12, "temperature": 0}
                    if not stream:
                        return (await client.chat.completions.create(**body)).choices[0].message.content or ""
                    text = ""
                    async for chunk in await client.chat.completions.create(**body, stream=True):
                        text += chunk.choices[0].delta.content or ""
                    return text

                return list(await asyncio.gather(*(one(i % 2 == 0) for i in range(6))))

        self.assertEqual(asyncio.run(ask()), [expected] * 6)

    def test_seeds(self) -> None:
        def said(seed: int) -> str:
            return self.chat(temperature=1.5, seed=seed, max_tokens=16).choices[0].message.content

        self.assertEqual(said(7), said(7))
        self.assertEqual(len({said(seed) for seed in (1, 2, 3)}), 3)

    def test_several_answers(self) -> None:
        choices = self.chat(n=3, temperature=1.5, seed=5, max_tokens=8).choices
        self.assertEqual([choice.index for choice in choices], [0, 1, 2])
        self.assertGreater(len({choice.message.content for choice in choices}), 1)
        streamed = {0: "", 1: "", 2: ""}
        for chunk in self.chat(n=3, temperature=1.5, seed=5, max_tokens=8, stream=True):
            for choice in chunk.choices:
                streamed[choice.index] += choice.delta.content or ""
        self.assertEqual(streamed, {choice.index: choice.message.content for choice in choices})

    def test_logprobs(self) -> None:
        choice = self.chat(logprobs=True, top_logprobs=3).choices[0]
        tokens = choice.logprobs.content
        self.assertEqual(bytes(byte for token in tokens for byte in token.bytes).decode(), choice.message.content)
        for token in tokens:
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].token, token.token, "greedy takes the likeliest")
            self.assertAlmostEqual(token.top_logprobs[0].logprob, token.logprob, places=5)
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual([t.logprob for t in token.top_logprobs], sorted((t.logprob for t in token.top_logprobs), reverse=True))
        streamed = [
            token
            for chunk in self.chat(logprobs=True, top_logprobs=3, stream=True)
            if chunk.choices[0].logprobs
            for token in chunk.choices[0].logprobs.content or []
        ]
        self.assertEqual([(t.token, t.logprob) for t in streamed], [(t.token, t.logprob) for t in tokens])
        self.assertIsNone(self.chat().choices[0].logprobs)

    def test_stop_and_length(self) -> None:
        text = self.chat(max_tokens=16).choices[0].message.content
        word = text.split()[2]
        for stop in (word, [word], ["@@@", word]):
            choice = self.chat(max_tokens=16, stop=stop).choices[0]
            self.assertEqual((choice.message.content, choice.finish_reason), (text[: text.index(word)], "stop"))
        self.assertEqual(self.chat(max_tokens=2).choices[0].finish_reason, "length")
        self.assertEqual(self.chat(max_completion_tokens=2, max_tokens=openai.omit).usage.completion_tokens, 2)

    def test_the_second_call_finds_the_prompt_in_the_cache(self) -> None:
        messages = [{"role": "system", "content": LONG_SYSTEM}, *ASK]
        first, second = self.chat(messages=messages), self.chat(messages=messages)
        self.assertEqual(first.usage.prompt_tokens_details.cached_tokens, 0)
        cached = second.usage.prompt_tokens_details.cached_tokens
        self.assertGreater(cached, 0)
        self.assertEqual(second.usage.prompt_cache_hit_tokens, cached)
        self.assertEqual(second.usage.prompt_cache_miss_tokens, second.usage.prompt_tokens - cached)
        self.assertEqual(first.choices[0].message.content, second.choices[0].message.content)

    def test_parsed_answers(self) -> None:
        body: Any = {"model": "smol", "messages": [{"role": "user", "content": "Name a paint, as JSON."}], "max_tokens": 100}
        parsed = self.client.chat.completions.parse(**body, response_format=Paint, seed=1).choices[0].message.parsed
        self.assertIsInstance(parsed, Paint)
        with self.client.chat.completions.stream(**body, response_format=Paint, seed=1) as stream:
            for _ in stream:
                pass
            self.assertEqual(stream.get_final_completion().choices[0].message.parsed, parsed)
        with self.assertRaises(openai.LengthFinishReasonError):
            self.client.chat.completions.parse(**{**body, "max_tokens": 2}, response_format=Paint)
        loose = self.client.chat.completions.create(**body, response_format={"type": "json_object"}, seed=1)
        if loose.choices[0].finish_reason == "stop":
            self.assertIsInstance(json.loads(loose.choices[0].message.content), dict)
        response = self.client.responses.parse(model="smol", input="Name a paint.", text_format=Paint, max_output_tokens=100)
        self.assertIsInstance(response.output_parsed, Paint)

    def test_request_ids_go_in_and_come_out(self) -> None:
        self.assertEqual(self.chat(extra_headers={"x-request-id": "mine.1"})._request_id, "mine.1")
        self.assertNotEqual(self.chat()._request_id, self.chat()._request_id)

    def test_completions(self) -> None:
        body: Any = {"model": "smol", "prompt": "The capital of France is", "max_tokens": 6, "temperature": 0}
        whole = self.client.completions.create(**body, logprobs=2)
        text = whole.choices[0].text
        self.assertEqual("".join(whole.choices[0].logprobs.tokens), text)
        self.assertEqual(len(whole.choices[0].logprobs.top_logprobs[0]), 2)
        self.assertEqual("".join(c.choices[0].text for c in self.client.completions.create(**body, stream=True)), text)
        echoed = self.client.completions.create(**body, echo=True)
        self.assertEqual(echoed.choices[0].text, body["prompt"] + text)
        two = self.client.completions.create(**{**body, "prompt": [body["prompt"], "One, two,"]}, n=1)
        self.assertEqual([choice.index for choice in two.choices], [0, 1])
        self.assertEqual(two.choices[0].text, text)
        with self.assertRaisesRegex(openai.BadRequestError, "cannot fill in the middle"):
            self.client.completions.create(**body, suffix="x")

    def test_errors(self) -> None:
        with self.assertRaises(openai.BadRequestError) as bad:
            self.chat(temperature=-1)
        self.assertEqual((bad.exception.param, bad.exception.type), ("temperature", "invalid_request_error"))
        self.assertTrue(bad.exception.request_id)
        self.assertIn("temperature", bad.exception.message)
        with self.assertRaises(openai.NotFoundError) as missing:
            self.chat(model="gpt-nothing")
        self.assertEqual((missing.exception.param, missing.exception.status_code), ("model", 404))
        with self.assertRaises(openai.BadRequestError) as long:
            self.chat(messages=[{"role": "user", "content": "word " * 20000}])
        self.assertEqual(long.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.BadRequestError) as image:
            parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
            self.chat(messages=[{"role": "user", "content": parts}])
        self.assertIn("image", image.exception.message)
        with self.assertRaises(openai.BadRequestError) as tools:
            self.chat(tools=[openai.pydantic_function_tool(Mix)])
        self.assertEqual(tools.exception.param, "tools")
        with self.assertRaises(openai.APIStatusError) as large:
            self.chat(messages=[{"role": "user", "content": "x" * (33 << 20)}])
        self.assertEqual(large.exception.status_code, 413)
        with self.assertRaisesRegex(openai.BadRequestError, "no embeddings"):
            self.client.embeddings.create(model="smol", input="x")
        with self.assertRaises(openai.NotFoundError):
            self.client.images.generate(prompt="x", model="smol")
        self.assertTrue(self.chat().choices[0].message.content, "the server goes on")

    def test_a_client_that_leaves_and_one_that_has_no_time(self) -> None:
        stream = self.chat(max_tokens=4000, stream=True)
        next(iter(stream))
        stream.close()
        hasty = self.client.with_options(timeout=0.2)
        with self.assertRaises(openai.APITimeoutError):
            hasty.chat.completions.create(model="smol", messages=ASK, max_tokens=4000, extra_body={"ignore_eos": True})
        self.assertTrue(wait_until(lambda: "hadal_requests_running 0\n" in self.server.request("GET", "/metrics")[2]))


class Crowded(Staged):
    """One place, and one more that may wait."""

    def test_a_client_obeys_retry_after(self) -> None:
        server = self.serve_real("--queue", "1", places=1)
        clients = self.clients_of(server)
        body: Any = {"model": "smol", "messages": ASK, "extra_body": {"ignore_eos": True}}
        long = clients.openai.chat.completions.create(**body, max_tokens=4000, stream=True)
        next(iter(long))
        answers: dict[str, Any] = {}

        def ask(name: str, retries: int) -> threading.Thread:
            def run() -> None:
                client = clients.openai.with_options(max_retries=retries)
                answers[name] = client.chat.completions.with_raw_response.create(**body, max_tokens=2)

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        waiting = ask("waits", 0)
        self.assertTrue(wait_until(lambda: "hadal_requests_waiting 1\n" in server.request("GET", "/metrics")[2]))
        with self.assertRaises(openai.RateLimitError) as full:
            clients.openai.chat.completions.create(**body, max_tokens=2)
        after = float(full.exception.response.headers["retry-after"])
        self.assertGreaterEqual(after, 1)
        self.assertEqual((full.exception.code, full.exception.type), ("rate_limit_exceeded", "rate_limit_error"))
        start = time.monotonic()
        patient = ask("retries", 8)
        time.sleep(0.3)
        long.close()
        waiting.join()
        patient.join()
        self.assertGreaterEqual(answers["retries"].retries_taken, 1)
        self.assertGreaterEqual(time.monotonic() - start, 0.9, "it waits as long as it was told to")
        self.assertEqual(answers["waits"].retries_taken, 0)
        for answer in answers.values():
            self.assertEqual(answer.parse().usage.completion_tokens, 2)


class Leaving(Staged):
    def test_a_server_that_ends_answers_first(self) -> None:
        server = self.serve_real()
        client = self.clients_of(server).openai
        stream = client.chat.completions.create(
            model="smol", messages=ASK, max_tokens=150, temperature=0, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        with self.assertRaises((openai.InternalServerError, openai.APIConnectionError)):
            client.chat.completions.create(model="smol", messages=ASK, max_tokens=1)
        chunks = list(stream)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")
        self.assertEqual(chunks[-1].usage.completion_tokens, 150)
        client.close()
        self.assertEqual(server.process.wait(20), 0)

    def test_names_with_slashes_and_other_names(self) -> None:
        folder = self.folder()
        options = ("--chat-format", "deepseek-v4", "--name", "org/model", "--alias", "gpt-4o", "--parallel", "1")
        clients = self.clients_of(self.serve(roomy_model(folder), *options))
        self.assertEqual(clients.openai.models.retrieve("org/model").id, "org/model")
        self.assertEqual(clients.openai.models.retrieve("gpt-4o").id, "gpt-4o")
        for name in ("org/model", "gpt-4o"):
            self.assertEqual(clients.openai.chat.completions.create(model=name, messages=ASK, max_tokens=1).model, "org/model")


class Keys(Staged):
    def test_a_key_is_needed(self) -> None:
        keyed = self.serve(roomy_model(self.folder()), "--chat-format", "deepseek-v4.1", "--api-key", KEY, "--parallel", "1")
        good = openai.OpenAI(base_url=keyed.url + "/v1", api_key=KEY, max_retries=0)
        self.assertEqual(len(list(good.models.list())), 1)

        def expect_refusals(bad_key: str) -> None:
            bad = openai.OpenAI(base_url=keyed.url + "/v1", api_key=bad_key, max_retries=0)
            for call in (
                lambda: bad.models.list(),
                lambda: bad.chat.completions.create(model="roomy", messages=ASK, max_tokens=1),
                lambda: bad.responses.create(model="roomy", input="x", max_output_tokens=1),
                lambda: bad.completions.create(model="roomy", prompt="x", max_tokens=1),
                lambda: bad.responses.retrieve("resp_1"),
                lambda: bad.embeddings.create(model="roomy", input="x"),
            ):
                with self.assertRaises(openai.AuthenticationError) as refused:
                    call()
                self.assertEqual(refused.exception.status_code, 401)
                self.assertNotIn(bad_key, str(refused.exception.body))
            bad.close()

        expect_refusals("sk-wrong")
        expect_refusals(KEY[:-1])
        good.close()


class Forced(Staged):
    """Calls that the engine must write, by a model of random weights: grammars hold them in form."""

    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.serve(roomy_model(cls.folder()), "--chat-format", "deepseek-v3.1", "--parallel", "4", "--name", "tiny")
        cls.client = cls.clients_of(cls.server).openai

    def test_a_named_tool_is_called_and_its_arguments_parsed(self) -> None:
        body: Any = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "mix"}],
            "tools": [openai.pydantic_function_tool(Mix, name="mix")],
            "tool_choice": {"type": "function", "function": {"name": "mix"}},
            "parallel_tool_calls": False,
            "max_tokens": 400,
            "seed": 3,
        }
        choice = self.client.chat.completions.parse(**body).choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        [call] = choice.message.tool_calls
        self.assertEqual(call.function.name, "mix")
        self.assertIsInstance(call.function.parsed_arguments, Mix)
        with self.client.chat.completions.stream(**body) as stream:
            done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
            [streamed] = stream.get_final_completion().choices[0].message.tool_calls
        self.assertEqual(streamed.function.parsed_arguments, call.function.parsed_arguments)
        self.assertEqual(done[0].parsed_arguments, call.function.parsed_arguments)
        required = self.client.chat.completions.parse(**{**body, "tool_choice": "required", "seed": 4})
        self.assertIsInstance(required.choices[0].message.tool_calls[0].function.parsed_arguments, Mix)
        none = self.client.chat.completions.create(**{**body, "tool_choice": "none", "max_tokens": 5})
        self.assertFalse(none.choices[0].message.tool_calls)

    def test_a_thought_has_a_budget_and_the_answer_behind_it_a_form(self) -> None:
        extra = {"seed": 1, "thinking": {"type": "enabled", "budget_tokens": 16}}
        body: Any = {"model": "tiny", "extra_body": extra}
        chat = self.client.chat.completions.parse(**body, messages=ASK, max_tokens=400, response_format=Paint)
        self.assertIsInstance(chat.choices[0].message.parsed, Paint)
        # the mark that ends the thought may count, too
        self.assertIn(chat.usage.completion_tokens_details.reasoning_tokens, (16, 17))
        response = self.client.responses.parse(**body, input="hello", max_output_tokens=400, text_format=Paint)
        self.assertIsInstance(response.output_parsed, Paint)
        self.assertIn(response.usage.output_tokens_details.reasoning_tokens, (16, 17))

    def test_a_tool_that_is_not_strict_enough(self) -> None:
        tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {"a": {}}}}}
        with self.assertRaises(openai.BadRequestError) as loose:
            self.client.chat.completions.create(model="tiny", messages=ASK, tools=[tool], max_tokens=1)
        self.assertTrue(loose.exception.param.startswith("tools[0].function.parameters"), loose.exception.param)


class Scripts(Staged):
    """With the answers of a script."""

    def test_clients_that_break_off_cost_nobody_an_answer(self) -> None:
        clients = self.clients_of(self.serve_script({"a": "so it is " * 100}, "deepseek-v3.1", delay_ms=1))
        body: Any = {"model": "script", "messages": [{"role": "user", "content": "script:a"}], "max_tokens": 200}

        async def ask() -> str | None:
            async with clients.async_openai() as client:

                async def listen() -> None:
                    async for _ in await client.chat.completions.create(**body, stream=True):
                        pass

                leaving = [asyncio.create_task(listen()) for _ in range(20)]
                staying = asyncio.create_task(client.chat.completions.create(**body))
                await asyncio.sleep(0.3)
                for task in leaving:
                    task.cancel()
                await asyncio.gather(*leaving, return_exceptions=True)
                return (await staying).choices[0].message.content

        self.assertEqual(asyncio.run(ask()), ("so it is " * 100)[:200])

"""`hadal serve` by the official client of the Anthropic API. Run by run_clients.py."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, ClassVar

import anthropic
from clients import KEY, Clients, of_message
from harness import Server, wait_until
from model_text import FORMATS, Call
from stages import LONG_SYSTEM, Paint, Staged, roomy_model

ASK: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
COLOURS = {"type": "string", "enum": ["red", "green"]}
MIX: Any = {
    "name": "mix",
    "description": "mixes two colours",
    "input_schema": {
        "type": "object",
        "properties": {"first": COLOURS, "second": COLOURS},
        "required": ["first", "second"],
        "additionalProperties": False,
    },
    "strict": True,
}
GET: Any = {"name": "get", "description": "gets", "input_schema": {"type": "object", "properties": {"k": {"type": "string"}}}}


class Real(Staged):
    """With the real small model."""

    server: ClassVar[Server]
    clients: ClassVar[Clients]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.serve_real()
        cls.clients = cls.clients_of(cls.server)
        cls.client = cls.clients.anthropic

    def ask(self, **more: Any) -> Any:
        return self.client.messages.create(**{"model": "smol", "messages": ASK, "max_tokens": 12, "extra_body": {"temperature": 0}, **more})

    def test_a_message_whole_and_streamed_says_the_same(self) -> None:
        whole = self.ask()
        self.assertRegex(whole.id, r"^msg_\w+$")
        self.assertEqual((whole.type, whole.role, whole.model), ("message", "assistant", "smol"))
        self.assertTrue(whole._request_id)
        [block] = whole.content
        self.assertTrue(block.text.strip())
        with self.client.messages.stream(model="smol", messages=ASK, max_tokens=12, extra_body={"temperature": 0}) as stream:
            self.assertEqual("".join(stream.text_stream), block.text)
            final = stream.get_final_message()
            self.assertEqual(stream.get_final_text(), block.text)
            self.assertTrue(stream.request_id)
        self.assertEqual((final.stop_reason, final.content[0].text), (whole.stop_reason, block.text))
        self.assertEqual(final.usage.output_tokens, whole.usage.output_tokens)
        all_of_it = whole.usage.input_tokens + whole.usage.cache_read_input_tokens
        self.assertEqual(final.usage.input_tokens + final.usage.cache_read_input_tokens, all_of_it)
        kinds = [event.type for event in self.ask(stream=True) if event.type != "ping"]
        self.assertEqual(
            kinds[:2] + kinds[-3:], ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
        )
        beta = self.client.beta.messages.create(
            model="smol", messages=ASK, max_tokens=12, extra_body={"temperature": 0}, betas=["interleaved-thinking-2025-05-14"]
        )
        self.assertEqual(beta.content[0].text, block.text)

    def test_under_the_base_url_of_deepseek(self) -> None:
        there = self.client.with_options(base_url=self.server.url + "/anthropic")
        answer = there.messages.create(model="smol", messages=ASK, max_tokens=12, extra_body={"temperature": 0})
        self.assertEqual(answer.content[0].text, self.ask().content[0].text)
        self.assertEqual([model.id for model in there.models.list()], ["smol"])

    def test_models(self) -> None:
        """At the API's own path the OpenAI list stands; a client that says its version gets its own."""
        [model] = list(self.client.models.list())
        self.assertEqual((model.id, model.type), ("smol", "model"))
        self.assertTrue(model.display_name)
        self.assertEqual(self.client.models.retrieve("smol").id, "smol")
        with self.assertRaises(anthropic.NotFoundError):
            self.client.models.retrieve("nothing")

    def test_async_clients_at_once(self) -> None:
        expected = self.ask().content[0].text

        async def ask() -> list[str]:
            async with self.clients.async_anthropic() as client:

                async def one(stream: bool) -> str:
                    body: Any = {"model": "smol", "messages": ASK, "max_tokens": 12, "extra_body": {"temperature": 0}}
                    if not stream:
                        return (await client.messages.create(**body)).content[0].text
                    async with client.messages.stream(**body) as answer:
                        return "".join([text async for text in answer.text_stream])

                return list(await asyncio.gather(*(one(i % 2 == 0) for i in range(6))))

        self.assertEqual(asyncio.run(ask()), [expected] * 6)

    def test_stop_and_length(self) -> None:
        text = self.ask(max_tokens=16).content[0].text
        word = text.split()[2]
        stopped = self.ask(max_tokens=16, stop_sequences=["@@@", word])
        self.assertEqual((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", word))
        self.assertEqual(stopped.content[0].text, text[: text.index(word)])
        cut = self.ask(max_tokens=2)
        self.assertEqual((cut.stop_reason, cut.stop_sequence, cut.usage.output_tokens), ("max_tokens", None, 2))

    def test_the_second_call_finds_the_prompt_in_the_cache(self) -> None:
        system: Any = [{"type": "text", "text": LONG_SYSTEM + "Anthropic.", "cache_control": {"type": "ephemeral"}}]
        first, second = self.ask(system=system), self.ask(system=system)
        self.assertEqual(first.usage.cache_read_input_tokens, 0)
        self.assertGreater(second.usage.cache_read_input_tokens, 0)
        self.assertEqual(second.usage.input_tokens + second.usage.cache_read_input_tokens, first.usage.input_tokens)
        self.assertEqual(first.content[0].text, second.content[0].text)

    def test_tokens_are_counted_as_they_are_used(self) -> None:
        counted = self.client.messages.count_tokens(model="smol", messages=ASK, system="Be brief.").input_tokens
        used = self.ask(system="Be brief.").usage
        self.assertEqual(used.input_tokens + used.cache_read_input_tokens, counted)

    def test_a_prefill_is_gone_on_with(self) -> None:
        prefilled: Any = [*ASK, {"role": "assistant", "content": "The capital of France is"}]
        self.assertIn("Paris", self.ask(messages=prefilled).content[0].text)

    def test_parsed_answers(self) -> None:
        body: Any = {"model": "smol", "messages": [{"role": "user", "content": "Name a paint, as JSON."}], "max_tokens": 100}
        parsed = self.client.messages.parse(**body, output_format=Paint)
        self.assertIsInstance(parsed.parsed_output, Paint)
        with self.client.messages.stream(**body, output_format=Paint) as stream:
            self.assertIsInstance(stream.get_final_message().parsed_output, Paint)
        self.assertIsInstance(self.client.beta.messages.parse(**body, output_format=Paint).parsed_output, Paint)

    def test_errors(self) -> None:
        def error(kind: type[anthropic.APIStatusError], status: int, type_: str, **more: Any) -> str:
            with self.assertRaises(kind) as caught:
                self.ask(**more)
            found = caught.exception
            self.assertEqual((found.status_code, found.type), (status, type_), found)
            self.assertTrue(found.request_id)
            assert isinstance(found.body, dict)
            self.assertEqual(found.body["type"], "error")
            self.assertEqual(found.body["request_id"], found.request_id)
            return str(found.body["error"]["message"])

        self.assertIn("temperature", error(anthropic.BadRequestError, 400, "invalid_request_error", extra_body={"temperature": -1}))
        self.assertIn("nothing", error(anthropic.NotFoundError, 404, "not_found_error", model="nothing"))
        long = [{"role": "user", "content": "word " * 20000}]
        self.assertIn("prompt is too long", error(anthropic.BadRequestError, 400, "invalid_request_error", messages=long))
        image = [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]}]
        self.assertIn("image", error(anthropic.BadRequestError, 400, "invalid_request_error", messages=image))
        self.assertIn("tools", error(anthropic.BadRequestError, 400, "invalid_request_error", tools=[MIX]))
        effort = error(anthropic.BadRequestError, 400, "invalid_request_error", output_config={"effort": "low"})
        self.assertTrue(effort.startswith("output_config.effort: "), effort)
        search = [{"type": "web_search_20250305", "name": "web_search"}]
        self.assertIn("tools[0]", error(anthropic.BadRequestError, 400, "invalid_request_error", tools=search))
        large = [{"role": "user", "content": "x" * (33 << 20)}]
        error(anthropic.RequestTooLargeError, 413, "request_too_large", messages=large)
        with self.assertRaises(anthropic.BadRequestError):
            self.ask(extra_body={"temperature": -1}, stream=True)
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.batches.list()
        self.assertTrue(self.ask().content[0].text, "the server goes on")


class Crowded(Staged):
    """One place, and one more that may wait."""

    def test_a_client_obeys_retry_after(self) -> None:
        server = self.serve_real("--queue", "1", places=1)
        clients = self.clients_of(server)
        body: Any = {"model": "smol", "messages": ASK, "extra_body": {"ignore_eos": True}}
        long = clients.anthropic.messages.create(**body, max_tokens=4000, stream=True)
        next(iter(long))
        answers: dict[str, Any] = {}

        def ask(name: str, retries: int) -> threading.Thread:
            def run() -> None:
                client = clients.anthropic.with_options(max_retries=retries)
                answers[name] = client.messages.with_raw_response.create(**body, max_tokens=2)

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        waiting = ask("waits", 0)
        self.assertTrue(wait_until(lambda: "hadal_requests_waiting 1\n" in server.request("GET", "/metrics")[2]))
        with self.assertRaises(anthropic.RateLimitError) as full:
            clients.anthropic.messages.create(**body, max_tokens=2)
        self.assertGreaterEqual(float(full.exception.response.headers["retry-after"]), 1)
        self.assertEqual(full.exception.type, "rate_limit_error")
        start = time.monotonic()
        patient = ask("retries", 8)
        time.sleep(0.3)
        long.close()
        waiting.join()
        patient.join()
        self.assertGreaterEqual(answers["retries"].retries_taken, 1)
        self.assertGreaterEqual(time.monotonic() - start, 0.9, "it waits as long as it was told to")
        for answer in answers.values():
            self.assertEqual(answer.parse().usage.output_tokens, 2)


class Keys(Staged):
    def test_a_key_is_needed(self) -> None:
        server = self.serve(roomy_model(self.folder()), "--chat-format", "deepseek-v4.1", "--api-key", KEY, "--parallel", "1")
        body: Any = {"model": "roomy", "messages": [{"role": "user", "content": "x"}]}
        good = [
            anthropic.Anthropic(base_url=server.url, api_key=KEY, max_retries=0),
            anthropic.Anthropic(base_url=server.url, auth_token=KEY, max_retries=0),
        ]
        for client in good:
            self.assertEqual(client.messages.create(**body, max_tokens=1).usage.output_tokens, 1)
        bad = anthropic.Anthropic(base_url=server.url, api_key="sk-wrong", max_retries=0)
        for call in (
            lambda: bad.messages.create(**body, max_tokens=1),
            lambda: bad.messages.create(**body, max_tokens=1, stream=True),
            lambda: bad.messages.count_tokens(**body),
        ):
            with self.assertRaises(anthropic.AuthenticationError) as refused:
                call()
            self.assertEqual((refused.exception.status_code, refused.exception.type), (401, "authentication_error"))
            self.assertNotIn("sk-wrong", str(refused.exception.body))
        with self.assertRaises(anthropic.AuthenticationError):
            bad.models.list()
        for client in (*good, bad):
            client.close()


class Forced(Staged):
    """Calls that the engine must write, by a model of random weights: grammars hold them in form."""

    @classmethod
    def setUpClass(cls) -> None:
        server = cls.serve(roomy_model(cls.folder()), "--chat-format", "deepseek-v3.1", "--parallel", "4", "--name", "tiny")
        cls.client = cls.clients_of(server).anthropic

    def test_a_named_tool_is_called(self) -> None:
        body: Any = {"model": "tiny", "messages": [{"role": "user", "content": "mix"}], "tools": [MIX], "max_tokens": 400}
        body["extra_body"] = {"seed": 3}
        for choice in ({"type": "tool", "name": "mix"}, {"type": "any"}):
            whole = self.client.messages.create(**body, tool_choice={**choice, "disable_parallel_tool_use": True})
            self.assertEqual(whole.stop_reason, "tool_use")
            [call] = [block for block in whole.content if block.type == "tool_use"]
            self.assertEqual((call.name, sorted(call.input)), ("mix", ["first", "second"]))
            with self.client.messages.stream(**body, tool_choice={**choice, "disable_parallel_tool_use": True}) as stream:
                parts = [event.partial_json for event in stream if event.type == "input_json"]
                final = stream.get_final_message()
            self.assertEqual([block.input for block in final.content if block.type == "tool_use"], [call.input])
            self.assertGreater(len(parts), 2, "arguments come as they are written")

    def test_a_thought_has_a_budget_and_the_answer_behind_it_a_form(self) -> None:
        answer = self.client.messages.parse(
            model="tiny",
            messages=[{"role": "user", "content": "x"}],
            max_tokens=400,
            output_format=Paint,
            thinking={"type": "enabled", "budget_tokens": 16},
            extra_body={"seed": 1},
        )
        self.assertIsInstance(answer.parsed_output, Paint)
        self.assertEqual([block.type for block in answer.content], ["thinking", "text"])
        # the mark that ends the thought may count, too
        self.assertIn(answer.usage.output_tokens_details.thinking_tokens, (16, 17))


class Scripts(Staged):
    """Conversations with thoughts and tools, with the answers of a script."""

    def test_thoughts_go_back_in_with_their_signature(self) -> None:
        for form in FORMATS:
            if form.name == "deepseek-v3.1":  # which drops all thoughts
                continue
            first = form.answer("script:second.", "Well:", [Call("get", {"k": "v"})])
            client = self.clients_of(self.serve_script({"first": first, "second": "hm</think>it is"}, form.name)).anthropic
            thinking: Any = {"type": "enabled", "budget_tokens": 5000}
            messages: list[Any] = [{"role": "user", "content": "script:first."}]
            body: Any = {"model": "script", "max_tokens": 10000, "thinking": thinking, "tools": [GET]}
            with client.messages.stream(**body, messages=messages) as stream:
                answer = stream.get_final_message()
            thought, text, call = answer.content
            self.assertEqual((thought.thinking, text.text, call.input), ("script:second.", "Well:", {"k": "v"}))
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "nothing"}
            messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
            again = of_message(client.messages.create(**body, messages=messages))
            self.assertEqual((again.thought, again.text), ("hm", "it is"), form.name)
            omitted = client.messages.create(**body | {"thinking": {**thinking, "display": "omitted"}}, messages=messages)
            self.assertEqual((omitted.content[0].type, omitted.content[0].thinking), ("thinking", ""))

    def test_what_a_client_parsed_and_a_failed_tool_go_back_in(self) -> None:
        form = FORMATS[2]
        paint = form.answer("hm", '{"colour": "red", "glossy": true}')
        call = form.answer(None, "so", [Call("get", {"k": "v"})])
        client = self.clients_of(self.serve_script({"paint": paint, "call": call, "end": "over"}, form.name)).anthropic
        off: Any = {"model": "script", "max_tokens": 5000, "tools": [GET], "thinking": {"type": "disabled"}}
        on: Any = {**off, "thinking": {"type": "enabled", "budget_tokens": 2000}}
        parsed = client.messages.parse(**on, messages=[{"role": "user", "content": "script:paint."}], output_format=Paint)
        self.assertIsInstance(parsed.parsed_output, Paint)
        called = client.messages.create(**off, messages=[{"role": "user", "content": "script:call."}])
        end: Any = {"type": "text", "text": "script:end"}
        failed: Any = {
            "type": "tool_result",
            "tool_use_id": called.content[-1].id,
            "is_error": True,
            "content": [{"type": "text", "text": "no"}],
        }
        for answer, then in ((parsed, [end]), (called, [failed, end])):
            for content in (answer.content, [block.model_dump() for block in answer.content]):
                messages: list[Any] = [*ASK, {"role": "assistant", "content": content}, {"role": "user", "content": then}]
                self.assertEqual(client.messages.create(**off, messages=messages).content[0].text, "over")

    def test_a_prefill_is_gone_on_with(self) -> None:
        for form in FORMATS:
            client = self.clients_of(self.serve_script({"a": "\n and so on"}, form.name)).anthropic
            messages: list[Any] = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "begun script:a."}]
            answer = client.messages.create(model="script", max_tokens=100, messages=messages, thinking={"type": "disabled"})
            self.assertEqual(answer.content[0].text, "\n and so on", form.name)

    def run_tools(self, **more: Any) -> None:
        asked: list[str] = []

        @anthropic.beta_tool
        def get(k: str) -> str:
            """Gets a thing.

            Args:
                k: which
            """
            asked.append(k)
            return f"script:{k}."

        for form in FORMATS:
            asked.clear()
            answers = {
                "one": form.answer(None, "", [Call("get", {"k": "two"})]),
                "two": form.answer(None, "on:", [Call("get", {"k": "three"}), Call("get", {"k": "four"})]),
                "four": form.answer(None, "done"),
            }
            client = self.clients_of(self.serve_script(answers, form.name)).anthropic
            runner = client.beta.messages.tool_runner(
                model="script",
                max_tokens=10000,
                tools=[get],
                thinking={"type": "disabled"},
                messages=[{"role": "user", "content": "script:one."}],
                **more,
            )
            final = runner.until_done()
            self.assertEqual(asked, ["two", "three", "four"], form.name)
            self.assertEqual(final.content[0].text, "done", form.name)

    def test_the_clients_own_runner_of_tools(self) -> None:
        """It asks for a conversation that the server keeps, and goes on without where the refusal says that there is none."""
        self.run_tools()

    def test_the_clients_own_runner_of_tools_without_a_thread(self) -> None:
        self.run_tools(thread=False)

"""`hadal serve` by the official client of the OpenAI API: responses, stored ones too. Run by run_clients.py."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import openai
from clients import of_response
from clients_openai import ASK, Colour, Mix, Paint
from model_text import FORMATS, Call
from stages import Staged


class Real(Staged):
    """With the real small model."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.client = cls.clients_of(cls.serve_real()).openai

    def test_responses_are_kept(self) -> None:
        first = self.client.responses.create(model="smol", input="I am Ada.", max_output_tokens=8, temperature=0, metadata={"a": "b"})
        self.assertEqual((first.object, first.metadata, first.store if hasattr(first, "store") else True), ("response", {"a": "b"}, True))
        self.assertTrue(first.output_text.strip())
        self.assertIn(first.status, ("completed", "incomplete"))
        found = self.client.responses.retrieve(first.id)
        self.assertEqual(found.output_text, first.output_text)
        second = self.client.responses.create(
            model="smol", input="Who am I?", previous_response_id=first.id, max_output_tokens=8, temperature=0
        )
        self.assertEqual(second.previous_response_id, first.id)
        self.assertGreater(second.usage.input_tokens, first.usage.input_tokens + first.usage.output_tokens)
        items = list(self.client.responses.input_items.list(second.id, order="asc"))
        self.assertEqual([item.type for item in items], ["message"] * 3)
        self.assertEqual(items[0].content[0].text, "I am Ada.")
        by_hand = self.client.responses.create(
            model="smol",
            input=[
                {"role": "user", "content": "I am Ada."},
                {"role": "assistant", "content": first.output_text},
                {"role": "user", "content": "Who am I?"},
            ],
            max_output_tokens=8,
            temperature=0,
            store=False,
        )
        self.assertEqual(by_hand.output_text, second.output_text)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve(by_hand.id)
        self.client.responses.delete(first.id)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve(first.id)
        with self.assertRaises(openai.NotFoundError) as gone:
            self.client.responses.create(model="smol", input="x", previous_response_id=first.id)
        self.assertEqual(gone.exception.param, "previous_response_id")
        with self.assertRaises(openai.BadRequestError):
            self.client.responses.cancel(second.id)

    def test_tokens_are_counted_as_they_are_used(self) -> None:
        body: Any = {"model": "smol", "input": "Hello", "instructions": "Be brief."}
        counted = self.client.responses.input_tokens.count(**body).input_tokens
        self.assertEqual(self.client.responses.create(**body, max_output_tokens=1).usage.input_tokens, counted)

    def test_errors_name_the_field(self) -> None:
        refused: tuple[tuple[str, dict[str, Any]], ...] = (
            ("reasoning.effort", {"reasoning": {"effort": "low"}}),
            ("truncation", {"truncation": "auto"}),
            ("tools[0].type", {"tools": [{"type": "web_search"}]}),
            ("conversation", {"conversation": "conv_1"}),
            ("temperature", {"temperature": -1}),
            ("max_output_tokens", {"max_output_tokens": 0}),
        )
        for param, fields in refused:
            with self.subTest(param=param), self.assertRaises(openai.BadRequestError) as caught:
                self.client.responses.create(**{"model": "smol", "input": "x", **fields})
            self.assertEqual(caught.exception.param, param)

    def test_responses_streamed(self) -> None:
        body: Any = {"model": "smol", "input": "Hello", "instructions": "Be brief.", "max_output_tokens": 8, "temperature": 0}
        whole = self.client.responses.create(**body)
        with self.client.responses.stream(**body) as stream:
            events = list(stream)
        self.assertEqual(events[0].type, "response.created")
        self.assertIn(events[-1].type, ("response.completed", "response.incomplete"))
        self.assertEqual("".join(e.delta for e in events if e.type == "response.output_text.delta"), whole.output_text)
        self.assertEqual(events[-1].response.output_text, whole.output_text)
        self.assertEqual(self.client.responses.retrieve(events[-1].response.id).output_text, whole.output_text)
        scored = self.client.responses.create(**body, include=["message.output_text.logprobs"], top_logprobs=2)
        entries = scored.output[0].content[0].logprobs
        self.assertEqual(bytes(byte for entry in entries for byte in entry.bytes).decode(), whole.output_text)


class Scripts(Staged):
    """Conversations with thoughts and tools through the Responses API, with the answers of a script."""

    TOOL: ClassVar[Any] = {"type": "function", "name": "get", "strict": False, "parameters": {"type": "object", "properties": {}}}

    def test_a_stored_response_goes_on_with_its_thought_and_its_call(self) -> None:
        for form in FORMATS:
            thinks_on = form.name != "deepseek-v3.1"  # which drops all thoughts, and opens none behind results
            answers = {
                "first": form.answer("script:second.", "Well:", [Call("get", {"k": "v"})]),
                "second": form.answer("hm", "it is"),
                "third": form.answer("so" if thinks_on else None, "it was"),
            }
            client = self.clients_of(self.serve_script(answers, form.name)).openai
            body: Any = {"model": "script", "tools": [self.TOOL], "extra_body": {"thinking": {"type": "enabled"}}}
            first = client.responses.create(**body, input="script:first.")
            thought, text, call = first.output
            self.assertEqual((thought.type, thought.content[0].text), ("reasoning", "script:second."), form.name)
            self.assertEqual((text.content[0].text, call.name, call.arguments), ("Well:", "get", '{"k": "v"}'), form.name)
            for content, expected in (("nothing", ("hm", "it is")), ("script:third.", ("so" if thinks_on else "", "it was"))):
                if content == "nothing" and not thinks_on:
                    continue
                result = {"type": "function_call_output", "call_id": call.call_id, "output": content}
                question: Any = {"type": "message", "role": "user", "content": "script:first."}
                stored = client.responses.create(**body, input=[result], previous_response_id=first.id)
                self.assertEqual((of_response(stored).thought, of_response(stored).text), expected, form.name)
                with client.responses.stream(**body, input=[question, *first.output, result]) as stream:
                    by_hand = of_response(stream.get_final_response())
                self.assertEqual((by_hand.thought, by_hand.text), expected, form.name)

    def test_parsed_answers_and_arguments(self) -> None:
        form = FORMATS[0]
        paint = form.answer(None, '{"colour": "red", "glossy": true}')
        mix = form.answer(None, "", [Call("Mix", {"first": "red", "second": "green"})])
        client = self.clients_of(self.serve_script({"paint": paint, "mix": mix}, form.name)).openai
        parsed = client.responses.parse(model="script", input="script:paint", text_format=Paint)
        self.assertEqual(parsed.output_parsed, Paint(colour=Colour.RED, glossy=True))
        with client.responses.stream(model="script", input="script:paint", text_format=Paint) as stream:
            self.assertEqual(stream.get_final_response().output_parsed, parsed.output_parsed)
        called = client.responses.parse(
            model="script", input="script:mix", tools=[openai.pydantic_function_tool(Mix)["function"] | {"type": "function"}]
        )
        self.assertEqual(called.output[0].parsed_arguments, {"first": "red", "second": "green"})
        chat: Any = {
            "model": "script",
            "messages": [{"role": "user", "content": "script:mix"}],
            "tools": [openai.pydantic_function_tool(Mix)],
        }
        with client.chat.completions.stream(**chat) as streamed:
            done = [event.parsed_arguments for event in streamed if event.type == "tool_calls.function.arguments.done"]
        self.assertEqual(done, [Mix(first=Colour.RED, second=Colour.GREEN)])

    def test_what_a_client_parsed_goes_back_in(self) -> None:
        """As objects, and as all of their fields."""
        form = FORMATS[2]
        answers = {"paint": '{"colour": "red", "glossy": true}', "end": "over"}
        answers["mix"] = form.answer(None, "so", [Call("Mix", {"first": "red", "second": "green"})])
        client = self.clients_of(self.serve_script(answers, form.name)).openai
        extra: Any = {"extra_body": {"thinking": {"type": "disabled"}}}
        tool = openai.pydantic_function_tool(Mix)

        def end_of(*messages: Any) -> str | None:
            chat = client.chat.completions.create(model="script", messages=[*ASK, *messages], tools=[tool], **extra)
            return chat.choices[0].message.content

        def parsed(name: str, **more: Any) -> Any:
            messages: list[Any] = [{"role": "user", "content": f"script:{name}."}]
            return client.chat.completions.parse(model="script", messages=messages, **extra, **more).choices[0].message

        paint, mix = parsed("paint", response_format=Paint), parsed("mix", tools=[tool])
        self.assertIsInstance(paint.parsed, Paint)
        end = [{"type": "text", "text": "script:end"}]
        for told in (paint, paint.model_dump()):
            self.assertEqual(end_of(told, {"role": "user", "content": end}), "over")
        for told in (mix, mix.model_dump()):
            self.assertEqual(end_of(told, {"role": "tool", "tool_call_id": mix.tool_calls[0].id, "content": end}), "over")
        flat: Any = {"type": "function", **tool["function"]}
        output = client.responses.parse(model="script", input="script:mix.", tools=[flat], **extra).output
        result: Any = {"type": "function_call_output", "call_id": output[-1].call_id, "output": "script:end"}
        question: Any = {"role": "user", "content": "x"}
        for items in (output, [item.model_dump() for item in output]):
            self.assertEqual(client.responses.create(model="script", input=[question, *items, result], **extra).output_text, "over")

    def test_asynchronous_responses(self) -> None:
        form = FORMATS[-1]
        clients = self.clients_of(self.serve_script({"a": form.answer("hm", "so")}, form.name))

        async def ask() -> tuple[str, str]:
            body: Any = {"model": "script", "input": "script:a", "extra_body": {"thinking": {"type": "enabled"}}}
            async with clients.async_openai() as client:
                whole = await client.responses.create(**body)
                async with client.responses.stream(**body) as stream:
                    async for _ in stream:
                        pass
                    final = await stream.get_final_response()
                kept = await client.responses.retrieve(final.id)
                self.assertEqual(of_response(kept), of_response(final))
                await client.responses.delete(final.id)
                return whole.output_text, final.output_text

        self.assertEqual(asyncio.run(ask()), ("so", "so"))

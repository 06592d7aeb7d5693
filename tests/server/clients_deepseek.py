"""`hadal serve` as DeepSeek's users call it: its own fields and base URLs, by the OpenAI client. Run by run_clients.py."""

from __future__ import annotations

from typing import Any

import openai
from clients import Question, chat_body, of_chat
from model_text import FORMATS, Call
from stages import Staged, middle_model


class DeepSeek(Staged):
    """DeepSeek's own fields and base URLs, with the answers of a script."""

    def test_thoughts_come_out_and_go_back_in(self) -> None:
        """Of a turn with calls the thought is shown to the model again: here it names the next answer."""
        for form in FORMATS:
            first = form.answer("script:second.", "", [Call("get", {"k": "v"})])
            thinks_on = form.name != "deepseek-v3.1"  # which drops all thoughts, and opens none behind results
            third = form.answer("third" if thinks_on else None, "so")
            server = self.serve_script({"first": first, "second": "second</think>it is", "third": third}, form.name)
            client = self.clients_of(server).openai
            thinking = {"extra_body": {"thinking": {"type": "enabled"}}}
            tools: Any = [{"type": "function", "function": {"name": "get", "parameters": {"type": "object", "properties": {}}}}]
            messages: list[Any] = [{"role": "user", "content": "script:first."}]
            answer = client.chat.completions.create(model="script", messages=messages, tools=tools, **thinking).choices[0].message
            self.assertEqual(answer.reasoning_content, "script:second.")
            messages += [answer, {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "nothing"}]
            if thinks_on:
                again = client.chat.completions.create(model="script", messages=messages, tools=tools, **thinking)
                self.assertEqual(of_chat(again).thought, "second", form.name)
            messages[-1]["content"] = "script:third."
            again = client.chat.completions.create(model="script", messages=messages, tools=tools, **thinking)
            self.assertEqual((of_chat(again).thought, of_chat(again).text), ("third" if thinks_on else "", "so"), form.name)

    def test_names_of_the_hosted_models_turn_thinking_on_and_off(self) -> None:
        server = self.serve_script({"a": "hm</think>so"}, "deepseek-v3.2")
        client = self.clients_of(server).openai
        for base in ("", "/v1", "/beta"):
            there = client.with_options(base_url=server.url + base)
            thought = there.chat.completions.create(model="deepseek-reasoner", messages=[{"role": "user", "content": "script:a"}])
            self.assertEqual((of_chat(thought).thought, of_chat(thought).text), ("hm", "so"))
            self.assertGreater(thought.usage.completion_tokens_details.reasoning_tokens, 0)
            plain = there.chat.completions.create(model="deepseek-chat", messages=[{"role": "user", "content": "script:a"}])
            self.assertEqual((of_chat(plain).thought, of_chat(plain).text), ("", "hm</think>so"))
        hidden = client.chat.completions.create(
            **chat_body(Question("script:a", "script", True))
            | {"extra_body": {"thinking": {"type": "enabled"}, "include_reasoning": False}}
        )
        self.assertEqual((of_chat(hidden).thought, of_chat(hidden).text), ("", "so"))

    def test_a_prefix_is_gone_on_with(self) -> None:
        """Beta: the answer has only what is new, and newlines at its start count."""
        server = self.serve_script({"a": "\n    return 1\n```"}, "deepseek-v3.1")
        client = self.clients_of(server).openai.with_options(base_url=server.url + "/beta")
        messages: list[Any] = [
            {"role": "user", "content": "write f"},
            {"role": "assistant", "content": "```python\n# script:a.", "prefix": True},
        ]
        answer = client.chat.completions.create(model="deepseek-chat", messages=messages, stop=["```"])
        self.assertEqual(answer.choices[0].message.content, "\n    return 1\n")
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_the_middle_is_filled_in(self) -> None:
        server = self.serve_script({"a": "    return x\n"}, "chatml", middle_model(self.folder()))
        client = self.clients_of(server).openai
        for base in ("/beta", "/v1"):
            there = client.with_options(base_url=server.url + base)
            body: Any = {"model": "deepseek-chat", "prompt": "def script:a.\n", "suffix": "\nf(1)", "max_tokens": 100}
            self.assertEqual(there.completions.create(**body).choices[0].text, "    return x\n")
            self.assertEqual("".join(c.choices[0].text for c in there.completions.create(**body, stream=True)), "    return x\n")
        with self.assertRaises(openai.BadRequestError) as both:
            client.completions.create(**body, echo=True)
        self.assertIn("suffix", both.exception.message)

    def test_efforts(self) -> None:
        """All that DeepSeek's API takes are taken."""
        for form in FORMATS[2:]:
            client = self.clients_of(self.serve_script({"a": "hm</think>so"}, form.name)).openai
            body: Any = {"model": "script", "messages": [{"role": "user", "content": "script:a"}]}
            for effort in ("minimal", "low", "medium", "high", "xhigh", "max", "ultra"):
                with self.subTest(format=form.name, effort=effort):
                    extra = {"thinking": {"type": "enabled"}, "reasoning_effort": effort}
                    answer = client.chat.completions.create(**body, extra_body=extra)
                    self.assertEqual((of_chat(answer).thought, of_chat(answer).text), ("hm", "so"))
            with self.assertRaises(openai.BadRequestError) as wrong:
                client.chat.completions.create(**body, reasoning_effort="much")
            self.assertEqual(wrong.exception.param, "reasoning_effort")

"""What the tests of the official clients share: where the program is, and a call to each API by its client.

run_clients.py sets the program's path. A Speaker asks one question in one way (whole or streamed, sync or async) and tells what it heard
in one form, so that all APIs can be compared with what a script says.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import ollama
import openai

KEY = "sk-of-the-tests-0123456789"
TOKENS = 20000  # more than any answer has; fewer than the anthropic client wants to be streamed


def program() -> str:
    return os.environ["HADAL_TEST_PROGRAM"]


@dataclass
class Said:
    """An answer as a client tells it. `end`: "stop", "calls" or "length"."""

    thought: str = ""
    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    end: str = ""


@dataclass
class Question:
    """`thinks` is None where the API is not asked to turn thoughts on or off."""

    content: str
    model: str
    thinks: bool | None = None
    tools: list[str] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)
    most: int = TOKENS
    parallel: bool = True

    def function(self, name: str) -> dict[str, Any]:
        return {"name": name, "description": f"does {name}", "parameters": {"type": "object", "properties": {}}}

    @property
    def messages(self) -> list[Any]:
        return [{"role": "user", "content": self.content}]


def call_of(name: str, arguments: str) -> tuple[str, Any]:
    """Arguments that are no JSON stay text: of a call that was begun and broke."""
    try:
        return name, json.loads(arguments)
    except json.JSONDecodeError:
        return name, arguments


class Clients:
    """Both kinds of each client, for one server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.openai = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0)
        self.ollama = ollama.Client(host=url)

    def close(self) -> None:
        self.openai.close()
        self.anthropic.close()
        self.ollama.close()

    # An async client belongs to the loop that it is used in: each question has its own.

    def async_openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=0)

    def async_anthropic(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(base_url=self.url, api_key=KEY, max_retries=0)


# ---- OpenAI: chat completions

CHAT_ENDS = {"stop": "stop", "tool_calls": "calls", "length": "length"}


def chat_body(question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {"model": question.model, "messages": question.messages, "max_tokens": question.most}
    if question.tools:
        body["tools"] = [{"type": "function", "function": question.function(name)} for name in question.tools]
    if not question.parallel:
        body["parallel_tool_calls"] = False
    if question.stop:
        body["stop"] = question.stop
    if question.thinks is not None:
        body["extra_body"] = {"thinking": {"type": "enabled" if question.thinks else "disabled"}}
    return body


def of_chat(completion: Any) -> Said:
    choice = completion.choices[0]
    message = choice.message
    return Said(
        thought=getattr(message, "reasoning_content", None) or "",
        text=message.content or "",
        calls=[call_of(call.function.name, call.function.arguments) for call in message.tool_calls or []],
        end=CHAT_ENDS[choice.finish_reason],
    )


class ChatHearer:
    """Puts chunks together as a client without helpers does."""

    def __init__(self) -> None:
        self.said = Said()
        self.calls: dict[int, list[str]] = {}

    def hear(self, chunk: Any) -> None:
        for choice in chunk.choices:
            delta = choice.delta
            thought = getattr(delta, "reasoning_content", None) or ""
            assert not (thought and delta.content), "a thought and content in one chunk"
            assert not (thought and self.said.text), "a thought behind content"
            self.said.thought += thought
            self.said.text += delta.content or ""
            for call in delta.tool_calls or []:
                if call.id:
                    assert call.index == len(self.calls), "calls are counted on"
                    self.calls[call.index] = [call.function.name, ""]
                self.calls[call.index][1] += call.function.arguments or ""
            if choice.finish_reason:
                assert not self.said.end, "one end"
                self.said.end = CHAT_ENDS[choice.finish_reason]

    def over(self) -> Said:
        self.said.calls = [call_of(*self.calls[index]) for index in sorted(self.calls)]
        return self.said


def chat_whole(clients: Clients, question: Question) -> Said:
    return of_chat(clients.openai.chat.completions.create(**chat_body(question)))


def chat_stream(clients: Clients, question: Question) -> Said:
    hearer = ChatHearer()
    for chunk in clients.openai.chat.completions.create(**chat_body(question), stream=True):
        hearer.hear(chunk)
    return hearer.over()


def chat_helper(clients: Clients, question: Question) -> Said:
    """The client's own accumulator."""
    with clients.openai.chat.completions.stream(**chat_body(question)) as stream:
        for _ in stream:
            pass
        return of_chat(stream.get_final_completion())


def chat_async(clients: Clients, question: Question) -> Said:
    async def ask() -> Said:
        hearer = ChatHearer()
        async with clients.async_openai() as client:
            async for chunk in await client.chat.completions.create(**chat_body(question), stream=True):
                hearer.hear(chunk)
        return hearer.over()

    return asyncio.run(ask())


# ---- OpenAI: responses


def responses_body(question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {"model": question.model, "input": question.content, "max_output_tokens": question.most}
    if question.tools:
        body["tools"] = [{"type": "function", "strict": False, **question.function(name)} for name in question.tools]
    if not question.parallel:
        body["parallel_tool_calls"] = False
    extra: dict[str, Any] = {"stop": question.stop} if question.stop else {}
    if question.thinks is not None:
        extra["thinking"] = {"type": "enabled" if question.thinks else "disabled"}
    return {**body, "extra_body": extra}


def of_response(response: Any) -> Said:
    said = Said()
    for item in response.output:
        if item.type == "reasoning":
            said.thought += "".join(part.text for part in item.content or [])
        elif item.type == "message":
            said.text += "".join(part.text for part in item.content)
        else:
            said.calls.append(call_of(item.name, item.arguments))
    whole = any(item.type == "function_call" and item.status == "completed" for item in response.output)
    said.end = "length" if response.status == "incomplete" else "calls" if whole else "stop"
    return said


class ResponseHearer:
    """Deltas alone; what each item's end and the last event say must be the same."""

    def __init__(self) -> None:
        self.said = Said()
        self.arguments: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self.final: Any = None
        self.number = 0

    def hear(self, event: Any) -> None:
        assert event.sequence_number == self.number, "events are numbered"
        self.number += 1
        if event.type == "response.reasoning_text.delta":
            self.said.thought += event.delta
        elif event.type == "response.output_text.delta":
            self.said.text += event.delta
        elif event.type == "response.output_item.added" and event.item.type == "function_call":
            self.names[event.output_index] = event.item.name
            self.arguments[event.output_index] = ""
        elif event.type == "response.function_call_arguments.delta":
            self.arguments[event.output_index] += event.delta
        elif event.type in ("response.completed", "response.incomplete"):
            self.final = event.response

    def over(self) -> Said:
        self.said.calls = [call_of(self.names[index], self.arguments[index]) for index in sorted(self.names)]
        final = of_response(self.final)
        self.said.end = final.end
        assert final == self.said, f"deltas say {self.said}, the last event says {final}"
        return self.said


def responses_whole(clients: Clients, question: Question) -> Said:
    return of_response(clients.openai.responses.create(**responses_body(question)))


def responses_stream(clients: Clients, question: Question) -> Said:
    hearer = ResponseHearer()
    for event in clients.openai.responses.create(**responses_body(question), stream=True):
        hearer.hear(event)
    return hearer.over()


def responses_helper(clients: Clients, question: Question) -> Said:
    with clients.openai.responses.stream(**responses_body(question)) as stream:
        for _ in stream:
            pass
        # The client's accumulator takes no end but "completed"; the last event has the same.
        return of_response(stream.get_final_response())


# ---- Anthropic

MESSAGE_ENDS = {"end_turn": "stop", "stop_sequence": "stop", "tool_use": "calls", "max_tokens": "length"}


def messages_body(question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {"model": question.model, "messages": question.messages, "max_tokens": question.most}
    if question.tools:
        body["tools"] = [
            {"name": name, "description": f"does {name}", "input_schema": question.function(name)["parameters"]} for name in question.tools
        ]
    if not question.parallel:
        body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
    if question.stop:
        body["stop_sequences"] = question.stop
    if question.thinks:
        body["thinking"] = {"type": "enabled", "budget_tokens": TOKENS - 1}
    elif question.thinks is not None:
        body["thinking"] = {"type": "disabled"}
    return body


def of_message(message: Any) -> Said:
    said = Said(end=MESSAGE_ENDS[message.stop_reason])
    for block in message.content:
        if block.type == "thinking":
            assert block.signature, "a thought without a signature"
            said.thought += block.thinking
        elif block.type == "text":
            said.text += block.text
        else:
            said.calls.append((block.name, block.input))
    return said


def messages_whole(clients: Clients, question: Question) -> Said:
    return of_message(clients.anthropic.messages.create(**messages_body(question)))


def messages_stream(clients: Clients, question: Question) -> Said:
    """Raw events, put together here."""
    said = Said()
    blocks: list[Any] = []
    arguments: list[str] = []
    for event in clients.anthropic.messages.create(**messages_body(question), stream=True):
        if event.type == "content_block_start":
            assert event.index == len(blocks), "blocks are counted on"
            blocks.append(event.content_block)
            arguments.append("")
        elif event.type == "content_block_delta":
            assert event.index == len(blocks) - 1, "a block that is over goes on"
            if event.delta.type == "thinking_delta":
                said.thought += event.delta.thinking
            elif event.delta.type == "text_delta":
                said.text += event.delta.text
            elif event.delta.type == "input_json_delta":
                arguments[-1] += event.delta.partial_json
        elif event.type == "message_delta":
            said.end = MESSAGE_ENDS[event.delta.stop_reason]
    said.calls = [call_of(block.name, arguments[i] or "{}") for i, block in enumerate(blocks) if block.type == "tool_use"]
    return said


def messages_helper(clients: Clients, question: Question) -> Said:
    with clients.anthropic.messages.stream(**messages_body(question)) as stream:
        return of_message(stream.get_final_message())


def messages_async(clients: Clients, question: Question) -> Said:
    async def ask() -> Said:
        async with clients.async_anthropic() as client, client.messages.stream(**messages_body(question)) as stream:
            return of_message(await stream.get_final_message())

    return asyncio.run(ask())


# ---- Ollama


def ollama_body(question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {"model": question.model, "messages": question.messages}
    if question.tools:
        body["tools"] = [{"type": "function", "function": question.function(name)} for name in question.tools]
    body["options"] = {"num_predict": question.most, "stop": question.stop}
    if question.thinks is not None:
        body["think"] = question.thinks
    return body


class OllamaHearer:
    def __init__(self) -> None:
        self.said = Said()
        self.over = False

    def hear(self, part: Any) -> None:
        assert not self.over, "a line behind the last"
        self.said.thought += part.message.thinking or ""
        self.said.text += part.message.content or ""
        self.said.calls += [(call.function.name, dict(call.function.arguments)) for call in part.message.tool_calls or []]
        if part.done:
            self.over = True
            # Ollama has no end of its own for calls.
            self.said.end = "calls" if part.done_reason == "stop" and self.said.calls else part.done_reason


def ollama_whole(clients: Clients, question: Question) -> Said:
    hearer = OllamaHearer()
    hearer.hear(clients.ollama.chat(**ollama_body(question)))
    return hearer.said


def ollama_stream(clients: Clients, question: Question) -> Said:
    hearer = OllamaHearer()
    for part in clients.ollama.chat(**ollama_body(question), stream=True):
        hearer.hear(part)
    assert hearer.over, "no last line"
    return hearer.said


def ollama_async(clients: Clients, question: Question) -> Said:
    async def ask() -> Said:
        hearer = OllamaHearer()
        async with ollama.AsyncClient(host=clients.url) as client:
            async for part in await client.chat(**ollama_body(question), stream=True):
                hearer.hear(part)
        return hearer.said

    return asyncio.run(ask())


Speaker = Callable[[Clients, Question], Said]
# Answers that are not cut off: the first of each API has them whole.
SPEAKERS: dict[str, tuple[Speaker, ...]] = {
    "chat": (chat_whole, chat_stream, chat_helper, chat_async),
    "responses": (responses_whole, responses_stream, responses_helper),
    "messages": (messages_whole, messages_stream, messages_helper, messages_async),
    "ollama": (ollama_whole, ollama_stream, ollama_async),
}

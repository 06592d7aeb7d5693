"""Answers of a script, each byte a token, through every API by its official client: thoughts, text and calls must be what the script says.

Run by run_clients.py. One server for each of DeepSeek's formats with a tiny model, which has a token for each byte.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

from clients import SPEAKERS, TOKENS, Clients, Question, Said
from harness import Server
from model_text import FORMATS, Call, Format
from stages import Staged

TOOLS = ["get_weather", "put", "f", "bad"]
PARIS = Call("get_weather", {"city": "Paris", "days": 3})
TOKYO = Call("get_weather", {"city": "東京", "units": ["°C", "K"], "deep": {"a": [1, 2.5, None, True]}})
QUOTED = Call("put", {"text": 'She said "no",\n\tC:\\new\u2028🙂 </think> <b>&amp;', "n": -1e-7})
EMPTY = Call("f")
WIDE = "Ünï 日本語 🙂👩‍👩‍👧 e\u0301 \u200f العربية\n\n"


@dataclass
class Case:
    """What the model writes, and what a client must hear of it. `thinks`: the prompt opens a thought."""

    written: str
    thinks: bool
    said: Said


def calls_said(*calls: Call) -> list[tuple[str, Any]]:
    return [(call.name, call.arguments) for call in calls]


def whole_cases(form: Format) -> dict[str, Case]:
    """Answers without a fault."""

    def case(thought: str | None, text: str, *calls: Call, behind: str = "") -> Case:
        said = Said(thought or "", text + behind, calls_said(*calls), "calls" if calls else "stop")
        return Case(form.answer(thought, text, list(calls), behind), thought is not None, said)

    return {
        "text": case(None, "Hello, world."),
        "blanks": case(None, " a \n\n b\n c"),
        "nothing": case(None, ""),
        "thought": case("I think.\n\nSo I am.", "Therefore."),
        "thoughtalone": case("I think and say nothing.", ""),
        "wide": case(WIDE.strip(), WIDE.strip()),
        "markup": case("is </thin> a tag? <｜DSML｜?", "<think>no</think> <｜tool▁call <｜DSML｜ </｜DSML｜invoke>"),
        "onecall": case(None, "", PARIS),
        "textcall": case(None, "Let me look:", PARIS),
        "thoughtcall": case("I must look.", "", TOKYO),
        "allofit": case("Look.", "Two cities, and more:", PARIS, EMPTY, TOKYO),
        "emptycall": case(None, "", EMPTY),
        "quoted": case(None, "x", QUOTED),
        "textbehind": case(None, "before", PARIS, behind="behind"),
        "sametwice": case(None, "", PARIS, PARIS),
    }


def broken_cases(form: Format) -> dict[str, Case]:
    """Calls that turn out to be none are text, and calls beside them are calls."""
    broken = form.list_begin + form.broken_call("bad")
    gap = "\n\n" if form.parameter else ""
    good = form.written_call(PARIS)
    cut = form.written_call(Call("bad", PARIS.arguments)).split("ris")[0]
    return {
        "brokencall": Case("so" + gap + broken, False, Said("", "so" + gap + broken, [], "stop")),
        "brokenthought": Case("hm</think>" + broken, True, Said("hm", broken, [], "stop")),
        "brokenfirst": Case(broken + good + form.list_end, False, Said("", broken, calls_said(PARIS), "calls")),
        "listalone": Case(form.list_begin + "no call", False, Said("", form.list_begin + "no call", [], "stop")),
        "cutoff": Case(form.list_begin + cut, False, Said("", form.list_begin + cut, [], "stop")),
        "otherformat": Case("<tool_call>{}</tool_call>", False, Said("", "<tool_call>{}</tool_call>", [], "stop")),
    }


def random_answers(form: Format, count: int) -> dict[str, Case]:
    """Parts of answers in any order: what must come of them nobody says, but all APIs must say the same."""
    good, empty = form.written_call(PARIS), form.written_call(EMPTY)
    parts = ["so ", "\n", "é🙂", "<", "</", "</think>", "<think>", form.list_begin, form.list_end, good, empty, form.broken_call("bad")]
    parts += [
        form.head,
        form.head_end,
        form.tail,
        good[: len(good) // 2],
        good[len(good) // 2 :],
        form.list_begin + good,
        good + form.list_end,
    ]
    dice = random.Random(form.name)
    return {f"any{i}": Case("".join(dice.choices(parts, k=dice.randint(1, 7))), i % 2 == 0, Said()) for i in range(count)}


def is_part_of(calls: list[tuple[str, Any]], more: list[tuple[str, Any]]) -> bool:
    """Whether all of `calls` are in `more`, in their order."""
    rest = iter(more)
    return all(call in rest for call in calls)


@dataclass
class Stage:
    """A scripted server of one format, with its cases."""

    form: Format
    server: Server
    clients: Clients
    whole: dict[str, Case] = field(default_factory=dict)
    broken: dict[str, Case] = field(default_factory=dict)
    any: dict[str, Case] = field(default_factory=dict)

    def ask(self, api: str, way: int, name: str, case: Case, **more: Any) -> Said:
        question = Question(f"Please. script:{name}", self.server.model, case.thinks, TOOLS, **more)
        return SPEAKERS[api][way](self.clients, question)


class Spoken(Staged):
    """Base of the tests below: what does not depend on how the text is cut into tokens."""

    BYTES = 1  # of a token
    RANDOM = 24  # answers of parts in any order
    stages: ClassVar[list[Stage]] = []

    @classmethod
    def setUpClass(cls) -> None:
        cls.stages = []
        for form in FORMATS:
            whole, broken, random_ones = whole_cases(form), broken_cases(form), random_answers(form, cls.RANDOM)
            written = {name: case.written for name, case in {**whole, **broken, **random_ones}.items()}
            server = cls.serve_script(written, form.name, bytes=cls.BYTES)
            cls.stages.append(Stage(form, server, cls.clients_of(server), whole, broken, random_ones))

    def check(self, api: str) -> None:
        """Every answer without a fault, in every way that the API's client has."""
        for stage in self.stages:
            for name, case in stage.whole.items():
                for way, speaker in enumerate(SPEAKERS[api]):
                    with self.subTest(format=stage.form.name, case=name, way=speaker.__name__):
                        self.assertEqual(stage.ask(api, way, name, case), case.said)

    def test_chat(self) -> None:
        self.check("chat")

    def test_responses(self) -> None:
        self.check("responses")

    def test_messages(self) -> None:
        self.check("messages")

    def test_ollama(self) -> None:
        self.check("ollama")

    def test_broken_calls_are_text(self) -> None:
        for stage in self.stages:
            for name, case in stage.broken.items():
                for api, ways in SPEAKERS.items():
                    for way, speaker in enumerate(ways):
                        with self.subTest(format=stage.form.name, case=name, way=speaker.__name__):
                            said = stage.ask(api, way, name, case)
                            # A stream may have begun a call that broke: it cannot take it back, and says by its end that there is none.
                            if way > 0:
                                said.calls = [call for call in said.calls if call[0] != "bad"]
                            self.assertEqual(said, case.said)

    def test_all_apis_say_the_same_of_any_answer(self) -> None:
        for stage in self.stages:
            for name, case in stage.any.items():
                first = stage.ask("chat", 0, name, case)
                for api in SPEAKERS:
                    with self.subTest(format=stage.form.name, api=api, written=case.written, thinks=case.thinks):
                        self.assertEqual(stage.ask(api, 0, name, case), first)
                        said = stage.ask(api, 1, name, case)
                        self.assertTrue(is_part_of(first.calls, said.calls), f"{first.calls}, streamed {said.calls}")
                        said.calls = first.calls
                        self.assertEqual(said, first)


class InPieces(Spoken):
    """Tokens of up to seven bytes, which end anywhere in marks and texts."""

    BYTES = 7


class Scripted(Spoken):
    """Each byte a token."""

    def test_one_call_where_parallel_ones_are_not_wanted(self) -> None:
        for stage in self.stages:
            case = stage.whole["allofit"]
            expected = Said(case.said.thought, case.said.text, case.said.calls[:1], "calls")
            for api in ("chat", "responses", "messages"):
                for way, speaker in enumerate(SPEAKERS[api]):
                    with self.subTest(format=stage.form.name, way=speaker.__name__):
                        self.assertEqual(stage.ask(api, way, "allofit", case, parallel=False), expected)

    def test_many_clients_at_once_each_get_their_own(self) -> None:
        stage = self.stages[-1]
        asked = [(api, way, name) for name in stage.whole for api, ways in SPEAKERS.items() for way in range(len(ways))]
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda a: stage.ask(a[0], a[1], a[2], stage.whole[a[2]]), asked))
        for (api, way, name), said in zip(asked, answers):
            with self.subTest(case=name, way=SPEAKERS[api][way].__name__):
                self.assertEqual(said, stage.whole[name].said)

    def test_stop_texts(self) -> None:
        """They end an answer where it holds them: text, thought, or a call, which then is none."""
        for stage in self.stages:
            text, thought, calls = stage.whole["text"], stage.whole["thought"], stage.whole["onecall"]
            broken = calls.written[: calls.written.index("Paris")]
            for api in SPEAKERS:
                for name, case, stop, expected in (
                    ("text", text, ", w", Said("", "Hello", [], "stop")),
                    ("text", text, "Hello", Said("", "", [], "stop")),
                    ("text", text, "world!", text.said),
                    ("wide", stage.whole["wide"], "本", Said(WIDE[: WIDE.index("本")], "", [], "stop")),
                    ("thought", thought, "So I", Said("I think.\n\n", "", [], "stop")),
                    ("thought", thought, "Therefore", Said(thought.said.thought, "", [], "stop")),
                    ("onecall", calls, "Paris", Said("", broken, [], "stop")),
                ):
                    for way in (0, 1):
                        with self.subTest(format=stage.form.name, api=api, case=name, stop=stop, way=way):
                            said = stage.ask(api, way, name, case, stop=["never", stop])
                            if name == "onecall":
                                said.calls = [call for call in said.calls if isinstance(call[1], dict) and way == 0]
                            self.assertEqual(said, expected)

    def test_the_most_tokens_in_a_text_a_thought_and_a_call(self) -> None:
        for stage in self.stages:
            for name, cut in (("text", 5), ("wide", 13), ("thought", 6), ("onecall", 60), ("allofit", 150), ("quoted", 70)):
                case = stage.whole[name]
                written = case.written.encode()
                begun = written[:cut].decode(errors="replace")
                end = begun.find("</think>")
                thought = (begun if end < 0 else begun[:end]) if case.thinks else ""
                text = begun if not case.thinks else begun[end + 8 :] if end >= 0 else ""
                expected = Said(thought, text, [], "length")
                for api in SPEAKERS:
                    for way in (0, 1):
                        with self.subTest(format=stage.form.name, case=name, api=api, way=way):
                            said = stage.ask(api, way, name, case, most=cut)
                            if way == 1:  # a stream may have begun a call, and says by its end that none is to be made
                                begun = [call[0] for call in said.calls]
                                self.assertEqual(begun, [call[0] for call in case.said.calls][: len(begun)])
                                said.calls = []
                            self.assertEqual(said, expected)

    def test_each_token_has_its_logprob(self) -> None:
        """The bytes of the tokens are the bytes that were written."""
        stage = self.stages[-1]
        for name in ("wide", "thoughtcall"):
            case = stage.whole[name]
            body = {
                "model": stage.server.model,
                "messages": [{"role": "user", "content": f"script:{name}"}],
                "logprobs": True,
                "extra_body": {"thinking": {"type": "enabled"}},
            }
            completion = stage.clients.openai.chat.completions.create(**body)
            found = completion.choices[0].logprobs
            tokens = [*(found.reasoning_content or []), *(found.content or [])]
            entries = [entry if isinstance(entry, dict) else entry.model_dump() for entry in tokens]
            self.assertEqual(bytes(byte for entry in entries for byte in entry["bytes"]).decode(), case.written)
            self.assertEqual({entry["logprob"] for entry in entries}, {-0.5})
            streamed: list[int] = []
            for chunk in stage.clients.openai.chat.completions.create(**body, stream=True):
                for choice in chunk.choices:
                    if choice.logprobs:
                        for entry in [*(getattr(choice.logprobs, "reasoning_content", None) or []), *(choice.logprobs.content or [])]:
                            streamed += entry["bytes"] if isinstance(entry, dict) else entry.bytes
            self.assertEqual(bytes(streamed).decode(), case.written)

    def test_several_answers_at_once(self) -> None:
        stage = self.stages[0]
        case = stage.whole["allofit"]
        body: dict[str, Any] = {"model": stage.server.model, "messages": [{"role": "user", "content": "script:allofit"}], "n": 3}
        body["extra_body"] = {"thinking": {"type": "enabled"}}
        completion = stage.clients.openai.chat.completions.create(**body)
        self.assertEqual([choice.index for choice in completion.choices], [0, 1, 2])
        for choice in completion.choices:
            self.assertEqual(choice.message.content, case.said.text)
            self.assertEqual([call.function.name for call in choice.message.tool_calls], [call[0] for call in case.said.calls])
        ids = {call.id for choice in completion.choices for call in choice.message.tool_calls}
        self.assertEqual(len(ids), 9)
        with stage.clients.openai.chat.completions.stream(**body) as stream:
            for _ in stream:
                pass
            streamed = stream.get_final_completion()
        self.assertEqual([choice.message.content for choice in streamed.choices], [case.said.text] * 3)

    def test_what_goes_wrong_in_the_source_is_an_error(self) -> None:
        """The prompt names no answer: each client has its own exception, and the server goes on."""
        for stage in self.stages[:1]:
            for api, ways in SPEAKERS.items():
                for speaker in ways:
                    with self.subTest(way=speaker.__name__), self.assertRaisesRegex(Exception, "names no answer") as caught:
                        speaker(stage.clients, Question("nothing of a script", stage.server.model))
                    self.assertIn(type(caught.exception).__module__.split(".")[0], ("openai", "anthropic", "ollama"), api)
            self.assertEqual(stage.ask("chat", 0, "text", stage.whole["text"]), stage.whole["text"].said)

    def test_raw_completions_are_the_bytes_that_were_written(self) -> None:
        """What is no chat has no thoughts and no calls: marks are text."""
        for stage in self.stages:
            for name, case in {**stage.whole, **stage.broken}.items():
                with self.subTest(format=stage.form.name, case=name):
                    body: dict[str, Any] = {"model": stage.server.model, "prompt": f"script:{name}", "max_tokens": TOKENS}
                    self.assertEqual(stage.clients.openai.completions.create(**body).choices[0].text, case.written)
                    chunks = stage.clients.openai.completions.create(**body, stream=True)
                    self.assertEqual("".join(chunk.choices[0].text for chunk in chunks), case.written)
                    said = stage.clients.ollama.generate(model=stage.server.model, prompt=f"script:{name}", raw=True)
                    self.assertEqual(said.response, case.written)


del Spoken  # a base alone

"""Answers as DeepSeek's models write them, in each of their formats: what a scripted server says. Standard library only.

The forms are those of the encoders that the checkpoints bring along (DSML from V3.2 on); src/text/output reads them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

END_OF_THOUGHT = "</think>"


@dataclass(frozen=True)
class Call:
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """One family's way to write calls."""

    name: str
    list_begin: str
    list_end: str
    head: str  # in front of a call's name
    head_end: str  # behind it
    tail: str  # behind the arguments
    parameter: str = ""  # of DSML, the tag of an argument

    def written_call(self, call: Call) -> str:
        head = self.head + call.name + self.head_end
        if not self.parameter:
            return head + json.dumps(call.arguments, ensure_ascii=False) + self.tail
        return head + "".join(self.written_argument(*pair) for pair in call.arguments.items()) + self.tail

    def written_argument(self, name: str, value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        is_text = "true" if isinstance(value, str) else "false"
        return f'<{self.parameter} name="{name}" string="{is_text}">{text}</{self.parameter}>\n'

    def written_list(self, calls: list[Call]) -> str:
        return self.list_begin + "".join(self.written_call(call) for call in calls) + self.list_end

    def broken_call(self, name: str) -> str:
        """A call that begins as one and turns out to be none."""
        if self.parameter:
            return self.head + name + self.head_end + f'<{self.parameter} name="k" string="false">[1, ]'
        return self.head + name + self.head_end + '{"k": [1, ]}' + self.tail

    def answer(self, thought: str | None, text: str = "", calls: list[Call] | None = None, behind: str = "") -> str:
        """`thought`: None where the prompt has closed it already."""
        opening = "" if thought is None else thought + END_OF_THOUGHT
        gap = "\n\n" if self.parameter and calls else ""
        return opening + text + (gap + self.written_list(calls) if calls else "") + behind


def _dsml(name: str, list_word: str, space: str) -> Format:
    tag = "｜DSML｜" + space
    return Format(
        name=name,
        list_begin=f"<{tag}{list_word}>\n",
        list_end=f"</{tag}{list_word}>",
        head=f'<{tag}invoke name="',
        head_end='">\n',
        tail=f"</{tag}invoke>\n",
        parameter=f"{tag}parameter",
    )


FORMATS = (
    Format(
        name="deepseek-v3.1",
        list_begin="<｜tool▁calls▁begin｜>",
        list_end="<｜tool▁calls▁end｜>",
        head="<｜tool▁call▁begin｜>",
        head_end="<｜tool▁sep｜>",
        tail="<｜tool▁call▁end｜>",
    ),
    _dsml("deepseek-v3.2", "function_calls", ""),
    _dsml("deepseek-v4", "tool_calls", ""),
    _dsml("deepseek-v4.1", "calls", " "),
)

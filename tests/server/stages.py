"""Servers for the tests of clients: with the real small model, with a tiny one that has room, with a script."""

from __future__ import annotations

import json
import shutil
import tempfile
import unittest
from enum import Enum
from pathlib import Path
from typing import Any

from clients import Clients, program
from harness import GOLDEN, SMOLLM2, Server
from pydantic import BaseModel, ConfigDict

TINY = GOLDEN / "qwen3"
CONTEXT = 32768
# Long enough for the prefix cache, whose pages hold some tens of tokens.
LONG_SYSTEM = "You answer in one word. " + "Rules: be brief, be kind, be right, and say nothing else. " * 12


def roomy_model(folder: Path) -> Path:
    """The tiny model, said to have a context in which a prompt of bytes finds room."""
    roomy = folder / "roomy"
    shutil.copytree(TINY, roomy)
    config = json.loads((roomy / "config.json").read_text())
    (roomy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    return roomy


def middle_model(folder: Path) -> Path:
    """The same with the tokens that fill in the middle, in place of those of chats."""
    model = roomy_model(folder)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    names = {316: "<｜fim▁begin｜>", 317: "<｜fim▁hole｜>", 318: "<｜fim▁end｜>"}
    for token in tokenizer["added_tokens"]:
        token["content"] = names.get(token["id"], token["content"])
    (model / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    return model


class Colour(str, Enum):
    RED = "red"
    GREEN = "green"


class Paint(BaseModel):
    """What structured answers are held to."""

    model_config = ConfigDict(extra="forbid")
    colour: Colour
    glossy: bool


class Staged(unittest.TestCase):
    """Servers and clients that end with the class."""

    maxDiff = None

    @classmethod
    def folder(cls) -> Path:
        folder = tempfile.TemporaryDirectory(prefix="hadal-clients-")
        cls.addClassCleanup(folder.cleanup)
        return Path(folder.name)

    @classmethod
    def serve(cls, model: Path, *options: str) -> Server:
        server = Server(program(), model, "--log", "off", *options)

        def stop() -> None:
            status = server.stop()
            if status != 0:
                raise RuntimeError(f"the server ended with {status}: {''.join(server.log[-20:])}")

        cls.addClassCleanup(stop)
        return server

    @classmethod
    def serve_real(cls, *options: str, places: int = 4) -> Server:
        if not SMOLLM2.exists():
            raise unittest.SkipTest("the default model is not there; `make model` gets it")
        return cls.serve(SMOLLM2, "--parallel", str(places), "--name", "smol", *options)

    @classmethod
    def serve_script(cls, answers: dict[str, str], form: str, model: Path | None = None, **more: Any) -> Server:
        folder = cls.folder()
        script = folder / "script.json"
        script.write_text(json.dumps({"bytes": 1, **more, "answers": answers}))
        options = ("--script", str(script), "--chat-format", form, "--parallel", "4", "--name", "script")
        return cls.serve(model or roomy_model(folder), *options)

    @classmethod
    def clients_of(cls, server: Server) -> Clients:
        clients = Clients(server.url)
        cls.addClassCleanup(clients.close)
        return clients

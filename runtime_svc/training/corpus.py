"""Dialogues as the model sees them: text from the chat template, token ids, and which of them it has to learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from tokenizers import Tokenizer

from runtime_svc.training.dialogue import Conversation, Dialogue
from runtime_svc.training.tokenizer import START, STOP

TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = _raise
    return environment


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


_TEMPLATE = _environment().from_string(TEMPLATE.read_text(encoding="utf-8"))


def render(messages: list[dict[str, Any]], tools: tuple[dict[str, Any], ...], *, prompt: bool) -> str:
    """The text of a conversation; with `prompt`, up to where the assistant's next turn begins."""
    return _TEMPLATE.render(messages=messages, tools=list(tools) or None, add_generation_prompt=prompt)


def text_of(dialogue: Dialogue | Conversation) -> str:
    """The whole dialogue as text."""
    return render(dialogue.messages(), dialogue.tools, prompt=False)


class Encoder:
    """Turns dialogues into token ids and a mask of the assistant's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._start, self._stop = (
            tokenizer.encode(token, add_special_tokens=False).ids[0] for token in (START, STOP)
        )
        self._opening = tokenizer.encode(f"{START}assistant\n", add_special_tokens=False).ids

    def encode(self, dialogue: Dialogue | Conversation) -> tuple[np.ndarray, np.ndarray]:
        """(n,) uint16 ids and (n,) bool: True where the assistant wrote the token, its end of turn included."""
        ids: list[int] = self._tokenizer.encode(text_of(dialogue), add_special_tokens=False).ids
        mask = np.zeros(len(ids), dtype=bool)
        width = len(self._opening)
        for at, token in enumerate(ids):
            if token == self._start and ids[at : at + width] == self._opening:
                end = ids.index(self._stop, at)
                mask[at + width : end + 1] = True
        return np.array(ids, dtype=np.uint16), mask

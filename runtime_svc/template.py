"""Renders conversations with the checkpoint's own chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime_svc.errors import damaged, missing
from treni.errors import invalid_argument
from treni.v1 import common_pb2


class RawJson(str):
    """JSON text that the template must not encode again: tool-call arguments as the model wrote them."""

    __slots__ = ()


class ChatTemplate:
    """A checkpoint's template, from `chat_template.jinja` or `tokenizer_config.json`."""

    def __init__(self, directory: Path) -> None:
        path, source, tokens = _source(directory)
        self._tokens = tokens
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise damaged(path, "the chat template", expected="valid Jinja", got=str(error)) from None

    def render(self, messages: Iterable[common_pb2.Message], tools: Iterable[common_pb2.ToolSpec]) -> str:
        """The prompt that ends where the assistant's next turn begins.

        Raises INVALID_ARGUMENT when the template refuses the conversation.
        """
        try:
            return self._template.render(
                messages=[_message(message) for message in messages],
                tools=[_tool(tool) for tool in tools] or None,
                add_generation_prompt=True,
                enable_thinking=False,
                **self._tokens,
            )
        except jinja2.TemplateError as error:
            raise invalid_argument(
                "conversation_refused",
                expected="a conversation that the chat template accepts",
                got=str(error),
            ) from None


def _message(message: common_pb2.Message) -> dict[str, Any]:
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_name:
        value["name"] = message.tool_name
    if message.tool_calls:
        value["tool_calls"] = [
            {
                "type": "function",
                "function": {"name": call.name, "arguments": RawJson(call.arguments_json)},
            }
            for call in message.tool_calls
        ]
    return value


def _tool(tool: common_pb2.ToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": json.loads(tool.parameters_json),
    }
    return {"type": "function", "function": function}


def _tojson(value: object, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """As transformers defines the filter: not HTML-escaped, and keys in their own order."""
    if isinstance(value, RawJson):
        return value
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _source(directory: Path) -> tuple[Path, str, Mapping[str, str]]:
    """The file that holds the template, its text, and the special tokens a template may name."""
    settings = directory / "tokenizer_config.json"
    config: dict[str, Any] = {}
    if settings.is_file():
        try:
            config = dict(json.loads(settings.read_text(encoding="utf-8")))
        except ValueError as error:
            raise damaged(settings, "the text", expected="a JSON object", got=str(error)) from None
    tokens: dict[str, str] = {}
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(key)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            tokens[key] = value
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path, path.read_text(encoding="utf-8"), tokens
    source = config.get("chat_template")
    if not isinstance(source, str):
        raise missing(directory, "chat_template.jinja, or chat_template in tokenizer_config.json,")
    return settings, source, tokens

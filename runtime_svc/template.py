"""Renders conversations with the checkpoint's own chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime_svc.directory import read_json, refuse_pointer
from runtime_svc.errors import damaged, missing
from treni.errors import invalid_argument
from treni.v1 import common_pb2


class RawJson(str):
    """JSON text that the template must not encode again: tool-call arguments as the model wrote them."""

    __slots__ = ()


class ChatTemplate:
    """A checkpoint's template: from `chat_template.jinja`, or from `tokenizer_config.json`.

    Where a checkpoint has several, "tool_use" renders requests with tools and "default" the others, as in
    transformers. Templates run in a sandbox, with what transformers gives them: loop controls, `tojson` that
    escapes nothing, `raise_exception`, `strftime_now`, and the special tokens by name. `enable_thinking` is false.

    Its files are in the directory `path`, unless the file `path` says what `tokenizer_config.json` would: `config`.
    """

    def __init__(self, path: Path, config: Mapping[str, Any] | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        settings = path if config is not None else path / "tokenizer_config.json"
        if config is None:
            config = read_json(settings) if settings.is_file() else {}
        self._tokens = _special_tokens(config)
        self._templates: dict[str, jinja2.Template] = {}
        for name, (file, source) in _sources(path, settings, config).items():
            try:
                self._templates[name] = environment.from_string(source)
            except Exception as error:  # mostly TemplateError; the compiler has others for odd input
                what = f'the chat template "{name}"'
                raise damaged(file, what, expected="valid Jinja", got=str(error)) from None

    def render(self, messages: Iterable[common_pb2.Message], tools: Iterable[common_pb2.ToolSpec]) -> str:
        """The prompt that ends where the assistant's next turn begins.

        Raises INVALID_ARGUMENT when the template refuses the conversation.
        """
        offered = [_tool(tool) for tool in tools] or None
        template = self._templates["default"]
        if offered is not None:
            template = self._templates.get("tool_use", template)
        try:
            return template.render(
                messages=[_message(message) for message in messages],
                tools=offered,
                add_generation_prompt=True,
                enable_thinking=False,
                **self._tokens,
            )
        except Exception as error:  # a template is a program of the checkpoint's: it may raise anything
            raise invalid_argument(
                "conversation_refused",
                expected="a conversation that the chat template accepts",
                got=str(error) or type(error).__name__,
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


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers defines the filter: not HTML-escaped, and keys in their own order."""
    if isinstance(value, RawJson):
        return value
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that a template may name; each is a string, or an object with its `content`."""
    tokens: dict[str, str] = {}
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(key)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            tokens[key] = value
    return tokens


def _sources(directory: Path, settings: Path, config: Mapping[str, Any]) -> dict[str, tuple[Path, str]]:
    """Template texts by name, each with its file; files of their own go before `tokenizer_config.json`."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        more = sorted((directory / "additional_chat_templates").glob("*.jinja"))
        return {"default": (path, _text(path))} | {other.stem: (other, _text(other)) for other in more}
    given = config.get("chat_template")
    if given is None:
        raise missing(directory, "chat_template.jinja, or chat_template in tokenizer_config.json,")
    named = given if isinstance(given, list) else [{"name": "default", "template": given}]
    sources: dict[str, tuple[Path, str]] = {}
    for entry in named:
        name, text = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            wanted = "a template, or a list of objects with name and template"
            raise damaged(settings, "chat_template", expected=wanted, got=repr(entry)[:80])
        sources[name] = (settings, text)
    if "default" not in sources:
        raise damaged(settings, "chat_template", expected='one named "default"', got=", ".join(sources))
    return sources


def _text(path: Path) -> str:
    refuse_pointer(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise damaged(path, "the chat template", expected="UTF-8", got=str(error)) from None

"""Renders conversations with the checkpoint's own chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from runtime_svc.directory import read_json, refuse_pointer
from runtime_svc.errors import damaged, missing, unsupported
from runtime_svc.jinja import Arguments, environment
from runtime_svc.provenance import SPOKEN, Traced, written
from runtime_svc.toolcalls import parse_object
from treni.errors import TreniError, invalid_argument
from treni.v1 import common_pb2


class ChatTemplate:
    """A checkpoint's template: from `chat_template.jinja`, or from `tokenizer_config.json`.

    Where a checkpoint has several, "tool_use" renders requests with tools and "default" the others, as in
    transformers. Templates run in a sandbox, with what transformers gives them: loop controls, the `generation`
    tag, `tojson` that escapes nothing, `raise_exception`, `strftime_now`, and the special tokens by name.
    `enable_thinking` is false.

    Its files are in the directory `path`, unless the file `path` says what `tokenizer_config.json` would: `config`.
    """

    def __init__(self, path: Path, config: Mapping[str, Any] | None = None) -> None:
        settings = path if config is not None else path / "tokenizer_config.json"
        if config is None:
            config = read_json(settings) if settings.is_file() else {}
        self._tokens = special_tokens(path, config)
        self._path = path
        self._templates: dict[str, jinja2.Template] = {}
        for name, (file, source) in _sources(path, settings, config).items():
            try:
                self._templates[name] = environment().from_string(source)
            except Exception as error:  # mostly TemplateError; the compiler has others for odd input
                what = f'the chat template "{name}"'
                raise damaged(file, what, expected="valid Jinja", got=str(error)) from None

    def render(self, messages: Iterable[common_pb2.Message], tools: Iterable[common_pb2.ToolSpec]) -> Traced:
        """The prompt that ends where the assistant's next turn begins, with the origin of its characters.

        Raises INVALID_ARGUMENT when the template refuses the conversation.
        """
        offered = [_tool(tool) for tool in tools] or None
        template = self._templates["default"]
        if offered is not None:
            template = self._templates.get("tool_use", template)
        try:
            prompt = template.render(
                messages=[_message(message) for message in messages],
                tools=offered,
                documents=None,
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
        assert isinstance(prompt, Traced)
        return prompt

    def check(self, misplaced: Callable[[str], list[str]]) -> None:
        """Raises FAILED_PRECONDITION where the template's own control tokens can't be told from a conversation's.

        `misplaced` gives those of a prompt that would be encoded as text. A template that takes none of the small
        conversations tried here is not judged.
        """
        for messages, tools in _PROBES:
            try:
                lost = misplaced(self.render(messages, tools))
            except TreniError:
                continue
            if lost:
                raise unsupported(
                    self._path,
                    expected="a chat template that writes its control tokens by literals, +, ~, join, trim and replace",
                    got=f"{lost[0]!r} by other means",
                    todo="change the template: what it writes by other means counts as a user's text",
                )


def _message(message: common_pb2.Message) -> dict[str, Any]:
    spoken = message.role == "assistant"
    value: dict[str, Any] = {
        "role": written(message.role),
        "content": Traced(message.content, SPOKEN) if spoken else message.content,
    }
    if message.thinking:
        thought = Traced(message.thinking, SPOKEN)
        value = {
            "thinking": thought,
            **value,
            "reasoning_content": thought,
        }  # both names are read, by one each
    if message.tool_name:
        value["name"] = message.tool_name
    if message.tool_calls:
        value["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
    return value


def _arguments(call: common_pb2.ToolCall) -> Arguments:
    return Arguments(parse_object(call.arguments_json), call.arguments_json)


def _tool(tool: common_pb2.ToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": parse_object(tool.parameters_json),
    }
    return {"type": "function", "function": function}


_CALL = common_pb2.ToolCall(name="f", arguments_json='{"x": 1}')
_TALK = (
    common_pb2.Message(role="user", content="a"),
    common_pb2.Message(role="assistant", content="b"),
    common_pb2.Message(role="user", content="c"),
)
_USE = (
    common_pb2.Message(role="assistant", tool_calls=[_CALL]),
    common_pb2.Message(role="tool", tool_name="f", content="{}"),
)
_TOOL = common_pb2.ToolSpec(name="f", description="d", parameters_json='{"type": "object", "properties": {}}')
_PROBES = (
    (_TALK, ()),
    ((common_pb2.Message(role="system", content="s"), *_TALK), ()),
    ((*_TALK, *_USE), (_TOOL,)),
)

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def special_tokens(directory: Path, config: Mapping[str, Any]) -> dict[str, Traced | list[Traced]]:
    """The special tokens that a template may name, from `tokenizer_config.json` or `special_tokens_map.json`.

    `config` is what the first of these says.

    Each is a string, or an object with its `content`; `additional_special_tokens` is a list of such.
    """
    tokens: dict[str, Traced | list[Traced]] = {}
    path = directory / "special_tokens_map.json"
    for settings in (read_json(path) if path.is_file() else {}, config):
        for key in _NAMED:
            text = content_of(settings.get(key))
            if text is not None:
                tokens[key] = written(text)
        more = settings.get("additional_special_tokens")
        if isinstance(more, list):
            texts = map(content_of, more)
            tokens["additional_special_tokens"] = [written(text) for text in texts if text is not None]
    return tokens


def content_of(token: object) -> str | None:
    """The text of a token as the files of a checkpoint write it: a string, or an object with its `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


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

"""Renders conversations with the checkpoint's own chat template."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import jinja2

from runtime_svc.directory import refuse_pointer
from runtime_svc.errors import damaged, missing, unsupported
from runtime_svc.tokens.added_tokens import NAMED, content_of, listed, read_settings
from runtime_svc.tokens.jinja import Arguments, environment
from runtime_svc.tokens.provenance import SPOKEN, Traced, written
from runtime_svc.toolcalls import parse_object
from treni.errors import TreniError, invalid_argument
from treni.v1 import common_pb2

_MAX_QUOTED_CHARS = 200
"""Of what a template says of a conversation: it may quote all of it, and details travel in headers."""


class ChatTemplate:
    """A checkpoint's template: from `chat_template.jinja`, or from `tokenizer_config.json`.

    Where a checkpoint has several, "tool_use" renders requests with tools and "default" the others, as in
    transformers. Templates run in a sandbox, with what transformers gives them: loop controls, the `generation`
    tag, `tojson` that escapes nothing, `raise_exception`, `strftime_now`, and the special tokens by name.

    Its files are in the directory `path`, unless the file `path` says what `tokenizer_config.json` would: `config`.
    """

    def __init__(self, path: Path, config: Mapping[str, Any] | None = None) -> None:
        settings = path if config is not None else path / "tokenizer_config.json"
        if config is None:
            config = read_settings(path)
        self._tokens = _special_tokens(config)
        self._path = path
        self._templates: dict[str, jinja2.Template] = {}
        for name, (file, source) in _sources(path, settings, config).items():
            try:
                self._templates[name] = environment().from_string(source)
            except Exception as error:  # mostly TemplateError; the compiler has others for odd input
                what = f'the chat template "{name}"'
                raise damaged(file, what, expected="valid Jinja", got=str(error)) from None

    @cached_property
    def has_switch(self) -> bool:
        """Whether it writes another prompt for a model that is to think first: whether it reads `enable_thinking`."""
        try:
            return len({self.render(_TALK, (), thinking=thinking) for thinking in (False, True)}) > 1
        except TreniError:
            return False

    def render(
        self,
        messages: Iterable[common_pb2.Message],
        tools: Iterable[common_pb2.ToolSpec],
        *,
        thinking: bool = False,
    ) -> Traced:
        """The prompt that ends where the assistant's next turn begins, with the origin of its characters.

        `thinking` is the template's own `enable_thinking`. Raises INVALID_ARGUMENT when the template refuses the
        conversation.
        """
        turns, offered = [_message(message) for message in messages], [_tool(tool) for tool in tools] or None
        try:
            return self._render(turns, offered, thinking)
        except Exception as error:  # a template is a program of the checkpoint's: it may raise anything
            try:
                return self._render(_with_ids(turns), offered, thinking)
            except Exception:
                raise invalid_argument(
                    "conversation_refused",
                    expected="a conversation that the chat template accepts",
                    got=(str(error) or type(error).__name__)[:_MAX_QUOTED_CHARS],
                ) from None

    def _render(
        self, turns: list[dict[str, Any]], offered: list[dict[str, Any]] | None, thinking: bool
    ) -> Traced:
        template = self._templates["default"]
        if offered is not None:
            template = self._templates.get("tool_use", template)
        prompt = template.render(
            messages=turns,
            tools=offered,
            documents=None,
            add_generation_prompt=True,
            enable_thinking=thinking,
            **self._tokens,
        )
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
        # Templates read the one name or the other.
        value = {"thinking": thought, **value, "reasoning_content": thought}
    if name := message.tool_name or message.name:
        value["name"] = name
    if message.tool_calls:
        value["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
    return value


def _with_ids(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns with ids for calls and results, which the contract has none of: some templates insist on them.

    They are nine letters and digits, as Mistral's have to be. Results belong to the calls before them, in order.
    """
    numbers, waiting = count(), deque[str]()
    numbered: list[dict[str, Any]] = []
    for turn in turns:
        if "tool_calls" in turn:
            calls = [{"id": f"call{next(numbers):05d}", **call} for call in turn["tool_calls"]]
            waiting = deque(call["id"] for call in calls)
            turn = turn | {"tool_calls": calls}
        elif turn["role"] == "tool" and waiting:
            turn = turn | {"tool_call_id": waiting.popleft()}
        numbered.append(turn)
    return numbered


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


def _special_tokens(config: Mapping[str, Any]) -> dict[str, Traced | list[Traced]]:
    """The special tokens that a template may name."""
    tokens: dict[str, Traced | list[Traced]] = {}
    for key in NAMED:
        text = content_of(config.get(key))
        if text is not None:
            tokens[key] = written(text)
    more = listed(config, "additional_special_tokens")
    return tokens | ({"additional_special_tokens": [written(text) for text in more]} if more else {})


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
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise damaged(path, "the chat template", expected="UTF-8", got=str(error)) from None

"""Checks a request before anything is computed for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from runtime_svc.ops import MAX_TOP, SamplingParams
from runtime_svc.toolcalls import parse_object
from treni.errors import invalid_argument
from treni.v1 import common_pb2, inference_pb2

MAX_TEXT_BYTES = 64 * 1024
"""The size limit of messages and tools together, in UTF-8: refused before any of it is tokenised."""

MAX_EMBED_TEXTS = 256

MAX_STOPS = 16
MAX_STOP_CHARS = 256

_QUOTED = 120
_CHOICES = ("auto", "none", "required", "tool")
_ROLES = ("system", "user", "assistant", "tool")


def check_generate(request: inference_pb2.GenerateRequest) -> None:
    """Raises INVALID_ARGUMENT when the conversation, the tools or the sampling settings cannot be right."""
    if not request.messages:
        raise invalid_argument("messages_empty", expected="at least one message", got="none")
    _check_size(_texts(request))
    for index, message in enumerate(request.messages):
        _check_message(f"messages[{index}]", message)
    for index, tool in enumerate(request.tools):
        _check_tool(f"tools[{index}]", tool)
    sampling_params(request.sampling)
    if request.HasField("tool_choice"):
        _check_choice(request.tool_choice, [tool.name for tool in request.tools])
    if request.HasField("constraint"):
        _check_constraint(request)
    _check_stops(request.stop)
    if request.top_logprobs > MAX_TOP:
        raise invalid_argument(
            "top_logprobs_invalid",
            expected=f"top_logprobs from 0 to {MAX_TOP}",
            got=f"{request.top_logprobs}",
        )
    if request.thinking.budget_tokens and not request.thinking.enabled:
        raise invalid_argument(
            "thinking_invalid",
            expected="thinking.budget_tokens only with thinking.enabled",
            got=f"a budget of {request.thinking.budget_tokens} for a thought that is not wanted",
            todo="enable thinking, or set no budget",
        )


def check_embed(request: inference_pb2.EmbedRequest) -> None:
    """Raises INVALID_ARGUMENT when there are no texts, too many, an empty one or too much text."""
    if not 1 <= len(request.texts) <= MAX_EMBED_TEXTS:
        raise invalid_argument(
            "texts_count", expected=f"1 to {MAX_EMBED_TEXTS} texts", got=f"{len(request.texts)}"
        )
    for index, text in enumerate(request.texts):
        if not text:
            raise invalid_argument("text_empty", expected=f"text in texts[{index}]", got="an empty string")
    _check_size(request.texts)


def sampling_params(sampling: common_pb2.Sampling) -> SamplingParams:
    """The sampling settings as the engine takes them; raises INVALID_ARGUMENT for impossible ones."""
    if not math.isfinite(sampling.temperature) or sampling.temperature < 0:
        raise invalid_argument(
            "temperature_invalid", expected="a temperature of 0 or above", got=f"{sampling.temperature}"
        )
    if not 0 <= sampling.top_p <= 1:
        raise invalid_argument("top_p_invalid", expected="top_p from 0 to 1", got=f"{sampling.top_p}")
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=1.0 if sampling.top_p == 0 else sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
    )


def _texts(request: inference_pb2.GenerateRequest) -> Iterator[str]:
    """Every text that will stand in the prompt."""
    for message in request.messages:
        yield message.content
        yield message.thinking
        yield message.tool_name
        yield message.name
        for call in message.tool_calls:
            yield call.name
            yield call.arguments_json
    for tool in request.tools:
        yield tool.name
        yield tool.description
        yield tool.parameters_json


def _check_size(texts: Iterable[str]) -> None:
    size = sum(len(text.encode()) for text in texts)
    if size > MAX_TEXT_BYTES:
        raise invalid_argument(
            "prompt_too_large",
            expected=f"at most {MAX_TEXT_BYTES} bytes of text",
            got=f"{size}",
            todo="shorten the conversation",
        )


def _check_message(at: str, message: common_pb2.Message) -> None:
    if message.role not in _ROLES:
        raise invalid_argument(
            "role_unknown", expected=f"{at}.role to be one of {', '.join(_ROLES)}", got=repr(message.role)
        )
    if message.tool_calls and message.role != "assistant":
        raise invalid_argument(
            "tool_calls_misplaced", expected=f"tool calls in assistant turns only ({at})", got=message.role
        )
    if message.thinking and message.role != "assistant":
        raise invalid_argument(
            "thinking_misplaced", expected=f"thinking in assistant turns only ({at})", got=message.role
        )
    for index, call in enumerate(message.tool_calls):
        where = f"{at}.tool_calls[{index}]"
        if not call.name:
            raise invalid_argument("tool_call_invalid", expected=f"a name in {where}", got="none")
        _check_object("tool_call_invalid", f"{where}.arguments_json", call.arguments_json)


def _check_tool(at: str, tool: common_pb2.ToolSpec) -> None:
    if not tool.name:
        raise invalid_argument("tool_invalid", expected=f"a name in {at}", got="none")
    schema = _check_object("tool_invalid", f"{at}.parameters_json", tool.parameters_json)
    if schema.get("type") != "object":
        raise invalid_argument(
            "tool_invalid",
            expected=f'a JSON schema of type "object" in {at}.parameters_json',
            got=repr(schema.get("type")),
        )


def _check_choice(choice: inference_pb2.ToolChoice, offered: list[str]) -> None:
    if choice.mode not in _CHOICES:
        raise invalid_argument(
            "tool_choice_invalid",
            expected=f"tool_choice.mode to be one of {', '.join(_CHOICES)}",
            got=repr(choice.mode)[:_QUOTED],
        )
    if choice.mode == "tool":
        if choice.name not in offered:
            raise invalid_argument(
                "tool_choice_unknown",
                expected="tool_choice.name to be the name of an offered tool",
                got=repr(choice.name)[:_QUOTED],
                todo=f"offer it, or choose one of {', '.join(offered)[:_QUOTED]}" if offered else "offer it",
            )
    elif choice.name:
        raise invalid_argument(
            "tool_choice_invalid",
            expected='tool_choice.name only with the mode "tool"',
            got=f"{choice.name!r:.{_QUOTED}} with {choice.mode!r}",
        )
    if choice.mode == "required" and not offered:
        raise invalid_argument(
            "tool_choice_without_tools", expected='tools to choose from for the mode "required"', got="none"
        )


def _check_constraint(request: inference_pb2.GenerateRequest) -> None:
    form = request.constraint.WhichOneof("form")
    if form is None or (form == "json_object" and not request.constraint.json_object):
        raise invalid_argument(
            "constraint_invalid", expected="json_schema, or json_object true, in constraint", got="neither"
        )
    if request.tool_choice.mode in ("required", "tool"):
        raise invalid_argument(
            "constraint_with_calls",
            expected="a constraint of the text, or a tool that has to be called",
            got="both",
            todo='leave one out: with the mode "auto" the model calls a tool or answers in the form',
        )


def _check_stops(stops: Sequence[str]) -> None:
    if len(stops) > MAX_STOPS:
        raise invalid_argument("stop_invalid", expected=f"at most {MAX_STOPS} stops", got=f"{len(stops)}")
    for index, stop in enumerate(stops):
        if not 1 <= len(stop) <= MAX_STOP_CHARS:
            raise invalid_argument(
                "stop_invalid",
                expected=f"1 to {MAX_STOP_CHARS} characters in stop[{index}]",
                got=f"{len(stop)}",
            )


def _check_object(kind: str, where: str, text: str) -> dict[str, object]:
    try:
        return parse_object(text)
    except ValueError as error:
        raise invalid_argument(kind, expected=f"a JSON object in {where}", got=str(error)) from None

"""Checks a request before anything is computed for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from runtime_svc.ops import SamplingParams
from runtime_svc.toolcalls import parse_object
from treni.errors import invalid_argument
from treni.v1 import common_pb2, inference_pb2

MAX_TEXT_BYTES = 64 * 1024
"""The size limit of messages and tools together, in UTF-8: refused before any of it is tokenised."""

MAX_EMBED_TEXTS = 256

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


def _check_object(kind: str, where: str, text: str) -> dict[str, object]:
    try:
        return parse_object(text)
    except ValueError as error:
        raise invalid_argument(kind, expected=f"a JSON object in {where}", got=str(error)) from None

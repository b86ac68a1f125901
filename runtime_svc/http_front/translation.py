"""Makes the engine's request of a chat request: each parameter once, and what no type can say of them refused."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runtime_svc.http_front.conversation import contract_messages
from runtime_svc.http_front.errors import ParameterError
from runtime_svc.http_front.requests import AnyObject, BySchema, ChatRequest, NamedTool, Schema
from treni.errors import TreniError
from treni.limits import MODEL_REQUEST
from treni.v1 import common_pb2, inference_pb2

EFFORTS: Mapping[str, int] = {"minimal": 128, "low": 512, "medium": 2048, "high": 8192, "xhigh": 0}
"""Tokens that a thought may take at each `reasoning_effort`; 0 is no limit. "none" is no thought at all."""

NO_PARAMETERS: Schema = {"type": "object", "properties": {}}

_SEEDS = 2**63


def generate_request(chat: ChatRequest, *, caller: str = "") -> inference_pb2.GenerateRequest:
    """What the engine is asked. `caller` is who sent it, where that is known: nobody reuses another's prefixes.

    Raises `ParameterError` for parameters that do not go together, and `TreniError` for a request that the engine's
    other front would refuse for its size.
    """
    _check_together(chat)
    request = inference_pb2.GenerateRequest(
        messages=contract_messages(chat.messages),
        tools=[
            common_pb2.ToolSpec(
                name=tool.function.name,
                description=tool.function.description or "",
                parameters_json=_schema(
                    tool.function.parameters or NO_PARAMETERS, f"tools[{index}].function.parameters"
                ),
            )
            for index, tool in enumerate(chat.tools or ())
        ],
        sampling=_sampling(chat),
        cache_key=cache_key(caller=caller, user=chat.user, key=chat.prompt_cache_key),
        tool_choice=_tool_choice(chat),
        constraint=_constraint(chat),
        constrain_calls=any(tool.function.strict for tool in chat.tools or ()),
        stop=_stops(chat),
        # A token's text comes with its alternatives only.
        top_logprobs=max(chat.top_logprobs or 0, 1) if chat.logprobs else 0,
        thinking=_thinking(chat),
    )
    MODEL_REQUEST.check(request.ByteSize())
    return request


def cache_key(*, caller: str, user: str | None, key: str | None) -> str:
    """The key under which prefixes are reused: one for each caller, user and `prompt_cache_key`.

    It is "", which reuses nothing, where the request names neither user nor key: how soon a prompt is read tells
    whether somebody sent its beginning before, and only who asks for that may hear it.
    """
    if user is None and key is None:
        return ""
    return "http:" + json.dumps([caller, user, key])


def _check_together(chat: ChatRequest) -> None:
    if chat.max_tokens is not None and chat.max_completion_tokens is not None:
        raise _apart("max_tokens", "max_tokens or max_completion_tokens", "both")
    if chat.top_logprobs is not None and not chat.logprobs:
        raise _apart("top_logprobs", "logprobs: true beside top_logprobs", "top_logprobs alone")
    if chat.stream_options is not None and not chat.stream:
        raise _apart("stream_options", "stream: true beside stream_options", "stream_options alone")
    names = [tool.function.name for tool in chat.tools or ()]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _apart(f"tools[{index}].function.name", "a name of its own for every tool", f"{name} again")
    chosen = chat.tool_choice
    if isinstance(chosen, NamedTool) and chosen.function.name not in names:
        raise _apart("tool_choice", "one of the tools that are offered", chosen.function.name)
    if chosen == "required" and not names:
        raise _apart("tool_choice", "tools beside it", "none")
    if chat.reasoning_effort is not None and chat.thinking_token_budget is not None:
        raise _apart("thinking_token_budget", "reasoning_effort or thinking_token_budget", "both")
    enabled = None if chat.chat_template_kwargs is None else chat.chat_template_kwargs.enable_thinking
    wanted = _wanted(chat)
    if enabled is not None and wanted is not None and enabled != wanted:
        at = "chat_template_kwargs.enable_thinking"
        raise _apart(at, f"{json.dumps(wanted)}, as the request says elsewhere", json.dumps(enabled))


def _wanted(chat: ChatRequest) -> bool | None:
    """Whether effort or budget ask for a thought; None where neither is given."""
    if chat.reasoning_effort is not None:
        return chat.reasoning_effort != "none"
    return None if chat.thinking_token_budget is None else True


def _apart(param: str, expected: str, got: str) -> TreniError:
    return ParameterError(
        "parameters_conflict", param=param, expected=expected, got=got, todo="correct the request"
    )


def _sampling(chat: ChatRequest) -> common_pb2.Sampling:
    temperature, top_p, top_k = chat.temperature or 0.0, chat.top_p, chat.top_k or 0
    # 0 is "off" in the contract, and what is next to nothing is 0 in float32: there it means the first token alone.
    if top_p is not None and np.float32(top_p) == 0:
        top_p, top_k = None, 1
    seed = chat.seed
    if seed is None:
        # Whoever sets no seed wants an answer of chance; which it was is told with the answer.
        seed = secrets.randbelow(_SEEDS) if temperature > 0 else 0
    return common_pb2.Sampling(
        temperature=temperature,
        top_p=top_p or 0.0,
        top_k=top_k,
        seed=seed % 2**64,
        max_new_tokens=chat.max_completion_tokens or chat.max_tokens or 0,
    )


def _tool_choice(chat: ChatRequest) -> inference_pb2.ToolChoice | None:
    chosen, one_call = chat.tool_choice, chat.parallel_tool_calls is False
    if chosen is None and not one_call:
        return None
    if isinstance(chosen, NamedTool):
        return inference_pb2.ToolChoice(mode="tool", name=chosen.function.name, one_call=one_call)
    return inference_pb2.ToolChoice(mode=chosen or "auto", one_call=one_call)


def _constraint(chat: ChatRequest) -> inference_pb2.Constraint | None:
    form = chat.response_format
    if isinstance(form, BySchema):
        at = "response_format.json_schema.schema"
        return inference_pb2.Constraint(json_schema=_schema(form.json_schema.schema_, at))
    return inference_pb2.Constraint(json_object=True) if isinstance(form, AnyObject) else None


def _stops(chat: ChatRequest) -> Sequence[str]:
    if chat.stop is None:
        return ()
    return [chat.stop] if isinstance(chat.stop, str) else chat.stop


def _thinking(chat: ChatRequest) -> inference_pb2.Thinking | None:
    enabled = None if chat.chat_template_kwargs is None else chat.chat_template_kwargs.enable_thinking
    wanted = _wanted(chat)
    if wanted is None:
        return None if enabled is None else inference_pb2.Thinking(enabled=enabled)
    budget = EFFORTS.get(chat.reasoning_effort or "", 0)
    return inference_pb2.Thinking(enabled=wanted, budget_tokens=chat.thinking_token_budget or budget)


def _schema(schema: Mapping[str, Any], param: str) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ParameterError(
            "invalid_value",
            param=param,
            expected=f"JSON in {param}",
            got=str(error),
            todo="correct the request",
        ) from None

"""Plays tasks against the NumPy engine: the model's own calls are executed, until it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime_svc.engine import Engine
from treni.v1 import common_pb2, inference_pb2

MAX_CALLS = 8
MAX_NEW_TOKENS = 160

Respond = Callable[[str, str], str]
"""A tool: its name and the arguments as JSON text in, the result as JSON text out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """What the model did: the calls that it made, in order, and the text that it ended with."""

    calls: tuple[tuple[str, dict[str, Any]], ...]
    answer: str


def play(engine: Engine, *, tools: list[dict[str, Any]], prompt: str, respond: Respond, key: str) -> Played:
    """Runs one task greedily. `key` names its KV cache. A malformed call ends the task with its text."""
    (played,) = play_all(engine, tools=tools, prompts=(prompt,), respond=respond, key=key)
    return played


def play_all(
    engine: Engine, *, tools: list[dict[str, Any]], prompts: Sequence[str], respond: Respond, key: str
) -> tuple[Played, ...]:
    """What the model did with each prompt of one conversation; see `play`."""
    messages: list[common_pb2.Message] = []
    offered = [_spec(tool) for tool in tools]
    played = []
    for prompt in prompts:
        messages.append(common_pb2.Message(role="user", content=prompt))
        played.append(_answered(engine, messages, offered, respond, key))
        messages.append(common_pb2.Message(role="assistant", content=played[-1].answer))
    return tuple(played)


def _answered(
    engine: Engine,
    messages: list[common_pb2.Message],
    offered: list[common_pb2.ToolSpec],
    respond: Respond,
    key: str,
) -> Played:
    """Goes on with the conversation, which grows by the calls and their results, until the model answers."""
    calls: list[tuple[str, dict[str, Any]]] = []
    while True:
        request = inference_pb2.GenerateRequest(
            messages=messages,
            tools=offered,
            sampling=common_pb2.Sampling(max_new_tokens=MAX_NEW_TOKENS),
            cache_key=key,
        )
        finish = inference_pb2.GenerateFinish()
        for chunk in engine.generate(request):
            finish = chunk.finish
        if len(finish.tool_calls) != 1 or finish.malformed_tool_call or len(calls) == MAX_CALLS:
            return Played(calls=tuple(calls), answer=finish.text)
        call = finish.tool_calls[0]
        calls.append((call.name, json.loads(call.arguments_json)))
        result = respond(call.name, call.arguments_json)
        messages.append(common_pb2.Message(role="assistant", tool_calls=[call]))
        messages.append(common_pb2.Message(role="tool", content=result, tool_name=call.name))


def _spec(tool: dict[str, Any]) -> common_pb2.ToolSpec:
    function = tool["function"]
    return common_pb2.ToolSpec(
        name=function["name"],
        description=function["description"],
        parameters_json=json.dumps(function["parameters"], ensure_ascii=False),
    )

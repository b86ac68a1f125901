"""Short ways to write requests."""

from collections.abc import Iterable
from typing import TypedDict, Unpack

from treni.v1 import common_pb2, inference_pb2


class Told(TypedDict, total=False):
    """What else a message may say."""

    tool_name: str
    tool_calls: Iterable[common_pb2.ToolCall]
    thinking: str
    name: str


class Settings(TypedDict, total=False):
    """The fields of `Sampling`."""

    temperature: float
    top_p: float
    top_k: int
    seed: int
    max_new_tokens: int


def message(content: str, role: str = "user", **more: Unpack[Told]) -> common_pb2.Message:
    return common_pb2.Message(role=role, content=content, **more)


def generate_request(
    *contents: str | common_pb2.Message,
    tools: Iterable[common_pb2.ToolSpec] = (),
    cache_key: str = "",
    **sampling: Unpack[Settings],
) -> inference_pb2.GenerateRequest:
    messages = [
        content if isinstance(content, common_pb2.Message) else message(content) for content in contents
    ]
    return inference_pb2.GenerateRequest(
        messages=messages, tools=tools, sampling=common_pb2.Sampling(**sampling), cache_key=cache_key
    )


def tool(
    name: str = "calculator", parameters_json: str = '{"type": "object", "properties": {}}'
) -> common_pb2.ToolSpec:
    return common_pb2.ToolSpec(name=name, description="Works.", parameters_json=parameters_json)

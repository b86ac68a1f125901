"""Constraints, choices of tools, stops, alternatives and thoughts: the engine's work, seen through OpenAI's client."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import openai
import pytest

from tests.runtime_svc.http_front.front import OFFERED, TOOLS, asking

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "count": {"type": "integer", "maximum": 99}},
    "required": ["name", "count"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_fits_its_schema(client: openai.OpenAI, stream: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
    body = asking("How many apples has Ada?", response_format=form, max_tokens=200)
    if stream:
        said = "".join(
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(**body, stream=True)
        )
    else:
        answer = client.chat.completions.create(**body)
        assert (answer.model_extra or {})["treni"]["constrained"] is True
        assert answer.choices[0].finish_reason == "stop"
        said = answer.choices[0].message.content or ""
    jsonschema.validate(json.loads(said), SCHEMA)


def test_an_answer_is_an_object(client: openai.OpenAI) -> None:
    body = asking("Say anything", response_format={"type": "json_object"}, max_tokens=400)
    answer = client.chat.completions.create(**body).choices[0]
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.message.content or ""), dict)
    else:
        assert (answer.message.content or "").lstrip().startswith("{")


def test_a_schema_that_is_none_is_refused(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**asking("x", response_format=form))


def test_a_tool_must_be_called(client: openai.OpenAI) -> None:
    body = asking("So, out of 8 and 7982, what is the lower one?", tools=TOOLS)
    assert client.chat.completions.create(**body).choices[0].message.tool_calls is None
    answer = client.chat.completions.create(**body, tool_choice="required").choices[0]
    assert answer.finish_reason == "tool_calls"
    assert {call.function.name for call in answer.message.tool_calls or () if call.type == "function"} <= set(
        OFFERED
    )


@pytest.mark.parametrize("name", OFFERED)
def test_the_named_tool_must_be_called(client: openai.OpenAI, name: str) -> None:
    tools = [tool | {"function": tool["function"] | {"strict": True}} for tool in TOOLS]
    body = asking("Calculate 8 divided by 5.", tools=tools, parallel_tool_calls=False)
    answer = client.chat.completions.create(
        **body, tool_choice={"type": "function", "function": {"name": name}}
    )
    assert answer.choices[0].message.tool_calls is not None
    (call,) = answer.choices[0].message.tool_calls
    assert call.type == "function"
    assert call.function.name == name
    parameters = next(tool["function"]["parameters"] for tool in TOOLS if tool["function"]["name"] == name)
    jsonschema.validate(json.loads(call.function.arguments), parameters)


def test_no_tool_may_be_called(client: openai.OpenAI) -> None:
    body = asking("Calculate 8 divided by 5.", tools=TOOLS)
    assert client.chat.completions.create(**body).choices[0].finish_reason == "tool_calls"
    answer = client.chat.completions.create(**body, tool_choice="none").choices[0]
    assert answer.message.tool_calls is None
    assert answer.finish_reason != "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_the_text_ends_before_a_stop(client: openai.OpenAI, stream: bool) -> None:
    body = asking("Name these words backwards: mint, lamp, harbor.", tools=TOOLS)
    whole = client.chat.completions.create(**body).choices[0].message.content or ""
    stop = whole[3:6]
    assert len(whole) > 6
    body |= {"stop": ["never said", stop]}
    if stream:
        *chunks, last = client.chat.completions.create(**body, stream=True)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in [*chunks, last])
        extras, reason = (last.model_extra or {})["treni"], last.choices[0].finish_reason
    else:
        answer = client.chat.completions.create(**body)
        said = answer.choices[0].message.content or ""
        extras, reason = (answer.model_extra or {})["treni"], answer.choices[0].finish_reason
    assert (said, reason, extras["stop_sequence"]) == (whole[: whole.index(stop)], "stop", stop)


def test_every_token_has_its_logprob_and_alternatives(client: openai.OpenAI) -> None:
    body = asking("Hello", max_tokens=6, logprobs=True)
    for asked in (None, 0, 3):
        more: dict[str, Any] = {} if asked is None else {"top_logprobs": asked}
        answer = client.chat.completions.create(**body, **more)
        told = answer.choices[0].logprobs
        assert told is not None
        assert answer.usage is not None
        assert len(told.content or ()) == answer.usage.completion_tokens
        for token in told.content or ():
            assert token.logprob <= 0
            assert bytes(token.bytes or ()).decode(errors="replace") == token.token
            assert len(token.top_logprobs) == (asked or 0)
            if asked:
                assert token.top_logprobs[0].logprob == pytest.approx(token.logprob), "greedy takes the first"
                assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1 + 1e-4
        text = b"".join(bytes(token.bytes or ()) for token in told.content or ()).decode(errors="replace")
        assert text.startswith(answer.choices[0].message.content or "")
        streamed = list(client.chat.completions.create(**body, **more, stream=True))
        last = streamed[-1].choices[0].logprobs
        assert last is not None
        assert last.model_dump() == told.model_dump()


def test_a_model_that_never_thinks_is_not_asked_to(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            **asking("Calculate 8 divided by 5."), extra_body={"thinking_token_budget": 5}
        )
    assert refused.value.code == "thinking_unsupported"

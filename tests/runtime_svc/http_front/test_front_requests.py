"""What becomes of a request's parameters, in every combination, and of bodies that are nearly right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime_svc.http_front import errors
from runtime_svc.http_front.conversation import contract_messages
from runtime_svc.http_front.errors import ParameterError
from runtime_svc.http_front.requests import ChatRequest
from runtime_svc.http_front.translation import EFFORTS, cache_key, generate_request
from runtime_svc.validate import check_generate
from tests.runtime_svc.http_front.front import MODEL
from treni.errors import TreniError
from treni.v1 import inference_pb2

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.lists(st.from_regex(r"[a-zA-Z0-9_-]{1,9}", fullmatch=True), unique=True, min_size=1, max_size=4)
NUMBER = st.floats(0, 2, allow_nan=False)


def rarely(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The value, or null, which is as good as nothing."""
    return st.none() | strategy


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A conversation in which every call has a result, in any order."""
    content = TEXT | st.lists(TEXT.map(lambda text: {"type": "text", "text": text}), max_size=3)
    messages: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 4))):
        role = draw(st.sampled_from(["system", "developer", "user", "assistant"]))
        message: dict[str, Any] = {"role": role, "content": draw(content), "name": draw(rarely(TEXT))}
        messages.append(message)
        if role == "assistant":
            calls = [
                {
                    "id": f"{number}/{index}",
                    "type": "function",
                    "function": {"name": f"f{index}", "arguments": json.dumps({"n": index})},
                }
                for index in range(draw(st.integers(0, 4)))
            ]
            message |= {"tool_calls": calls, "reasoning_content": draw(rarely(TEXT))}
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": call["id"]}
                for call in draw(st.permutations(calls))
            ]
    return messages


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Requests whose parameters are right, each by itself and all together."""
    names = draw(st.just([]) | NAMES)
    choices: list[Any] = ["none", "auto", None]
    if names:
        named = {"type": "function", "function": {"name": draw(st.sampled_from(names))}}
        choices += ["required", named]
    schema = st.just({"type": "object", "properties": {"a": {"type": "string"}}})
    form = st.sampled_from(["text", "json_object"]).map(lambda kind: {"type": kind}) | st.builds(
        lambda schema: {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}, schema
    )
    logprobs = draw(rarely(st.booleans()))
    stream = draw(rarely(st.booleans()))
    body = {
        "model": MODEL,
        "messages": draw(turns()),
        "tools": [
            {"type": "function", "function": {"name": name, "strict": draw(rarely(st.booleans()))}}
            for name in names
        ],
        "tool_choice": draw(st.sampled_from(choices)),
        "parallel_tool_calls": draw(rarely(st.booleans())),
        "response_format": draw(rarely(form)),
        "stream": stream,
        "stream_options": draw(rarely(st.just({"include_usage": True}))) if stream else None,
        "stop": draw(rarely(TEXT.filter(bool) | st.lists(TEXT.filter(bool), max_size=4))),
        "temperature": draw(rarely(NUMBER)),
        "top_p": draw(rarely(st.floats(0, 1))),
        "seed": draw(rarely(st.integers(-(2**63), 2**63 - 1))),
        "logprobs": logprobs,
        "top_logprobs": draw(rarely(st.integers(0, 20))) if logprobs else None,
        "reasoning_effort": draw(rarely(st.sampled_from(["none", *EFFORTS]))),
        "user": draw(rarely(TEXT.filter(bool))),
        "prompt_cache_key": draw(rarely(TEXT.filter(bool))),
        draw(st.sampled_from(["max_tokens", "max_completion_tokens"])): draw(rarely(st.integers(1, 99))),
    }
    return {key: value for key, value in body.items() if value is not None or draw(st.booleans())}


@given(bodies())
def test_every_parameter_reaches_the_engine(body: dict[str, Any]) -> None:
    must_call = body.get("tool_choice") not in (None, "auto", "none")
    in_a_form = (body.get("response_format") or {}).get("type", "text") != "text"
    request = generate_request(ChatRequest.model_validate_json(json.dumps(body)))
    if must_call and in_a_form:
        with pytest.raises(TreniError) as refused:
            check_generate(request)
        assert refused.value.kind == "constraint_with_calls"
    else:
        check_generate(request)
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    assert [tool.name for tool in request.tools] == [tool["function"]["name"] for tool in tools]
    assert request.constrain_calls == any(tool["function"].get("strict") for tool in tools)
    one_call = body.get("parallel_tool_calls") is False
    assert request.HasField("tool_choice") == (choice is not None or one_call)
    if isinstance(choice, dict):
        assert (request.tool_choice.mode, request.tool_choice.name) == ("tool", choice["function"]["name"])
    elif choice is not None:
        assert request.tool_choice.mode == choice
    assert request.tool_choice.one_call == one_call
    sampling = request.sampling
    assert sampling.temperature == pytest.approx(body.get("temperature") or 0, rel=1e-6, abs=1e-37)
    top_p = body.get("top_p")
    if top_p is not None:
        assert (
            sampling.top_p == pytest.approx(top_p, rel=1e-6) and sampling.top_p > 0
        ) or sampling.top_k == 1
    if body.get("seed") is not None:
        assert sampling.seed == body["seed"] % 2**64
    assert sampling.max_new_tokens == (body.get("max_tokens") or body.get("max_completion_tokens") or 0)
    stop = body.get("stop")
    assert list(request.stop) == ([stop] if isinstance(stop, str) else stop or [])
    assert bool(request.top_logprobs) == bool(body.get("logprobs"))
    assert request.top_logprobs >= (body.get("top_logprobs") or 0)
    form = body.get("response_format") or {"type": "text"}
    assert (request.constraint.WhichOneof("form") or "text") == form["type"]
    if form["type"] == "json_schema":
        assert json.loads(request.constraint.json_schema) == form["json_schema"]["schema"]
    effort = body.get("reasoning_effort")
    assert request.HasField("thinking") == (effort is not None)
    assert request.thinking.enabled == (effort not in (None, "none"))
    assert request.thinking.budget_tokens == EFFORTS.get(effort or "", 0)
    assert bool(request.cache_key) == bool(body.get("user") or body.get("prompt_cache_key"))


@given(turns())
def test_results_follow_their_turn_in_the_order_of_its_calls(messages: list[dict[str, Any]]) -> None:
    chat = ChatRequest.model_validate_json(json.dumps({"model": MODEL, "messages": messages}))
    told = list(contract_messages(chat.messages))
    assert len(told) == len(messages)
    called: list[str] = []
    for asked, message in zip(messages, told, strict=True):
        if message.role == "tool":
            assert message.content.endswith(called[0].removeprefix("f"))
            assert message.tool_name == called.pop(0)
            continue
        assert not called, "every call has its result before anybody speaks again"
        assert message.role == asked["role"].replace("developer", "system")
        assert message.name == (asked["name"] or "")
        called = [call.name for call in message.tool_calls]
    assert not called


def places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of everything in a JSON document but itself."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def told(body: bytes) -> TreniError | inference_pb2.GenerateRequest:
    """What a body comes to; anything but these two is a bug."""
    try:
        return generate_request(ChatRequest.model_validate_json(body))
    except ValidationError as error:
        return errors.of_validation(error, body)
    except TreniError as error:
        return error


@given(bodies(), st.data())
def test_a_body_with_something_else_in_one_place(body: dict[str, Any], data: st.DataObject) -> None:
    *path, last = data.draw(st.sampled_from(list(places(body))))
    node: Any = body
    for part in path:
        node = node[part]
    if data.draw(st.booleans()):
        node[last] = data.draw(JSON)
    elif isinstance(node, dict):
        node[data.draw(TEXT)] = data.draw(JSON)
    else:
        del node[last]
    result = told(json.dumps(body).encode())
    if isinstance(result, TreniError):
        said = errors.ErrorBody.model_validate_json(errors.body_of(result)).error
        assert errors.status_of(result) == 400
        assert isinstance(result, ParameterError)
        assert said.param is not None
        first = said.param.partition("[")[0].partition(".")[0]
        assert first in body or said.param.startswith('["') or result.kind == "missing_required_parameter"


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused_in_words(body: bytes) -> None:
    result = told(body)
    assert isinstance(result, TreniError)
    assert errors.status_of(result) == 400
    errors.ErrorBody.model_validate_json(errors.body_of(result))


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "assistant", "tool_calls": [0] * 100_000}]},
        {"messages": [{"role": "user", "content": [0] * 100_000}]},
        {"messages": [0] * 100_000},
        {"stop": [0] * 100_000},
        {f"{number:x}": 0 for number in range(30_000)},
        {"logit_bias": {f"{number:x}": "" for number in range(30_000)}},
    ],
)
def test_a_body_with_much_wrong_costs_no_more_than_one_with_little(body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    with pytest.raises(ValidationError) as refused:
        ChatRequest.model_validate_json(data)
    result = errors.of_validation(refused.value, data)
    assert refused.value.error_count() < 10 or result.kind == "body_invalid"


@given(*[TEXT] * 6)
def test_nobody_shares_a_prefix_unasked(a: str, b: str, c: str, d: str, e: str, f: str) -> None:
    one, other = cache_key(caller=a, user=b, key=c), cache_key(caller=d, user=e, key=f)
    assert (one == other) == ((a, b, c) == (d, e, f))
    assert cache_key(caller=a, user=None, key=None) == ""
    assert cache_key(caller=a, user=None, key=b) != cache_key(caller=a, user=b, key=None)


def test_a_whole_number_may_be_written_as_any() -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 3.0, "n": 1.0}
    assert generate_request(ChatRequest.model_validate_json(json.dumps(body))).sampling.max_new_tokens == 3


@pytest.mark.parametrize(
    ("more", "enabled", "budget"),
    [
        ({}, None, 0),
        ({"reasoning_effort": "none"}, False, 0),
        ({"reasoning_effort": "low"}, True, 512),
        ({"thinking_token_budget": 9}, True, 9),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True, 0),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, 0),
        ({"chat_template_kwargs": {"enable_thinking": True}, "thinking_token_budget": 9}, True, 9),
        ({"chat_template_kwargs": {}}, None, 0),
    ],
)
def test_thinking_is_asked_for_in_any_of_three_ways(
    more: dict[str, Any], enabled: bool | None, budget: int
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], **more}
    request = generate_request(ChatRequest.model_validate_json(json.dumps(body)))
    assert request.HasField("thinking") == (enabled is not None)
    assert request.thinking.enabled == bool(enabled)
    assert request.thinking.budget_tokens == budget

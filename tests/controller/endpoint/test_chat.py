"""What a chat completion is put together from, whatever a server sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.endpoint.chat import Completion, body_of
from controller.endpoint.failures import of_status
from treni.errors import Code, TreniError
from treni.text_gate import reading_of
from treni.v1 import common_pb2, inference_pb2


def fed(*deltas: dict[str, Any], reason: str = "stop") -> Completion:
    completion = Completion(model="m", turn=3)
    for delta in deltas:
        completion.feed(json.dumps({"choices": [{"delta": delta}]}).encode())
    completion.feed(json.dumps({"choices": [{"delta": {}, "finish_reason": reason}]}).encode())
    return completion


def a_piece(index: int | None, arguments: str, **more: str) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    place = {} if index is None else {"index": index}
    return {"tool_calls": [{**place, **more, "function": function}]}


def test_calls_in_pieces_become_whole_in_their_order() -> None:
    finish = fed(
        a_piece(1, '{"b"', id="two", name="second"),
        a_piece(0, '{"a": 1}', id="one", name="first"),
        a_piece(1, ": 2}"),
        reason="tool_calls",
    ).finish()
    assert [(call.id, call.name, call.arguments_json) for call in finish.tool_calls] == [
        ("one", "first", '{"a": 1}'),
        ("two", "second", '{"b": 2}'),
    ]


def test_calls_without_index_and_id_get_ids_unlike_those_of_other_turns() -> None:
    finish = fed(a_piece(None, "{}", name="first"), a_piece(None, "", name="second")).finish()
    ids = [call.id for call in finish.tool_calls]
    assert ids == ["t0003n000", "t0003n001"]
    assert all(len(one) == 9 and one.isalnum() for one in ids)
    assert [call.arguments_json for call in finish.tool_calls] == ["{}", "{}"]


@pytest.mark.parametrize("arguments", ["[1]", '{"a"', "7", "nonsense"])
def test_a_call_that_nobody_can_make_is_malformed_and_shown_to_the_model_again(arguments: str) -> None:
    finish = fed({"content": "Let me see. "}, a_piece(0, arguments, id="x", name="tool")).finish()
    assert not finish.tool_calls
    assert "tool" in finish.malformed_tool_call
    assert arguments in json.loads(finish.text.removeprefix("Let me see. "))[0]["arguments"]
    answered = inference_pb2.GenerateRequest(
        messages=[
            common_pb2.Message(role="assistant", content=finish.text),
            common_pb2.Message(role="tool", content='{"error": "write the call again"}'),
        ]
    )
    roles = [one["role"] for one in body_of(answered, model="m", parameters={}, omit=())["messages"]]
    assert roles == ["assistant", "user"], "no server takes the result of a call that it has not seen"


def test_reasoning_beside_the_content_is_no_part_of_it() -> None:
    reading = reading_of(fed({"reasoning_content": "hm"}, {"content": "<think> is a tag"}).finish())
    assert (reading.thinking, reading.content) == ("hm", "<think> is a tag")


def test_reasoning_spelt_out_in_the_content_is_read_off_it() -> None:
    reading = reading_of(fed({"content": "<think>hm</think>yes"}).finish())
    assert (reading.thinking, reading.content) == ("hm", "yes")


def test_an_answer_that_a_filter_kept_back_is_an_error() -> None:
    with pytest.raises(TreniError, match="filter"):
        fed({"content": "I"}, reason="content_filter").finish()


_keys = st.sampled_from(
    [
        "choices",
        "delta",
        "message",
        "tool_calls",
        "function",
        "index",
        "usage",
        "model",
        "content",
        "error",
        "id",
    ]
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)


@given(_json)
def test_any_json_is_read_or_refused_as_one_kind_of_error(data: Any) -> None:
    completion, refused = Completion(model="m", turn=0), None
    try:
        completion.feed(json.dumps(data).encode())
        completion.finish()
    except TreniError as error:
        refused = error
    if refused is not None:
        assert refused.kind in ("answer_malformed", "stream_error", "content_filtered")
        assert not refused.definite


@given(st.integers(100, 999))
def test_every_status_maps_and_only_a_refusal_is_definite(status: int) -> None:
    error = of_status(status, hop="model", said="x" * 10_000)
    assert error.foreign
    assert not (error.definite and not 300 <= status < 500)
    assert error.code is not Code.OK
    assert len(str(error)) < 1000

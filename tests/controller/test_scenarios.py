"""Scenarios: what each asks of the model and the tools, and that the calls it says are those it makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.loop import scenario_named
from controller.scenarios import SCENARIOS
from tests.controller.doubles import PlayedModel, completion, tool_turn
from tests.controller.test_loop import play
from treni.errors import Code, TreniError

CALL = ("calculator", '{"expression": "6*7"}')


@given(st.integers(min_value=0, max_value=5))
async def test_the_tool_loop_makes_the_calls_that_it_says(calls: int) -> None:
    turns = [*(tool_turn(CALL) for _ in range(calls)), completion("It is 42.")]
    played, tools = await play(PlayedModel(*turns))
    assert played.error is None
    attempts = played.recorder.record().attempts
    assert tuple(attempt.hop for attempt in attempts) == SCENARIOS["tool_loop"].steps(calls)
    assert len(tools.requests) == calls


async def test_a_single_turn_is_one_call_of_the_model_without_tools() -> None:
    model = PlayedModel(completion("It is 42."))
    played, tools = await play(model, scenario="single_turn")
    (request,) = model.requests
    assert list(request.tools) == []
    assert [(m.role, m.content) for m in request.messages] == [("user", "How much?")]
    assert played.shown == played.of("answer")[0].text == "It is 42."
    assert tuple(a.hop for a in played.recorder.record().attempts) == SCENARIOS["single_turn"].steps(0)
    assert tools.requests == []


async def test_a_call_that_nobody_offered_is_no_part_of_a_single_turn() -> None:
    played, tools = await play(PlayedModel(tool_turn(CALL, before="Let me see.")), scenario="single_turn")
    assert played.of("answer")[0].text == "Let me see."
    assert tools.requests == []


def test_a_single_turn_is_not_for_tasks_with_calls() -> None:
    with pytest.raises(ValueError, match="without tool calls"):
        SCENARIOS["single_turn"].steps(1)


def test_a_scenario_that_is_not_there_is_named() -> None:
    with pytest.raises(TreniError, match="tool_loop, single_turn") as refused:
        scenario_named("tol_loop")
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert scenario_named("") is SCENARIOS["tool_loop"]

"""A run in which the user says several things: one conversation, one cache key, and an answer to each."""

from __future__ import annotations

from typing import Any, cast

import pytest

from controller.policy import Policy
from controller.run import Run
from controller.server import validate
from tests.controller.doubles import PlayedModel, completion, failure, task, tool_turn
from tests.controller.test_loop import play
from treni.errors import Code, TreniError
from treni.limits import USER_TURNS
from treni.v1 import inference_pb2

CALL = ("calculator", '{"expression": "6*7"}')
ENTRY = ("ledger_append", '{"account": "rent", "amount": 42}')


async def test_what_the_user_says_next_stands_behind_the_answer_in_one_conversation() -> None:
    model = PlayedModel(tool_turn(CALL), completion("It is 42."), completion("You are welcome."))
    played, _ = await play(model, prompt="How much?", follow_ups=["Thanks."])
    assert played.error is None
    assert [answer.text for answer in played.of("answer")] == ["It is 42.", "You are welcome."]
    assert played.kinds[-1] == "answer"
    *_, last = model.requests
    assert [(message.role, message.content) for message in last.messages] == [
        ("user", "How much?"),
        ("assistant", ""),
        ("tool", '{"value": 42}'),
        ("assistant", "It is 42."),
        ("user", "Thanks."),
    ]
    assert {request.cache_key for request in model.requests} == {"r1"}


async def test_calls_are_counted_over_the_whole_run() -> None:
    model = PlayedModel(tool_turn(ENTRY), completion("Done."), tool_turn(ENTRY), completion("Again."))
    played, tools = await play(model, follow_ups=["The same."])
    assert [request.idempotency_key for request in tools.requests] == ["r1/0", "r1/1"]
    attempts = played.recorder.record().attempts
    assert [(one.hop, one.call_index) for one in attempts] == [
        ("model", 0),
        ("tool", 0),
        ("model", 1),
        ("model", 2),
        ("tool", 1),
        ("model", 3),
    ]


async def test_the_record_says_what_each_user_turn_took() -> None:
    model = PlayedModel(tool_turn(CALL), completion("It is 42.", tokens=7), completion("Yes.", tokens=2))
    played, _ = await play(model, follow_ups=["Sure?"])
    record = played.recorder.record()
    first, second = record.user_turns
    assert (first.turns, first.tools, second.turns, second.tools) == (2, 1, 1, 0)
    assert (first.usage.completion_tokens, second.usage.completion_tokens) == (11, 2)
    assert record.usage.completion_tokens == 13
    assert record.turns == 3


async def test_a_run_of_one_user_turn_says_nothing_of_them() -> None:
    played, _ = await play(PlayedModel(completion("It is 42.")))
    assert list(played.recorder.record().user_turns) == []


async def test_a_later_turn_that_fails_leaves_the_answers_before_it() -> None:
    model = PlayedModel(completion("It is 42."), [failure(Code.INVALID_ARGUMENT)])
    played, _ = await play(model, follow_ups=["Sure?", "Really?"])
    assert played.error is not None
    assert (played.error.kind, played.error.definite) == ("model_hop_failed", True)
    assert [answer.text for answer in played.of("answer")] == ["It is 42."]
    answered, failed = played.recorder.record().user_turns
    assert (answered.turns, failed.turns, failed.answered_s) == (1, 0, 0.0)


async def test_an_effect_of_an_earlier_turn_makes_a_later_failure_indefinite() -> None:
    model = PlayedModel(tool_turn(ENTRY), completion("Done."), [failure(Code.INVALID_ARGUMENT)])
    played, _ = await play(model, follow_ups=["Sure?"])
    assert played.error is not None
    assert not played.error.definite


async def test_the_policy_bounds_what_is_done_for_one_answer() -> None:
    policy = Policy(max_turns=2, max_tool_calls=1, max_malformed=0)
    turns = [step for _ in range(3) for step in (tool_turn(CALL), completion("It is 42."))]
    played, _ = await play(PlayedModel(*turns), policy=policy, follow_ups=["Again.", "Again."])
    assert played.error is None
    assert len(played.of("answer")) == 3
    beyond, _ = await play(
        PlayedModel(completion("Yes."), tool_turn(CALL), tool_turn(CALL)),
        policy=policy,
        follow_ups=["Go on."],
    )
    assert beyond.error is not None
    assert beyond.error.kind == "tool_call_limit"


async def test_single_turns_are_one_conversation_too() -> None:
    model = PlayedModel(completion("It is 42."), completion("You are welcome."))
    played, _ = await play(model, scenario="single_turn", follow_ups=["Thanks."])
    assert [answer.text for answer in played.of("answer")] == ["It is 42.", "You are welcome."]
    assert [message.role for message in model.requests[1].messages] == ["user", "assistant", "user"]
    assert list(model.requests[1].tools) == []


def test_an_answer_stands_in_the_conversation_once_though_the_next_turn_answers_otherwise() -> None:
    none = cast("Any", None)
    run = Run(model=none, tools=none, policy=Policy(), request=task(), offered={}, hops=none)
    run.hear("How much?")
    run.answer(inference_pb2.GenerateFinish(text="It is 42."))
    run.hear("Thanks.")  # whose scenario answers by itself
    run.hear("And now?")
    assert [message.content for message in run.conversation] == ["It is 42."]


@pytest.mark.parametrize(
    ("follow_ups", "kind"),
    [
        ([" \n"], "prompt_empty"),
        (["Yes.", ""], "prompt_empty"),
        (["x" * (64 * 1024 + 1)], "prompt_too_long"),
        (["x"] * USER_TURNS.most, "user_turns_too_many"),
    ],
)
def test_what_no_run_could_do_is_refused(follow_ups: list[str], kind: str) -> None:
    with pytest.raises(TreniError) as refused:
        validate(task(follow_ups=follow_ups))
    assert (refused.value.kind, refused.value.code) == (kind, Code.INVALID_ARGUMENT)


def test_as_many_user_turns_as_are_allowed_are_taken() -> None:
    validate(task(follow_ups=["x"] * (USER_TURNS.most - 1)))

"""The loop's logic over played completions (see doubles.py); the same loop over real services is tested beside."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal, Unpack

import pytest

from controller.deadline import Deadline
from controller.loop import AgentLoop
from controller.policy import Policy
from controller.ports import Call
from controller.recorder import Recorder
from tests.controller.doubles import (
    Handler,
    PlayedModel,
    PlayedTools,
    Step,
    TaskFields,
    VirtualClock,
    completion,
    failure,
    spec,
    task,
    tool_turn,
)
from treni.errors import Code, TreniError, invalid_argument
from treni.v1 import agent_pb2, common_pb2, inference_pb2, tools_pb2

SPECS = (spec("calculator"), spec("ledger_append", has_side_effects=True))


def answer_42(request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
    return tools_pb2.CallToolResponse(result_json='{"value": 42}', tool_s=0.5)


class Played:
    """One finished run."""

    def __init__(self, time: VirtualClock) -> None:
        self.time = time
        self.events: list[agent_pb2.RunEvent] = []
        self.error: TreniError | None = None
        self.recorder = Recorder(arm="external", clock=time.clock)

    def of(self, kind: str) -> list[Any]:
        return [getattr(event, kind) for event in self.events if event.WhichOneof("event") == kind]

    @property
    def kinds(self) -> list[str | None]:
        return [event.WhichOneof("event") for event in self.events]

    @property
    def shown(self) -> str:
        return "".join(delta.text for delta in self.of("text"))


async def play(
    model: PlayedModel,
    *,
    handler: Handler = answer_42,
    policy: Policy | None = None,
    time: VirtualClock | None = None,
    specs: Sequence[common_pb2.ToolSpec] = SPECS,
    **fields: Unpack[TaskFields],
) -> tuple[Played, PlayedTools]:
    time = VirtualClock() if time is None else time
    played = Played(time)
    tools = PlayedTools(specs, handler)
    loop = AgentLoop(model=model, tools=tools, policy=Policy() if policy is None else policy)
    run = loop.run(
        task(**fields), offered=specs, deadline=Deadline.after(60, clock=time.clock), recorder=played.recorder
    )
    try:
        async with aclosing(run) as events:
            async for event in events:
                played.events.append(event)
    except TreniError as error:
        played.error = error
    return played, tools


async def test_an_answer_streams_as_it_comes() -> None:
    played, tools = await play(PlayedModel(completion("It is a < b, surely.")))
    assert played.error is None
    assert played.kinds == ["text"] * (len(played.kinds) - 1) + ["answer"]
    assert len(played.kinds) > 5
    assert played.shown == played.of("answer")[0].text == "It is a < b, surely."
    assert tools.requests == []


async def test_a_tool_s_result_goes_back_to_the_model_with_the_call_as_written() -> None:
    arguments = '{ "expression" :"6*7"}'
    model = PlayedModel(tool_turn(("calculator", arguments), before="Let me see."), completion("It is 42."))
    played, tools = await play(model, request_index=9)
    assert [kind for kind in played.kinds if kind != "text"] == ["tool_call", "tool_result", "answer"]
    assert played.shown == "Let me see.\nIt is 42."
    assert played.of("tool_call")[0].arguments_json == arguments

    first, second = model.requests
    assert [(m.role, m.content) for m in first.messages] == [("user", "How much?")]
    assert [m.role for m in second.messages] == ["user", "assistant", "tool"]
    assert second.messages[1].content == "Let me see."
    assert second.messages[1].tool_calls[0].arguments_json == arguments
    assert (second.messages[2].tool_name, second.messages[2].content) == ("calculator", '{"value": 42}')
    assert {request.cache_key for request in model.requests} == {"r1"}
    assert [tool.name for tool in first.tools] == ["calculator", "ledger_append"]

    (request,) = tools.requests
    assert (request.run_id, request.task_id, request.attempt) == ("r1", "t1", 0)
    assert request.idempotency_key == "r1/0"
    assert tools.calls[0].key.request_index == 9


async def test_several_calls_of_a_turn_run_in_order_with_keys_of_their_own() -> None:
    model = PlayedModel(
        tool_turn(("calculator", '{"n":0}'), ("ledger_append", '{"n":1}')),
        tool_turn(("calculator", '{"n":2}')),
        completion("Done."),
    )
    played, tools = await play(model)
    assert [json.loads(request.arguments_json)["n"] for request in tools.requests] == [0, 1, 2]
    assert [request.idempotency_key for request in tools.requests] == ["r1/0", "r1/1", "r1/2"]
    assert [call.key.call_index for call in tools.calls] == [0, 1, 2]
    assert [call.key.call_index for call in model.calls] == [0, 1, 2]
    assert [m.role for m in model.requests[1].messages] == ["user", "assistant", "tool", "tool"]
    assert played.of("answer")[0].text == "Done."


async def test_retries_of_a_call_keep_its_key_and_count_tries() -> None:
    def fails_twice(request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        if request.attempt < 2:
            raise failure(Code.UNAVAILABLE)
        return answer_42(request, call)

    model = PlayedModel(tool_turn(("ledger_append", "{}")), completion("Done."))
    played, tools = await play(model, handler=fails_twice, policy=Policy(retries=2))
    assert [(r.attempt, r.idempotency_key) for r in tools.requests] == [(0, "r1/0"), (1, "r1/0"), (2, "r1/0")]
    record = played.recorder.record()
    assert [a.outcome for a in record.attempts if a.hop == "tool"] == ["unknown", "unknown", "ok"]
    assert record.backoff_s == pytest.approx(sum(played.time.sleeps))
    assert record.total_s == pytest.approx(record.backoff_s)


async def test_without_idempotency_there_are_no_keys() -> None:
    model = PlayedModel(tool_turn(("ledger_append", "{}")), completion("Done."))
    played, tools = await play(model, no_idempotency=True)
    assert [request.idempotency_key for request in tools.requests] == [""]
    assert [attempt.idempotency_key for attempt in played.recorder.record().attempts] == ["", "", ""]


@pytest.mark.parametrize("held", [False, True])
async def test_calls_are_held_to_their_schemas_in_every_turn_if_the_run_asks_for_it(held: bool) -> None:
    turns = [tool_turn(("calculator", "{}")), completion("Done.")]
    turns[0][-1].finish.constrained = held
    model = PlayedModel(*turns)
    played, _ = await play(model, constrain_calls=held)
    assert [request.constrain_calls for request in model.requests] == [held, held]
    assert played.recorder.record().constrained == held


async def test_a_refusal_is_read_by_the_model_and_not_retried() -> None:
    def refuses_first(request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        if request.arguments_json == "{}":
            raise invalid_argument(
                "arguments_invalid", expected="an account", got="none", todo='did you mean "rent"?'
            )
        return answer_42(request, call)

    model = PlayedModel(
        tool_turn(("ledger_append", "{}")), tool_turn(("ledger_append", '{"a":1}')), completion("Done.")
    )
    played, tools = await play(model, handler=refuses_first, policy=Policy(retries=3))
    assert played.error is None
    assert len(tools.requests) == 2
    assert json.loads(model.requests[1].messages[-1].content) == {
        "error": 'expected an account; got none; did you mean "rent"?'
    }
    assert [result.is_error for result in played.of("tool_result")] == [True, False]
    assert [use.is_error for use in played.recorder.record().tools] == [True, False]
    assert played.time.sleeps == []


async def test_an_unknown_tool_costs_no_hop_and_names_the_nearest() -> None:
    model = PlayedModel(tool_turn(("Calculater", "{}")), completion("Done."))
    played, tools = await play(model)
    assert tools.requests == []
    assert json.loads(played.of("tool_result")[0].content_json) == {
        "error": 'expected the name of a tool; got "Calculater"; did you mean "calculator"?'
    }


@pytest.mark.parametrize("offered", ["NFC", "NFD"])
async def test_a_tool_s_name_is_compared_however_it_is_encoded(offered: Literal["NFC", "NFD"]) -> None:
    specs = (spec(unicodedata.normalize(offered, "größe")),)
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for form in forms:
        model = PlayedModel(
            tool_turn((unicodedata.normalize(form, "größe"), "{}")),
            tool_turn((unicodedata.normalize(form, "Grösse"), "{}")),
            completion("Done."),
        )
        played, tools = await play(model, specs=specs)
        assert [request.name for request in tools.requests] == [specs[0].name]
        assert (
            f'did you mean "{specs[0].name}"?'
            in json.loads(played.of("tool_result")[1].content_json)["error"]
        )


async def test_a_malformed_call_is_given_back_and_not_shown() -> None:
    broken = '<tool_call>{"name": "calculator"</tool_call>'
    model = PlayedModel(completion(broken, malformed="tool call 1: no arguments"), completion("Sorry: 42."))
    played, tools = await play(model)
    assert played.shown == "Sorry: 42."
    assert tools.requests == []
    assert [(m.role, m.content) for m in model.requests[1].messages][1] == ("assistant", broken)
    assert "tool call 1: no arguments" in json.loads(model.requests[1].messages[2].content)["error"]


async def test_a_turn_with_one_malformed_call_runs_none_of_its_calls() -> None:
    model = PlayedModel(
        completion("<tool_call>...", calls=[("calculator", "{}")], malformed="tool call 2: no name"),
        completion("Done."),
    )
    played, tools = await play(model)
    assert played.error is None
    assert tools.requests == []


@pytest.mark.parametrize(
    ("completions", "policy", "kind"),
    [
        ([completion("<tool_call>", malformed="x")] * 3, Policy(max_malformed=2), "malformed_tool_call"),
        ([tool_turn(("calculator", "{}"))] * 3, Policy(max_turns=3), "turn_limit"),
        ([tool_turn(*[("calculator", "{}")] * 3)], Policy(max_tool_calls=2), "tool_call_limit"),
        ([tool_turn(("nonsense", "{}"))] * 3, Policy(max_tool_calls=2), "tool_call_limit"),
    ],
)
async def test_the_model_cannot_go_on_for_ever(completions: list[Any], policy: Policy, kind: str) -> None:
    played, _ = await play(PlayedModel(*completions), policy=policy)
    assert played.error is not None
    assert (played.error.kind, played.error.code, played.error.definite) == (
        kind,
        Code.FAILED_PRECONDITION,
        True,
    )
    assert "answer" not in played.kinds


async def test_a_tool_hop_that_stays_down_ends_the_run() -> None:
    def down(request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        raise failure(Code.UNAVAILABLE, definite=True, kind="injected")

    played, tools = await play(PlayedModel(tool_turn(("calculator", "{}"))), handler=down)
    assert len(tools.requests) == 2
    assert played.error is not None
    assert (played.error.kind, played.error.code, played.error.hop) == (
        "tool_hop_failed",
        Code.UNAVAILABLE,
        "tool",
    )
    assert played.error.definite
    assert "attempt 2 of at most 2" in str(played.error)
    assert played.kinds == ["tool_call"]


@pytest.mark.parametrize(("tool", "definite"), [("calculator", True), ("ledger_append", False)])
async def test_a_run_that_had_an_effect_did_not_definitely_fail(tool: str, definite: bool) -> None:
    model = PlayedModel(tool_turn((tool, "{}")), [failure(Code.UNAVAILABLE, definite=True)])
    played, _ = await play(model, policy=Policy(retries=0))
    assert played.error is not None
    assert (played.error.kind, played.error.definite) == ("model_hop_failed", definite)


async def test_an_effect_that_certainly_did_not_happen_leaves_the_failure_definite() -> None:
    def refuses(request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        raise invalid_argument("arguments_invalid", expected="an account", got="none")

    model = PlayedModel(tool_turn(("ledger_append", "{}")), [failure(Code.UNAVAILABLE, definite=True)])
    played, _ = await play(model, handler=refuses, policy=Policy(retries=0))
    assert played.error is not None
    assert played.error.definite


async def test_a_stream_that_breaks_before_the_first_text_is_asked_for_again() -> None:
    model = PlayedModel([failure(Code.UNAVAILABLE)], completion("Fine."))
    played, _ = await play(model)
    assert played.error is None
    assert played.shown == "Fine."
    assert [(a.call_index, a.attempt, a.outcome) for a in played.recorder.record().attempts] == [
        (0, 0, "unknown"),
        (0, 1, "ok"),
    ]


async def test_a_stream_that_breaks_within_a_tool_call_is_asked_for_again() -> None:
    broken: list[Step] = [*tool_turn(("calculator", "{}"))[:5], failure(Code.UNAVAILABLE)]
    model = PlayedModel(broken, tool_turn(("calculator", "{}")), completion("42."))
    played, tools = await play(model)
    assert played.error is None
    assert len(tools.requests) == 1
    assert played.shown == "42."


async def test_a_stream_that_breaks_after_text_ends_the_run() -> None:
    model = PlayedModel([*completion("It is 42.")[:2], failure(Code.UNAVAILABLE)], completion("Other."))
    played, _ = await play(model, policy=Policy(retries=3))
    assert played.error is not None
    assert played.error.kind == "model_hop_failed"
    assert played.shown == "It is "
    assert len(model.requests) == 1


async def test_a_stream_without_a_finish_is_an_error() -> None:
    model = PlayedModel(completion("It is 42.")[:-1])
    played, _ = await play(model)
    assert played.error is not None
    assert played.error.kind == "model_hop_failed"
    assert "finish" in played.error.expected


async def test_a_finish_counts_only_with_its_own_stream() -> None:
    silent = [chunk for chunk in tool_turn(("calculator", "{}")) if chunk.HasField("finish")]
    model = PlayedModel([*silent, failure(Code.UNAVAILABLE)], completion("")[:-1])
    played, tools = await play(model)
    assert played.error is not None
    assert played.error.kind == "model_hop_failed"
    assert tools.requests == []


async def test_every_stream_is_closed() -> None:
    model = PlayedModel([failure(Code.UNAVAILABLE)], completion("A long answer."))
    loop = AgentLoop(model=model, tools=PlayedTools(SPECS, answer_42), policy=Policy(backoff_initial_s=0.0))
    run = loop.run(task(), offered=SPECS, deadline=Deadline.after(60), recorder=Recorder(arm="external"))
    async with aclosing(run) as events:
        async for _ in events:
            break
    assert model.closed == 2


async def test_the_record_sums_the_turns_and_tells_waiting_from_work() -> None:
    time = VirtualClock()

    class SlowModel(PlayedModel):
        async def generate(
            self, request: inference_pb2.GenerateRequest, call: Call
        ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
            async for chunk in super().generate(request, call):
                time.now_s += 1.0
                yield chunk
            time.now_s += 1.0

    def slow(request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        time.now_s += 0.125
        return answer_42(request, call)

    model = SlowModel(tool_turn(("calculator", "{}")), completion("Long enough", chunk_size=100, tokens=12))
    first_turn_chunks = len(tool_turn(("calculator", "{}")))
    played, _ = await play(model, handler=slow, time=time)
    time.now_s += 0.5
    record = played.recorder.record()
    assert record.turns == 2
    assert record.total_s == pytest.approx(first_turn_chunks + 1 + 0.125 + 3 + 0.5)
    assert record.loop_s == pytest.approx(0.5)
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (20, 16)
    assert record.usage.cached_prompt_tokens == 10
    assert (record.engine.total_s, record.engine.prefill_s) == (1.0, 0.5)
    assert (record.backend, record.device, record.model) == ("numpy", "cpu", "played")
    assert (record.tools[0].name, record.tools[0].result_json, record.tools[0].tool_s) == (
        "calculator",
        '{"value": 42}',
        0.5,
    )
    assert [(a.hop, a.name, a.code) for a in record.attempts] == [
        ("model", "", "OK"),
        ("tool", "calculator", "OK"),
        ("model", "", "OK"),
    ]

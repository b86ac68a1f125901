"""Runs whose calls nobody planned: what follows from the calls that they made, and what does not."""

from __future__ import annotations

import pytest

from matrices.arms.arm import Comparison
from matrices.arms.endpoint import ENDPOINT
from matrices.arms.external import EXTERNAL
from matrices.arms.internal import INTERNAL
from matrices.arms.own_agent import OWN_AGENT
from matrices.evidence.resolution import resolve, steps_made
from matrices.evidence.runs import Run
from matrices.planning.expected import expectation_of
from matrices.planning.open_rules import refuse_unknowable
from matrices.planning.plan import PlannedCell, plan_cell
from matrices.spec.profiles import Profile, select_profiles
from matrices.spec.suites import Suite, Task
from treni.errors import TreniError
from treni.v1 import agent_pb2

TOOLS = ("calculator", "ledger_append")
ASKED = Task.model_validate({"id": "a", "prompt": "Which?", "answer": "this", "tools": list(TOOLS)})
TOLD = Task.model_validate(
    {"id": "b", "prompt": "Which?", "expect": {"answer": "this", "calls": []}, "tools": list(TOOLS)}
)


def a_cell(
    *tasks: Task, compared: object = ENDPOINT, site: str = "tool", by: str = "attempt", every: int = 2
) -> PlannedCell:
    profile = Profile.model_validate(
        {
            "name": "m01",
            "title": "of the tests",
            "policy": {"retries": 1},
            "faults": {"site": site, "by": by, "warmup": 0, "rules": [{"kind": "status", "every": every}]},
        }
    )
    comparison = Comparison(baseline=INTERNAL, compared=compared)  # type: ignore[arg-type]
    return plan_cell(profile, Suite(name="s", runs=(tasks,)), comparison=comparison, runs=1)


def a_record(*attempts: agent_pb2.Attempt, tools: tuple[agent_pb2.ToolUse, ...] = ()) -> agent_pb2.RunRecord:
    return agent_pb2.RunRecord(attempts=attempts, tools=tools)


def at_tool(
    call: int,
    nth: int,
    name: str,
    outcome: str = "ok",
    *,
    code: str = "",
    fault: str = "",
    arguments: str = "",
) -> agent_pb2.Attempt:
    return agent_pb2.Attempt(
        hop="tool",
        call_index=call,
        attempt=nth,
        name=name,
        outcome=outcome,
        code=code or {"ok": "OK", "fail": "UNAVAILABLE"}[outcome],
        fault_id=fault,
        arguments_json=arguments,
    )


def at_model(call: int) -> agent_pb2.Attempt:
    return agent_pb2.Attempt(hop="model", call_index=call, outcome="ok", code="OK")


def a_use(name: str, arguments: str = "{}", *, error: bool = False) -> agent_pb2.ToolUse:
    return agent_pb2.ToolUse(name=name, arguments_json=arguments, result_json="{}", is_error=error)


def a_run(arm: str, record: agent_pb2.RunRecord) -> Run:
    return Run(pair=None, arm=arm, outcome=None, record=record)  # type: ignore[arg-type]


def test_a_task_that_tells_nothing_is_open_and_one_without_tools_is_not() -> None:
    bare = Task.model_validate({"id": "c", "prompt": "Which?", "answer": "this"})
    assert (ASKED.told, TOLD.told, bare.told) == (False, True, True)
    expected = expectation_of(a_cell(ASKED, TOLD, bare))
    assert [pair.runs["internal"].open for pair in expected.pairs] == [True, False, False]
    assert [pair.runs["endpoint"].open for pair in expected.pairs] == [True, True, True]
    assert expected.unforeseen == {"internal", "endpoint"}


def test_the_schedule_is_followed_over_the_calls_that_were_made() -> None:
    """Every second attempt at a tool is refused, counted over both runs; the retry goes through."""
    cell = a_cell(ASKED, TOLD)
    first = a_record(
        at_model(0),
        at_tool(0, 0, "calculator"),
        at_model(1),
        at_tool(1, 0, "ledger_append", "fail", fault="f", arguments='{"account": "x", "amount": 1}'),
        at_tool(1, 1, "ledger_append", arguments='{"account": "x", "amount": 1}'),
        at_model(2),
        tools=(a_use("nonsense"), a_use("calculator"), a_use("ledger_append")),
    )
    second = a_record(at_model(0), at_tool(0, 0, "calculator"), at_model(1), tools=(a_use("calculator"),))
    runs = {
        0: {"endpoint": a_run("endpoint", first)},
        1: {"endpoint": a_run("endpoint", second)},
    }
    announced = expectation_of(cell)
    expected = resolve(announced, runs)
    one, other = (pair.runs["endpoint"] for pair in expected.pairs)
    assert not one.open
    assert [(made.hop, made.call_index, made.attempt, made.outcome) for made in one.attempts] == [
        ("model", 0, 0, "ok"),
        ("tool", 0, 0, "ok"),
        ("model", 1, 0, "ok"),
        ("tool", 1, 0, "fail"),
        ("tool", 1, 1, "ok"),
        ("model", 2, 0, "ok"),
    ]
    assert [(effect.account, effect.amount) for effect in one.effects] == [("x", 1)]
    # The count goes on: attempts 2 and 3 were those of the first run's second call.
    assert [made.outcome for made in other.attempts] == ["ok", "fail", "ok", "ok"]
    assert expected.counts({0, 1})["endpoint"] == announced.counts(set())["endpoint"] + 5
    assert [pair.stratum for pair in expected.pairs] == [pair.stratum for pair in announced.pairs]
    # What nobody ran yet, or left no record, stays open.
    assert expected.pairs[0].runs["internal"].open


def test_a_refusal_of_a_tool_is_no_fault_whatever_its_status() -> None:
    record = a_record(
        at_model(0),
        at_tool(0, 0, "calculator", "fail", code="NOT_FOUND"),
        at_model(1),
        tools=(a_use("calculator", error=True),),
    )
    (_, step, _) = steps_made(record)
    assert step.call is not None
    assert (step.call.refused, step.refusal) == (True, "NOT_FOUND")
    expected = resolve(expectation_of(a_cell(ASKED, every=99)), {0: {"internal": a_run("internal", record)}})
    assert [(made.outcome, made.code) for made in expected.pairs[0].runs["internal"].attempts] == [
        ("ok", "OK"),
        ("fail", "NOT_FOUND"),
        ("ok", "OK"),
    ]


def test_a_black_box_is_expected_to_be_called_once_and_meets_no_fault_of_what_it_calls() -> None:
    cell = a_cell(TOLD, compared=OWN_AGENT)
    assert not cell.schedules_on("agent")
    (pair,) = expectation_of(cell).pairs
    run = pair.runs["agent"]
    assert [(made.hop, made.outcome) for made in run.attempts] == [("agent", "ok")]
    assert (run.calls, run.turns, run.effects, run.open) == (None, None, (), False)


@pytest.mark.parametrize("name", ["b01", "n04"])
def test_faults_that_harm_hosts_are_refused_where_nobody_knows_the_calls(name: str) -> None:
    (profile,) = select_profiles(name)
    comparison = Comparison(baseline=EXTERNAL, compared=ENDPOINT)
    cell = plan_cell(profile, Suite(name="s", runs=((TOLD,),)), comparison=comparison, runs=1)
    with pytest.raises(TreniError) as refused:
        refuse_unknowable(cell)
    assert refused.value.kind == "calls_unknown"


def test_a_record_that_counts_its_calls_otherwise_is_not_followed() -> None:
    record = a_record(at_model(0), at_tool(4, 0, "calculator"), at_model(1), tools=(a_use("calculator"),))
    expected = resolve(expectation_of(a_cell(ASKED, every=99)), {0: {"internal": a_run("internal", record)}})
    assert [(made.hop, made.call_index) for made in expected.pairs[0].runs["internal"].attempts] == [
        ("model", 0),
        ("tool", 0),
        ("model", 1),
    ]

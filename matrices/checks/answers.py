"""How a run ended against what plan and suite say: its answers graded again, its calls, or its error."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from matrices.checks.finding import MAX_QUOTED_CHARS, Finding, Say, differs
from matrices.checks.user_turns import of_answers
from matrices.evidence.runs import Run, completed_calls
from matrices.planning.expectation import Expectation, ExpectedRun
from matrices.spec.suites import ExpectedCall, Task
from treni.v1 import agent_pb2

_ERROR = ("code", "kind", "definite", "hop", "fault_id")
"""What the plan says of a run's error; the message is free text."""


def of_answer(
    run: Run, task: Task, expected: ExpectedRun, of_cell: Expectation, *, say: Say
) -> Iterator[Finding]:
    """Findings about the outcome, the answers and the tool calls; a wrong answer is one where the cell must pass."""
    yield from of_shape(run, say)
    yield from of_answers(run, task, must_pass=of_cell.must_pass, say=say)
    if run.record is None:
        if not expected.lost or run.ok:
            yield say(
                "record_missing", "an answer without a record" if run.ok else "an error without a record"
            )
        return
    if expected.calls is None:
        yield from _of_made_calls(run.record, expected, say)
    else:
        yield from _of_calls(run.record, expected.calls, of_cell.foreign, say)
    if expected.turns is not None and run.record.turns != expected.turns:
        yield say("calls_wrong", differs("turns", expected.turns, run.record.turns))


def of_shape(run: Run, say: Say) -> Iterator[Finding]:
    """An answered run has an answer and no error; any other has an error and neither answer nor grade."""
    outcome = run.outcome
    if run.ok and (outcome.error is not None or outcome.answer is None):
        yield say("outcome_inconsistent", "an ok run has an answer and no error")
    if not run.ok:
        if outcome.error is None:
            yield say("outcome_inconsistent", f"{outcome.outcome}, and no error")
        elif outcome.error.definite != (outcome.outcome == "fail"):
            yield say("outcome_inconsistent", f"{outcome.outcome}, and definite is {outcome.error.definite}")
        if outcome.answer is not None or outcome.correct is not None:
            yield say("outcome_inconsistent", f"{outcome.outcome}, with an answer or a grade")


def _of_made_calls(record: agent_pb2.RunRecord, expected: ExpectedRun, say: Say) -> Iterator[Finding]:
    """Of calls that nobody planned: each that was answered on the hop is told of with what came of it."""
    if expected.turns is None:
        return  # nobody sees them
    ended = {one.call_index: one for one in expected.attempts if one.hop == "tool"}
    uses = completed_calls(record)
    answered = {index for index, one in ended.items() if one.outcome == "ok" or one.kinds is None}
    if answered != set(uses):
        yield say("calls_wrong", differs("tool calls answered", sorted(answered), sorted(uses)))
    for index in answered & set(uses):
        if uses[index].is_error != (ended[index].kinds is None):
            yield say(
                "calls_wrong",
                f"call {index}: {differs('refused', not uses[index].is_error, uses[index].is_error)}",
            )


def _of_calls(
    record: agent_pb2.RunRecord, expected: tuple[ExpectedCall, ...], foreign: Collection[str], say: Say
) -> Iterator[Finding]:
    uses = record.tools
    if len(uses) != len(expected):
        yield say("calls_wrong", differs("tool calls", len(expected), len(uses)))
    for index, (call, use) in enumerate(zip(expected, uses, strict=False)):
        for what, want, got in (
            ("tool", call.name, use.name),
            ("arguments", call.arguments, _json(use.arguments_json)),
            ("refused", call.refused, use.is_error),
            ("result", "as its tool gives one", _result(call, use, foreign=call.name in foreign)),
        ):
            if want != got:
                yield say("calls_wrong", f"call {index}: {differs(what, want, got)}")


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _result(call: ExpectedCall, use: agent_pb2.ToolUse, *, foreign: bool) -> str:
    """ "as its tool gives one", or the result where no tool gives such a one for the call.

    Of a `foreign` tool nothing is known but that a result is an object, and what a refusal looks like.
    """
    result = _json(use.result_json)
    if not isinstance(result, dict):
        return use.result_json
    if (list(result) == ["error"]) != call.refused and not (foreign and not call.refused):
        return use.result_json
    if not foreign and "recorded" in result and result != {"recorded": call.arguments}:
        return use.result_json
    return "as its tool gives one"


def of_error(run: Run, expected: ExpectedRun, say: Say) -> Iterator[Finding]:
    """Findings about whether the run failed, and whether its error is the one that the plan gives."""
    error = run.outcome.error
    said = "no error given"
    if error is not None:
        where = f"{error.hop} hop" if error.hop else "no hop"
        said = f"{error.code} {error.kind} at {where}: {error.message[:MAX_QUOTED_CHARS]}"
    if not run.ok and expected.ok:
        yield say("error_unplanned", said)
    if run.ok and not expected.ok:
        yield say("error_absent", "the schedule predicts an error")
    last = run.attempts[-1] if run.attempts else None
    unexplained = last is None or last.outcome == "ok" or not last.fault_id
    if not run.ok and unexplained and not (expected.lost and is_error(run, expected)):
        yield say("error_unexplained", f"no fault caused it: {said}")
    if run.retries != expected.retries and not expected.lost:
        yield say("retries_unplanned", f"expected {expected.retries}, got {run.retries}")
    want = expected.error
    if run.ok or error is None or want is None:
        return
    if expected.hurried and error.kind == "deadline_exceeded":
        return
    for name in _ERROR:
        if getattr(want, name) != getattr(error, name):
            yield say("error_wrong", differs(name, getattr(want, name), getattr(error, name)))


def is_error(run: Run, expected: ExpectedRun) -> bool:
    """Whether the run ended with the error that the plan gives."""
    error, want = run.outcome.error, expected.error
    if error is None or want is None:
        return False
    return all(getattr(want, name) == getattr(error, name) for name in _ERROR)

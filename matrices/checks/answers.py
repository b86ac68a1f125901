"""How a run ended against what plan and suite say: its answers graded again, its calls, or its error."""

from __future__ import annotations

import json
from collections.abc import Iterator

from matrices.checks.finding import MAX_QUOTED_CHARS, Finding, Say, differs
from matrices.checks.user_turns import of_answers
from matrices.evidence.runs import Run
from matrices.planning.expectation import ExpectedRun
from matrices.spec.suites import ExpectedCall, Task
from treni.v1 import agent_pb2

_ERROR = ("code", "kind", "definite", "hop", "fault_id")
"""What the plan says of a run's error; the message is free text."""


def of_answer(run: Run, task: Task, expected: ExpectedRun, *, must_pass: bool, say: Say) -> Iterator[Finding]:
    """Findings about the outcome, the answers and the tool calls; `must_pass`: a wrong answer is one, too."""
    yield from of_shape(run, say)
    yield from of_answers(run, task, must_pass=must_pass, say=say)
    if run.record is None:
        if not expected.lost or run.ok:
            yield say(
                "record_missing", "an answer without a record" if run.ok else "an error without a record"
            )
        return
    yield from _of_calls(run.record, expected, say)
    if run.record.turns != expected.turns:
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


def _of_calls(record: agent_pb2.RunRecord, expected: ExpectedRun, say: Say) -> Iterator[Finding]:
    uses = record.tools
    if len(uses) != len(expected.calls):
        yield say("calls_wrong", differs("tool calls", len(expected.calls), len(uses)))
    for index, (call, use) in enumerate(zip(expected.calls, uses, strict=False)):
        for what, want, got in (
            ("tool", call.name, use.name),
            ("arguments", call.arguments, _json(use.arguments_json)),
            ("refused", call.refused, use.is_error),
            ("result", "as its tool gives one", _result(call, use)),
        ):
            if want != got:
                yield say("calls_wrong", f"call {index}: {differs(what, want, got)}")


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _result(call: ExpectedCall, use: agent_pb2.ToolUse) -> str:
    """ "as its tool gives one", or the result where no tool gives such a one for the call."""
    result = _json(use.result_json)
    if not isinstance(result, dict) or (list(result) == ["error"]) != call.refused:
        return use.result_json
    if "recorded" in result and result != {"recorded": call.arguments}:
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

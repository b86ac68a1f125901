"""The attempts of a run against the trace that the plan gives for it: what, in which order, how ended, how long."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest

from chaos.faults import Struck
from matrices.checks.answers import is_error
from matrices.checks.finding import Finding, FindingKind, Say, differs
from matrices.checks.tolerances import CLOCK_S, LATE_S
from matrices.evidence.runs import Run, completed_calls
from matrices.planning.expectation import Expectation, ExpectedAttempt, ExpectedRun
from treni.errors import Code
from treni.v1 import agent_pb2

Wrong = tuple[FindingKind, str]


def of_attempts(run: Run, expected: ExpectedRun, of_cell: Expectation, *, say: Say) -> Iterator[Finding]:
    """Findings about the attempts in the run's record, one by one, and about the time between them."""
    made, hops = run.attempts, of_cell.comparison.arm(run.arm).hops
    for want, got in zip_longest(expected.attempts, made):
        if want is None or got is None:
            detail = differs("attempts", len(expected.attempts), len(made))
            first = f"{got.hop} call {got.call_index} attempt {got.attempt}" if want is None else want.where
            yield say("attempt_wrong", f"{detail}; the first one without its like is {first}")
            break
        place = (want.hop, want.call_index, want.attempt)
        if place != (got.hop, got.call_index, got.attempt):
            # Whatever follows has slipped too, and would say the same again.
            there = f"{got.hop} call {got.call_index} attempt {got.attempt}"
            yield say("attempt_wrong", differs("attempt", want.where, there))
            break
        wrong = [
            *_identity(want, got, run.outcome.run_id if of_cell.idempotency else None),
            *_ending(want, got, hurried=expected.hurried),
            *_connection(want, got, has_hop=want.hop in hops),
            *_duration(want, got, run, of_cell, hurried=expected.hurried),
        ]
        for kind, detail in wrong:
            yield say(kind, f"{want.where}: {detail}")
    for kind, detail in _between(run, expected.attempts, made, late_s(of_cell, run.pair.pair)):
        yield say(kind, detail)


def late_s(of_cell: Expectation, pair: int) -> float:
    """How much later than planned a process may act in the pair: requests in flight wait for one another."""
    return LATE_S * of_cell.in_flight * of_cell.slow(pair) + of_cell.standstill_s


def observed(want: ExpectedAttempt, run: Run, expected: ExpectedRun, of_cell: Expectation) -> bool:
    """Whether the run has an attempt that met the fault of `want` and ended as that fault says: code, kind, time.

    A run whose record is lost to its fault shows it by how it ended, and with it whatever came before; one whose answer
    is late by its latency.
    """
    assert want.fault is not None
    hurried, entry = expected.hurried, expected.entry
    never_told = entry is not None and entry.outcome != "ok"
    if never_told or (expected.lost and want is expected.attempts[-1]):
        return run.record is None and is_error(run, expected)
    if want is entry:
        return run.outcome.latency_s >= want.held_s - CLOCK_S
    if want.fault.site == "host":
        return any(got.fault_id == want.fault.id and _met(want, got) for got in run.attempts)
    return any(
        got.fault_id == want.fault.id
        and not [*_ending(want, got, hurried=hurried), *_duration(want, got, run, of_cell, hurried=hurried)]
        for got in run.attempts
    )


def _met(want: ExpectedAttempt, got: agent_pb2.Attempt) -> bool:
    """Whether an attempt ended as one can whose host was struck; how long striking took is the host's matter."""
    assert want.fault is not None
    if want.outcome == "ok" and got.outcome != "ok":
        return got.code in want.fault.kind.codes
    return got.duration_s >= want.held_s - CLOCK_S and not [*_ending(want, got, hurried=False)]


def _identity(want: ExpectedAttempt, got: agent_pb2.Attempt, run_id: str | None) -> Iterator[Wrong]:
    """`run_id` None: no keys are sent."""
    if want.name != got.name:
        yield "attempt_wrong", differs("tool", want.name, got.name)
    fault_id = "" if want.fault is None else want.fault.id
    if fault_id != got.fault_id:
        yield "attempt_wrong", differs("fault", fault_id or "none", got.fault_id or "none")
    key = f"{run_id}/{want.call_index}" if want.hop == "tool" and run_id is not None else ""
    if key != got.idempotency_key:
        yield "attempt_wrong", differs("idempotency key", key or "none", got.idempotency_key or "none")


def _ending(want: ExpectedAttempt, got: agent_pb2.Attempt, *, hurried: bool) -> Iterator[Wrong]:
    by_deadline = hurried and got.code == Code.DEADLINE_EXCEEDED.name
    if (want.outcome, want.code) != (got.outcome, got.code) and not by_deadline:
        unexplained = want.fault is None and got.outcome != "ok"
        ended = f"{got.outcome} {got.code} {got.kind} {got.detail}".rstrip()
        detail = differs("ending", f"{want.outcome} {want.code}", ended)
        yield "attempt_unexplained" if unexplained else "attempt_wrong", detail
    elif want.kinds is not None and got.kind not in want.kinds and not by_deadline:
        yield "attempt_wrong", differs("error kind", "/".join(sorted(want.kinds)) or "none", got.kind)
    if not (got.outcome == "ok") == (got.kind == "") == (got.detail == ""):
        yield "attempt_wrong", f"{got.outcome}, with the error {got.kind!r} {got.detail!r}"


def _connection(want: ExpectedAttempt, got: agent_pb2.Attempt, *, has_hop: bool) -> Iterator[Wrong]:
    allowed = {"none"}
    if has_hop:
        allowed = {"reused", "new"} if want.fault is None else {"faulted"}
    if got.connection not in allowed:
        yield "connection_wrong", differs("connection", "/".join(sorted(allowed)), got.connection)


def _duration(
    want: ExpectedAttempt, got: agent_pb2.Attempt, run: Run, of_cell: Expectation, *, hurried: bool
) -> Iterator[Wrong]:
    least_s, most_s = 0.0, of_cell.policy.timeout_s(want.hop)
    if want.fault is not None:
        in_process = want.fault.how == "in-process"
        struck = Struck(timeout_s=most_s, in_process=in_process, answer_bytes=_answer_bytes(want, run))
        ending = want.fault.kind.ending(struck)
        least_s, most_s = ending.least_s, ending.most_s
    network = of_cell.network(run.arm, want.hop)
    if network is not None and want.outcome != "unknown":
        # What is answered has been there and back; what is lost waits for nothing but its fault.
        least_s, most_s = least_s + network.least_s, most_s + network.most_s
    least_s = 0.0 if hurried else least_s
    if not math.isfinite(got.duration_s) or got.duration_s < least_s - CLOCK_S or got.duration_s < 0:
        yield "attempt_duration", f"expected at least {least_s * 1e3:.3f} ms, got {got.duration_s * 1e3:.3f}"
    elif got.duration_s > (limit_s := most_s + late_s(of_cell, run.pair.pair)):
        yield "attempt_duration", f"expected at most {limit_s * 1e3:.0f} ms, got {got.duration_s * 1e3:.3f}"


def _answer_bytes(want: ExpectedAttempt, run: Run) -> int:
    """How many bytes the tool's answer has at least; 0 where it is not known, or none was sent."""
    uses = {} if run.record is None else completed_calls(run.record)
    if want.hop != "tool" or want.outcome != "ok" or want.call_index not in uses:
        return 0
    return len(uses[want.call_index].result_json.encode())


def _between(
    run: Run, expected: Sequence[ExpectedAttempt], made: Sequence[agent_pb2.Attempt], limit_s: float
) -> Iterator[Wrong]:
    """`limit_s` is how much later than planned a retry may come."""
    if run.record is None:
        return
    for one in made[:1]:
        if not one.start_s >= -CLOCK_S:
            yield "attempt_overlap", f"the first attempt starts at {one.start_s * 1e3:.3f} ms"
    for before, after in pairwise(made):
        gap_s = after.start_s - before.start_s - before.duration_s
        if not gap_s >= -CLOCK_S:
            where = f"{after.hop} call {after.call_index} attempt {after.attempt}"
            yield "attempt_overlap", f"{where} starts {-gap_s * 1e3:.3f} ms before the one before it ends"
    waited_s = 0.0
    retries = 0
    for (before, after), want in zip(pairwise(made), expected[1:], strict=False):
        if want.attempt == 0:
            continue
        gap_s = after.start_s - before.start_s - before.duration_s
        waited_s, retries = waited_s + want.backoff_s, retries + 1
        if not want.backoff_s - CLOCK_S <= gap_s <= want.backoff_s + limit_s:
            yield (
                "backoff_wrong",
                f"{want.where}: expected {want.backoff_s * 1e3:.3f} ms, got {gap_s * 1e3:.3f}",
            )
    told_s = run.record.backoff_s
    if len(made) == len(expected) and not (
        waited_s - CLOCK_S <= told_s <= waited_s + retries * limit_s + CLOCK_S
    ):
        yield "backoff_wrong", f"in sum: expected {waited_s * 1e3:.3f} ms, got {told_s * 1e3:.3f}"
    for one in made[-1:]:
        if not one.start_s + one.duration_s <= run.record.total_s + CLOCK_S:
            over_s = one.start_s + one.duration_s - run.record.total_s
            yield "attempt_overlap", f"the last attempt ends {over_s * 1e3:.3f} ms after the record"

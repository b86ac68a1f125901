"""A run in which the user says several things: each answer graded again, and each turn's part of the record."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from matrices.checks.finding import MAX_QUOTED_CHARS, Finding, Say, differs
from matrices.checks.tolerances import CLOCK_S
from matrices.evidence.runs import Run
from matrices.planning.expectation import ExpectedAttempt, ExpectedRun
from matrices.spec.suites import Task
from treni.v1 import agent_pb2

_USAGE = ("prompt_tokens", "completion_tokens", "cached_prompt_tokens")


def of_answers(run: Run, task: Task, *, must_pass: bool, say: Say) -> Iterator[Finding]:
    """Findings about the answers that came: how many, each graded again, and when the earlier ones came."""
    outcome, turns = run.outcome, len(task.turns)
    if len(outcome.earlier) >= turns or (run.ok and len(outcome.answers) != turns):
        yield say("outcome_inconsistent", differs("answers", turns, len(outcome.answers)))
        return
    right = [task.is_correct(answer, turn) for turn, answer in enumerate(outcome.answers)]
    for turn, answer in enumerate(outcome.answers):
        if must_pass and not right[turn]:
            place = f", user turn {turn}," if turns > 1 else ""
            yield say("answer_wrong", f"task {task.id}{place} answered {answer[:MAX_QUOTED_CHARS]!r}")
    for turn, one in enumerate(outcome.earlier):
        if one.correct is not right[turn]:
            yield say("grade_wrong", differs(f"user turn {turn}: correct", right[turn], one.correct))
    if run.ok and outcome.correct is not all(right):
        yield say("grade_wrong", differs("correct", all(right), outcome.correct))
    times_s = (0.0, *(one.latency_s for one in outcome.earlier), outcome.latency_s)
    if not all(before < after for before, after in pairwise(times_s)):
        said = ", ".join(f"{time_s * 1e3:.3f}" for time_s in times_s[1:])
        yield say("latency_impossible", f"the answers came after {said} ms")


def of_user_turns(
    run: Run, record: agent_pb2.RunRecord, task: Task, expected: ExpectedRun, *, late_s: float, say: Say
) -> Iterator[Finding]:
    """Findings about what the record says of each user turn; `late_s` is how much later than planned a client may act.

    A run with a deadline of its own in play may have got less far than planned.
    """
    turns, told = len(task.turns), record.user_turns
    if turns == 1:
        if told:
            yield say("user_turns_wrong", differs("user turns told of", 0, len(told)))
        return
    answered = len(expected.answers)
    if expected.hurried and not run.ok:
        return
    if len(told) != (begun := min(answered + 1, turns)):
        yield say("user_turns_wrong", differs("user turns told of", begun, len(told)))
        return
    if len(run.outcome.answers) != answered:
        yield say("outcome_inconsistent", differs("answers", answered, len(run.outcome.answers)))
    # What an agent that nobody sees into tells of its calls and tokens is its own word.
    seen = expected.turns is not None
    ends = (*expected.answers, *([len(expected.attempts)] if begun > answered else ()))
    for turn, (first, end) in enumerate(pairwise((0, *ends))):
        want = _done(expected.attempts[first:end])
        got = (told[turn].turns, told[turn].tools)
        if want != got and seen:
            yield say(
                "user_turns_wrong", f"user turn {turn}: {differs('model calls and tool calls', want, got)}"
            )
    yield from _of_sums(record, say, seen=seen)
    for turn in range(begun):
        end = expected.answers[turn] if turn < answered else None
        yield from _of_time(run, record, turn, end, expected, late_s, say)


def _done(attempts: tuple[ExpectedAttempt, ...]) -> tuple[int, int]:
    """How many calls of the model and of tools come to a result or a refusal in these attempts."""
    done = [one.hop for one in attempts if one.outcome == "ok" or one.kinds is None]
    return done.count("model"), done.count("tool")


def _of_sums(record: agent_pb2.RunRecord, say: Say, *, seen: bool) -> Iterator[Finding]:
    told = record.user_turns
    sums = [("model calls", record.turns, sum(one.turns for one in told))]
    sums.append(("tool calls", len(record.tools), sum(one.tools for one in told)))
    for name in _USAGE:
        sums.append((name, getattr(record.usage, name), sum(getattr(one.usage, name) for one in told)))
    for what, want, got in sums:
        if want != got:
            yield say("user_turns_wrong", differs(f"{what} over the user turns", want, got))
    for turn, one in enumerate(told):
        if seen and one.usage.cached_prompt_tokens > one.usage.prompt_tokens:
            yield say("user_turns_wrong", f"user turn {turn}: more prompt tokens known than there were")


def _of_time(
    run: Run,
    record: agent_pb2.RunRecord,
    turn: int,
    end: int | None,
    expected: ExpectedRun,
    late_s: float,
    say: Say,
) -> Iterator[Finding]:
    """Of one user turn, which is answered after `end` attempts, or not at all."""
    answered_s, attempts = record.user_turns[turn].answered_s, record.attempts
    if end is None or len(attempts) != len(expected.attempts):
        if end is None and answered_s != 0:
            yield say("user_turns_wrong", f"user turn {turn}: answered, and the run failed before")
        return
    least_s = attempts[end - 1].start_s + attempts[end - 1].duration_s
    most_s = attempts[end].start_s if end < len(attempts) else record.total_s
    if not least_s - CLOCK_S <= answered_s <= most_s + CLOCK_S:
        limits = f"from {least_s * 1e3:.3f} to {most_s * 1e3:.3f} ms"
        yield say(
            "user_turns_wrong", f"user turn {turn} answered: expected {limits}, got {answered_s * 1e3:.3f}"
        )
    if turn < len(run.outcome.earlier):
        entry = expected.entry
        held_s = 0.0 if entry is None or entry.ending is None else entry.ending.most_s
        client_s = run.outcome.earlier[turn].latency_s - answered_s
        if not -CLOCK_S <= client_s <= late_s + held_s:
            yield say(
                "latency_impossible",
                f"user turn {turn}: the client had its answer {client_s * 1e3:.3f} ms later",
            )

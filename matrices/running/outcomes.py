"""What a run came to, as the history keeps it, and what must not get there."""

from __future__ import annotations

from matrices.evidence import events as ev
from matrices.planning.plan import PlannedPair
from matrices.running.client import Invocation
from matrices.running.segment import Segment
from treni.errors import Code, TreniError
from treni.storage import DISK_FULL


def outcome_of(segment: Segment, planned: PlannedPair, arm: str, run_id: str, done: Invocation) -> ev.Outcome:
    """The outcome of an arm's run of a pair, graded, as the history keeps it."""
    error = None
    if done.error is not None:
        # A service that died is the cause behind whatever its peers made of it.
        message = "; ".join([str(done.error), *segment.services.note_deaths()])
        error = ev.RunError(
            code=done.error.code.name,
            kind=done.error.kind,
            definite=done.error.definite,
            message=message,
            hop=done.error.hop,
            fault_id=done.error.fault_id,
        )
    task, replies = planned.task, done.replies
    before_last = len(task.turns) - 1
    texts = tuple(reply.text for reply in replies)
    return ev.Outcome(
        cell=segment.plan.name,
        pair=planned.pair,
        arm=arm,
        run_id=run_id,
        outcome=done.outcome,
        error=error,
        latency_s=done.latency_s,
        ttft_s=done.ttft_s,
        answer=texts[before_last] if len(texts) > before_last else None,
        correct=None if error is not None else task.are_correct(texts),
        record=done.record,
        earlier=tuple(
            ev.Answered(
                answer=reply.text, latency_s=reply.latency_s, correct=task.is_correct(reply.text, turn)
            )
            for turn, reply in enumerate(replies[:before_last])
        ),
    )


def refuse_unrecorded(done: Invocation) -> None:
    """Ends the campaign, to be resumed, where a service had no room to write down what it did: the pair is no pair."""
    attempts = () if done.record is None else done.record["attempts"]
    lost = [attempt["detail"] for attempt in attempts if attempt["kind"] == DISK_FULL]
    if done.error is not None and done.error.kind == DISK_FULL:
        lost.append(str(done.error))
    if lost:
        raise TreniError(
            Code.RESOURCE_EXHAUSTED,
            DISK_FULL,
            expected="room for what the services write down of each fault and effect",
            got=lost[0],
            todo="free disk space, or lift the limit, and resume",
        )

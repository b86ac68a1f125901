"""What an arm's runs took for each of several user turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matrices.evidence.runs import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class UserTurnFigures:
    """One user turn over the runs that answered it and left a record.

    `latency_p50_s` is the median of the client's time to its answer, from the answer before or the request.
    `prompt_tokens` were read in its model calls, `cached_prompt_tokens` of them found in the KV cache.
    """

    answered: int
    latency_p50_s: float
    prompt_tokens: int
    cached_prompt_tokens: int


def user_turns_of(runs: Sequence[Run]) -> tuple[UserTurnFigures, ...]:
    """The user turns in order; none where no run has several."""
    told = [run for run in runs if run.record is not None and run.record.user_turns]
    most = max((len(_times_s(run)) for run in told), default=0)
    return tuple(_of_turn(turn, [run for run in told if len(_times_s(run)) > turn]) for turn in range(most))


def _of_turn(turn: int, runs: Sequence[Run]) -> UserTurnFigures:
    usages = [run.record.user_turns[turn].usage for run in runs if run.record is not None]
    return UserTurnFigures(
        answered=len(runs),
        latency_p50_s=statistics.median(_times_s(run)[turn] for run in runs),
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        cached_prompt_tokens=sum(usage.cached_prompt_tokens for usage in usages),
    )


def _times_s(run: Run) -> tuple[float, ...]:
    """The client's time to each answer that came, from the one before; of as many as the record tells of."""
    outcome = run.outcome
    last = () if outcome.answer is None else (outcome.latency_s,)
    told = 0 if run.record is None else len(run.record.user_turns)
    ends_s = (0.0, *(one.latency_s for one in outcome.earlier), *last)
    return tuple(end_s - before_s for before_s, end_s in pairwise(ends_s))[:told]

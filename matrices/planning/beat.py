"""Where `every` beats against retries: what the schedule plans beside what independent faults would do.

A counter over attempts, retries included, puts its faults at fixed distances. Whether a retry meets the next one is
then a matter of arithmetic and not of chance, so that one more retry can change nothing, or everything.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

from chaos.faults import Hop, Struck
from chaos.when import Every
from matrices.planning.plan import PlannedCell

NOTICEABLE_REQUESTS = 1.0
NOTICEABLE_SHARE = 0.01
"""A difference is told from one request, and from one in a hundred requests, on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Errors:
    """Failed requests of a cell: as planned, and the expected number under independent faults of the same rates."""

    planned: int
    independent: float


def independent_error_rate(cell: PlannedCell, arm: str) -> float:
    """The share of the arm's requests that would fail on average if each rule struck with probability 1/every.

    Whatever was before makes no difference then. An attempt fails with the probability q that the first rule that
    strikes makes it fail; for rules that all do, q = 1 - prod(1 - 1/every). A call fails with all its attempts,
    q^(retries + 1), and a request with any call, each on its own hop. For cells whose rules all say `every`.
    """
    fails: dict[Hop, float] = {}
    for schedule in cell.schedules_on(arm):
        struck = Struck(timeout_s=cell.timeouts_s[schedule.hop])
        fails[schedule.hop], clean = 0.0, 1.0
        for rule in schedule.rules:
            assert isinstance(rule.when, Every)
            strikes = clean / rule.when.every
            clean -= strikes
            fails[schedule.hop] += strikes if rule.kind.ending(struck).is_error else 0.0
    requests = [[fails[call.hop] for call in calls if call.hop in fails] for calls in cell.calls]
    tries = cell.profile.policy.retries + 1
    return sum(1 - math.prod(1 - fail**tries for fail in calls) for calls in requests) / len(requests)


def beat_sentence(cell: PlannedCell, arm: str) -> str:
    """What the reader of an arm's error rate must know of the beat; "" where there is nothing to say.

    There is something where a schedule by attempt with retries fails other requests than independent faults would:
    in number, or in what the last retry changes.
    """
    profile = cell.profile
    retries = profile.policy.retries
    if not cell.faulted(arm) or profile.faults.by != "attempt" or retries == 0 or cell.opens(arm):
        return ""
    with_all, with_less = _errors(cell, arm, retries), _errors(cell, arm, retries - 1)
    requests = len(cell.pairs)
    least = max(NOTICEABLE_REQUESTS, NOTICEABLE_SHARE * requests)
    other_number = abs(with_all.planned - with_all.independent) >= least
    gains = (with_less.planned - with_all.planned, with_less.independent - with_all.independent)
    other_gain = abs(gains[0] - gains[1]) >= least
    if not other_number and not other_gain:
        return ""
    return (
        f"`every` counts attempts, retries included, and so beats against the retries: the schedule fails "
        f"{with_all.planned} of {requests} requests ({with_all.planned / requests:.4f}), where independent faults "
        f"of the same rates would fail {with_all.independent:.1f} ({with_all.independent / requests:.4f}) on average. "
        + _last_retry(retries, with_less, with_all, _longest_run(cell, arm))
    )


def _last_retry(retries: int, without: _Errors, with_it: _Errors, longest: int) -> str:
    which = "The retry" if retries == 1 else f"Retry {retries}"
    independent = f"independent faults would go from {without.independent:.1f} to {with_it.independent:.1f}"
    if without.planned == with_it.planned:
        return (
            f"{which} changes nothing ({independent}), because up to {longest} attempts in a row are faulted: the "
            f"calls that fail begin where {retries + 1} are, and fail with {_count(retries - 1)} as with {retries}."
        )
    return f"{which} takes the schedule from {without.planned} to {with_it.planned}; {independent}."


def _count(retries: int) -> str:
    return f"{retries} retry" if retries == 1 else f"{retries} retries"


def _errors(cell: PlannedCell, arm: str, retries: int) -> _Errors:
    profile = cell.profile
    policy = profile.policy.model_copy(update={"retries": retries})
    changed = replace(cell, profile=profile.model_copy(update={"policy": policy}))
    prediction = changed.prediction(arm)
    assert prediction is not None
    return _Errors(
        planned=prediction.errors, independent=independent_error_rate(changed, arm) * len(changed.pairs)
    )


def _longest_run(cell: PlannedCell, arm: str) -> int:
    """The most attempts in a row on a hop, by their number, that the schedule makes fail."""
    prediction = cell.prediction(arm)
    assert prediction is not None
    longest = 0
    current: dict[Hop, int] = defaultdict(int)
    for request in prediction.requests:
        for attempt in request.attempts:
            current[attempt.hop] = current[attempt.hop] + 1 if attempt.is_error else 0
            longest = max(longest, current[attempt.hop])
    return longest

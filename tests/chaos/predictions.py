"""Predictions of the plainest plans: calls on one hop, each tried under the same timeout."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.prediction import PlannedCall, Prediction, predict
from chaos.schedule import Schedule


def predict_calls(
    schedule: Schedule,
    calls: Sequence[int],
    retries: int,
    start: int | None = None,
    *,
    timeout_s: float = 0.25,
    side_effects: Sequence[Sequence[bool]] | None = None,
    idempotency: bool = True,
) -> Prediction:
    """What the schedule does to requests of which the i-th makes `calls[i]` calls on its hop."""
    flags = side_effects if side_effects is not None else [[False] * count for count in calls]
    return predict(
        [schedule],
        [
            [PlannedCall(hop=schedule.hop, index=call, has_effect=flag) for call, flag in enumerate(of)]
            for of in flags
        ],
        retries=retries,
        timeouts_s={schedule.hop: timeout_s},
        starts={} if start is None else {schedule.hop: start},
        idempotency=idempotency,
    )

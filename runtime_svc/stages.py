"""Where the time of one request goes, stage by stage."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise

from treni.v1 import common_pb2

STAGES = (
    "queue_s",
    "tokenize_s",
    "route_s",
    "copy_s",
    "prefill_s",
    "decode_s",
    "sample_s",
    "detokenize_s",
)
"""The fields of `EngineTimings` that sum to its total, less what no stage claims."""


class Stages:
    """Seconds by stage, from the `time.perf_counter()` at which the request arrived.

    Whoever adds to a stage has measured it, and nobody adds the same moment twice: what is left of the total is
    then what no stage claims.
    """

    def __init__(self, arrived_s: float) -> None:
        self.arrived_s = arrived_s
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._tokens_at_s: list[float] = []

    def add(self, stage: str, seconds: float) -> None:
        """Gives a stretch of time to one of `STAGES`."""
        self._spent[stage] += seconds

    def since(self, stage: str, before_s: float) -> None:
        """Gives the time from `before_s` until now to one of `STAGES`."""
        self._spent[stage] += time.perf_counter() - before_s

    def token(self) -> None:
        """A token is there."""
        self._tokens_at_s.append(time.perf_counter())

    def timings(self) -> common_pb2.EngineTimings:
        """The record, if the request were done now."""
        tokens = self._tokens_at_s
        return common_pb2.EngineTimings(
            **self._spent,
            first_token_s=tokens[0] - self.arrived_s if tokens else 0.0,
            decode_steps=step_times([later - earlier for earlier, later in pairwise(tokens)]),
            total_s=time.perf_counter() - self.arrived_s,
        )


def step_times(seconds: Sequence[float]) -> common_pb2.StepTimes:
    """Count, mean and quantiles by nearest rank (the smallest value that at least that share does not exceed)."""
    if not seconds:
        return common_pb2.StepTimes()
    ranked = sorted(seconds)

    def quantile(share: float) -> float:
        return ranked[math.ceil(share * len(ranked)) - 1]

    return common_pb2.StepTimes(
        count=len(ranked),
        mean_s=math.fsum(ranked) / len(ranked),
        p50_s=quantile(0.5),
        p99_s=quantile(0.99),
    )

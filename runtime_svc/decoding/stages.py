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


HAND_OVER = "hand_over_s"
"""What the engine waits for to hand text to whoever listens: a part of what no stage claims, for traces."""


class Stages:
    """Seconds by stage, an attribute for each of `STAGES` and `HAND_OVER`, from the `perf_counter()` of the arrival.

    Whoever adds to a stage has measured it, and nobody adds the same moment twice: what is left of the total is
    then what no stage claims.
    """

    __slots__ = (*STAGES, HAND_OVER, "_tokens_at_s", "arrived_s")

    def __init__(self, arrived_s: float) -> None:
        self.arrived_s = arrived_s
        self.queue_s = 0.0
        self.tokenize_s = 0.0
        self.route_s = 0.0
        self.copy_s = 0.0
        self.prefill_s = 0.0
        self.decode_s = 0.0
        self.sample_s = 0.0
        self.detokenize_s = 0.0
        self.hand_over_s = 0.0
        self._tokens_at_s: list[float] = []

    def since(self, stage: str, before_s: float) -> None:
        """Gives the time from `before_s` until now to one of them."""
        setattr(self, stage, getattr(self, stage) + time.perf_counter() - before_s)

    def admitted(self) -> None:
        """Gives the time since the arrival to `queue_s`, but for what was used to tokenise before."""
        self.queue_s += time.perf_counter() - self.arrived_s - self.tokenize_s

    def token(self) -> None:
        """A token is there."""
        self._tokens_at_s.append(time.perf_counter())

    def timings(self) -> common_pb2.EngineTimings:
        """The record, if the request were done now."""
        tokens = self._tokens_at_s
        return common_pb2.EngineTimings(
            queue_s=self.queue_s,
            tokenize_s=self.tokenize_s,
            route_s=self.route_s,
            copy_s=self.copy_s,
            prefill_s=self.prefill_s,
            decode_s=self.decode_s,
            sample_s=self.sample_s,
            detokenize_s=self.detokenize_s,
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

"""What the plan and the schedule say, before the run, that each run of a cell will do. The checker compares."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import Kind, Status
from chaos.schedule import PredictedRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFault:
    """A fault that the run is bound to meet, and the gRPC status names that its attempt may end with.

    `codes` is {"OK"} for a fault that only slows the attempt down.
    """

    id: str
    codes: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedRun:
    """What one arm does with one pair. `faults` are those that the run reaches, in order."""

    faults: tuple[PlannedFault, ...]
    ok: bool
    retries: int


UNFAULTED = ExpectedRun(faults=(), ok=True, retries=0)
"""The run of an arm that the schedule does not touch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedPair:
    """One pair of the plan. `runs` and `waits_s` are keyed by arm.

    `waits_s` are the seconds that the arm waits because plan and seed say so: timeouts of stalls, fixed delays, and
    backoffs with their jitter.
    """

    pair: int
    block: int
    task_id: str
    stratum: str
    segment: int
    order: tuple[str, str]
    runs: dict[str, ExpectedRun]
    waits_s: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """One cell of the plan, with its pairs in order.

    For each arm, `duplicates` counts ledger entries beyond the first of one call, and `phantoms` calls that left
    an entry in a run that ends without an answer. `remark` is what a reader of the error rates must know of the
    schedule, "" for nothing.
    """

    cell: str
    arms: tuple[str, str]
    pairs: tuple[ExpectedPair, ...]
    duplicates: dict[str, int]
    phantoms: dict[str, int]
    remark: str = ""

    def errors(self, arm: str) -> int:
        """How many of the arm's runs end without an answer."""
        return sum(not pair.runs[arm].ok for pair in self.pairs)

    def retries_of_successes(self, arm: str) -> int:
        """Retries summed over the arm's runs that end with an answer."""
        return sum(pair.runs[arm].retries for pair in self.pairs if pair.runs[arm].ok)

    def faults(self, arm: str) -> int:
        """How many faults the arm meets."""
        return sum(len(pair.runs[arm].faults) for pair in self.pairs)


def expected_run(request: PredictedRequest) -> ExpectedRun:
    """What the schedule's prediction for a request says of the run that makes it."""
    faults = tuple(
        PlannedFault(id=attempt.fault.id, codes=codes_of(attempt.fault.kind, is_error=attempt.is_error))
        for attempt in request.attempts
        if attempt.fault is not None
    )
    return ExpectedRun(faults=faults, ok=not request.failed, retries=request.retries)


def codes_of(kind: Kind, *, is_error: bool) -> frozenset[str]:
    """The gRPC status names with which an attempt under a fault of that kind may end."""
    if not is_error:
        return frozenset({"OK"})
    if isinstance(kind, Status):
        return frozenset({kind.code})
    return frozenset({"UNAVAILABLE"} if kind.name == "reset" else {"DEADLINE_EXCEEDED"})

"""What the plan and the schedule say, before the run, that each run of a cell will do. The checker compares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFault:
    """A fault that the run is bound to meet, and the gRPC status names its attempt may end with.

    `codes` holds "OK" for a fault that only slows the attempt down.
    """

    id: str
    codes: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedRun:
    """What one arm does with one pair.

    `faults` are only those that the run reaches, in order. `duplicates` counts entries beyond the first of one
    call, `phantoms` calls that left an entry in a run that ends without an answer.
    """

    faults: tuple[PlannedFault, ...]
    ok: bool
    retries: int
    duplicates: int
    phantoms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedPair:
    """One pair of the plan. `runs` is keyed by arm."""

    pair: int
    block: int
    task_id: str
    stratum: str
    runs: dict[str, ExpectedRun]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """One cell of the plan, with its pairs in order."""

    cell: str
    arms: tuple[str, str]
    pairs: tuple[ExpectedPair, ...]

    def errors(self, arm: str) -> int:
        """How many of the arm's runs end without an answer."""
        return sum(not pair.runs[arm].ok for pair in self.pairs)

    def retries_over_successes(self, arm: str) -> int:
        """Retries summed over the arm's runs that end with an answer."""
        return sum(pair.runs[arm].retries for pair in self.pairs if pair.runs[arm].ok)

    def faults(self, arm: str) -> int:
        """How many faults the arm meets."""
        return sum(len(pair.runs[arm].faults) for pair in self.pairs)

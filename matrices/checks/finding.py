"""A finding: one thing in a campaign that is not as it has to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

MAX_QUOTED_CHARS = 300
"""How much of an answer or a message a finding quotes; the history has it whole."""

FindingKind: TypeAlias = Literal[
    "campaign_unsealed",
    "report_differs",
    "manifest_inconsistent",
    "cell_missing",
    "cell_unplanned",
    "cell_broken",
    "cell_unended",
    "start_not_as_planned",
    "pair_missing",
    "pair_unplanned",
    "pair_repeated",
    "pair_unfinished",
    "pair_not_as_planned",
    "pair_void",
    "void_selective",
    "event_stray",
    "outcome_missing",
    "outcome_inconsistent",
    "record_missing",
    "run_id_wrong",
    "answer_wrong",
    "grade_wrong",
    "calls_wrong",
    "answer_differs",
    "result_differs",
    "tokens_differ",
    "arm_swapped",
    "backend_swapped",
    "decoding_otherwise",
    "usage_wrong",
    "user_turns_wrong",
    "error_count",
    "error_unplanned",
    "error_absent",
    "error_unexplained",
    "error_wrong",
    "retry_count",
    "retries_unplanned",
    "error_unscheduled",
    "attempt_wrong",
    "attempt_unexplained",
    "attempt_duration",
    "attempt_overlap",
    "backoff_wrong",
    "connection_wrong",
    "fault_not_delivered",
    "fault_delivered_twice",
    "fault_delivered_otherwise",
    "fault_not_planned",
    "fault_not_observed",
    "fault_not_healed",
    "restart_unaccounted",
    "log_missing",
    "effect_lost",
    "effect_duplicate",
    "effect_phantom",
    "effect_stranger",
    "effect_altered",
    "latency_impossible",
    "ttft_impossible",
    "hops_negative",
    "stages_impossible",
    "clock_impossible",
    "clock_stepped",
    "overhead_unlikely",
    "conditions_missing",
    "conditions_impossible",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is not as it should be; `cell` "", `arm` "" and `pair` None where it concerns none."""

    kind: FindingKind
    cell: str
    arm: str = ""
    pair: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        """The finding in one line."""
        where = [self.cell, self.arm, "" if self.pair is None else f"pair {self.pair}"]
        return f"{self.kind} [{' '.join(part for part in where if part)}] {self.detail}".rstrip()


class Say(Protocol):
    """Makes a finding about the run at hand."""

    def __call__(self, kind: FindingKind, detail: str) -> Finding:
        """The finding of that kind, with what was expected and what was found."""
        ...


def differs(what: str, expected: object, got: object) -> str:
    """The detail of a finding about a value that is another."""
    return f"{what}: expected {_short(expected)}, got {_short(got)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= MAX_QUOTED_CHARS else text[:MAX_QUOTED_CHARS] + "..."

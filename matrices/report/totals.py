"""What all runs of an arm did together: the confound ledger, summed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from matrices.evidence.ledger import Work


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkTotals:
    """What all runs of an arm did together, failed runs included; `tokens_told` of them tell their tokens."""

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    turns: int
    tool_calls: int
    model_attempts: int
    tool_attempts: int
    retries: int
    new_connections: int
    tokens_told: int


def totals_of(works: Sequence[Work]) -> WorkTotals:
    """The sums over all runs that have a record."""
    names = (field.name for field in dataclasses.fields(WorkTotals) if field.name != "tool_calls")
    sums = {name: sum(getattr(work, name) for work in works) for name in names}
    return WorkTotals(tool_calls=sum(len(work.tools) for work in works), **sums)

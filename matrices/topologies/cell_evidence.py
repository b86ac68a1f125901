"""What the roles of a cell hold at its end, told apart by arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrices.evidence import events as ev
from matrices.planning.plan import PlannedCell


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the roles of a cell hold at its end, by arm: over all sessions of the cell.

    `clocks` are how the clocks of the roles lay then.
    """

    deliveries: Mapping[str, tuple[ev.Delivery, ...]]
    effects: Mapping[str, tuple[ev.EffectRow, ...]]
    clocks: Mapping[str, ev.Clock]


def evidence_of(
    cell: PlannedCell,
    deliveries: Sequence[tuple[str, ev.Delivery]],
    effects: Mapping[str, Iterable[ev.EffectRow]],
    *,
    clocks: Mapping[str, ev.Clock],
) -> Evidence:
    """The rows of each arm's runs, those outside the plan left out.

    `deliveries` come with the arm in whose log they were, `effects` are those in the ledgers of each arm's tools.
    """
    return Evidence(
        clocks=clocks,
        deliveries={
            arm: tuple(row for log, row in deliveries if _is_of(cell, row.run_id, arm, log))
            for arm in effects
        },
        effects={
            arm: tuple(row for row in rows if _is_of(cell, row.run_id, arm, arm))
            for arm, rows in effects.items()
        },
    )


def _is_of(cell: PlannedCell, run_id: str, arm: str, log: str) -> bool:
    """Whether a row in the log of the arm `log` is of that arm: the run's id says it, or else the log.

    The runner names what is outside the plan cell/warmup/arm/start.
    """
    _, pair, named, *_ = [*run_id.split("/"), "", "", ""]
    return pair != "warmup" and (named if named in cell.arms else log) == arm

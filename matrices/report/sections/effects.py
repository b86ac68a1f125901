"""Which faults were planned, delivered and observed, and what the calls left in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matrices.report.document import Part
from matrices.report.figures import CellFigures, Figures
from matrices.report.sections.by_arm import by_arm


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table of counts."""
    arms = cell.arms
    blind = {arm.name for arm in cell.sides if not arm.seen}
    rows: list[tuple[str, Sequence[str]]] = [
        ("faults planned", [str(len(arm.faults.planned)) for arm in arms]),
        ("faults delivered", [str(len(arm.faults.delivered)) for arm in arms]),
        ("faults observed", [str(len(arm.faults.observed)) for arm in arms]),
        ("ledger entries", ["-" if arm.arm in blind else str(arm.effects.recorded) for arm in arms]),
        ("effects lost", ["-" if arm.arm in blind else str(arm.effects.lost) for arm in arms]),
        ("effects duplicated", ["-" if arm.arm in blind else str(arm.effects.duplicate) for arm in arms]),
        ("phantom effects", ["-" if arm.arm in blind else str(arm.effects.phantom) for arm in arms]),
        (
            "of abandoned runs: faults, entries",
            [f"{arm.faults.superseded}, {arm.effects.superseded}" for arm in arms],
        ),
    ]
    yield by_arm(cell, "faults and effects", rows)

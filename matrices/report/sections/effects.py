"""Which faults were planned, delivered and observed, and what the calls left in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matrices.report.document import Part, paragraph
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.sections.by_arm import by_arm


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table of counts, and whose effects are in none of them."""
    arms = cell.arms
    rows: list[tuple[str, Sequence[str]]] = [
        ("faults planned", [str(len(arm.faults.planned)) for arm in arms]),
        ("faults delivered", [str(len(arm.faults.delivered)) for arm in arms]),
        ("faults observed", [str(len(arm.faults.observed)) for arm in arms]),
        ("ledger entries", [_counted(cell, arm, arm.effects.recorded) for arm in arms]),
        ("effects lost", [_counted(cell, arm, arm.effects.lost) for arm in arms]),
        ("effects duplicated", [_counted(cell, arm, arm.effects.duplicate) for arm in arms]),
        ("phantom effects", [_counted(cell, arm, arm.effects.phantom) for arm in arms]),
        (
            "of abandoned runs: faults, entries",
            [f"{arm.faults.superseded}, {arm.effects.superseded}" for arm in arms],
        ),
    ]
    yield by_arm(cell, "faults and effects", rows)
    if cell.uncounted:
        yield paragraph(
            f"Not counted: the effects of {', '.join(cell.uncounted)}, which write no ledger that is read here. "
            "Whether a call was repeated at the tool cannot be told from this report."
        )


def _counted(cell: CellFigures, arm: ArmFigures, effects: int) -> str:
    return (cell.counted(effects) or "not counted") if cell.sides.arm(arm.arm).seen else "-"

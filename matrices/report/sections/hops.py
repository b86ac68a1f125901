"""Where the time of a request went, from the client inwards."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.arms.arm import Arm
from matrices.evidence.hops import NAMES
from matrices.report.document import Part, paragraph
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.formats import ms
from matrices.report.sections.by_arm import by_arm


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table of the parts that sum to the latency, and how many requests have none."""
    sides = {arm.name: arm for arm in cell.sides}
    rows = [
        (name.replace("_", " "), [_part(arm, name, sides[arm.arm]) for arm in cell.arms])
        for name in NAMES
        if name != "black_box" or not all(arm.seen for arm in cell.sides)
    ]
    yield by_arm(cell, "where the time went, mean ms", rows)
    without = {arm.arm: arm.without_record for arm in cell.arms if arm.without_record}
    if without:
        told = ", ".join(f"{count} {arm}" for arm, count in without.items())
        yield paragraph(f"Requests without a record, in no part: {told}.")


def _part(arm: ArmFigures, name: str, side: Arm) -> str:
    untold = name.startswith("engine_") and not side.engine_timings
    unseen = name in ("backoff", "model_hop", "tool_hop", "tool") and not side.seen
    return "-" if arm.hops is None or untold or unseen else ms(getattr(arm.hops, name))

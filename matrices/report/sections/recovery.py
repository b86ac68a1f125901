"""How the arms came through faults of their hosts and of the links between them."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part, paragraph, table
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import number
from matrices.report.sections.by_arm import by_arm


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table by arm and one by strike; nothing for a cell whose faults strike no host."""
    every = cell.recoveries
    if not any(arm.strikes for arm in every):
        return
    rows = [
        ("strikes met", [str(len(arm.strikes)) for arm in every]),
        ("time to detect, median s", [number(arm.detect_median_s, 3) or "-" for arm in every]),
        ("services back after healing, median s", [number(arm.back_median_s, 3) or "-" for arm in every]),
        (
            "time to recover after healing, median s",
            [number(arm.recover_median_s, 3) or "-" for arm in every],
        ),
        ("the same, longest s", [number(arm.recover_max_s, 3) or "-" for arm in every]),
        ("requests with a failed attempt", [str(arm.hurt) for arm in every]),
        ("errors during, after", [f"{arm.errors_during}, {arm.errors_after}" for arm in every]),
        ("duplicate effects during and after", [str(arm.duplicates) for arm in every]),
        ("effects after the caller gave up", [str(arm.late_effects) for arm in every]),
        ("tokens decoded for requests that failed", [str(arm.tokens_lost) for arm in every]),
    ]
    yield by_arm(cell, "hosts that were struck", rows)
    yield paragraph(
        "Detected: the first failure that the arm was told of, after the strike. Recovered: the first answer after the "
        "healing from which on 95 % of the requests to what was struck were answered. Only the struck attempts are "
        "known before the run; whoever else came by was hurt by a fault with a name, and how many is a matter of time."
    )
    yield table(
        ("strike", "arm", "host", "services", "lasted s", "detected s", "back s", "recovered s", "hurt"),
        [
            (
                one.fault_id,
                arm.arm,
                one.host,
                ", ".join(one.roles),
                *(
                    number(value, 3) or "-"
                    for value in (one.lasted_s, one.detect_s, one.back_s, one.recover_s)
                ),
                str(one.hurt),
            )
            for arm in every
            for one in arm.strikes
        ],
    )

"""Errors, retries and duplicate effects by profile and arm."""

from __future__ import annotations

from matrices.report import chart as c
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.formats import number

_MEASURES = ("errors, % of requests", "retries per answer", "duplicate effects")
_BAR_PX = 11


def trouble_chart(figures: Figures) -> c.Chart | None:
    """The chart; None where nothing has ended."""
    cells = [cell for cell in figures.cells if any(arm.requests for arm in cell.arms)]
    if not cells:
        return None
    names = [cell.config.name for cell in cells]
    roles = [f"{figures.sides.baseline.name} (baseline)", f"{figures.sides.compared.name} (compared)"]
    rows: list[c.Row] = []
    drawn: list[c.Row] = []
    for cell in cells:
        for role, arm in zip(roles, cell.arms, strict=True):
            for measure, figure in zip(_MEASURES, _figures(cell, arm), strict=True):
                row = {
                    "profile": cell.config.name,
                    "arm": arm.arm,
                    "measure": measure,
                    "figure": c.settled(figure),
                }
                rows.append(row)
                drawn.append({**row, "role": role})
    most = {one: max(float(row["figure"] or 0) for row in rows if row["measure"] == one) for one in _MEASURES}
    x = {"field": "figure", "type": "quantitative", "axis": {"tickCount": 4}}
    return c.Chart(
        name="errors-retries-duplicates",
        title="Errors, retries and duplicates",
        caption="Requests that ended without an answer, retries behind each answered one, and side effects that took "
        "place once too often. No bar: none, or none that anybody could count.",
        alt="Errors, retries and duplicate effects by profile. "
        + " ".join(
            f"{cell.config.name}: "
            + "; ".join(
                f"{arm.arm} {arm.errors} errors of {arm.requests}, {number(arm.retries_mean_success, 3) or 'unknown'} "
                f"retries per answer, {cell.counted(arm.effects.duplicate) or 'uncounted'} duplicates"
                for arm in cell.arms
            )
            + "."
            for cell in cells
        ),
        rows=tuple(rows),
        spec=c.whole(
            {
                "data": c.values([{**row, "figure": row["figure"] or 0} for row in drawn]),
                "hconcat": [
                    {
                        "width": c.WIDTH // 3 - 30,
                        "height": {"step": _BAR_PX},
                        "transform": [{"filter": f"datum.measure === '{measure}'"}],
                        "mark": {"type": "bar"},
                        "encoding": {
                            "y": {
                                "field": "profile",
                                "type": "nominal",
                                "sort": names,
                                "title": None,
                                "axis": {} if place == 0 else {"labels": False, "ticks": False},
                            },
                            "yOffset": {"field": "role", "type": "nominal", "sort": roles},
                            "x": {
                                **x,
                                "title": measure,
                                "scale": {"domain": [0, most[measure] or 1], "nice": True},
                            },
                            "color": {
                                "field": "role",
                                "type": "nominal",
                                "title": None,
                                "scale": {"domain": roles, "range": [c.BASELINE, c.COMPARED]},
                            },
                        },
                    }
                    for place, measure in enumerate(_MEASURES)
                ],
            }
        ),
    )


def _figures(cell: CellFigures, arm: ArmFigures) -> tuple[float | None, ...]:
    duplicates = cell.counted(arm.effects.duplicate) if cell.sides.arm(arm.arm).seen else ""
    return (
        None if arm.error_rate is None else arm.error_rate * 100,
        arm.retries_mean_success,
        float(duplicates) if duplicates else None,
    )

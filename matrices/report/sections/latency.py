"""How long the requests of a cell took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matrices.report.document import Part, paragraph
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.formats import interval, ms, number
from matrices.report.sections.by_arm import by_arm
from matrices.statistics.reliability import CostPerSuccess


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table of latencies and costs, and the median difference."""
    rows: list[tuple[str, Sequence[str]]] = [
        ("answered", [f"{arm.successes} of {arm.requests}" for arm in cell.arms]),
        ("mean, all requests", [_latency(arm, "mean_s") for arm in cell.arms]),
        ("median", [_latency(arm, "p50_s") for arm in cell.arms]),
        ("p95", [_latency(arm, "p95_s") for arm in cell.arms]),
        ("p99 (needs 300 requests)", [_latency(arm, "p99_s") for arm in cell.arms]),
        ("mean, answered only", [_latency(arm, "mean_s", success=True) for arm in cell.arms]),
        ("time per right answer", [_cost(arm.time_per_success, 1e3) for arm in cell.arms]),
        ("attempts per right answer", [_cost(arm.attempts_per_success) for arm in cell.arms]),
        ("time to first text, median", [ms(arm.ttft_p50_s) or "-" for arm in cell.arms]),
    ]
    if not cell.sides.alike:
        rows.append(("per completion token", [ms(arm.latency_per_token_s) or "-" for arm in cell.arms]))
    yield by_arm(cell, "latency, ms", rows)
    compared, answered = cell.comparison, cell.successes
    if compared.median_delta_s is not None:
        yield paragraph(
            f"Median difference {ms(compared.median_delta_s, 2, sign=True)} ms over {compared.pairs} pairs. ",
            f"Where both arms answered ({answered.pairs} pairs): {interval(answered.delta)}, "
            f"ratio {number(answered.ratio.value, 3)}."
            if answered.delta is not None and answered.ratio is not None
            else f"Where both arms answered ({answered.pairs} pairs): {answered.unavailable}.",
        )


def _latency(arm: ArmFigures, part: str, *, success: bool = False) -> str:
    summary = arm.latency_success if success else arm.latency
    return "-" if summary is None else ms(getattr(summary, part)) or "-"


def _cost(cost: CostPerSuccess | None, scale: float = 1.0) -> str:
    if cost is None:
        return "-"
    low, high = max(0.0, cost.low * scale), cost.high * scale
    return f"{number(cost.value * scale, 3)} [{number(low, 3)}, {number(high, 3)}]"

"""What `--dry-run` prints: a line for each cell and arm with the counts that the schedule predicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from matrices.planning.plan import PlannedCell

_HEADINGS = (
    "cell",
    "arm",
    "fault_seed",
    "pairs",
    "faults",
    "errors",
    "error_rate",
    "retries_mean_success",
    "schedule",
)


def plan_table(cells: Iterable[PlannedCell]) -> str:
    """The table as text. A cell of several fault seeds has a line for all of them together, then one for each.

    "?" stands where tasks do not tell their calls, and the schedule acts on calls.
    """
    rows = [_HEADINGS, *(row for cell in cells for arm in cell.arms for row in _rows(cell, arm))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        left = [text.ljust(width) for text, width in zip(row[:3], widths, strict=False)]
        right = [text.rjust(width) for text, width in zip(row[3:8], widths[3:], strict=False)]
        lines.append("  ".join([*left, *right, row[8]]))
    return "\n".join(lines) + "\n"


def plan_rows(cells: Iterable[PlannedCell]) -> list[dict[str, str | int | float | None]]:
    """The same lines as JSON data, null where no plan can know."""
    return [
        {name: _number(name, text) for name, text in zip(_HEADINGS, row, strict=True)}
        for cell in cells
        for arm in cell.arms
        for row in _rows(cell, arm)
    ]


def _number(name: str, text: str) -> str | int | float | None:
    if text == "?":
        return None
    if name in ("pairs", "faults", "errors"):
        return int(text)
    return float(text) if name in ("error_rate", "retries_mean_success") else text


def _rows(cell: PlannedCell, arm: str) -> Iterator[tuple[str, ...]]:
    faults = cell.profile.faults
    draws = cell.faulted(arm) and faults.by == "request"
    last = faults.seed + cell.fault_seeds - 1
    seeds = f"{faults.seed}" if cell.fault_seeds == 1 else f"{faults.seed}..{last}"
    yield _row(cell, arm, seeds if draws else "-")
    if draws and cell.fault_seeds > 1:
        for group in cell.by_fault_seed():
            yield _row(group, arm, f"{group.profile.faults.seed}")


def _row(cell: PlannedCell, arm: str, seed: str) -> tuple[str, ...]:
    prediction = cell.prediction(arm)
    pairs = len(cell.pairs)
    planned, errors, retries, digest = 0, 0, 0.0, "-"
    if prediction is not None:
        planned, errors = len(prediction.fault_ids), prediction.errors
        retries, digest = prediction.retries_mean_success, cell.digest(arm)[:12]
    if any(not cell.pairs[pair].task.told for pair in cell.opens(arm)) and cell.called_into_faults(arm):
        # What a call meets is known, and which calls there will be is not.
        return (cell.name, arm, seed, f"{pairs}", "?", "?", "?", "?", digest)
    rate = f"{errors / pairs:.4f}"
    return (cell.name, arm, seed, f"{pairs}", f"{planned}", f"{errors}", rate, f"{retries:.3f}", digest)

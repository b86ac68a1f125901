"""What a swept setting does: a curve for each swept profile and key, as values and as a drawing in text.

Takes plain numbers, so that a report can draw again from the manifest and the figures of each cell alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_BAR = 40
"""Characters of the longest bar."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmPoint:
    """One arm of a cell: errors over requests, retries per answered request, mean latency over all requests.

    None where there is no such figure.
    """

    arm: str
    error_rate: float | None
    retries_mean_success: float | None
    latency_mean_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptFigures:
    """A cell that came of a sweep: the swept profile, what was set in the cell (key, value), and its two arms."""

    profile: str
    settings: tuple[tuple[str, str], ...]
    arms: tuple[ArmPoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of the swept key, as it was written, and what each arm did with it."""

    value: str
    arms: tuple[ArmPoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The points of one key of one profile in the order of the sweep; `held` is what else was set, the same in all."""

    profile: str
    key: str
    held: tuple[tuple[str, str], ...]
    points: tuple[Point, ...]


def curves(cells: Iterable[SweptFigures]) -> tuple[Curve, ...]:
    """A curve for each profile, each key, and each combination of the other keys' values; none of a single point."""
    points: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Point]] = {}
    for cell in cells:
        for key, value in cell.settings:
            held = tuple(pair for pair in cell.settings if pair[0] != key)
            points.setdefault((cell.profile, key, held), []).append(Point(value=value, arms=cell.arms))
    return tuple(
        Curve(profile=profile, key=key, held=held, points=tuple(found))
        for (profile, key, held), found in points.items()
        if len(found) > 1
    )


def drawing(curve: Curve) -> str:
    """The curve as lines of plain text: a block of bars for each figure, to be printed in a fixed width.

    Within a block all bars have one scale; "-" stands where there is no figure.
    """
    others = "".join(f", {key} = {value}" for key, value in curve.held)
    lines = [f"{curve.profile}: {curve.key}{others}"]
    for title, measure, decimals in _MEASURES:
        lines += ["", f"{title}, by {curve.key}", *_bars(curve.points, measure, decimals)]
    return "\n".join(lines) + "\n"


_MEASURES: tuple[tuple[str, Callable[[ArmPoint], float | None], int], ...] = (
    ("error rate", lambda arm: arm.error_rate, 4),
    ("retries per answered request", lambda arm: arm.retries_mean_success, 3),
    (
        "mean latency in ms",
        lambda arm: None if arm.latency_mean_s is None else arm.latency_mean_s * 1e3,
        1,
    ),
)


def _bars(
    points: Sequence[Point], measure: Callable[[ArmPoint], float | None], decimals: int
) -> Iterable[str]:
    rows = [
        (point.value if position == 0 else "", arm.arm, measure(arm))
        for point in points
        for position, arm in enumerate(point.arms)
    ]
    texts = ["-" if figure is None else f"{figure:.{decimals}f}" for _, _, figure in rows]
    longest = max((figure for _, _, figure in rows if figure is not None), default=0.0)
    widths = [max(map(len, column)) for column in ([r[0] for r in rows], [r[1] for r in rows], texts)]
    for (value, arm, figure), text in zip(rows, texts, strict=True):
        length = round(_BAR * figure / longest) if figure is not None and longest > 0 else 0
        yield f"  {value:>{widths[0]}}  {arm:{widths[1]}}  {text:>{widths[2]}} |{'#' * length}"

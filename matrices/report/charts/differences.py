"""The paired differences of each profile as distributions, with what the baseline differs from itself behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matrices.report import chart as c
from matrices.report.comparison import AA
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import interval, ms
from matrices.report.observed import PairSeen

_BINS = 72
_ROW_PX = 58


def differences_chart(figures: Figures) -> c.Chart | None:
    """The chart; None without a pair that counts."""
    cells = [cell for cell in figures.cells if cell.observed.valid]
    if not cells:
        return None
    floor_ms = None if figures.floor is None else c.in_ms(figures.floor.bound_s)
    bins = _Bins(cells, floor_ms)
    itself = next((cell.observed.valid for cell in cells if cell.config.name == AA), ())
    behind = list(bins.counted(itself))
    bars: list[c.Row] = []
    means: list[c.Row] = []
    for cell in cells:
        name = cell.config.name
        bars += [{"profile": name, "of": "A/A", **one} for one in behind]
        if name != AA:
            bars += [{"profile": name, "of": "profile", **one} for one in bins.counted(cell.observed.valid)]
        if (delta := cell.comparison.delta) is not None:
            low, high = (max(-bins.least, min(bins.most, end * 1e3)) for end in (delta.low, delta.high))
            means.append(
                {
                    "profile": name,
                    "mean": c.in_ms(delta.value),
                    "low": c.settled(low),
                    "high": c.settled(high),
                }
            )
    band: list[c.Row] = [
        {"profile": cell.config.name, "from": -floor_ms, "to": floor_ms}
        for cell in cells
        if floor_ms is not None
    ]
    data: list[c.Row] = [
        {"layer": layer, **one}
        for layer, of in (("bar", bars), ("mean", means), ("floor", band))
        for one in of
    ]
    x: dict[str, object] = {
        "type": "quantitative",
        "scale": {
            "type": "symlog",
            "constant": bins.constant,
            "domain": [-bins.least, bins.most],
            "nice": False,
        },
        "title": f"{figures.sides.compared.name} less {figures.sides.baseline.name} of a pair, ms (symmetric log)",
        "axis": {"values": bins.ticks, "format": ".3~r"},
    }
    return c.Chart(
        name="differences",
        title="Paired differences",
        caption="How the differences of the single pairs are spread, each a share of its profile's pairs. Grey behind "
        "each: the baseline against itself (A/A). The band is the noise floor"
        + (
            f", {ms(figures.floor.bound_s, 2)} ms to either side"
            if figures.floor is not None
            else "; there is none"
        )
        + ". Line and dot: the mean difference with its interval. The axis is linear near zero and logarithmic beyond.",
        alt="Distributions of paired latency differences by profile. "
        + " ".join(
            f"{cell.config.name}: "
            + (
                cell.comparison.unavailable
                if cell.comparison.delta is None
                else interval(cell.comparison.delta)
            )
            + f" over {len(cell.observed.valid)} pairs."
            for cell in cells
        ),
        rows=tuple(row for cell in cells for row in _rows(cell)),
        spec=c.whole(
            {
                "data": c.values(data),
                "facet": {
                    "row": {
                        "field": "profile",
                        "type": "nominal",
                        "sort": [cell.config.name for cell in cells],
                        "title": None,
                        "header": {"labelAngle": 0, "labelAlign": "left"},
                    }
                },
                "spacing": 14,
                "spec": {"width": c.WIDTH, "height": _ROW_PX, "layer": list(_layers(x))},
            }
        ),
    )


def _layers(x: dict[str, object]) -> Iterator[dict[str, object]]:
    share = {"type": "quantitative", "title": None, "axis": {"format": ".0%", "tickCount": 2}}
    for layer, of, colour, opacity in (
        ("floor", "", c.BAND, 1.0),
        ("bar", "A/A", c.QUIET, 0.7),
        ("bar", "profile", c.COMPARED, 0.75),
    ):
        chosen = f"datum.layer === '{layer}'" + (f" && datum.of === '{of}'" if of else "")
        yield {
            "transform": [{"filter": chosen}],
            "mark": {"type": "rect", "color": colour, "opacity": opacity},
            "encoding": {
                "x": {**x, "field": "from"},
                "x2": {"field": "to"},
                **({"y": {**share, "field": "share"}, "y2": {"datum": 0}} if of else {}),
            },
        }
    yield {
        "data": c.values([{"at": 0}]),
        "mark": {"type": "rule", "color": c.QUIET, "strokeDash": [4, 3]},
        "encoding": {"x": {**x, "field": "at"}},
    }
    of_means = [{"filter": "datum.layer === 'mean'"}]
    middle = {"value": _ROW_PX / 2}
    yield {
        "transform": of_means,
        "mark": {"type": "rule", "strokeWidth": 2.5, "color": c.INK},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": middle},
    }
    yield {
        "transform": of_means,
        "mark": {"type": "point", "filled": True, "size": 60, "color": c.INK, "opacity": 1},
        "encoding": {"x": {**x, "field": "mean"}, "y": middle},
    }


def _rows(cell: CellFigures) -> Iterator[c.Row]:
    for pair in cell.observed.pairs:
        yield {
            "profile": cell.config.name,
            "pair": pair.pair,
            "block": pair.block,
            "task": pair.task_id,
            "stratum": pair.stratum,
            "first": pair.first,
            "difference_ms": c.in_ms(pair.difference_s),
            "void": pair.void,
            "contaminated": pair.contaminated,
        }


class _Bins:
    """Bins of equal width on a symmetric logarithmic axis over all differences: `constant` is where it bends."""

    def __init__(self, cells: Sequence[CellFigures], floor_ms: float | None) -> None:
        every = [pair.difference_s * 1e3 for cell in cells for pair in cell.observed.valid]
        typical = sorted(map(abs, every))[len(every) // 2]
        self.constant = c.settled(max(floor_ms or typical, 1e-3)) or 1e-3
        self.most = c.settled(max(*every, 2 * self.constant) * 1.1) or 1.0
        self.least = c.settled(max(-min(every), 2 * self.constant) * 1.1) or 1.0
        self._step = (math.log1p(self.most / self.constant) + math.log1p(self.least / self.constant)) / _BINS
        powers = range(
            math.floor(math.log10(self.constant)), math.ceil(math.log10(max(self.least, self.most))) + 1
        )
        marks = [10.0**power for power in powers if 10.0**power >= self.constant / 2]
        marks = [*(-mark for mark in reversed(marks)), 0.0, *marks]
        self.ticks = [mark for mark in marks if -self.least <= mark <= self.most]

    def counted(self, pairs: Sequence[PairSeen]) -> Iterator[c.Row]:
        counts: dict[int, int] = {}
        for pair in pairs:
            place = math.floor(self._bent(pair.difference_s * 1e3) / self._step)
            counts[place] = counts.get(place, 0) + 1
        for place, count in sorted(counts.items()):
            edges = [c.settled(self._straight(one * self._step)) for one in (place, place + 1)]
            yield {"from": edges[0], "to": edges[1], "share": c.settled(count / len(pairs))}

    def _bent(self, value: float) -> float:
        return math.copysign(math.log1p(abs(value) / self.constant), value)

    def _straight(self, place: float) -> float:
        return math.copysign(math.expm1(abs(place)) * self.constant, place)

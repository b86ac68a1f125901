"""The ratio of mean latencies by profile, with its interval."""

from __future__ import annotations

import math

from matrices.report import chart as c
from matrices.report.comparison import AA
from matrices.report.figures import Figures
from matrices.report.formats import number
from matrices.statistics.estimates import Estimate

_ROW_PX = 30


def ratio_chart(figures: Figures) -> c.Chart | None:
    """The chart; None where no profile has a ratio."""
    cells = [(cell, cell.comparison.ratio) for cell in figures.cells if cell.comparison.ratio is not None]
    if not cells:
        return None
    rows: list[c.Row] = [
        {
            "profile": cell.config.name,
            "ratio": c.settled(ratio.value),
            "low": c.settled(ratio.low),
            "high": c.settled(ratio.high),
            "interval": f"{ratio.confidence:.0%}",
            "verdict": cell.verdict,
            "claim": _claim(cell.config.name, safe=cell.claim_safe),
        }
        for cell, ratio in cells
    ]
    baseline, compared = figures.sides.names
    names = [row["profile"] for row in rows]
    finite = [end for _, one in cells for end in (one.low, one.value, one.high) if math.isfinite(end)]
    margin = figures.manifest.margin
    ends = [min(*finite, 1 - margin), max(*finite, 1 + margin)]
    drawn = [{**row, "low": _end(row["low"], ends[0]), "high": _end(row["high"], ends[1])} for row in rows]
    x = {"type": "quantitative", "scale": {"zero": False, "nice": True}}
    y = {"field": "profile", "type": "nominal", "sort": names, "title": None}
    claims = _told_by([c.GOOD, c.COMPARED, c.QUIET])
    shapes = _told_by(["circle", "diamond", "square"])
    band = [{"from": c.settled(1 - margin), "to": c.settled(1 + margin)}]
    title = f"{compared} / {baseline}, ratio of mean latencies"
    return c.Chart(
        name="ratio",
        title="Ratio by profile",
        caption=f"Mean latency of {compared} over that of {baseline}, with 95 % intervals (99 % for the A/A row, which "
        f"is the noise floor). At 1 the two are alike; the band is the margin of equivalence, {margin:.0%} to either "
        "side. An interval that the data do not bound ends at the edge.",
        alt="Ratio of mean latencies by profile. "
        + " ".join(f"{cell.config.name}: {_said(ratio)}, {cell.verdict}." for cell, ratio in cells),
        rows=tuple(rows),
        spec=c.whole(
            {
                "width": c.WIDTH,
                "height": _ROW_PX * len(rows),
                "layer": [
                    {
                        "data": c.values(band),
                        "mark": {"type": "rect", "color": c.BAND},
                        "encoding": {"x": {**x, "field": "from", "title": title}, "x2": {"field": "to"}},
                    },
                    {
                        "data": c.values([{"at": 1}]),
                        "mark": {"type": "rule", "color": c.QUIET, "strokeDash": [4, 3]},
                        "encoding": {"x": {**x, "field": "at", "title": title}},
                    },
                    {
                        "data": c.values(drawn),
                        "mark": {"type": "rule", "strokeWidth": 3},
                        "encoding": {
                            "y": y,
                            "x": {**x, "field": "low", "title": title},
                            "x2": {"field": "high"},
                            "color": claims,
                        },
                    },
                    {
                        "data": c.values(drawn),
                        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                        "encoding": {
                            "y": y,
                            "x": {**x, "field": "ratio", "title": title},
                            "color": claims,
                            "shape": shapes,
                        },
                    },
                ],
            }
        ),
    )


def _told_by(marks: list[str]) -> dict[str, object]:
    """How sure a row is, by colours or, for who does not see them, by shapes."""
    scale = {"domain": ["claim-safe", "exploratory", "noise floor"], "range": marks}
    return {"field": "claim", "type": "nominal", "title": None, "scale": scale}


def _claim(name: str, *, safe: bool) -> str:
    return "noise floor" if name == AA else "claim-safe" if safe else "exploratory"


def _end(value: c.Value, edge: float) -> c.Value:
    return c.settled(edge) if value is None else value


def _said(one: Estimate) -> str:
    return f"{number(one.value, 3)} [{number(one.low, 3)}, {number(one.high, 3)}]"

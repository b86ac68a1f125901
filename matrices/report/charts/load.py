"""How much others used of the machine in each block, against what a block may have."""

from __future__ import annotations

from matrices.evidence.kept import CONTAMINATION
from matrices.report import chart as c
from matrices.report.figures import Figures

_WORDS = {"steal_fraction": "stolen by other machines", "other_cpu_fraction": "used by other processes"}
_HEIGHT_PX = 150


def load_chart(figures: Figures) -> c.Chart | None:
    """The chart; None where no block tells of the machine."""
    limits = figures.manifest.contamination
    rows: list[c.Row] = []
    marks: list[c.Row] = []
    place = 0
    for cell in figures.cells:
        if cell.observed.blocks:
            marks.append({"at": place, "profile": cell.config.name})
        for block in cell.observed.blocks:
            rows += [
                {
                    "place": place,
                    "profile": cell.config.name,
                    "block": block.block,
                    "of": _WORDS[name],
                    "share": c.settled(block.conditions[name]),
                    "limit": limits.get(name, CONTAMINATION[name]),
                    "contaminated": block.contaminated,
                }
                for name in _WORDS
                if name in block.conditions
            ]
            place += 1
    if not rows:
        return None
    words = list(_WORDS.values())
    colour = {
        "field": "of",
        "type": "nominal",
        "title": None,
        "scale": {"domain": words, "range": [c.COMPARED, c.BASELINE]},
    }
    x = {"type": "quantitative", "scale": {"nice": False, "domain": [-0.5, place - 0.5]}}
    y = {"type": "quantitative", "title": "share of processor time", "axis": {"format": ".0%"}}
    bounds: list[c.Row] = [
        {"of": _WORDS[name], "limit": limits.get(name, CONTAMINATION[name])} for name in _WORDS
    ]
    spoilt = sorted({str(row["profile"]) for row in rows if row["contaminated"]})
    return c.Chart(
        name="conditions",
        title="Conditions",
        caption="Processor time that was not the campaign's, block by block in the order of the run. A block beyond "
        "a limit (dashed) is contaminated, and the results are given with and without it.",
        alt=f"Load of the machine by block: {place} blocks, "
        + (f"contaminated ones in {', '.join(spoilt)}." if spoilt else "none of them contaminated.")
        + "".join(
            f" Most {word}: {max((float(row['share'] or 0) for row in rows if row['of'] == word), default=0):.1%}."
            for word in words
        ),
        rows=tuple({key: value for key, value in row.items() if key != "place"} for row in rows),
        spec=c.whole(
            {
                "width": c.WIDTH,
                "height": _HEIGHT_PX,
                "layer": [
                    {
                        "data": c.values(marks),
                        "mark": {"type": "rule", "color": c.GRID},
                        "encoding": {"x": {**x, "field": "at", "axis": None}},
                    },
                    {
                        "data": c.values(marks),
                        "mark": {"type": "text", "align": "left", "baseline": "bottom", "dx": 3},
                        "encoding": {
                            "x": {**x, "field": "at"},
                            "y": {"value": -2},
                            "text": {"field": "profile"},
                        },
                    },
                    {
                        "data": c.values(bounds),
                        "mark": {"type": "rule", "strokeDash": [4, 3]},
                        "encoding": {"y": {**y, "field": "limit"}, "color": colour},
                    },
                    {
                        "data": c.values(rows),
                        "mark": {"type": "point", "filled": True, "size": 28, "opacity": 1},
                        "encoding": {
                            "x": {**x, "field": "place"},
                            "y": {**y, "field": "share"},
                            "color": colour,
                            "shape": {
                                "condition": {"test": "datum.contaminated !== ''", "value": "cross"},
                                "value": "circle",
                            },
                        },
                    },
                ],
            }
        ),
    )

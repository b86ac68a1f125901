"""A cell as it went: every request by when it was sent, with the windows of faults, errors, retries and duplicates."""

from __future__ import annotations

from matrices.report import chart as c
from matrices.report.figures import CellFigures
from matrices.report.observed import RunSeen

_ENDS = {
    "answered": ("circle", 30),
    "answered after retries": ("triangle-up", 70),
    "duplicate effect": ("diamond", 90),
    "failed": ("cross", 90),
}
"""How the ends of requests are drawn: a shape and its size."""

_WINDOWS = {"fault": c.BAD, "strike": "#c2559d", "outage": "#8a6fc9", "contaminated block": c.QUIET}
"""How the windows in which something was wrong are drawn: a colour."""

_HEIGHT_PX = 190


def timeline_chart(cell: CellFigures) -> c.Chart | None:
    """The chart; None of a cell in which nothing has ended."""
    seen = cell.observed
    rows: list[c.Row] = [
        {
            "arm": run.arm,
            "pair": pair.pair,
            "block": pair.block,
            "task": pair.task_id,
            "at_s": c.settled(run.start_s),
            "ms": c.in_ms(run.latency_s),
            "end": end_of(run),
            "outcome": run.outcome,
            "code": run.code,
            "retries": run.retries,
            "duplicates": run.duplicates,
            "faults": " ".join(run.faults),
            "void": pair.void,
        }
        for pair in seen.pairs
        for run in pair.runs
    ]
    if not rows:
        return None
    windows: list[c.Row] = [
        {"kind": one.kind, "from": c.settled(one.start_s), "to": c.settled(one.end_s)} for one in seen.windows
    ]
    windows += [
        {"kind": "contaminated block", "from": c.settled(one.start_s), "to": c.settled(one.end_s)}
        for one in seen.blocks
        if one.contaminated
    ]
    kinds = [kind for kind in _WINDOWS if any(one["kind"] == kind for one in windows)]
    ends = [end for end in _ENDS if any(row["end"] == end for row in rows)]
    arms = list(cell.config.arms)
    x = {
        "type": "quantitative",
        "title": "s since the first request of the profile",
        "scale": {"nice": False},
        "axis": {"tickCount": 8},
    }
    layers = []
    if windows:
        layers.append(
            {
                "data": c.values(windows),
                "mark": {"type": "rect", "opacity": 0.25, "stroke": c.QUIET, "strokeWidth": 0.5},
                "encoding": {
                    "x": {**x, "field": "from"},
                    "x2": {"field": "to"},
                    "fill": {
                        "field": "kind",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": kinds, "range": [_WINDOWS[kind] for kind in kinds]},
                    },
                },
            }
        )
    layers.append(
        {
            "data": c.values(
                [
                    {
                        **{name: row[name] for name in ("arm", "at_s", "ms", "end")},
                        "size": _ENDS[str(row["end"])][1],
                    }
                    for row in rows
                ]
            ),
            "mark": {"type": "point", "filled": True, "opacity": 0.85},
            "encoding": {
                "x": {**x, "field": "at_s"},
                "y": {
                    "field": "ms",
                    "type": "quantitative",
                    "title": "latency, ms",
                    "scale": {"type": "log"},
                },
                "color": {
                    "field": "arm",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": arms, "range": [c.BASELINE, c.COMPARED]},
                },
                "shape": {
                    "field": "end",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": ends, "range": [_ENDS[end][0] for end in ends]},
                },
                "size": {"field": "size", "type": "quantitative", "scale": None, "legend": None},
            },
        }
    )
    counts = {arm: [row for row in rows if row["arm"] == arm] for arm in arms}
    return c.Chart(
        name=f"timeline-{cell.config.name}",
        title="As it went",
        caption=f"{cell.config.profile}: every request by when it was sent, how long it took (logarithmic), and how "
        "it ended. Shaded: attempts that met a fault, hosts that were struck until they were back, services that did "
        "not answer, blocks that others loaded.",
        alt=f"{cell.config.profile}, requests over time. "
        + " ".join(
            f"{arm}: {len(of)} requests, {sum(row['end'] == 'failed' for row in of)} failed, "
            f"{sum(bool(row['retries']) for row in of)} with retries, "
            f"{sum(bool(row['duplicates']) for row in of)} with duplicate effects."
            for arm, of in counts.items()
        )
        + f" {len(seen.windows)} fault windows, "
        f"{sum(bool(one.contaminated) for one in seen.blocks)} contaminated blocks.",
        rows=tuple(rows),
        spec=c.whole(
            {
                "width": c.WIDTH,
                "height": _HEIGHT_PX,
                "layer": layers,
                "resolve": {"scale": {"color": "independent"}},
            }
        ),
    )


def end_of(run: RunSeen) -> str:
    """How a request ended, in the word that the chart has for it: the worst that is true of it."""
    if not run.ok:
        return "failed"
    if run.duplicates:
        return "duplicate effect"
    return "answered after retries" if run.retries else "answered"

"""Where the time goes: means by profile, the parts of one profile one after the other, and one pair as it ran."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matrices.evidence.hops import NAMES, Hops
from matrices.report import chart as c
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import ms
from matrices.report.observed import PairSeen, RunSeen

_GROUPS: Mapping[str, tuple[str, str]] = {
    "client": ("client hop", "#767676"),
    "loop": ("loop", "#8a6fc9"),
    "backoff": ("backoff", "#d03b3b"),
    "model_hop": ("model hop", "#3b7dd8"),
    "engine": ("engine", "#2f8f5b"),
    "tool_hop": ("tool hop", "#c96a0a"),
    "tool": ("tool", "#a5851d"),
    "black_box": ("black box", "#5d6b7a"),
    "unexplained": ("unexplained", "#c2559d"),
}
"""What parts are drawn as, with a colour; those of the engine stand together."""

_BAR_PX = 22
_LEAST_SHARE = 0.002
"""The share of the whole from which on a part has a row of its own."""


def overview_chart(figures: Figures) -> c.Chart | None:
    """The mean latency of both arms of every profile, stacked by where it went; None where no run tells."""
    rows = [row for cell in figures.cells for row in _grouped(cell)]
    if not rows:
        return None
    used = [label for label, _ in _GROUPS.values() if any(row["part"] == label and row["ms"] for row in rows)]
    colours = dict(_GROUPS.values())
    rows = [{**row, "place": used.index(str(row["part"]))} for row in rows if row["part"] in used]
    names = [cell.config.name for cell in figures.cells]
    return c.Chart(
        name="time-by-profile",
        title="Where the time goes",
        caption="Mean latency of both arms by where it went, over all requests that left a record, failed ones "
        "included. The parts sum to what the client waited; what nothing claims is shown as unexplained.",
        alt="Mean latency by part, profile and arm. "
        + " ".join(f"{cell.config.name}: {'; '.join(_largest(cell))}." for cell in figures.cells),
        rows=tuple({key: value for key, value in row.items() if key != "place"} for row in rows),
        spec=c.whole(
            {
                "data": c.values(rows),
                "facet": {
                    "row": {
                        "field": "profile",
                        "type": "nominal",
                        "sort": names,
                        "title": None,
                        "header": {"labelAngle": 0, "labelAlign": "left"},
                    }
                },
                "spacing": 8,
                "resolve": {"scale": {"y": "independent"}},
                "spec": {
                    "width": c.WIDTH - 60,
                    "height": {"step": _BAR_PX},
                    "mark": {"type": "bar"},
                    "encoding": {
                        "y": {"field": "arm", "type": "nominal", "title": None, "sort": None},
                        "x": {"field": "ms", "type": "quantitative", "title": "mean ms"},
                        "color": {
                            "field": "part",
                            "type": "nominal",
                            "title": None,
                            "scale": {"domain": used, "range": [colours[one] for one in used]},
                        },
                        "order": {"field": "place", "type": "quantitative"},
                    },
                },
            }
        ),
    )


def waterfall_chart(cell: CellFigures) -> c.Chart | None:
    """The mean parts of a cell's arms, each beginning where the one before ended; None where no run tells."""
    rows = [row for arm in cell.arms if arm.hops is not None for row in _steps(arm.arm, arm.hops)]
    if not rows:
        return None
    return c.Chart(
        name=f"waterfall-{cell.config.name}",
        title="Where the time went, means",
        caption=f"{cell.config.profile}: mean time by part, each beginning where the one before ended, so that the "
        "last ends at the mean latency of the requests with a record.",
        alt=f"{cell.config.profile}, mean time by part. {'; '.join(_largest(cell))}.",
        rows=tuple(rows),
        spec=_fall(rows, [arm.arm for arm in cell.arms], "mean ms"),
    )


def pair_chart(cell: CellFigures) -> c.Chart | None:
    """One pair as it ran, attempt by attempt, both arms over one another; None without a pair that tells."""
    found = picked(cell.observed.valid)
    if found is None:
        return None
    pair, why = found
    rows = [row for run in pair.runs for row in _attempts(run)]
    arms = [run.arm for run in pair.runs]
    lanes = [
        lane for lane in ("request", "model", "tool", "agent") if any(row["lane"] == lane for row in rows)
    ]
    words = ["answered", "ok", "failed", "fault"]
    colours = [c.QUIET, c.GOOD, c.COMPARED, c.BAD]
    used = [one for one in words if any(row["end"] == one for row in rows)]
    return c.Chart(
        name=f"pair-{cell.config.name}",
        title="One pair, side by side",
        caption=f"{cell.config.profile}: pair {pair.pair} (task {pair.task_id}), {why}: what each arm did and when, "
        "attempt by attempt from the moment it began. Gaps are the loop, backoffs and the way to the arm.",
        alt=f"{cell.config.profile}, pair {pair.pair}. "
        + " ".join(
            f"{run.arm}: {run.outcome} after {ms(run.latency_s)} ms with {len(run.steps)} attempts, "
            f"{run.retries} of them retries."
            for run in pair.runs
        ),
        rows=tuple(rows),
        spec=c.whole(
            {
                "data": c.values(rows),
                "facet": {
                    "row": {
                        "field": "arm",
                        "type": "nominal",
                        "sort": arms,
                        "title": None,
                        "header": {"labelAngle": 0, "labelAlign": "left"},
                    }
                },
                "spacing": 8,
                "spec": {
                    "width": c.WIDTH - 60,
                    "height": {"step": _BAR_PX},
                    "mark": {"type": "bar", "height": {"band": 0.7}, "stroke": c.INK, "strokeWidth": 0.5},
                    "encoding": {
                        "y": {"field": "lane", "type": "nominal", "sort": lanes, "title": None},
                        "x": {"field": "from_ms", "type": "quantitative", "title": "ms since the run began"},
                        "x2": {"field": "to_ms"},
                        "color": {
                            "field": "end",
                            "type": "nominal",
                            "title": None,
                            "scale": {"domain": used, "range": [colours[words.index(one)] for one in used]},
                        },
                    },
                },
            }
        ),
    )


def picked(pairs: Sequence[PairSeen]) -> tuple[PairSeen, str] | None:
    """The pair that is shown for a cell, and why: the median one of those that met a fault, or of all; None of none."""
    telling = [pair for pair in pairs if all(run.parts is not None for run in pair.runs)]
    struck = [pair for pair in telling if any(run.faults for run in pair.runs)]
    of = struck or telling
    if not of:
        return None
    middle_s = statistics.median_low(pair.difference_s for pair in of)
    found = next(pair for pair in of if pair.difference_s == middle_s)
    return found, "the median of the pairs that met a fault" if struck else "the median pair"


def _grouped(cell: CellFigures) -> Iterator[c.Row]:
    for arm in cell.arms:
        if arm.hops is None:
            continue
        parts = _by_group(arm.hops)
        for group, (label, _) in _GROUPS.items():
            yield {"profile": cell.config.name, "arm": arm.arm, "part": label, "ms": c.in_ms(parts[group])}


def _by_group(hops: Hops) -> dict[str, float]:
    parts = dict.fromkeys(_GROUPS, 0.0)
    for name in NAMES:
        parts["engine" if name.startswith("engine_") else name] += getattr(hops, name)
    return parts


def _steps(arm: str, hops: Hops) -> Iterator[c.Row]:
    whole_s = sum(getattr(hops, name) for name in NAMES)
    at_s = 0.0
    for name in NAMES:
        part_s = getattr(hops, name)
        if abs(part_s) >= _LEAST_SHARE * abs(whole_s):
            group = "engine" if name.startswith("engine_") else name
            yield {
                "arm": arm,
                "part": name.replace("_", " "),
                "group": _GROUPS[group][0],
                "from_ms": c.in_ms(at_s),
                "to_ms": c.in_ms(at_s + part_s),
                "ms": c.in_ms(part_s),
                "text": ms(part_s, 2),
            }
        at_s += part_s


def _fall(rows: Sequence[c.Row], arms: Sequence[str], title: str) -> dict[str, Any]:
    order = [name.replace("_", " ") for name in NAMES]
    parts = [part for part in order if any(row["part"] == part for row in rows)]
    groups = [label for label, _ in _GROUPS.values() if any(row["group"] == label for row in rows)]
    colours = dict(_GROUPS.values())
    y = {"field": "part", "type": "nominal", "sort": parts, "title": None}
    return c.whole(
        {
            "data": c.values(rows),
            "facet": {"column": {"field": "arm", "type": "nominal", "sort": list(arms), "title": None}},
            "spacing": 14,
            "spec": {
                "width": c.WIDTH // 2 - 50,
                "height": {"step": _BAR_PX},
                "layer": [
                    {
                        "mark": {"type": "bar"},
                        "encoding": {
                            "y": y,
                            "x": {"field": "from_ms", "type": "quantitative", "title": title},
                            "x2": {"field": "to_ms"},
                            "color": {
                                "field": "group",
                                "type": "nominal",
                                "legend": None,
                                "scale": {"domain": groups, "range": [colours[one] for one in groups]},
                            },
                        },
                    },
                    {
                        "mark": {"type": "text", "align": "left", "dx": 4},
                        "encoding": {
                            "y": y,
                            "x": {"field": "to_ms", "type": "quantitative"},
                            "text": {"field": "text"},
                        },
                    },
                ],
            },
        }
    )


def _attempts(run: RunSeen) -> Iterator[c.Row]:
    whole: c.Row = {"arm": run.arm, "lane": "request", "name": run.run_id, "attempt": 0, "from_ms": 0.0}
    end = "answered" if run.ok else "failed"
    yield {**whole, "to_ms": c.in_ms(run.latency_s), "end": end, "code": run.code or "OK", "fault": ""}
    for step in run.steps:
        yield {
            "arm": run.arm,
            "lane": step.hop,
            "name": step.name,
            "attempt": step.attempt,
            "from_ms": c.in_ms(step.start_s),
            "to_ms": c.in_ms(step.start_s + step.duration_s),
            "end": "fault" if step.fault_id else "ok" if step.outcome == "ok" else "failed",
            "code": step.code,
            "fault": step.fault_id,
        }


def _largest(cell: CellFigures) -> list[str]:
    """The three largest parts of each arm, in words."""
    told = []
    for arm in cell.arms:
        if arm.hops is None:
            continue
        parts = sorted(_by_group(arm.hops).items(), key=lambda one: -one[1])[:3]
        told.append(f"{arm.arm} {', '.join(f'{_GROUPS[name][0]} {ms(part_s)} ms' for name, part_s in parts)}")
    return told

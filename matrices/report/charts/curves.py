"""What a swept setting does, as lines over its values."""

from __future__ import annotations

from matrices.report import chart as c
from matrices.report.curves import Curve

_MEASURES = ("error rate", "retries per answered request", "mean latency, ms")


def curve_chart(curve: Curve) -> c.Chart:
    """The chart of one curve: a panel for each of its figures, a line for each arm."""
    held = "".join(f", {key} = {value}" for key, value in curve.held)
    rows: list[c.Row] = []
    for point in curve.points:
        for arm in point.arms:
            told = (arm.error_rate, arm.retries_mean_success, c.in_ms(arm.latency_mean_s))
            rows += [
                {"value": point.value, "arm": arm.arm, "measure": measure, "figure": c.settled(figure)}
                for measure, figure in zip(_MEASURES, told, strict=True)
            ]
    title = f"{curve.profile}: {curve.key}{held}"
    name = "-".join(["curve", curve.profile, curve.key, *(value for pair in curve.held for value in pair)])
    arms = [arm.arm for arm in curve.points[0].arms]
    panel = {
        "mark": {"type": "line", "point": {"filled": True, "size": 60}},
        "width": c.WIDTH // 3 - 40,
        "height": 160,
    }
    return c.Chart(
        name="".join(one if one.isalnum() or one in "-_" else "-" for one in name),
        title=title,
        caption=f"{title}. What each value does to errors, retries and mean latency of either arm.",
        alt=f"{title}. "
        + " ".join(
            f"At {point.value}: "
            + ", ".join(
                f"{arm.arm} error rate {_told(arm.error_rate)}, mean {_told(c.in_ms(arm.latency_mean_s))} ms"
                for arm in point.arms
            )
            + "."
            for point in curve.points
        ),
        rows=tuple(rows),
        spec=c.whole(
            {
                "data": c.values(rows),
                "hconcat": [
                    {
                        **panel,
                        "transform": [{"filter": f"datum.measure === '{measure}' && isValid(datum.figure)"}],
                        "encoding": {
                            "x": {
                                "field": "value",
                                "type": "ordinal",
                                "sort": [point.value for point in curve.points],
                                "title": curve.key,
                                "axis": {"labelAngle": 0},
                            },
                            "y": {"field": "figure", "type": "quantitative", "title": measure},
                            "color": {
                                "field": "arm",
                                "type": "nominal",
                                "title": None,
                                "scale": {"domain": arms, "range": [c.BASELINE, c.COMPARED]},
                            },
                        },
                    }
                    for measure in _MEASURES
                ],
            }
        ),
    )


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"

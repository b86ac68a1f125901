"""How a `Board` becomes Grafana's JSON: by the builders of its foundation SDK, which check every field."""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Callable

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from dashboards.charts import Annotation, Board, Chart, Kind

SOURCE = model.DataSourceRef(type_val="prometheus", uid="treni-prometheus")
HEIGHT = 8

_PANELS: dict[Kind, Callable[[], timeseries.Panel | stat.Panel | statetimeline.Panel]] = {
    "timeseries": timeseries.Panel,
    "stat": stat.Panel,
    "states": statetimeline.Panel,
}


def to_json(board: Board) -> str:
    """The dashboard's file, the same whenever it is made."""
    return json.dumps(dashboard(board).build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def dashboard(board: Board) -> build.Dashboard:
    """The dashboard with its variables, annotations, rows and panels."""
    made = (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(board.text)
        .tags(["treni-route"])
        .refresh("5s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    if board.by_arm:
        made = made.with_variable(_variable("arm", "treni_agent_runs_total"))
        made = made.with_variable(_variable("profile", "treni_agent_runs_total"))
    for annotation in board.annotations:
        made = made.annotation(_annotation(annotation))
    numbers = itertools.count(1)
    for title, charts in board.rows.items():
        made = made.with_row(build.Row(title).id(next(numbers)))
        for chart in charts:
            made = made.with_panel(_panel(chart, next(numbers)))
    return made


def _variable(label: str, metric: str) -> Builder[model.VariableModel]:
    return (
        build.QueryVariable(label)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({metric}, {label})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(text="All", value="$__all", selected=True))
    )


def _annotation(annotation: Annotation) -> Builder[model.AnnotationQuery]:
    return (
        build.AnnotationQuery()
        .name(annotation.name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(annotation.color)
        .expr(annotation.expr)
    )


def _panel(chart: Chart, number: int) -> Builder[model.Panel]:
    panel = (
        _PANELS[chart.kind]()
        .id(number)
        .title(chart.title)
        .description(chart.text + (" Needs a GPU." if chart.requires == "gpu" else ""))
        .datasource(SOURCE)
        .unit(chart.unit)
        .height(HEIGHT)
        .span(chart.width)
    )
    for letter, query in zip(string.ascii_uppercase, chart.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
        panel = panel.with_target(target.datasource(SOURCE).range().exemplar(chart.kind == "timeseries"))
    return panel

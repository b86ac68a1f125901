"""Every chart is a specification that Vega-Lite's schema takes, drawn with every number it was given."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import altair
import jsonschema
import pytest

from matrices.evidence.campaign import load_campaign
from matrices.report.chart import Chart, settled
from matrices.report.charts.curves import curve_chart
from matrices.report.charts.differences import differences_chart
from matrices.report.charts.drawing import charts_of, svg
from matrices.report.charts.hops import overview_chart, picked, waterfall_chart
from matrices.report.charts.ratio import ratio_chart
from matrices.report.charts.timeline import timeline_chart
from matrices.report.curves import ArmPoint, Curve, Point
from matrices.report.figures import Figures, figures
from matrices.report.observed import BlockSeen, Window
from matrices.report.sections import page
from tests.matrices.report.test_report import _figures
from tests.places import ROOT


@pytest.fixture(scope="module")
def real() -> Figures:
    campaign, manifest, history = load_campaign(ROOT / "examples" / "matrix-h200" / "run")
    return figures(manifest, history.events, campaign.expectations)


def of(figures: Figures, name: str) -> Chart:
    return next(chart for chart in charts_of(page(figures)) if chart.name == name)


def drawn(chart: Chart) -> ElementTree.Element:
    """The chart as drawn, every shape of which has a place."""
    text = svg(chart)
    assert "NaN" not in text
    assert "undefined" not in text
    return ElementTree.fromstring(text)


def numbers_of(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from numbers_of(one)
    elif isinstance(value, float):
        yield value


def curve() -> Curve:
    arms = [
        tuple(
            ArmPoint(arm=arm, error_rate=rate, retries_mean_success=None, latency_mean_s=0.1)
            for arm in ("a", "b")
        )
        for rate in (0.5, 0.25)
    ]
    points = tuple(Point(value=str(place), arms=two) for place, two in enumerate(arms))
    return Curve(profile="r03", key="policy.retries", held=(("rate", "0.1/s"),), points=points)


def test_the_charts_of_a_real_campaign_are_valid_and_drawn(real: Figures) -> None:
    every = [*charts_of(page(real)), curve_chart(curve())]
    assert len({chart.name for chart in every}) == len(every) > 20
    for chart in every:
        assert all(map(math.isfinite, numbers_of(dict(chart.spec))))
        assert chart.caption.endswith(".")
        assert chart.alt.endswith(".")
        assert chart.rows
    # One of each kind: the cells' differ in their data alone.
    for chart in [*every[:5], *(one for one in every if one.name.endswith("-p03")), every[-1]]:
        altair.Chart.from_dict(json.loads(json.dumps(chart.spec)), validate=True)
        assert drawn(chart).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_schema_refuses_what_is_no_specification(real: Figures) -> None:
    chart = of(real, "ratio")
    with pytest.raises(jsonschema.ValidationError):
        altair.Chart.from_dict({**chart.spec, "layer": [{"mark": "no such mark"}]}, validate=True)


def test_every_run_is_in_the_timeline_and_every_pair_in_the_differences(real: Figures) -> None:
    for cell in real.cells:
        chart = timeline_chart(cell)
        assert chart is not None
        assert len(chart.rows) == 2 * cell.pairs
        for arm in cell.arms:
            mine = [row for row in chart.rows if row["arm"] == arm.arm]
            assert sum(row["end"] == "failed" for row in mine) == arm.errors
            answered = [row for row in mine if row["outcome"] == "ok"]
            assert sum(int(row["retries"] or 0) for row in answered) == arm.retries_of_successes
            assert sum(len(str(row["faults"]).split()) for row in mine) == len(arm.faults.delivered)
    points = drawn(of(real, "timeline-p03")).findall(".//*[@class='mark-symbol role-mark layer_1_marks']/*")
    assert len(points) == len(of(real, "timeline-p03").rows)
    chart = differences_chart(real)
    assert chart is not None
    for cell in real.cells:
        told = [float(row["difference_ms"] or 0) for row in chart.rows if row["profile"] == cell.config.name]
        assert cell.comparison.median_delta_s is not None
        assert statistics.median(told) == pytest.approx(cell.comparison.median_delta_s * 1e3, rel=1e-4)


def test_the_bars_of_a_distribution_are_all_of_its_pairs(real: Figures) -> None:
    chart = differences_chart(real)
    assert chart is not None
    bars = [row for row in chart.spec["data"]["values"] if row["layer"] == "bar"]
    for cell in real.cells:
        mine = [row["share"] for row in bars if row["profile"] == cell.config.name and row["of"] == "A/A"]
        assert math.fsum(mine) == pytest.approx(1)
        own = [row["share"] for row in bars if row["profile"] == cell.config.name and row["of"] == "profile"]
        assert (own == []) == (cell.config.name == "aa")
        assert not own or math.fsum(own) == pytest.approx(1)


def test_the_parts_sum_to_the_mean_that_the_table_has(real: Figures) -> None:
    chart = overview_chart(real)
    assert chart is not None
    for cell in real.cells:
        for arm in cell.arms:
            parts = [
                float(row["ms"] or 0)
                for row in chart.rows
                if (row["profile"], row["arm"]) == (cell.config.name, arm.arm)
            ]
            assert arm.latency is not None
            assert math.fsum(parts) == pytest.approx(arm.latency.mean_s * 1e3, rel=1e-4)
        fall = waterfall_chart(cell)
        assert fall is not None
        for arm in cell.arms:
            last = [row for row in fall.rows if row["arm"] == arm.arm][-1]
            assert arm.latency is not None
            assert last["to_ms"] == pytest.approx(arm.latency.mean_s * 1e3, rel=5e-3)


def test_the_pair_that_is_shown_met_a_fault_where_any_did(real: Figures) -> None:
    for cell in real.cells:
        found = picked(cell.observed.valid)
        assert found is not None
        pair, why = found
        struck = any(arm.faults.delivered for arm in cell.arms)
        assert any(run.faults for run in pair.runs) == struck == ("fault" in why)
    assert picked(()) is None


def test_windows_and_contaminated_blocks_are_shaded() -> None:
    made = _figures()
    cell = made.cells[1]
    seen = replace(
        cell.observed,
        windows=(
            Window(kind="strike", label="x", start_s=0.1, end_s=0.4),
            Window(kind="outage", label="y", start_s=0.2, end_s=0.5),
        ),
        blocks=(
            BlockSeen(
                block=0, start_s=0.0, end_s=0.3, conditions={"steal_fraction": 0.5}, contaminated="why"
            ),
        ),
    )
    chart = timeline_chart(replace(cell, observed=seen))
    assert chart is not None
    assert len(drawn(chart).findall(".//*[@class='mark-rect role-mark layer_0_marks']/*")) == 3
    assert "2 fault windows, 1 contaminated blocks" in chart.alt


def test_what_the_data_do_not_bound_ends_at_the_edge() -> None:
    made = _figures()
    cells = tuple(
        replace(
            cell,
            comparison=replace(
                cell.comparison,
                ratio=None
                if cell.comparison.ratio is None
                else replace(cell.comparison.ratio, high=math.inf),
            ),
        )
        for cell in made.cells
    )
    chart = ratio_chart(replace(made, cells=cells))
    assert chart is not None
    assert all(row["high"] is None for row in chart.rows)
    drawn(chart)


def test_a_campaign_in_which_nothing_ended_has_no_charts_of_runs() -> None:
    made = _figures([])
    assert list(charts_of(page(made))) == []


@pytest.mark.parametrize(
    ("value", "settles"),
    [(1 / 3, 0.333333), (-0.0, 0.0), (math.inf, None), (math.nan, None), (None, None)],
)
def test_numbers_settle(value: float | None, settles: float | None) -> None:
    assert settled(value) == settles

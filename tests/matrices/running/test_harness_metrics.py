"""What the harness tells of a real campaign's history is what its report says of it."""

from __future__ import annotations

import pytest

from matrices.evidence import events as ev
from matrices.evidence.campaign import Campaign, load_campaign
from matrices.report.figures import Figures, figures
from matrices.running.metrics import HarnessMetrics
from matrices.statistics.verdicts import Verdict
from tests.places import ROOT
from treni.metrics import Page

FOLDER = ROOT / "examples" / "matrix-h200" / "run"


@pytest.fixture(scope="module")
def loaded() -> tuple[Campaign, tuple[ev.Event, ...], Figures]:
    campaign, manifest, history = load_campaign(FOLDER)
    return campaign, tuple(history.events), figures(manifest, history.events, campaign.expectations)


@pytest.fixture(scope="module")
def page(loaded: tuple[Campaign, tuple[ev.Event, ...], Figures]) -> Page:
    campaign, events, _ = loaded
    page = Page()
    counts = page.part(HarnessMetrics)
    counts.begin(campaign, events[:-1])
    counts.fold(events[-1])  # the seal, upon which all is judged
    return page


def value(page: Page, name: str, **labels: str) -> float:
    return page.registry.get_sample_value(f"treni_harness_{name}", labels) or 0.0


def test_requests_errors_retries_and_faults_are_those_of_the_report(
    page: Page, loaded: tuple[Campaign, tuple[ev.Event, ...], Figures]
) -> None:
    _, events, report = loaded
    for cell in report.cells:
        for arm in cell.arms:
            of = {"arm": arm.arm, "profile": cell.config.name}
            ended = {
                outcome: value(page, "requests_total", **of, outcome=outcome)
                for outcome in ("ok", "fail", "unknown")
            }
            assert sum(ended.values()) == arm.requests
            assert ended["ok"] == arm.successes
            assert value(page, "request_seconds_count", **of) == arm.requests
            assert value(page, "wrong_answers_total", **of) == arm.wrong_answers
            faults = arm.faults
            told = [
                value(page, name, **of)
                for name in ("faults_planned_total", "faults_delivered", "faults_observed_total")
            ]
            assert told == [len(faults.planned), len(faults.delivered), len(faults.observed)], of
            assert value(page, "in_flight", **of) == 0
            for kind in ("recorded", "lost", "duplicate", "phantom", "stranger"):
                assert value(page, "effects", **of, kind=kind) == getattr(arm.effects, kind)
    assert sum(isinstance(event, ev.Outcome) for event in events) == sum(
        arm.requests for cell in report.cells for arm in cell.arms
    )


def test_ratio_interval_and_verdict_are_those_of_the_report(
    page: Page, loaded: tuple[Campaign, tuple[ev.Event, ...], Figures]
) -> None:
    report = loaded[2]
    assert report.floor is not None
    assert value(page, "floor_seconds") == report.floor.bound_s
    for cell in report.cells:
        name, ratio = cell.config.name, cell.comparison.ratio
        assert ratio is not None
        bounds = [value(page, "latency_ratio", profile=name, bound=one) for one in ("value", "low", "high")]
        assert bounds == [ratio.value, ratio.low, ratio.high]
        said = {one for one in Verdict if value(page, "verdict", profile=name, verdict=one.name.lower())}
        assert said == {cell.comparison.verdict}
        assert value(page, "claim_safe", profile=name) == cell.claim_safe
        assert value(page, "findings", profile=name) == len(cell.findings)
        assert value(page, "pairs_complete", profile=name) == value(page, "pairs_planned", profile=name)
        assert value(page, "cell_active", profile=name) == 0


def test_a_history_that_was_cut_short_leaves_nothing_in_flight(
    loaded: tuple[Campaign, tuple[ev.Event, ...], Figures],
) -> None:
    campaign, events, _ = loaded
    cut = next(n for n, event in enumerate(events) if isinstance(event, ev.Invoke) and event.pair == 3) + 1
    page = Page()
    counts = page.part(HarnessMetrics)
    counts.begin(campaign, events[:cut])
    begun = events[cut - 1]
    assert isinstance(begun, ev.Invoke)
    assert value(page, "in_flight", arm=begun.arm, profile=begun.cell) == 0
    counts.fold(begun)
    assert value(page, "in_flight", arm=begun.arm, profile=begun.cell) == 1

"""Where `every` beats against retries, by hand and against a simulation of independent faults."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from matrices.planning.beat import beat_sentence, independent_error_rate
from matrices.planning.plan import PlannedCell, plan_cell
from matrices.spec.profiles import bundled_profiles, load_profile
from matrices.spec.suites import load_suite


def _cell(short: str, *, suite: str = "core", runs: int = 12) -> PlannedCell:
    return plan_cell(bundled_profiles()[short], load_suite(suite), runs=runs)


def test_p04_fails_fewer_than_independent_faults_would() -> None:
    # q = 1 - 1/2 * 2/3 = 2/3, a call fails with q^2 = 4/9, and 12 of 48 requests make one: 5.33.
    assert independent_error_rate(_cell("p04"), "external") == pytest.approx(12 * (4 / 9) / 48)
    sentence = beat_sentence(_cell("p04"), "external")
    assert "fails 4 of 48 requests (0.0833)" in sentence
    assert "would fail 5.3 (0.1111)" in sentence
    assert "from 8 to 4" in sentence
    assert "from 8.0 to 5.3" in sentence


def test_the_second_retry_of_p05_changes_nothing() -> None:
    assert independent_error_rate(_cell("p05"), "external") == pytest.approx(12 * (8 / 27) / 48)
    sentence = beat_sentence(_cell("p05"), "external")
    assert "fails 4 of 48 requests (0.0833)" in sentence
    assert "would fail 3.6 (0.0741)" in sentence
    assert "Retry 2 changes nothing (independent faults would go from 5.3 to 3.6)" in sentence
    # n = 2, 3, 4 of every six: 503, timeout, 503.
    assert "up to 3 attempts in a row" in sentence
    assert "with 1 retry as with 2" in sentence


def test_the_twins_say_it_of_both_arms() -> None:
    assert beat_sentence(_cell("p05"), "internal") == ""
    assert beat_sentence(_cell("p05t"), "internal") == beat_sentence(_cell("p05t"), "external") != ""


@pytest.mark.parametrize("short", ["p00", "p01", "p02", "p03", "r01", "r02", "r03", "r04", "r05"])
def test_nothing_is_said_where_nothing_beats(short: str) -> None:
    assert beat_sentence(_cell(short), "external") == ""


def test_nothing_is_said_without_retries() -> None:
    profile = bundled_profiles()["p04"]
    once = profile.model_copy(update={"policy": profile.policy.model_copy(update={"retries": 0})})
    assert beat_sentence(replace(_cell("p04"), profile=once), "external") == ""


def test_the_independent_rate_is_what_drawn_faults_give(tmp_path: Path) -> None:
    """Rules of which one only slows the attempt down and hides the next, on requests of several calls."""
    path = tmp_path / "mixed.toml"
    path.write_text(
        'name = "mixed"\ntitle = "t"\n[policy]\nretries = 1\n'
        '[[faults.rules]]\nkind = "latency"\ndelay = "10ms"\nevery = 3\n'
        '[[faults.rules]]\nkind = "status"\nevery = 2\n'
        '[[faults.rules]]\nkind = "stall"\ndirection = "request"\nevery = 4\n'
    )
    cell = plan_cell(load_profile(path), load_suite("chains"), runs=12)
    generator = random.Random(5)

    def attempt_fails() -> bool:
        if generator.random() < 1 / 3:
            return False
        return generator.random() < 1 / 2 or generator.random() < 1 / 4

    trials = 500
    counts = [sum(call.hop == "tool" for call in calls) for calls in cell.calls]
    failed = sum(
        any(attempt_fails() and attempt_fails() for _ in range(calls))
        for _ in range(trials)
        for calls in counts
    )
    requests = trials * len(counts)
    assert max(counts) > 2
    assert failed / requests == pytest.approx(
        independent_error_rate(cell, "external"), abs=5 * 0.5 / requests**0.5
    )

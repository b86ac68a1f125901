"""`--set`: what a setting may be, which variants it makes, and the curves that come of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from matrices.planning.plan import plan_cell
from matrices.report.curves import ArmPoint, Curve, Point, SweptFigures, curves, drawing
from matrices.spec.profiles import Profile, load_profile, select_profiles
from matrices.spec.suites import load_suite
from matrices.spec.sweeps import KEYS, MAX_VARIANTS, SweptCell, expand, parse_setting
from treni.errors import Code, TreniError


def _expand(selection: str, *settings: str) -> tuple[list[Profile], tuple[SweptCell, ...]]:
    return expand(select_profiles(selection), [parse_setting(text) for text in settings])


def test_each_value_makes_a_variant_of_each_profile() -> None:
    profiles, swept = _expand("r01,p00", "policy.retries=0..2")
    assert [profile.name for profile in profiles] == [
        "r01retries0_independent_mild",
        "r01retries1_independent_mild",
        "r01retries2_independent_mild",
        "p00retries0_baseline",
        "p00retries1_baseline",
        "p00retries2_baseline",
    ]
    assert [profile.policy.retries for profile in profiles] == [0, 1, 2] * 2
    assert profiles[0].faults == select_profiles("r01")[0].faults
    assert profiles[0].title.endswith("; policy.retries = 0")
    assert swept[0] == SweptCell(
        cell="r01retries0", profile="r01_independent_mild", settings=(("policy.retries", "0"),)
    )


def test_several_settings_make_every_combination() -> None:
    profiles, swept = _expand("p03", "policy.tool_timeout=100ms,1.5s", "policy.retries=1,3")
    assert [(p.policy.tool_timeout, p.policy.retries) for p in profiles] == [
        (0.1, 1),
        (0.1, 3),
        (1.5, 1),
        (1.5, 3),
    ]
    assert [profile.short for profile in profiles] == [
        "p03tooltimeout100msretries1",
        "p03tooltimeout100msretries3",
        "p03tooltimeout1p5sretries1",
        "p03tooltimeout1p5sretries3",
    ]
    assert swept[2].settings == (("policy.tool_timeout", "1.5s"), ("policy.retries", "1"))


@pytest.mark.parametrize(
    ("setting", "section", "key", "values"),
    [
        ("policy.retries = 0..4", "policy", "retries", [0, 1, 2, 3, 4]),
        ("policy.retries=3", "policy", "retries", [3]),
        ("policy.backoff_multiplier=1,1.5,2..3", "policy", "backoff_multiplier", [1.0, 1.5, 2.0, 3.0]),
        ("policy.backoff_jitter=0.0", "policy", "backoff_jitter", [0.0]),
        ("policy.run_timeout=2m,250ms", "policy", "run_timeout", [120.0, 0.25]),
        ("faults.seed=7..9", "faults", "seed", [7, 8, 9]),
        ("faults.site=hop,tool", "faults", "site", ["hop", "tool"]),
    ],
)
def test_values_are_read_as_a_profile_would(
    setting: str, section: str, key: str, values: list[object]
) -> None:
    profiles, _ = _expand("r03", setting)
    assert [getattr(getattr(profile, section), key) for profile in profiles] == values


def test_without_settings_the_profiles_stay_as_they_are() -> None:
    profiles, swept = _expand("p00..p05")
    assert profiles == select_profiles("p00..p05")
    assert swept == ()


def test_a_profile_of_one_word_gets_names_that_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\ntitle = "t"\n')
    profiles, _ = expand([load_profile(path)], [parse_setting("policy.retries=0,1")])
    assert [profile.name for profile in profiles] == ["mineretries0", "mineretries1"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["policy.retries"], ["KEY=VALUES", "'policy.retries'"]),
        (["retries=1"], ["'retries'", *KEYS]),
        (["policy.retriez=1"], ["'policy.retriez'", "policy.retries"]),
        (["faults.rules=1"], ["'faults.rules'", "faults.seed"]),
        (["policy.retries="], ["policy.retries", "nothing"]),
        (["policy.retries=1,,2"], ["policy.retries", "nothing"]),
        (["policy.retries=1,0..2"], ["policy.retries", "1 more than once"]),
        (["policy.retries=4..0"], ["policy.retries", "4..0"]),
        (["faults.seed=0..1000000"], ["faults.seed", str(MAX_VARIANTS)]),
        (["faults.seed=0..50", "policy.retries=0,1"], [str(MAX_VARIANTS), "102"]),
        (["policy.retries=1", "policy.retries=2"], ["each key", "policy.retries"]),
        (["policy.retries=99"], ["--set policy.retries=99", "less than or equal to 10", "got 99"]),
        (["policy.retries=many"], ["policy.retries", "integer", "'many'"]),
        (["policy.retries=true"], ["policy.retries", "integer", "True"]),
        (["policy.tool_timeout=250"], ["policy.tool_timeout", "us, ms, s, m", "250"]),
        (["faults.site=moon"], ["faults.site", "'hop', 'tool' or 'host'"]),
        (["faults.by=attempt"], ["rules.0.rate", 'by = "request"']),
        (["policy.tool_timeout=1ms,1 ms"], ["tooltimeout1ms"]),
    ],
)
def test_bad_settings_name_the_key_and_what_is_allowed(settings: list[str], words: list[str]) -> None:
    with pytest.raises(TreniError) as caught:
        _expand("r03", *settings)
    assert caught.value.code is Code.INVALID_ARGUMENT
    for word in words:
        assert word in str(caught.value)


def _figures(profile: str, settings: tuple[tuple[str, str], ...], errors: float | None) -> SweptFigures:
    arms = (
        ArmPoint(arm="internal", error_rate=0.0, retries_mean_success=0.0, latency_mean_s=0.05),
        ArmPoint(arm="external", error_rate=errors, retries_mean_success=None, latency_mean_s=0.1),
    )
    return SweptFigures(profile=profile, settings=settings, arms=arms)


def test_a_curve_for_each_profile_and_key_with_the_others_held() -> None:
    cells = [
        _figures(profile, (("a", a), ("b", b)), float(a) + 0.1 * float(b))
        for profile in ("one", "two")
        for a in ("0", "1")
        for b in ("2", "3", "4")
    ]
    found = curves(cells)
    assert [(curve.profile, curve.key, curve.held, len(curve.points)) for curve in found] == [
        (profile, key, held, points)
        for profile in ("one", "two")
        for key, held, points in [
            ("a", (("b", "2"),), 2),
            ("b", (("a", "0"),), 3),
            ("a", (("b", "3"),), 2),
            ("a", (("b", "4"),), 2),
            ("b", (("a", "1"),), 3),
        ]
    ]
    assert [point.value for point in found[1].points] == ["2", "3", "4"]
    assert [point.arms[1].error_rate for point in found[1].points] == pytest.approx([0.2, 0.3, 0.4])


def test_one_value_is_no_curve() -> None:
    assert curves([_figures("one", (("a", "0"),), 0.5)]) == ()


def test_the_drawing_has_every_figure_and_bars_to_scale() -> None:
    curve = Curve(
        profile="r01_independent_mild",
        key="policy.retries",
        held=(("policy.tool_timeout", "1s"),),
        points=(
            Point(value="0", arms=_figures("x", (), 0.2).arms),
            Point(value="10", arms=_figures("x", (), 0.05).arms),
            Point(value="20", arms=_figures("x", (), None).arms),
        ),
    )
    lines = drawing(curve).splitlines()
    assert lines[0] == "r01_independent_mild: policy.retries, policy.tool_timeout = 1s"
    start = lines.index("error rate, by policy.retries")
    assert lines[start + 1 : start + 7] == [
        "   0  internal  0.0000 |",
        "      external  0.2000 |" + "#" * 40,
        "  10  internal  0.0000 |",
        "      external  0.0500 |" + "#" * 10,
        "  20  internal  0.0000 |",
        "      external       - |",
    ]
    start = lines.index("mean latency in ms, by policy.retries")
    assert lines[start + 2] == "      external  100.0 |" + "#" * 40
    assert all(line.isascii() and line == line.rstrip() for line in lines)


def test_swept_retries_take_errors_down_on_independent_faults() -> None:
    profiles, _ = _expand("r03", "policy.retries=0..4")
    suite = load_suite("tool_only")
    cells = [plan_cell(profile, suite, runs=12, fault_seeds=8) for profile in profiles]
    predictions = [cell.prediction("external") for cell in cells]
    errors = [prediction.errors for prediction in predictions if prediction is not None]
    assert len(errors) == 5
    assert all(fewer > more for fewer, more in pairwise(errors))

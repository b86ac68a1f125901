"""The tables of docs/simulation.md in small: the same functions, fewer campaigns, fixed seeds."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from matrices.cli.main import main
from matrices.simulation import measure as measure_module
from matrices.simulation.campaigns import Setting, draw
from matrices.simulation.measure import COVERAGE_LIMITS, SAFE_AND_WRONG_LIMIT, Measured, measure
from matrices.simulation.noise import DRIFTING, FAMILIES
from matrices.simulation.tables import closing, full_table, markdown, summary
from matrices.spec.profiles import Profile, select_profiles
from matrices.spec.rules import RULES
from treni.errors import TreniError

PROFILES = {profile.short: profile for profile in select_profiles("p00,p01,p03,p04,p04t")}
SMALL = 400
# Of 400 campaigns with a coverage of 95.5 to 98 %, one in 10,000 rows lies outside of this.
LOW, HIGH = 0.915, 0.9975


def setting_of(
    family: str = "student",
    profile: str = "p00",
    *,
    runs: int = 12,
    level_s: float = 0.008,
    planted_s: float = 0.0,
) -> Setting:
    return Setting(family=family, level_s=level_s, profile=PROFILES[profile], runs=runs, planted_s=planted_s)


def measured(
    family: str = "student",
    profile: str = "p00",
    *,
    runs: int = 12,
    level_s: float = 0.008,
    planted_s: float = 0.0,
) -> Measured:
    setting = setting_of(family, profile, runs=runs, level_s=level_s, planted_s=planted_s)
    return measure(setting, SMALL, 20_261_128)


@pytest.mark.parametrize("runs", [3, 6, 12, 24])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - DRIFTING))
def test_the_intervals_cover_the_truth_as_often_as_they_say(family: str, runs: int) -> None:
    for level_s, profile in ((0.0004, "p03"), (0.040, "p04")):
        row = measured(family, profile, runs=runs, level_s=level_s, planted_s=0.02)
        assert LOW <= row.covered <= HIGH, (row.covered, level_s)
        assert LOW <= row.ratio_covered <= HIGH, (row.ratio_covered, level_s)


@pytest.mark.parametrize("runs", [3, 6, 12, 24])
@pytest.mark.parametrize("family", sorted(DRIFTING))
def test_a_drift_of_one_arm_is_covered_or_the_claim_refused(family: str, runs: int) -> None:
    for level_s in (0.001, 0.016):
        row = measured(family, runs=runs, level_s=level_s)
        assert row.carried >= COVERAGE_LIMITS[0] - 0.035, (row.carried, level_s)
        assert row.safe_and_wrong <= SAFE_AND_WRONG_LIMIT, level_s


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("profile", ["p00", "p04t"])
def test_a_planted_zero_is_rarely_called_a_difference(family: str, profile: str) -> None:
    row = measured(family, profile, level_s=0.040)
    assert row.truth_s == pytest.approx(0, abs=0.02 if family == "warmup" else 1e-12)
    assert row.directions <= 0.05
    assert row.safe_and_wrong <= SAFE_AND_WRONG_LIMIT


def test_a_large_difference_is_called_one_and_a_quiet_zero_equivalent() -> None:
    large = measured(planted_s=0.05)
    assert (large.wrong, large.safe_and_wrong) == (0, 0)
    assert large.directions > 0.95
    assert large.safe > 0.9
    quiet = measured(level_s=0.001)
    assert (quiet.directions, quiet.wrong) == (0, 0)
    assert quiet.safe > 0.9, "claims that the arms are equivalent"


@pytest.mark.parametrize("profile", ["p00", "p03", "p04", "p04t"])
def test_an_order_effect_moves_no_estimate_by_a_tenth_of_its_interval(profile: str) -> None:
    row = measured("order", profile, level_s=0.0004, planted_s=0.02)
    assert 0 < row.order_move < 0.1


def test_the_truth_under_faults_is_what_the_schedule_costs() -> None:
    """p04: 12 retries, 4 stalls of 250 ms, 4 failed tool tasks of 240 ms that leave out their last 40 %."""
    batch = draw(np.random.default_rng(1), setting_of(profile="p04", planted_s=0.01), 400, 0)
    backoffs_s = sum(batch.pairs.planned_s) - 4 * 0.25
    assert backoffs_s == pytest.approx(12 * 0.1, rel=0.1)
    assert backoffs_s != pytest.approx(12 * 0.1, rel=1e-4), "the policy's own jitter is in it"
    left_out_s = 4 * 0.4 * 0.24
    cost_s = (backoffs_s + 4 * 0.25 - left_out_s) / 48
    assert batch.difference_s.mean() == pytest.approx(0.01 + cost_s, abs=0.0005)
    assert (batch.baseline_errors, batch.compared_errors) == (0, 4)


def test_campaigns_follow_the_plan_of_their_seed() -> None:
    rng = np.random.default_rng(2)
    one, other = (draw(rng, setting_of(profile="p04"), 1, seed).pairs for seed in (1, 2))
    assert one.signs != other.signs
    assert one.planned_s != other.planned_s
    assert one.strata == other.strata
    assert sum(one.signs) == sum(other.signs) == 0, "balanced"


def test_the_same_seed_gives_the_same_row_whatever_else_is_measured() -> None:
    setting = setting_of("lognormal", "p04", planted_s=0.02)
    one, same, other = (measure(setting, 50, seed) for seed in (1, 1, 2))
    assert one == same != other


def test_a_figure_out_of_limits_is_named() -> None:
    row = replace(measured(), campaigns=1000)
    assert row.faults == ()
    assert replace(row, covered=0.90).faults == ("difference covered",)
    assert replace(row, ratio_covered=0.999).faults == ("ratio covered",)
    assert replace(row, directions=0.08).faults == ("called a difference",)
    assert replace(row, safe_and_wrong=0.02).faults == ("claim-safe and wrong",)
    assert replace(row, order_move=0.2).faults == ("moved by the order",)
    drifting = replace(row, setting=setting_of("walk"), covered=0.7, carried=0.95)
    assert drifting.faults == ()
    assert replace(drifting, carried=0.9).faults == ("carried",)


def test_what_chance_makes_of_a_figure_depends_on_the_campaigns() -> None:
    row = replace(measured(), covered=0.92, ratio_covered=0.97)
    assert replace(row, campaigns=1000).faults == ()
    assert replace(row, campaigns=10_000).faults == ("difference covered",)


def test_faults_without_a_known_cost_are_refused() -> None:
    rule = RULES["latency"].model_validate({"kind": "latency", "delay": "100ms", "every": 3})
    base = PROFILES["p00"]
    slow: Profile = base.model_copy(update={"faults": base.faults.model_copy(update={"rules": (rule,)})})
    with pytest.raises(TreniError) as caught:
        measure(replace(setting_of(), profile=slow), 1, 0)
    assert caught.value.kind == "simulation_profile"


def test_the_tables_have_every_setting() -> None:
    rows = [
        measure(setting_of(family, runs=runs), 10, 1) for family in ("student", "walk") for runs in (3, 12)
    ]
    lines = markdown([full_table(rows)]).splitlines()
    assert len(lines) == 2 + len(rows)
    text = markdown(summary(rows))
    assert "| student | 8 |" in text
    assert "| walk | 8 |" in text
    assert "4 rows of 10 campaigns" in closing(rows)


def test_the_command_prints_tables_markdown_and_json() -> None:
    quick = ["simulate", "--families", "student", "--levels", "8", "--runs", "6", "--profiles", "p00"]
    quick += ["--planted", "0", "--campaigns", "200", "--seed", "4"]
    table = CliRunner().invoke(main, quick).stdout
    assert re.search(r"^ student +8 +\d+\.\d$", table, re.MULTILINE)
    assert "1 rows of 200 campaigns, 0 out of limits." in table
    assert "| student | 8 |" in CliRunner().invoke(main, [*quick, "--format", "markdown"]).stdout
    (row,) = json.loads(CliRunner().invoke(main, [*quick, "--format", "json"]).stdout)
    assert row["setting"]["profile"] == "p00_baseline"
    assert 0.9 < row["covered"] <= 1
    assert row["out_of_limits"] == []


def test_the_command_fails_where_a_row_does(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = [
        "simulate",
        "--families",
        "student",
        "--levels",
        "8",
        "--runs",
        "12",
        "--profiles",
        "p00",
        "--planted",
        "0",
    ]
    passed = CliRunner().invoke(main, [*quick, "--campaigns", "200", "--seed", "4"])
    assert passed.exit_code == 0, passed.output
    assert "0 out of limits" in passed.output
    monkeypatch.setattr(measure_module, "COVERAGE_LIMITS", (0.2, 0.3))
    failed = CliRunner().invoke(main, [*quick, "--campaigns", "200", "--full", "--format", "markdown"])
    assert failed.exit_code == 1
    assert "difference covered" in failed.output


@pytest.mark.parametrize(
    "wrong",
    [
        ["--profiles", "p99"],
        ["--families", "gauss"],
        ["--runs", "2"],
        ["--runs", "3.5"],
        ["--levels", "0"],
        ["--levels", "fast"],
        ["--planted", ""],
    ],
)
def test_wrong_options_are_told_before_anything_runs(wrong: list[str]) -> None:
    told = CliRunner().invoke(main, ["simulate", *wrong])
    assert told.exit_code == 2
    assert "expected" in told.output

"""The plan of a cell: several fault seeds pooled, and what `--dry-run` says of them."""

from __future__ import annotations

import pytest

from matrices.planning.plan import floor_policy, plan_aa, plan_cell
from matrices.planning.plan_table import plan_table
from matrices.spec.profiles import PolicySpec, bundled_profiles
from matrices.spec.suites import load_suite
from treni.errors import Code, TreniError

BUNDLED = bundled_profiles()
SUITE = load_suite("tool_only")


@pytest.mark.parametrize("short", ["r01", "r02", "r03", "r04", "r05"])
def test_a_cell_of_several_fault_seeds_is_its_schedules_one_after_the_other(short: str) -> None:
    profile = BUNDLED[short]
    pooled = plan_cell(profile, SUITE, runs=12, fault_seeds=8)
    single = plan_cell(profile, SUITE, runs=12)
    assert [pair.block for pair in pooled.pairs] == [block for block in range(96) for _ in range(4)]
    assert [pair.task for pair in pooled.pairs] == [pair.task for pair in single.pairs] * 8
    groups = pooled.by_fault_seed()
    assert [group.profile.faults.seed for group in groups] == [profile.faults.seed + g for g in range(8)]
    predictions = [one for group in groups if (one := group.prediction("external")) is not None]
    assert len(predictions) == len(groups)
    whole = pooled.prediction("external")
    assert whole is not None
    for count in ("errors", "attempts", "retries_of_successes", "effects", "duplicates", "phantoms"):
        assert getattr(whole, count) == sum(getattr(one, count) for one in predictions)
    assert [r.stratum for r in whole.requests] == [r.stratum for one in predictions for r in one.requests]
    assert predictions[0] == single.prediction("external")
    assert len({one.errors for one in predictions}) > 1


def test_one_fault_seed_leaves_the_schedule_as_it_was() -> None:
    assert plan_cell(BUNDLED["r01"], SUITE, runs=2).cycle is None
    assert plan_cell(BUNDLED["r01"], SUITE, runs=2, fault_seeds=3).cycle == 8


def test_a_profile_without_rules_has_the_blocks_alone() -> None:
    cell = plan_cell(BUNDLED["p00"], SUITE, runs=2, fault_seeds=3)
    assert len(cell.pairs) == 24
    assert cell.prediction("external") is None
    assert len(plan_aa(SUITE, runs=2).pairs) == 8


def test_the_aa_cell_is_as_patient_as_the_most_patient_profile_and_never_less_than_by_default() -> None:
    p00 = BUNDLED["p00"]
    patient = p00.model_copy(update={"policy": PolicySpec(tool_timeout=1.5, model_timeout=0.5, retries=4)})
    hasty = p00.model_copy(update={"policy": PolicySpec(tool_timeout=0.01, run_timeout=40.0)})
    policy = floor_policy([p00, patient, hasty])
    assert policy == PolicySpec(run_timeout=40.0, model_timeout=20.0, tool_timeout=1.5)
    assert plan_aa(SUITE, policy=policy, runs=2).profile.policy == policy
    published = [BUNDLED[f"p0{number}"] for number in range(6)]
    assert floor_policy(published) == PolicySpec() == plan_aa(SUITE, runs=2).profile.policy


def test_several_fault_seeds_need_draws() -> None:
    with pytest.raises(TreniError, match="same under every seed") as caught:
        plan_cell(BUNDLED["p04"], SUITE, runs=2, fault_seeds=2)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_the_table_has_a_line_for_all_seeds_and_one_for_each() -> None:
    cell = plan_cell(BUNDLED["r03"], SUITE, runs=12, fault_seeds=3)
    lines = [line.split() for line in plan_table([cell]).splitlines()]
    assert [line[:4] for line in lines] == [
        ["cell", "arm", "fault_seed", "pairs"],
        ["r03", "internal", "-", "144"],
        ["r03", "external", "0..2", "144"],
        ["r03", "external", "0", "48"],
        ["r03", "external", "1", "48"],
        ["r03", "external", "2", "48"],
    ]
    for column in (4, 5):
        counts = [int(line[column]) for line in lines[2:]]
        assert counts[0] == sum(counts[1:]) > 0

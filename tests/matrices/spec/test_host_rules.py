"""Which profiles with faults that break hosts are refused, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import pytest

from matrices.planning.host_rules import refuse_uncertain
from matrices.planning.plan import PlannedCell, plan_cell
from matrices.spec.profiles import Profile, bundled_profiles
from matrices.spec.suites import bundled_suites, load_suite
from treni.errors import Code, TreniError

Keys: TypeAlias = Mapping[str, str | float]
"""The keys of a rule."""


def cell(
    rule: Keys, *more: Keys, suite: str = "tool_only", by: str = "request", **policy: str | int
) -> PlannedCell:
    profile = Profile.model_validate(
        {
            "name": "b",
            "title": "t",
            "policy": {"tool_timeout": "2s", "retries": 0, **policy},
            "faults": {"site": "tool", "by": by, "rules": [rule, *more]},
        }
    )
    return plan_cell(profile, load_suite(suite), runs=3)


CRASH: Keys = {"kind": "crash", "every": 3}


def hang(duration: str) -> Keys:
    return {"kind": "hang", "duration": duration, "every": 3}


def hog(duration: str, memory_mb: int = 256) -> Keys:
    return {"kind": "hog", "duration": duration, "memory_mb": memory_mb, "every": 3}


@pytest.mark.parametrize("suite", bundled_suites())
@pytest.mark.parametrize("short", ["b01", "b02", "b03", "b04"])
def test_the_bundled_ones_run_on_every_suite(short: str, suite: str) -> None:
    for concurrency in (1, 8):
        refuse_uncertain(
            plan_cell(bundled_profiles()[short], load_suite(suite), runs=12), concurrency=concurrency
        )


@pytest.mark.parametrize(
    ("short", "faults", "errors"), [("b01", 3, 3), ("b02", 3, 3), ("b03", 3, 0), ("b04", 4, 0)]
)
def test_the_bundled_ones_strike_both_arms_alike(short: str, faults: int, errors: int) -> None:
    planned = plan_cell(bundled_profiles()[short], load_suite("core"), runs=12)
    internal, external = planned.prediction("internal"), planned.prediction("external")
    assert internal is not None
    assert external is not None
    assert internal.fault_ids == external.fault_ids
    assert [one.failed for one in internal.requests] == [one.failed for one in external.requests]
    assert (len(internal.fault_ids), internal.errors, internal.phantoms) == (faults, errors, 0)
    assert planned.breaks_hosts


def test_published_profiles_break_no_host() -> None:
    for short in ("p00", "p04", "p04t"):
        assert not plan_cell(bundled_profiles()[short], load_suite("core"), runs=3).breaks_hosts


@pytest.mark.parametrize(
    "planned",
    [
        cell(CRASH),
        cell(CRASH, {"kind": "reset", "hop": "model", "rate": 0.1}),
        cell(hang("1s"), retries=2),
        cell(hang("2.2s")),
        cell(hog("1s"), retries=1),
        cell({"kind": "leak", "size_mb": 64, "every": 3}),
    ],
)
def test_what_any_machine_ends_alike_runs(planned: PlannedCell) -> None:
    refuse_uncertain(planned, concurrency=8)


@pytest.mark.parametrize(
    ("planned", "kind"),
    [
        (cell(CRASH, by="attempt"), "host_fault_by_attempt"),
        (cell({"kind": "leak", "size_mb": 1, "every": 3}, by="attempt"), "host_fault_by_attempt"),
        (cell(CRASH, retries=1), "host_fault_retried"),
        (
            cell(CRASH, {"kind": "reset", "hop": "agent", "rate": 0.1}),
            "host_fault_beside_agent",
        ),
        (cell(hang("3s"), retries=1), "host_fault_retried"),
        (cell(hang("2s")), "host_fault_uncertain"),
        (cell(hang("1.5s")), "host_fault_uncertain"),
        (cell(hang("3s"), run_timeout="5s"), "host_fault_uncertain"),
        (cell(hog("1.5s")), "host_fault_uncertain"),
        (cell(hog("3s")), "host_fault_uncertain"),
        (cell(hog("1s", memory_mb=1024)), "hog_too_large"),
        (cell({"kind": "leak", "size_mb": 1024, "every": 3}), "leak_too_large"),
    ],
)
def test_what_the_machine_would_decide_or_could_not_bear_is_refused(planned: PlannedCell, kind: str) -> None:
    with pytest.raises(TreniError) as caught:
        refuse_uncertain(planned, concurrency=8)
    assert (caught.value.code, caught.value.kind) == (Code.INVALID_ARGUMENT, kind)

"""Which profiles with faults that strike hosts are refused, before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from matrices.planning.plan import PlannedCell, plan_cell
from matrices.planning.strike_rules import refuse_uncertain_strikes
from matrices.spec.profiles import Profile, bundled_profiles
from matrices.spec.suites import bundled_suites, load_suite
from treni.errors import Code, TreniError

BUNDLED = ("n01", "n02", "n03", "n04", "n05", "n06")


def cell(kind: str, *, hop: str = "tool", **keys: Any) -> PlannedCell:
    policy = {one: keys.pop(one) for one in ("tool_timeout", "model_timeout", "run_timeout") if one in keys}
    profile = Profile.model_validate(
        {
            "name": "n",
            "title": "t",
            "policy": {"tool_timeout": "2s", "model_timeout": "8s", "run_timeout": "60s", **policy},
            "faults": {
                "site": "host",
                "hop": hop,
                "by": "request",
                "rules": [{"kind": kind, "every": 3, **keys}],
            },
        }
    )
    return plan_cell(profile, load_suite("tool_only"), runs=3)


@pytest.mark.parametrize("suite", bundled_suites())
@pytest.mark.parametrize("short", BUNDLED)
def test_the_bundled_ones_run_on_every_suite(short: str, suite: str) -> None:
    planned = plan_cell(bundled_profiles()[short], load_suite(suite), runs=12)
    refuse_uncertain_strikes(planned)
    assert planned.disturbs
    assert not planned.breaks_hosts
    # Whoever is struck is nobody else's: the model of one arm is no process of the other's.
    one, other = planned.comparison
    assert not one.roles & other.roles


@pytest.mark.parametrize("short", BUNDLED)
def test_the_bundled_ones_strike_the_arm_that_has_the_hop(short: str) -> None:
    planned = plan_cell(bundled_profiles()[short], load_suite("core"), runs=12)
    prediction = planned.prediction("external")
    assert prediction is not None
    assert len(prediction.fault_ids) == 3
    assert planned.prediction("internal") is None
    assert (prediction.errors, prediction.duplicates, prediction.phantoms) == (0, 0, 0)


def test_a_strike_at_the_agent_meets_both_arms_alike() -> None:
    planned = cell("service_killed", hop="agent", duration="1s")
    one, other = (planned.prediction(arm) for arm in planned.arms)
    assert one is not None
    assert other is not None
    assert one.fault_ids == other.fault_ids != ()


@pytest.mark.parametrize(
    ("kind", "keys", "says"),
    [
        ("partition", {"duration": "2.1s"}, "at least 2.2 s"),
        ("service_paused", {"duration": "1s"}, "at most 0.5 s"),
        ("node_killed", {"duration": "1s"}, "at least 2.2 s"),
        ("partition", {"duration": "12s", "hop": "model", "model_timeout": "9s"}, "at most 8 s"),
        ("partition", {"duration": "5s", "hop": "agent"}, "at most 4 s"),
        ("link_delay", {"duration": "3s", "delay": "900ms"}, "at most 0.5 s"),
        ("service_killed", {"duration": "31s"}, "half the run_timeout"),
    ],
)
def test_what_the_speed_of_a_machine_would_decide_is_refused(
    kind: str, keys: dict[str, Any], says: str
) -> None:
    with pytest.raises(TreniError) as raised:
        refuse_uncertain_strikes(cell(kind, **keys))
    assert (raised.value.code, raised.value.kind) == (Code.INVALID_ARGUMENT, "strike_uncertain")
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({"site": "host", "by": "attempt"}, "planned by request"),
        ({"site": "hop", "by": "request"}, "acts at site host only"),
    ],
)
def test_a_profile_that_cannot_be_planned_is_none(faults: dict[str, Any], says: str) -> None:
    rule = {"kind": "service_killed", "duration": "1s", "every": 3}
    with pytest.raises(ValueError, match=says):
        Profile.model_validate({"name": "n", "title": "t", "faults": {**faults, "rules": [rule]}})
    with pytest.raises(ValueError, match="twin"):
        Profile.model_validate(
            {
                "name": "n",
                "title": "t",
                "twin": "t",
                "faults": {"site": "host", "by": "request", "rules": [rule]},
            }
        )

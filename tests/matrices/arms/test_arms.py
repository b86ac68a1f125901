"""Arms as values: what they may be, which two can be compared, and what a cell of two is made of."""

from __future__ import annotations

import ast
import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from matrices.arms.arm import Arm, Comparison
from matrices.arms.external import EXTERNAL
from matrices.arms.internal import INTERNAL
from matrices.arms.parts import Replicas, kind_of, parts, replicas_of
from matrices.arms.registry import (
    ARMS,
    DEFAULT,
    arm_named,
    comparison_of,
    comparison_written,
    parse_comparison,
)
from matrices.evidence.manifest import VERSION, dump_manifest, parse_manifest
from matrices.planning.plan import plan_aa, plan_cell
from matrices.spec.profiles import bundled_profiles
from matrices.spec.suites import load_suite
from tests.matrices import histories as h
from tests.places import ROOT
from treni.errors import TreniError

NEAR = Arm(
    name="near",
    routing="routing near the model",
    short="nea",
    agent="runtime_near",
    model="runtime_near",
    tools="tools_near",
    faultable=("tool",),
)
SUITE = load_suite("core")


def test_hops_are_what_leaves_the_process_that_answers() -> None:
    assert INTERNAL.hops == frozenset()
    assert EXTERNAL.hops == {"model", "tool"}
    assert NEAR.hops == {"tool"}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Internal"},
        {"name": "in/ternal"},
        {"name": ""},
        {"agent": "run time"},
        {"tools": "../tools"},
        {"name": "internal_b"},
        {"agent": "runtime_b", "model": "runtime_b", "tools": "runtime_b"},
        {"tools": "toxiproxy"},
        {"short": ""},
        {"routing": " "},
        {"routing": "internal\nrouting"},
        {"faultable": ("tool",)},
        {"faultable": {"tool"}},
    ],
)
def test_an_arm_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TreniError) as refused:
        replace(INTERNAL, **change)
    assert refused.value.kind == "arm_invalid"


def test_the_second_instance_has_processes_of_its_own_and_the_firsts_records() -> None:
    again = EXTERNAL.again()
    assert (again.name, again.agent, again.model, again.tools) == (
        "external_b",
        "controller_b",
        "runtime_b",
        "tools_b",
    )
    assert (again.hops, again.faultable) == (EXTERNAL.hops, EXTERNAL.faultable)
    assert again.recorded_as == again.again().recorded_as == "external"
    assert arm_named("external_b") == again


def test_an_arm_with_itself_is_compared_with_its_second_instance() -> None:
    assert parse_comparison("internal:internal").names == ("internal", "internal_b")
    assert parse_comparison(" external : internal ").names == ("external", "internal")
    assert DEFAULT.names == ("internal", "external")
    assert list(ARMS)[:2] == ["internal", "external"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("internal", "comparison_invalid"),
        ("", "comparison_invalid"),
        ("internal:", "arm_unknown"),
        ("internal:externall", "arm_unknown"),
        ("internal:external:external", "arm_unknown"),
        ("internal_b_b:external", "arm_unknown"),
        ("internal:" + "x" * 100_000, "arm_unknown"),
    ],
)
def test_what_is_no_comparison_is_told(text: str, kind: str) -> None:
    with pytest.raises(TreniError) as refused:
        parse_comparison(text)
    assert refused.value.kind == kind
    assert len(str(refused.value)) < 1000


def test_arms_may_share_a_model_and_nothing_else() -> None:
    assert "runtime" in INTERNAL.roles & EXTERNAL.roles
    for entangled in (
        replace(EXTERNAL, faultable=(), agent="runtime"),
        replace(EXTERNAL, faultable=(), tools="runtime"),
    ):
        with pytest.raises(TreniError) as refused:
            Comparison(baseline=INTERNAL, compared=entangled)
        assert refused.value.kind == "arms_entangled"


@pytest.mark.parametrize(("baseline", "compared"), [("internal", "external"), ("external", "internal")])
def test_where_hosts_may_break_a_model_over_a_hop_moves_out(baseline: str, compared: str) -> None:
    apart = comparison_of(baseline, compared).apart
    assert apart.arm("external").model == "model"
    assert apart.arm("internal") == INTERNAL
    assert not apart.baseline.roles & apart.compared.roles
    assert comparison_of("internal", "internal").apart == comparison_of("internal", "internal")


def test_each_process_hosts_what_the_arms_say() -> None:
    found = parts(DEFAULT)
    assert list(found) == ["runtime", "tools", "controller"]  # who calls comes up last
    runtime, tools, controller = found.values()
    assert (runtime.agent, runtime.tooled, runtime.callers) == (INTERNAL, INTERNAL, (EXTERNAL,))
    assert (tools.agent, tools.tooled, tools.modelled) == (None, EXTERNAL, ())
    assert (controller.agent, controller.tooled, controller.modelled) == (EXTERNAL, None, ())
    near = parts([NEAR])["runtime_near"]
    assert (near.agent, near.tooled, near.modelled, near.callers) == (NEAR, None, (NEAR,), ())


def test_what_is_there_several_times_has_names_of_its_own_and_follows_the_first() -> None:
    replicas = Replicas(controllers=2, tool_services=3)
    found = parts(DEFAULT, replicas)
    assert list(found) == ["runtime", "tools", "tools_2", "tools_3", "controller", "controller_2"]
    assert replicas_of("tools", found) == ("tools", "tools_2", "tools_3")
    assert replicas_of("runtime", found) == ("runtime",)
    assert [kind_of(part) for part in found.values()] == ["agent", *["tools"] * 3, *["controller"] * 2]
    # The second instance of an arm has as many.
    twice = parts(comparison_of("external", "external"), replicas)
    assert replicas_of("controller_b", twice) == ("controller_b", "controller_b_2")
    # A process with a model is neither a controller nor a tool service.
    assert list(parts([NEAR], replicas)) == ["tools_near", "tools_near_2", "tools_near_3", "runtime_near"]
    taken = replace(EXTERNAL, name="other", agent="controller_2", tools="others")
    with pytest.raises(TreniError) as refused:
        parts([EXTERNAL, taken], replicas)
    assert (refused.value.kind, refused.value.got) == ("arms_entangled", "controller_2")


def test_the_noise_floor_is_the_baselines_with_every_process_of_the_campaign_up() -> None:
    aa = plan_aa(SUITE, comparison=comparison_of("external", "internal"), runs=2)
    assert aa.arms == ("external", "external_b")
    assert set(aa.parts) == {
        *("runtime", "runtime_b", "tools", "tools_b", "controller", "controller_b"),
    }
    assert aa.profile.title == "The external arm against itself: the noise floor"
    assert set(plan_aa(SUITE, runs=2).parts) == {"runtime", "runtime_b", "tools", "controller"}


def test_faults_reach_the_arms_that_have_the_hop() -> None:
    profiles = bundled_profiles()
    backwards = comparison_of("external", "internal")
    cell = plan_cell(profiles["p03"], SUITE, comparison=backwards, runs=12)
    assert [cell.faulted(arm) for arm in cell.arms] == [True, False]
    forwards = plan_cell(profiles["p03"], SUITE, runs=12)
    # Whichever side the faulted arm is on, the same pairs meet the same faults.
    told = [pair.stratum.removesuffix("|-") for pair in cell.pairs]
    assert told == [pair.stratum for pair in forwards.pairs]
    both = plan_cell(profiles["p03"], SUITE, comparison=comparison_of("external", "external"), runs=12)
    assert [both.faulted(arm) for arm in both.arms] == [True, True]
    assert [pair.stratum for pair in both.pairs] == [pair.stratum for pair in forwards.pairs]


def test_faults_that_reach_neither_arm_are_refused() -> None:
    profiles = bundled_profiles()
    for other in (replace(EXTERNAL, faultable=()), INTERNAL.again()):
        with pytest.raises(TreniError) as refused:
            plan_cell(
                profiles["p01"], SUITE, comparison=Comparison(baseline=INTERNAL, compared=other), runs=3
            )
        assert refused.value.kind == "faults_reach_no_arm"
        plan_cell(profiles["p01t"], SUITE, comparison=Comparison(baseline=INTERNAL, compared=other), runs=3)


def test_a_manifest_says_what_its_arms_are_and_an_older_one_is_still_read() -> None:
    manifest = replace(h.manifest(h.manifest_cell()), arms=(NEAR, EXTERNAL))
    assert parse_manifest(dump_manifest(manifest)) == manifest
    old = {**json.loads(dump_manifest(manifest)), "version": 2}
    del old["arms"]
    read = parse_manifest(json.dumps(old).encode())
    assert (read.version, read.arms) == (2, (INTERNAL, EXTERNAL))
    assert VERSION == 5
    for broken in ({**old, "version": 1}, {**old, "version": 6}, {**old, "arms": []}):
        with pytest.raises(TreniError) as refused:
            parse_manifest(json.dumps(broken).encode())
        assert refused.value.kind == "manifest_malformed"
    wrong = json.loads(dump_manifest(manifest))
    wrong["arms"][0]["colour"] = "red"
    with pytest.raises(TreniError) as refused:
        parse_manifest(json.dumps(wrong).encode())
    assert refused.value.kind == "manifest_malformed"


def test_an_arm_that_was_another_is_refused_and_an_unknown_one_is_as_written() -> None:
    assert comparison_written(NEAR, EXTERNAL).names == ("near", "external")
    for other in (replace(EXTERNAL, alike=False), replace(EXTERNAL.again(), faultable=())):
        with pytest.raises(TreniError) as refused:
            comparison_written(NEAR, other)
        assert refused.value.kind == "arm_changed"


def test_an_arm_is_written_alike_each_time() -> None:
    manifest = h.manifest(h.manifest_cell())
    written = json.loads(dump_manifest(manifest))["arms"][1]
    assert written == {**asdict(EXTERNAL), "faultable": ["model", "tool"]}


def test_no_module_but_the_arms_own_knows_an_arm_by_its_name() -> None:
    package = ROOT / "matrices"
    names = {"internal", "external", "internal_b", "external_b"}
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        if path.parent.name != "arms"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []

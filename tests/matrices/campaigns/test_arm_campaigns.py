"""Whole campaigns with arms that an installed package brings, and with the same arm on both sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.matrices import harness as h

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

MODULE = """
from matrices.arms.arm import Arm

DIRECT = Arm(
    name="external_direct", routing="direct routing", short="dir",
    agent="controller_direct", model="runtime", tools="tools_direct",
)
NEAR = Arm(
    name="near", routing="routing near the model", short="nea",
    agent="runtime_near", model="runtime_near", tools="tools_near", faultable=("tool",),
)
OWN = Arm(
    name="own", routing="routing beside its tools", short="own",
    agent="controller_own", model="runtime", tools="controller_own", faultable=("model",),
)
"""
ENTRIES = (
    "[treni_route.arms]\nexternal_direct = three_arms:DIRECT\nnear = three_arms:NEAR\nown = three_arms:OWN\n"
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that adds three arms, for the processes that the test starts."""
    site = tmp_path / "site"
    metadata = site / "three_arms-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "three_arms.py").write_text(MODULE, encoding="utf-8")
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: three-arms\nVersion: 1.0\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(ENTRIES, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


def _profile(folder: Path, rules: str) -> str:
    """The path of a profile `m01` with those rules."""
    path = folder / "m01.toml"
    path.write_text(
        f'name = "m01"\ntitle = "of the tests"\n[policy]\nretries = 1\ntool_timeout = "{h.TOOL_TIMEOUT}"\n{rules}',
        encoding="utf-8",
    )
    return str(path)


BOTH_HOPS = (
    '[faults]\n[[faults.rules]]\nkind = "status"\nhop = "model"\nevery = 5\n'
    '[[faults.rules]]\nkind = "status"\nevery = 4\n'
)
AT_TOOL = (
    '[faults]\nsite = "tool"\n[[faults.rules]]\nkind = "status"\nevery = 2\n'
    '[[faults.rules]]\nkind = "stall"\ndirection = "response"\nevery = 3\n'
)
ON_HOP = (
    '[faults]\n[[faults.rules]]\nkind = "stall"\ndirection = "response"\nevery = 3\n'
    '[[faults.rules]]\nkind = "reset"\nevery = 2\n'
)


def _counts(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("faults_planned", "faults_delivered", "faults_observed"))


@pytest.mark.soak
def test_an_arm_with_the_tool_hop_alone_meets_that_hops_faults(tmp_path: Path, package: Path) -> None:
    result = h.matrix(
        tmp_path / "out", _profile(tmp_path, BOTH_HOPS), "--compare", "near:external", "--runs", "3"
    )
    assert result.status in (0, 3), result.stdout + result.stderr
    near, external = result.summary("m01", "near"), result.summary("m01", "external")
    for row in (near, external):
        planned, delivered, observed = _counts(row)
        assert planned == delivered == observed != "0"
    assert int(near["faults_planned"]) < int(external["faults_planned"])
    text = (result.folder / "summary.md").read_text(encoding="utf-8")
    assert "the near arm has no such hop" in text
    assert "Noise floor: the near arm against itself, in two sets of processes" in text
    roles = {event["cell"]: set(event["pids"]) for event in _starts(result.folder)}
    near_roles, external_roles = (
        {"runtime_near", "tools_near"},
        {"controller", "runtime", "tools", "toxiproxy"},
    )
    assert roles["m01"] == near_roles | external_roles
    assert roles["aa"] == roles["m01"] | {f"{role}_b" for role in near_roles}
    # Judged again where the package is not installed: the campaign's folder says what its arms are.
    package.rename(package.with_name("gone"))
    assert h.verb("check", result.folder).returncode == 0


@pytest.mark.soak
def test_hops_without_proxies_and_tools_beside_the_controller(tmp_path: Path, package: Path) -> None:
    result = h.matrix(
        tmp_path / "out", _profile(tmp_path, AT_TOOL), "--compare", "own:external_direct", "--runs", "3"
    )
    assert result.status in (0, 3), result.stdout + result.stderr
    own, direct = result.summary("m01", "own"), result.summary("m01", "external_direct")
    assert _counts(own) == _counts(direct) != ("0", "0", "0")
    assert own["errors"] == direct["errors"]
    assert "Errors: " in (result.folder / "summary.md").read_text(encoding="utf-8")


@pytest.mark.soak
@pytest.mark.parametrize("compare", ["external:internal", "external:external"])
def test_either_arm_can_be_on_either_side(tmp_path: Path, compare: str) -> None:
    result = h.matrix(tmp_path / "out", _profile(tmp_path, ON_HOP), "--compare", compare, "--runs", "3")
    assert result.status in (0, 3), result.stdout + result.stderr
    baseline = result.summary("m01", "external")
    assert _counts(baseline)[0] != "0"
    compared = result.summary("m01", "internal" if compare.endswith("internal") else "external_b")
    assert (_counts(compared) == _counts(baseline)) == (compare == "external:external")
    assert result.summary("aa", "external_b")["errors"] == "0"


def test_a_broken_package_is_told_before_anything_runs(tmp_path: Path, package: Path) -> None:
    (package / "three_arms.py").write_text("DIRECT = NEAR = OWN = 7\n", encoding="utf-8")
    out = tmp_path / "out"
    process = h.start("p00", "--compare", "near:external", "--out", str(out))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 1
    assert "three-arms" in stderr
    assert "Traceback" not in stderr
    assert not out.exists()


def _starts(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    return [event for event in map(json.loads, lines) if event["type"] == "cell"]

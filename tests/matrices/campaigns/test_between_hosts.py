"""Campaigns over hosts made of namespaces: links cut, lossy and late, and a host that dies with all that it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from matrices.evidence import events as ev
from tests.matrices import harness as h
from tests.matrices.between_hosts import Served, served
from tests.matrices.campaigns.test_struck_services import SUITE, Told

pytestmark = [pytest.mark.namespaces, pytest.mark.chaos, pytest.mark.slow]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Served]:
    with served() as hosts:
        yield hosts


def profile(folder: Path, name: str, hop: str, rule: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\ntitle = "t"\n[policy]\nrun_timeout = "200s"\ntool_timeout = "4s"\nmodel_timeout = "8s"\n'
        f'retries = 5\nbackoff_initial = "500ms"\nbackoff_max = "8s"\n'
        f'[faults]\nsite = "host"\nhop = "{hop}"\nby = "request"\nseed = 3\n[[faults.rules]]\nevery = 4\n{rule}',
        encoding="utf-8",
    )
    return path


def run(hosts: Served, path: Path, *more: str) -> h.Result:
    return hosts.matrix(path.parent / f"out-{path.stem}", hosts.write(path), *SUITE, *more)


def whole(told: Told) -> None:
    """Every call took effect once, in both arms, and no host has anything of ours left on its links."""
    for effects in told.judgement.effects.values():
        assert effects.recorded > 0
        assert (effects.lost, effects.duplicate, effects.stranger) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "hop", "rule", "strikes"),
    [
        ("cut", "model", 'kind = "partition"\nduration = "9s"\n', 1),
        pytest.param(
            "deaf",
            "tool",
            'kind = "partition"\ndirection = "request"\nduration = "5s"\n',
            3,
            marks=pytest.mark.soak,
        ),
        ("mute", "tool", 'kind = "partition"\ndirection = "response"\nduration = "5s"\n', 3),
        ("lossy", "tool", 'kind = "packet_loss"\nshare = 0.2\nduration = "3s"\n', 3),
        ("late", "tool", 'kind = "link_delay"\ndelay = "200ms"\njitter = "100ms"\nduration = "3s"\n', 3),
    ],
)
def test_a_fault_of_a_link_goes_as_planned(
    hosts: Served, tmp_path: Path, name: str, hop: str, rule: str, strikes: int
) -> None:
    result = run(hosts, profile(tmp_path, name, hop, rule))
    assert result.status in (0, 3), result.stderr
    told = Told(result.folder, name)
    told.goes_as_planned(strikes)
    whole(told)
    assert all(one.packets > 0 and one.pids == {} for one in told.healed)
    assert told.judgement.recoveries[0].strikes == ()
    for host in hosts.hosts.by_name.values():
        assert host.run("nft", "list", "tables", timeout_s=h.WAIT_S).stdout == ""


def test_a_host_that_dies_takes_both_arms_services_along_and_all_come_back(
    hosts: Served, tmp_path: Path
) -> None:
    result = run(hosts, profile(tmp_path, "gone", "model", 'kind = "node_killed"\nduration = "9s"\n'))
    assert result.status in (0, 3), result.stderr
    told = Told(result.folder, "gone")
    told.goes_as_planned(1)
    whole(told)
    (healed,) = told.healed
    assert set(healed.pids) == {"runtime", "model"}
    assert len(told.judgement.recoveries[0].strikes) == 1
    starts = [one for one in told.events if isinstance(one, ev.CellStarted) and one.cell == "gone"]
    assert len(starts) == 1, "a planned epoch breaks no cell"


def test_what_nobody_hears_of_is_done_again_without_keys_and_once_with_them(
    hosts: Served, tmp_path: Path
) -> None:
    """The answers of the ledger are lost on the link: every attempt took effect where nothing tells it from another."""
    suite = h.write_suite(tmp_path / "ledger.jsonl", h.tool_tasks("ledger_append") * 4, 2)
    path = profile(tmp_path, "mute", "tool", 'kind = "partition"\ndirection = "response"\nduration = "5s"\n')
    asked = (hosts.write(path), "--suite", hosts.write(suite), "--runs", "2")
    without = hosts.matrix(tmp_path / "without", *asked, "--no-idempotency")
    told = Told(without.folder, "mute")
    assert told.judgement.findings == ()
    assert told.judgement.faults["external"].delivered
    assert told.judgement.effects["external"].duplicate > 0
    assert told.judgement.effects["internal"].duplicate == 0
    within = Told(hosts.matrix(tmp_path / "within", *asked).folder, "mute")
    assert within.judgement.findings == ()
    assert within.judgement.effects["external"].duplicate == 0


def test_a_host_that_nobody_strikes_is_refused_before_anything_runs(hosts: Served, tmp_path: Path) -> None:
    path = profile(tmp_path, "cut", "agent", 'kind = "partition"\nduration = "2s"\n')
    process = hosts.start(hosts.write(path), "--dry-run")
    _, stderr = process.communicate(timeout_s=h.WAIT_S)
    assert process.wait() == 2
    # The harness is on the controller's host.
    assert "a link between the harness and the controller" in stderr


def test_an_agent_that_is_killed_takes_the_process_along_that_it_started(tmp_path: Path) -> None:
    """Without a runtime in the file the other arm's model is a process of the agent's, and dies with it."""
    with served({"agent": "gpu", "controller": "cpu", "tools": "cpu"}) as hosts:
        path = profile(tmp_path, "agentless", "agent", 'kind = "service_killed"\nduration = "1s"\n')
        result = run(hosts, path)
        assert result.status in (0, 3), result.stderr
        told = Told(result.folder, "agentless")
        assert told.judgement.complete
        assert told.judgement.findings == ()
        assert {one.roles for one in told.struck} == {("model", "runtime"), ("controller",)}
        left = hosts.hosts["gpu"].run(
            "pgrep", "-fc", "matrices.topologies.serve", timeout_s=h.WAIT_S, check=False
        )
        assert left.stdout.strip() == "2"  # the agent, and who strikes

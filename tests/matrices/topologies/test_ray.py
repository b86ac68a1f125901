"""Campaigns on a Ray cluster of two hosts, which this machine plays: the counts of `local`, and whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from matrices.evidence import events as ev
from matrices.evidence.history import read_history
from matrices.topologies.processes import start_child
from matrices.topologies.ray_doors import ray_doors
from matrices.topologies.ray_protocol import CPU_HOST, DRIVER_MODULE, GPU_HOST, WAIT_VARIABLE, Asked, Ready
from matrices.topologies.role_client import RoleClient
from tests.limits import HANG_S
from tests.matrices import harness as h
from tests.matrices.topologies.ray_cluster import RayTestCluster, ray_cluster
from tests.matrices.topologies.test_hosts import same_counts
from treni.channels import showing
from treni.errors import TreniError

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.slow]


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayTestCluster]:
    """A head that is the cpu_host, and a worker that is the gpu_host."""
    with ray_cluster(tmp_path_factory.mktemp("state")) as cluster:
        cluster.start_head(CPU_HOST)
        cluster.join(GPU_HOST)
        yield cluster


@pytest.fixture
def cluster(two_hosts: RayTestCluster, monkeypatch: pytest.MonkeyPatch) -> RayTestCluster:
    """The two hosts, as `--topology ray` finds them."""
    _speak_to(two_hosts, monkeypatch)
    return two_hosts


def _speak_to(cluster: RayTestCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)


def test_two_hosts_give_the_counts_of_local_and_the_same_runs(
    cluster: RayTestCluster, tmp_path: Path
) -> None:
    arguments = (h.patient(tmp_path, "p03,p04t"), "--runs", "3")
    local = h.matrix(tmp_path / "local", *arguments)
    assert local.status in (0, 3), local.stderr
    result = h.matrix(tmp_path / "ray", *arguments, "--topology", "ray")
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    same_counts(result, local, ["p03", "p04t"])
    compare = [sys.executable, "-m", "matrices", "compare", str(local.folder), str(result.folder)]
    done = subprocess.run(compare, capture_output=True, text=True, timeout=h.WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Fresh processes for each cell, and every role where its resource is.
    starts = _starts(tmp_path / "ray")
    assert len(starts) == 3
    epochs = [epoch for start in starts for epoch in start.epochs.values()]
    assert len(set(epochs)) == len(epochs)
    manifest = json.loads((result.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["topology"] == "ray"
    assert manifest["details"]["placement"]["address"] == ""
    assert set(manifest["details"]["hosts"]) >= {"runtime", "controller", "tools"}
    told = _addresses(cluster, tmp_path / "ray")
    assert told == {"runtime": GPU_HOST, "runtime_b": GPU_HOST, "controller": CPU_HOST, "tools": CPU_HOST}
    for host in cluster.hosts:
        assert not [one for one in host.processes() if "Actor" in " ".join(one.cmdline())]


async def test_an_actor_that_ray_restarts_serves_where_it_did_as_another_epoch(
    cluster: RayTestCluster, tmp_path: Path
) -> None:
    asked = Asked(
        address="",
        roles={"tools": "tools"},
        backend="numpy",
        model_dir=None,
        proxies=False,
        wait_s=HANG_S,
        log_level="info",
    )
    arguments = ["-m", DRIVER_MODULE, asked.model_dump_json(), "--parent-pid", str(os.getpid())]
    driver = await start_child("driver", arguments, log_path=tmp_path / "log")
    try:
        begun = Ready.model_validate(driver.ready).roles["tools"]
        stranger = RoleClient("tools", begun.address)
        with pytest.raises(TreniError) as refused:
            await stranger.read()
        await stranger.close()
        assert refused.value.kind == "key_missing"
        with showing(ray_doors().keyring):
            client = RoleClient("tools", begun.address)
        try:
            before = (await client.read()).status
            assert before.pid == begun.pid
            # Ray's own niceness for workers is 15.
            threads = [int(path.name) for path in Path(f"/proc/{begun.pid}/task").iterdir()]
            assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {
                os.getpriority(os.PRIO_PROCESS, 0)
            }
            h.kill(begun.pid)
            deadline_s = time.monotonic() + HANG_S
            while True:
                assert time.monotonic() < deadline_s, (tmp_path / "log").read_text()
                try:
                    after = (await client.read()).status
                    break
                except TreniError:
                    await asyncio.sleep(h.POLL_S)
            assert after.epoch != before.epoch
            assert after.pid != before.pid
        finally:
            await client.close()
        # The driver looks now and then, and may hear of it later than we.
        while "an actor ended role=tools" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline_s, (tmp_path / "log").read_text()
            await asyncio.sleep(h.POLL_S)
    finally:
        await driver.stop()
    assert driver.death() == "driver exited with status 0"


def test_an_actor_that_is_killed_breaks_its_cell(cluster: RayTestCluster, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (h.patient(tmp_path, "p00"), "--suite", "tool_only", "--runs", "12", "--topology", "ray")
    process = h.start(*arguments, "--out", str(out))
    h.wait_for(lambda: _completed(out, "p00") >= 2, process)
    h.kill(h.pids_of(out, "p00")["tools"])
    result = h.finish(process, out)
    assert result.status == 1
    assert "Traceback" not in result.stderr
    (broken,) = [
        event for event in h.events(out) if event["type"] == "cell_end" and event["status"] == "broken"
    ]
    assert "tools" in str(broken["detail"])
    healed = h.resume(result.folder)
    assert healed.status in (0, 3), healed.stderr
    assert h.verb("check", healed.folder).returncode == 0


def test_a_harness_that_is_killed_leaves_no_actor_and_goes_on_with_the_evidence_that_it_had(
    cluster: RayTestCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (h.patient(tmp_path, "p04"), "--suite", "tool_only", "--runs", "3", "--topology", "ray")
    process = h.start(*arguments, "--out", str(out))
    h.wait_for(lambda: _completed(out, "p04") >= 3, process)
    process.kill()
    process.communicate()
    result = h.resume(h.folder_in(out))
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    assert result.summary("p04", "external")["requests"] == "12"


def test_a_laptop_reaches_the_cluster_by_its_client_port(cluster: RayTestCluster, tmp_path: Path) -> None:
    host = cluster.address.rpartition(":")[0]
    where = f"ray:ray://{host}:{cluster.client_port}"
    profile = h.patient(tmp_path, "p03")
    result = h.matrix(tmp_path / "out", profile, "--suite", "tool_only", "--runs", "3", "--topology", where)
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0


def test_without_the_clusters_token_nobody_is_let_in(
    cluster: RayTestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "token"
    other.touch(0o600)
    other.write_text("0" * 64, encoding="utf-8")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(other))
    process = h.start("p00", "--topology", f"ray:{cluster.address}", "--out", str(tmp_path / "out"))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert cluster.address in stderr
    assert "token" in stderr


def test_a_host_that_never_joins_is_named_with_those_that_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ray_cluster(tmp_path / "state") as cluster:
        cluster.start_head(CPU_HOST)
        _speak_to(cluster, monkeypatch)
        monkeypatch.setenv(WAIT_VARIABLE, "2")
        process = h.start("p00", "--topology", "ray", "--out", str(tmp_path / "out"))
        _, stderr = process.communicate(timeout=h.WAIT_S)
        assert process.returncode == 1
        assert "Traceback" not in stderr
        assert "expected a host with the resource gpu_host to join within 2 s" in stderr
        assert f"got {cluster.address.rpartition(':')[0]} (cpu_host);" in stderr
        # One that comes late is waited for.
        monkeypatch.setenv(WAIT_VARIABLE, "500")
        process = h.start("p00", "--runs", "1", "--topology", "ray", "--out", str(tmp_path / "late"))
        cluster.join(GPU_HOST)
        result = h.finish(process, tmp_path / "late")
        assert result.status in (0, 3), result.stderr


@pytest.mark.parametrize("whole", [True, False], ids=["the host", "its GCS alone"])
def test_a_head_that_is_killed_ends_the_campaign_and_a_new_cluster_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    out = tmp_path / "out"
    with ray_cluster(tmp_path / "state") as first:
        head = first.start_head(CPU_HOST)
        worker = first.join(GPU_HOST)
        _speak_to(first, monkeypatch)
        profiles = h.patient(tmp_path, "p00,p04")
        arguments = (profiles, "--suite", "tool_only", "--runs", "12", "--topology", "ray")
        process = h.start(*arguments, "--out", str(out))
        h.wait_for(lambda: _completed(out, "p00") >= 3, process)
        head.kill() if whole else head.kill_gcs()
        stdout, stderr = process.communicate(timeout=h.WAIT_S)
        assert process.returncode == 1, stdout
        assert "Traceback" not in stdout + stderr
        assert f"expected the head of a Ray cluster at {first.address}" in stderr
        assert f"go on with: treni-route matrix --resume {h.folder_in(out)}" in stderr
        (broken,) = [
            event for event in h.events(out) if event["type"] == "cell_end" and event["status"] == "broken"
        ]
        assert "the head of the Ray cluster was lost" in str(broken["detail"])
        # The old worker is still there, as after a `ray down` that did not reach it, and has the ports for a while.
        with ray_cluster(tmp_path / "state") as second:
            second.start_head(CPU_HOST, first_port=head.first_port)
            second.join(GPU_HOST, first_port=worker.first_port)
            _speak_to(second, monkeypatch)
            result = h.resume(h.folder_in(out))
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    assert result.summary("p04", "external")["requests"] == "48"


def _starts(out: Path) -> list[ev.CellStarted]:
    history = read_history(h.folder_in(out) / "history.jsonl")
    return [event for event in history.events if isinstance(event, ev.CellStarted)]


def _completed(out: Path, profile: str) -> int:
    return sum(event["type"] == "pair_complete" and event["cell"] == profile for event in h.events(out))


def _addresses(cluster: RayTestCluster, out: Path) -> dict[str, str]:
    """Which host's state has the configuration of each role."""
    found = {}
    for resource in (CPU_HOST, GPU_HOST):
        for path in (cluster.state / resource).rglob("*.json"):
            found[path.stem] = resource
    return found


def test_traces_of_actors_lie_beside_their_evidence_and_go_on_from_the_client_s(
    cluster: RayTestCluster, tmp_path: Path
) -> None:
    result = h.matrix(tmp_path / "out", "p00", "--runs", "1", "--topology", "ray", "--trace")
    assert result.status in (0, 3), result.stderr
    kept = set(cluster.state.glob("*/traces/*.jsonl"))
    assert {path.name.partition("-")[0] for path in kept} == {"controller", "tools", "agent"}
    for path in kept:
        shutil.copy(path, result.folder / "traces" / f"{path.parent.parent.name}-{path.name}")
    done = h.verb("traces", result.folder)
    assert done.returncode == 0, done.stderr
    assert "treni.v1.InferenceService/Generate" in done.stdout

"""What `--topology ray` says before it touches a cluster, with Ray and without."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from matrices.topologies.ray_protocol import (
    FIRST_PORT,
    PORT_VARIABLE,
    WAIT_VARIABLE,
    Begun,
    Failure,
    Ready,
    served,
)
from matrices.topologies.ray_topology import RayCluster
from matrices.topologies.registry import chosen, topology
from tests.matrices import harness as h
from treni.errors import Code, TreniError

RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "head:6379", "[fd00::1]:6379", "ray://head:10001"])
def test_an_address_is_kept_and_none_is_looked_up_each_time(address: str) -> None:
    name, settings = chosen(f"ray:{address}")
    assert (name, settings["address"]) == ("ray", address)
    name, settings = chosen("ray")
    assert settings["address"] == ""
    assert isinstance(topology(name, settings), RayCluster)
    assert chosen("ray")[1]["campaign"] != settings["campaign"]


def dry_run(out: Path, *arguments: str) -> tuple[int, str]:
    process = h.start(*arguments, "--topology", "ray", "--dry-run", "--out", str(out))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert "Traceback" not in stderr
    assert not out.exists()
    return process.returncode, stderr


def test_a_machine_without_the_extra_is_told_the_command(tmp_path: Path) -> None:
    status, stderr = dry_run(tmp_path / "out", "p00")
    assert status == (0 if RAY else 1), stderr
    assert ("pip install 'treni-route[ray]'" in stderr) == (not RAY)


def test_what_the_actors_cannot_do_is_said_by_a_dry_run(tmp_path: Path) -> None:
    status, stderr = dry_run(tmp_path / "out", "b01")
    assert status == 2
    assert "kills processes" in stderr


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "501"])
def test_a_wait_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(WAIT_VARIABLE, text)
    status, stderr = dry_run(tmp_path / "out", "p00")
    assert status == 2
    assert WAIT_VARIABLE in stderr


def test_nothing_that_a_user_types_imports_ray() -> None:
    script = (
        "import sys; from matrices.topologies.registry import chosen, topology; topology(*chosen('ray'));"
        "import matrices.running.runner, matrices.cli.matrix, matrices.topologies.ray_actors;"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_error_travels_whole_and_the_first_one_is_raised() -> None:
    error = TreniError(
        Code.FAILED_PRECONDITION, "state_unusable", expected="a folder", got="a file", todo="choose another"
    )
    begun = {
        "a": Begun(address="h:1"),
        "b": Begun(failure=Failure.of(error, "b")),
        "c": Begun(failure=Failure.of(RuntimeError("c"), "c")),
    }
    told = Ready.model_validate_json(Ready(roles=begun).model_dump_json())
    with pytest.raises(TreniError) as raised:
        served(told.roles)
    assert (raised.value.code, raised.value.kind, str(raised.value)) == (error.code, error.kind, str(error))
    unforeseen = Failure.of(RuntimeError("boom"), "the tools").error
    assert unforeseen.code is Code.INTERNAL
    assert "boom" in str(unforeseen)


def test_each_role_of_a_host_has_two_ports_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from matrices.topologies.ray_actors import KINDS, MOST_OF_A_KIND, port_of

    monkeypatch.delenv(PORT_VARIABLE, raising=False)
    ports = [port_of(kind, number) for kind in KINDS for number in range(MOST_OF_A_KIND)]
    assert len({*ports, *(port + 1 for port in ports)}) == 2 * len(ports)
    assert min(ports) == FIRST_PORT
    monkeypatch.setenv(PORT_VARIABLE, "9000")
    assert port_of("agent", 0) == 9000
    with pytest.raises(TreniError):
        port_of("agent", MOST_OF_A_KIND)
    for text in ("", "x", "0", "65535", "-1"):
        monkeypatch.setenv(PORT_VARIABLE, text)
        if text:
            with pytest.raises(TreniError, match=PORT_VARIABLE):
                port_of("agent", 0)

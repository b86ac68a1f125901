"""What `treni-route cluster init` prints: a file that `ray up` takes, with whatever it needs on every host."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from matrices.cli.cluster import PORTS, cluster_file
from matrices.topologies.ray_protocol import CPU_HOST, GPU_HOST, PORT_VARIABLE, STATE_VARIABLE
from tests.places import ROOT
from treni.errors import Code, TreniError

OPTIONS: dict[str, Any] = {
    "name": "mine",
    "head_ip": "10.0.0.1",
    "worker_ips": ("10.0.0.2", "10.0.0.3"),
    "ssh_user": None,
    "ssh_key": None,
    "region": "eu-west-1",
    "image": None,
    "cpu_instance": "c7i.2xlarge",
    "gpu_instance": "g6.xlarge",
    "source": None,
    "installed": None,
    "state": "~/treni-route/state",
    "port": 7100,
    "token": "~/.ray/auth_token",
    "tls": None,
}
AWS = {"head_ip": None, "worker_ips": (), "image": "ami-0123"}


def local(**asked: Any) -> dict[str, Any]:
    return read("local", **asked)


def read(provider: str, **asked: Any) -> dict[str, Any]:
    made = yaml.safe_load(cluster_file(provider, **OPTIONS | asked))
    assert isinstance(made, dict)
    return made


def start_of(commands: list[str]) -> tuple[dict[str, str], list[str]]:
    """What the `ray start` among the commands has in its environment, and its words."""
    assert commands[0] == "ray stop"
    limit, *exports, start = [shlex.split(one) for one in commands[1].split(";")]
    assert limit == ["ulimit", "-n", "65536"]
    environment = dict(word.split("=", 1) for words in exports for word in words[1:])
    while "=" in start[0]:
        name, value = start.pop(0).split("=", 1)
        environment[name] = value
    assert start[:2] == ["ray", "start"]
    return environment, start


def test_hosts_of_ones_own(tmp_path: Path) -> None:
    made = local(ssh_user="me", ssh_key="~/.ssh/key's")
    assert made["cluster_name"] == "mine"
    assert made["provider"] == {
        "type": "local",
        "head_ip": "10.0.0.1",
        "worker_ips": ["10.0.0.2", "10.0.0.3"],
    }
    assert made["auth"] == {"ssh_user": "me", "ssh_private_key": "~/.ssh/key's"}
    assert (made["min_workers"], made["max_workers"]) == (2, 2)


@pytest.mark.parametrize("provider", ["local", "aws"])
def test_every_host_starts_ray_with_its_resource_the_token_and_a_state_that_stays(provider: str) -> None:
    made = read(provider, **(AWS if provider == "aws" else {}), state="/var/lib/treni state", port=7300)
    head, head_words = start_of(made["head_start_ray_commands"])
    worker, worker_words = start_of(made["worker_start_ray_commands"])
    for environment, words, resource in ((head, head_words, CPU_HOST), (worker, worker_words, GPU_HOST)):
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_worker_niceness"] == "0"
        assert environment[STATE_VARIABLE] == "/var/lib/treni state"
        assert environment[PORT_VARIABLE] == "7300"
        assert f'--resources={{"{resource}": 1}}' in words
        assert "--disable-usage-stats" in words
        assert {f"{option}={port}" for option, port in PORTS.items()} <= set(words)
    # In the command itself: `ray up` exports the opposite before it.
    assert head["RAY_enable_autoscaler_v2"] == "0"
    assert "--head" in head_words
    assert "--address=$RAY_HEAD_IP:6379" in worker_words
    assert made["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_checkout_that_runs_here_is_what_runs_there() -> None:
    made = local()
    assert made["file_mounts"]["~/treni-route/source"] == f"{ROOT}/"
    assert any("/treni-route/source'[ray]'" in command for command in made["setup_commands"])
    assert "**/.venv" in made["rsync_exclude"]


def test_a_requirement_is_left_to_pip_and_what_is_installed_is_left_alone(tmp_path: Path) -> None:
    made = local(source="treni-route[ray] @ https://x.test/a.whl")
    assert set(made["file_mounts"]) == {"~/.ray/auth_token"}
    assert any("'treni-route[ray] @ https://x.test/a.whl'" in command for command in made["setup_commands"])
    made = local(installed="/opt/a venv")
    assert not any("pip" in command for command in made["setup_commands"])
    assert "/opt/a venv" in made["setup_commands"][-1]


def test_the_line_for_the_shells_is_written_once_and_is_one_that_a_shell_takes(tmp_path: Path) -> None:
    command = local(installed="/opt/a venv's")["setup_commands"][-1]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for _ in range(2):
        subprocess.run(["bash", "-c", command], env=home, check=True)
    (line,) = (tmp_path / ".bashrc").read_text().splitlines()
    said = subprocess.run(
        ["bash", "-c", f"{line}\necho $RAY_AUTH_MODE $PATH"],
        env=home,
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout == "token /opt/a venv's/bin:/usr/bin:/bin\n"


def test_certificates_are_shipped_and_named() -> None:
    made = local(tls="/etc/mine")
    assert made["file_mounts"]["~/treni-route/tls"] == "/etc/mine"
    for commands in (made["head_start_ray_commands"], made["worker_start_ray_commands"]):
        environment, _ = start_of(commands)
        assert environment["RAY_USE_TLS"] == "1"
        assert environment["RAY_TLS_CA_CERT"] == "$HOME/treni-route/tls/ca.pem"


def test_two_machines_of_aws() -> None:
    made = read("aws", **AWS)
    assert made["provider"]["region"] == "eu-west-1"
    types = made["available_node_types"]
    assert made["head_node_type"] == CPU_HOST
    assert types[CPU_HOST]["node_config"]["InstanceType"] == "c7i.2xlarge"
    assert types[GPU_HOST]["node_config"]["InstanceType"] == "g6.xlarge"
    assert {one["node_config"]["ImageId"] for one in types.values()} == {"ami-0123"}
    # Nothing of ours asks the autoscaler for a host.
    assert (types[GPU_HOST]["min_workers"], made["max_workers"]) == (1, 1)


@pytest.mark.parametrize(
    ("provider", "asked", "word"),
    [
        ("local", {"head_ip": None}, "--head-ip"),
        ("local", {"worker_ips": ()}, "--worker-ip"),
        ("local", {"head_ip": "10.0.0.2"}, "twice"),
        ("local", {"head_ip": "a b"}, "'a b'"),
        ("local", {"head_ip": "-x"}, "'-x'"),
        ("local", {"source": "x", "installed": "y"}, "--installed"),
        ("aws", {"image": "ami-0123"}, "--head-ip"),
        ("aws", {**AWS, "image": None}, "--image"),
    ],
)
def test_what_is_missing_or_too_much_is_said(provider: str, asked: dict[str, Any], word: str) -> None:
    with pytest.raises(TreniError) as raised:
        cluster_file(provider, **OPTIONS | asked)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert word in str(raised.value)


def test_the_command_prints_the_file() -> None:
    command = [sys.executable, "-m", "matrices", "cluster", "init", "--provider", "local"]
    done = subprocess.run(
        [*command, "--head-ip", "10.0.0.1", "--worker-ip", "10.0.0.2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["provider"]["worker_ips"] == ["10.0.0.2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.ray
@pytest.mark.parametrize("provider", ["local", "aws"])
def test_ray_itself_takes_the_file(provider: str) -> None:
    assert importlib.util.find_spec("ray") is not None
    from ray.autoscaler._private.util import prepare_config, validate_config

    made = prepare_config(read(provider, **(AWS if provider == "aws" else {}), tls="/etc/mine"))
    validate_config(made)
    workers = {name: one.get("min_workers") for name, one in made["available_node_types"].items()}
    assert workers == ({"local.cluster.node": 2} if provider == "local" else {CPU_HOST: 0, GPU_HOST: 1})

"""deploy/compose.yaml without Docker: it is what the Compose specification allows, and what our programs understand."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from matrices.command_line import bundled_checkpoint
from matrices.running.client import AgentClient
from matrices.topologies.role_command import role_command
from tests.limits import HANG_S
from tests.places import ROOT
from tests.proto.certificates import KEY
from treni.channels import open_http, showing
from treni.keys import Keys
from treni.passes import Keyring, Pass
from treni.v1 import agent_pb2

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "treni-route"}


def options(name: str) -> dict[str, Any]:
    """The options of a service of ours, as the program parses them that its command line runs."""
    command = OURS[name]["command"]
    assert command[:2] == ["serve", name]
    _, module, *arguments = role_command(name, command[2:])
    main = importlib.import_module(module if module.startswith("matrices") else f"{module}.__main__").main
    assert isinstance(main, click.Command)
    return main.make_context(name, list(arguments)).params


def test_it_is_a_compose_file() -> None:
    """By the schema of compose-spec (Apache-2.0), as check-jsonschema 0.39.0 carries it."""
    schema = json.loads((ROOT / "tests" / "deploy" / "compose-spec.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(COMPOSE)) == []
    broken = {**COMPOSE, "services": {"runtime": {**SERVICES["runtime"], "comand": []}}}
    assert list(validator.iter_errors(broken))


def test_every_command_line_is_one_of_ours_and_knows_where_the_others_are() -> None:
    assert set(OURS) == {"runtime", "tools", "controller"}
    runtime, tools, controller = (options(name) for name in ("runtime", "tools", "controller"))
    assert controller["model_address"] == f"runtime:{runtime['port']}"
    assert controller["tools_address"] == f"tools:{tools['port']}"
    assert {runtime["host"], tools["host"], controller["host"]} == {"0.0.0.0"}
    for name in OURS:
        probe = OURS[name]["healthcheck"]["test"]
        assert f"127.0.0.1:{options(name)['port']}" in probe[-1]
        compile(probe[-1], name, "exec")
    assert {*OURS["controller"]["depends_on"]} == {"runtime", "tools"}


def test_every_service_asks_for_the_key_that_compose_was_given() -> None:
    for name, service in OURS.items():
        assert service["environment"]["TRENI_KEY"].startswith("${TRENI_KEY:?")
        assert (options(name)["key_env"], options(name)["insecure"]) == ("TRENI_KEY", False)


def test_the_ledger_is_on_a_volume_that_its_user_may_write() -> None:
    folder = str(Path(options("tools")["ledger"]).parent)
    (volume,) = OURS["tools"]["volumes"]
    assert volume == f"ledger:{folder}"
    assert f"install -d -o treni {folder}" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert set(COMPOSE["volumes"]) == {"ledger", "prometheus"}


def test_prometheus_reads_the_metrics_where_the_runtime_serves_them() -> None:
    """The runtime's metrics are on its loopback, so that both must be in one network."""
    prometheus = SERVICES["prometheus"]
    assert prometheus["network_mode"] == "service:runtime"
    mounted, inside, _ = prometheus["volumes"][0].split(":")
    name = prometheus["command"][0].removeprefix(f"--config.file={inside}/")
    config = yaml.safe_load((DEPLOY / mounted / name).read_text(encoding="utf-8"))
    ((target,),) = [group["targets"] for job in config["scrape_configs"] for group in job["static_configs"]]
    assert target == f"127.0.0.1:{options('runtime')['metrics_port']}"
    for rules in config["rule_files"]:
        assert (DEPLOY / mounted / rules).is_file()


def test_nothing_is_published_beyond_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "runtime": ["127.0.0.1:9090:9090"],
        "controller": [f"127.0.0.1:{options('controller')['port']}:{options('controller')['port']}"],
    }
    for service in OURS.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True


def test_the_image_is_made_of_what_git_has_and_does_not_run_as_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = text.splitlines()
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert any(path == source or path.startswith(f"{source}/") for path in tracked), source
    last_stage = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM")) :]
    (user,) = [line for line in last_stage if line.startswith("USER")]
    assert int(user.split()[1]) > 0
    assert 'ENTRYPOINT ["treni-route"]' in last_stage
    model = options("runtime")["model"]
    assert f"COPY runtime_svc/checkpoints/treni-tiny {model}" in last_stage


def test_the_lock_becomes_constraints() -> None:
    """What the image's build does with the lock, so that pip takes it for constraints and asks for no hashes."""
    (command,) = [
        line for line in (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines() if "sed -E" in line
    ]
    script = command.split("sed -E '")[1].split("'")[0]
    done = subprocess.run(
        ["sed", "-E", script, str(ROOT / "requirements.lock")], capture_output=True, text=True, check=True
    )
    pins = [line for line in done.stdout.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert all("==" in line and "--hash" not in line and not line.endswith("\\") for line in pins)
    assert any(line.startswith("grpcio==") for line in pins)


@contextmanager
def started(name: str, instead: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A service by its own command line with these options instead; what it says when it is ready."""
    command = [*OURS[name]["command"], *(f"{option}={value}" for option, value in instead.items())]
    process = subprocess.Popen(
        [sys.executable, "-m", "matrices", *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TRENI_KEY": KEY},
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(timeout=HANG_S)


@pytest.mark.slow
async def test_what_it_starts_answers_a_request_and_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of an option that is given twice the last one counts: other ports and paths, on this machine's loopback alone.
    here = {"--host": "127.0.0.1", "--port": "0"}
    model = {"--model": str(bundled_checkpoint()), "--metrics-port": "0"}
    with (
        started("runtime", {**here, **model}) as runtime,
        started("tools", {**here, "--ledger": str(tmp_path / "ledger.sqlite")}) as tools,
        started(
            "controller",
            {**here, "--model-address": runtime["address"], "--tools-address": tools["address"]},
        ) as controller,
    ):
        monkeypatch.setenv("TRENI_KEY", KEY)
        with showing(Keyring(default=Pass(keys=Keys(variable="TRENI_KEY")))):
            client = AgentClient(controller["address"])
        request = agent_pb2.RunRequest(run_id="compose", task_id="t", prompt="What is 17 times 23?")
        done = await client.run(request, timeout_s=HANG_S)
        await client.close()
        assert done.error is None
        assert len(done.replies) == 1
        async with open_http() as http:
            told = (await http.get(runtime["metrics"])).text
    assert 'treni_runtime_requests_total{outcome="ok"}' in told

"""Hosts in regions with a declared network between them, and one host behind a tunnel."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.emulation import toxics
from chaos.toxiproxy import ToxiproxyClient, ToxiproxyServer
from chaos.toxiproxy_build import ensure_server
from matrices.evidence import events as ev
from matrices.evidence.history import read_history
from matrices.topologies.hosts_file import read_hosts
from matrices.topologies.pilot import read_pilot
from tests.matrices import harness as h
from tests.matrices.topologies.hosts_files import AGENT, CONTROLLER, TOOLS, write
from tests.matrices.topologies.test_hosts import by_hand, same_counts
from treni.errors import Code, TreniError

EU, US = 'region = "eu"\n', 'region = "us"\n'
WAY = '[[network]]\nbetween = ["us", "eu"]\nprofile = "eu-us"\n'
REGIONS = EU + AGENT + US + CONTROLLER + EU + TOOLS + EU + WAY
RTT_S = 0.067


def test_a_way_is_declared_by_a_profile_or_by_its_figures(tmp_path: Path) -> None:
    by_name = read_hosts(write(tmp_path / "one.toml", REGIONS))
    figures = REGIONS.replace('profile = "eu-us"', 'rtt = "67ms"\njitter = "2ms"')
    by_figures = read_hosts(write(tmp_path / "two.toml", figures))
    for file in (by_name, by_figures):
        (way,) = file.network
        assert (way.rtt, way.jitter, way.loss) == (RTT_S, 0.002, 0.0)
        assert [one.region for one in file.service] == ["us", "eu", "eu"]
        assert type(file).model_validate(file.model_dump(mode="json", exclude_none=True)) == file


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (REGIONS.replace(EU, "", 1), "harness"),
        (REGIONS.replace(US, "", 1), "every service"),
        (REGIONS.replace(WAY, ""), "eu and us"),
        (REGIONS + WAY.replace('["us", "eu"]', '["eu", "us"]'), "more"),
        (REGIONS + WAY.replace('"us"', '"mars"'), "mars"),
        (REGIONS.replace('"eu-us"', '"moon"'), "eu-us"),
        (REGIONS.replace('profile = "eu-us"', 'rtt = "67"'), "network.0.rtt"),
        (REGIONS.replace('profile = "eu-us"', "rtt = 0.067"), "network.0.rtt"),
        (REGIONS.replace('profile = "eu-us"', ""), "network.0.rtt"),
        (REGIONS.replace('["us", "eu"]', '["us"]'), "network.0.between"),
        (AGENT + CONTROLLER + TOOLS + WAY, "every service"),
    ],
)
def test_regions_without_what_lies_between_them_are_refused(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(TreniError) as caught:
        read_hosts(write(tmp_path / "hosts.toml", text))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert word in str(caught.value)


@contextmanager
def far_agents(folder: Path) -> Iterator[list[int]]:
    """Two agents on one host, each with the same two ports that its callers know: their EvidenceServices' ports."""
    with ExitStack() as stack:
        yield [stack.enter_context(_agent(folder / f"agent-{n}", f"127.0.1.{20 + n}")) for n in range(2)]


@contextmanager
def _agent(folder: Path, host: str) -> Iterator[int]:
    folder.mkdir()
    port, service_port = free_ports(2)
    options = ("--port", str(port), "--service-port", str(service_port), "--state", str(folder))
    process = subprocess.Popen(
        [sys.executable, "-m", "matrices", "serve", "agent", "--testbed", "--host", host, *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["service"] == "agent"
        with _far(host, (port, service_port)):
            yield port
    finally:
        process.terminate()
        process.wait(timeout=h.WAIT_S)


def far_host(host: str) -> str:
    """The address at which a host is far away."""
    return host.replace("127.0.1.", "127.0.2.")


@contextmanager
def _far(host: str, ports: tuple[int, ...]) -> Iterator[None]:
    """The host's ports at another address, behind proxies that make every round trip as long as eu-us."""
    client = ToxiproxyClient(os.environ["WHERE_PROXIES"])
    names = [f"{host}-{port}" for port in ports]
    for name, port in zip(names, ports, strict=True):
        client.create_proxy(name, upstream=f"{host}:{port}", listen=f"{far_host(host)}:{port}")
        for toxic in toxics(rtt_s=RTT_S, jitter_s=0.002):
            client.add_toxic(name, toxic)
    yield
    for name in names:
        client.delete_proxy(name)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(int(probe.getsockname()[1]))
        return found


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
async def test_what_was_declared_between_regions_stands_beside_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir()
    async with await ToxiproxyServer.start() as server:
        monkeypatch.setenv("WHERE_PROXIES", server.address)
        loopbacks = {"controller": "127.0.0.3", "tools": "127.0.0.4"}
        with far_agents(tmp_path) as ports, by_hand(tmp_path / "state", loopbacks) as services:
            text = EU + "".join(
                f'[[service]]\nrole = "{role}"\nhost = "h"\naddress = "{address}"\n{region}'
                for role, address, region in [
                    *(
                        ("agent", f"{far_host(f'127.0.1.{20 + n}')}:{port}", US)
                        for n, port in enumerate(ports)
                    ),
                    *((role, address, EU) for role, address in services.addresses.items()),
                ]
            )
            file = write(tmp_path / "hosts.toml", text + WAY)
            arguments = (h.patient(tmp_path, "p03"), "--runs", "3", "--topology", str(file))
            result = h.matrix(tmp_path / "out", *arguments)
    assert result.status in (0, 3), result.stderr
    found = h.verb("check", result.folder)
    assert found.returncode == 0, found.stdout
    manifest = json.loads((result.folder / "manifest.json").read_bytes())
    assert manifest["details"]["placement"]["hosts"]["network"][0]["profile"] == "eu-us"
    summary = json.loads((result.folder / "summary.json").read_bytes())
    ways = next(cell["ways"] for cell in summary["cells"] if cell["cell"] == "p03")
    by_role = {clock["role"]: clock for clock in ways["clocks"]}
    assert {role: clock["region"] for role, clock in by_role.items()} == {
        "runtime": "us",
        "controller": "eu",
        "tools": "eu",
    }
    assert by_role["runtime"]["declared_s"] == RTT_S
    assert by_role["runtime"]["error_s"] >= (RTT_S - 0.002) / 2
    assert (by_role["tools"]["declared_s"], by_role["controller"]["declared_s"]) == (None, None)
    (trip,) = ways["trips"]
    assert (trip["hop"], trip["places"]) == ("model", "eu to us")
    assert trip["trip_s"] >= RTT_S - 0.002
    report = (result.folder / "summary.md").read_text(encoding="utf-8")
    assert "| external, model | eu to us | 67 ms ± 2 ms |" in report
    assert "Emulated" not in report
    starts = [
        one for one in read_history(result.folder / "history.jsonl").events if isinstance(one, ev.CellStarted)
    ]
    assert all(start.clocks["runtime"].error_s >= (RTT_S - 0.002) / 2 for start in starts)


SERVICES = (("agent", 7101), ("agent", 7102), ("controller", 7103), ("tools", 7104))


def pilot(services: tuple[tuple[str, int], ...] = SERVICES, *, toxiproxy: int = 8474, more: str = "") -> str:
    """The text of a pilot's file; a service's own port is 1,000 beyond."""
    rows = (
        f'[[service]]\nrole = "{role}"\nport = {port}\nservice_port = {port + 1000}\n'
        for role, port in services
    )
    return f'host = "far"\ntoxiproxy = {toxiproxy}\n{more}' + "".join(rows)


def test_a_pilot_is_a_file_of_hosts_at_the_near_end_of_a_tunnel(tmp_path: Path) -> None:
    file = read_pilot(write(tmp_path / "pilot.toml", pilot(more='network = { profile = "eu-us" }\n')))
    assert [one.address for one in file.service] == [f"127.0.0.1:{port}" for _, port in SERVICES]
    assert file.toxiproxy is not None
    assert file.toxiproxy.address == "127.0.0.1:8474"
    assert (file.region, {one.region for one in file.service}) == ("here", {"there"})
    assert file.network[0].rtt == RTT_S
    assert read_pilot(write(tmp_path / "plain.toml", pilot())).network == ()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (pilot(SERVICES[1:]), "2 agents"),
        (pilot(SERVICES[:3]), "tools"),
        (pilot((*SERVICES[:3], ("tools", 7101))), "7101"),
        (pilot((*SERVICES[:3], ("tools", 6103))), "7103"),
        (pilot(toxiproxy=7101), "7101"),
        (pilot(toxiproxy=0), "toxiproxy"),
        (pilot().replace("port =", "prot =", 1), "service.0"),
        (pilot(more='network = { profile = "moon" }\n'), "eu-us"),
        (pilot(more='network = { rtt = "1h" }\n'), "rtt"),
        ("host =", "pilot.toml"),
    ],
)
def test_a_file_that_is_no_pilot_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = write(tmp_path / "pilot.toml", text)
    with pytest.raises(TreniError) as caught:
        read_pilot(path)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("profile", "word"),
    [("b02", "host"), ("p00", ""), ("p00 --restarts 2", "local"), ("client.toml", "behind the tunnel")],
)
def test_what_needs_a_port_that_nobody_forwards_is_said_by_a_dry_run(
    tmp_path: Path, profile: str, word: str
) -> None:
    write(
        tmp_path / "client.toml",
        'name = "client"\ntitle = "t"\n[faults]\nhop = "agent"\nby = "request"\n'
        '[[faults.rules]]\nkind = "status"\nrate = 0.5\n',
    )
    arguments = [str(tmp_path / one) if one.endswith(".toml") else one for one in profile.split()]
    file = write(tmp_path / "pilot.toml", pilot())
    process = h.start(*arguments, "--topology", f"pilot:{file}", "--dry-run", "--out", str(tmp_path / "out"))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == (2 if word else 0), stderr
    assert word in stderr
    assert "Traceback" not in stderr


@dataclass
class Far:
    """A host of its own: a network namespace, which only the tunnel leads to."""

    name: str
    address: str

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command], stdout=subprocess.PIPE, text=True
        )


@contextmanager
def far_away() -> Iterator[Far]:
    """A namespace behind a pair of interfaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the ip command")
    token = secrets.token_hex(3)
    name, near, far = f"where-{token}", f"wn{token}", f"wf{token}"
    subnet = f"10.{128 + secrets.randbelow(100)}.{secrets.randbelow(250)}"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, timeout=60)

    try:
        ip("netns", "add", name)
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("address", "add", f"{subnet}.1/24", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "address", "add", f"{subnet}.2/24", "dev", far)
        for link in ("lo", far):
            ip("-n", name, "link", "set", link, "up")
        yield Far(name, f"{subnet}.2")
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, timeout=60)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.namespaces
@pytest.mark.soak
async def test_a_client_here_and_everything_else_behind_one_tunnel_give_the_counts_of_local(
    tmp_path: Path,
) -> None:
    arguments = (h.patient(tmp_path, "p03,p04t"), "--suite", "tool_only", "--runs", "3")
    roles = [role for role, _ in SERVICES]
    with ExitStack() as stack:
        far = stack.enter_context(far_away())
        tunnel = await ToxiproxyServer.start()
        stack.callback(lambda: None)
        client = ToxiproxyClient(tunnel.address)

        def forward(port: int) -> None:
            """`ssh -L PORT:127.0.0.1:PORT`, as long as the way to another region."""
            client.create_proxy(f"f{port}", upstream=f"{far.address}:{port}", listen=f"127.0.0.1:{port}")
            for toxic in toxics(rtt_s=RTT_S, jitter_s=0.0):
                client.add_toxic(f"f{port}", toxic)

        ports = [port for port in free_ports(60) if port < 64000]
        chosen = list(zip(roles, ports, strict=False))
        proxies = ports[len(roles)]
        started = [far.start(str(ensure_server()), "-host", "0.0.0.0", "-port", str(proxies))]
        try:
            for number, (role, port) in enumerate(chosen):
                process = far.start(
                    *(sys.executable, "-m", "matrices", "serve", role, "--testbed", "--host", "0.0.0.0"),
                    *("--port", str(port), "--service-port", str(port + 1000)),
                    *("--state", str(tmp_path / f"state-{number}"), "--insecure"),
                )
                started.append(process)
                assert process.stdout is not None
                assert json.loads(process.stdout.readline())["service"] == role
                forward(port)
                forward(port + 1000)
            forward(proxies)
            text = pilot(tuple(chosen), toxiproxy=proxies, more='network = { rtt = "67ms" }\n')
            file = write(tmp_path / "pilot.toml", text)
            result = h.matrix(tmp_path / "out", *arguments, "--topology", f"pilot:{file}")
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(timeout=h.WAIT_S)
            await tunnel.stop()
    assert result.status in (0, 3), result.stderr
    found = h.verb("check", result.folder)
    assert found.returncode == 0, found.stdout
    same_counts(result, h.matrix(tmp_path / "local", *arguments), ["p03", "p04t"])
    manifest = json.loads((result.folder / "manifest.json").read_bytes())
    assert manifest["topology"] == "pilot"
    # Both arms are as far from the client; between the roles there is no way of which anything was said.
    summary = json.loads((result.folder / "summary.json").read_bytes())
    ways = summary["cells"][-1]["ways"]
    assert {clock["declared_s"] for clock in ways["clocks"]} == {RTT_S}
    assert all(clock["error_s"] >= RTT_S / 2 for clock in ways["clocks"])
    assert ways["trips"] == []

"""What the faults of a link do to packets between two hosts made of namespaces, and that they are undone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos.hosts.links import End
from deploy.namespaces.host import Host
from deploy.namespaces.making import Hosts, made
from tests.limits import HANG_S
from treni.errors import TreniError

pytestmark = pytest.mark.namespaces

HERE = Path(__file__).parent
PORT = 7001


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with made(["near", "far"]) as hosts:
        yield hosts


class Driven:
    """A script on a host that answers each line with one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def do(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@contextmanager
def driven(host: Host, script: str, address: str) -> Iterator[Driven]:
    process = subprocess.Popen(
        host.command(sys.executable, str(HERE / script), address),
        env=host.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Driven(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=HANG_S)


@contextmanager
def both(hosts: Hosts) -> Iterator[tuple[Driven, Driven]]:
    """A server on one host, and a client of it on the other that has been answered once."""
    address = f"{hosts['far'].address}:{PORT}"
    with driven(hosts["far"], "struck_server.py", address) as server:
        assert server.process.stdout is not None
        assert server.process.stdout.readline().strip() == "serving"
        with driven(hosts["near"], "asking_client.py", address) as client:
            client.do("ask")
            yield server, client


def rules(host: Host) -> str:
    """What is left on the host of tables, routing rules and devices that are ours."""
    return host.run("sh", "-c", "nft list tables; ip rule; ip -brief link", timeout_s=HANG_S).stdout


@pytest.mark.parametrize("harm", ["drop", "deafen"])
def test_what_is_sent_into_a_partition_arrives_after_it(hosts: Hosts, harm: str) -> None:
    with both(hosts) as (server, client):
        server.do(harm)
        client.do("tell")
        assert client.do("peek") == "nothing"
        assert int(server.do("heal")) > 0
        assert client.do("hear") == "told"
    assert "treni" not in rules(hosts["far"])


def test_a_lossy_link_loses_some_and_tcp_sends_it_again(hosts: Hosts) -> None:
    with both(hosts) as (server, client):
        server.do("lose")
        for _ in range(10):
            client.do("ask")
        assert int(server.do("heal")) >= 20


def test_a_late_link_holds_what_the_host_sends_for_its_delay_at_least(hosts: Hosts) -> None:
    with both(hosts) as (server, client):
        server.do("delay")
        assert all(float(client.do("ask")) >= 0.2 for _ in range(5))
        assert int(server.do("heal")) >= 5
        client.do("ask")
    assert "treni" not in rules(hosts["far"])


@pytest.mark.parametrize("harm", ["drop", "delay"])
def test_a_striker_that_is_killed_leaves_nothing_behind(hosts: Hosts, harm: str) -> None:
    with both(hosts) as (server, _):
        server.do(harm)
        assert "treni" in rules(hosts["far"])
        server.do("die")
        limit_s = time.monotonic() + HANG_S
        while "treni" in rules(hosts["far"]) or "fwmark" in rules(hosts["far"]):
            assert time.monotonic() < limit_s, "it was never undone"
            time.sleep(0.05)


def test_the_loopback_device_is_never_touched(hosts: Hosts) -> None:
    address = f"{hosts['far'].address}:{PORT}"
    with both(hosts) as (server, _), driven(hosts["far"], "asking_client.py", address) as neighbour:
        server.do("drop")
        neighbour.do("ask")
        assert int(server.do("heal")) == 0


def test_an_end_says_its_family() -> None:
    assert (End.of("10.0.0.1:7").family, End.of("[::1]:7").family, End.of("name:7").family) == (
        "ip",
        "ip6",
        "",
    )
    assert End.of("[fe80::1]:70") == End(address="fe80::1", port=70)
    with pytest.raises(ValueError, match="invalid literal"):
        End.of("10.0.0.1")


def test_a_name_has_no_packets_that_a_rule_could_tell() -> None:
    from chaos.hosts import links

    with pytest.raises(TreniError, match="IP address"):
        list(links._matches([End.of("name:7")], "input", "d"))

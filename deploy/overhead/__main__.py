"""`python -m deploy.overhead`: what a hop between two hosts costs, beside bare gRPC over the same link and Ray."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from chaos.toxiproxy_build import ensure_server
from deploy.namespaces.host import Host
from deploy.namespaces.making import Hosts, made, refuse_here
from deploy.overhead.calls import ACROSS, HOP, PAYLOAD_BYTES, PROXIED, RAY, WITHIN
from deploy.overhead.ray_hosts import start_cluster
from deploy.split_host.debian import HOSTS_NEED, install_missing
from deploy.split_host.ray_cluster import has_ray
from deploy.split_host.services import CPU, GPU, PROXIES_PORT, start_proxies, start_serving
from matrices.cli import output
from matrices.topologies.processes import die_with_parent
from treni import entry
from treni.errors import Code, TreniError

WHAT = {
    WITHIN: "bare gRPC, within a host",
    ACROSS: "bare gRPC, across the link",
    HOP: "our hop, across the link",
    PROXIED: "our hop, across the link, through the proxies",
    RAY: "a Ray actor's call, across the link",
}
"""Each call in words."""

_LIMIT_S = 1800.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one call takes in seconds: the median of its medians in each repeat, and the least and the most of those.

    `ratio` is that to a bare call across the link in the same repeat, at the median.
    """

    what: str
    median_s: float
    least_s: float
    most_s: float
    ratio: float


def costs_of(medians: Mapping[str, list[float]]) -> list[Cost]:
    """A cost for each call, from its medians by repeat."""
    floor = medians[ACROSS]
    return [
        Cost(
            what=WHAT[name],
            median_s=statistics.median(of),
            least_s=min(of),
            most_s=max(of),
            ratio=statistics.median(mine / bare for mine, bare in zip(of, floor, strict=True)),
        )
        for name, of in medians.items()
    ]


@entry.command()
@click.option(
    "--rounds",
    type=entry.WholeRange(10),
    default=300,
    show_default=True,
    help="Calls of each kind in a repeat.",
)
@click.option("--repeats", type=entry.WholeRange(1, 100), default=5, show_default=True, help="How often.")
@click.option("--parent-pid", type=int, hidden=True, help="End when this process does.")
@output.format_option
def main(rounds: int, repeats: int, parent_pid: int | None, form: str) -> None:
    """Measure what a call between two hosts made of namespaces costs: bare, by our tool hop, and by Ray where it is.

    Needs Linux and root. All calls carry as many bytes and are made in turn, so that whatever the machine does meets
    them alike; of our hop the tool's own time is left out.
    """
    refuse_here()
    install_missing(HOSTS_NEED)
    proxies = ensure_server()
    if parent_pid is not None:
        die_with_parent(parent_pid)
    with made([CPU, GPU], visible=[proxies.parent]) as hosts, _targets(hosts, proxies) as targets:
        environment: dict[str, str] = {}
        if has_ray():
            targets[RAY], environment = start_cluster(hosts[CPU], hosts[GPU])
        settings = {"targets": targets, "rounds": rounds, "repeats": repeats}
        medians = _measured(hosts[CPU], settings, environment)
    costs = costs_of(medians)
    if form == "json":
        output.say_json({"rounds": rounds, "repeats": repeats, "rows": [asdict(cost) for cost in costs]})
        return
    output.say(
        output.table(("call", "median ms", "least", "most", "of bare"), map(_line, costs), right=range(1, 5))
    )
    output.say(
        f"\n{PAYLOAD_BYTES} bytes, {rounds} calls of each in turn, {repeats} times; of the medians of those.\n"
    )


@contextmanager
def _targets(hosts: Hosts, proxies: Path) -> Iterator[dict[str, str]]:
    """What is called, while the block runs."""
    here, there = hosts[CPU], hosts[GPU]
    with ExitStack() as stack:
        targets = {"toxiproxy": f"{here.address}:{PROXIES_PORT}"}
        stack.callback(start_proxies(here, proxies).stop)
        for name, host in ((WITHIN, here), (ACROSS, there)):
            process, ready = start_serving(host, "bare", "-m", "deploy.overhead.bare", host.address)
            stack.callback(process.stop)
            targets[name] = ready["address"]
        process, ready = start_serving(
            there,
            "tools",
            "-m",
            "matrices",
            "serve",
            "tools",
            "--host",
            there.address,
            "--ledger",
            "/tmp/ledger",
            "--insecure",  # the others that are timed beside it have no key either
        )
        stack.callback(process.stop)
        targets[HOP] = ready["address"]
        yield targets


def _measured(
    host: Host, settings: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, list[float]]:
    done = host.start(
        *(sys.executable, "-m", "deploy.overhead.caller", json.dumps(settings)),
        environment=environment,
        stdout=subprocess.PIPE,
    )
    said, _ = done.communicate(_LIMIT_S)
    if done.poll() != 0:
        raise TreniError(
            Code.INTERNAL,
            "overhead_failed",
            expected="every call to be answered",
            got=f"status {done.poll()}",
            todo="see what it said above",
        )
    found: dict[str, list[float]] = json.loads(said)
    return found


def _line(cost: Cost) -> tuple[str, ...]:
    seconds = (cost.median_s, cost.least_s, cost.most_s)
    return (cost.what, *(f"{one * 1e3:.3f}" for one in seconds), f"{cost.ratio:.2f}")


if __name__ == "__main__":
    main(prog_name="python -m deploy.overhead")

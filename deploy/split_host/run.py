"""The split-host matrix from its beginning to its end: one host, two, tools apart, and what they have to agree in."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.namespaces.making import Hosts
from deploy.split_host.campaigns import Done, judge, refuse_difference, run_matrix
from deploy.split_host.link import Counted, Crossing, crossings, refuse_uncrossed, write_link
from deploy.split_host.services import APART, CLIENT, PUBLISHED, SERVICE_PORTS, served
from deploy.split_host.table import refuse_other_counts
from treni import entry

APART_RUNS = 3
"""How many runs of the suite show that the tool hop crosses the link, where the tools have a host of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One campaign on one host and one on split hosts, which agree, and what of each hop crossed the link.

    `apart` is what crossed in a short campaign with the tools on a host of their own.
    """

    campaigns: tuple[Done, ...]
    crossed: tuple[Crossing, ...]
    apart: tuple[Crossing, ...]


def split_host(hosts: Hosts, profiles: str, *, runs: int, proxies: Path) -> Split:
    """Runs the campaigns on the hosts and holds them against each other.

    `proxies` is the toxiproxy program. Raises `TreniError` for whatever is not as it would be on one host.
    """
    ports = SERVICE_PORTS.values()
    hosts.switch.count(min(ports), max(ports))
    environment = {"PATH": f"{proxies.parent}:{os.environ['PATH']}"}
    whole = (profiles, "--runs", str(runs))
    entry.note("one host")
    local = run_matrix(hosts[CLIENT], "local", *whole, environment=environment)
    entry.note("split hosts: the runtime on one, controller and tools on the other")
    split, crossed = _split(hosts, "hosts", whole, PUBLISHED, proxies)
    refuse_other_counts(local, split)
    refuse_difference(local, split)
    entry.note("the tools on a host of their own too")
    few = (profiles, "--runs", str(min(runs, APART_RUNS)))
    apart, crossed_apart = _split(hosts, "apart", few, APART, proxies)
    return Split(campaigns=(local, split, apart), crossed=crossed, apart=crossed_apart)


def _split(
    hosts: Hosts, name: str, arguments: Sequence[str], placement: Mapping[str, str], proxies: Path
) -> tuple[Done, tuple[Crossing, ...]]:
    """A campaign with the roles placed so, judged, with what crossed the link written beside its manifest."""
    with served(hosts, placement, proxies) as file:
        before = Counted.now(hosts)
        done = run_matrix(hosts[CLIENT], name, *arguments, "--topology", str(file), environment={})
        after = Counted.now(hosts)
    found = crossings(hosts, placement, before, after)
    write_link(done.path, found, before, after)
    judge(done)
    refuse_uncrossed(found)
    return done, found


def keep(campaigns: Sequence[Done], out: Path, name: str) -> Path:
    """Copies the campaigns out of the hosts into a new folder of that name in `out`, whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=out) as scratch:
        for done in campaigns:
            shutil.copytree(done.path, Path(scratch, "whole", done.name))
        return Path(scratch, "whole").rename(out / name)

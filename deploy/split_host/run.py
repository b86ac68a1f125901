"""The split-host matrix from its beginning to its end: on one host, on two, with tools apart, on a Ray cluster."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.toxiproxy_build import cached_server
from deploy.namespaces.init import HOME
from deploy.namespaces.making import Hosts
from deploy.split_host.campaigns import Done, judge, refuse_difference, run_matrix
from deploy.split_host.link import Counted, Crossing, HopPlace, crossings, refuse_uncrossed, write_link
from deploy.split_host.ray_cluster import ray_cluster, run_on_head
from deploy.split_host.services import APART, CLIENT, CPU, GPU, PUBLISHED, SERVICE_PORTS, served
from deploy.split_host.table import refuse_other_counts
from matrices.topologies.ray_actors import port_of
from treni.packages import cache_folder

APART_RUNS = 3
"""How many runs of the suite show that the tool hop crosses the link, where the tools have a host of their own."""

STRUCK, STRUCK_RUNS = "n01..n06", 3
"""The profiles whose faults strike hosts, and how many runs of the suite meet each of them."""

HOPS = (
    ("the client's call, internal arm", "", "agent"),
    ("the client's call, external arm", "", "controller"),
    ("model hop", "controller", "agent"),
    ("tool hop", "controller", "tools"),
)
"""Each hop: what it is called, the role that calls ("" for the harness), and the role that serves."""

RAY_HOPS = (
    HopPlace(
        hop="the client's call, internal arm, and model hop",
        caller=CPU,
        server=GPU,
        port=port_of("agent", 0) + 1,
    ),
    HopPlace(
        hop="the client's call, external arm", caller=CPU, server=CPU, port=port_of("controller", 0) + 1
    ),
    HopPlace(hop="tool hop", caller=CPU, server=CPU, port=port_of("tools", 0) + 1),
)
"""The hops on a Ray cluster, whose head has the harness beside the controller: two of them go the same way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One campaign, and what of its hops crossed the link; nothing is counted on one host.

    `whole` says whether it has all profiles, so that its rows stand beside the others'.
    """

    title: str
    campaign: Done
    crossed: tuple[Crossing, ...] = ()
    whole: bool = True


class SplitHost:
    """The campaigns on the hosts, one after the other, each held against that of one host.

    `proxies` is the toxiproxy program. Everything raises `TreniError` for whatever is not as on one host.
    """

    def __init__(self, hosts: Hosts, profiles: str, *, runs: int, proxies: Path) -> None:
        self.parts: list[Part] = []
        self._hosts = hosts
        self._client = hosts[CLIENT]
        self._proxies = proxies
        self._whole = f"{shlex.quote(profiles)} --runs {runs}"
        self._few = f"{shlex.quote(_first_of(profiles))} --runs {min(runs, APART_RUNS)}"
        self._lend_proxies()
        ports = [*SERVICE_PORTS.values(), *(place.port for place in RAY_HOPS)]
        hosts.switch.count(min(ports), max(ports))

    def one_host(self) -> None:
        """The campaign on one host, which comes before the others."""
        self.parts.append(Part(title="one host", campaign=run_matrix(self._client, "local", self._whole)))

    def split(self) -> None:
        """The published placement: the runtime on one host, controller and tools on the other."""
        self._by_file("split hosts", "hosts", self._whole, PUBLISHED)

    def tools_apart(self) -> None:
        """A short campaign with the tools on a host of their own too, so that the tool hop crosses the link."""
        self._by_file("tools apart", "apart", self._few, APART, whole=False)

    def struck(self) -> None:
        """Faults between the hosts, the tools on one of their own: told, and compared with nothing."""
        with served(self._hosts, APART, self._proxies, struck=True) as file:
            asked = f"{STRUCK} --runs {STRUCK_RUNS} --topology {file}"
            campaign = run_matrix(self._client, "struck", asked)
        judge(campaign)
        self.parts.append(Part(title="faults between hosts", campaign=campaign, whole=False))

    def on_ray(self) -> None:
        """The published placement on a Ray cluster of the hosts, which is taken down again."""
        with ray_cluster(self._hosts):
            self._run("Ray", RAY_HOPS, lambda: run_on_head(self._client, "ray", self._whole))

    def _by_file(
        self, title: str, name: str, arguments: str, placement: Mapping[str, str], *, whole: bool = True
    ) -> None:
        with served(self._hosts, placement, self._proxies) as file:
            places = [
                HopPlace(
                    hop=hop,
                    caller=placement.get(caller, CLIENT),
                    server=placement[server],
                    port=SERVICE_PORTS[server],
                )
                for hop, caller, server in HOPS
            ]
            command = f"{arguments} --topology {file}"
            self._run(title, places, lambda: run_matrix(self._client, name, command), whole=whole)

    def _run(
        self, title: str, places: Sequence[HopPlace], run: Callable[[], Done], *, whole: bool = True
    ) -> None:
        """Runs a campaign, writes beside its manifest what crossed the link, and holds it against the first."""
        before = Counted.now(self._hosts)
        campaign = run()
        after = Counted.now(self._hosts)
        found = crossings(self._hosts, places, before, after)
        write_link(campaign.path, found, before, after)
        judge(campaign)
        refuse_uncrossed(found)
        part = Part(title=title, campaign=campaign, crossed=found, whole=whole)
        if whole:
            first = self.parts[0].campaign
            refuse_other_counts(first, campaign)
            refuse_difference(first, campaign)
        self.parts.append(part)

    def _lend_proxies(self) -> None:
        """Puts the program where each host looks for it: its own cache, as if it had built it."""
        place = f"{HOME}/.cache/treni-route/{cached_server().relative_to(cache_folder())}"
        for host in self._hosts.by_name.values():
            host.path(place).parent.mkdir(parents=True)
            host.path(place).symlink_to(self._proxies)


def _first_of(profiles: str) -> str:
    """The first profile of a selection, which may be a range of names or a path."""
    first = profiles.split(",")[0]
    return first if ".toml" in first else first.partition("..")[0]


def keep(campaigns: Iterable[Done], out: Path, name: str) -> Path:
    """Copies the campaigns out of the hosts into a new folder of that name in `out`, whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=out) as scratch:
        for done in campaigns:
            shutil.copytree(done.path, Path(scratch, "whole", done.name))
        return Path(scratch, "whole").rename(out / name)

"""A campaign over hosts made of namespaces: the services on them as by hand, and the harness beside the controller."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.toxiproxy_build import ensure_server
from deploy.namespaces.host import HostProcess
from deploy.namespaces.making import Hosts, made
from tests.matrices import harness as h

PLACES = {"agent": "gpu", "runtime": "gpu", "controller": "cpu", "tools": "far"}
"""The host of each role; the harness and the proxies are on the controller's."""

HARNESS = "cpu"


@dataclass
class Served:
    """Hosts with their services up."""

    hosts: Hosts
    addresses: dict[tuple[str, str], str]
    processes: dict[tuple[str, str], HostProcess]

    def matrix(self, out: Path, *arguments: str) -> h.Result:
        """`treni-route matrix ARGUMENTS` on the harness's host, run to its end; its folder is brought to `out`."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout_s=h.WAIT_S)
        self.fetch(out)
        return h.Result(status=process.wait(), stdout=stdout, stderr=stderr, folder=h.folder_in(out))

    def start(self, *arguments: str) -> HostProcess:
        """The same, as a running process."""
        host = self.hosts[HARNESS]
        host.path("/tmp/hosts.toml").write_text(self._file(), encoding="utf-8")
        shutil.rmtree(host.path("/tmp/out"), ignore_errors=True)
        return host.start(
            *(sys.executable, "-m", "matrices", "matrix", *arguments),
            *("--topology", "/tmp/hosts.toml", "--out", "/tmp/out"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def write(self, profile: Path) -> str:
        """The profile's path on the harness's host, where it is brought."""
        shutil.copy(profile, self.hosts[HARNESS].path(f"/tmp/{profile.name}"))
        return f"/tmp/{profile.name}"

    def fetch(self, out: Path) -> None:
        """What the harness wrote, brought to `out`."""
        shutil.copytree(self.hosts[HARNESS].path("/tmp/out"), out)

    def serve(self, role: str, place: str) -> None:
        """Starts the role on the host."""
        host = self.hosts[place]
        process = host.start(
            *(sys.executable, "-m", "matrices.topologies.serve", role, "--host", host.address),
            *("--state", f"/tmp/state-{role}", "--insecure"),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        self.addresses[role, place] = json.loads(process.stdout.readline())["address"]
        self.processes[role, place] = process

    def _file(self) -> str:
        tables = [
            f'[[host]]\nname = "{place}"\naddress = "{address}"\n'
            if role == "host"
            else f'[[service]]\nrole = "{role}"\nhost = "{place}"\naddress = "{address}"\n'
            for (role, place), address in self.addresses.items()
        ]
        proxies = f'[toxiproxy]\nhost = "{HARNESS}"\naddress = "{self.hosts[HARNESS].address}:8474"\n'
        return "".join([*tables, proxies])


@contextmanager
def served(places: Mapping[str, str] = PLACES) -> Iterator[Served]:
    """Each role on its host, and on each host somebody who strikes it."""
    names = list(dict.fromkeys([*places.values(), HARNESS]))
    with made(names) as hosts, ExitStack() as stack:
        here = hosts[HARNESS]
        proxy = here.start(str(ensure_server()), "-host", here.address, "-port", "8474")
        stack.callback(proxy.stop)
        running = Served(hosts, {}, {})
        for role, place in [*places.items(), *(("host", name) for name in names)]:
            running.serve(role, place)
        yield running

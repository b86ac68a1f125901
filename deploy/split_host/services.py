"""The services of a campaign on hosts made of namespaces: where each runs, and the file of hosts that says so."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deploy.namespaces.host import Host, HostProcess
from deploy.namespaces.making import Hosts
from deploy.split_host.link import LINK_FILE
from matrices.topologies.processes import START_TIMEOUT_S
from treni.errors import Code, TreniError
from treni.keys import new_key_file

GPU, CPU, TOOLS, CLIENT = "gpu", "cpu", "tools", "client"
"""The hosts by name: of the runtime, of controller and proxies, of tools that have one, and of the harness."""

PUBLISHED = {"agent": GPU, "controller": CPU, "tools": CPU}
"""Where the published split-host matrix had each role."""

APART = {**PUBLISHED, "tools": TOOLS}
"""The same with the tools on a host of their own, so that the tool hop crosses the link too."""

EVIDENCE_PORTS = {"agent": 7001, "controller": 7002, "tools": 7003}
SERVICE_PORTS = {"agent": 7101, "controller": 7102, "tools": 7103}
"""The port of each role's own service, which the switch counts; evidence has another."""

STRIKER_PORT = 7004
"""The port of who strikes a host, on each host of a campaign with faults between hosts."""

PROXIES_PORT = 8474

KEY = "/tmp/key"
"""The file with the key of every role, on each host: they are reached from the others."""

_POLL_S = 0.02


@contextmanager
def served(
    hosts: Hosts, placement: Mapping[str, str], proxies: Path, *, struck: bool = False
) -> Iterator[Path]:
    """Every role of the placement while the block runs, as a user starts it; gives the path of the file of hosts.

    `proxies` is the toxiproxy program, which runs beside the controller. Hosts that are to be `struck` have somebody
    each who does. Raises UNAVAILABLE for what does not start.
    """
    with ExitStack() as stack:
        _lend_key(hosts)
        for role, name in placement.items():
            stack.callback(_start_role(hosts[name], role).stop)
        strikers = dict.fromkeys(placement.values()) if struck else ()
        for name in strikers:
            stack.callback(_start_striker(hosts[name]).stop)
        on = hosts[placement["controller"]]
        stack.callback(start_proxies(on, proxies).stop)
        file = hosts[CLIENT].path("/tmp/hosts.toml")
        file.write_text(
            _file_of_hosts(hosts, placement) + "".join(_table_of_host(hosts[name]) for name in strikers),
            encoding="utf-8",
        )
        yield Path("/tmp/hosts.toml")


def _file_of_hosts(hosts: Hosts, placement: Mapping[str, str]) -> str:
    services = "".join(
        f'\n[[service]]\nrole = "{role}"\nhost = "{name}"\naddress = "{hosts[name].address}:{EVIDENCE_PORTS[role]}"\n'
        for role, name in placement.items()
    )
    on = hosts[placement["controller"]]
    proxies = f'\n[toxiproxy]\nhost = "{on.name}"\naddress = "{on.address}:{PROXIES_PORT}"\n'
    door = f'\n[[door]]\nkey_file = "{KEY}"\n'
    return f'link = "{LINK_FILE}"\n{services}{proxies}{door}'


def _lend_key(hosts: Hosts) -> None:
    """Puts one key, drawn for this, on every host; it ends with them."""
    with tempfile.TemporaryDirectory() as scratch:
        key = new_key_file(Path(scratch, "key")).read_bytes()
    for host in hosts.by_name.values():
        path = host.path(KEY)
        path.touch(0o600)
        path.write_bytes(key)


def _table_of_host(host: Host) -> str:
    return f'\n[[host]]\nname = "{host.name}"\naddress = "{host.address}:{STRIKER_PORT}"\n'


def _start_striker(host: Host) -> HostProcess:
    process, _ = start_serving(
        host,
        "host",
        *("-m", "matrices", "serve", "host", "--host", host.address, "--port", str(STRIKER_PORT)),
        *("--state", "/tmp/state/host", "--key-file", KEY),
    )
    return process


def start_serving(host: Host, what: str, *arguments: str) -> tuple[HostProcess, dict[str, Any]]:
    """`python ARGUMENTS` on the host, and the line of JSON that it printed when it served. Raises UNAVAILABLE."""
    log = f"/tmp/{what}.log"
    with host.path(log).open("ab") as written:
        process = host.start(sys.executable, *arguments, stdout=subprocess.PIPE, stderr=written)
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if readable else ""
    if not line:
        raise _not_started(host, what, log, process)
    ready: dict[str, Any] = json.loads(line)
    return process, ready


def _start_role(host: Host, role: str) -> HostProcess:
    process, _ = start_serving(
        host,
        role,
        *("-m", "matrices", "serve", role, "--testbed", "--host", host.address),
        *("--port", str(EVIDENCE_PORTS[role]), "--service-port", str(SERVICE_PORTS[role])),
        *("--state", f"/tmp/state/{role}", "--key-file", KEY),
    )
    return process


def start_proxies(host: Host, program: Path) -> HostProcess:
    """The toxiproxy program on the host, its API at `PROXIES_PORT`. Raises UNAVAILABLE if it does not come up."""
    log = "/tmp/toxiproxy.log"
    with host.path(log).open("ab") as written:
        process = host.start(
            *(str(program), "-host", host.address, "-port", str(PROXIES_PORT)),
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not host.listens(PROXIES_PORT):
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise _not_started(host, "toxiproxy", log, process)
        time.sleep(_POLL_S)
    return process


def _not_started(host: Host, what: str, log: str, process: HostProcess) -> TreniError:
    said = host.path(log).read_text(encoding="utf-8", errors="replace").strip()[-2000:]
    process.stop()
    return TreniError(
        Code.UNAVAILABLE,
        "process_not_ready",
        expected=f"{what} to say that it serves on the host {host.name}",
        got=f"exit status {process.poll()}; its log ends: {said or '(empty)'}",
        todo="see the log",
    )

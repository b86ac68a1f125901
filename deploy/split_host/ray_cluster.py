"""A Ray cluster of hosts made of namespaces by the commands that a user types: `cluster init`, `ray up`, `ray down`."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from deploy.namespaces.host import Host
from deploy.namespaces.making import Hosts
from deploy.split_host.campaigns import FOLDER, Done, done
from deploy.split_host.commands import typed
from deploy.split_host.services import CLIENT, CPU, GPU
from deploy.split_host.ssh import KEY, logged_in_to
from matrices.report.files import ExitStatus
from matrices.topologies.ray_protocol import WAIT_VARIABLE
from matrices.topologies.ray_topology import MOST_WAIT_S
from treni import entry
from treni.errors import Code, TreniError

GONE_LIMIT_S = 600.0
"""The limit for Ray's processes to go once they were told to."""

_FILE = "cluster.yaml"
_OF_RAY = ("/ray/core/src/ray/", "/ray/_private/", "/ray/dashboard/", "/ray/autoscaler/", "ray::")
_POLL_S = 0.5
_TRIES = 3


def has_ray() -> bool:
    """Whether the extra ray is installed."""
    return importlib.util.find_spec("ray") is not None


@contextmanager
def ray_cluster(hosts: Hosts) -> Iterator[None]:
    """A cluster of `cpu`, its head, and `gpu` while the block runs, launched from the client's host over ssh.

    When the block has ended well, `ray down` has been run and no process of Ray's is left on either host. Raises
    FAILED_PRECONDITION for a command that failed, and for what is left.
    """
    client, both = hosts[CLIENT], (hosts[CPU], hosts[GPU])
    with logged_in_to(both, client):
        typed(
            client,
            f"treni-route cluster init --provider local --head-ip {hosts[CPU].address}"
            f" --worker-ip {hosts[GPU].address} --ssh-user root --ssh-key {KEY} --installed {sys.prefix}"
            f" --state /tmp/state > {_FILE}",
        )
        typed(client, "ray get-auth-token --generate > /dev/null")
        _up(client)
        yield
        typed(client, f"ray down --yes {_FILE}")
        # Of hosts that nobody can end, `ray down` ends Ray on the head alone; a worker's agents would stay for good.
        stop = f"{Path(sys.executable).parent}/ray stop --force"
        typed(client, f"ssh -i {KEY} -o StrictHostKeyChecking=accept-new root@{GPU} {stop}")
        _wait_gone(both)


def _up(client: Host) -> None:
    # Ray gives its head half a minute to start, which a busy machine may not: a user types it again.
    for left in reversed(range(_TRIES)):
        try:
            typed(client, f"ray up --yes {_FILE}")
            return
        except TreniError as error:
            if not left:
                raise
            entry.note(f"{error}: once more")


def run_on_head(client: Host, name: str, arguments: str) -> Done:
    """`treni-route matrix ARGUMENTS --topology ray` on the cluster's head, and its folder at the client.

    Raises FAILED_PRECONDITION where the checker finds anything.
    """
    # A worker that takes more than half a minute to start, as on a busy machine, Ray ends and starts again.
    matrix = (
        f"{WAIT_VARIABLE}={MOST_WAIT_S:g} treni-route matrix {arguments} --topology ray --out {FOLDER}/{name}"
    )
    # Of a command's status `ray exec` keeps whether it is 0, and 3 is as good.
    typed(client, f"ray exec {_FILE} '{matrix} || test $? -eq {ExitStatus.INCONCLUSIVE:d}'")
    client.path(f"{FOLDER}/{name}").mkdir(parents=True)
    typed(client, f"ray rsync-down {_FILE} {FOLDER}/{name}/ {FOLDER}/{name}/")
    return done(client, name)


def _wait_gone(hosts: tuple[Host, ...]) -> None:
    deadline_s = time.monotonic() + GONE_LIMIT_S
    while left := [f"{name} on {host.name}" for host in hosts for name in _of_ray(host)]:
        if time.monotonic() > deadline_s:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "ray_left",
                expected=f"every process of Ray's to be gone {GONE_LIMIT_S:.0f} s after `ray stop`",
                got=", ".join(left),
                todo="report this",
            )
        time.sleep(_POLL_S)


def _of_ray(host: Host) -> list[str]:
    """The processes of Ray's on the host: they descend from its first one, as all do whose own parents ended."""
    found = []
    for process in psutil.Process(host.pid).children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if any(part in command for part in _OF_RAY):
            found.append(f"process {process.pid} ({command[:80]})")
    return found

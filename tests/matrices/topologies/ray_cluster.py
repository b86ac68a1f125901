"""A Ray cluster on this machine for tests: a host is a session of processes, which can be killed whole by their ids."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from matrices.topologies.ray_protocol import PORT_VARIABLE, STATE_VARIABLE
from tests.limits import HANG_S

POLL_S = 0.1
ROLE_PORTS = 100


@dataclass
class RayHost:
    """One host: `ray start --block` and all that it started."""

    process: subprocess.Popen[bytes]
    log: Path
    first_port: int

    def processes(self) -> list[psutil.Process]:
        """What runs of the host: its session, in which all of Ray's processes stay."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def kill_gcs(self) -> None:
        """Ends what the cluster is known by alone: `ray start --block`, which would end the rest, is stopped before."""
        self.process.send_signal(signal.SIGSTOP)
        (gcs,) = [one for one in self.processes() if one.name() == "gcs_server"]
        gcs.kill()

    def kill(self) -> None:
        """As if the host lost its power."""
        deadline_s = time.monotonic() + HANG_S
        while left := self.processes():
            assert time.monotonic() < deadline_s, f"still there: {left}"
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(POLL_S)
        self.process.wait(timeout=HANG_S)


@dataclass
class RayTestCluster:
    """A cluster in `folder`, whose hosts keep their evidence in `state`, which may be an earlier cluster's."""

    folder: Path
    state: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    hosts: list[RayHost] = field(default_factory=list)
    address: str = ""
    client_port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What whoever speaks to the cluster needs in its environment."""
        token = self.folder / "token"
        token.touch(0o600)
        token.write_text(self.token, encoding="utf-8")
        return {
            "RAY_TMPDIR": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ADDRESS": self.address,
        }

    def start_head(self, *resources: str, first_port: int | None = None) -> RayHost:
        """The head, once it serves."""
        self.client_port = free_port()
        host = self._start(
            resources,
            *("--head", "--port=0", "--include-dashboard=false", f"--dashboard-port={free_port()}"),
            f"--ray-client-server-port={self.client_port}",
            first_port=first_port,
        )
        told = self.folder / "ray" / "ray_current_cluster"
        _wait(lambda: told.is_file() and told.read_text() != "", host)
        self.address = told.read_text()
        return host

    def join(self, *resources: str, first_port: int | None = None) -> RayHost:
        """A further host, which may still be on its way."""
        return self._start(resources, f"--address={self.address}", first_port=first_port)

    def _start(self, resources: tuple[str, ...], *arguments: str, first_port: int | None) -> RayHost:
        first_port = free_ports(ROLE_PORTS) if first_port is None else first_port
        state = self.state / ("-".join(resources) or "none")
        log = self.folder / f"host-{len(self.hosts)}.log"
        amounts = ", ".join(f'"{name}": 1' for name in resources)
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--block", *arguments),
            *("--disable-usage-stats", "--num-cpus=1", f"--resources={{{amounts}}}"),
            *("--object-store-memory=100000000", "--dashboard-agent-listen-port=0"),
        ]
        # Root may do without the first: an actor then takes its niceness back by itself.
        nice = {} if os.geteuid() == 0 else {"RAY_worker_niceness": "0"}
        more = {STATE_VARIABLE: str(state), PORT_VARIABLE: str(first_port), **nice}
        given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                env=given | self.environment | more,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.hosts.append(RayHost(process=process, log=log, first_port=first_port))
        return self.hosts[-1]

    def stop(self) -> None:
        """Ends every host."""
        for host in self.hosts:
            host.process.send_signal(signal.SIGTERM)
            host.process.send_signal(signal.SIGCONT)
        for host in self.hosts:
            host.kill()


@contextmanager
def ray_cluster(state: Path) -> Iterator[RayTestCluster]:
    """A cluster without hosts; nothing of it is left when the block is."""
    # Sockets lie in it: a path of pytest's would be too long for them.
    folder = Path(tempfile.mkdtemp(prefix="treni-ray-"))
    cluster = RayTestCluster(folder=folder, state=state)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> int:
    """The first of so many ports in a row that were free, below those that the kernel gives to whoever asks."""
    for _ in range(100):
        first = 12000 + secrets.randbelow(200) * count
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
        return first
    raise AssertionError("no free ports")


def _wait(condition: Callable[[], bool], host: RayHost) -> None:
    deadline_s = time.monotonic() + HANG_S
    while not condition():
        assert host.process.poll() is None, host.log.read_text(errors="replace")
        assert time.monotonic() < deadline_s, host.log.read_text(errors="replace")
        time.sleep(POLL_S)

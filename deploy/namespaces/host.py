"""One host made of namespaces: what it is entered by, and the processes that were started on it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from deploy.namespaces.init import HOME

STOP_TIMEOUT_S = 30.0
"""The limit for a process that does not heed the signal to end."""

_POLL_S = 0.01
_LISTENING = "0A"


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """A host by name, with its address on the link and the process whose end is its own, as the machine counts them."""

    name: str
    address: str
    pid: int

    def command(self, *arguments: str) -> list[str]:
        """What runs `arguments` on the host, from outside, as its root at home there."""
        return [
            *("nsenter", "--target", str(self.pid), "--net", "--pid", "--mount", "--uts", "--ipc"),
            *("--", "env", f"--chdir={HOME}", *arguments),
        ]

    def path(self, path: str) -> Path:
        """Where a file of the host is for the machine, as long as the host lives."""
        return Path(f"/proc/{self.pid}/root", path.lstrip("/"))

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the process that asks, at home on the host, with `more` added."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        return {**mine, "HOME": HOME, "TMPDIR": "/tmp", **(more or {})}

    def run(
        self,
        *arguments: str,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host to its end. Raises as `subprocess.run` does."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=check,
        )

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdout: int | IO[Any] | None = subprocess.DEVNULL,
        stderr: int | IO[Any] | None = None,
    ) -> HostProcess:
        """Starts a command on the host; a Ctrl-C at the terminal is its starter's to hand on."""
        outer = subprocess.Popen(
            self.command(*arguments),
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        return HostProcess(outer)

    def listens(self, port: int) -> bool:
        """Whether a process on the host takes connections at that TCP port, of any of its addresses."""
        rows = [
            row.split()
            for table in ("tcp", "tcp6")
            for row in Path(f"/proc/{self.pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
        ]
        return any(row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port for row in rows)

    def kill(self) -> None:
        """Ends the host at once, with all its processes and files and its end of the link, as a power cut does."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        while Path(f"/proc/{self.pid}/ns").exists() and _state(self.pid) not in "ZX":
            time.sleep(_POLL_S)


class HostProcess:
    """A process on a host. What enters the host waits outside for it, ends as it ends, and hands on no signal."""

    def __init__(self, outer: subprocess.Popen[str]) -> None:
        self._outer = outer
        self.stdout = outer.stdout
        self.stderr = outer.stderr

    @property
    def pid(self) -> int | None:
        """The process's id as the machine counts them, None once it has ended."""
        while self._outer.poll() is None:
            inner = _child(self._outer.pid)
            if inner is not None:
                return inner
            time.sleep(_POLL_S)
        return None

    def poll(self) -> int | None:
        """The exit status, as `subprocess.Popen` gives it, None while it runs."""
        return self._outer.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit status once it has ended. Raises `subprocess.TimeoutExpired`."""
        return self._outer.wait(timeout=timeout_s)

    def communicate(self, timeout_s: float) -> tuple[str, str]:
        """What it wrote to the pipes that it was given, once it has ended. Raises `subprocess.TimeoutExpired`."""
        stdout, stderr = self._outer.communicate(timeout=timeout_s)
        return stdout or "", stderr or ""

    def send_signal(self, number: signal.Signals) -> None:
        """Sends the signal to the process itself; nothing where it has ended."""
        pid = self.pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return

    def stop(self) -> None:
        """Asks it to end, and kills it if it does not within `STOP_TIMEOUT_S`."""
        self.send_signal(signal.SIGTERM)
        try:
            self.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
            self.wait(STOP_TIMEOUT_S)


def only_child(process: subprocess.Popen[Any]) -> int | None:
    """The id of the process that another one forked, None if that ends before it has one."""
    while process.poll() is None:
        child = _child(process.pid)
        if child is not None:
            return child
        time.sleep(_POLL_S)
    return None


def _child(pid: int) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(children[0]) if children else None


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"

"""Makes hosts out of namespaces and joins them by a bridge: `made(["gpu", "cpu"])`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.namespaces.host import STOP_TIMEOUT_S, Host, only_child
from deploy.namespaces.switch import BRIDGE, Switch
from treni.errors import Code, TreniError, invalid_argument

NETWORK = "10.77.0"
"""The first three numbers of the hosts' addresses. Nothing else is reached from there, so that any would do."""

INTERFACE = "eth0"
"""The name of each host's end of the link."""

SWITCH = "switch"
"""The name of the namespace with the bridge; no host has it."""

_TOOLS = {"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount", "ip": "iproute2"}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,14}")
_MOST = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosts:
    """Hosts by name, and the switch that joins them."""

    by_name: dict[str, Host]
    switch: Switch

    def __getitem__(self, name: str) -> Host:
        """The host of that name."""
        return self.by_name[name]


@contextmanager
def made(names: Sequence[str], *, visible: Sequence[Path] = ()) -> Iterator[Hosts]:
    """Hosts of those names on one link, which are gone with all that runs on them when the block is left.

    Each has network, processes, mounts, name, home, /tmp and /etc/hosts of its own, reaches the others by name and
    nothing else, and reads the rest of the machine's disk. `visible` are folders to be read where a host's own /tmp or
    /run would hide them; this checkout and its Python are.

    Raises INVALID_ARGUMENT for names that are none, FAILED_PRECONDITION where this machine or user cannot make hosts.
    """
    _refuse_names(names)
    refuse_here()
    addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, start=1)}
    known = "".join(
        f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **addresses}.items()
    )
    seen = _without_inner({*_own_folders(), *(path.resolve() for path in visible)})
    with ExitStack() as stack:
        switch = _begin(stack, SWITCH, known, seen)
        _ip(
            switch,
            f"link add {BRIDGE} type bridge mcast_snooping 0",
            f"link set {BRIDGE} addrgenmode none",
            f"link set {BRIDGE} up",
        )
        hosts = {}
        for name, address in addresses.items():
            pid = _begin(stack, name, known, seen)
            _join(switch, pid, name, address)
            hosts[name] = Host(name=name, address=address, pid=pid)
        yield Hosts(by_name=hosts, switch=Switch(pid=switch))


def refuse_here() -> None:
    """Raises FAILED_PRECONDITION where no hosts can be made: not on Linux, not as root, or tools are missing."""
    if sys.platform != "linux":
        raise _cannot("Linux, whose namespaces they are made of", sys.platform, "run this on a Linux machine")
    if os.geteuid() != 0:
        raise _cannot("root, who may make namespaces", f"user {os.geteuid()}", "run this as root")
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise _cannot(
            f"the programs {', '.join(_TOOLS)}",
            f"none of {', '.join(missing)}",
            f"install them, such as by `apt-get install {' '.join(missing)}`",
        )


def _refuse_names(names: Sequence[str]) -> None:
    wrong = [
        name for name in names if not _NAME.fullmatch(name) or name in (SWITCH, BRIDGE, "lo", "localhost")
    ]
    if wrong or not 1 <= len(names) <= _MOST or len(set(names)) < len(names):
        raise invalid_argument(
            "hosts_misnamed",
            expected=f"1 to {_MOST} different names of up to 15 letters, digits and hyphens, not {SWITCH}",
            got=", ".join(wrong or names) or "none",
            todo="name the hosts otherwise",
        )


def _cannot(expected: str, got: str, todo: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "no_namespaces",
        expected=f"hosts made of namespaces to have {expected}",
        got=got,
        todo=todo,
    )


def _own_folders() -> Iterator[Path]:
    """Where this checkout and its Python are."""
    yield _root()
    for prefix in (sys.prefix, sys.base_prefix):
        yield Path(prefix).resolve()


def _without_inner(folders: set[Path]) -> list[str]:
    return sorted(str(one) for one in folders if not any(other in one.parents for other in folders))


def _begin(stack: ExitStack, name: str, known: str, visible: Sequence[str]) -> int:
    """The first process of a new host, which ends with the block or with us, whichever way."""
    settings: dict[str, Any] = {"hosts": known, "visible": visible}
    process = subprocess.Popen(
        [
            *("unshare", "--net", "--pid", "--mount", "--uts", "--ipc", "--mount-proc", "--kill-child"),
            *(sys.executable, "-m", "deploy.namespaces.init"),
        ],
        cwd=_root(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A Ctrl-C at the terminal is ours to handle.
        start_new_session=True,
    )
    stack.callback(_end, process)
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it ended at once, and says why
        process.stdin.write(f"{json.dumps(settings)}\n")
        process.stdin.flush()
    line = process.stdout.readline()
    refused = json.loads(line)["refused"] if line else process.communicate()[1].strip()
    pid = None if refused is not None else only_child(process)
    if pid is None:
        raise _cannot("a kernel that lets root make them", refused or "an early end", "use another machine")
    _ip(pid, "link set lo up")
    _run(_in(pid, "--uts", "hostname", name))
    return pid


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a host by the end of its first process's input; by force where that takes too long."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _join(switch: int, host: int, name: str, address: str) -> None:
    """Links a host to the bridge, by a port of its name."""
    # Without an address of IPv6 nothing crosses the link that nobody sent.
    _ip(
        switch,
        f"link add {name} type veth peer name {INTERFACE} netns {host}",
        f"link set {name} addrgenmode none",
        f"link set {name} master {BRIDGE} up",
    )
    _ip(
        host,
        f"link set {INTERFACE} addrgenmode none",
        f"address add {address}/24 dev {INTERFACE}",
        f"link set {INTERFACE} up",
    )


def _ip(pid: int, *lines: str) -> None:
    """Runs lines of `ip` in the network of that process."""
    _run(_in(pid, "--net", "ip", "-batch", "-"), "".join(f"{line}\n" for line in lines))


def _run(command: Sequence[str], text: str = "") -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _cannot("a kernel that can join them", done.stderr.strip(), "use another machine")


def _in(pid: int, namespace: str, *command: str) -> list[str]:
    return ["nsenter", "--target", str(pid), namespace, "--", *command]


def _root() -> Path:
    return Path(__file__).resolve().parents[2]

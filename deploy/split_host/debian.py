"""What split hosts need of programs, and how they come to a Debian machine: `python -m deploy.split_host.debian`."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from treni import entry
from treni.errors import Code, TreniError
from treni.packages import failure_of

HOSTS_NEED = {"ip": "iproute2", "unshare": "util-linux", "nft": "nftables"}
"""Programs of the hosts and of the link between them, and the packages that have them."""

SSH_NEEDS = {"sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync"}
"""Programs of hosts that `ray up` logs in to, and the packages that have them."""

_LIMIT_S = 900.0
_SYSTEMD = Path("/run/systemd/system")
_LOCK = Path("/run/treni-route-apt.lock")
_POLICY = Path("/usr/sbin/policy-rc.d")


@entry.command()
def main() -> None:
    """Install by apt-get what is missing of the programs that hosts made of namespaces need, sshd included."""
    install_missing({**HOSTS_NEED, **SSH_NEEDS})


def install_missing(programs: Mapping[str, str]) -> None:
    """Installs the packages of programs that are not there by apt-get, and says so.

    Raises FAILED_PRECONDITION where there is no apt-get, or it fails.
    """
    # Where Debian keeps what only root runs, which a user's PATH may lack.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    packages = _packages(programs)
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise _missing(packages, "no apt-get")
    try:
        with _nobody_else(), _nothing_started():
            packages = _packages(programs)
            problem = _install(packages) if packages else None
            if problem is not None and (problem := _apt_get("update")) is None:
                problem = _install(packages)
    except OSError as error:  # of a user who is not root
        problem = str(error)
    if problem is not None:
        raise _missing(packages, problem)


def _packages(programs: Mapping[str, str]) -> list[str]:
    """The packages of those programs that are not there, each once."""
    return sorted({package for program, package in programs.items() if shutil.which(program) is None})


def _install(packages: list[str]) -> str | None:
    entry.note(f"installing {', '.join(packages)} by apt-get")
    return _apt_get("install", "--yes", "--no-install-recommends", *packages)


def _apt_get(*arguments: str) -> str | None:
    command = ["apt-get", "--quiet", *arguments]
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    return failure_of(command, cwd=Path("/"), timeout_s=_LIMIT_S, environment=environment)


@contextmanager
def _nobody_else() -> Iterator[None]:
    """Lets one process at a time install: `apt-get update` fails beside another instead of waiting for it."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Keeps Debian from starting a server of the machine's own with its package; the hosts start theirs."""
    if not _SYSTEMD.exists() or _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _missing(packages: list[str], got: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "programs_missing",
        expected=f"the programs of {', '.join(packages)}, or apt-get to install them",
        got=got,
        todo="install them",
    )


if __name__ == "__main__":
    main(prog_name="python -m deploy.split_host.debian")

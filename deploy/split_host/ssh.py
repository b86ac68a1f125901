"""An sshd on each host made of namespaces, with keys that live as long as the hosts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from deploy.namespaces.host import Host
from deploy.namespaces.init import HOME
from treni.errors import Code, TreniError

KEY = f"{HOME}/.ssh/id_ed25519"
"""The client's private key, where it is."""

PORT = 22

_HOST_KEY = "/run/sshd/host_key"
_CONFIG = """\
ListenAddress {address}:{port}
HostKey {host_key}
PidFile none
AuthorizedKeysFile {home}/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
"""
_LIMIT_S = 120.0
_POLL_S = 0.02


@contextmanager
def logged_in_to(hosts: Iterable[Host], client: Host) -> Iterator[None]:
    """Lets the client's root log in to each host as root while the block runs. Raises UNAVAILABLE."""
    client.run("sh", "-c", _new_key(KEY), timeout_s=_LIMIT_S)
    public = client.path(f"{KEY}.pub").read_text(encoding="ascii")
    with ExitStack() as stack:
        for host in hosts:
            stack.enter_context(_sshd(host, public))
        yield


def _new_key(path: str) -> str:
    return f"mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f {path}"


@contextmanager
def _sshd(host: Host, public: str) -> Iterator[None]:
    host.run("sh", "-c", _new_key(_HOST_KEY), timeout_s=_LIMIT_S)
    host.path(f"{HOME}/.ssh/authorized_keys").write_text(public, encoding="ascii")
    config = _CONFIG.format(address=host.address, port=PORT, host_key=_HOST_KEY, home=HOME)
    host.path("/run/sshd/config").write_text(config, encoding="ascii")
    # sshd starts itself again for each login, by its whole path.
    program = host.run("sh", "-c", "command -v sshd", timeout_s=_LIMIT_S).stdout.strip()
    log = host.path("/tmp/sshd.log")
    with log.open("ab") as written:
        process = host.start(program, "-D", "-e", "-f", "/run/sshd/config", stderr=written)
    try:
        deadline_s = time.monotonic() + _LIMIT_S
        while not host.listens(PORT):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise TreniError(
                    Code.UNAVAILABLE,
                    "process_not_ready",
                    expected=f"sshd to listen on the host {host.name}",
                    got=log.read_text(encoding="utf-8", errors="replace").strip()[-2000:] or "silence",
                    todo="see the log",
                )
            time.sleep(_POLL_S)
        yield
    finally:
        process.stop()

"""Lines of shell that a user types on a host made of namespaces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from deploy.namespaces.host import Host
from treni import entry
from treni.errors import Code, TreniError

LIMIT_S = 3600.0
"""The limit for a command that hangs: a campaign of the published size takes one or two minutes."""

_PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def typed(host: Host, line: str, *, ended: Iterable[int] = (0,)) -> None:
    """Runs the line on the host, with its words on stderr. Raises FAILED_PRECONDITION unless it ends with `ended`."""
    entry.note(f"{host.name}$ {line}")
    process = host.start("sh", "-c", line, environment={"PATH": _PATH, "TERM": "dumb"}, stdout=sys.stderr)
    try:
        status = process.wait(LIMIT_S)
        got = f"status {status}"
    except subprocess.TimeoutExpired:
        process.stop()
        status, got = -1, f"no end within {LIMIT_S:.0f} s"
    if status not in ended:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "command_failed",
            expected=f"`{line}` on the host {host.name} to end with {' or '.join(str(int(one)) for one in ended)}",
            got=got,
            todo="see what it said above",
        )

"""The doors of roles on a Ray cluster, by the environment of each host: nothing secret travels by way of Ray."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from treni.door_options import DoorSettings
from treni.doors import is_loopback
from treni.errors import invalid_argument

KEY_VARIABLE = "TRENI_RAY_KEY_FILE"
"""Names, for the harness and on each host, the file of keys; without it Ray's own token is the key."""

INSECURE_VARIABLE = "TRENI_RAY_INSECURE"
"""Set to 1 on a host without a key or a token, it lets everybody in who reaches the roles there."""

_TLS = {
    "tls_cert": "RAY_TLS_SERVER_CERT",
    "tls_key": "RAY_TLS_SERVER_KEY",
    "tls_client_ca": "RAY_TLS_CA_CERT",
}
"""What Ray is told of its own TLS, which the roles speak too where it is on."""


def ray_doors() -> DoorSettings:
    """The doors of this process: behind Ray's token, and by TLS with both ends' certificates where Ray does so.

    The token is found as Ray finds it, unless RAY_AUTH_MODE turns it off: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, or
    ~/.ray/auth_token.
    """
    files: dict[str, Any] = {}
    if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
        files = {
            option: Path(value).expanduser()
            for option, name in _TLS.items()
            if (value := os.environ.get(name, ""))
        }
    insecure = os.environ.get(INSECURE_VARIABLE, "") == "1"
    if named := os.environ.get(KEY_VARIABLE):
        return DoorSettings(key_file=Path(named).expanduser(), insecure=insecure, **files)
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return DoorSettings(insecure=insecure, **files)
    if os.environ.get("RAY_AUTH_TOKEN"):
        return DoorSettings(key_env="RAY_AUTH_TOKEN", insecure=insecure, **files)
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    return DoorSettings(key_file=token if token.is_file() else None, insecure=insecure, **files)


def stand(doors: DoorSettings, host: str) -> None:
    """Makes this process, on that host, one behind these doors.

    Raises INVALID_ARGUMENT for files that are wrong, and (`door_open`) where other machines reach the host and nothing
    is asked of them.
    """
    if not (is_loopback(host) or doors.door.locked or doors.insecure):
        raise invalid_argument(
            "door_open",
            expected=f"a key for the roles at {host}, which other machines reach",
            got="neither Ray's token nor another",
            todo=f"start Ray there with RAY_AUTH_MODE=token or {KEY_VARIABLE}, or say {INSECURE_VARIABLE}=1",
        )
    doors.stand(host)

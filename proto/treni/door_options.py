"""The options of every role's command that say who is let in, and what the role shows at the doors of others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from treni import channels
from treni.doors import Door, ServerTls
from treni.errors import invalid_argument
from treni.keys import Keys
from treni.passes import Keyring, Pass


@dataclass(frozen=True, kw_only=True)
class DoorSettings:
    """What was said of a process's door and of what it shows at others': where secrets are, never what they are.

    `door` and `keyring` read the files, and raise INVALID_ARGUMENT for what is wrong with them.
    """

    key_file: Path | None = None
    key_env: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    peer_key_file: Path | None = None
    peer_ca: Path | None = None
    insecure: bool = False

    @cached_property
    def door(self) -> Door:
        """The door of every server of the process."""
        if self.key_file is not None and self.key_env is not None:
            raise _wrong("one of --key-file and --key-env", "both")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise _wrong("--tls-cert and --tls-key together", "one of them")
        tls = None
        if self.tls_cert is not None and self.tls_key is not None:
            tls = ServerTls(certificate=self.tls_cert, key=self.tls_key, client_ca=self.tls_client_ca)
        elif self.tls_client_ca is not None:
            raise _wrong("--tls-cert and --tls-key beside --tls-client-ca", "neither")
        keys = None
        if self.key_file is not None or self.key_env is not None:
            keys = Keys(file=self.key_file, variable=self.key_env)
        return Door(keys=keys, tls=tls, insecure=self.insecure)

    @cached_property
    def keyring(self) -> Keyring:
        """What the process shows: its own first key and certificate, unless others are named for its peers."""
        keys = self.door.keys if self.peer_key_file is None else Keys(file=self.peer_key_file)
        ca = self.peer_ca if self.peer_ca is not None else self.tls_client_ca
        certificate, key = (None, None) if ca is None else (self.tls_cert, self.tls_key)
        return Keyring(default=Pass(keys=keys, ca=ca, certificate=certificate, key=key))

    @property
    def arguments(self) -> list[str]:
        """The options for another process with these settings."""
        given = {f"--{one.name.replace('_', '-')}": getattr(self, one.name) for one in fields(self)}
        insecure = given.pop("--insecure")
        options = [text for name, value in given.items() if value is not None for text in (name, str(value))]
        return [*options, *(["--insecure"] if insecure else [])]

    def stand(self, host: str) -> Door:
        """The door, fit for a server at the host; from here on the process shows its keyring.

        Raises INVALID_ARGUMENT for files that are wrong, and (`door_open`) for a host that other machines reach where
        nothing is asked of them.
        """
        self.door.refuse_beyond_loopback(host)
        channels.show(self.keyring)
        return self.door


UNGUARDED = DoorSettings()
"""Nothing asked and nothing shown, for loopback alone."""

_FILE = click.Path(path_type=Path, dir_okay=False)

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--key-file",
        type=_FILE,
        help="Let in only who shows one of the keys in this file, one a line; it is read again when it changes.",
    ),
    click.option("--key-env", metavar="NAME", help="The same, with the keys in this environment variable."),
    click.option("--tls-cert", type=_FILE, help="Serve by TLS: a certificate with its chain, PEM."),
    click.option("--tls-key", type=_FILE, help="The certificate's private key, PEM."),
    click.option(
        "--tls-client-ca",
        type=_FILE,
        help="Let in only who has a certificate of this authority, PEM (mTLS).",
    ),
    click.option(
        "--peer-key-file",
        type=_FILE,
        help="Whose first key is shown to the services that are called; default: that of --key-file.",
    ),
    click.option(
        "--peer-ca",
        type=_FILE,
        help="Call services by TLS, with certificates of this authority; default: that of --tls-client-ca.",
    ),
    click.option("--insecure", is_flag=True, help="Let other machines in without a key or a certificate."),
)


def door_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command of click the options of a door; it has a `host`, and gets `doors`, fit for that host."""

    @functools.wraps(command)
    def with_doors(*args: Any, **given: Any) -> Any:
        settings: Mapping[str, Any] = {one.name: given.pop(one.name) for one in fields(DoorSettings)}
        doors = DoorSettings(**settings)
        doors.stand(given["host"])
        return command(*args, doors=doors, **given)

    for option in reversed(_OPTIONS):
        with_doors = option(with_doors)
    return with_doors


def _wrong(expected: str, got: str) -> Exception:
    return invalid_argument("door_invalid", expected=expected, got=got, todo="correct the options")

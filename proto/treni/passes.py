"""What a caller shows at the doors of others and whom it believes, by the host that it calls."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc

from treni.doors import checked
from treni.errors import invalid_argument
from treni.keys import Keys


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """One of `keys`, and TLS where there is an authority `ca`; nothing and in plain otherwise.

    `certificate` and `key`, PEM files, are for servers that ask their callers for a certificate; `server_name` is what
    the server's certificate has to name where that is not the host that is called. Raises INVALID_ARGUMENT
    (`tls_unusable`) for files that are no such thing, or do not belong together.
    """

    keys: Keys | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None) or (self.ca is None and self.certificate):
            raise invalid_argument(
                "tls_incomplete",
                expected="a certificate and its private key, and the authority that servers' certificates are from",
                got=", ".join(
                    name for name in ("ca", "certificate", "key") if getattr(self, name) is not None
                ),
                todo="give all of them, or the authority alone",
            )
        if self.ca is not None:
            self.context()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a gRPC channel is encrypted by; None in plain. The files are read once."""
        return None if self.ca is None else _credentials(self.ca, self.certificate, self.key)

    def name_of(self, address: str) -> str:
        """What the certificate of the server at the address has to name."""
        return self.server_name or host_of(address)

    def context(self) -> ssl.SSLContext:
        """The same for Python's own library."""
        return checked(ssl.PROTOCOL_TLS_CLIENT, certificate=self.certificate, key=self.key, ca=self.ca)


def host_of(address: str) -> str:
    """The host of "host:port", an IPv6 address without its brackets."""
    return address.rpartition(":")[0].strip("[]")


NOTHING = Pass()
"""What is shown where nothing was given."""


@lru_cache(maxsize=64)
def _credentials(ca: Path, certificate: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    pair = [None if one is None else one.read_bytes() for one in (key, certificate)]
    return grpc.ssl_channel_credentials(ca.read_bytes(), *pair)


@dataclass(frozen=True, kw_only=True, slots=True)
class Keyring:
    """The passes of a process: what is shown at each host ("10.0.0.2", without a port), and at all others."""

    by_host: Mapping[str, Pass] = field(default_factory=dict)
    default: Pass = NOTHING

    def pass_to(self, address: str) -> Pass:
        """What is shown to the server at "host:port"."""
        return self.by_host.get(host_of(address), self.default)

    def to_json(self) -> str:
        """The keyring for another process of this machine: where its secrets are, and never what they are."""
        return json.dumps(
            {"": _told(self.default), **{name: _told(one) for name, one in self.by_host.items()}}
        )

    @classmethod
    def of_json(cls, text: str) -> Keyring:
        """The keyring that `to_json` told of. Raises INVALID_ARGUMENT where its files are not usable any more."""
        passes = {name: _pass(told) for name, told in json.loads(text).items()}
        return cls(default=passes.pop("", NOTHING), by_host=passes)


def _told(one: Pass) -> dict[str, str]:
    keys = one.keys
    told = {
        "file": keys and keys.file,
        "variable": keys and keys.variable,
        "ca": one.ca,
        "certificate": one.certificate,
        "key": one.key,
        "server_name": one.server_name,
    }
    return {name: str(value) for name, value in told.items() if value}


def _pass(told: Mapping[str, str]) -> Pass:
    paths: dict[str, Any] = {name: Path(told[name]) for name in ("ca", "certificate", "key") if name in told}
    keys = None
    if "file" in told or "variable" in told:
        keys = Keys(file=Path(told["file"]) if "file" in told else None, variable=told.get("variable"))
    return Pass(keys=keys, server_name=told.get("server_name", ""), **paths)

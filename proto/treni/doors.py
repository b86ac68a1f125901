"""The door of a server: at which addresses it may stand open, which key it asks for, and what it is encrypted by."""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from treni import errors
from treni.errors import Code, TreniError, invalid_argument
from treni.keys import Keys, refuse_open
from treni.storage import reading

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

AUTHORIZATION = "authorization"
"""The name of the metadata, and of the header, that a key travels under."""

OPEN_METHOD = "/grpc.health.v1.Health/Check"
"""Whether a server is there anybody may ask who reaches it: what looks after processes has no key."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerTls:
    """PEM files: a server's certificate chain, its private key, and the authority of its callers' certificates.

    Without that authority it asks for none. Raises INVALID_ARGUMENT (`tls_unusable`) for files that are no such thing.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        checked(ssl.PROTOCOL_TLS_SERVER, certificate=self.certificate, key=self.key, ca=self.client_ca)

    def credentials(self) -> grpc.ServerCredentials:
        """The same for a gRPC server, as the files are now."""
        pair = (_bytes(self.key), _bytes(self.certificate))
        ca = None if self.client_ca is None else _bytes(self.client_ca)
        return grpc.ssl_server_credentials([pair], ca, ca is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """What a server asks of whoever calls: one of `keys`, and TLS; `insecure` lets it stand open to other machines."""

    keys: Keys | None = None
    tls: ServerTls | None = None
    insecure: bool = False

    @property
    def locked(self) -> bool:
        """Whether a caller has to prove anything: by a key, or by a certificate."""
        return self.keys is not None or (self.tls is not None and self.tls.client_ca is not None)

    def refuse_beyond_loopback(self, host: str) -> None:
        """Raises INVALID_ARGUMENT (`door_open`) for a host that other machines reach, unless locked or `insecure`."""
        if is_loopback(host):
            return
        if not (self.locked or self.insecure):
            raise invalid_argument(
                "door_open",
                expected=f"a key or callers' certificates for {host}, which other machines reach",
                got="neither --key-file, --key-env nor --tls-client-ca",
                todo="give one, listen on 127.0.0.1, or say --insecure",
            )
        if self.locked and self.tls is None:
            _log.warning("keys travel unencrypted: see --tls-cert", extra={"host": host})
        elif not self.locked:
            _log.warning("whoever reaches this address is let in", extra={"host": host})

    def interceptors(self) -> tuple[grpc.aio.ServerInterceptor, ...]:
        """The interceptors, to be the first ones, of a server behind this door."""
        return () if self.keys is None else (Lock(self.keys),)


OPEN = Door()
"""The door of a server that only this machine reaches."""


class Lock(grpc.aio.ServerInterceptor):
    """Lets those calls through that show a key; `OPEN_METHOD` asks for none.

    A call without one is refused before anything of it is read, counted or handed to anybody.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's handler, or one that refuses."""
        method = handler_call_details.method
        given = [
            value if isinstance(value, str) else value.decode("latin-1")
            for name, value in handler_call_details.invocation_metadata or ()
            if name == AUTHORIZATION
        ]
        if method == OPEN_METHOD or (len(given) == 1 and self._keys.admit(given[0])):
            return await continuation(handler_call_details)
        return _refusing(unauthenticated(given))


def unauthenticated(given: Sequence[str]) -> TreniError:
    """The refusal of a call that showed this under `authorization`, of which it repeats nothing."""
    if not given:
        kind, got = "key_missing", "none"
    elif len(given) > 1:
        kind, got = "key_ambiguous", f"{len(given)} of them"
    else:
        kind, got = "key_wrong", "one that is not known here"
    return TreniError(
        Code.UNAUTHENTICATED,
        kind,
        expected=f"a key of this server under `{AUTHORIZATION}`, as Bearer KEY",
        got=got,
        todo="give the caller the server's key (--key-file, --peer-key-file; in a file of hosts key_file)",
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at the host: all that its name stands for is loopback.

    What stands for nothing is not; nor is the empty name, which stands for every address.
    """
    bare = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM) if bare else []
    except (OSError, UnicodeError):
        return False
    addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    return bool(addresses) and all(_of_loopback(address) for address in addresses)


def _of_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (address if mapped is None else mapped).is_loopback


def checked(protocol: int, *, certificate: Path | None, key: Path | None, ca: Path | None) -> ssl.SSLContext:
    """A context of Python's own with these PEM files, any of which may be None.

    Raises INVALID_ARGUMENT (`tls_unusable`) for files that are none, or do not belong together, and (`secret_open`)
    for a private key that others may read.
    """
    context = ssl.SSLContext(protocol)
    try:
        if ca is not None:
            context.load_verify_locations(ca)
        if certificate is not None and key is not None:
            refuse_open(key, key.stat())
            # A password would be asked for at the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        unusable = isinstance(error, ssl.SSLError | ValueError)
        got = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise invalid_argument(
            "tls_unusable" if unusable else "path_unusable",
            expected=f"PEM files that belong together: {', '.join(str(one) for one in (certificate, key, ca) if one)}",
            got=str(got),
            todo="see that each is there, is what it is named as, and the key has no password",
        ) from None
    return context


def _bytes(path: Path) -> bytes:
    with reading(path, "a file for TLS"):
        return path.read_bytes()


def _refusing(error: TreniError) -> Handler:
    """A handler for calls of any shape that does not wait for the request: what is not read takes no memory."""

    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        errors.conclude(context, error)

    handler: Handler = grpc.stream_stream_rpc_method_handler(refuse)
    return handler

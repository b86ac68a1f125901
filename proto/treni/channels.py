"""The one place where connections are made: between the services and to them, with nothing in between."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from treni import metadata, tracing
from treni.doors import AUTHORIZATION
from treni.errors import Code, TreniError, from_rpc_error, invalid_argument
from treni.handshakes import HUNG_UP, NOT_SHOWN, NOT_TAKEN, SPEAKS_TLS, Reason, reason_of
from treni.keys import Keys
from treni.metrics_rpc import counted
from treni.passes import Keyring, Pass
from treni.wrapped_channel import WrappedChannel

if TYPE_CHECKING:
    import httpx

KEEPALIVE_INTERVAL_S = 10.0
"""How often a connection is asked whether it still carries anything, calls on it or not."""

KEEPALIVE_TIMEOUT_S = 10.0
"""How long it may take to say so: whoever hears nothing for that long closes it and opens another."""

SILENCE_LIMIT_S = KEEPALIVE_INTERVAL_S + KEEPALIVE_TIMEOUT_S
"""After so long at most a connection that went silent, without a word from either end, is replaced."""

DIAGNOSIS_TIMEOUT_S = 5.0
KNOCK_TIMEOUT_S = 120.0
"""The limit for a server that is not there; one that is slow answers within it."""

_KEEPALIVE = (
    ("grpc.keepalive_time_ms", int(KEEPALIVE_INTERVAL_S * 1000)),
    # Both: measured with gRPC 1.85, a silent connection is given up after the second, whose default is a minute.
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
Mark: TypeAlias = "Callable[[], tuple[tuple[str, str], ...]]"
"""What a call carries besides its own metadata, asked as the call begins."""

_keyring = Keyring()


def show(keyring: Keyring) -> None:
    """Makes this process show these passes, by the host that it calls, on whatever channels it opens from now on."""
    global _keyring
    _keyring = keyring


def shown() -> Keyring:
    """The passes that this process shows."""
    return _keyring


@contextmanager
def showing(keyring: Keyring) -> Iterator[None]:
    """Shows these passes on channels that are opened while the block runs, and then those of before."""
    before = shown()
    show(keyring)
    try:
        yield
    finally:
        show(before)


def open_channel(
    address: str,
    *,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    keepalive: bool = True,
    service: str = "",
    given: Pass | None = None,
) -> grpc.aio.Channel:
    """A channel to the service at `address` ("host:port"), past every proxy that the environment names.

    It fails calls rather than repeat them, and replaces a connection that went silent within `SILENCE_LIMIT_S`.
    `keepalive=False` is for a connection that is silent on purpose, such as one that a fault stalls. `service` is the
    address of whom it leads to where something that carries bytes stands between: its pass is shown, and its name
    expected. `given` is shown instead of what the process shows.
    """
    service = service or address
    one = _keyring.pass_to(service) if given is None else given
    options = [*metadata.CHANNEL_OPTIONS, *(_KEEPALIVE if keepalive else ())]
    credentials = one.credentials()
    if credentials is None:
        channel = grpc.aio.insecure_channel(address, options=options, interceptors=list(interceptors))
    else:
        options.append(("grpc.ssl_target_name_override", one.name_of(service)))
        channel = grpc.aio.secure_channel(
            address, credentials, options=options, interceptors=list(interceptors)
        )
    marks = [] if one.keys is None else [_showing(one.keys)]
    if (by := tracing.tracer()) is not None:
        marks.append(by.headers)
    channel = counted(channel)
    return WrappedChannel(channel, partial(_marked, marks)) if marks else channel


async def knock(
    channel: grpc.aio.Channel, address: str, *, service: str = "", timeout_s: float = KNOCK_TIMEOUT_S
) -> None:
    """A round trip on a channel to `address`, behind which `service` is, that needs whatever the door there asks for.

    A server that is not up yet is waited for. Raises `TreniError` where it is, and does not let us in or is not to be
    believed, and as gRPC does for everything else.
    """
    ask = health_pb2_grpc.HealthStub(channel).List
    for patient in (False, True):
        try:
            await ask(health_pb2.HealthListRequest(), timeout=timeout_s, wait_for_ready=patient)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() in (Code.NOT_FOUND, Code.UNIMPLEMENTED):
                return  # an answer all the same
            if error.code() is Code.UNAUTHENTICATED:
                raise from_rpc_error(error, hop="") from None
            told = error.details() or ""
            reason = reason_of(told)
            if reason is None and HUNG_UP in told:
                reason = await asyncio.to_thread(diagnosis, address, service=service)
            if reason is not None:
                raise unreachable(reason, service or address) from None
            if patient or error.code() is not Code.UNAVAILABLE:
                raise


def unreachable(reason: Reason, where: str) -> TreniError:
    """The error of a caller that did not come together with whoever is `where`, for that reason."""
    return TreniError(
        Code.UNAVAILABLE,
        reason.kind,
        expected=f"{where} to answer, and {reason.expected}",
        got=reason.got,
        todo=reason.todo,
    )


def diagnosis(address: str, *, service: str = "") -> Reason | None:
    """Why the server at `address` and what is shown to it do not come together; None where that is not known.

    It shakes hands once more, of which Python's own library tells more than gRPC. `service` is whom the address leads
    to. Blocks, for `DIAGNOSIS_TIMEOUT_S` at most.
    """
    service = service or address
    one = _keyring.pass_to(service)
    host, _, port = address.rpartition(":")
    context = ssl._create_unverified_context() if one.ca is None else one.context()
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), DIAGNOSIS_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=one.name_of(service)) as stream,
        ):
            if one.ca is None:  # they shook hands
                return reason_of(SPEAKS_TLS)
            # What a server says to our certificate comes after the handshake; gRPC's closes the connection then.
            if stream.recv(1) == b"":
                return reason_of(NOT_SHOWN if one.certificate is None else NOT_TAKEN)
    except ssl.SSLError as error:
        return None if one.ca is None else reason_of(str(error))
    except (OSError, ValueError):
        return None
    return None


def _showing(keys: Keys) -> Mark:
    return lambda: ((AUTHORIZATION, keys.shown()),)


def _marked(marks: Sequence[Mark], _: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The callable of a method, its calls with the marks."""

    def marked(request: Any = None, *, metadata: Metadata | None = None, **options: Any) -> Any:
        pairs = (*(metadata or ()), *(pair for mark in marks for pair in mark()))
        return call(request, metadata=pairs, **options)

    return marked


def check_address(option: str, address: str) -> None:
    """Raises INVALID_ARGUMENT where the `option`'s address is no "host:port" that a channel could be opened to."""
    host, _, port = address.rpartition(":")
    bare = ":" in host and not (
        host.startswith("[") and host.endswith("]")
    )  # an IPv6 address without brackets
    if host and not bare and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535:
        return
    raise invalid_argument(
        "address_invalid",
        expected=f"{option} to be host:port or [IPv6 address]:port, with a port from 1 to 65535",
        got=repr(address),
    )


def open_http(*, by_environment: bool = False, **options: Any) -> httpx.AsyncClient:
    """An HTTP client with httpx's own options.

    Only `by_environment` it goes by the proxies, certificates and passwords that the environment names.
    """
    import httpx  # not at the top: a service without HTTP does not wait for it

    client = httpx.AsyncClient(trust_env=by_environment, **options)
    if (by := tracing.tracer()) is not None:
        headers = by.headers

        async def carry(request: httpx.Request) -> None:
            request.headers.update(headers())

        client.event_hooks["request"].append(carry)
    return client

"""The error vocabulary of the contract: one exception type, one total mapping to and from gRPC status.

Every service raises `TreniError`; a status and its `ErrorDetail` are the same thing on the wire. `definite`
answers the one question a caller with a retry policy has to ask: did the work certainly *not* happen?
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from treni import tracing
from treni.handshakes import reason_of
from treni.v1 import common_pb2

Code = grpc.StatusCode

MAX_FIELD_BYTES = 320
"""Of each word of an error on the wire. It travels in trailers, of which gRPC takes 8 KiB for certain: as a message,
where a byte takes three, and in the details, once as text and once in parts, at four bytes for three."""

# Whether a status, taken alone, proves that the work did not happen. A server that answers with one of the
# definite codes refused before it acted; the others can arrive after the work was done (a lost answer, a
# deadline, a crash between doing and saying).
DEFINITE: dict[Code, bool] = {
    Code.OK: False,
    Code.CANCELLED: False,
    Code.UNKNOWN: False,
    Code.INVALID_ARGUMENT: True,
    Code.DEADLINE_EXCEEDED: False,
    Code.NOT_FOUND: True,
    Code.ALREADY_EXISTS: True,
    Code.PERMISSION_DENIED: True,
    Code.RESOURCE_EXHAUSTED: True,
    Code.FAILED_PRECONDITION: True,
    Code.ABORTED: True,
    Code.OUT_OF_RANGE: True,
    Code.UNIMPLEMENTED: True,
    Code.INTERNAL: False,
    Code.UNAVAILABLE: False,
    Code.DATA_LOSS: False,
    Code.UNAUTHENTICATED: True,
}


class TreniError(Exception):
    """What went wrong, in the form "expected, got, what to do".

    `code` is the gRPC status it travels as, `kind` a stable snake_case name, `definite` whether the work
    certainly did not happen (by default what `DEFINITE` says of the code), `hop` where it was seen ("",
    "agent", "model" or "tool") and `fault_id` the injected fault behind it, where that is known. `foreign` tells a
    status that no service of ours made: the client's own library, a proxy on the way or another server.
    """

    def __init__(
        self,
        code: Code,
        kind: str,
        *,
        expected: str,
        got: str,
        todo: str,
        definite: bool | None = None,
        hop: str = "",
        fault_id: str = "",
        foreign: bool = False,
    ) -> None:
        super().__init__(f"expected {expected}; got {got}; {todo}")
        self.code = code
        self.kind = kind
        self.expected = expected
        self.got = got
        self.todo = todo
        self.definite = DEFINITE[code] if definite is None else definite
        self.hop = hop
        self.fault_id = fault_id
        self.foreign = foreign

    def at(self, hop: str) -> TreniError:
        """The same error, seen at `hop`; a hop already named is kept."""
        if not self.hop:
            self.hop = hop
        return self

    def to_detail(self) -> common_pb2.ErrorDetail:
        """The error as it travels, its words cut to `MAX_FIELD_BYTES` each."""
        return common_pb2.ErrorDetail(
            kind=_cut(self.kind),
            definite=self.definite,
            expected=_cut(self.expected),
            got=_cut(self.got),
            todo=_cut(self.todo),
            hop=_cut(self.hop),
            fault_id=_cut(self.fault_id),
        )


def _cut(text: str) -> str:
    """The text in at most `MAX_FIELD_BYTES` of UTF-8, half a surrogate pair written out."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= MAX_FIELD_BYTES:
        return data.decode()
    return data[: MAX_FIELD_BYTES - 3].decode(errors="ignore") + "..."


def invalid_argument(kind: str, *, expected: str, got: str, todo: str = "correct the request") -> TreniError:
    """An INVALID_ARGUMENT error: the request is wrong and nothing was changed."""
    return TreniError(Code.INVALID_ARGUMENT, kind, expected=expected, got=got, todo=todo)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: TreniError) -> NoReturn:
    """Ends the call with the error's status and details. Never returns."""
    await context.abort_with_status(_status_of(error))
    raise AssertionError("abort_with_status returned")


def conclude(context: grpc.aio.ServicerContext[Any, Any], error: TreniError) -> None:
    """Makes the error's status and details what the call ends with once its handler has returned."""
    status = _status_of(error)
    context.set_code(status.code)
    context.set_details(status.details)
    context.set_trailing_metadata(status.trailing_metadata)


def _status_of(error: TreniError) -> Any:
    # Here, so that an engine that serves nothing (a bench on a bare machine) can raise this module's errors.
    from google.protobuf import any_pb2
    from google.rpc import status_pb2
    from grpc_status import rpc_status

    tracing.failed(error.kind, str(error))
    detail = error.to_detail()
    packed = any_pb2.Any()
    packed.Pack(detail)
    message = f"expected {detail.expected}; got {detail.got}; {detail.todo}"
    return rpc_status.to_status(
        status_pb2.Status(code=error.code.value[0], message=message, details=[packed])
    )


def from_rpc_error(error: grpc.RpcError, *, hop: str) -> TreniError:
    """The `TreniError` behind a failed call on `hop`. Total: every status code maps, with or without details.

    Details written by our own services win. Without them the status proves nothing, whatever its code: the client's
    own library says RESOURCE_EXHAUSTED of an answer that is too long for it, and a proxy on the way has words of its
    own. Such an error is `foreign` and never definite.
    """
    code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else Code.UNKNOWN
    message = (error.details() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else str(error)) or ""
    detail = _detail_of(error)
    if detail is not None:
        return TreniError(
            code,
            detail.kind,
            expected=detail.expected,
            got=detail.got,
            todo=detail.todo,
            definite=detail.definite,
            hop=detail.hop or hop,
            fault_id=detail.fault_id,
        )
    # Nobody but gRPC itself says UNAVAILABLE of a handshake: a server of ours has details.
    reason = reason_of(message) if code is Code.UNAVAILABLE else None
    if reason is not None:
        return TreniError(
            code,
            reason.kind,
            expected=reason.expected,
            got=reason.got,
            todo=reason.todo,
            definite=False,
            hop=hop,
            foreign=True,
        )
    return TreniError(
        code,
        code.name.lower(),
        expected=f"the {hop} hop to answer",
        got=f"{code.name}: {message}" if message else code.name,
        todo="see the cause; retry only if the call is idempotent",
        definite=False,
        hop=hop,
        foreign=True,
    )


def unforeseen(error: Exception, where: str) -> TreniError:
    """The error of work at `where` that ended as nobody foresaw: out of memory, or a bug. It may have happened."""
    if isinstance(error, MemoryError):
        return TreniError(
            Code.RESOURCE_EXHAUSTED,
            "out_of_memory",
            expected=f"enough memory for {where}",
            got=str(error) or "none left",
            todo="ask for less, or give the process more memory",
            definite=False,
        )
    return TreniError(
        Code.INTERNAL,
        "internal",
        expected=f"{where} to end with an answer or a typed error",
        got=f"{type(error).__name__}: {error}",
        todo="report this as a bug; the log has the traceback",
    )


def kind_in(trailing: Any) -> str:
    """The kind of the error in a call's trailing metadata, "" where there are no details of ours."""
    detail = _detail_in(trailing)
    return "" if detail is None else detail.kind


def _detail_of(error: grpc.RpcError) -> common_pb2.ErrorDetail | None:
    return _detail_in(error.trailing_metadata()) if isinstance(error, grpc.aio.AioRpcError) else None


def _detail_in(trailing: Any) -> common_pb2.ErrorDetail | None:
    from google.rpc import status_pb2

    for key, value in trailing or ():
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        status = status_pb2.Status.FromString(value)
        for packed in status.details:
            detail = common_pb2.ErrorDetail()
            if packed.Unpack(detail):
                return detail
    return None

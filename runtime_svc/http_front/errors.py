"""Errors in OpenAI's shape: the one map from a `TreniError` to a status, a type, a parameter and a code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.exceptions import HTTPException

from runtime_svc.http_front.fields import Strict
from treni.errors import Code, TreniError

RETRY_AFTER_S = 1
"""How long a client that came to a full queue is asked to wait: a turn of the bundled model takes less."""

_MAX_GOT_CHARS = 120

_MANY = 200
"""Errors of one body from which on none is told by name: a hostile body has tens of thousands, and naming them takes
a quarter of a second, for which every client would wait."""

Kind = Literal["invalid_request_error", "rate_limit_error", "server_error"]


@dataclass(frozen=True, slots=True)
class _Told:
    """How HTTP says it: `code` None stands for the error's own kind.

    `of_content` tells what is wrong with the texts of a request, under whatever name its path takes them.
    """

    status: int
    type: Kind
    code: str | None = None
    of_content: bool = False


_CODES: Mapping[Code, _Told] = {
    Code.INVALID_ARGUMENT: _Told(400, "invalid_request_error"),
    Code.OUT_OF_RANGE: _Told(400, "invalid_request_error"),
    Code.UNAUTHENTICATED: _Told(401, "invalid_request_error"),
    Code.PERMISSION_DENIED: _Told(403, "invalid_request_error"),
    Code.NOT_FOUND: _Told(404, "invalid_request_error"),
    Code.ALREADY_EXISTS: _Told(409, "invalid_request_error"),
    Code.ABORTED: _Told(409, "server_error"),
    Code.RESOURCE_EXHAUSTED: _Told(429, "rate_limit_error"),
    Code.CANCELLED: _Told(499, "server_error"),
    Code.UNIMPLEMENTED: _Told(501, "server_error"),
    Code.UNAVAILABLE: _Told(503, "server_error"),
    Code.DEADLINE_EXCEEDED: _Told(504, "server_error"),
    # Whatever else ended it, no inference answered, and nothing stands in for one.
    Code.FAILED_PRECONDITION: _Told(502, "server_error", "inference_required"),
    Code.INTERNAL: _Told(502, "server_error", "inference_required"),
    Code.UNKNOWN: _Told(502, "server_error", "inference_required"),
    Code.DATA_LOSS: _Told(502, "server_error", "inference_required"),
    Code.OK: _Told(502, "server_error", "inference_required"),
}

_KINDS: Mapping[str, _Told] = {
    "context_overflow": _Told(400, "invalid_request_error", "context_length_exceeded", of_content=True),
    "internal": _Told(500, "server_error"),
    "media_type_unsupported": _Told(415, "invalid_request_error"),
    "conversation_refused": _Told(400, "invalid_request_error", of_content=True),
    "method_not_allowed": _Told(405, "invalid_request_error"),
    "model_not_found": _Told(404, "invalid_request_error"),
    "out_of_memory": _Told(503, "server_error"),
    "prompt_too_large": _Told(400, "invalid_request_error", of_content=True),
    "request_timeout": _Told(408, "invalid_request_error"),
    "request_too_large": _Told(413, "invalid_request_error"),
    "texts_count": _Told(400, "invalid_request_error", of_content=True),
    "tool_call_invalid": _Told(400, "invalid_request_error", of_content=True),
}
"""Kinds of errors that HTTP has a word of its own for."""

_PARAMETER_KINDS: Mapping[str, str] = {
    "extra_forbidden": "unsupported_parameter",
    "missing": "missing_required_parameter",
    "literal_error": "unsupported_value",
    "only": "unsupported_value",
    "union_tag_invalid": "unsupported_value",
    "union_tag_not_found": "missing_required_parameter",
    "json_invalid": "json_invalid",
}


class ParameterError(TreniError):
    """An error that names the `param` of the request which is at fault."""

    def __init__(
        self,
        kind: str,
        *,
        param: str,
        expected: str,
        got: str,
        todo: str = "correct the request",
        code: Code = Code.INVALID_ARGUMENT,
    ) -> None:
        super().__init__(code, kind, expected=expected, got=got, todo=todo)
        self.param = param


class Detail(Strict):
    """What of an error OpenAI's shape has no place for: its kind, and whether the work surely did not happen."""

    kind: str
    definite: bool


class ErrorObject(Strict):
    """An error as OpenAI's clients read it."""

    message: str
    type: Kind
    param: str | None
    code: str
    treni: Detail


class ErrorBody(Strict):
    """The body of every answer with a status of 400 and above, and the last event of a stream that fails."""

    error: ErrorObject


def status_of(error: TreniError) -> int:
    """The HTTP status that the error has."""
    return _told(error).status


def body_of(error: TreniError) -> bytes:
    """The error as JSON, its words cut as on every wire of the project."""
    told, detail = _told(error), error.to_detail()
    said = ErrorObject(
        message=f"expected {detail.expected}; got {detail.got}; {detail.todo}",
        type=told.type,
        param=error.param if isinstance(error, ParameterError) else None,
        code=told.code or detail.kind,
        treni=Detail(kind=detail.kind, definite=error.definite),
    )
    return ErrorBody(error=said).model_dump_json().encode()


def located(error: TreniError, content: str) -> TreniError:
    """The error with the parameter that it is about, where that is the one under which the texts come: `content`."""
    if isinstance(error, ParameterError) or not _told(error).of_content:
        return error
    return ParameterError(
        error.kind, param=content, expected=error.expected, got=error.got, todo=error.todo, code=error.code
    )


def headers_of(error: TreniError) -> dict[str, str]:
    """Headers that go with the error: when to come again, and whose keys are asked for."""
    status = status_of(error)
    if status in (429, 503):
        return {"retry-after": str(RETRY_AFTER_S)}
    return {"www-authenticate": "Bearer"} if status == 401 else {}


def of_http(error: HTTPException) -> TreniError:
    """The typed error of what the router refuses: a path or a method that there is not."""
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return TreniError(
            Code.UNIMPLEMENTED,
            "method_not_allowed",
            expected=f"one of the methods {allowed}",
            got="another",
            todo="see /openapi.json",
        )
    return TreniError(
        Code.NOT_FOUND,
        "path_unknown",
        expected="a path that this server has",
        got="another",
        todo="see /openapi.json",
    )


def of_validation(error: ValidationError, body: bytes) -> TreniError:
    """The first thing that is wrong with a request's body, by the name of its parameter."""
    count = error.error_count()
    if count > _MANY:
        return TreniError(
            Code.INVALID_ARGUMENT,
            "body_invalid",
            expected="a body with parameters that this server has",
            got=f"{count} things that are wrong",
            todo="correct the request",
        )
    first = error.errors(include_url=False)[0]
    kind = _PARAMETER_KINDS.get(first["type"])
    if kind is None:
        kind = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    if kind == "json_invalid":
        return TreniError(
            Code.INVALID_ARGUMENT,
            kind,
            expected="a body of JSON",
            got=str(first.get("ctx", {}).get("error", first["msg"])),
            todo="correct the request",
        )
    param = _path(first, body)
    if kind == "unsupported_parameter":
        return ParameterError(
            kind,
            param=param,
            expected="parameters that this server has",
            got=f"{param}",
            todo="leave it out; nothing is ignored here (docs/http.md has what there is)",
        )
    expected = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
    got = "nothing" if first["type"] == "missing" else _clipped(first["input"])
    return ParameterError(kind, param=param, expected=f"{param}: {expected}", got=got)


def inference_required(got: str) -> TreniError:
    """The error of an answer that no real inference stands behind: there is none, rather than one made up."""
    return TreniError(
        Code.INTERNAL,
        "inference_required",
        expected="an answer that the model computed",
        got=got,
        todo="see the runtime's log; nothing stands in for the model",
    )


def _told(error: TreniError) -> _Told:
    return _KINDS.get(error.kind) or _CODES[error.code]


def _path(detail: ErrorDetails, body: bytes) -> str:
    """Where in the body it is, without the names that unions give to their members: "messages[0].content"."""
    node: Any = from_json(body)
    path = ""
    for place, part in enumerate(detail["loc"]):
        last = place == len(detail["loc"]) - 1
        if isinstance(part, int):
            node, path = node[part], f"{path}[{part}]"
        elif isinstance(node, dict) and (part in node or (last and detail["type"] == "missing")):
            node, path = node.get(part), path + _step(part, first=not path)
    return path or "body"


def _step(key: str, *, first: bool) -> str:
    """A key in a path; one that is no name stands in brackets, as in JSON."""
    if not key.isidentifier():
        return f"[{json.dumps(key, ensure_ascii=False)}]"
    return key if first else f".{key}"


def _clipped(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_GOT_CHARS else f"{text[:_MAX_GOT_CHARS]}..."

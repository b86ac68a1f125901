"""The failures of a foreign HTTP server in the words of the contract: the one map, total, and honest about doubt."""

from __future__ import annotations

import json
from http import HTTPStatus

import httpx

from treni.errors import Code, TreniError

MAX_QUOTED_CHARS = 200

_CODES: dict[int, tuple[Code, bool]] = {
    # A status, and whether it proves that nothing was done: a refusal before any work, by whoever sends it.
    400: (Code.INVALID_ARGUMENT, True),
    401: (Code.UNAUTHENTICATED, True),
    402: (Code.PERMISSION_DENIED, True),
    403: (Code.PERMISSION_DENIED, True),
    404: (Code.NOT_FOUND, True),
    405: (Code.UNIMPLEMENTED, True),
    408: (Code.DEADLINE_EXCEEDED, False),
    409: (Code.ABORTED, True),
    413: (Code.OUT_OF_RANGE, True),
    415: (Code.INVALID_ARGUMENT, True),
    422: (Code.INVALID_ARGUMENT, True),
    425: (Code.UNAVAILABLE, True),
    429: (Code.RESOURCE_EXHAUSTED, True),
    500: (Code.INTERNAL, False),
    501: (Code.UNIMPLEMENTED, False),
    502: (Code.UNAVAILABLE, False),
    503: (Code.UNAVAILABLE, False),
    504: (Code.DEADLINE_EXCEEDED, False),
}


def of_status(status: int, *, hop: str, said: str = "", retry_after: str = "") -> TreniError:
    """The error for an HTTP status that is no answer; `said` is what the body told, `retry_after` that header.

    Refusals (most of 4xx, a rate limit among them) are definite; what a server or a gateway failed with (5xx) proves
    nothing. A redirect is refused: whoever is asked gets the key. The wait that a server asks for is told and not
    waited: only the policy decides when a call is tried again.
    """
    code, definite = _CODES.get(
        status,
        (Code.FAILED_PRECONDITION, True)
        if 300 <= status < 500
        else (Code.UNAVAILABLE, False)
        if status >= 500
        else (Code.INTERNAL, False),
    )
    todo = {
        Code.UNAUTHENTICATED: "give the right key in the environment variable that --model-key-env names",
        Code.RESOURCE_EXHAUSTED: "ask for less at once, or choose a policy with a longer backoff",
        Code.FAILED_PRECONDITION: "correct the URL: redirects are not followed"
        if status < 400
        else "see what it says",
    }.get(code, "see what it says")
    if retry_after:
        todo += f" (it asks to wait: Retry-After: {clip(retry_after)})"
    return TreniError(
        code,
        f"http_{status}",
        expected=f"the {hop}'s server to answer with status 200",
        got=f"{status} {_phrase(status)}".rstrip() + (f": {clip(said)}" if said else ""),
        todo=todo,
        definite=definite,
        hop=hop,
        foreign=True,
    )


def of_failure(error: httpx.HTTPError | httpx.InvalidURL, *, hop: str) -> TreniError:
    """The error for a call that got no whole answer; definite only where no connection came about."""
    code, definite = Code.UNAVAILABLE, False
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        definite = True
    elif isinstance(error, httpx.TimeoutException):
        code = Code.DEADLINE_EXCEEDED
    return TreniError(
        code,
        code.name.lower(),
        expected=f"the {hop}'s server to answer",
        got=clip(f"{type(error).__name__}: {error}".rstrip(": ")),
        todo="see that it runs and is reached; retry only if the call is idempotent",
        definite=definite,
        hop=hop,
        foreign=True,
    )


def timed_out(*, hop: str) -> TreniError:
    """The error for an answer that had not come, or not whole, by the attempt's deadline."""
    return TreniError(
        Code.DEADLINE_EXCEEDED,
        "deadline_exceeded",
        expected=f"the {hop}'s server to answer before the attempt's deadline",
        got="no answer in time",
        todo="see the cause; retry only if the call is idempotent",
        hop=hop,
        foreign=True,
    )


def malformed(expected: str, got: str, *, hop: str) -> TreniError:
    """The error for an answer that is none: it proves nothing of what was done for it."""
    return TreniError(
        Code.INTERNAL,
        "answer_malformed",
        expected=expected,
        got=clip(got),
        todo="see what answers at that URL",
        definite=False,
        hop=hop,
        foreign=True,
    )


def cut(*, hop: str) -> TreniError:
    """The error for a stream that ended before the answer was whole."""
    return TreniError(
        Code.UNAVAILABLE,
        "stream_cut",
        expected="the stream to tell how the answer ends",
        got="its end before that",
        todo="see why the server, or a proxy on the way, closed it",
        definite=False,
        hop=hop,
        foreign=True,
    )


def said_in(body: bytes) -> str:
    """What an error's body tells: its message in OpenAI's shape, or the text as it is."""
    text = body.decode("utf-8", "replace").strip()
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    error = data.get("error", data) if isinstance(data, dict) else data
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else text


def clip(text: str) -> str:
    """The text in one line of printable characters, short enough for an error."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown if len(shown) <= MAX_QUOTED_CHARS else shown[:MAX_QUOTED_CHARS] + "..."


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""

"""How a role that runs as a process of its own says what went wrong: one line and a status, never a traceback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from treni.errors import Code, TreniError, unforeseen

USAGE = 2
FAILED = 1


def run(serve: Callable[[], Coroutine[Any, Any, None]], *, role: str) -> int:
    """Runs a role until it is told to stop; the process's exit status.

    0 after a clean stop, 2 where what the user asked for cannot be right, else 1; why stands on stderr.
    """
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:  # told to stop before it could serve
        return FAILED
    except Exception as error:
        return report(error, role=role)
    return 0


def report(error: Exception, *, role: str) -> int:
    """Says on stderr why `role` could not go on, cause by cause; the exit status for it."""
    causes = [as_treni(each, role) for each in leaves(error)]
    for cause in causes:
        print(f"{role}: {cause}", file=sys.stderr)
    return USAGE if all(cause.code is Code.INVALID_ARGUMENT for cause in causes) else FAILED


def leaves(error: BaseException) -> list[BaseException]:
    """The errors inside a group, however deep, in order; the error itself where it is none."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


def as_treni(error: BaseException, role: str) -> TreniError:
    """The error as one of ours: a file or an address that the system refuses, out of memory, or a bug."""
    if isinstance(error, TreniError):
        return error
    if isinstance(error, OSError):
        return TreniError(
            Code.FAILED_PRECONDITION,
            "system_refused",
            expected=f"the system to let {role} do its work",
            got=str(error),
            todo="see what it names: a missing file, a folder that cannot be written, a full disk",
        )
    return unforeseen(error if isinstance(error, Exception) else RuntimeError(repr(error)), role)

"""Logs, set up once by every program: lines of key=value or of JSON on stderr, for what stdout's data do not say.

A message says what happened in a few words that never change; what differs from time to time goes into fields, by
`extra={"seconds": 1.5}`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
LEVEL_VARIABLE = "TRENI_LOG_LEVEL"
FORMAT_VARIABLE = "TRENI_LOG_FORMAT"

_CHATTY = ("asyncio", "httpcore", "httpx", "matplotlib", "urllib3")
"""Libraries that say more than their users asked for; their warnings are shown."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What a record holds that is no field of ours."""


def set_up(*, level: str, form: str) -> None:
    """Sends the logs of this process, and of those that it starts, to stderr from `level` on."""
    os.environ[LEVEL_VARIABLE], os.environ[FORMAT_VARIABLE] = level, form
    handler = _Stderr()
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_without_metadata)
    if level != "debug":
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)


def _without_metadata(record: logging.LogRecord) -> bool:
    """Leaves of what gRPC says of metadata that is no UTF-8 neither the value, which may be a key, nor a traceback."""
    if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.msg, record.args, record.exc_info = "a call has metadata that is no UTF-8", (), None
    return True


class _Stderr(logging.Handler):
    """Writes to what stderr is at the moment: a progress bar puts itself in its place while it shows."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record; one that nobody can read costs no work."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


class _Text(logging.Formatter):
    """Time, level, message and fields as `key=value`, one line but for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [_time(record), record.levelname.lower(), _plain(record.getMessage())]
        parts += [f"{key}={_value(value)}" for key, value in _fields(record)]
        parts.append(f"logger={record.name}")
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    """The same as a JSON object of one line; a traceback is its `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **dict(_fields(record)),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=True, default=str)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    return ((key, value) for key, value in vars(record).items() if key not in _OWN)


def _plain(text: str) -> str:
    """The text on one line, so that nobody can write a line of the log but the log."""
    return text if text.isprintable() else json.dumps(text, ensure_ascii=False)[1:-1]


def _value(value: object) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    simple = text.isprintable() and text != "" and not set(' "=') & set(text)
    return text if simple else json.dumps(text, ensure_ascii=False)

"""Whether a program keeps traces, and where: its options, and the environment, by which its children hear of it."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import click

from treni import metrics, tracing
from treni.errors import Code, TreniError, invalid_argument
from treni.storage import writing

PATH_VARIABLE = "TRENI_TRACE"
"""Names the file or folder for the traces of a process and of those that it starts."""

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""OpenTelemetry's own: the base URL of an OTLP endpoint."""

_PROTOCOL_VARIABLE = "OTEL_EXPORTER_OTLP_PROTOCOL"
_OFF_VARIABLE = "OTEL_SDK_DISABLED"
_PROTOCOL = "http/protobuf"
_FILE = ".jsonl"

_log = logging.getLogger(__name__)

endpoint_option = click.option(
    "--trace-endpoint",
    metavar="URL",
    envvar=ENDPOINT_VARIABLE,
    help=f"Send traces to this OTLP endpoint over HTTP, such as http://127.0.0.1:4318; else ${ENDPOINT_VARIABLE}. "
    "Needs treni-route[trace].",
)

_path_option = click.option(
    "--trace",
    "trace_path",
    type=click.Path(path_type=Path),
    envvar=PATH_VARIABLE,
    help=f"Write traces as OTLP JSON lines, to this file (*{_FILE}) or to one of its own in this folder; "
    f"else ${PATH_VARIABLE}; default: none. Needs treni-route[trace].",
)


def trace_options(service: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command of click the options of traces, and keeps them under that name, else its `role`'s, as it runs."""

    def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def traced_command(
            *args: Any, trace_path: Path | None, trace_endpoint: str | None, **given: Any
        ) -> Any:
            with traced(service or str(given["role"]), path=trace_path, endpoint=trace_endpoint or ""):
                return command(*args, **given)

        return _path_option(endpoint_option(traced_command))

    return with_options


@contextmanager
def traced(service: str, *, path: Path | None, endpoint: str) -> Iterator[None]:
    """Keeps the traces of this process, and has those that it starts keep theirs, while the block runs.

    They go to the file or folder at `path` and to the `endpoint`; without either there are none. What was dropped is
    logged at the end. Raises INVALID_ARGUMENT for an endpoint or a path that is none, FAILED_PRECONDITION
    (`trace_missing`) without the packages of the extra.
    """
    if (path is None and not endpoint) or os.environ.get(_OFF_VARIABLE, "").lower() == "true":
        yield
        return
    if endpoint:
        _check(endpoint)
    otel = _otel()
    file = None if path is None else _file(path, service)
    told = {
        PATH_VARIABLE: None if path is None else str(path.absolute()),
        ENDPOINT_VARIABLE: endpoint or None,
    }
    with _in_environment(told):
        traces = otel.begin(service, path=file, to_endpoint=bool(endpoint))
        tracing.use(traces.tracer)
        metrics.trace_ids_from(lambda: tracing.current_trace_id() or "")
        try:
            yield
        finally:
            tracing.use(None)
            for place, (spans, dropped) in traces.close().items():
                if dropped:
                    _log.warning(
                        "spans were dropped", extra={"to": place, "spans": spans, "dropped": dropped}
                    )


def traced_as_told(
    service: str, *, path: Path | None = None, endpoint: str = ""
) -> AbstractContextManager[None]:
    """The same, for a program that leaves to the environment what it does not say itself."""
    named = os.environ.get(PATH_VARIABLE)
    return traced(
        service,
        path=path or (Path(named) if named else None),
        endpoint=endpoint or os.environ.get(ENDPOINT_VARIABLE, ""),
    )


@contextmanager
def _in_environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """The variables as they are, or are not, to be for children that the block starts, and then as they were."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        for name, value in variables.items():
            _set(name, value)
        yield
    finally:
        for name, value in before.items():
            _set(name, value)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _otel() -> Any:
    try:
        from treni import otel
    except ModuleNotFoundError as error:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "trace_missing",
            expected="OpenTelemetry, to keep traces",
            got=f"no package for {error.name}",
            todo=f"pip install 'treni-route[trace]', or unset {PATH_VARIABLE} and {ENDPOINT_VARIABLE}",
        ) from None
    return otel


def _check(endpoint: str) -> None:
    if re.fullmatch(r"https?://[^/\s]+(/\S*)?", endpoint) is None:
        raise invalid_argument(
            "trace_endpoint_invalid",
            expected="--trace-endpoint to be a base URL such as http://127.0.0.1:4318",
            got=repr(endpoint[:120]),
            todo="correct the option, or the variable",
        )
    protocol = os.environ.get(_PROTOCOL_VARIABLE, _PROTOCOL)
    if protocol != _PROTOCOL:
        raise invalid_argument(
            "trace_protocol_unsupported",
            expected=f"{_PROTOCOL_VARIABLE}={_PROTOCOL}, or no such variable",
            got=protocol[:40],
            todo="name the endpoint's port for HTTP, as a rule 4318",
        )


def _file(path: Path, service: str) -> Path:
    """The file of this process: the one that was asked for, or a new one in the folder."""
    if path.suffix == _FILE:
        return path
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            file = path / f"{service}-{os.getpid()}{f'-{number}' if number else ''}{_FILE}"
            try:
                file.open("xb").close()
            except FileExistsError:  # of a process of before that had this one's number
                number += 1
                continue
            return file

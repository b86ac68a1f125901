"""The traces of a campaign or of any processes of ours, read from their files of OTLP JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treni.errors import TreniError, invalid_argument
from treni.spans import RUN_ID
from treni.storage import reading, whole_lines

TRACES = "traces"
"""The folder of a campaign that has them."""

_ENDS = {2: "server", 3: "client", 4: "producer", 5: "consumer"}
"""The kinds of spans that are an end of a hop, as OTLP numbers them."""
_FAILED = 2
_BEGINS = b'{"resourceSpans"'


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A piece of work that a process of that `service` did. `parent` is "" for none; times are by the wall clock.

    `kind` is "" for work that is no end of a hop.
    """

    service: str
    trace_id: str
    id: str
    parent: str
    name: str
    kind: str
    start_s: float
    duration_s: float
    failed: bool
    attributes: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """The spans of one trace. `children` are those of each span by its id, in order.

    `begins` are those that are in no other: the roots, and those whose parent is not here.
    """

    spans: Sequence[Span]
    children: Mapping[str, Sequence[Span]]
    begins: Sequence[Span]

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Trace:
        """The trace that these spans are, in order of their beginnings."""
        ordered = sorted(spans, key=lambda span: (span.start_s, span.id))
        children: dict[str, list[Span]] = {}
        for span in ordered:
            children.setdefault(span.parent, []).append(span)
        known = {span.id for span in ordered}
        begins = [span for span in ordered if span.parent not in known]
        return cls(spans=ordered, children=children, begins=begins)

    @property
    def root(self) -> Span | None:
        """The span that all others are within, None without one: it has no parent, or one that is kept elsewhere."""
        if len(self.begins) != 1:
            return None
        (one,) = self.begins
        return one if one.parent == "" or one.kind == "server" else None

    @property
    def run_id(self) -> str:
        """The run that it is of, "" where no span says so."""
        return next((str(span.attributes[RUN_ID]) for span in self.spans if RUN_ID in span.attributes), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Traces:
    """Every trace by its id, and how many lines were cut short by the end of their process."""

    by_id: Mapping[str, Trace]
    torn: int


def read_traces(folder: Path) -> Traces:
    """Every span in the .jsonl files of the folder. Raises INVALID_ARGUMENT for one that is none of OTLP's."""
    found: dict[str, list[Span]] = {}
    torn = 0
    with reading(folder, "a folder of traces"):
        paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise invalid_argument(
            "traces_missing",
            expected=f"files of traces, *.jsonl, in {folder}",
            got="none",
            todo="run `treni-route matrix --trace`, or name the folder that was given to --trace",
        )
    for path in paths:
        with reading(path, "a file of traces"):
            lines, rest = whole_lines(path.read_bytes())
        torn += rest > 0
        for number, line in enumerate(lines, start=1):
            try:
                spans = list(_spans(json.loads(line))) if line.strip() else []
            except json.JSONDecodeError as error:
                if not (line.startswith(_BEGINS) or _BEGINS.startswith(line)):
                    raise _no_trace(path, number, error) from None
                torn += 1  # what a process left that was killed, before another took the file over
                continue
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _no_trace(path, number, error) from None
            for span in spans:
                found.setdefault(span.trace_id, []).append(span)
    return Traces(by_id={name: Trace.of(spans) for name, spans in found.items()}, torn=torn)


def _spans(request: Mapping[str, Any]) -> Iterator[Span]:
    for resource in request["resourceSpans"]:
        service = str(_attributes(resource["resource"]).get("service.name", ""))
        for scope in resource["scopeSpans"]:
            for one in scope["spans"]:
                start_ns, end_ns = int(one["startTimeUnixNano"]), int(one["endTimeUnixNano"])
                yield Span(
                    service=service,
                    trace_id=one["traceId"],
                    id=one["spanId"],
                    parent=one.get("parentSpanId", ""),
                    name=one["name"],
                    kind=_ENDS.get(one.get("kind", 1), ""),
                    start_s=start_ns / 1e9,
                    duration_s=(end_ns - start_ns) / 1e9,
                    failed=one.get("status", {}).get("code") == _FAILED,
                    attributes=_attributes(one),
                )


def _attributes(of: Mapping[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in of.get("attributes", ())}


def _value(value: Mapping[str, Any]) -> Any:
    ((kind, one),) = value.items()
    if kind == "intValue":
        return int(one)
    return [_value(each) for each in one.get("values", ())] if kind == "arrayValue" else one


def _no_trace(path: Path, number: int, error: Exception) -> TreniError:
    return invalid_argument(
        "trace_malformed",
        expected=f"a line of OTLP JSON at {path} line {number}",
        got=f"{type(error).__name__}: {error}"[:200],
        todo="name a folder that has nothing but files of traces",
    )

"""Where the time of traced requests went, span by span: each one's own time, and what nothing explains."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from matrices.evidence.traces import Span, Trace
from treni import spans as names

_BY_WHAT = (names.INVOKE, names.EXECUTE, names.TOOL)
"""Spans whose names go on with what was called: they are one in a waterfall."""

_CALLS = (names.CHAT, names.EXECUTE)
"""Calls of the loop: what is neither an attempt nor a wait in them is nobody's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A span's place in a waterfall and its share of one trace, in seconds."""

    path: tuple[str, ...]
    service: str
    offset_s: float
    total_s: float
    own_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """A trace taken apart: its parts' own times and `unexplained_s` sum to the client's time, `whole_s`."""

    whole_s: float
    parts: Sequence[Part]
    unexplained_s: float

    @property
    def unexplained(self) -> float:
        """The share that nothing explains, as what sums to more than the whole counts too."""
        return self.unexplained_s / self.whole_s if self.whole_s > 0 else 0.0


def parts_of(trace: Trace, *, latency_s: float | None = None) -> Parts | None:
    """The trace taken apart; None without a single root. `latency_s` is the client's time as its evidence has it.

    A span's own time is its length less those of the spans in it, so that no clock is compared with another
    machine's; what a server still does when its caller has the answer is not counted. It explains itself, but for the
    engine's, which is what no stage claims, and that of a call of the loop, which is outside its attempts and waits. An
    attempt that failed is its hop's as a whole, whatever a service still did for it. What the spans in a span come to
    beyond it is unexplained, and so is a difference between root and `latency_s`.
    """
    root = trace.root
    if root is None:
        return None
    found = _Apart(trace=trace, root=root)
    found.take(root, root.duration_s, ())
    whole_s = root.duration_s if latency_s is None else latency_s
    return Parts(
        whole_s=whole_s,
        parts=found.parts,
        unexplained_s=math.fsum(found.unexplained) + abs(whole_s - root.duration_s),
    )


@dataclass(kw_only=True)
class _Apart:
    trace: Trace
    root: Span
    parts: list[Part] = field(default_factory=list)
    unexplained: list[float] = field(default_factory=list)

    def take(self, span: Span, length_s: float, above: tuple[str, ...]) -> None:
        path = (*above, name_of(span))
        within = () if _given_up(span) else self.trace.children.get(span.id, ())
        lengths_s = [
            min(one.duration_s, length_s) if one.kind == "server" else one.duration_s for one in within
        ]
        own_s = length_s - math.fsum(lengths_s)
        if own_s < 0 or path[-1] in (names.ENGINE, *_CALLS):
            self.unexplained.append(abs(own_s))
            own_s = 0.0
        self.parts.append(
            Part(
                path=path,
                service=span.service,
                offset_s=span.start_s - self.root.start_s,
                total_s=length_s,
                own_s=own_s,
            )
        )
        for one, its_s in zip(within, lengths_s, strict=True):
            self.take(one, its_s, path)


def name_of(span: Span) -> str:
    """The span's name without what differs from one tool or agent to the next."""
    first, _, rest = span.name.partition(" ")
    return first if rest and first in _BY_WHAT else span.name


def _given_up(span: Span) -> bool:
    return span.name.startswith(names.ATTEMPT) and span.attributes.get(names.OUTCOME) != "ok"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A span of a waterfall, over traces: how many of it a trace has, and means in seconds a trace."""

    path: tuple[str, ...]
    service: str
    count: float
    total_s: float
    own_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Waterfall:
    """Traces of one kind, taken together. `unexplained` is the median of their shares, `most` the largest."""

    traces: int
    spans: float
    whole_s: float
    rows: Sequence[Row]
    unexplained: float
    most: float
    unexplained_s: float


def waterfall(apart: Sequence[Parts]) -> Waterfall:
    """The means over traces, of which there is at least one; rows as a tree, in order of when they begin."""
    count = len(apart)
    by_path: dict[tuple[str, ...], list[Part]] = {}
    for one in apart:
        for part in one.parts:
            by_path.setdefault(part.path, []).append(part)
    begins = {path: math.fsum(p.offset_s for p in parts) / len(parts) for path, parts in by_path.items()}
    rows = [
        Row(
            path=path,
            service=parts[0].service,
            count=len(parts) / count,
            total_s=math.fsum(part.total_s for part in parts) / count,
            own_s=math.fsum(part.own_s for part in parts) / count,
        )
        for path, parts in by_path.items()
    ]
    rows.sort(key=lambda row: [(begins[row.path[: n + 1]], row.path[n]) for n in range(len(row.path))])
    shares = [one.unexplained for one in apart]
    return Waterfall(
        traces=count,
        spans=sum(len(one.parts) for one in apart) / count,
        whole_s=math.fsum(one.whole_s for one in apart) / count,
        rows=rows,
        unexplained=statistics.median(shares),
        most=max(shares),
        unexplained_s=math.fsum(one.unexplained_s for one in apart) / count,
    )

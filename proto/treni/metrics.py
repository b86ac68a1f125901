"""What a process tells Prometheus: off until it is switched on, and then one page that every part of it adds to.

Whoever counts has a class made of a `Page`, such as `metrics_rpc.ServerMetrics`, and asks `of(ServerMetrics)` for the
process's one: None where nobody wants metrics, and then nothing is imported, counted or wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "treni_"
SECONDS = (
    *(0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0),
)
"""The bounds of every histogram's buckets, in seconds: from a hop on one machine to a model on a slow one."""

TRACE_ID = "trace_id"
"""The one label of an exemplar."""

MOST_KINDS = 200
"""Different kinds of error that a label takes; what comes after them, by a server that makes them up, is "other"."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """A metric as the documentation lists it, under the name that it is scraped by."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str


class Page:
    """The metrics of one process, in a registry of their own. Times are in seconds and counts end in `_total`."""

    def __init__(self) -> None:
        import prometheus_client

        # A second series beside each counter, that says when it was made, is what nobody here asks.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry: CollectorRegistry = prometheus_client.CollectorRegistry()
        self.described: list[Described] = []
        self._parts: dict[Any, Any] = {}
        self._lock = Lock()

    @property
    def text_type(self) -> str:
        """The media type of `text`."""
        from prometheus_client import CONTENT_TYPE_LATEST

        return CONTENT_TYPE_LATEST

    def text(self) -> bytes:
        """All metrics as they are now, in Prometheus's text form."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def part(self, kind: Callable[[Page], T]) -> T:
        """The page's one object of that kind, made when it is asked for first."""
        with self._lock:
            if kind not in self._parts:
                self._parts[kind] = kind(self)
            found: T = self._parts[kind]
            return found

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A new gauge `treni_<name>`."""
        from prometheus_client import Gauge

        self.describe(name, "gauge", labels, text)
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A new counter `treni_<name>_total`."""
        from prometheus_client import Counter

        self.describe(f"{name}_total", "counter", labels, text)
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, *labels: str) -> Histogram:
        """A new histogram `treni_<name>` over `SECONDS`."""
        from prometheus_client import Histogram

        self.describe(name, "histogram", labels, text)
        return Histogram(PREFIX + name, text, labels, buckets=SECONDS, registry=self.registry)

    def describe(self, name: str, kind: str, labels: Sequence[str], text: str) -> None:
        """Lists a metric that a collector of its own gives."""
        self.described.append(Described(name=PREFIX + name, type=kind, labels=tuple(labels), text=text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a process works for now: the profile, and whose calls each of its hops has, by the hop's name."""

    profile: str = ""
    arms: Mapping[str, str] | None = None

    def arm(self, hop: str) -> str:
        """The arm whose calls that hop has, "" where none is known."""
        return "" if self.arms is None else self.arms.get(hop, "")


_page: Page | None = None
_work = Work()
_trace_id: Callable[[], str] = str
_kinds: set[str] = set()


def switch_on() -> Page:
    """Has this process count from now on; what it opened before goes on uncounted. Its one page."""
    global _page
    if _page is None:
        _page = Page()
    return _page


def switch_off() -> None:
    """Forgets the page, for a process that goes on without one."""
    global _page
    _page = None


def on() -> bool:
    """Whether this process counts."""
    return _page is not None


def of(kind: Callable[[Page], T]) -> T | None:
    """The process's one object of that kind; None where metrics are off."""
    return None if _page is None else _page.part(kind)


def work_for(profile: str, arms: Mapping[str, str]) -> None:
    """Says what the process works for from now on: the labels of whoever does not know that."""
    global _work
    _work = Work(profile=profile, arms=dict(arms))


def work() -> Work:
    """What the process works for now."""
    return _work


def trace_ids_from(current: Callable[[], str]) -> None:
    """Has exemplars name what `current` gives, the id of the trace in progress, "" for none."""
    global _trace_id
    _trace_id = current


def exemplar() -> dict[str, str]:
    """The exemplar of what is counted now: the trace in progress, {} where there is none."""
    trace_id = _trace_id()
    return {TRACE_ID: trace_id} if trace_id else {}


def bounded_kind(kind: str) -> str:
    """The kind of an error as a label, where other people's servers may have made it up."""
    if kind in _kinds:
        return kind
    if len(_kinds) >= MOST_KINDS or len(kind) > 64 or not kind.replace("_", "").isalnum():
        return "other"
    _kinds.add(kind)
    return kind

"""Tool calls for Prometheus: how many, how long, how many wait for a thread, and which were replayed."""

from __future__ import annotations

from collections.abc import Callable

from tools_svc.protocol import Caller
from treni.errors import TreniError
from treni.metrics import Page, exemplar
from treni.v1.tools_pb2 import CallToolResponse

UNKNOWN = "unknown"
"""The label of calls of tools that there are none of."""


class ToolMetrics:
    """The calls of the tools that a process hosts, whoever makes them."""

    def __init__(self, page: Page) -> None:
        self._calls = page.counter("tools_calls", "Tool calls that are over, by outcome.", "tool", "outcome")
        self._seconds = page.histogram(
            "tools_call_seconds", "What a tool itself took, without waiting for a thread.", "tool"
        )
        self._replayed = page.counter(
            "tools_replayed", "Calls under a known idempotency key, answered without another effect.", "tool"
        )
        self._in_flight = page.gauge("tools_in_flight", "Tool calls that run or wait.", "tool")
        self._running = page.gauge("tools_running", "Tool calls that have a thread.", "tool")
        self._last = page.gauge("tools_last_call_timestamp_seconds", "When a call last ended.", "tool")

    def arrived(self, tool: str) -> Call:
        """A call of the tool has arrived."""
        return Call(self, tool or UNKNOWN)


class Call:
    """One call while it is in a process, as a `with` block; say in the end what it answered."""

    def __init__(self, of: ToolMetrics, tool: str) -> None:
        self._of, self._tool = of, tool
        self._outcome = "cancelled"

    def __enter__(self) -> Call:
        self._of._in_flight.labels(self._tool).inc()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TreniError):
            self._outcome = "refused" if error.definite else "failed"
        self._of._in_flight.labels(self._tool).dec()
        self._of._calls.labels(self._tool, self._outcome).inc(1, exemplar())
        self._of._last.labels(self._tool).set_to_current_time()

    def running(self, work: Callable[[Caller], CallToolResponse]) -> Callable[[Caller], CallToolResponse]:
        """The work, seen to run while it does."""

        def seen(caller: Caller) -> CallToolResponse:
            with self._of._running.labels(self._tool).track_inprogress():
                return work(caller)

        return seen

    def answered(self, response: CallToolResponse) -> CallToolResponse:
        """The response, put down."""
        self._outcome = "ok"
        self._of._seconds.labels(self._tool).observe(response.tool_s, exemplar())
        self._of._replayed.labels(self._tool).inc(int(response.replayed))
        return response

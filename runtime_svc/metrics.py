"""What the engine tells Prometheus, and the page that serves it. Imported only where somebody wants it.

`python -m runtime_svc.metrics` prints the table of docs/metrics.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)

from runtime_svc.decoding.stages import STAGES
from treni.errors import Code, TreniError
from treni.serving import not_bound
from treni.v1 import inference_pb2

if TYPE_CHECKING:
    from runtime_svc.engine import Engine

_PREFIX = "treni_runtime_"
_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STAGE_TEXT = {
    "queue_s": "waiting for others",
    "tokenize_s": "in the chat template and the tokenizer",
    "route_s": "in the semantic route",
    "copy_s": "copying KV between slots",
    "prefill_s": "prefilling prompts",
    "decode_s": "in decode steps",
    "sample_s": "choosing tokens, where that is not part of the steps",
    "detokenize_s": "turning tokens into text",
}
_COLD_START_TEXT = {
    "import_s": "Starting the interpreter and importing.",
    "weights_s": "Reading the checkpoint.",
    "upload_s": "Moving weights to the device.",
    "kernels_s": "Loading or compiling kernels.",
    "graphs_s": "Capturing graphs, and the first steps.",
    "ready_s": "From the process's start until the engine could take a request.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """A metric as the documentation lists it, under the name that it is scraped by."""

    name: str
    type: str
    labels: str
    text: str


class Metrics:
    """One engine's metrics, in a registry of their own.

    Times are in seconds and counts end in `_total`. The one label is `outcome`: "ok"; "refused", a request that
    was wrong or one too many; "cancelled", one that nobody waited for any longer; "failed".
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.described: list[Described] = []
        self._queued = self._gauge("queue_depth", "Requests that wait for a row.")
        self._in_use = self._gauge("slots_in_use", "KV slots that have an owner.")
        self._slots = self._gauge("slots", "KV slots there are.")
        self._requests = self._counter("requests", "Generations that are over, by outcome.", "outcome")
        self._prompt = self._counter("prompt_tokens", "Prompt tokens of answers.")
        self._cached = self._counter("cached_prompt_tokens", "Of those, found in a KV slot.")
        self._completion = self._counter("completion_tokens", "Tokens generated for answers.")
        self._first = self._histogram("first_token_seconds", "From an answer's arrival to its first token.")
        self._prefill = self._histogram("prefill_seconds", "Prefilling an answer's prompt.")
        self._step = self._histogram("decode_step_seconds", "A decode step over every sequence that runs.")
        self._stages = {
            stage: self._counter(f"stage_{_unit(stage)}", f"Time of answers spent {_STAGE_TEXT[stage]}.")
            for stage in STAGES
        }
        self._total = self._counter(
            "answer_seconds", "Time of answers from arrival to finish: the stages, and what no stage claims."
        )
        self._cold_start = {
            stage: self._gauge(f"cold_start_{_unit(stage)}", text) for stage, text in _COLD_START_TEXT.items()
        }

    def watch(self, engine: Engine) -> None:
        """Follows this engine from now on: its events, and its gauges whenever the page is read."""
        engine.observe(self)
        scheduler = engine.scheduler
        self._queued.set_function(lambda: scheduler.queued)
        self._in_use.set_function(lambda: scheduler.slots.in_use)
        self._slots.set(engine.runner.slots)
        for stage, gauge in self._cold_start.items():
            gauge.set(getattr(engine.cold_start, stage))

    def decode_step(self, seconds: float) -> None:
        """A decode step is done."""
        self._step.observe(seconds)

    def answered(self, finish: inference_pb2.GenerateFinish) -> None:
        """A generation is complete."""
        self._requests.labels("ok").inc()
        self._prompt.inc(finish.usage.prompt_tokens)
        self._cached.inc(finish.usage.cached_prompt_tokens)
        self._completion.inc(finish.usage.completion_tokens)
        timings = finish.timings
        self._first.observe(timings.first_token_s)
        self._prefill.observe(timings.prefill_s)
        for stage, counter in self._stages.items():
            counter.inc(getattr(timings, stage))
        self._total.inc(timings.total_s)

    def ended(self, error: TreniError) -> None:
        """A generation is over without an answer, or never began."""
        self._requests.labels(_outcome(error)).inc()

    page_type = CONTENT_TYPE_LATEST

    def page(self) -> bytes:
        """All metrics as they are now, in the text form of `page_type`."""
        return generate_latest(self.registry)

    def serve(self, *, port: int, host: str = "127.0.0.1") -> MetricsServer:
        """Serves the metrics over HTTP, on a thread of its own; port 0 picks a free one.

        Raises UNAVAILABLE when the address cannot be bound.
        """
        try:
            server, thread = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise not_bound(host, port, str(error)) from error
        return MetricsServer(server, thread, f"http://{host}:{server.server_port}/metrics")

    def _gauge(self, name: str, text: str) -> Gauge:
        self._describe(name, "gauge", (), text)
        return Gauge(_PREFIX + name, text, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self._describe(f"{name}_total", "counter", labels, text)
        return Counter(_PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        self._describe(name, "histogram", (), text)
        return Histogram(_PREFIX + name, text, buckets=_BUCKETS_S, registry=self.registry)

    def _describe(self, name: str, kind: str, labels: tuple[str, ...], text: str) -> None:
        self.described.append(Described(name=_PREFIX + name, type=kind, labels=", ".join(labels), text=text))


class MetricsServer:
    """The page, at `address`, until it is stopped."""

    def __init__(self, server: WSGIServer, thread: Thread, address: str) -> None:
        self.address = address
        self._server = server
        self._thread = thread

    def stop(self) -> None:
        """Frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def table() -> str:
    """Every metric, as docs/metrics.md lists them."""
    rows = [f"| `{m.name}` | {m.type} | {m.labels} | {m.text} |" for m in Metrics().described]
    return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows]) + "\n"


def _unit(field: str) -> str:
    """A field of the contract in the unit's full name: "queue_s" is "queue_seconds" to Prometheus."""
    return field.removesuffix("_s") + "_seconds"


def _outcome(error: TreniError) -> str:
    if error.code is Code.CANCELLED:
        return "cancelled"
    return "refused" if error.definite else "failed"


if __name__ == "__main__":
    print(table(), end="")

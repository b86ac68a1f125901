"""What the engine tells Prometheus. Imported only where somebody wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime_svc.decoding.stages import STAGES
from treni import metrics
from treni.errors import Code, TreniError
from treni.metrics import Page
from treni.v1 import inference_pb2

if TYPE_CHECKING:
    from runtime_svc.engine import Engine

_STAGE_TEXT = (
    "Time of answers by stage: queue (waiting for others), tokenize (chat template and tokenizer), route (the semantic "
    "route), copy (KV between slots), prefill, decode, sample (where not part of the steps), detokenize."
)
_COLD_START_TEXT = (
    "The process's start by stage: import (starting the interpreter and importing), weights (reading the checkpoint), "
    "upload (moving weights to the device), kernels (loading or compiling them), graphs (capturing them, and the first "
    "steps), ready (until the engine could take a request)."
)
_COLD_START = ("import_s", "weights_s", "upload_s", "kernels_s", "graphs_s", "ready_s")


class RuntimeMetrics:
    """One engine's metrics.

    The outcome of a request is "ok"; "refused", one that was wrong or one too many; "cancelled", one that nobody waited
    for any longer; "failed".
    """

    def __init__(self, page: Page) -> None:
        self._queued = page.gauge("runtime_queue_depth", "Requests that wait for a row.")
        self._running = page.gauge("runtime_in_flight", "Requests that have a row.")
        self._in_use = page.gauge("runtime_slots_in_use", "KV slots that have an owner.")
        self._slots = page.gauge("runtime_slots", "KV slots there are.")
        self._requests = page.counter("runtime_requests", "Generations that are over, by outcome.", "outcome")
        self._errors = page.counter(
            "runtime_request_errors", "Those without an answer, by kind of error.", "code", "kind"
        )
        self._prompt = page.counter("runtime_prompt_tokens", "Prompt tokens of answers.")
        self._cached = page.counter("runtime_cached_prompt_tokens", "Of those, found in a KV slot.")
        self._completion = page.counter("runtime_completion_tokens", "Tokens generated for answers.")
        self._first = page.histogram(
            "runtime_first_token_seconds", "From an answer's arrival to its first token."
        )
        self._between = page.histogram(
            "runtime_inter_token_seconds",
            "From one token of an answer to the next, its mean for each answer.",
        )
        self._step = page.histogram(
            "runtime_decode_step_seconds", "A decode step over every sequence that runs."
        )
        self._stages = page.histogram("runtime_stage_seconds", _STAGE_TEXT, "stage")
        self._total = page.histogram(
            "runtime_answer_seconds",
            "Time of answers from arrival to finish: the stages, and what no stage claims.",
        )
        self._cold_start = page.gauge("runtime_cold_start_seconds", _COLD_START_TEXT, "stage")

    def watch(self, engine: Engine) -> None:
        """Follows this engine from now on: its events, and its gauges whenever the page is read."""
        engine.observe(self)
        scheduler = engine.scheduler
        self._queued.set_function(lambda: scheduler.queued)
        self._running.set_function(lambda: scheduler.running)
        self._in_use.set_function(lambda: scheduler.slots.in_use)
        self._slots.set(engine.runner.slots)
        for stage in _COLD_START:
            self._cold_start.labels(stage.removesuffix("_s")).set(getattr(engine.cold_start, stage))

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
        if timings.decode_steps.count:
            self._between.observe(timings.decode_steps.mean_s)
        for stage in STAGES:
            self._stages.labels(stage.removesuffix("_s")).observe(getattr(timings, stage))
        self._total.observe(timings.total_s)

    def ended(self, error: TreniError) -> None:
        """A generation is over without an answer, or never began."""
        self._requests.labels(_outcome(error)).inc()
        self._errors.labels(error.code.name, error.kind).inc()


def watch(engine: Engine) -> None:
    """Follows the engine where this process counts."""
    counts = metrics.of(RuntimeMetrics)
    if counts is not None:
        counts.watch(engine)


def _outcome(error: TreniError) -> str:
    if error.code is Code.CANCELLED:
        return "cancelled"
    return "refused" if error.definite else "failed"

"""What an agent's runs came to, for Prometheus: read off the record of each, once the caller has it."""

from __future__ import annotations

from treni import metrics
from treni.errors import Code, TreniError
from treni.metrics import Page, bounded_kind
from treni.v1 import agent_pb2

OUTCOMES = ("ok", "fail", "unknown")


class RunMetrics:
    """Runs, their attempts on hops, and where their time went, warm-ups included."""

    def __init__(self, page: Page) -> None:
        run, hop = ("arm", "profile"), ("arm", "profile", "hop")
        self._runs = page.counter("agent_runs", "Runs that are over, by outcome.", *run, "outcome")
        self._errors = page.counter(
            "agent_run_errors", "Runs that ended with an error, by its kind.", *run, "code", "kind"
        )
        self._seconds = page.histogram(
            "agent_run_seconds", "How long runs took, from the request's arrival to the record.", *run
        )
        self._parts = page.counter(
            "agent_part_seconds",
            "Time of runs by part: loop, backoff, and what attempts on each hop took.",
            *run,
            "part",
        )
        self._attempts = page.counter(
            "agent_attempts", "Attempts on a hop, by how they ended.", *hop, "outcome", "code"
        )
        self._attempt_errors = page.counter(
            "agent_attempt_errors", "Attempts that failed, by kind of error.", *hop, "code", "kind"
        )
        self._attempt_seconds = page.histogram("agent_attempt_seconds", "How long attempts took.", *hop)
        self._retries = page.counter("agent_retries", "Attempts after the first of a call.", *hop)
        self._faults = page.counter(
            "agent_faults_observed",
            "Attempts that carried a scheduled fault, by how they ended.",
            *hop,
            "outcome",
        )
        self._tokens = page.counter(
            "agent_tokens", "Tokens of runs: prompt, cached_prompt (of those), completion.", *run, "kind"
        )
        self._tools = page.counter(
            "agent_tool_uses", "Tool calls that the model wrote, by what came of them.", *run, "outcome"
        )
        self._last_ok = page.gauge(
            "agent_last_success_timestamp_seconds", "When a run last ended with an answer.", *run
        )

    def over(
        self, arm: str, record: agent_pb2.RunRecord, failure: TreniError | None, trace: dict[str, str]
    ) -> None:
        """A run is over."""
        work = metrics.work()
        run = (work.arm("agent") or arm, work.profile)
        outcome = "ok" if failure is None else "fail" if failure.definite else "unknown"
        for one in (
            OUTCOMES
        ):  # all of them, as the first of a series that was not there is no increase to Prometheus
            self._runs.labels(*run, one).inc(int(one == outcome), trace if one == outcome else None)
        self._seconds.labels(*run).observe(record.total_s, trace)
        if failure is None:
            self._last_ok.labels(*run).set_to_current_time()
        else:
            self._errors.labels(*run, failure.code.name, bounded_kind(failure.kind)).inc(1, trace)
        self._parts.labels(*run, "loop").inc(max(0.0, record.loop_s))
        self._parts.labels(*run, "backoff").inc(record.backoff_s)
        for attempt in record.attempts:
            self._attempt(run, attempt, trace)
        for use in record.tools:
            self._tools.labels(*run, "refused" if use.is_error else "ok").inc()
        usage = record.usage
        self._tokens.labels(*run, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(*run, "cached_prompt").inc(usage.cached_prompt_tokens)
        self._tokens.labels(*run, "completion").inc(usage.completion_tokens)

    def _attempt(self, run: tuple[str, str], attempt: agent_pb2.Attempt, trace: dict[str, str]) -> None:
        hop = (*run, attempt.hop)
        self._attempts.labels(*hop, attempt.outcome, attempt.code).inc(1, trace)
        self._attempt_seconds.labels(*hop).observe(attempt.duration_s, trace)
        self._parts.labels(*run, attempt.hop).inc(attempt.duration_s)
        if attempt.code != Code.OK.name:
            self._attempt_errors.labels(*hop, attempt.code, bounded_kind(attempt.kind)).inc(1, trace)
        # One of each, so that a ratio of the two never lacks a side.
        self._retries.labels(*hop).inc(int(attempt.attempt > 0))
        for one in OUTCOMES:
            met = bool(attempt.fault_id) and one == attempt.outcome
            self._faults.labels(*hop, one).inc(int(met), trace if met else None)

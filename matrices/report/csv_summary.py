"""The columns of summary.csv, a row for each cell and arm."""

from __future__ import annotations

from dataclasses import dataclass

from matrices.report.csv_columns import Column
from matrices.report.figures import ArmFigures, CellFigures
from matrices.report.formats import latency_ms, ms, number


@dataclass(frozen=True, slots=True)
class ArmRow:
    """A row of summary.csv; `network` is "" where none was emulated."""

    cell: CellFigures
    arm: ArmFigures
    network: str
    schema: int

    def work(self, name: str) -> str:
        """What the arm did of that, "" where nobody knows."""
        return str(getattr(self.arm.work, name)) if self.cell.knows(self.arm, name) else ""

    def effects(self, name: str) -> str:
        """The arm's effects of that sort, "" where nobody sees or counts them."""
        seen = self.cell.sides.arm(self.arm.arm).seen
        return self.cell.counted(getattr(self.arm.effects, name)) if seen else ""


SUMMARY: tuple[Column[ArmRow], ...] = (
    Column("profile", "full name of the profile; `aa` for the A/A cell", lambda r: r.cell.config.profile),
    Column(
        "arm",
        "name of the arm, such as `internal` and `external`; in the A/A cell `internal` and `internal_b`",
        lambda r: r.arm.arm,
    ),
    Column("requests", "requests with an outcome, answer or error", lambda r: str(r.arm.requests)),
    Column("errors", "requests that ended without an answer", lambda r: str(r.arm.errors)),
    Column("error_rate", "errors over requests", lambda r: number(r.arm.error_rate, 6)),
    Column(
        "retries_mean_success",
        "retries, both hops, per request that ended with an answer",
        lambda r: number(r.arm.retries_mean_success, 6),
    ),
    Column(
        "latency_mean_ms",
        "mean over all requests of the client's time to the outcome, answer or error",
        lambda r: latency_ms(r.arm.latency, "mean_s"),
    ),
    Column("latency_p50_ms", "median of the same", lambda r: latency_ms(r.arm.latency, "p50_s")),
    Column("latency_p95_ms", "95th percentile of the same", lambda r: latency_ms(r.arm.latency, "p95_s")),
    Column(
        "ttft_p50_ms",
        "median time to the first text of the answer, over requests that were answered",
        lambda r: ms(r.arm.ttft_p50_s),
    ),
    Column(
        "latency_p99_ms",
        "99th percentile; empty under 300 requests, where it would be one of them",
        lambda r: latency_ms(r.arm.latency, "p99_s"),
    ),
    Column(
        "success_rate",
        "requests answered over requests; read the next two columns with it",
        lambda r: number(None if r.arm.error_rate is None else 1 - r.arm.error_rate, 6),
    ),
    Column(
        "latency_success_mean_ms",
        "mean latency over requests that were answered",
        lambda r: latency_ms(r.arm.latency_success, "mean_s"),
    ),
    Column(
        "latency_success_p50_ms",
        "median latency over requests that were answered",
        lambda r: latency_ms(r.arm.latency_success, "p50_s"),
    ),
    Column("wrong_answers", "answers that the task's checker refused", lambda r: str(r.arm.wrong_answers)),
    Column("prompt_tokens", "sum over all requests", lambda r: r.work("prompt_tokens")),
    Column("completion_tokens", "sum over all requests", lambda r: r.work("completion_tokens")),
    Column(
        "cached_prompt_tokens",
        "of the prompt tokens: found in the KV cache",
        lambda r: r.work("cached_prompt_tokens"),
    ),
    Column("tool_calls", "tool calls with a result", lambda r: r.work("tool_calls")),
    Column("model_attempts", "attempts at the model, retries included", lambda r: r.work("model_attempts")),
    Column("tool_attempts", "attempts at the tools, retries included", lambda r: r.work("tool_attempts")),
    Column(
        "faults_planned",
        "faults that the schedule puts on this arm",
        lambda r: str(len(r.arm.faults.planned)),
    ),
    Column(
        "faults_delivered",
        "faults in the delivery log of this arm",
        lambda r: str(len(r.arm.faults.delivered)),
    ),
    Column(
        "faults_observed",
        "planned faults that an attempt met and that ended as they should",
        lambda r: str(len(r.arm.faults.observed)),
    ),
    Column(
        "effects_recorded",
        "entries in the ledger by this arm's runs; like the next ones empty where no tool with effects writes one",
        lambda r: r.effects("recorded"),
    ),
    Column(
        "effects_lost",
        "calls acknowledged to the model without an entry",
        lambda r: r.effects("lost"),
    ),
    Column("effects_duplicate", "entries beyond the first of one call", lambda r: r.effects("duplicate")),
    Column(
        "effects_phantom",
        "calls that left an entry in a request that ended without an answer",
        lambda r: r.effects("phantom"),
    ),
    Column(
        "effects_superseded",
        "entries of runs that were abandoned when the campaign was resumed, in no other count",
        lambda r: r.effects("superseded"),
    ),
    Column("cell", "short name of the profile", lambda r: r.cell.config.name),
    Column(
        "cost_per_success_ms",
        "time spent on all requests, failed ones included, for each right answer",
        lambda r: "" if r.arm.time_per_success is None else ms(r.arm.time_per_success.value),
    ),
    Column(
        "attempts_per_success",
        "attempts on both hops over all requests, failed ones included, for each right answer",
        lambda r: "" if r.arm.attempts_per_success is None else number(r.arm.attempts_per_success.value, 4),
    ),
    Column(
        "accuracy",
        "right answers over requests that were answered",
        lambda r: number(r.arm.accuracy, 6),
        since=2,
    ),
    Column(
        "ms_per_token",
        "latency over completion tokens, of requests that were answered and tell their tokens",
        lambda r: ms(r.arm.latency_per_token_s),
        since=3,
    ),
    Column(
        "tokens_told",
        "requests whose records tell their tokens; the sums of tokens are over these, and empty where there is none",
        lambda r: str(r.arm.work.tokens_told),
        since=3,
    ),
    Column(
        "network",
        "`emulated` and the network profile that the hops were made to be like; empty where they were as they are",
        lambda r: r.network,
        since=2,
    ),
    Column("schema", "what the columns are called and mean", lambda r: str(r.schema), since=2),
)

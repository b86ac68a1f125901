"""Who made a run: its id, the arm and process that its record names, the model behind it, and what it used."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from matrices.checks.finding import Finding, Say, differs
from matrices.evidence.events import CellStarted
from matrices.evidence.manifest import ManifestModel
from matrices.evidence.outside import EndpointTold
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation
from treni.v1 import agent_pb2

OUTSIDE = "endpoint"
"""The backend in a record whose model answered behind an endpoint."""

FLOAT32 = 1e-5
"""Relative error allowed where a float32 was computed from others."""


def of_identity(
    run: Run,
    start: CellStarted | None,
    agent: str,
    pids: Collection[int],
    model: ManifestModel,
    outside: EndpointTold | None,
    expected: Expectation,
    say: Say,
) -> Iterator[Finding]:
    """Findings about a run that ran under `start` (None: under no start that the history has).

    `agent` is the role that had to answer, and `pids` the processes that had it under that start. `outside` is what an
    endpoint told of its model before the campaign.
    """
    if start is not None:
        run_id = f"{expected.cell}/{run.pair.pair}/{run.arm}/{start.epoch}"
        if run.outcome.run_id != run_id:
            yield say("run_id_wrong", differs("run id", run_id, run.outcome.run_id))
    record = run.record
    if record is None:
        return
    arm = expected.comparison.arm(run.arm)
    if record.arm != arm.recorded_as:
        yield say("arm_swapped", f"the record says {record.arm!r}")
    if record.pid not in pids:
        known = ", ".join(map(str, sorted(pids))) or "none"
        yield say("arm_swapped", differs(f"process of the {agent}", known, record.pid))
    if arm.has_engine:
        told = (record.model, record.backend, record.device)
        want = (model.name, model.backend, model.device) if record.turns else ("", "", "")
        if told != want:
            yield say("backend_swapped", differs("model", " ".join(want), " ".join(told)))
        if record.turns and record.constrained != expected.constrained:
            held, free = "held to the tools' schemas", "free"
            planned, seen = (held if one else free for one in (expected.constrained, record.constrained))
            yield say("decoding_otherwise", differs("tool calls", planned, seen))
        yield from _of_usage(record, say)
    elif arm.model_outside and record.turns:
        name = "" if outside is None else outside.model
        if (record.model, record.backend) != (name, OUTSIDE):
            yield say(
                "backend_swapped", differs("model", f"{name} {OUTSIDE}", f"{record.model} {record.backend}")
            )
    if arm.engine_timings:
        yield from _of_engine(record, say)


def _of_usage(record: agent_pb2.RunRecord, say: Say) -> Iterator[Finding]:
    usage, turns = record.usage, record.turns
    tokens = usage.completion_tokens
    yield from _unless(
        (
            ("prompt tokens", usage.prompt_tokens > 0 if turns else usage.prompt_tokens == 0),
            ("completion tokens", tokens >= turns if turns else tokens == 0),
            ("cached prompt tokens", usage.cached_prompt_tokens <= _most_cached(record)),
        ),
        record,
        say,
    )


def _of_engine(record: agent_pb2.RunRecord, say: Say) -> Iterator[Finding]:
    """What an engine of ours tells of its tokens besides their number."""
    aware, tokens = record.awareness, record.usage.completion_tokens
    yield from _unless(
        (
            ("decode steps", record.engine.decode_steps.count == tokens - record.turns),
            ("low-confidence tokens", aware.low_confidence_tokens <= tokens),
            ("mean log-probability", -math.inf < aware.mean_logprob <= FLOAT32),
            (
                "perplexity",
                math.isclose(aware.perplexity, math.exp(-aware.mean_logprob), rel_tol=1e-3)
                if tokens
                else aware.perplexity == 0,
            ),
            ("largest entropy", 0 <= aware.max_entropy < math.inf),
            ("smallest margin", 0 <= aware.min_margin < math.inf),
            ("route uncertainty", -FLOAT32 <= aware.route_uncertainty <= 1 + FLOAT32),
        ),
        record,
        say,
    )


def _unless(claims: Iterable[tuple[str, bool]], record: agent_pb2.RunRecord, say: Say) -> Iterator[Finding]:
    for what, holds in claims:
        if not holds:
            yield say("usage_wrong", f"{what}: {record.turns} turns with {_said(record)}")


def _most_cached(record: agent_pb2.RunRecord) -> float:
    """How many prompt tokens a run can find in the KV cache.

    Its cache key is its own, so that the first turn finds nothing and each later one what the turn before it read and
    wrote; no turn's prompt is shorter than an earlier one's. A failed attempt may have left what its retry finds.
    """
    usage, turns = record.usage, record.turns
    if turns == 0 or any(one.hop == "model" and one.outcome != "ok" for one in record.attempts):
        return usage.prompt_tokens
    later = usage.prompt_tokens * (turns - 1) / turns
    return later + (usage.completion_tokens if turns > 1 else 0)


def _said(record: agent_pb2.RunRecord) -> str:
    usage, aware = record.usage, record.awareness
    return (
        f"{usage.prompt_tokens} prompt tokens, {usage.cached_prompt_tokens} of them cached, "
        f"{usage.completion_tokens} completion tokens, {record.engine.decode_steps.count} steps, awareness "
        f"{aware.mean_logprob:g} {aware.perplexity:g} {aware.max_entropy:g} {aware.min_margin:g} "
        f"{aware.low_confidence_tokens} {aware.route_uncertainty:g}"
    )

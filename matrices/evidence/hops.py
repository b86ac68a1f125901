"""Where a run's time went, from the client inwards, as parts that sum to the client's latency."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from matrices.evidence.runs import Run
from treni.v1 import agent_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class Hops:
    """Seconds of one run, or their means over runs. The fields sum to the client's latency.

    `client` is what the client waited beyond the service's own total (the hop to the arm); `loop` the loop's own
    work between attempts; `model_hop` and `tool_hop` what attempts there took beyond the engine's and the tools'
    own time: the way there and back, text passed on as it streamed in, failed attempts whole; then the engine by
    stage, with `engine_other` what no stage claims; `tool` the tools themselves; `black_box` an agent that nobody
    sees into, whole; and `unexplained` what was awaited outside of any attempt, never spread.
    """

    client: float
    loop: float
    backoff: float
    model_hop: float
    engine_queue: float
    engine_tokenize: float
    engine_route: float
    engine_copy: float
    engine_prefill: float
    engine_decode: float
    engine_sample: float
    engine_detokenize: float
    engine_other: float
    tool_hop: float
    tool: float
    black_box: float
    unexplained: float


NAMES: tuple[str, ...] = tuple(field.name for field in fields(Hops))
"""The parts in the order in which they are printed."""


def hops_of(run: Run) -> Hops | None:
    """The parts of the run's latency; None without a record."""
    return None if run.record is None else hops_in(run.record, latency_s=run.outcome.latency_s)


def hops_in(record: agent_pb2.RunRecord, *, latency_s: float) -> Hops:
    """The parts of the latency of a run that left this record."""
    engine = record.engine
    model_s = math.fsum(attempt.duration_s for attempt in record.attempts if attempt.hop == "model")
    tool_s = math.fsum(attempt.duration_s for attempt in record.attempts if attempt.hop == "tool")
    box_s = math.fsum(attempt.duration_s for attempt in record.attempts if attempt.hop == "agent")
    in_tools_s = math.fsum(use.tool_s for use in record.tools)
    awaited_s = record.total_s - record.loop_s - record.backoff_s
    # The loop works within an attempt too, passing text on while the engine decodes the next: that time belongs
    # to the attempt, or it would be counted twice.
    loop_within_s = max(0.0, model_s + tool_s + box_s - awaited_s)
    stages = {
        "engine_queue": engine.queue_s,
        "engine_tokenize": engine.tokenize_s,
        "engine_route": engine.route_s,
        "engine_copy": engine.copy_s,
        "engine_prefill": engine.prefill_s,
        "engine_decode": engine.decode_s,
        "engine_sample": engine.sample_s,
        "engine_detokenize": engine.detokenize_s,
    }
    return Hops(
        client=latency_s - record.total_s,
        loop=record.loop_s - loop_within_s,
        backoff=record.backoff_s,
        model_hop=model_s - engine.total_s,
        **stages,
        engine_other=engine.total_s - math.fsum(stages.values()),
        tool_hop=tool_s - in_tools_s,
        tool=in_tools_s,
        black_box=box_s,
        unexplained=awaited_s + loop_within_s - model_s - tool_s - box_s,
    )


def mean_hops(parts: Iterable[Hops]) -> Hops | None:
    """The mean of each part; None of nothing."""
    every = tuple(parts)
    if not every:
        return None
    return Hops(**{name: math.fsum(getattr(one, name) for one in every) / len(every) for name in NAMES})

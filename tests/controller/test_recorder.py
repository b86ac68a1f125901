from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.recorder import Recorder, pooled_awareness
from tests.controller.doubles import VirtualClock
from treni.v1 import common_pb2, inference_pb2

tokens_of_a_turn = st.lists(st.floats(-5, 0, width=32), max_size=6)


def finish_of(
    logprobs: list[float], *, entropy: float, margin: float, route: float
) -> inference_pb2.GenerateFinish:
    mean = sum(logprobs) / len(logprobs) if logprobs else 0.0
    return inference_pb2.GenerateFinish(
        usage=common_pb2.Usage(completion_tokens=len(logprobs)),
        awareness=common_pb2.Awareness(
            mean_logprob=mean,
            perplexity=math.exp(-mean),
            max_entropy=entropy,
            low_confidence_tokens=sum(value < math.log(0.5) for value in logprobs),
            min_margin=margin,
            route_uncertainty=route,
        ),
    )


@given(turns=st.lists(tokens_of_a_turn, max_size=4))
def test_pooled_awareness_is_that_of_all_tokens_together(turns: list[list[float]]) -> None:
    finishes = [
        finish_of(logprobs, entropy=index + 1.0, margin=1.0 / (index + 1), route=index / 8)
        for index, logprobs in enumerate(turns)
    ]
    pooled = pooled_awareness(finishes)
    together = [value for logprobs in turns for value in logprobs]
    if not together:
        assert pooled == common_pb2.Awareness()
        return
    last = max(index for index, logprobs in enumerate(turns) if logprobs)
    assert pooled.mean_logprob == pytest.approx(sum(together) / len(together), rel=1e-5, abs=1e-6)
    assert pooled.perplexity == pytest.approx(math.exp(-pooled.mean_logprob), rel=1e-5)
    assert pooled.low_confidence_tokens == sum(value < math.log(0.5) for value in together)
    assert pooled.max_entropy == last + 1.0
    assert pooled.min_margin == pytest.approx(1.0 / (last + 1))
    assert pooled.route_uncertainty == last / 8


def test_a_record_taken_early_says_that_nothing_happened() -> None:
    time = VirtualClock()
    recorder = Recorder(arm="internal", clock=time.clock)
    time.now_s += 0.25
    record = recorder.record()
    assert (record.arm, record.turns, record.total_s, record.loop_s) == ("internal", 0, 0.25, 0.25)
    assert not record.attempts


def test_times_are_summed_and_step_quantiles_are_the_worst_generations() -> None:
    recorder = Recorder(arm="internal", clock=VirtualClock().clock)
    for count, mean_s, p50_s, p99_s in ((3, 2.0, 2.0, 4.0), (0, 0.0, 0.0, 0.0), (1, 6.0, 6.0, 6.0)):
        steps = common_pb2.StepTimes(count=count, mean_s=mean_s, p50_s=p50_s, p99_s=p99_s)
        timings = common_pb2.EngineTimings(decode_s=count * mean_s, route_s=0.5, decode_steps=steps)
        recorder.generation(inference_pb2.GenerateFinish(timings=timings))
    engine = recorder.record().engine
    assert (engine.decode_s, engine.route_s) == (12.0, 1.5)
    assert engine.decode_steps == common_pb2.StepTimes(count=4, mean_s=3.0, p50_s=6.0, p99_s=6.0)


def test_the_least_sure_route_stands_for_the_run() -> None:
    def spoke(**route: float) -> inference_pb2.GenerateFinish:
        finish = finish_of([-1.0], entropy=1.0, margin=1.0, route=0.5)
        if route:
            finish.awareness.route.CopyFrom(common_pb2.RouteAwareness(family="notes", **route))
        return finish

    assert not pooled_awareness([spoke()]).HasField("route")
    pooled = pooled_awareness([spoke(probability=0.75), spoke(), spoke(probability=0.5, margin=0.25)])
    assert (pooled.route.probability, pooled.route.margin) == (0.5, 0.25)

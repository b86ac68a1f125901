"""The metrics page of a running runtime, and what it says of requests that wait and are cancelled."""

import asyncio
from pathlib import Path

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime_svc.core import InferenceCore
from runtime_svc.decoding.stages import STAGES
from runtime_svc.engine import Engine
from runtime_svc.metrics import RuntimeMetrics
from tests.runtime_svc.brake import Brake
from tests.runtime_svc.processes import runtime
from tests.runtime_svc.requests import generate_request
from treni import metadata
from treni.errors import Code, TreniError
from treni.metrics import Page
from treni.v1 import inference_pb2, inference_pb2_grpc


def samples(text: str) -> dict[tuple[str, str], float]:
    """Value by sample name and its outcome or stage."""
    return {
        (
            sample.name.removeprefix("treni_runtime_"),
            sample.labels.get("outcome", sample.labels.get("stage", "")),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }


async def test_a_process_is_scraped(random_directory: Path) -> None:
    async with (
        runtime(random_directory, "--metrics-port", "0", "--slots", "12", "--max-rows", "3") as (ready, _),
        grpc.aio.insecure_channel(ready["address"], options=metadata.CHANNEL_OPTIONS) as channel,
        httpx.AsyncClient() as http,
    ):
        assert ready["metrics"].startswith("http://127.0.0.1:")
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        finishes = []
        for _ in range(2):
            request = generate_request("Hello", max_new_tokens=6, cache_key="again")
            finishes += [chunk.finish async for chunk in stub.Generate(request) if chunk.HasField("finish")]
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Generate(generate_request("x", temperature=-1.0)).read()
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Generate(generate_request("word " * 500)).read()
        info = await stub.Info(inference_pb2.InfoRequest())
        page = await http.get(ready["metrics"])
    assert (info.slots, info.max_rows) == (12, 3)
    value = samples(page.text)
    assert value["requests_total", "ok"] == 2
    assert value["requests_total", "refused"] == 2
    assert value["queue_depth", ""] == value["slots_in_use", ""] == value["in_flight", ""] == 0
    assert value["slots", ""] == 12
    usages = [finish.usage for finish in finishes]
    assert value["prompt_tokens_total", ""] == sum(usage.prompt_tokens for usage in usages)
    assert value["completion_tokens_total", ""] == 12
    assert value["cached_prompt_tokens_total", ""] == usages[0].prompt_tokens - 1
    assert value["decode_step_seconds_count", ""] == 10
    assert value["first_token_seconds_count", ""] == value["inter_token_seconds_count", ""] == 2
    timings = [finish.timings for finish in finishes]
    for stage in STAGES:
        total_s = sum(getattr(one, stage) for one in timings)
        assert value["stage_seconds_sum", stage.removesuffix("_s")] == pytest.approx(total_s)
    steps = [one.decode_steps.mean_s for one in timings]
    assert value["inter_token_seconds_sum", ""] == pytest.approx(sum(steps))
    assert value["answer_seconds_sum", ""] == pytest.approx(sum(t.total_s for t in timings))
    cold_s = {stage: value["cold_start_seconds", stage] for stage in ("ready", "import")}
    assert cold_s["ready"] == info.cold_start.ready_s > cold_s["import"] > 0


async def test_what_waits_what_runs_and_what_was_cancelled_is_seen(
    random_directory: Path, endless: inference_pb2.GenerateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load(random_directory, max_rows=1)
    brake = Brake(engine, monkeypatch)
    page = Page()
    page.part(RuntimeMetrics).watch(engine)

    def value(name: str, **labels: str) -> float | None:
        return page.registry.get_sample_value(f"treni_runtime_{name}", labels)

    async with InferenceCore(engine, max_queue=1) as core:
        brake.hold(after=50)
        running = core.generate(endless)
        await anext(running)
        await brake.standing()
        waiting = asyncio.ensure_future(anext(core.generate(endless)))
        await asyncio.sleep(0)
        assert (value("queue_depth"), value("in_flight"), value("slots_in_use")) == (1, 1, 1)
        with pytest.raises(TreniError) as caught:
            await anext(core.generate(endless))
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        waiting.cancel()
        await asyncio.wait([waiting])
        await running.aclose()
        brake.release()
    assert (value("queue_depth"), value("in_flight"), value("slots_in_use")) == (0, 0, 0)
    assert value("requests_total", outcome="cancelled") == 2
    assert value("requests_total", outcome="refused") == 1
    assert value("request_errors_total", code="RESOURCE_EXHAUSTED", kind="queue_full") == 1

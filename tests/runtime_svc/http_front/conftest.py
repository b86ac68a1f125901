from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from runtime_svc.core import InferenceCore
from runtime_svc.engine import Engine
from runtime_svc.http_front import server
from runtime_svc.http_front.requests import ChatRequest
from runtime_svc.http_front.server import RunningFront
from runtime_svc.http_front.translation import generate_request
from runtime_svc.metrics import RuntimeMetrics
from tests.limits import HANG_S
from tests.runtime_svc.brake import Brake
from tests.runtime_svc.http_front.front import Front, asking, served
from treni.metrics import Page


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """A process with the bundled model."""
    with served() as running:
        yield running


@pytest.fixture
def client(front: Front) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{front.http}/v1", api_key="none", max_retries=0, timeout=HANG_S) as client:
        yield client


@pytest.fixture(scope="module")
def engine(random_directory: Path) -> Engine:
    """A small random model in this process, with one row."""
    return Engine.load(random_directory, max_rows=1)


@pytest.fixture(scope="session")
def long_body(random_directory: Path) -> dict[str, Any]:
    """A request to the random model that certainly generates for long, by a seed that was tried."""
    engine = Engine.load(random_directory)
    for seed in range(200):
        body = asking("Go on", temperature=2, top_k=1000, max_tokens=900, seed=seed) | {"model": "small"}
        request = generate_request(ChatRequest.model_validate(body))
        if list(engine.generate(request))[-1].finish.usage.completion_tokens >= 400:
            return body
    raise AssertionError("no seed gives a long answer")


@pytest.fixture
def brake(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Brake:
    return Brake(engine, monkeypatch)


@pytest.fixture
async def core(engine: Engine) -> AsyncIterator[InferenceCore]:
    async with InferenceCore(engine, max_queue=2) as running:
        yield running


@pytest.fixture
async def here(core: InferenceCore) -> AsyncIterator[RunningFront]:
    """A front in this process, over the random model, with room for two in its queue."""
    metrics = Page()
    metrics.part(RuntimeMetrics).watch(core.engine)
    running = await server.start(core, metrics)
    yield running
    await running.stop(grace_s=0)

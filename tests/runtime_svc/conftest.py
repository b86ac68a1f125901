import time
from pathlib import Path

import pytest

from runtime_svc.engine import Engine
from runtime_svc.random_checkpoint import Shape, write_random_checkpoint
from tests.runtime_svc.requests import generate_request
from treni.v1 import inference_pb2


@pytest.fixture(scope="session")
def random_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("random") / "small", Shape(), seed=5)


@pytest.fixture(scope="session")
def engine(random_directory: Path) -> Engine:
    """A small random model: its text is noise, its work is real."""
    return Engine.load(random_directory)


@pytest.fixture
def processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock in seconds of this thread's own work: who else uses the machine does not show in it."""
    monkeypatch.setattr("time.perf_counter", time.thread_time)


@pytest.fixture(scope="session")
def endless(random_directory: Path) -> inference_pb2.GenerateRequest:
    """A request that certainly generates for long: a seed whose sampled answer does not end early."""
    engine = Engine.load(random_directory)
    for seed in range(200):
        request = generate_request("Go on", temperature=5.0, top_k=1000, max_new_tokens=900, seed=seed)
        if list(engine.generate(request))[-1].finish.usage.completion_tokens >= 400:
            return request
    raise AssertionError("no seed gives a long answer")

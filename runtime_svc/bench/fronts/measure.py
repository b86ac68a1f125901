"""What gRPC, HTTP and a LiteLLM proxy add to the engine's own time, measured in turns in one run."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx

from runtime_svc.bench.fronts.callers import Bare, Call, Caller, Grpc, Http, PageClock, timed
from runtime_svc.core import InferenceCore
from runtime_svc.engine import Engine
from runtime_svc.metrics import RuntimeMetrics
from treni import processes
from treni.channels import open_channel, open_http
from treni.errors import Code, TreniError
from treni.metrics import Page
from treni.serving import free_port

if TYPE_CHECKING:
    from asyncio.subprocess import Process

START_LIMIT_S = 600.0
"""How long a server may take to start, for one that hangs: LiteLLM imports for half a minute on a busy machine."""

PROXY = "litellm"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What a front did: medians and 99th percentiles in seconds, and requests a second (median of the rounds)."""

    front: str
    latency_s: float
    added_s: float
    added_p99_s: float
    over_http: float
    over_http_p99: float
    per_s: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fronts:
    """The table, from one run in which all fronts took turns."""

    requests: int
    concurrency: int
    rounds: int
    rows: tuple[Row, ...]


async def measure(
    model: Path, *, requests: int, concurrency: int, rounds: int, proxy_python: str | None
) -> Fronts:
    """What the fronts add on this machine, measured now. Raises `TreniError` if a request or a server fails."""
    async with AsyncExitStack() as stack:
        ready = await stack.enter_async_context(_runtime(model))
        client = await stack.enter_async_context(open_http(timeout=None))
        channel = await stack.enter_async_context(open_channel(ready["address"]))
        engine, metrics = Engine.load(model), Page()
        metrics.part(RuntimeMetrics).watch(engine)
        core = await stack.enter_async_context(InferenceCore(engine))
        http, name = ready["http"], ready["model"]
        clock = PageClock(client, http)
        callers: list[Caller] = [
            Bare(core, metrics),
            Grpc(channel, clock),
            Http("http", client, http, name, clock),
        ]
        if proxy_python is not None:
            url = await stack.enter_async_context(_proxy(proxy_python, http, name))
            callers.append(Http(PROXY, client, url, name, clock))
        calls: dict[str, list[Call]] = {caller.name: [] for caller in callers}
        for number in range(-3, requests):  # the first three warm everything up and are not kept
            for caller in _turned(callers, number):
                call = await timed(caller, number)
                if number >= 0:
                    calls[caller.name].append(call)
        per_s: dict[str, list[float]] = {caller.name: [] for caller in callers}
        for round_ in range(rounds):
            for caller in _turned(callers, round_):
                per_s[caller.name].append(await _throughput(caller, requests, concurrency))
    base = calls["http"]
    return Fronts(
        requests=requests,
        concurrency=concurrency,
        rounds=rounds,
        rows=tuple(_row(name, calls[name], base, per_s[name]) for name in calls),
    )


def _row(name: str, calls: Sequence[Call], base: Sequence[Call], per_s: Sequence[float]) -> Row:
    added, http = _added(calls), _added(base)
    return Row(
        front=name,
        latency_s=median(call.latency_s for call in calls),
        added_s=median(added),
        added_p99_s=_p99(added),
        over_http=median(added) / median(http),
        over_http_p99=_p99(added) / _p99(http),
        per_s=median(per_s),
    )


def _added(calls: Sequence[Call]) -> list[float]:
    return [call.latency_s - call.engine_s for call in calls]


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


async def _throughput(caller: Caller, requests: int, concurrency: int) -> float:
    """Requests a second with so many in flight."""
    numbers = iter(range(requests))

    async def some() -> None:
        for number in numbers:
            await caller.call(number)

    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(some())
    return requests / (loop.time() - began_s)


def _turned(callers: Sequence[Caller], number: int) -> list[Caller]:
    """All of them, another one first each time."""
    by = number % len(callers)
    return [*callers[by:], *callers[:by]]


@asynccontextmanager
async def _runtime(model: Path) -> AsyncIterator[dict[str, Any]]:
    """The ready line of a runtime with both fronts."""
    command = [sys.executable, "-m", "runtime_svc", "--model", str(model), "--http", "0"]
    async with _process(command, asyncio.subprocess.PIPE) as process:
        assert process.stdout is not None
        async with asyncio.timeout(START_LIMIT_S):
            line = await process.stdout.readline()
        if not line:
            raise _not_ready("the runtime", "an end")
        yield json.loads(line)


@asynccontextmanager
async def _proxy(python: str, url: str, model: str) -> AsyncIterator[str]:
    """The address of a LiteLLM proxy before the server at `url`, as its documentation says to run one."""
    with tempfile.TemporaryDirectory(prefix="treni-bench-") as scratch:
        config = Path(scratch) / "config.yaml"
        upstream = {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "none"}
        config.write_text(
            json.dumps({"model_list": [{"model_name": model, "litellm_params": upstream}]}), encoding="utf-8"
        )
        port = free_port()
        program = str(Path(python).parent / "litellm")
        command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        # What it would else fetch, or send home.
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}
        # It checks no key, as the fronts beside it do not: on loopback, for as long as the bench runs.
        quiet["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
        async with _process(command, asyncio.subprocess.DEVNULL, quiet) as process, open_http() as client:
            address = f"http://127.0.0.1:{port}"
            async with asyncio.timeout(START_LIMIT_S):
                while not await _answers(client, f"{address}/health/liveliness"):
                    if process.returncode is not None:
                        raise _not_ready(PROXY, f"an end with status {process.returncode}")
                    await asyncio.sleep(0.2)
            yield address


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.HTTPError:
        return False


@asynccontextmanager
async def _process(
    command: Sequence[str], stdout: int, env: dict[str, str] | None = None
) -> AsyncIterator[Process]:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | (env or {}),
        )
    except OSError as error:
        raise _not_ready(command[0], str(error)) from None
    try:
        yield process
    finally:
        await processes.stop(process)


def _not_ready(what: str, got: str) -> TreniError:
    return TreniError(
        Code.UNAVAILABLE,
        "process_not_ready",
        expected=f"{what} to serve",
        got=got,
        todo="run it by itself to see why; `make bench` installs LiteLLM where it is run from",
    )

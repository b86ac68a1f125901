"""`python -m runtime_svc --model DIR --port 0`: serves inference until SIGINT or SIGTERM."""

from __future__ import annotations

from runtime_svc.threads import limit_blas_threads

limit_blas_threads()  # before NumPy is imported

import sys  # noqa: E402

if any(argument.endswith("cupy") for argument in sys.argv[1:]):
    from runtime_svc.backends.cuda import context

    context.begin()  # beside everything that is imported below

import asyncio  # noqa: E402
import logging  # noqa: E402
import time  # noqa: E402
from contextlib import AsyncExitStack  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import click  # noqa: E402

from runtime_svc.core import InferenceCore  # noqa: E402
from runtime_svc.engine import MAX_ROWS, Engine  # noqa: E402
from runtime_svc.server import start  # noqa: E402
from treni import entry, metrics, serving  # noqa: E402
from treni.door_options import DoorSettings, door_options  # noqa: E402
from treni.doors import OPEN, Door  # noqa: E402
from treni.metrics import Page  # noqa: E402
from treni.metrics_page import metrics_option, serving_metrics  # noqa: E402
from treni.trace_options import trace_options  # noqa: E402

GRACE_S = 5.0

_log = logging.getLogger(__name__)


async def serve(
    engine: Engine,
    *,
    host: str,
    port: int,
    http: int | None,
    max_queue: int,
    page: Page | None,
    told: dict[str, str],
    door: Door = OPEN,
) -> None:
    """Serves until told to stop, then lets running calls end for at most `GRACE_S` seconds.

    With a port for `http`, which needs a `page` of metrics, it does so over HTTP too. `told` is what its line of JSON
    says beside the addresses.
    """
    async with InferenceCore(engine, max_queue=max_queue) as core, AsyncExitStack() as fronts:
        server = await start(core, host=host, port=port, door=door)
        fronts.push_async_callback(server.stop, grace_s=GRACE_S)
        ready = {"service": "runtime", "address": server.address, "model": engine.model, **told}
        if http is not None:
            from runtime_svc.http_front import server as http_server

            assert page is not None
            front = await http_server.start(core, page, host=host, port=http, door=door)
            fronts.push_async_callback(front.stop, grace_s=GRACE_S)
            ready["http"] = front.address
        await serving.until_told_to_stop(ready)


_EPILOG = """A KV slot holds the keys and values of one sequence. A request takes one while it runs, and leaves it
behind for the next turn under the same cache key, which then prefills only what is new; the slot that was used least
recently is taken over first. So count a slot for each request that runs at once and one for each conversation that
should be found again. Requests beyond --max-rows wait, in order of arrival; those beyond --max-queue are refused with
RESOURCE_EXHAUSTED.

Exit status: 0 after SIGINT or SIGTERM; 1 when the model cannot be loaded or the address not be bound; 2 usage."""

_PORT = entry.WholeRange(0, 65535)
MAX_COUNT = 1 << 20
"""The most slots, tokens of a slot, or requests: beyond what any machine has room for."""

_COUNT = entry.WholeRange(1, MAX_COUNT)


@entry.command(epilog=_EPILOG)
@click.option(
    "--model",
    required=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="A local Hugging Face directory or GGUF file.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=_PORT, default=0, show_default=True, help="0 picks a free port.")
@click.option(
    "--backend",
    default="numpy",
    show_default=True,
    help="numpy, or cupy for an NVIDIA GPU; one never stands in for the other.",
)
@click.option(
    "--encoder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A local sentence encoder such as all-MiniLM-L6-v2 (BERT, mean pooling): embeds texts, and puts a semantic "
    "route beside every answer's awareness, some 10 ms on a CPU for a new request. Without one, texts are embedded "
    "with the decoder's own states.",
)
@click.option(
    "--slots", type=_COUNT, metavar="N", help="KV slots; default: 64, fewer where full ones would take 8 GiB."
)
@click.option(
    "--slot-tokens",
    type=_COUNT,
    metavar="N",
    help="Tokens of prompt and completion that a slot holds; default: the model's context, 4096 at most on a GPU.",
)
@click.option(
    "--max-rows",
    type=_COUNT,
    default=MAX_ROWS,
    show_default=True,
    metavar="N",
    help="Sequences that run at once, one row each in a decode step.",
)
@click.option(
    "--max-queue",
    type=_COUNT,
    default=64,
    show_default=True,
    metavar="N",
    help="Requests that may wait for a row.",
)
@click.option(
    "--batch-invariant",
    is_flag=True,
    help="Compute each sequence the same, bit for bit, whoever runs beside it: steps of one row and chunks of one "
    "size, which gives up what batching gains on a GPU; numpy computes so anyway.",
)
@click.option(
    "--http",
    type=_PORT,
    metavar="PORT",
    help="Speak OpenAI's HTTP interface on this port too, 0 for a free one; default: off.",
)
@metrics_option
@trace_options("runtime")
@door_options
def main(
    model: Path,
    host: str,
    port: int,
    http: int | None,
    max_queue: int,
    metrics_port: int | None,
    doors: DoorSettings,
    **settings: Any,
) -> None:
    """Serve one model over gRPC, and over HTTP where that is asked for.

    Prints one line of JSON with its addresses when it is ready.
    """
    with serving_metrics(metrics_port) as told:
        _log.info("loading the model", extra={"model": str(model), "backend": settings["backend"]})
        started_s = time.perf_counter()
        engine = Engine.load(model, **settings)
        _log.info("the model is loaded", extra={"seconds": time.perf_counter() - started_s})
        page: Page | None = None
        if metrics_port is not None or http is not None:
            from runtime_svc.metrics import RuntimeMetrics

            # A front has a page of the engine's metrics also where nothing else is counted.
            page = Page() if metrics_port is None else metrics.switch_on()
            page.part(RuntimeMetrics).watch(engine)
        asyncio.run(
            serve(
                engine,
                host=host,
                port=port,
                http=http,
                max_queue=max_queue,
                page=page,
                told=told,
                door=doors.door,
            )
        )


if __name__ == "__main__":
    main(prog_name="treni-route serve runtime")

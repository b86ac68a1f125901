"""`python -m runtime_svc --model DIR --port 0`: serves inference until SIGINT or SIGTERM."""

from __future__ import annotations

from runtime_svc.threads import limit_blas_threads

limit_blas_threads()  # before NumPy is imported

import sys  # noqa: E402

if any(argument.endswith("cupy") for argument in sys.argv[1:]):
    from runtime_svc.cuda import context

    context.begin()  # beside everything that is imported below

import argparse  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from runtime_svc.core import InferenceCore  # noqa: E402
from runtime_svc.engine import MAX_ROWS, Engine  # noqa: E402
from runtime_svc.server import start  # noqa: E402
from treni import entry, serving  # noqa: E402

if TYPE_CHECKING:
    from runtime_svc.metrics import MetricsServer

GRACE_S = 5.0

MAX_COUNT = 1 << 20
"""Of slots, of a slot's tokens and of requests: beyond what any machine has room for."""


async def serve(
    engine: Engine, *, host: str, port: int, max_queue: int, metrics_server: MetricsServer | None
) -> None:
    """Serves until told to stop, then lets running calls end for at most `GRACE_S` seconds."""
    async with InferenceCore(engine, max_queue=max_queue) as core:
        server = await start(core, host=host, port=port)
        ready = {"service": "runtime", "address": server.address, "model": engine.model}
        if metrics_server is not None:
            ready["metrics"] = metrics_server.address
        try:
            await serving.until_told_to_stop(ready)
        finally:
            await server.stop(grace_s=GRACE_S)


def main() -> int:
    """0 after a clean stop, 1 when the model could not be loaded or an address not be bound, 2 for wrong use."""
    options = _parser().parse_args()
    return entry.run(lambda: _load_and_serve(options), role="runtime")


async def _load_and_serve(options: argparse.Namespace) -> None:
    metrics_server: MetricsServer | None = None
    try:
        engine = Engine.load(
            options.model,
            backend=options.backend,
            encoder=options.encoder,
            slots=options.slots,
            slot_tokens=options.slot_tokens,
            max_rows=options.max_rows,
            batch_invariant=options.batch_invariant,
        )
        if options.metrics_port is not None:
            from runtime_svc.metrics import Metrics

            metrics = Metrics()
            metrics.watch(engine)
            metrics_server = metrics.serve(port=options.metrics_port)
        await serve(
            engine,
            host=options.host,
            port=options.port,
            max_queue=options.max_queue,
            metrics_server=metrics_server,
        )
    finally:
        if metrics_server is not None:
            metrics_server.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtime_svc",
        description="Serves one model over gRPC. Prints one line of JSON with its address when it is ready.",
        epilog=(
            "A KV slot holds the keys and values of one sequence. A request takes one while it runs, and leaves it "
            "behind for the next turn under the same cache key, which then prefills only what is new; the slot that "
            "was used least recently is taken over first. So count a slot for each request that runs at once and "
            "one for each conversation that should be found again. Requests beyond --max-rows wait, in order of "
            "arrival; those beyond --max-queue are refused with RESOURCE_EXHAUSTED."
        ),
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="a local Hugging Face directory")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=0, help="0 picks a free port (default)")
    parser.add_argument(
        "--backend",
        default="numpy",
        help="numpy, or cupy for an NVIDIA GPU (default: %(default)s); one never stands in for the other",
    )
    parser.add_argument(
        "--encoder",
        metavar="DIR",
        help="a local sentence encoder such as all-MiniLM-L6-v2 (BERT, mean pooling): embeds texts, and puts a "
        "semantic route beside every answer's awareness, some 10 ms on a CPU for a new request (default: none; texts "
        "are then embedded with the decoder's own states)",
    )
    parser.add_argument(
        "--slots",
        type=_count,
        metavar="N",
        help="KV slots (default: 64, fewer where full ones would take 8 GiB)",
    )
    parser.add_argument(
        "--slot-tokens",
        type=_count,
        metavar="N",
        help="tokens of prompt and completion that a slot holds (default: the model's context, 4096 at most on a GPU)",
    )
    parser.add_argument(
        "--max-rows",
        type=_count,
        default=MAX_ROWS,
        metavar="N",
        help="sequences that run at once, one row each in a decode step (default: %(default)s)",
    )
    parser.add_argument(
        "--max-queue",
        type=_count,
        default=64,
        metavar="N",
        help="requests that may wait for a row (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-invariant",
        action="store_true",
        help="compute each sequence the same, bit for bit, whoever runs beside it: steps of one row and chunks of one "
        "size, which gives up what batching gains on a GPU; numpy computes so anyway",
    )
    parser.add_argument(
        "--metrics-port",
        type=_port,
        metavar="PORT",
        help="serve Prometheus metrics on this port of the loopback interface, 0 for a free one (default: off)",
    )
    return parser


def _count(text: str) -> int:
    return _between(text, 1, MAX_COUNT, "a number")


def _port(text: str) -> int:
    return _between(text, 0, 65535, "a port")


def _between(text: str, least: int, most: int, what: str) -> int:
    if not (text.isascii() and text.lstrip("-").isdigit()) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected {what} from {least} to {most}, got {text}")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())

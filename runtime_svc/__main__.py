"""`python -m runtime_svc --model DIR --port 0`: serves inference until SIGINT or SIGTERM."""

from __future__ import annotations

from runtime_svc.threads import limit_blas_threads

limit_blas_threads()  # before NumPy is imported

import argparse  # noqa: E402
import asyncio  # noqa: E402
import sys  # noqa: E402

from runtime_svc.core import InferenceCore  # noqa: E402
from runtime_svc.engine import Engine  # noqa: E402
from runtime_svc.server import start  # noqa: E402
from treni import serving  # noqa: E402
from treni.errors import TreniError  # noqa: E402

GRACE_S = 5.0


async def serve(engine: Engine, *, port: int, max_queue: int) -> None:
    """Serves until told to stop, then lets running calls end for at most `GRACE_S` seconds."""
    async with InferenceCore(engine, max_queue=max_queue) as core:
        server = await start(core, port=port)
        try:
            await serving.until_told_to_stop(
                {"service": "runtime", "address": server.address, "model": engine.model}
            )
        finally:
            await server.stop(grace_s=GRACE_S)


def main() -> int:
    """0 after a clean stop, 1 when the model could not be loaded."""
    parser = argparse.ArgumentParser(prog="python -m runtime_svc", description="The inference service.")
    parser.add_argument("--model", required=True, help="a local Hugging Face directory")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free port (default)")
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--max-queue", type=int, default=64, help="requests that may wait for the engine")
    options = parser.parse_args()
    try:
        engine = Engine.load(options.model, backend=options.backend)
    except TreniError as error:
        print(error, file=sys.stderr)
        return 1
    asyncio.run(serve(engine, port=options.port, max_queue=options.max_queue))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

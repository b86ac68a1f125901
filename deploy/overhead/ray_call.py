"""A call of a Ray actor on another host, timed. Needs the extra ray."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import ray

from matrices.topologies.ray_protocol import GPU_HOST

_SHARE = 0.001


class Echo:
    """What the actor is: it gives back what it gets."""

    def call(self, payload: bytes) -> bytes:
        """The payload again."""
        return payload


@contextmanager
def ray_call(address: str, payload: bytes) -> Iterator[Callable[[], Awaitable[float]]]:
    """A function that calls an actor on the host with the resource `gpu_host`, and gives the seconds that it took.

    `address` is that of the cluster's head; this process runs on one of its hosts.
    """
    ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    try:
        actor = ray.remote(Echo).options(num_cpus=0, resources={GPU_HOST: _SHARE}).remote()

        async def call() -> float:
            started_s = time.perf_counter()
            # Nothing else runs meanwhile, and to be awaited would cost it a thread more.
            ray.get(actor.call.remote(payload))
            return time.perf_counter() - started_s

        yield call
        ray.kill(actor)
    finally:
        ray.shutdown()

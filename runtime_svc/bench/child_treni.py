"""The contender that is this runtime: a `Runner`, without the engine, scheduler and services above it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from runtime_svc.backends import BACKENDS
from runtime_svc.bench.child import ChildSettings, Stages, serve

if TYPE_CHECKING:
    from runtime_svc.decoding.runner import Pending, Runner


def imports(settings: ChildSettings) -> Mapping[str, str]:
    """What a runner of the backend imports, and nothing that it does not: a cold start is not to pay for more.

    The context is begun first, as `python -m runtime_svc` does it.
    """
    if settings.backend == "cupy":
        from runtime_svc.backends.cuda import context

        context.begin()
        import runtime_svc.backends.cuda.runner
    else:
        import runtime_svc.backends.numpy.runner  # noqa: F401
    return {}


class Treni:
    """Prompts go to slots 0, 1, ...; steps are launched as far ahead as the runner says is worth it."""

    def __init__(self, settings: ChildSettings, stages: Stages) -> None:
        from runtime_svc.ops import SamplingParams
        from runtime_svc.weights.opening import open_checkpoint

        checkpoint = open_checkpoint(Path(settings.model))
        load = BACKENDS[settings.backend].load
        self._runner: Runner = load(
            checkpoint, slots=settings.slots, capacity=settings.capacity, max_rows=settings.slots
        )
        if settings.slots > self._runner.max_rows:
            raise ValueError(
                f"a batch of {settings.slots}: a step takes at most {self._runner.max_rows} rows"
            )
        for name, seconds in self._runner.loading_s.items():
            stages.give(name, seconds)
        self.versions = imports(settings)
        self.device = self._runner.device
        self._greedy = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=0)
        self._lengths: list[int] = []
        self._last: list[int] = []

    def prefill(self, prompts: list[list[int]], room: int) -> None:
        """One prompt after the other, as the scheduler does."""
        self._lengths, self._last = [], []
        for slot, prompt in enumerate(prompts):
            sampled = self._runner.prefill(slot, prompt, 0, self._greedy, _nothing)
            assert sampled is not None
            self._lengths.append(len(prompt))
            self._last.append(sampled.id)

    def decode(self, tokens: int, limit_s: float) -> int:
        """All rows in every step; a step's tokens are read while the next ones run, where the runner allows it."""
        from runtime_svc.decoding.runner import Row

        until_s, made = perf_counter() + limit_s, 0
        running: deque[Pending] = deque()
        while made < tokens and perf_counter() < until_s:
            rows = [
                Row(
                    slot=slot,
                    position=length,
                    token=None if running else self._last[slot],
                    draw=made + 1,
                    params=self._greedy,
                )
                for slot, length in enumerate(self._lengths)
            ]
            running.append(self._runner.launch(rows))
            self._lengths = [length + 1 for length in self._lengths]
            made += 1
            if len(running) > self._runner.ahead:
                self._read(running)
        while running:
            self._read(running)
        return made

    def floors(self) -> dict[str, float]:
        """The floors of the device that the backend computes on."""
        from runtime_svc.bench import floors

        if self._runner.backend == "cupy":
            return {"copy_bytes_per_s": floors.device_copy()}
        return floors.host(self._runner.config)

    def _read(self, running: deque[Pending]) -> None:
        tokens = running.popleft().wait()
        if None in tokens:
            from runtime_svc.errors import logits_not_finite

            raise logits_not_finite()
        self._last = [token.id for token in tokens if token is not None]


def _nothing() -> None:
    """Nobody stops a bench's prefill."""


if __name__ == "__main__":
    raise SystemExit(serve(imports, Treni))

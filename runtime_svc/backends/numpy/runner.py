"""The runner over the NumPy decoder: a KV slot is a `Cache`, and rows are computed one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from runtime_svc.backends.numpy.decoder import Decoder
from runtime_svc.backends.numpy.ops import NumpyOps
from runtime_svc.backends.numpy.weights import read_weights
from runtime_svc.decoding.runner import Pending, Row
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.ops import Allowed, Array, Sampled, SamplingParams
from runtime_svc.weights.checkpoint import Checkpoint
from treni.errors import TreniError


class _Done:
    """A step that was computed when it was launched."""

    __slots__ = ("tokens",)

    def __init__(self, tokens: list[Sampled | None]) -> None:
        self.tokens = tokens

    def wait(self) -> list[Sampled | None]:
        return self.tokens


class NumpyRunner:
    """Implements `runtime_svc.decoding.runner.Runner` on the CPU.

    Every row is a decode step of its own, whatever rows come with it, so a sequence's bits never depend on other
    sequences. `ahead` is 0, since a launch computes at once. A slot's memory grows with what it holds.
    """

    ahead = 0

    def __init__(
        self,
        decoder: Decoder,
        *,
        slots: int,
        capacity: int,
        max_rows: int,
        loading_s: Mapping[str, float] | None = None,
    ) -> None:
        self.decoder = decoder
        self.capacity = min(capacity, decoder.config.context_length)
        self.max_rows = max_rows
        self.parameters = decoder.weights.parameters
        self.stored_dtype = decoder.weights.stored_dtype
        self.loading_s: Mapping[str, float] = {} if loading_s is None else loading_s
        self.sampling_s = 0.0
        self._caches = [decoder.new_cache() for _ in range(slots)]

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, slots: int, capacity: int, max_rows: int) -> NumpyRunner:
        """The runner for a checkpoint. Raises `TreniError` naming file and tensor when it is damaged."""
        before_s = time.perf_counter()
        decoder = Decoder(checkpoint.config, read_weights(checkpoint), NumpyOps())
        loading_s = {"weights": time.perf_counter() - before_s}
        return cls(decoder, slots=slots, capacity=capacity, max_rows=max_rows, loading_s=loading_s)

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.decoder.config

    @property
    def backend(self) -> str:
        """The name of this backend, "numpy"."""
        return self.decoder.ops.backend

    @property
    def device(self) -> str:
        """The processor's architecture."""
        return self.decoder.ops.device

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return len(self._caches)

    @property
    def nbytes(self) -> int:
        """Bytes that all slots hold, used or not."""
        return sum(cache.nbytes for cache in self._caches)

    def prefill(
        self,
        slot: int,
        tokens: Sequence[int],
        start: int,
        params: SamplingParams | None,
        check: Callable[[], None],
        *,
        allowed: Allowed | None = None,
        top: int = 0,
    ) -> Sampled | None:
        """Prefills as `Runner` says, in chunks of `decoder.CHUNK` from `start` on."""
        cache = self._caches[slot]
        cache.truncate(start)
        if params is None:
            self.decoder.append(tokens, cache, check=check)
            return None
        return self._sample(self.decoder.forward(tokens, cache, check=check), params, 0, allowed, top)

    def launch(self, rows: Sequence[Row]) -> Pending:
        """Computes the step, one row after the other."""
        return _Done([self._step(row) for row in rows])

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copies the KV of positions 0..length."""
        self._caches[target].copy_from(self._caches[source], length)

    def prepare(self) -> bool:
        """There is nothing to do."""
        return False

    def _step(self, row: Row) -> Sampled | None:
        assert row.token is not None  # nothing is ever launched ahead here
        cache = self._caches[row.slot]
        cache.truncate(row.position)
        logits = self.decoder.forward((row.token,), cache)
        try:
            return self._sample(logits, row.params, row.draw, row.allowed, row.top)
        except TreniError as error:
            if error.kind != "logits_not_finite":
                raise
            return None

    def _sample(
        self, logits: Array, params: SamplingParams, draw: int, allowed: Allowed | None, top: int
    ) -> Sampled:
        before_s = time.perf_counter()
        token = self.decoder.ops.sample(logits, params, draw, allowed=allowed, top=top)
        self.sampling_s += time.perf_counter() - before_s
        return token

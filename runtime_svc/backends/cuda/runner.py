"""The runner on a GPU: prefill by products and fused kernels, decode by one kernel a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Protocol

from runtime_svc.backends.cuda import context, weights
from runtime_svc.backends.cuda.cache import KvCache
from runtime_svc.backends.cuda.decode import Decode, variants
from runtime_svc.backends.cuda.decode_layout import SAMPLE_SHARED_BYTES, SHARED_BYTES, DecodeShape
from runtime_svc.backends.cuda.device import CudaDevice, Device
from runtime_svc.backends.cuda.prefill import Prefill
from runtime_svc.backends.cuda.weights import DeviceWeights
from runtime_svc.decoding.runner import Pending, Row
from runtime_svc.errors import logits_not_finite
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.models.rope import turns
from runtime_svc.ops import Allowed, Sampled, SamplingParams
from runtime_svc.weights.checkpoint import Checkpoint
from treni.errors import Code, TreniError

_FILES = ("prefill", "product", "attention", "attention_128", "head")


class Steps(Protocol):
    """Decode steps over slots and a table of rotations: `cuda.decode.Decode`."""

    def launch(self, rows: Sequence[Row]) -> Pending:
        """Starts one step."""

    def draw(self, row: Row, logits: int, result: int) -> None:
        """Starts the drawing of one row's token from other logits."""

    def likely(self, row: Row) -> list[tuple[int, float]]:
        """What the last `draw` found most likely, with the logits."""


class CudaRunner:
    """Implements `runtime_svc.decoding.runner.Runner` on one GPU. Not thread-safe; close it to give the memory back.

    The same prompt gives the same bits whatever else runs. A prompt continued from a prefix, or cut into other
    chunks, is computed in other groupings and differs in the last bits.
    """

    backend = "cupy"
    ahead = 1
    max_rows = 8
    sampling_s = 0.0

    def __init__(
        self,
        device: Device,
        name: str,
        config: ModelConfig,
        loaded: DeviceWeights,
        *,
        slots: int,
        capacity: int,
        steps: Callable[[KvCache, int], Steps],
    ) -> None:
        self.config = config
        self.device = name
        self.parameters = loaded.parameters
        self.stored_dtype = loaded.stored_dtype
        self.slots = slots
        self.capacity = min(capacity, config.context_length)
        self.loading_s: Mapping[str, float] = {}
        self._device = device
        cache = KvCache.allocate(device, config, slots=slots, capacity=self.capacity)
        table = turns(config.inverse_frequencies, config.rope_attention_scale, self.capacity)
        turned = device.allocate(table.nbytes)
        device.upload(turned, table)
        self._prefill = Prefill(device, config, loaded, cache, turned, rows=self.capacity)
        self._steps = steps(cache, turned)

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, slots: int, capacity: int) -> CudaRunner:
        """The runner for a checkpoint.

        Raises `TreniError`: FAILED_PRECONDITION "backend_unavailable" without a usable GPU, or naming file and
        tensor when the checkpoint is damaged; RESOURCE_EXHAUSTED when weights and slots do not fit.
        """
        marks = [time.perf_counter()]
        context.begin()
        device, config = CudaDevice(), checkpoint.config
        shape = DecodeShape.of(config)
        # Kernels, which take as long as a small model's weights, while those are read and copied.
        with ThreadPoolExecutor(1, "kernels") as pool:
            kernels = pool.submit(_prepare, device, shape)
            marks.append(time.perf_counter())
            loaded = weights.load(checkpoint, device)
            marks.append(time.perf_counter())
            kernels.result()
        steps = partial(Decode, device, config, loaded)
        runner = cls(device, device.name, config, loaded, slots=slots, capacity=capacity, steps=steps)
        device.synchronize()
        marks.append(time.perf_counter())
        context_s, upload_s, rest_s = (after - before for before, after in pairwise(marks))
        # Passes are recorded when the engine is idle, or a size comes up for the second time; not here.
        runner.loading_s = {"upload": upload_s, "kernels": context_s + rest_s}
        return runner

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
        """Prefills as `Runner` says, in passes of at most `prefill.CHUNK` tokens."""
        self._check_room(len(tokens), start)
        rows = self._prefill.rows
        for first in range(0, len(tokens), rows):
            check()
            part = tokens[first : first + rows]
            last = first + rows >= len(tokens) and params is not None
            self._prefill.run(slot, part, start + first, logits=last)
        if params is None:
            return None
        likely: list[tuple[int, float]] = []
        if params.temperature > 0 or allowed is not None or top:
            position = start + len(tokens) - 1
            row = Row(
                slot=slot,
                position=position,
                token=tokens[-1],
                draw=0,
                params=params,
                allowed=allowed,
                top=top,
            )
            self._steps.draw(row, self._prefill.logits, self._prefill.result)
            likely = self._steps.likely(row)
        token = self._prefill.drawn().sampled(likely)
        if token is None:
            raise logits_not_finite()
        return token

    def launch(self, rows: Sequence[Row]) -> Pending:
        """Starts one decode step."""
        return self._steps.launch(rows)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copies the KV of positions 0..length."""
        self._prefill.copy_prefix(source, target, length)

    def prepare(self) -> bool:
        """Records the passes of one size of prompt."""
        return self._prefill.record_next()

    def _check_room(self, count: int, start: int) -> None:
        if not 1 <= count <= self.capacity - start:
            raise TreniError(
                Code.INTERNAL,
                "slot_overrun",
                expected=f"1 to {self.capacity - start} tokens after {start} in a slot of {self.capacity}",
                got=f"{count}",
                todo="report it: the scheduler must not ask for this",
            )


def _prepare(device: CudaDevice, shape: DecodeShape) -> None:
    device.use()
    for file in _FILES:
        device.load(file)
    for defines in variants(shape):
        device.function("decode", "decode_step", SHARED_BYTES, defines)
    for kernel in ("sample_rows", "hold_rows", "likely_rows"):
        device.function("sample", kernel, SAMPLE_SHARED_BYTES)

"""Decode steps on the device: one launch a step for up to `MAX_ROWS` rows, ahead of the host if wanted."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime_svc.backends.cuda.cache import KvCache
from runtime_svc.backends.cuda.decode_layout import (
    LIKELY_BYTES,
    MAX_ROWS,
    SAMPLE_SHARED_BYTES,
    SAMPLE_THREADS,
    SHARED_BYTES,
    THREADS,
    DecodeShape,
    LayerPointers,
    RowResult,
    StepArguments,
    likely_of,
    next_launch,
    row_controls,
)
from runtime_svc.backends.cuda.device import Defines, Device
from runtime_svc.backends.cuda.layout import Layout
from runtime_svc.backends.cuda.weights import DeviceWeights
from runtime_svc.decoding.runner import Row
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.ops import Sampled
from treni.errors import Code, TreniError

IN_FLIGHT = 4
"""Launched steps whose results may be unread at once."""


def variants(shape: DecodeShape, defines: Defines = ()) -> tuple[Defines, Defines]:
    """The macros of the step for one row, and of that for several; `defines` are more, see `decode_shape.cuh`."""
    macros = {**shape.defines, **dict(defines)}
    single, several = (tuple(sorted({**macros, "SINGLE": n}.items())) for n in (1, 0))
    return single, several


class Decode:
    """The decode kernels of one model, with their buffers. The device does the work in order.

    `turned` is the address of the rotation table (capacity, head_dim / 2, 2) float32; `defines` as for
    `variants`. Raises `TreniError`: FAILED_PRECONDITION for a shape that the kernel does not cover,
    RESOURCE_EXHAUSTED when the device is full.
    """

    def __init__(
        self,
        device: Device,
        config: ModelConfig,
        loaded: DeviceWeights,
        cache: KvCache,
        turned: int,
        *,
        defines: Defines = (),
    ) -> None:
        self._shape = shape = DecodeShape.of(config)
        self._device, self._config, self._cache = device, config, cache
        self._single, self._several = variants(shape, defines)
        words = shape.exchange_words(device.multiprocessors)
        self._results = device.allocate(MAX_ROWS * ctypes.sizeof(RowResult))
        self._arguments = StepArguments(
            layers=_layer_table(device, loaded),
            embedding=loaded.address + loaded.layout.embedding,
            head=loaded.address + loaded.layout.head,
            final_gain=loaded.address + loaded.layout.final_gain,
            rope=turned,
            cache=cache.address,
            exchange=device.allocate(8 * words),
            logits=device.allocate(MAX_ROWS * config.vocabulary * 4),
            last_token=device.allocate(cache.slots * 4),
            results=self._results,
            layer_count=config.layers,
            vocabulary=config.vocabulary,
            capacity=cache.capacity,
            slots=cache.slots,
            eps=config.norm_eps,
            whole=shape.whole_tiles(config.vocabulary, device.multiprocessors),
        )
        self._likely = device.allocate(MAX_ROWS * LIKELY_BYTES)
        self._words = -(-config.vocabulary // 32)
        self._allowed = device.allocate(MAX_ROWS * self._words * 4)
        self._landings = [_Landing(device, self._words) for _ in range(IN_FLIGHT)]
        self._alone = device.host(MAX_ROWS * self._words * 4)
        self._found = device.host(LIKELY_BYTES)
        self._launched = 0

    @property
    def logits(self) -> int:
        """The address of the last step's logits, (MAX_ROWS, vocabulary) float32."""
        address: int = self._arguments.logits
        return address

    def launch(self, rows: Sequence[Row]) -> Landed:
        """Starts one step over 1 to `MAX_ROWS` rows of different slots, and the copy of its results to the host.

        Raises INVALID_ARGUMENT for rows that the device must not see, FAILED_PRECONDITION when `IN_FLIGHT` steps'
        results are unread.
        """
        self._check(rows)
        landing = self._landings[self._launched % IN_FLIGHT]
        if not landing.free:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "steps_unread",
                expected=f"at most {IN_FLIGHT} steps in flight",
                got="one more",
                todo="wait for the oldest step first",
            )
        self._launched += 1
        arguments = self._arguments
        device = self._device
        if next_launch(arguments, len(rows)):
            device.zero(arguments.exchange, 8 * self._shape.phased_words)
        arguments.row = row_controls(self._shape, rows, device.multiprocessors)
        device.launch(
            *("decode", "decode_step", (device.multiprocessors, 1, 1), THREADS, [arguments], SHARED_BYTES),
            together=True,
            defines=self._single if len(rows) == 1 else self._several,
        )
        self._choose(arguments, rows, landing.allowed)
        likely = self._likely if any(row.top for row in rows) else None
        tops = [min(row.top, self._config.vocabulary) for row in rows]
        return landing.take(self._results, likely, tops)

    def draw(self, row: Row, logits: int, result: int) -> None:
        """Draws for one row from (vocabulary,) float32 `logits` that somebody else computed.

        `result` is their `RowResult`, complete for the most likely token; the drawn one takes its place.
        """
        arguments = StepArguments.from_buffer_copy(self._arguments)
        arguments.logits, arguments.results, arguments.rows = logits, result, 1
        arguments.row = row_controls(self._shape, [row], self._device.multiprocessors)
        self._device.wait_sent()
        self._choose(arguments, [row], self._alone)

    def likely(self, row: Row) -> list[tuple[int, float]]:
        """The most likely tokens with their logits that the last `draw` found for its row; waits for the device."""
        if not row.top:
            return []
        self._device.download(self._likely, self._found)
        return likely_of(self._found.tobytes(), min(row.top, self._config.vocabulary))

    def _choose(
        self, arguments: StepArguments, rows: Sequence[Row], allowed: np.ndarray[Any, np.dtype[np.uint8]]
    ) -> None:
        """Puts the tokens that are not the most likely ones into the results, and finds those that rows tell.

        `allowed` is host memory for the words of all rows, from which nothing is being copied.
        """
        if any(row.top for row in rows):
            self._sample("likely_rows", arguments, self._likely)
        held = [(index, row.allowed) for index, row in enumerate(rows) if row.allowed is not None]
        if held:
            words = allowed.view(np.uint32).reshape(MAX_ROWS, self._words)
            for index, row_words in held:
                words[index] = row_words
            self._device.send(self._allowed, words[: held[-1][0] + 1])
            self._sample("hold_rows", arguments, self._allowed)
        if any(row.params.temperature > 0 for row in rows):
            self._sample("sample_rows", arguments)

    def _sample(self, kernel: str, arguments: StepArguments, *more: int) -> None:
        blocks = (arguments.rows, 1, 1)
        self._device.launch("sample", kernel, blocks, SAMPLE_THREADS, [arguments, *more], SAMPLE_SHARED_BYTES)

    def _check(self, rows: Sequence[Row]) -> None:
        slots = {row.slot for row in rows}
        fine = 1 <= len(rows) <= MAX_ROWS and len(slots) == len(rows)
        for row in rows:
            fine = fine and 0 <= row.slot < self._cache.slots and 0 <= row.position < self._cache.capacity
            fine = fine and (row.token is None or 0 <= row.token < self._config.vocabulary)
        if not fine:
            raise TreniError(
                Code.INVALID_ARGUMENT,
                "rows_invalid",
                expected=f"1 to {MAX_ROWS} rows of different slots under {self._cache.slots}, positions under"
                f" {self._cache.capacity}, tokens under {self._config.vocabulary}",
                got=f"{list(rows)}",
                todo="fix the scheduler",
            )


class Landed:
    """A launched step; implements `runtime_svc.decoding.runner.Pending`."""

    def __init__(self, landing: _Landing, tops: list[int]) -> None:
        self._landing, self._tops = landing, tops
        self._tokens: list[Sampled | None] | None = None

    def wait(self) -> list[Sampled | None]:
        """The drawn tokens; blocks until the device has them. See `Pending`."""
        if self._tokens is None:
            self._tokens = self._landing.read(self._tops)
        return self._tokens


class _Landing:
    """Where one step's results arrive on the host, and `allowed`, from which its rows' words are copied before."""

    def __init__(self, device: Device, words: int) -> None:
        self._arrival = device.landing(MAX_ROWS * ctypes.sizeof(RowResult))
        self._likely = device.landing(MAX_ROWS * LIKELY_BYTES)
        self.allowed = device.host(MAX_ROWS * words * 4)
        self.free = True

    def take(self, results: int, likely: int | None, tops: list[int]) -> Landed:
        self.free = False
        if likely is not None:
            self._likely.start(likely, len(tops) * LIKELY_BYTES)
        self._arrival.start(results, len(tops) * ctypes.sizeof(RowResult))
        return Landed(self, tops)

    def read(self, tops: list[int]) -> list[Sampled | None]:
        if any(tops):
            self._likely.wait()
        self._arrival.wait()
        self.free = True
        found = (RowResult * len(tops)).from_buffer_copy(self._arrival.host.tobytes())
        return [
            result.sampled(self._told(index, top) if top and result.finite else ())
            for index, (result, top) in enumerate(zip(found, tops, strict=True))
        ]

    def _told(self, row: int, count: int) -> list[tuple[int, float]]:
        at = row * LIKELY_BYTES
        return likely_of(self._likely.host[at : at + LIKELY_BYTES].tobytes(), count)


def _layer_table(device: Device, loaded: DeviceWeights) -> int:
    layout: Layout = loaded.layout
    table = (LayerPointers * len(layout.layers))()

    def address(offset: int | None) -> int:
        return 0 if offset is None else loaded.address + offset

    for pointers, places in zip(table, layout.layers, strict=True):
        pointers.qkv, pointers.output = address(places.qkv), address(places.o)
        pointers.gate_up, pointers.down = address(places.gate_up), address(places.down)
        pointers.attention_gain, pointers.ffn_gain = address(places.attention_gain), address(places.ffn_gain)
        pointers.qkv_bias = address(places.qkv_bias)
        pointers.q_gain, pointers.k_gain = address(places.query_gain), address(places.key_gain)
    values = np.frombuffer(bytes(table), np.uint8)
    placed = device.allocate(values.nbytes)
    device.upload(placed, values)
    return placed

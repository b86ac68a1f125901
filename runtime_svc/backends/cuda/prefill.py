"""A prompt through the decoder on a device, in passes over up to `CHUNK` rows."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from copy import copy
from functools import partial

import numpy as np

from runtime_svc.backends.cuda.cache import KvCache
from runtime_svc.backends.cuda.decode_layout import RowResult
from runtime_svc.backends.cuda.device import Device, Repeated
from runtime_svc.backends.cuda.ops import CudaOps
from runtime_svc.backends.cuda.product import ROWS
from runtime_svc.backends.cuda.weights import DeviceWeights
from runtime_svc.models.architecture import ModelConfig

BUCKETS = (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""Rows that a pass is launched and recorded for; a pass of fewer takes the next larger one."""

CHUNK = BUCKETS[-1]

_CONTROL = 4
"""Numbers before the tokens: see `kernels/control.cuh`."""


class Prefill:
    """The passes of one model over its KV slots.

    `logits` is the address of (vocabulary,) float32, `result` of what the device found in them.

    The work of each bucket is the same sequence of launches whatever the tokens, their place and slot: the device
    records it at its second use, or when `record_next` comes to it. Buffers for `rows` rows, at most `CHUNK`, are taken
    at the start.
    """

    def __init__(
        self,
        device: Device,
        config: ModelConfig,
        weights: DeviceWeights,
        cache: KvCache,
        turns: int,
        *,
        rows: int = CHUNK,
    ) -> None:
        self._device = device
        self._config = config
        self._weights = weights
        self._cache = cache
        self._turns = turns
        self._ops = CudaOps(device, config, cache)
        self.rows = min(rows, CHUNK)
        self._passes = self._all_passes()
        self._unrecorded = list(self._passes.values())
        c = config
        room = -(-self.rows // ROWS) * ROWS  # products read whole tiles
        self._x = device.allocate(room * c.hidden * 4)
        self._normed = device.allocate(room * c.hidden * 2)
        self._queries = device.allocate(room * c.heads * c.head_dim * 2)
        self._attended = device.allocate(room * c.heads * c.head_dim * 2)
        self._gated = device.allocate(room * c.ffn * 2)
        self._parts = device.allocate(max(self._ops.parts_size(min(b, self.rows)) for b in BUCKETS))
        self.logits = device.allocate(c.vocabulary * 4)
        self.result = device.allocate(ctypes.sizeof(RowResult))
        self._tally = device.allocate(self._ops.tally_size)
        self._landing = device.host(ctypes.sizeof(RowResult))
        self.control = device.allocate((_CONTROL + self.rows) * 4)
        self._sent = device.host((_CONTROL + self.rows) * 4).view(np.int32)

    def run(self, slot: int, tokens: Sequence[int], start: int, *, logits: bool) -> None:
        """One pass: 1..`rows` tokens into the slot from `start` on, and with `logits` those after the last.

        Returns before the device is done.
        """
        count = len(tokens)
        self._device.wait_sent()  # the device may still read the last pass's tokens
        self._sent[:_CONTROL] = (count, start, slot, 0)
        self._sent[_CONTROL : _CONTROL + count] = tokens
        self._device.send(self.control, self._sent[: _CONTROL + count])
        self._passes[next(b for b in BUCKETS if b >= count), logits].run()

    def record_next(self) -> bool:
        """Records one of the passes, those first that a prompt ends with; whether there are more."""
        if self._unrecorded:
            self._unrecorded.pop(0).record()
        return bool(self._unrecorded)

    def on(self, device: Device) -> Prefill:
        """The same passes, launched on another view of the same device."""
        other = copy(self)
        other._device = device
        other._ops = CudaOps(device, self._config, self._cache)
        other._passes = other._all_passes()
        other._unrecorded = list(other._passes.values())
        return other

    def _all_passes(self) -> dict[tuple[int, bool], Repeated]:
        """By bucket, and by whether there are logits in the end."""
        largest = next(b for b in BUCKETS if b >= self.rows)
        return {
            (bucket, logits): self._device.repeated(partial(self._work, min(bucket, self.rows), logits))
            for logits in (True, False)
            for bucket in BUCKETS
            if bucket <= largest
        }

    def _work(self, rows: int, logits: bool) -> None:
        ops, c, weights = self._ops, self._config, self._weights
        control, tokens = self.control, self.control + 4 * _CONTROL
        places, base = weights.layout, weights.address

        def at(offset: int | None) -> int | None:
            return None if offset is None else base + offset

        ops.embed(control, tokens, base + places.embedding, self._x, rows)
        owed = 0  # parts that are still to be added to the residual
        for index, layer in enumerate(places.layers):
            cached = self._cache.layer(index)
            ops.rms(control, self._x, self._parts, owed, base + layer.attention_gain, self._normed, rows)
            gains = (at(layer.qkv_bias), at(layer.query_gain), at(layer.key_gain))
            places_of = (self._turns, cached, self._queries, self._parts)
            ops.qkv(control, self._normed, base + layer.qkv, *gains, *places_of, rows)
            ops.attend(control, self._queries, cached, self._attended, rows)
            width = c.heads * c.head_dim
            owed = ops.project_residual(self._attended, base + layer.o, self._x, self._parts, rows, width)
            ops.rms(control, self._x, self._parts, owed, base + layer.ffn_gain, self._normed, rows)
            ops.gated(self._normed, base + layer.gate_up, self._gated, rows)
            owed = ops.project_residual(self._gated, base + layer.down, self._x, self._parts, rows, c.ffn)
        if logits:
            gain, weight = base + places.final_gain, base + places.head
            if owed > 0:
                ops.rms(control, self._x, self._parts, owed, gain, self._normed, rows)
            ops.lm_head(control, self._x, gain, weight, self.logits, self._tally, self.result)

    def drawn(self) -> RowResult:
        """The last pass's result: the most likely token, or what was drawn in its place. Waits for the device."""
        self._device.download(self.result, self._landing)
        return RowResult.from_buffer_copy(self._landing.tobytes())

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Keys and values of the first `length` positions of one slot to another."""
        self._ops.copy_prefix(source, target, length)

"""Runs a decoder: prompts in chunks, then token by token, over the ops it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from runtime_svc.backends.numpy.weights import Weights
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.models.rope import turns
from runtime_svc.ops import Array, Ops

CHUNK = 128
"""Tokens prefilled at once: keeps activations in a core's cache, and a cancellation from waiting long."""

_GROW = 256


def _nothing() -> None:
    pass


class Cache:
    """Keys and values of one sequence: `tokens` are the ids they belong to, in order.

    `keys[layer]` is (kv_heads, head_dim, capacity), `values[layer]` (kv_heads, capacity, head_dim): each the
    way round in which attention reads it row by row. Grows by doubling.
    """

    def __init__(self, config: ModelConfig, ops: Ops) -> None:
        self._config = config
        self._ops = ops
        self._capacity = 0
        self.tokens: list[int] = []
        self.keys: list[Array] = []
        self.values: list[Array] = []

    @property
    def nbytes(self) -> int:
        """Bytes held on the device, used or not."""
        c = self._config
        return c.layers * 2 * c.kv_heads * self._capacity * c.head_dim * 4

    def truncate(self, length: int) -> None:
        """Forgets what comes after the first `length` tokens."""
        del self.tokens[length:]

    def copy_from(self, other: Cache, length: int) -> None:
        """Holds the other's first `length` tokens, with their keys and values, and nothing else."""
        self.truncate(0)
        self.reserve(length)
        for mine, theirs in zip(self.keys, other.keys, strict=True):
            mine[:, :, :length] = theirs[:, :, :length]
        for mine, theirs in zip(self.values, other.values, strict=True):
            mine[:, :length] = theirs[:, :length]
        self.tokens.extend(other.tokens[:length])

    def reserve(self, length: int) -> None:
        """Makes room for `length` tokens, keeping those that are there."""
        if length <= self._capacity:
            return
        c, used = self._config, len(self.tokens)
        wanted = max(2 * self._capacity, -(-length // _GROW) * _GROW)
        capacity = min(wanted, max(c.context_length, length))
        keys = [self._ops.empty((c.kv_heads, c.head_dim, capacity)) for _ in range(c.layers)]
        values = [self._ops.empty((c.kv_heads, capacity, c.head_dim)) for _ in range(c.layers)]
        if self._capacity > 0:
            for layer in range(c.layers):
                keys[layer][:, :, :used] = self.keys[layer][:, :, :used]
                values[layer][:, :used] = self.values[layer][:, :used]
        self.keys, self.values, self._capacity = keys, values, capacity


class Decoder:
    """A loaded model on one device. Not thread-safe: one workspace serves every call.

    Between calls it holds no state of a sequence; that is all in the `Cache`.
    """

    def __init__(self, config: ModelConfig, weights: Weights, ops: Ops) -> None:
        self.config = config
        self.ops = ops
        self.weights = weights
        self._rotations = turns(
            config.inverse_frequencies, config.rope_attention_scale, config.context_length
        )
        self._single = _Workspace(config, ops, 1)
        self._chunk: _Workspace | None = None

    def new_cache(self) -> Cache:
        """An empty cache for one sequence."""
        return Cache(self.config, self.ops)

    def forward(self, tokens: Sequence[int], cache: Cache, *, check: Callable[[], None] = _nothing) -> Array:
        """Appends `tokens` (at least one) to the cache; logits (vocabulary,) after the last one.

        `check` is called before every chunk of `CHUNK` tokens, and stops the work by raising: the cache then
        holds the chunks that were done. The logits are a view of the workspace: the next call overwrites it.
        """
        weights = self.weights
        for rows, work in self._chunks(tokens, cache, check):
            last = work.x[rows - 1 : rows]
        self.ops.lm_head(
            last, weights.final_gain, weights.head, self.config.norm_eps, work.normed[:1], work.logits
        )
        return work.logits[0]

    def append(self, tokens: Sequence[int], cache: Cache, *, check: Callable[[], None] = _nothing) -> None:
        """Runs tokens that others follow through the layers, as `forward` does, but without logits."""
        for _ in self._chunks(tokens, cache, check):
            pass

    def pooled(
        self, tokens: Sequence[int], cache: Cache, *, check: Callable[[], None] = _nothing
    ) -> npt.NDArray[np.float64]:
        """Appends `tokens` to the cache; the mean of their states after the final norm, (hidden,)."""
        total = np.zeros(self.config.hidden)
        for _, work in self._chunks(tokens, cache, check):
            self.ops.rms(work.x, self.weights.final_gain, self.config.norm_eps, work.normed)
            total += work.normed.sum(axis=0, dtype=np.float64)
        mean: npt.NDArray[np.float64] = total / len(tokens)
        return mean

    def _chunks(
        self, tokens: Sequence[int], cache: Cache, check: Callable[[], None]
    ) -> Iterator[tuple[int, _Workspace]]:
        for first in range(0, len(tokens), CHUNK):
            check()
            part = tokens[first : first + CHUNK]
            yield len(part), self._run(part, cache)

    def _run(self, tokens: Sequence[int], cache: Cache) -> _Workspace:
        ops, eps = self.ops, self.config.norm_eps
        start, rows = len(cache.tokens), len(tokens)
        cache.reserve(start + rows)
        work = self._workspace(rows)
        rotation = self._rotations[start : start + rows]
        ops.embed(np.asarray(tokens, np.int32), self.weights.embedding, work.x)
        for layer, keys, values in zip(self.weights.layers, cache.keys, cache.values, strict=True):
            ops.rms_qkv(work.x, layer.attention_gain, layer.qkv, layer.qkv_bias, eps, work.normed, work.qkv)
            ops.rope_kv_write(work.qkv, layer.qk_gain, eps, rotation, start, work.q, keys, values)
            ops.attend(work.q, keys, values, start, work.attended)
            ops.project_residual(work.attended, layer.o, work.normed, work.x)
            ops.rms_swiglu(work.x, layer.ffn_gain, layer.gate_up, eps, work.normed, work.both, work.gated)
            ops.project_residual(work.gated, layer.down, work.normed, work.x)
        cache.tokens.extend(tokens)
        return work

    def _workspace(self, rows: int) -> _Workspace:
        if rows == 1:
            return self._single
        if self._chunk is None:
            self._chunk = _Workspace(self.config, self.ops, CHUNK)
        return self._chunk.first(rows)


class _Workspace:
    """Every buffer of one pass over `rows` tokens."""

    def __init__(self, config: ModelConfig, ops: Ops, rows: int) -> None:
        c = config
        self._heads = (c.kv_heads, c.heads // c.kv_heads)
        self.x = ops.empty((rows, c.hidden))
        self.normed = ops.empty((rows, c.hidden))
        self.qkv = ops.empty((rows, c.qkv_width))
        self.q = ops.empty((*self._heads, rows, c.head_dim))
        self.attended = ops.empty((rows, c.heads * c.head_dim))
        self.both = ops.empty((rows, 2 * c.ffn))
        self.gated = ops.empty((rows, c.ffn))
        self.logits = ops.empty((1, c.vocabulary))

    def first(self, rows: int) -> _Workspace:
        """The same memory for `rows` rows, at most those it was made for; every view contiguous."""
        part = copy(self)
        for name in ("x", "normed", "qkv", "attended", "both", "gated"):
            setattr(part, name, getattr(self, name)[:rows])
        part.q = self.q.reshape(-1, self.q.shape[3])[: math.prod(self._heads) * rows].reshape(
            *self._heads, rows, -1
        )
        return part

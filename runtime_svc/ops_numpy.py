"""The reference backend: float32 NumPy on the CPU, one operation of the protocol after the other."""

from __future__ import annotations

import math
import platform

import numpy as np
import numpy.typing as npt

from runtime_svc import sampler
from runtime_svc.ops import Sampled, SamplingParams

Floats = npt.NDArray[np.float32]

_QUERY_ROWS = 128
"""Queries attended to at once: bounds the score matrix, and skips most of what causality masks out."""


class NumpyOps:
    """Implements `runtime_svc.ops.Ops`; see there for shapes and formulas."""

    backend = "numpy"

    @property
    def device(self) -> str:
        """The processor's architecture, such as "cpu x86_64"."""
        return f"cpu {platform.machine()}"

    def upload(self, values: Floats) -> Floats:
        """The same array: host and device are one."""
        return values

    def empty(self, shape: tuple[int, ...]) -> Floats:
        """An uninitialised float32 array."""
        return np.empty(shape, np.float32)

    def download(self, values: Floats) -> Floats:
        """A copy."""
        return values.copy()

    def embed(self, tokens: npt.NDArray[np.int32], table: Floats, out: Floats) -> None:
        """Rows of the table."""
        np.take(table, tokens, axis=0, out=out)

    def rms(self, x: Floats, gain: Floats, eps: float, out: Floats) -> None:
        """Over the last axis."""
        _rms(x, gain, eps, out)

    def rms_qkv(
        self,
        x: Floats,
        gain: Floats,
        weight: Floats,
        bias: Floats | None,
        eps: float,
        normed: Floats,
        out: Floats,
    ) -> None:
        """Norm, then one product for queries, keys and values."""
        _rms(x, gain, eps, normed)
        np.matmul(normed, weight, out=out)
        if bias is not None:
            out += bias

    def rope_kv_write(
        self,
        qkv: Floats,
        gain: Floats | None,
        eps: float,
        rotation: Floats,
        start: int,
        q: Floats,
        kv: Floats,
    ) -> None:
        """A head in rotary order is D / 2 complex numbers, and a rotation one complex product."""
        kv_heads, group, rows, dim = q.shape
        heads = kv_heads * group
        by_head = qkv.reshape(rows, heads + 2 * kv_heads, dim)
        queries_keys = by_head[:, : heads + kv_heads]
        if gain is not None:
            _rms(queries_keys, gain, eps, queries_keys)
        turned = queries_keys.view(np.complex64)
        turned *= rotation.view(np.complex64)[:, None, :]
        q[...] = queries_keys[:, :heads].reshape(rows, kv_heads, group, dim).transpose(1, 2, 0, 3)
        # Keys and values lie side by side, so that one copy writes both.
        written = by_head[:, heads:].reshape(rows, 2, kv_heads, dim)
        kv[:, :, start : start + rows] = written.transpose(1, 2, 0, 3)

    def attend(self, q: Floats, kv: Floats, start: int, out: Floats) -> None:
        """Softmax of scaled products, a block of queries at a time."""
        kv_heads, group, rows, dim = q.shape
        if rows == 1:
            mixed = _attention(q.reshape(kv_heads, group, dim), kv[:, :, : start + 1], None)
            out[...] = mixed.reshape(1, -1)
            return
        by_head = out.reshape(rows, kv_heads, group, dim)
        for first in range(0, rows, _QUERY_ROWS):
            last = min(first + _QUERY_ROWS, rows)
            block = np.ascontiguousarray(q[:, :, first:last]).reshape(kv_heads, -1, dim)
            keys = start + last
            hidden = np.arange(keys) > np.arange(start + first, keys)[:, None]
            mixed = _attention(block, kv[:, :, :keys], np.tile(hidden, (group, 1)))
            by_head[first:last] = mixed.reshape(kv_heads, group, -1, dim).transpose(2, 0, 1, 3)

    def project_residual(self, x: Floats, weight: Floats, projected: Floats, residual: Floats) -> None:
        """One product, added."""
        np.matmul(x, weight, out=projected)
        residual += projected

    def rms_swiglu(
        self, x: Floats, gain: Floats, weight: Floats, eps: float, normed: Floats, both: Floats, out: Floats
    ) -> None:
        """silu(g) u = g u / (1 + exp(-g)). exp overflows to infinity for g < -88, where the limit, 0, is meant."""
        _rms(x, gain, eps, normed)
        np.matmul(normed, weight, out=both)
        width = out.shape[1]
        gate, up = both[:, :width], both[:, width:]
        np.negative(gate, out=out)
        np.exp(out, out=out)
        out += 1.0
        np.divide(gate, out, out=out)
        out *= up

    def lm_head(
        self, x: Floats, gain: Floats, weight: Floats, eps: float, normed: Floats, out: Floats
    ) -> None:
        """Final norm and logits."""
        _rms(x, gain, eps, normed)
        np.matmul(normed, weight, out=out)

    def sample(self, logits: Floats, params: SamplingParams, step: int) -> Sampled:
        """See `runtime_svc.sampler`."""
        return sampler.sample(logits, params, step)


def _rms(x: Floats, gain: Floats, eps: float, out: Floats) -> None:
    """Root-mean-square norm over the last axis; `out` may be `x`."""
    scale = np.vecdot(x, x)
    scale *= 1.0 / x.shape[-1]
    scale += eps
    np.sqrt(scale, out=scale)
    np.divide(x, scale[..., None], out=out)
    out *= gain


def _attention(q: Floats, kv: Floats, hidden: npt.NDArray[np.bool_] | None) -> Floats:
    """softmax(q k^T / sqrt(D)) v for q (K, R, D) over kv (2, K, N, D), without the `hidden` (R, N) pairs."""
    keys, values = kv
    scores: Floats = np.matmul(q, keys.swapaxes(1, 2))
    scores *= 1.0 / math.sqrt(q.shape[2])
    if hidden is not None:
        np.copyto(scores, -np.inf, where=hidden)
    scores -= scores.max(axis=2, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=2, keepdims=True)
    mixed: Floats = np.matmul(scores, values)
    return mixed

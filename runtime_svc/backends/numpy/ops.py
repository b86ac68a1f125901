"""The reference backend: float32 NumPy on the CPU, one operation of the protocol after the other."""

from __future__ import annotations

import math
import platform

import numpy as np
import numpy.typing as npt

from runtime_svc.backends.numpy import sampler
from runtime_svc.ops import Allowed, Sampled, SamplingParams

Floats = npt.NDArray[np.float32]


class NumpyOps:
    """Implements `runtime_svc.ops.Ops`; see there for shapes and formulas."""

    backend = "numpy"

    @property
    def device(self) -> str:
        """The processor's architecture, such as "cpu x86_64"."""
        return f"cpu {platform.machine()}"

    def empty(self, shape: tuple[int, ...]) -> Floats:
        """An uninitialised float32 array."""
        return np.empty(shape, np.float32)

    def embed(self, tokens: npt.NDArray[np.int32], table: Floats, out: Floats) -> None:
        """Rows of the table."""
        # Ids come from the tokenizer and the sampler. The default mode would copy `out` to be able to raise.
        np.take(table, tokens, axis=0, out=out, mode="clip")

    def rms(self, x: Floats, gain: Floats, eps: float, out: Floats) -> None:
        """Normalises by the root of the mean square over the last axis."""
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
        keys: Floats,
        values: Floats,
    ) -> None:
        """A head in rotary order is D / 2 complex numbers, and a rotation one complex product."""
        kv_heads, group, rows, dim = q.shape
        heads = kv_heads * group
        by_head = qkv.reshape(rows, heads + 2 * kv_heads, dim)
        rotated = by_head[:, : heads + kv_heads]
        if gain is not None:
            _rms(rotated, gain, eps, rotated)
        turned = rotated.view(np.complex64)
        np.multiply(turned, rotation.view(np.complex64)[:, None], out=turned)
        queries = rotated[:, :heads].reshape(rows, kv_heads, group, dim)
        np.multiply(queries.transpose(1, 2, 0, 3), 1.0 / math.sqrt(dim), out=q)
        keys[:, :, start : start + rows] = rotated[:, heads:].transpose(1, 2, 0)
        values[:, start : start + rows] = by_head[:, heads + kv_heads :].transpose(1, 0, 2)

    def attend(self, q: Floats, keys: Floats, values: Floats, start: int, out: Floats) -> None:
        """softmax(q k^T) v, with the division by the softmax's sum left to the end, where it is smallest."""
        kv_heads, group, rows, dim = q.shape
        end = start + rows
        scores = np.matmul(q.reshape(kv_heads, group * rows, dim), keys[:, :, :end])
        if rows > 1:
            # Query i of these rows must not see the keys of rows i + 1 and on; all keys before `start` it may.
            among_rows = scores.reshape(kv_heads, group, rows, end)[..., start:]
            np.copyto(among_rows, -np.inf, where=np.tri(rows, rows, -1, bool).T)
        scores -= np.maximum.reduce(scores, axis=2, keepdims=True)
        np.exp(scores, out=scores)
        mixed = np.matmul(scores, values[:, :end])
        mixed /= np.add.reduce(scores, axis=2, keepdims=True)
        by_head = mixed.reshape(kv_heads, group, rows, dim).transpose(2, 0, 1, 3)
        out.reshape(rows, kv_heads, group, dim)[...] = by_head

    def project_residual(self, x: Floats, weight: Floats, projected: Floats, residual: Floats) -> None:
        """One product, added."""
        np.matmul(x, weight, out=projected)
        residual += projected

    def rms_swiglu(
        self, x: Floats, gain: Floats, weight: Floats, eps: float, normed: Floats, both: Floats, out: Floats
    ) -> None:
        """silu(g) u = g / 2 (1 + tanh(g / 2)) u, which overflows nowhere."""
        _rms(x, gain, eps, normed)
        np.matmul(normed, weight, out=both)
        width = out.shape[1]
        gate, up = both[:, :width], both[:, width:]
        gate *= 0.5
        np.tanh(gate, out=out)
        out += 1.0
        out *= gate
        out *= up

    def lm_head(
        self, x: Floats, gain: Floats, weight: Floats, eps: float, normed: Floats, out: Floats
    ) -> None:
        """Final norm and logits."""
        _rms(x, gain, eps, normed)
        np.matmul(normed, weight, out=out)

    def sample(
        self,
        logits: Floats,
        params: SamplingParams,
        step: int,
        *,
        allowed: Allowed | None = None,
        top: int = 0,
    ) -> Sampled:
        """Draws a token as `sampler.sample` does."""
        return sampler.sample(logits, params, step, allowed=allowed, top=top)


def _rms(x: Floats, gain: Floats, eps: float, out: Floats) -> None:
    """Root-mean-square norm over the last axis; `out` may be `x`."""
    width = x.shape[-1]
    if x.size == width:
        # The same for one row, in half the time: most of a decode step's norms are this.
        np.multiply(x, 1.0 / math.sqrt(np.vdot(x, x) / width + eps), out=out)
    else:
        scale = np.vecdot(x, x)
        scale *= 1.0 / width
        scale += eps
        np.sqrt(scale, out=scale)
        np.divide(x, scale[..., None], out=out)
    out *= gain

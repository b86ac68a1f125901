"""The encoder's forward pass in float32 NumPy (Devlin et al. 2019, arXiv:1810.04805), over padded batches."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from runtime_svc.encoder.checkpoint import Dense, EncoderConfig, EncoderLayer, EncoderWeights, Norm

Floats = npt.NDArray[np.float32]


class Bert:
    """A loaded encoder. Holds no state between calls, and is safe to call from several threads."""

    def __init__(self, config: EncoderConfig, weights: EncoderWeights) -> None:
        self.config = config
        self._weights = weights

    def states(self, ids: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]) -> Floats:
        """Last hidden states (B, T, hidden) of `ids` (B, T); `mask` (B, T) is False where a row is padding.

        States at padding are numbers without meaning; no other state depends on them.
        """
        rows, length = ids.shape
        w, eps = self._weights, self.config.norm_eps
        x = w.words[ids.ravel()]
        x.reshape(rows, length, -1)[...] += w.positions[:length]
        _layer_norm(x, w.norm, eps)
        hidden_keys = None if mask.all() else ~mask[:, None, None, :]
        for layer in w.layers:
            mixed = self._attend(x, layer, rows, hidden_keys)
            x += _dense(mixed, layer.attended)
            _layer_norm(x, layer.attended_norm, eps)
            x += _dense(gelu(_dense(x, layer.up)), layer.down)
            _layer_norm(x, layer.norm, eps)
        return x.reshape(rows, length, -1)

    def _attend(
        self, x: Floats, layer: EncoderLayer, rows: int, hidden_keys: npt.NDArray[np.bool_] | None
    ) -> Floats:
        """softmax(q k^T / sqrt(d)) v of every head, (B T, hidden)."""
        c = self.config
        dim = c.hidden // c.heads
        qkv = _dense(x, layer.qkv).reshape(rows, -1, 3, c.heads, dim).transpose(2, 0, 3, 1, 4)
        q, k, v = qkv
        scores = np.matmul(q, k.swapaxes(-1, -2))
        scores *= 1.0 / math.sqrt(dim)
        if hidden_keys is not None:
            np.copyto(scores, -np.inf, where=hidden_keys)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Floats = np.matmul(scores, v).transpose(0, 2, 1, 3).reshape(x.shape)
        return mixed


def gelu(x: Floats) -> Floats:
    """X / 2 (1 + erf(x / sqrt 2)), the exact form (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    half = erf(x * np.float32(1 / math.sqrt(2)))
    half += 1.0
    half *= x
    half *= 0.5
    out: Floats = half
    return out


def _dense(x: Floats, layer: Dense) -> Floats:
    out: Floats = x @ layer.weight
    out += layer.bias
    return out


def _layer_norm(x: Floats, norm: Norm, eps: float) -> None:
    """(x - mean) / sqrt(variance + eps) * gain + bias over the rows of x (rows, n), in place (arXiv:1607.06450)."""
    x -= x.mean(axis=-1, keepdims=True)
    variance = np.vecdot(x, x) / x.shape[-1]
    x /= np.sqrt(variance + eps)[:, None]
    x *= norm.gain
    x += norm.bias

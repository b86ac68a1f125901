"""The fused steps of a prefill on a device, side by side with `ops_numpy.NumpyOps`.

The same steps in the same order with the same meaning. What differs is what a GPU wants: arrays are addresses, the
residual stream is float32 and what the products read bf16, and the number of rows, their place and their slot are
read from device memory (`kernels/control.cuh`), so that a recorded sequence of launches can be replayed for others.
`rows` is what a step is launched for; rows that `control` says are not there stay as they were.
"""

from __future__ import annotations

import math

import numpy as np

from runtime_svc.checkpoint import ModelConfig
from runtime_svc.cuda.cache import KvCache
from runtime_svc.cuda.device import Argument, Device, Product

_INT, _FLOAT = np.int32, np.float32
_THREADS = 256


class CudaOps:
    """Launches on `device` for models of one shape, over one set of KV slots."""

    def __init__(self, device: Device, config: ModelConfig, cache: KvCache) -> None:
        self._device = device
        self._config = config
        self._cache = cache
        self._heads = (_INT(config.heads), _INT(config.kv_heads), _INT(cache.slots), _INT(cache.capacity))
        self._eps = _FLOAT(config.norm_eps)
        self._hidden = _INT(config.hidden)

    def embed(self, control: int, tokens: int, table: int, out: int, rows: int) -> None:
        """Out (rows, hidden) float32 = rows of the table (vocabulary, hidden) for `tokens` (rows,) int32."""
        arguments = (control, tokens, table, self._hidden, out)
        self._device.launch("prefill", "embed", (rows, 1, 1), 128, arguments)

    def rms(self, control: int, x: int, gain: int, out: int, rows: int) -> None:
        """Out (rows, hidden) bf16 = x / sqrt(mean(x^2) + eps) * gain, of float32."""
        arguments = (control, x, gain, self._eps, self._hidden, out)
        threads = min(-(-self._config.hidden // 256) * 32, 1024)  # eight elements each
        self._device.launch("prefill", "rms", (rows, 1, 1), threads, arguments)

    def project_qkv(self, x: int, weight: int, out: int, rows: int) -> None:
        """Out (rows, heads + 2 kv_heads, head_dim) float32 = x (rows, hidden) weight^T."""
        c = self._config
        self._device.multiply(x, weight, out, rows, c.qkv_width, c.hidden, into=Product.FLOAT)

    def project_gate_up(self, x: int, weight: int, out: int, rows: int) -> None:
        """Out (rows, 2 ffn) bf16 = x (rows, hidden) weight^T."""
        c = self._config
        self._device.multiply(x, weight, out, rows, 2 * c.ffn, c.hidden, into=Product.BF16)

    def project_residual(self, x: int, weight: int, residual: int, rows: int, inputs: int) -> None:
        """Residual (rows, hidden) float32 += x (rows, inputs) weight^T."""
        self._device.multiply(x, weight, residual, rows, self._config.hidden, inputs, into=Product.ADD)

    def rope_kv_write(
        self,
        control: int,
        qkv: int,
        bias: int | None,
        query_gain: int | None,
        key_gain: int | None,
        turns: int,
        layer: int,
        queries: int,
        rows: int,
    ) -> None:
        """Bias and norm where given, and rotation, of `qkv` (rows, heads + 2 kv_heads, head_dim) float32.

        Queries go to `queries` (rows, heads, head_dim) bf16, keys and values to the slot in `layer` of the cache.
        `turns` (capacity, head_dim / 2, 2) float32.
        """
        c = self._config
        lanes = max(c.head_dim // 16, 1)
        threads = rows * (c.heads + 2 * c.kv_heads) * lanes
        arguments = (
            *(control, qkv, bias or 0, query_gain or 0, key_gain or 0, self._eps, turns),
            *(*self._heads, layer, queries),
        )
        blocks = (-(-threads // _THREADS), 1, 1)
        self._device.launch("prefill", f"rotate_{c.head_dim}", blocks, _THREADS, arguments)

    def attend(self, control: int, queries: int, layer: int, out: int, rows: int) -> None:
        """Out (rows, heads, head_dim) bf16: causal attention of the rows over the slot up to themselves."""
        c = self._config
        scale = _FLOAT(math.log2(math.e) / math.sqrt(c.head_dim))
        arguments = (control, queries, *self._heads, layer, scale, out)
        # Heads first: the tiles that see most keys, of all heads, are the first to start.
        if c.head_dim == 128:
            blocks, shared_bytes = (c.heads, -(-rows // 128), 1), 96 * 1024
            self._device.launch("attention_128", "attend_128", blocks, 256, arguments, shared_bytes)
        else:
            blocks, shared_bytes = (c.heads, -(-rows // 64), 1), 3 * 64 * (max(c.head_dim, 16) + 8) * 2
            self._device.launch("attention", f"attend_{c.head_dim}", blocks, 128, arguments, shared_bytes)

    def swiglu(self, control: int, both: int, out: int, rows: int) -> None:
        """Out (rows, ffn) bf16 = silu(gate) * up, the halves of `both` (rows, 2 ffn) bf16."""
        ffn = self._config.ffn
        blocks = (-(-rows * ffn // (8 * _THREADS)), 1, 1)
        self._device.launch("prefill", "swiglu", blocks, _THREADS, (control, both, _INT(ffn), out))

    @property
    def tally_size(self) -> int:
        """Bytes that the blocks of `lm_head` add up in, zero before its first use."""
        return 32 + 24 * self._head_blocks

    @property
    def _head_blocks(self) -> int:
        # Four blocks of eight warps of four rows fill a multiprocessor; a smaller head needs fewer.
        return min(-(-self._config.vocabulary // 32), 4 * self._device.multiprocessors)

    def lm_head(
        self, control: int, x: int, gain: int, weight: int, logits: int, tally: int, result: int
    ) -> None:
        """Logits (vocabulary,) float32 of the last row of x (rows, hidden) float32, after the final norm.

        `result` is a `decode_layout.RowResult`: the most likely token, and the statistics of the logits.
        """
        c = self._config
        numbers = (control, x, gain, self._eps, self._hidden, weight, _INT(c.vocabulary))
        arguments = (*numbers, logits, tally, result)
        self._device.launch("head", "head", (self._head_blocks, 1, 1), _THREADS, arguments, 4 * c.hidden)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Keys and values of the first `length` positions of one slot to another."""
        cache = self._cache
        chunks = max(1, min(16, length * cache.head_dim // (8 * _THREADS)))
        numbers = (cache.slots, source, target, length, cache.capacity, cache.head_dim)
        arguments: list[Argument] = [cache.address, *map(_INT, numbers)]
        blocks = (chunks, cache.kv_heads, 2 * cache.layers)
        self._device.launch("prefill", "copy_prefix", blocks, _THREADS, arguments)

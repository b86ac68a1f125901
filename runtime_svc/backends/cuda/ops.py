"""The fused steps of a prefill on a device, side by side with `ops_numpy.NumpyOps`.

The same steps in the same order with the same meaning. What differs is what a GPU wants: arrays are addresses, the
residual stream is float32, what the products read bf16, queries, keys and values half (f16), and the number of rows,
their place and their slot are read from device memory (`kernels/control.cuh`), so that a recorded sequence of launches
can be replayed for others. `rows` is what a step is launched for; rows that `control` says are not there stay as they
were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from runtime_svc.backends.cuda import product
from runtime_svc.backends.cuda.cache import KvCache
from runtime_svc.backends.cuda.device import Device
from runtime_svc.backends.cuda.driver import Argument
from runtime_svc.backends.cuda.product import Plan
from runtime_svc.models.architecture import ModelConfig

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

    def rms(self, control: int, x: int, parts: int, splits: int, gain: int, out: int, rows: int) -> None:
        """Out (rows, hidden) bf16 = x / sqrt(mean(x^2) + eps) * gain, of float32.

        Before that x += its `parts` (splits, rows, hidden), if there are any.
        """
        kernel, given = ("rms_of_sum", (parts, _INT(splits))) if splits > 0 else ("rms", ())
        arguments = (control, x, *given, gain, self._eps, self._hidden, out)
        threads = -(-self._config.hidden // 256) * 32  # eight elements each
        self._device.launch("prefill", kernel, (rows, 1, 1), threads, arguments, overlap=True)

    def qkv(
        self,
        control: int,
        x: int,
        weight: int,
        bias: int | None,
        query_gain: int | None,
        key_gain: int | None,
        turns: int,
        layer: int,
        queries: int,
        parts: int,
        rows: int,
    ) -> None:
        """`project_qkv` and `rope_kv_write`: at once where there are many rows, else by way of `parts`.

        One tile of rows has too few tiles to keep the device busy, unless the depth is split.
        """
        c = self._config
        given = (bias or 0, query_gain or 0, key_gain or 0)
        if rows <= product.ROWS or c.head_dim != 128:
            splits = self.project_qkv(x, weight, parts, rows)
            self.rope_kv_write(control, parts, splits, *given, turns, layer, queries, rows)
            return
        plan = product.plan(rows, c.qkv_width, c.hidden, self._device.multiprocessors, kind="heads")
        self.multiply(plan, x, weight, (control, *given, self._eps, turns, *self._heads, layer, queries))

    def project_qkv(self, x: int, weight: int, out: int, rows: int) -> int:
        """Out (splits, rows, heads + 2 kv_heads, head_dim) float32: the parts of x (rows, hidden) weight^T.

        Gives the number of splits.
        """
        plan = self._plan_qkv(rows)
        self.multiply(plan, x, weight, (out,))
        return plan.splits

    def gated(self, x: int, weight: int, out: int, rows: int) -> None:
        """Out (rows, ffn) bf16 = silu(gate) * up, the halves of x (rows, hidden) weight^T (2 ffn, hidden)."""
        c = self._config
        plan = product.plan(rows, c.ffn, c.hidden, self._device.multiprocessors, kind="gated")
        self.multiply(plan, x, weight, (out,))

    def project_residual(self, x: int, weight: int, residual: int, parts: int, rows: int, inputs: int) -> int:
        """Residual (rows, hidden) float32 += x (rows, inputs) weight^T, or what is left to do of that.

        Gives the number of splits in `parts` (splits, rows, hidden) that are still to be added: 0, or several.
        """
        plan = self._plan_residual(rows, inputs)
        if plan.splits == 1:
            self.multiply(plan, x, weight, (residual,), add=True)
            return 0
        self.multiply(plan, x, weight, (parts,))
        return plan.splits

    def parts_size(self, rows: int) -> int:
        """Bytes of the parts that `project_qkv` and `project_residual` leave, each for its own next step."""
        c = self._config
        plans = (
            self._plan_qkv(rows),
            *(self._plan_residual(rows, inputs) for inputs in (c.heads * c.head_dim, c.ffn)),
        )
        return max(4 * plan.splits * plan.rows * plan.outputs for plan in plans)

    def _plan_qkv(self, rows: int) -> Plan:
        c = self._config
        return product.plan(rows, c.qkv_width, c.hidden, self._device.multiprocessors)

    def _plan_residual(self, rows: int, inputs: int) -> Plan:
        return product.plan(rows, self._config.hidden, inputs, self._device.multiprocessors)

    def multiply(
        self, plan: Plan, x: int, weight: int, out: Sequence[Argument], *, add: bool = False
    ) -> None:
        """Out = x (rows, inputs) weight^T by this plan; with `add`, what out holds is added to it.

        `x` has room for whole tiles of `product.ROWS` rows. `out`: what the kernel takes after the problem.
        """
        weights = plan.outputs * (2 if plan.gated else 1)
        padded = -(-plan.rows // product.ROWS) * product.ROWS  # the copy engine is slow beyond a matrix's end
        numbers = (plan.rows, plan.outputs, plan.blocks, plan.splits, plan.slots, plan.share_weight, add)
        arguments: list[Argument] = [
            self._device.tensor_map(x, padded, plan.inputs, product.ROWS // 2),
            self._device.tensor_map(weight, weights, plan.inputs, plan.columns // 2),
            *map(_INT, numbers),
            *out,
        ]
        blocks = (2 * min(plan.units, self._device.multiprocessors // 2), 1, 1)
        shared_bytes = plan.slots * plan.slot_bytes
        self._device.launch(
            *("product", plan.kernel, blocks, plan.threads, arguments, shared_bytes), pairs=True, overlap=True
        )

    def rope_kv_write(
        self,
        control: int,
        qkv: int,
        splits: int,
        bias: int | None,
        query_gain: int | None,
        key_gain: int | None,
        turns: int,
        layer: int,
        queries: int,
        rows: int,
    ) -> None:
        """Bias and norm where given, and rotation, of the sum of `qkv`'s parts.

        `qkv` (splits, rows, heads + 2 kv_heads, head_dim) float32. Queries go to `queries` (rows, heads, head_dim)
        f16, keys and values to the slot in `layer` of the cache. `turns` (capacity, head_dim / 2, 2) float32.
        """
        c = self._config
        lanes = max(c.head_dim // 16, 1)
        threads = rows * (c.heads + 2 * c.kv_heads) * lanes
        arguments = (
            *(control, qkv, _INT(splits), _INT(rows), bias or 0, query_gain or 0, key_gain or 0, self._eps),
            *(turns, *self._heads, layer, queries),
        )
        blocks = (-(-threads // _THREADS), 1, 1)
        self._device.launch("prefill", f"rotate_{c.head_dim}", blocks, _THREADS, arguments, overlap=True)

    def attend(self, control: int, queries: int, layer: int, out: int, rows: int) -> None:
        """Out (rows, heads, head_dim) bf16: causal attention of the rows over the slot up to themselves."""
        c = self._config
        scale = _FLOAT(math.log2(math.e) / math.sqrt(c.head_dim))
        if c.head_dim == 128:
            self._attend_128(control, queries, layer, scale, out, rows)
            return
        # Heads first: the tiles that see most keys, of all heads, are the first to start.
        blocks, shared_bytes = (c.heads, -(-rows // 64), 1), 3 * 64 * (max(c.head_dim, 16) + 8) * 2
        arguments = (control, queries, *self._heads, layer, scale, out)
        kernel = f"attend_{c.head_dim}"
        self._device.launch("attention", kernel, blocks, 128, arguments, shared_bytes, overlap=True)

    def _attend_128(
        self, control: int, queries: int, layer: int, scale: np.float32, out: int, rows: int
    ) -> None:
        c, cache, device = self._config, self._cache, self._device
        positions = 2 * cache.slots * cache.kv_heads * cache.capacity
        maps = (
            device.tensor_map(queries, rows, c.heads * 128, 64),
            device.tensor_map(layer, positions, 128, 128),
        )
        groups = 1 if c.heads * -(-rows // 64) <= device.multiprocessors else 2
        blocks = (min(c.heads * -(-rows // (64 * groups)), device.multiprocessors), 1, 1)
        arguments = (control, *maps, *self._heads, scale, _INT(groups), out)
        shared_bytes = 5 * 128 * 128 * 2 + 128
        device.launch("attention_128", "attend_128", blocks, 384, arguments, shared_bytes, overlap=True)

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
        blocks = (self._head_blocks, 1, 1)
        self._device.launch("head", "head", blocks, _THREADS, arguments, 4 * c.hidden, overlap=True)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Keys and values of the first `length` positions of one slot to another."""
        cache = self._cache
        chunks = max(1, min(16, length * cache.head_dim // (8 * _THREADS)))
        numbers = (cache.slots, source, target, length, cache.capacity, cache.head_dim)
        arguments: list[Argument] = [cache.address, *map(_INT, numbers)]
        blocks = (chunks, cache.kv_heads, 2 * cache.layers)
        self._device.launch("prefill", "copy_prefix", blocks, _THREADS, arguments)

"""Checks and times the decode step at real shapes: `python -m runtime_svc.backends.cuda.decode_bench`.

Needs a GPU; weights are random. One JSON line a figure on stdout, a table last. Times are CUDA events around one
launch, medians; the bound is the bytes that a step must read over the copy rate of the same run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import click
import numpy as np

from runtime_svc.backends.cuda.cache import KvCache
from runtime_svc.backends.cuda.decode import Decode
from runtime_svc.backends.cuda.device import CudaDevice
from runtime_svc.backends.cuda.layout import layout
from runtime_svc.backends.cuda.weights import DeviceWeights
from runtime_svc.decoding.runner import Row
from runtime_svc.models.architecture import Architecture, ModelConfig
from runtime_svc.models.qwen2 import QWEN2
from runtime_svc.models.qwen3 import QWEN3
from runtime_svc.models.rope import turns
from runtime_svc.ops import SamplingParams
from treni import entry

HANG_S = 30.0
F16_ROUNDING = 2.0**-11  # a rounding to the nearest half moves a number by at most this much of it,
F16_FLOOR = 2.0**-25  # or by this much
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=0)


def _config(
    architecture: Architecture, layers: int, hidden: int, heads: int, kv_heads: int, ffn: int
) -> ModelConfig:
    return ModelConfig(
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=128,
        ffn=ffn,
        vocabulary=151936,
        context_length=4096,
        norm_eps=1e-6,
        tied=True,
        inverse_frequencies=tuple(float(f) for f in 1e6 ** (-np.arange(0, 128, 2) / 128)),
        rope_attention_scale=1.0,
        eos_ids=frozenset({0}),
    )


MODELS = {
    "qwen3-0.6b": _config(QWEN3, 28, 1024, 16, 8, 3072),
    "qwen2.5-3b": _config(QWEN2, 36, 2048, 16, 2, 11008),
    "qwen3-4b": _config(QWEN3, 36, 2560, 32, 8, 9728),
}


VARIANTS: dict[str, dict[str, int]] = {
    "default": {},
    "1 slot in flight": {"IN_FLIGHT": 1},
    "2 slots in flight": {"IN_FLIGHT": 2},
    "3 slots in flight": {"IN_FLIGHT": 3},
    "groups of 2": {"GROUP_TILES": 2},
    "groups of 4": {"GROUP_TILES": 4},
    "chunks of 2": {"CHUNK_STEPS": 2},
    "every lane releases": {"RELEASES": 32},
}
"""Macros of `decode_shape.cuh` to compare."""


class Bench:
    """One model on the device, with random weights and a random cache."""

    def __init__(self, config: ModelConfig, *, slots: int, capacity: int) -> None:
        import cupy

        self.cupy, self.config = cupy, config
        self.device = CudaDevice()
        places = layout(config)
        slab = self.device.allocate(places.size)
        self.loaded = DeviceWeights(
            address=slab, layout=places, parameters=0, stored_dtype="bfloat16", read_s=0.0
        )
        self.cache = KvCache.allocate(self.device, config, slots=slots, capacity=capacity)
        self.table = turns(config.inverse_frequencies, config.rope_attention_scale, capacity)
        self.turned = self.device.allocate(self.table.nbytes)
        self.device.upload(self.turned, self.table)
        cupy.random.seed(1)
        for placed in places.tensors:
            if len(placed.shape) == 1:
                gain = "norm" in placed.name
                values = cupy.random.standard_normal(placed.shape[0], cupy.float32) * 0.1 + gain
                self.view(slab + placed.offset, placed.shape, cupy.float32)[:] = values
            else:
                self._fill(slab + placed.offset, placed.shape, placed.shape[1] ** -0.5)
        cached = (config.layers, 2, slots, config.kv_heads, capacity, config.head_dim)
        self.cached = self.view(self.cache.address, cached, np.float16)
        for layer in self.cached:
            layer[:] = cupy.random.standard_normal(layer.shape, cupy.float32)
        cupy.cuda.Device().synchronize()

    def view(self, address: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """The device's memory as a CuPy array."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = self.cupy.cuda.UnownedMemory(address, size, self)
        return self.cupy.ndarray(shape, dtype, self.cupy.cuda.MemoryPointer(memory, 0))

    def _fill(self, address: int, shape: tuple[int, ...], scale: float) -> None:
        part = max(1, (1 << 26) // shape[1])
        for first in range(0, shape[0], part):
            count = min(part, shape[0] - first)
            values = self.cupy.random.standard_normal((count, shape[1]), self.cupy.float32)
            values *= scale
            bits = (values.view(self.cupy.uint32) + 0x8000) >> 16
            self.view(address + 2 * first * shape[1], (count, shape[1]), self.cupy.uint16)[:] = bits

    def matrix(self, offset: int, shape: tuple[int, ...]) -> Any:
        """A matrix of the slab, in float32."""
        bits = self.view(self.loaded.address + offset, shape, self.cupy.uint16)
        return (bits.astype(self.cupy.uint32) << 16).view(self.cupy.float32)

    def vector(self, offset: int, size: int) -> Any:
        """A gain or bias of the slab."""
        return self.view(self.loaded.address + offset, (size,), self.cupy.float32)

    def reference(self, row: Row, token: int) -> tuple[Any, float]:
        """The logits (vocabulary,) in float32 of a row that was decoded, and how far its keys and values are off.

        The logits follow from the cache as it is, the row's own keys and values in it: one that lies midway between
        two halves would have either rounding right, and a second rounding here could take the other one. That the
        device's are right is the second figure: what they are off beyond half a half's last place, over the norm.
        """
        cp, c, places = self.cupy, self.config, self.loaded.layout
        d, kv, hd = c.hidden, c.kv_heads, c.head_dim

        def rms(x: Any, gain: Any) -> Any:
            return x / cp.sqrt((x * x).mean(axis=-1, keepdims=True) + c.norm_eps) * gain

        turn = cp.asarray(self.table[row.position].reshape(-1, 2))

        def rotate(x: Any) -> Any:
            low, high = x[:, : hd // 2], x[:, hd // 2 :]
            cos, sin = turn[:, 0], turn[:, 1]
            return cp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=1)

        def beyond_rounding(stored: Any, exact: Any) -> float:
            allowed = cp.maximum(cp.abs(exact) * F16_ROUNDING, F16_FLOOR)
            beyond = cp.maximum(cp.abs(stored - exact) - allowed, 0)
            return float(cp.linalg.norm(beyond) / cp.linalg.norm(exact))

        off = []
        x = self.matrix(places.embedding + 2 * token * d, (d,))
        for index, layer in enumerate(places.layers):
            qkv = self.matrix(layer.qkv, (c.qkv_width, d)) @ rms(x, self.vector(layer.attention_gain, d))
            if layer.qkv_bias is not None:
                qkv = qkv + self.vector(layer.qkv_bias, c.qkv_width)
            heads = qkv.reshape(-1, hd)
            q, k, v = heads[: c.heads], heads[c.heads : c.heads + kv], heads[c.heads + kv :]
            if layer.query_gain is not None and layer.key_gain is not None:
                q, k = rms(q, self.vector(layer.query_gain, hd)), rms(k, self.vector(layer.key_gain, hd))
            keys, values = self.cached[index, :, row.slot, :, : row.position + 1].astype(cp.float32)
            off += [beyond_rounding(keys[:, -1], rotate(k)), beyond_rounding(values[:, -1], v)]
            q = rotate(q)
            scores = cp.einsum("kgd,kpd->kgp", q.reshape(kv, -1, hd), keys) / np.float32(hd**0.5)
            weights = cp.exp(scores - scores.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            mixed = cp.einsum("kgp,kpd->kgd", weights, values).ravel()
            x = x + self.matrix(layer.o, (d, c.heads * hd)) @ mixed
            both = self.matrix(layer.gate_up, (2 * c.ffn, d)) @ rms(x, self.vector(layer.ffn_gain, d))
            gate, up = both[: c.ffn], both[c.ffn :]
            x = x + self.matrix(layer.down, (d, c.ffn)) @ (gate / (1 + cp.exp(-gate)) * up)
        logits = self.matrix(places.head, (c.vocabulary, d)) @ rms(x, self.vector(places.final_gain, d))
        return logits, float(np.max(off))

    def bytes_read(self, positions: list[int]) -> int:
        """The bytes that a step must read: each weight once, and the rows' keys and values."""
        c = self.config
        layer = c.qkv_width * c.hidden + c.heads * c.head_dim * c.hidden + 3 * c.ffn * c.hidden
        cached = sum(positions) * c.layers * 2 * c.kv_heads * c.head_dim
        return 2 * (c.layers * layer + c.vocabulary * c.hidden + cached)

    def check(self, decode: Decode, positions: list[int]) -> float:
        """The largest relative error of a row's logits, keys or values, over two steps.

        The second step takes the drawn tokens. NaN, or another token than the logits' largest, is infinite.
        """
        worst, tokens = 0.0, [1000 + 17 * slot for slot in range(len(positions))]
        for step in range(2):
            rows = _rows(positions, step, tokens if step == 0 else None)
            logits = self.view(decode.logits, (8, self.config.vocabulary), self.cupy.float32)
            logits.fill(np.nan)
            self.cupy.cuda.Device().synchronize()
            drawn = decode.launch(rows).wait()
            self.device.synchronize()
            for index, (row, token) in enumerate(zip(rows, tokens, strict=True)):
                want, written = self.reference(row, token)
                error = float(self.cupy.linalg.norm(logits[index] - want) / self.cupy.linalg.norm(want))
                found, greedy = drawn[index], int(logits[index].argmax())
                right = found is not None and found.id == greedy and not np.isnan(error + written)
                worst = max(worst, error, written) if right else float("inf")
            tokens = [0 if found is None else found.id for found in drawn]
        return worst

    def time(self, decode: Decode, positions: list[int], steps: int) -> tuple[float, float]:
        """Milliseconds a step: median of the device's events, and by the clock with a step in flight."""
        cuda, stream = self.cupy.cuda, self.device.stream
        tokens = [1000 + 17 * slot for slot in range(len(positions))]
        decode.launch(_rows(positions, 0, tokens)).wait()
        spans = []
        for _ in range(steps):
            before, after = cuda.Event(), cuda.Event()
            before.record(stream)
            pending = decode.launch(_rows(positions, 0, None))
            after.record(stream)
            spans.append((before, after, pending))
            if len(spans) > 2:
                spans[-3][2].wait()
        for _, _, pending in spans[-2:]:
            pending.wait()
        device_ms = statistics.median(cuda.get_elapsed_time(a, b) for a, b, _ in spans)
        began = time.perf_counter()
        last = decode.launch(_rows(positions, 0, None))
        for _ in range(steps):
            following = decode.launch(_rows(positions, 0, None))
            last.wait()
            last = following
        last.wait()
        return device_ms, (time.perf_counter() - began) / (steps + 1) * 1e3

    def copy_rate(self) -> float:
        """Bytes a second, read plus written, of a copy of 4 GiB on the device."""
        size = 1 << 32
        source, target = self.cupy.zeros(size, "u1"), self.cupy.zeros(size, "u1")
        times = []
        for _ in range(7):
            before, after = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            before.record()
            self.cupy.copyto(target, source)
            after.record()
            after.synchronize()
            times.append(self.cupy.cuda.get_elapsed_time(before, after))
        del source, target
        self.cupy.get_default_memory_pool().free_all_blocks()
        return 2e3 * size / float(statistics.median(times))


def _rows(positions: list[int], step: int, tokens: list[int] | None) -> list[Row]:
    return [
        Row(
            slot=slot,
            position=position + step,
            token=None if tokens is None else tokens[slot],
            draw=0,
            params=GREEDY,
        )
        for slot, position in enumerate(positions)
    ]


def measure(name: str, variants: list[str], *, steps: int) -> Iterator[dict[str, Any]]:
    """Checks and times one model with each of the variants."""
    began = time.perf_counter()
    bench = Bench(MODELS[name], slots=8, capacity=1024)
    rate = bench.copy_rate()
    base = {"model": name, "device": bench.device.name, "copy_tb_s": round(rate / 1e12, 3)}
    yield base | {"setup_s": round(time.perf_counter() - began, 1)}
    for variant in variants:
        with _watched(variant):
            defines = tuple(VARIANTS[variant].items())
            parts = (bench.device, bench.config, bench.loaded, bench.cache, bench.turned)
            decode = Decode(*parts, defines=defines)
            errors = [bench.check(decode, [255]), bench.check(decode, [5, 63, 64, 127, 200, 300, 400, 900])]
            yield base | {"variant": variant, "error_1_row": errors[0], "error_8_rows": errors[1]}
            for positions in ([127], [256], [383], [256] * 8):
                device_ms, clock_ms = bench.time(decode, positions, steps)
                bound = bench.bytes_read(positions) / rate * 1e3
                yield base | {
                    "variant": variant,
                    "rows": len(positions),
                    "position": positions[0],
                    "error": max(errors),
                    "device_ms": round(device_ms, 4),
                    "clock_ms": round(clock_ms, 4),
                    "bound_ms": round(bound, 4),
                    "share": round(bound / device_ms, 3),
                    "tokens_s": round(len(positions) / clock_ms * 1e3),
                }


class _watched:
    """Ends the process when what is inside hangs, so that a kernel that waits for ever costs seconds."""

    def __init__(self, what: str) -> None:
        self._timer = threading.Timer(HANG_S, self._end, [what])

    @staticmethod
    def _end(what: str) -> None:
        print(json.dumps({"hung": what}), flush=True)
        os._exit(3)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


@entry.command(help=__doc__)
@click.option(
    "--model",
    "models",
    type=click.Choice(list(MODELS)),
    multiple=True,
    default=list(MODELS),
    help="Again for more; all if not given.",
)
@click.option(
    "--variant",
    "variants",
    type=click.Choice(list(VARIANTS)),
    multiple=True,
    default=["default"],
    help="Again for more; the default if not given.",
)
@click.option(
    "--steps", type=entry.WholeRange(1, 10**6), default=60, show_default=True, help="That a median is of."
)
@click.option("--one", is_flag=True, help="In this process, unprotected from hangs.")
def main(*, models: tuple[str, ...], variants: tuple[str, ...], steps: int, one: bool) -> None:
    """Runs the bench that the module describes, with the options of the command line."""
    if one:
        for name in models:
            for line in measure(name, list(variants), steps=steps):
                print(json.dumps(line), flush=True)
        return
    lines: list[dict[str, Any]] = []
    for name in models:
        lines += _in_processes(name, list(variants), steps)
    for line in lines:
        if "share" in line:
            print(
                f"{line['model']:11} {line['variant']:34} rows {line['rows']} at {line['position']:4}:"
                f" {line['device_ms']:.4f} ms ({line['share']:.1%} of the bound), by the clock"
                f" {line['clock_ms']:.4f}, {line['tokens_s']} tokens/s, error {line['error']:.1e}"
            )


def _in_processes(name: str, variants: list[str], steps: int) -> list[dict[str, Any]]:
    """Runs one model in a process of its own; again with the variants after one that hung."""
    lines: list[dict[str, Any]] = []
    left = variants
    while left:
        command = [sys.executable, "-m", "runtime_svc.backends.cuda.decode_bench", "--one", "--model", name]
        command += ["--steps", str(steps), *(part for variant in left for part in ("--variant", variant))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        print(done.stdout, end="", flush=True)
        new = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        lines += new
        hung = [line["hung"] for line in new if "hung" in line]
        left = left[left.index(hung[0]) + 1 :] if hung else []
    return lines


if __name__ == "__main__":
    main(prog_name="python -m runtime_svc.backends.cuda.decode_bench")

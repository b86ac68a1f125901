"""Times prefill on the GPU for the real shapes, with random weights made on the device.

    python -m runtime_svc.backends.cuda.prefill_bench [--out prefill.json] [--model qwen3-0.6b --model ...]

For each model and prompt length: time to the first token's logits by device events and by the wall clock (tokens on
the host to all work done), medians over replays; time to the first token on the host, each prompt after a pause; what
the matrix products, the attention and the rest take alone, each recorded without the others. Beside it a large copy on
the device, in the same run.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from runtime_svc.backends.cuda.cache import KvCache
from runtime_svc.backends.cuda.decode_layout import RowResult
from runtime_svc.backends.cuda.device import CudaDevice
from runtime_svc.backends.cuda.driver import Argument
from runtime_svc.backends.cuda.layout import layout
from runtime_svc.backends.cuda.prefill import Prefill
from runtime_svc.backends.cuda.weights import DeviceWeights
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.models.rope import turns
from runtime_svc.weights.published_shapes import config_of
from treni import entry
from treni.storage import refuse_unwritable

LENGTHS = (16, 128, 512, 2048)
REPLAYS = 15
CAPACITY = 4096
PAUSE_S = 0.05


MODELS = {name: config_of(name) for name in ("qwen3-0.6b", "qwen2.5-3b", "qwen3-4b")}


def random_weights(device: CudaDevice, config: ModelConfig) -> DeviceWeights:
    """Weights of the model's shape on the device: matrices of deviation 1 / sqrt(inputs), gains about 1."""
    places = layout(config)
    slab = device.allocate(places.size)
    for seed, placed in enumerate(places.tensors):
        kernel = "fill_float" if placed.wide else "fill_bf16"
        mean = 1.0 if "norm" in placed.name else 0.0
        deviation = 0.1 if placed.wide else placed.shape[1] ** -0.5
        arguments = (slab + placed.offset, np.int64(placed.elements), np.int32(seed))
        numbers = (np.float32(mean), np.float32(deviation))
        blocks = (-(-placed.elements // 256), 1, 1)
        device.launch("random", kernel, blocks, 256, (*arguments, *numbers))
    parameters = sum(placed.elements for placed in places.tensors)
    return DeviceWeights(
        address=slab, layout=places, parameters=parameters, stored_dtype="bfloat16", read_s=0.0
    )


class Part:
    """A device that does only what `wanted` names: "products", "attention" or "rest"."""

    def __init__(self, device: CudaDevice, wanted: str) -> None:
        self._device = device
        self._wanted = wanted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def launch(
        self,
        file: str,
        kernel: str,
        blocks: Any,
        threads: int,
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
        **how: Any,
    ) -> None:
        """Launches as the device does, but only the kernels that are wanted."""
        part = {"attention": "attention", "attention_128": "attention", "product": "products"}.get(
            file, "rest"
        )
        if self._wanted == part:
            self._device.launch(file, kernel, blocks, threads, arguments, shared_bytes, **how)


def event_ms(device: CudaDevice, work: Callable[[], None], replays: int = REPLAYS) -> float:
    """Median milliseconds of `work` on the device's stream, by events, after three runs."""
    import cupy

    for _ in range(3):
        work()
    times = []
    for _ in range(replays):
        before, after = cupy.cuda.Event(), cupy.cuda.Event()
        before.record(device.stream)
        work()
        after.record(device.stream)
        after.synchronize()
        times.append(float(cupy.cuda.get_elapsed_time(before, after)))
    return statistics.median(times)


def wall_ms(device: CudaDevice, work: Callable[[], None]) -> float:
    """Median milliseconds from the call to the device's being done."""
    times = []
    for _ in range(REPLAYS):
        before = time.perf_counter()
        work()
        device.synchronize()
        times.append(1e3 * (time.perf_counter() - before))
    return statistics.median(times)


def rested_ms(device: CudaDevice, work: Callable[[], object]) -> float:
    """Median milliseconds from the call to its return, each after a pause in which the card does nothing.

    A card that works without one, as in `event_ms`, comes to its limit of power and lowers its clocks.
    """
    times = []
    for _ in range(7):
        device.synchronize()
        time.sleep(PAUSE_S)
        before = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - before))
    return statistics.median(times)


def copy_rate(device: CudaDevice, size: int = 2 << 30) -> float:
    """Bytes per second of a large copy on the device, those read and those written."""
    import cupy

    source, target = device.allocate(size), device.allocate(size)
    stream = device.stream.ptr
    copy = cupy.cuda.runtime.memcpyAsync
    return 2 * size / (1e-3 * event_ms(device, lambda: copy(target, source, size, 3, stream), 5))


def measure(device: CudaDevice, name: str) -> list[dict[str, Any]]:
    """One row a prompt length."""
    config = MODELS[name]
    weights = random_weights(device, config)
    cache = KvCache.allocate(device, config, slots=2, capacity=CAPACITY)
    table = turns(config.inverse_frequencies, 1.0, CAPACITY)
    address = device.allocate(table.nbytes)
    device.upload(address, table)
    prefill = Prefill(device, config, weights, cache, address)
    tokens = np.random.default_rng(1).integers(0, config.vocabulary, max(LENGTHS)).tolist()
    rows = []
    for length in LENGTHS:
        part = tokens[:length]
        run = partial(prefill.run, 1, part, 0, logits=True)

        def first_token(run: Callable[[], None] = run) -> RowResult:
            run()
            return prefill.drawn()

        before = time.perf_counter()
        run()
        device.synchronize()
        row: dict[str, Any] = {
            "model": name,
            "tokens": length,
            "first_ms": 1e3 * (time.perf_counter() - before),
            "event_ms": event_ms(device, run),
            "wall_ms": wall_ms(device, run),
            "first_token_ms": rested_ms(device, first_token),
        }
        logits = np.empty(config.vocabulary, np.float32)
        device.download(prefill.logits, logits)
        row["finite"] = bool(np.isfinite(logits).all())
        for wanted in ("products", "attention", "rest"):
            alone = prefill.on(Part(device, wanted))
            row[f"{wanted}_ms"] = event_ms(device, partial(alone.run, 1, part, 0, logits=True))
        matrices = sum(p.elements for p in weights.layout.tensors if ".layers." in p.name and not p.wide)
        row["products_tflops"] = 2e-9 * matrices * length / row["products_ms"]
        rows.append(row)
    return rows


@entry.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="For the figures, as JSON.")
@click.option(
    "--model",
    "models",
    type=click.Choice(list(MODELS)),
    multiple=True,
    default=list(MODELS),
    help="Again for more; all if not given.",
)
def main(*, out: Path | None, models: tuple[str, ...]) -> int:
    """Measures, prints the table, writes the JSON; the status is 1 when a figure is not finite."""
    if out is not None:
        refuse_unwritable(out)
    with CudaDevice() as device:
        result: dict[str, Any] = {"device": device.name, "copy_bytes_per_s": copy_rate(device), "rows": []}
    for name in models:
        with CudaDevice() as device:
            result["rows"] += measure(device, name)
    print(f"{device.name}: copy {result['copy_bytes_per_s'] / 1e12:.2f} TB/s")
    print("model        tokens  first ms  event ms   wall ms  token ms  products  attention   rest  TFLOP/s")
    for row in result["rows"]:
        print(
            f"{row['model']:12} {row['tokens']:6} {row['first_ms']:9.2f} {row['event_ms']:9.3f} {row['wall_ms']:9.3f}"
            f" {row['first_token_ms']:9.3f} {row['products_ms']:9.3f} {row['attention_ms']:10.3f} {row['rest_ms']:6.3f}"
            f" {row['products_tflops']:8.0f}{'' if row['finite'] else '  NOT FINITE'}"
        )
    if out is not None:
        out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0 if all(row["finite"] for row in result["rows"]) else 1


if __name__ == "__main__":
    main(prog_name="python -m runtime_svc.backends.cuda.prefill_bench")

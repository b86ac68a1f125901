"""How fast the engine decodes and prefills here, beside what NumPy alone would need for the same weights.

`python -m runtime_svc.bench DIR` prints the figures as a line of JSON.
"""

from __future__ import annotations

from runtime_svc.threads import limit_blas_threads

limit_blas_threads()  # before NumPy is imported

import dataclasses  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from runtime_svc import checkpoint  # noqa: E402
from runtime_svc.decoder import Decoder  # noqa: E402
from runtime_svc.ops import SamplingParams  # noqa: E402
from runtime_svc.ops_numpy import NumpyOps  # noqa: E402

Floats = npt.NDArray[np.float32]

_GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpeed:
    """Medians over the repeats, of wall-clock time, greedy and without streaming.

    `read_floor_ms`: one pass over every weight a token needs, at the rate at which NumPy's `max` reads those
    arrays. `product_floor_ms`: the bare products of those weights with a vector, into outputs made before;
    no decoder over NumPy can be faster. The shares are floor over decode time.
    """

    model: str
    parameters: int
    weight_bytes: int
    prompt_tokens: int
    decode_tokens: int
    prefill_ms: float
    decode_ms_per_token: float
    tokens_per_s: float
    read_floor_ms: float
    product_floor_ms: float
    read_share: float
    product_share: float


def measure(
    directory: str | Path, *, prompt_tokens: int = 400, decode_tokens: int = 128, repeats: int = 7
) -> EngineSpeed:
    """Measures the NumPy engine on a checkpoint directory; takes about `repeats` seconds for a tiny model.

    The floors are measured between the repeats, so that all share the machine's conditions. The number of
    BLAS threads is the process's own: see `runtime_svc.threads`.
    """
    path = Path(directory)
    config = checkpoint.read_config(path)
    weights = checkpoint.read_weights(path, config)
    decoder = Decoder(config, weights, NumpyOps())
    matrices = [m for w in weights.layers for m in (w.qkv, w.o, w.gate_up, w.down)] + [weights.head]
    inputs = [np.ones((1, m.shape[0]), np.float32) for m in matrices]
    outputs = [np.empty((1, m.shape[1]), np.float32) for m in matrices]
    prompt = np.random.default_rng(0).integers(0, config.vocabulary, prompt_tokens).tolist()

    def read() -> None:
        for matrix in matrices:
            matrix.max()

    def multiply() -> None:
        for x, matrix, out in zip(inputs, matrices, outputs, strict=True):
            np.matmul(x, matrix, out=out)

    _generate(decoder, prompt, 2)
    prefills, steps, reads, products = [], [], [], []
    for _ in range(repeats):
        prefill_s, step_s = _generate(decoder, prompt, decode_tokens)
        prefills.append(prefill_s)
        steps.append(step_s)
        reads.append(_median_s(read))
        products.append(_median_s(multiply))
    decode_s, read_s, product_s = map(statistics.median, (steps, reads, products))
    return EngineSpeed(
        model=path.resolve().name,
        parameters=weights.parameters,
        weight_bytes=sum(m.nbytes for m in matrices),
        prompt_tokens=prompt_tokens,
        decode_tokens=decode_tokens,
        prefill_ms=1e3 * statistics.median(prefills),
        decode_ms_per_token=1e3 * decode_s,
        tokens_per_s=1 / decode_s,
        read_floor_ms=1e3 * read_s,
        product_floor_ms=1e3 * product_s,
        read_share=read_s / decode_s,
        product_share=product_s / decode_s,
    )


def _generate(decoder: Decoder, prompt: list[int], tokens: int) -> tuple[float, float]:
    """Seconds of the prefill, and the median of the steps after it, each with its sampling."""
    cache = decoder.new_cache()
    before = time.perf_counter()
    logits = decoder.forward(prompt, cache)
    prefill_s = time.perf_counter() - before
    steps = []
    for step in range(tokens):
        before = time.perf_counter()
        chosen = decoder.ops.sample(logits, _GREEDY, step)
        logits = decoder.forward((chosen.id,), cache)
        steps.append(time.perf_counter() - before)
    return prefill_s, statistics.median(steps)


def _median_s(call: Callable[[], None], *, times: int = 50) -> float:
    spent = []
    for _ in range(times):
        before = time.perf_counter()
        call()
        spent.append(time.perf_counter() - before)
    return statistics.median(spent)


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(measure(sys.argv[1]))))

"""The steps at the sizes of real models, where tiles, waves and splits differ from the small ones. GPU only."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from runtime_svc.backends.cuda import product
from runtime_svc.backends.cuda.cache import KvCache
from runtime_svc.backends.cuda.decode_layout import RowResult
from runtime_svc.backends.cuda.device import CudaDevice
from runtime_svc.backends.cuda.ops import CudaOps
from runtime_svc.backends.cuda.prefill_bench import MODELS
from tests.runtime_svc import reference
from tests.runtime_svc.backends.cuda.arrays import (
    BF16_BOUND,
    FLOAT_BOUND,
    check,
    narrowed,
    poisoned,
    put,
    take,
    values,
    widened,
)

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("rows", "start"), [(16, 0), (128, 0), (2048, 0), (300, 1500)])
def test_attend(gpu: CudaDevice, model: str, rows: int, start: int) -> None:
    capacity = 2048
    config = replace(MODELS[model], layers=1)
    cache = KvCache.allocate(gpu, config, slots=2, capacity=capacity)
    stored = values(2, 2, config.kv_heads, capacity, 128).astype(np.float16)
    gpu.upload(cache.address, stored)
    queries = values(rows, config.heads, 128, seed=1).astype(np.float16)
    out = poisoned(gpu, (rows, config.heads, 128), np.uint16)
    control = put(gpu, np.array([rows, start, 1, 0], np.int32))
    CudaOps(gpu, config, cache).attend(control, put(gpu, queries), cache.address, out, rows)
    actual = take(gpu, out, (rows, config.heads, 128), np.uint16)
    for head in (0, config.heads - 1):
        shared = head // (config.heads // config.kv_heads)
        keys, weights = stored[:, 1, shared, : start + rows].astype(float)
        scores = queries[:, head].astype(float) @ keys.T / np.sqrt(128)
        scores[np.triu_indices(rows, start + 1, start + rows)] = -np.inf
        check(actual[:, head], reference.softmax(scores) @ weights, BF16_BOUND)
    assert np.isfinite(actual).all()


BASE, OTHER = (narrowed(values(1_000_003, seed=seed)) for seed in (0, 1))


def many(*shape: int, base: npt.NDArray[np.uint16] = BASE) -> npt.NDArray[np.uint16]:
    """Random bfloat16 bits: a prime number of different ones, again and again, so that no two rows are alike.

    Of one base: rows of weights. Activations are of another, or some of their rows were weights, and those products
    sums of squares, a hundred times as large as sums of either sign and as much harder to round.
    """
    return np.resize(base, shape)


def activations(rows: int, inputs: int) -> npt.NDArray[np.uint16]:
    """(whole tiles of rows, inputs) bfloat16 bits."""
    return many(-(-rows // product.ROWS) * product.ROWS, inputs, base=OTHER)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rows", [16, 128, 512, 2048])
def test_products(gpu: CudaDevice, model: str, rows: int) -> None:
    c = MODELS[model]
    ops = CudaOps(gpu, c, KvCache.allocate(gpu, replace(c, layers=1), slots=1, capacity=16))
    width = c.heads * c.head_dim
    parts, residual = gpu.allocate(ops.parts_size(rows)), np.resize(widened(BASE), (rows, c.hidden))

    def projected(x: int, weight: int, inputs: int) -> np.ndarray:
        out = put(gpu, residual)
        splits = ops.project_residual(x, weight, out, parts, rows, inputs)
        added: np.ndarray = take(gpu, parts, (splits, rows, c.hidden), np.float32).astype(float).sum(axis=0)
        moved: np.ndarray = take(gpu, out, (rows, c.hidden), np.float32) + added
        return moved

    def qkv(x: int, weight: int, _: int) -> np.ndarray:
        splits = ops.project_qkv(x, weight, parts, rows)
        out: np.ndarray = take(gpu, parts, (splits, rows, c.qkv_width), np.float32).astype(float).sum(axis=0)
        return out

    for outputs, inputs, step in (
        (c.qkv_width, c.hidden, qkv),
        (c.hidden, width, projected),
        (c.hidden, c.ffn, projected),
    ):
        weight, x, some = many(outputs, inputs), activations(rows, inputs), slice(None, None, 61)
        actual = step(put(gpu, x), put(gpu, weight), inputs)
        expected = (
            widened(x[:rows]).astype(float) @ widened(np.ascontiguousarray(weight[some])).astype(float).T
        )
        check(actual[:, some], expected + (residual[:, some] if step is projected else 0), FLOAT_BOUND)
        assert np.isfinite(actual).all()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rows", [16, 128, 512, 2048])
def test_gated(gpu: CudaDevice, model: str, rows: int) -> None:
    c = MODELS[model]
    ops = CudaOps(gpu, c, KvCache.allocate(gpu, replace(c, layers=1), slots=1, capacity=16))
    # Sums of about 1, as a norm leaves them: a gate of a hundred times that is either open or shut.
    weight, some = narrowed(widened(many(2 * c.ffn, c.hidden)) * c.hidden**-0.5), slice(None, None, 61)
    x = activations(rows, c.hidden)
    out = poisoned(gpu, (rows, c.ffn), np.uint16)
    ops.gated(put(gpu, x), put(gpu, weight), out, rows)
    actual = take(gpu, out, (rows, c.ffn), np.uint16)
    gate, up = (
        widened(x[:rows]).astype(float) @ widened(np.ascontiguousarray(half[some])).astype(float).T
        for half in np.split(weight, 2)
    )
    check(actual[:, some], gate / (1 + np.exp(-gate)) * up, BF16_BOUND)
    assert np.isfinite(actual).all()


@pytest.mark.parametrize("model", MODELS)
def test_lm_head(gpu: CudaDevice, model: str) -> None:
    config = MODELS[model]
    cache = KvCache.allocate(gpu, replace(config, layers=1), slots=1, capacity=16)
    x, gain, weight = (
        values(3, config.hidden),
        values(config.hidden, seed=1),
        many(config.vocabulary, config.hidden),
    )
    out, result = poisoned(gpu, (config.vocabulary,), np.float32), poisoned(gpu, (8,), np.float32)
    control = put(gpu, np.array([3, 0, 0, 0], np.int32))
    ops = CudaOps(gpu, config, cache)
    tally = put(gpu, np.zeros(ops.tally_size, np.uint8))
    ops.lm_head(control, put(gpu, x), put(gpu, gain), put(gpu, weight), out, tally, result)
    normed = reference.rms(x[2].astype(float), gain.astype(float), config.norm_eps)
    expected = (widened(weight) @ normed.astype(np.float32)).astype(float)
    check(take(gpu, out, (config.vocabulary,), np.float32), expected, FLOAT_BOUND)
    found = RowResult.from_buffer_copy(take(gpu, result, (8,), np.float32).tobytes())
    probabilities = reference.softmax(expected)
    assert found.id == expected.argmax()
    assert found.entropy == pytest.approx(-np.sum(probabilities * np.log(probabilities)), abs=1e-3)

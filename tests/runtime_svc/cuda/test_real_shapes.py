"""The steps at the sizes of real models, where tiles, waves and splits differ from the small ones. GPU only."""

from dataclasses import replace

import numpy as np
import pytest

from runtime_svc.cuda.cache import KvCache
from runtime_svc.cuda.decode_layout import RowResult
from runtime_svc.cuda.device import Product
from runtime_svc.cuda.ops import CudaOps
from runtime_svc.cuda.prefill_bench import MODELS
from tests.runtime_svc import reference
from tests.runtime_svc.cuda.arrays import (
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
def test_attend(gpu, model, rows, start):
    capacity = 2048
    config = replace(MODELS[model], layers=1)
    cache = KvCache.allocate(gpu, config, slots=2, capacity=capacity)
    stored = narrowed(values(2, 2, config.kv_heads, capacity, 128))
    gpu.upload(cache.address, stored)
    queries = narrowed(values(rows, config.heads, 128, seed=1))
    out = poisoned(gpu, (rows, config.heads, 128), np.uint16)
    control = put(gpu, np.array([rows, start, 1, 0], np.int32))
    CudaOps(gpu, config, cache).attend(control, put(gpu, queries), cache.address, out, rows)
    actual = take(gpu, out, (rows, config.heads, 128), np.uint16)
    for head in (0, config.heads - 1):
        shared = head // (config.heads // config.kv_heads)
        keys, weights = (widened(stored[part, 1, shared, : start + rows]).astype(float) for part in (0, 1))
        scores = widened(queries[:, head]).astype(float) @ keys.T / np.sqrt(128)
        scores[np.triu_indices(rows, start + 1, start + rows)] = -np.inf
        check(actual[:, head], reference.softmax(scores) @ weights, BF16_BOUND)
    assert np.isfinite(actual).all()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rows", [16, 128, 2048])
def test_products(gpu, model, rows):
    c = MODELS[model]
    shapes = [
        (c.qkv_width, c.hidden, Product.FLOAT),
        (c.hidden, c.heads * c.head_dim, Product.ADD),
        (2 * c.ffn, c.hidden, Product.BF16),
        (c.hidden, c.ffn, Product.ADD),
    ]
    for outputs, inputs, into in shapes:
        x, weight = narrowed(values(rows, inputs)), narrowed(values(outputs, inputs, seed=1))
        dtype = np.uint16 if into is Product.BF16 else np.float32
        before = values(rows, outputs, seed=2)
        out = put(gpu, before) if into is Product.ADD else poisoned(gpu, (rows, outputs), dtype)
        gpu.multiply(put(gpu, x), put(gpu, weight), out, rows, outputs, inputs, into=into)
        actual = take(gpu, out, (rows, outputs), dtype)
        some = slice(None, None, max(rows // 16, 1))
        expected = widened(x[some]).astype(float) @ widened(weight).astype(float).T
        expected += before[some] if into is Product.ADD else 0
        check(actual[some], expected, BF16_BOUND if into is Product.BF16 else FLOAT_BOUND)
        assert np.isfinite(actual).all()


@pytest.mark.parametrize("model", MODELS)
def test_lm_head(gpu, model):
    config = MODELS[model]
    cache = KvCache.allocate(gpu, replace(config, layers=1), slots=1, capacity=16)
    x, gain = values(3, config.hidden), values(config.hidden, seed=1)
    weight = narrowed(values(config.vocabulary, config.hidden, seed=2))
    out = poisoned(gpu, (config.vocabulary,), np.float32)
    control = put(gpu, np.array([3, 0, 0, 0], np.int32))
    ops = CudaOps(gpu, config, cache)
    tally, result = put(gpu, np.zeros(ops.tally_size, np.uint8)), poisoned(gpu, (8,), np.float32)
    ops.lm_head(control, put(gpu, x), put(gpu, gain), put(gpu, weight), out, tally, result)
    normed = reference.rms(x[2].astype(float), gain.astype(float), config.norm_eps)
    expected = widened(weight) @ normed
    check(take(gpu, out, (config.vocabulary,), np.float32), expected, FLOAT_BOUND)
    found = RowResult.from_buffer_copy(take(gpu, result, (8,), np.float32).tobytes())
    probabilities = reference.softmax(expected)
    assert found.id == expected.argmax()
    assert found.entropy == pytest.approx(-np.sum(probabilities * np.log(probabilities)), abs=1e-3)

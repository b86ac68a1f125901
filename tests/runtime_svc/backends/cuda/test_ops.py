"""Each step of the GPU's prefill against float64, into outputs poisoned with NaN."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from runtime_svc.backends.cuda import product
from runtime_svc.backends.cuda.cache import KvCache
from runtime_svc.backends.cuda.decode_layout import RowResult
from runtime_svc.backends.cuda.device import Device
from runtime_svc.backends.cuda.ops import CudaOps
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.models.rope import turns
from runtime_svc.random_checkpoint import Shape, write_random_checkpoint
from runtime_svc.weights.hugging_face import read_config
from tests.runtime_svc import reference
from tests.runtime_svc.backends.cuda.arrays import (
    BF16_BOUND,
    F16_BOUND,
    FLOAT_BOUND,
    check,
    narrowed,
    poisoned,
    put,
    take,
    values,
    widened,
)

EPS = 1e-6
HEADS, KV, CAPACITY, SLOTS, SLOT = 4, 2, 160, 3, 1


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return read_config(write_random_checkpoint(tmp_path_factory.mktemp("shape"), Shape(hidden=72, ffn=88)))


class Bench:
    """Ops over one layer of poisoned slots, and the control block that says which rows there are."""

    def __init__(
        self,
        device: Device,
        config: ModelConfig,
        *,
        head_dim: int = 32,
        rows: int = 1,
        start: int = 0,
        tokens: Iterable[int] = (),
    ) -> None:
        self.config = replace(config, head_dim=head_dim, heads=HEADS, kv_heads=KV, norm_eps=EPS)
        self.device = device
        self.shape = (2, SLOTS, KV, CAPACITY, head_dim)
        self.layer = poisoned(device, self.shape, np.float16)
        self.cache = KvCache(
            address=self.layer, layers=1, slots=SLOTS, kv_heads=KV, capacity=CAPACITY, head_dim=head_dim
        )
        self.ops = CudaOps(device, self.config, self.cache)
        self.control = put(device, np.array([rows, start, SLOT, 0, *tokens], np.int32))

    def cached(self) -> npt.NDArray[np.float32]:
        return take(self.device, self.layer, self.shape, np.float16)

    def take(self, address: int, *shape: int, dtype: npt.DTypeLike = np.uint16) -> npt.NDArray[np.float32]:
        return take(self.device, address, shape, dtype)


@pytest.mark.parametrize("rows", [1, 5])
def test_embed_writes_its_rows_and_zeros_after_them(device: Device, config: ModelConfig, rows: int) -> None:
    table = narrowed(values(50, 72))
    tokens = np.arange(rows) * 7 % 50
    bench = Bench(device, config, rows=rows, tokens=tokens)
    out = poisoned(device, (8, 72), np.float32)
    bench.ops.embed(bench.control, bench.control + 16, put(device, table), out, 8)
    expected = np.zeros((8, 72), np.float32)
    expected[:rows] = widened(table)[tokens]
    np.testing.assert_array_equal(bench.take(out, 8, 72, dtype=np.float32), expected)


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_rms(device: Device, config: ModelConfig, rows: int, scale: float) -> None:
    x, gain = values(8, 72) * np.float32(scale), values(72, seed=1)
    bench = Bench(device, config, rows=rows)
    out = poisoned(device, (8, 72), np.uint16)
    bench.ops.rms(bench.control, put(device, x), 0, 0, put(device, gain), out, 8)
    actual = bench.take(out, 8, 72)
    check(actual[:rows], reference.rms(x[:rows].astype(float), gain.astype(float), EPS), BF16_BOUND)
    assert np.isnan(actual[rows:]).all()


@pytest.mark.parametrize("splits", [1, 6, 10])
def test_rms_of_a_residual_with_parts_still_to_add(device: Device, config: ModelConfig, splits: int) -> None:
    x, parts, gain = values(8, 72), values(splits, 8, 72, seed=2), values(72, seed=1)
    bench = Bench(device, config, rows=6)
    out, residual = poisoned(device, (8, 72), np.uint16), put(device, x)
    bench.ops.rms(bench.control, residual, put(device, parts), splits, put(device, gain), out, 8)
    expected = x.astype(float) + parts.astype(float).sum(axis=0)
    check(bench.take(out, 8, 72)[:6], reference.rms(expected[:6], gain.astype(float), EPS), BF16_BOUND)
    after = bench.take(residual, 8, 72, dtype=np.float32)
    check(after[:6], expected[:6], FLOAT_BOUND)
    np.testing.assert_array_equal(after[6:], x[6:])


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@pytest.mark.parametrize("head_dim", [8, 16, 32, 64, 128])
@pytest.mark.parametrize(("rows", "start", "splits"), [(1, 0, 1), (5, 0, 2), (7, 150, 7)])
def test_rope_kv_write(
    device: Device, config: ModelConfig, head_dim: int, kind: str, rows: int, start: int, splits: int
) -> None:
    bench = Bench(device, config, head_dim=head_dim, rows=rows, start=start)
    width = (HEADS + 2 * KV) * head_dim
    parts = values(splits, 8, width)
    qkv = parts.sum(axis=0)
    bias = values(width, seed=1) if kind == "qwen2" else None
    q_gain, k_gain = (values(head_dim, seed=n) if kind == "qwen3" else None for n in (2, 3))
    table = turns([10000.0 ** (-2 * i / head_dim) for i in range(head_dim // 2)], 1.0, CAPACITY)
    queries = poisoned(device, (8, HEADS, head_dim), np.float16)
    at_bias, at_q, at_k = (None if a is None else put(device, a) for a in (bias, q_gain, k_gain))
    places = (put(device, table), bench.layer, queries, 8)
    bench.ops.rope_kv_write(bench.control, put(device, parts), splits, at_bias, at_q, at_k, *places)

    heads = qkv[:rows].astype(float)
    heads = (heads if bias is None else heads + bias).reshape(rows, -1, head_dim).transpose(1, 0, 2)
    if q_gain is not None and k_gain is not None:
        heads[:HEADS] = reference.rms(heads[:HEADS], q_gain.astype(float), EPS)
        heads[HEADS : HEADS + KV] = reference.rms(heads[HEADS : HEADS + KV], k_gain.astype(float), EPS)
    positions = np.arange(start, start + rows)
    for head in heads[: HEADS + KV]:
        head[:] = reference.rotate(head, positions, 10000.0)
    after = bench.take(queries, 8, HEADS, head_dim, dtype=np.float16)
    check(after[:rows], heads[:HEADS].transpose(1, 0, 2), F16_BOUND)
    assert np.isnan(after[rows:]).all()
    cached = bench.cached()
    check(cached[:, SLOT, :, start : start + rows], heads[HEADS:].reshape(2, KV, rows, head_dim), F16_BOUND)
    cached[:, SLOT, :, start : start + rows] = np.nan
    assert np.isnan(cached).all()


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@pytest.mark.parametrize("columns", [128, 256])
@pytest.mark.parametrize(("rows", "start", "heads", "kv_heads"), [(131, 7, 4, 2), (260, 0, 3, 1)])
def test_qkv_of_many_rows(
    device: Device,
    config: ModelConfig,
    kind: str,
    columns: int,
    rows: int,
    start: int,
    heads: int,
    kv_heads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans = product.plans(rows + 2, (heads + 2 * kv_heads) * 128, 72, kind="heads")
    (plan,) = (p for p in plans if p.columns == columns)
    monkeypatch.setattr(product, "plan", lambda *_, kind="product": plan)
    bench = Bench(device, config, head_dim=128, rows=rows, start=start)
    shape = (2, SLOTS, kv_heads, 300, 128)
    layer = poisoned(device, shape, np.float16)
    cache = replace(bench.cache, address=layer, kv_heads=kv_heads, capacity=300)
    ops = CudaOps(device, replace(bench.config, heads=heads, kv_heads=kv_heads, hidden=72), cache)
    x, weight = narrowed(values(384, 72)), narrowed(values(plan.outputs, 72, seed=1))
    bias = values(plan.outputs, seed=2) if kind == "qwen2" else None
    q_gain, k_gain = (values(128, seed=n) if kind == "qwen3" else None for n in (3, 4))
    table = turns([10000.0 ** (-2 * i / 128) for i in range(64)], 1.0, 300)
    queries = poisoned(device, (rows + 2, heads, 128), np.float16)
    at_bias, at_q, at_k = (None if a is None else put(device, a) for a in (bias, q_gain, k_gain))
    places = (put(device, table), layer, queries, 0, rows + 2)
    ops.qkv(bench.control, put(device, x), put(device, weight), at_bias, at_q, at_k, *places)

    product_ = widened(x[:rows]).astype(float) @ widened(weight).astype(float).T
    expected = (product_ if bias is None else product_ + bias).reshape(rows, -1, 128).transpose(1, 0, 2)
    turned = heads + kv_heads
    if q_gain is not None and k_gain is not None:
        expected[:heads] = reference.rms(expected[:heads], q_gain.astype(float), EPS)
        expected[heads:turned] = reference.rms(expected[heads:turned], k_gain.astype(float), EPS)
    positions = np.arange(start, start + rows)
    for head in expected[:turned]:
        head[:] = reference.rotate(head, positions, 10000.0)
    after = bench.take(queries, rows + 2, heads, 128, dtype=np.float16)
    check(after[:rows], expected[:heads].transpose(1, 0, 2), F16_BOUND)
    assert np.isnan(after[rows:]).all()
    cached = take(device, layer, shape, np.float16)
    check(
        cached[:, SLOT, :, start : start + rows], expected[heads:].reshape(2, kv_heads, rows, 128), F16_BOUND
    )
    cached[:, SLOT, :, start : start + rows] = np.nan
    assert np.isnan(cached).all()


@pytest.mark.parametrize("head_dim", [8, 16, 32, 64, 128])
@pytest.mark.parametrize(("rows", "start"), [(1, 0), (16, 0), (70, 0), (3, 61), (65, 70)])
@pytest.mark.parametrize("multiprocessors", [2, 132])
def test_attend(
    device: Device,
    config: ModelConfig,
    head_dim: int,
    rows: int,
    start: int,
    multiprocessors: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "multiprocessors", multiprocessors)  # few: a block takes several heads
    bench = Bench(device, config, head_dim=head_dim, rows=rows, start=start)
    padded = rows + 3
    queries = values(padded, HEADS, head_dim).astype(np.float16)
    # Scores far apart: the running maximum moves, and most weights are small.
    cache = np.full(bench.shape, np.nan, np.float16)
    cache[:, SLOT, :, : start + rows] = 2 * values(2, KV, start + rows, head_dim, seed=1)
    device.upload(bench.layer, cache)
    out = poisoned(device, (padded, HEADS, head_dim), np.uint16)
    bench.ops.attend(bench.control, put(device, queries), bench.layer, out, padded)

    expected = np.empty((rows, HEADS, head_dim))
    for head in range(HEADS):
        keys, weights = cache[:, SLOT, head // 2, : start + rows].astype(float)
        scores = queries[:rows, head].astype(float) @ keys.T / np.sqrt(head_dim)
        scores[np.triu_indices(rows, start + 1, start + rows)] = -np.inf
        expected[:, head] = reference.softmax(scores) @ weights
    actual = bench.take(out, padded, HEADS, head_dim)
    check(actual[:rows], expected, BF16_BOUND)
    assert np.isnan(actual[rows:]).all()


def gated(device: Device, config: ModelConfig, x: np.ndarray, weight: np.ndarray) -> npt.NDArray[np.float32]:
    """Out (rows, ffn) of x (rows, inputs) and weight (2 ffn, inputs), both bf16 bits."""
    rows, (outputs, inputs) = len(x), weight.shape
    x = np.resize(x, (-(-rows // product.ROWS) * product.ROWS, inputs))
    ops = CudaOps(device, replace(config, hidden=inputs, ffn=outputs // 2), Bench(device, config).cache)
    out = poisoned(device, (rows, outputs // 2), np.uint16)
    ops.gated(put(device, x), put(device, weight), out, rows)
    return take(device, out, (rows, outputs // 2), np.uint16)


@pytest.mark.parametrize(
    ("rows", "ffn", "inputs"), [(1, 88, 72), (16, 24, 64), (130, 104, 200), (300, 40, 8)]
)
def test_gated(device: Device, config: ModelConfig, rows: int, ffn: int, inputs: int) -> None:
    x, weight = narrowed(values(rows, inputs)), narrowed(values(2 * ffn, inputs, seed=1))
    both = widened(x).astype(float) @ widened(weight).astype(float).T
    gate, up = both[:, :ffn], both[:, ffn:]
    check(gated(device, config, x, weight), gate / (1 + np.exp(-gate)) * up, BF16_BOUND)


def test_gated_of_large_gates(device: Device, config: ModelConfig) -> None:
    gates = np.array([-1e4, -200, -90, 90, 200, 1e4, 0, 3e38], np.float32)
    weight = np.zeros((16, 8), np.float32)
    weight[:8, 0], weight[8:, 1] = gates, 1
    actual = gated(device, config, narrowed(np.ones((1, 8))), narrowed(weight))
    expected = widened(narrowed(gates)).astype(float)
    expected = np.where(expected > -80, expected / (1 + np.exp(-np.maximum(expected, -80))), 0)
    np.testing.assert_allclose(actual[0], expected, rtol=2**-8, atol=1e-30)


def head(
    bench: Bench, x: np.ndarray, gain: np.ndarray, weight: np.ndarray
) -> tuple[npt.NDArray[np.float32], RowResult]:
    """Logits and result of two launches, the second of which must give what the first gave."""
    device, vocabulary = bench.device, len(weight)
    ops = CudaOps(device, replace(bench.config, vocabulary=vocabulary), bench.cache)
    tally = put(device, np.zeros(ops.tally_size, np.uint8))
    arguments = (bench.control, put(device, x), put(device, gain), put(device, narrowed(weight)))
    found = []
    for _ in range(2):
        out = poisoned(device, (vocabulary,), np.float32)
        result = poisoned(device, (8,), np.float32)
        ops.lm_head(*arguments, out, tally, result)
        raw = take(device, result, (8,), np.float32).tobytes()
        found.append((take(device, out, (vocabulary,), np.float32), raw))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    return found[0][0], RowResult.from_buffer_copy(found[0][1])


@pytest.mark.parametrize("vocabulary", [8, 293])
def test_lm_head_takes_the_last_row_and_says_what_is_most_likely(
    device: Device, config: ModelConfig, vocabulary: int
) -> None:
    bench = Bench(device, config, rows=3)
    x, gain, weight = values(5, 72), values(72, seed=1), values(vocabulary, 72, seed=2)
    logits, result = head(bench, x, gain, weight)
    normed = reference.rms(x[2].astype(float), gain.astype(float), EPS)
    expected = normed @ widened(narrowed(weight)).astype(float).T
    check(logits, expected, FLOAT_BOUND)
    probabilities = reference.softmax(expected)
    ranked = np.sort(expected)
    assert (result.id, result.slot, result.finite) == (expected.argmax(), SLOT, 1)
    assert result.logprob == pytest.approx(np.log(probabilities.max()), abs=1e-4)
    assert result.entropy == pytest.approx(-np.sum(probabilities * np.log(probabilities)), abs=1e-4)
    assert result.margin == pytest.approx(ranked[-1] - ranked[-2], abs=1e-4)
    assert result.peak == pytest.approx(ranked[-1], abs=1e-4)


def test_lm_head_takes_the_first_of_equal_tokens(device: Device, config: ModelConfig) -> None:
    weight = np.repeat(values(1, 72, seed=2), 200, axis=0)
    _, result = head(Bench(device, config), values(1, 72), values(72, seed=1), weight)
    assert (result.id, result.margin) == (0, 0.0)
    assert result.entropy == pytest.approx(np.log(200), abs=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_lm_head_says_that_logits_are_not_finite(device: Device, config: ModelConfig, bad: float) -> None:
    weight = values(293, 72, seed=2)
    weight[290, 3] = bad
    _, result = head(Bench(device, config), values(1, 72), values(72, seed=1), weight)
    assert result.finite == 0


PLANS = {
    (p.kernel, p.splits, p.share_weight): p
    for kind in ("product", "gated")
    for rows in (70, 200)
    for p in product.plans(rows, 296, 328, kind=kind)
    if p.splits in (1, 3)
}


@pytest.mark.parametrize("key", PLANS, ids=str)
def test_every_way_to_multiply(device: Device, config: ModelConfig, key: tuple[str, int, bool]) -> None:
    plan = replace(PLANS[key], slots=3)
    x, weight = (
        narrowed(values(plan.rows, plan.inputs)),
        narrowed(values(plan.outputs * (1 + plan.gated), plan.inputs, seed=1)),
    )
    expected = widened(x).astype(float) @ widened(weight).astype(float).T
    if plan.gated:
        gate, up = np.split(expected, 2, axis=1)
        expected = gate / (1 + np.exp(-gate)) * up
    dtype = np.uint16 if plan.gated else np.float32
    shape = (plan.splits, plan.rows, plan.outputs)
    ops = CudaOps(device, config, Bench(device, config).cache)
    placed = (put(device, np.resize(x, (256, plan.inputs))), put(device, weight))
    out = poisoned(device, shape, dtype)
    ops.multiply(plan, *placed, (out,))
    actual = take(device, out, shape, dtype).astype(float).sum(axis=0)
    check(actual, expected, BF16_BOUND if plan.gated else FLOAT_BOUND)
    if plan.splits == 1 and not plan.gated:
        before = values(*shape, seed=2)
        out = put(device, before)
        ops.multiply(plan, *placed, (out,), add=True)
        check(take(device, out, shape, dtype), before + expected, FLOAT_BOUND)


@pytest.mark.parametrize("length", [1, 77, CAPACITY])
def test_copy_prefix(device: Device, config: ModelConfig, length: int) -> None:
    bench = Bench(device, config)
    before = values(*bench.shape).astype(np.float16)
    device.upload(bench.layer, before)
    bench.ops.copy_prefix(SLOT, 2, length)
    expected = before.copy()
    expected[:, 2, :, :length] = before[:, SLOT, :, :length]
    np.testing.assert_array_equal(bench.cached(), expected.astype(np.float32))

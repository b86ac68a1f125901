"""Each operation of the reference backend against float64, into outputs poisoned with NaN."""

import numpy as np
import numpy.typing as npt
import pytest

from runtime_svc.backends.numpy.ops import NumpyOps
from tests.runtime_svc import reference

OPS = NumpyOps()
EPS = 1e-6
HIDDEN, FFN, HEADS, KV, DIM = 24, 40, 4, 2, 8
QKV = (HEADS + 2 * KV) * DIM
ROWS = [1, 2, 37, 128]


def values(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def poisoned(*shape: int) -> npt.NDArray[np.float32]:
    return np.full(shape, np.nan, np.float32)


def check(actual: np.ndarray, expected: np.ndarray, bound: float = 1e-5) -> None:
    """Relative L2 error in float64."""
    expected = np.asarray(expected, np.float64)
    error = np.linalg.norm(actual.astype(np.float64) - expected) / np.linalg.norm(expected)
    assert error <= bound


@pytest.mark.parametrize("rows", ROWS)
def test_embed(rows: int) -> None:
    table, tokens = values(50, HIDDEN), np.arange(rows, dtype=np.int32) % 50
    out = poisoned(rows, HIDDEN)
    OPS.embed(tokens, table, out)
    np.testing.assert_array_equal(out, table[tokens])


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("biased", [True, False])
def test_rms_qkv(rows: int, biased: bool) -> None:
    x, gain, weight = values(rows, HIDDEN), values(HIDDEN), values(HIDDEN, QKV)
    bias = values(QKV, seed=1) if biased else None
    out = poisoned(rows, QKV)
    OPS.rms_qkv(x, gain, weight, bias, EPS, poisoned(rows, HIDDEN), out)
    expected = reference.rms(x.astype(float), gain.astype(float), EPS) @ weight.astype(float)
    check(out, expected if bias is None else expected + bias)


@pytest.mark.parametrize("rows", ROWS)
def test_rms(rows: int) -> None:
    x, gain, out = 1e-3 * values(rows, HIDDEN), values(HIDDEN), poisoned(rows, HIDDEN)
    OPS.rms(x, gain, EPS, out)
    check(out, reference.rms(x.astype(float), gain.astype(float), EPS))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("normed", [True, False])
def test_rope_kv_write(rows: int, normed: bool) -> None:
    start, capacity = 5, 5 + rows + 3
    qkv = values(rows, QKV)
    gain = values(HEADS + KV, DIM, seed=2) if normed else None
    pairs = np.arange(DIM).reshape(2, DIM // 2).T.ravel()
    positions = np.arange(start, start + rows)
    angles = positions[:, None] * 10000.0 ** (-np.arange(DIM // 2) / (DIM // 2))
    rotation = np.exp(1j * angles).astype(np.complex64).view(np.float32)
    q = poisoned(KV, HEADS // KV, rows, DIM)
    keys, cached = poisoned(KV, DIM, capacity), poisoned(KV, capacity, DIM)
    OPS.rope_kv_write(qkv.copy(), gain, EPS, rotation, start, q, keys, cached)
    by_head = qkv.astype(float).reshape(rows, HEADS + 2 * KV, DIM)
    for head in range(HEADS + KV):
        x = by_head[:, head]
        if gain is not None:
            x = reference.rms(x, gain[head].astype(float), EPS)
        plain = np.empty_like(x)
        plain[:, pairs] = x  # from rotary order to the order in which the equations are published
        turned = reference.rotate(plain, positions, 10000.0)[:, pairs]
        if head < HEADS:
            group = HEADS // KV
            check(q[head // group, head % group], turned / np.sqrt(DIM))
        else:
            check(keys[head - HEADS, :, start : start + rows].T, turned)
    for head in range(KV):
        check(cached[head, start : start + rows], by_head[:, HEADS + KV + head])
    outside = [*range(start), *range(start + rows, capacity)]
    assert np.isnan(keys[:, :, outside]).all()
    assert np.isnan(cached[:, outside]).all()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("start", [0, 70])
def test_attend_reads_nothing_after_itself(rows: int, start: int) -> None:
    q = 3 * values(KV, HEADS // KV, rows, DIM)
    keys, cached = poisoned(KV, DIM, start + rows + 9), poisoned(KV, start + rows + 9, DIM)
    keys[:, :, : start + rows] = values(KV, DIM, start + rows, seed=3)
    cached[:, : start + rows] = values(KV, start + rows, DIM, seed=4)
    out = poisoned(rows, HEADS * DIM)
    OPS.attend(q, keys, cached, start, out)
    for row in range(rows):
        seen = start + row + 1
        for head in range(HEADS):
            shared, member = divmod(head, HEADS // KV)
            scores = q[shared, member, row].astype(float) @ keys[shared, :, :seen].astype(float)
            expected = reference.softmax(scores) @ cached[shared, :seen].astype(float)
            check(out[row, head * DIM : (head + 1) * DIM], expected)


@pytest.mark.parametrize("rows", ROWS)
def test_project_residual(rows: int) -> None:
    x, weight, residual = values(rows, FFN), values(FFN, HIDDEN), values(rows, HIDDEN, seed=1)
    expected = residual + x.astype(float) @ weight.astype(float)
    OPS.project_residual(x, weight, poisoned(rows, HIDDEN), residual)
    check(residual, expected)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("scale", [1.0, 100.0])  # at 100, exp overflows where silu is 0
def test_rms_swiglu(rows: int, scale: float) -> None:
    x, gain, weight = values(rows, HIDDEN), values(HIDDEN), np.float32(scale) * values(HIDDEN, 2 * FFN)
    out = poisoned(rows, FFN)
    OPS.rms_swiglu(x, gain, weight, EPS, poisoned(rows, HIDDEN), poisoned(rows, 2 * FFN), out)
    both = reference.rms(x.astype(float), gain.astype(float), EPS) @ weight.astype(float)
    gate, up = both[:, :FFN], both[:, FFN:]
    with np.errstate(over="ignore"):
        check(out, gate / (1 + np.exp(-gate)) * up)


def test_lm_head() -> None:
    x, gain, weight, out = values(1, HIDDEN), values(HIDDEN), values(HIDDEN, 50), poisoned(1, 50)
    OPS.lm_head(x, gain, weight, EPS, poisoned(1, HIDDEN), out)
    check(out, reference.rms(x.astype(float), gain.astype(float), EPS) @ weight.astype(float))

"""The device's sampler, on the CPU shim, against `runtime_svc.backends.numpy.sampler`."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_svc.backends.cuda import decode_layout as layout
from runtime_svc.backends.cuda.shim.build import KERNELS, Library
from runtime_svc.backends.numpy import sampler
from runtime_svc.decoding.runner import Row
from runtime_svc.ops import MAX_TOP, SamplingParams
from tests.runtime_svc.backends.cuda.decode_reference import PROBE, TINY
from tests.runtime_svc.backends.cuda.host_device import HostDevice

UNSIGNED = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def library(host_device: HostDevice) -> Library:
    return Library(KERNELS / "sample.cu", {}, host_device.directory)


@pytest.fixture(scope="module")
def probe(host_device: HostDevice) -> Library:
    return Library(PROBE, TINY.defines, host_device.directory)


def drawn(
    library: Library,
    logits: np.ndarray,
    params: SamplingParams,
    draw: int,
    *,
    allowed: np.ndarray | None = None,
    top: int = 0,
    found: list[tuple[int, float]] | None = None,
) -> layout.RowResult:
    """What the device makes of one row's logits, given the statistics that the decode step computes.

    The most likely tokens go into `found`.
    """
    logits = np.array(logits, np.float32)
    greedy = sampler.sample(logits.copy(), SamplingParams(temperature=0, top_p=1, top_k=0, seed=0), 0)
    results = (layout.RowResult * layout.MAX_ROWS)()
    peak = float(logits.max())
    results[0] = layout.RowResult(
        id=greedy.id,
        logprob=greedy.logprob,
        entropy=greedy.entropy,
        margin=greedy.margin,
        peak=peak,
        log_total=-greedy.logprob,
        finite=1,
        slot=2,
    )
    last_token = np.full(3, -1, np.int32)
    rows = [Row(slot=2, position=0, token=None, draw=draw, params=params, allowed=allowed, top=top)]
    arguments = layout.StepArguments(
        logits=logits.ctypes.data,
        last_token=last_token.ctypes.data,
        results=ctypes.addressof(results),
        vocabulary=logits.size,
        rows=1,
        row=layout.row_controls(TINY, rows, 1),
    )
    likely = np.full((layout.MAX_ROWS, MAX_TOP, 2), -1, np.int32)
    kernels: list[tuple[str, list[np.ndarray]]] = [("likely_rows", [likely])] if top else []
    kernels += [("hold_rows", [allowed])] if allowed is not None else []
    for kernel, more in [*kernels, ("sample_rows", [])]:
        library.launch(
            *(kernel, (1,), (layout.SAMPLE_THREADS,), [arguments, *more]),
            shared_bytes=layout.SAMPLE_SHARED_BYTES,
        )
    assert (likely[0, min(top, logits.size) :] == -1).all()
    assert (likely[1:] == -1).all()
    if found is not None:
        found += layout.likely_of(likely[0].tobytes(), min(top, logits.size))
    if params.temperature > 0 or allowed is not None:
        assert last_token.tolist() == [-1, -1, results[0].id]
    return results[0]


@settings(max_examples=200)
@given(seed=UNSIGNED, draw=UNSIGNED)
def test_random_bits_are_numpys(probe: Library, seed: int, draw: int) -> None:
    out = np.zeros(1, np.uint32)
    probe.launch("philox_probe", (1,), (1,), [ctypes.c_uint64(seed), ctypes.c_uint64(draw), out])
    assert int(out[0]) == int(np.random.Philox(key=seed, counter=draw).random_raw()) >> 40


@pytest.mark.parametrize(
    ("top_k", "top_p"),
    [(0, 1.0), (1, 1.0), (7, 1.0), (0, 0.9), (0, 0.05), (50, 0.7), (5000, 0.99), (0, 1e-9)],
)
def test_draws_what_the_reference_draws(library: Library, top_k: int, top_p: float) -> None:
    generator = np.random.default_rng(5)
    for draw in range(6):
        logits = generator.standard_normal(1777).astype(np.float32) * 3
        temperature = float(generator.uniform(0.3, 2.0))
        params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, seed=99)
        expected = sampler.sample(logits.copy(), params, draw)
        actual = drawn(library, logits, params, draw)
        assert actual.id == expected.id
        assert actual.logprob == pytest.approx(expected.logprob, abs=2e-6)
        assert (actual.entropy, actual.margin) == pytest.approx((expected.entropy, expected.margin))


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.5), (13, 0.5)])
def test_ties_go_by_index(library: Library, top_k: int, top_p: float) -> None:
    logits = np.zeros(1024, np.float32)
    logits[::2] = 1.0
    seen = set()
    for draw in range(12):
        params = SamplingParams(temperature=1.0, top_p=top_p, top_k=top_k, seed=3)
        expected = sampler.sample(logits.copy(), params, draw)
        assert drawn(library, logits, params, draw).id == expected.id
        seen.add(expected.id)
    assert len(seen) > 3


def test_a_tiny_temperature_is_greedy(library: Library) -> None:
    logits = np.random.default_rng(1).standard_normal(300).astype(np.float32)
    params = SamplingParams(temperature=1e-30, top_p=1.0, top_k=0, seed=8)
    assert drawn(library, logits, params, 4).id == int(logits.argmax())


def test_leaves_greedy_rows_and_bad_rows_alone(library: Library) -> None:
    logits = np.arange(64, dtype=np.float32)
    params = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=8)
    assert drawn(library, logits, params, 0).id == 63


def words(allowed: np.ndarray) -> np.ndarray:
    padded = np.zeros(-(-allowed.size // 32) * 32, bool)
    padded[: allowed.size] = allowed
    return np.packbits(padded, bitorder="little").view(np.uint32)


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 1.0), (1, 1.0), (7, 1.0), (0, 0.9), (50, 0.7), (5000, 0.99)]
)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_held_row_draws_what_the_reference_draws(
    library: Library, temperature: float, top_k: int, top_p: float
) -> None:
    generator = np.random.default_rng(6)
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, seed=98)
    for draw in range(4):
        logits = generator.standard_normal(1777).astype(np.float32) * 3
        allowed = words(generator.random(1777) < (0.5, 0.01)[draw % 2])
        expected = sampler.sample(logits.copy(), params, draw, allowed=allowed)
        actual = drawn(library, logits, params, draw, allowed=allowed)
        assert actual.id == expected.id
        assert actual.logprob == pytest.approx(expected.logprob, abs=2e-6)
        assert (actual.entropy, actual.margin) == pytest.approx((expected.entropy, expected.margin))


def test_the_most_unlikely_token_is_drawn_where_it_alone_is_allowed(library: Library) -> None:
    logits = np.full(100, 1000, np.float32)
    logits[99] = -1000
    allowed = words(np.arange(100) == 99)
    for temperature in (0.0, 1e-30, 1.0):
        params = SamplingParams(temperature=temperature, top_p=1.0, top_k=0, seed=1)
        assert drawn(library, logits, params, 0, allowed=allowed).id == 99


def test_a_row_to_which_nothing_is_allowed_is_told_apart(library: Library) -> None:
    params = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=1)
    result = drawn_of_nothing(library, params)
    assert result.sampled() is None


def drawn_of_nothing(library: Library, params: SamplingParams) -> layout.RowResult:
    results = (layout.RowResult * layout.MAX_ROWS)()
    results[0] = layout.RowResult(id=3, finite=1)
    logits, last_token, allowed = np.zeros(64, np.float32), np.full(1, -1, np.int32), np.zeros(2, np.uint32)
    row = Row(slot=0, position=0, token=None, draw=0, params=params, allowed=allowed)
    arguments = layout.StepArguments(
        logits=logits.ctypes.data,
        last_token=last_token.ctypes.data,
        results=ctypes.addressof(results),
        vocabulary=64,
        rows=1,
        row=layout.row_controls(TINY, [row], 1),
    )
    library.launch(
        *("hold_rows", (1,), (layout.SAMPLE_THREADS,), [arguments, allowed]),
        shared_bytes=layout.SAMPLE_SHARED_BYTES,
    )
    assert last_token[0] == -1
    return results[0]


@pytest.mark.parametrize("size", [7, 1024, 5000])
@pytest.mark.parametrize("spread", [3, 100_000])
@pytest.mark.parametrize("top", [1, 20])
def test_the_most_likely_tokens_are_the_references(
    library: Library, size: int, spread: int, top: int
) -> None:
    logits = np.random.default_rng(size).integers(-spread, spread, size).astype(np.float32)
    params = SamplingParams(temperature=0.9, top_p=1.0, top_k=0, seed=2)
    allowed = words(np.arange(size) % 2 == 0)
    found: list[tuple[int, float]] = []
    result = drawn(library, logits, params, 0, allowed=allowed, top=top, found=found).sampled(found)
    expected = sampler.sample(logits.copy(), params, 0, allowed=allowed, top=top)
    assert result is not None
    assert result.id == expected.id
    assert [i for i, _ in result.top] == [i for i, _ in expected.top]
    assert [logprob for _, logprob in result.top] == pytest.approx([logprob for _, logprob in expected.top])

"""The decode kernel on the CPU shim against the formulas in float64, and what must not change its bits."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from runtime_svc.backends.cuda import decode_layout as layout
from runtime_svc.backends.cuda.decode_layout import DecodeShape, split
from runtime_svc.backends.cuda.shim.build import Library
from runtime_svc.decoding.runner import Row
from runtime_svc.random_checkpoint import Shape
from tests.runtime_svc.backends.cuda.decode_reference import GREEDY, PROBE, TINY, Model, Shim
from tests.runtime_svc.backends.cuda.host_device import HostDevice

TINY_MODEL = Shape(
    layers=2, hidden=256, heads=8, kv_heads=2, head_dim=32, ffn=640, vocabulary=1024, context_length=256
)
UNEVEN = Shape(
    model_type="qwen2",
    layers=1,
    hidden=1032,
    heads=14,
    kv_heads=2,
    head_dim=64,
    ffn=3000,
    vocabulary=1003,
    tied=False,
    context_length=256,
)
WIDE_GROUP = Shape(
    layers=1, hidden=512, heads=12, kv_heads=1, head_dim=128, ffn=512, vocabulary=512, context_length=256
)
"""More than 8 query heads to a key-value head: two tasks for each."""


def shim(shape: Shape, directory: Path, *, blocks: int = 3, **defines: int) -> Shim:
    model = Model(shape, seed=3)
    return Shim(model, directory, blocks=blocks, slots=9, capacity=256, shared_bytes=232448, **defines)


def filled(target: Shim, positions: list[int]) -> None:
    """Random keys and values for slots 0, 1, ... up to these positions; what lies behind stays NaN."""
    generator = np.random.default_rng(0)
    for slot, position in enumerate(positions):
        part = target.cache[:, :, slot, :, :position]
        part[...] = generator.standard_normal(part.shape) * 0.5


def rows_at(positions: list[int], tokens: list[int] | None = None) -> list[Row]:
    return [
        Row(
            slot=slot,
            position=position,
            token=7 * slot + 1 if tokens is None else None,
            draw=0,
            params=GREEDY,
        )
        for slot, position in enumerate(positions)
    ]


@pytest.mark.parametrize(
    ("shape", "positions", "single"),
    [
        (TINY_MODEL, [5, 70, 0], 0),
        (TINY_MODEL, [130], 1),
        (UNEVEN, [0, 130, 33, 7, 8, 200, 63, 64], 0),
        (UNEVEN, [130], 1),
        (WIDE_GROUP, [0, 200], 0),
        (WIDE_GROUP, [64], 1),
    ],
)
def test_logits_statistics_and_cache_are_those_of_the_formulas(
    host_device: HostDevice, shape: Shape, positions: list[int], single: int
) -> None:
    device = shim(shape, host_device.directory, SINGLE=single)
    filled(device, positions)
    cache = device.cache.copy()
    for step in range(2):
        tokens = None if step == 0 else device.last_token[: len(positions)].tolist()
        rows = rows_at([position + step for position in positions], tokens)
        results = device.run(rows)
        for index, row in enumerate(rows):
            token = row.token if tokens is None else tokens[index]
            assert token is not None
            expected = device.model.step(cache, row, token)
            # A key or value that lies between two halves can go either way, which moves everything after.
            error = np.linalg.norm(device.logits[index] - expected) / np.linalg.norm(expected)
            assert error < 5e-4
            logits = device.logits[index].astype(np.float64)
            shifted = logits - logits.max()
            total = np.exp(shifted).sum()
            second = np.sort(logits)[-2]
            assert results[index].id == int(logits.argmax()) == device.last_token[row.slot]
            assert results[index].finite == 1
            assert results[index].slot == row.slot
            assert results[index].logprob == pytest.approx(-np.log(total), abs=1e-5)
            assert results[index].entropy == pytest.approx(
                np.log(total) - (np.exp(shifted) * shifted).sum() / total, abs=1e-5
            )
            assert results[index].margin == pytest.approx(logits.max() - second, abs=1e-5)
    written = ~np.isnan(cache)
    np.testing.assert_allclose(
        device.cache[written].astype(float), cache[written].astype(float), rtol=2**-10, atol=5e-4
    )
    assert np.isnan(device.cache[~written]).all(), "nothing else is written"


@pytest.mark.parametrize("shape", [TINY_MODEL, pytest.param(UNEVEN, marks=pytest.mark.soak)])
def test_a_rows_bits_do_not_depend_on_other_rows(host_device: HostDevice, shape: Shape) -> None:
    positions = [0, 130, 33, 7, 8, 200, 63, 64]
    several, one = (shim(shape, host_device.directory, SINGLE=single) for single in (0, 1))
    filled(several, positions)
    filled(one, positions)
    rows = rows_at(positions)
    forward = [bytes(result) for result in several.run(rows)]
    logits = several.logits.copy()
    assert [bytes(result) for result in several.run(rows[::-1])] == forward[::-1]
    np.testing.assert_array_equal(several.logits, logits[::-1])
    for index, row in enumerate(rows):
        assert [bytes(result) for result in one.run([row])] == [forward[index]]
        np.testing.assert_array_equal(one.logits[0], logits[index])
    np.testing.assert_array_equal(one.cache, several.cache)


@pytest.mark.parametrize("releases", [1, pytest.param(32, marks=pytest.mark.soak)])
@pytest.mark.parametrize(("positions", "single"), [([70], 1), ([70, 5, 33], 0)])
def test_bits_do_not_depend_on_which_warp_is_faster(
    host_device: HostDevice, positions: list[int], single: int, releases: int
) -> None:
    device = shim(TINY_MODEL, host_device.directory, SINGLE=single, RELEASES=releases)
    filled(device, positions)
    rows = rows_at(positions)
    expected = [bytes(result) for result in device.run(rows)], device.logits.tobytes()
    for seed in range(1, 6):
        actual = [bytes(result) for result in device.run(rows, schedule=seed * 7919)]
        assert (actual, device.logits.tobytes()) == expected


@pytest.mark.parametrize("single", [0, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("schedule", [pytest.param(0, marks=pytest.mark.soak), 7919])
@pytest.mark.parametrize(
    ("hidden", "heads", "ffn", "blocks"),
    [
        (64, 2, 64, 26),  # a layer has 8 to 16 tiles a stage
        # 128 tiles of the ffn, of whose input one warp has all; for `make soak`, as it takes longest.
        pytest.param(32, 1, 512, 40, marks=pytest.mark.soak),
    ],
)
def test_who_has_nothing_to_do_neither_runs_ahead_nor_changes_bits(
    host_device: HostDevice, single: int, schedule: int, hidden: int, heads: int, ffn: int, blocks: int
) -> None:
    narrow = Shape(
        layers=4,
        hidden=hidden,
        heads=heads,
        kv_heads=1,
        head_dim=32,
        ffn=ffn,
        vocabulary=64,
        context_length=256,
    )
    logits = []
    for count in (2, blocks):
        device = shim(narrow, host_device.directory, blocks=count, SINGLE=single)
        filled(device, [6])
        for _ in range(2):
            device.run(rows_at([6]), schedule=schedule)
        logits.append(device.logits[0].copy())
    np.testing.assert_array_equal(logits[0], logits[1])


def test_logits_that_are_not_finite_are_flagged(host_device: HostDevice) -> None:
    device = shim(TINY_MODEL, host_device.directory)
    device.model.final_gain[3] = np.inf
    filled(device, [4, 9])
    results = device.run(rows_at([4, 9]))
    assert [result.finite for result in results] == [0, 0]
    assert [result.id for result in results] == [0, 0], "a token that the next step can take"


@pytest.mark.parametrize(
    "shape",
    [
        TINY,
        DecodeShape(hidden=1024, heads=16, kv_heads=8, head_dim=128, ffn=3072),
        DecodeShape(hidden=2048, heads=16, kv_heads=2, head_dim=128, ffn=11008),
        DecodeShape(hidden=512, heads=12, kv_heads=1, head_dim=128, ffn=512),
    ],
)
def test_host_and_device_agree_on_structures_and_sizes(host_device: HostDevice, shape: DecodeShape) -> None:
    probe = Library(PROBE, shape.defines, host_device.directory)
    out = np.zeros(8, np.uint64)
    probe.launch("layout_probe", (5,), (1,), [out])
    structures = (layout.StepArguments, layout.RowControl, layout.RowResult, layout.LayerPointers)
    assert out.tolist() == [
        *(ctypes.sizeof(structure) for structure in structures),
        layout.THREADS,
        shape.exchange_words(5),
        shape.max_splits,
        shape.phased_words,
    ]


def test_halves_are_the_nearest_ones(host_device: HostDevice) -> None:
    """Every half, what lies midway to the next, and a float32 to either side of that, against NumPy."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    midway = (halves[:-1] + halves[1:]) / 2
    edges = np.array([0, 65504, 65519.996, 65520, 65536, 3e38, np.inf, np.nan], np.float32)
    numbers = np.concatenate([halves, midway, np.nextafter(midway, 0), np.nextafter(midway, 1e9), edges])
    numbers = np.concatenate([numbers, -numbers]).astype(np.float32)
    rounded, or_nan = np.empty((2, numbers.size), np.float16)
    probe = Library(PROBE, TINY.defines, host_device.directory)
    pairs = numbers.size // 2
    probe.launch("f16_probe", (-(-pairs // 256),), (256,), [numbers, rounded, or_nan, ctypes.c_uint32(pairs)])
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16)
    np.testing.assert_array_equal(rounded, expected)
    np.testing.assert_array_equal(or_nan, np.where(np.isinf(expected), np.nan, expected))


def test_splits_cover_the_positions() -> None:
    shape = DecodeShape(hidden=1024, heads=16, kv_heads=8, head_dim=128, ffn=3072)
    for positions in (*range(1, 300), 1023, 1024, 1025, 4096, 40000):
        length, count = split(shape, positions)
        assert length % 8 == 0
        assert (count - 1) * length < positions <= count * length
        assert count <= shape.max_splits


@pytest.mark.parametrize("blocks", [1, 7, 132])
def test_tasks_cover_a_rows_splits(blocks: int) -> None:
    shape = DecodeShape(hidden=1024, heads=16, kv_heads=8, head_dim=128, ffn=3072)
    rows = rows_at([0, 63, 64, 300, 4000])
    controls = layout.row_controls(shape, rows, blocks)
    for control, row in zip(controls, rows, strict=False):
        assert (control.split_length, control.splits) == split(shape, row.position + 1)
        assert 1 <= control.span <= control.splits
        groups = control.tasks / shape.kv_heads
        assert (groups - 1) * control.span < control.splits <= groups * control.span


def test_tiles_are_dealt_out_evenly() -> None:
    shape = DecodeShape(hidden=1024, heads=16, kv_heads=8, head_dim=128, ffn=3072)
    assert shape.whole_tiles(151936, 132) == (0, 3, 5, 143)
    assert shape.whole_tiles(1003, 1) == (128, 512, 768, 126)


def test_words_are_zeroed_when_the_number_of_rows_changes() -> None:
    arguments = layout.StepArguments(layer_count=3)
    fresh = [layout.next_launch(arguments, rows) for rows in (2, 2, 1, 2)]
    assert fresh == [True, False, True, True]
    assert (arguments.turn, arguments.epoch, arguments.rows) == (0, 16, 2)

"""The decode step on a GPU at the sizes of real models, with random weights."""

from dataclasses import replace

import numpy as np
import pytest

from runtime_svc.backends.cuda.decode import IN_FLIGHT, Decode
from runtime_svc.backends.cuda.decode_bench import MODELS, VARIANTS, Bench
from runtime_svc.backends.numpy import sampler
from runtime_svc.decoding.runner import Row
from runtime_svc.ops import SamplingParams
from tests.runtime_svc.backends.cuda.tokens import sure
from treni.errors import TreniError

pytestmark = pytest.mark.gpu
POSITIONS = [5, 63, 64, 127, 200, 300, 400, 900]
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=0)
DRAWN = SamplingParams(temperature=0.8, top_p=0.9, top_k=40, seed=2**63 + 5)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(MODELS["qwen3-0.6b"], slots=8, capacity=1024)


@pytest.fixture(scope="module")
def decode(bench: Bench) -> Decode:
    return Decode(bench.device, bench.config, bench.loaded, bench.cache, bench.turned)


def logits_of(bench: Bench, decode: Decode, rows: int) -> np.ndarray:
    bench.device.synchronize()
    logits: np.ndarray = bench.view(decode.logits, (rows, bench.config.vocabulary), np.float32).get()
    return logits


@pytest.mark.parametrize("positions", [[0], [255], POSITIONS])
def test_logits_are_those_of_the_formulas_in_float32(
    bench: Bench, decode: Decode, positions: list[int]
) -> None:
    assert bench.check(decode, positions) < 1e-3


def test_every_lane_may_release_what_it_has_read() -> None:
    """What racecheck is run on: as wide as Qwen3-0.6B, but short."""
    config = replace(MODELS["qwen3-0.6b"], layers=2, vocabulary=16384)
    bench = Bench(config, slots=8, capacity=512)
    defines = tuple(VARIANTS["every lane releases"].items())
    decode = Decode(bench.device, config, bench.loaded, bench.cache, bench.turned, defines=defines)
    for positions in ([300], [300, 5, 63, 64]):
        assert bench.check(decode, positions) < 1e-3


def test_a_rows_bits_do_not_depend_on_other_rows_or_on_the_run(bench: Bench, decode: Decode) -> None:
    rows = [
        Row(slot=slot, position=position, token=100 + slot, draw=3, params=params)
        for slot, (position, params) in enumerate(zip(POSITIONS, [GREEDY, DRAWN] * 4, strict=True))
    ]
    together = decode.launch(rows).wait()
    logits = logits_of(bench, decode, 8)
    assert decode.launch(rows).wait() == together
    for index, row in enumerate(rows):
        assert decode.launch([row]).wait() == [together[index]]
        np.testing.assert_array_equal(logits_of(bench, decode, 1)[0], logits[index])
        expected = sampler.sample(logits[index].copy(), row.params, row.draw)
        assert sure(together[index]).id == expected.id
        for name in ("logprob", "entropy", "margin"):
            assert getattr(together[index], name) == pytest.approx(getattr(expected, name), abs=1e-4)


def test_a_step_takes_the_token_that_the_step_before_drew(bench: Bench, decode: Decode) -> None:
    first = Row(slot=0, position=10, token=7, draw=0, params=DRAWN)
    second = Row(slot=0, position=11, token=None, draw=1, params=DRAWN)
    ahead = [decode.launch([first]), decode.launch([second])]
    (drawn,), (then,) = (pending.wait() for pending in ahead)
    again = Row(slot=0, position=11, token=sure(drawn).id, draw=1, params=DRAWN)
    assert decode.launch([again]).wait() == [then]


def test_unread_steps_are_bounded(decode: Decode) -> None:
    row = Row(slot=0, position=10, token=7, draw=0, params=GREEDY)
    pending = [decode.launch([row]) for _ in range(IN_FLIGHT)]
    with pytest.raises(TreniError, match="steps in flight"):
        decode.launch([row])
    assert len({sure(step.wait()[0]).id for step in pending}) == 1


SOUND = Row(slot=0, position=3, token=7, draw=0, params=GREEDY)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(SOUND, slot=8),
        replace(SOUND, position=1024),
        replace(SOUND, position=-1),
        replace(SOUND, token=151936),
        replace(SOUND, token=-1),
    ],
)
def test_rows_that_the_device_must_not_see_are_refused(decode: Decode, wrong: Row) -> None:
    with pytest.raises(TreniError, match="rows of different slots"):
        decode.launch([wrong])

"""The decoder against a float64 derivation of its own, and the cache against no cache."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from runtime_svc.backends.numpy.decoder import CHUNK, Decoder
from runtime_svc.backends.numpy.ops import NumpyOps
from runtime_svc.backends.numpy.weights import read_weights
from runtime_svc.random_checkpoint import Shape, random_tensors, write_random_checkpoint
from runtime_svc.weights.opening import open_checkpoint
from tests.runtime_svc import reference

SHAPES = {
    "qwen3": Shape(dtype="float32"),
    "qwen3-untied-wide-heads": Shape(dtype="float32", tied=False, heads=6, kv_heads=3, head_dim=16),
    "qwen3-one-kv-head": Shape(dtype="float32", heads=4, kv_heads=1),
    "qwen2": Shape(dtype="float32", model_type="qwen2"),
    "llama": Shape(dtype="float32", model_type="llama"),
    "llama-untied-wide": Shape(dtype="float32", model_type="llama", tied=False, head_dim=12),
    "qwen2-untied-no-groups": Shape(dtype="float32", model_type="qwen2", tied=False, heads=4, kv_heads=4),
}


Made: TypeAlias = tuple[Shape, dict[str, npt.NDArray[np.float32]], Decoder]


def load(directory: Path) -> Decoder:
    opened = open_checkpoint(directory)
    return Decoder(opened.config, read_weights(opened), NumpyOps())


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    shape = SHAPES[request.param]
    directory = write_random_checkpoint(tmp_path_factory.mktemp(request.param), shape, seed=1)
    return shape, random_tensors(shape, 1), load(directory)


def tokens_of(length: int, seed: int = 0) -> list[int]:
    tokens: list[int] = np.random.default_rng(seed).integers(0, 288, length).tolist()
    return tokens


def test_prefill_and_decode_match_float64(model: Made) -> None:
    shape, tensors, decoder = model
    tokens = tokens_of(24)
    expected = reference.logits(shape, tensors, tokens)
    cache = decoder.new_cache()
    actual = [decoder.forward(tokens[:11], cache).copy()]
    actual += [decoder.forward([token], cache).copy() for token in tokens[11:]]
    np.testing.assert_allclose(np.stack(actual), expected[10:], rtol=0, atol=2e-5)


def test_prompt_longer_than_a_chunk_matches_float64(model: Made) -> None:
    shape, tensors, decoder = model
    tokens = tokens_of(2 * CHUNK + 3)
    actual = decoder.forward(tokens, decoder.new_cache())
    np.testing.assert_allclose(actual, reference.logits(shape, tensors, tokens)[-1], rtol=0, atol=2e-5)


def test_cache_cut_back_and_continued_matches_a_fresh_one(model: Made) -> None:
    _, _, decoder = model
    first, second = tokens_of(300, 1), tokens_of(40, 2)
    cache = decoder.new_cache()
    decoder.forward(first, cache)
    cache.truncate(150)
    continued = decoder.forward(second, cache).copy()
    fresh = decoder.forward(first[:150] + second, decoder.new_cache())
    np.testing.assert_allclose(continued, fresh, rtol=0, atol=1e-5)
    assert cache.tokens == first[:150] + second


def test_growing_the_cache_keeps_what_it_holds(model: Made) -> None:
    _, _, decoder = model
    tokens = tokens_of(600)
    grown, roomy = decoder.new_cache(), decoder.new_cache()
    roomy.reserve(700)
    for first in range(0, 600, 50):
        a = decoder.forward(tokens[first : first + 50], grown).copy()
        b = decoder.forward(tokens[first : first + 50], roomy)
        np.testing.assert_array_equal(a, b)


def test_same_calls_give_the_same_bits(model: Made) -> None:
    _, _, decoder = model
    tokens = tokens_of(200)

    def run() -> list[np.ndarray]:
        cache = decoder.new_cache()
        return [decoder.forward(tokens[:190], cache).copy()] + [
            decoder.forward([t], cache).copy() for t in tokens[190:]
        ]

    np.testing.assert_array_equal(run(), run())


def test_a_check_that_raises_stops_between_chunks(model: Made) -> None:
    _, _, decoder = model
    cache = decoder.new_cache()
    calls = []

    def check() -> None:
        calls.append(len(cache.tokens))
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoder.forward(tokens_of(5 * CHUNK), cache, check=check)
    assert calls == [0, CHUNK, 2 * CHUNK]
    assert len(cache.tokens) == 2 * CHUNK


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_weights_are_widened_exactly(tmp_path: Path, dtype: str) -> None:
    shape = Shape(dtype=dtype)
    directory = write_random_checkpoint(tmp_path, shape, seed=3)
    tensors = random_tensors(shape, 3)
    for name, values in tensors.items():
        if dtype == "float16":
            tensors[name] = values.astype(np.float16)
        else:
            tensors[name] = reference.nearest_bfloat16(values)
    tokens = tokens_of(20)
    decoder = load(directory)
    actual = decoder.forward(tokens, decoder.new_cache())
    np.testing.assert_allclose(actual, reference.logits(shape, tensors, tokens)[-1], rtol=0, atol=2e-5)


def test_shards_give_the_same_weights_as_one_file(tmp_path: Path) -> None:
    one = load(write_random_checkpoint(tmp_path / "one", Shape(), seed=2))
    many = load(write_random_checkpoint(tmp_path / "many", Shape(), seed=2, shards=3))
    tokens = tokens_of(30)
    np.testing.assert_array_equal(
        one.forward(tokens, one.new_cache()), many.forward(tokens, many.new_cache())
    )

"""The whole prefill: against the NumPy decoder and against what Hugging Face transformers gave."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import runtime_svc
from runtime_svc.backends.cuda import weights
from runtime_svc.backends.cuda.cache import KvCache
from runtime_svc.backends.cuda.device import Device
from runtime_svc.backends.cuda.prefill import Prefill
from runtime_svc.backends.numpy.decoder import Cache, Decoder
from runtime_svc.backends.numpy.ops import NumpyOps
from runtime_svc.backends.numpy.weights import read_weights
from runtime_svc.models.rope import turns
from runtime_svc.random_checkpoint import Shape, write_random_checkpoint
from runtime_svc.safetensor import read_directory, write_file
from runtime_svc.weights.checkpoint import checked
from runtime_svc.weights.opening import open_checkpoint
from tests.places import GOLDENS
from tests.runtime_svc import reference
from tests.runtime_svc.backends.cuda.arrays import put, take

NMSE = 1e-4
ROUNDED_NMSE = 3e-4
"""For checkpoints that are stored in float32 or float16: a device rounds their matrices to bfloat16."""

CLEAR_GAP = 0.1
"""Top-2 difference of the reference's logits from which on the greedy token must be the same."""

DATA = GOLDENS / "data"
BUNDLED = Path(runtime_svc.__file__).parent / "checkpoints" / "treni-tiny"


class Model:
    """A checkpoint's prefill over three slots of a device."""

    def __init__(self, device: Device, directory: Path, *, rows: int = 2048) -> None:
        opened = open_checkpoint(directory)
        self.config = opened.config
        capacity = min(self.config.context_length, 2048)
        loaded = weights.load(opened, device)
        cache = KvCache.allocate(device, self.config, slots=3, capacity=capacity)
        table = turns(self.config.inverse_frequencies, self.config.rope_attention_scale, capacity)
        self.prefill = Prefill(device, self.config, loaded, cache, put(device, table), rows=rows)
        self.device = device

    def logits(self, slot: int, tokens: Sequence[int], start: int = 0) -> npt.NDArray[np.float32]:
        self.prefill.run(slot, tokens, start, logits=True)
        return take(self.device, self.prefill.logits, (self.config.vocabulary,), np.float32)


def close(actual: np.ndarray, expected: np.ndarray, bound: float = NMSE) -> None:
    """Both (T, vocabulary): the error over all of them, and the greedy token wherever it is clear."""
    actual, expected = np.atleast_2d(actual).astype(float), np.atleast_2d(expected).astype(float)
    assert np.sum((actual - expected) ** 2) / np.sum((expected - expected.mean()) ** 2) <= bound
    ranked = np.sort(expected, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > CLEAR_GAP
    np.testing.assert_array_equal(actual.argmax(axis=1)[clear], expected.argmax(axis=1)[clear])


def forced(
    logits: Callable[[Sequence[int], int], np.ndarray], prompt: Sequence[int], ids: Sequence[int], count: int
) -> np.ndarray:
    """The first `count` logits of the golden answer: the prompt's, then after one token more at a time.

    `logits` gives those after tokens and their position.
    """
    found = [logits(prompt, 0)]
    for step in range(count - 1):
        found.append(logits([ids[step]], len(prompt) + step))
    return np.stack(found)


OFTEN = (
    "llama-own-head",
    "llama-stretched",
    "qwen2-sharded",
    "qwen2-yarn",
    "qwen3-groups-theta",
    "qwen3-linear",
)
"""Checkpoints that `make test` runs on the CPU build; `make soak` runs the others, and a GPU all of them."""

CASES = [
    pytest.param(name, marks=() if name in OFTEN else pytest.mark.soak)
    for name in sorted(path.name for path in (DATA / "random").iterdir())
]


@pytest.mark.parametrize("case", CASES)
def test_random_checkpoints_as_transformers_computes_them(device: Device, tmp_path: Path, case: str) -> None:
    golden = np.load(DATA / "random.npz")
    model = Model(device, DATA / "random" / case)
    dtype, decoder = rounded(DATA / "random" / case, tmp_path)
    actual, computed, expected = [], [], []
    for index in range(4):
        prompt, ids, logits = (golden[f"{case}/{index}/{part}"] for part in ("prompt", "ids", "logits"))
        cache = decoder.new_cache()
        actual.append(forced(partial(model.logits, 1), prompt, ids, len(logits)))
        computed.append(forced(partial(next_logits, decoder, cache), prompt, ids, len(logits)))
        expected.append(logits)
    close(np.concatenate(actual), np.concatenate(expected), NMSE if dtype == "bfloat16" else ROUNDED_NMSE)
    close(np.concatenate(actual), np.concatenate(computed))


def next_logits(decoder: Decoder, cache: Cache, tokens: Sequence[int], _: int) -> np.ndarray:
    """The NumPy decoder's, of tokens that follow those of the cache."""
    logits: np.ndarray = decoder.forward(tokens, cache).copy()
    return logits


def rounded(directory: Path, target: Path) -> tuple[str, Decoder]:
    """How a checkpoint is stored, and the NumPy decoder of the same with its matrices in bfloat16."""
    opened = open_checkpoint(directory)
    tensors = {name: tensor.widened() for name, tensor in opened.tensors.items()}
    for name, values in tensors.items():
        if values.ndim == 2:
            tensors[name] = reference.nearest_bfloat16(values)
    write_file(target / "model.safetensors", tensors, "float32")
    nearest = checked(target, opened.config, read_directory(target))
    return opened.stored_dtype, Decoder(opened.config, read_weights(nearest), NumpyOps())


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("head_dim", [32, 64, 128])
def test_random_checkpoints_as_numpy_computes_them(
    device: Device, tmp_path: Path, family: str, head_dim: int
) -> None:
    shape = Shape(model_type=family, hidden=256, head_dim=head_dim, ffn=384, tied=head_dim == 64)
    directory = write_random_checkpoint(tmp_path, shape, seed=head_dim)
    model = Model(device, directory)
    decoder = Decoder(model.config, read_weights(open_checkpoint(directory)), NumpyOps())
    cache = decoder.new_cache()
    tokens = np.random.default_rng(3).integers(0, shape.vocabulary, 75).tolist()
    for start, end in ((0, 1), (1, 17), (17, 75)):
        expected = decoder.forward(tokens[start:end], cache).copy()
        close(model.logits(2, tokens[start:end], start), expected)


def test_chunks_and_copied_prefixes_give_what_one_pass_gives(device: Device, tmp_path: Path) -> None:
    directory = write_random_checkpoint(tmp_path, Shape(hidden=64, head_dim=32, ffn=96))
    model = Model(device, directory, rows=40)
    tokens = np.random.default_rng(3).integers(0, 288, 100).tolist()
    for start in (0, 40):
        model.prefill.run(0, tokens[start : start + 40], start, logits=False)
    whole = model.logits(0, tokens[80:], 80)
    model.prefill.copy_prefix(0, 2, 63)
    close(model.logits(2, tokens[63:], 63), whole)


def test_the_bundled_checkpoint_answers_as_transformers_does(device: Device) -> None:
    golden = np.load(DATA / "checkpoint.npz")
    model = Model(device, BUNDLED)
    shortest = sorted((len(golden[f"{i}/prompt"]), i) for i in range(len({k.split("/")[0] for k in golden})))
    for _, index in shortest[:3]:
        prompt, ids, logits = (golden[f"{index}/{part}"] for part in ("prompt", "ids", "logits"))
        close(forced(partial(model.logits, 1), prompt, ids, len(logits)), logits)

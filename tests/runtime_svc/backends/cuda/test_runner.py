"""The runner's contract on a device, and what it says where there is none."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime_svc
from runtime_svc.backends.cuda import device as devices
from runtime_svc.backends.cuda import weights
from runtime_svc.backends.cuda.decode import Decode
from runtime_svc.backends.cuda.device import Device
from runtime_svc.backends.cuda.runner import CudaRunner
from runtime_svc.backends.numpy.decoder import Decoder
from runtime_svc.backends.numpy.ops import NumpyOps
from runtime_svc.backends.numpy.weights import read_weights
from runtime_svc.decoding.runner import Row
from runtime_svc.ops import Sampled, SamplingParams
from runtime_svc.random_checkpoint import Shape, write_random_checkpoint
from runtime_svc.safetensor import read_file, write_file
from runtime_svc.weights.hugging_face import read_config
from runtime_svc.weights.opening import open_checkpoint
from tests.places import GOLDENS
from tests.runtime_svc.backends.cuda.host_device import HostDevice
from tests.runtime_svc.backends.cuda.tokens import sure
from treni.errors import Code, TreniError

GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=0)
DRAWN = SamplingParams(temperature=0.8, top_p=0.9, top_k=40, seed=7)
DATA = GOLDENS / "data"
BUNDLED = Path(runtime_svc.__file__).parent / "checkpoints" / "treni-tiny"
PROMPT = np.random.default_rng(5).integers(0, 288, 60).tolist()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = Shape(hidden=128, head_dim=32, ffn=192)
    return write_random_checkpoint(tmp_path_factory.mktemp("runner"), shape, seed=4)


@pytest.fixture
def runner(device: Device, directory: Path) -> CudaRunner:
    return made(device, directory, slots=3, capacity=100)


def made(device: Device, directory: Path, *, slots: int, capacity: int) -> CudaRunner:
    config = read_config(directory)
    loaded = weights.load(open_checkpoint(directory), device)
    steps = partial(Decode, device, config, loaded)
    return CudaRunner(device, "a device", config, loaded, slots=slots, capacity=capacity, steps=steps)


def generated(runner: CudaRunner, slot: int, prompt: Sequence[int], count: int) -> list[Sampled]:
    """The greedy answer, `count` tokens."""
    tokens = [sure(runner.prefill(slot, prompt, 0, GREEDY, nothing))]
    for draw in range(1, count):
        position = len(prompt) + draw - 1
        row = Row(slot=slot, position=position, token=tokens[-1].id, draw=draw, params=GREEDY)
        tokens += map(sure, runner.launch([row]).wait())
    return tokens


def nothing() -> None:
    pass


def test_what_it_says_of_itself(runner: CudaRunner, directory: Path) -> None:
    assert (runner.backend, runner.device, runner.slots, runner.capacity) == ("cupy", "a device", 3, 100)
    assert (runner.ahead, runner.max_rows, runner.stored_dtype) == (1, 8, "bfloat16")
    assert runner.parameters == read_weights(open_checkpoint(directory)).parameters


def test_the_first_token_is_the_decoders(runner: CudaRunner, directory: Path) -> None:
    decoder = Decoder(runner.config, read_weights(open_checkpoint(directory)), NumpyOps())
    expected = decoder.ops.sample(decoder.forward(PROMPT, decoder.new_cache()), GREEDY, 0)
    token = sure(runner.prefill(1, PROMPT, 0, GREEDY, nothing))
    assert token.id == expected.id
    assert token.logprob == pytest.approx(expected.logprob, abs=0.05)
    assert token.entropy == pytest.approx(expected.entropy, abs=0.02)
    assert token.margin == pytest.approx(expected.margin, abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_first_token_is_one_of_the_likely_ones_and_says_how_likely(
    runner: CudaRunner, directory: Path, seed: int
) -> None:
    params = SamplingParams(temperature=0.8, top_p=0.9, top_k=5, seed=seed)
    decoder = Decoder(runner.config, read_weights(open_checkpoint(directory)), NumpyOps())
    logits = decoder.forward(PROMPT, decoder.new_cache())
    token = sure(runner.prefill(1, PROMPT, 0, params, nothing))
    assert (logits > logits[token.id]).sum() < 5 + 1  # a rank that rounding may move by one
    expected = logits[token.id].astype(float) - np.logaddexp.reduce(logits.astype(float))
    assert token.logprob == pytest.approx(expected, abs=0.05)


def test_the_same_prompt_gives_the_same_bits_in_any_slot(runner: CudaRunner) -> None:
    first = runner.prefill(0, PROMPT, 0, DRAWN, nothing)
    runner.prefill(1, PROMPT[::-1], 0, DRAWN, nothing)
    assert runner.prefill(2, PROMPT, 0, DRAWN, nothing) == first


def test_decode_continues_what_prefill_began(device: Device, directory: Path) -> None:
    runner = made(device, directory, slots=2, capacity=100)
    decoder = Decoder(runner.config, read_weights(open_checkpoint(directory)), NumpyOps())
    cache = decoder.new_cache()
    logits = decoder.forward(PROMPT, cache)
    for token in generated(runner, 1, PROMPT, 6):
        expected = decoder.ops.sample(logits, GREEDY, 0)
        if expected.margin > 0.1:
            assert token.id == expected.id
        assert token.entropy == pytest.approx(expected.entropy, abs=0.02)
        logits = decoder.forward([token.id], cache)


def test_the_bundled_checkpoint_answers_as_transformers_does(device: Device) -> None:
    golden = np.load(DATA / "checkpoint.npz")
    runner = made(device, BUNDLED, slots=2, capacity=2048)
    # The CPU build takes seconds a step: the beginning of one answer there, all of every answer on a GPU.
    on_gpu = not isinstance(device, HostDevice)
    errors: dict[str, list[float]] = {"logprob": [], "entropy": []}
    for index in range(len({key.split("/")[0] for key in golden}) if on_gpu else 1):
        prompt, ids, gaps = (golden[f"{index}/{part}"] for part in ("prompt", "ids", "gap"))
        answer = generated(runner, 1, prompt.tolist(), len(ids) if on_gpu else 3)
        for step, token in enumerate(answer):
            if token.id != ids[step]:
                assert gaps[step] <= 0.1
                break
            for part, found in errors.items():
                found.append(abs(getattr(token, part) - golden[f"{index}/{part}"][step]))
    for part, bound in (("logprob", 0.05), ("entropy", 0.02)):
        sizes = np.array(errors[part])
        mean = np.sqrt(np.mean(sizes**2))
        print(f"{part}: {len(sizes)} positions, largest error {sizes.max():.4f}, RMS {mean:.5f}")
        assert sizes.max() <= bound


def test_prepared_passes_give_the_same(device: Device, directory: Path) -> None:
    unprepared, prepared = (made(device, directory, slots=3, capacity=100) for _ in range(2))
    pieces = 1
    while prepared.prepare():
        pieces += 1
    assert pieces == 2 * 4  # of 16, 32, 64 and 100 rows, with logits and without
    for length in (5, 20, 60):  # sizes that have not run before
        tokens = [runner.prefill(1, PROMPT[:length], 0, DRAWN, nothing) for runner in (unprepared, prepared)]
        assert tokens[0] == tokens[1]


def test_nothing_is_drawn_without_params_and_a_copied_prefix_continues(runner: CudaRunner) -> None:
    whole = sure(runner.prefill(0, PROMPT, 0, GREEDY, nothing))
    assert runner.prefill(1, PROMPT[:40], 0, None, nothing) is None
    runner.copy_prefix(1, 2, 40)
    token = sure(runner.prefill(2, PROMPT[40:], 40, GREEDY, nothing))
    assert token.id == whole.id
    assert token.logprob == pytest.approx(whole.logprob, abs=0.05)


@pytest.mark.parametrize("params", [GREEDY, DRAWN])
def test_a_model_that_yields_no_numbers_draws_no_token(
    device: Device, tmp_path: Path, params: SamplingParams
) -> None:
    directory = write_random_checkpoint(tmp_path, Shape(hidden=128, head_dim=32, ffn=192), seed=4)
    path = directory / "model.safetensors"
    tensors = {name: tensor.widened() for name, tensor in read_file(path).items()}
    for name in tensors:
        if "proj" in name:
            tensors[name] *= np.float32(1e30)
    write_file(path, tensors, "bfloat16")
    runner = made(device, directory, slots=1, capacity=64)
    with pytest.raises(TreniError) as raised:
        runner.prefill(0, PROMPT, 0, params, nothing)
    assert raised.value.kind == "logits_not_finite"


@pytest.mark.parametrize("projection", ["k_proj", "v_proj"])
@pytest.mark.parametrize("bias", [65521.0, -1e6])
def test_keys_and_values_that_do_not_fit_are_an_error(
    device: Device, tmp_path: Path, projection: str, bias: float
) -> None:
    directory = write_random_checkpoint(
        tmp_path, Shape(model_type="qwen2", hidden=128, head_dim=32, ffn=192), seed=4
    )
    path = directory / "model.safetensors"
    tensors = {name: tensor.widened() for name, tensor in read_file(path).items()}
    tensors[f"model.layers.0.self_attn.{projection}.bias"][15] = bias  # turns slowest
    write_file(path, tensors, "float32")
    runner = made(device, directory, slots=1, capacity=64)
    for prompt in (PROMPT[:1], PROMPT):
        with pytest.raises(TreniError) as raised:
            runner.prefill(0, prompt, 0, GREEDY, nothing)
        assert raised.value.kind == "logits_not_finite"
    row = Row(slot=0, position=0, token=5, draw=0, params=GREEDY)
    assert runner.launch([row]).wait() == [None]


def test_a_row_without_finite_logits_is_the_only_one_that_draws_no_token(runner: CudaRunner) -> None:
    prompts = [PROMPT[:20], PROMPT[20:40], PROMPT[40:]]
    first = [sure(runner.prefill(slot, prompt, 0, GREEDY, nothing)) for slot, prompt in enumerate(prompts)]
    rows = [
        Row(slot=slot, position=20, token=token.id, draw=1, params=GREEDY) for slot, token in enumerate(first)
    ]
    expected = runner.launch(rows).wait()
    assert None not in expected
    cache = runner._prefill._cache
    keys = np.full((runner.config.kv_heads, runner.capacity, runner.config.head_dim), np.nan, np.float16)
    runner._device.upload(cache.layer(0) + keys.nbytes, keys)
    assert runner.launch(rows).wait() == [expected[0], None, expected[2]]


def test_check_stops_before_a_chunk(runner: CudaRunner) -> None:
    def stop() -> None:
        raise InterruptedError

    whole = sure(runner.prefill(0, PROMPT, 0, GREEDY, nothing))
    runner.prefill(0, PROMPT[:50], 0, None, nothing)
    with pytest.raises(InterruptedError):
        runner.prefill(0, PROMPT[:10], 50, GREEDY, stop)
    assert sure(runner.prefill(0, PROMPT[50:], 50, GREEDY, nothing)).id == whole.id


def test_a_slot_has_an_end(runner: CudaRunner) -> None:
    with pytest.raises(TreniError) as raised:
        runner.prefill(0, PROMPT, 41, GREEDY, nothing)
    assert raised.value.code is Code.INTERNAL


def test_without_a_gpu_it_is_an_error_and_no_fallback(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Runtime:
        class CUDARuntimeError(Exception):
            pass

        @staticmethod
        def getDeviceProperties(ordinal: int) -> dict[str, Any]:
            raise Runtime.CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    class Cupy:
        class cuda:
            runtime = Runtime

    monkeypatch.setattr(devices, "_cupy", lambda: Cupy)
    _unavailable(directory, "no CUDA-capable device")


def test_without_cupy_it_is_an_error_and_no_fallback(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    _unavailable(directory, "cupy")


def test_on_another_gpu_it_is_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cupy:
        class cuda:
            class runtime:
                CUDARuntimeError = RuntimeError

                @staticmethod
                def getDeviceProperties(ordinal: int) -> dict[str, Any]:
                    return {"name": b"NVIDIA A10", "major": 8, "minor": 6, "multiProcessorCount": 72}

    monkeypatch.setattr(devices, "_cupy", lambda: Cupy)
    _unavailable(directory, "NVIDIA A10")


def _unavailable(directory: Path, word: str) -> None:
    with pytest.raises(TreniError, match=word) as raised:
        CudaRunner.load(open_checkpoint(directory), slots=1, capacity=64)
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert raised.value.kind == "backend_unavailable"

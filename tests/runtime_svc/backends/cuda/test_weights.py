"""The slab of weights: every tensor where the layout says, converted bit for bit, or an error that names it."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from runtime_svc.backends.cuda import weights
from runtime_svc.backends.cuda.device import Device
from runtime_svc.backends.cuda.layout import layout
from runtime_svc.random_checkpoint import Shape, random_tensors, write_random_checkpoint
from runtime_svc.safetensor import read_directory, read_file, write_file
from runtime_svc.weights.hugging_face import read_config
from runtime_svc.weights.opening import open_checkpoint
from tests.runtime_svc.backends.cuda.arrays import narrowed
from tests.runtime_svc.gguf_files import Q, write_gguf, write_twin
from treni.errors import Code, TreniError

SHAPES = [
    Shape(model_type="qwen2", hidden=64, head_dim=16, ffn=96, tied=False),
    Shape(model_type="qwen3", hidden=40, head_dim=32, ffn=56, layers=3),
    Shape(model_type="llama", hidden=48, head_dim=16, ffn=64, tied=False),
]


def loaded(device: Device, directory: Path) -> tuple[weights.DeviceWeights, npt.NDArray[np.uint8]]:
    result = weights.load(open_checkpoint(directory), device)
    slab = np.empty(result.layout.size, np.uint8)
    device.download(result.address, slab)
    return result, slab


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_tensor_is_where_the_layout_says(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: Shape, shards: int, dtype: str
) -> None:
    monkeypatch.setattr(weights, "CHUNK", 4096)  # so that tensors are cut, and the threads take turns
    directory = write_random_checkpoint(tmp_path, Shape(**{**_fields(shape), "dtype": dtype}), shards=shards)
    result, slab = loaded(device, directory)
    stored = read_directory(directory)
    assert result.stored_dtype == dtype
    assert result.parameters == sum(placed.elements for placed in result.layout.tensors)
    for placed in result.layout.tensors:
        values = stored[placed.name].widened().ravel()
        actual = slab[placed.offset : placed.offset + placed.size]
        expected = values if placed.wide else narrowed(values)
        np.testing.assert_array_equal(actual.view(expected.dtype), expected, err_msg=placed.name)


@pytest.mark.parametrize("kind", [Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_1])
@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_a_gguf_file_gives_the_slab_of_the_directory_with_the_same_weights(
    device: Device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model_type: str,
    kind: gguf.GGMLQuantizationType,
) -> None:
    monkeypatch.setattr(weights, "CHUNK", 4096)
    shape = Shape(model_type=model_type, hidden=64, head_dim=16, ffn=96, tied=kind is not Q.Q4_1)
    mine, slab = loaded(device, write_gguf(tmp_path / "model.gguf", shape, kind=kind))
    theirs, expected = loaded(device, write_twin(tmp_path / "twin", shape, kind=kind))
    assert mine.layout == theirs.layout
    assert mine.parameters == theirs.parameters
    np.testing.assert_array_equal(slab, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_fused_matrices_lie_side_by_side_and_the_rest_is_aligned(tmp_path: Path, shape: Shape) -> None:
    config = read_config(write_random_checkpoint(tmp_path, shape))
    places = layout(config)
    by_name = {placed.name: placed for placed in places.tensors}
    assert set(by_name) == set(random_tensors(shape, 0))
    ends = sorted((placed.offset, placed.offset + placed.size) for placed in places.tensors)
    assert all(end <= following for (_, end), (following, _) in pairwise(ends))
    assert ends[-1][1] == places.size
    for index, layer in enumerate(places.layers):
        at = f"model.layers.{index}."
        q, k, v = (by_name[f"{at}self_attn.{name}_proj.weight"] for name in "qkv")
        gate, up = (by_name[f"{at}mlp.{name}_proj.weight"] for name in ("gate", "up"))
        assert (layer.qkv, q.offset + q.size, k.offset + k.size) == (q.offset, k.offset, v.offset)
        assert (layer.gate_up, gate.offset + gate.size) == (gate.offset, up.offset)
        for offset in (layer.qkv, layer.o, layer.gate_up, layer.down, layer.attention_gain, layer.ffn_gain):
            assert offset % 256 == 0


def test_half_precision_corner_cases(device: Device) -> None:
    """Every one of the 65,536 halves, against NumPy."""
    halves = np.arange(1 << 16, dtype=np.uint16)
    source, target = device.allocate(halves.nbytes), device.allocate(4 * halves.size)
    device.upload(source, halves)
    device.launch("weights", "half_to_float", (256, 1, 1), 256, (source, target, np.int64(halves.size)))
    actual = np.empty(halves.size, np.float32)
    device.download(target, actual)
    np.testing.assert_array_equal(actual, halves.view(np.float16).astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.layers.0.self_attn.k_proj.bias"]
)
def test_weights_that_are_not_numbers(
    device: Device, tmp_path: Path, name: str, dtype: str, bad: float
) -> None:
    directory = write_random_checkpoint(tmp_path, Shape(model_type="qwen2", dtype=dtype))
    path = directory / "model.safetensors"
    tensors = {key: tensor.widened() for key, tensor in read_file(path).items()}
    tensors[name].flat[-1] = bad
    write_file(path, tensors, dtype)
    with pytest.raises(TreniError) as raised:
        loaded(device, directory)
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert raised.value.kind == "checkpoint_damaged"
    assert name in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_tensor_and_a_wrong_shape_are_named(device: Device, tmp_path: Path) -> None:
    directory = write_random_checkpoint(tmp_path, Shape())
    path = directory / "model.safetensors"
    tensors = {key: tensor.widened() for key, tensor in read_file(path).items()}
    norm = tensors.pop("model.norm.weight")
    write_file(path, tensors, "bfloat16")
    with pytest.raises(TreniError, match=r"model\.norm\.weight") as raised:
        loaded(device, directory)
    assert raised.value.kind == "checkpoint_missing"
    write_file(path, {**tensors, "model.norm.weight": norm[:-1]}, "bfloat16")
    with pytest.raises(TreniError, match=r"model\.norm\.weight") as raised:
        loaded(device, directory)
    assert raised.value.kind == "checkpoint_damaged"


def test_a_file_that_shrinks_while_it_is_read(device: Device, tmp_path: Path) -> None:
    directory = write_random_checkpoint(tmp_path, Shape())
    opened = open_checkpoint(directory)
    places = layout(opened.config)
    tensors = [opened.tensors[placed.name] for placed in places.tensors]
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    upload = weights.Upload(device, device.allocate(places.size), weights.jobs(places.tensors, tensors))
    with pytest.raises(TreniError) as raised:
        upload.run()
    assert raised.value.kind == "checkpoint_damaged"


@pytest.mark.parametrize("shape", [Shape(head_dim=24), Shape(hidden=36), Shape(ffn=44), Shape(hidden=5128)])
def test_shapes_that_the_kernels_cannot_do(device: Device, tmp_path: Path, shape: Shape) -> None:
    directory = write_random_checkpoint(tmp_path, shape)
    with pytest.raises(TreniError) as raised:
        loaded(device, directory)
    assert raised.value.kind == "checkpoint_unsupported"


def _fields(shape: Shape) -> dict[str, Any]:
    return {name: getattr(shape, name) for name in shape.__dataclass_fields__}

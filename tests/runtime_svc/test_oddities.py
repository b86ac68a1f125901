"""Directories as they are found in the wild: what loads, with which meaning, and what is refused by which name."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime_svc.backends.numpy.weights import read_weights
from runtime_svc.encoder.encoder import Encoder
from runtime_svc.engine import Engine
from runtime_svc.random_checkpoint import Shape, random_tensors, write_random_checkpoint
from runtime_svc.safetensor import write_file
from runtime_svc.weights.hugging_face import read_config
from runtime_svc.weights.opening import open_checkpoint
from tests.places import GOLDENS
from tests.runtime_svc.requests import generate_request
from treni.errors import Code, TreniError

BERT = GOLDENS / "data" / "encoder" / "random-bert"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1503300328\n"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
BIAS = "model.layers.0.self_attn.q_proj.bias"


@pytest.fixture
def directory(tmp_path: Path, random_directory: Path) -> Path:
    return shutil.copytree(random_directory, tmp_path / "copy")


def edit(path: Path, **changes: object) -> None:
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: new for key, new in value.items() if new is not None}))


def store(directory: Path, tensors: Mapping[str, np.ndarray], dtype: str = "bfloat16") -> None:
    write_file(directory / "model.safetensors", tensors, dtype)


def refused(load: Callable[[], object], kind: str, *words: str) -> None:
    with pytest.raises(TreniError) as caught:
        load()
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.kind == kind
    for word in words:
        assert word in str(caught.value)


def text(directory: Path) -> list[int]:
    *_, last = Engine.load(directory, slots=8).generate(generate_request("hello", max_new_tokens=12))
    return [token.id for token in last.finish.tokens]


def with_own_head(seed: int = 7) -> dict[str, npt.NDArray[np.float32]]:
    head = np.random.default_rng(seed).standard_normal((288, 32)).astype(np.float32) / np.float32(6)
    return {**random_tensors(Shape(), 5), HEAD: head}


def test_a_head_of_its_own_beside_a_tied_embedding_is_used(directory: Path) -> None:
    tied = text(directory)
    store(directory, with_own_head())
    own = text(directory)
    edit(directory / "config.json", tie_word_embeddings=False)
    assert own == text(directory) != tied
    assert open_checkpoint(directory).config.tied is False


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_copy_of_the_embedding_as_head_counts_once(directory: Path, dtype: str) -> None:
    tensors = random_tensors(Shape(), 5)
    before = open_checkpoint(directory)
    store(directory, {**tensors, HEAD: tensors[EMBEDDING]}, dtype)
    opened = open_checkpoint(directory)
    assert opened.config.tied
    assert opened.parameters == before.parameters == Engine.load(directory).info.parameters


def test_a_copy_of_the_embedding_in_another_type_is_a_copy(directory: Path) -> None:
    """Every bfloat16 is a float32: the two hold the same numbers."""
    rounded = open_checkpoint(directory).tensors[EMBEDDING].widened()
    tensors = {name: t.widened() for name, t in open_checkpoint(directory).tensors.items()}
    (directory / "model.safetensors").unlink()
    write_file(directory / "a.safetensors", tensors, "bfloat16")
    write_file(directory / "b.safetensors", {HEAD: rounded}, "float32")
    placed = {**dict.fromkeys(tensors, "a.safetensors"), HEAD: "b.safetensors"}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    assert open_checkpoint(directory).config.tied


def test_a_head_of_another_shape_is_damage(directory: Path) -> None:
    store(directory, {**random_tensors(Shape(), 5), HEAD: np.ones((2, 2), np.float32)})
    refused(lambda: Engine.load(directory), "checkpoint_damaged", HEAD, "(2, 2)")


def test_a_tied_model_stored_as_a_head_alone(directory: Path) -> None:
    expected = text(directory)
    tensors = random_tensors(Shape(), 5)
    store(directory, {HEAD if name == EMBEDDING else name: value for name, value in tensors.items()})
    assert text(directory) == expected


def test_names_without_the_prefix(directory: Path) -> None:
    expected = text(directory)
    tensors = random_tensors(Shape(), 5)
    store(directory, {name.removeprefix("model."): value for name, value in tensors.items()})
    assert text(directory) == expected
    tensors["norm.weight"] = tensors.pop("model.norm.weight")  # but not half and half
    store(directory, tensors)
    refused(lambda: Engine.load(directory), "checkpoint_missing", "model.norm.weight")


@pytest.mark.parametrize(
    "name",
    [
        BIAS,
        "model.layers.0.self_attn.o_proj.bias",
        "model.layers.2.input_layernorm.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.weight_scale_inv",
        "model.layers.0.mlp.gate.weight",
        "norm.weight",
        "inv_freq",
        "",
    ],
)
def test_a_tensor_that_nobody_asked_for_is_refused_by_name(directory: Path, name: str) -> None:
    tensors = random_tensors(Shape(), 5)
    store(directory, {**tensors, name: np.ones(4, np.float32)})
    refused(
        lambda: Engine.load(directory),
        "checkpoint_unsupported",
        name,
        "Qwen3ForCausalLM",
        "model.safetensors",
    )


def test_how_many_more_there_are_is_said(directory: Path) -> None:
    edit(directory / "config.json", num_hidden_layers=1)
    refused(
        lambda: Engine.load(directory), "checkpoint_unsupported", "model.layers.1.", "and 10 more", "1 layers"
    )


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"]
)
def test_buffers_that_follow_from_the_config_are_no_weights(directory: Path, name: str) -> None:
    expected, before = text(directory), open_checkpoint(directory).parameters
    store(directory, {**random_tensors(Shape(), 5), name: np.ones(4, np.float32)})
    assert text(directory) == expected
    assert open_checkpoint(directory).parameters == before


def test_an_encoder_refuses_them_too(tmp_path: Path) -> None:
    directory = shutil.copytree(BERT, tmp_path / "bert")
    opened = Encoder.load(directory)
    tensors = {}
    from runtime_svc.safetensor import read_file

    for name, tensor in read_file(directory / "model.safetensors").items():
        if tensor.dtype != "I64":
            tensors[name] = tensor.widened()
    heads = {"pooler.dense.weight", "cls.predictions.bias"}
    store(directory, {**tensors, **{name: np.ones(3, np.float32) for name in heads}}, "float32")
    np.testing.assert_allclose(Encoder.load(directory).embed(["Hi"]), opened.embed(["Hi"]), atol=1e-6)
    store(directory, {**tensors, "encoder.layer.0.adapter.weight": np.ones(3, np.float32)}, "float32")
    refused(lambda: Encoder.load(directory), "checkpoint_unsupported", "encoder.layer.0.adapter.weight")


@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"],
)
def test_a_git_lfs_pointer_is_told_as_such(directory: Path, name: str) -> None:
    (directory / name).write_text(POINTER)
    refused(lambda: Engine.load(directory), "checkpoint_missing", name, "Git LFS pointer", "git lfs pull")


def test_a_git_lfs_pointer_in_place_of_a_shard_or_an_index(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, Shape(), shards=2)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.write_text(POINTER)
    refused(lambda: Engine.load(tmp_path), "checkpoint_missing", shard.name, "Git LFS pointer")
    (tmp_path / "model.safetensors.index.json").write_text(POINTER)
    refused(lambda: Engine.load(tmp_path), "checkpoint_missing", "index.json", "Git LFS pointer")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_git_lfs_pointer_in_an_encoder(tmp_path: Path, name: str) -> None:
    directory = shutil.copytree(BERT, tmp_path / "bert")
    (directory / name).write_text(POINTER)
    refused(lambda: Encoder.load(directory), "checkpoint_missing", name, "Git LFS pointer")


def test_what_merely_begins_like_a_pointer_is_none(directory: Path) -> None:
    (directory / "model.safetensors").write_text(POINTER + "x" * 2000)
    refused(lambda: Engine.load(directory), "checkpoint_damaged", "header")


def frequencies(directory: Path, **changes: object) -> tuple[float, ...]:
    edit(directory / "config.json", **{"rope_parameters": None, **changes})
    return read_config(directory).inverse_frequencies


def test_every_place_of_the_rope_settings(directory: Path) -> None:
    plain = frequencies(directory, rope_theta=1e6)
    assert plain[1] == pytest.approx(1e6 ** (-2 / 8))
    nested = {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}
    for other in (
        {"rope_parameters": nested, "rope_theta": None},
        {"rope_parameters": {"rope_type": "default"}, "rope_theta": 1e6},
        {"rope_parameters": {"full_attention": {"rope_type": "default"}}, "rope_theta": 1e6},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rope_scaling": {}},
        {"rope_scaling": {"type": "mrope", "rope_type": "default"}, "rope_theta": 1e6},
    ):
        assert frequencies(directory, **other) == plain, other


def test_a_whole_number_of_turns_is_kept_and_long_waves_are_slowed_down(directory: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    plain = frequencies(directory, rope_theta=1e4)
    slowed = frequencies(directory, rope_theta=1e4, rope_scaling=scaling)
    made = [64 * f / (2 * np.pi) for f in plain]  # turns over the trained context: 10.2, 1.02, 0.10, 0.01
    assert slowed[0] == plain[0]
    assert slowed[2:] == tuple(f / 8 for f in plain[2:])
    kept = (made[1] - 1) / 3
    assert slowed[1] == pytest.approx(kept * plain[1] + (1 - kept) * plain[1] / 8)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 0.1 * np.log(4) + 1),
        ({"beta_fast": None, "beta_slow": None, "attention_factor": None}, 0.1 * np.log(4) + 1),
        ({"attention_factor": 0.5, "mscale": 2.0, "mscale_all_dim": 1.0}, 0.5),
        ({"mscale": 2.0, "mscale_all_dim": 1.0}, (0.2 * np.log(4) + 1) / (0.1 * np.log(4) + 1)),
        ({"mscale": 2.0}, 0.1 * np.log(4) + 1),
        ({"mscale": 2.0, "mscale_all_dim": 0}, 0.1 * np.log(4) + 1),
    ],
)
def test_the_scale_of_stretched_attention(directory: Path, more: dict[str, Any], expected: float) -> None:
    """As transformers' `_compute_yarn_parameters` has it."""
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256, **more}
    edit(directory / "config.json", rope_parameters=None, rope_scaling=scaling)
    assert read_config(directory).rope_attention_scale == pytest.approx(expected)


@pytest.mark.parametrize(("model_type", "expected"), [("qwen3", 128), ("qwen2", 32), ("llama", 32)])
def test_the_width_of_a_head_that_is_not_given(tmp_path: Path, model_type: str, expected: int) -> None:
    shape = Shape(model_type=model_type, hidden=64, heads=2, kv_heads=1, head_dim=expected)
    write_random_checkpoint(tmp_path, shape)
    before = text(tmp_path)
    edit(tmp_path / "config.json", head_dim=None)
    assert read_config(tmp_path).head_dim == expected
    assert text(tmp_path) == before


@pytest.mark.parametrize(("model_type", "expected"), [("qwen3", 32768), ("qwen2", 32768), ("llama", 2048)])
def test_the_context_that_is_not_given(tmp_path: Path, model_type: str, expected: int) -> None:
    write_random_checkpoint(tmp_path, Shape(model_type=model_type))
    edit(tmp_path / "config.json", max_position_embeddings=None)
    assert read_config(tmp_path).context_length == expected


def test_windows_that_no_layer_has(directory: Path) -> None:
    expected = text(directory)
    edit(directory / "config.json", use_sliding_window=True, sliding_window=4096, max_window_layers=2)
    assert text(directory) == expected
    edit(directory / "config.json", layer_types=["full_attention"] * 2, max_window_layers=0)
    assert text(directory) == expected


def test_a_config_without_architectures(directory: Path) -> None:
    edit(directory / "config.json", architectures=None)
    assert read_config(directory).architecture.name == "Qwen3ForCausalLM"


@pytest.mark.parametrize("setting", ["attention_bias", "mlp_bias"])
def test_biases_that_llama_may_have(tmp_path: Path, setting: str) -> None:
    write_random_checkpoint(tmp_path, Shape(model_type="llama"))
    edit(tmp_path / "config.json", **{setting: False})
    Engine.load(tmp_path)
    edit(tmp_path / "config.json", **{setting: True})
    refused(lambda: Engine.load(tmp_path), "checkpoint_unsupported", setting, "LlamaForCausalLM")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_byte_order_mark(directory: Path, name: str) -> None:
    expected = text(directory)
    path = directory / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert text(directory) == expected


def test_a_folder_in_place_of_a_file(directory: Path) -> None:
    (directory / "generation_config.json").unlink()
    (directory / "generation_config.json").mkdir()
    refused(lambda: Engine.load(directory), "checkpoint_damaged", "generation_config.json", "a folder")


def test_a_path_that_is_no_model(tmp_path: Path) -> None:
    refused(lambda: Engine.load(tmp_path / "none.gguf"), "checkpoint_missing", "none.gguf")
    refused(lambda: Engine.load(tmp_path / ("long" * 100)), "checkpoint_missing", "too long")
    refused(lambda: Engine.load("/dev/null"), "checkpoint_missing", "at /dev/null")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(lambda: Engine.load(tmp_path / "loop"), "checkpoint_missing", "loop")


def test_what_may_not_be_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("runtime_svc.weights.hugging_face.read_directory", refuse)
    refused(lambda: Engine.load(directory), "checkpoint_missing", str(directory), "Permission denied")


def test_weights_are_read_once_they_are_asked_for(directory: Path) -> None:
    """What opens is whole by its headers; a value that is no number is found when it is read."""
    tensors = random_tensors(Shape(), 5)
    tensors["model.norm.weight"][3] = np.nan
    store(directory, tensors)
    opened = open_checkpoint(directory)
    refused(lambda: read_weights(opened), "checkpoint_damaged", "model.norm.weight", "NaN")

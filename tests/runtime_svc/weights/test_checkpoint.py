"""Directories that are not complete, not sound or not known: the error names file and tensor."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime_svc.engine import Engine
from runtime_svc.random_checkpoint import Shape, random_tensors, write_random_checkpoint
from runtime_svc.safetensor import read_file, write_file
from runtime_svc.weights.digest import sha256
from runtime_svc.weights.hugging_face import read_config
from tests.runtime_svc.requests import generate_request
from treni.errors import Code, TreniError

TENSOR = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def directory(tmp_path: Path, random_directory: Path) -> Path:
    return shutil.copytree(random_directory, tmp_path / "copy")


def refused(directory: Path, kind: str, *words: str) -> None:
    with pytest.raises(TreniError) as caught:
        Engine.load(directory)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.kind == kind
    for word in words:
        assert word in str(caught.value)


def edit(path: Path, **changes: object) -> None:
    value = json.loads(path.read_text())
    for key, new in changes.items():
        if new is None:
            del value[key]
        else:
            value[key] = new
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"]
)
def test_a_missing_file(directory: Path, name: str) -> None:
    (directory / name).unlink()
    refused(directory, "checkpoint_missing", name)


def test_no_directory(tmp_path: Path) -> None:
    refused(tmp_path / "none", "checkpoint_missing", "none")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_a_file_that_is_not_json(directory: Path, name: str) -> None:
    (directory / name).write_text("{")
    refused(directory, "checkpoint_damaged", name)


def test_a_broken_template(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{% for %}")
    refused(directory, "checkpoint_damaged", "chat_template.jinja")


@pytest.mark.parametrize(
    ("changes", "kind", "word"),
    [
        ({"model_type": "llama"}, "checkpoint_unsupported", "llama"),
        ({"architectures": ["MambaForCausalLM"]}, "checkpoint_unsupported", "MambaForCausalLM"),
        ({"architectures": []}, "checkpoint_damaged", "architectures"),
        ({"architectures": None, "model_type": "mamba"}, "checkpoint_unsupported", "mamba"),
        ({"architectures": None, "model_type": ["qwen3"]}, "checkpoint_unsupported", "qwen3"),
        ({"hidden_act": "gelu"}, "checkpoint_unsupported", "gelu"),
        ({"use_sliding_window": True, "max_window_layers": 1}, "checkpoint_unsupported", "sliding window"),
        (
            {"layer_types": ["full_attention", "sliding_attention"]},
            "checkpoint_unsupported",
            "full attention",
        ),
        ({"layer_types": ["full_attention"]}, "checkpoint_damaged", "layer_types"),
        ({"max_window_layers": "2", "use_sliding_window": True}, "checkpoint_damaged", "max_window_layers"),
        ({"compression_config": {}}, "checkpoint_unsupported", "compression_config"),
        ({"tie_word_embeddings": "false"}, "checkpoint_damaged", "tie_word_embeddings"),
        ({"partial_rotary_factor": 0.5}, "checkpoint_unsupported", "partial_rotary_factor"),
        (
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}},
            "checkpoint_damaged",
            "high_freq_factor",
        ),
        (
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 4.0,
                    "high_freq_factor": 4.0,
                }
            },
            "checkpoint_damaged",
            "high_freq_factor",
        ),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "checkpoint_unsupported", "dynamic"),
        ({"rope_scaling": [2]}, "checkpoint_damaged", "rope_scaling"),
        ({"attention_bias": True}, "checkpoint_unsupported", "attention_bias"),
        ({"quantization_config": {"quant_method": "fp8"}}, "checkpoint_unsupported", "quantization_config"),
        ({"head_dim": 10**9}, "checkpoint_damaged", "attention shape"),
        ({"max_position_embeddings": 10**12}, "checkpoint_damaged", "max_position_embeddings"),
        ({"rms_norm_eps": True}, "checkpoint_damaged", "rms_norm_eps"),
        ({"rms_norm_eps": 10**400}, "checkpoint_damaged", "rms_norm_eps"),
        ({"rope_parameters": {"rope_theta": 1e-300}}, "checkpoint_damaged", "rope_theta"),
        ({"rope_parameters": {"rope_type": "spiral"}}, "checkpoint_unsupported", "spiral"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "checkpoint_damaged", "factor"),
        ({"rope_parameters": {"rope_theta": -1}}, "checkpoint_damaged", "rope_theta"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1.0}},
            "checkpoint_damaged",
            "rope_theta",
        ),
        ({"num_key_value_heads": 3}, "checkpoint_damaged", "attention shape"),
        ({"hidden_size": 0}, "checkpoint_damaged", "hidden_size"),
        ({"num_hidden_layers": "two"}, "checkpoint_damaged", "num_hidden_layers"),
        ({"rms_norm_eps": "small"}, "checkpoint_damaged", "rms_norm_eps"),
        ({"vocab_size": None}, "checkpoint_damaged", "vocab_size"),
        ({"num_hidden_layers": 3}, "checkpoint_missing", "model.layers.2."),
        ({"num_hidden_layers": 10**12}, "checkpoint_damaged", "num_hidden_layers"),
        ({"intermediate_size": 50}, "checkpoint_damaged", "mlp"),
        ({"tie_word_embeddings": False}, "checkpoint_missing", "lm_head.weight"),
    ],
)
def test_a_config_that_does_not_fit(directory: Path, changes: dict[str, Any], kind: str, word: str) -> None:
    edit(directory / "config.json", **changes)
    refused(directory, kind, word)


def test_no_end_of_turn(directory: Path) -> None:
    edit(directory / "generation_config.json", eos_token_id=None)
    refused(directory, "checkpoint_damaged", "eos_token_id")


@pytest.mark.parametrize("ids", ["258", [], [258, None], [288], -1, True])
def test_ends_of_turn_that_are_no_tokens(directory: Path, ids: object) -> None:
    edit(directory / "generation_config.json", eos_token_id=ids)
    refused(directory, "checkpoint_damaged", "eos_token_id")


def test_a_null_in_the_generation_config_leaves_it_to_the_config(directory: Path) -> None:
    (directory / "generation_config.json").write_text('{"eos_token_id": null}')
    edit(directory / "config.json", eos_token_id=[256, 258])
    assert read_config(directory).eos_ids == {256, 258}


def test_sampling_defaults_of_the_checkpoint_are_not_a_requests(directory: Path) -> None:
    def ids() -> list[int]:
        return [token.id for token in last.finish.tokens]

    *_, last = Engine.load(directory).generate(generate_request("Hello", max_new_tokens=8))
    greedy = ids()
    edit(directory / "generation_config.json", do_sample=True, temperature=5.0, top_k=20, top_p=0.8)
    *_, last = Engine.load(directory).generate(generate_request("Hello", max_new_tokens=8))
    assert ids() == greedy


def test_a_tokenizer_larger_than_the_model(tmp_path: Path) -> None:
    refused(write_random_checkpoint(tmp_path, Shape(vocabulary=260)), "checkpoint_damaged", "260")


@pytest.mark.parametrize("keep", [0, 5, 200, -100, -1])
def test_a_truncated_file(directory: Path, keep: int) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(directory, "checkpoint_damaged", "model.safetensors")


def test_a_file_of_noise(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    refused(directory, "checkpoint_damaged", "model.safetensors")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_numbers(directory: Path, bad: float) -> None:
    tensors = random_tensors(Shape(), 0)
    tensors[TENSOR][3, 4] = bad
    write_file(directory / "model.safetensors", tensors, "float32")
    refused(directory, "checkpoint_damaged", "model.safetensors", TENSOR)


def write_raw(path: Path, header: str | dict[str, Any], data: bytes = bytes(64)) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(len(text.encode()).to_bytes(8, "little") + text.encode() + data)
    return path


def entry(
    begin: float, end: float, shape: Sequence[float | str] = (2, 2), dtype: str = "F32"
) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "lie",
    [
        entry(0, 8),
        entry(0, 16, (-2, -2)),
        entry(1_000_000, 1_000_016),
        entry(0, 16, "square"),
        entry(0, 16, (2.0, 2.0)),
        entry(0, 16.0),
        entry(False, 16),
        {"dtype": "F32", "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2, 2], "data_offsets": [0]},
        7,
    ],
)
def test_a_header_that_lies(tmp_path: Path, lie: object) -> None:
    with pytest.raises(TreniError, match="weight") as caught:
        read_file(write_raw(tmp_path / "model.safetensors", {"weight": lie}))
    assert caught.value.kind == "checkpoint_damaged"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": entry(0, 16), "b": entry(8, 24)}, ["b", "right after a"]),  # overlapping
        ({"b": entry(0, 16), "a": entry(0, 16)}, ["right after"]),  # the same bytes
        ({"a": entry(0, 16), "b": entry(32, 48)}, ["b", "right after a"]),  # a hole
        ({"a": entry(16, 32)}, ["a", "right after the header"]),
        ({"a": entry(0, 16)}, ["model.safetensors", "right after a"]),  # bytes that nobody owns
        ('{"a": 1, "a": 2}', ["a twice"]),
        ('{"a": {"dtype": "F32", "dtype": "F16"}}', ["dtype twice"]),
        ("[" * 100_000, ["JSON"]),
        ("[]", ["list"]),
        (b"\xff".decode("latin-1") + "{", ["JSON"]),
    ],
)
def test_a_layout_that_cannot_be(tmp_path: Path, header: str | dict[str, Any], words: list[str]) -> None:
    with pytest.raises(TreniError) as caught:
        read_file(write_raw(tmp_path / "model.safetensors", header))
    assert caught.value.kind == "checkpoint_damaged"
    for word in ["model.safetensors", *words]:
        assert word in str(caught.value)


def test_tensors_in_any_order_and_of_no_size(tmp_path: Path) -> None:
    header = {
        "b": entry(16, 32),
        "empty": entry(16, 16, (0, 4)),
        "a": entry(0, 16),
        "n": entry(32, 64, (4,), "I64"),
    }
    tensors = read_file(
        write_raw(tmp_path / "model.safetensors", header, np.arange(16, dtype="<f4").tobytes())
    )
    np.testing.assert_array_equal(tensors["b"].widened(), [[4, 5], [6, 7]])
    assert tensors["empty"].widened().shape == (0, 4)


def test_a_weight_of_whole_numbers(directory: Path) -> None:
    path = directory / "model.safetensors"
    header, data = parse(path)
    header[TENSOR] |= {"dtype": "I64", "shape": [48, 8]}
    write_raw(path, header, data)
    refused(directory, "checkpoint_damaged", TENSOR)
    header[TENSOR]["shape"] = [12, 32]
    write_raw(path, header, data)
    edit(directory / "config.json", intermediate_size=12)
    refused(directory, "checkpoint_damaged", "mlp")


def parse(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def test_a_type_that_is_not_known(tmp_path: Path) -> None:
    text = json.dumps({"weight": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(TreniError, match="F8_E4M3") as caught:
        read_file(path)
    assert caught.value.kind == "checkpoint_unsupported"


def test_a_missing_shard(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, Shape(), shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    refused(tmp_path, "checkpoint_missing", "model-00002-of-00003.safetensors")


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("name", "shard", "kind", "words"),
    [
        ("model.extra", FIRST, "checkpoint_damaged", ["model.extra", FIRST]),  # a tensor that is nowhere
        ("model.norm.weight", "other", "checkpoint_missing", ["other"]),
        ("model.norm.weight", "../model.safetensors", "checkpoint_damaged", ["model.norm.weight", "index"]),
        ("model.norm.weight", "a\x00b", "checkpoint_damaged", ["model.norm.weight", "index"]),
        ("model.norm.weight", "", "checkpoint_damaged", ["model.norm.weight", "index"]),
    ],
)
def test_an_index_that_is_wrong(tmp_path: Path, name: str, shard: str, kind: str, words: list[str]) -> None:
    write_random_checkpoint(tmp_path, Shape(), shards=2)
    index = tmp_path / "model.safetensors.index.json"
    value = json.loads(index.read_text())
    value["weight_map"][name] = shard
    index.write_text(json.dumps(value))
    refused(tmp_path, kind, *words)


def test_an_index_that_names_the_wrong_shard(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, Shape(), shards=2)
    index = tmp_path / "model.safetensors.index.json"
    value = json.loads(index.read_text())
    other = {FIRST: SECOND, SECOND: FIRST}[value["weight_map"][TENSOR]]
    value["weight_map"][TENSOR] = other
    index.write_text(json.dumps(value))
    refused(tmp_path, "checkpoint_damaged", TENSOR, other)


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, Shape(), shards=2)
    shutil.copy(tmp_path / FIRST, tmp_path / SECOND)
    refused(tmp_path, "checkpoint_damaged", FIRST, SECOND)


@pytest.mark.parametrize("index", ["[]", '{"weight_map": 3}', "{"])
def test_a_broken_index(directory: Path, index: str) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(index)
    refused(directory, "checkpoint_damaged", "index.json")


def test_theta_in_either_place(directory: Path) -> None:
    def frequencies(**changes: object) -> tuple[float, ...]:
        edit(directory / "config.json", **changes)
        return read_config(directory).inverse_frequencies

    new = frequencies(rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    old = frequencies(rope_parameters=None, rope_theta=5e5, rope_scaling={})
    assert new == old
    assert new[1] == pytest.approx(5e5 ** (-2 / 8))


def test_eos_ids_from_the_config_where_there_is_no_generation_config(directory: Path) -> None:
    (directory / "generation_config.json").unlink()
    edit(directory / "config.json", eos_token_id=258)
    assert read_config(directory).eos_ids == {258}


def test_a_backend_that_is_not_there_is_an_error(random_directory: Path) -> None:
    with pytest.raises(TreniError, match="numpy") as caught:
        Engine.load(random_directory, backend="cupy")
    assert caught.value.kind == "backend_unavailable"
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_digest_changes_with_any_weight(directory: Path) -> None:
    before = sha256(directory)
    assert before == sha256(directory)
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert sha256(directory) != before

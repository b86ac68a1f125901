"""Random-weight directories of published shapes: the same bytes again, the right scale, and a model that runs."""

import json
import shutil
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from matrices.cli.main import main
from runtime_svc.engine import Engine
from runtime_svc.safetensor import read_directory, to_bfloat16
from runtime_svc.tokens.provenance import written
from runtime_svc.weights import random_shards
from runtime_svc.weights.hugging_face import read_config
from runtime_svc.weights.published_shapes import SHAPES, config_of
from runtime_svc.weights.random_shards import write_random_shards
from tests.runtime_svc import reference
from tests.runtime_svc.requests import generate_request
from treni.errors import TreniError

TINY = "tiny-random"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_shards(tmp_path_factory.mktemp("shape") / "tiny", TINY, seed=4)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("shape", "published"),
    [("qwen3-0.6b", 596_049_920), ("qwen2.5-3b", 3_085_938_688), ("qwen3-4b", 4_022_468_096)],
)
def test_shapes_have_the_published_parameter_counts(shape: str, published: int) -> None:
    assert config_of(shape).tensors.parameters == published


def test_published_configs_are_read(tmp_path: Path) -> None:
    read = {}
    for shape, config in SHAPES.items():
        (tmp_path / "config.json").write_text(json.dumps(config))
        read[shape] = read_config(tmp_path)
    small, middle, large = read["qwen3-0.6b"], read["qwen2.5-3b"], read["qwen3-4b"]
    assert (small.heads, small.kv_heads, small.head_dim, small.context_length) == (16, 8, 128, 40960)
    assert (middle.heads, middle.kv_heads, middle.head_dim, middle.context_length) == (16, 2, 128, 32768)
    assert (large.layers, large.hidden, large.ffn) == (36, 2560, 9728)
    assert all(config.tied and config.eos_ids for config in read.values())
    assert small.inverse_frequencies[1] == pytest.approx(1e6 ** (-2 / 128))


def test_other_published_settings_are_read(tmp_path: Path) -> None:
    """Qwen2.5-0.5B and -7B differ in what no shape here has: heads of 64, an untied head, a vocabulary of its own."""
    qwen25 = SHAPES["qwen2.5-3b"]
    half = {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_hidden_layers": 24}
    seven = {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
    (tmp_path / "generation_config.json").write_text(
        json.dumps(
            {
                "bos_token_id": 151643,
                "pad_token_id": 151643,
                "do_sample": True,
                "eos_token_id": [151645, 151643],
                "repetition_penalty": 1.1,
                "temperature": 0.7,
                "top_p": 0.8,
                "top_k": 20,
            }
        )
    )
    (tmp_path / "config.json").write_text(json.dumps({**qwen25, **half}))
    config = read_config(tmp_path)
    assert (config.head_dim, config.tied, config.eos_ids) == (64, True, frozenset({151645, 151643}))
    (tmp_path / "config.json").write_text(json.dumps({**qwen25, **seven, "tie_word_embeddings": False}))
    config = read_config(tmp_path)
    assert (config.head_dim, config.tied, config.vocabulary) == (128, False, 152064)


def test_the_model_runs(tiny: Path) -> None:
    engine = Engine.load(tiny)
    assert engine.info.dtype == "bfloat16"
    assert engine.info.parameters == config_of(TINY).tensors.parameters
    chunks = list(engine.generate(generate_request("Hello", max_new_tokens=20)))
    assert chunks[-1].finish.usage.completion_tokens == 20 or chunks[-1].finish.reason == "stop"


def test_every_id_under_the_control_tokens_is_text(tiny: Path) -> None:
    tokenizer = Engine.load(tiny).tokenizer
    config = SHAPES[TINY]
    assert all(tokenizer.stream().feed(i) for i in range(256, config["bos_token_id"]))
    assert tokenizer.encode(written("<|endoftext|>")) == [config["bos_token_id"]]
    assert tokenizer.encode(written("<|im_end|>")) == [config["eos_token_id"]]
    assert tokenizer.size <= config["vocab_size"]


def test_same_seed_same_bytes_another_seed_others(tiny: Path, tmp_path: Path) -> None:
    again = contents(write_random_shards(tmp_path / "again", TINY, seed=4))
    other = contents(write_random_shards(tmp_path / "other", TINY, seed=5))
    assert again == contents(tiny)
    assert {name for name in again if again[name] != other[name]} == {"model.safetensors"}


def test_shards_and_chunks_give_the_same_weights(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_shards, "_CHUNK", 1000)
    directory = write_random_shards(tmp_path / "cut", TINY, seed=4, max_shard_bytes=50_000)
    whole, cut = read_directory(tiny), read_directory(directory)
    assert len({tensor.file for tensor in cut.values()}) > 2
    assert set(whole) == set(cut) == {spec.name for spec in config_of(TINY).tensors}
    for name, tensor in whole.items():
        np.testing.assert_array_equal(tensor.raw, cut[name].raw)
    Engine.load(directory)


def test_weights_have_the_right_scale(tiny: Path) -> None:
    tensors = read_directory(tiny)
    for spec in config_of(TINY).tensors:
        values, shape = tensors[spec.name].widened(), spec.shape
        mean, deviation = (0, shape[1] ** -0.5) if len(shape) == 2 else (1, 0.1)
        error = 5 * deviation / np.sqrt(values.size)
        assert values.mean() == pytest.approx(mean, abs=error)
        assert values.std() == pytest.approx(deviation, abs=error)
    rows = tensors["model.embed_tokens.weight"].widened()
    assert len(np.unique(rows, axis=0)) == len(rows)


@given(
    st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**127), max_value=2.0**127)
    )
)
def test_bfloat16_is_the_nearest(values: list[float]) -> None:
    exact = np.array(values, np.float32)
    widened = (to_bfloat16(exact).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(widened, reference.nearest_bfloat16(exact))


def test_bfloat16_of_what_is_no_number() -> None:
    bits = to_bfloat16(np.array([np.inf, -np.inf, np.nan], np.float32))
    widened = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(widened, [np.inf, -np.inf, np.nan])


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    seen = []
    write_random_shards(tmp_path / "x", TINY, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (2 * config_of(TINY).tensors.parameters,) * 2


def test_what_was_interrupted_is_no_checkpoint(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_random_shards(tmp_path / "x", TINY, progress=stop)
    with pytest.raises(TreniError, match=r"config\.json"):
        Engine.load(tmp_path / "x")


def test_a_directory_that_holds_something_is_left_alone(tiny: Path) -> None:
    before = contents(tiny)
    with pytest.raises(TreniError) as caught:
        write_random_shards(tiny, TINY)
    assert caught.value.kind == "directory_not_empty"
    assert contents(tiny) == before


def test_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10**9})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(TreniError, match=r"8\.04 GB") as caught:
        write_random_shards(tmp_path / "x", "qwen3-4b")
    assert caught.value.kind == "disk_full"


def test_the_command(tmp_path: Path) -> None:
    target = tmp_path / "made"
    result = CliRunner().invoke(main, ["make-checkpoint", "--shape", TINY, str(target)])
    assert (result.exit_code, result.stdout) == (0, f"{target}\n")
    assert read_config(target).hidden == 64
    again = CliRunner().invoke(main, ["make-checkpoint", "--shape", TINY, str(target)])
    assert again.exit_code == 2
    assert "new or empty" in again.stderr

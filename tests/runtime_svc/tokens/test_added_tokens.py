"""Tokens that only the files beside `tokenizer.json` know: the same ids as if it knew them too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.provenance import written
from runtime_svc.tokens.tokenizer import Tokenizer
from tests.runtime_svc.requests import message
from treni.errors import TreniError

TEXT = "a<|im_start|>b<tool_call>c</think> <|im_end|><|endoftext|>"


@pytest.fixture
def directory(random_directory: Path, tmp_path: Path) -> Path:
    """A checkpoint whose `tokenizer.json` has no added tokens."""
    copied = tmp_path / "small"
    shutil.copytree(random_directory, copied)
    path = copied / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"added_tokens": []}))
    return copied


@pytest.fixture(scope="module")
def added(random_directory: Path) -> list[dict[str, Any]]:
    stored: list[dict[str, Any]] = json.loads((random_directory / "tokenizer.json").read_text())[
        "added_tokens"
    ]
    return stored


def configure(directory: Path, name: str = "tokenizer_config.json", **settings: object) -> None:
    (directory / name).write_text(json.dumps(settings))


def test_in_added_tokens_decoder(
    random_directory: Path, directory: Path, added: list[dict[str, Any]]
) -> None:
    decoder = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in reversed(added)}
    configure(directory, added_tokens_decoder=decoder, eos_token={"content": "<|im_end|>"})
    tokenizer, whole = Tokenizer(directory), Tokenizer(random_directory)
    assert tokenizer.encode(written(TEXT)) == whole.encode(written(TEXT))
    assert tokenizer.encode(TEXT) == whole.encode(TEXT)
    assert (tokenizer.control, tokenizer.markers, tokenizer.size) == (
        whole.control,
        whole.markers,
        whole.size,
    )


def test_in_added_tokens_json(random_directory: Path, directory: Path, added: list[dict[str, Any]]) -> None:
    configure(directory, "added_tokens.json", **{token["content"]: token["id"] for token in added})
    configure(
        directory,
        bos_token=None,
        eos_token={"content": "<|im_end|>", "special": True},
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", {"content": "<|not there|>"}],
    )
    tokenizer, whole = Tokenizer(directory), Tokenizer(random_directory)
    assert tokenizer.encode(written(TEXT)) == whole.encode(written(TEXT))
    assert tokenizer.control == whole.control
    assert tokenizer.encode(written("<|not there|>")) == tokenizer.encode("<|not there|>")


def test_a_token_of_the_vocabulary_that_is_only_named(random_directory: Path, tmp_path: Path) -> None:
    copied = tmp_path / "small"
    shutil.copytree(random_directory, copied)
    path = copied / "tokenizer.json"
    value = json.loads(path.read_text())
    value["model"]["vocab"]["<end>"] = 265
    path.write_text(json.dumps(value))
    assert len(Tokenizer(copied).encode(written("<end>"))) == 5
    configure(copied, "special_tokens_map.json", eos_token={"content": "<end>"})
    tokenizer = Tokenizer(copied)
    assert tokenizer.encode(written("<end>")) == [265]
    assert len(tokenizer.encode("<end>")) == 5
    assert "<end>" in tokenizer.control
    (copied / "chat_template.jinja").write_text("{{ eos_token }}{{ messages[0].content }}")
    assert ChatTemplate(copied).render([message("x")], []) == "<end>x"


@pytest.mark.parametrize(
    ("decoder", "word"),
    [
        ({"400": {"content": "<|new|>"}}, "<|new|>"),
        ({"3": {"content": "<|im_end|>", "special": True}}, "<|im_end|>"),
        ({"x": {"content": "a"}}, "by their ids"),
        ({"258": {"special": True}}, "with its content"),
        (["<|im_end|>"], "by their ids"),
    ],
)
def test_what_cannot_be_is_told_by_file_and_token(
    random_directory: Path, tmp_path: Path, decoder: object, word: str
) -> None:
    copied = tmp_path / "small"
    shutil.copytree(random_directory, copied)
    configure(copied, added_tokens_decoder=decoder)
    with pytest.raises(TreniError, match=r"tokenizer_config\.json") as caught:
        Tokenizer(copied)
    assert word in str(caught.value)
    assert caught.value.kind == "checkpoint_damaged"


def test_settings_of_both_files(random_directory: Path, tmp_path: Path) -> None:
    copied = tmp_path / "small"
    shutil.copytree(random_directory, copied)
    configure(
        copied, "special_tokens_map.json", bos_token="<s>", eos_token="<old>", cls_token={"content": "<c>"}
    )
    configure(
        copied, bos_token=None, eos_token={"content": "<new>"}, additional_special_tokens=["<a>", "<b>"]
    )
    (copied / "chat_template.jinja").write_text(
        "{{ bos_token }}{{ eos_token }}{{ cls_token }}{{ additional_special_tokens[1] }}{{ messages[0].content }}"
    )
    assert ChatTemplate(copied).render([message("x")], []) == "<s><new><c><b>x"

"""Tokenizers of GGUF files beside those that the `tokenizers` library makes of the same vocabulary and merges."""

import json
from pathlib import Path

import gguf
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

import runtime_svc
from runtime_svc.random_checkpoint import Shape
from runtime_svc.tokens.provenance import written
from runtime_svc.tokens.tokenizer import Tokenizer as OurTokenizer
from runtime_svc.weights.opening import open_checkpoint
from tests.runtime_svc.gguf_files import write_gguf
from tests.runtime_svc.mixed_text import lines

TINY = Path(runtime_svc.__file__).parent / "checkpoints" / "treni-tiny" / "tokenizer.json"
TEXT = gguf.GGUFValueType.STRING
# As they stand in the published tokenizer.json files, but for the line breaks.
BEGIN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
END = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2, LLAMA3 = BEGIN + r"\p{N}" + END, BEGIN + r"\p{N}{1,3}" + END


def cut(pattern: str) -> pre_tokenizers.Sequence:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


BY_HAND = {
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, False),
    "smollm": (
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
        None,
        False,
    ),
    "qwen2": (cut(QWEN2), normalizers.NFC(), False),
    "llama-bpe": (cut(LLAMA3), None, True),
}


@pytest.mark.parametrize("pre", BY_HAND)
def test_ten_thousand_lines_are_encoded_alike(tmp_path: Path, pre: str) -> None:
    stored = json.loads(TINY.read_text(encoding="utf-8"))
    vocabulary, merges = stored["model"]["vocab"], [tuple(pair) for pair in stored["model"]["merges"]]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    tokens += [token["content"] for token in stored["added_tokens"] if token["content"] not in vocabulary]
    kinds = {token["id"]: 3 if token["special"] else 4 for token in stored["added_tokens"]}
    shape = Shape(model_type="llama", vocabulary=len(tokens))
    changes = {
        "tokenizer.ggml.pre": (pre, TEXT),
        "tokenizer.ggml.tokens": (tokens, None),
        "tokenizer.ggml.token_type": ([kinds.get(i, 1) for i in range(len(tokens))], None),
        "tokenizer.ggml.merges": ([" ".join(pair) for pair in merges], None),
    }
    path = write_gguf(tmp_path / "model.gguf", shape, changes=changes)
    mine = OurTokenizer(path, open_checkpoint(path).tokenizer_json)
    cutting, normalizer, whole_first = BY_HAND[pre]
    theirs = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole_first))
    theirs.pre_tokenizer, theirs.decoder = cutting, decoders.ByteLevel()
    if normalizer is not None:
        theirs.normalizer = normalizer
    for token in stored["added_tokens"]:
        theirs.add_tokens([AddedToken(token["content"], special=token["special"], normalized=False)])
    pieces = 0
    for text in lines():
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert mine.encode(written(text)) == expected, text
        pieces += len(expected)
    assert pieces > 300_000

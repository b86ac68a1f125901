"""Texts to WordPiece ids, with the encoder's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from runtime_svc.encoder.checkpoint import TODO
from runtime_svc.errors import damaged, missing, unsupported


class WordPiece:
    """A WordPiece tokenizer from `tokenizer.json`; its special tokens are put around every text.

    Text that looks like a special token becomes that token, as in every BERT: it says nothing about roles here.
    """

    def __init__(self, directory: Path, *, vocabulary: int) -> None:
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise missing(directory, "tokenizer.json")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise damaged(path, "the tokenizer", expected="readable", got=str(error)) from None
        kind = type(self._tokenizer.model).__name__
        if kind != "WordPiece":
            raise unsupported(path, expected="a WordPiece tokenizer", got=kind, todo=TODO)
        largest = max(self._tokenizer.get_vocab().values(), default=0)
        if largest >= vocabulary:
            raise damaged(path, "token ids", expected=f"under the model's {vocabulary}", got=f"{largest}")
        # Files as published pad and truncate to a fixed length of their own.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of every text, whole."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def shortened(self, ids: list[int], limit: int) -> list[int]:
        """The first ids and the closing special token, `limit` in all: what sentence-transformers keeps."""
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]

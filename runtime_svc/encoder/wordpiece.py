"""Texts to WordPiece ids, with the encoder's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime_svc.encoder.checkpoint import ADVICE
from runtime_svc.errors import damaged, unsupported
from runtime_svc.tokens.tokenizer_file import TokenizerFile


class WordPiece:
    """A WordPiece tokenizer from `tokenizer.json`; its special tokens are put around every text.

    Text that looks like a special token becomes that token, as in every BERT: it says nothing about roles here.
    """

    def __init__(self, directory: Path, *, vocabulary: int) -> None:
        self._file = TokenizerFile(directory)
        path, kind = self._file.path, type(self._file.library.model).__name__
        if kind != "WordPiece":
            raise unsupported(path, expected="a WordPiece tokenizer", got=kind, todo=ADVICE)
        if self._file.size > vocabulary:
            got = f"{self._file.size - 1}"
            raise damaged(
                path, "token ids", expected=f"under the model's vocabulary of {vocabulary}", got=got
            )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of every text, whole."""
        return [self._file.encode(text, add_special_tokens=True) for text in texts]

    def shortened(self, ids: list[int], limit: int) -> list[int]:
        """The first ids and the closing special token, `limit` in all: what sentence-transformers keeps."""
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]

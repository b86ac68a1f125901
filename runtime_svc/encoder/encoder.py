"""Sentence embeddings: texts to unit-length vectors whose dot products say how alike the texts are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime_svc.encoder.bert import Bert
from runtime_svc.encoder.checkpoint import read_config, read_weights, transformer_directory
from runtime_svc.encoder.wordpiece import WordPiece
from runtime_svc.weights.digest import sha256
from treni.errors import Code, TreniError, invalid_argument

BATCH = 32
"""Texts in one pass: bounds memory, and how long a cancellation waits."""


def _nothing() -> None:
    pass


class Encoder:
    """A BERT encoder with mean pooling from a local directory. Safe to call from several threads."""

    def __init__(self, *, directory: Path, tokenizer: WordPiece, bert: Bert) -> None:
        self._directory = directory
        self._tokenizer = tokenizer
        self._bert = bert

    @classmethod
    def load(cls, directory: str | Path) -> Encoder:
        """The encoder of a sentence-transformers or plain BERT directory.

        Raises `TreniError` (FAILED_PRECONDITION) naming file and tensor when it is not complete, sound and known.
        """
        path = Path(directory)
        inner = transformer_directory(path)
        config = read_config(inner)
        tokenizer = WordPiece(inner, vocabulary=config.vocabulary)
        bert = Bert(config, read_weights(inner, config))
        return cls(directory=path, tokenizer=tokenizer, bert=bert)

    @property
    def name(self) -> str:
        """The name of the encoder's directory."""
        return self._directory.resolve().name

    @property
    def identity(self) -> str:
        """The encoder's name, and the beginning of the digest of what is in its directory."""
        return f"{self.name} {sha256(self._directory)[:12]}"

    @property
    def width(self) -> int:
        """Elements of an embedding."""
        return self._bert.config.hidden

    @property
    def max_tokens(self) -> int:
        """Tokens that a text may have, its special tokens included."""
        return self._bert.config.max_tokens

    def embed(
        self, texts: Sequence[str], *, truncate: bool = False, check: Callable[[], None] = _nothing
    ) -> npt.NDArray[np.float32]:
        """One unit-length vector a text, (N, width); see `tokenize` and `embed_tokens`."""
        return self.embed_tokens(self.tokenize(texts, truncate=truncate), check=check)

    def tokenize(self, texts: Sequence[str], *, truncate: bool = False) -> list[list[int]]:
        """Token ids of every text, the special ones included.

        `truncate` keeps the first `max_tokens` of a longer text, as sentence-transformers does; otherwise such
        a text raises INVALID_ARGUMENT.
        """
        ids, limit = self._tokenizer.encode(texts), self.max_tokens
        if truncate:
            return [self._tokenizer.shortened(row, limit) for row in ids]
        for index, row in enumerate(ids):
            if len(row) > limit:
                raise invalid_argument(
                    "context_overflow",
                    expected=f"at most {limit} tokens in texts[{index}], the special ones included",
                    got=f"{len(row)}",
                    todo="shorten the text",
                )
        return ids

    def embed_tokens(
        self, ids: Sequence[list[int]], *, check: Callable[[], None] = _nothing
    ) -> npt.NDArray[np.float32]:
        """One vector for each of `tokenize`'s rows, (N, width): the mean of its tokens' states, scaled to unit length.

        `check` is called before every `BATCH` rows and stops the work by raising. Raises INTERNAL when the model
        yields NaN or infinity.
        """
        out = np.empty((len(ids), self.width), np.float32)
        by_length = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        for first in range(0, len(ids), BATCH):
            check()
            chosen = by_length[first : first + BATCH]
            out[chosen] = self._pooled([ids[index] for index in chosen])
        return out

    def _pooled(self, rows: list[list[int]]) -> npt.NDArray[np.float32]:
        lengths = np.array([len(row) for row in rows])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(mask.shape, np.int32)
        ids[mask] = np.concatenate([np.asarray(row, np.int32) for row in rows])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mean = self._mean(ids, mask, lengths)
        if not np.isfinite(mean).all():
            raise TreniError(
                Code.INTERNAL,
                "embedding_not_finite",
                expected="finite embeddings",
                got="NaN or infinity",
                todo="check the encoder's weights",
            )
        return mean

    def _mean(
        self, ids: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Means over each row's own tokens, scaled to unit length, (B, width)."""
        states = self._bert.states(ids, mask)
        shares = mask / lengths[:, None].astype(np.float32)
        mean: npt.NDArray[np.float32] = np.matmul(shares[:, None, :], states)[:, 0]
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        return mean

"""A `tokenizer.json` through the `tokenizers` library, whose errors become ours: the panics of its Rust code too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from runtime_svc.directory import refuse_pointer
from runtime_svc.errors import damaged, missing

_PROBE = "A probe: é, 漢, 😀 1/2\n"


class TokenizerFile:
    """A loaded tokenizer that neither truncates nor pads, whatever its file says. `size` is its largest id and one.

    Its file is in the directory `path`, unless the file `path` has its `content`.

    Raises `TreniError` (FAILED_PRECONDITION) naming the file when it is absent, cannot be read, or cannot encode.
    """

    def __init__(self, path: Path, content: str | None = None) -> None:
        self.path = path if content is not None else path / "tokenizer.json"
        if content is None:
            if not self.path.is_file():
                raise missing(path, "tokenizer.json")
            refuse_pointer(self.path)
        with self._errors():
            if content is None:
                self.library = Tokenizer.from_file(str(self.path))
            else:
                self.library = Tokenizer.from_str(content)
            self.library.no_truncation()
            self.library.no_padding()
            largest = max(self.library.get_vocab().values(), default=-1)
        if largest < 0:
            raise damaged(self.path, "the vocabulary", expected="at least one token", got="none")
        self.size: int = largest + 1
        # Some files load, and fail at the first text.
        self.encode(_PROBE, add_special_tokens=True)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of the text, whole."""
        with self._errors():
            # As a batch of one, since that lets other threads run: a long text takes half a second.
            (encoded,) = self.library.encode_batch([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoded.ids
        return ids

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the library raises plain Exception
            raise damaged(self.path, "the tokenizer", expected="usable", got=str(error)) from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # no class of that name can be imported
                raise
            raise damaged(self.path, "the tokenizer", expected="usable", got=str(error)) from None

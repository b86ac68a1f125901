"""Text to tokens and back, with the checkpoint's own tokenizer."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

from runtime_svc.errors import unsupported
from runtime_svc.tokenizer_file import TokenizerFile

MARKERS = frozenset(
    {"<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"}
)
"""Added tokens that are part of what the model says, however the checkpoint flags them."""


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable character: this is GPT-2's table, turned around."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_BYTE_OF = _byte_alphabet()


class Tokenizer:
    """A byte-level BPE tokenizer of the Qwen family, read from `tokenizer.json`.

    `control` holds the tokens that structure a conversation, such as "<|im_start|>": they come from the chat
    template only, and are never text.
    """

    def __init__(self, path: Path, content: str | None = None) -> None:
        self._file = TokenizerFile(path, content)
        library = self._file.library
        decoder = type(library.decoder).__name__
        if decoder != "ByteLevel":
            raise unsupported(self._file.path, expected="a byte-level tokenizer", got=decoder)
        added = library.get_added_tokens_decoder()
        self._control_ids = frozenset(
            i for i, token in added.items() if token.special and token.content not in MARKERS
        )
        self.control = frozenset(added[i].content for i in self._control_ids)
        self._bytes = {i: token.content.encode() for i, token in added.items()}
        self.size = self._file.size

    def encode(self, text: str) -> list[int]:
        """Token ids of the text; control tokens in it become themselves. Nothing is added."""
        return self._file.encode(text, add_special_tokens=False)

    def stream(self) -> TextStream:
        """A decoder for one completion."""
        return TextStream(self._bytes_of, self._control_ids)

    def _bytes_of(self, token: int) -> bytes:
        """The token's bytes, b"" for an id that is none. Found when first asked for: a vocabulary is large."""
        known = self._bytes.get(token)
        if known is None:
            written = self._file.library.id_to_token(token) or ""
            whole = all(character in _BYTE_OF for character in written)
            known = bytes(_BYTE_OF[character] for character in written) if whole else b""
            self._bytes[token] = known
        return known


class TextStream:
    """Turns token ids into text as they come; an incomplete UTF-8 sequence waits for its rest."""

    def __init__(self, bytes_of: Callable[[int], bytes], control_ids: frozenset[int]) -> None:
        self._bytes_of = bytes_of
        self._control_ids = control_ids
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The text that this token completes; "" for a control token or an id that the tokenizer lacks."""
        if token in self._control_ids:
            return ""
        return self._utf8.decode(self._bytes_of(token))

    def finish(self) -> str:
        """What is left; bytes that never became a character are U+FFFD."""
        return self._utf8.decode(b"", final=True)

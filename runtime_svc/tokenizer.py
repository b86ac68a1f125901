"""Text to tokens and back, with the checkpoint's own tokenizer."""

from __future__ import annotations

import codecs
from pathlib import Path

from runtime_svc.errors import unsupported
from runtime_svc.tokenizer_file import TokenizerFile

MARKERS = frozenset(
    {"<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"}
)
"""Added tokens that are part of what the model says, however the checkpoint flags them."""


class Tokenizer:
    """A byte-level BPE tokenizer of the Qwen family, read from `tokenizer.json`.

    `control` holds the tokens that structure a conversation, such as "<|im_start|>": they come from the chat
    template only, and are never text.
    """

    def __init__(self, directory: Path) -> None:
        self._file = TokenizerFile(directory)
        library = self._file.library
        decoder = type(library.decoder).__name__
        if decoder != "ByteLevel":
            raise unsupported(self._file.path, expected="a byte-level tokenizer", got=decoder)
        added = library.get_added_tokens_decoder()
        self._control_ids = frozenset(
            i for i, token in added.items() if token.special and token.content not in MARKERS
        )
        self.control = frozenset(added[i].content for i in self._control_ids)
        self._bytes = _token_bytes(self._file.vocabulary, {i: t.content for i, t in added.items()})
        self.size = self._file.size

    def encode(self, text: str) -> list[int]:
        """Token ids of the text; control tokens in it become themselves. Nothing is added."""
        return self._file.encode(text, add_special_tokens=False)

    def stream(self) -> TextStream:
        """A decoder for one completion."""
        return TextStream(self._bytes, self._control_ids)


class TextStream:
    """Turns token ids into text as they come; an incomplete UTF-8 sequence waits for its rest."""

    def __init__(self, token_bytes: dict[int, bytes], control_ids: frozenset[int]) -> None:
        self._bytes = token_bytes
        self._control_ids = control_ids
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The text that this token completes; "" for a control token or an id that the tokenizer lacks."""
        if token in self._control_ids:
            return ""
        return self._utf8.decode(self._bytes.get(token, b""))

    def finish(self) -> str:
        """What is left; bytes that never became a character are U+FFFD."""
        return self._utf8.decode(b"", final=True)


def _token_bytes(vocabulary: dict[str, int], added: dict[int, str]) -> dict[int, bytes]:
    """The bytes of every token. Byte-level BPE writes each byte as one printable character (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + i): byte for i, byte in enumerate(hidden)}
    table = {
        i: bytes(byte_of[character] for character in token)
        for token, i in vocabulary.items()
        if i not in added and all(character in byte_of for character in token)
    }
    return table | {i: content.encode() for i, content in added.items()}

"""Text to tokens and back, with the checkpoint's own tokenizer."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from runtime_svc.errors import unsupported
from runtime_svc.tokens.added_tokens import declare
from runtime_svc.tokens.alternatives import any_of
from runtime_svc.tokens.provenance import SPOKEN, WRITTEN, origin_of
from runtime_svc.tokens.tokenizer_file import TokenizerFile
from treni.errors import invalid_argument
from treni.markup import CALL, END_CALL, END_THINK, THINK

MARKERS = frozenset({CALL, END_CALL, "<tool_response>", "</tool_response>", THINK, END_THINK})
"""Added tokens that are part of what the model says, however the checkpoint flags them."""

_TAG = re.compile(r"<[|\uff5c].*[|\uff5c]>|</?\w+>", re.DOTALL)
"""How control tokens that are not flagged as special are written."""


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable character: this is GPT-2's table, turned around."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_BYTE_OF = _byte_alphabet()


class Tokenizer:
    """A byte-level BPE tokenizer, read from `tokenizer.json` and what is declared beside it.

    Its files are in the directory `path`, unless the file `path` has the `content` of a `tokenizer.json`.

    `control` holds the tokens that structure a conversation, such as "<|im_start|>": they come from the chat
    template only, and are never text; `control_ids` are their ids. `markers` are the ids of those `MARKERS` that
    it has.
    """

    def __init__(self, path: Path, content: str | None = None) -> None:
        self._file = TokenizerFile(path, content)
        library = self._file.library
        declared = declare(path, library) if content is None else frozenset[str]()
        decoder = type(library.decoder).__name__
        if decoder != "ByteLevel":
            raise unsupported(self._file.path, expected="a byte-level tokenizer", got=decoder)
        added = library.get_added_tokens_decoder()
        special = {i for i, token in added.items() if token.special or token.content in declared}
        self.control_ids = frozenset(i for i in special if added[i].content not in MARKERS)
        self.control = frozenset(added[i].content for i in self.control_ids)
        self.markers = {token.content: i for i, token in added.items() if token.content in MARKERS}
        self._bytes = {i: token.content.encode() for i, token in added.items()}
        structure = {
            token.content: i
            for i, token in added.items()
            if i in special or token.content in MARKERS or _TAG.fullmatch(token.content)
        }
        self._structure_ids = frozenset(structure.values())
        names = any_of(structure)
        self._structure, self._structure_anywhere = re.compile(names), re.compile(f"(?=({names}))")
        self.size = max(self._file.size, *(i + 1 for i in added)) if added else self._file.size

    def encode(self, text: str) -> list[int]:
        """Token ids of the text; nothing is added.

        A control token becomes itself where a template wrote all of it, and a marker also where the model said it.
        Anywhere else, and everywhere in a plain `str`, what looks like one is text.
        """
        plain, origin = str.__str__(text), origin_of(text)
        own = list(self._structure.finditer(plain))
        if all(_allowed(match, origin) for match in own):
            ids = self._file.encode(plain, add_special_tokens=False)
        else:
            pieces = self._pieces(plain, origin)
            own = [match for piece in pieces for match in self._structure.finditer(piece)]
            ids = [i for piece in pieces for i in self._file.encode(piece, add_special_tokens=False)]
        if len([i for i in ids if i in self._structure_ids]) > len(own):
            raise invalid_argument(
                "control_token_in_text",
                expected="a text that the tokenizer's normalisation does not turn into control tokens",
                got="one that it does",
                todo="remove what looks like a control token",
            )
        return ids

    def misplaced(self, text: str) -> list[str]:
        """Whatever in the text looks like a control token or a marker, and is going to be encoded as text."""
        return [match[1] for match in self._foreign(text, origin_of(text))]

    def opens_thought(self, prompt: Sequence[int]) -> bool:
        """Whether a completion of this prompt begins in the middle of a thought, which the template has opened."""
        opening, closing = self.markers.get(THINK), self.markers.get(END_THINK)
        turn: list[int] = []
        for token in reversed(prompt):
            if token in self.control_ids or token in (opening, closing):
                break
            turn.append(token)
        else:
            token = -1
        if opening is not None:
            return token == opening
        text = b"".join(map(self.bytes_of, reversed(turn)))
        return text.rstrip().endswith(THINK.encode())

    def stream(self) -> TextStream:
        """A decoder for one completion."""
        return TextStream(self.bytes_of, self.control_ids)

    def _pieces(self, text: str, origin: bytes) -> list[str]:
        """The text, cut through all that looks like a control token and is none, so that no piece has one.

        The cut is beside a character that somebody else wrote. A token of the template's has none, and is never cut.
        """
        cuts = {0, len(text)}
        for match in self._foreign(text, origin):
            start, end = match.span(1)
            at = next(at for at in range(start, end) if origin[at] < _needed(match[1]))
            cuts.add(at if at > start else start + 1)
        return [text[start:end] for start, end in pairwise(sorted(cuts))]

    def _foreign(self, text: str, origin: bytes) -> Iterator[re.Match[str]]:
        matches = self._structure_anywhere.finditer(text)
        return (match for match in matches if not _allowed(match, origin, group=1))

    def bytes_of(self, token: int) -> bytes:
        """The token's bytes, b"" for an id that is none. Found when first asked for: a vocabulary is large."""
        known = self._bytes.get(token)
        if known is None:
            written = self._file.library.id_to_token(token) or ""
            whole = all(character in _BYTE_OF for character in written)
            known = bytes(_BYTE_OF[character] for character in written) if whole else b""
            self._bytes[token] = known
        return known


def _allowed(match: re.Match[str], origin: bytes, *, group: int = 0) -> bool:
    start, end = match.span(group)
    return min(origin[start:end]) >= _needed(match[group])


def _needed(token: str) -> int:
    """The least origin that makes a token of these characters."""
    return SPOKEN if token in MARKERS else WRITTEN


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

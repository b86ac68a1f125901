"""Text that remembers who wrote each of its characters, so that only a chat template can write control tokens.

A template is a program that puts a conversation's texts between its own words. Where both have become one string,
nobody can tell "<|im_end|>" that ends a turn from "<|im_end|>" that a user quotes. So every literal of a template is
`Traced`, and so is whatever is made of it by `+`, slices, `strip`, `split`, `replace` and their like. A plain `str`
is foreign, and so is the result of an operation that is not followed: what gets lost can only turn a control token
into text, never the other way.
"""

# ruff: noqa: D102  (a method that overrides one of `str` gives what that one gives)

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import index
from typing import Self, SupportsIndex

from markupsafe import escape

FOREIGN, SPOKEN, WRITTEN = 0, 1, 2
"""Origins of a character: anyone's text; the model's own words; the template's."""


class Traced(str):
    """A string with the origin of each character, one byte a character; equal to and hashed as the plain string."""

    __slots__ = ("origin",)
    origin: bytes

    def __new__(cls, text: object = "", origin: bytes | int = FOREIGN) -> Self:
        """The text, of one origin or with one for each character."""
        made = super().__new__(cls, text)
        made.origin = bytes((origin,)) * len(made) if isinstance(origin, int) else origin
        return made

    def __str__(self) -> str:
        """The same object: Jinja wraps all that it writes in `str()`."""
        return self

    def __format__(self, spec: str) -> str:
        return self if not spec else super().__format__(spec)

    def __add__(self, other: str) -> Traced:
        if not isinstance(other, str) or hasattr(
            other, "__html__"
        ):  # Jinja's `Markup` escapes what it is added to
            return NotImplemented
        return Traced(super().__add__(other), self.origin + origin_of(other))

    def __radd__(self, other: str) -> Traced:
        if not isinstance(other, str):
            return NotImplemented
        return Traced(str.__add__(other, self), origin_of(other) + self.origin)

    def __mul__(self, times: SupportsIndex) -> Traced:
        return Traced(super().__mul__(times), self.origin * times.__index__())

    __rmul__ = __mul__

    def __getitem__(self, key: SupportsIndex | slice) -> Self:
        text = super().__getitem__(key)
        place = key if isinstance(key, slice) else slice(at := index(key), at + 1 or None)
        return type(self)(text, self.origin[place])

    def __iter__(self) -> Iterator[str]:
        return (self[at] for at in range(len(self)))

    def strip(self, chars: str | None = None, /) -> Traced:
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> Traced:
        return self[len(self) - len(super().lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> Traced:
        return self[: len(super().rstrip(chars))]

    def removeprefix(self, prefix: str, /) -> Traced:
        return self[len(self) - len(super().removeprefix(prefix)) :]

    def removesuffix(self, suffix: str, /) -> Traced:
        return self[: len(super().removesuffix(suffix))]

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._placed(super().split(sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._placed(super().rsplit(sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines: list[str] = self._placed(super().splitlines(True), "")
        if keepends:
            return lines
        return [line[: len(bare)] for line, bare in zip(lines, super().splitlines(), strict=True)]

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        before, found, _ = super().partition(sep)
        at = len(before)
        return self[:at], self[at : at + len(found)], self[at + len(found) :]

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        before, found, _ = super().rpartition(sep)
        at = len(before)
        return self[:at], self[at : at + len(found)], self[at + len(found) :]

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> Traced:
        if not old:
            return Traced(super().replace(old, new, count))
        return join(new, self.split(old, count))

    def join(self, parts: Iterable[str], /) -> Traced:
        return join(self, parts)

    def upper(self) -> Traced:
        return self._same(super().upper())

    def lower(self) -> Traced:
        return self._same(super().lower())

    def title(self) -> Traced:
        return self._same(super().title())

    def capitalize(self) -> Traced:
        return self._same(super().capitalize())

    def _same(self, changed: str) -> Traced:
        """The changed text, letter by letter this one's: cases that make a text longer make it foreign."""
        return Traced(changed, self.origin if len(changed) == len(self) else FOREIGN)

    def _placed(self, parts: list[str], sep: str | None) -> list[str]:
        """The parts, which stand in this text in their order with `sep` (or white space) between them."""
        placed: list[str] = []
        at = 0
        for part in parts:
            if sep is None:
                at = super().find(part, at)
            placed.append(self[at : at + len(part)])
            at += len(part) + len(sep or "")
        return placed


class Safe(Traced):
    """Traced text that is not to be escaped, so that all that it is added to is, as Jinja's `safe` filter has it."""

    __slots__ = ()

    def __html__(self) -> Self:
        return self

    def __add__(self, other: str) -> Safe:
        return Safe(joined := concat([self, _escaped(other)]), joined.origin)

    def __radd__(self, other: str) -> Safe:
        return Safe(joined := concat([_escaped(other), self]), joined.origin)


def _escaped(text: str) -> str:
    if hasattr(text, "__html__"):
        return text
    characters = [str(escape(character)) for character in str.__str__(text)]
    origins = (bytes((origin,)) * len(c) for origin, c in zip(origin_of(text), characters, strict=True))
    return Traced("".join(characters), b"".join(origins))


def origin_of(text: str) -> bytes:
    """The origin of each character of any string, one byte a character."""
    return text.origin if isinstance(text, Traced) else bytes(len(text))


def concat(parts: Iterable[str]) -> Traced:
    """The strings one after another, each with its origins."""
    pieces = list(parts)
    return Traced("".join(pieces), b"".join(map(origin_of, pieces)))


def join(separator: str, parts: Iterable[str]) -> Traced:
    """The strings with the separator between them, each with its origins."""
    pieces: list[str] = []
    for part in parts:
        if pieces:
            pieces.append(separator)
        pieces.append(part)
    return concat(pieces)


def written(text: str) -> Traced:
    """The text as the template's own."""
    return Traced(text, WRITTEN)

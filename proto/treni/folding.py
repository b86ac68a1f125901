"""The forms in which words are compared: equal texts are equal strings, however they were encoded."""

from __future__ import annotations

import unicodedata


def nfc(text: str) -> str:
    """The text in the composed form of Unicode, in which equal texts are equal strings."""
    return unicodedata.normalize("NFC", text)


def fold(text: str) -> str:
    """The text as it is compared with others when case makes no difference."""
    return nfc(nfc(text).casefold())

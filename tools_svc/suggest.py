"""Words for error messages: the nearest valid name, and values cut to a length that fits in gRPC metadata."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from treni.folding import fold

MAX_QUOTED_CHARS = 120
_MAX_NAME_CHARS = 64


def clip(text: str) -> str:
    """The text, cut to `MAX_QUOTED_CHARS`: error details travel in headers, which are small."""
    return text if len(text) <= MAX_QUOTED_CHARS else text[:MAX_QUOTED_CHARS] + "..."


def did_you_mean(word: str, options: Sequence[str]) -> str:
    """`did you mean "X"?` with the nearest option, whatever its case; the list of options when none is near."""
    # Cut first: difflib indexes the whole word.
    folded = {fold(option): option for option in options}
    near = difflib.get_close_matches(fold(word[:_MAX_NAME_CHARS]), list(folded), n=1)
    if near:
        return f'did you mean "{folded[near[0]]}"?'
    return "use one of: " + ", ".join(options)

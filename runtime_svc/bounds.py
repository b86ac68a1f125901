"""How much a request may bring: counted before anything else is done for it."""

from __future__ import annotations

from treni.errors import invalid_argument
from treni.limits import ANSWER_BYTES, MESSAGES, NEW_TOKENS, TOOL_CALLS, TOOLS
from treni.v1 import inference_pb2

_FLOAT_BYTES = 4
_VECTOR_BYTES = 16
"""Around the numbers of one vector in an answer, at most."""


def check_counts(request: inference_pb2.GenerateRequest) -> None:
    """Raises INVALID_ARGUMENT where messages, tools, tool calls or tokens to generate are too many to work on.

    What a request costs is counted in these: messages and tools without a word in them take two bytes each.
    """
    MESSAGES.check(len(request.messages))
    TOOLS.check(len(request.tools))
    TOOL_CALLS.check(sum(len(message.tool_calls) for message in request.messages))
    NEW_TOKENS.check(request.sampling.max_new_tokens)


def check_vectors(texts: int, width: int) -> None:
    """Raises INVALID_ARGUMENT where the vectors (texts, width) float32 are more than one answer holds."""
    most = ANSWER_BYTES // (_FLOAT_BYTES * width + _VECTOR_BYTES)
    if texts > most:
        raise invalid_argument(
            "texts_count",
            expected=f"at most {most} texts, whose vectors of {width} numbers fit an answer of {ANSWER_BYTES} bytes",
            got=f"{texts}",
            todo="send them in several requests",
        )

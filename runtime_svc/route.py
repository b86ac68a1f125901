"""The semantic route: which of the offered tools a request belongs to, told from embeddings, before any token.

It is reported beside what the model does, and decides nothing.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from treni.v1 import common_pb2, inference_pb2

Floats = npt.NDArray[np.float32]

NO_TOOL = "none"
"""The label of a request that no offered tool seems to be for. Tools with this name keep it too."""

TEMPERATURE = 0.08
"""Cosines are divided by it before the softmax. Both constants minimise the negative log-likelihood for
all-MiniLM-L6-v2 on 1,200 generated dialogues of the training split; `runtime_svc.training.evaluate_route` fits
them again and measures them on other data."""

NO_TOOL_COSINE = 0.25
"""What "no tool" scores: a tool has to be more alike to the request than this."""


class Embedder(Protocol):
    """What the stage needs of an encoder."""

    def embed(self, texts: Sequence[str], *, truncate: bool = False) -> Floats:
        """Unit-length vectors (N, D); `truncate` shortens a text that is too long."""


def distribution(
    request: Floats,
    tools: Floats,
    *,
    temperature: float = TEMPERATURE,
    no_tool_cosine: float = NO_TOOL_COSINE,
) -> npt.NDArray[np.float64]:
    """The probabilities (N + 1,) of N tools and, last, of "no tool": softmax(cosines / temperature).

    `request` (D,) and `tools` (N, D) are of unit length; N may be 0. "No tool" has the cosine `no_tool_cosine`.
    """
    scores = np.append(tools @ request, no_tool_cosine).astype(np.float64) / temperature
    shares = np.exp(scores - scores.max())
    probabilities: npt.NDArray[np.float64] = shares / shares.sum()
    return probabilities


def route(request: Floats, tools: Floats, names: Sequence[str]) -> common_pb2.RouteAwareness:
    """The most likely of the tools `names` (N) and "no tool", with how sure that is; see `distribution`.

    Of equal probabilities the tool that comes first wins, and a tool before "no tool".
    """
    shares = distribution(request, tools)
    best = int(shares.argmax())
    possible = shares[shares > 0]
    return common_pb2.RouteAwareness(
        family=names[best] if best < len(names) else NO_TOOL,
        probability=float(shares[best]),
        entropy=max(-float(possible @ np.log(possible)), 0.0),
        margin=float(shares[best] - np.delete(shares, best).max(initial=0.0)),
    )


class RouteStage:
    """Routes requests with one encoder, and keeps the last embeddings, of tools and of requests.

    The tools of an agent come again with every turn, and its request with every turn of a run; neither is embedded
    twice while it is among the `capacity` last used texts. Not thread-safe.
    """

    def __init__(self, encoder: Embedder, *, capacity: int = 1024) -> None:
        self._encoder = encoder
        self._capacity = capacity
        self._kept: OrderedDict[str, Floats] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, request: inference_pb2.GenerateRequest) -> common_pb2.RouteAwareness:
        """The route of a checked request: of its last user turn, or of its last turn where no user spoke.

        A turn or a description longer than the encoder takes is judged by its beginning.
        """
        asked = [message.content for message in request.messages if message.role == "user"]
        text = (asked or [request.messages[-1].content])[-1]
        names = [tool.name for tool in request.tools]
        vectors = self._embedded([text, *map(described, request.tools)])
        return route(vectors[0], vectors[1:], names)

    def _embedded(self, texts: Sequence[str]) -> Floats:
        """The vectors (N, D) of the texts, those that are not known computed in one batch."""
        unknown = [text for text in dict.fromkeys(texts) if text not in self._kept]
        found = {text: self._kept[text] for text in texts if text in self._kept}
        if unknown:
            found |= zip(unknown, self._encoder.embed(unknown, truncate=True), strict=True)
        for text in texts:
            self._kept[text] = found[text]
            self._kept.move_to_end(text)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return np.stack([found[text] for text in texts])


def described(tool: common_pb2.ToolSpec) -> str:
    """A tool as the text that is embedded for it: its name in words, and its description."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\-.]+", " ", tool.name)
    return f"{name.lower()}: {tool.description}"

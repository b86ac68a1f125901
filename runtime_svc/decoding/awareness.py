"""How sure the model was, from the statistics of the tokens it generated."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runtime_svc.ops import Sampled
from treni.v1 import common_pb2

LOW_CONFIDENCE = math.log(0.5)


def awareness(
    tokens: Sequence[Sampled], route: common_pb2.RouteAwareness | None = None
) -> common_pb2.Awareness:
    """The record of one answer, over every generated token, the end-of-turn token included.

    `route_uncertainty` is 1 less the probability of the first generated token: the one that opens either a
    tool call or an answer in words. All of it is before temperature. Needs at least one token.
    `route` is what the encoder said of the request before, and is put beside it.
    """
    mean = math.fsum(token.logprob for token in tokens) / len(tokens)
    return common_pb2.Awareness(
        mean_logprob=mean,
        perplexity=math.exp(-mean),
        max_entropy=max(token.entropy for token in tokens),
        low_confidence_tokens=sum(token.logprob < LOW_CONFIDENCE for token in tokens),
        min_margin=min(token.margin for token in tokens),
        route_uncertainty=-math.expm1(tokens[0].logprob),
        route=route,
    )

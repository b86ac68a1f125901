"""POST /v1/embeddings: texts in, vectors of unit length out."""

from __future__ import annotations

import base64
from typing import Literal

import numpy as np
from starlette.types import Receive, Scope, Send

from runtime_svc.core import InferenceCore
from runtime_svc.http_front.exchange import Endpoint, JsonResponse, read, while_connected
from runtime_svc.http_front.fields import Strict
from runtime_svc.http_front.models import check_model
from runtime_svc.http_front.requests import EmbeddingsRequest
from treni.v1 import inference_pb2


class EmbeddingAnswer(Strict):
    """The vector of one text: numbers, or the base64 of them as little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(Strict):
    """The tokens that the texts came to."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Strict):
    """The vectors, in the order of the texts, and the model that made them."""

    object: Literal["list"]
    data: list[EmbeddingAnswer]
    model: str
    usage: EmbeddingsUsage


class EmbeddingsEndpoint(Endpoint):
    """The endpoint, as an ASGI application."""

    content = "input"

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; a client that leaves ends the work at the next piece of it."""
        asked = await read(scope, receive, EmbeddingsRequest)
        model = self._core.engine.embedder
        check_model(asked.model, model)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        request = inference_pb2.EmbedRequest(texts=texts)
        vectors = (await while_connected(receive, self._core.embed(request))).embeddings
        tokens = sum(vector.tokens for vector in vectors)
        answer = EmbeddingsAnswer(
            object="list",
            data=[
                EmbeddingAnswer(
                    object="embedding", index=index, embedding=_form(vector, asked.encoding_format)
                )
                for index, vector in enumerate(vectors)
            ],
            model=model,
            usage=EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens),
        )
        await JsonResponse(answer)(scope, receive, send)


def _form(vector: inference_pb2.Embedding, form: str | None) -> list[float] | str:
    values = np.array(vector.values, np.dtype("<f4"))
    return base64.b64encode(values.tobytes()).decode() if form == "base64" else values.tolist()

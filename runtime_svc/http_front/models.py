"""GET /v1/models: what may be asked for by which name."""

from __future__ import annotations

import time
from typing import Literal

from runtime_svc.engine import Engine
from runtime_svc.http_front.errors import ParameterError
from runtime_svc.http_front.fields import Strict
from treni.errors import Code

_STARTED = int(time.time())


class ModelDetail(Strict):
    """What a model is good for here."""

    endpoints: list[Literal["chat/completions", "embeddings"]]


class Model(Strict):
    """A model that is loaded; `created` is when this process began."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    treni: ModelDetail


class Models(Strict):
    """The models that are loaded."""

    object: Literal["list"]
    data: list[Model]


def models_of(engine: Engine) -> Models:
    """The decoder, and the encoder beside it where one is loaded."""
    if engine.embedder == engine.model:
        return Models(object="list", data=[_model(engine.model, "chat/completions", "embeddings")])
    data = [_model(engine.model, "chat/completions"), _model(engine.embedder, "embeddings")]
    return Models(object="list", data=data)


def check_model(asked: str, there: str) -> None:
    """Raises NOT_FOUND where a request asks for another model than the one `there` is: none stands in for another."""
    if asked != there:
        raise ParameterError(
            "model_not_found",
            param="model",
            code=Code.NOT_FOUND,
            expected=f"the model {there!r}",
            got=repr(asked),
            todo="see /v1/models",
        )


def _model(name: str, *endpoints: Literal["chat/completions", "embeddings"]) -> Model:
    return Model(
        id=name,
        object="model",
        created=_STARTED,
        owned_by="treni",
        treni=ModelDetail(endpoints=list(endpoints)),
    )

"""The OpenAPI description that the server gives of itself, out of the models by which it reads and writes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from runtime_svc.engine import Engine
from runtime_svc.http_front import answers, embeddings, requests
from runtime_svc.http_front.errors import RETRY_AFTER_S, ErrorBody
from runtime_svc.http_front.models import Model, Models
from treni.http_door import OPEN_PATHS

_KEY = "key"
_REFS = "#/components/schemas/"
_READ: tuple[type[BaseModel], ...] = (requests.ChatRequest, requests.EmbeddingsRequest)
_WRITTEN: tuple[type[BaseModel], ...] = (
    answers.ChatCompletion,
    answers.ChatChunk,
    embeddings.EmbeddingsAnswer,
    Model,
    Models,
    ErrorBody,
)

_EVENT = {
    "type": "object",
    "description": "One event: its data are a ChatChunk in JSON, of the last one [DONE].",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}

_REFUSALS = {
    "400": "The request is wrong; `param` names what of it, where that is one thing.",
    "404": "The model is not the one that is asked for.",
    "413": "The body is too large.",
    "415": "The body is no JSON by its content type.",
    "429": "Too many wait already.",
    "502": "No real inference answered: nothing stands in for one.",
    "503": "The server is going down, or out of memory.",
}


def description(engine: Engine, *, keyed: bool = False) -> bytes:
    """The document, in JSON: paths with and without `/v1`, what goes in and out at each, and which ask for a key."""
    _, schemas = models_json_schema(
        [*((model, "validation") for model in _READ), *((model, "serialization") for model in _WRITTEN)],
        ref_template=_REFS + "{model}",
    )
    definitions = schemas["$defs"]
    for body, model in ((requests.ChatRequest, engine.model), (requests.EmbeddingsRequest, engine.embedder)):
        definitions[body.__name__]["properties"]["model"] = {"type": "string", "const": model}
    paths: dict[str, Any] = {}
    for prefix in ("/v1", ""):
        paths |= {prefix + path: item for path, item in _paths(prefix).items()}
    paths |= _own_paths()
    components: dict[str, Any] = {"schemas": definitions}
    if keyed:
        components["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer"}}
        for path, item in paths.items():
            for operation in item.values() if path not in OPEN_PATHS else ():
                operation["security"] = [{_KEY: []}]
                operation["responses"]["401"] = _error("None of the keys was shown.")
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "treni-route runtime",
            "version": "1",
            "description": f"OpenAI's interface to the model {engine.model!r}.",
        },
        "paths": paths,
        "components": components,
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _paths(prefix: str) -> dict[str, Any]:
    tag = "v1" if prefix else "root"
    chat = _post(
        f"chat_{tag}",
        "Answers a conversation, whole or, with `stream`, as events whose data are ChatChunk and at last [DONE].",
        requests.ChatRequest,
        {**_json(answers.ChatCompletion), "text/event-stream": {"schema": _EVENT}},
    )
    embed = _post(
        f"embeddings_{tag}",
        "Embeds texts.",
        requests.EmbeddingsRequest,
        _json(embeddings.EmbeddingsAnswer),
    )
    one = _get(f"model_{tag}", "Describes one of the models.", _json(Model))
    one["responses"]["404"] = _error("There is no such model.")
    one["parameters"] = [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    ]
    return {
        "/chat/completions": {"post": chat},
        "/embeddings": {"post": embed},
        "/models": {"get": _get(f"models_{tag}", "Lists the models that are loaded.", _json(Models))},
        "/models/{id}": {"get": one},
    }


def _own_paths() -> dict[str, Any]:
    status = {"application/json": {"schema": {"type": "object", "required": ["status"]}}}
    ready = _get("ready", "Says whether the model takes requests.", status)
    ready["responses"]["503"] = _error("It does not.")
    return {
        "/health": {"get": _get("health", "Says that the process answers.", status)},
        "/ready": {"get": ready},
        "/metrics": {
            "get": _get(
                "metrics",
                "Gives Prometheus the runtime's metrics.",
                {"text/plain": {"schema": {"type": "string"}}},
            )
        },
        "/openapi.json": {
            "get": _get(
                "openapi", "Gives this document.", {"application/json": {"schema": {"type": "object"}}}
            )
        },
    }


def _get(name: str, summary: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "As asked for.", "content": content}, "default": _error("Not.")},
    }


def _post(name: str, summary: str, body: type[BaseModel], content: dict[str, Any]) -> dict[str, Any]:
    operation = _get(name, summary, content)
    operation["requestBody"] = {"required": True, "content": _json(body)}
    operation["responses"] |= {status: _error(text) for status, text in _REFUSALS.items()}
    for status in ("429", "503"):
        operation["responses"][status]["headers"] = {
            "Retry-After": {
                "description": "Seconds after which to come again.",
                "schema": {"type": "integer", "const": RETRY_AFTER_S},
            }
        }
    return operation


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": _json(ErrorBody)}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"{_REFS}{model.__name__}"}}}

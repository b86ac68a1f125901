"""The application: which path is answered by whom, and how it says what went wrong."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime_svc.core import InferenceCore
from runtime_svc.http_front import errors
from runtime_svc.http_front.chat import ChatEndpoint
from runtime_svc.http_front.description import description
from runtime_svc.http_front.embeddings import EmbeddingsEndpoint
from runtime_svc.http_front.exchange import ErrorResponse, JsonResponse
from runtime_svc.http_front.fields import Strict
from runtime_svc.http_front.models import check_model, models_of
from treni.errors import Code, TreniError, unforeseen
from treni.http_door import LockedApp
from treni.http_spans import http_spans
from treni.keys import Keys
from treni.limits import CALLS_IN_FLIGHT

if TYPE_CHECKING:
    from treni.metrics import Page

PREFIXES = ("/v1", "")


class Health(Strict):
    """The answer that says that the process lives."""

    status: Literal["ok"]


class Ready(Strict):
    """The answer that says that the model is loaded and takes requests."""

    status: Literal["ready"]
    model: str


def application(core: InferenceCore, metrics: Page, *, keys: Keys | None = None) -> Starlette:
    """The front over this core; with `keys`, one of them is asked for before anything else."""
    gets = _Gets(core, metrics, description(core.engine, keyed=keys is not None))
    routes = [
        route
        for prefix in PREFIXES
        for route in (
            Route(f"{prefix}/chat/completions", ChatEndpoint(core), methods=["POST"]),
            Route(f"{prefix}/embeddings", EmbeddingsEndpoint(core), methods=["POST"]),
            Route(f"{prefix}/models", gets.models),
            Route(f"{prefix}/models/{{id}}", gets.model),
        )
    ]
    routes += [
        Route("/health", gets.health),
        Route("/ready", gets.ready),
        Route("/metrics", gets.metrics),
        Route("/openapi.json", gets.openapi),
    ]
    locks = [] if keys is None else [Middleware(LockedApp, keys=keys)]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Typed), *locks, *http_spans(), Middleware(InFlight)],
        exception_handlers={HTTPException: _refused, Exception: _unforeseen},
    )
    app.router.redirect_slashes = False
    return app


class Typed:
    """Answers with the error that whatever is behind it raises, in OpenAI's shape."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on; nothing that raises a `TreniError` has begun to answer."""
        try:
            await self._app(scope, receive, send)
        except TreniError as error:
            await ErrorResponse(error)(scope, receive, send)


class InFlight:
    """Refuses a request that is one too many of its path, before anything of it is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_flight: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request in while there is room."""
        path = scope.get("path", "")
        if self._in_flight[path] >= CALLS_IN_FLIGHT.most:
            raise CALLS_IN_FLIGHT.exceeded("one more")
        self._in_flight[path] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight[path] -= 1
            if not self._in_flight[path]:
                del self._in_flight[path]


class _Gets:
    """What is answered without the engine thread."""

    def __init__(self, core: InferenceCore, metrics: Page, openapi: bytes) -> None:
        self._core = core
        self._metrics = metrics
        self._openapi = openapi

    async def models(self, request: Request) -> Response:
        return JsonResponse(models_of(self._core.engine))

    async def model(self, request: Request) -> Response:
        asked = request.path_params["id"]
        models = {model.id: model for model in models_of(self._core.engine).data}
        if asked not in models:
            check_model(asked, ", ".join(models))
        return JsonResponse(models[asked])

    async def health(self, request: Request) -> Response:
        return JsonResponse(Health(status="ok"))

    async def ready(self, request: Request) -> Response:
        if not self._core.ready:
            raise TreniError(
                Code.UNAVAILABLE,
                "not_ready",
                expected="an engine that takes requests",
                got="one that does not",
                todo="ask again later",
                definite=True,
            )
        return JsonResponse(Ready(status="ready", model=self._core.engine.model))

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type=self._metrics.text_type)

    async def openapi(self, request: Request) -> Response:
        return Response(self._openapi, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return ErrorResponse(errors.of_http(error), error.headers)


async def _unforeseen(request: Request, error: Exception) -> Response:
    """What nobody foresaw; Starlette raises it again for the log."""
    return ErrorResponse(unforeseen(error, "the HTTP front"))

"""POST /v1/chat/completions: a conversation in, an answer out, whole or as server-sent events."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from runtime_svc.core import InferenceCore
from runtime_svc.http_front import answers, errors
from runtime_svc.http_front.answers import CallDelta, ChatChunk, ChunkChoice, Delta, Head
from runtime_svc.http_front.exchange import Endpoint, JsonResponse, read, while_connected
from runtime_svc.http_front.extras import extras_of
from runtime_svc.http_front.models import check_model
from runtime_svc.http_front.requests import ChatRequest
from runtime_svc.http_front.translation import generate_request
from treni.errors import TreniError, unforeseen
from treni.http_door import CALLER
from treni.text_gate import TextGate
from treni.v1 import inference_pb2

_DONE = b"data: [DONE]\n\n"
_EVENT_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx, else, keeps events until it has many
]

_log = logging.getLogger(__name__)

Chunks = AsyncGenerator[inference_pb2.GenerateChunk, None]


class ChatEndpoint(Endpoint):
    """The endpoint, as an ASGI application. An error that comes once events have been sent is the last event."""

    content = "messages"

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; a client that leaves frees its slot before the next step."""
        chat = await read(scope, receive, ChatRequest)
        check_model(chat.model, self._core.engine.model)
        request = generate_request(chat, caller=scope.get(CALLER, ""))
        answer = _Answer(chat, request, self._core.engine.model)
        chunks = self._core.generate(request)
        sent = _stream(answer, chunks, send) if chat.stream else _whole(answer, chunks, scope, receive, send)
        await while_connected(receive, sent)


class _Answer:
    """What is made of the chunks of one generation."""

    def __init__(self, chat: ChatRequest, request: inference_pb2.GenerateRequest, model: str) -> None:
        self._request = request
        self._head = Head(model)
        self._alternatives = (chat.top_logprobs or 0) if chat.logprobs else None
        self._with_usage = chat.stream_options is not None and bool(chat.stream_options.include_usage)
        self._gate = TextGate()
        self._sent: list[str] = []
        self._held = ""
        self._begun = self._ended = False

    def whole(self, finish: inference_pb2.GenerateFinish) -> JsonResponse:
        """The answer at once."""
        return JsonResponse(answers.completion(self._head, finish, self._request, self._alternatives))

    def events(self, chunk: inference_pb2.GenerateChunk) -> bytes:
        """The events that a chunk makes; none while what it says may be the beginning of a call."""
        finish = chunk.finish if chunk.HasField("finish") else None
        text = self._keep(self._gate.feed(chunk.text))
        deltas: list[Delta] = []
        if not self._begun:
            self._begun = True
            deltas.append(Delta(role="assistant", content=text))
        elif text:
            deltas.append(Delta(content=text))
        events = b"".join(self._event(delta) for delta in deltas)
        return events if finish is None else events + self._end(answers.check_inferred(finish))

    def check_ended(self) -> None:
        """Raises `inference_required` where the events have no end."""
        if not self._ended:
            answers.check_inferred(None)

    def _keep(self, text: str) -> str:
        """The text less a line's end, which is no part of the content where a call follows it."""
        text = self._held + text
        self._held = "\n" if text.endswith("\n") else ""
        text = text.removesuffix("\n")
        self._sent.append(text)
        return text

    def _end(self, finish: inference_pb2.GenerateFinish) -> bytes:
        self._ended = True
        return b"".join([*(self._event(delta) for delta in self._rest(finish)), *self._last(finish), _DONE])

    def _rest(self, finish: inference_pb2.GenerateFinish) -> Iterator[Delta]:
        if finish.thinking:
            yield Delta(reasoning_content=finish.thinking)
        said = answers.said(finish)
        # Something else was sent where only the end tells that it had been a thought.
        sent = "".join(self._sent)
        if said.startswith(sent) and said != sent:
            yield Delta(content=said[len(sent) :])
        for index, call in enumerate(answers.answered_calls(finish)):
            yield Delta(
                tool_calls=[CallDelta(index=index, id=call.id, type=call.type, function=call.function)]
            )

    def _last(self, finish: inference_pb2.GenerateFinish) -> Iterator[bytes]:
        choice = ChunkChoice(
            index=0,
            delta=Delta(),
            logprobs=answers.logprobs(finish, self._alternatives),
            finish_reason=answers.reason_of(finish),
        )
        extras = extras_of(finish, seed=self._request.sampling.seed)
        yield self._chunk([choice], treni=extras)
        if self._with_usage:
            yield self._chunk([], usage=answers.usage_of(finish.usage, thinking=finish.thinking_tokens))

    def _event(self, delta: Delta) -> bytes:
        return self._chunk([ChunkChoice(index=0, delta=delta, logprobs=None, finish_reason=None)])

    def _chunk(self, choices: list[ChunkChoice], **more: BaseModel | None) -> bytes:
        head = self._head
        chunk = ChatChunk(
            id=head.id,
            object="chat.completion.chunk",
            created=head.created,
            model=head.model,
            choices=choices,
        )
        if self._with_usage:
            more = {"usage": None, **more}
        return (
            b"data: " + chunk.model_copy(update=more).model_dump_json(exclude_unset=True).encode() + b"\n\n"
        )


async def _whole(answer: _Answer, chunks: Chunks, scope: Scope, receive: Receive, send: Send) -> None:
    finish: inference_pb2.GenerateFinish | None = None
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk.HasField("finish"):
                finish = chunk.finish
    await answer.whole(answers.check_inferred(finish))(scope, receive, send)


async def _stream(answer: _Answer, chunks: Chunks, send: Send) -> None:
    """Sends the events. What is wrong before the first is raised, so that it has a status of its own."""
    async with aclosing(chunks):
        first = await anext(chunks)
        await send({"type": "http.response.start", "status": 200, "headers": _EVENT_HEADERS})
        try:
            await _send(send, answer.events(first))
            async for chunk in chunks:
                if events := answer.events(chunk):
                    await _send(send, events)
            answer.check_ended()
        except Exception as error:
            if not isinstance(error, TreniError):
                _log.exception("a stream failed")
                error = unforeseen(error, "the stream")
            await _send(send, b"data: " + errors.body_of(error) + b"\n\n")
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, events: bytes) -> None:
    await send({"type": "http.response.body", "body": events, "more_body": True})

"""One request on its way through the engine: rendered and tokenised, decoded to text, summed up at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from runtime_svc.decoding.awareness import awareness
from runtime_svc.decoding.completion import Completion
from runtime_svc.decoding.observer import Observer
from runtime_svc.decoding.scheduler import Prompt
from runtime_svc.decoding.stages import Stages
from runtime_svc.ops import Sampled
from runtime_svc.tokens.tokenizer import Tokenizer
from runtime_svc.toolcalls import parse_blocks
from runtime_svc.validate import sampling_params
from treni.errors import TreniError
from treni.v1 import common_pb2, inference_pb2

DEFAULT_NEW_TOKENS = 256


class Listener(Protocol):
    """Who hears what becomes of a request, on the thread whose step of the scheduler it is. Must not raise."""

    def text(self, text: str) -> None:
        """New text, never empty."""

    def finish(self, finish: inference_pb2.GenerateFinish, rest: str) -> None:
        """The answer is complete; `rest` is the text that was not told yet."""

    def fail(self, error: TreniError) -> None:
        """The generation ended without an answer, by this error."""


class Generation:
    """A checked request, as the scheduler's `Work`.

    `tokenize` gives the prompt's tokens and raises `TreniError` where they are too many for the `capacity` of a
    slot. `route`, where there is one, is what an encoder makes of the request. `stamp` holds what every finish says
    alike: model, backend and device. `begun` tells whether the engine has looked at it, `over` whether the listener
    has heard the last.
    """

    def __init__(
        self,
        request: inference_pb2.GenerateRequest,
        *,
        tokenize: Callable[[inference_pb2.GenerateRequest], list[int]],
        tokenizer: Tokenizer,
        capacity: int,
        stamp: inference_pb2.GenerateFinish,
        listener: Listener,
        arrived_s: float,
        route: Callable[[inference_pb2.GenerateRequest], common_pb2.RouteAwareness] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.stages = Stages(arrived_s)
        self.cancelled: TreniError | None = None
        self.begun = False
        self.over = False
        self._request = request
        self._tokenize = tokenize
        self._capacity = capacity
        self._route = route
        self._stamp = stamp
        self._listener = listener
        self._observer = observer
        self._prompt: list[int] | None = None
        self._tokenizer = tokenizer
        self._completion = Completion(tokenizer, thinking=False)
        self._prompt_tokens = 0
        self._routed: common_pb2.RouteAwareness | None = None
        self._tokens: list[Sampled] = []

    def cancel(self, reason: TreniError) -> None:
        """Stops before the next step, from any thread, and tells the listener the reason. The first counts."""
        if self.cancelled is None:
            self.cancelled = reason

    def prepare(self) -> None:
        """Renders and tokenises, on any thread and before it is submitted, what would else wait for `begin`.

        Raises `TreniError` to refuse the request.
        """
        before_s = time.perf_counter()
        tokens = self._prompt = self._tokenize(self._request)
        self._completion = Completion(self._tokenizer, thinking=self._tokenizer.opens_thought(tokens))
        self.stages.since("tokenize_s", before_s)

    def begin(self) -> Prompt:
        """The prompt, and how many tokens may follow it."""
        self.begun = True
        if self._prompt is None:
            self.prepare()
        assert self._prompt is not None
        tokens = self._prompt
        self._prompt_tokens = len(tokens)
        if self._route is not None:
            before_s = time.perf_counter()
            self._routed = self._route(self._request)
            self.stages.since("route_s", before_s)
        sampling = self._request.sampling
        return Prompt(
            tokens=tokens,
            key=self._request.cache_key,
            params=sampling_params(sampling),
            budget=sampling.max_new_tokens or min(DEFAULT_NEW_TOKENS, self._capacity - len(tokens)),
        )

    def token(self, token: Sampled, *, last: bool) -> None:
        """Decodes the token to text, and hands on what is complete of it."""
        self.stages.token()
        self._tokens.append(token)
        if last:
            return
        before_s = time.perf_counter()
        text = self._completion.feed(token.id)
        self.stages.since("detokenize_s", before_s)
        if text:
            self._listener.text(text)

    def end(self, reason: str, *, reused: int) -> None:
        """Sums the generation up and tells the listener."""
        before_s = time.perf_counter()
        completed = self._completion.finish()
        parsed = parse_blocks(completed.reading.blocks)
        finish = inference_pb2.GenerateFinish(
            reason="tool_calls" if parsed.calls else reason,
            text=completed.text,
            content=completed.reading.content,
            thinking=completed.reading.thinking,
            unfinished_thought=completed.reading.open,
            tool_calls=parsed.calls,
            malformed_tool_call=parsed.malformed,
            usage=common_pb2.Usage(
                prompt_tokens=self._prompt_tokens,
                completion_tokens=len(self._tokens),
                cached_prompt_tokens=reused,
            ),
            awareness=awareness(self._tokens, self._routed),
            tokens=[
                inference_pb2.TokenStat(id=t.id, logprob=t.logprob, entropy=t.entropy) for t in self._tokens
            ],
        )
        finish.MergeFrom(self._stamp)
        self.stages.since("detokenize_s", before_s)
        finish.timings.CopyFrom(self.stages.timings())
        if self._observer is not None:
            self._observer.answered(finish)
        self.over = True
        self._listener.finish(finish, completed.rest)

    def fail(self, error: TreniError) -> None:
        """Tells why there is no answer: the cancellation, where there was one."""
        reason = error if self.cancelled is None else self.cancelled
        if self._observer is not None:
            self._observer.ended(reason)
        self.over = True
        self._listener.fail(reason)

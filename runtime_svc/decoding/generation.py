"""One request on its way through the engine: rendered and tokenised, decoded to text, summed up at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from runtime_svc.decoding.awareness import awareness
from runtime_svc.decoding.completion import Completion
from runtime_svc.decoding.guide import Guide
from runtime_svc.decoding.observer import Observer
from runtime_svc.decoding.stages import HAND_OVER, Stages
from runtime_svc.decoding.work import Prompt
from runtime_svc.ops import Allowed, Sampled
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
    slot. `guide`, where there is one, gives what the completion is held to, if it is, from whether the prompt has
    opened a thought. `route`, where there is one, is what an encoder makes of the request. `stamp` holds what every
    finish says alike: model, backend and device. `begun` tells whether the engine has looked at it, `over` whether the
    listener has heard the last.
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
        guide: Callable[[inference_pb2.GenerateRequest, bool], Guide | None] | None = None,
        route: Callable[[inference_pb2.GenerateRequest], common_pb2.RouteAwareness] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.stages = Stages(arrived_s)
        self.cancelled: TreniError | None = None
        self.begun = False
        self.over = False
        self._request = request
        self._tokenize = tokenize
        self._make_guide = guide
        self._guide: Guide | None = None
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
        """Renders, tokenises and compiles, on any thread and before it is submitted, what would else wait for `begin`.

        Raises `TreniError` to refuse the request.
        """
        before_s = time.perf_counter()
        tokens = self._prompt = self._tokenize(self._request)
        thinking = self._tokenizer.opens_thought(tokens)
        self._completion = Completion(self._tokenizer, thinking=thinking, stops=self._request.stop)
        if self._make_guide is not None:
            self._guide = self._make_guide(self._request, thinking)
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
            guided=self._guide is not None,
            top=self._request.top_logprobs,
        )

    def allowed(self) -> Allowed | None:
        """The tokens that its guide lets come next."""
        assert self._guide is not None
        return self._guide.allowed()

    def token(self, token: Sampled, *, last: bool) -> bool:
        """Decodes the token to text, and hands on what is complete of it; whether the text is at a stop."""
        self.stages.token()
        self._tokens.append(token)
        if last:
            return True
        before_s = time.perf_counter()
        text = self._completion.feed(token.id)
        self.stages.since("detokenize_s", before_s)
        if text:
            before_s = time.perf_counter()
            self._listener.text(text)
            self.stages.since(HAND_OVER, before_s)
        if self._guide is not None and not self._completion.stop:
            self._guide.accept(token.id, self._completion)
        return bool(self._completion.stop)

    def end(self, reason: str, *, reused: int) -> None:
        """Sums the generation up and tells the listener."""
        before_s = time.perf_counter()
        completed = self._completion.finish()
        parsed = parse_blocks(completed.reading.blocks)
        finish = inference_pb2.GenerateFinish(
            reason="tool_calls" if parsed.calls else "stop" if self._completion.stop else reason,
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
            tokens=[self._stat(token) for token in self._tokens],
            stop_sequence=self._completion.stop,
            constrained=self._guide is not None and self._guide.holds,
            thinking_tokens=self._completion.thinking_tokens,
            thought_cut=self._guide is not None and self._guide.cut,
        )
        finish.MergeFrom(self._stamp)
        self.stages.since("detokenize_s", before_s)
        finish.timings.CopyFrom(self.stages.timings())
        if self._observer is not None:
            self._observer.answered(finish)
        self.over = True
        self._listener.finish(finish, completed.rest)

    def _stat(self, token: Sampled) -> inference_pb2.TokenStat:
        stat = inference_pb2.TokenStat(id=token.id, logprob=token.logprob, entropy=token.entropy)
        if token.top:
            of = self._tokenizer.bytes_of
            stat.text = of(token.id)
            for i, logprob in token.top:
                stat.top.add(id=i, logprob=logprob, text=of(i))
        return stat

    def fail(self, error: TreniError) -> None:
        """Tells why there is no answer: the cancellation, where there was one."""
        reason = error if self.cancelled is None else self.cancelled
        if self._observer is not None:
            self._observer.ended(reason)
        self.over = True
        self._listener.fail(reason)

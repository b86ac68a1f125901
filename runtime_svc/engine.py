"""The inference engine: a conversation in, text out token by token, with what it cost and how sure it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from runtime_svc import checkpoint
from runtime_svc.awareness import awareness
from runtime_svc.decoder import Cache, Decoder
from runtime_svc.errors import cancelled as cancelled_error
from runtime_svc.ops import Ops, Sampled
from runtime_svc.ops_numpy import NumpyOps
from runtime_svc.prefix import PrefixStore
from runtime_svc.template import ChatTemplate
from runtime_svc.tokenizer import Tokenizer
from runtime_svc.toolcalls import parse_tool_calls
from runtime_svc.validate import check_embed, check_generate, sampling_params
from treni.errors import Code, TreniError, invalid_argument
from treni.v1 import common_pb2, inference_pb2

DEFAULT_NEW_TOKENS = 256


def _never() -> bool:
    return False


class Engine:
    """One model, one generation at a time. Not thread-safe: `runtime_svc.core` gives it a thread of its own.

    `model` is the checkpoint's name, its directory's; `prefixes` the KV caches kept between turns. A turn that
    reuses a prefix computes the same numbers in other groupings, so its logits differ from a fresh prefill's in
    the last bits of a float32.
    """

    def __init__(
        self,
        *,
        directory: Path,
        decoder: Decoder,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        parameters: int,
        dtype: str,
        max_sequences: int = 64,
        max_cache_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self.tokenizer = tokenizer
        self.decoder = decoder
        self.model = directory.resolve().name
        self._directory = directory
        self._template = template
        self._parameters = parameters
        self._dtype = dtype
        self.prefixes = PrefixStore(decoder.new_cache, max_sequences=max_sequences, max_bytes=max_cache_bytes)

    @classmethod
    def load(cls, directory: str | Path, *, backend: str = "numpy") -> Engine:
        """The engine for a local Hugging Face directory.

        Raises `TreniError`: FAILED_PRECONDITION naming file and tensor when the directory is not complete,
        sound and of a known family, or when the backend is not there. No backend stands in for another.
        """
        path = Path(directory)
        ops = _ops(backend)
        config = checkpoint.read_config(path)
        tokenizer = Tokenizer(path)
        template = ChatTemplate(path)
        weights = checkpoint.read_weights(path, config)
        if tokenizer.size > config.vocabulary:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "checkpoint_damaged",
                expected=f"token ids under the model's vocabulary of {config.vocabulary} in {path}",
                got=f"a tokenizer with {tokenizer.size}",
                todo="use the tokenizer that belongs to the weights",
            )
        return cls(
            directory=path,
            decoder=Decoder(config, weights, ops),
            tokenizer=tokenizer,
            template=template,
            parameters=weights.parameters,
            dtype=weights.stored_dtype,
        )

    @cached_property
    def info(self) -> inference_pb2.InfoResponse:
        """What runs here. `dtype` is how the weights are stored; they are computed with in float32."""
        config = self.decoder.config
        return inference_pb2.InfoResponse(
            model=self.model,
            backend=self.decoder.ops.backend,
            device=self.decoder.ops.device,
            parameters=self._parameters,
            context_length=config.context_length,
            vocabulary=config.vocabulary,
            dtype=self._dtype,
            checkpoint_sha256=checkpoint.sha256(self._directory),
        )

    def prompt(self, request: inference_pb2.GenerateRequest) -> list[int]:
        """The token ids of the rendered conversation of a checked request.

        Raises INVALID_ARGUMENT when the template refuses it, or the tokens do not fit the context.
        """
        tokens = self.tokenizer.encode(self._template.render(request.messages, request.tools))
        context, asked = self.decoder.config.context_length, request.sampling.max_new_tokens
        if not tokens or len(tokens) + max(asked, 1) > context:
            raise invalid_argument(
                "context_overflow",
                expected=f"a prompt that leaves room in the context of {context} tokens",
                got=f"{len(tokens)} prompt tokens and {asked} to generate",
                todo="shorten the conversation or ask for fewer new tokens",
            )
        return tokens

    def generate(
        self,
        request: inference_pb2.GenerateRequest,
        *,
        arrived_s: float | None = None,
        cancelled: Callable[[], bool] = _never,
    ) -> Iterator[inference_pb2.GenerateChunk]:
        """Chunks as their text is decoded; the last one carries the finish, and only it.

        `arrived_s` is the `time.perf_counter()` at which the request reached the service (now, when None);
        `cancelled` is asked before every model step. Raises INVALID_ARGUMENT at once for what can be told
        without tokenising; nothing else happens before the first chunk is asked for, so that may be on another
        thread. Then raises `TreniError`: INVALID_ARGUMENT before the first chunk, CANCELLED when `cancelled`
        says so, INTERNAL when the model yields no finite logits.
        """
        check_generate(request, self.tokenizer.control)
        run = _Generation(self, request, time.perf_counter() if arrived_s is None else arrived_s, cancelled)
        return run.chunks()

    def embed(
        self, request: inference_pb2.EmbedRequest, *, cancelled: Callable[[], bool] = _never
    ) -> inference_pb2.EmbedResponse:
        """One unit-length vector of `hidden` values per text: the mean of the decoder's last hidden states.

        A causal decoder's states, after the final norm, without a chat template: comparable with each other
        under the same checkpoint, and no substitute for a model trained to embed. Raises INVALID_ARGUMENT
        for an empty text or one longer than the context.
        """
        check_embed(request)
        response = inference_pb2.EmbedResponse()
        context = self.decoder.config.context_length
        for index, text in enumerate(request.texts):
            tokens = self.tokenizer.encode(text)
            if len(tokens) > context:
                raise invalid_argument(
                    "context_overflow",
                    expected=f"at most {context} tokens in texts[{index}]",
                    got=f"{len(tokens)}",
                    todo="shorten the text",
                )
            mean = self.decoder.pooled(tokens, self.decoder.new_cache(), check=_raiser(cancelled))
            response.embeddings.add(values=mean / np.linalg.norm(mean))
        return response


class _Stages:
    """Seconds by stage of `EngineTimings`, each instant given to exactly one stage."""

    def __init__(self, arrived_s: float) -> None:
        self.arrived_s = arrived_s
        self._last = arrived_s
        self.spent: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        """Gives the time since the last mark to `stage`."""
        now = time.perf_counter()
        self.spent[stage] = self.spent.get(stage, 0.0) + now - self._last
        self._last = now

    @property
    def elapsed_s(self) -> float:
        """From arrival to the last mark."""
        return self._last - self.arrived_s


class _Generation:
    """One request on its way through the engine."""

    def __init__(
        self,
        engine: Engine,
        request: inference_pb2.GenerateRequest,
        arrived_s: float,
        cancelled: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._request = request
        self._check = _raiser(cancelled)
        self._stages = _Stages(arrived_s)
        self._stream = engine.tokenizer.stream()
        self._reason = "length"
        self._first_token_s = 0.0
        self._tokens: list[Sampled] = []
        self._pieces: list[str] = []

    def chunks(self) -> Iterator[inference_pb2.GenerateChunk]:
        engine, request = self._engine, self._request
        self._stages.mark("queue_s")
        prompt = engine.prompt(request)
        self._stages.mark("tokenize_s")
        cache = engine.prefixes.take(request.cache_key, prompt)
        reused = len(cache.tokens)
        room = engine.decoder.config.context_length - len(prompt)
        budget = request.sampling.max_new_tokens or min(DEFAULT_NEW_TOKENS, room)
        try:
            yield from self._decode(prompt[reused:], cache, budget)
        finally:
            engine.prefixes.give(request.cache_key, cache)
        usage = common_pb2.Usage(
            prompt_tokens=len(prompt), completion_tokens=len(self._tokens), cached_prompt_tokens=reused
        )
        rest = self._stream.finish()
        finish = self._finish(usage, "".join(self._pieces) + rest)
        self._stages.mark("detokenize_s")
        finish.timings.CopyFrom(self._timings())
        yield inference_pb2.GenerateChunk(text=rest, finish=finish)

    def _decode(
        self, new_prompt: Sequence[int], cache: Cache, budget: int
    ) -> Iterator[inference_pb2.GenerateChunk]:
        decoder, stages = self._engine.decoder, self._stages
        params = sampling_params(self._request.sampling)
        logits = decoder.forward(new_prompt, cache, check=self._check)
        stages.mark("prefill_s")
        for step in range(budget):
            token = decoder.ops.sample(logits, params, step)
            self._tokens.append(token)
            stages.mark("sample_s")
            if step == 0:
                self._first_token_s = stages.elapsed_s
            if token.id in decoder.config.eos_ids:
                self._reason = "stop"
                return
            text = self._stream.feed(token.id)
            stages.mark("detokenize_s")
            if text:
                self._pieces.append(text)
                yield inference_pb2.GenerateChunk(text=text)
                stages.mark("deliver")
            if step + 1 < budget:
                logits = decoder.forward((token.id,), cache, check=self._check)
                stages.mark("decode_s")

    def _finish(self, usage: common_pb2.Usage, text: str) -> inference_pb2.GenerateFinish:
        engine = self._engine
        parsed = parse_tool_calls(text)
        return inference_pb2.GenerateFinish(
            reason="tool_calls" if parsed.calls else self._reason,
            text=text,
            tool_calls=parsed.calls,
            malformed_tool_call=parsed.malformed,
            usage=usage,
            awareness=awareness(self._tokens),
            tokens=[
                inference_pb2.TokenStat(id=t.id, logprob=t.logprob, entropy=t.entropy) for t in self._tokens
            ],
            backend=engine.decoder.ops.backend,
            device=engine.decoder.ops.device,
            model=engine.model,
        )

    def _timings(self) -> common_pb2.EngineTimings:
        spent = {name: seconds for name, seconds in self._stages.spent.items() if name.endswith("_s")}
        return common_pb2.EngineTimings(
            **spent, first_token_s=self._first_token_s, total_s=self._stages.elapsed_s
        )


def _raiser(cancelled: Callable[[], bool]) -> Callable[[], None]:
    def check() -> None:
        if cancelled():
            raise cancelled_error()

    return check


def _ops(backend: str) -> Ops:
    if backend == "numpy":
        return NumpyOps()
    raise TreniError(
        Code.FAILED_PRECONDITION,
        "backend_unavailable",
        expected='the backend "numpy"',
        got=repr(backend),
        todo="start the runtime with the numpy backend: this build has no other",
    )

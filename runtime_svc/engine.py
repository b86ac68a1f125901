"""The inference engine: conversations in, text out token by token, with what it cost and how sure it was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtime_svc.backends import BACKENDS
from runtime_svc.backends.numpy import decoder
from runtime_svc.backends.numpy.runner import NumpyRunner
from runtime_svc.bounds import check_counts, check_vectors
from runtime_svc.coldstart import ColdStart
from runtime_svc.constraints.compiler import Compiler
from runtime_svc.constraints.grammar import grammars_of, is_held
from runtime_svc.decoding.generation import Generation, Listener
from runtime_svc.decoding.guide import Guide
from runtime_svc.decoding.observer import Observer
from runtime_svc.decoding.runner import Runner
from runtime_svc.decoding.scheduler import Scheduler
from runtime_svc.errors import cancelled
from runtime_svc.model import open_model
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.route import RouteStage
from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.provenance import SPOKEN, Traced
from runtime_svc.tokens.tokenizer import Tokenizer
from runtime_svc.validate import check_embed, check_generate
from runtime_svc.weights.digest import sha256
from treni.errors import Code, TreniError, invalid_argument
from treni.markup import END_THINK
from treni.v1 import inference_pb2

if TYPE_CHECKING:
    from runtime_svc.encoder.encoder import Encoder

SLOTS = 64
"""KV slots where memory allows: conversations between two turns need one each, to be found again."""

MAX_ROWS = 8
"""Sequences that run at once."""

KV_BUDGET_BYTES = 8 * 1024**3
"""What the slots may take when they are full, if nobody says how many there are."""


_CLOSING = Traced(f"\n{END_THINK}\n\n", SPOKEN)
"""What closes a thought at its budget, as models that think write it."""


def _nothing() -> None:
    pass


class Engine:
    """One model, and any number of generations side by side. `model` is the checkpoint's name, its directory's.

    The work is done by whoever drives `scheduler`: a thread that calls its `step` (`runtime_svc.core` has one), or
    whoever iterates over a generation, which drives all the others too. A turn that reuses a prefix computes the
    same numbers in other groupings, so its logits differ from a fresh prefill's in the last bits of a float32.
    """

    def __init__(
        self,
        *,
        directory: Path,
        runner: Runner,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        encoder: Encoder | None = None,
        max_rows: int | None = None,
        batch_invariant: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.runner = runner
        self.model = directory.resolve().name
        self.cold_start = inference_pb2.ColdStart()
        self.observer: Observer | None = None
        self._directory = directory
        self._encoder = encoder
        self._route = None if encoder is None else RouteStage(encoder)
        self._template = template
        config = runner.config
        self._compiler = Compiler(tokenizer, vocabulary=config.vocabulary, ends=config.eos_ids)
        at_once = runner.ahead == 0  # a longer chunk would only wait longer to be cancelled
        self.scheduler = Scheduler(
            runner,
            prefill_chunk=decoder.CHUNK if at_once else 512,
            prefill_alone=decoder.CHUNK if at_once else 4096,
            max_rows=max_rows,
            batch_invariant=batch_invariant,
        )
        self._stamp = inference_pb2.GenerateFinish(
            backend=runner.backend, device=runner.device, model=self.model
        )

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        backend: str = "numpy",
        encoder: str | Path | None = None,
        slots: int | None = None,
        slot_tokens: int | None = None,
        max_rows: int = MAX_ROWS,
        batch_invariant: bool = False,
    ) -> Engine:
        """The engine for a local Hugging Face directory, or a GGUF file.

        `encoder` is the directory of a sentence encoder, for embeddings and the semantic route of every answer.
        `slots` KV slots of `slot_tokens` tokens hold what runs and the prefixes that are kept; None chooses by
        memory. `batch_invariant`: see `Scheduler`. Raises `TreniError`: FAILED_PRECONDITION naming file and
        tensor when the model is not complete, sound and of a known architecture, or when the backend is not there.
        No backend stands in for another.
        """
        clock = ColdStart()
        path = Path(directory)
        chosen = BACKENDS.get(backend)
        if chosen is None:
            raise _no_backend(backend)
        model = open_model(path)
        config = model.checkpoint.config
        sentences = None if encoder is None else _load_encoder(encoder)
        clock.host()
        if slot_tokens is None:
            slot_tokens = config.context_length if chosen.slot_tokens is None else chosen.slot_tokens
        capacity = min(slot_tokens, config.context_length)
        if slots is None:
            slots = _slots_that_fit(config, capacity, element_bytes=chosen.element_bytes)
        runner = chosen.load(model.checkpoint, slots=slots, capacity=capacity, max_rows=max_rows)
        engine = cls(
            directory=path,
            runner=runner,
            tokenizer=model.tokenizer,
            template=model.template,
            encoder=sentences,
            max_rows=max_rows,
            batch_invariant=batch_invariant,
        )
        engine.cold_start.CopyFrom(clock.ready(runner))
        return engine

    @cached_property
    def info(self) -> inference_pb2.InfoResponse:
        """What runs here. `dtype` is how the weights are stored. The first call reads all checkpoint files."""
        runner, config = self.runner, self.runner.config
        return inference_pb2.InfoResponse(
            model=self.model,
            backend=runner.backend,
            device=runner.device,
            parameters=runner.parameters,
            context_length=config.context_length,
            vocabulary=config.vocabulary,
            dtype=runner.stored_dtype,
            checkpoint_sha256=sha256(self._directory),
            slots=runner.slots,
            slot_tokens=runner.capacity,
            max_rows=self.scheduler.max_rows,
            cold_start=self.cold_start,
            encoder="" if self._encoder is None else self._encoder.identity,
        )

    @property
    def embedder(self) -> str:
        """The name of the model behind `embeddings`: the encoder's, its directory's, or without one the decoder's."""
        return self.model if self._encoder is None else self._encoder.name

    def observe(self, observer: Observer) -> None:
        """Tells `observer` what happens from now on."""
        self.observer = self.scheduler.observer = observer

    def prompt(self, request: inference_pb2.GenerateRequest) -> list[int]:
        """The token ids of the rendered conversation of a checked request.

        Raises INVALID_ARGUMENT when the template refuses it or has no switch for the thinking that is asked for, or the
        tokens do not fit a slot.
        """
        thinking = request.thinking.enabled
        prompt = self._template.render(request.messages, request.tools, thinking=thinking)
        tokens = self.tokenizer.encode(prompt)
        fixed = request.HasField("thinking") and not self._template.has_switch
        if fixed and thinking != self.tokenizer.opens_thought(tokens):
            raise _no_switch(thinking)
        room, asked = self.runner.capacity, request.sampling.max_new_tokens
        if not tokens or len(tokens) + max(asked, 1) > room:
            raise invalid_argument(
                "context_overflow",
                expected=f"a prompt that leaves room in the context of {room} tokens",
                got=f"{len(tokens)} prompt tokens and {asked} to generate",
                todo="shorten the conversation or ask for fewer new tokens",
            )
        return tokens

    def guide(self, request: inference_pb2.GenerateRequest, thinking: bool) -> Guide | None:
        """What the completions of a checked request are held to; None for those that are free.

        `thinking` says that the prompt has opened a thought. Raises INVALID_ARGUMENT for a schema that decoding can't
        be held to.
        """
        held, budget = is_held(request), request.thinking.budget_tokens
        if not (held or budget):
            return None
        config, matcher = self.runner.config, None
        if held:
            markers, ends = self.tokenizer.markers, config.eos_ids
            matcher = self._compiler.matcher(
                *grammars_of(request, markers=markers, ends=ends, thinking=thinking)
            )
        closing = self.tokenizer.encode(_CLOSING) if budget else ()
        return Guide(vocabulary=config.vocabulary, matcher=matcher, closing=closing, budget=budget)

    def start(
        self, request: inference_pb2.GenerateRequest, listener: Listener, *, arrived_s: float | None = None
    ) -> Generation:
        """A checked request, for the scheduler; the listener hears the rest.

        `arrived_s` is the `time.perf_counter()` at which it reached the service (now, when None). Raises
        INVALID_ARGUMENT for what can be told without tokenising.
        """
        try:
            check_counts(request)
            check_generate(request)
        except TreniError as error:
            if self.observer is not None:
                self.observer.ended(error)
            raise
        return Generation(
            request,
            observer=self.observer,
            tokenize=self.prompt,
            guide=self.guide,
            tokenizer=self.tokenizer,
            capacity=self.runner.capacity,
            route=self._route,
            stamp=self._stamp,
            listener=listener,
            arrived_s=time.perf_counter() if arrived_s is None else arrived_s,
        )

    def generate(
        self, request: inference_pb2.GenerateRequest
    ) -> Generator[inference_pb2.GenerateChunk, None, None]:
        """Chunks as their text is decoded; the last one carries the finish, and only it. Drives the scheduler.

        Raises INVALID_ARGUMENT at once for what can be told without tokenising; nothing else happens before the
        first chunk is asked for. Then raises `TreniError`: INVALID_ARGUMENT before the first chunk, INTERNAL when
        the model yields no finite logits. Closing the iterator cancels the rest.
        """
        heard = _Heard()
        return self._chunks(self.start(request, heard), heard)

    def _chunks(
        self, generation: Generation, heard: _Heard
    ) -> Generator[inference_pb2.GenerateChunk, None, None]:
        self.scheduler.submit(generation)
        try:
            while True:
                while heard.items:
                    item = heard.items.popleft()
                    if isinstance(item, TreniError):
                        raise item
                    yield item
                    if item.HasField("finish"):
                        return
                self.scheduler.step()
        finally:
            generation.cancel(cancelled())
            if not self.scheduler.withdraw(generation):
                while not generation.over:
                    self.scheduler.step()

    def check_embed(self, request: inference_pb2.EmbedRequest) -> None:
        """Raises INVALID_ARGUMENT for texts that cannot be embedded, and for more than one answer can hold."""
        check_embed(request)
        width = self.runner.config.hidden if self._encoder is None else self._encoder.width
        check_vectors(len(request.texts), width)

    def embed(self, request: inference_pb2.EmbedRequest) -> inference_pb2.EmbedResponse:
        """One unit-length vector per text; see `embeddings`."""
        self.check_embed(request)
        return inference_pb2.EmbedResponse(embeddings=self.embeddings(request))

    def embeddings(
        self, request: inference_pb2.EmbedRequest, *, check: Callable[[], None] = _nothing
    ) -> Iterator[inference_pb2.Embedding]:
        """The vectors of a checked request, one by one: the encoder's, or without one the decoder's own.

        The decoder's are the mean of its last hidden states, after the final norm, without a chat template:
        comparable with each other under the same checkpoint, and no substitute for a model trained to embed.
        Raises INVALID_ARGUMENT for an empty text or one longer than the encoder's or the decoder's context,
        FAILED_PRECONDITION without an encoder where the backend keeps its states to itself, and whatever `check`,
        which is called before every piece of work, raises.
        """
        if self._encoder is not None:
            for ids in self._encoder.tokenize(request.texts):
                vector = self._encoder.embed_tokens([ids], check=check)[0]
                yield inference_pb2.Embedding(values=vector, tokens=len(ids))
            return
        if not isinstance(self.runner, NumpyRunner):
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "embeddings_unavailable",
                expected="a backend that gives out its hidden states",
                got=self.runner.backend,
                todo="load an encoder, or use the numpy backend for embeddings",
            )
        states, context = self.runner.decoder, self.runner.config.context_length
        for index, text in enumerate(request.texts):
            tokens = self.tokenizer.encode(text)
            if len(tokens) > context:
                raise invalid_argument(
                    "context_overflow",
                    expected=f"at most {context} tokens in texts[{index}]",
                    got=f"{len(tokens)}",
                    todo="shorten the text",
                )
            with self.scheduler.lock:
                mean = states.pooled(tokens, states.new_cache(), check=check)
            yield inference_pb2.Embedding(values=mean / np.linalg.norm(mean), tokens=len(tokens))


class _Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.items: deque[inference_pb2.GenerateChunk | TreniError] = deque()

    def text(self, text: str) -> None:
        self.items.append(inference_pb2.GenerateChunk(text=text))

    def finish(self, finish: inference_pb2.GenerateFinish, rest: str) -> None:
        self.items.append(inference_pb2.GenerateChunk(text=rest, finish=finish))

    def fail(self, error: TreniError) -> None:
        self.items.append(error)


def _slots_that_fit(config: ModelConfig, capacity: int, *, element_bytes: int) -> int:
    """`SLOTS`, or as many as fit `KV_BUDGET_BYTES` when all are full; at least one a row."""
    slot_bytes = config.state.slot_bytes(config, capacity, element_bytes)
    return max(MAX_ROWS, min(SLOTS, KV_BUDGET_BYTES // slot_bytes))


def _load_encoder(directory: str | Path) -> Encoder:
    from runtime_svc.encoder.encoder import Encoder  # it needs SciPy, which nothing else here does

    return Encoder.load(directory)


def _no_switch(thinking: bool) -> TreniError:
    never, always = "never thinks", "always thinks"
    return invalid_argument(
        "thinking_unsupported",
        expected="a chat template with a switch for thinking (enable_thinking)",
        got=f"one by which the model {never if thinking else always}",
        todo="leave `thinking` out, or load a model whose template has the switch",
    )


def _no_backend(backend: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "backend_unavailable",
        expected=f"one of the backends {', '.join(BACKENDS)}",
        got=f"{backend!r}: no such backend",
        todo="start the runtime with --backend numpy, or install the cupy extra on a machine with a GPU",
    )

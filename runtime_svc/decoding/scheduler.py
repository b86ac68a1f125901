"""Continuous batching: who waits, who is prefilled and who decodes, over any runner."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from runtime_svc.decoding.observer import Observer
from runtime_svc.decoding.runner import Pending, Row, Runner
from runtime_svc.decoding.slots import SlotTable
from runtime_svc.decoding.stages import Stages
from runtime_svc.decoding.work import Prompt, Work
from runtime_svc.errors import logits_not_finite, unexpected
from runtime_svc.ops import Sampled
from treni.errors import TreniError


@dataclass(kw_only=True, eq=False, slots=True)
class _Sequence:
    """A request that has a slot. `launched` counts the tokens drawn or being drawn, `drawn` those that were read."""

    work: Work
    stages: Stages
    prompt: Prompt
    slot: int
    reused: int
    prefilled: int
    last: int = -1
    drawn: int = 0
    launched: int = 0
    launch: int = -1
    ended: bool = False
    forget: bool = False


@dataclass(frozen=True, slots=True)
class _Launch:
    pending: Pending
    sequences: list[_Sequence]
    started_s: float


class Scheduler:
    """Requests in order of arrival, over a runner's slots; `step` does one round of work and never waits for more.

    A round admits one request if a row is free, prefills at most one chunk, of the request admitted first, and
    takes one decode step over every sequence that decodes. So a running stream waits for one chunk between two
    tokens, however long the prompts beside it.

    `max_rows` sequences run at once (the runner's, if None). A chunk is `prefill_chunk` tokens while others
    decode and `prefill_alone` else. With `batch_invariant` chunks are always `prefill_chunk` and each decode step
    takes one row, so that what is computed for a sequence is the same whoever runs beside it, at the price of
    what batching gains; a runner that computes row by row anyway needs neither.

    Any thread may call it; `lock` is held by the one whose step it is, and by whoever else uses the runner.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        prefill_chunk: int,
        prefill_alone: int,
        max_rows: int | None = None,
        batch_invariant: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self.runner = runner
        self.slots = SlotTable(runner.slots, runner.config.state)
        self._eos_ids = runner.config.eos_ids
        rows = runner.max_rows if max_rows is None else min(max_rows, runner.max_rows)
        self.max_rows = min(rows, runner.slots)
        self.observer = observer
        self.lock = threading.Lock()
        self._prefill_chunk = prefill_chunk
        self._prefill_alone = prefill_chunk if batch_invariant else prefill_alone
        self._one_by_one = batch_invariant
        self._waiting: deque[Work] = deque()
        self._prefilling: _Sequence | None = None
        self._decoding: list[_Sequence] = []
        self._in_flight: deque[_Launch] = deque()
        self._launches = 0
        self._last_read_s = 0.0

    @property
    def running(self) -> int:
        """Sequences that have a slot and are not over."""
        return len(self._decoding) + (self._prefilling is not None)

    @property
    def queued(self) -> int:
        """Requests that wait for a row."""
        return len(self._waiting)

    def submit(self, work: Work) -> None:
        """Lets it wait for its turn."""
        self._waiting.append(work)

    def withdraw(self, work: Work) -> bool:
        """Takes it out of the queue again; False when it has left it."""
        try:
            self._waiting.remove(work)
        except ValueError:
            return False
        return True

    def step(self) -> bool:
        """One round; whether there is more to do."""
        with self.lock:
            self._drop_cancelled()
            if self._waiting:
                self._admit()
            if self._prefilling is not None:
                self._prefill(self._prefilling)
            if self._decoding or self._in_flight:
                self._decode()
            return bool(self._decoding or self._prefilling or self._waiting or self._in_flight)

    def prepare(self) -> bool:
        """Uses a moment in which there is nothing to do; see `Runner.prepare`."""
        with self.lock:
            return self.runner.prepare()

    def abandon(self, error: TreniError) -> None:
        """After a round that raised: ends all that runs with the error, and begins anew with empty slots."""
        with self.lock:
            running = [*self._decoding, *([self._prefilling] if self._prefilling is not None else [])]
            self._decoding, self._prefilling = [], None
            while self._in_flight:
                with suppress(Exception):
                    self._in_flight.popleft().pending.wait()
            self.slots = SlotTable(self.runner.slots, self.runner.config.state)
            for sequence in running:
                sequence.work.fail(error)

    def _drop_cancelled(self) -> None:
        if self._prefilling is not None and (error := self._prefilling.work.cancelled) is not None:
            self._fail(self._prefilling, error)
        for sequence in self._decoding.copy():
            if (error := sequence.work.cancelled) is not None:
                self._fail(sequence, error)

    def _admit(self) -> None:
        if self._prefilling is not None or self.running >= self.max_rows:
            return
        try:
            work = self._waiting.popleft()
        except IndexError:  # withdrawn just now
            return
        work.stages.admitted()
        try:
            if work.cancelled is not None:
                raise work.cancelled
            prompt = work.begin()
        except Exception as error:
            work.fail(_typed(error))
            return
        # A slot is not idle before the last step that writes to it is done: read those of sequences that are over.
        while any(s.ended for launch in self._in_flight for s in launch.sequences):
            self._read(time.perf_counter(), self.runner.sampling_s)
        self._place(work, prompt)

    def _place(self, work: Work, prompt: Prompt) -> None:
        place = self.slots.take(prompt.key, prompt.tokens)
        sequence = _Sequence(
            work=work,
            stages=work.stages,
            prompt=prompt,
            slot=place.slot,
            reused=place.reused,
            prefilled=place.reused,
        )
        self._prefilling = sequence
        if place.source is None:
            return
        before_s = time.perf_counter()
        try:
            self.runner.copy_prefix(place.source, place.slot, place.reused)
        except Exception as error:
            self._fail(sequence, _typed(error), forget=True)
            return
        copy_s = time.perf_counter() - before_s
        sequence.stages.copy_s += copy_s
        self._others_waited(copy_s)

    def _prefill(self, sequence: _Sequence) -> None:
        work, prompt, start = sequence.work, sequence.prompt, sequence.prefilled
        chunk = self._prefill_chunk if self._decoding else self._prefill_alone
        tokens = prompt.tokens[start : start + chunk]
        complete = start + len(tokens) == len(prompt.tokens)

        def check() -> None:
            if work.cancelled is not None:
                raise work.cancelled

        before_s, sampling_s = time.perf_counter(), self.runner.sampling_s
        try:
            allowed = work.allowed() if complete and prompt.guided else None
            params = prompt.params if complete else None
            token = self.runner.prefill(
                sequence.slot, tokens, start, params, check, allowed=allowed, top=prompt.top
            )
        except Exception as error:
            self.slots.advanced(sequence.slot, len(tokens))
            self._fail(sequence, _typed(error), forget=work.cancelled is None)
            return
        spent_s, sampled_s = time.perf_counter() - before_s, self.runner.sampling_s - sampling_s
        sequence.stages.prefill_s += spent_s - sampled_s
        sequence.stages.sample_s += sampled_s
        self._others_waited(spent_s)
        self.slots.append(sequence.slot, tokens)
        sequence.prefilled += len(tokens)
        if complete:
            assert token is not None
            self._prefilling = None
            self._decoding.append(sequence)
            sequence.launched = 1
            self._accept(sequence, token)

    def _decode(self) -> None:
        if self._one_by_one and len(self._decoding) > 1:
            self._decode_one_by_one()
            return
        before_s, sampling_s = time.perf_counter(), self.runner.sampling_s
        while len(self._in_flight) <= self.runner.ahead:
            ready = [s for s in self._decoding if self._may_launch(s)]
            if not ready:
                break
            self._launch(ready)
        if self._in_flight:
            self._read(before_s, sampling_s)

    def _decode_one_by_one(self) -> None:
        while self._in_flight:
            self._read(time.perf_counter(), self.runner.sampling_s)
        for sequence in list(self._decoding):
            before_s, sampling_s = time.perf_counter(), self.runner.sampling_s
            self._launch([sequence])
            if self._in_flight:
                self._read(before_s, sampling_s)

    def _may_launch(self, sequence: _Sequence) -> bool:
        """Whether the budget allows a token more, and the one before it is known here or to the last launch.

        What a guided sequence may say next is not known before its last token is read here.
        """
        known = sequence.launched == sequence.drawn or (
            sequence.launch == self._launches and not sequence.prompt.guided
        )
        return known and sequence.launched < sequence.prompt.budget

    def _launch(self, ready: list[_Sequence]) -> None:
        rows: list[Row] = []
        sequences: list[_Sequence] = []
        for s in ready:
            try:
                allowed = s.work.allowed() if s.prompt.guided else None
            except Exception as error:
                self._fail(s, _typed(error))
                continue
            sequences.append(s)
            rows.append(
                Row(
                    slot=s.slot,
                    position=len(s.prompt.tokens) + s.launched - 1,
                    token=s.last if s.launched == s.drawn else None,
                    draw=s.launched,
                    params=s.prompt.params,
                    allowed=allowed,
                    top=s.prompt.top,
                )
            )
        if not rows:
            return
        started_s = time.perf_counter()
        try:
            pending = self.runner.launch(rows)
        except Exception as error:
            for sequence in sequences:
                self._fail(sequence, _typed(error), forget=True)
            return
        self._launches += 1
        for sequence in sequences:
            sequence.launch = self._launches
            sequence.launched += 1
        self._in_flight.append(_Launch(pending, sequences, started_s))

    def _read(self, before_s: float, sampling_s: float) -> None:
        """The tokens of the oldest launch. One drawn for a sequence that was over by then is dropped.

        The time since `before_s` was spent on decoding, but for what the runner sampled since `sampling_s`.
        """
        launch = self._in_flight.popleft()
        try:
            tokens = launch.pending.wait()
        except Exception as error:
            for sequence in launch.sequences:
                sequence.drawn += 1
                self._fail(sequence, _typed(error), forget=True)
            return
        now_s, sampled_s = time.perf_counter(), self.runner.sampling_s - sampling_s
        for sequence in self._decoding:
            sequence.stages.decode_s += now_s - before_s - sampled_s
            sequence.stages.sample_s += sampled_s
        if self._prefilling is not None:
            self._prefilling.stages.queue_s += now_s - before_s
        if self.observer is not None:
            self.observer.decode_step(now_s - max(launch.started_s, self._last_read_s))
            self._last_read_s = now_s
        for sequence, token in zip(launch.sequences, tokens, strict=True):
            if token is None:
                sequence.drawn += 1
                self._fail(sequence, logits_not_finite(), forget=True)
            elif sequence.ended:
                sequence.drawn += 1
                self.slots.advanced(sequence.slot, 1)
                self._free(sequence)
            else:
                self.slots.append(sequence.slot, (sequence.last,))
                self._accept(sequence, token)

    def _accept(self, sequence: _Sequence, token: Sampled) -> None:
        sequence.drawn += 1
        sequence.last = token.id
        last = token.id in self._eos_ids
        try:
            complete = sequence.work.token(token, last=last) or last
        except Exception as error:
            self._fail(sequence, _typed(error))
            return
        if complete or sequence.drawn == sequence.prompt.budget:
            self._over(sequence)
            try:
                sequence.work.end("stop" if complete else "length", reused=sequence.reused)
            except Exception as error:
                sequence.work.fail(_typed(error))

    def _fail(self, sequence: _Sequence, error: TreniError, *, forget: bool = False) -> None:
        sequence.forget |= forget
        if sequence.ended:
            self._free(sequence)
        else:
            self._over(sequence)
            sequence.work.fail(error)

    def _over(self, sequence: _Sequence) -> None:
        sequence.ended = True
        if sequence is self._prefilling:
            self._prefilling = None
        else:
            self._decoding.remove(sequence)
        self._free(sequence)

    def _free(self, sequence: _Sequence) -> None:
        """Gives the slot back, unless a step that writes to it is in flight: then reading that step does."""
        if sequence.launched == sequence.drawn:
            self.slots.release(sequence.slot, forget=sequence.forget)

    def _others_waited(self, seconds: float) -> None:
        """While one was prefilled."""
        for sequence in self._decoding:
            sequence.stages.queue_s += seconds


def _typed(error: Exception) -> TreniError:
    return error if isinstance(error, TreniError) else unexpected(error)

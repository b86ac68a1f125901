"""The one attempt loop: every call on a hop, model or tool, goes through it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from controller.deadline import Deadline
from controller.policy import Disposition, Policy, disposition_of
from controller.ports import AGENT_HOP, TOOL_HOP, Annotate, AttemptKey, Call, Observed
from controller.recorder import Recorder
from treni import metadata
from treni.errors import Code, TreniError
from treni.spans import CallSpans, attempted, call_spans
from treni.tracing import OFF, Working
from treni.v1 import agent_pb2, inference_pb2


class HopFailed(TreniError):
    """A call that failed for good: its run is over. Other errors of a call are a tool's own refusals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hops:
    """What all calls of one run share."""

    run_id: str
    request_index: int
    policy: Policy
    deadline: Deadline
    recorder: Recorder
    annotate: Annotate | None

    def attempts(
        self,
        *,
        hop: str,
        call_index: int,
        name: str = "",
        idempotency_key: str = "",
        effects: bool = False,
        arguments_json: str = "",
    ) -> Attempts:
        """The attempts of one call; `name`, `idempotency_key` and `arguments_json` go to the record.

        `effects` tells whether users see it when the call is repeated.
        """
        return Attempts(
            self,
            hop=hop,
            call_index=call_index,
            effects=effects,
            told=agent_pb2.Attempt(name=name, idempotency_key=idempotency_key, arguments_json=arguments_json),
        )


class Attempts:
    """Iterates over the attempts of one call until one works; the body makes the attempt:

        async for attempt in hops.attempts(...):
            with attempt as call:
                response = await port.call(request, call)

    An attempt that fails is recorded and swallowed, and the next one comes after the backoff. When there will
    be none, the iteration raises instead: a tool's refusal as it was, everything else as `HopFailed`.
    """

    def __init__(
        self, hops: Hops, *, hop: str, call_index: int, effects: bool, told: agent_pb2.Attempt
    ) -> None:
        self._hops = hops
        self._hop = hop
        self._call_index = call_index
        self._told = told
        self._effects = effects
        self._current: Attempt | None = None
        self._errors: list[TreniError] = []
        self._spans = call_spans(hop=hop, name=told.name, call_index=call_index)

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> Attempt:
        try:
            return await self._next()
        except BaseException as error:
            if self._spans is not None:
                worked = isinstance(error, StopAsyncIteration)
                self._spans.over(None if worked else error, len(self._errors) + worked)
            raise

    async def _next(self) -> Attempt:
        ended = self._current
        if ended is not None:
            if ended.error is None:
                raise StopAsyncIteration
            self._errors.append(ended.error)
            await self._before_retry(ended, ended.error)
        if self._hops.deadline.expired:
            raise self._deadline_exceeded()
        self._current = Attempt(self._hops, self._key(), self._told, self._spans)
        return self._current

    def _key(self) -> AttemptKey:
        return AttemptKey(
            hop=self._hop,
            run_id=self._hops.run_id,
            request_index=self._hops.request_index,
            call_index=self._call_index,
            attempt=len(self._errors),
        )

    async def _before_retry(self, ended: Attempt, error: TreniError) -> None:
        """Waits out the backoff, or raises when the call must not be tried again."""
        disposition = disposition_of(error, effects=self._effects)
        if disposition is Disposition.REFUSED and self._hop == TOOL_HOP:
            raise error
        hops, policy = self._hops, self._hops.policy
        if hops.deadline.expired:
            raise self._deadline_exceeded()
        if disposition is not Disposition.RETRY or ended.forwarded or len(self._errors) > policy.retries:
            raise self._hop_failed(error)
        wait_s = policy.backoff_s(
            hop=self._hop,
            request_index=hops.request_index,
            call_index=self._call_index,
            attempt=len(self._errors),
        )
        if wait_s >= hops.deadline.remaining_s():
            raise self._deadline_exceeded()
        waiting = OFF if self._spans is None else self._spans.backoff(wait_s, len(self._errors))
        with hops.recorder.backoff, waiting:
            await hops.deadline.clock.sleep(wait_s)

    def _hop_failed(self, last: TreniError) -> HopFailed:
        return HopFailed(
            last.code,
            f"{self._hop}_hop_failed",
            expected=last.expected,
            got=f"{last.got} (attempt {len(self._errors)} of at most {self._hops.policy.retries + 1})",
            todo=last.todo,
            definite=all(error.definite for error in self._errors),
            hop=self._hop,
            fault_id=last.fault_id,
        )

    def _deadline_exceeded(self) -> HopFailed:
        last = self._errors[-1] if self._errors else None
        return HopFailed(
            Code.DEADLINE_EXCEEDED,
            "deadline_exceeded",
            expected=f"the {self._hop} hop to answer before the run's deadline",
            got=f"{len(self._errors)} failed attempts"
            + (f", the last: {last.got}" if last is not None else ""),
            todo="allow the run more time",
            definite=all(error.definite for error in self._errors),
            hop=self._hop,
            fault_id=last.fault_id if last is not None else "",
        )


class Attempt:
    """One attempt; its `with` block yields the call's context and writes the attempt to the record.

    `error` is how it ended, None when it worked. A caller that passed part of the result on sets `forwarded`:
    what the user has seen cannot be taken back, so the call is not tried again.
    """

    def __init__(self, hops: Hops, key: AttemptKey, told: agent_pb2.Attempt, spans: CallSpans | None) -> None:
        self.error: TreniError | None = None
        self.forwarded = False
        self._hops = hops
        self._key = key
        self._told = told
        self._start_s = 0.0
        self._fault_id = ""
        self._observed = Observed()
        self._spans = spans
        self._working: Working | None = None

    def generated(self, finish: inference_pb2.GenerateFinish) -> None:
        """Tells the trace, where there is one, what the model answered."""
        if self._spans is not None:
            self._spans.generated(finish)

    def __enter__(self) -> Call:
        annotate = self._hops.annotate
        annotations = {} if annotate is None else annotate(self._key)
        self._fault_id = metadata.fault_id_of(annotations.get(metadata.FAULT, ""))
        if self._spans is not None:
            self._working = self._spans.attempt(self._key.attempt, self._fault_id)
            self._working.__enter__()
        self._start_s = self._hops.recorder.elapsed_s()
        return Call(
            key=self._key,
            deadline=self._hops.deadline.within(self._hops.policy.timeout_s(self._key.hop)),
            metadata=annotations,
            observed=self._observed,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._write("ok", Code.OK)
        elif isinstance(error, TreniError):
            self.error = error.at(self._key.hop)
            error.fault_id = error.fault_id or self._fault_id
            self._write(
                "fail" if error.definite else "unknown", error.code, kind=error.kind, detail=str(error)
            )
        # Anything else is a bug or a cancellation of the run: not the hop's doing, and not swallowed.
        if self._working is not None:
            self._end_spans(error)
        return self.error is not None

    def _end_spans(self, error: BaseException | None) -> None:
        assert self._spans is not None
        assert self._working is not None
        outcome = "ok" if error is None else "cancelled"
        if self.error is not None:
            outcome = "fail" if self.error.definite else "unknown"
        attempted(self._working.span, outcome=outcome, connection=self._observed.connection)
        self._working.__exit__(None if error is None else type(error), error, None)
        if outcome == "cancelled" or self._key.hop == AGENT_HOP:  # there is no other attempt
            self._spans.over(error, self._key.attempt + 1)

    def _write(self, outcome: str, code: Code, *, kind: str = "", detail: str = "") -> None:
        recorder = self._hops.recorder
        recorder.attempt(
            agent_pb2.Attempt(
                hop=self._key.hop,
                call_index=self._key.call_index,
                attempt=self._key.attempt,
                start_s=self._start_s,
                duration_s=recorder.elapsed_s() - self._start_s,
                outcome=outcome,
                code=code.name,
                kind=kind,
                detail=detail,
                idempotency_key=self._told.idempotency_key,
                fault_id=self._fault_id,
                name=self._told.name,
                arguments_json=self._told.arguments_json,
                connection=self._observed.connection,
            )
        )

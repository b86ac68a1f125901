"""A session: every contender measured on one model, a round at a time, so that they share the machine's weather."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from runtime_svc.bench.bounds import model_of
from runtime_svc.bench.child import ChildSettings
from runtime_svc.bench.contender import Absent, Contender, Failed
from runtime_svc.bench.machine import machine, sm_clock_mhz
from runtime_svc.bench.process import PEERS, TRENI, ChildContender, Kind, prompt_ids
from runtime_svc.bench.record import Contender as Record
from runtime_svc.bench.record import Decode, Floors, Run, Settings, Ttft
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.weights.opening import open_checkpoint
from treni.errors import Code, TreniError

T = TypeVar("T")

Say = Callable[[str], None]
"""Progress, a line at a time."""

Keep = Callable[[Run], None]
"""Called with the run whenever something was added to it."""

_WARM_TOKENS = 4
"""Steps of a warm-up: a captured graph runs once plainly, once captured, and then as it will be."""

_WARM_PREFILLS = 2
"""Prompts of each length in a warm-up: a GPU's launches are recorded at a length's second use, which takes longer."""

_NO_LIMIT_S = 1e9

_UNFINISHED = "the session did not get to its end"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A session to run.

    `peers` are names of `PEERS` or endpoints, "URL" or "URL=start command", which are asked for `peer_model`, or
    when that is None for the first model that they list.
    """

    directory: Path
    settings: Settings
    python: str
    peer_python: str
    peers: tuple[str, ...] = ()
    peer_model: str | None = None


@dataclass(kw_only=True)
class _Entrant:
    """A contender with its record; out when it can do no more."""

    contender: Contender
    record: Record
    out: bool = field(default=False)

    def leave(self, state: str, reason: str) -> None:
        self.out = True
        self.record.state, self.record.reason = state, reason


async def run(plan: Plan, *, keep: Keep, say: Say) -> Run:
    """Measures everything, keeping the run after every step of it.

    Raises `TreniError`: FAILED_PRECONDITION when the model cannot be read or this runtime's backend is absent,
    INTERNAL when this runtime breaks. A peer's failure is the peer's, recorded with its reason.
    """
    config = open_checkpoint(plan.directory).config
    _check_lengths(plan.settings, config)
    treni = ChildContender(
        TRENI,
        _child_settings(plan, config),
        python=plan.python,
        vocabulary=config.vocabulary,
        batches=plan.settings.batches,
        measure_limit_s=plan.settings.measure_limit_s,
        limit_s=_NO_LIMIT_S,
    )
    entrants = [
        # What an interrupted session leaves in its file; those that get to its end lose the reason there.
        _Entrant(contender=contender, record=Record(name=contender.name, state="partial", reason=_UNFINISHED))
        for contender in (treni, *(_peer(plan, config, name) for name in plan.peers))
    ]
    current = Run(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        model=model_of(plan.directory.resolve().name, config),
        settings=plan.settings,
        floors=Floors(),
        contenders=[entrant.record for entrant in entrants],
    )
    session = _Session(plan, treni, entrants, current, keep, say)
    async with AsyncExitStack() as stack:  # an interrupt while one of them is closed still closes the others
        for entrant in entrants:
            stack.push_async_callback(entrant.contender.aclose)
        await session.start()
        for number in range(plan.settings.repeats):
            say(f"round {number + 1} of {plan.settings.repeats}")
            await session.round(number)
            keep(current)
        for entrant in entrants:
            if not entrant.out:
                entrant.record.reason = entrant.contender.limits
                entrant.record.state = "partial" if entrant.record.reason else "measured"
        keep(current)
    return current


class _Session:
    def __init__(
        self,
        plan: Plan,
        treni: ChildContender,
        entrants: Sequence[_Entrant],
        current: Run,
        keep: Keep,
        say: Say,
    ) -> None:
        self._plan = plan
        self._settings = plan.settings
        self._treni = treni
        self._entrants = entrants
        self._run = current
        self._keep = keep
        self._say = say
        self._seed = plan.settings.seed
        self._probed: set[object] = set()

    async def start(self) -> None:
        """Cold starts, one contender after the other, then a warm-up of every figure."""
        _read_once(self._plan.directory)
        ours, *peers = self._entrants
        for number in range(-1, self._settings.cold_repeats):
            # The start before the first fills the page cache and the kernel cache, and is not kept.
            self._say(f"treni: cold start {number + 1} of {self._settings.cold_repeats}")
            await self._begin(ours, kept=number >= 0)
        for peer in peers:
            self._say(f"{peer.contender.name}: starting")
            await self._begin(peer, kept=True)
            if not peer.out:
                self._say(f"{peer.contender.name}: warming up")
                await self._warm_up(peer)
            self._keep(self._run)
        await self._warm_up(ours)

    async def round(self, number: int) -> None:
        """One repeat of every figure, contender by contender, who goes first moving on by one."""
        try:
            for name, value in (await self._treni.floors()).items():
                getattr(self._run.floors, name).append(value)
        except Failed as error:
            raise _broken(str(error)) from None
        if self._settings.backend == "cupy" and (clock := sm_clock_mhz()) is not None:
            self._run.floors.sm_clock_mhz.append(clock)
        taking_part = [e for e in self._entrants if e is self._entrants[0] or self._peers_turn(number)]
        first = number % len(taking_part)
        order = taking_part[first:] + taking_part[:first]
        for prompt_tokens in self._settings.prompt_tokens:
            self._seed += 1
            for entrant in order:
                await self._ttft(entrant, prompt_tokens)
        for batch in self._settings.batches:
            self._seed += 1
            for entrant in order:
                await self._decode(entrant, batch)

    def _peers_turn(self, number: int) -> bool:
        """Spreads `peer_repeats` rounds evenly over all."""
        s = self._settings
        return (number * s.peer_repeats) // s.repeats != ((number - 1) * s.peer_repeats) // s.repeats

    async def _begin(self, entrant: _Entrant, *, kept: bool) -> None:
        contender, record = entrant.contender, entrant.record
        try:
            if isinstance(contender, ChildContender) and contender.imports not in self._probed:
                await contender.probe()
                self._probed.add(contender.imports)
            started = await contender.start()
        except Absent as error:
            self._give_up(entrant, "absent", str(error))
            return
        except Failed as error:
            self._give_up(entrant, "failed", str(error))
            return
        record.device, record.versions = started.device, dict(started.versions)
        if started.cold is not None and kept:
            record.cold.append(started.cold)

    async def _warm_up(self, entrant: _Entrant) -> None:
        try:
            for prompt_tokens in self._settings.prompt_tokens * _WARM_PREFILLS:
                await entrant.contender.ttft(prompt_tokens, self._next_seed())
            for batch in entrant.contender.batches:
                await entrant.contender.decode(
                    batch, self._settings.decode_context, _WARM_TOKENS, self._next_seed()
                )
        except Failed as error:
            self._give_up(entrant, "partial" if entrant.record.cold else "failed", str(error))

    async def _ttft(self, entrant: _Entrant, prompt_tokens: int) -> None:
        if entrant.out:
            return
        try:
            seconds, counted = await entrant.contender.ttft(prompt_tokens, self._seed)
        except Failed as error:
            self._give_up(entrant, "partial", str(error))
            return
        entry = _entry(entrant.record.ttft, lambda e: e.prompt_tokens == prompt_tokens)
        if entry is None:
            entrant.record.ttft.append(entry := Ttft(prompt_tokens=prompt_tokens))
        entry.seconds.append(seconds)
        entry.counted.append(counted)

    async def _decode(self, entrant: _Entrant, batch: int) -> None:
        if entrant.out or batch not in entrant.contender.batches:
            return
        s = self._settings
        try:
            seconds, tokens = await entrant.contender.decode(
                batch, s.decode_context, s.decode_tokens, self._seed
            )
        except Failed as error:
            self._give_up(entrant, "partial", str(error))
            return
        entry = _entry(entrant.record.decode, lambda e: e.batch == batch)
        if entry is None:
            entrant.record.decode.append(entry := Decode(batch=batch))
        entry.seconds.append(seconds)
        entry.tokens.append(tokens)

    def _give_up(self, entrant: _Entrant, state: str, reason: str) -> None:
        if entrant is self._entrants[0]:
            if state == "absent":
                raise _backend_absent(self._settings.backend, reason)
            raise _broken(reason)
        entrant.leave(state, reason)
        self._say(f"{entrant.contender.name}: {state}: {reason}")

    def _next_seed(self) -> int:
        self._seed += 1
        return self._seed


def _entry(entries: Sequence[T], matches: Callable[[T], bool]) -> T | None:
    return next((entry for entry in entries if matches(entry)), None)


def _peer(plan: Plan, config: ModelConfig, name: str) -> Contender:
    s = plan.settings
    if name in PEERS:
        kind: Kind = PEERS[name]
        return ChildContender(
            kind,
            _child_settings(plan, config),
            python=plan.peer_python,
            vocabulary=config.vocabulary,
            batches=s.batches,
            measure_limit_s=s.measure_limit_s,
            limit_s=s.peer_limit_s,
        )
    from runtime_svc.bench.endpoint import EndpointContender  # what it needs, a bench without a URL does not

    url, _, command = name.partition("=")
    return EndpointContender(
        url,
        command or None,
        model=plan.peer_model,
        batches=s.batches,
        cold_tokens=s.cold_tokens,
        limit_s=s.peer_limit_s,
    )


def _child_settings(plan: Plan, config: ModelConfig) -> ChildSettings:
    s = plan.settings
    return ChildSettings(
        model=str(plan.directory.resolve()),
        backend=s.backend,
        device="cpu" if s.backend == "numpy" else "cuda",
        dtype="float32" if s.backend == "numpy" else "bfloat16",
        threads=s.threads,
        capacity=s.capacity,
        decode_capacity=s.decode_context + max(s.decode_tokens, s.cold_tokens, _WARM_TOKENS),
        slots=max(s.batches),
        prompt=prompt_ids(s.decode_context, config.vocabulary, s.seed),
        tokens=s.cold_tokens,
        spawned_s=0.0,
        probe=False,
    )


def _check_lengths(settings: Settings, config: ModelConfig) -> None:
    if settings.capacity > config.context_length:
        raise TreniError(
            Code.INVALID_ARGUMENT,
            "context_overflow",
            expected=f"prompts and answers within the model's context of {config.context_length} tokens",
            got=f"up to {settings.capacity}",
            todo="give smaller --prompt-tokens, --decode-context or --decode-tokens",
        )


def _read_once(directory: Path) -> None:
    """Brings the checkpoint's files into the page cache: every cold start then finds them there."""
    for path in [directory] if directory.is_file() else sorted(directory.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass


def _backend_absent(backend: str, reason: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "backend_absent",
        expected=f"the backend {backend} on this machine",
        got=reason,
        todo="install it (pip install 'treni-route[cupy]'), or ask for --backend numpy",
    )


def _broken(reason: str) -> TreniError:
    return TreniError(
        Code.INTERNAL,
        "bench_failed",
        expected="this runtime to be measured",
        got=reason,
        todo="see the end of its log on stderr",
    )

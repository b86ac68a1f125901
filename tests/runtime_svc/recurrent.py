"""Kinds of state that can't be cut at any token, and a runner that keeps one and refuses to be asked for more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from runtime_svc.decoding.runner import Row
from runtime_svc.decoding.stages import Stages
from runtime_svc.decoding.work import Prompt
from runtime_svc.errors import cancelled
from runtime_svc.models.architecture import ModelConfig, State
from runtime_svc.ops import Allowed, Sampled, SamplingParams
from treni.errors import TreniError


@dataclass(frozen=True)
class AtItsEnd:
    """A recurrent state: it goes on from where it is, and from nowhere else."""

    def resumable(self, held: int, length: int) -> int:
        return held if held <= length else 0

    def slot_bytes(self, config: ModelConfig, capacity: int, element_bytes: int) -> int:
        return config.layers * config.hidden * element_bytes


@dataclass(frozen=True)
class AtMultiples:
    """A recurrent state of which a copy is kept after every `every` tokens."""

    every: int

    def resumable(self, held: int, length: int) -> int:
        return held if held <= length else length // self.every * self.every

    def slot_bytes(self, config: ModelConfig, capacity: int, element_bytes: int) -> int:
        return config.layers * config.hidden * element_bytes * (1 + capacity // self.every)


def drawn(history: Sequence[int], vocabulary: int) -> int:
    """The token that follows a history: a digest of all of it, so that one wrong token before shows."""
    digest = blake2b(repr(list(history)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % vocabulary


class RecurrentRunner:
    """Each slot's state is the history it has read. Fails when it is to go on from where its kind of state cannot.

    With `ahead` a launch reads and draws at once, and its tokens are handed out later: the state is then further
    than anybody has read, as on a device.
    """

    backend, device, stored_dtype, parameters, sampling_s = "test", "test", "float32", 1, 0.0

    def __init__(self, config: ModelConfig, state: State, *, slots: int, ahead: int) -> None:
        self.config = replace(config, architecture=replace(config.architecture, state=state))
        self.slots, self.capacity, self.max_rows, self.ahead = slots, 1024, slots, ahead
        self.read: list[list[int]] = [[] for _ in range(slots)]
        self.resumed: list[int] = []
        self.loading_s: Mapping[str, float] = {}
        self._last: dict[int, int] = {}

    def prefill(
        self,
        slot: int,
        tokens: Sequence[int],
        start: int,
        params: SamplingParams | None,
        check: Callable[[], None],
        *,
        allowed: Allowed | None = None,
        top: int = 0,
    ) -> Sampled | None:
        self._go_on(slot, start)
        for first in range(0, len(tokens), 16):
            check()
            self.read[slot] += tokens[first : first + 16]
        return None if params is None else self._draw(slot)

    def launch(self, rows: Sequence[Row]) -> "_Ready":
        results: list[Sampled | None] = []
        for row in rows:
            history = self.read[row.slot]
            assert row.position == len(history)
            history.append(self._last[row.slot] if row.token is None else row.token)
            results.append(self._draw(row.slot))
        return _Ready(results)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        assert length in (0, self.config.state.resumable(len(self.read[source]), length))
        self.read[target] = self.read[source][:length]

    def prepare(self) -> bool:
        return False

    def _go_on(self, slot: int, start: int) -> None:
        history = self.read[slot]
        assert start in (0, self.config.state.resumable(len(history), start)), (start, len(history))
        if start:
            self.resumed.append(start)
        del history[start:]

    def _draw(self, slot: int) -> Sampled:
        self._last[slot] = token = drawn(self.read[slot], 260)
        return Sampled(id=token, logprob=-1.0, entropy=1.0, margin=0.5)


@dataclass(frozen=True)
class _Ready:
    tokens: list[Sampled | None]

    def wait(self) -> list[Sampled | None]:
        return self.tokens


@dataclass
class Talk:
    """A request as the scheduler sees it, which stops wanting its answer after `patience` looks."""

    tokens: list[int]
    key: str
    budget: int
    params: SamplingParams
    stages: Stages
    patience: float = float("inf")
    answer: list[int] = field(default_factory=list, init=False)
    reason: str = ""
    error: TreniError | None = None
    reused: int = 0
    _looks: int = field(default=0, init=False)

    @property
    def cancelled(self) -> TreniError | None:
        self._looks += 1
        return cancelled() if self._looks > self.patience else None

    def begin(self) -> Prompt:
        return Prompt(tokens=self.tokens, key=self.key, params=self.params, budget=self.budget)

    def allowed(self) -> Allowed | None:
        raise AssertionError("asked of a work that is not guided")

    def token(self, token: Sampled, *, last: bool) -> bool:
        self.answer.append(token.id)
        return False

    def end(self, reason: str, *, reused: int) -> None:
        self.reason, self.reused = reason, reused

    def fail(self, error: TreniError) -> None:
        self.error = error

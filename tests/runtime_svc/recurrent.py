"""Kinds of state that can't be cut at any token, and a runner that keeps one and refuses to be asked for more."""

from dataclasses import dataclass, replace
from hashlib import blake2b

from runtime_svc.errors import cancelled
from runtime_svc.ops import Sampled
from runtime_svc.scheduler import Prompt


@dataclass(frozen=True)
class AtItsEnd:
    """A recurrent state: it goes on from where it is, and from nowhere else."""

    def resumable(self, held, length):
        return held if held <= length else 0

    def slot_bytes(self, config, capacity, element_bytes):
        return config.layers * config.hidden * element_bytes


@dataclass(frozen=True)
class AtMultiples:
    """A recurrent state of which a copy is kept after every `every` tokens."""

    every: int

    def resumable(self, held, length):
        return held if held <= length else length // self.every * self.every

    def slot_bytes(self, config, capacity, element_bytes):
        return config.layers * config.hidden * element_bytes * (1 + capacity // self.every)


def drawn(history, vocabulary):
    """The token that follows a history: a digest of all of it, so that one wrong token before shows."""
    digest = blake2b(repr(list(history)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % vocabulary


class RecurrentRunner:
    """Each slot's state is the history it has read. Fails when it is to go on from where its kind of state cannot.

    With `ahead` a launch reads and draws at once, and its tokens are handed out later: the state is then further
    than anybody has read, as on a device.
    """

    backend, device, stored_dtype, parameters, sampling_s = "test", "test", "float32", 1, 0.0

    def __init__(self, config, state, *, slots, ahead):
        self.config = replace(config, architecture=replace(config.architecture, state=state))
        self.slots, self.capacity, self.max_rows, self.ahead = slots, 1024, slots, ahead
        self.read = [[] for _ in range(slots)]
        self.resumed = []
        self.loading_s = {}
        self._last = {}

    def prefill(self, slot, tokens, start, params, check):
        self._go_on(slot, start)
        for first in range(0, len(tokens), 16):
            check()
            self.read[slot] += tokens[first : first + 16]
        return None if params is None else self._draw(slot)

    def launch(self, rows):
        results = []
        for row in rows:
            history = self.read[row.slot]
            assert row.position == len(history)
            history.append(self._last[row.slot] if row.token is None else row.token)
            results.append(self._draw(row.slot))
        return _Ready(results)

    def copy_prefix(self, source, target, length):
        assert length in (0, self.config.state.resumable(len(self.read[source]), length))
        self.read[target] = self.read[source][:length]

    def prepare(self):
        return False

    def _go_on(self, slot, start):
        history = self.read[slot]
        assert start in (0, self.config.state.resumable(len(history), start)), (start, len(history))
        if start:
            self.resumed.append(start)
        del history[start:]

    def _draw(self, slot):
        self._last[slot] = token = drawn(self.read[slot], 260)
        return Sampled(id=token, logprob=-1.0, entropy=1.0, margin=0.5)


@dataclass(frozen=True)
class _Ready:
    tokens: list

    def wait(self):
        return self.tokens


@dataclass
class Talk:
    """A request as the scheduler sees it, which stops wanting its answer after `patience` looks."""

    tokens: list
    key: str
    budget: int
    params: object
    stages: object
    patience: float = float("inf")
    answer: list = None
    reason: str = ""
    error: object = None
    reused: int = 0

    def __post_init__(self):
        self.answer = []
        self._looks = 0

    @property
    def cancelled(self):
        self._looks += 1
        return cancelled() if self._looks > self.patience else None

    def begin(self):
        return Prompt(tokens=self.tokens, key=self.key, params=self.params, budget=self.budget)

    def token(self, token, *, last):
        self.answer.append(token.id)

    def end(self, reason, *, reused):
        self.reason, self.reused = reason, reused

    def fail(self, error):
        self.error = error

"""The real NumPy runner as a device would present it, and who listens to what the engine says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtime_svc.decoding.runner import Row, Runner
from runtime_svc.ops import Allowed, Sampled, SamplingParams
from treni.errors import TreniError
from treni.v1 import inference_pb2


@dataclass
class _Later:
    runner: Watched
    rows: list[Row]

    def wait(self) -> list[Sampled | None]:
        assert self.runner.launched[0] is self  # tokens are read in the order of the launches
        self.runner.launched.popleft()
        return self.runner.compute(self.rows)


class Watched:
    """Writes down every call in `calls`. With `ahead` a launch is computed when it is waited for.

    Until then nobody may touch the slots of its rows: what is computed late would be computed wrong.
    """

    def __init__(self, runner: Runner, *, ahead: int = 0) -> None:
        self.ahead = ahead
        self.calls: list[tuple[Any, ...]] = []
        self.launched: deque[_Later] = deque()
        self._runner = runner
        self._last: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

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
        self._untouched(slot)
        self.calls.append(("prefill", slot, start, len(tokens)))
        return self._runner.prefill(slot, tokens, start, params, check, allowed=allowed, top=top)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        self._untouched(target)
        self.calls.append(("copy", source, target, length))
        self._runner.copy_prefix(source, target, length)

    def launch(self, rows: Sequence[Row]) -> _Later:
        assert len({row.slot for row in rows}) == len(rows) <= self.max_rows
        for row in rows:
            in_flight = [row.slot in {r.slot for r in launch.rows} for launch in self.launched]
            assert (row.token is None) == any(in_flight)
            assert row.token is not None or row.allowed is None
            assert not any(in_flight) or in_flight[-1]  # the launch just before drew it
        self.calls.append(("launch", *(row.slot for row in rows)))
        launch = _Later(self, list(rows))
        self.launched.append(launch)
        assert len(self.launched) <= self.ahead + 1
        return launch

    def compute(self, rows: list[Row]) -> list[Sampled | None]:
        known = [row if row.token is not None else replace(row, token=self._last[row.slot]) for row in rows]
        tokens = self._runner.launch(known).wait()
        ids = [0 if token is None else token.id for token in tokens]
        self._last = {row.slot: id_ for row, id_ in zip(rows, ids, strict=True)}
        return tokens

    def _untouched(self, slot: int) -> None:
        assert all(slot != row.slot for launch in self.launched for row in launch.rows)


class Heard:
    """A listener that keeps what became of a request."""

    def __init__(self, request: inference_pb2.GenerateRequest) -> None:
        self.request = request
        self.pieces: list[str] = []
        self.answer: inference_pb2.GenerateFinish | None = None
        self.error: TreniError | None = None

    @property
    def finished(self) -> inference_pb2.GenerateFinish:
        """The answer, which must be there."""
        assert self.answer is not None, self.error
        return self.answer

    @property
    def failure(self) -> TreniError:
        """The error, which must be there."""
        assert self.error is not None
        return self.error

    def text(self, text: str) -> None:
        self.pieces.append(text)

    def finish(self, finish: inference_pb2.GenerateFinish, rest: str) -> None:
        assert "".join(self.pieces) + rest == finish.text
        self.answer = finish

    def fail(self, error: TreniError) -> None:
        self.error = error

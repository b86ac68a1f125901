"""An engine that is made to stand still in the middle of an answer, so that a test does not race against it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from runtime_svc.core import InferenceCore
from runtime_svc.decoding.runner import Pending, Row
from runtime_svc.engine import Engine
from tests.limits import HANG_S


class Brake:
    """Counts the decode steps of an engine's runner, and on request lets no further one begin.

    Patches the runner by `monkeypatch`, which takes the brake off again.
    """

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.launches = 0
        self._launch = engine.runner.launch
        self._left: int | None = None
        self._standing = threading.Event()
        self._released = threading.Event()
        monkeypatch.setattr(engine.runner, "launch", self._braked)

    def hold(self, after: int) -> None:
        """Lets `after` more steps pass; the next waits for the release, as do all that runs and all that comes."""
        self._standing.clear()
        self._released.clear()
        self._left = after

    def release(self) -> None:
        """Lets the engine go on."""
        self._left = None
        self._released.set()

    async def standing(self) -> None:
        """Returns when the engine waits."""
        assert await asyncio.to_thread(self._standing.wait, HANG_S)

    @property
    def is_standing(self) -> bool:
        """Whether the engine waits."""
        return self._standing.is_set() and not self._released.is_set()

    def _braked(self, rows: Sequence[Row]) -> Pending:
        self.launches += 1
        if self._left == 0:
            self._standing.set()
            assert self._released.wait(HANG_S)
        elif self._left is not None:
            self._left -= 1
        return self._launch(rows)


async def nobody_asks(core: InferenceCore) -> None:
    """Returns when the core knows of no request any more: who left has been noticed."""
    while core._generations:  # noqa: ASYNC110 - the core tells nobody
        await asyncio.sleep(0)

"""An engine that is made to stand still in the middle of an answer, so that a test does not race against it."""

from __future__ import annotations

import asyncio
import threading

from tests.limits import HANG_S


class Brake:
    """Counts the decode steps of an engine's runner, and on request lets no further one begin.

    Patches the runner by `monkeypatch`, which takes the brake off again.
    """

    def __init__(self, engine, monkeypatch):
        self.launches = 0
        self._launch = engine.runner.launch
        self._left = None
        self._standing = threading.Event()
        self._released = threading.Event()
        monkeypatch.setattr(engine.runner, "launch", self._braked)

    def hold(self, after):
        """Lets `after` more steps pass; the next waits for the release, as do all that runs and all that comes."""
        self._standing.clear()
        self._released.clear()
        self._left = after

    def release(self):
        """Lets the engine go on."""
        self._left = None
        self._released.set()

    async def standing(self):
        """Returns when the engine waits."""
        assert await asyncio.to_thread(self._standing.wait, HANG_S)

    @property
    def is_standing(self):
        """Whether the engine waits."""
        return self._standing.is_set() and not self._released.is_set()

    def _braked(self, rows):
        self.launches += 1
        if self._left == 0:
            self._standing.set()
            assert self._released.wait(HANG_S)
        elif self._left is not None:
            self._left -= 1
        return self._launch(rows)


async def nobody_asks(core):
    """Returns when the core knows of no request any more: who left has been noticed."""
    while core._generations:  # noqa: ASYNC110 - the core tells nobody
        await asyncio.sleep(0)

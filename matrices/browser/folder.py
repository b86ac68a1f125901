"""The campaigns below a folder: found by their files, each followed from when it was first seen."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from matrices.browser.following import Followed, Progress
from matrices.evidence.kept import HISTORY, MANIFEST

DEPTH = 4
"""How far below the folder campaigns are looked for."""

MOST = 500
"""How many campaigns are listed: the last by name, as names begin with the time."""


class Campaigns:
    """The campaigns below a folder. Several threads may ask; one at a time looks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._followed: dict[str, Followed] = {}
        self._looking = threading.Lock()

    def every(self) -> list[Progress]:
        """Every campaign as it is now, the last first."""
        with self._looking:
            found = dict(sorted(_campaigns(self.folder), reverse=True)[:MOST])
            self._followed = {name: self._follow(name, place) for name, place in found.items()}
            return [followed.look() for followed in self._followed.values()]

    def one(self, name: str) -> Progress | None:
        """The campaign of that name as it is now; None where there is none."""
        with self._looking:
            place = dict(_campaigns(self.folder)).get(name)
            if place is None:
                return None
            self._followed[name] = self._follow(name, place)
            return self._followed[name].look()

    def _follow(self, name: str, place: Path) -> Followed:
        return self._followed.get(name) or Followed(name, place)


def _campaigns(folder: Path) -> Iterator[tuple[str, Path]]:
    """The campaigns by name, which is the path below the folder, or the folder's own where that is one."""
    for place, inner, files in os.walk(folder):
        here = Path(place)
        below = here.relative_to(folder)
        if {MANIFEST, HISTORY} <= set(files):
            inner.clear()
            yield (below.as_posix() if below.parts else here.resolve().name), here
        elif len(below.parts) >= DEPTH:
            inner.clear()

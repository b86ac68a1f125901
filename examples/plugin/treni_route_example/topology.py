"""A topology: this machine, with a word beside each cell of who started it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from matrices.evidence.campaign import Campaign
from matrices.planning.plan import PlannedCell
from matrices.topologies.local import Local
from matrices.topologies.topology import Placed, Topology, TopologyEntry
from treni.errors import invalid_argument


class Tidy:
    """The roles on this machine, started as `local` does, and a file `owner` in each cell's folder."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._local = Local()

    def refuse(self, campaign: Campaign) -> None:
        """Raises INVALID_ARGUMENT for what this machine cannot run."""
        self._local.refuse(campaign)

    @asynccontextmanager
    async def place(
        self, cell: PlannedCell, campaign: Campaign, *, session: str, take: int
    ) -> AsyncIterator[Placed]:
        """The roles of the cell while the block runs."""
        async with self._local.place(cell, campaign, session=session, take=take) as placed:
            (campaign.folder / "cells" / cell.name / "owner").write_text(self._owner, encoding="utf-8")
            yield placed


def _settings(argument: str | None) -> dict[str, Any]:
    """What the manifest keeps: `--topology tidy:OWNER`. Raises INVALID_ARGUMENT without an owner."""
    if not argument:
        raise invalid_argument("topology_argument", expected="an owner, as in tidy:me", got=repr(argument))
    return {"owner": argument}


def _build(settings: Mapping[str, Any]) -> Topology:
    return Tidy(settings["owner"])


ENTRY = TopologyEntry(name="tidy", settings=_settings, build=_build)

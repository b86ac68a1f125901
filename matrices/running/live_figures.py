"""The figures of a campaign that is not over: what its report would say of the history as it is now."""

from __future__ import annotations

from matrices.evidence import events as ev
from matrices.evidence.campaign import Campaign
from matrices.evidence.kept import MANIFEST
from matrices.evidence.manifest import Manifest, read_manifest
from matrices.report.figures import Figures, figures


class LiveFigures:
    """A campaign and its history so far."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._events: list[ev.Event] = []
        self._manifest: Manifest | None = None

    def add(self, event: ev.Event) -> None:
        """Takes note of an event that is in the history."""
        self._events.append(event)

    def figures(self) -> Figures | None:
        """The report's figures by now; None before the campaign has a manifest."""
        path = self._campaign.folder / MANIFEST
        if self._manifest is None and path.is_file():
            self._manifest = read_manifest(path)
        if self._manifest is None:
            return None
        return figures(self._manifest, self._events, self._campaign.expectations)

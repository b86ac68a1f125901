"""The reports of campaigns as pages that are made when they are asked for, kept in memory and nowhere else."""

from __future__ import annotations

import threading

from matrices.browser.folder import Campaigns
from matrices.browser.following import Progress
from matrices.evidence.campaign import load_campaign
from matrices.evidence.kept import HISTORY
from matrices.report.figures import figures
from matrices.report.page.files import page_of
from treni.errors import Code, TreniError
from treni.storage import reading

MOST = 8
"""How many pages are kept."""


class Reports:
    """Pages by campaign and by what its history was when they were made; one is made at a time."""

    def __init__(self, campaigns: Campaigns) -> None:
        self._campaigns = campaigns
        self._made: dict[tuple[str, int, int], str] = {}
        self._making = threading.Lock()

    def page(self, one: Progress) -> str:
        """The page of the campaign, as `treni-route report --html` writes it.

        Raises FAILED_PRECONDITION while any campaign here runs (`campaign_running`), whose machine may be this one, and
        without what draws (`report_extra_missing`); otherwise as loading a campaign does.
        """
        with reading(one.folder / HISTORY, "a history"):
            status = (one.folder / HISTORY).stat()
        stamp = (one.name, status.st_size, status.st_mtime_ns)
        with self._making:
            if stamp not in self._made:
                self._refuse_beside_a_run()
                campaign, manifest, history = load_campaign(one.folder)
                while len(self._made) >= MOST:
                    del self._made[next(iter(self._made))]
                self._made[stamp] = page_of(figures(manifest, history.events, campaign.expectations))
            return self._made[stamp]

    def _refuse_beside_a_run(self) -> None:
        running = next((one.name for one in self._campaigns.every() if one.state == "running"), None)
        if running is not None:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "campaign_running",
                expected="no campaign to run here while a report is made, which keeps a processor busy",
                got=f"{running}, whose history grew just now",
                todo="wait for its end, or make the report elsewhere: treni-route report DIR --html",
                definite=True,
            )

"""Faults that were handed out and that stand on hosts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from treni import metrics
from treni.metrics import Page, exemplar

if TYPE_CHECKING:
    from chaos.schedule import Schedule


class DeliveryMetrics:
    """What the delivery logs of a process say, as counts."""

    def __init__(self, page: Page) -> None:
        labels = ("arm", "profile", "hop", "site", "kind")
        self._delivered = page.counter(
            "chaos_faults_delivered", "Scheduled faults that were handed out.", *labels
        )
        self._last = page.gauge(
            "chaos_last_delivery_timestamp_seconds", "When such a fault was last handed out.", *labels
        )
        self._standing = page.gauge(
            "chaos_faults_standing",
            "Faults that stand on this host, or on a link to it, now.",
            "profile",
            "kind",
        )

    def expected(self, *, hop: str, site: str, kind: str) -> None:
        """Such faults may come: their count begins at 0, as what appears with a value is no increase."""
        work = metrics.work()
        self._delivered.labels(work.arm(hop), work.profile, hop, site, kind)
        if site == "host":
            self._standing.labels(work.profile, kind)

    def delivered(self, *, hop: str, site: str, kind: str) -> None:
        """A fault is in the log and about to be delivered."""
        work = metrics.work()
        labels = (work.arm(hop), work.profile, hop, site, kind)
        self._delivered.labels(*labels).inc(1, exemplar())
        self._last.labels(*labels).set_to_current_time()

    def standing(self, kind: str) -> AbstractContextManager[None]:
        """A fault that stands on the host while the block runs."""
        return self._standing.labels(metrics.work().profile, kind).track_inprogress()


def expect(schedules: Iterable[Schedule]) -> None:
    """Says which faults may be handed out, where anybody wants to know."""
    counts = metrics.of(DeliveryMetrics)
    if counts is not None:
        for schedule in schedules:
            for kind in schedule.kinds:
                counts.expected(hop=schedule.hop, site=schedule.site, kind=kind.name)


def standing(kind: str) -> AbstractContextManager[None]:
    """Says that a fault of that kind stands on the host while the block runs, where anybody wants to know."""
    counts = metrics.of(DeliveryMetrics)
    return nullcontext() if counts is None else counts.standing(kind)

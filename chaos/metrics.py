"""Faults that were handed out, for Prometheus."""

from __future__ import annotations

from treni import metrics
from treni.metrics import Page, exemplar


class DeliveryMetrics:
    """What the delivery logs of a process say, as counts."""

    def __init__(self, page: Page) -> None:
        labels = ("arm", "profile", "hop", "site", "kind")
        self._delivered = page.counter(
            "chaos_faults_delivered", "Scheduled faults that were handed out.", *labels, "how"
        )
        self._last = page.gauge(
            "chaos_last_delivery_timestamp_seconds", "When such a fault was last handed out.", *labels
        )

    def delivered(self, *, hop: str, site: str, kind: str, how: str) -> None:
        """A fault is in the log and about to be delivered."""
        work = metrics.work()
        labels = (work.arm(hop), work.profile, hop, site, kind)
        self._delivered.labels(*labels, how).inc(1, exemplar())
        self._last.labels(*labels).set_to_current_time()

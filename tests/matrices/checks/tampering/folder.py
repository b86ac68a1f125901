"""A campaign's folder as an adversary sees it: parsed, changed at will, and written back with every digest right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrices.evidence import chain
from matrices.evidence.campaign import load_campaign
from matrices.evidence.kept import HISTORY, MANIFEST, SUITE
from matrices.report.figures import figures
from treni.errors import TreniError

Data = dict[str, Any]
Change = Callable[["Folder"], None]

TAMPERINGS: dict[str, tuple[Change, frozenset[str]]] = {}
"""By name: what is changed, and the kinds of finding that may name it."""


def add(name: str, change: Change, *kinds: str) -> None:
    """One more tampering."""
    assert name not in TAMPERINGS, name
    TAMPERINGS[name] = (change, frozenset(kinds))


def tampers(*kinds: str) -> Callable[[Change], Change]:
    """The same as a decorator; the function's name is the tampering's."""

    def register(change: Change) -> Change:
        add(change.__name__.replace("_", " "), change, *kinds)
        return change

    return register


@dataclass(kw_only=True)
class Folder:
    """The three files as JSON data. `events` leaves out each line's digest."""

    manifest: Data
    suite: list[Data]
    events: list[Data]

    @classmethod
    def read(cls, path: Path) -> Folder:
        """The folder at `path`."""
        events = [json.loads(line) for line in (path / HISTORY).read_text().splitlines()]
        for event in events:
            del event["prev"]
        return cls(
            manifest=json.loads((path / MANIFEST).read_text()),
            suite=[json.loads(line) for line in (path / SUITE).read_text().splitlines()],
            events=events,
        )

    def write(self, path: Path) -> None:
        """The files again, every digest computed anew."""
        manifest = json.dumps(self.manifest).encode()
        suite = "".join(json.dumps(task) + "\n" for task in self.suite).encode()
        self.events[0] |= {"manifest_sha256": chain.digest(manifest), "suite_sha256": chain.digest(suite)}
        (path / MANIFEST).write_bytes(manifest)
        (path / SUITE).write_bytes(suite)
        lines = (json.dumps(event, separators=(",", ":")).encode() for event in self.events)
        (path / HISTORY).write_bytes(chain.linked(lines))

    def all(self, kind: str, **fields: Any) -> list[Data]:
        """The events of a type whose fields have these values, in order."""
        return [
            event
            for event in self.events
            if event["type"] == kind and all(event.get(name) == value for name, value in fields.items())
        ]

    def one(self, kind: str, **fields: Any) -> Data:
        """The first of them."""
        return self.all(kind, **fields)[0]

    def outcomes(self, where: Callable[[Data], bool] = lambda _: True, **fields: Any) -> list[Data]:
        """Outcomes of completed pairs."""
        gone = {run_id for event in self.all("abandon") for run_id in event["run_ids"]}
        return [one for one in self.all("outcome", **fields) if one["run_id"] not in gone and where(one)]

    def outcome(self, where: Callable[[Data], bool] = lambda _: True, **fields: Any) -> Data:
        """The first of them."""
        return self.outcomes(where, **fields)[0]

    def met(self, kind: str, **fields: Any) -> tuple[Data, Data]:
        """An outcome with an attempt under that kind of fault, and the attempt."""
        for outcome in self.outcomes(**fields):
            for attempt in outcome["record"]["attempts"]:
                if attempt["fault_id"].endswith(f":{kind}"):
                    return outcome, attempt
        raise AssertionError(f"nobody met a {kind} in {fields}")

    def retried(self, **fields: Any) -> tuple[Data, int]:
        """An outcome with a retry, and the place of the retry among its attempts."""
        for outcome in self.outcomes(**fields):
            for place, attempt in enumerate(outcome["record"]["attempts"]):
                if attempt["attempt"] == 1:
                    return outcome, place
        raise AssertionError(f"nobody retried in {fields}")

    def drop(self, *events: Data) -> None:
        """Takes these events out."""
        gone = {id(event) for event in events}
        self.events = [event for event in self.events if id(event) not in gone]

    def of_pair(self, cell: str, pair: int) -> list[Data]:
        """Every event of a pair."""
        return [event for event in self.events if event.get("cell") == cell and event.get("pair") == pair]

    def after(self, event: Data) -> list[Data]:
        """The events that follow it."""
        return self.events[self.index(event) + 1 :]

    def index(self, event: Data) -> int:
        """Where it stands."""
        return next(place for place, one in enumerate(self.events) if one is event)

    def later(self, event: Data, by_s: float) -> None:
        """Moves the harness's monotonic clock from there on."""
        for one in self.after(event):
            if "mono_s" in one:
                one["mono_s"] += by_s


def findings(path: Path) -> set[str]:
    """The kinds of everything that `check` holds against the folder; the kind of the error where it refuses it."""
    try:
        campaign, manifest, history = load_campaign(path)
        result = figures(manifest, history.events, campaign.expectations)
    except TreniError as error:
        return {error.kind}
    return {finding.kind for finding in result.findings}

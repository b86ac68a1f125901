"""Campaigns run from hosts made of namespaces by the commands that a user types, and what they came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.namespaces.host import Host
from deploy.split_host.commands import typed
from matrices.evidence.campaign import load_campaign
from matrices.report.figures import CellFigures, Figures, figures
from matrices.report.files import ExitStatus

FOLDER = "/tmp/campaigns"
"""Where campaigns are written, on whichever host."""

ENDED = (ExitStatus.PASS, ExitStatus.INCONCLUSIVE)
"""How `treni-route matrix` ends where the checker finds nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A campaign that was run to its end: its folder as the host names it, and its figures."""

    name: str
    host: Host
    folder: str
    figures: Figures

    @property
    def path(self) -> Path:
        """The campaign's folder, as long as the host lives."""
        return self.host.path(self.folder)

    @property
    def rows(self) -> tuple[CellFigures, ...]:
        """The cells that have a profile: all but the noise floor."""
        return self.figures.cells[1:]


def run_matrix(host: Host, name: str, arguments: str) -> Done:
    """`treni-route matrix ARGUMENTS` on the host. Raises FAILED_PRECONDITION where the checker finds anything."""
    typed(host, f"treni-route matrix {arguments} --out {FOLDER}/{name}", ended=ENDED)
    return done(host, name)


def done(host: Host, name: str) -> Done:
    """The campaign of that name that lies on the host."""
    (folder,) = host.path(f"{FOLDER}/{name}").iterdir()
    campaign, manifest, history = load_campaign(folder)
    return Done(
        name=name,
        host=host,
        folder=f"{FOLDER}/{name}/{folder.name}",
        figures=figures(manifest, history.events, campaign.expectations),
    )


def judge(campaign: Done) -> None:
    """`treni-route check` on the campaign. Raises FAILED_PRECONDITION for a finding."""
    typed(campaign.host, f"treni-route check {campaign.folder}")


def refuse_difference(first: Done, second: Done) -> None:
    """`treni-route compare` on two campaigns of one host. Raises FAILED_PRECONDITION where a run did otherwise."""
    typed(first.host, f"treni-route compare {first.folder} {second.folder}")

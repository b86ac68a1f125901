"""The tables of the paper package, a function each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matrices.evidence.hops import NAMES
from matrices.report.document import Table, Words
from matrices.report.figures import AA, CellFigures, Figures
from matrices.report.formats import ms, number
from matrices.report.package.claims import Claim
from matrices.report.package.latex import PaperTable
from matrices.report.sections.results import results
from matrices.statistics.gates import Gate

MADE = "treni-route"


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperCampaign:
    """A campaign that is packaged: its name there, its figures, and the digest of its history."""

    name: str
    figures: Figures
    digest: str
    findings: tuple[str, ...]

    @property
    def setting(self) -> str:
        """Where and on what it ran, and how many pairs there are, for a caption."""
        m = self.figures.manifest
        n = sorted({cell.comparison.pairs for cell in self.figures.cells})
        pairs = str(n[0]) if len(n) == 1 else f"{n[0]} to {n[-1]}"
        blocks = max(cell.blocks for cell in self.figures.cells)
        warning = (
            f" THE CHECKER FOUND {len(self.findings)} THINGS IN THIS CAMPAIGN: nothing here may be claimed."
            if self.findings
            else ""
        )
        return (
            f"n = {pairs} pairs a profile in {blocks} blocks; {m.model.name} on {m.model.device} ({m.model.backend}), "
            f"suite {m.suite.name}, seed {m.seed}; {MADE} {m.versions.get(MADE, '')} at "
            f"{m.commit[:12] or 'no commit'}, campaign {self.name}, history {self.digest[:12]}.{warning}"
        )


def overview(campaigns: Sequence[PaperCampaign]) -> PaperTable:
    """What was run: a row for each campaign."""
    rows = []
    for one in campaigns:
        m = one.figures.manifest
        rows.append(
            (
                one.name,
                m.model.name,
                m.model.device,
                m.topology,
                m.suite.name,
                str(m.runs),
                str(m.restarts),
                str(m.seed),
                str(m.concurrency),
                m.commit[:12],
                one.digest[:12],
                str(len(one.findings)),
            )
        )
    return PaperTable(
        name="campaigns",
        caption="The campaigns: what ran, where, and how often. Findings are what the checker holds against one.",
        headings=(
            "campaign",
            "model",
            "device",
            "topology",
            "suite",
            "runs",
            "restarts",
            "seed",
            "concurrency",
            "commit",
            "history",
            "findings",
        ),
        rows=tuple(rows),
        left=frozenset(range(5)),
    )


def results_table(campaign: PaperCampaign) -> PaperTable:
    """The table of results as the report has it."""
    table = results(campaign.figures)
    baseline, compared = campaign.figures.sides.names
    return PaperTable(
        name="results",
        caption=f"Latency until the client has an outcome, answer or error, and errors, of the {compared} against the "
        f"{baseline} arm, by profile. Ratio of means and mean paired difference with CI95, the replicate being the "
        f"block; aa is the {baseline} arm against itself, its interval at 99 %. Faults are planned/delivered/observed. "
        f"{campaign.setting}",
        headings=_headings(table),
        rows=tuple(tuple(_text(one) for one in row) for row in table.rows),
        left=frozenset(place for place, column in enumerate(table.columns) if column.left),
    )


def reliability_table(campaign: PaperCampaign) -> PaperTable:
    """Errors, retries and effects of each arm."""
    rows = [
        (
            cell.config.name,
            arm.arm,
            str(arm.requests),
            str(arm.errors),
            number(arm.error_rate, 4),
            number(arm.retries_mean_success, 3) or "-",
            str(len(arm.faults.planned)),
            str(len(arm.faults.observed)),
            cell.counted(arm.effects.duplicate) or "-",
        )
        for cell in campaign.figures.cells
        for arm in cell.arms
    ]
    return PaperTable(
        name="reliability",
        caption="Requests that ended without an answer, retries behind each answered one, faults, and effects that "
        f"took place twice, by profile and arm. Planned errors are certain for their schedule. {campaign.setting}",
        headings=(
            "profile",
            "arm",
            "requests",
            "errors",
            "error rate",
            "retries",
            "faults planned",
            "observed",
            "duplicates",
        ),
        rows=tuple(rows),
        left=frozenset({0, 1}),
    )


def hops_table(campaign: PaperCampaign) -> PaperTable:
    """Where the time of a request went."""
    rows = [
        (
            cell.config.name,
            arm.arm,
            *("-" if arm.hops is None else ms(getattr(arm.hops, name), 2) for name in NAMES),
        )
        for cell in campaign.figures.cells
        for arm in cell.arms
    ]
    return PaperTable(
        name="hops",
        caption="Where the time of a request went, mean ms over the requests that have a record; the parts sum to the "
        f"latency, and what is left is unexplained. {campaign.setting}",
        headings=("profile", "arm", *(name.replace("_", " ") for name in NAMES)),
        rows=tuple(rows),
        left=frozenset({0, 1}),
    )


def gates_table(campaign: PaperCampaign) -> PaperTable:
    """Every gate of every row."""
    rows = [
        (cell.config.name, gate.name, gate.word, gate.why)
        for cell in campaign.figures.cells
        for gate in _gated(cell)
    ]
    return PaperTable(
        name="gates",
        caption="The gates of a claim: a row of the results is claim-safe where every gate holds that says anything of "
        f"its arms. {campaign.setting}",
        headings=("profile", "gate", "came out", "why"),
        rows=tuple(rows),
        left=frozenset(range(4)),
    )


def claims_table(claims: Sequence[Claim]) -> PaperTable:
    """Every claim with its mark."""
    return PaperTable(
        name="claims",
        caption="What the campaigns may be quoted for. A claim is safe where every gate passed; the others are "
        "exploratory, and the gate that decided says why.",
        headings=(
            "campaign",
            "profile",
            "n pairs",
            "blocks",
            "latency",
            "errors",
            "mark",
            "decided by",
            "because",
            "claim",
        ),
        rows=tuple(
            (
                one.campaign,
                one.cell,
                str(one.pairs),
                str(one.blocks),
                one.verdict,
                one.reliability,
                one.mark,
                one.decided_by,
                one.because,
                one.says,
            )
            for one in claims
        ),
        left=frozenset({0, 1, *range(4, 10)}),
    )


OF_CAMPAIGN: tuple[Callable[[PaperCampaign], PaperTable], ...] = (
    results_table,
    reliability_table,
    hops_table,
    gates_table,
)
"""The tables of a campaign, in the order of the captions."""


def _gated(cell: CellFigures) -> tuple[Gate, ...]:
    return () if cell.config.name == AA else cell.gates


def _headings(table: Table) -> tuple[str, ...]:
    return tuple(" ".join(filter(None, column.heading)) for column in table.columns)


def _text(words: Words) -> str:
    return (words if isinstance(words, str) else words.text).replace("\n", " ")

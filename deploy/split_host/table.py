"""The split-host matrix beside the same campaign on one host and the published figures, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.split_host.campaigns import Done
from deploy.split_host.link import Crossing
from deploy.split_host.published import PUBLISHED_ROWS
from matrices.report.figures import ArmFigures, CellFigures
from matrices.report.formats import number
from treni.errors import Code, TreniError

HEADINGS = (
    "profile",
    "ratio",
    "published",
    "external errors",
    "published",
    "retries",
    "published",
    "verdict",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One profile: a value for each campaign, in their order, and what was published, where it was."""

    profile: str
    ratios: tuple[float | None, ...]
    errors: tuple[float | None, ...]
    retries: tuple[float | None, ...]
    verdicts: tuple[str, ...]


def rows_of(campaigns: Sequence[Done]) -> tuple[Row, ...]:
    """A row for each profile of the campaigns, which have the same."""
    return tuple(_row(cells) for cells in zip(*(done.rows for done in campaigns), strict=True))


def _row(cells: tuple[CellFigures, ...]) -> Row:
    external = [cell.arms[1] for cell in cells]
    return Row(
        profile=cells[0].config.name,
        ratios=tuple(None if (ratio := cell.comparison.ratio) is None else ratio.value for cell in cells),
        errors=tuple(arm.error_rate for arm in external),
        retries=tuple(arm.retries_mean_success for arm in external),
        verdicts=tuple(cell.verdict for cell in cells),
    )


def lines_of(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """The rows in words under `HEADINGS`: of each campaign in turn."""
    lines: list[tuple[str, ...]] = []
    for row in rows:
        told = PUBLISHED_ROWS.get(row.profile)
        lines.append(
            (
                row.profile,
                _numbers(row.ratios, 3),
                "-" if told is None else f"{told.ratio:.3f}",
                _numbers(row.errors, 4),
                "-" if told is None else f"{told.errors:.4f}",
                _numbers(row.retries, 3),
                "-" if told is None else f"{told.retries:.3f}",
                " / ".join(row.verdicts),
            )
        )
    return lines


CROSSING_HEADINGS = ("hop", "from", "to", "packets there", "bytes there", "packets back", "bytes back")


def crossing_lines(found: Iterable[Crossing]) -> list[tuple[str, ...]]:
    """What crossed the link in words under `CROSSING_HEADINGS`."""
    return [
        (
            *(one.hop, one.caller, one.server),
            *(str(one.packets_to), str(one.bytes_to), str(one.packets_back), str(one.bytes_back)),
        )
        for one in found
    ]


RECOVERY_HEADINGS = ("profile", "arm", "strikes", "detect", "back", "recover", "hurt", "errors")


def recovery_lines(campaign: Done) -> list[tuple[str, ...]]:
    """How each arm that was struck came through, under `RECOVERY_HEADINGS`; none where no host was struck."""
    return [
        (
            *(cell.config.name, arm.arm, str(len(arm.strikes))),
            *(
                number(one, 3) or "-"
                for one in (arm.detect_median_s, arm.back_median_s, arm.recover_median_s)
            ),
            *(str(arm.hurt), f"{arm.errors_during + arm.errors_after}"),
        )
        for cell in campaign.rows
        for arm in cell.recoveries
        if arm.strikes
    ]


def refuse_other_counts(first: Done, second: Done) -> None:
    """Raises FAILED_PRECONDITION unless each arm has as many errors and retries in both, and the internal no errors."""
    for mine, theirs in zip(first.rows, second.rows, strict=True):
        for one, other in zip(mine.arms, theirs.arms, strict=True):
            if _counts(one) != _counts(other):
                raise _differs(
                    f"{mine.config.name} {one.arm} to have {_said(_counts(one))}, as in the campaign {first.name}",
                    f"{_said(_counts(other))} in the campaign {second.name}",
                )
        if errors := theirs.arms[0].errors:
            raise _differs(f"no errors of the internal arm in {mine.config.name}", str(errors))


def _counts(arm: ArmFigures) -> tuple[int, int, int]:
    return arm.requests, arm.errors, arm.retries_of_successes


def _said(counts: tuple[int, int, int]) -> str:
    return "{} requests, {} errors and {} retries over successes".format(*counts)


def _differs(expected: str, got: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "counts_differ",
        expected=expected,
        got=got,
        todo="report this: they follow from the schedule",
    )


def _numbers(values: Iterable[float | None], digits: int) -> str:
    return " / ".join("-" if value is None else f"{value:.{digits}f}" for value in values)

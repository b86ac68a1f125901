"""The report of a campaign: the same bytes from the same manifest and history, whenever it is made."""

from __future__ import annotations

import dataclasses
import json
import math
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

from matrices.arms.arm import Arm
from matrices.report.comparison import AA, PairedLatency
from matrices.report.csv_files import comparison_csv, schema_of, summary_csv
from matrices.report.families import FamilyFigures
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.formats import UNBOUNDED
from matrices.report.markdown import markdown
from matrices.report.sections import document
from matrices.report.sections.verdict import sentence
from matrices.report.ways import NO_WAYS
from matrices.statistics.gates import Gate
from treni.storage import write_whole

DIGITS = 9
"""How many significant digits `summary.json` has of a figure."""


class ExitStatus(IntEnum):
    """What the command line ends with; 2 is left to usage errors."""

    PASS = 0
    FINDINGS = 1
    INCONCLUSIVE = 3


def exit_status(figures: Figures) -> ExitStatus:
    """FINDINGS if the checker holds anything against the campaign.

    PASS if some profile has a verdict that is a safe claim; a campaign without one has said nothing yet, and is
    INCONCLUSIVE.
    """
    if figures.findings:
        return ExitStatus.FINDINGS
    safe = any(cell.claim_safe for cell in figures.cells if cell.config.name != AA)
    return ExitStatus.PASS if safe else ExitStatus.INCONCLUSIVE


def summary(figures: Figures) -> dict[str, Any]:
    """The figures as JSON data: seconds, to `DIGITS` digits; null where there is no figure."""
    m = figures.manifest
    data = {
        **(
            {}
            if schema_of(m) == 1
            else {"schema": schema_of(m), "arms": [_side(arm, schema_of(m)) for arm in figures.sides]}
        ),
        "status": exit_status(figures).name.lower(),
        "created_utc": m.created_utc,
        "commit": m.commit,
        "model": _plain(m.model),
        "topology": m.topology,
        **({"network": m.details["network"]} if "network" in m.details else {}),
        "suite": m.suite.name,
        "runs": m.runs,
        "seed": m.seed,
        "concurrency": m.concurrency,
        "idempotency": m.idempotency,
        "contamination": m.contamination,
        "floor": None
        if figures.floor is None
        else {
            "bound_s": figures.floor.bound_s,
            "unbiased": figures.floor.unbiased,
            "estimate": _plain(figures.floor.estimate),
        },
        "cells": [_cell(figures, cell) for cell in figures.cells],
        "curves": [_plain(curve) for curve in figures.curves],
        "findings": [_plain(finding) for finding in figures.findings],
    }
    settled: dict[str, Any] = _settled(data)
    return settled


def _settled(value: Any) -> Any:
    """JSON data whose numbers are the same on every machine.

    The last digits of a sum depend on the processor, and on the versions of NumPy and SciPy that did it.
    """
    if isinstance(value, dict):
        return {key: _settled(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_settled(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _cell(figures: Figures, cell: CellFigures) -> dict[str, Any]:
    return {
        "cell": cell.config.name,
        "profile": cell.config.profile,
        "title": cell.config.title,
        "site": cell.config.site,
        "schedule_hash": cell.config.schedule_hash,
        "complete": cell.complete,
        "sentence": sentence(figures, cell).text,
        "remark": cell.remark,
        "verdict": cell.verdict,
        "reliability": cell.reliability_verdict,
        "claim_safe": cell.claim_safe,
        "arms": {arm.arm: _arm(arm, schema_of(figures.manifest)) for arm in cell.arms},
        "pairs": cell.pairs,
        "pairs_void": [{"pair": pair, "why": why} for pair, why in cell.void.items()],
        "blocks": cell.blocks,
        "blocks_contaminated": [{"block": block, "why": why} for block, why in cell.contaminated.items()],
        "pairs_contaminated": cell.pairs_contaminated,
        "pairs_abandoned": cell.abandoned,
        "comparison": _comparison(cell, cell.comparison),
        "comparison_without_contaminated": _comparison(cell, cell.without_contaminated),
        "comparison_successes": _comparison(cell, cell.successes) | {"verdict": None},
        "error_rates": _plain(cell.reliability) | {"verdict": cell.reliability_verdict},
        **({"ways": _plain(cell.ways)} if cell.ways != NO_WAYS else {}),
        "harm": [_plain(row) for row in cell.harm],
        **({"families": [_family(one) for one in cell.families]} if cell.families else {}),
        "gates": [_gate(gate) for gate in cell.gates],
        "findings": len(cell.findings),
    }


def _comparison(cell: CellFigures, comparison: PairedLatency) -> dict[str, Any]:
    """The comparison without what is said elsewhere: its difference stands in `latency` too."""
    plain: dict[str, Any] = _plain(comparison)
    latency = plain.pop("latency")
    del plain["judgement"]
    equivalence = None if latency is None else latency["equivalence"]
    return plain | {"verdict": cell.said(comparison), "equivalence": equivalence}


def _side(arm: Arm, schema: int) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(arm)
    untold = () if schema > 2 else ("model_outside", "tokens", "seen")
    return {key: value for key, value in plain.items() if key not in untold}


def _family(one: FamilyFigures) -> dict[str, Any]:
    latency = _plain(one.comparison)
    kept = {name: latency[name] for name in ("pairs", "delta", "ratio", "median_delta_s", "unavailable")}
    return {"family": one.name, "means_s": one.means_s, "per_token_s": one.per_token_s, **kept}


def _gate(gate: Gate) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(gate)
    if gate.applicable:
        del plain["applicable"]
    return plain


def _arm(arm: ArmFigures, schema: int) -> dict[str, Any]:
    rates = {
        "error_rate": arm.error_rate,
        "retries_mean_success": arm.retries_mean_success,
    }
    unsaid = {"arm", "seen"} if arm.user_turns else {"arm", "seen", "user_turns"}
    plain = {key: value for key, value in _plain(arm).items() if key not in unsaid} | rates
    if schema < 3:
        del plain["latency_per_token_s"], plain["work"]["tokens_told"]
    if plain["hops"] is not None and not plain["hops"]["black_box"]:
        del plain["hops"]["black_box"]
    return plain


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and numbers as JSON has them; an end that the data do not bound is "unbounded"."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and math.isinf(value):
        return UNBOUNDED
    return str(value) if isinstance(value, StrEnum) else value


def render(figures: Figures) -> dict[str, str]:
    """The text of each file of the report, by file name."""
    return {
        "summary.json": json.dumps(summary(figures), ensure_ascii=False, allow_nan=False, indent=2) + "\n",
        "summary.md": markdown(document(figures)),
        "summary.csv": summary_csv(figures),
        "comparison.csv": comparison_csv(figures),
    }


def differing(folder: Path, figures: Figures) -> tuple[str, ...]:
    """Names of the report's files in the folder that are not what the history gives; absent ones do not count."""
    return tuple(
        name
        for name, text in render(figures).items()
        if (folder / name).exists() and (folder / name).read_bytes() != text.encode()
    )


def write_report(folder: Path, figures: Figures) -> tuple[Path, ...]:
    """Writes the report's files into the folder, each replaced as a whole, and returns their paths."""
    paths = []
    for name, text in render(figures).items():
        path = folder / name
        write_whole(path, text.encode())
        paths.append(path)
    return tuple(paths)

"""The cell against its plan: which pairs, which tasks, who went first, what was announced; and the manifest itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from matrices.checks.finding import Finding, differs
from matrices.evidence.history import CellState
from matrices.evidence.manifest import Manifest, ManifestTask
from matrices.planning.expectation import Expectation, ExpectedPair, site_of


def of_manifest(manifest: Manifest, expectations: Sequence[Expectation]) -> Iterator[Finding]:
    """Findings about a manifest that contradicts the plan made from it and the suite."""
    first = next(iter(expectations), None)
    tasks = tuple(
        ManifestTask(
            id=pair.task.id,
            family=pair.task.family,
            expected_calls=len(pair.task.calls),
            side_effects=pair.task.side_effects,
        )
        for pair in (() if first is None else first.pairs)
    )
    claims: list[tuple[str, object, object]] = [
        ("tasks of the suite", tasks, manifest.suite.tasks),
        ("name of the suite", PurePath(str(manifest.details.get("suite"))).stem, manifest.suite.name),
        ("backend asked for", manifest.model.backend, manifest.details.get("backend")),
    ]
    names = [cell.name for cell in manifest.cells]
    claims.append(("cells", [expectation.cell for expectation in expectations], names))
    for cell, expected in zip(manifest.cells, expectations, strict=False):
        claims.append((f"arms of {cell.name}", expected.arms, cell.arms))
        claims.append((f"arms with a schedule in {cell.name}", set(expected.arms), set(cell.schedule_hash)))
        claims.append((f"site of {cell.name}", site_of(expected.counters), cell.site))
    for what, want, got in claims:
        if want != got:
            yield Finding(kind="manifest_inconsistent", cell="", detail=differs(what, want, got))


def of_cell(state: CellState) -> Iterator[Finding]:
    """Findings about a cell's end, and about events that the fold could not place."""
    if state.ended is None:
        yield Finding(kind="cell_unended", cell=state.cell, detail="interrupted; resume the campaign")
    elif state.ended.status == "broken":
        detail = f"{state.ended.detail}; resume the campaign to run it again"
        yield Finding(kind="cell_broken", cell=state.cell, detail=detail)
    elif state.ended.detail:
        yield Finding(kind="event_stray", cell=state.cell, detail=f"complete, but {state.ended.detail}")
    for stray in state.stray:
        yield Finding(kind="event_stray", cell=state.cell, detail=stray)
    for pair, count in sorted(Counter(state.repeated).items()):
        yield Finding(kind="pair_repeated", cell=state.cell, pair=pair, detail=f"{count} events too many")
    for pair in sorted(state.begun):
        yield Finding(kind="pair_unfinished", cell=state.cell, pair=pair, detail="begun, never completed")


def of_pairs(state: CellState, expected: Expectation) -> Iterator[Finding]:
    """Findings about which pairs completed, and whether each was announced as planned."""
    planned = {pair.pair: pair for pair in expected.pairs}
    for pair in planned:
        if pair not in state.completed:
            yield Finding(kind="pair_missing", cell=state.cell, pair=pair)
    for pair, done in sorted(state.completed.items()):
        if pair not in planned:
            yield Finding(kind="pair_unplanned", cell=state.cell, pair=pair)
            continue
        for arm in expected.arms:
            if arm not in done.outcomes:
                yield Finding(kind="outcome_missing", cell=state.cell, arm=arm, pair=pair)
        yield from _of_plan(state, pair, planned[pair])


def _of_plan(state: CellState, pair: int, planned: ExpectedPair) -> Iterator[Finding]:
    done = state.completed[pair]
    started, task = done.started, planned.task
    ids = {arm: tuple(fault.id for fault in run.faults) for arm, run in planned.runs.items()}
    claims: list[tuple[str, object, object]] = [
        ("task", task.id, started.task_id),
        ("family", task.family, started.family),
        ("block", planned.block, started.block),
        ("stratum", planned.stratum, started.stratum),
        ("order", planned.order, started.order),
        ("order of the runs", planned.order, tuple(done.invokes)),
        ("planned faults", ids, started.planned_faults),
        ("expected calls", len(task.calls), started.expected_calls),
        ("side effects", task.side_effects, started.side_effects),
    ]
    claims += [
        (f"request index of {arm}", pair, invoke.request_index) for arm, invoke in done.invokes.items()
    ]
    for what, want, got in claims:
        if want != got:
            detail = differs(what, want, got)
            yield Finding(kind="pair_not_as_planned", cell=state.cell, pair=pair, detail=detail)

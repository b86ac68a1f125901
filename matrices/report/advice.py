"""Why a row is no claim, and what to do about it: one line a row, from the first gate that did not pass."""

from __future__ import annotations

from dataclasses import dataclass

from matrices.report.figures import CellFigures, Figures


@dataclass(frozen=True, slots=True)
class Advice:
    """A gate that did not pass, in words: what is the matter, and what to do."""

    matter: str
    todo: str


_RUN_MORE = "measure more blocks with --runs"
_QUIET = "stop what else runs on the machine, and run it again"
_CHECK = "`treni-route check FOLDER` lists what was found"
_VOID = "summary.md lists the void pairs: make the arms do the same work"

ADVICE: dict[str, Advice] = {
    "check_clean": Advice("the checker found something", _CHECK),
    "errors_explained": Advice("errors that no fault caused", _CHECK),
    "faults_delivered": Advice("not every planned fault was delivered", _CHECK),
    "faults_observed": Advice("not every planned fault was observed", _CHECK),
    "predicted": Advice(
        "faults that strike hosts describe, they do not decide", "see how the arms recovered, in summary.md"
    ),
    "conclusive": Advice("the interval decides nothing", _RUN_MORE),
    "beyond_chance": Advice("chance alone could have given this verdict", _RUN_MORE),
    "aa_unbiased": Advice("the baseline differs from itself", _QUIET),
    "floor_fine": Advice("the noise floor is above the margin", f"{_RUN_MORE}, or {_QUIET}"),
    "failures_do_not_win": Advice(
        "an arm is faster only by failing", "compare the pairs that both arms answered, in summary.md"
    ),
    "pairs_valid": Advice("too many pairs are void", _VOID),
    "voids_by_stratum": Advice("void pairs gather under one kind of fault", _VOID),
    "voids_by_order": Advice("void pairs gather where one arm went first", _VOID),
    "voids_unrelated": Advice("void pairs take another time than valid ones", _VOID),
    "pairs_kept": Advice("too many pairs were cut off and run again", "run it again without interruptions"),
    "strata_repeated": Advice("a kind of pair is seen in one block only", _RUN_MORE),
    "steady": Advice("the difference moved while it was measured", f"{_QUIET}, or {_RUN_MORE}"),
    "blocks_clean": Advice("others loaded the machine in too many blocks", _QUIET),
    "contamination_harmless": Advice("blocks that others loaded decide the verdict", _QUIET),
}
"""Every gate by name, the first to be told first."""

_NO_ESTIMATE = Advice("too few valid pairs for an interval", _RUN_MORE)


def reasons(figures: Figures) -> str:
    """A line for each row that is no claim: the first matter, how many others there are, and what to do.

    "" where every row is one.
    """
    lines = [_reason(cell) for cell in figures.cells if not cell.claim_safe]
    return "".join(f"{line}\n" for line in ["Not claim-safe:", *lines]) if lines else ""


def _reason(cell: CellFigures) -> str:
    failed = {gate.name for gate in cell.gates if gate.failed}
    first = next((name for name in ADVICE if name in failed), None)
    advice = _NO_ESTIMATE if first is None else ADVICE[first]
    rest = len(failed) - 1
    more = f" (and {rest} more gate{'s' * (rest > 1)}, in summary.md)" if rest > 0 else ""
    return f"  {cell.config.name}: {advice.matter}{more}; {advice.todo}"

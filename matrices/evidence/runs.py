"""The completed runs of a cell with their records decoded once, for the ledgers, the checker and the report."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import json_format

from matrices.evidence import events as ev
from matrices.evidence.history import CellState
from treni.errors import Code, TreniError
from treni.folding import nfc
from treni.v1 import agent_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One arm's execution of one pair. `record` is None when the service died before it could send one."""

    pair: ev.PairStarted
    arm: str
    outcome: ev.Outcome
    record: agent_pb2.RunRecord | None

    @property
    def ok(self) -> bool:
        """Whether the run ended with an answer."""
        return self.outcome.outcome == "ok"

    @property
    def attempts(self) -> tuple[agent_pb2.Attempt, ...]:
        """The attempts at either hop, in order; empty without a record."""
        return () if self.record is None else tuple(self.record.attempts)

    @property
    def retries(self) -> int:
        """Attempts beyond the first of their call, over both hops."""
        return sum(attempt.attempt > 0 for attempt in self.attempts)


def pair_runs(cell: CellState) -> dict[int, dict[str, Run]]:
    """The runs of each completed pair by arm, pairs in ascending order; an arm without an outcome is absent.

    Raises `TreniError` (`history_malformed`) for a record that is not a `RunRecord`.
    """
    return {
        number: {
            arm: Run(pair=state.started, arm=arm, outcome=outcome, record=_record(outcome))
            for arm, outcome in sorted(state.outcomes.items())
        }
        for number, state in sorted(cell.completed.items())
    }


def completed_calls(record: agent_pb2.RunRecord) -> dict[int, agent_pb2.ToolUse]:
    """The tool calls that have a result or a refusal, by their index on the tool hop.

    What the model wrote and no tool was asked (a tool that was not offered, a call that nobody can read) is left out:
    its name is that of no call on the hop.
    """
    names = {one.call_index: one.name for one in record.attempts if one.hop == "tool"}
    left = iter(sorted(names.items()))
    index, name = next(left, (-1, ""))
    found = {}
    for use in record.tools:
        if index >= 0 and nfc(use.name) == nfc(name):
            found[index] = use
            index, name = next(left, (-1, ""))
    return found


def _record(outcome: ev.Outcome) -> agent_pb2.RunRecord | None:
    if outcome.record is None:
        return None
    try:
        return json_format.ParseDict(outcome.record, agent_pb2.RunRecord())
    except json_format.ParseError as error:
        raise TreniError(
            Code.DATA_LOSS,
            "history_malformed",
            expected=f"the record of run {outcome.run_id} to be a RunRecord",
            got=str(error),
            todo="restore the history; it was not written by this version, or was edited",
            definite=True,
        ) from error

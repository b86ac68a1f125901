"""What a history is made of: one frozen value for each line, told apart by `type`.

A run is one execution of one task by one arm. A pair is one task run by both arms of a cell, back to back. A
cell is one profile with fresh processes. A block is one run through the suite, the replicate of the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pydantic

from matrices.evidence.strike_events import Healed as Healed
from matrices.evidence.strike_events import Struck as Struck
from matrices.spec import strict


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """The first line of a history: its format, and the SHA-256, in hex, of the two files beside it."""

    __pydantic_config__ = strict.STRICT

    version: Literal[2, 3, 4, 5]
    manifest_sha256: str
    suite_sha256: str
    type: Literal["opened"] = "opened"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sealed:
    """The last line of a history whose every cell has ended; nothing follows it."""

    __pydantic_config__ = strict.STRICT

    type: Literal["sealed"] = "sealed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """How a role's clocks lie to the harness's, by the quickest of so many `exchanges`.

    `offset_s` has to be added to the harness's wall clock to get the role's, `steady_offset_s` to its monotonic one;
    both are known to `error_s`, half of that exchange's way. `at_s` is when, by the harness's monotonic clock.
    """

    __pydantic_config__ = strict.STRICT

    offset_s: float
    steady_offset_s: float
    error_s: float
    at_s: float
    exchanges: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CellStarted:
    """A cell's processes are up: written at the start of each segment of the cell, and when it is resumed.

    `epoch` counts the starts of the harness on the campaign from 0, `segment` the groups of blocks that have
    processes of their own. `start_counter` is the number that the next attempt will have by the schedules' counts: by
    arm, or by arm and hop ("external/model") where several of its hops are faulted; `pids` are the process ids by role,
    as each role's host counts them. `epochs` has what each role drew when its process started (none in histories before
    there were epochs), `clocks` how their clocks lay (none in histories before they were compared).
    """

    __pydantic_config__ = strict.STRICT

    cell: str
    profile: str
    arms: tuple[str, str]
    epoch: int
    segment: int
    start_counter: dict[str, int]
    pids: dict[str, int]
    epochs: dict[str, str] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    type: Literal["cell"] = "cell"


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The start or end of a block, with the machine's conditions: at the start as found, at the end over the block.

    `mono_s` is the harness's monotonic clock, the one that `Invoke` reads too.
    """

    __pydantic_config__ = strict.STRICT

    cell: str
    block: int
    phase: Literal["start", "end"]
    mono_s: float
    conditions: dict[str, Any]
    type: Literal["block"] = "block"


@dataclass(frozen=True, kw_only=True, slots=True)
class PairStarted:
    """A pair is about to run: the task, who goes first, and what the schedule plans for each arm.

    `stratum` names the faults planned for the pair ("-" for none), `side_effects` how many of its
    `expected_calls` change state; None where nobody told which calls the task takes.
    """

    __pydantic_config__ = strict.STRICT

    cell: str
    pair: int
    block: int
    task_id: str
    family: str
    order: tuple[str, str]
    stratum: str
    planned_faults: dict[str, tuple[str, ...]]
    expected_calls: int | None
    side_effects: int
    type: Literal["pair"] = "pair"


@dataclass(frozen=True, kw_only=True, slots=True)
class Invoke:
    """A run is about to be sent. Written before the first byte leaves, so no run is ever unknown to the history."""

    __pydantic_config__ = strict.STRICT

    cell: str
    pair: int
    arm: str
    run_id: str
    request_index: int
    wall_time: str
    mono_s: float
    type: Literal["invoke"] = "invoke"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunError:
    """Why a run ended without an answer: the status and the parts of its `ErrorDetail`."""

    __pydantic_config__ = strict.STRICT

    code: str
    kind: str
    definite: bool
    message: str
    hop: str
    fault_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """The answer to what the user said, before the user said more: the client's time to it, and its grade."""

    __pydantic_config__ = strict.STRICT

    answer: str
    latency_s: float
    correct: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended.

    `latency_s` is the client's time to the end, answer or error; `ttft_s` to the first text. `answer` is the last of
    the task's, `earlier` are those to the user turns before the last, in order, of a failed run as many as came;
    `correct` says whether all of them are right. `record` is the `RunRecord` as `json_format.MessageToDict` gives it
    (field names as in the .proto, defaults written out).
    """

    __pydantic_config__ = strict.STRICT

    cell: str
    pair: int
    arm: str
    run_id: str
    outcome: Literal["ok", "fail", "unknown"]
    error: RunError | None
    latency_s: float
    ttft_s: float | None
    answer: str | None
    correct: bool | None
    record: dict[str, Any] | None
    earlier: tuple[Answered, ...] = ()
    type: Literal["outcome"] = "outcome"

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer that came, in order."""
        last = () if self.answer is None else (self.answer,)
        return (*(one.answer for one in self.earlier), *last)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairCompleted:
    """Both arms of the pair have an outcome; the pair is never run again."""

    __pydantic_config__ = strict.STRICT

    cell: str
    pair: int
    type: Literal["pair_complete"] = "pair_complete"


@dataclass(frozen=True, kw_only=True, slots=True)
class Abandon:
    """A pair had begun and not completed when the harness stopped: these runs do not count, the pair runs again."""

    __pydantic_config__ = strict.STRICT

    cell: str
    pair: int
    run_ids: tuple[str, ...]
    type: Literal["abandon"] = "abandon"


@dataclass(frozen=True, kw_only=True, slots=True)
class Discard:
    """A cell that broke is to be run again from its start: nothing of it that was written before counts."""

    __pydantic_config__ = strict.STRICT

    cell: str
    why: str
    type: Literal["discard"] = "discard"


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One fault that the chaos layer put on an attempt, from its delivery log."""

    __pydantic_config__ = strict.STRICT

    fault_id: str
    site: str
    hop: str
    kind: str
    how: str
    run_id: str
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Deliveries:
    """The whole delivery log of one arm at the end of its cell; a later one replaces an earlier one."""

    __pydantic_config__ = strict.STRICT

    cell: str
    arm: str
    faults: tuple[Delivery, ...]
    type: Literal["deliveries"] = "deliveries"


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectRow:
    """One entry in the tools' ledger; `idempotency_key` is "" when the caller sent none."""

    __pydantic_config__ = strict.STRICT

    run_id: str
    task_id: str
    attempt: int
    idempotency_key: str
    account: str
    amount: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Effects:
    """The whole ledger of one arm's tools at the end of its cell; a later one replaces an earlier one."""

    __pydantic_config__ = strict.STRICT

    cell: str
    arm: str
    rows: tuple[EffectRow, ...]
    type: Literal["effects"] = "effects"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outage:
    """A role of an arm did not answer: `probes_lost` probes asked in vain.

    From when the last probe before was sent that it answered, to its first good answer after, by the harness's
    monotonic clock, the one that `Invoke` reads too.
    """

    __pydantic_config__ = strict.STRICT

    cell: str
    role: str
    arm: str
    start_s: float
    end_s: float
    probes_lost: int
    type: Literal["outage"] = "outage"


@dataclass(frozen=True, kw_only=True, slots=True)
class Restarted:
    """A role that died of a planned fault serves again at the same address, as process `pid`.

    `death` says how it died; both times are by the harness's monotonic clock.
    """

    __pydantic_config__ = strict.STRICT

    cell: str
    role: str
    arm: str
    death: str
    died_s: float
    serving_s: float
    pid: int
    type: Literal["restarted"] = "restarted"


@dataclass(frozen=True, kw_only=True, slots=True)
class CellEnded:
    """The cell is over: every pair ran ("complete"), or a service was lost ("broken", and `detail` says which and how).

    A broken cell ends wherever it is, and is run again when the campaign is resumed. `clocks` are how the roles' clocks
    lay at the end of a complete one.
    """

    __pydantic_config__ = strict.STRICT

    cell: str
    status: Literal["complete", "broken"]
    detail: str
    clocks: dict[str, Clock] = field(default_factory=dict)
    type: Literal["cell_end"] = "cell_end"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """The harness took up an interrupted history and cut `cut_bytes` of a torn last line off it."""

    __pydantic_config__ = strict.STRICT

    wall_time: str
    cut_bytes: int
    type: Literal["resumed"] = "resumed"


Event = Annotated[
    Opened
    | Sealed
    | CellStarted
    | Block
    | PairStarted
    | Invoke
    | Outcome
    | PairCompleted
    | Abandon
    | Discard
    | Deliveries
    | Effects
    | Outage
    | Restarted
    | Struck
    | Healed
    | CellEnded
    | Resumed,
    pydantic.Field(discriminator="type"),
]

_ADAPTER: pydantic.TypeAdapter[Event] = pydantic.TypeAdapter(Event)


def parse_event(data: bytes, *, where: str) -> Event:
    """The event that a JSON object stands for; `where` (file and line) goes into the error.

    Raises `TreniError` (`history_malformed`) for an unknown type, a missing or unknown key, a wrong type.
    """
    return strict.parse(_ADAPTER, data, kind="history_malformed", where=where)


def dump_event(event: Event) -> bytes:
    """The event as a JSON object in one line, without a newline. Raises `ValueError` for NaN and infinities."""
    return strict.dump(event)

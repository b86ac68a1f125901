"""The calls of a run in which nothing fails, as its scenario says them: at the model, and at the tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from chaos.faults import Hop
from matrices.spec.suites import ExpectedCall, Task
from treni.errors import Code

MODEL: Hop = "model"
TOOL: Hop = "tool"
AGENT: Hop = "agent"
"""The client's call of the agent, which is no step of a scenario."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One call: the `index`-th of the run on its hop, and at a tool the call that the task needs (else None).

    `refusal` is the status with which the tool refuses a call that is to be refused. `last`: the user turn that it
    belongs to has its answer once it is done.
    """

    hop: Hop
    index: int
    call: ExpectedCall | None
    refusal: str = Code.INVALID_ARGUMENT.name
    last: bool = False


def steps(task: Task) -> Iterator[Step]:
    """The calls that the task takes, in order; none where nobody told."""
    if not task.told:
        return
    made: Counter[str] = Counter()
    calls = task.calls
    for hops in task.steps:
        for place, hop in enumerate(hops, start=1):
            index = made[hop]
            made[hop] += 1
            yield Step(
                hop=cast(Hop, hop),
                index=index,
                call=calls[index] if hop == TOOL else None,
                last=place == len(hops),
            )

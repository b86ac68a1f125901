"""Runs whose calls nobody knew before, planned again from the calls that they made: what then follows can be checked.

A schedule says for any call whether it meets a fault, and the policy what comes of that. So of a run whose calls are
read from its record everything else is still derived: which attempts met which faults, how each ended, what was waited,
which effects there are and how the run ended.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import cast

from chaos.faults import Hop
from controller.policy import DISPOSITION, Disposition
from matrices.evidence.runs import Run, completed_calls
from matrices.planning.expectation import Expectation
from matrices.planning.steps import TOOL, Step
from matrices.spec.suites import ExpectedCall
from treni.errors import Code
from treni.v1 import agent_pb2


def resolve(expected: Expectation, runs: Mapping[int, Mapping[str, Run]]) -> Expectation:
    """The expectation with each open run replaced by what follows from the calls in its record.

    `runs` are completed ones, by pair and arm. A run without a record stays open: it called nothing that is known.
    """
    opened = {arm: [pair.pair for pair in expected.pairs if pair.runs[arm].open] for arm in expected.arms}
    if expected.following is None or not any(opened.values()):
        return expected
    found = {}
    for arm, pairs in opened.items():
        made = {
            pair: tuple(steps_made(record))
            for pair in pairs
            if (record := _record(runs, pair, arm)) is not None
        }
        found[arm] = expected.following(arm, made)
    return replace(
        expected,
        pairs=tuple(
            replace(pair, runs={arm: found[arm][pair.pair] for arm in pair.runs}) for pair in expected.pairs
        ),
    )


def steps_made(record: agent_pb2.RunRecord) -> Iterator[Step]:
    """The calls that the run made on its hops, in order, each with what its tool made of it.

    They are counted here: a record that counts otherwise has attempts that follow from no calls.
    """
    calls: dict[tuple[str, int], list[agent_pb2.Attempt]] = {}
    for attempt in record.attempts:
        calls.setdefault((attempt.hop, attempt.call_index), []).append(attempt)
    uses, count = completed_calls(record), Counter[str]()
    ends = set(accumulate(turn.turns for turn in record.user_turns if turn.answered_s > 0))
    for (hop, named), attempts in calls.items():
        last, index = attempts[-1], count[hop]
        count[hop] += 1
        if hop != TOOL:
            yield Step(hop=cast(Hop, hop), index=index, call=None, last=index + 1 in ends)
            continue
        refused = last.outcome == "fail" and not last.fault_id and _refuses(last.code)
        use = uses.get(named)
        yield Step(
            hop=TOOL,
            index=index,
            call=ExpectedCall(
                name=last.name,
                arguments=_object(last.arguments_json or ("" if use is None else use.arguments_json)),
                refused=refused,
            ),
            refusal=last.code if refused else Code.INVALID_ARGUMENT.name,
        )


def _record(runs: Mapping[int, Mapping[str, Run]], pair: int, arm: str) -> agent_pb2.RunRecord | None:
    run = runs.get(pair, {}).get(arm)
    return None if run is None else run.record


def _refuses(code: str) -> bool:
    return any(one.name == code for one, what in DISPOSITION.items() if what is Disposition.REFUSED)


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

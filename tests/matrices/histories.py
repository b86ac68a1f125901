"""Builds small synthetic histories and their manifests, so that tests can say what is wrong with one in a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from google.protobuf import json_format

from matrices.arms.registry import DEFAULT
from matrices.evidence import events as ev
from matrices.evidence import manifest as mf
from treni.v1 import agent_pb2, common_pb2

WALL = "2026-01-01T00:00:00Z"
PIDS = {"runtime": 11, "runtime_b": 12, "controller": 13, "tools": 14, "toxiproxy": 15}
CALM = {"load1": 0.3, "steal_fraction": 0.0, "other_cpu_fraction": 0.02}


def attempt(
    hop: str = "model",
    *,
    call: int = 0,
    nth: int = 0,
    duration_s: float = 0.004,
    fault: str = "",
    code: str = "OK",
) -> agent_pb2.Attempt:
    """One attempt; ok unless a code is given."""
    outcome = {"OK": "ok", "UNAVAILABLE": "fail"}.get(code, "unknown")
    return agent_pb2.Attempt(
        hop=hop,
        call_index=call,
        attempt=nth,
        duration_s=duration_s,
        outcome=outcome,
        code=code,
        kind="" if code == "OK" else code.lower(),
        fault_id=fault,
        name="ledger_append" if hop == "tool" else "",
    )


def record(
    arm: str,
    *,
    attempts: Iterable[agent_pb2.Attempt] = (),
    tools: Iterable[agent_pb2.ToolUse] = (),
    prompt: int = 200,
    completion: int = 12,
    cached: int = 100,
    loop_s: float = 0.0005,
    backoff_s: float = 0.0,
    constrained: bool = False,
) -> dict[str, Any]:
    """A run's record whose hops sum to its total."""
    attempts = tuple(attempts) or (attempt(),)
    hops = sum(one.duration_s for one in attempts)
    model_s = sum(one.duration_s for one in attempts if one.hop == "model" and one.outcome == "ok")
    made = agent_pb2.RunRecord(
        arm=arm,
        attempts=attempts,
        tools=tuple(tools),
        usage=common_pb2.Usage(
            prompt_tokens=prompt, completion_tokens=completion, cached_prompt_tokens=cached
        ),
        turns=1,
        total_s=hops + loop_s + backoff_s,
        loop_s=loop_s,
        backoff_s=backoff_s,
        engine=common_pb2.EngineTimings(
            prefill_s=model_s * 0.4, decode_s=model_s * 0.4, sample_s=model_s * 0.1, total_s=model_s * 0.95
        ),
        backend="numpy",
        device="cpu",
        model="treni-tiny",
        constrained=constrained,
    )
    return json_format.MessageToDict(
        made, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def tool_use(*, amount: int = 5, account: str = "rent", is_error: bool = False) -> agent_pb2.ToolUse:
    """One `ledger_append` that the tool acknowledged, unless it is an error."""
    return agent_pb2.ToolUse(
        name="ledger_append",
        arguments_json=f'{{"account": "{account}", "amount": {amount}}}',
        result_json='{"error": "refused"}'
        if is_error
        else json.dumps({"recorded": {"account": account, "amount": amount}}),
        is_error=is_error,
        tool_s=0.0 if is_error else 0.001,
    )


def error(code: str = "UNAVAILABLE", *, fault: str = "") -> ev.RunError:
    """What an errored run says."""
    return ev.RunError(
        code=code, kind="tool_hop_failed", definite=False, message="it broke", hop="tool", fault_id=fault
    )


def outcome(cell: str, pair: int, arm: str, **changes: Any) -> ev.Outcome:
    """An ok run of 5 ms (6 ms for the second arm's name), changed as asked."""
    base = ev.Outcome(
        cell=cell,
        pair=pair,
        arm=arm,
        run_id=run_id(cell, pair, arm),
        outcome="ok",
        error=None,
        latency_s=0.005 if arm == "internal" else 0.006,
        ttft_s=0.003,
        answer="42",
        correct=True,
        record=record(arm),
    )
    return replace(base, **changes)


def failed(cell: str, pair: int, arm: str, **changes: Any) -> ev.Outcome:
    """A run that ended in an error, changed as asked."""
    base = outcome(cell, pair, arm, outcome="unknown", error=error(), answer=None, correct=None, ttft_s=None)
    return replace(base, **changes)


def run_id(cell: str, pair: int, arm: str) -> str:
    """The id of the run in the campaign's first epoch."""
    return f"{cell}/{pair}/{arm}/0"


def pair_events(
    cell: str,
    pair: int,
    *,
    block: int,
    arms: tuple[str, str] = ("internal", "external"),
    outcomes: dict[str, ev.Outcome] | None = None,
    planned: dict[str, tuple[str, ...]] | None = None,
    stratum: str = "-",
    side_effects: int = 0,
    task_id: str | None = None,
    family: str = "model",
) -> list[ev.Event]:
    """The six events of one pair; `outcomes` replaces those of the arms it names."""
    outcomes = {} if outcomes is None else outcomes
    planned = {} if planned is None else planned
    order = arms if pair % 2 == 0 else (arms[1], arms[0])
    made: list[ev.Event] = [
        ev.PairStarted(
            cell=cell,
            pair=pair,
            block=block,
            task_id=f"task{pair}" if task_id is None else task_id,
            family=family,
            order=order,
            stratum=stratum,
            planned_faults={arm: planned.get(arm, ()) for arm in arms},
            expected_calls=side_effects,
            side_effects=side_effects,
        )
    ]
    for arm in order:
        ended = outcomes[arm] if arm in outcomes else outcome(cell, pair, arm)
        made.append(
            ev.Invoke(
                cell=cell,
                pair=pair,
                arm=arm,
                run_id=ended.run_id,
                request_index=pair,
                wall_time=WALL,
                mono_s=float(pair),
            )
        )
        made.append(ended)
    made.append(ev.PairCompleted(cell=cell, pair=pair))
    return made


def cell_events(
    cell: str,
    pairs: dict[int, list[ev.Event]],
    *,
    per_block: int = 4,
    profile: str = "p00_baseline",
    arms: tuple[str, str] = ("internal", "external"),
    deliveries: dict[str, tuple[ev.Delivery, ...]] | None = None,
    effects: dict[str, tuple[ev.EffectRow, ...]] | None = None,
    conditions: dict[int, dict[str, Any]] | None = None,
    counters: dict[str, int] | None = None,
) -> list[ev.Event]:
    """A whole cell: its start, its blocks of pairs, what was delivered and what took effect, its end."""
    deliveries = {} if deliveries is None else deliveries
    effects = {} if effects is None else effects
    conditions = {} if conditions is None else conditions
    pids = {role: pid for role, pid in PIDS.items() if role != "runtime_b" or "internal_b" in arms}
    made: list[ev.Event] = [
        ev.CellStarted(
            cell=cell,
            profile=profile,
            arms=arms,
            epoch=0,
            segment=0,
            start_counter={} if counters is None else counters,
            pids=pids,
        )
    ]
    blocks: dict[int, list[ev.Event]] = {}
    for pair, events in pairs.items():
        blocks.setdefault(pair // per_block, []).extend(events)
    for block, events in blocks.items():
        made.append(ev.Block(cell=cell, block=block, phase="start", mono_s=0.0, conditions={"load1": 0.3}))
        made.extend(events)
        end = conditions.get(block, CALM)
        made.append(ev.Block(cell=cell, block=block, phase="end", mono_s=0.0, conditions=dict(end)))
    for arm in arms:
        made.append(ev.Deliveries(cell=cell, arm=arm, faults=deliveries.get(arm, ())))
        made.append(ev.Effects(cell=cell, arm=arm, rows=effects.get(arm, ())))
    made.append(ev.CellEnded(cell=cell, status="complete", detail=""))
    return made


def delivery(fault: str, run: str, *, nth: int = 0, kind: str = "status") -> ev.Delivery:
    """One delivered fault on the tool hop."""
    return ev.Delivery(
        fault_id=fault, site="hop", hop="tool", kind=kind, how="injector", run_id=run, attempt=nth
    )


def effect(
    run: str, *, key: str | None = None, nth: int = 0, amount: int = 5, account: str = "rent"
) -> ev.EffectRow:
    """One ledger row; the key is that of the run's first call unless given."""
    return ev.EffectRow(
        run_id=run,
        task_id="task",
        attempt=nth,
        idempotency_key=f"{run}/0" if key is None else key,
        account=account,
        amount=amount,
    )


def manifest(*cells: mf.ManifestCell, runs: int = 2, per_block: int = 4) -> mf.Manifest:
    """A manifest of those cells over `runs` blocks of `per_block` tasks, the first of a block with a call."""
    tasks = tuple(
        mf.ManifestTask(
            id=f"task{n}",
            family="model",
            expected_calls=int(n % per_block == 0),
            side_effects=int(n % per_block == 0),
        )
        for n in range(runs * per_block)
    )
    return mf.Manifest(
        version=mf.VERSION,
        created_utc=WALL,
        commit="0" * 40,
        versions={"treni-route": "0.1.0"},
        host={"cpus": 2},
        model=mf.ManifestModel(
            name="treni-tiny",
            backend="numpy",
            device="cpu",
            dtype="float32",
            parameters=1,
            checkpoint_sha256="0" * 64,
        ),
        topology="local",
        suite=mf.ManifestSuite(name="core", tasks=tasks),
        runs=runs,
        seed=1,
        concurrency=1,
        idempotency=True,
        margin=0.05,
        restarts=1,
        fault_seeds=1,
        contamination={"steal_fraction": 0.10, "other_cpu_fraction": 0.25},
        side_effect_tools=("ledger_append",),
        arms=(DEFAULT.baseline, DEFAULT.compared),
        cells=cells,
        details={"suite": "core", "backend": "numpy", "model_dir": None, "toxiproxy": None},
    )


def manifest_cell(
    name: str = "p00",
    *,
    profile: str = "p00_baseline",
    arms: tuple[str, str] = ("internal", "external"),
    site: Literal["none", "hop", "host", "tool", "agent"] = "none",
) -> mf.ManifestCell:
    """One cell of a manifest."""
    return mf.ManifestCell(
        name=name,
        profile=profile,
        title=profile,
        arms=arms,
        site=site,
        policy={"retries": 1},
        schedule=None,
        schedule_hash=dict.fromkeys(arms, "0" * 16),
    )

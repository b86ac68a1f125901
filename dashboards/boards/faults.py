"""Faults and what came of them: planned, delivered and observed, retries, errors, effects, and the way back."""

from __future__ import annotations

from dashboards.charts import (
    ARM,
    BOTH,
    PROFILE,
    WINDOW,
    Annotation,
    Board,
    Chart,
    Query,
    count,
    quantiles,
    rate,
)

DELIVERED = Annotation(
    name="Faults delivered",
    expr=f"sum by (arm, hop, kind) (increase(treni_chaos_faults_delivered_total{{{BOTH}}}[{WINDOW}])) > 0",
    color="red",
)
STRUCK = Annotation(
    name="Hosts struck",
    expr=f"treni_chaos_faults_standing{{{PROFILE}}} > 0",
    color="purple",
)

BOARD = Board(
    uid="treni-faults",
    title="treni: faults and recovery",
    text="What was done to each arm, and how it took it. Windows of faults are marked in every panel.",
    annotations=(DELIVERED, STRUCK),
    rows={
        "Faults": (
            Chart(
                title="Delivered",
                text="Scheduled faults handed out, by kind.",
                queries=(rate("treni_chaos_faults_delivered_total", "arm, hop, kind", BOTH),),
                unit="ops",
            ),
            Chart(
                title="Planned and observed",
                text="By the harness: the schedule's, and those that records tell of.",
                queries=(
                    Query(
                        expr=f"sum by (arm, profile) (treni_harness_faults_planned_total{{{BOTH}}})",
                        legend="{{profile}} {{arm}} planned",
                    ),
                    Query(
                        expr=f"sum by (arm, profile) (treni_harness_faults_observed_total{{{BOTH}}})",
                        legend="{{profile}} {{arm}} observed",
                    ),
                ),
                unit="none",
            ),
            Chart(
                title="Hosts struck",
                text="Hosts that a fault stands on now.",
                queries=(
                    Query(expr=f"treni_chaos_faults_standing{{{PROFILE}}}", legend="{{profile}} {{kind}}"),
                ),
                unit="none",
            ),
            Chart(
                title="Attempts under a fault, by how they ended",
                text="ok: the fault did not keep the call from working.",
                queries=(rate("treni_agent_faults_observed_total", "arm, hop, outcome", BOTH),),
                unit="ops",
            ),
        ),
        "What they did": (
            Chart(
                title="Errors of runs",
                text="By kind.",
                queries=(count("treni_agent_run_errors_total", "arm, code, kind", BOTH),),
                unit="none",
            ),
            Chart(
                title="Errors of attempts",
                text="By hop and kind; most are retried.",
                queries=(count("treni_agent_attempt_errors_total", "arm, hop, kind", BOTH),),
                unit="none",
            ),
            Chart(
                title="Attempts for each call",
                text="1 without retries.",
                queries=(
                    Query(
                        expr=f"treni:agent_attempts:per_call_rate5m{{{ARM}}}",
                        legend="{{arm}} {{hop}}",
                    ),
                ),
                unit="none",
            ),
            Chart(
                title="Share of runs that failed",
                text="Over five minutes, as the alerts read it.",
                queries=(Query(expr=f"treni:agent_runs:errors_ratio_rate5m{{{ARM}}}", legend="{{arm}}"),),
                unit="percentunit",
            ),
        ),
        "The way back": (
            Chart(
                title="Since the last answer",
                text="For each arm that is there.",
                queries=(
                    Query(
                        expr=f"time() - max by (arm) (treni_agent_last_success_timestamp_seconds{{{BOTH}}})",
                        legend="{{arm}}",
                    ),
                ),
                unit="s",
            ),
            Chart(
                title="From the end of a host's fault until its services were back",
                text="Of faults that strike hosts.",
                queries=quantiles("treni_harness_recovery_seconds", "profile", PROFILE),
                unit="s",
            ),
        ),
        "Effects": (
            Chart(
                title="Effects by the ledger",
                text="At the end of each cell: recorded, lost, duplicate, phantom, stranger.",
                queries=(
                    Query(
                        expr=f"treni_harness_effects{{{BOTH}}}",
                        legend="{{profile}} {{arm}} {{kind}}",
                    ),
                ),
                unit="none",
            ),
            Chart(
                title="Calls answered from the ledger",
                text="Under a key that was known: a retry that did nothing twice.",
                queries=(rate("treni_tools_replayed_total", "tool"),),
                unit="ops",
            ),
        ),
    },
)

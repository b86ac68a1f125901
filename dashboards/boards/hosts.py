"""Hosts and the processes on them: who answers, and what the machine has left."""

from __future__ import annotations

from dashboards.charts import WINDOW, Board, Chart, Query, rate

BOARD = Board(
    uid="treni-hosts",
    title="treni: hosts",
    text="Which services answer, and what their machines and processes use.",
    by_arm=False,
    rows={
        "Services": (
            Chart(
                title="Answers",
                text="1: the service that is listed answers; 0: it does not.",
                queries=(Query(expr='up{job="treni"}', legend="{{role}} {{instance}}"),),
                unit="none",
                kind="states",
            ),
            Chart(
                title="Calls in progress",
                text="At each service, by hop.",
                queries=(
                    Query(
                        expr="sum by (role, hop) (treni_rpc_server_in_flight)",
                        legend="{{role}} {{hop}}",
                    ),
                ),
                unit="none",
            ),
            Chart(
                title="Tool calls",
                text="Over in a second, by outcome.",
                queries=(rate("treni_tools_calls_total", "tool, outcome"),),
                unit="ops",
            ),
            Chart(
                title="Tool calls that wait for a thread",
                text="Those that arrived less those that run.",
                queries=(
                    Query(
                        expr="sum by (tool) (treni_tools_in_flight) - sum by (tool) (treni_tools_running)",
                        legend="{{tool}}",
                    ),
                ),
                unit="none",
            ),
        ),
        "Machines": (
            Chart(
                title="Processor time",
                text="By mode, in processors. Steal is what another machine's work took.",
                queries=(
                    Query(
                        expr=f"max by (host, mode) (rate(treni_host_cpu_seconds_total[{WINDOW}]))",
                        legend="{{host}} {{mode}}",
                    ),
                ),
                unit="none",
            ),
            Chart(
                title="Load for each processor",
                text="Over a minute.",
                queries=(
                    Query(
                        expr="max by (host) (treni_host_load1 / treni_host_processors)",
                        legend="{{host}}",
                    ),
                ),
                unit="none",
            ),
            Chart(
                title="Memory",
                text="Available and all.",
                queries=(
                    Query(
                        expr="max by (host, state) (treni_host_memory_bytes)",
                        legend="{{host}} {{state}}",
                    ),
                ),
                unit="bytes",
            ),
        ),
        "Processes": (
            Chart(
                title="Processor time of processes",
                text="In processors.",
                queries=(rate("process_cpu_seconds_total", "host, role", 'job="treni"'),),
                unit="none",
            ),
            Chart(
                title="Memory of processes",
                text="Resident.",
                queries=(
                    Query(
                        expr='process_resident_memory_bytes{job="treni"}',
                        legend="{{host}} {{role}}",
                    ),
                ),
                unit="bytes",
            ),
        ),
    },
)

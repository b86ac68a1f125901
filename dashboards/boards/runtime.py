"""The engine: what waits and runs, tokens and their pace, stages, the KV cache, and the GPU."""

from __future__ import annotations

from dashboards.charts import WINDOW, Board, Chart, Query, quantiles, rate

BOARD = Board(
    uid="treni-runtime",
    title="treni: runtime",
    text="What the engine does, and what it waits for.",
    by_arm=False,
    rows={
        "Load": (
            Chart(
                title="Generations",
                text="Over in a second, by outcome.",
                queries=(rate("treni_runtime_requests_total", "role, outcome"),),
                unit="reqps",
            ),
            Chart(
                title="Waiting and running",
                text="Requests without a row, and with one.",
                queries=(
                    Query(expr="treni_runtime_queue_depth", legend="{{role}} waiting"),
                    Query(expr="treni_runtime_in_flight", legend="{{role}} running"),
                ),
                unit="none",
            ),
        ),
        "Latency": (
            Chart(
                title="Time to first token",
                text="From an answer's arrival.",
                queries=quantiles("treni_runtime_first_token_seconds", "role"),
                unit="s",
            ),
            Chart(
                title="Between two tokens",
                text="The mean of each answer.",
                queries=quantiles("treni_runtime_inter_token_seconds", "role"),
                unit="s",
            ),
            Chart(
                title="Decode steps",
                text="Over every sequence that runs.",
                queries=quantiles("treni_runtime_decode_step_seconds", "role"),
                unit="s",
            ),
            Chart(
                title="Tokens generated",
                text="For answers, in a second.",
                queries=(rate("treni_runtime_completion_tokens_total", "role"),),
                unit="none",
            ),
        ),
        "Stages": (
            Chart(
                title="Seconds of answers by stage",
                text="For each second.",
                queries=(rate("treni_runtime_stage_seconds_sum", "role, stage"),),
                unit="percentunit",
            ),
            Chart(
                title="What no stage claims",
                text="Share of the time of answers.",
                queries=(
                    Query(
                        expr=f"1 - sum by (role) (rate(treni_runtime_stage_seconds_sum[{WINDOW}]))"
                        f" / sum by (role) (rate(treni_runtime_answer_seconds_sum[{WINDOW}]))",
                        legend="{{role}}",
                    ),
                ),
                unit="percentunit",
            ),
            Chart(
                title="Cold start",
                text="The process's start by stage.",
                queries=(Query(expr="treni_runtime_cold_start_seconds", legend="{{role}} {{stage}}"),),
                unit="s",
                kind="stat",
            ),
        ),
        "Cache": (
            Chart(
                title="Prompt tokens found in a KV slot",
                text="Share of the prompts' tokens.",
                queries=(
                    Query(
                        expr=f"sum by (role) (rate(treni_runtime_cached_prompt_tokens_total[{WINDOW}]))"
                        f" / sum by (role) (rate(treni_runtime_prompt_tokens_total[{WINDOW}]))",
                        legend="{{role}}",
                    ),
                ),
                unit="percentunit",
            ),
            Chart(
                title="Slots",
                text="With an owner, and all.",
                queries=(
                    Query(expr="treni_runtime_slots_in_use", legend="{{role}} in use"),
                    Query(expr="treni_runtime_slots", legend="{{role}} all"),
                ),
                unit="none",
            ),
        ),
        "GPU": (
            Chart(
                title="Memory",
                text="Used and all.",
                queries=(
                    Query(
                        expr="max by (host, gpu, state) (treni_host_gpu_memory_bytes)",
                        legend="{{host}} {{gpu}} {{state}}",
                    ),
                ),
                unit="bytes",
                requires="gpu",
            ),
            Chart(
                title="Power",
                text="What each GPU draws.",
                queries=(
                    Query(expr="max by (host, gpu) (treni_host_gpu_power_watts)", legend="{{host}} {{gpu}}"),
                ),
                unit="watt",
                requires="gpu",
            ),
            Chart(
                title="Use",
                text="Share of time in which a kernel ran.",
                queries=(
                    Query(
                        expr="max by (host, gpu) (treni_host_gpu_utilization_ratio)",
                        legend="{{host}} {{gpu}}",
                    ),
                ),
                unit="percentunit",
                requires="gpu",
            ),
        ),
    },
)

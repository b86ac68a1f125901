"""Arms side by side: the ratio with its interval, the verdict, latency, errors, and where the time goes."""

from __future__ import annotations

from dashboards.charts import BOTH, PROFILE, Board, Chart, Query, quantiles, rate

BOARD = Board(
    uid="treni-routing",
    title="treni: routing",
    text="Whether routing inside or outside is faster, by now, and what each arm does.",
    rows={
        "What may be said by now": (
            Chart(
                title="Ratio of mean latencies, with its interval",
                text="Compared arm over baseline. 1: no difference. A bound that the data do not give is infinite.",
                queries=(
                    Query(expr=f"treni_harness_latency_ratio{{{PROFILE}}}", legend="{{profile}} {{bound}}"),
                ),
                unit="none",
            ),
            Chart(
                title="Verdict on latency",
                text="What the pairs support so far; the report judges once all of them ran.",
                queries=(
                    Query(
                        expr=f"treni_harness_verdict{{{PROFILE}}} == 1",
                        legend="{{profile}} {{verdict}}",
                    ),
                ),
                unit="none",
                kind="states",
            ),
            Chart(
                title="Mean paired difference, with its interval",
                text="Compared arm minus baseline.",
                queries=(
                    Query(
                        expr=f"treni_harness_latency_difference_seconds{{{PROFILE}}}",
                        legend="{{profile}} {{bound}}",
                    ),
                    Query(expr="treni_harness_floor_seconds", legend="A/A floor"),
                ),
                unit="s",
            ),
            Chart(
                title="Pairs complete",
                text="Of those that the plan has.",
                queries=(
                    Query(
                        expr=f"treni_harness_pairs_complete{{{PROFILE}}} / treni_harness_pairs_planned{{{PROFILE}}}",
                        legend="{{profile}}",
                    ),
                ),
                unit="percentunit",
                kind="stat",
            ),
        ),
        "Requests, as the client saw them": (
            Chart(
                title="Requests",
                text="Ended in a second, by arm and outcome.",
                queries=(rate("treni_harness_requests_total", "arm, outcome", BOTH),),
                unit="reqps",
            ),
            Chart(
                title="Latency",
                text="To the end, answer or error.",
                queries=quantiles("treni_harness_request_seconds", "arm", BOTH),
                unit="s",
            ),
            Chart(
                title="Time to first text",
                text="Of requests that had an answer.",
                queries=quantiles("treni_harness_first_text_seconds", "arm", BOTH),
                unit="s",
            ),
            Chart(
                title="In flight",
                text="Requests in progress.",
                queries=(Query(expr=f"sum by (arm) (treni_harness_in_flight{{{BOTH}}})", legend="{{arm}}"),),
                unit="none",
            ),
        ),
        "Where the time goes": (
            Chart(
                title="Seconds of runs by part",
                text="Loop, backoff and hops, for each second.",
                queries=(rate("treni_agent_part_seconds_total", "arm, part", BOTH),),
                unit="percentunit",
            ),
            Chart(
                title="Hops, from the caller",
                text="Through proxies, where there are any.",
                queries=quantiles("treni_rpc_client_request_seconds", "arm, hop", BOTH),
                unit="s",
            ),
            Chart(
                title="Hops, at the server",
                text="What is left of the caller's time is the way there and back.",
                queries=quantiles("treni_rpc_server_request_seconds", "arm, hop", BOTH),
                unit="s",
            ),
            Chart(
                title="Tokens",
                text="Prompt, of those found in a KV slot, and completion.",
                queries=(rate("treni_agent_tokens_total", "arm, kind", BOTH),),
                unit="none",
            ),
        ),
        "How well the harness measures": (
            Chart(
                title="Pacing error",
                text="How late the harness came to moments that it had waited for.",
                queries=quantiles("treni_harness_pacing_error_seconds", "job"),
                unit="s",
            ),
            Chart(
                title="Gap within pairs",
                text="Between the two requests of a pair, which are to be back to back.",
                queries=quantiles("treni_harness_pair_gap_seconds", "job"),
                unit="s",
            ),
        ),
    },
)

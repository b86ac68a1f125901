"""Every metric as docs/metrics.md lists it: `python -m matrices.cli.metrics_markdown > docs/metrics.md`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chaos.metrics import DeliveryMetrics
from controller.metrics import RunMetrics
from matrices.running.metrics import HarnessMetrics
from runtime_svc.metrics import RuntimeMetrics
from tools_svc.metrics import ToolMetrics
from treni.metrics import MOST_KINDS, SECONDS, TRACE_ID, Described, Page
from treni.metrics_host import add_machine
from treni.metrics_rpc import ClientMetrics, ServerMetrics

_PARTS: tuple[tuple[str, str, tuple[Callable[[Page], Any], ...]], ...] = (
    (
        "Hops",
        "Of every process at either end of one, counted where servers and channels are made (`treni/metrics_rpc.py`): "
        "hop is agent, model or tool. What a server refuses before a service sees it is counted too.",
        (ServerMetrics, ClientMetrics),
    ),
    (
        "Agents",
        "Of the controller, the internal arm and an agent of your own, from the record of each run; calls within the "
        "process are attempts like those over a hop.",
        (RunMetrics,),
    ),
    ("Tools", "Of every process that hosts tools, whoever calls them.", (ToolMetrics,)),
    ("Faults", "Of whoever hands scheduled faults out.", (DeliveryMetrics,)),
    (
        "Runtime",
        "Of the engine. The outcome of a request is ok, refused (wrong, or one too many), cancelled or failed.",
        (RuntimeMetrics,),
    ),
    (
        "Harness",
        "Of `treni-route matrix`: its history as counts, and after each block what the report would say of it by now. "
        "The profile is the cell's name; the A/A cell is `aa`.",
        (HarnessMetrics,),
    ),
    (
        "Machine",
        "Of every process, with Prometheus's own `process_*`: read when the page is. GPUs need NVML and the package "
        "`nvidia-ml-py` (extra `cupy`); without them there is no such series.",
        (add_machine,),
    ),
)

_HEAD = f"""# Metrics

Written by `python -m matrices.cli.metrics_markdown`; a test compares the two. How to run Prometheus on them, what the
alerts mean and where the dashboards are: [observability.md](observability.md). What they cost:
[metrics-overhead.md](metrics-overhead.md).

Off unless asked for: `treni-route serve ROLE --metrics-port 9400` and `treni-route matrix ... --metrics-port 9400` have
a page of them on the loopback interface; 0 picks a free port, and the line of JSON (`metrics`) or a note on stderr says
which. A harness with metrics gives the services that `--topology local` starts some too, and lists all of them in the
file of `--metrics-targets` while they are there. `treni-route serve runtime --http` has the engine's own at `/metrics`.

Times are in seconds, counts end in `_total`. Labels have few values: arm, profile, hop, tool, outcome, gRPC code, kind
of error; never a run, a task or a text. Without a testbed the profile is empty. Kinds of error that a foreign server
makes up count as `other` once there are {MOST_KINDS}. Histograms have {len(SECONDS)} bounds from
{SECONDS[0] * 1e6:g} µs to {SECONDS[-1]:g} s; there are no native ones: `prometheus-client`'s `Histogram` makes none.
Requests have exemplars with the label `{TRACE_ID}` where a trace is in progress, for a scraper that takes OpenMetrics.
"""


def page() -> str:
    """All of docs/metrics.md."""
    return _HEAD + "".join(_section(title, text, parts) for title, text, parts in _PARTS)


def described() -> list[Described]:
    """Every metric there is."""
    every = Page()
    for _, _, parts in _PARTS:
        for part in parts:
            part(every)
    return every.described


def _section(title: str, text: str, parts: tuple[Callable[[Page], Any], ...]) -> str:
    of = Page()
    for part in parts:
        part(of)
    rows = "".join(f"| `{m.name}` | {m.type} | {', '.join(m.labels)} | {m.text} |\n" for m in of.described)
    return (
        f"\n## {title}\n\n{text}\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n{rows}"
    )


if __name__ == "__main__":
    print(page(), end="")

"""What was run: suite, sizes, model and commit."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.evidence.manifest import networks_of
from matrices.evidence.outside import endpoint_of, own_agent_of, told_of
from matrices.report.document import Part, code, paragraph, strong
from matrices.report.figures import Figures


def parts(figures: Figures) -> Iterator[Part]:
    """A paragraph with what a campaign of the same figures would have to be asked for."""
    m = figures.manifest
    under = f" under each of {m.fault_seeds} fault seeds" if m.fault_seeds > 1 else ""
    under += f" in {m.restarts} groups with processes of their own" if m.restarts > 1 else ""
    several = m.replicas
    yield paragraph(
        "Suite ",
        code(m.suite.name),
        f", {m.runs} runs{under}, seed {m.seed}, concurrency {m.concurrency}, topology ",
        code(m.topology),
        f" with {several.controllers} controllers and {several.tool_services} tool services"
        if several.several
        else "",
        f", sent by {m.workers} processes" if m.workers > 1 else "",
        f", idempotency keys {'on' if m.idempotency else 'off'}"
        f"{'' if m.details.get('fencing', True) else ', fencing off'}"
        f"{', tool calls held to their schemas' if m.details.get('constrain_calls') else ''}. Model ",
        code(m.model.name),
        f" on {m.model.backend} ({m.model.device}), checkpoint ",
        code(m.model.checkpoint_sha256[:12]),
        ". Commit ",
        code(m.commit[:12]),
        ".",
    )
    if endpoint := endpoint_of(m):
        told = told_of(m)
        yield paragraph(
            "Endpoint ",
            code(endpoint.url),
            ", model ",
            code(endpoint.model),
            *(() if told is None else (", which says it is ", code(told.model))),
            *(() if told is None or not told.fingerprint else (", fingerprint ", code(told.fingerprint))),
            ".",
        )
    if agent := own_agent_of(m):
        yield paragraph("Own agent: ", code(agent.words), ".")
    if networks := networks_of(m):
        ways = "; ".join(f"the {hop} hop {one.name}, {one.words}" for hop, one in networks.items())
        yield paragraph(
            strong("Emulated network: "),
            f"{ways}. All services ran on one machine; their proxies made each round trip so long.",
        )

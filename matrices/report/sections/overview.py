"""What was run: suite, sizes, model and commit."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part, code, paragraph
from matrices.report.figures import Figures


def parts(figures: Figures) -> Iterator[Part]:
    """A paragraph with what a campaign of the same figures would have to be asked for."""
    m = figures.manifest
    under = f" under each of {m.fault_seeds} fault seeds" if m.fault_seeds > 1 else ""
    under += f" in {m.restarts} groups with processes of their own" if m.restarts > 1 else ""
    yield paragraph(
        "Suite ",
        code(m.suite.name),
        f", {m.runs} runs{under}, seed {m.seed}, concurrency {m.concurrency}, topology ",
        code(m.topology),
        f", idempotency keys {'on' if m.idempotency else 'off'}"
        f"{'' if m.details.get('fencing', True) else ', fencing off'}. Model ",
        code(m.model.name),
        f" on {m.model.backend} ({m.model.device}), checkpoint ",
        code(m.model.checkpoint_sha256[:12]),
        ". Commit ",
        code(m.commit[:12]),
        ".",
    )

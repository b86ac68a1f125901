"""The whole resolved configuration of a campaign, as its manifest has it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from matrices.evidence.manifest import dump_manifest
from matrices.report.document import Part, Verbatim
from matrices.report.figures import Figures


def parts(figures: Figures) -> Iterator[Part]:
    """The manifest: what was asked for, with versions, machine, model and every profile in full."""
    told = json.loads(dump_manifest(figures.manifest))
    yield Verbatim(name="manifest.json", text=json.dumps(told, ensure_ascii=False, indent=2) + "\n")

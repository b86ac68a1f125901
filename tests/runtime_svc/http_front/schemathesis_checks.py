"""A check of schemathesis: what the description allows is refused for what it means, never for its form."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

OF_FORM = frozenset(
    {
        "invalid_type",
        "invalid_value",
        "json_invalid",
        "missing_required_parameter",
        "unsupported_parameter",
        "unsupported_value",
    }
)
"""Codes of what a schema can say; how parameters go together, it cannot."""


@schemathesis.check
def refused_for_its_meaning_only(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Holds a refusal of a body that fits the description to a code that is none of form."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code != 400:
        return
    code = response.json()["error"]["code"]
    assert code not in OF_FORM, f"the description allows what is refused as {code}"

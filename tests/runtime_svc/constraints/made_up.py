"""JSON schemas that are drawn, for answers that have to fit them."""

from __future__ import annotations

import random
from typing import Any


def made_up(draw: random.Random, levels: int) -> dict[str, Any]:
    """A schema whose documents end soon, with at most so many `levels` of objects and arrays."""
    leaves: list[dict[str, Any]] = [
        {"type": "boolean"},
        {"type": "null"},
        {"enum": ["red", "green", 3, None]},
        {"const": {"a": [1, 2]}},
        {"type": "integer", "minimum": draw.randint(-5, 0), "maximum": draw.randint(1, 50)},
        {"type": "number", "minimum": 0, "maximum": 2, "multipleOf": 0.5},
        {"type": "string", "maxLength": draw.randint(0, 8)},
        {"type": "string", "pattern": "^[a-f]{1,4}$"},
        {"type": "string", "format": "date"},
        {"$ref": "#/$defs/pair"},
    ]
    kind = draw.randrange(4)
    if levels == 0 or kind == 0:
        return draw.choice(leaves)
    if kind == 1:
        size = draw.randint(0, 2)
        return {"type": "array", "items": made_up(draw, levels - 1), "minItems": size, "maxItems": size + 1}
    if kind == 2:
        return {"anyOf": [made_up(draw, levels - 1), made_up(draw, levels - 1)]}
    names = draw.sample(["id", "name", "größe", "x y", "flag"], draw.randint(0, 3))
    properties = {name: made_up(draw, levels - 1) for name in names}
    return {"type": "object", "properties": properties, "required": names[:2], "additionalProperties": False}


PAIR = {
    "type": "array",
    "prefixItems": [{"type": "boolean"}, {"type": "null"}],
    "items": False,
    "minItems": 2,
}

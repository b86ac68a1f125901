"""What a planted bug is: one line of the product changed, and what has to notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True, slots=True)
class Tests:
    """pytest on `nodes`: one of them, by its whole node id without parameters, must fail."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """A campaign of one profile, then `check` on its folder: a finding of one of the kinds must be printed.

    `rules` are the profile's fault rules in TOML and `suite` the name of one of `campaigns.SUITES`; `arguments` go
    to `matrix`.
    """

    kinds: tuple[str, ...]
    suite: str
    rules: str = ""
    site: str = "hop"
    retries: int = 1
    arguments: tuple[str, ...] = ()


Sight: TypeAlias = Tests | Campaign


@dataclass(frozen=True, kw_only=True, slots=True)
class Bug:
    """`old`, which stands exactly once in `file`, replaced by `new`. `breaks` says what it does, for the table."""

    name: str
    file: str
    old: str
    new: str
    breaks: str
    seen_by: Sight

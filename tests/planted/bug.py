"""What a planted bug is: one line of the product changed, and what has to notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(frozen=True, kw_only=True, slots=True)
class Tests:
    """pytest on `nodes`, whole node ids without parameters."""

    __test__: ClassVar[bool] = False  # pytest would take the class for one of its own

    nodes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """A campaign of one profile, then `check` on its folder.

    `rules` are the profile's fault rules in TOML and `suite` the name of one of `campaigns.SUITES`; `arguments` go
    to `matrix`.
    """

    suite: str
    rules: str = ""
    site: str = "hop"
    retries: int = 1
    arguments: tuple[str, ...] = ()


Command: TypeAlias = Tests | Campaign


@dataclass(frozen=True, kw_only=True, slots=True)
class Bug:
    """`old`, which stands exactly once in `file`, replaced by `new`; `breaks` says what that does.

    `seen_by` notices it by a test among its nodes that fails, or a finding of one of `kinds` that it prints.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str
    seen_by: Command
    kinds: tuple[str, ...] = ()

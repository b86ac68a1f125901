"""Regions: where the hosts of a campaign stand, and what is declared of the ways between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Annotated, Any

import pydantic
from pydantic import Field, model_validator

from matrices.spec.networks import Network, network
from matrices.spec.rules import duration_text
from treni.errors import Code, TreniError


class Way(Network):
    """The way between two regions: a network profile by name, or its figures."""

    between: Annotated[tuple[str, str], Field(strict=False)] = Field(description="The two regions.")
    profile: str = Field(
        default="", description="A network profile, by name or path: it gives the figures that are not here."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_profile(cls, data: Any) -> Any:
        """The figures of the profile that is named, where the file has none of its own: the manifest keeps both."""
        if not isinstance(data, dict) or not data.get("profile") or "rtt" in data:
            return data
        named = network(str(data["profile"]))
        figures = {
            "rtt": duration_text(named.rtt),
            "jitter": duration_text(named.jitter),
            "loss": named.loss,
        }
        return {**figures, **data, "profile": named.name}


class Regions(pydantic.BaseModel):
    """Which region each place is in, and the ways between them. `here` is the harness's."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    here: str
    roles: Mapping[str, str]
    ways: tuple[Way, ...]

    def between(self, one: str, other: str) -> Way | None:
        """What is declared between two regions, in either order; None within a region of which nothing is said."""
        return next((way for way in self.ways if sorted(way.between) == sorted((one, other))), None)


def longest_s(placement: Mapping[str, Any]) -> float:
    """Seconds of the longest round trip that a topology's settings declare; 0 where they declare none.

    Raises `TreniError` for ways that no file of hosts can have.
    """
    hosts = placement.get("hosts", {})
    ways = hosts.get("network", ()) if isinstance(hosts, Mapping) else ()
    try:
        return max((Way.model_validate(way).most_s for way in ways), default=0.0)
    except (pydantic.ValidationError, TypeError) as error:
        raise TreniError(
            Code.DATA_LOSS,
            "manifest_malformed",
            expected="ways between regions in details.placement.hosts.network",
            got=str(error)[:200],
            todo="restore the manifest; it was edited",
            definite=True,
        ) from None


def refuse_undeclared(named: Iterable[str | None], ways: Iterable[Way]) -> None:
    """Raises ValueError unless every place has a region or none has, and each two regions have one way between them."""
    places = list(named)
    regions = sorted({one for one in places if one is not None})
    pairs = [tuple(sorted(way.between)) for way in ways]
    if not regions and not pairs:
        return
    if None in places:
        raise ValueError(
            "expected a region for every service, and at the top of the file one for the harness, where any is named"
        )
    for pair in pairs:
        if pairs.count(pair) > 1:
            raise ValueError(f"expected one way between {' and '.join(pair)}, got more")
        for region in pair:
            if region not in regions:
                raise ValueError(
                    f"expected a way between regions in the file, got {region!r}, where nothing is"
                )
    for pair in combinations(regions, 2):
        if pair not in pairs:
            raise ValueError(f"expected a [[network]] between {' and '.join(pair)}, got none")

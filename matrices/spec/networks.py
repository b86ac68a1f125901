"""Network profiles: how far apart two places are, as declared. TOML files, parsed once into frozen values."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Self

import pydantic
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from chaos.faults import Hop
from matrices.spec.rules import DURATION_SCHEMA, WITH_UNITS, Strict, parse_duration_s
from treni.errors import invalid_argument
from treni.text_files import read_text

MOST_RTT_S = 10.0

HOPS: tuple[Hop, ...] = ("model", "tool")
"""The hops on which a network can be emulated: those of an arm, which go through proxies in every profile."""


def _parse(value: object, info: ValidationInfo) -> float:
    return parse_duration_s(value, info)


_Duration = Annotated[
    float,
    BeforeValidator(_parse),
    PlainSerializer(float),
    Field(ge=0, le=MOST_RTT_S),
    WithJsonSchema(DURATION_SCHEMA, mode="validation"),
]


class Network(Strict):
    """What is declared of the way between two places."""

    rtt: _Duration = Field(description="The round trip.")
    jitter: _Duration = Field(
        default=0.0, description="By how much a round trip is longer or shorter at most."
    )
    loss: float = Field(default=0.0, ge=0, lt=1, description="The share of packets that is lost.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.rtt <= 0:
            raise ValueError(f"expected a round trip over 0, got {self.rtt:g} s")
        if self.jitter > self.rtt:
            raise ValueError(f"expected a jitter of at most the round trip, got {self.jitter:g} s")
        return self

    @property
    def least_s(self) -> float:
        """Seconds of the shortest round trip."""
        return self.rtt - self.jitter

    @property
    def most_s(self) -> float:
        """Seconds of the longest round trip on which nothing is lost."""
        return self.rtt + self.jitter

    @property
    def words(self) -> str:
        """The figures, such as "67 ms ± 2 ms"."""
        return (
            f"{self.rtt * 1e3:g} ms"
            + (f" ± {self.jitter * 1e3:g} ms" if self.jitter else "")
            + (f", {self.loss:.3g} of packets lost" if self.loss else "")
        )


class NetworkProfile(Network):
    """A network by name: the content of a file, and what a manifest keeps of it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="Its name, that of its file.")
    title: str = Field(min_length=1, description="Between what it lies, in a line.")


def load_network(path: Path) -> NetworkProfile:
    """The network profile in a TOML file. Raises INVALID_ARGUMENT naming the file and the key."""
    try:
        data = tomllib.loads(read_text(path, what="a network profile"))
    except (ValueError, RecursionError) as error:
        raise invalid_argument(
            "network_syntax", expected=f"TOML in {path}", got=str(error), todo="correct the file"
        ) from None
    try:
        return NetworkProfile.model_validate(data, context=WITH_UNITS)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise invalid_argument(
            "network_invalid",
            expected=f"a network profile in {path}, as docs/networks.md describes it",
            got=f"{key}: {first['msg']}" if key else first["msg"],
            todo="correct it",
        ) from None


def bundled_networks() -> dict[str, NetworkProfile]:
    """The network profiles that ship with the package by name, the shortest way first."""
    with resources.as_file(resources.files("matrices") / "networks") as folder:
        every = [load_network(path) for path in folder.glob("*.toml")]
    return {one.name: one for one in sorted(every, key=lambda one: (one.rtt, one.loss))}


def network(text: str) -> NetworkProfile:
    """The profile of that name, or in that .toml file. Raises INVALID_ARGUMENT."""
    if text.endswith(".toml"):
        return load_network(Path(text))
    bundled = bundled_networks()
    if text not in bundled:
        raise invalid_argument(
            "network_unknown",
            expected=f"one of {', '.join(bundled)}, or a path to a .toml file",
            got=repr(text),
            todo="`treni-route networks` lists them",
        )
    return bundled[text]


def parse_networks(text: str) -> dict[Hop, NetworkProfile]:
    """The network of each hop in what a user asked for: `NAME` for every hop, or `HOP=NAME,...` for some.

    Raises INVALID_ARGUMENT.
    """
    if "=" not in text:
        return dict.fromkeys(HOPS, network(text))
    found: dict[Hop, NetworkProfile] = {}
    for part in text.split(","):
        name, _, asked = part.strip().partition("=")
        hop = next((one for one in HOPS if one == name), None)
        if hop is None or hop in found:
            raise invalid_argument(
                "network_hop",
                expected=f"each hop at most once, of {', '.join(HOPS)}",
                got=repr(part),
                todo="write --network NAME, or such as --network model=eu-us,tool=lan",
            )
        found[hop] = network(asked)
    return found


def named(networks: Iterable[tuple[str, str]]) -> str:
    """Networks by hop in few words: "eu-us" where all are alike, else "model=eu-us tool=lan"."""
    pairs = list(networks)
    names = dict.fromkeys(name for _, name in pairs)
    if len(names) == 1 and len(pairs) == len(HOPS):
        return next(iter(names))
    return " ".join(f"{hop}={name}" for hop, name in pairs)

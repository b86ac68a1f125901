"""Failure profiles: TOML files, parsed once into frozen values, and their selection by name.

A profile says what the controller's policy is and which faults the schedule puts where. An unknown key, a bad
unit or an impossible value is an error that names the file, the key and what is allowed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Self

import pydantic
from pydantic import Field, model_validator

from chaos.faults import Hop, Site
from chaos.schedule import By
from matrices.spec.rules import BROKEN, RULES, WITH_UNITS, AnyRule, BurstSpec, Duration, RuleSpec, Strict
from treni.errors import TreniError, invalid_argument
from treni.text_files import read_text


class PolicySpec(Strict):
    """Limits and retries that the controller has for a request."""

    run_timeout: Duration = Field(default=30.0, description="Deadline of the whole request.")
    model_timeout: Duration = Field(default=20.0, description="Limit of one attempt at the model.")
    tool_timeout: Duration = Field(default=0.25, description="Limit of one attempt at a tool.")
    retries: int = Field(default=1, ge=0, le=10, description="How often one call is tried again.")
    backoff_initial: Duration = Field(default=0.1, description="Wait before the first retry.")
    backoff_max: Duration = Field(default=2.0, description="What the growing wait is capped at.")
    backoff_multiplier: float = Field(
        default=2.0, ge=1, le=10, description="What each further wait is multiplied by."
    )
    backoff_jitter: float = Field(
        default=0.2, ge=0, lt=1, description="Each wait is drawn between 1 - this and 1 + this times itself."
    )


class FaultsSpec(Strict):
    """Where faults strike and how they are counted."""

    site: Site = Field(
        default="hop",
        description="`hop`: the connection, in arms that have one; `tool`: the tool, in every arm alike; `host`: the "
        "host behind the hop or the link to it, for everybody, as a request makes its first call there. "
        "Of rules on another hop than the tool's `tool` means `hop`.",
    )
    hop: Hop = Field(
        default="tool",
        description="Which hop; a rule may name another. `tool` and `model`: an arm's calls of its tools and its "
        "model, where it makes them over a connection; `agent`: the client's call of any arm, which nobody tries "
        "again.",
    )
    by: By = Field(
        default="attempt",
        description="`attempt`: one counter over the hop's attempts, retries included, exact for one request at a "
        "time. `request`: planned by request, call and attempt, the same at any concurrency.",
    )
    warmup: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="By attempt: how many numbers are used up before the first request.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="By request: keys the draws; `--fault-seeds` counts up from it.",
    )
    rules: tuple[AnyRule, ...] = Field(
        default=(),
        strict=False,
        description="`[[faults.rules]]`, tried in order: the first that strikes wins.",
    )

    @property
    def hops(self) -> tuple[Hop, ...]:
        """The hops that its rules stand on, in their order; its own where it has no rules."""
        return tuple(dict.fromkeys(self.hop_of(rule) for rule in self.rules)) or (self.hop,)

    def hop_of(self, rule: RuleSpec) -> Hop:
        """The hop that the rule stands on."""
        return self.hop if rule.hop is None else rule.hop

    def site_of(self, hop: Hop) -> Site:
        """Where faults on that hop strike: there is a tool only behind the tool hop, and a host behind each."""
        return self.site if hop == "tool" or self.site == "host" else "hop"

    @model_validator(mode="after")
    def _can_be_planned(self) -> Self:
        if self.site == "tool" and self.hop != "tool":
            raise ValueError(f'hop: expected "tool" with site = "tool"; got "{self.hop}"')
        if self.site == "host" and self.by == "attempt":
            raise ValueError(
                'site: "host" is planned by request; expected by = "request", got by = "attempt"'
            )
        for number, rule in enumerate(self.rules):
            if self.by == "attempt" and rule.keys_by_request():
                keys = ", ".join(f"rules.{number}.{key}" for key in rule.keys_by_request())
                raise ValueError(f'{keys}: planned by request; expected by = "request", got by = "attempt"')
            if self.by == "attempt" and self.hop_of(rule) == "agent":
                where = f"rules.{number}.hop" if rule.hop is not None else "hop"
                raise ValueError(
                    f'{where}: "agent" is planned by request; expected by = "request", got by = "attempt"'
                )
            site, sites = self.site_of(self.hop_of(rule)), rule.fault.sites
            if site not in sites:
                allowed = " or ".join(sorted(sites))
                raise ValueError(
                    f"rules.{number}.kind: {rule.kind} acts at site {allowed} only; it stands at site {site}"
                )
        return self


class Profile(Strict):
    """One cell of the matrix."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$",
        max_length=128,  # it is a folder's name, and a part of run ids
        description="Words of lower-case letters and digits joined by `_`; the first names the cell.",
    )
    title: str = Field(min_length=1, description="What the report says of it.")
    policy: PolicySpec = Field(default=PolicySpec(), description="What the controller may spend, below.")
    faults: FaultsSpec = Field(default=FaultsSpec(), description="Which faults strike where, below.")

    twin: str = Field(
        default="",
        pattern=r"^[a-z]?$",
        description="A letter: the profile is there a second time, with the letter after its short name and its "
        "faults on the tool hop at the other `site`: `p01t`, or `mine.toml:t` for a file of your own.",
    )

    @model_validator(mode="after")
    def _has_another_site(self) -> Self:
        if self.twin and self.faults.site == "host":
            raise ValueError('twin: expected none with site = "host", whose faults strike whoever is there')
        return self

    @property
    def short(self) -> str:
        """The name's first part, such as "p03": what selections and cells go by."""
        return self.name.split("_", 1)[0]


_OTHER_SITE: dict[Site, Site] = {"hop": "tool", "tool": "hop"}
_AT_SITE: dict[Site, str] = {
    "tool": "at the tool itself, so both arms meet it",
    "hop": "on the hop, which not every arm has",
}


def load_profile(path: Path) -> Profile:
    """The profile in a TOML file, its twin aside; see `load_profiles`."""
    return load_profiles(path)[0]


def load_profiles(path: Path) -> list[Profile]:
    """The profile in a TOML file and the twin that its key `twin` asks for.

    Raises INVALID_ARGUMENT naming the file, the key and what is allowed, also for a twin whose faults cannot strike at
    the other site.
    """
    try:
        data = tomllib.loads(read_text(path, what="a profile"))
    except (ValueError, RecursionError) as error:  # also of a number with thousands of digits
        raise invalid_argument(
            "profile_syntax", expected=f"TOML in {path}", got=str(error), todo="correct the file"
        ) from None
    profile = validated(data, str(path), context=WITH_UNITS)
    alone = profile.model_copy(update={"twin": ""})
    if profile.twin == "":
        return [alone]
    head, underscore, rest = profile.name.partition("_")
    site = _OTHER_SITE[profile.faults.site]
    resolved = alone.model_dump()
    resolved |= {
        "name": f"{head}{profile.twin}{underscore}{rest}",
        "title": f"{profile.title}; {_AT_SITE[site]}",
        "faults": {**resolved["faults"], "site": site},
    }
    return [alone, validated(resolved, f"{path}, as twin = {profile.twin!r} asks for it")]


def validated(data: object, source: str, *, context: object = None) -> Profile:
    """The profile in parsed TOML or JSON. Raises INVALID_ARGUMENT naming `source`, the key and what is allowed.

    With the context `WITH_UNITS` a duration without a unit is refused.
    """
    try:
        return Profile.model_validate(data, context=context)
    except pydantic.ValidationError as error:
        raise _readable(error, source) from None


def _readable(error: pydantic.ValidationError, source: str) -> TreniError:
    problems = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"]) or "(top level)"
        if item["type"] == "extra_forbidden":
            problems.append(f"{key}: unknown key; allowed here: {', '.join(_allowed_keys(item['loc']))}")
        else:
            said = item["msg"].removeprefix("Value error, ")
            # Our own messages say what they got, and a whole table says nothing that the message does not.
            told = item["type"] == "value_error" or isinstance(item["input"], dict)
            problems.append(f"{key}: {said}" + ("" if told else f"; got {_shown(item['input'])}"))
            broken = BROKEN.get(str(item.get("ctx", {}).get("tag")))
            problems += [] if broken is None else [str(broken)]
    return invalid_argument(
        "profile_invalid",
        expected=f"a valid profile in {source}",
        got="; ".join(problems),
        todo="correct those keys",
    )


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number with thousands of digits
        return "a number too long to print"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[Strict] = Profile
    if location[:1] == ("policy",):
        model = PolicySpec
    elif location[:2] == ("faults", "rules"):
        model = BurstSpec if "burst" in location else RULES[str(location[3])]
    elif location[:1] == ("faults",):
        model = FaultsSpec
    return list(model.model_fields)


def bundled_profiles() -> dict[str, Profile]:
    """The profiles that ship with the package, their twins among them, by short name, in order."""
    return {profile.short: profile for profile in distinct(chain.from_iterable(_bundled_files()))}


def _bundled_files() -> list[list[Profile]]:
    """The profiles that ship with the package by file: each with its twin."""
    with resources.as_file(resources.files("matrices") / "profiles") as folder:
        return [load_profiles(path) for path in sorted(folder.glob("*.toml"))]


def select_profiles(selection: str) -> list[Profile]:
    """The profiles that a selection names, in its order, each once.

    A selection is a comma-separated list of short names (`p00`), full names (`p03_mixed_moderate`), ranges
    (`p00..p05`, `p01t..p05t`), paths to TOML files, and for the twin of such a file its path and letter
    (`mine.toml:t`).
    """
    bundled = bundled_profiles()
    return distinct(
        [profile for part in selection.split(",") for profile in _select_one(part.strip(), bundled)]
    )


def distinct(profiles: Iterable[Profile]) -> list[Profile]:
    """The profiles in their order, each once. Raises INVALID_ARGUMENT if two that differ would share a cell's name."""
    chosen: dict[str, Profile] = {}
    for profile in profiles:
        if chosen.setdefault(profile.short, profile) != profile:
            raise invalid_argument(
                "profile_ambiguous",
                expected="profiles with different short names",
                got=f"{chosen[profile.short].name} and {profile.name}",
                todo="rename one of them: its name up to the first underscore is the cell's name",
            )
    return list(chosen.values())


def _twin_in(path: Path, letter: str) -> Profile:
    profile, *twins = load_profiles(path)
    for twin in twins:
        if twin.short == profile.short + letter:
            return twin
    letters = " or ".join(twin.short.removeprefix(profile.short) for twin in twins)
    raise invalid_argument(
        "profile_unknown",
        expected=f"{path} with twin = {letter!r}",
        got=f"twin = {letters!r}" if twins else "no key twin",
        todo="name the letter that the file has, or add the key",
    )


def _select_one(part: str, bundled: dict[str, Profile]) -> list[Profile]:
    path, colon, letter = part.rpartition(":")
    if colon and path.endswith(".toml"):
        return [_twin_in(Path(path), letter)]
    if part.endswith(".toml"):
        return [load_profile(Path(part))]
    names = list(bundled)
    low, dots, high = part.partition("..")
    if dots and low in bundled and high in bundled and low <= high:
        # A range of profiles does not sweep up their twins, nor the other way round.
        twins = {
            twin.short: twin.short.removeprefix(one.short)
            for one, *twin_of in _bundled_files()
            for twin in twin_of
        }
        within = (name for name in names if low <= name <= high)
        return [bundled[name] for name in within if twins.get(name) == twins.get(low)]
    for profile in bundled.values():
        if part in (profile.short, profile.name):
            return [profile]
    raise invalid_argument(
        "profile_unknown",
        expected=f"profiles among {', '.join(names)}, a range such as p00..p05, or a path to a .toml file",
        got=repr(part),
        todo="`treni-route profiles` lists them",
    )

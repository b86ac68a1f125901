"""Failure profiles: TOML files, parsed once into frozen values, and their selection by name.

A profile says what the controller's policy is and which faults the schedule puts where. An unknown key, a bad
unit or an impossible value is an error that names the file, the key and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from treni.errors import TreniError, invalid_argument
from treni.text_files import read_text

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(us|ms|s|m)$")


def parse_duration_s(value: object) -> float:
    """Seconds in a duration such as "250ms", "1.5s", "2m". Raises ValueError that names the allowed units."""
    if isinstance(value, float):  # a profile that was resolved before, as the manifest keeps it
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'expected a duration with a unit (us, ms, s, m), such as "250ms"; got {value!r}')
    return float(match[1]) * _UNITS_S[match[2]]


Duration = Annotated[float, BeforeValidator(parse_duration_s), PlainSerializer(float), Field(gt=0, le=3600)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PolicySpec(_Strict):
    """What the controller may spend on a request."""

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


class BurstSpec(_Strict):
    """Bursts over the requests, by the model of Gilbert and Elliott; one request's attempts are in or out together."""

    enter: float = Field(
        gt=0, le=1, description="Probability that a request outside a burst is followed by one inside."
    )
    leave: float = Field(
        gt=0,
        le=1,
        description="Probability that a request inside is followed by one outside: a burst lasts 1 / leave requests "
        "on average.",
    )
    rate: float = Field(gt=0, le=1, description="Probability for each attempt inside a burst.")
    rate_outside: float = Field(default=0.0, ge=0, le=1, description="Probability for each attempt outside.")


class TimedRule(_Strict):
    """When a rule strikes; what it does is its kind's."""

    every: int | None = Field(
        default=None,
        ge=1,
        description="By attempt: each attempt whose number is divisible by it. By request: a `rate` of 1 over it.",
    )
    rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description='Probability for each attempt, independent of all others; only with `by = "request"`.',
    )
    burst: BurstSpec | None = Field(
        default=None, description='Bursts, a table of the keys below; only with `by = "request"`.'
    )
    from_request: int = Field(
        default=0,
        ge=0,
        description="First request, counted from 0 under each fault seed, that the rule can strike; only with "
        '`by = "request"`.',
    )
    to_request: int | None = Field(
        default=None,
        ge=1,
        description='First request after that which it can strike no more; only with `by = "request"`.',
    )

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        given = [key for key in ("every", "rate", "burst") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of every, rate, burst; got {', '.join(given) or 'none'}")
        if self.to_request is not None and self.to_request <= self.from_request:
            raise ValueError(
                f"to_request: expected over from_request, {self.from_request}; got {self.to_request}"
            )
        return self

    def keys_by_request(self) -> list[str]:
        """Those of its keys that only a schedule by request can plan."""
        given = {
            "rate": self.rate is not None,
            "burst": self.burst is not None,
            "from_request": self.from_request > 0,
            "to_request": self.to_request is not None,
        }
        return [key for key, is_given in given.items() if is_given]


class StatusRule(TimedRule):
    """The attempt is refused with a gRPC status before the tool runs."""

    kind: Literal["status"]
    code: Literal["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"] = Field(
        default="UNAVAILABLE", description="The status."
    )


class StallRule(TimedRule):
    """The attempt never gets its answer."""

    kind: Literal["stall"]
    direction: Literal["request", "response"] = Field(
        description="`request`: the tool does not run; `response`: it ran, and its answer is lost."
    )


class ResetRule(TimedRule):
    """The connection is closed under the attempt, before the tool runs."""

    kind: Literal["reset"]


class LatencyRule(TimedRule):
    """The attempt's answer is late."""

    kind: Literal["latency"]
    delay: Duration = Field(description="By how much; from the hop's timeout on, the attempt fails.")


class BandwidthRule(TimedRule):
    """The attempt's bytes move slowly."""

    kind: Literal["bandwidth"]
    rate_kb_s: int = Field(ge=1, description="Kilobytes per second.")


class SlicerRule(TimedRule):
    """The attempt's bytes arrive in slices."""

    kind: Literal["slicer"]
    average_size: int = Field(ge=1, description="Bytes in a slice.")
    delay: Duration = Field(description="Time between two slices.")


class CrashRule(TimedRule):
    """The tool kills the process that hosts it, before it runs; only with `site = "tool"` and `by = "request"`."""

    kind: Literal["crash"]


class HangRule(TimedRule):
    """The tool holds its host's interpreter before it runs, so that nothing else in that process does."""

    kind: Literal["hang"]
    duration: Duration = Field(description="For how long; from the tool's timeout on, the attempt fails.")


class HogRule(TimedRule):
    """The tool keeps every core busy and holds memory before it runs."""

    kind: Literal["hog"]
    duration: Duration = Field(default=1.0, description="For how long.")
    memory_mb: int = Field(default=256, ge=1, description="MiB that are touched and held meanwhile.")


class LeakRule(TimedRule):
    """The tool makes its host larger for good, before it runs."""

    kind: Literal["leak"]
    size_mb: int = Field(ge=1, description="MiB at each strike.")


RuleSpec = Annotated[
    StatusRule
    | StallRule
    | ResetRule
    | LatencyRule
    | BandwidthRule
    | SlicerRule
    | CrashRule
    | HangRule
    | HogRule
    | LeakRule,
    Field(discriminator="kind"),
]


RULES: dict[str, type[TimedRule]] = {
    "status": StatusRule,
    "stall": StallRule,
    "reset": ResetRule,
    "latency": LatencyRule,
    "bandwidth": BandwidthRule,
    "slicer": SlicerRule,
    "crash": CrashRule,
    "hang": HangRule,
    "hog": HogRule,
    "leak": LeakRule,
}
"""The rules by the `kind` that names them."""


class FaultsSpec(_Strict):
    """Where faults strike and how they are counted."""

    site: Literal["hop", "tool"] = Field(
        default="hop",
        description="`hop`: the connection, which only the external arm has; `tool`: the tool, in both arms alike.",
    )
    hop: Literal["tool", "model"] = Field(default="tool", description="Which hop.")
    by: Literal["attempt", "request"] = Field(
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
    rules: tuple[RuleSpec, ...] = Field(
        default=(),
        strict=False,
        description="`[[faults.rules]]`, tried in order: the first that strikes wins.",
    )

    @model_validator(mode="after")
    def _is_countable(self) -> Self:
        for number, rule in enumerate(self.rules):
            if self.by == "attempt" and rule.keys_by_request():
                keys = ", ".join(f"rules.{number}.{key}" for key in rule.keys_by_request())
                raise ValueError(f'{keys}: planned by request; expected by = "request", got by = "attempt"')
        return self


class Profile(_Strict):
    """One cell of the matrix."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$",
        max_length=128,  # it is a folder's name, and a part of run ids
        description="Words of lower-case letters and digits joined by `_`; the first names the cell.",
    )
    title: str = Field(min_length=1, description="What the report says of it.")
    policy: PolicySpec = Field(default=PolicySpec(), description="What the controller may spend, below.")
    faults: FaultsSpec = Field(default=FaultsSpec(), description="Which faults strike where, below.")

    @property
    def short(self) -> str:
        """The name's first part, such as "p03": what selections and cells go by."""
        return self.name.split("_", 1)[0]


def load_profile(path: Path) -> Profile:
    """The profile in a TOML file. Raises INVALID_ARGUMENT naming the file, the key and what is allowed."""
    try:
        data = tomllib.loads(read_text(path, what="a profile"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise invalid_argument(
            "profile_syntax", expected=f"TOML in {path}", got=str(error), todo="correct the file"
        ) from None
    return validated(data, str(path))


def validated(data: object, source: str) -> Profile:
    """The profile in parsed TOML or JSON. Raises INVALID_ARGUMENT naming `source`, the key and what is allowed."""
    try:
        return Profile.model_validate(data)
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
            problems.append(f"{key}: {said}" + ("" if told else f"; got {item['input']!r}"))
    return invalid_argument(
        "profile_invalid",
        expected=f"a valid profile in {source}",
        got="; ".join(problems),
        todo="correct those keys",
    )


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[_Strict] = Profile
    if location[:1] == ("policy",):
        model = PolicySpec
    elif location[:2] == ("faults", "rules"):
        model = BurstSpec if "burst" in location else RULES[str(location[3])]
    elif location[:1] == ("faults",):
        model = FaultsSpec
    return list(model.model_fields)


def bundled_profiles() -> dict[str, Profile]:
    """The profiles that ship with the package, by short name, in order."""
    profiles = {}
    with resources.as_file(resources.files("matrices") / "profiles") as folder:
        for path in sorted(folder.glob("*.toml")):
            profile = load_profile(path)
            profiles[profile.short] = profile
    return profiles


def select_profiles(selection: str) -> list[Profile]:
    """The profiles that a selection names, in its order, each once.

    A selection is a comma-separated list of short names (`p00`), full names (`p03_mixed_moderate`), ranges
    (`p00..p05`, `p01t..p05t`) and paths to TOML files.
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


def _select_one(part: str, bundled: dict[str, Profile]) -> list[Profile]:
    if part.endswith(".toml"):
        return [load_profile(Path(part))]
    names = list(bundled)
    low, dots, high = part.partition("..")
    if dots and low in bundled and high in bundled and low <= high:
        # A range of hop profiles does not sweep up their tool-site twins, nor the other way round.
        twins = low.endswith("t")
        return [bundled[n] for n in names if low <= n <= high and n.endswith("t") == twins]
    for profile in bundled.values():
        if part in (profile.short, profile.name):
            return [profile]
    raise invalid_argument(
        "profile_unknown",
        expected=f"profiles among {', '.join(names)}, a range such as p00..p05, or a path to a .toml file",
        got=repr(part),
        todo="`treni-route profiles` lists them",
    )

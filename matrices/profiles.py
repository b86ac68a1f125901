"""Failure profiles: TOML files, parsed once into frozen values, and their selection by name.

A profile says what the controller's policy is and which faults the schedule puts where. An unknown key, a bad
unit or an impossible value is an error that names the file, the key and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from treni.errors import TreniError, invalid_argument

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
    """What the controller may spend on a request: durations in seconds, `retries` per call."""

    run_timeout: Duration = 30.0
    model_timeout: Duration = 20.0
    tool_timeout: Duration = 0.25
    retries: int = Field(default=1, ge=0, le=10)
    backoff_initial: Duration = 0.1
    backoff_max: Duration = 2.0
    backoff_multiplier: float = Field(default=2.0, ge=1, le=10)
    backoff_jitter: float = Field(default=0.2, ge=0, lt=1)


class StatusRule(_Strict):
    """The attempt is refused with a gRPC status before the tool runs."""

    kind: Literal["status"]
    code: Literal["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"] = "UNAVAILABLE"
    every: int = Field(ge=1)


class StallRule(_Strict):
    """The attempt never gets its answer. `request`: the tool does not run; `response`: it ran."""

    kind: Literal["stall"]
    direction: Literal["request", "response"]
    every: int = Field(ge=1)


class ResetRule(_Strict):
    """The connection is closed under the attempt."""

    kind: Literal["reset"]
    every: int = Field(ge=1)


class LatencyRule(_Strict):
    """The attempt's answer is `delay` late."""

    kind: Literal["latency"]
    delay: Duration
    every: int = Field(ge=1)


class BandwidthRule(_Strict):
    """The attempt's bytes move at `rate_kb_s` kilobytes per second."""

    kind: Literal["bandwidth"]
    rate_kb_s: int = Field(ge=1)
    every: int = Field(ge=1)


class SlicerRule(_Strict):
    """The attempt's bytes arrive in slices of `average_size` bytes, `delay` apart."""

    kind: Literal["slicer"]
    average_size: int = Field(ge=1)
    delay: Duration
    every: int = Field(ge=1)


class CrashRule(_Strict):
    """The tool kills the process that hosts it, before it runs."""

    kind: Literal["crash"]
    every: int = Field(ge=1)


class HangRule(_Strict):
    """The tool holds its host's interpreter for `duration` before it runs."""

    kind: Literal["hang"]
    duration: Duration
    every: int = Field(ge=1)


class HogRule(_Strict):
    """The tool keeps every core busy and holds `memory_mb` MiB for `duration` before it runs."""

    kind: Literal["hog"]
    duration: Duration = 1.0
    memory_mb: int = Field(default=256, ge=1)
    every: int = Field(ge=1)


class LeakRule(_Strict):
    """The tool makes its host larger by `size_mb` MiB for good before it runs."""

    kind: Literal["leak"]
    size_mb: int = Field(ge=1)
    every: int = Field(ge=1)


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


class FaultsSpec(_Strict):
    """Where faults strike and by which counter; `rules` in order, the first that matches wins."""

    site: Literal["hop", "tool"] = "hop"
    hop: Literal["tool", "model"] = "tool"
    by: Literal["attempt", "request"] = "attempt"
    warmup: int = Field(default=1, ge=0, le=1000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    rules: tuple[RuleSpec, ...] = Field(default=(), strict=False)


class Profile(_Strict):
    """One cell of the matrix."""

    name: str = Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")
    title: str = Field(min_length=1)
    policy: PolicySpec = PolicySpec()
    faults: FaultsSpec = FaultsSpec()

    @property
    def short(self) -> str:
        """The name's first part, such as "p03": what selections and cells go by."""
        return self.name.split("_", 1)[0]


def load_profile(path: Path) -> Profile:
    """The profile in a TOML file. Raises INVALID_ARGUMENT naming the file, the key and what is allowed."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise invalid_argument(
            "profile_missing", expected="a profile file", got=f"no file {path}", todo="check the path"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid_argument(
            "profile_syntax", expected=f"TOML in {path}", got=str(error), todo="correct the file"
        ) from None
    return _validated(data, str(path))


def _validated(data: object, source: str) -> Profile:
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
            problems.append(f"{key}: {item['msg']}; got {item['input']!r}")
    return invalid_argument(
        "profile_invalid",
        expected=f"a valid profile in {source}",
        got="; ".join(problems),
        todo="correct those keys",
    )


_RULES: dict[str, type[_Strict]] = {
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


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[_Strict] = Profile
    if location[:1] == ("policy",):
        model = PolicySpec
    elif location[:2] == ("faults", "rules"):
        model = _RULES[str(location[3])]
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
    chosen: dict[str, Profile] = {}
    for part in (piece.strip() for piece in selection.split(",")):
        for profile in _select_one(part, bundled):
            if profile.short in chosen and chosen[profile.short] != profile:
                raise invalid_argument(
                    "profile_ambiguous",
                    expected="profiles with different short names",
                    got=f"{chosen[profile.short].name} and {profile.name}",
                    todo="rename one of them: its name up to the first underscore is the cell's name",
                )
            chosen[profile.short] = profile
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

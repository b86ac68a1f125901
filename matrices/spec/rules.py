"""The rules of a profile: when one strikes, by keys that all have, and what it does, by the keys of its kind."""

from __future__ import annotations

import re
from copy import copy
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    model_validator,
)

from chaos.faults import FAULTS, FaultKind, Hop
from chaos.faults.kind import MAX_COUNT, MAX_DURATION_S
from chaos.when import Burst, Every, Rate, When
from treni.errors import Code, TreniError

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_UNITS = {1: "s", 1000: "ms", 1_000_000: "us"}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|m)")

DURATION_SCHEMA = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*(us|ms|s|m)$"}
"""How a duration stands in a file, for the JSON schema."""

WITH_UNITS = {"durations": "with units"}
"""The context in which a duration must say its unit: what a person wrote, not what a program resolved."""


def parse_duration_s(value: object, info: ValidationInfo | None = None) -> float:
    """Seconds in a duration such as "250ms", "1.5s", "2m". Raises ValueError that names the allowed units.

    A float is taken for seconds, as a resolved profile has them, unless `info` has the context `WITH_UNITS`.
    """
    if isinstance(value, float) and (info is None or info.context != WITH_UNITS):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'expected a duration with a unit (us, ms, s, m), such as "250ms"; got {value!r}')
    return float(match[1]) * _UNITS_S[match[2]]


def _validate_duration(value: object, info: ValidationInfo) -> float:
    return parse_duration_s(value, info)


def duration_up_to(most_s: float) -> Any:
    """The type of a key that holds a duration over 0 and up to `most_s` seconds."""
    return Annotated[
        float,
        BeforeValidator(_validate_duration),
        PlainSerializer(float),
        Field(gt=0, le=most_s),
        WithJsonSchema(DURATION_SCHEMA, mode="validation"),
    ]


def duration_text(value_s: float) -> str:
    """The duration as a file writes it, in the largest unit that it is a whole number of, such as "250ms"."""
    for unit in ("s", "ms", "us"):
        count = round(value_s / _UNITS_S[unit])
        if count >= 1 and abs(count * _UNITS_S[unit] - value_s) < 1e-9 * value_s:
            return f"{count}{unit}"
    return f"{value_s * 1e6:.6f}us"


def is_duration(metadata: object) -> bool:
    """Whether a piece of a field's metadata marks it as a duration."""
    return getattr(metadata, "func", None) is _validate_duration


if TYPE_CHECKING:
    Duration: TypeAlias = float
else:
    Duration = duration_up_to(MAX_DURATION_S)


class Strict(BaseModel):
    """A table of a profile: frozen, with no keys but its own and no value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BurstSpec(Strict):
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


class RuleSpec(Strict):
    """A rule: when it strikes and on which hop, by the keys here; what it does, by the keys of its `kind`."""

    kind: str
    hop: Hop | None = Field(
        default=None, description="Which hop it stands on; without it that of `[faults]`."
    )
    every: int | None = Field(
        default=None,
        ge=1,
        le=MAX_COUNT,
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
        le=MAX_COUNT,
        description="First request, counted from 0 under each fault seed, that the rule can strike; only with "
        '`by = "request"`.',
    )
    to_request: int | None = Field(
        default=None,
        ge=1,
        le=MAX_COUNT,
        description='First request after that which it can strike no more; only with `by = "request"`.',
    )

    @model_validator(mode="after")
    def _says_when_and_what(self, info: ValidationInfo) -> Self:
        given = [key for key in ("every", "rate", "burst") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of every, rate, burst; got {', '.join(given) or 'none'}")
        if self.to_request is not None and self.to_request <= self.from_request:
            raise ValueError(
                f"to_request: expected over from_request, {self.from_request}; got {self.to_request}"
            )
        for name, (_, key) in FAULTS[self.kind].keys().items():
            if info.context == WITH_UNITS and key.per_second is not None:
                count = getattr(self, name) * key.per_second
                if round(count) < 1 or abs(count - round(count)) > 1e-6 * count:
                    unit = _UNITS[key.per_second]
                    raise ValueError(f"{name}: expected a whole number of {unit}; got {count:g}")
        _ = self.fault  # a kind may refuse values that do not go together
        return self

    @property
    def fault(self) -> FaultKind:
        """The fault that it puts on an attempt, a kind with the values of its keys."""
        kind = FAULTS[self.kind]
        values: dict[str, Any] = {}
        for name, (field, key) in kind.keys().items():
            value = getattr(self, name)
            values[field] = value if key.per_second is None else max(1, round(value * key.per_second))
        return kind(**values)

    @property
    def when(self) -> When:
        """The condition under which it strikes an attempt."""
        if self.burst is not None:
            return Burst(**self.burst.model_dump())
        if self.rate is not None:
            return Rate(rate=self.rate)
        assert self.every is not None
        return Every(every=self.every)

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process makes the rule from: no module has its class, which is made at its start."""
        return _again, (self.kind, self.__dict__, self.model_fields_set)

    def keys_by_request(self) -> list[str]:
        """The rule's keys that only a schedule by request can plan."""
        given = {
            "rate": self.rate is not None,
            "burst": self.burst is not None,
            "from_request": self.from_request > 0,
            "to_request": self.to_request is not None,
        }
        return [key for key, is_given in given.items() if is_given]


def _rule_of(kind: type[FaultKind]) -> type[RuleSpec]:
    """The rule of a kind: the keys of all rules and the kind's own, durations as a profile writes them."""
    keys: dict[str, Any] = {"kind": (Literal[kind.name], ...)}
    for name, (field, key) in kind.keys().items():
        info = kind.model_fields[field]
        if key.per_second is None:
            keys[name] = (info.annotation, copy(info))
            continue
        most = next((bound.le for bound in info.metadata if hasattr(bound, "le")), None)
        most_s = MAX_DURATION_S if most is None else most / key.per_second
        keys[name] = (
            duration_up_to(most_s),
            Field(description=info.description)
            if info.is_required()
            else Field(default=info.default / key.per_second, description=info.description),
        )
    rule: type[RuleSpec] = create_model(
        f"{kind.__name__}Rule", __base__=RuleSpec, __doc__=kind.__doc__, **keys
    )
    return rule


def _again(kind: str, values: dict[str, Any], given: set[str]) -> RuleSpec:
    return RULES[kind].model_construct(given, **values)


BROKEN: dict[str, TreniError] = {}
"""What is wrong with each kind of a package that cannot be used, by name: told to whoever asks for that one."""


def _rules() -> dict[str, type[RuleSpec]]:
    rules = {}
    for name in FAULTS:
        try:
            rules[name] = _rule_of(FAULTS[name])
        except TreniError as error:
            BROKEN[name] = error
        except Exception as error:  # whatever pydantic makes of a package's keys
            BROKEN[name] = TreniError(
                Code.FAILED_PRECONDITION,
                "plugin_unusable",
                expected=f"a rule with the keys of the kind {name}",
                got=f"{type(error).__name__}: {error}",
                todo="mend or uninstall the package that has it",
            )
    return rules


RULES: dict[str, type[RuleSpec]] = _rules()
"""The rules by the `kind` that names them."""

if TYPE_CHECKING:
    AnyRule: TypeAlias = RuleSpec
else:
    AnyRule = Annotated[reduce(or_, RULES.values()), Field(discriminator="kind")]

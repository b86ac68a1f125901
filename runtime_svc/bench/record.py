"""What a bench leaves behind, every repeat kept, as JSON and back. `docs/bench-runtime.md` explains it."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from treni.errors import Code, TreniError
from treni.storage import write_whole
from treni.text_files import parse_json, read_text

SCHEMA = "treni-route/bench-runtime/1"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """The card, with the clocks that it may reach; what they were is in `Floors`.

    `memory_used_mib` is from before the session: what others hold, who may then have disturbed it. Without
    `persistence_mode` the driver starts the card anew when no process holds it, which a cold start pays.
    """

    name: str
    driver: str
    memory_mib: int
    memory_used_mib: int
    max_sm_clock_mhz: int
    max_memory_clock_mhz: int
    power_limit_w: float
    persistence_mode: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where it ran. `packages` are versions by name, of the runtime's own interpreter.

    `load` is the number of runnable processes, averaged over the minute before (the kernel's load average).
    """

    cpu: str
    cores: int
    memory_mib: int
    system: str
    python: str
    packages: dict[str, str]
    commit: str | None
    load: float
    gpu: Gpu | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """The shape of the checkpoint; counts are of elements, `parameters` those that a checkpoint stores."""

    name: str
    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    context_length: int
    tied: bool
    parameters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What was asked for. `element_bytes` is the width that the bounds count, of weights and of KV alike.

    Decoding starts from a context of `decode_context` tokens and goes on for `decode_tokens`, or for
    `measure_limit_s`, whichever ends first. A peer takes part in `peer_repeats` of the `repeats` rounds, and is
    cut when it has worked for `peer_limit_s` in all. `cold_tokens` is the length of the first answer.
    """

    backend: str
    element_bytes: int
    threads: int
    prompt_tokens: list[int]
    decode_context: int
    decode_tokens: int
    batches: list[int]
    repeats: int
    peer_repeats: int
    cold_repeats: int
    cold_tokens: int
    measure_limit_s: float
    peer_limit_s: float
    seed: int

    @property
    def capacity(self) -> int:
        """Tokens that a sequence needs at most."""
        longest = self.decode_context + max(self.decode_tokens, self.cold_tokens)
        return max(*self.prompt_tokens, longest)


@dataclass(kw_only=True, slots=True)
class Floors:
    """The machine's bounds, an entry a round. Those that the backend does not have are empty.

    On a GPU `copy_bytes_per_s`, bytes read and bytes written by a large copy in device memory, and
    `sm_clock_mhz` just after it. For NumPy
    `read_s`, a pass over all weights of a token by `numpy.max`, and `product_s`, the bare products of those
    weights with a vector: no decoder over NumPy can be faster.
    """

    copy_bytes_per_s: list[float] = field(default_factory=list)
    sm_clock_mhz: list[int] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)
    product_s: list[float] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Ttft:
    """The times from a prompt's tokens (an endpoint's: its text) to the first token on the host; an entry a repeat.

    `counted` are the prompt's tokens as the contender counts them; where tokens went in, the tokens asked for.
    """

    prompt_tokens: int
    seconds: list[float] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Decode:
    """Decoding of `batch` sequences at once; in each repeat `tokens` a sequence took `seconds`."""

    batch: int
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cold:
    """One start from nothing, seconds since its process was asked for.

    `ready_s`: it could take a request; `first_token_s` and `total_s`: the first answer's first and last of
    `tokens` tokens, on the contender's clock; `outside_s`: the first token as seen by the process that asked.
    `stages` sum to `first_token_s`; empty where a contender cannot say.
    """

    ready_s: float
    first_token_s: float
    total_s: float
    outside_s: float
    tokens: int
    stages: dict[str, float]

    @property
    def ttft_s(self) -> float:
        """The first request's."""
        return self.first_token_s - self.ready_s

    @property
    def full_s(self) -> float:
        """The first request's, to its last token."""
        return self.total_s - self.ready_s


@dataclass(kw_only=True, slots=True)
class Contender:
    """One runtime's figures. What it could not do is missing, and `reason` says why; it is never a zero.

    `state`: "measured" (everything asked for), "partial" (cut short, or not able to do a part), "absent" (not
    on this machine) or "failed" (there, but it gave no figure).
    """

    name: str
    state: str = "measured"
    reason: str = ""
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    ttft: list[Ttft] = field(default_factory=list)
    decode: list[Decode] = field(default_factory=list)
    cold: list[Cold] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Run:
    """One model's session. The first contender is this runtime."""

    started: str
    machine: Machine
    model: Model
    settings: Settings
    floors: Floors
    contenders: list[Contender]


@dataclass(kw_only=True, slots=True)
class Report:
    """A file of runs."""

    schema: str = SCHEMA
    runs: list[Run]

    def write(self, path: Path) -> None:
        """Replaces the file in one step, so that a reader never sees half a report."""
        write_whole(path, self.to_json().encode())

    def to_json(self) -> str:
        """The report as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> Report:
        """The report in the file. Raises INVALID_ARGUMENT naming the entry that is not as documented."""
        value = parse_json(read_text(path, what="a report of this command"), str(path))
        if isinstance(value, dict) and value.get("schema") != SCHEMA:
            raise _wrong(f"{path}: schema", repr(SCHEMA), repr(value.get("schema")))
        return parse(cls, value, str(path))


def parse(kind: type[T], value: object, at: str) -> T:
    """The JSON value as that type (dataclasses, lists, dicts by string, optionals and scalars), strictly.

    Raises INVALID_ARGUMENT with the path `at` for a wrong type, a missing entry or an unknown one.
    """
    return typing.cast(T, _parse(kind, value, at))


def _parse(kind: Any, value: object, at: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        inner = next(a for a in arguments if a is not types.NoneType)
        return None if value is None else _parse(inner, value, at)
    if origin is list:
        _check(value, list, at)
        return [_parse(arguments[0], v, f"{at}[{i}]") for i, v in enumerate(typing.cast(list[object], value))]
    if origin is dict:
        _check(value, dict, at)
        items = typing.cast(dict[str, object], value).items()
        return {name: _parse(arguments[1], v, f"{at}.{name}") for name, v in items}
    if dataclasses.is_dataclass(kind):
        _check(value, dict, at)
        fields = typing.get_type_hints(kind)
        given = typing.cast(dict[str, object], value)
        if wrong := given.keys() ^ fields.keys():
            raise _wrong(f"{at}.{min(wrong)}", *_presence(min(wrong) in fields))
        make: Any = kind
        return make(**{name: _parse(fields[name], v, f"{at}.{name}") for name, v in given.items()})
    if kind is float and type(value) is int:
        return float(value)
    _check(value, kind, at)
    return value


def _presence(known: bool) -> tuple[str, str]:
    return ("an entry", "none") if known else ("no such entry", "one")


def _check(value: object, kind: type, at: str) -> None:
    if type(value) is not kind:
        raise _wrong(at, f"a value of type {kind.__name__}", repr(value)[:80])


def _wrong(at: str, expected: str, got: str) -> TreniError:
    return TreniError(
        Code.INVALID_ARGUMENT,
        "report_invalid",
        expected=f"{expected} at {at}",
        got=got,
        todo="give a JSON file written by `treni-route bench runtime --json`",
    )

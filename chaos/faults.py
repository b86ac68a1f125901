"""The fault kinds, one class each, and a fault: a kind placed on one attempt, as it travels in gRPC metadata.

A kind knows what a prediction needs: whether the tool runs all the same (`tool_runs`), since that decides what a
retry duplicates, whether the caller sees an error (`is_error`), and with which status names it may (`error_codes`).
To add a kind, write its class, add it to `Kind`, and teach the layer that delivers it: `chaos.lanes` (hop),
`chaos.injector` (tool). Kinds that break the process which hosts the tool (`HostKind`) are done in
`chaos.host_faults`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

from treni import metadata
from treni.errors import invalid_argument

Site: TypeAlias = Literal["hop", "tool"]
Hop: TypeAlias = Literal["tool", "model"]
Direction: TypeAlias = Literal["request", "response"]
StatusName: TypeAlias = Literal["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"]

MAX_ENCODED_BYTES = 1024
"""Longer metadata values are refused unread."""

MAX_HOST_FAULT_MS = 60_000
MAX_HOST_FAULT_MB = 1024
"""How long and how large one fault that breaks its host may be: a machine is borrowed, not owned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """The attempt is refused with a gRPC status before the handler runs.

    Only codes that a caller treats as a failure of the hop: INVALID_ARGUMENT and its like would be taken for
    the tool's own answer.
    """

    name: ClassVar[str] = "status"
    letter: ClassVar[str] = "F"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop", "tool"})

    code: StatusName = "UNAVAILABLE"

    def __post_init__(self) -> None:
        _one_of("code", self.code, get_args(StatusName))

    @property
    def tool_runs(self) -> bool:
        """False: the refusal comes first."""
        return False

    @property
    def error_codes(self) -> frozenset[str]:
        """The one that it was given."""
        return frozenset({self.code})

    def is_error(self, timeout_s: float) -> bool:
        """Always, whatever the timeout."""
        return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Stall:
    """The attempt never gets its answer.

    `request`: the request is held and the tool does not run. `response`: the tool ran, its answer is lost.
    """

    name: ClassVar[str] = "stall"
    letter: ClassVar[str] = "T"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop", "tool"})
    error_codes: ClassVar[frozenset[str]] = frozenset({"DEADLINE_EXCEEDED"})

    direction: Direction = "request"

    def __post_init__(self) -> None:
        _one_of("direction", self.direction, get_args(Direction))

    @property
    def tool_runs(self) -> bool:
        """True only where the answer, not the request, is held."""
        return self.direction == "response"

    def is_error(self, timeout_s: float) -> bool:
        """Always: a stall outlasts every timeout."""
        return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Reset:
    """The connection is reset (RST) when the request reaches the proxy; the tool does not run.

    The caller cannot know that it did not: a reset proves nothing, so its error is not definite.
    """

    name: ClassVar[str] = "reset"
    letter: ClassVar[str] = "R"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop"})
    error_codes: ClassVar[frozenset[str]] = frozenset({"UNAVAILABLE"})

    @property
    def tool_runs(self) -> bool:
        """False: the proxy drops the request it resets on."""
        return False

    def is_error(self, timeout_s: float) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """The answer is `delay_ms` late, without jitter."""

    name: ClassVar[str] = "latency"
    letter: ClassVar[str] = "L"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop", "tool"})
    error_codes: ClassVar[frozenset[str]] = frozenset({"DEADLINE_EXCEEDED"})

    delay_ms: int

    def __post_init__(self) -> None:
        _positive("delay_ms", self.delay_ms)

    @property
    def tool_runs(self) -> bool:
        """True: only the answer is delayed."""
        return True

    def is_error(self, timeout_s: float) -> bool:
        """Whether the delay alone uses up the caller's timeout."""
        return self.delay_ms >= timeout_s * 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Bandwidth:
    """The answer's bytes move at `rate_kb_s` kilobytes per second."""

    name: ClassVar[str] = "bandwidth"
    letter: ClassVar[str] = "B"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop"})
    error_codes: ClassVar[frozenset[str]] = frozenset()

    rate_kb_s: int

    def __post_init__(self) -> None:
        _positive("rate_kb_s", self.rate_kb_s)

    @property
    def tool_runs(self) -> bool:
        """True: only the answer is slowed."""
        return True

    def is_error(self, timeout_s: float) -> bool:
        """Never, as predicted: the answer's size is not known before the run. A timeout is then a finding."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Slicer:
    """The answer's bytes arrive in slices of `average_size_bytes`, `delay_us` microseconds apart."""

    name: ClassVar[str] = "slicer"
    letter: ClassVar[str] = "S"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop"})
    error_codes: ClassVar[frozenset[str]] = frozenset()

    average_size_bytes: int
    delay_us: int

    def __post_init__(self) -> None:
        _positive("average_size_bytes", self.average_size_bytes)
        _positive("delay_us", self.delay_us)

    @property
    def tool_runs(self) -> bool:
        """True: only the answer is sliced."""
        return True

    def is_error(self, timeout_s: float) -> bool:
        """Never, as predicted: the answer's size is not known before the run. A timeout is then a finding."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Crash:
    """The tool kills the process that hosts it (SIGKILL) before it runs.

    The process does nothing else any more: what it was doing for others is lost with it. An external caller sees a
    broken connection at the tool hop and can record it; in the internal arm the loop and its record die too.
    """

    name: ClassVar[str] = "crash"
    letter: ClassVar[str] = "C"
    sites: ClassVar[frozenset[Site]] = frozenset({"tool"})
    error_codes: ClassVar[frozenset[str]] = frozenset({"UNAVAILABLE"})

    @property
    def tool_runs(self) -> bool:
        """False: the process is gone before."""
        return False

    def is_error(self, timeout_s: float) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Hang:
    """The tool holds its host's interpreter for `duration_ms` before it runs: no other Python code runs there."""

    name: ClassVar[str] = "hang"
    letter: ClassVar[str] = "H"
    sites: ClassVar[frozenset[Site]] = frozenset({"tool"})
    error_codes: ClassVar[frozenset[str]] = frozenset({"DEADLINE_EXCEEDED"})

    duration_ms: int

    def __post_init__(self) -> None:
        _up_to("duration_ms", self.duration_ms, MAX_HOST_FAULT_MS)

    @property
    def tool_runs(self) -> bool:
        """True where the caller still waits by then; the call of one that gave up is dropped."""
        return True

    def is_error(self, timeout_s: float) -> bool:
        """Whether the hang alone uses up the caller's timeout."""
        return self.duration_ms >= timeout_s * 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Hog:
    """The tool keeps every core of its host's machine busy for `duration_ms` before it runs.

    Meanwhile it holds `memory_mb` MiB, all of it touched, and gives them back. The interpreter stays free: others are
    slowed, not stopped.
    """

    name: ClassVar[str] = "hog"
    letter: ClassVar[str] = "G"
    sites: ClassVar[frozenset[Site]] = frozenset({"tool"})
    error_codes: ClassVar[frozenset[str]] = frozenset()

    duration_ms: int
    memory_mb: int

    def __post_init__(self) -> None:
        _up_to("duration_ms", self.duration_ms, MAX_HOST_FAULT_MS)
        _up_to("memory_mb", self.memory_mb, MAX_HOST_FAULT_MB)

    @property
    def tool_runs(self) -> bool:
        """True: late."""
        return True

    def is_error(self, timeout_s: float) -> bool:
        """Never, as predicted: how much later the tool runs depends on the machine. A timeout is then a finding."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """The tool makes its host's process keep `size_mb` MiB more, touched, until that process ends; then it runs."""

    name: ClassVar[str] = "leak"
    letter: ClassVar[str] = "M"
    sites: ClassVar[frozenset[Site]] = frozenset({"tool"})
    error_codes: ClassVar[frozenset[str]] = frozenset()

    size_mb: int

    def __post_init__(self) -> None:
        _up_to("size_mb", self.size_mb, MAX_HOST_FAULT_MB)

    @property
    def tool_runs(self) -> bool:
        """True: a little later."""
        return True

    def is_error(self, timeout_s: float) -> bool:
        """Never, as predicted. A timeout is then a finding."""
        return False


HostKind: TypeAlias = Crash | Hang | Hog | Leak
"""Kinds that harm the process which hosts the tool, and so whatever else it does. They strike before the tool runs."""

Kind: TypeAlias = Status | Stall | Reset | Latency | Bandwidth | Slicer | HostKind
KINDS: Mapping[str, type[Kind]] = {kind.name: kind for kind in get_args(Kind)}


def kind_to_dict(kind: Kind) -> dict[str, str | int]:
    """The kind as JSON data: "kind" and its own fields."""
    return {"kind": kind.name, **dataclasses.asdict(kind)}


def kind_from_dict(data: Mapping[str, object]) -> Kind:
    """The inverse of `kind_to_dict`. Raises INVALID_ARGUMENT on an unknown kind, key or value."""
    name = data.get("kind")
    cls = KINDS.get(name) if isinstance(name, str) else None
    if cls is None:
        raise _invalid(f'"kind" to be one of {", ".join(KINDS)}', repr(name))
    fields = {key: value for key, value in data.items() if key != "kind"}
    allowed = {field.name for field in dataclasses.fields(cls)}
    if set(fields) - allowed:
        raise _invalid(
            f"only the keys {sorted(allowed)} for {cls.name}", ", ".join(sorted(set(fields) - allowed))
        )
    try:
        return cls(**fields)  # type: ignore[arg-type]  # each class checks its own values
    except TypeError as error:
        raise _invalid(f"the fields of {cls.name}", str(error)) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A kind placed on one attempt: `id` is readable and unique to it, `site` and `hop` say who delivers it."""

    id: str
    site: Site
    hop: Hop
    kind: Kind

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id or not self.id.isascii() or not self.id.isprintable():
            raise _invalid("a fault id of printable ASCII", repr(self.id))
        _one_of("site", self.site, get_args(Site))
        _one_of("hop", self.hop, get_args(Hop))
        if self.site not in self.kind.sites:
            raise _invalid(f"{self.kind.name} at site {sorted(self.kind.sites)}", f"site {self.site!r}")
        if self.site == "tool" and self.hop != "tool":
            raise _invalid('hop "tool" where the site is "tool"', repr(self.hop))

    def encode(self) -> str:
        """The compact JSON that `treni.metadata.FAULT` carries."""
        data = {"id": self.id, "site": self.site, "hop": self.hop, **kind_to_dict(self.kind)}
        return json.dumps(data, separators=(",", ":"))

    def to_metadata(self) -> dict[str, str]:
        """The gRPC metadata that marks an attempt with this fault."""
        return {metadata.FAULT: self.encode()}


def decode(value: str | bytes) -> Fault:
    """The fault in a metadata value. Raises INVALID_ARGUMENT on anything `Fault.encode` does not write."""
    if len(value) > MAX_ENCODED_BYTES:
        raise _invalid(f"at most {MAX_ENCODED_BYTES} bytes", f"{len(value)}")
    try:
        data = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise _invalid("a fault as compact JSON", f"{value!r}: {error}") from None
    if not isinstance(data, dict):
        raise _invalid("a JSON object", repr(data))
    placed = {key: data.pop(key, None) for key in ("id", "site", "hop")}
    return Fault(kind=kind_from_dict(data), **placed)


def fault_of(pairs: Mapping[str, str | bytes]) -> Fault | None:
    """The fault in an attempt's metadata, None where there is none. Raises INVALID_ARGUMENT if it is broken."""
    value = pairs.get(metadata.FAULT)
    return None if value is None else decode(value)


def _one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _invalid(f'"{field}" to be one of {", ".join(allowed)}', repr(value))


def _positive(field: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _invalid(f'"{field}" to be a whole number of at least 1', repr(value))


def _up_to(field: str, value: object, most: int) -> None:
    _positive(field, value)
    if isinstance(value, int) and value > most:
        raise _invalid(f'"{field}" to be at most {most}', repr(value))


def _invalid(expected: str, got: str) -> Exception:
    return invalid_argument("fault_invalid", expected=expected, got=got, todo="correct the fault")

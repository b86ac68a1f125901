"""Which attempts get which fault: a pure function of the schedule.

Two ways to count. `by="attempt"` is the published one: a single counter n over the hop's attempts, retries included;
it is exact only when attempts come one after another. `by="request"` keys each attempt on (request index, call
index, attempt) and is the same set of faults in any order, at any concurrency and whatever was retried before.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, TypeAlias, get_args

from chaos.faults import Fault, FaultKind, Hop, Site, kind_to_dict
from chaos.when import DRAWS, Burst, Chain, Every, Rate, When, invalid
from treni.errors import invalid_argument

By: TypeAlias = Literal["attempt", "request"]

WARMUP_REQUEST = 0xFFFFFFFF
"""The request index of warm-up requests: never faulted, never counted here (`Schedule.warmup` counts them)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One kind of fault and when it strikes; `from_request` to `to_request` (not included) limit it to a window."""

    kind: FaultKind
    when: When
    from_request: int = 0
    to_request: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.when, Every | Rate | Burst):
            raise invalid("when to be Every, Rate or Burst", repr(self.when))
        if self.from_request < 0:
            raise invalid("from_request >= 0", str(self.from_request))
        if self.to_request is not None and self.to_request <= self.from_request:
            raise invalid(f"to_request over from_request, {self.from_request}", str(self.to_request))

    @property
    def needs_requests(self) -> bool:
        """Whether it can be planned only by request: it has a window, or draws."""
        return not isinstance(self.when, Every) or self.from_request > 0 or self.to_request is not None

    def in_window(self, place: int) -> bool:
        """Whether the window holds the request at that place."""
        return self.from_request <= place and (self.to_request is None or place < self.to_request)

    def to_dict(self) -> dict[str, object]:
        """The rule as JSON data; an open end of the window is left out."""
        window: dict[str, object] = {}
        if self.from_request > 0:
            window["from_request"] = self.from_request
        if self.to_request is not None:
            window["to_request"] = self.to_request
        return {**self.when.to_dict(), **window, **kind_to_dict(self.kind)}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The faults of one hop in one cell.

    `rules` are tried in order and the first that strikes wins. `prefix` begins each fault's id. `warmup` is the
    number of attempts spent before the first counted one, so that counting starts at n = warmup + 1. `seed`
    keys the draws of `by="request"`; independent for each rule, so a later rule's share is what earlier ones
    leave of it. With a `cycle`, requests g * cycle to (g + 1) * cycle - 1 meet what a schedule with the seed
    `seed` + g has for its requests 0 to cycle - 1: several schedules, one after the other.
    """

    prefix: str
    site: Site = "hop"
    hop: Hop = "tool"
    by: By = "attempt"
    rules: tuple[Rule, ...] = ()
    warmup: int = 0
    seed: int = 0
    cycle: int | None = None

    def __post_init__(self) -> None:
        for field, value, allowed in (
            ("site", self.site, get_args(Site)),
            ("hop", self.hop, get_args(Hop)),
            ("by", self.by, get_args(By)),
        ):
            if value not in allowed:
                raise invalid(f"{field} to be one of {', '.join(allowed)}", repr(value))
        if not self.prefix or not self.prefix.isascii() or not self.prefix.isprintable():
            raise invalid("a prefix of printable ASCII", repr(self.prefix))
        if self.site == "tool" and self.hop != "tool":
            raise invalid('hop "tool" where the site is "tool"', repr(self.hop))
        if self.site == "host" and self.by == "attempt":
            raise invalid('by = "request" where the site is "host"', 'by = "attempt"')
        if self.hop == "agent" and self.by == "attempt":
            raise invalid(
                'by = "request" on the agent hop, where each request is one attempt', 'by = "attempt"'
            )
        if self.warmup < 0:
            raise invalid("warmup >= 0", str(self.warmup))
        if not 0 <= self.seed < DRAWS:
            raise invalid("0 <= seed < 2^64", str(self.seed))
        if self.cycle is not None and self.cycle < 1:
            raise invalid("cycle >= 1", str(self.cycle))
        for rule in self.rules:
            if rule.needs_requests and self.by == "attempt":
                raise invalid('by = "request" for a rule with a rate, a burst or a window', 'by = "attempt"')
            if self.site not in rule.kind.sites:
                raise invalid(
                    f"a kind that can act at site {self.site!r}",
                    f"{rule.kind.name}, only at {sorted(rule.kind.sites)}",
                )
        letters = {rule.kind.letter: rule.kind.name for rule in self.rules}
        if len(letters) < len({rule.kind.name for rule in self.rules}):
            raise invalid("kinds whose letters differ, by which strata are named", str(letters))

    @cached_property
    def digest(self) -> str:
        """sha256 over the schedule's canonical JSON, in hex: equal digests, equal faults."""
        data = {
            "prefix": self.prefix,
            "site": self.site,
            "hop": self.hop,
            "by": self.by,
            "rules": [rule.to_dict() for rule in self.rules],
            "warmup": self.warmup,
            "seed": self.seed,
            **({} if self.cycle is None else {"cycle": self.cycle}),
        }
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def kinds(self) -> tuple[FaultKind, ...]:
        """Every distinct kind the rules can emit, in their order."""
        return tuple(dict.fromkeys(rule.kind for rule in self.rules))

    @property
    def start(self) -> int:
        """The n of the first counted attempt."""
        return self.warmup + 1

    def fault_at(self, *, n: int, request_index: int, call_index: int, attempt: int) -> Fault | None:
        """The fault of one attempt. `by="attempt"` reads only `n`, `by="request"` only the other three."""
        by_attempt = self.by == "attempt"
        if self.site == "host" and (call_index, attempt) != (0, 0):
            return None  # a host is struck once for a request; what comes after runs into that
        for index, rule in enumerate(self.rules):
            if by_attempt:
                strikes = isinstance(rule.when, Every) and n % rule.when.every == 0
            else:
                strikes = self._strikes(index, rule, request_index, call_index, attempt)
            if strikes:
                place = f"n{n}" if by_attempt else f"r{request_index}c{call_index}a{attempt}"
                fault_id = f"{self.prefix}:{self.hop}:{place}:{rule.kind.name}"
                return Fault(id=fault_id, site=self.site, hop=self.hop, kind=rule.kind)
        return None

    def _strikes(self, index: int, rule: Rule, request_index: int, call_index: int, attempt: int) -> bool:
        seed, place = self.seed, request_index
        if self.cycle is not None:
            group, place = divmod(request_index, self.cycle)
            seed = (seed + group) % DRAWS
        if not rule.in_window(place):
            return False
        draw = _draw(self.hop, seed, index, place, call_index, attempt)
        return rule.when.strikes(
            draw,
            inside=isinstance(rule.when, Burst) and self._chain(index, rule.when, seed).inside(place),
        )

    def _chain(self, index: int, burst: Burst, seed: int) -> Chain:
        key = (index, seed)
        if key not in self._chains:
            self._chains[key] = Chain(burst, lambda place: _draw(f"{self.hop}-burst", seed, index, place))
        return self._chains[key]

    @cached_property
    def _chains(self) -> dict[tuple[int, int], Chain]:
        """The chains of its bursts as far as they were asked for, by rule and seed."""
        return {}


def _draw(purpose: str, *counters: int) -> int:
    """64 uniform bits, a counter-based hash. Site and prefix stay out: twins at another site fault alike."""
    counter = struct.pack(f"<{len(counters)}Q", *counters)
    digest = hashlib.blake2b(counter, digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "little")


class AttemptKey(Protocol):
    """The name of an attempt; the controller's own key has these among its fields."""

    @property
    def hop(self) -> str:
        """The name of the hop, "model" or "tool"."""
        ...

    @property
    def request_index(self) -> int:
        """The request's position in the plan, or `WARMUP_REQUEST`."""
        ...

    @property
    def call_index(self) -> int:
        """Which call of the run on that hop, from 0."""
        ...

    @property
    def attempt(self) -> int:
        """Which try of that call, from 0."""
        ...


class AttemptScheduler:
    """The schedule as the retry layer uses it: metadata for each attempt, in the order attempts are made.

    `start` is the n of the next counted attempt (default: the schedule's own), for a cell that is resumed;
    `concurrency` is how many requests the caller will have in flight. Raises INVALID_ARGUMENT for a schedule by
    attempt with more than one: its faults would depend on who comes first.
    """

    def __init__(self, schedule: Schedule, start: int | None = None, *, concurrency: int = 1) -> None:
        if schedule.by == "attempt" and concurrency != 1:
            raise invalid_argument(
                "schedule_needs_sequence",
                expected='one request at a time under a schedule with by = "attempt"',
                got=f"concurrency {concurrency}",
                todo='use concurrency 1, or a schedule with by = "request"',
            )
        self._schedule = schedule
        if start is not None and start < 1:
            raise invalid("start >= 1", str(start))
        self._next_n = schedule.start if start is None else start

    @property
    def next_n(self) -> int:
        """The n that the next counted attempt will get; what `start` continues from."""
        return self._next_n

    def annotate(self, key: AttemptKey) -> dict[str, str]:
        """The metadata of one attempt, empty where it has no fault. Call it once for each attempt made."""
        if key.hop != self._schedule.hop or key.request_index == WARMUP_REQUEST:
            return {}
        fault = self._schedule.fault_at(
            n=self._next_n, request_index=key.request_index, call_index=key.call_index, attempt=key.attempt
        )
        self._next_n += 1
        return {} if fault is None else fault.to_metadata()

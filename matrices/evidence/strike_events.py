"""What a history tells of faults that strike hosts: when each struck, and when all was whole again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from matrices.spec import strict


@dataclass(frozen=True, kw_only=True, slots=True)
class Struck:
    """A scheduled fault struck a host, or the link to it, as the run `run_id` made its call there.

    `roles` are the services that it harms. `struck_s` is when the harm began, by the harness's monotonic clock,
    known to `error_s`: the host told how long ago it was.
    """

    __pydantic_config__ = strict.STRICT

    cell: str
    fault_id: str
    run_id: str
    host: str
    roles: tuple[str, ...]
    struck_s: float
    error_s: float
    type: Literal["struck"] = "struck"


@dataclass(frozen=True, kw_only=True, slots=True)
class Healed:
    """The host that a fault struck is whole again.

    `lasted_s` is from the beginning of the harm until it was undone, by the host's own clock. `healed_s` is when it was
    undone and `back_s` when every service served the cell again, by the harness's monotonic clock, known to `error_s`.
    `packets` met the fault on the link; `pids` are the processes that came back, by role.
    """

    __pydantic_config__ = strict.STRICT

    cell: str
    fault_id: str
    run_id: str
    host: str
    lasted_s: float
    healed_s: float
    back_s: float
    error_s: float
    packets: int
    pids: dict[str, int]
    type: Literal["healed"] = "healed"

"""What a session asks of a contender, whatever it is and wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from runtime_svc.bench.record import Cold


class Absent(Exception):
    """The runtime is not on this machine; the message says what is missing."""


class Failed(Exception):
    """The contender broke, or ran out of its time, and can do no more; the message says how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A contender that can be measured. `cold` is None where nobody saw it start."""

    device: str
    versions: Mapping[str, str]
    cold: Cold | None


class Contender(Protocol):
    """One runtime under measurement. `start` comes first and `aclose` last, also after a failure.

    Seeds choose prompts: the same seed and length give every contender the same prompt, and no two requests of
    a session share one, so no prefix cache helps. All methods but `aclose` raise `Failed`.
    """

    @property
    def name(self) -> str:
        """The contender's name in the report."""

    @property
    def batches(self) -> list[int]:
        """Batch sizes that it is asked for; `limits` says why where some are missing."""

    @property
    def limits(self) -> str:
        """What it cannot be asked for, and why; "" for nothing."""

    async def start(self) -> Started:
        """Starts it from nothing and has it answer a first request. Raises `Absent`, too."""

    async def ttft(self, prompt_tokens: int, seed: int) -> tuple[float, int]:
        """Seconds from a prompt to its first token, and the prompt's tokens as the contender counts them."""

    async def decode(self, batch: int, context: int, tokens: int, seed: int) -> tuple[float, int]:
        """Seconds that further tokens took after `batch` prompts, and how many tokens a sequence there were."""

    async def aclose(self) -> None:
        """Ends what `start` started."""

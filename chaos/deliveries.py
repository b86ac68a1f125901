"""The delivery log: one line of JSON for each fault that was really handed out, whatever then came of it.

Several processes may append to one file (`treni.storage`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from chaos.faults import Fault
from chaos.metrics import DeliveryMetrics
from treni import metadata, metrics
from treni.errors import Code, TreniError
from treni.storage import AppendOnlyFile, reading, whole_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A fault handed out: `how` names the layer ("lane", "injector" or "in-process"), the rest the attempt."""

    fault_id: str
    site: str
    hop: str
    kind: str
    how: str
    run_id: str
    attempt: int


class DeliveryLog:
    """An append-only JSONL file, created where it does not exist; its folder must. Close it when done."""

    def __init__(self, path: Path) -> None:
        self._file = AppendOnlyFile.share(path)

    def append(self, fault: Fault, how: str, *, run_id: str, attempt: int) -> None:
        """Writes one delivery, in the file when this returns (it survives the process, not the machine).

        Raises `TreniError` (`disk_full`) if the disk does not take it: a fault that cannot be told is not delivered.
        """
        delivery = Delivery(
            fault_id=fault.id,
            site=fault.site,
            hop=fault.hop,
            kind=fault.kind.name,
            how=how,
            run_id=run_id,
            attempt=attempt,
        )
        line = json.dumps(dataclasses.asdict(delivery), separators=(",", ":")).encode()
        self._file.append(line)
        if (counts := metrics.of(DeliveryMetrics)) is not None:
            counts.delivered(hop=fault.hop, site=fault.site, kind=fault.kind.name)

    def append_for(self, fault: Fault, how: str, pairs: Mapping[str, str | bytes]) -> None:
        """The same, with the run and the attempt taken from the attempt's metadata ("" and 0 if absent)."""
        run_id, attempt = pairs.get(metadata.RUN_ID, ""), pairs.get(metadata.ATTEMPT, "")
        self.append(
            fault, how, run_id=_text(run_id), attempt=int(text) if (text := _text(attempt)).isdigit() else 0
        )

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> DeliveryLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_deliveries(path: Path) -> list[Delivery]:
    """The deliveries in a log, in order; none where there is no file.

    A last line without its newline is a write that a kill cut short, and is left out. Raises DATA_LOSS on any
    other line that is not a delivery.
    """
    if not path.exists():
        return []
    with reading(path, "a delivery log"):
        lines, _torn = whole_lines(path.read_bytes())
    deliveries = []
    for number, line in enumerate(lines, start=1):
        try:
            deliveries.append(Delivery(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise TreniError(
                Code.DATA_LOSS,
                "delivery_log_broken",
                expected=f"a delivery on line {number} of {path}",
                got=str(error),
                todo="the file was changed by something else; do not trust this run",
            ) from None
    return deliveries


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")

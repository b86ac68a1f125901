"""The small campaigns in which planted bugs have to show: the bundled model and suites, a few tasks of each sort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matrices.spec.suites import Task, load_suite
from tests.matrices.harness import tool_tasks, write_suite
from tests.planted.bug import Campaign

RUNS = 3

STATUS = '[[faults.rules]]\nkind = "status"\nevery = 2\n'
LOST_REQUEST = '[[faults.rules]]\nkind = "stall"\ndirection = "request"\nevery = 3\n'
LOST_ANSWER = '[[faults.rules]]\nkind = "stall"\ndirection = "response"\nevery = 3\n'
PAUSED = '[[faults.rules]]\nkind = "service_paused"\nduration = "1200ms"\nevery = 1\nto_request = 1\n'


def _ledger() -> list[Task]:
    return tool_tasks("ledger_append")[: 2 * RUNS]


def _mixed() -> list[Task]:
    return [task for pair in zip(tool_tasks("calculator"), _ledger(), strict=False) for task in pair]


def _repaired() -> list[Task]:
    """Tasks whose first call the tool refuses."""
    chains = load_suite("chains").tasks
    return [task for task in chains if task.family == "ledger_repair"][: 2 * RUNS]


SUITES: dict[str, Callable[[], list[Task]]] = {"ledger": _ledger, "mixed": _mixed, "repaired": _repaired}


def arguments_of(campaign: Campaign, folder: Path) -> list[str]:
    """What `treni-route matrix` is given; writes the profile and the suite into `folder`."""
    tasks = SUITES[campaign.suite]()
    suite = write_suite(folder / "suite.jsonl", tasks, per_run=len(tasks) // RUNS)
    profile = folder / "planted.toml"
    by = "request" if campaign.site == "host" else "attempt"
    profile.write_text(
        f'name = "planted"\ntitle = "where a planted bug has to show"\n[policy]\nretries = {campaign.retries}\n'
        f'tool_timeout = "1s"\nbackoff_initial = "20ms"\n'
        f'[faults]\nsite = "{campaign.site}"\nby = "{by}"\nwarmup = 1\n{campaign.rules}',
        encoding="utf-8",
    )
    return [str(profile), "--suite", str(suite), "--runs", str(RUNS), *campaign.arguments]

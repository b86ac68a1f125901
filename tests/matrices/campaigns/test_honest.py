"""Honest campaigns, in which the checker must find nothing: every suite, every profile, every kind of fault.

The first runs in the default suite, all of them with `make honest` (about a quarter of an hour).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from matrices.spec.profiles import bundled_profiles
from matrices.spec.suites import bundled_suites
from tests.matrices import harness as h

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

CAMPAIGNS = int(os.environ.get("TRENI_HONEST", "1"))
"""How many of the campaigns run; `make honest` runs them all."""

HOGS = 2
"""Processes that do nothing but keep a processor busy, beside a campaign on a loaded machine."""

PROFILES: dict[str, str] = {
    "model_refuses": 'hop = "model"\n[[faults.rules]]\nkind = "status"\nevery = 3\n',
    "model_stalls": (
        'hop = "model"\n[[faults.rules]]\nkind = "stall"\ndirection = "response"\nevery = 5\n'
        '[[faults.rules]]\nkind = "reset"\nevery = 3\n'
        '[[faults.rules]]\nkind = "latency"\ndelay = "50ms"\nevery = 2\n'
    ),
    "tool_hop_slows": (
        '[[faults.rules]]\nkind = "slicer"\naverage_size = 10\ndelay = "1ms"\nevery = 5\n'
        '[[faults.rules]]\nkind = "reset"\nevery = 4\n'
        '[[faults.rules]]\nkind = "bandwidth"\nrate_kb_s = 8\nevery = 3\n'
        '[[faults.rules]]\nkind = "latency"\ndelay = "60ms"\nevery = 2\n'
    ),
    "tool_slows": (
        'site = "tool"\n[[faults.rules]]\nkind = "stall"\ndirection = "response"\nevery = 3\n'
        '[[faults.rules]]\nkind = "latency"\ndelay = "60ms"\nevery = 2\n'
        '[[faults.rules]]\nkind = "latency"\ndelay = "2s"\nevery = 5\n'
    ),
    "answers_lost": '[[faults.rules]]\nkind = "stall"\ndirection = "response"\nevery = 3\n',
    "by_request": 'by = "request"\n[[faults.rules]]\nkind = "status"\nevery = 3\n',
}
"""`[faults]` of profiles beside the bundled ones; names without their first underscore are those of the cells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Honest:
    """One campaign: its profiles (of `PROFILES`, or bundled), its options, and what happens to it meanwhile."""

    profiles: tuple[str, ...]
    options: tuple[str, ...]
    loaded: bool = False
    killed: bool = False


# Eight sessions at once on a loaded machine were seen to take over the default's 30 s: that is a fault of no plan.
_LONG_RUNS = ("--set", "policy.run_timeout=300s", "--set", "policy.model_timeout=250s")


def _runs(suite: str, runs: int, *options: str) -> tuple[str, ...]:
    return ("--suite", suite, "--runs", str(runs), *options)


def _every() -> dict[str, Honest]:
    made = {
        "refused calls under faults": Honest(profiles=("p03",), options=_runs("chains", 3)),
        "concurrent, on a loaded machine": Honest(
            profiles=("by_request",), options=_runs("chains", 2, "--concurrency", "6"), loaded=True
        ),
        "killed, every kind of fault on the tool hop": Honest(
            profiles=("tool_hop_slows",), options=_runs("chains", 2), killed=True
        ),
        "refused calls that are slow, or whose refusal is lost": Honest(
            profiles=("tool_slows",), options=_runs("chains", 3)
        ),
        "lost answers without keys": Honest(
            profiles=("answers_lost", "tool_slows"), options=_runs("tool_only", 2, "--no-idempotency")
        ),
        "faults on the model hop": Honest(
            profiles=("model_refuses", "model_stalls"), options=_runs("chains", 2)
        ),
        "fresh processes": Honest(profiles=("p04t",), options=_runs("core", 4, "--restarts", "2")),
        "several fault seeds": Honest(profiles=("r02",), options=_runs("tool_only", 2, "--fault-seeds", "2")),
        "another seed": Honest(profiles=("p05", "p05t"), options=_runs("core", 3, "--seed", "17")),
    }
    for suite in bundled_suites():
        for profile, one in bundled_profiles().items():
            if any(rule.fault.on_link for rule in one.faults.rules):
                continue  # one machine has no link to another host
            made[f"{suite} under {profile}"] = Honest(profiles=(profile,), options=_runs(suite, 1))
        made[f"{suite} on a loaded machine"] = Honest(
            profiles=("p04", "p04t"), options=_runs(suite, 2), loaded=True
        )
        made[f"{suite}, killed"] = Honest(profiles=("p03t",), options=_runs(suite, 2), killed=True)
        made[f"{suite}, concurrent"] = Honest(
            profiles=("p00", "r01", "r04"), options=_runs(suite, 2, "--concurrency", "8", *_LONG_RUNS)
        )
    return made


EVERY = _every()


@contextmanager
def _hogs(count: int) -> Iterator[None]:
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def _write(name: str, folder: Path) -> str:
    """The path of the profile, written; of a bundled one, of its patient copy."""
    if name not in PROFILES:
        return h.patient(folder, name)
    path = folder / f"{name}.toml"
    # The timeout is far over what a working tool takes on any machine: only what is planned to time out does.
    path.write_text(
        f'name = "{name.replace("_", "")}"\ntitle = "a profile of the tests"\n'
        '[policy]\nretries = 2\ntool_timeout = "1s"\nmodel_timeout = "8s"\nbackoff_initial = "20ms"\n'
        f"[faults]\n{PROFILES[name]}",
        encoding="utf-8",
    )
    return str(path)


def _killed(out: Path, arguments: list[str]) -> h.Result:
    """The campaign, killed within a pair of its last cell, and resumed."""
    process = h.start(*arguments)

    def within_a_pair() -> bool:
        told = h.events(out)
        return bool(told) and told[-1]["type"] == "invoke" and told[-1]["cell"] != "aa"

    h.wait_for(within_a_pair, process)
    process.kill()
    process.communicate()
    return h.resume(h.folder_in(out))


@pytest.mark.parametrize("name", list(EVERY)[:CAMPAIGNS])
def test_nothing_is_held_against_an_honest_campaign(name: str, tmp_path: Path) -> None:
    honest, out = EVERY[name], tmp_path / "out"
    profiles = ",".join(_write(profile, tmp_path) for profile in honest.profiles)
    arguments = [profiles, *honest.options, "--out", str(out)]
    with _hogs(HOGS if honest.loaded else 0):
        result = _killed(out, arguments) if honest.killed else h.finish(h.start(*arguments), out)
    checked = h.verb("check", result.folder)
    assert (result.status in (0, 3), checked.stdout) == (True, ""), result.stderr


def test_there_are_at_least_forty_of_them() -> None:
    assert len(EVERY) >= 40

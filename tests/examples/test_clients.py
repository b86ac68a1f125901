"""Each script of examples/clients against a real front, as its first lines say, from the environment of its libraries.

What the model answers is the model's: the scripts end with an error unless the answer has what only their tool knows,
and draw that anew each time.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.limits import HANG_S
from tests.places import ROOT
from tests.runtime_svc.http_front.front import MODEL, TINY, Front, served

pytestmark = pytest.mark.clients

SHELF = r"The shelf is (\d+)\."
TYPED = r"Shelf\(shelf=-?\d+\)"
VECTORS = "2 vectors of 256"

AGENTS = {
    "pydantic_ai_client.py": ("agents", (SHELF, SHELF, TYPED, VECTORS)),
    "openai_agents_client.py": ("agents", (SHELF, SHELF, TYPED)),
    "langgraph_client.py": ("agents", (SHELF, SHELF, TYPED, VECTORS)),
    "litellm_proxy.py": ("litellm", (SHELF, SHELF, TYPED, VECTORS)),
}
LOAD = {"guidellm_load.py": "guidellm", "aiperf_load.py": "aiperf"}


def _marked(scripts: Iterable[str]) -> list[Any]:
    """The scripts as parameters; those whose libraries install in a minute are `light`."""
    return [
        pytest.param(script, marks=[pytest.mark.light] if AGENTS.get(script, ("",))[0] == "agents" else [])
        for script in scripts
    ]


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with served() as running:
        yield running


def run(script: str, environment: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    python = ROOT / f".venv-{environment}" / "bin" / "python"
    command: list[str | Path] = [python, ROOT / "examples" / "clients" / script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)


def test_every_script_is_run_here() -> None:
    there = {file.name for file in (ROOT / "examples" / "clients").glob("*.py")}
    assert there == AGENTS.keys() | LOAD.keys()


@pytest.mark.parametrize("script", _marked(AGENTS))
def test_an_agent_calls_its_tool_in_both_turns(front: Front, script: str) -> None:
    environment, printed = AGENTS[script]
    ended = run(script, environment, f"{front.http}/v1", MODEL)
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch("\n".join(printed) + "\n", ended.stdout), ended.stdout


@pytest.mark.parametrize("script", _marked(LOAD))
def test_a_load_tool_gets_all_its_answers(front: Front, script: str) -> None:
    ended = run(script, LOAD[script], f"{front.http}/v1", MODEL, str(TINY))
    assert ended.returncode == 0, ended.stderr
    assert "8 of 8 requests" in ended.stdout


@pytest.mark.parametrize("script", _marked([*AGENTS, *LOAD]))
def test_a_script_that_gets_no_answer_says_so(front: Front, script: str) -> None:
    environment = LOAD[script] if script in LOAD else AGENTS[script][0]
    ended = run(script, environment, f"{front.http}/v1", "nobody", *([str(TINY)] if script in LOAD else []))
    assert ended.returncode != 0, ended.stdout

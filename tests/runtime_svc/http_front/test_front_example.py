"""examples/openai_client.py against a real front."""

import subprocess
import sys
from pathlib import Path

from tests.places import ROOT
from tests.runtime_svc.http_front.front import Front


def test_the_example_answers_by_a_tool_of_its_own(front: Front) -> None:
    command: list[str | Path] = [
        sys.executable,
        ROOT / "examples" / "openai_client.py",
        f"{front.http}/v1",
        "Calculate 8 divided by 5.",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "The result is 1.6.\n"
    assert 'calculator({"expression": "8 / 5"}) gave {"result": 1.6}' in ended.stderr

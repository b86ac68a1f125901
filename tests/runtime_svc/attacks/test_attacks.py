"""Hostile requests over both fronts beside good clients: some hundred here, the issue's 5,000 by `make fuzz`."""

from pathlib import Path

import pytest

from tests.runtime_svc.attacks.fuzz import fuzz
from tests.runtime_svc.attacks.target import target

FEW = 150


@pytest.mark.parametrize(
    ("locked", "requests"),
    [
        (True, FEW),
        pytest.param(False, 2500, marks=pytest.mark.soak),
        pytest.param(True, 2500, marks=pytest.mark.soak),
    ],
)
async def test_hostile_requests_hurt_nobody(tmp_path: Path, locked: bool, requests: int) -> None:
    with target(tmp_path, locked=locked) as attacked:
        if requests == FEW:
            fuzzed = await fuzz(attacked, requests, seed=1, warm=60, of_each=1, patient=False)
        else:
            fuzzed = await fuzz(attacked, requests, seed=1)
    print(fuzzed)
    assert all(one.answered > 0 for one in fuzzed.good)

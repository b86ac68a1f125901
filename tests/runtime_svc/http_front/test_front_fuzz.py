"""Hostile requests beside a good client: a few here, the issue's 5,000 as soak."""

import pytest

from tests.runtime_svc.http_front.front import Front
from tests.runtime_svc.http_front.fuzz import fuzz


@pytest.mark.parametrize("requests", [150, pytest.param(5000, marks=pytest.mark.soak)])
async def test_hostile_requests_hurt_nobody(front: Front, requests: int) -> None:
    fuzzed = await fuzz(front, requests, seed=requests)
    print(fuzzed)
    assert sum(fuzzed.told.values()) == requests
    assert fuzzed.good > 0

"""What a hop costs beside a bare call: the ratios that are made of measured medians, and a real measurement."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deploy.overhead.__main__ import costs_of
from deploy.overhead.calls import ACROSS, HOP, PROXIED, RAY, WITHIN
from deploy.split_host.ray_cluster import has_ray
from tests.limits import HANG_S


def test_a_ratio_is_that_of_one_repeat_and_not_of_the_whole() -> None:
    # A machine that slowed down for everybody in one repeat changes no ratio.
    bare, hop = costs_of({ACROSS: [0.001, 0.010, 0.002], HOP: [0.002, 0.020, 0.005]})
    assert (bare.median_s, bare.least_s, bare.most_s, bare.ratio) == (0.002, 0.001, 0.010, 1.0)
    assert (hop.median_s, hop.least_s, hop.most_s, hop.ratio) == (0.005, 0.002, 0.020, 2.0)


@pytest.mark.namespaces
@pytest.mark.chaos
@pytest.mark.slow
def test_every_call_is_measured_in_one_run() -> None:
    command = [
        sys.executable,
        "-m",
        "deploy.overhead",
        "--rounds",
        "10",
        "--repeats",
        "2",
        "--format",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rounds"], told["repeats"]) == (10, 2)
    rows = {row["what"]: row for row in told["rows"]}
    assert len(rows) == len([WITHIN, ACROSS, HOP, PROXIED, *([RAY] if has_ray() else [])])
    assert all(0 < row["least_s"] <= row["median_s"] <= row["most_s"] for row in rows.values())
    assert rows["bare gRPC, across the link"]["ratio"] == 1.0

"""The bench of the fronts at its smallest, on a real runtime."""

import json
import subprocess
import sys


def test_every_front_is_measured_beside_the_bare_engine() -> None:
    command = [sys.executable, "-m", "runtime_svc.bench.fronts", "--requests", "5", "--rounds", "1"]
    ended = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    rows = {row["front"]: row for row in json.loads(ended.stdout)["rows"]}
    assert list(rows) == ["engine", "grpc", "http"]
    for row in rows.values():
        assert row["latency_s"] > row["added_s"] > 0, "the engine's time is part of a request's"
        assert row["added_p99_s"] >= row["added_s"]
        assert row["per_s"] > 0
    assert rows["http"]["over_http"] == 1


def test_an_interpreter_without_litellm_is_told_of() -> None:
    command = [
        sys.executable,
        "-m",
        "runtime_svc.bench.fronts",
        "--requests",
        "5",
        "--litellm",
        "/nowhere/python",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "litellm" in ended.stderr
    assert "Traceback" not in ended.stderr

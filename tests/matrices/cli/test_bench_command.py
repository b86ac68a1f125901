import json
import re

import pytest
from click.testing import CliRunner

from matrices.cli.main import main


def test_bench_is_a_group() -> None:
    shown = CliRunner().invoke(main, ["bench", "--help"])
    assert shown.exit_code == 0
    assert re.search(r"^  metrics .*\n  routing .*\n  runtime .*\n  scale ", shown.output, re.MULTILINE)
    assert CliRunner().invoke(main, ["bench", "routing", "--requests", "1"]).exit_code == 2


@pytest.mark.chaos
def test_routing_prints_each_cost_beside_its_floor() -> None:
    ended = CliRunner().invoke(main, ["bench", "routing", "--requests", "5"])
    assert ended.exit_code == 0, ended.output
    figures = {
        match[1].strip(): (float(match[2]), match[3])
        for match in re.finditer(r"^ (.{40,}?) +(-?\d+\.\d{3})  (.+)$", ended.output, re.MULTILINE)
    }
    assert len(figures) == 6
    assert figures["bare generation (Generate)"][0] > 0
    assert figures["bare grpc.aio echo, 256 B"][0] > 0
    assert [floor.split()[-1] for _, floor in figures.values()].count("echo") == 2
    assert "5 requests of each kind" in ended.output


@pytest.mark.chaos
def test_routing_is_json_for_a_script() -> None:
    ended = CliRunner().invoke(main, ["bench", "routing", "--requests", "5", "--format", "json"])
    value = json.loads(ended.stdout)
    assert value["requests"] == 5
    assert [row["floor"] for row in value["rows"]] == ["", "echo", "echo", "", "generation", "generation"]
    assert all(row["median_s"] > 0 for row in value["rows"] if not row["floor"])


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
def test_traces_has_each_arm_under_each_way() -> None:
    ended = CliRunner().invoke(main, ["bench", "traces", "--requests", "5", "--format", "json"])
    assert ended.exit_code == 0, ended.output
    rows = json.loads(ended.stdout)["rows"]
    ways = ["off", "off, another testbed", "to files", "to an endpoint that is not there"]
    assert [(row["arm"], row["way"]) for row in rows] == [
        (arm, way) for arm in ("internal", "external") for way in ways
    ]
    assert all(row["median_s"] > 0 and row["cpu_s"] > 0 for row in rows)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.soak
def test_scale_has_a_row_for_each_number_of_controllers_from_the_same_rounds(form: str) -> None:
    asked = ["bench", "scale", "--requests", "8", "--rounds", "1", "--concurrency", "4", "--format", form]
    ended = CliRunner().invoke(main, asked)
    assert ended.exit_code == 0, ended.output
    if form == "table":
        ranged = r"\d+\.\d \[\d+\.\d, \d+\.\d\]"
        rows = re.findall(rf"^ +(\d) +{ranged} +{ranged} +\d+\.\d+ \[", ended.stdout, re.MULTILINE)
        assert rows == ["1", "2", "4"]
        assert "4 requests in flight, 8 of each arm in each of 1 rounds" in ended.stdout
        return
    value = json.loads(ended.stdout)
    assert (value["baseline"], value["compared"], value["rounds"]) == ("internal", "external", 1)
    assert [row["controllers"] for row in value["rows"]] == [1, 2, 4]
    for row in value["rows"]:
        # Of one round the median is the round itself.
        for name in ("baseline_per_s", "compared_per_s", "ratio"):
            assert row[name] > 0
            assert row[f"{name}_range"] == [row[name]] * 2


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
def test_what_metrics_cost_stands_beside_the_floor_of_the_same_rounds() -> None:
    ended = CliRunner().invoke(main, ["bench", "metrics", "--rounds", "10", "--format", "json"])
    assert ended.exit_code == 0, ended.output
    value = json.loads(ended.stdout)
    assert value["rounds"] == 10
    assert value["scrapes"] > 0
    assert [row["arm"] for row in value["rows"]] == ["internal", "external"]
    for row in value["rows"]:
        for figure in ("floor", "moved"):
            low, high = row[f"{figure}_interval"]
            assert 0 < low <= row[figure] <= high

import re

import pytest
from click.testing import CliRunner

from matrices.cli.main import main


def test_bench_is_a_group_of_two():
    shown = CliRunner().invoke(main, ["bench", "--help"])
    assert shown.exit_code == 0
    assert re.search(r"^  routing .*\n  runtime ", shown.output, re.MULTILINE)
    assert CliRunner().invoke(main, ["bench", "routing", "--requests", "1"]).exit_code == 2


@pytest.mark.chaos
def test_routing_prints_each_cost_beside_its_floor():
    ended = CliRunner().invoke(main, ["bench", "routing", "--requests", "5"])
    assert ended.exit_code == 0, ended.output
    title, *rows = ended.output.splitlines()
    assert title == "5 requests of each kind, interleaved; medians"
    figures = {row[:46].strip(): float(row[46:].split()[0]) for row in rows}
    assert len(figures) == 6
    assert figures["bare generation (Generate)"] > 0
    assert figures["bare grpc.aio echo, 256 B"] > 0
    assert [row.split()[-1] for row in rows].count("echoes") == 2

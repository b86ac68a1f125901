"""The options that let a matrix be scraped: refused before anything runs, and no part of what a campaign is."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from matrices.cli.campaign_file import keys
from matrices.cli.matrix import matrix
from treni import metrics
from treni.metrics import Page
from treni.metrics_page import serve


def asked(out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(matrix, ["p00", "--runs", "1", "--out", str(out), *arguments])


def test_a_list_of_nothing_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ended = asked(tmp_path / "out", "--metrics-targets", str(tmp_path / "targets.json"))
    assert ended.exit_code == 2
    assert "add --metrics-port 0" in ended.output
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_told_before_anything_runs(tmp_path: Path) -> None:
    taken = serve(Page(), port=0)
    try:
        ended = asked(tmp_path / "out", "--metrics-port", taken.address.split(":")[2].split("/")[0])
    finally:
        taken.stop()
        metrics.switch_off()
    assert ended.exit_code == 1
    assert "to be free" in ended.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["metrics-port", "metrics-targets"])
def test_they_are_no_keys_of_a_campaign(option: str) -> None:
    assert option not in keys(matrix)

"""Dashboards and rules name what there is, and the committed JSON is what the code gives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from dashboards.__main__ import JSON
from dashboards.boards import BOARDS
from dashboards.build import SOURCE, to_json
from dashboards.charts import Board
from matrices.cli.metrics_markdown import described
from tests.places import ROOT

RULES = ROOT / "deploy" / "prometheus"
PROVISIONING = ROOT / "dashboards" / "provisioning"
LABELS_OF_TARGETS = {"job", "instance", "role", "host", "le"}


def recorded() -> set[str]:
    groups = yaml.safe_load((RULES / "recording.rules.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["record"] for group in groups for rule in group["rules"]}


def rule_expressions() -> dict[str, str]:
    found = {}
    for path in RULES.glob("*.rules.yml"):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                found[rule.get("record", rule.get("alert"))] = rule["expr"]
    return found


def unknown_in(expr: str) -> set[str]:
    """The metrics in a query that nothing of ours gives, and the labels that those which it reads do not have."""
    known = {metric.name: {*metric.labels} for metric in described()}
    named = set(re.findall(r"\btreni[_:][a-z0-9_:]+", re.sub(r'"[^"]*"', '""', expr)))
    unknown, labels = set(), {*LABELS_OF_TARGETS, "arm", "hop"}
    for name in named - recorded():
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if name not in known and base not in known:
            unknown.add(name)
        labels |= known.get(name, set()) | known.get(base, set())
    asked = {
        one.strip()
        for by in re.findall(r"(?:by|on) \(([^)]*)\)", expr)
        for one in by.split(",")
        if one.strip()
    }
    asked |= set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", expr))
    return unknown | (asked - labels)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_the_committed_json_is_what_the_code_gives(board: Board) -> None:
    assert (JSON / f"{board.uid}.json").read_text(encoding="utf-8") == to_json(board), (
        "run python -m dashboards"
    )


def test_nothing_else_lies_beside_it() -> None:
    assert {path.stem for path in JSON.glob("*.json")} == {board.uid for board in BOARDS}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_queries_ask_for_metrics_and_labels_that_there_are(board: Board) -> None:
    asked = [query.expr for chart in board.charts for query in chart.queries]
    asked += [annotation.expr for annotation in board.annotations]
    assert {expr: unknown for expr in asked if (unknown := unknown_in(expr))} == {}


def test_rules_ask_for_metrics_and_labels_that_there_are() -> None:
    rules = rule_expressions()
    assert {name: unknown for name, expr in rules.items() if (unknown := unknown_in(expr))} == {}


def test_what_is_not_there_is_found() -> None:
    assert unknown_in("sum by (arm) (rate(treni_agent_runs_totall[5m]))") == {"treni_agent_runs_totall"}
    assert unknown_in('treni_host_load1{task_id="x"}') == {"task_id"}
    assert unknown_in("sum by (run_id) (treni_host_load1)") == {"run_id"}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_panels_have_numbers_and_places_of_their_own(board: Board) -> None:
    panels = json.loads(to_json(board))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == SOURCE.uid


def test_variables_are_there_exactly_where_queries_use_them() -> None:
    for board in BOARDS:
        uses = any("$arm" in query.expr for chart in board.charts for query in chart.queries)
        assert uses == board.by_arm, board.uid


def test_provisioning_names_the_source_that_panels_ask_and_where_the_json_is() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert (source["uid"], source["type"]) == (SOURCE.uid, SOURCE.type_val)
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "treni.yml").read_text(encoding="utf-8"))[
        "providers"
    ]
    assert provider["options"]["path"] == "$TRENI_DASHBOARDS"
    assert Path(ROOT / "dashboards" / "json") == JSON

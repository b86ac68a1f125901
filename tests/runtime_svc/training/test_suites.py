"""The bundled suites: expected answers are what the real tools give, and the bundled model gets them right."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from matrices.spec.make_suites import CANDIDATES, SUITES, TOOLS, Asked, Candidate, candidate, is_right
from matrices.spec.suite_makers import RealTools
from matrices.spec.suites import Expected, Task, load_suite
from runtime_svc.engine import Engine
from runtime_svc.training.evaluate import CHECKPOINT
from runtime_svc.training.vocabulary import Draw, Part
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import build_registry


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealTools]:
    config = ToolsConfig(ledger_path=tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    with build_registry(config) as registry:
        yield RealTools(registry)


def _candidate(task: Task) -> Candidate:
    turns = tuple(
        Asked(
            prompt=turn.prompt,
            calls=tuple((call.name, call.arguments) for call in turn.expect.calls or ()),
            refused=tuple(call.refused for call in turn.expect.calls or ()),
            answer=turn.expect.answer,
        )
        for turn in task.turns
    )
    return Candidate(family=task.family, tools=task.tools, turns=turns)


def test_core_has_one_tool_task_a_run_with_the_tool_rotating() -> None:
    suite = load_suite("core")
    assert [len(run) for run in suite.runs] == [4] * 12
    assert len({task.prompt for task in suite.tasks}) == 48
    places = set()
    for number, run in enumerate(suite.runs):
        called = [task for task in run if task.calls]
        assert [[call.name for call in task.calls] for task in called] == [[TOOLS[number % 4]]]
        places.add(run.index(called[0]))
        assert all(sorted(task.tools) == sorted(TOOLS) for task in run)
    assert places == {0, 1, 2, 3}


def test_tool_only_has_each_tool_once_a_run() -> None:
    suite = load_suite("tool_only")
    assert len(suite.tasks) == 48
    for run in suite.runs:
        assert sorted(call.name for task in run for call in task.calls) == sorted(TOOLS)


def test_chains_have_two_to_four_calls_and_some_repairs() -> None:
    tasks = load_suite("chains").tasks
    assert len(tasks) == 24
    assert {len(task.calls) for task in tasks} == {2, 3, 4}
    assert any("repair" in task.family for task in tasks)


@pytest.mark.parametrize("name", sorted(SUITES))
def test_expected_answers_and_effects_are_the_real_tools_own(name: str, tools: RealTools) -> None:
    for task in load_suite(name).tasks:
        recorded = sum(_recorded(turn.expect, tools) for turn in task.turns)
        assert task.side_effects == recorded


def _recorded(expect: Expected, tools: RealTools) -> int:
    """How many entries the real tools make of the calls, whose results the answer must give."""
    recorded = 0
    for call in expect.calls or ():
        result = json.loads(tools.respond(call.name, json.dumps(call.arguments)))
        recorded += "recorded" in result
        assert call.refused == ("error" in result)
    if not expect.calls:
        return recorded
    assert "error" not in result
    if "value" in result:
        assert expect.answer == f"The result is {result['value']}."
    elif "hits" in result:
        assert expect.answer == f"Note {result['hits'][0]['note']}: {result['hits'][0]['text']}"
    elif "rows" in result:
        assert all(str(row[0]) in expect.answer for row in result["rows"])
    else:
        entry = result["recorded"]
        assert f"{entry['amount']} in {entry['account']}" in expect.answer
    return recorded


def test_sessions_have_two_to_four_user_turns_and_refer_to_what_was_said() -> None:
    suite = load_suite("sessions")
    assert [len(run) for run in suite.runs] == [4] * 6
    assert {len(task.turns) for task in suite.tasks} == {2, 3, 4}
    for task in suite.tasks:
        if task.family == "mixed":
            continue
        (said,) = task.turns[-1].expect.calls or ()
        assert "it" in task.turns[-1].prompt.split()
        assert str(said.arguments["amount"]) not in task.turns[-1].prompt
        assert str(said.arguments["amount"]) in task.turns[-2].expect.answer


@pytest.mark.soak
@pytest.mark.parametrize("name", ["core", "sessions"])
def test_the_bundled_model_gets_the_suite_right(name: str, tools: RealTools) -> None:
    engine = Engine.load(CHECKPOINT, backend="numpy")
    wrong = [task.id for task in load_suite(name).tasks if not is_right(engine, tools, _candidate(task))]
    assert wrong == []


def test_a_wrong_answer_is_not_right(tools: RealTools) -> None:
    engine = Engine.load(CHECKPOINT, backend="numpy")
    task = _candidate(load_suite("core").tasks[0])
    assert is_right(engine, tools, task)
    (asked,) = task.turns
    assert not is_right(engine, tools, replace(task, turns=(replace(asked, answer=asked.answer + "!"),)))


@pytest.mark.parametrize("name", sorted(SUITES))
def test_candidates_are_a_function_of_the_seed(name: str, tools: RealTools) -> None:
    import random

    def pool() -> list[Candidate]:
        rng = random.Random("x")
        draw = Draw(rng=rng, part=Part(values=True))
        families = [family for run in SUITES[name](rng) for family in run]
        return [candidate(draw, tools, family) for family in families]

    assert CANDIDATES > 1
    assert pool() == pool()

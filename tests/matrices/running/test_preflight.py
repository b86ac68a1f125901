import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from matrices.cli.main import main
from tests.matrices import harness as h

TASK = {
    "id": "a",
    "family": "direct",
    "run": 0,
    "prompt": "Calculate 8 divided by 5.",
    "tools": ["calculator"],
    "expect": {"answer": "The result is 1.6.", "calls": []},
    "side_effects": 0,
}
CALL = {"name": "calculator", "arguments": {"expression": "8 / 5"}}


def refused(out: Path, *arguments: str) -> str:
    """What a dry run and a run say alike, with status 2, before there is a folder."""
    told = []
    for more in (["--dry-run"], []):
        ended = CliRunner().invoke(main, ["matrix", *arguments, *more, "--out", str(out)])
        assert (ended.exit_code, ended.stdout) == (2, ""), ended.stderr
        assert not out.exists()
        told.append(ended.stderr)
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"tools": ["calculater"]}, ("calculater", 'did you mean "calculator"?')),
        (
            {"expect": {"answer": "x", "calls": [{**CALL, "name": "facts_sql"}]}},
            ("facts_sql", "that it offers"),
        ),
        ({"tools": [], "expect": {"answer": "x", "calls": [CALL]}}, ("calculator", "none offered")),
        ({"id": "x" * 257}, ("line 1", "id")),
        ({"run": 1}, ("runs numbered 0, 1, 2",)),
        ({"side_effects": -1}, ("line 1", "side_effects")),
        ({"colour": "red"}, ("line 1", "colour")),
    ],
)
def test_a_suite_that_cannot_be_run_is_told_first(
    tmp_path: Path, change: dict[str, object], names: tuple[str, ...]
) -> None:
    suite = tmp_path / "mine.jsonl"
    suite.write_text(json.dumps(TASK | change) + "\n", encoding="utf-8")
    told = refused(tmp_path / "out", "p00", "--suite", str(suite))
    assert "mine" in told
    for name in names:
        assert name in told


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("aa_mine", "'aa'"),
        ("aa", "'aa'"),
        ("p00_other", "rename one"),
        ("x" * 129, "128"),
        ("../x", "name"),
        ("P00", "name"),
    ],
)
def test_a_profile_by_another_s_name_is_told_first(tmp_path: Path, name: str, word: str) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text(f'name = "{name}"\ntitle = "Mine"\n', encoding="utf-8")
    assert word in refused(tmp_path / "out", f"p00,{profile}")


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--model", "/nonexistent", "at /nonexistent"),
        ("--backend", "cupy", "--backend: "),
        ("--toxiproxy", "::1", "[IPv6 address]:port"),
    ],
)
def test_what_this_machine_has_not_is_told_first(tmp_path: Path, option: str, value: str, word: str) -> None:
    assert word in refused(tmp_path / "out", "p00", option, value)


def test_a_damaged_model_is_told_first(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
    assert "--model: " in refused(tmp_path / "out", "p00", "--model", str(model))


@pytest.mark.chaos
def test_a_task_with_no_tools_is_offered_none(tmp_path: Path) -> None:
    """An empty list meant every tool there is, and a model that then called one was held against itself."""
    suite = tmp_path / "none.jsonl"
    tasks = [
        TASK | {"id": f"t{run}", "run": run, "tools": [], "prompt": f"Say {run}.\u2028Now."}
        for run in range(2)
    ]
    suite.write_text(
        "".join(json.dumps(task, ensure_ascii=False) + "\r\n" for task in tasks), encoding="utf-8-sig"
    )
    result = h.matrix(tmp_path / "out", "p00", "--suite", str(suite), "--runs", "2")
    found = h.verb("check", result.folder)
    kinds = {line.split()[0] for line in found.stdout.splitlines()}
    assert kinds <= {"answer_wrong", "report_differs"}, found.stdout
    outcomes = [event for event in h.events(tmp_path / "out") if event["type"] == "outcome"]
    assert len(outcomes) == 8
    for event in outcomes:
        record = event["record"]
        assert isinstance(record, dict)
        assert record["tools"] == []

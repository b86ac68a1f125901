"""A campaign in one file: the options of the command under their names, and what is wrong with them told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from matrices.cli.campaign_file import campaign_schema, keys
from matrices.cli.matrix import matrix
from matrices.cli.schema import FOLDER

TASKS = '{"id": "a", "prompt": "Which?", "answer": "this"}\n'


def plan(folder: Path, text: str, *arguments: str) -> Result:
    """`treni-route matrix campaign.toml --dry-run` with that text in the file."""
    (folder / "campaign.toml").write_text(text, encoding="utf-8")
    (folder / "mine.jsonl").write_text(TASKS, encoding="utf-8")
    return CliRunner().invoke(
        matrix, [str(folder / "campaign.toml"), *arguments, "--dry-run", "--format", "json"]
    )


def cells(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["cells"]
    return found


def test_what_the_file_says_is_planned_and_the_command_line_counts_over_it(tmp_path: Path) -> None:
    text = 'profiles = ["p00", "p02t"]\ntasks = "mine.jsonl"\nruns = 5\nset = ["policy.retries=0..1"]\n'
    planned = cells(plan(tmp_path, text))
    assert {cell["pairs"] for cell in planned} == {5}
    assert len({cell["cell"] for cell in planned}) == 5
    assert {cell["pairs"] for cell in cells(plan(tmp_path, text, "--runs", "2"))} == {2}
    assert {cell["pairs"] for cell in cells(plan(tmp_path, text, "--suite", "core", "--runs", "2"))} == {8}


def test_arms_outside_come_by_what_is_said_of_them(tmp_path: Path) -> None:
    text = (
        'profiles = "p00"\ntasks = "mine.jsonl"\nruns = 1\nmodel-endpoint = "http://h/v1"\nmodel-name = "m"\n'
    )
    assert {cell["arm"] for cell in cells(plan(tmp_path, text))} == {"internal", "internal_b", "endpoint"}
    both = text + 'agent-command = "python agent.py"\n'
    assert {cell["arm"] for cell in cells(plan(tmp_path, both))} == {"endpoint", "endpoint_b", "agent"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('profiles = "p00"\nruins = 3\n', 'did you mean "runs"?'),
        ('profiles = "p00"\nmodel_endpont = "http://h/v1"\n', 'did you mean "model-endpoint"?'),
        ('profiles = "p00"\nresume = "x"\n', "no"),
        ('profiles = "p00"\nruns = "3"\n', "runs in"),
        ('profiles = "p00"\nruns = 0\n', "minimum"),
        ('profiles = "p00"\nbackend = "numby"\n', "backend in"),
        ('profiles = "p00"\nno-fencing = "yes"\n', "no-fencing in"),
        ("profiles = 5\n", "profiles in"),
        ("runs = 3\n", "profiles in"),
        ("runs = \n", "TOML"),
        ('profiles = "p00"\ntasks = "none.jsonl"\n', "none.jsonl"),
        ('profiles = "p00"\nmodel-endpoint = "http://user:secret@h/v1"\nmodel-name = "m"\n', "credentials"),
        ('profiles = "p00"\nmodel-endpoint = "ftp://h/v1"\nmodel-name = "m"\n', "a URL such as"),
        ('profiles = "p00"\nmodel-endpoint = "http://h/v1"\n', "the model's name"),
        ('profiles = "p00"\ncompare = "internal:endpoint"\n', "--model-endpoint URL"),
        ('profiles = "p00"\nmodel-name = "m"\n', "--model-endpoint URL beside it"),
        ('profiles = "p00"\nagent-url = "http://h/"\nagent-command = "x"\n', "one of them"),
        ('profiles = "p00"\nagent-command = "\\""\n', "No closing quotation"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(text: str, said: str, tmp_path: Path) -> None:
    result = plan(tmp_path, text)
    assert result.exit_code in (1, 2)
    told = f"{result.output} {result.exception}"
    assert said in told
    assert "secret" not in told


def test_a_profile_of_ones_own_is_no_campaign(tmp_path: Path) -> None:
    text = 'name = "m01"\ntitle = "of the tests"\n'
    assert {cell["cell"] for cell in cells(plan(tmp_path, text))} == {"aa", "m01"}


def test_what_an_encrypted_endpoint_can_not_meet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m01.toml").write_text(
        'name = "m01"\ntitle = "t"\n[faults]\n[[faults.rules]]\nkind = "status"\nhop = "model"\nevery = 5\n',
        encoding="utf-8",
    )
    text = 'profiles = "m01.toml"\ntasks = "mine.jsonl"\nruns = 1\nmodel-name = "m"\nmodel-endpoint = '
    assert cells(plan(tmp_path, text + '"http://h/v1"\n'))
    refused = plan(tmp_path, text + '"https://h/v1"\n')
    assert (
        "an http:// endpoint for what is done to its hop: the faults of m01"
        in f"{refused.output} {refused.exception}"
    )


def test_the_schema_of_tasks_takes_three_keys_and_the_whole_form_but_not_both() -> None:
    check = jsonschema.Draft202012Validator(
        json.loads((FOLDER / "suite.schema.json").read_text(encoding="utf-8"))
    )
    short = {"id": "a", "prompt": "p", "answer": "x"}
    assert check.is_valid(short)
    assert check.is_valid({"id": "a", "prompt": "p", "expect": {"answer": "x", "calls": None}})
    assert not check.is_valid(short | {"expect": {"answer": "x"}})
    assert not check.is_valid({"id": "a", "prompt": "p"})
    assert not check.is_valid(short | {"promt": "p"})


def test_the_schema_has_every_option_and_takes_what_the_command_takes() -> None:
    schema = campaign_schema(matrix)
    assert set(schema["properties"]) == {"profiles", *keys(matrix)}
    assert {"resume", "dry-run", "format", "log-level"} & set(schema["properties"]) == set()
    check = jsonschema.Draft202012Validator(schema)
    check.validate(
        {"profiles": ["p00"], "runs": 3, "no-idempotency": True, "set": ["policy.retries=1"], "margin": 0.1}
    )
    assert not check.is_valid({"profiles": "p00", "margin": 1.0})
    shipped = json.loads((FOLDER / "campaign.schema.json").read_text(encoding="utf-8"))
    assert shipped["properties"].keys() == schema["properties"].keys()

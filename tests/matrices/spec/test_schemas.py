import json
import tomllib
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from matrices.cli.commands_markdown import commands_markdown
from matrices.cli.errors_markdown import HANDED_ON, errors_markdown, scanned
from matrices.cli.main import main
from matrices.cli.schema import FOLDER, SCHEMAS, schema_text
from matrices.spec.profiles import bundled_profiles, load_profile
from matrices.spec.suites import bundled_suites
from tests.places import ROOT

EXAMPLE = ROOT / "examples" / "matrix-h200" / "run"


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads(schema_text(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_that_ship_are_those_of_the_code(name: str) -> None:
    shipped = (FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(name), "write them anew: treni-route schema --out matrices/schemas"


def test_the_page_of_commands_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page == commands_markdown(), "python -m matrices.cli.commands_markdown > docs/commands.md"


def test_the_page_of_errors_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == errors_markdown(), "python -m matrices.cli.errors_markdown > docs/errors.md"


def test_every_place_that_makes_an_error_names_a_kind_or_hands_one_on() -> None:
    raised, unread = scanned()
    assert unread == HANDED_ON, "name the kind there, or put it into HANDED_ON and its kinds into the page"
    found = {(one.kind, one.code, one.file) for one in raised}
    # One of each way to name a kind: there, by a constant, as an argument, as a field, in a loop, in a table.
    assert {
        ("plans_differ", "INVALID_ARGUMENT", "matrices/evidence/agreement.py"),
        ("disk_full", "RESOURCE_EXHAUSTED", "treni/storage.py"),
        ("history_malformed", "DATA_LOSS", "matrices/evidence/events.py"),
        ("request_too_large", "INVALID_ARGUMENT", "treni/limits.py"),
        ("certificate_untrusted", "UNAVAILABLE", "treni/handshakes.py"),
        ("top_p_invalid", "INVALID_ARGUMENT", "controller/server.py"),
        ("key_missing", "UNAUTHENTICATED", "treni/doors.py"),
        ("sql_not_allowed", "INVALID_ARGUMENT", "tools_svc/facts_sql.py"),
    } <= found


def test_every_bundled_profile_fits_its_schema_and_wrong_ones_do_not() -> None:
    schema = validator("profile")
    with resources.as_file(resources.files("matrices") / "profiles") as folder:
        texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.toml"))]
    for text in texts:
        schema.validate(tomllib.loads(text))
    for wrong in (
        {"name": "x"},
        {"name": "X", "title": "t"},
        {"name": "x", "title": "t", "policy": {"tool_timeout": 3}},
        {"name": "x", "title": "t", "policy": {"retriez": 1}},
        {"name": "x", "title": "t", "faults": {"rules": [{"kind": "nonsense", "every": 2}]}},
    ):
        assert not schema.is_valid(wrong)


@pytest.mark.parametrize("name", bundled_suites())
def test_every_bundled_suite_fits_its_schema(name: str) -> None:
    schema = validator("suite")
    for line in (resources.files("matrices") / "suites" / f"{name}.jsonl").read_bytes().split(b"\n")[:-1]:
        schema.validate(json.loads(line))


def test_a_campaign_fits_its_schemas() -> None:
    validator("manifest").validate(json.loads((EXAMPLE / "manifest.json").read_bytes()))
    schema = validator("history")
    for line in (EXAMPLE / "history.jsonl").read_bytes().split(b"\n")[:60]:
        event = json.loads(line)
        del event["prev"]
        schema.validate(event)


@pytest.mark.parametrize("name", bundled_profiles())
def test_a_shown_profile_is_a_file_that_says_the_same(tmp_path: Path, name: str) -> None:
    shown = CliRunner().invoke(main, ["profiles", "--show", name])
    assert shown.exit_code == 0, shown.output
    path = tmp_path / "shown.toml"
    path.write_text(shown.stdout, encoding="utf-8")
    assert load_profile(path) == bundled_profiles()[name]
    validator("profile").validate(tomllib.loads(shown.stdout))
    told = json.loads(CliRunner().invoke(main, ["profiles", "--show", name, "--format", "json"]).stdout)
    assert told == [bundled_profiles()[name].model_dump(mode="json")]


def test_validate_names_the_file_and_what_is_wrong(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.toml", tmp_path / "wrong.toml"
    right.write_text('\ufeffname = "mine"\r\ntitle = "Mine"\r\n', encoding="utf-8")
    wrong.write_text('name = "mine"\ntitle = "M"\n[policy]\nretriez = 1\n', encoding="utf-8")
    told = CliRunner().invoke(main, ["profiles", "--validate", str(right)])
    assert (told.exit_code, told.stderr) == (0, "1 profiles and 0 suites are valid\n")
    told = CliRunner().invoke(main, ["profiles", "--validate", str(right), str(wrong)])
    assert told.exit_code == 2
    assert str(wrong) in told.stderr
    assert "policy.retriez" in told.stderr

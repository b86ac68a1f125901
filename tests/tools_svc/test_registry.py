from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools_svc.arguments import MAX_BYTES, MAX_DEPTH, decode
from tools_svc.ledger_append import read_effects
from tools_svc.protocol import CallInfo, Tool, ToolOutput, ToolsConfig, make_spec, to_json
from tools_svc.registry import MAX_ID_CHARS, Registry, build_registry, tool_specs
from treni.errors import Code, TreniError
from treni.v1.common_pb2 import ToolSpec
from treni.v1.tools_pb2 import CallToolRequest


def error_of(registry: Registry, name: str, arguments_json: str, **ids: str) -> TreniError:
    request = CallToolRequest(name=name, arguments_json=arguments_json)
    for field, value in ids.items():
        setattr(request, field, value)
    with pytest.raises(TreniError) as caught:
        registry.call(request)
    assert caught.value.definite
    assert len(str(caught.value)) < 1000
    return caught.value


def test_specs_are_listed_in_order_without_building() -> None:
    specs = tool_specs()
    assert [spec.name for spec in specs] == ["calculator", "facts_sql", "notes_search", "ledger_append"]
    assert [spec.has_side_effects for spec in specs] == [False, False, False, True]
    for spec in specs:
        schema = json.loads(spec.parameters_json)
        assert set(schema) == {"type", "properties", "required"}
        assert all({"type", "description"} <= set(argument) for argument in schema["properties"].values())
        assert set(schema["required"]) <= set(schema["properties"])


def test_the_registry_lists_what_it_can_call(registry: Registry) -> None:
    assert registry.specs() == tool_specs()


BAD_ARGUMENTS = [
    ("", "arguments_not_json"),
    ("{", "arguments_not_json"),
    ('{"account": "rent", "amount": 1} x', "arguments_not_json"),
    ('{"account": "rent", "amount": 1, "amount": 2}', "arguments_not_json"),
    ('{"account": "rent", "amount": NaN}', "arguments_not_json"),
    ('{"account": "rent", "amount": Infinity}', "arguments_not_json"),
    ('{"account": "rent", "amount": -Infinity}', "arguments_not_json"),
    ('{"account": "rent", "amount": ' + "9" * 5000 + "}", "arguments_not_json"),
    ("{'account': 'rent', 'amount': 1}", "arguments_not_json"),
    ("[]", "arguments_not_object"),
    ("null", "arguments_not_object"),
    ('"rent"', "arguments_not_object"),
    ("[" * 30_000 + "]" * 30_000, "arguments_too_deep"),
    ('{"account": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", "arguments_too_deep"),
    ('{"account": "' + "x" * MAX_BYTES + '", "amount": 1}', "arguments_too_large"),
    ('{"account": "rent", "amount": 1e400}', "arguments_invalid"),
    ('{"account": "\\ud800", "amount": 1}', "arguments_invalid"),
    ('{"account": "rent", "amount": 1, "\\udfff": 1}', "arguments_invalid"),
    ('{"account": "rent", "amount": true}', "arguments_invalid"),
    ('{"account": "rent", "amount": "1"}', "arguments_invalid"),
    ('{"account": "rent", "amount": 1.0}', "arguments_invalid"),
    ('{"account": "rent", "amount": 1.5}', "arguments_invalid"),
    ('{"account": "rent", "amount": null}', "arguments_invalid"),
    ('{"account": ["rent"], "amount": 1}', "arguments_invalid"),
    ('{"account": "rent"}', "arguments_invalid"),
    ("{}", "arguments_invalid"),
    ('{"account": "rent", "amount": 1, "note": "x"}', "arguments_invalid"),
    ('{"account": "rentt", "amount": 1}', "ledger_account_unknown"),
    ('{"account": "rent\\u0000", "amount": 1}', "ledger_account_unknown"),
    ('{"account": "", "amount": 1}', "ledger_account_unknown"),
    ('{"account": "rent", "amount": 1000000001}', "ledger_amount_out_of_bounds"),
    ('{"account": "rent", "amount": -99999999999999999999}', "ledger_amount_out_of_bounds"),
]


@pytest.mark.parametrize(("arguments_json", "kind"), BAD_ARGUMENTS, ids=lambda value: value[:40])
def test_wrong_arguments_are_refused_and_change_nothing(
    registry: Registry, config: ToolsConfig, arguments_json: str, kind: str
) -> None:
    error = error_of(registry, "ledger_append", arguments_json, idempotency_key="k")
    assert (error.code, error.kind) == (Code.INVALID_ARGUMENT, kind)
    assert read_effects(config.ledger_path) == []


@pytest.mark.parametrize(
    ("name", "arguments_json", "says"),
    [
        ("ledger_append", '{"account": "rent", "amount": true}', ['"amount"', "integer", "true"]),
        ("ledger_append", '{"account": "rent"}', ['the argument "amount"']),
        ("ledger_append", '{"acount": "rent", "amount": 1}', ['"acount"', 'did you mean "account"?']),
        ("ledger_append", '{"account": "fod", "amount": 1}', ['"account"', '"fod"', 'did you mean "food"?']),
        ("ledger_append", '{"account": "Rent", "amount": 1}', ['"Rent"', 'did you mean "rent"?']),
        ("notes_search", '{"query": "x", "limit": 0}', ['"limit"', "minimum 1", "got 0"]),
        ("notes_search", '{"query": "x", "limit": 6}', ['"limit"', "maximum 5", "got 6"]),
        ("calculator", '{"expression": 7}', ['"expression"', "string", "got 7"]),
    ],
)
def test_the_refusal_says_which_argument_and_why(
    registry: Registry, name: str, arguments_json: str, says: list[str]
) -> None:
    message = str(error_of(registry, name, arguments_json))
    for words in says:
        assert words in message


@pytest.mark.parametrize(
    ("name", "todo"),
    [
        ("calculater", 'did you mean "calculator"?'),
        ("Ledger_Append", 'did you mean "ledger_append"?'),
        ("weather", "use one of: calculator, facts_sql, notes_search, ledger_append"),
        ("", "use one of: calculator, facts_sql, notes_search, ledger_append"),
        ("x" * 1_000_000, "use one of: calculator, facts_sql, notes_search, ledger_append"),
    ],
    ids=lambda value: value[:20],
)
def test_an_unknown_tool_is_not_found(registry: Registry, name: str, todo: str) -> None:
    error = error_of(registry, name, "{}")
    assert (error.code, error.kind, error.todo) == (Code.NOT_FOUND, "tool_unknown", todo)


@pytest.mark.parametrize("field", ["run_id", "task_id", "idempotency_key"])
def test_ids_are_bounded(registry: Registry, config: ToolsConfig, field: str) -> None:
    arguments = '{"account": "rent", "amount": 1}'
    error = error_of(registry, "ledger_append", arguments, **{field: "x" * (MAX_ID_CHARS + 1)})
    assert (error.code, error.kind) == (Code.INVALID_ARGUMENT, "request_id_too_long")
    assert read_effects(config.ledger_path) == []


def test_the_answer_carries_the_time_in_the_tool(registry: Registry) -> None:
    response = registry.call(CallToolRequest(name="calculator", arguments_json='{"expression": "6*7"}'))
    assert response.result_json == '{"value": 42}'
    assert 0 < response.tool_s < 1
    assert not response.replayed


class Broken(Tool):
    """A tool with a defect: it fails, or answers what is not JSON."""

    def __init__(self, result: Mapping[str, Any] | None) -> None:
        self._result = result

    @property
    def spec(self) -> ToolSpec:
        return make_spec(name="broken", description="Breaks.", properties={}, required=())

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        if self._result is None:
            raise OSError("disk on fire " + "x" * 10_000)
        return ToolOutput(result=self._result)


@pytest.mark.parametrize("result", [None, {"x": float("nan")}, {"x": object()}])
def test_a_tool_that_breaks_may_have_acted(result: Mapping[str, Any] | None) -> None:
    with pytest.raises(TreniError) as caught:
        Registry([Broken(result)]).call(CallToolRequest(name="broken", arguments_json="{}"))
    assert (caught.value.code, caught.value.kind) == (Code.INTERNAL, "tool_failed")
    assert not caught.value.definite
    assert len(str(caught.value)) < 500


def test_a_ledger_that_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    not_a_database = tmp_path / "notes.txt"
    not_a_database.write_text("this is no database, " * 100, encoding="utf-8")
    for path in (tmp_path / "absent" / "ledger.sqlite", not_a_database):
        with pytest.raises(TreniError, match="to be a ledger") as caught:
            build_registry(ToolsConfig(ledger_path=path))
        assert caught.value.kind == "ledger_not_opened"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), _JSON, max_size=4))
def test_what_json_writes_is_read_back(value: dict[str, Any]) -> None:
    text = to_json(value)
    assert text == json.dumps(value, ensure_ascii=False)
    refused_as = None
    try:
        back = decode(text)
    except TreniError as error:
        refused_as = error.kind
    assert refused_as == "arguments_too_deep" or (refused_as is None and back == value)

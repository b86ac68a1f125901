import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.bench import record
from runtime_svc.bench.record import Cold, Decode, Floors, Machine, Model, Report, Settings, Ttft, parse
from tests.runtime_svc.bench.reports import report
from treni.errors import Code, TreniError

PARTS = (Machine, Model, Settings, Floors, Ttft, Decode, Cold)


@given(st.sampled_from(PARTS).flatmap(st.from_type))
def test_any_value_comes_back_from_json(
    value: Machine | Model | Settings | Floors | Ttft | Decode | Cold,
) -> None:
    text = json.dumps(dataclasses.asdict(value))
    assert repr(parse(type(value), json.loads(text), "part")) == repr(value)  # repr: NaN is not itself


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    report().write(path)
    report().write(path)
    assert Report.read(path) == report()
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: v.update(schema="treni-route/bench-runtime/99"),
            "schema; got 'treni-route/bench-runtime/99'",
        ),
        (lambda v: v.update(more=1), r"no such entry at .*\.more"),
        (lambda v: v["runs"][0]["model"].pop("layers"), r"an entry at .*runs\[0\]\.model\.layers; got none"),
        (
            lambda v: v["runs"][0]["contenders"][0]["decode"][1]["seconds"].append("fast"),
            r"type float at .*contenders\[0\]\.decode\[1\]\.seconds\[1\]; got 'fast'",
        ),
        (lambda v: v["runs"][0]["model"].update(tied=1), r"type bool at .*model\.tied"),
        (lambda v: v["runs"][0]["machine"].update(gpu=[]), r"type dict at .*machine\.gpu"),
    ],
)
def test_what_is_not_as_documented_is_named(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    value = json.loads(report().to_json())
    change(value)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(value))
    with pytest.raises(TreniError, match=message) as caught:
        Report.read(path)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for text in ("", "[]", "{}", "nonsense"):
        path.write_text(text)
        with pytest.raises(TreniError):
            Report.read(path)
    with pytest.raises(TreniError, match="No such file"):
        Report.read(tmp_path / "none.json")


def test_the_first_request_of_a_cold_start() -> None:
    cold = Cold(ready_s=2.0, first_token_s=2.5, total_s=4.0, outside_s=2.6, tokens=48, stages={})
    assert (cold.ttft_s, cold.full_s) == (0.5, 2.0)


def test_the_schema_is_documented() -> None:
    text = (Path(record.__file__).parents[2] / "docs" / "bench-runtime.md").read_text()
    assert record.SCHEMA in text

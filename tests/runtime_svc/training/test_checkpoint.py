"""The bundled checkpoint: complete, small, and as accurate on a small fresh sample as its card says."""

import json

import pytest

from runtime_svc.training.evaluate import CHECKPOINT, Judged, Shares, Target, evaluate, report, shares

REAL = ("direct", "real_single", "real_chain", "real_repair")


@pytest.fixture(scope="module")
def judged() -> list[Judged]:
    return list(evaluate(CHECKPOINT, seed=424_242, counts={"values": 60}, processes=1))


def test_the_directory_is_complete_and_small() -> None:
    names = {path.name for path in CHECKPOINT.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md",
            "chat_template.jinja", "model.safetensors", "training-log.jsonl"} <= names  # fmt: skip
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= 10_000_000
    assert json.loads((CHECKPOINT / "config.json").read_text())["architectures"] == ["Qwen3ForCausalLM"]


def test_the_log_tells_the_whole_training() -> None:
    log = [json.loads(line) for line in (CHECKPOINT / "training-log.jsonl").read_text().splitlines()]
    assert log[0]["event"] == "start"
    assert log[0]["parameters"] < 5_000_000
    losses = [line["loss"] for line in log if line["event"] == "step"]
    assert losses[-1] < 0.001 < losses[0]
    last = [line for line in log if line["event"] == "evaluation"][-3:]
    assert [line["split"] for line in last] == ["values", "unseen_tools", "phrasings"]


@pytest.mark.soak
def test_real_tools_and_direct_answers_on_a_fresh_sample(judged: list[Judged]) -> None:
    got = shares(row for row in judged if row.family in REAL)
    assert got.dialogues > 25
    assert got.tools >= 0.97
    assert got.arguments >= 0.97
    assert got.answers >= 0.97


@pytest.mark.soak
def test_all_families_on_a_fresh_sample(judged: list[Judged]) -> None:
    got = shares(judged)
    assert got.dialogues == 60
    assert got.tools >= 0.96
    assert got.answers >= 0.96


def _row(
    *, tools: bool = True, arguments: bool | None = True, answer: bool = True, family: str = "x"
) -> Judged:
    return Judged(
        split="values",
        index=0,
        family=family,
        kind="k",
        tools=tools,
        arguments=arguments,
        answer=answer,
        miss="",
    )


def test_shares_count_arguments_only_where_there_are_calls() -> None:
    rows = [
        _row(),
        _row(arguments=None),
        _row(tools=False, arguments=False, answer=False),
        _row(arguments=None),
    ]
    assert shares(rows) == Shares(dialogues=4, tools=0.75, arguments=0.5, answers=0.75)


def test_a_target_needs_every_share() -> None:
    target = Target(tools=0.9, arguments=0.9, answers=0.9)
    assert Shares(dialogues=1, tools=0.9, arguments=0.9, answers=0.9).reach(target)
    for missed in ("tools", "arguments", "answers"):
        most = {"tools": 1.0, "arguments": 1.0, "answers": 1.0, missed: 0.89}
        assert not Shares(dialogues=1, **most).reach(target)


def test_the_report_says_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    assert report({"values": [_row()] * 5}, misses=0) == 0
    assert report({"values": [_row()] * 5 + [_row(answer=False)]}, misses=0) == 1
    assert "MISSED" in capsys.readouterr().out

"""`treni-route ask` over real services: what stands on stdout and on stderr, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from matrices.cli.ask_answers import Shown
from tests.limits import HANG_S
from tests.processes import wait_gone
from treni.v1 import agent_pb2, common_pb2

pytestmark = [pytest.mark.slow]

SUM = "What is 17 times 23?"


def ask(*arguments: str, said: bytes | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "matrices", "ask", *arguments], input=said, capture_output=True, timeout=HANG_S
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an agent that is served already."""
    ledger = tmp_path_factory.mktemp("agent") / "ledger.sqlite"
    limits = ("--tool-timeout-s", str(HANG_S), "--model-timeout-s", str(HANG_S))
    process = subprocess.Popen(
        [sys.executable, "-m", "matrices", "serve", "agent", "--ledger", str(ledger), *limits],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        yield str(json.loads(process.stdout.readline())["address"])
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("arm", ["internal", pytest.param("external", marks=pytest.mark.soak)])
def test_a_stack_is_started_for_the_questions_of_one_conversation(arm: str) -> None:
    done = ask("--arm", arm, SUM, "Record it in rent.")
    assert (done.returncode, done.stdout) == (0, "The result is 391.\nRecorded 391 in rent.\n"), done.stderr
    for said in ("calculator", "ledger_append", "first text", "engine prefill", "KV cache", "question 2"):
        assert said in done.stderr


def test_a_running_agent_is_asked(agent: str) -> None:
    done = ask("--agent", agent, SUM)
    assert (done.returncode, done.stdout) == (0, "The result is 391.\n"), done.stderr


def test_the_lines_of_stdin_are_questions(agent: str) -> None:
    done = ask("--agent", agent, "-", said=f"{SUM}\r\n\n  \nRecord it in rent.\n".encode())
    assert (done.returncode, done.stdout) == (0, "The result is 391.\nRecorded 391 in rent.\n"), done.stderr


def test_one_object_tells_a_script_everything(agent: str) -> None:
    done = ask("--agent", agent, "--json", SUM, "Record it in rent.")
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, Any] = json.loads(done.stdout)
    assert [one["answer"] for one in told["answers"]] == ["The result is 391.", "Recorded 391 in rent."]
    assert [(one["question_index"], one["name"]) for one in told["tool_calls"]] == [
        (0, "calculator"),
        (1, "ledger_append"),
    ]
    assert sum(told["hops_s"].values()) == pytest.approx(told["latency_s"])
    assert 0 < told["ttft_s"] < told["answers"][0]["latency_s"] < told["latency_s"]
    second = told["record"]["user_turns"][1]["usage"]
    assert second["cached_prompt_tokens"] > 0.8 * second["prompt_tokens"]
    assert told["error"] is None


def test_a_terminal_shows_an_answer_as_it_comes(agent: str) -> None:
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "matrices", "ask", "--agent", agent, SUM],
        stdout=its,
        stderr=subprocess.DEVNULL,
    )
    os.close(its)
    pieces = []
    try:
        while piece := os.read(ours, 4096):
            pieces.append(piece)
    except OSError:  # a terminal without a writer
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"".join(pieces).replace(b"\r\n", b"\n") == b"The result is 391.\n"


@pytest.mark.parametrize("live", [True, False])
def test_what_is_said_before_a_call_is_no_answer(live: bool, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(live=live, quiet=False)

    def hear(**event: Any) -> str:
        shown.hear(agent_pb2.RunEvent(**event))
        return capsys.readouterr().out

    said = hear(text=agent_pb2.TextDelta(text="Let me "))
    said += hear(text=agent_pb2.TextDelta(text="see."))
    assert said == ("Let me see." if live else "")
    call = common_pb2.ToolCall(name="calculator", arguments_json="{}")
    assert hear(tool_call=call) == ""
    result = agent_pb2.ToolResult(name="calculator", content_json="{}")
    assert hear(tool_result=result) == ("\n" if live else "")
    assert hear(text=agent_pb2.TextDelta(text="It is 42.")) == ("It is 42." if live else "")
    assert hear(answer=agent_pb2.Answer(text="It is 42.")) == ("\n" if live else "It is 42.\n")


def test_an_agent_that_is_not_there_is_a_named_error() -> None:
    done = ask("--agent", "127.0.0.1:1", "--json", SUM)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["answers"][0]["answer"], told["error"]["code"], told["record"]) == (
        None,
        "UNAVAILABLE",
        None,
    )
    assert "UNAVAILABLE" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_takes_too_long_is_a_named_error(agent: str) -> None:
    done = ask("--agent", agent, "--timeout", "0.03", SUM)
    assert (done.returncode, done.stdout) == (1, "")
    assert "DEADLINE_EXCEEDED" in done.stderr or "deadline" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument"),
        (("-",), "no line on stdin"),
        ((SUM,) * 65, "at most 64 user turns"),
        (("x" * 65_537,), "at most 65536 characters"),
        (("--arm", "nowhere", SUM), "an arm"),
        (("--agent", "here", SUM), "--agent to be host:port"),
        (("--agent", "127.0.0.1:1", "--model", "x", SUM), "--model"),
        (("--offer", "calculator", "--no-tools", SUM), "--no-tools"),
        (("--offer", "calc", SUM), "calculator"),
        (("--model", "/nowhere/at/all", SUM), "--model"),
    ],
)
def test_what_nobody_could_answer_is_said_before(arguments: tuple[str, ...], said: str) -> None:
    done = ask(*arguments, said=b"")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_that_was_started_outlives_a_kill() -> None:
    import time

    process = subprocess.Popen(
        [sys.executable, "-m", "matrices", "ask", SUM],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children: list[int] = []
    end_s = time.monotonic() + HANG_S
    while not children and process.poll() is None and time.monotonic() < end_s:
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            children = [int(pid) for pid in file.read().split()]
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert children
    wait_gone(children)

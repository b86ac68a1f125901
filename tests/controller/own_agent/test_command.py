"""Commands that answer, lie, hang, crash, talk nonsense and flood, each a real process behind a real AgentService."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.own_agent.command import MAX_LOG_BYTES
from controller.own_agent.opening import open_agent
from controller.own_agent.servicer import OwnAgentServicer
from controller.own_agent.wire import MAX_TOKENS
from controller.policy import Policy
from controller.server import start
from matrices.running.client import AgentClient, Invocation
from tests.limits import HANG_S
from tests.processes import is_running
from treni.errors import Code
from treni.limits import USER_TURNS
from treni.v1 import agent_pb2

HEAD = """
import json, os, sys, time
def say(**things): print(json.dumps(things), flush=True)
"""
LOOP = HEAD + "for line in sys.stdin:\n    task = json.loads(line); one = task['id']\n    "


@asynccontextmanager
async def agent(tmp_path: Path, script: str) -> AsyncIterator[AgentClient]:
    """A client of the agent that the script is."""
    path = tmp_path / "agent.py"
    path.write_text(script, encoding="utf-8")
    command = (sys.executable, str(path))
    async with open_agent(
        url="", key="", command=command, folder=str(tmp_path), log_path=tmp_path / "agent.log"
    ) as own:
        servicer = OwnAgentServicer(arm="agent", agent=own, policy=Policy(), seed=7)
        server = await start(servicer)
        client = AgentClient(server.address)
        try:
            yield client
        finally:
            await client.close()
            await server.stop()


async def ask(
    client: AgentClient, number: int = 0, *, seconds: float = HANG_S, then: tuple[str, ...] = ()
) -> Invocation:
    request = agent_pb2.RunRequest(
        run_id=f"run/{number}",
        task_id="t",
        prompt="Which?",
        tools=["a", "b"],
        request_index=number,
        follow_ups=then,
    )
    return await client.run(request, timeout_s=seconds)


async def test_what_it_says_is_what_is_recorded(tmp_path: Path) -> None:
    said = (
        "say(id=one, text='so'); say(id=one, answer=f\"{task['prompt']} {task['seed']} {task['tools']}\", "
        "calls=[{'name': 'lookup', 'arguments': {'x': 1}, 'result': [2]}], "
        "usage={'prompt_tokens': 3, 'completion_tokens': 4}, model='mine')"
    )
    async with agent(tmp_path, LOOP + said) as client:
        done = [await ask(client, number) for number in range(2)]
    for one in done:
        assert (one.outcome, one.replies[0].text) == ("ok", "Which? 7 ['a', 'b']")
        assert one.ttft_s is not None
        assert one.ttft_s < one.latency_s
        assert one.record is not None
        assert one.record["arm"] == "agent"
        assert one.record["model"] == "mine"
        assert one.record["usage"]["completion_tokens"] == 4
        (tool,) = one.record["tools"]
        assert (tool["name"], tool["arguments_json"], tool["result_json"]) == ("lookup", '{"x": 1}', "[2]")
        (attempt,) = one.record["attempts"]
        assert (attempt["hop"], attempt["outcome"]) == ("agent", "ok")


@pytest.mark.parametrize(
    ("does", "code", "kind", "definite"),
    [
        ("say(id=one, error={'message': 'no idea', 'kind': 'no_idea'})", Code.UNKNOWN, "no_idea", False),
        (
            "say(id=one, error={'message': 'no', 'definite': True})",
            Code.FAILED_PRECONDITION,
            "agent_failed",
            True,
        ),
        ("sys.exit(3)", Code.UNAVAILABLE, "agent_died", False),
        ("os.kill(os.getpid(), 11)", Code.UNAVAILABLE, "agent_died", False),
        ("print('debugging', flush=True)", Code.INTERNAL, "answer_malformed", False),
        ("say(id='another', answer='x')", Code.INTERNAL, "answer_malformed", False),
        ("say(id=one, turn=2, answer='x')", Code.INTERNAL, "answer_malformed", False),
        ("say(id=one)", Code.INTERNAL, "answer_malformed", False),
        ("say(id=one, answer='x', text='y')", Code.INTERNAL, "answer_malformed", False),
        ("say(id=one, answer=5)", Code.INTERNAL, "answer_malformed", False),
        (
            "say(id=one, answer='x', usage={'prompt_tokens': -1, 'completion_tokens': 1})",
            Code.INTERNAL,
            "answer_malformed",
            False,
        ),
        ("print('x' * 5_000_000, flush=True)", Code.INTERNAL, "answer_malformed", False),
        (
            "[say(id=one, text='x' * 100_000) for _ in range(1000)]",
            Code.INTERNAL,
            "answer_malformed",
            False,
        ),
    ],
)
async def test_a_task_that_ends_badly_is_a_typed_error_and_the_next_one_is_answered(
    tmp_path: Path, does: str, code: Code, kind: str, definite: bool
) -> None:
    first = "if task['id'] == 'run/0':\n        " + does
    async with agent(tmp_path, LOOP + first + "\n    else: say(id=one, answer='well')") as client:
        bad, good = await ask(client, 0), await ask(client, 1)
    assert bad.error is not None
    assert (bad.error.code, bad.error.kind, bad.error.definite) == (code, kind, definite)
    assert bad.record is not None
    assert bad.record["attempts"][0]["kind"] == kind
    assert (good.outcome, good.replies[0].text) == ("ok", "well")


SESSION = (
    HEAD
    + """
kept = {}
for line in sys.stdin:
    task = json.loads(line); place = {'id': task['id'], 'turn': task.get('turn')}
    so_far = kept.setdefault(task['id'], []); so_far.append(task['prompt'])
    """
)


async def test_who_calls_a_single_turn_the_first_is_understood_also_late(tmp_path: Path) -> None:
    said = "[say(id=one, turn=1, answer=word) for word in ('well', 'late')]"
    async with agent(tmp_path, LOOP + said) as client:
        done = [await ask(client, number) for number in range(3)]
    assert [[reply.text for reply in one.replies] for one in done] == [["well"]] * 3


async def test_what_a_user_says_next_comes_once_the_last_is_answered_with_all_before_it(
    tmp_path: Path,
) -> None:
    says = (
        "usage = {'prompt_tokens': 10 * place['turn'], 'completion_tokens': 1}\n    "
        "told = [so_far, task['earlier'], task['turn'], task['turns']]\n    "
        "say(**place, answer=json.dumps(told), usage=usage, calls=[{'name': 'x'}] * place['turn'])"
    )
    async with agent(tmp_path, SESSION + says) as client:
        done = await ask(client, then=("And?", "So?"))
    texts = [reply.text for reply in done.replies]
    assert [json.loads(text) for text in texts] == [
        [["Which?"], [], 1, 3],
        [["Which?", "And?"], [{"prompt": "Which?", "answer": texts[0]}], 2, 3],
        [
            ["Which?", "And?", "So?"],
            [{"prompt": "Which?", "answer": texts[0]}, {"prompt": "And?", "answer": texts[1]}],
            *(3, 3),
        ],
    ]
    assert done.record is not None
    assert done.record["usage"]["prompt_tokens"] == 60
    assert [turn["usage"]["prompt_tokens"] for turn in done.record["user_turns"]] == [10, 20, 30]
    assert [turn["tools"] for turn in done.record["user_turns"]] == [1, 2, 3]
    assert [one["call_index"] for one in done.record["attempts"]] == [0, 1, 2]
    ends_s = [one["start_s"] + one["duration_s"] for one in done.record["attempts"]]
    answered_s = [turn["answered_s"] for turn in done.record["user_turns"]]
    assert all(end_s <= told_s for end_s, told_s in zip(ends_s, answered_s, strict=True))


async def test_what_is_still_said_of_an_earlier_turn_is_no_answer_to_a_later_one(tmp_path: Path) -> None:
    says = (
        "say(**place, answer=f'to {task[\"prompt\"]}')\n    "
        "[say(**place, text='more') for _ in range(3000)]; say(**place, answer='once more')"
    )
    async with agent(tmp_path, SESSION + says) as client:
        done = await ask(client, then=("And?",))
    assert [reply.text for reply in done.replies] == ["to Which?", "to And?"]


async def test_as_many_tokens_as_may_be_told_in_as_many_turns_as_there_may_be_are_summed(
    tmp_path: Path,
) -> None:
    tokens = f"{{'prompt_tokens': {MAX_TOKENS}, 'completion_tokens': {MAX_TOKENS}}}"
    async with agent(tmp_path, SESSION + f"say(**place, answer='so', usage={tokens})") as client:
        done = await ask(client, then=("And?",) * (USER_TURNS.most - 1))
    assert done.record is not None
    assert done.record["usage"]["prompt_tokens"] == USER_TURNS.most * MAX_TOKENS


async def test_more_than_a_record_can_hold_is_a_typed_error(tmp_path: Path) -> None:
    calls = "[{'name': 'x', 'arguments': {'y': 'z' * 1_000_000}}]"
    async with agent(tmp_path, SESSION + f"say(**place, answer='so', calls={calls})") as client:
        done = await ask(client, then=("And?",) * 5)
    assert done.error is not None
    assert (done.error.code, done.error.kind) == (Code.INTERNAL, "answer_too_large")


@pytest.mark.parametrize(
    ("does", "kind", "tells"),
    [
        ("sys.exit(3)", "agent_died", "status 3"),
        ("say(id=task['id'], answer='x')", "answer_malformed", "run/0, turn 2"),
        ("say(id=task['id'], turn=3, answer='x')", "answer_malformed", "run/0, turn 2"),
        ("say(id=task['id'], turn='2', answer='x')", "answer_malformed", "turn: "),
    ],
)
async def test_a_session_that_breaks_off_keeps_the_answers_that_it_had(
    tmp_path: Path, does: str, kind: str, tells: str
) -> None:
    says = f"if place['turn'] == 2: {does}\n    else: say(**place, answer='well')"
    async with agent(tmp_path, SESSION + says) as client:
        bad, good = await ask(client, then=("And?", "So?")), await ask(client, 1)
    assert [reply.text for reply in bad.replies] == ["well"]
    assert bad.error is not None
    assert (bad.error.kind, bad.error.definite) == (kind, False)
    assert tells in str(bad.error)
    assert bad.record is not None
    answered, broken = bad.record["user_turns"]
    assert answered["answered_s"] > 0 == broken["answered_s"]
    assert good.replies[0].text == "well"


async def test_one_that_hangs_is_given_up_killed_with_its_children_and_begun_anew(tmp_path: Path) -> None:
    hangs = (
        "if task['id'] == 'run/0':\n        import subprocess\n"
        "        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        "        open('pids', 'w').write(f'{os.getpid()} {child.pid}'); time.sleep(3600)\n"
        "    else: say(id=one, answer='well')"
    )
    async with agent(tmp_path, LOOP + hangs) as client:
        await ask(client, 9)
        bad = await ask(client, 0, seconds=3)
        good = await ask(client, 1)
        assert bad.error is not None
        assert bad.error.code is Code.DEADLINE_EXCEEDED
        assert good.replies[0].text == "well"
    pids = (tmp_path / "pids").read_text(encoding="utf-8")
    for pid in map(int, pids.split()):
        assert not is_running(pid)


async def test_a_flood_after_the_answer_reaches_nobody_else(tmp_path: Path) -> None:
    floods = (
        "say(id=one, answer='well')\n    if one == 'run/0':\n"
        "        for _ in range(20_000): print(json.dumps({'id': one, 'text': 'more'}))\n"
        "        sys.stdout.flush()"
    )
    async with agent(tmp_path, LOOP + floods) as client:
        assert [(await ask(client, number)).replies[0].text for number in range(3)] == ["well"] * 3


async def test_its_log_is_kept_and_bounded(tmp_path: Path) -> None:
    noisy = (
        "sys.stderr.write('first words\\n' + 'x' * 4_000_000); sys.stderr.flush(); say(id=one, answer='well')"
    )
    async with agent(tmp_path, LOOP + noisy) as client:
        assert (await ask(client)).replies[0].text == "well"
    log = (tmp_path / "agent.log").read_bytes()
    assert log.startswith(b"first words")
    assert len(log) <= MAX_LOG_BYTES


async def test_a_command_that_is_none_is_told(tmp_path: Path) -> None:
    async with open_agent(
        url="", key="", command=("no-such-program",), folder=str(tmp_path), log_path=tmp_path / "log"
    ) as own:
        server = await start(OwnAgentServicer(arm="agent", agent=own, policy=Policy()))
        client = AgentClient(server.address)
        done = await ask(client)
        await client.close()
        await server.stop()
    assert done.error is not None
    assert done.error.kind == "agent_died"
    assert "no-such-program" in (tmp_path / "log").read_text(encoding="utf-8")

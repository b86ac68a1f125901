"""Tools of a stdio MCP server, good and bad: every end is a result or a typed error, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.limits import HANG_S, longer_and_longer
from tests.processes import is_running, wait_gone
from tests.tools_svc.mcp.hosts import call, effects, hosting, pids, source
from treni.errors import Code, TreniError
from treni.v1.tools_pb2 import CallToolRequest

BRIEF_S = 0.5
"""How long callers of what never answers wait."""


def test_tools_are_listed_with_their_schemas_and_effects(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        specs = {spec.name: spec for spec in registry.specs()}
        assert json.loads(specs["echo"].parameters_json)["required"] == ["text"]
        assert specs["echo"].description == "Says the text."
        assert not specs["echo"].has_side_effects
        assert specs["note"].has_side_effects  # it does not say
        assert specs["set"].has_side_effects


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("echo", {"text": "hi"}),
        ("garbage", {"text": "hi"}),
        ("structured", {"a": 1}),
        ("json_text", {"said": "hi"}),
        ("ask", {"text": "refused"}),
        ("late_twice", {"text": "first"}),
        (
            "image",
            {"text": "look:", "other": [{"type": "image", "media_type": "image/png", "base64_bytes": 4}]},
        ),
    ],
)
def test_what_a_tool_answers(tmp_path: Path, name: str, result: object) -> None:
    with hosting(tmp_path) as registry:
        assert json.loads(call(registry, name).result_json) == result
        assert json.loads(call(registry, "echo", "and on").result_json) == {"text": "and on"}


@pytest.mark.parametrize(
    ("name", "code", "kind", "definite"),
    [
        ("refuse", Code.INVALID_ARGUMENT, "mcp_tool_error", True),
        ("rpc_invalid", Code.INVALID_ARGUMENT, "mcp_call_refused", True),
        ("rpc_error", Code.UNAVAILABLE, "mcp_error", False),
        ("crash", Code.UNAVAILABLE, "mcp_server_lost", False),
        ("flood", Code.UNAVAILABLE, "mcp_server_lost", False),
        pytest.param("chatter", Code.UNAVAILABLE, "mcp_server_lost", False, marks=pytest.mark.soak),
        ("wrong_type", Code.UNAVAILABLE, "mcp_answer_malformed", False),
        ("no_content", Code.UNAVAILABLE, "mcp_answer_malformed", False),
        ("nan", Code.UNAVAILABLE, "mcp_answer_malformed", False),
        ("big", Code.OUT_OF_RANGE, "tool_result_too_large", True),
        ("note_big", Code.DATA_LOSS, "tool_result_too_large", False),
    ],
)
def test_a_bad_answer_is_a_typed_error_and_the_next_call_works(
    tmp_path: Path, name: str, code: Code, kind: str, definite: bool
) -> None:
    with hosting(tmp_path) as registry:
        with pytest.raises(TreniError) as caught:
            call(registry, name, wait_s=HANG_S)
        assert (caught.value.code, caught.value.kind, caught.value.definite) == (code, kind, definite)
        assert json.loads(call(registry, "echo").result_json) == {"text": "hi"}
    wait_gone(pids(tmp_path))


@pytest.mark.parametrize("name", ["hang", "other_id", "deep", "surrogate"])
def test_what_never_answers_ends_when_its_caller_stops_waiting(tmp_path: Path, name: str) -> None:
    with hosting(tmp_path) as registry:
        began_s = time.monotonic()
        with pytest.raises(TreniError) as caught:
            call(registry, name, wait_s=BRIEF_S)
        assert time.monotonic() - began_s < HANG_S / 10
        assert (caught.value.code, caught.value.kind) == (Code.DEADLINE_EXCEEDED, "mcp_timeout")
        assert not caught.value.definite
    wait_gone(pids(tmp_path))


def test_a_server_that_hangs_is_ended_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools_svc.mcp.connection.PING_S", BRIEF_S)
    with hosting(tmp_path) as registry:
        with pytest.raises(TreniError, match="within"):
            call(registry, "hang", wait_s=BRIEF_S)
        wait_gone(pids(tmp_path))
        assert json.loads(call(registry, "echo").result_json) == {"text": "hi"}


def test_a_dead_server_is_started_again_but_not_for_ever(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        kinds = []
        for _ in range(6):
            with pytest.raises(TreniError) as caught:
                call(registry, "crash")
            kinds.append((caught.value.kind, caught.value.definite))
        assert kinds == [("mcp_server_lost", False)] * 5 + [("mcp_server_dying", True)]
        assert len(pids(tmp_path)) == 5


def test_a_server_that_is_killed_between_calls_is_there_for_the_next(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        (pid,) = pids(tmp_path)
        os.kill(pid, signal.SIGKILL)
        wait_gone([pid])
        for _ in longer_and_longer(0.05):  # that it is gone may reach the host after the call
            try:
                assert json.loads(call(registry, "echo").result_json) == {"text": "hi"}
                break
            except TreniError as error:
                assert error.kind == "mcp_server_lost"  # noqa: PT017


def test_a_tool_that_changed_is_refused_and_the_others_work(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        call(registry, "change")
        with pytest.raises(TreniError) as caught:
            call(registry, "echo")
        assert (caught.value.code, caught.value.kind) == (Code.FAILED_PRECONDITION, "mcp_tools_changed")
        assert caught.value.definite
        assert json.loads(call(registry, "json_text").result_json) == {"said": "hi"}


@pytest.mark.parametrize(
    ("mode", "kind", "said"),
    [
        ("dies", "mcp_not_opened", "the end of its process"),
        ("floods", "mcp_not_opened", "a message of over"),
        ("endless", "mcp_not_opened", "pages"),
        ("many", "mcp_not_opened", "over 512 tools"),
        ("no_object", "mcp_not_opened", "tools.1.inputSchema.type"),
        ("no_schema", "mcp_tool_unusable", "'odd'"),
        ("big_schema", "mcp_tool_unusable", "at most 32768 bytes"),
        ("deep_schema", "mcp_tool_unusable", "at most 32 levels"),
        ("alike", "tool_name_taken", "'a_b'"),
    ],
)
def test_a_server_that_cannot_be_used_is_named_when_it_is_opened(
    tmp_path: Path, mode: str, kind: str, said: str
) -> None:
    with pytest.raises(TreniError) as caught, hosting(tmp_path, source(tmp_path, mode)):
        pass
    assert caught.value.kind == kind
    assert said in str(caught.value)
    wait_gone(pids(tmp_path))


@pytest.mark.parametrize("mode", ["silent", "deaf", "no_mcp"])
def test_a_server_that_says_nothing_when_it_is_opened(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools_svc.mcp.connection.OPEN_S", BRIEF_S)
    with pytest.raises(TreniError) as caught, hosting(tmp_path, source(tmp_path, mode)):
        pass
    assert (caught.value.code, caught.value.kind) == (Code.UNAVAILABLE, "mcp_not_opened")
    if (tmp_path / "pids").exists():
        wait_gone(pids(tmp_path))


def test_a_listing_of_several_pages(tmp_path: Path) -> None:
    with hosting(tmp_path, source(tmp_path, "pages")) as registry:
        assert {"echo", "note", "note_big"} <= {spec.name for spec in registry.specs()}


def test_names_are_made_fit_and_clashes_get_the_servers_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with hosting(tmp_path, "builtin", source(tmp_path, "names")) as registry:
        names = [spec.name for spec in registry.specs()]
        assert names[:1] == ["calculator"]
        assert names[4:] == ["hostile_calculator", "files_read__"]
        assert "a tool's name is taken" in caplog.text
        assert json.loads(
            registry.call(
                CallToolRequest(name="calculator", arguments_json='{"expression": "6 * 7"}')
            ).result_json
        ) == {"value": 42}
    with pytest.raises(TreniError) as caught, hosting(tmp_path, *[source(tmp_path, "names")] * 3):
        pass
    assert caught.value.kind == "tool_name_taken"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("mcp", "tool_source_invalid"),
        ("mcp:", "tool_source_invalid"),
        ("mcp:no-such-program-here --x", "tool_source_invalid"),
        ('mcp:python "unfinished', "tool_source_invalid"),
        ("mcp:http://", "tool_source_invalid"),
        ("mcp:http://me:secret@127.0.0.1/mcp", "tool_source_invalid"),
        ("mcp:http://127.0.0.1:99999/mcp", "tool_source_invalid"),
        ("mpc:python", "tool_source_unknown"),
        ("builtin:x", "tool_source_invalid"),
    ],
)
def test_what_is_no_source_is_told(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(TreniError) as caught, hosting(tmp_path, text):
        pass
    assert (caught.value.kind, caught.value.code) == (kind, Code.INVALID_ARGUMENT)
    assert "secret" not in str(caught.value)


def test_arguments_that_are_no_object_never_reach_the_server(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        for arguments in ("[1]", "{", '{"a": 1, "a": 2}', '{"a": NaN}'):
            with pytest.raises(TreniError) as caught:
                registry.call(CallToolRequest(name="note", arguments_json=arguments))
            assert caught.value.code is Code.INVALID_ARGUMENT
        assert effects(tmp_path) == []


def test_twenty_threads_at_once(tmp_path: Path) -> None:
    said: list[str] = []
    with hosting(tmp_path) as registry:

        def one(number: int) -> None:
            said.append(json.loads(call(registry, "echo", str(number)).result_json)["text"])

        threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(said, key=int) == [str(number) for number in range(20)]


def test_what_a_server_left_running_ends_with_it(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        call(registry, "orphan")
        orphan = int((tmp_path / "orphan").read_text(encoding="utf-8"))
        assert is_running(orphan)
    wait_gone([orphan, *pids(tmp_path)])


def test_after_a_kill_of_the_host_nothing_is_left(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.tools_svc.mcp.hosts import call, hosting\n"
        "with hosting(Path(sys.argv[1])) as registry:\n"
        "    call(registry, 'orphan')\n"
        "    print('ready', flush=True)\n"
        "    call(registry, 'hang')\n"
    )
    host = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    orphan = int((tmp_path / "orphan").read_text(encoding="utf-8"))
    assert is_running(orphan)
    host.kill()
    host.wait()
    wait_gone([orphan, *pids(tmp_path)])

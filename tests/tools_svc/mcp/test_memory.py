"""A call with effects goes out once for an idempotency key, whatever becomes of it, of its host and of its server."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.limits import longer_and_longer
from tests.tools_svc.mcp.hosts import call, effects, hosting
from treni.errors import Code, TreniError


def test_a_key_that_is_known_replays_the_result(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        first, again = (call(registry, "note", "a", key="k") for _ in range(2))
        assert (first.replayed, again.replayed) == (False, True)
        assert first.result_json == again.result_json
    with hosting(tmp_path) as registry:  # another process later, with the same state
        assert call(registry, "note", "a", key="k").replayed
    assert effects(tmp_path) == ["a"]


def test_without_a_key_each_call_is_an_effect(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        for _ in range(2):
            call(registry, "note", "a")
    assert effects(tmp_path) == ["a", "a"]


def test_a_key_of_another_call_is_refused(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        call(registry, "note", "a", key="k")
        with pytest.raises(TreniError) as caught:
            call(registry, "note", "b", key="k")
        assert caught.value.code is Code.ALREADY_EXISTS
    assert effects(tmp_path) == ["a"]


def test_a_call_whose_outcome_nobody_knows_is_not_repeated(tmp_path: Path) -> None:
    for _ in range(2):  # by this host, and by the next one
        with hosting(tmp_path) as registry:
            with pytest.raises(TreniError) as caught:
                call(registry, "note_and_crash", "a", key="k")
            kind = caught.value.kind
    assert kind == "mcp_outcome_unknown"
    assert (caught.value.code, caught.value.definite) == (Code.FAILED_PRECONDITION, False)
    assert effects(tmp_path) == ["a"]


def test_a_retry_waits_for_the_call_that_is_on_its_way(tmp_path: Path) -> None:
    for wait_s in longer_and_longer(0.5):
        done = set(effects(tmp_path))
        slowly = str(2 * wait_s)
        with hosting(tmp_path) as registry:
            try:
                call(registry, "note_slowly", slowly, key=slowly, wait_s=wait_s)
            except TreniError as error:
                assert (error.kind, error.definite) == ("mcp_timeout", False)  # noqa: PT017
            else:
                continue
            again = call(registry, "note_slowly", slowly, key=slowly)
            assert json.loads(again.result_json) == {"text": f"noted {slowly}"}
            assert again.replayed
        if set(effects(tmp_path)) - done == {slowly}:
            break
    assert effects(tmp_path).count(slowly) == 1


def test_what_may_be_repeated_is(tmp_path: Path) -> None:
    with hosting(tmp_path) as registry:
        for _ in range(2):
            assert not call(registry, "set", "a", key="k").replayed
    assert effects(tmp_path) == ["a", "a"]


def test_thirty_threads_with_one_key(tmp_path: Path) -> None:
    replayed: list[bool] = []
    with hosting(tmp_path) as registry:
        threads = [
            threading.Thread(target=lambda: replayed.append(call(registry, "note", "a", key="k").replayed))
            for _ in range(30)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(replayed) == [False, *[True] * 29]
    assert effects(tmp_path) == ["a"]

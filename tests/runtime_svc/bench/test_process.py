import asyncio
import dataclasses
import signal
import sys

import pytest

from runtime_svc.bench.child import ChildSettings
from runtime_svc.bench.contender import Absent, Failed
from runtime_svc.bench.process import PEERS, ChildContender, Kind, prompt_ids
from tests.limits import HANG_S

SETTINGS = ChildSettings(
    model="none",
    backend="numpy",
    device="cpu",
    dtype="float32",
    threads=1,
    capacity=64,
    decode_capacity=64,
    slots=2,
    prompt=[1, 2, 3],
    tokens=5,
    spawned_s=0.0,
    probe=False,
)


def contender(
    way: str,
    *,
    limit_s: float = HANG_S,
    python: str = sys.executable,
    batches: tuple[int, ...] | None = None,
    limits: str = "",
) -> ChildContender:
    return ChildContender(
        Kind(
            name="double",
            module="tests.runtime_svc.bench.child_double",
            arguments=(way,),
            batches=batches,
            limits=limits,
        ),
        SETTINGS,
        python=python,
        vocabulary=100,
        batches=[1, 2],
        measure_limit_s=HANG_S,
        limit_s=limit_s,
    )


async def test_a_child_answers_and_its_stages_sum_to_its_first_token() -> None:
    child = contender("well")
    await child.probe()
    started = await child.start()
    cold = started.cold
    assert cold is not None
    assert cold.outside_s is not None
    assert (started.device, dict(started.versions), cold.tokens) == ("none", {"double": "1"}, 5)
    assert list(cold.stages) == ["interpreter", "import", "weights", "ready", "first token"]
    assert sum(cold.stages.values()) == pytest.approx(cold.first_token_s)
    assert cold.ready_s <= cold.first_token_s <= cold.total_s
    assert cold.first_token_s <= cold.outside_s
    assert (await child.ttft(9, 1))[1] == 9
    assert (await child.decode(2, 8, 4, 1))[1] == 4
    assert await child.floors() == {}
    await child.aclose()


@pytest.mark.parametrize(
    ("way", "kind", "message"),
    [
        ("absent", Absent, "No module named 'no_such_runtime'"),
        ("fails", Failed, "loading the model: RuntimeError: no memory left"),
        ("dies", Failed, "ended while making its first token"),
    ],
)
async def test_a_child_that_cannot_start_says_why(
    way: str, kind: type[Exception], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    child = contender(way)
    with pytest.raises(kind, match=message):
        await child.start()
    await child.aclose()
    if way == "fails":
        assert "double | RuntimeError: no memory left" in capfd.readouterr().err


async def test_an_interpreter_that_is_not_there_is_an_absent_peer() -> None:
    child = contender("well", python="/no/such/python")
    with pytest.raises(Absent, match="/no/such/python"):
        await child.probe()
    await child.aclose()


async def test_a_child_that_breaks_in_a_measurement_is_over() -> None:
    child = contender("breaks")
    await child.start()
    with pytest.raises(Failed, match="decoding at batch 1: ValueError: seven"):
        await child.decode(1, 4, 7, 0)
    with pytest.raises(Failed, match="not running"):
        await child.ttft(4, 0)
    await child.aclose()


async def test_a_child_that_hangs_is_cut_and_ended() -> None:
    child = contender("hangs", limit_s=1.0)
    with pytest.raises(Failed, match="cut at its limit of 1 s, while"):
        await child.start()
    assert child._process is None
    await child.aclose()


async def test_a_child_is_ended_also_when_the_session_is_interrupted_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defaults = ChildContender._stop.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "grace_s", HANG_S)
    child = contender("stays")
    await child.start()
    process = child._process
    assert process is not None
    closing = asyncio.create_task(child.aclose())
    await asyncio.sleep(0)
    assert process.returncode is None
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert process.returncode == -signal.SIGKILL


def test_a_kind_that_does_some_batches_only_says_so_where_it_matters() -> None:
    child = contender("well", batches=(1,), limits="one at a time")
    assert (child.batches, child.limits) == ([1], "one at a time")
    assert contender("well").limits == ""
    compiled = PEERS["transformers-compiled"]
    assert compiled.batches == (1,)
    assert compiled.limits


def test_prompts_are_the_seeds() -> None:
    assert prompt_ids(20, 50, 1) == prompt_ids(20, 50, 1)
    assert prompt_ids(20, 50, 1) != prompt_ids(20, 50, 2)
    assert all(0 <= token < 50 for token in prompt_ids(200, 50, 3))


def test_settings_travel_as_json() -> None:
    assert ChildSettings(**dataclasses.asdict(SETTINGS)) == SETTINGS

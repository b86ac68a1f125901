"""The options of doors on every role's command: refused before anything is loaded, and a whole stack behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import click
import pytest

from matrices.running.client import AgentClient, Invocation
from tests.limits import HANG_S
from tests.proto.certificates import KEY, OTHER_KEY, Authority, key_file
from tests.proto.roles import MODEL, role, start
from treni.channels import showing
from treni.door_options import UNGUARDED, DoorSettings, door_options
from treni.errors import Code, TreniError
from treni.keys import Keys
from treni.passes import Keyring, Pass
from treni.v1 import agent_pb2

ABSENT = "/nonexistent"
COMMANDS = {
    "runtime": ("runtime_svc", "--model", ABSENT),
    "tools": ("tools_svc", "--ledger", "LEDGER"),
    "controller": ("controller", "--model-address", "127.0.0.1:1", "--tools-address", "127.0.0.1:2"),
    "agent": ("matrices.topologies.agent", "--model", ABSENT, "--ledger", "LEDGER"),
    "testbed": ("matrices.topologies.serve", "agent", "--model", ABSENT, "--state", "STATE"),
}
REFUSED = [
    (("--host", "0.0.0.0"), "--insecure"),
    (("--host", "::"), "--insecure"),
    (("--host", "192.0.2.1"), "--insecure"),
    (("--host", "nobody.invalid"), "--insecure"),
    (("--key-file", ABSENT), ABSENT),
    (("--key-file", "OPEN"), "chmod 600"),
    (("--key-file", "EMPTY"), "none"),
    (("--key-env", "TRENI_TEST_KEY"), "TRENI_TEST_KEY"),
    (("--key-file", "KEYS", "--key-env", "SET"), "both"),
    (("--tls-cert", "CERT"), "--tls-key"),
    (("--tls-client-ca", "CA"), "--tls-cert"),
    (("--tls-cert", "CA", "--tls-key", "KEY"), "KEY_VALUES_MISMATCH"),
    (("--peer-ca", "EMPTY"), "PEM"),
    (("--peer-key-file", "EMPTY"), "none"),
]


@pytest.mark.parametrize("name", COMMANDS)
async def test_no_role_loads_anything_before_its_door_is_known_to_be_fit(tmp_path: Path, name: str) -> None:
    known = {"LEDGER": str(tmp_path / "ledger.sqlite"), "STATE": str(tmp_path / "state")}
    process = await start(*(known.get(one, one) for one in COMMANDS[name]), "--host", "0.0.0.0")
    output, errors = await asyncio.wait_for(process.communicate(), HANG_S)
    said = errors.decode()
    assert (process.returncode, output) == (2, b""), said
    assert "--insecure" in said
    assert ABSENT not in said
    assert "Traceback" not in said
    assert not (tmp_path / "ledger.sqlite").exists()


@click.command()
@click.option("--host", default="127.0.0.1")
@door_options
def command(host: str, doors: DoorSettings) -> None:
    raise AssertionError("the door was taken")


def test_what_a_door_cannot_be_is_said_and_says_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1")
    known = {
        "OPEN": key_file(tmp_path, KEY, name="open", mode=0o644),
        "EMPTY": key_file(tmp_path, name="empty"),
        "KEYS": key_file(tmp_path, KEY),
        "CERT": pair.certificate,
        "KEY": pair.key,
        "CA": authority.ca,
    }
    monkeypatch.setenv("SET", KEY)
    for options, word in REFUSED:
        with pytest.raises(TreniError) as raised:
            command.main([str(known.get(one, one)) for one in options], standalone_mode=False)
        assert raised.value.code is Code.INVALID_ARGUMENT
        assert word in str(raised.value), options
        assert KEY not in str(raised.value)


def test_settings_make_the_same_settings_in_another_process(tmp_path: Path) -> None:
    settings = DoorSettings(
        key_file=Path("k"), tls_cert=Path("c"), tls_key=Path("y"), tls_client_ca=Path("a"), insecure=True
    )
    assert settings.arguments == [
        *("--key-file", "k", "--tls-cert", "c", "--tls-key", "y", "--tls-client-ca", "a", "--insecure")
    ]
    assert UNGUARDED.arguments == []


def test_a_keyring_travels_without_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", OTHER_KEY)
    authority = Authority(tmp_path)
    pair = authority.issue("me")
    full = Pass(
        keys=Keys(file=key_file(tmp_path, KEY)), ca=authority.ca, certificate=pair.certificate, key=pair.key
    )
    ring = Keyring(
        by_host={"10.0.0.2": full, "::1": Pass(keys=Keys(variable="TEST_KEY"), server_name="")},
        default=Pass(ca=authority.ca, server_name="gpu"),
    )
    text = ring.to_json()
    assert KEY not in text
    assert OTHER_KEY not in text
    back = Keyring.of_json(text)
    assert back.pass_to("[::1]:7").keys is not None
    got = back.pass_to("10.0.0.2:7001")
    assert got.keys is not None
    assert got.keys.shown() == f"Bearer {KEY}"
    assert replace(got, keys=full.keys) == full
    assert back.pass_to("10.0.0.3:1") == ring.default
    assert back.to_json() == text


@asynccontextmanager
async def stack_of(tmp_path: Path, door: tuple[str, ...], controllers: tuple[str, ...]) -> AsyncIterator[str]:
    """Tools and a runtime with these options, and a controller with those; the controller's address."""
    patience = [f"--{name}-timeout-s={HANG_S}" for name in ("tool", "model", "run")]
    async with AsyncExitStack() as stack:
        tools = await stack.enter_async_context(
            role("tools_svc", "--ledger", str(tmp_path / "ledger.sqlite"), *door)
        )
        runtime = await stack.enter_async_context(role("runtime_svc", "--model", str(MODEL), *door))
        hops = ("--model-address", runtime, "--tools-address", tools)
        yield await stack.enter_async_context(role("controller", *hops, *patience, *controllers))


async def asked(address: str, given: Pass) -> Invocation:
    request = agent_pb2.RunRequest(run_id="r", task_id="t", prompt="What is 6 times 7?", tools=["calculator"])
    with showing(Keyring(default=given)):
        client = AgentClient(address)
    try:
        return await client.run(request, timeout_s=HANG_S)
    finally:
        await client.close()


async def test_the_services_by_themselves_behind_keys_and_both_ends_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, mine = authority.issue("127.0.0.1"), authority.issue("me")
    inner, outer = key_file(tmp_path, KEY, name="inner"), key_file(tmp_path, OTHER_KEY, name="outer")
    tls = ("--tls-cert", pair.certificate, "--tls-key", pair.key, "--tls-client-ca", authority.ca)
    door = tuple(map(str, ("--key-file", inner, *tls)))
    before = tuple(map(str, ("--key-file", outer, "--peer-key-file", inner, *tls)))
    known = Pass(keys=Keys(file=outer), ca=authority.ca, certificate=mine.certificate, key=mine.key)
    async with stack_of(tmp_path, door, before) as address:
        done = await asked(address, known)
        assert done.error is None
        assert done.record is not None
        assert {attempt["hop"] for attempt in done.record["attempts"]} == {"model", "tool"}
        refused = await asked(address, replace(known, keys=Keys(file=inner)))
        assert refused.outcome == "fail"
        assert refused.error is not None
        assert refused.error.kind == "key_wrong"


async def test_a_controller_that_has_no_key_for_its_model_says_so_at_once(tmp_path: Path) -> None:
    """Refused is refused: no attempt is spent on trying again."""
    keys = key_file(tmp_path, KEY)
    async with stack_of(tmp_path, ("--key-file", str(keys)), ()) as address:
        done = await asked(address, Pass())
        assert (done.outcome, done.error and done.error.kind) == ("fail", "key_missing")
        assert done.record is not None
        assert len(done.record["attempts"]) <= 1

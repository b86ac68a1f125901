"""Files of keys: what they may be, who is let in by them, and that nothing ever says one."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tests.proto.certificates import KEY, OTHER_KEY, key_file
from treni import keys as keys_module
from treni.errors import Code, TreniError
from treni.keys import Keys, new_key_file


def test_each_key_of_a_file_lets_in_and_the_first_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"\xef\xbb\xbf# ours\r\n\r\n" + KEY.encode() + b"  \r\n" + OTHER_KEY.encode())
    path.chmod(0o640)
    keys = Keys(file=path)
    assert keys.shown() == f"Bearer {KEY}"
    for good in (f"Bearer {KEY}", f"bearer {OTHER_KEY}", f"BEARER  {KEY} "):
        assert keys.admit(good), good
    for bad in (
        *(
            "",
            "Bearer",
            "Bearer ",
            KEY,
            f"Basic {KEY}",
            f"Bearer {KEY}x",
            f"Bearer {KEY[:-1]}",
            "Bearer # ours",
        ),
        *(f"Bearer {KEY} {OTHER_KEY}", f"Bearer {KEY.upper()}", "Bearer \udce9", "Bearer " + "x" * 100_000),
    ):
        assert not keys.admit(bad), bad[:40]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "none"),
        (b"# only a comment\n\n", "none"),
        (b"short\n", "line 1"),
        (KEY.encode() + b"\nwith a space in it is none\n", "line 2"),
        ("schlüssel-mit-umlaut-123".encode(), "line 1"),
        (b"x" * 513, "line 1"),
        (b"\xff\xfe" * 20, "UTF-16"),
        (KEY.encode() + b"\x00", "line 1"),
        ((KEY.encode() + b"\n") * 5000, "65536 bytes"),
    ],
)
def test_a_file_that_holds_no_keys_is_refused_without_saying_what_it_holds(
    tmp_path: Path, content: bytes, word: str
) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(TreniError) as raised:
        Keys(file=path)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert word in str(raised.value)
    assert str(path) in str(raised.value)
    for secret in (KEY, "short", "umlaut"):
        assert secret not in str(raised.value)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o660, 0o601, 0o777])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(TreniError, match=f"{mode:04o}") as raised:
        Keys(file=key_file(tmp_path, KEY, mode=mode))
    assert raised.value.kind == "secret_open"
    assert "chmod 600" in raised.value.todo


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "absent", Path("a\0b")):
        with pytest.raises(TreniError) as raised:
            Keys(file=path)
        assert raised.value.code is Code.INVALID_ARGUMENT


def test_keys_come_from_a_variable_and_one_that_is_not_set_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n{OTHER_KEY}")
    assert Keys(variable="TEST_KEY").admit(f"Bearer {OTHER_KEY}")
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(TreniError, match="TEST_KEY"):
        Keys(variable="TEST_KEY")


def test_keys_are_exchanged_while_a_server_runs_and_a_broken_file_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys_module, "RELOAD_S", 0.0)
    path = key_file(tmp_path, KEY)
    keys = Keys(file=path)
    with caplog.at_level(logging.DEBUG):
        key_file(tmp_path, OTHER_KEY, KEY)
        assert keys.shown() == f"Bearer {OTHER_KEY}"
        assert keys.admit(f"Bearer {KEY}")
        key_file(tmp_path, OTHER_KEY)
        assert not keys.admit(f"Bearer {KEY}")
        path.unlink()
        assert keys.admit(f"Bearer {OTHER_KEY}")
        key_file(tmp_path, "no key")
        assert keys.admit(f"Bearer {OTHER_KEY}")
        key_file(tmp_path, KEY, mode=0o644)
        assert not keys.admit(f"Bearer {KEY}")
    told = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "keys stay as they were" in told
    assert KEY not in told
    assert OTHER_KEY not in told


def test_nothing_that_is_printed_of_them_is_a_key(tmp_path: Path) -> None:
    keys = Keys(file=key_file(tmp_path, KEY))
    assert KEY not in f"{keys!r} {keys} {keys._read!r}"


def test_a_new_key_is_its_own_and_never_overwrites_one(tmp_path: Path) -> None:
    first, second = new_key_file(tmp_path / "one"), new_key_file(tmp_path / "two")
    assert first.stat().st_mode & 0o777 == 0o600
    assert len(first.read_text(encoding="ascii")) > 40
    assert first.read_bytes() != second.read_bytes()
    assert not Keys(file=first).admit(Keys(file=second).shown())
    with pytest.raises(FileExistsError):
        new_key_file(first)

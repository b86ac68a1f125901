import json
import logging
import subprocess
import sys

import pytest

from tests.limits import HANG_S

SCRIPT = """
import logging, sys
from treni import logs
logs.set_up(level={level!r}, form={form!r})
log = logging.getLogger("some.where")
log.debug("hidden")
log.info("a thing\\nhappened", extra={{"seconds": 1.5, "path": "a b", "who": "x=y", "none": ""}})
logging.getLogger("httpx").info("chatter")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it broke")
import warnings; warnings.warn("beware")
"""


def logged(level: str, form: str) -> tuple[str, list[str]]:
    script = SCRIPT.format(level=level, form=form)
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, check=True
    )
    return ended.stdout, ended.stderr.split("\n")


def test_text_is_a_line_of_keys_and_values_on_stderr() -> None:
    stdout, lines = logged("info", "text")
    assert stdout == ""
    time, _, rest = lines[0].partition(" ")
    assert time.endswith("Z")
    assert rest == r'info a thing\nhappened seconds=1.5 path="a b" who="x=y" none="" logger=some.where'
    assert "it broke" in lines[1]
    assert "ZeroDivisionError: division by zero" in lines
    assert not any("hidden" in line or "chatter" in line for line in lines)
    assert any("beware" in line for line in lines)


def test_json_is_an_object_a_line_with_the_same() -> None:
    stdout, lines = logged("debug", "json")
    assert stdout == ""
    entries = [json.loads(line) for line in lines if line]
    told = next(entry for entry in entries if entry["event"] == "a thing\nhappened")
    assert {**told, "time": ""} == {
        "time": "",
        "level": "info",
        "event": "a thing\nhappened",
        "logger": "some.where",
        "seconds": 1.5,
        "path": "a b",
        "who": "x=y",
        "none": "",
    }
    assert "division by zero" in next(entry for entry in entries if entry["event"] == "it broke")["exception"]
    assert any(entry["event"] == "hidden" for entry in entries)


@pytest.mark.parametrize("form", ["text", "json"])
def test_levels_are_kept_below(form: str) -> None:
    _, lines = logged("error", form)
    assert "a thing" not in "\n".join(lines)
    assert "it broke" in "\n".join(lines)


def test_a_log_that_nobody_can_read_costs_nothing() -> None:
    script = (
        "import logging, os; from treni import logs; logs.set_up(level='info', form='text'); os.close(2); "
        "logging.getLogger('x').info('lost'); print('kept')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "kept\n")


def test_logging_is_set_up_once() -> None:
    from treni import logs

    before = list(logging.getLogger().handlers)
    try:
        for _ in range(3):
            logs.set_up(level="info", form="text")
        assert len(logging.getLogger().handlers) == 1
    finally:
        logging.getLogger().handlers[:] = before


def test_a_log_never_has_the_metadata_that_grpc_could_not_read() -> None:
    said = """
import grpc, logging
from treni import logs
logs.set_up(level="info", form="text")
try:
    b"Bearer a-key\\xff".decode()
except UnicodeDecodeError:
    logging.getLogger("grpc._cython.cygrpc").exception("Invalid encoding on %s", b"Bearer a-key\\xff")
"""
    ended = subprocess.run(
        [sys.executable, "-c", said], capture_output=True, text=True, timeout=HANG_S, check=True
    )
    (line,) = ended.stderr.splitlines()
    assert line.endswith("error a call has metadata that is no UTF-8 logger=grpc._cython.cygrpc")

"""Somebody else's runtime in a child: no model, and a way to go wrong for every argument."""

import importlib
import os
import sys
import threading
import time
from collections.abc import Mapping

from runtime_svc.bench.child import ChildSettings, Stages, serve
from tests.limits import HANG_S

WAY = sys.argv[2]


def imports(_settings: ChildSettings) -> Mapping[str, str]:
    if WAY == "absent":
        importlib.import_module("no_such_runtime")
    return {"double": "1"}


class Double:
    device = "none"
    versions: Mapping[str, str] = {"double": "1"}

    def __init__(self, settings: ChildSettings, stages: Stages) -> None:
        if WAY == "fails":
            raise RuntimeError("no memory left")
        before = time.monotonic()
        stages.give("weights", time.monotonic() - before)

    def prefill(self, prompts: list[list[int]], room: int) -> None:
        print("a library prints this")
        os.system("echo and a program this")
        if WAY == "dies":
            os._exit(3)
        if WAY == "hangs":
            sys.stdin.read()  # until the parent has had enough
        if WAY == "stays":
            threading.Thread(
                target=time.sleep, args=(HANG_S,)
            ).start()  # which the interpreter waits for at its end

    def decode(self, tokens: int, limit_s: float) -> int:
        if WAY == "breaks" and tokens == 7:
            raise ValueError("seven")
        return tokens

    def floors(self) -> dict[str, float]:
        return {}


if __name__ == "__main__":
    raise SystemExit(serve(imports, Double))

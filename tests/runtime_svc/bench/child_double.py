"""Somebody else's runtime in a child: no model, and a way to go wrong for every argument."""

import os
import sys
import threading
import time

from runtime_svc.bench.child import serve
from tests.limits import HANG_S

WAY = sys.argv[2]


def imports(_settings):
    if WAY == "absent":
        import no_such_runtime  # noqa: F401
    return {"double": "1"}


class Double:
    device = "none"
    versions = {"double": "1"}  # noqa: RUF012

    def __init__(self, settings, stages):
        if WAY == "fails":
            raise RuntimeError("no memory left")
        before = time.monotonic()
        stages.give("weights", time.monotonic() - before)

    def prefill(self, prompts, room):
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

    def decode(self, tokens, limit_s):
        if WAY == "breaks" and tokens == 7:
            raise ValueError("seven")
        return tokens

    def floors(self):
        return {}


if __name__ == "__main__":
    raise SystemExit(serve(imports, Double))

"""How long it took from the process's start to readiness."""

from __future__ import annotations

import os
import time
from pathlib import Path

from runtime_svc.decoding.runner import Runner
from treni.v1 import inference_pb2


def process_age_s() -> float:
    """Seconds since the kernel started this process, to 10 ms (Linux: field 22 of proc_pid_stat(5))."""
    # The command name, in parentheses, may hold spaces: count from behind it.
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


class ColdStart:
    """Made before anything is loaded: what came before that counts as imports."""

    def __init__(self) -> None:
        self._import_s = process_age_s()
        self._began_s = time.perf_counter()
        self._host_s = 0.0

    def host(self) -> None:
        """What was read until now counts with the weights: tokenizer, template, config."""
        self._host_s = time.perf_counter() - self._began_s

    def ready(self, runner: Runner) -> inference_pb2.ColdStart:
        """The record, with the runner's own stages, of an engine that is ready now."""
        stages = {f"{name}_s": seconds for name, seconds in runner.loading_s.items()}
        stages["weights_s"] = stages.get("weights_s", 0.0) + self._host_s
        return inference_pb2.ColdStart(
            import_s=self._import_s,
            ready_s=self._import_s + time.perf_counter() - self._began_s,
            **stages,
        )

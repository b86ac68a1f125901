"""The child's side of a bench: one runtime in a process of its own, told over stdin what to do, timed here.

Imports the standard library only, since a peer's child runs under that peer's interpreter. Lines of JSON: the
settings come as the only argument; events go out on what was stdout. A child starts by answering the prompt in
its settings, which is its cold start, and then does what each line on stdin says until there are no more.
`time.monotonic` is one clock for all processes of a machine (Linux), so parent and child may subtract.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class ChildSettings:
    """What a child is told at its start.

    `device` is "cpu" or "cuda", `dtype` "float32" or "bfloat16" (a peer's; this runtime follows `backend`).
    `capacity` is the most tokens a sequence will have, `decode_capacity` the most of one that is decoded, and
    `slots` the most sequences at once. `prompt` and `tokens` are the first request; `spawned_s` the parent's
    clock just before it made the process. `probe` asks for nothing but the imports.
    """

    model: str
    backend: str
    device: str
    dtype: str
    threads: int
    capacity: int
    decode_capacity: int
    slots: int
    prompt: list[int]
    tokens: int
    spawned_s: float
    probe: bool


class Subject(Protocol):
    """A loaded runtime. Greedy decoding, end-of-text tokens ignored, every token on the host when a call ends."""

    device: str
    versions: Mapping[str, str]

    def prefill(self, prompts: list[list[int]], room: int) -> None:
        """Starts over with these sequences, of one length; returns when each has its first token.

        At most `room` more tokens a sequence will be asked for.
        """

    def decode(self, tokens: int, limit_s: float) -> int:
        """Goes on by `tokens` for each sequence, or until `limit_s` has passed; how many there were."""

    def floors(self) -> dict[str, float]:
        """The machine's bounds, measured now; empty for a peer."""


class Stages:
    """Where the time since the process was asked for has gone."""

    def __init__(self, since_s: float) -> None:
        self._last_s = since_s
        self.seconds: dict[str, float] = {}

    def mark(self, name: str) -> float:
        """What passed since the mark before belongs to the stage `name`; the moment of this mark."""
        now = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last_s
        self._last_s = now
        return now

    def give(self, name: str, seconds: float) -> None:
        """Gives `seconds` of what passed since the mark before to the stage `name`; the next mark has the rest."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self._last_s += seconds


Load = Callable[[ChildSettings, Stages], Subject]
Imports = Callable[[ChildSettings], Mapping[str, str]]


def serve(imports: Imports, load: Load) -> int:
    """The life of a child: imports, loads, answers, obeys. The process's exit status.

    `imports` gives versions by package name. An ImportError from it means that the runtime is absent; any
    other error ends the child with an event that names it.
    """
    settings = ChildSettings(**json.loads(sys.argv[1]))
    stages = Stages(settings.spawned_s)
    stages.mark("interpreter")
    send = _protocol_output()
    try:
        try:
            versions = imports(settings)
        except ImportError as error:
            send({"event": "absent", "reason": f"{type(error).__name__}: {error}"})
            return 0
        stages.mark("import")
        if settings.probe:
            send({"event": "present", "versions": dict(versions)})
            return 0
        subject = load(settings, stages)
        send({"event": "ready", "at": stages.mark("ready")})
        subject.prefill([settings.prompt], settings.tokens - 1)
        send({"event": "first_token", "at": stages.mark("first token")})
        made = 1 + subject.decode(settings.tokens - 1, float("inf"))
        send(
            {
                "event": "answered",
                "at": time.monotonic(),
                "tokens": made,
                "device": subject.device,
                "versions": dict(subject.versions),
                "stages": stages.seconds,
            }
        )
        for line in sys.stdin:
            send({"event": "result"} | _obey(subject, json.loads(line)))
    except Exception as error:
        traceback.print_exc()
        send({"event": "failed", "reason": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def _obey(subject: Subject, command: Mapping[str, Any]) -> dict[str, Any]:
    if command["do"] == "floors":
        return subject.floors()
    if command["do"] == "ttft":
        before = time.perf_counter()
        subject.prefill([command["prompt"]], 0)
        return {"seconds": time.perf_counter() - before}
    subject.prefill(command["prompts"], command["tokens"])
    before = time.perf_counter()
    tokens = subject.decode(command["tokens"], command["limit_s"])
    return {"seconds": time.perf_counter() - before, "tokens": tokens}


def _protocol_output() -> Callable[[Mapping[str, Any]], None]:
    """Keeps stdout for events alone: whatever a library prints goes to stderr from here on."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(event: Mapping[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    return send

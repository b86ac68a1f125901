"""How `treni-route ask` shows a run: the answers on stdout, on stderr what else happened and where the time went."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from matrices.evidence.hops import Hops, hops_in
from matrices.running.client import Invocation
from treni import entry
from treni.v1 import agent_pb2, common_pb2

_LEAST_S = 5e-5
"""Parts of the time that would be printed as 0.0 ms are left out."""

_QUOTED_CHARS = 300
"""How much of a tool's result is shown on stderr; --json has it whole."""


@dataclass(kw_only=True, slots=True)
class Shown:
    """Hears a run's events and shows them as they come.

    `live` prints text as it comes, rather than answers once they are known to be some; `quiet` prints nothing.
    """

    live: bool
    quiet: bool
    calls: list[dict[str, Any]] = field(default_factory=list)
    answered: int = 0
    record: agent_pb2.RunRecord | None = None
    _called: common_pb2.ToolCall | None = None
    _open_line: bool = False

    def hear(self, event: agent_pb2.RunEvent) -> None:
        """Takes the next event."""
        match event.WhichOneof("event"):
            case "text":
                if self.live:
                    self._print(event.text.text, ends=False)
            case "tool_call":
                self._called = event.tool_call
            case "tool_result":
                self._tell(event.tool_result)
            case "answer":
                self.answered += 1
                if not self.quiet:
                    # What was shown as it came is the answer already, but for the end of its line.
                    self._print("" if self._open_line else event.answer.text, ends=True)
            case "record":
                self.record = event.record

    def _print(self, text: str, *, ends: bool) -> None:
        click.echo(text, nl=ends)
        sys.stdout.flush()
        self._open_line = not ends

    def _tell(self, result: agent_pb2.ToolResult) -> None:
        called, self._called = self._called, None
        arguments = "" if called is None else called.arguments_json
        self.calls.append(
            {
                "question_index": self.answered,
                "name": result.name,
                "arguments_json": arguments,
                "result_json": result.content_json,
                "is_error": result.is_error,
            }
        )
        if self.quiet:
            return
        if self._open_line:
            self._print("", ends=True)
        name = result.name or "a call that can't be read"
        entry.note(f"{name} {arguments} -> {_clip(result.content_json)}")

    def finish(self, done: Invocation) -> None:
        """Says where the time went, on stderr."""
        if self._open_line:
            self._print("", ends=True)
        for line in _account(self.record, done):
            entry.note(line)


def told(questions: Sequence[str], shown: Shown, done: Invocation) -> dict[str, Any]:
    """The whole run as JSON data: times in seconds, the record as the agent sent it, None where there is none."""
    answers: list[str | None] = [reply.text for reply in done.replies]
    times_s: list[float | None] = [reply.latency_s for reply in done.replies]
    missing: list[None] = [None] * (len(questions) - len(answers))
    rows = zip(questions, [*answers, *missing], [*times_s, *missing], strict=False)
    record, error = shown.record, done.error
    return {
        "answers": [
            {"question": question, "answer": answer, "latency_s": latency_s}
            for question, answer, latency_s in rows
        ],
        "tool_calls": shown.calls,
        "outcome": done.outcome,
        "error": None
        if error is None
        else {
            "code": error.code.name,
            "kind": error.kind,
            "definite": error.definite,
            "hop": error.hop,
            "message": str(error),
        },
        "latency_s": done.latency_s,
        "ttft_s": done.ttft_s,
        "hops_s": None if record is None else dataclasses.asdict(hops_in(record, latency_s=done.latency_s)),
        "record": done.record,
    }


def _account(record: agent_pb2.RunRecord | None, done: Invocation) -> Iterator[str]:
    first = "" if done.ttft_s is None else f", the first text after {_ms(done.ttft_s)} ms"
    yield f"{_ms(done.latency_s)} ms{first}"
    if record is None:
        return
    yield "  " + ", ".join(_parts(hops_in(record, latency_s=done.latency_s)))
    if record.backend:
        model = f"{record.model} on {record.backend} ({record.device})"
        yield f"  {model}: {record.turns} model calls, {_tokens(record.usage)}"
    for number, turn in enumerate(record.user_turns, start=1):
        when = f"answered after {_ms(turn.answered_s)} ms" if turn.answered_s else "not answered"
        yield f"  question {number}: {when}, {_tokens(turn.usage)}"
    for attempt in record.attempts:
        if attempt.outcome != "ok" or attempt.attempt > 0:
            ended = "ok" if attempt.outcome == "ok" else f"{attempt.code} {attempt.detail}"
            name = f" ({attempt.name})" if attempt.name else ""
            yield f"  {attempt.hop}{name}, attempt {attempt.attempt + 1}: {_clip(ended)}"


def _parts(hops: Hops) -> Iterator[str]:
    for name, value_s in dataclasses.asdict(hops).items():
        if abs(value_s) >= _LEAST_S:
            yield f"{name.replace('_', ' ')} {_ms(value_s)}"


def _tokens(usage: common_pb2.Usage) -> str:
    return (
        f"{usage.prompt_tokens} tokens read ({usage.cached_prompt_tokens} of them in the KV cache), "
        f"{usage.completion_tokens} written"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"


def _clip(text: str) -> str:
    return text if len(text) <= _QUOTED_CHARS else text[:_QUOTED_CHARS] + "..."

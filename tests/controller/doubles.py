"""Small deterministic ports and a virtual clock, for the logic of loop and policy only.

`PlayedModel` plays fixed completions: it stands in for the model where the subject is what the loop does with a
completion. Everything about services runs against real servers, in the files beside this one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypedDict, Unpack

from controller.deadline import Clock
from controller.ports import Call
from treni.errors import Code, TreniError
from treni.v1 import agent_pb2, common_pb2, inference_pb2, tools_pb2


class VirtualClock:
    """Time that passes only when someone sleeps on it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.sleeps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_s += seconds

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now_s, sleep=self.sleep)


def failure(code: Code, *, definite: bool | None = None, kind: str = "planted") -> TreniError:
    return TreniError(
        code, kind, expected="it to work", got=code.name, todo="see the test", definite=definite
    )


def completion(
    text: str,
    *,
    calls: Sequence[tuple[str, str]] = (),
    malformed: str = "",
    chunk_size: int = 3,
    tokens: int = 4,
) -> list[inference_pb2.GenerateChunk]:
    """A completion as a model port streams it, cut into pieces of `chunk_size` characters."""
    finish = inference_pb2.GenerateFinish(
        reason="tool_calls" if calls else "stop",
        text=text,
        tool_calls=[common_pb2.ToolCall(name=name, arguments_json=arguments) for name, arguments in calls],
        malformed_tool_call=malformed,
        usage=common_pb2.Usage(prompt_tokens=10, completion_tokens=tokens, cached_prompt_tokens=5),
        timings=common_pb2.EngineTimings(prefill_s=0.25, total_s=0.5),
        awareness=common_pb2.Awareness(mean_logprob=-0.5, max_entropy=1.0, min_margin=0.25),
        backend="numpy",
        device="cpu",
        model="played",
    )
    pieces = [text[at : at + chunk_size] for at in range(0, len(text), chunk_size)]
    return [
        *(inference_pb2.GenerateChunk(text=piece) for piece in pieces),
        inference_pb2.GenerateChunk(finish=finish),
    ]


def tool_turn(*calls: tuple[str, str], before: str = "") -> list[inference_pb2.GenerateChunk]:
    """A completion that calls tools, in the form that models of the Qwen family write."""
    blocks = [
        f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
        for name, arguments in calls
    ]
    return completion("\n".join([*([before] if before else []), *blocks]), calls=calls)


Step = inference_pb2.GenerateChunk | TreniError


class PlayedModel:
    """A test double of the model: call n streams completion n; an error among the chunks is raised there."""

    def __init__(self, *completions: Sequence[Step]) -> None:
        self._completions = list(completions)
        self.requests: list[inference_pb2.GenerateRequest] = []
        self.calls: list[Call] = []
        self.closed = 0

    async def generate(
        self, request: inference_pb2.GenerateRequest, call: Call
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        self.requests.append(request)
        self.calls.append(call)
        try:
            for step in self._completions.pop(0):
                if isinstance(step, TreniError):
                    raise step
                yield step
        finally:
            self.closed += 1


Handler = Callable[[tools_pb2.CallToolRequest, Call], tools_pb2.CallToolResponse]


class PlayedTools:
    """Tools made of one function."""

    def __init__(self, specs: Sequence[common_pb2.ToolSpec], handler: Handler) -> None:
        self._specs = tuple(specs)
        self._handler = handler
        self.requests: list[tools_pb2.CallToolRequest] = []
        self.calls: list[Call] = []

    async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
        return self._specs

    async def call(self, request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        self.requests.append(request)
        self.calls.append(call)
        return self._handler(request, call)


def spec(name: str, *, has_side_effects: bool = False) -> common_pb2.ToolSpec:
    return common_pb2.ToolSpec(
        name=name,
        description=f"Does {name}.",
        parameters_json='{"type":"object"}',
        has_side_effects=has_side_effects,
    )


class TaskFields(TypedDict, total=False):
    """The fields of a run's request that tests set."""

    run_id: str
    task_id: str
    prompt: str
    tools: Sequence[str]
    sampling: common_pb2.Sampling
    request_index: int
    no_idempotency: bool
    no_tools: bool
    scenario: str
    constrain_calls: bool
    follow_ups: Sequence[str]


def task(**fields: Unpack[TaskFields]) -> agent_pb2.RunRequest:
    told: TaskFields = {"run_id": "r1", "task_id": "t1", "prompt": "How much?", **fields}
    return agent_pb2.RunRequest(**told)

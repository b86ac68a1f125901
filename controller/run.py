"""What an agent can do in a run, whatever its scenario: ask the model, call a tool, answer. Once for both arms."""

from __future__ import annotations

import difflib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from controller.attempts import HopFailed, Hops
from controller.outbox import text_event
from controller.policy import Policy
from controller.ports import MODEL_HOP, TOOL_HOP, ModelPort, ToolPort
from treni.errors import Code, TreniError
from treni.folding import fold, nfc
from treni.text_gate import TextGate, reading_of
from treni.v1 import agent_pb2, common_pb2, inference_pb2, tools_pb2

MAX_QUOTED_CHARS = 120


@dataclass(kw_only=True, slots=True)
class Run:
    """One run of a task: the conversation so far, what it may still do, and how the model and the tools are reached.

    `prompt` is what the user says in the turn that is played. Whatever fails raises TreniError: `model_hop_failed`,
    `tool_hop_failed`, `deadline_exceeded`, or the bound that was reached (`turn_limit`, `tool_call_limit`,
    `malformed_tool_call`, `thought_unfinished`).
    """

    model: ModelPort
    tools: ToolPort
    policy: Policy
    request: agent_pb2.RunRequest
    offered: dict[str, common_pb2.ToolSpec]
    hops: Hops
    prompt: str = ""
    conversation: list[common_pb2.Message] = field(default_factory=list)
    turns: int = 0
    turns_before: int = 0
    tool_calls: int = 0
    hop_calls: int = 0
    malformed: int = 0
    answered: inference_pb2.GenerateFinish | None = None
    """The turn that was the last answer, until the user says more."""
    may_have_effects: bool = False
    """Whether a tool with side effects may have run, so that a failure is not definite any more."""

    def hear(self, prompt: str) -> None:
        """Begins a user turn, behind the answer to the one before; what the policy bounds is counted from 0 again."""
        if self.answered is not None:
            self.repeat(self.answered)
            self.answered = None
        self.prompt, self.turns_before = prompt, self.turns
        self.tool_calls = self.malformed = 0

    def ask(self, content: str) -> None:
        """Adds what the user says to the conversation."""
        self.conversation.append(common_pb2.Message(role="user", content=content))

    def repeat(self, finish: inference_pb2.GenerateFinish) -> None:
        """Adds a turn of the model to the conversation, its calls as written.

        So the next prompt begins with the tokens that are in the cache already.
        """
        said = reading_of(finish)
        self.conversation.append(
            common_pb2.Message(
                role="assistant", content=said.content, tool_calls=finish.tool_calls, thinking=said.thinking
            )
        )

    def answer(self, finish: inference_pb2.GenerateFinish) -> agent_pb2.RunEvent:
        """What the turn says, as the answer to the user; it is part of the conversation once the user says more."""
        said = reading_of(finish)
        if said.open and not said.content:
            raise limit_reached(
                "thought_unfinished", "an answer after the model's thoughts", "their first part"
            )
        self.answered = finish
        return agent_pb2.RunEvent(answer=agent_pb2.Answer(text=said.content))

    async def turn(self) -> AsyncGenerator[agent_pb2.RunEvent | inference_pb2.GenerateFinish, None]:
        """One turn of the model: its text as it comes, without thoughts and calls, and then its finish.

        A stream that breaks is asked for again only while nothing of it has been passed on.
        """
        if self.turns - self.turns_before >= self.policy.max_turns:
            raise limit_reached("turn_limit", f"an answer within {self.policy.max_turns} turns", "none")
        index = self.turns
        self.turns += 1
        request = inference_pb2.GenerateRequest(
            messages=self.conversation,
            tools=self.offered.values(),
            sampling=self.request.sampling,
            cache_key=self.request.run_id,
            constrain_calls=self.request.constrain_calls,
        )
        recorder = self.hops.recorder
        finish: inference_pb2.GenerateFinish | None = None
        async for attempt in self.hops.attempts(hop=MODEL_HOP, call_index=index):
            gate, finish = TextGate(), None
            with attempt as call:
                async with aclosing(self.model.generate(request, call)) as chunks:
                    while True:
                        with recorder.hop_wait:
                            chunk = await anext(chunks, None)
                        if chunk is None:
                            break
                        if chunk.HasField("finish"):
                            finish = chunk.finish
                            if not finish.HasField("content"):
                                continue  # the whole turn tells what its last text is
                        text = gate.feed(chunk.text)
                        if text:
                            attempt.forwarded = True
                            yield text_event(text)
                if finish is None:
                    raise TreniError(
                        Code.INTERNAL,
                        "stream_incomplete",
                        expected="a finish in the last chunk of the completion",
                        got="the end of the stream",
                        todo="report this as a bug of the model's server",
                    )
                attempt.generated(finish)
        assert finish is not None, "the attempts end with one that worked, or raise"
        recorder.generation(finish)
        if not finish.malformed_tool_call:
            rest = gate.rest(reading_of(finish).content)
            if rest:
                yield text_event(rest)
        yield finish

    async def use_tool(self, call: common_pb2.ToolCall) -> agent_pb2.RunEvent:
        """The result of the call, or why there is none, as the model reads it next in the conversation."""
        limit = self.policy.max_tool_calls
        if self.tool_calls >= limit:
            raise limit_reached(
                "tool_call_limit", f"an answer within {limit} tool calls", f"one more, of {clip(call.name)}"
            )
        self.tool_calls += 1
        tool_s = 0.0
        refusal: TreniError | None = None
        try:
            response = await self._call_hop(call)
            content, tool_s = response.result_json, response.tool_s
        except HopFailed:
            raise
        except TreniError as error:
            refusal = error
            content = error_json(error)
        self.hops.recorder.tool(
            agent_pb2.ToolUse(
                name=call.name,
                arguments_json=call.arguments_json,
                result_json=content,
                is_error=refusal is not None,
                tool_s=tool_s,
            )
        )
        return self._tell(call.name, content, call_id=call.id, is_error=refusal is not None)

    async def _call_hop(self, call: common_pb2.ToolCall) -> tools_pb2.CallToolResponse:
        spec = self.offered.get(nfc(call.name))
        if spec is None:
            # Not worth a hop, and a tool that exists but was not offered must not run.
            raise unknown_tool(call.name, [spec.name for spec in self.offered.values()])
        key = "" if self.request.no_idempotency else f"{self.request.run_id}/{self.hop_calls}"
        call_index = self.hop_calls
        self.hop_calls += 1
        recorder = self.hops.recorder
        async for attempt in self.hops.attempts(
            hop=TOOL_HOP,
            call_index=call_index,
            name=call.name,
            idempotency_key=key,
            effects=spec.has_side_effects,
            arguments_json=call.arguments_json if spec.has_side_effects else "",
        ):
            with attempt as context:
                request = tools_pb2.CallToolRequest(
                    name=spec.name,
                    arguments_json=call.arguments_json,
                    run_id=self.request.run_id,
                    task_id=self.request.task_id,
                    attempt=context.key.attempt,
                    idempotency_key=key,
                )
                with recorder.hop_wait:
                    response = await self.tools.call(request, context)
            if spec.has_side_effects and (attempt.error is None or not attempt.error.definite):
                self.may_have_effects = True
        return response

    def reject(self, finish: inference_pb2.GenerateFinish) -> agent_pb2.RunEvent:
        """Why a turn's tool call cannot be read, as the model reads it next in the conversation."""
        error = TreniError(
            Code.INVALID_ARGUMENT,
            "malformed_tool_call",
            expected='a JSON object with "name" and "arguments" in each tool call',
            got=clip(finish.malformed_tool_call),
            todo="write the call again",
        )
        self.malformed += 1
        limit = self.policy.max_malformed
        if self.malformed > limit:
            raise limit_reached("malformed_tool_call", f"at most {limit} malformed tool calls", error.got)
        content = error_json(error)
        self.hops.recorder.tool(agent_pb2.ToolUse(result_json=content, is_error=True))
        self.conversation.append(
            common_pb2.Message(role="assistant", content=finish.text, thinking=finish.thinking)
        )
        return self._tell("", content, is_error=True)

    def _tell(self, name: str, content: str, *, is_error: bool, call_id: str = "") -> agent_pb2.RunEvent:
        self.conversation.append(
            common_pb2.Message(role="tool", tool_name=name, content=content, tool_call_id=call_id)
        )
        result = agent_pb2.ToolResult(name=name, content_json=content, is_error=is_error)
        return agent_pb2.RunEvent(tool_result=result)


def error_json(error: TreniError) -> str:
    """A refusal as the model reads it."""
    return json.dumps({"error": str(error)}, ensure_ascii=False)


def unknown_tool(name: str, offered: Sequence[str]) -> TreniError:
    """NOT_FOUND for a tool that the run does not offer, with the nearest name that it does."""
    folded = {fold(option): option for option in offered}
    near = difflib.get_close_matches(fold(clip(name)), list(folded), n=1)
    return TreniError(
        Code.NOT_FOUND,
        "tool_unknown",
        expected="the name of a tool",
        got=f'"{clip(name)}"',
        todo=f'did you mean "{folded[near[0]]}"?' if near else "use one of: " + ", ".join(offered),
    )


def clip(text: str) -> str:
    """The text, cut to what an error may quote: its details travel in headers, which are small."""
    return text if len(text) <= MAX_QUOTED_CHARS else text[:MAX_QUOTED_CHARS] + "..."


def limit_reached(kind: str, expected: str, got: str) -> TreniError:
    """FAILED_PRECONDITION of that kind for a run that went on, or would go on, beyond what it may."""
    return TreniError(
        Code.FAILED_PRECONDITION,
        kind,
        expected=expected,
        got=got,
        todo="simplify the task, or raise the policy's bound",
        hop="agent",
    )

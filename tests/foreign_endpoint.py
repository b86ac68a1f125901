"""A real OpenAI-compatible server over the bundled model that is none of ours to a client, and hostile on request.

`python -m tests.foreign_endpoint [--mischief WORD,WORD...] [--key KEY]` prints a line of JSON with its URL. Mischief is
done to one completion after the other, in this order, again from the first after the last: "ok", "429", "500", "503",
"cut", "slow", "garbage", "reset", "flood", "html", "error", "redirect", "empty", "whole", "gzip", "nofinish".
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from matrices.command_line import bundled_checkpoint
from runtime_svc.core import InferenceCore
from runtime_svc.engine import Engine
from treni.v1 import common_pb2, inference_pb2

MODEL = "foreign-tiny"
FINGERPRINT = "fp_of_the_tests"
FLOOD_BYTES = 64 * 2**20


class ForeignEndpoint:
    """Serves one engine; `mischief` says what is done to each completion in turn."""

    def __init__(self, core: InferenceCore, mischief: Iterator[str], key: str) -> None:
        self._core = core
        self._mischief = mischief
        self._key = key
        self.seen: list[dict[str, Any]] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.split("\r\n")
        method, path, _ = first.split(" ")
        headers = {
            key.lower(): value.strip() for key, _, value in (line.partition(":") for line in rest if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if self._key and headers.get("authorization") != f"Bearer {self._key}":
            said = f"Incorrect API key provided: {headers.get('authorization', 'none')}"
            return await self._say(writer, 401, {"error": {"message": said}})
        if (method, path) != ("POST", "/v1/chat/completions"):
            return await self._say(writer, 404, {"error": {"message": f"no {method} {path}"}})
        asked = json.loads(body)
        self.seen.append({"headers": headers, "body": asked})
        # The one token by which a client asks who is there is no completion to do mischief to.
        act = "ok" if asked.get("max_tokens") == 1 else next(self._mischief)
        if act.isdigit():
            extra = {"Retry-After": "7"} if act == "429" else {}
            return await self._say(writer, int(act), {"error": {"message": "as asked"}}, extra)
        if act == "redirect":
            return await self._say(writer, 307, {}, {"Location": "http://127.0.0.1:9/v1/chat/completions"})
        if act == "html":
            await self._head(writer, 200, "text/html")
            return await self._end(writer, b"<h1>It works!</h1>")
        if act == "gzip":
            await self._head(writer, 200, "text/event-stream", {"Content-Encoding": "gzip"})
            return await self._end(writer, b"\x1f\x8b\x08\x00")
        if act == "reset":
            writer.transport.abort()
            return False
        if act == "empty":
            await self._head(writer, 200, "text/event-stream")
            return await self._end(writer, b"")
        if act == "slow":
            await asyncio.sleep(3600)
        return await self._complete(writer, asked, act)

    async def _complete(self, writer: asyncio.StreamWriter, asked: dict[str, Any], act: str) -> bool:
        if act == "whole" or not asked.get("stream"):
            chunks = [chunk async for chunk in self._generate(asked)]
            finish = chunks[-1].finish
            message = {"role": "assistant", "content": _content(finish) or None, "tool_calls": _calls(finish)}
            whole = self._chunk(choices=[{"index": 0, "message": message, "finish_reason": finish.reason}])
            return await self._say(writer, 200, whole | {"usage": _usage(finish)})
        await self._head(writer, 200, "text/event-stream")
        sent = ""
        async for chunk in self._generate(asked):
            if not chunk.HasField("finish"):
                continue
            finish = chunk.finish
            content = _content(finish)
            for piece in itertools.batched(content, 5) if hasattr(itertools, "batched") else [content]:
                text = "".join(piece)
                await self._event(writer, self._delta({"content": text}))
                sent += text
                if act == "cut":
                    writer.transport.abort()
                    return False
                if act == "garbage":
                    await self._part(writer, b'data: {"choices": [{"delta": \n\n')
                if act == "error":
                    await self._event(writer, {"error": {"message": "the engine is on fire", "code": 500}})
                if act == "flood":
                    await self._part(writer, b"data: " + b"x" * FLOOD_BYTES)
            if act == "cut":
                writer.transport.abort()
                return False
            for index, call in enumerate(_calls(finish)):
                name, arguments = call["function"]["name"], call["function"]["arguments"]
                head = {"name": name, "arguments": ""}
                for function, more in (
                    (head, {"id": call["id"], "type": "function"}),
                    ({"arguments": arguments[:3]}, {}),
                    ({"arguments": arguments[3:]}, {}),
                ):
                    await self._event(
                        writer, self._delta({"tool_calls": [{"index": index, "function": function} | more]})
                    )
            if act != "nofinish":
                await self._event(writer, self._delta({}, finish.reason))
            if asked.get("stream_options", {}).get("include_usage"):
                await self._event(writer, self._chunk(choices=[]) | {"usage": _usage(finish)})
        await self._part(writer, b"data: [DONE]\n\n")
        return await self._end(writer, b"")

    async def _generate(self, asked: dict[str, Any]) -> AsyncIterator[inference_pb2.GenerateChunk]:
        async with contextlib.aclosing(self._core.generate(_request(asked))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _chunk(self, **more: Any) -> dict[str, Any]:
        return {
            "id": "c",
            "object": "chat.completion",
            "model": MODEL,
            "system_fingerprint": FINGERPRINT,
        } | more

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return self._chunk(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])

    async def _event(self, writer: asyncio.StreamWriter, data: dict[str, Any]) -> None:
        await self._part(writer, b"data: " + json.dumps(data).encode() + b"\n\n")

    async def _say(
        self, writer: asyncio.StreamWriter, status: int, data: Any, extra: dict[str, str] | None = None
    ) -> bool:
        await self._head(writer, status, "application/json", extra)
        return await self._end(writer, json.dumps(data).encode())

    async def _head(
        self, writer: asyncio.StreamWriter, status: int, kind: str, extra: dict[str, str] | None = None
    ) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}", "Transfer-Encoding: chunked"]
        lines += [f"{key}: {value}" for key, value in (extra or {}).items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()

    async def _part(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()

    async def _end(self, writer: asyncio.StreamWriter, data: bytes) -> bool:
        if data:
            await self._part(writer, data)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _request(asked: dict[str, Any]) -> inference_pb2.GenerateRequest:
    request = inference_pb2.GenerateRequest()
    names: dict[str, str] = {}
    for message in asked["messages"]:
        one = request.messages.add(role=message["role"], content=message.get("content") or "")
        for call in message.get("tool_calls", []):
            function = call["function"]
            names[call["id"]] = function["name"]
            one.tool_calls.add(name=function["name"], arguments_json=function["arguments"])
        if one.role == "tool":
            one.tool_name = names[message["tool_call_id"]]
    for tool in asked.get("tools", []):
        function = tool["function"]
        request.tools.append(
            common_pb2.ToolSpec(
                name=function["name"],
                description=function["description"],
                parameters_json=json.dumps(function["parameters"]),
            )
        )
    request.sampling.seed = asked.get("seed", 0)
    request.sampling.max_new_tokens = asked.get("max_tokens", 0)
    return request


def _content(finish: inference_pb2.GenerateFinish) -> str:
    return finish.content if finish.HasField("content") else finish.text


def _calls(finish: inference_pb2.GenerateFinish) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{os.urandom(6).hex()}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments_json},
        }
        for call in finish.tool_calls
    ]


def _usage(finish: inference_pb2.GenerateFinish) -> dict[str, Any]:
    usage = finish.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_prompt_tokens},
    }


@contextlib.asynccontextmanager
async def serving(*mischief: str, key: str = "", port: int = 0) -> AsyncIterator[tuple[str, ForeignEndpoint]]:
    """The base URL of a server that does this mischief, and the server; "ok" always without any."""
    engine = Engine.load(bundled_checkpoint(), backend="numpy")
    async with InferenceCore(engine) as core:
        endpoint = ForeignEndpoint(core, itertools.cycle(mischief or ("ok",)), key)
        server = await asyncio.start_server(endpoint.connected, "127.0.0.1", port, limit=2**20)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", endpoint
        finally:
            server.close()


async def _serve(mischief: list[str], key: str, port: int) -> None:
    async with serving(*mischief, key=key, port=port) as (url, _):
        print(json.dumps({"url": url}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mischief", default="")
    parser.add_argument("--key", default="")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve([one for one in given.mischief.split(",") if one], given.key, given.port))

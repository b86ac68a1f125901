"""What nobody should send over gRPC: calls, each of them bad, and connections that keep to no protocol."""

from __future__ import annotations

import asyncio
import math
import random
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc

from tests.limits import HANG_S
from tests.proto.certificates import KEY, OTHER_KEY
from tests.runtime_svc.attacks.recording import heard, recorded
from tests.runtime_svc.attacks.target import Target
from tests.runtime_svc.http_front.sockets import Wire, wire
from tests.runtime_svc.requests import Settings, generate_request, message, tool
from treni.channels import open_channel
from treni.errors import Code, TreniError, from_rpc_error
from treni.limits import MODEL_REQUEST
from treni.passes import Pass
from treni.v1 import inference_pb2, inference_pb2_grpc

GENERATE = "/treni.v1.InferenceService/Generate"
METHODS = (
    GENERATE,
    "/treni.v1.InferenceService/Embed",
    "/treni.v1.InferenceService/Info",
    "/grpc.health.v1.Health/Check",
    "/treni.v1.InferenceService/Gone",
    "/treni.v1.Nothing/Call",
    "nonsense",
)
LARGE_BYTES = 64_000_000
MOMENT_S = 0.3
"""How long is listened for an answer to what need not have any."""

BAD = (math.nan, math.inf, -math.inf, -1.0, 1e-45)
LONG = ("word " * 500, "word " * 14_000, "x" * 100_000)
NOT_DONE = (
    Code.INVALID_ARGUMENT,
    Code.OUT_OF_RANGE,
    Code.RESOURCE_EXHAUSTED,
    Code.UNIMPLEMENTED,
    Code.NOT_FOUND,
)
"""What a server says of its own to a call that nobody should make."""

LEFT = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A client's way to the target: a channel with the key and the certificate, and the bytes of a good call."""

    target: Target
    channel: grpc.aio.Channel
    call: bytes

    def raw(self, method: str) -> grpc.aio.UnaryStreamMultiCallable[bytes, bytes]:
        """A callable that sends bytes, to a method of any shape."""
        return self.channel.unary_stream(method)

    @property
    def stub(self) -> inference_pb2_grpc.InferenceServiceAsyncStub:
        """The service of the runtime."""
        return inference_pb2_grpc.InferenceServiceStub(self.channel)

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        """A connection that says whatever it likes."""
        tls = self.target.tls(protocols=("h2",))
        async with wire(f"http://{self.target.front.grpc}", tls) as client:
            yield client


@asynccontextmanager
async def line(target: Target) -> AsyncIterator[Line]:
    """A line to the target while the block runs."""
    request = generate_request("Go on", "word " * 40, max_new_tokens=200)
    data = await recorded(GENERATE, request, Pass(keys=target.known.keys))
    async with open_channel(target.front.grpc, given=target.known) as channel:
        yield Line(target=target, channel=channel, call=data)


async def _noise(line: Line, drawn: random.Random) -> str:
    """Bytes that are hardly ever a message, to methods of which some are none."""
    call = line.raw(drawn.choice(METHODS))
    return await _told(call(drawn.randbytes(drawn.randrange(1, 300)), timeout=HANG_S))


async def _damaged(line: Line, drawn: random.Random) -> str:
    """A good message with a few bytes changed."""
    good = generate_request("Hello there", message("{}", role="tool"), tools=[tool()], max_new_tokens=3)
    data = bytearray(good.SerializeToString())
    for _ in range(drawn.randrange(1, 6)):
        data[drawn.randrange(len(data))] = drawn.randrange(256)
    return await _told(line.raw(GENERATE)(bytes(data), timeout=HANG_S))


async def _settings(line: Line, drawn: random.Random) -> str:
    """Sampling settings that are no settings, or are extreme."""
    sampling: Settings = {
        "temperature": drawn.choice((*BAD, 3e38)),
        "top_p": drawn.choice((*BAD, 0.0, 1e-30)),
        "top_k": drawn.choice((0, 2**32 - 1)),
        "max_new_tokens": drawn.choice((3, 2**32 - 1)),
    }
    return await _told(line.stub.Generate(generate_request("Hello", **sampling), timeout=HANG_S))


async def _fields(line: Line, drawn: random.Random) -> str:
    """What else a request has, filled with what does not belong there."""
    odd = ("", "{", "[]", '{"type": 7}', '{"$ref": "#"}', "\0", "<|im_end|>", "\U0010ffff" * 9, "a" * 9000)
    request = generate_request(
        message(
            drawn.choice(odd), role=drawn.choice(("user", "user", "user", "wizard", "tool", "assistant"))
        ),
        tools=[tool(drawn.choice(odd), drawn.choice(odd))] if drawn.random() < 0.3 else [tool()],
        cache_key=drawn.choice(odd),
        max_new_tokens=3,
    )
    request.tool_choice.mode = drawn.choice(("auto", "none", "required", "tool", "never"))
    request.tool_choice.name = drawn.choice(odd)
    if drawn.random() < 0.5:
        request.constraint.json_schema = drawn.choice(odd)
    request.top_logprobs = drawn.choice((0, 20, 21, 2**32 - 1))
    request.stop.extend(drawn.choices(odd, k=drawn.randrange(3)))
    return await _told(line.stub.Generate(request, timeout=HANG_S))


async def _long(line: Line, drawn: random.Random) -> str:
    """Prompts past the text's or the context's limit, and messages a little over theirs."""
    if drawn.random() < 0.5:
        return await _told(line.stub.Generate(generate_request(drawn.choice(LONG)), timeout=HANG_S))
    most = MODEL_REQUEST.most
    return await _told(line.raw(GENERATE)(bytes(drawn.randint(most + 1, 2 * most)), timeout=HANG_S))


async def _texts(line: Line, drawn: random.Random) -> str:
    """Texts to embed that are none, or too many, or too long."""
    texts = drawn.choice(([], [""], ["x"] * 300, ["word " * 500], ["y" * 70_000], ["fine", "\x00"]))
    return await _told(line.raw(METHODS[1])(_embed(texts), timeout=HANG_S))


def _embed(texts: list[str]) -> bytes:
    return inference_pb2.EmbedRequest(texts=texts).SerializeToString()


async def _large(line: Line, drawn: random.Random) -> str:
    """A message so far over every limit that gRPC itself refuses it, without a word of ours."""
    call = line.raw(drawn.choice(METHODS[:4]))
    return await _told(call(bytes(LARGE_BYTES), timeout=HANG_S), by_grpc=(Code.RESOURCE_EXHAUSTED,))


async def _metadata(line: Line, drawn: random.Random) -> str:
    """More metadata than gRPC takes."""
    flood = tuple((f"flood-{number}", "x" * drawn.randrange(900, 1000)) for number in range(100))
    call = line.raw(GENERATE)(b"", timeout=HANG_S, metadata=flood)
    return await _told(call, by_grpc=(Code.RESOURCE_EXHAUSTED,))


async def _late(line: Line, drawn: random.Random) -> str:
    """Comes with a deadline that is over, or will be at once."""
    request = generate_request("Go on", max_new_tokens=200)
    call = line.stub.Generate(request, timeout=drawn.choice((0, 0.002, 0.02)))
    return await _told(call, typed=(Code.DEADLINE_EXCEEDED,), by_grpc=(Code.DEADLINE_EXCEEDED,))


async def _left(line: Line, drawn: random.Random) -> str:
    """Leaves in mid-stream, or before."""
    key = drawn.choice(("", "a", f"{drawn.random()}"))
    call = line.stub.Generate(generate_request("Go on", "word " * 40, cache_key=key, max_new_tokens=200))
    for _ in range(drawn.randrange(3)):
        await call.read()
    call.cancel()
    return LEFT


async def _truncated(line: Line, drawn: random.Random) -> str:
    """A call that breaks off, with its connection."""
    async with line.wire() as client:
        await client.send(line.call[: drawn.randrange(len(line.call))])
        await asyncio.sleep(drawn.random() * 0.02)
    return LEFT


async def _slow_reader(line: Line, drawn: random.Random) -> str:
    """Takes next to nothing of an answer, and leaves."""
    async with line.wire() as client:
        await client.send(line.call)
        await client.reader.read(10)
        await asyncio.sleep(drawn.random() * MOMENT_S)
    return LEFT


async def _dribbled(line: Line, drawn: random.Random) -> str:
    """A good call, in pieces of a few bytes; it is answered."""
    async with line.wire() as client:
        for at in range(0, len(line.call), 41):
            await client.send(line.call[at : at + 41])
            await asyncio.sleep(0)
        said = b""
        async with asyncio.timeout(HANG_S):
            while heard(said) == "nothing":
                piece = await client.reader.read(1 << 16)
                assert piece, "a good call's connection was closed"
                said += piece
    assert heard(said) == "status", f"a good call in small pieces ended in {heard(said)}: {said!r}"
    return heard(said)


async def _broken(line: Line, drawn: random.Random) -> str:
    """HTTP/2 that is none: the bytes of a good call with others in their midst, or no HTTP/2 at all."""
    data = bytearray(line.call if drawn.random() < 0.8 else drawn.randbytes(drawn.randint(1, 3000)))
    if drawn.random() < 0.2:
        data = data.replace(b"InferenceService", drawn.randbytes(len("InferenceService")))
    for _ in range(drawn.randint(1, 6)):
        at = drawn.randrange(len(data))
        data[at : at + drawn.randint(0, 3)] = drawn.randbytes(drawn.randint(0, 3))
    said = b""
    async with line.wire() as client:
        with suppress(TimeoutError, ConnectionError, ssl.SSLError):
            await client.send(bytes(data))
            async with asyncio.timeout(MOMENT_S):
                while piece := await client.reader.read(1 << 16):
                    said += piece
    return heard(said)


async def _without_key(line: Line, drawn: random.Random) -> str:
    """A good call with no key, another, or two."""
    shown: Any = drawn.choice(
        (
            (),
            (("authorization", f"Bearer {OTHER_KEY}"),),
            (("authorization", f"Basic {KEY}"),),
            (("authorization-bin", KEY.encode()),),
            (("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")),
        )
    )
    known = line.target.known
    keyless = Pass(ca=known.ca, certificate=known.certificate, key=known.key)
    async with open_channel(line.target.front.grpc, given=keyless) as channel:
        call = inference_pb2_grpc.InferenceServiceStub(channel).Generate(
            _good(), metadata=shown, timeout=HANG_S
        )
        told = await _told(call, typed=(Code.UNAUTHENTICATED,))
    assert told != ANSWERED, "somebody without the key was let in"
    return told


Attack = Callable[[Line, random.Random], Awaitable[str]]

KINDS: Mapping[str, tuple[Attack, int]] = {
    "noise": (_noise, 20),
    "damaged": (_damaged, 18),
    "settings": (_settings, 14),
    "fields": (_fields, 14),
    "long": (_long, 4),
    "texts": (_texts, 5),
    "64 MB": (_large, 2),
    "metadata": (_metadata, 2),
    "late": (_late, 4),
    "left": (_left, 8),
    "truncated": (_truncated, 6),
    "slow reader": (_slow_reader, 1),
    "dribbled": (_dribbled, 2),
    "broken": (_broken, 4),
}
"""Each kind, and how often it comes."""

WITHOUT_KEY = ("wrong key", (_without_key, 10))
"""One more, where keys are asked for."""

ANSWERED = "OK"


async def attack(line: Line, kind: str, drawn: random.Random) -> str:
    """Sends one of that kind, with the key and the certificate; what it was told, `LEFT` where it waited for nothing.

    Raises AssertionError where the server says what is neither an answer nor a typed error.
    """
    made, _ = dict([*KINDS.items(), WITHOUT_KEY])[kind]
    return await made(line, drawn)


async def knock(target: Target, shown: Pass) -> str:
    """A good call by who is not let in; how the handshake ended."""
    async with open_channel(target.front.grpc, given=shown) as channel:
        call = inference_pb2_grpc.InferenceServiceStub(channel).Generate(_good(), timeout=HANG_S)
        told = await _told(call, typed=(), by_grpc=(Code.UNAVAILABLE,))
    assert told != ANSWERED, "somebody without a certificate was let in"
    return "no handshake"


def _good() -> inference_pb2.GenerateRequest:
    return generate_request("Hello", max_new_tokens=3)


async def _told(
    call: AsyncIterable[object], *, typed: tuple[Code, ...] = NOT_DONE, by_grpc: tuple[Code, ...] = ()
) -> str:
    """How the call ended: in an answer, by us in one of these codes with all that errors tell, or by gRPC itself."""
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as raised:
        error = from_rpc_error(raised, hop="model")
        if not (error.foreign and error.code in by_grpc):
            _check(error, typed)
        return f"{error.code.name} {error.kind}"
    return ANSWERED


def _check(error: TreniError, typed: tuple[Code, ...]) -> None:
    told = f"{error.code.name} {error.kind}: {error}"
    assert not error.foreign, f"in no words of ours: {told}"
    assert error.code in typed, f"not what such a call is told: {told}"
    assert error.definite or error.code is Code.DEADLINE_EXCEEDED, f"refused, and not surely not done: {told}"

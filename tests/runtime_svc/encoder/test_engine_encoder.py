"""The engine with a sentence encoder beside it: embeddings, the route of every answer, and refusals to load."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from runtime_svc.core import InferenceCore
from runtime_svc.encoder.encoder import Encoder
from runtime_svc.engine import Engine
from runtime_svc.route import NO_TOOL
from runtime_svc.weights.digest import sha256
from tests.limits import HANG_S
from tests.places import GOLDENS
from tests.runtime_svc.encoder.test_encoder import minilm_directory
from tests.runtime_svc.requests import generate_request, message, tool
from treni import metadata
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2, inference_pb2_grpc

BERT = GOLDENS / "data" / "encoder" / "random-bert"


@pytest.fixture(scope="module")
def routed(random_directory: Path) -> Engine:
    return Engine.load(random_directory, encoder=BERT)


def finish(engine: Engine, request: inference_pb2.GenerateRequest) -> inference_pb2.GenerateFinish:
    return list(engine.generate(request))[-1].finish


def test_embeddings_are_the_encoders(routed: Engine) -> None:
    texts = ["hello there", "x", "numbers 1 2 3"]
    response = routed.embed(inference_pb2.EmbedRequest(texts=texts))
    expected = Encoder.load(BERT).embed(texts)
    np.testing.assert_allclose([e.values for e in response.embeddings], expected, atol=1e-6)


def test_a_text_longer_than_the_encoder_takes(routed: Engine) -> None:
    request = inference_pb2.EmbedRequest(texts=["x", "a " * 300])
    with pytest.raises(TreniError, match=r"texts\[1\]") as caught:
        routed.embed(request)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_every_answer_has_a_route_and_its_time(routed: Engine) -> None:
    tools = [tool(name="sum"), tool(name="find")]
    result = finish(routed, generate_request("sum it", tools=tools, max_new_tokens=3))
    told = result.awareness.route
    assert told.family in {"sum", "find", NO_TOOL}
    assert 1 / 3 <= told.probability <= 1
    assert 0 <= told.entropy <= np.log(3)
    assert 0 <= told.margin <= told.probability
    assert 0 < result.timings.route_s < result.timings.total_s


def test_the_route_changes_nothing_else(routed: Engine, engine: Engine) -> None:
    request = generate_request("sum it", tools=[tool()], max_new_tokens=12, temperature=1.0, seed=3)
    with_route, without = finish(routed, request), finish(engine, request)
    assert with_route.tokens == without.tokens
    assert not without.awareness.HasField("route")
    assert without.timings.route_s == 0
    with_route.awareness.ClearField("route")
    assert with_route.awareness == without.awareness


def test_a_turn_longer_than_the_encoder_takes_is_answered(routed: Engine) -> None:
    result = finish(routed, generate_request("a " * 300, max_new_tokens=2))
    assert result.awareness.route.family == NO_TOOL


def test_info_names_the_encoder(routed: Engine, engine: Engine) -> None:
    name, digest = routed.info.encoder.split()
    assert name == "random-bert"
    assert sha256(BERT).startswith(digest)
    assert len(digest) == 12
    assert engine.info.encoder == ""


async def test_through_the_core(routed: Engine) -> None:
    async with InferenceCore(routed) as core:
        response = await core.embed(inference_pb2.EmbedRequest(texts=["a", "b"]))
        chunks = [chunk async for chunk in core.generate(generate_request(message("hi"), max_new_tokens=2))]
    assert len(response.embeddings) == 2
    assert chunks[-1].finish.awareness.HasField("route")


def test_an_encoder_that_is_none_is_refused(random_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(TreniError, match=r"config\.json") as caught:
        Engine.load(random_directory, encoder=tmp_path)
    assert caught.value.code is Code.FAILED_PRECONDITION
    with pytest.raises(TreniError, match="bert"):
        Engine.load(random_directory, encoder=random_directory)


async def test_the_process_with_the_real_encoder(random_directory: Path) -> None:
    arguments = ("-m", "runtime_svc", "--model", str(random_directory), "--encoder", str(minilm_directory()))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        ready = json.loads(await process.stdout.readline())
        async with grpc.aio.insecure_channel(ready["address"], options=metadata.CHANNEL_OPTIONS) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            info = await stub.Info(inference_pb2.InfoRequest())
            vectors = await stub.Embed(inference_pb2.EmbedRequest(texts=["a cat", "a kitten", "an invoice"]))
            sums = tool(name="calculator")
            sums.description = "Works out an arithmetic expression exactly."
            mail = tool(name="send_mail")
            mail.description = "Sends an e-mail."
            request = generate_request("What is 12 times 30?", tools=[mail, sums], max_new_tokens=1)
            last = [chunk async for chunk in stub.Generate(request)][-1]
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
    assert info.encoder.startswith("model ")
    cat, kitten, invoice = (np.array(vector.values) for vector in vectors.embeddings)
    assert cat @ kitten > cat @ invoice + 0.2
    assert last.finish.awareness.route.family == "calculator"
    assert last.finish.awareness.route.probability > 0.5


def test_refusals_to_load_end_the_process_with_a_line(random_directory: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "runtime_svc", "--model", str(random_directory), "--encoder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert result.returncode == 1
    assert "config.json" in result.stderr
    assert "Traceback" not in result.stderr

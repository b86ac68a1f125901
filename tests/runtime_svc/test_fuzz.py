"""Any request at all: the engine answers it or refuses it with a typed error, and the next one is not affected."""

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_svc.engine import Engine
from tests.runtime_svc.requests import generate_request
from treni.errors import Code, TreniError
from treni.v1 import common_pb2, inference_pb2

TEXT = st.text(max_size=40) | st.sampled_from(
    ["", "{}", "[]", '{"type": "object"}', "{", "<tool_call>", "</tool_call>", "<|im_end|>", "\x00", "\ufffd"]
)
FLOATS = st.floats(width=32)
CALLS = st.builds(common_pb2.ToolCall, name=TEXT, arguments_json=TEXT)
MESSAGES = st.builds(
    common_pb2.Message,
    role=st.sampled_from(["system", "user", "assistant", "tool", "wizard", ""]),
    content=TEXT,
    tool_calls=st.lists(CALLS, max_size=1),
    tool_name=TEXT,
    name=TEXT,
)
TOOLS = st.builds(common_pb2.ToolSpec, name=TEXT, description=TEXT, parameters_json=TEXT)
SAMPLING = st.builds(
    common_pb2.Sampling,
    temperature=st.sampled_from([0.0, 1e-45, 1.0, 3e38]) | FLOATS,
    top_p=st.floats(0, 1, width=32) | FLOATS,
    top_k=st.integers(0, 2**32 - 1),
    seed=st.integers(0, 2**64 - 1),
    max_new_tokens=st.integers(1, 4) | st.sampled_from([2**32 - 1, 1024]),
)
REQUESTS = st.builds(
    inference_pb2.GenerateRequest,
    messages=st.lists(MESSAGES, max_size=3),
    tools=st.lists(TOOLS, max_size=2),
    sampling=SAMPLING,
    cache_key=st.sampled_from(["", "a", "b"]),
)
PROBE = generate_request("Hello", temperature=1.0, seed=1, max_new_tokens=5)


def check(engine: Engine, request: inference_pb2.GenerateRequest) -> None:
    """The answer is complete, or the refusal is of the request."""
    try:
        chunks = list(engine.generate(request))
    except TreniError as caught:
        error = caught
    else:
        finish = chunks[-1].finish
        assert 1 <= finish.usage.completion_tokens <= request.sampling.max_new_tokens
        assert "".join(chunk.text for chunk in chunks) == finish.text
        return
    assert error.code is Code.INVALID_ARGUMENT
    assert error.definite


@settings(max_examples=300)
@given(request=REQUESTS)
def test_every_request_is_answered_or_refused(engine: Engine, request: inference_pb2.GenerateRequest) -> None:
    expected = list(engine.generate(PROBE))[-1].finish.tokens
    check(engine, request)
    assert list(engine.generate(PROBE))[-1].finish.tokens == expected


@settings(max_examples=200)
@given(data=st.binary(max_size=200))
def test_bytes_that_parse_are_answered_or_refused(engine: Engine, data: bytes) -> None:
    request = inference_pb2.GenerateRequest()
    try:
        request.ParseFromString(data)
    except DecodeError:
        return  # gRPC refuses these before the service sees them
    request.sampling.max_new_tokens = min(request.sampling.max_new_tokens or 4, 4)
    check(engine, request)

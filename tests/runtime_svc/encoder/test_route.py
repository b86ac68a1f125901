"""The semantic route: a softmax over cosines, and the stage that keeps embeddings."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.route import NO_TOOL, TEMPERATURE, RouteStage, distribution, route
from tests.runtime_svc.requests import generate_request, message
from treni.v1 import common_pb2

EAST, NORTH = np.eye(2, dtype=np.float32)


def at(cosine: float) -> npt.NDArray[np.float32]:
    return np.array([cosine, np.sqrt(1 - cosine**2)], np.float32)


def test_the_nearest_tool() -> None:
    result = route(EAST, np.stack([at(0.3), at(0.8), at(0.5)]), ["a", "b", "c"])
    assert result.family == "b"
    scores = np.array([0.3, 0.8, 0.5, 0.25]) / TEMPERATURE
    expected = np.exp(scores) / np.exp(scores).sum()
    assert result.probability == pytest.approx(expected[1], rel=1e-5)
    assert result.margin == pytest.approx(expected[1] - expected[2], rel=1e-5)
    assert result.entropy == pytest.approx(-(expected * np.log(expected)).sum(), rel=1e-4)


def test_no_tool_when_none_is_near() -> None:
    result = route(EAST, np.stack([at(0.1), NORTH]), ["a", "b"])
    assert result.family == NO_TOOL
    assert result.probability > 0.8


def test_without_tools_there_is_no_doubt() -> None:
    result = route(EAST, np.empty((0, 2), np.float32), [])
    assert (result.family, result.probability, result.entropy, result.margin) == (NO_TOOL, 1, 0, 1)


def test_a_tie_goes_to_the_first() -> None:
    result = route(EAST, np.stack([at(0.5), at(0.5)]), ["a", "b"])
    assert result.family == "a"
    assert result.margin == 0


@given(
    cosines=st.lists(st.floats(-1, 1, width=32), max_size=6),
    temperature=st.floats(1e-3, 10),
    floor=st.floats(-1, 1),
)
def test_always_a_distribution_in_the_order_of_the_cosines(
    cosines: list[float], temperature: float, floor: float
) -> None:
    tools = np.stack([at(c) for c in cosines]) if cosines else np.empty((0, 2), np.float32)
    shares = distribution(EAST, tools, temperature=temperature, no_tool_cosine=floor)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    assert np.all(np.diff(shares[np.argsort([*cosines, floor])]) >= 0)


@given(cosines=st.lists(st.floats(-1, 1, width=32), max_size=6))
def test_figures_stay_in_their_ranges(cosines: list[float]) -> None:
    tools = np.stack([at(c) for c in cosines]) if cosines else np.empty((0, 2), np.float32)
    result = route(EAST, tools, [f"t{i}" for i in range(len(cosines))])
    choices = len(cosines) + 1
    assert 1 / choices - 1e-6 <= result.probability <= 1
    assert 0 <= result.margin <= result.probability
    assert 0 <= result.entropy <= np.log(choices) + 1e-5


class Letters:
    """An encoder by first letters, that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str], *, truncate: bool = False) -> npt.NDArray[np.float32]:
        assert truncate
        self.asked += texts
        return np.eye(26, dtype=np.float32)[[ord(text[0].lower()) - ord("a") for text in texts]]


def spec(name: str) -> common_pb2.ToolSpec:
    return common_pb2.ToolSpec(name=name, description="Does it.", parameters_json='{"type": "object"}')


def test_the_stage_routes_the_last_user_turn_and_embeds_nothing_twice() -> None:
    encoder = Letters()
    stage = RouteStage(encoder)
    tools = [spec("addNumbers"), spec("book_room")]
    first = generate_request("add", tools=tools)
    assert stage(first).family == "addNumbers"
    assert encoder.asked == ["add", "add numbers: Does it.", "book room: Does it."]
    later = generate_request(
        "add", message("", role="assistant"), message("12", role="tool"), "book", tools=tools
    )
    assert stage(later).family == "book_room"
    assert encoder.asked[3:] == ["book"]
    assert stage(first).family == "addNumbers"
    assert len(encoder.asked) == 4


def test_without_a_user_turn_it_is_the_last_one() -> None:
    stage = RouteStage(Letters())
    assert stage(generate_request(message("book", role="system"), tools=[spec("book")])).family == "book"


def test_what_is_kept_is_bounded_and_the_oldest_goes() -> None:
    encoder = Letters()
    stage = RouteStage(encoder, capacity=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        stage(generate_request(text))
        assert len(stage) <= 2
    assert encoder.asked == ["a", "b", "c", "b"]


def test_more_tools_than_are_kept() -> None:
    stage = RouteStage(Letters(), capacity=1)
    assert stage(generate_request("c", tools=[spec("a"), spec("b"), spec("c")])).family == "c"

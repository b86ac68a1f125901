"""Where an answer ends because of a stop, and where a thought ends because of its budget; the most likely tokens."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime_svc.engine import Engine
from tests.runtime_svc.constraints.test_engine_constraints import asked, finish_of, schema
from tests.runtime_svc.runners import Heard, Watched
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2

SWITCH = "{%- if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
OPENED = "<think>\n"


def with_template(directory: Path, to: Path, *, end: str, spelled: bool = False) -> Engine:
    """The random model with a template that ends otherwise; `spelled`: it has no tokens for thoughts."""
    shutil.copytree(directory, to)
    template = to / "chat_template.jinja"
    text = template.read_text().removesuffix("{% endif %}")
    template.write_text(text + end + "{% endif %}")
    if spelled:
        path = to / "tokenizer.json"
        written = json.loads(path.read_text())
        tokens = written["added_tokens"]
        written["added_tokens"] = [one for one in tokens if "think" not in one["content"]]
        path.write_text(json.dumps(written))
    return Engine.load(to)


@pytest.fixture(scope="module")
def switched(random_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return with_template(random_directory, tmp_path_factory.mktemp("t") / "m", end=SWITCH)


@pytest.fixture(scope="module", params=[False, True], ids=["by_id", "spelled"])
def thinker(
    random_directory: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Engine:
    to = tmp_path_factory.mktemp("t") / "m"
    return with_template(random_directory, to, end=OPENED, spelled=request.param)


def thinking(budget: int = 0, *, enabled: bool = True) -> inference_pb2.Thinking:
    return inference_pb2.Thinking(enabled=enabled, budget_tokens=budget)


def test_the_templates_switch_says_whether_the_model_thinks(switched: Engine) -> None:
    off = switched.prompt(asked(max_new_tokens=2))
    assert switched.prompt(asked(max_new_tokens=2, thinking=thinking(enabled=False))) == off
    on = switched.prompt(asked(max_new_tokens=2, thinking=thinking()))
    assert off[: len(on)] == on
    assert len(off) > len(on)


def test_a_model_that_always_thinks_cannot_be_told_not_to(thinker: Engine) -> None:
    with pytest.raises(TreniError) as refused:
        next(thinker.generate(asked(thinking=thinking(enabled=False))))
    assert (refused.value.code, refused.value.kind) == (Code.INVALID_ARGUMENT, "thinking_unsupported")


@pytest.mark.parametrize("budget", [1, 6])
def test_a_thought_is_closed_at_its_budget_and_the_answer_goes_on(thinker: Engine, budget: int) -> None:
    one = asked(thinking=thinking(budget), temperature=1.0, seed=2, max_new_tokens=60)
    finish = finish_of(thinker.generate(one))
    closing = (
        thinker.tokenizer.encode("\n</think>") if "</think>" not in thinker.tokenizer.markers else [0, 0]
    )
    assert finish.thought_cut
    assert not finish.unfinished_thought
    assert budget <= finish.thinking_tokens <= budget + len(closing)
    assert not finish.constrained
    assert "think>" not in finish.text
    assert finish.usage.completion_tokens > finish.thinking_tokens
    free = finish_of(thinker.generate(asked(thinking=thinking(), temperature=1.0, seed=2, max_new_tokens=60)))
    same = [token.id for token in finish.tokens[:budget]]
    assert same == [token.id for token in free.tokens[:budget]]
    assert not free.thought_cut


def test_what_comes_after_a_thought_is_held_to_its_form(thinker: Engine) -> None:
    wanted = {"type": "object", "properties": {"a": {"enum": [1, "x"]}}, "required": ["a"]}
    for seed in range(4):
        one = asked(
            thinking=thinking(5), constraint=schema(wanted), temperature=1.0, seed=seed, max_new_tokens=80
        )
        finish = finish_of(thinker.generate(one))
        assert finish.reason == "stop"
        assert finish.thinking_tokens > 0
        assert finish.constrained
        assert json.loads(finish.content)["a"] in (1, "x")


def test_a_text_ends_before_its_stop(engine: Engine) -> None:
    free = finish_of(engine.generate(asked(temperature=1.0, seed=3, max_new_tokens=80)))
    text = free.text
    at = len(text) // 2
    stop = text[at : at + 5]
    first = text.index(stop)
    finish = finish_of(
        engine.generate(asked(temperature=1.0, seed=3, max_new_tokens=80, stop=["never comes", stop]))
    )
    assert (finish.text, finish.content) == (text[:first], text[:first])
    assert (finish.reason, finish.stop_sequence) == ("stop", stop)
    assert finish.usage.completion_tokens == len(finish.tokens) < len(free.tokens)
    assert list(finish.tokens) == list(free.tokens)[: len(finish.tokens)]


def test_a_stop_that_does_not_come_changes_nothing(engine: Engine) -> None:
    one = asked(temperature=1.0, seed=3, max_new_tokens=40)
    free = finish_of(engine.generate(one))
    one.stop.append(free.text[-2:] + "\x00 and more")
    finish = finish_of(engine.generate(one))
    assert (finish.text, finish.reason, finish.stop_sequence) == (free.text, free.reason, "")


@pytest.mark.parametrize("ahead", [0, 1])
def test_the_slot_is_free_when_a_stop_has_come(random_directory: Path, ahead: int) -> None:
    engine = Engine.load(random_directory, slots=2)
    free = finish_of(engine.generate(asked(temperature=1.0, seed=3, max_new_tokens=40)))
    engine.scheduler.runner = Watched(engine.runner, ahead=ahead)
    one = asked(temperature=1.0, seed=3, max_new_tokens=40, stop=[free.text[10:14]])
    heard = Heard(one)
    engine.scheduler.submit(engine.start(one, heard))
    while engine.scheduler.step():
        pass
    assert heard.finished.stop_sequence == free.text[10:14]
    assert engine.scheduler.slots.in_use == 0


def test_the_most_likely_tokens_are_told_with_their_bytes(engine: Engine) -> None:
    finish = finish_of(engine.generate(asked(temperature=1.0, seed=3, max_new_tokens=10, top_logprobs=20)))
    for token in finish.tokens:
        assert token.text == engine.tokenizer.bytes_of(token.id)
        assert len(token.top) == 20
        logprobs = [choice.logprob for choice in token.top]
        assert logprobs == sorted(logprobs, reverse=True)
        assert np.exp(logprobs).sum() <= 1 + 1e-6
        mine = [choice.logprob for choice in token.top if choice.id == token.id]
        assert mine in ([], [token.logprob])
        assert all(choice.text == engine.tokenizer.bytes_of(choice.id) for choice in token.top)
        assert math.isfinite(token.entropy)
    plain = finish_of(engine.generate(asked(temperature=1.0, seed=3, max_new_tokens=10)))
    assert [token.id for token in plain.tokens] == [token.id for token in finish.tokens]
    assert all(token.text == b"" and not token.top for token in plain.tokens)

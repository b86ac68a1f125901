"""State that can't be cut at any token: what is reused is asked of its kind, and answers are those of an empty slot."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.decoding.scheduler import Scheduler
from runtime_svc.decoding.slots import BLOCK, SlotTable
from runtime_svc.decoding.stages import Stages
from runtime_svc.models.architecture import State
from runtime_svc.models.state import KEYS_AND_VALUES
from runtime_svc.ops import SamplingParams
from runtime_svc.random_checkpoint import Shape, config_of
from tests.runtime_svc.recurrent import AtItsEnd, AtMultiples, RecurrentRunner, Talk, drawn

CONFIG = config_of(Shape())
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=0)
KINDS = [KEYS_AND_VALUES, AtItsEnd(), AtMultiples(8), AtMultiples(24)]


@given(kind=st.sampled_from(KINDS), held=st.integers(0, 300), length=st.integers(0, 300))
def test_a_kind_promises_no_more_than_was_asked_or_held(kind: State, held: int, length: int) -> None:
    answer = kind.resumable(held, length)
    assert 0 <= answer <= min(held, length)
    assert kind.resumable(held, answer) == answer
    assert kind.resumable(held, 0) == 0


def answer_to(prompt: list[int], budget: int) -> list[int]:
    history = list(prompt)
    answer: list[int] = []
    while len(answer) < budget:
        answer.append(drawn(history, 260))
        history.append(answer[-1])
        if answer[-1] in CONFIG.eos_ids:
            break
    return answer


def scheduler(
    kind: State, *, ahead: int, slots: int = 6, rows: int = 4, batch_invariant: bool = False
) -> Scheduler:
    runner = RecurrentRunner(CONFIG, kind, slots=slots, ahead=ahead)
    return Scheduler(
        runner, prefill_chunk=32, prefill_alone=64, max_rows=rows, batch_invariant=batch_invariant
    )


def resumed(table: Scheduler) -> list[int]:
    """The lengths that the runner went on from."""
    assert isinstance(table.runner, RecurrentRunner)
    return table.runner.resumed


def talk(prompt: list[int], key: str, budget: int = 12, patience: float = float("inf")) -> Talk:
    return Talk(tokens=prompt, key=key, budget=budget, params=GREEDY, stages=Stages(0.0), patience=patience)


@pytest.mark.parametrize("batch_invariant", [False, True])
@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_conversations_go_on_as_from_an_empty_slot(kind: State, ahead: int, batch_invariant: bool) -> None:
    """Turns, repeats, branches and cancellations at once; the runner itself refuses to be cut."""
    chance = random.Random(7)
    table = scheduler(kind, ahead=ahead, batch_invariant=batch_invariant)
    known = {key: [[chance.randrange(200) for _ in range(chance.randrange(1, 90))]] for key in "abcd"}
    reused = answered = gone = 0
    for _ in range(40):
        wave = []
        for _ in range(chance.randrange(1, 5)):
            key = chance.choice("abcd")
            stem = chance.choice(known[key])
            cut = chance.choice([len(stem), len(stem), chance.randrange(len(stem) + 1)])
            prompt = stem[:cut] + [chance.randrange(200) for _ in range(chance.randrange(1, 30))]
            patience = chance.randrange(1, 12) if chance.random() < 0.3 else float("inf")
            wave.append((key, talk(prompt[:700], key, budget=chance.randrange(1, 20), patience=patience)))
            table.submit(wave[-1][1])
        while table.step():
            pass
        assert table.slots.in_use == 0
        for key, one in wave:
            expected = answer_to(one.tokens, one.budget)
            assert one.answer == expected[: len(one.answer)]
            if one.error is not None:
                assert one.error.kind == "cancelled"
                gone += 1
                continue
            assert one.answer == expected
            reused, answered = reused + one.reused, answered + 1
            known[key].append(one.tokens + one.answer)
            del known[key][:-6]
    assert answered > 40
    assert gone > 10
    assert reused > 0
    assert resumed(table)


def test_a_state_at_its_end_is_reused_whole_or_not_at_all() -> None:
    table = scheduler(AtItsEnd(), ahead=0)
    first = talk(list(range(50)), "a", budget=5)
    for one in (first, talk([*first.tokens, 1], "a", budget=5)):
        table.submit(one)
        while table.step():
            pass
    assert resumed(table) == []  # the answer came between the two
    whole = [*first.tokens, *first.answer]
    again = talk([*whole, 3, 4], "a", budget=5)
    for one in (talk(list(range(50)), "b", budget=5), again):
        table.submit(one)
        while table.step():
            pass
    # The last token of the answer was never read.
    assert resumed(table) == [len(whole) - 1]
    assert again.reused == len(whole) - 1


def test_a_state_that_ran_ahead_of_its_answer_is_no_prefix_of_it() -> None:
    """A turn that ends by a token was stepped once more by then, past what anybody remembers."""
    kind = AtItsEnd()
    for seed in range(2000):
        prompt = [seed % 251, seed // 251, 5]
        if (answer := answer_to(prompt, 40))[-1] in CONFIG.eos_ids and len(answer) > 1:
            break
    lengths = {}
    for ahead in (0, 1):
        table = scheduler(kind, ahead=ahead)
        for one in (talk(prompt, "a", budget=40), talk(prompt + answer[:-1] + [9, 9], "a", budget=4)):
            table.submit(one)
            while table.step():
                pass
            assert one.answer == answer_to(one.tokens, one.budget)
        lengths[ahead] = resumed(table)
    assert lengths == {0: [len(prompt) + len(answer) - 1], 1: []}


def test_a_busy_state_is_copied_only_from_where_it_can_be() -> None:
    for kind, expected in ((KEYS_AND_VALUES, 64), (AtMultiples(24), 48), (AtItsEnd(), 0)):
        table = SlotTable(3, kind)
        first = table.take("a", list(range(80)))
        table.append(first.slot, list(range(70)))
        place = table.take("a", list(range(200)))
        assert place.reused == expected
        assert place.source == (first.slot if expected else None)
        assert list(table.tokens(place.slot)) == list(range(expected))


def test_a_shorter_state_that_can_go_on_is_found_behind_a_longer_one_that_cannot() -> None:
    table = SlotTable(3, AtItsEnd())
    places = [table.take("a", list(range(n))) for n in (40, 90)]
    for place, n in zip(places, (2 * BLOCK, 90), strict=True):
        table.append(place.slot, list(range(n)))
    for place in places:
        table.release(place.slot)
    place = table.take("a", list(range(60)))
    assert (place.slot, place.reused) == (places[0].slot, 2 * BLOCK)


def test_what_a_state_read_and_nobody_remembers_counts() -> None:
    table = SlotTable(1, AtItsEnd())
    place = table.take("a", list(range(20)))
    table.append(place.slot, list(range(20)))
    table.advanced(place.slot, 1)
    table.release(place.slot)
    assert table.take("a", list(range(30))).reused == 0

"""The slot table beside a model of it that compares every slot with every prompt, token by token."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_svc.decoding.slots import BLOCK, SlotTable, common_prefix
from runtime_svc.models.state import KEYS_AND_VALUES

SLOTS = 4
STEMS = [[7] * 100, [7] * 20 + [8] * 80, list(range(100))]


@dataclass
class ModelSlot:
    key: str = ""
    tokens: list[int] = field(default_factory=list)
    busy: bool = False


class Model:
    """What the table promises, in the plainest words."""

    def __init__(self) -> None:
        self.slots = [ModelSlot() for _ in range(SLOTS)]
        self.idle = list(range(SLOTS))  # least recently used first

    def expect(self, key: str, prompt: list[int]) -> tuple[int, set[int], set[int] | set[None]]:
        """(reused, slots it may be, sources it may have) for the next `take`."""
        usable = prompt[:-1]

        def shared(slot: ModelSlot) -> int:
            return common_prefix(slot.tokens, usable) if key and slot.key == key else 0

        idle = [(shared(self.slots[i]), -len(self.slots[i].tokens), i) for i in self.idle]
        busy = [(shared(s) // BLOCK * BLOCK, i) for i, s in enumerate(self.slots) if s.busy]
        kept, spared, _ = max(idle)
        copied = max((blocks for blocks, _ in busy), default=0)
        if copied > kept:
            return copied, {self.idle[0]}, {i for blocks, i in busy if blocks == copied}
        if kept > 0:
            return kept, {i for k, s, i in idle if (k, s) == (kept, spared)}, {None}
        return 0, {self.idle[0]}, {None}

    def took(self, slot: int, key: str, prompt: list[int], reused: int) -> None:
        self.idle.remove(slot)
        self.slots[slot] = ModelSlot(key=key, tokens=list(prompt[:reused]), busy=True)

    def release(self, slot: int, forget: bool) -> None:
        held = self.slots[slot]
        held.busy = False
        if forget or not held.key or not held.tokens:
            self.slots[slot] = ModelSlot()
            self.idle.insert(0, slot)
        else:
            self.idle.append(slot)


PROMPTS = st.builds(
    lambda stem, length, tail: stem[:length] + tail,
    st.sampled_from(STEMS),
    st.integers(0, 100),
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
)
OPERATIONS = st.lists(
    st.tuples(st.just("take"), st.sampled_from(["", "a", "a", "b"]), PROMPTS, st.integers(0, 40))
    | st.tuples(st.just("release"), st.integers(0, SLOTS - 1), st.booleans()),
    min_size=20,
    max_size=60,
)


@settings(max_examples=300)
@given(operations=OPERATIONS)
def test_the_table_finds_what_comparing_every_slot_finds(operations: list[tuple[Any, ...]]) -> None:
    table, model = SlotTable(SLOTS, KEYS_AND_VALUES), Model()
    for kind, *arguments in operations:
        if kind == "take" and model.idle:
            key, prompt, generated = arguments
            reused, slots, sources = model.expect(key, prompt)
            place = table.take(key, prompt)
            assert place.reused == reused < len(prompt)
            assert place.slot in slots
            assert not model.slots[place.slot].busy  # never two owners
            assert place.source in sources
            model.took(place.slot, key, prompt, reused)
            # What a generation does: the rest of the prompt at once, then token by token.
            table.append(place.slot, prompt[reused:])
            for token in range(generated):
                table.append(place.slot, (token,))
            model.slots[place.slot].tokens += prompt[reused:] + list(range(generated))
        elif kind == "release":
            number, forget = arguments
            busy = [i for i, slot in enumerate(model.slots) if slot.busy]
            if busy:
                slot = busy[number % len(busy)]
                table.release(slot, forget=forget)
                model.release(slot, forget)
        assert table.in_use == sum(slot.busy for slot in model.slots)
        for index, slot in enumerate(model.slots):
            assert list(table.tokens(index)) == (slot.tokens if slot.key else [])


def test_what_was_overwritten_is_not_found_again() -> None:
    table = SlotTable(1, KEYS_AND_VALUES)

    def turn(prompt: list[int]) -> int:
        place = table.take("a", prompt)
        table.append(place.slot, prompt[place.reused :])
        table.release(place.slot)
        return place.reused

    first, second = [7] * 80, [7] * 20 + [1] * 60
    assert [turn(first), turn(second), turn(first), turn(first)] == [0, 20, 20, 79]


def test_slots_are_taken_over_least_recently_used_first() -> None:
    table = SlotTable(3, KEYS_AND_VALUES)

    def turn(key: str) -> int:
        place = table.take(key, [1, 2, 3])
        table.append(place.slot, [1, 2, 3][place.reused :])
        table.release(place.slot)
        return place.slot

    a, b, c = (turn(key) for key in "abc")
    assert turn("a") == a
    assert turn("d") == b
    assert turn("c") == c
    assert turn("e") == a


def test_a_slot_without_a_key_is_the_next_to_be_taken_and_remembers_nothing() -> None:
    table = SlotTable(3, KEYS_AND_VALUES)
    first = table.take("", [1, 2, 3])
    table.append(first.slot, [1, 2, 3])
    table.release(first.slot)
    assert table.take("", [1, 2, 3]) == first
    assert table.tokens(first.slot) == ()


def test_a_slot_is_released_once() -> None:
    table = SlotTable(1, KEYS_AND_VALUES)
    place = table.take("a", [1])
    table.release(place.slot)
    with pytest.raises(AssertionError):
        table.release(place.slot)


def test_common_prefix() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([1, 2], [1, 2, 3]) == 2
    assert common_prefix([], [1]) == 0
    assert common_prefix([2], [1]) == 0

"""A pattern for any of many words finds what the plain alternatives find, the longest first."""

import re

from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.tokens.alternatives import any_of

WORDS = st.lists(st.text(alphabet="ab<|.", min_size=1, max_size=5), max_size=8)


@given(words=WORDS, text=st.text(alphabet="ab<|.", max_size=40))
def test_it_finds_the_longest_of_the_words(words: list[str], text: str) -> None:
    plain = "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"
    for form in ("%s", "(?=(%s))"):
        found = [match.span(match.lastindex or 0) for match in re.finditer(form % any_of(words), text)]
        assert found == [match.span(match.lastindex or 0) for match in re.finditer(form % plain, text)]


def test_a_thousand_words_with_one_beginning_are_looked_at_together() -> None:
    pattern = any_of(f"<SPECIAL_{number}>" for number in range(1000))
    assert pattern.count("<") == 1
    assert re.fullmatch(pattern, "<SPECIAL_731>")
    assert not re.fullmatch(pattern, "<SPECIAL_1000>")

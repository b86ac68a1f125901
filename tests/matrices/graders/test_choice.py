"""The multiple-choice grader: which letter an answer chooses, and that no word of a sentence is one."""

from __future__ import annotations

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.graders.choice import Choice

GRADER = Choice(choices=("London", "Paris", "Paris, Texas", "a cat"))

CHOSEN = [
    ("A", "A"),
    ("A", "(A)"),
    ("A", "A."),
    ("A", "A)"),
    ("A", "[A]"),
    ("A", "**A**"),
    ("A", "`A`"),
    ("A", r"$\boxed{\text{A}}$"),
    ("B", "b"),
    ("B", "(b)"),
    ("B", "Ｂ"),
    ("B", "- B"),
    ("B", "The answer is B."),
    ("B", "The answer is (B)."),
    ("B", "the answer is b because it is"),
    ("B", "**Answer:** B"),
    ("B", "Answer: **b**"),
    ("B", "Answer B"),
    ("B", "#### B"),
    ("B", "<answer>B</answer>"),
    ("B", "The correct answer is:\n\n(B) Paris"),
    ("B", "The best answer is option B."),
    ("A", "The answer is A because it is so"),
    ("A", "The answer is A, not B."),
    ("C", "The answer is not B. The answer is C."),
    ("B", "The answer isn't A, it's B."),
    ("C", "I was between A and B but in the end the answer is C"),
    ("D", "The answer is a cat."),
    ("D", "A cat"),
    ("B", "paris."),
    ("C", "Paris, Texas"),
    ("C", "The answer is Paris, Texas."),
    ("B", 'The answer is "Paris".'),
    ("B", "B) Paris"),
    ("B", "B: Paris"),
    ("B", "b) Paris"),
    ("B", "**B. Paris**"),
    ("B", "B, because Paris is the capital."),
    ("A", "A because it is the capital"),
    ("A", "A is correct."),
    ("B", "B is the correct answer."),
    ("C", "Option B is incorrect. Option C is right."),
    ("C", "Option C is right, option B is wrong."),
    ("B", "I choose B"),
    ("B", "I'd go with option B, since it is"),
    ("B", "It must be option b."),
    ("B", "A is wrong. C is wrong. D is wrong. So it's B"),
    ("B", "B\n\nExplanation: A is wrong since it is not."),
    ("B", "The answer is most likely B because it is."),
    ("B", "Answer: The correct option is B"),
    ("B", "The answer is not A but B"),
    ("B", "At first the answer is A. After a second look the answer is B."),
    ("B", "The answer is B and not A"),
    ("B", "答案是B。"),
    ("B", "✅ B) Paris"),
    (None, "A\nB\nC\nD"),
    (None, ""),
    (None, "E"),
    (None, "The answer is E."),
    (None, "A cat is"),
    (None, "a cat is here"),
    (None, "An apple"),
    (None, "I think so."),
    (None, "A dog bit B's cat"),
    (None, "A and B"),
    (None, "Neither A nor B."),
    (None, "The answer is A or B."),
    (None, "Both A and C are correct."),
    (None, "A) London B) Paris C) Paris, Texas D) a cat"),
]


@pytest.mark.parametrize(("letter", "answer"), CHOSEN)
def test_an_answer_chooses_the_letter_that_a_reader_sees(letter: str | None, answer: str) -> None:
    assert GRADER.chosen(answer) == letter
    assert GRADER.is_correct(answer, expected="B") is (letter == "B")


@pytest.mark.parametrize("expected", ["E", "", "AB", "Paris", "b"])
def test_an_expected_answer_is_a_letter_of_the_choices(expected: str) -> None:
    with pytest.raises(ValueError, match="A, B, C, D"):
        GRADER.refuse(expected)


@pytest.mark.parametrize("choices", [("x",), ("x", ""), ("x", "X."), tuple(str(n) for n in range(27))])
def test_choices_that_nobody_could_tell_apart_are_refused(choices: tuple[str, ...]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Choice(choices=choices)


@given(st.text(max_size=80))
def test_any_text_is_judged(answer: str) -> None:
    assert GRADER.chosen(answer) in (None, "A", "B", "C", "D")


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=26), st.data())
def test_every_letter_is_right_itself(texts: list[str], data: st.DataObject) -> None:
    try:
        grader = Choice(choices=tuple(texts))
    except pydantic.ValidationError:
        return
    letter = data.draw(st.sampled_from(grader.letters))
    said = data.draw(st.sampled_from(["{}", "({})", " {} ", "{}.", "**{}**", "The answer is ({})."]))
    grader.refuse(letter)
    assert grader.is_correct(said.format(letter), expected=letter)


@pytest.mark.parametrize(
    "part",
    [
        "A",
        "A ",
        "answer is ",
        "answer to ",
        "(",
        "*",
        "option A ",
        "choose ",
        "a'",
        "B-",
        "####\n",
        " ",
        "\n",
    ],
)
def test_long_answers_are_read_once(part: str) -> None:
    GRADER.chosen(
        part * (100_000 // len(part))
    )  # what backtracks takes minutes, and the test's limit is for that

"""The numeric grader: the forms in which people and models write numbers, and which of them is the answer."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.graders.numeric import Numeric, final_number

GRADER = Numeric()

RIGHT = [
    ("72", "72"),
    ("72", "The answer is 72."),
    ("72", "She sold 48+24 = 72 clips.\n#### 72"),
    ("72", r"so the total is $\boxed{72}$, a third of 216"),
    ("72", "A: 72"),
    ("72", "**Answer:** $72$"),
    ("72", "Final Answer: **72** out of 100"),
    ("72", "The answer is:\n\n72"),
    ("72", "The answer to question 3 is 72"),
    ("72", "#### Step 3\nAdd them: 72"),
    ("72", "#### 3. Total\nAdd them: 72"),
    ("8", "To answer the question: 5 + 3 gives 8"),
    ("6", "The answer is not 5, it is 6."),
    ("15", "The answer is 5 + 10 = 15."),
    ("15", "The answer is 15 = 5 + 10"),
    ("-3", "The answer is x = −3"),
    ("1234", "1,234"),
    ("1234567", "1\u00a0234\u00a0567"),
    ("1234567", "1\u202f234\u202f567"),
    ("1234567", "1'234'567"),
    ("1234567", "12,34,567"),
    ("1234567", "1.234.567"),
    ("1234.56", "1.234,56"),
    ("1000", r"$1{,}000$"),
    ("1000", "$1,000.00"),
    ("30", "10,20,30"),
    ("-5", "−5"),
    ("-5", "-$5"),
    ("-5", "$-5"),
    ("-40", "It's –40°C"),
    ("-4", "negative 4"),
    ("3", "16-3"),
    ("20", "10–20"),
    ("72", "- 72"),
    ("0.75", "3/4"),
    ("0.75", "¾"),
    ("0.75", r"\frac{3}{4}"),
    ("-0.75", r"-\dfrac{3}{4}"),
    ("1.5", "1 1/2"),
    ("1.5", "1½"),
    ("1.5", r"1\frac{1}{2}"),
    ("2026", "11/28/2026"),
    ("50", "50%"),
    ("50%", "50"),
    ("0.5", r"50\%"),
    ("0.5", "50 percent"),
    ("1500", "1.5e3"),
    ("1500", "1.5E+3"),
    ("1500", "1.5 × 10^3"),
    ("1500", r"1.5 \times 10^{3}"),
    ("0.0015", "1.5×10⁻³"),
    ("1000000", "10^6"),
    ("5000000", "5 million dollars"),
    ("72", "72 m^2"),
    ("72", "72 m²"),
    ("72", "72km/h"),
    ("4", "4 litres of H2O and CO22"),
    ("500", "Rs.500"),
    ("500", "USD500"),
    ("500", "The answer is Rs. 500"),
    ("72", "答案是72个"),
    ("72", "７２"),
    ("72", "٧٢"),
    ("0.5", ".5"),
    ("1000000", "1 000 000"),
    ("1000", "1 000"),
    ("100", "I have 3 100 dollar bills"),
    ("0.5", "0,5"),
    ("10", "0,5,10"),
    ("5000", "$5k"),
    ("3000000", "$3M"),
    ("2000000000", "€2bn"),
    ("5", "5M"),
    ("5", "the result —5"),
    ("18", "Therefore, 18 is the answer. It took 3 steps."),
    ("18", '{"answer": 18, "confidence": 0.9}'),
    ("18", "The answer, then, is 18. It took 3 steps."),
    ("72", "The answer is 72 (x = 3)"),
    ("72", "The answer is 5. No, wait: the answer is 72, not 5."),
    ("72", "The answer is 48 clips + 24 clips = 72 clips"),
    ("12", "The answer is 3 × 4 = 12"),
    ("1", "1.0000"),
    ("0", "-0"),
]

WRONG = [
    ("72", ""),
    ("72", "seventy-two"),
    ("72", "73"),
    ("72", "-72"),
    ("72", "7.2"),
    ("72", "x72"),
    ("50", "0.5"),
    ("5", "0.5%"),
    ("0.333", "1/3"),
    ("72", "72 of these are 3 too many"),
    ("72", "nan"),
    ("72", "9" * 5000),
]


@pytest.mark.parametrize(("expected", "answer"), RIGHT)
def test_a_number_is_right_however_it_is_written(expected: str, answer: str) -> None:
    assert GRADER.is_correct(answer, expected=expected)


@pytest.mark.parametrize(("expected", "answer"), WRONG)
def test_another_number_is_wrong(expected: str, answer: str) -> None:
    assert not GRADER.is_correct(answer, expected=expected)


def test_a_tolerance_is_as_written_and_reached_at_its_edge() -> None:
    near = Numeric(tolerance=0.1)
    assert near.is_correct("72.1", expected="72")
    assert not near.is_correct("72.10001", expected="72")
    relative = Numeric(relative_tolerance=0.01)
    assert relative.is_correct("-198", expected="-200")
    assert not relative.is_correct("-197.9", expected="-200")


@pytest.mark.parametrize("expected", ["", "none", "x2", "9" * 5000])
def test_an_expected_answer_without_a_number_is_refused(expected: str) -> None:
    with pytest.raises(ValueError, match="a number"):
        GRADER.refuse(expected)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_judged(answer: str, expected: str) -> None:
    GRADER.is_correct(answer, expected=expected)


@given(st.text(alphabet="0123456789.,/-−%$ e^{}()=\\abx½#:\n", max_size=60))
def test_an_expected_answer_is_right_itself(text: str) -> None:
    try:
        GRADER.refuse(text)
    except ValueError:
        return
    assert GRADER.is_correct(text, expected=text)


@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=3),
    st.sampled_from(["{}", "The answer is {}.", "#### {}"]),
)
def test_groups_of_thousands_change_no_value(value: object, said: str) -> None:
    assert GRADER.is_correct(said.format(f"{value:,}"), expected=str(value))


@pytest.mark.parametrize(
    "part",
    [
        "1",
        "1,234",
        "12,",
        "1,",
        "1/",
        "1.234",
        "1x10",
        "1e",
        "-",
        ".",
        "\\boxed{",
        "\\frac{",
        "answer to ",
        "answer is ",
        "#",
        "#\n",
        "####\n",
        " ",
        "*",
    ],
)
def test_long_answers_are_read_once(part: str) -> None:
    text = part * (100_000 // len(part))
    GRADER.is_correct(text, expected="5")  # what backtracks takes minutes, and the test's limit is for that
    assert final_number(text + " 5") is not None


def test_published_verdicts_are_its_own() -> None:
    """Where a file of published solutions with verdicts is at hand (GSM8K's `example_model_solutions`)."""
    path = os.environ.get("TRENI_GSM8K_SOLUTIONS")
    if path is None:
        pytest.skip("TRENI_GSM8K_SOLUTIONS names no file of published solutions")
    agreed = total = 0
    for line in Path(path).read_text(encoding="utf-8").split("\n"):
        row = json.loads(line) if line else {}
        for said in (value for value in row.values() if isinstance(value, dict)):
            total += 1
            agreed += GRADER.is_correct(said["solution"], expected=row["ground_truth"]) is said["is_correct"]
    assert agreed == total > 0


def test_the_number_is_found_far_from_the_end() -> None:
    assert GRADER.is_correct("72 " + re.sub("", " x2", " " * 20_000), expected="72")

"""Numbers as people and models write them, read out of running text."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

MAX_DIGITS = 1000
"""How long a number, and how large an exponent, is still read; a longer one has no value."""

_MINUS = "-−–﹣‐‑"
_CURRENCY = "$€£¥₹₩₽₺฿"
_LETTER = r"A-Za-zÀ-ɏ_"

# Full-width and Arabic forms, and LaTeX's ways to space the groups of a number.
_FORMS = str.maketrans(
    {"．": ".", "，": ",", "－": "-", "％": "%", "＄": "$", "／": "/", "٫": ".", "٬": ",", "⁄": "/", "∕": "/"}
)
_LATEX_SPACES = (("{,}", ","), ("\\!", ""), ("\\,", "\u2009"), ("\\;", "\u2009"), ("\\%", "%"), ("\\$", "$"))
_LATEX_FRACTION = re.compile(
    r"(\d?)\\[dt]?frac\s{0,2}(?:\{\s{0,2}([-−]?\d{1,99})\s{0,2}\}\s{0,2}\{\s{0,2}(\d{1,99})\s{0,2}\}|(\d)(\d))"
)

# Where a number may begin: not within a word or an exponent, but behind the code of a currency.
_BEGIN = (
    rf"(?:(?<![{_LETTER}\d^])(?<!\^\{{)|(?<=USD)|(?<=EUR)|(?<=GBP)|(?<=CHF)|(?<=INR)|(?<=JPY)|(?<=CNY)|(?<=CAD)"
    r"|(?<=AUD)|(?<=Rs))"
)
_NUMBER = re.compile(
    _BEGIN
    + r"""(?:
      (?P<point>\d{1,3}(?:\.\d{3}){1,99},\d{1,2}(?!\d) | \d{1,3}(?:\.\d{3}){2,99}(?![\d.]))
    | (?P<indian>\d{1,2}(?:,\d{2}){1,9},\d{3}(?!\d)(?:\.\d+)?)
    | (?P<grouped>\d{1,3}(?P<gap>[,'’_\u00a0\u2009\u202f])\d{3}(?:(?P=gap)\d{3}){0,99}(?!\d)(?:\.\d+)?)
    | (?P<spaced>\d{1,3}(?:(?:[ ]\d{3}){2,99}(?:\.\d+)?|[ ]000)(?!\d))
    | (?P<comma>0,\d{1,99}(?![\d,]))
    | (?P<plain>\d+(?:\.\d+)?)
    | (?P<vulgar>[¼½¾⅐-⅞↉])
    )
    | (?<![\w)\]])(?P<pointed>\.\d+)""",
    re.VERBOSE,
)
_EXPONENT = re.compile(rf"[eE]([-+−]?\d{{1,9}})(?![{_LETTER}\d])")
_CARET = re.compile(
    r"\s?(?:\^\s?\{?\s?(?P<caret>[-+−–]?\d{1,9})\s?\}?|\*\*\s?(?P<stars>[-+]?\d{1,9})|(?P<raised>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,9}))"
)
_TIMES_TEN = re.compile(r"\s{0,2}(?:[×xX*·⋅]|\\times|\\cdot)\s{0,2}10(?=\s?[\^*⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹])")
_OVER = re.compile(r"\s{0,2}/\s{0,2}(\d{1,999})(?![\d/]|\.\d|\s{0,2}/)")
_AND_PART = re.compile(r"[ \u00a0\u2009]{1,2}(\d{1,9})/(\d{1,9})(?![\d/]|\.\d)")
_AND_VULGAR = re.compile(r"[ \u2009]?([¼½¾⅐-⅞])")
_SCALE = re.compile(r"[ \u00a0-]?(hundred|thousand|million|billion|trillion)s?\b", re.IGNORECASE)
_SUM = re.compile(rf"(k|mn?|bn?)(?![{_LETTER}\d])", re.IGNORECASE)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALES |= {"k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9}
_PERCENT = re.compile(r"\s?%|\s(?:percent|per\s?cent)\b", re.IGNORECASE)
_MINUS_WORD = re.compile(r"(?:\bnegative|(?:^|[:=(]|\b(?:is|to|of))\s{0,2}minus)\s{1,2}$", re.IGNORECASE)
_VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞↉"
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number in a text: its exact value (None for one too long to have any), and whether it is a percentage.

    `start` and `end` are where it stands in the text that was searched, sign and unit apart.
    """

    value: Fraction | None
    percent: bool
    start: int
    end: int


def plain(text: str) -> str:
    """The text with LaTeX's fractions and spacing, and full-width signs, written in the plain way."""
    text = text.translate(_FORMS)
    for written, meant in _LATEX_SPACES:
        text = text.replace(written, meant)
    return _LATEX_FRACTION.sub(_as_slashed, text)


def _as_slashed(found: re.Match[str]) -> str:
    before, over, under = found[1], found[2] or found[4], found[3] or found[5]
    return f"{before}{' ' if before else ''}{over}/{under}"


def numbers(text: str) -> Iterator[Number]:
    """The numbers of a plain text, in order."""
    place = 0
    while (found := _NUMBER.search(text, place)) is not None:
        number = _read(text, found)
        place = number.end
        yield number


def last_number(text: str) -> Number | None:
    """The last number of a plain text, found from its end; None where it has none."""
    window = 8 * MAX_DIGITS
    end = len(text)
    while end > 0 and not (text[end - 1].isdecimal() or text[end - 1] in _VULGAR):
        end -= 1
    while True:
        start = max(0, end - window)
        found = next(iter(deque(numbers(text[start:]), maxlen=1)), None)
        if found is not None or start == 0:
            return found
        window *= 2


def _read(text: str, found: re.Match[str]) -> Number:
    written, end = found[0], found.end()
    value = _magnitude(found)
    whole = value is not None and found["plain"] is not None and "." not in written
    if (exponent := _EXPONENT.match(text, end)) is not None:
        value, end = _shifted(value, exponent[1]), exponent.end()
    elif (ten := _TIMES_TEN.match(text, end)) is not None and (
        power := _CARET.match(text, ten.end())
    ) is not None:
        value, end = _shifted(value, _power(power)), power.end()
    elif written == "10" and (power := _CARET.match(text, end)) is not None:
        value, end = _shifted(Fraction(1), _power(power)), power.end()
    elif value is not None and (part := _part(text, found.start(), end, value, whole=whole)) is not None:
        value, end = part
    scale = _SCALE.match(text, end)
    if scale is None and text[found.start() - 1 : found.start()] in tuple(_CURRENCY):
        scale = _SUM.match(text, end)
    if scale is not None and value is not None:
        value, end = value * _SCALES[scale[1].lower()], scale.end()
    number = Number(value=value, percent=_PERCENT.match(text, end) is not None, start=found.start(), end=end)
    if value is not None and _is_negative(text, found.start()):
        number = replace(number, value=-value)
    return number


def _magnitude(found: re.Match[str]) -> Fraction | None:
    written = found[0]
    if found["vulgar"] is not None:
        return _vulgar(written)
    if len(written) > MAX_DIGITS:
        return None
    if found["point"] is not None:
        written = written.replace(".", "").replace(",", ".")
    elif found["comma"] is not None:
        written = written.replace(",", ".")
    elif found["spaced"] is not None:
        written = written.replace(" ", "")
    elif found["indian"] is not None:
        written = written.replace(",", "")
    elif found["grouped"] is not None:
        written = written.replace(found["gap"], "")
    digits, _, decimals = written.partition(".")
    return Fraction(int(digits + decimals), 10 ** len(decimals))


def _vulgar(sign: str) -> Fraction:
    return Fraction(unicodedata.numeric(sign)).limit_denominator(10)


def _power(found: re.Match[str]) -> str:
    return found["caret"] or found["stars"] or found["raised"].translate(_RAISED)


def _shifted(value: Fraction | None, exponent: str) -> Fraction | None:
    power = int(exponent.translate({ord(sign): "-" for sign in _MINUS}))
    if value is None or abs(power) > MAX_DIGITS:
        return None
    return value * Fraction(10) ** power


def _part(text: str, start: int, end: int, value: Fraction, *, whole: bool) -> tuple[Fraction, int] | None:
    """The fraction or mixed number that a whole number begins, and its end; None where it begins none."""
    if not whole:
        return None
    if (vulgar := _AND_VULGAR.match(text, end)) is not None:
        return value + _vulgar(vulgar[1]), vulgar.end()
    if (part := _AND_PART.match(text, end)) is not None and 0 < int(part[1]) < int(part[2]):
        return value + Fraction(int(part[1]), int(part[2])), part.end()
    over = _OVER.match(text, end)
    if over is not None and int(over[1]) != 0 and text[start - 1 : start] != "/":
        return value / int(over[1]), over.end()
    return None


def _is_negative(text: str, start: int) -> bool:
    """Whether a minus stands before the number at `start`: a sign, not a hyphen, a dash, a bullet or a subtraction."""
    before = text[max(0, start - 24) : start]
    if _MINUS_WORD.search(before) is not None:
        return True
    bare = before.rstrip(_CURRENCY + "\\")
    if bare != before and not bare.endswith(tuple(_MINUS)):
        bare = bare.rstrip(" ")
    if bare == before and bare.endswith(" "):
        # A minus apart from its number is one only where a number has to begin.
        bare = bare.rstrip(" ")
        return bare.endswith(tuple(_MINUS)) and bare[:-1].rstrip(" ").endswith(("=", ":", "(", "≈"))
    if not bare.endswith(tuple(_MINUS)):
        return False
    ahead = bare[-2:-1]
    return not (ahead.isalnum() or ahead in (*_MINUS, ")", "]", "}", "%"))

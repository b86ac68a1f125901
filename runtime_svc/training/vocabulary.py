"""The words that dialogues are made of, split for good into a training part and a held-out part.

A value (name, word, number, code) belongs to the held-out part when a hash of its text says so; the hash is
fixed, so the two parts are disjoint by construction. Single digits belong to both: there are only ten.
"""

# ruff: noqa: SIM905 - word lists read better as text
from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

HELD_OUT_SHARE = 5
"""One value in this many is held out."""


FIXED_WORDS = frozenset(
    """table river city cities country population founded name number result note notes ledger account amount
    entry query limit value list word words item order column water people year search match best first second
    third last expression calculator tool tools large small old new red blue green white black open closed
    full empty warm cold clean kitchen book record total letter money price house road school market""".split()
)
"""Words that the fixed text around dialogues has too: never held out, since training sees them anyway."""


def is_held_out(text: str) -> bool:
    """Whether the value `text` is never used in training. Case does not matter; single digits are shared."""
    if (len(text) == 1 and text.isdigit()) or text.lower() in FIXED_WORDS:
        return False
    return zlib.crc32(b"treni:" + text.lower().encode()) % HELD_OUT_SHARE == 0


WORDS = tuple(
    """acorn amber anchor apple apron arrow attic bacon badge bagel ballad bamboo banana banjo barley barn basil
    basket beacon bean beetle bell bench berry birch biscuit blanket blossom boat bonnet border bottle boulder
    bracelet bramble bread breeze brick bridge broom brush bucket bugle butter button cabin cactus camel canal
    candle canoe canvas carbon cargo carpet carrot castle cedar cellar cello chalk cherry chestnut chisel
    cider cinder circle clay cliff clock clover coal cobalt coffee comet copper coral corner cotton crane
    crayon cream cricket crystal curtain dagger daisy desert diamond dolphin donkey dragon drum eagle ember
    engine fabric falcon feather fender fern fiddle fig finch flag flame flint flour flute forest fossil
    fountain fox garlic gate ginger glacier glove goat gold grain granite grape gravel guitar hammer harbor
    hazel heron hill honey hood horizon horn island ivory jacket jade jasmine jelly jewel juniper kettle kite
    ladder lagoon lake lantern lark lava leaf leather lemon lentil lilac lily lime linen lion lizard lobster
    locket lotus magnet mango maple marble meadow melon mill mint mirror mitten moss moth mountain muffin
    mustard needle nest nettle nickel nutmeg oak oasis oat olive onion opal orbit orchid otter oven owl oyster
    paddle palm panda paper parrot peach pear pearl pebble pelican pencil pepper piano pigeon pillow pine
    planet plum pocket pond pony poplar poppy potato prairie prism pumpkin quartz quill rabbit radish raft
    raisin raven reed ribbon river robin rocket rope rose ruby saddle saffron sail salmon salt sand satin
    scarf shell silk silver spade sparrow spice spruce squash stone storm straw sugar swan table tango teapot
    temple thistle thorn thunder tiger timber toast tomato torch tower trout tulip tunnel turnip turtle valley
    vanilla velvet vine violet violin wagon walnut water wheat whistle willow window winter wolf wool yarrow
    zebra zinc""".split()
)
"""Everyday words, used as values: list items, topics, ledger accounts, codes."""

TOOL_NOUNS = tuple(
    """invoice parcel ticket booking room meeting alarm timer playlist song movie recipe order shipment customer
    account device printer camera thermostat lamp heater door window garage vehicle scooter bicycle flight
    train ferry hotel museum concert match lesson course student teacher employee contract budget report
    letter message email document folder photo video backup server database query dashboard sensor battery
    pump valve turbine reactor greenhouse aquarium garden tree plant animal patient doctor prescription
    vaccine sample experiment telescope satellite orbit asteroid volcano earthquake forecast tide glacier reef
    trail map route bridge tunnel station warehouse shelf crate pallet coupon voucher refund loan deposit
    share bond auction painting statue library magazine article chapter poem dictionary translation interview
    survey ballot permit licence passport visa""".split()
)

TOOL_VERBS = tuple(
    """order book send cancel open start stop create remove update rename print scan track rent return repair
    install measure mark sort copy move lock unlock share publish archive restore pause resume play record
    rate review approve reject assign label pack ship deliver collect clean paint water feed weigh test
    calibrate launch land load unload refill drain heat cool dim mute boost merge split export import convert
    translate register enrol extend renew reserve schedule postpone transfer charge reset""".split()
)

FIELD_WORDS = tuple(
    """price weight height width length depth size colour shape brand model year month day hour duration distance
    speed pressure temperature voltage power level grade score rank total amount quantity limit rate fee
    discount tax balance budget salary age owner author editor title label tag topic genre language country
    region district street floor seat row lane gate platform terminal zone sector code number reference serial
    batch version status priority category type format mode theme style material flavour scent texture pattern
    origin destination target source recipient sender contact phone address deadline date time interval phase
    angle radius volume area density humidity frequency wavelength dose strength capacity margin ratio factor
    offset threshold""".split()
)
"""Names of parameters and of result fields."""

FIELD_MODIFIERS = (
    "max",
    "min",
    "new",
    "old",
    "first",
    "last",
    "main",
    "total",
    "local",
    "final",
    "base",
    "extra",
)

FIRST_NAMES = tuple(
    """Ada Adam Aisha Alan Alice Amir Ana Anton Bea Ben Boris Carla Cleo Colin Dana David Diego Dora Edgar Ella
    Emil Emma Erik Eva Farid Felix Fiona Frida Gina Greta Hana Hugo Ida Igor Ines Iris Ivan Jana Jonas Julia
    Karim Kate Lara Leo Lena Lina Luca Maja Marco Maria Marta Max Mila Nadia Nils Nina Noah Nora Olga Omar
    Oscar Paul Petra Pia Rafael Rita Rosa Ruth Sami Sara Sofia Sven Tara Theo Tina Tomas Uma Vera Victor
    Walter Yara Yusuf Zoe""".split()
)

_ONSETS = tuple(
    """b br c ch cl cr d dr f fl g gl gr h j k kl kr l m n p pl pr qu r s sh sl sm sn sp st t th tr v w z""".split()
)
_VOWELS = tuple("a a a e e e i i o o o u u ai ea ee ou ia io y".split())
_CODAS = ("", "", "", "", "n", "r", "l", "s", "m", "t", "d", "k", "th", "nd", "rt", "st", "ng", "x")
_ACCENTS = {"a": "á", "e": "é", "o": "ö", "u": "ü", "i": "í"}
_UPPER = "ABCDEFGHJKLMNPRSTUVWXYZ"


def _parts(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(w for w in words if not is_held_out(w)), tuple(w for w in words if is_held_out(w))


_ANY = tuple(sorted({*WORDS, *TOOL_NOUNS, *TOOL_VERBS, *FIELD_WORDS, *FIXED_WORDS}))
_SPLIT = {
    id(words): _parts(words) for words in (WORDS, TOOL_NOUNS, TOOL_VERBS, FIELD_WORDS, FIRST_NAMES, _ANY)
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Which part of each space a dialogue draws from; True is the held-out part.

    `openers` puts a few words that mean nothing before some requests: training alone reads those.
    """

    values: bool = False
    tools: bool = False
    phrasings: bool = False
    openers: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Random values from one part of the value spaces. All randomness comes from `rng`."""

    rng: random.Random
    part: Part = field(default_factory=Part)

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.rng.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, uniformly."""
        return options[int(self.rng.random() * len(options))]

    def below(self, low: int, high: int) -> int:
        """An integer in low..high, both included, from no split: counts, lengths, positions."""
        return low + int(self.rng.random() * (high - low + 1))

    def _held(self, make: Callable[[], str], held: bool) -> str:
        while True:
            text = make()
            if is_held_out(text) == held or (len(text) == 1 and text.isdigit()):
                return text

    def _made_up(self, low: int, high: int, held: bool) -> str:
        """A made-up word: syllables, two everyday words blended, or one time in twelve mere letters."""
        kind = self.rng.random()
        if kind < 0.45:
            return self._held(lambda: syllables(self.rng, low, high), held)
        if kind < 0.92:
            return self._held(lambda: blend(self.rng, _SPLIT[id(_ANY)][0]), held)
        return self._held(lambda: letters(self.rng), held)

    def word(self) -> str:
        """A lower-case word of the value part: everyday or, two times in three, made up."""
        kind = self.rng.random()
        if kind < 0.24:
            return self.pick(_SPLIT[id(WORDS)][self.part.values])
        if kind < 0.36:
            return self.pick(_SPLIT[id(_ANY)][self.part.values])
        return self._made_up(1, 2, self.part.values)

    def words(self, count: int) -> list[str]:
        """`count` different words."""
        chosen: list[str] = []
        while len(chosen) < count:
            word = self.word()
            if word not in chosen:
                chosen.append(word)
        return chosen

    def name(self) -> str:
        """A capitalised name: a first name, a word, or four times in five made up."""
        kind = self.rng.random()
        if kind < 0.12:
            return self.pick(_SPLIT[id(FIRST_NAMES)][self.part.values])
        if kind < 0.2:
            return self.pick(_SPLIT[id(_ANY)][self.part.values]).capitalize()
        return _accented(self.rng, self._made_up(2, 3, self.part.values).capitalize())

    def names(self, count: int) -> list[str]:
        """`count` different names."""
        chosen: list[str] = []
        while len(chosen) < count:
            name = self.name()
            if name not in chosen:
                chosen.append(name)
        return chosen

    def integer(self, low: int, high: int) -> int:
        """An integer in low..high of the value part, with lengths equally likely."""
        return int(self._held(lambda: str(_by_length(self.rng, low, high)), self.part.values))

    def integers(self, count: int, low: int, high: int) -> list[int]:
        """`count` different integers."""
        chosen: list[int] = []
        while len(chosen) < count:
            number = self.integer(low, high)
            if number not in chosen:
                chosen.append(number)
        return chosen

    def decimal(self) -> str:
        """A decimal number such as 12.5, as text, without trailing zeros."""

        def make() -> str:
            tail = str(1 + int(self.rng.random() * 9))
            if self.chance(0.4):
                tail = str(int(self.rng.random() * 10)) + tail
            return f"{_by_length(self.rng, 0, 999)}.{tail}"

        return self._held(make, self.part.values)

    def code(self) -> str:
        """A reference such as KX-402."""

        def make() -> str:
            letters = "".join(self.rng.choice(_UPPER) for _ in range(self.below(1, 3)))
            return f"{letters}{self.pick(('-', '', '-'))}{_by_length(self.rng, 1, 9999)}"

        return self._held(make, self.part.values)

    def clock(self) -> str:
        """A time of day such as 14:35."""
        return self._held(lambda: f"{self.below(0, 23):02d}:{self.below(0, 59):02d}", self.part.values)

    def date(self) -> str:
        """A date such as 2031-04-12."""

        def make() -> str:
            return f"{self.below(1990, 2049)}-{self.below(1, 12):02d}-{self.below(1, 28):02d}"

        return self._held(make, self.part.values)

    def tool_verb(self) -> str:
        """A verb for a tool, of the tool part; made up two times in five."""
        if self.chance(0.4):
            return self._made_up(1, 2, self.part.tools)
        return self.pick(_SPLIT[id(TOOL_VERBS)][self.part.tools])

    def tool_noun(self) -> str:
        """A noun for a tool, of the tool part; made up two times in three."""
        if self.chance(0.67):
            return self._made_up(2, 3, self.part.tools)
        return self.pick(_SPLIT[id(TOOL_NOUNS)][self.part.tools])

    def field_word(self) -> str:
        """A name for a parameter or a result field in words ("max weight"), of the tool part."""
        if self.chance(0.5):
            word = self._made_up(2, 2, self.part.tools)
        else:
            word = self.pick(_SPLIT[id(FIELD_WORDS)][self.part.tools])
        if word in FIELD_MODIFIERS or self.chance(0.8):
            return word
        return f"{self.pick(FIELD_MODIFIERS)} {word}"


def blend(rng: random.Random, words: Sequence[str]) -> str:
    """The beginning of one word with the end of another, so that any piece of a word can follow any other."""
    one, other = words[int(rng.random() * len(words))], words[int(rng.random() * len(words))]
    head = one[: 2 + int(rng.random() * min(5, len(one) - 1))]
    tail = other[-(1 + int(rng.random() * min(6, len(other)))) :]
    return head + tail if len(head + tail) > 2 else head + "en"


def letters(rng: random.Random) -> str:
    """Three to six random letters."""
    return "".join(chr(97 + int(rng.random() * 26)) for _ in range(3 + int(rng.random() * 4)))


def syllables(rng: random.Random, low: int, high: int) -> str:
    """A lower-case pronounceable word of low..high syllables that means nothing."""
    count = low + int(rng.random() * (high - low + 1))
    parts = []
    for _ in range(count):
        parts.append(_ONSETS[int(rng.random() * len(_ONSETS))])
        parts.append(_VOWELS[int(rng.random() * len(_VOWELS))])
    parts.append(_CODAS[int(rng.random() * len(_CODAS))])
    word = "".join(parts)
    return word if len(word) > 2 else word + "ra"


def typo(rng: random.Random, word: str) -> str:
    """`word` with one slip: a letter left out, doubled, swapped with the next, or added at the end."""
    for _ in range(20):
        at = int(rng.random() * (len(word) - 1))
        kind = int(rng.random() * 4)
        if kind == 0:
            slipped = word[:at] + word[at + 1 :]
        elif kind == 1:
            slipped = word[: at + 1] + word[at:]
        elif kind == 2:
            slipped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        else:
            slipped = word + "s"
        if slipped != word and len(slipped) > 2:
            return slipped
    return word + "s"


def _accented(rng: random.Random, word: str) -> str:
    if rng.random() > 0.04:
        return word
    at = next((i for i in range(1, len(word)) if word[i] in _ACCENTS), None)
    return word if at is None else word[:at] + _ACCENTS[word[at]] + word[at + 1 :]


def _by_length(rng: random.Random, low: int, high: int) -> int:
    shortest, longest = len(str(max(low, 1))), len(str(high))
    digits = shortest + int(rng.random() * (longest - shortest + 1))
    first = max(low, 10 ** (digits - 1) if digits > 1 else 0)
    last = min(high, 10**digits - 1)
    return first + int(rng.random() * (last - first + 1))

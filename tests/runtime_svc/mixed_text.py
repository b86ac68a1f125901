"""Lines of every kind of text that tokenizers disagree about, the same ones each time."""

import random
from collections.abc import Iterator

WORDS = [
    *("the", "The", "THE", "don't", "WE'LL", "i'm", "it's", "O'Neill's", "data_point", "camelCase"),
    *("naïve", "café", "Größe", "straße", "Łódź", "e\u0301tude", "\ufb01n", "Ⅷ", "½", "x²"),
]
SCRIPTS = [
    "Привет, мир! Это тест.",
    "你好，世界。今天天气很好",
    "こんにちは世界、テストです",
    "안녕하세요 세계",
    "مرحبا بالعالم ١٢٣",
    "नमस्ते दुनिया १२३",
    "สวัสดีชาวโลก",
    "Ελληνικά ΆΈΉ ά έ",
    "שלום עולם",
    "\u1112\u1161\u11ab",
    "A\u030angstro\u0308m",
]
MARKS = list("!?.,;:'\"()[]{}<>@#$%^&*-_=+/\\|`~§°€£¥…–—«»‘’“”•→≤∑√∞")
SPACES = [
    *(" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n\n", " \n "),
    *("\u00a0", "\u3000", "\u2028", "\u0085", "\u200b", "\x0b"),
]
EMOJI = ["😀", "👩‍👩‍👧", "🇫🇷", "👍🏽", "❤️", "✈️", "\ud7ff", "\U0010ffff", "\x00", "\x1b[0m"]
CODE = [
    "def f(x): return x**2",
    'for (int i = 0; i < n; ++i) { a[i] += "x"; }',
    '{"name": "get_weather", "arguments": {"city": "Paris"}}',
    "https://example.org/a?b=1&c=%20#d",
    "SELECT * FROM t WHERE a >= 10;",
    "<tool_call>\n{}\n</tool_call>",
    "    indented\n\treturn 0",
]


def lines(count: int = 10_000, seed: int = 20_261) -> Iterator[str]:
    """`count` texts of one to twelve pieces; a few have line breaks in them."""
    chance = random.Random(seed)

    def digits() -> str:
        return "".join(chance.choice("0123456789") for _ in range(chance.randrange(1, 12)))

    def anything() -> str:
        low, high = chance.choice(
            [(32, 127), (0xA0, 0x250), (0x370, 0x600), (0x900, 0xE00), (0x2000, 0x2C00)]
        )
        return "".join(chr(chance.randrange(low, high)) for _ in range(chance.randrange(1, 6)))

    kinds = [
        lambda: chance.choice(WORDS),
        lambda: chance.choice(WORDS),
        lambda: chance.choice(SCRIPTS),
        lambda: chance.choice(MARKS) * chance.randrange(1, 4),
        lambda: chance.choice(EMOJI),
        lambda: chance.choice(CODE),
        digits,
        lambda: f"{digits()}.{digits()}e-{digits()[:2]}",
        anything,
    ]
    for _ in range(count):
        pieces = []
        for _ in range(chance.randrange(1, 13)):
            pieces.append(chance.choice(kinds)())
            pieces.append(chance.choice(["", " ", " ", " ", chance.choice(SPACES)]))
        yield "".join(pieces)

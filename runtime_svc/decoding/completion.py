"""A completion as it is generated: from token ids to what is said, thought and called."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_svc.tokens.tokenizer import Tokenizer
from treni.markup import END_THINK, TAGS, THINK, Reading, Speech, Spelling, Tag, read, spelled


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """A whole completion: its `text` as it was passed on, and how all of it is meant (`reading`).

    `rest` is the end of the text, which was not passed on yet.
    """

    text: str
    rest: str
    reading: Reading


class Completion:
    """Decodes one completion, token by token; `thinking` if the prompt has opened a thought.

    A tag is one by its id where the tokenizer has it as a token, and by its characters otherwise.
    """

    def __init__(self, tokenizer: Tokenizer, *, thinking: bool) -> None:
        self._stream = tokenizer.stream()
        self._names = {i: name for name, i in tokenizer.markers.items() if name in TAGS}
        self._spelled = [name for name in TAGS if name not in tokenizer.markers]
        self._spelling = Spelling(name for name in (THINK, END_THINK) if name in self._spelled)
        self._speech = Speech(thinking=thinking)
        self._thinking = thinking
        self._tags: list[Tag] = []
        self._pieces: list[str] = []
        self._length = 0
        self._said: list[str] = []

    def feed(self, token: int) -> str:
        """What is said by the token, as far as that is certain."""
        text = self._stream.feed(token)
        name = self._names.get(token)
        if name is None:
            return self._say(self._hear(text))
        # Bytes that the tag leaves incomplete stand before it.
        said = self._hear(text.removesuffix(name)) + self._waiting()
        self._tags.append(Tag(name=name, start=self._length, spelled=False))
        self._keep(name)
        return self._say(said + self._speech.tag(name))

    def finish(self) -> Completed:
        """The whole completion, read to its end."""
        rest = self._say(self._hear(self._stream.finish()) + self._waiting() + self._speech.finish())
        raw = "".join(self._pieces)
        tags = sorted([*self._tags, *spelled(raw, self._spelled)], key=lambda tag: tag.start)
        return Completed(
            text="".join(self._said), rest=rest, reading=read(raw, tags, thinking=self._thinking)
        )

    def _hear(self, text: str) -> str:
        self._keep(text)
        parts = self._spelling.feed(text)
        return "".join(
            self._speech.tag(part) if part in (THINK, END_THINK) else self._speech.text(part)
            for part in parts
        )

    def _waiting(self) -> str:
        return self._speech.text(self._spelling.finish())

    def _keep(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)

    def _say(self, text: str) -> str:
        self._said.append(text)
        return text

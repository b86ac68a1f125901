"""A completion as it is generated: from token ids to what is said, thought and called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime_svc.decoding.stops import Stops
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

    A tag is one by its id where the tokenizer has it as a token, and by its characters otherwise. The text ends before
    the first of the `stops`, which are looked for in all that is passed on and in no thought: `stop` is the one that
    was found, "" before. `thinking_tokens` counts the tokens that were fed while a thought was open.
    """

    def __init__(self, tokenizer: Tokenizer, *, thinking: bool, stops: Iterable[str] = ()) -> None:
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
        self._stops = Stops(stops)
        self._spoken = 0  # characters of the completion that were said, thought or held for a stop
        self.stop = ""
        self.thinking_tokens = 0

    @property
    def thinking(self) -> bool:
        """Whether a thought is open."""
        return self._speech.thinking

    def feed(self, token: int) -> str:
        """What is said by the token, as far as that is certain."""
        self.thinking_tokens += self.thinking
        text = self._stream.feed(token)
        name = self._names.get(token)
        if name is None:
            return self._say(self._hear(text))
        # Bytes that the tag leaves incomplete stand before it.
        said = self._hear(text.removesuffix(name)) + self._waiting()
        self._tags.append(Tag(name=name, start=self._length, spelled=False))
        self._keep(name)
        return self._say(said + self._speak(name))

    def finish(self) -> Completed:
        """The whole completion, read to its end."""
        said = self._hear(self._stream.finish()) + self._waiting()
        if not self.stop:
            said += self._speech.text(self._stops.finish())
        rest = self._say(said + self._speech.finish())
        raw = "".join(self._pieces)
        if self.stop:
            raw = raw[: self._spoken]
        own = [tag for tag in self._tags if tag.end <= len(raw)]
        tags = sorted([*own, *spelled(raw, self._spelled)], key=lambda tag: tag.start)
        return Completed(
            text="".join(self._said), rest=rest, reading=read(raw, tags, thinking=self._thinking)
        )

    def _hear(self, text: str) -> str:
        self._keep(text)
        return "".join(map(self._speak, self._spelling.feed(text)))

    def _waiting(self) -> str:
        return self._speak(self._spelling.finish())

    def _speak(self, part: str) -> str:
        """What is said by the next part of the completion, a text or a tag, and where it stops."""
        if self.stop:
            return ""
        self._spoken += len(part)
        if part in (THINK, END_THINK):
            return self._speech.text(self._stops.finish()) + self._speech.tag(part)
        if self.thinking:
            return self._speech.text(part)
        passed = self._stops.feed(part)
        if isinstance(passed, str):
            return self._speech.text(passed)
        self.stop = passed.stop
        self._spoken += passed.read - len(part) - len(passed.stop)
        return self._speech.text(passed.passed)

    def _keep(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)

    def _say(self, text: str) -> str:
        self._said.append(text)
        return text

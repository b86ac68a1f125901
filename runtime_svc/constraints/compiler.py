"""Makes of a grammar what follows it token by token, by llguidance, which is imported when a request first needs it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime_svc.ops import Allowed
from runtime_svc.tokens.tokenizer import Tokenizer
from treni.errors import TreniError, invalid_argument

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_CACHED = 32
"""Grammars that are kept as they were compiled."""


class Compiler:
    """Grammars over one model's tokens; from any thread.

    `vocabulary` are the model's tokens, which may be more than the tokenizer's, and `ends` those that end a turn.
    """

    def __init__(self, tokenizer: Tokenizer, *, vocabulary: int, ends: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._ends = sorted(ends)
        self._compiling = threading.Lock()
        self._tokens: Any = None
        self._compiled: OrderedDict[bytes, LLMatcher] = OrderedDict()

    def matcher(self, *grammars: str) -> Matcher:
        """A follower, at its beginning, of the first grammar that llguidance can follow.

        Raises INVALID_ARGUMENT "schema_unsupported" where it is none of them, with what it says of the last.
        """
        refused: TreniError | None = None
        for grammar in grammars:
            try:
                return self._matcher(grammar)
            except TreniError as error:
                refused = error
        assert refused is not None, "a grammar at least"
        raise refused

    def _matcher(self, grammar: str) -> Matcher:
        digest = blake2b(grammar.encode(), digest_size=16).digest()
        with self._compiling:  # one at a time: two cores' worth of hostile schemas is worse than a queue
            compiled = self._compiled.pop(digest, None)
            if compiled is None:
                compiled = self._compile(grammar)
            self._compiled[digest] = compiled
            if len(self._compiled) > MAX_CACHED:
                self._compiled.popitem(last=False)
            return Matcher(compiled.deep_copy(), self._vocabulary)

    def _compile(self, grammar: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

        if self._tokens is None:
            vocabulary = _Vocabulary(self._tokenizer, self._vocabulary, self._ends[0])
            self._tokens = LLTokenizer(
                TokenizerWrapper(vocabulary), n_vocab=self._vocabulary, eos_token=self._ends
            )
        # Some hundred milliseconds to compile, some ten for a token, 40 MB.
        limits = LLParserLimits(
            initial_lexer_fuel=500_000,
            step_lexer_fuel=200_000,
            step_max_items=50_000,
            max_lexer_states=20_000,
            max_grammar_size=200_000,
            verbose_errors=False,
        )
        matcher = LLMatcher(self._tokens, grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise _refused(matcher.get_error())
        return matcher


class Matcher:
    """Where one completion stands in its grammar, over a `vocabulary` of so many tokens."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._words, self._last = -(-vocabulary // 32), (1 << (vocabulary - 1) % 32 + 1) - 1

    def allowed(self) -> Allowed | None:
        """The tokens that may come next, those that end the turn among them where it may end; None for any.

        Raises INVALID_ARGUMENT "schema_too_complex" where that is more than can be found out in time.
        """
        words = np.frombuffer(self._matcher.compute_bitmask(), np.uint32, self._words)
        if self._matcher.is_error():
            raise _too_complex(self._matcher.get_error())
        if not words.any():  # a grammar without any completion, which only shows on the way
            raise _too_complex("no token fits")
        everything = words[-1] == self._last and (words[:-1] == 0xFFFFFFFF).all()
        return None if everything else words

    def accept(self, token: int) -> None:
        """Goes on by an allowed token that does not end the turn."""
        if not self._matcher.consume_token(token):
            raise _too_complex(self._matcher.get_error())


class _Vocabulary:
    """A model's tokens and tokenizer as llguidance asks for them."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, count: int, end: int) -> None:
        self.eos_token_id = end
        self.tokens = [tokenizer.bytes_of(token) for token in range(count)]
        self.special_token_ids = sorted(tokenizer.control_ids | set(tokenizer.markers.values()))
        self._tokenizer = tokenizer

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode(errors="replace"))


def _refused(why: str) -> TreniError:
    return invalid_argument(
        "schema_unsupported",
        expected="a JSON schema that decoding can be held to",
        got=_first_line(why),
        todo="leave that out, and check the answer for it",
    )


def _too_complex(why: str) -> TreniError:
    return invalid_argument(
        "schema_too_complex",
        expected="a schema whose next token can be found in time",
        got=_first_line(why),
        todo="use a simpler schema",
    )


def _first_line(why: str) -> str:
    return why.strip().splitlines()[0][:200] if why.strip() else "no reason given"

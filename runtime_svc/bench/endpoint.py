"""An OpenAI-compatible endpoint as a contender, by URL, optionally started here from its own command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shlex
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from typing import BinaryIO

import httpx

from runtime_svc.bench import openai
from runtime_svc.bench.contender import Absent, Failed, Started
from runtime_svc.bench.openai import Answer
from runtime_svc.bench.record import Cold
from treni.channels import open_http
from treni.errors import invalid_argument

POLL_S = 0.05
"""Between two looks at whether a server is up: what a longer interval would add to its start-up time."""

_SYLLABLES = ("ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu")
_CALIBRATION_WORDS = (20, 120)
_MOST_SILENT_TOKENS = 16


def prompt_text(words: int, seed: int) -> str:
    """A text of `words` made-up words, other ones for every seed from the first on."""
    generator = random.Random(f"{seed}/{words}")
    return " ".join("".join(generator.choices(_SYLLABLES, k=2)) for _ in range(words))


class EndpointContender:
    """Chat completions over HTTP, timed at the client. Prompts are made-up words, their number calibrated.

    How many tokens a word has is the server's to say, in its usage. `model` None takes the first that it lists.
    `limit_s` is all the time it may take.
    """

    def __init__(
        self,
        url: str,
        command: str | None,
        *,
        model: str | None,
        batches: list[int],
        cold_tokens: int,
        limit_s: float,
    ) -> None:
        self._url = url
        self._command = command
        self._batches = batches
        self._cold_tokens = cold_tokens
        self._limit_s = self._left_s = limit_s
        self._client = _client(url)
        self._process: asyncio.subprocess.Process | None = None
        self._log: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        self._asked_model = model
        self._model = ""
        self._silent_tokens = (
            1  # how many tokens it takes until there is text: a parser may swallow the first
        )
        self._tokens_per_word = 1.0
        self._tokens_around = 0.0

    @property
    def name(self) -> str:
        """The URL of the endpoint, which names it in the report."""
        return self._url

    @property
    def batches(self) -> list[int]:
        """Every batch size of the session."""
        return self._batches

    @property
    def limits(self) -> str:
        """Whether its first token shows; "" if it does."""
        if self._silent_tokens == 1:
            return ""
        return f"its first text is that of its first {self._silent_tokens} tokens: so is its TTFT"

    async def start(self) -> Started:
        """Runs the start command, where there is one, until the endpoint answers; then calibrates."""
        async with self._limited("starting"):
            cold = None
            if self._command is None:
                try:
                    names = await openai.models(self._client)
                except httpx.HTTPError as error:
                    raise Absent(f"nothing answers at {self._url}: {type(error).__name__}: {error}") from None
                self._model = self._choose(names)
            else:
                cold = await self._cold_start(self._command)
            few, many = [await self._complete(words, 1, words) for words in _CALIBRATION_WORDS]
            self._tokens_per_word = (many.prompt_tokens - few.prompt_tokens) / (
                _CALIBRATION_WORDS[1] - _CALIBRATION_WORDS[0]
            )
            self._tokens_around = few.prompt_tokens - self._tokens_per_word * _CALIBRATION_WORDS[0]
            if self._tokens_per_word <= 0:
                raise Failed("its prompt token counts do not grow with the prompt")
            if few.first_s is None:
                self._silent_tokens = await self._tokens_to_text()
        return Started(device=self._url, versions={"model": self._model}, cold=cold)

    async def ttft(self, prompt_tokens: int, seed: int) -> tuple[float, int]:
        """The time from sending the request to its first text, in seconds, and the prompt's tokens."""
        async with self._limited(f"prefilling {prompt_tokens} tokens"):
            answer = await self._complete(self._words(prompt_tokens), self._silent_tokens, seed)
        return _spoken(answer)[0] - answer.sent_s, answer.prompt_tokens

    async def decode(self, batch: int, context: int, tokens: int, seed: int) -> tuple[float, int]:
        """`batch` requests at once; from the first text of any to the last text of all."""
        async with self._limited(f"decoding at batch {batch}"):
            words = self._words(context)
            answers = await asyncio.gather(
                *(
                    self._complete(words, tokens + self._silent_tokens, seed * 1000 + row)
                    for row in range(batch)
                )
            )
        made = sum(answer.completion_tokens - self._silent_tokens for answer in answers) // batch
        if made < 1:
            raise Failed(f"answers of one token: nothing to time after the first ({tokens + 1} asked for)")
        texts = [_spoken(answer) for answer in answers]
        return max(last_s for _, last_s in texts) - min(first_s for first_s, _ in texts), made

    async def aclose(self) -> None:
        """Closes the connection, and ends what the start command started."""
        await self._client.aclose()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        self._log.close()

    async def _cold_start(self, command: str) -> Cold:
        spawned_s = time.monotonic()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *shlex.split(command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise Absent(f"its start command does not start: {error}") from None
        while True:
            if self._process.returncode is not None:
                raise Failed(f"its start command ended with {self._process.returncode}: {self._last_line()}")
            with contextlib.suppress(httpx.HTTPError, Failed):  # not up yet, or up and loading
                self._model = self._choose(await openai.models(self._client))
                break
            await asyncio.sleep(POLL_S)
        ready_s = time.monotonic() - spawned_s
        answer = await self._complete(_CALIBRATION_WORDS[0], self._cold_tokens, seed=0)
        first_s, last_s = _spoken(answer)
        return Cold(
            ready_s=ready_s,
            first_token_s=first_s - spawned_s,
            total_s=last_s - spawned_s,
            outside_s=first_s - spawned_s,
            tokens=answer.completion_tokens,
            stages={},
        )

    async def _tokens_to_text(self) -> int:
        """The number of tokens in which its answers have text. Raises `Failed` when there are too many."""
        tokens = 1
        while (tokens := 2 * tokens) <= _MOST_SILENT_TOKENS:
            answer = await self._complete(_CALIBRATION_WORDS[0], tokens, seed=tokens)
            if answer.first_s is not None:
                return tokens
        raise Failed(f"the answer has no text in its first {_MOST_SILENT_TOKENS} tokens")

    async def _complete(self, words: int, tokens: int, seed: int) -> Answer:
        return await openai.complete(self._client, self._model, prompt_text(words, seed), tokens)

    def _choose(self, names: list[str]) -> str:
        if self._asked_model is not None:
            return self._asked_model
        if not names:
            raise Failed("it lists no model; name one with --peer-model")
        return names[0]

    def _words(self, tokens: int) -> int:
        return max(1, round((tokens - self._tokens_around) / self._tokens_per_word))

    @contextlib.asynccontextmanager
    async def _limited(self, doing: str) -> AsyncIterator[None]:
        before = time.monotonic()
        try:
            async with asyncio.timeout(max(self._left_s, 0.0)):
                yield
        except TimeoutError:
            raise Failed(f"cut at its limit of {self._limit_s:g} s, while {doing}") from None
        finally:
            self._left_s -= time.monotonic() - before

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it printed nothing")


def _client(url: str) -> httpx.AsyncClient:
    """A client of the server at `url`. Raises INVALID_ARGUMENT for what is no URL."""
    try:
        parts = httpx.URL(url)
        host, port = parts.host, parts.port
        if not host or not 1 <= (80 if port is None else port) <= 65535:
            raise ValueError("no host, or no port from 1 to 65535")
        return open_http(base_url=url, timeout=None)
    except (httpx.InvalidURL, ValueError) as error:
        raise invalid_argument(
            "peer_invalid", expected="the URL of a server", got=f"{url}: {error}", todo="correct --peer"
        ) from None


def _spoken(answer: Answer) -> tuple[float, float]:
    """The moments of the answer's first and last text. Raises `Failed` for one without."""
    if answer.first_s is None or answer.last_s is None:
        raise Failed("the answer has no text")
    return answer.first_s, answer.last_s

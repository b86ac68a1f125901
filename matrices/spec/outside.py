"""What is asked of outside: a model behind an OpenAI-compatible endpoint, and an agent of the user's own."""

from __future__ import annotations

import os
import shlex
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from treni.errors import TreniError, invalid_argument


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class EndpointSpec(_Strict):
    """A model behind an endpoint: `url` is what `/chat/completions` is added to, `model` the name that it has there.

    `key_env` names the environment variable that holds the key, "" for none. `parameters` are set in the body of each
    request, `omit` are keys of the body that this endpoint does not take.
    """

    url: str
    model: str = Field(min_length=1, max_length=256)
    key_env: str = ""
    parameters: dict[str, Any] = {}
    omit: tuple[str, ...] = Field(default=(), strict=False)

    @property
    def can_be_faulted(self) -> bool:
        """Whether a fault can strike a request on its way there, and not the handshake of an encrypted connection."""
        return urlsplit(self.url).scheme == "http"

    @property
    def address(self) -> str:
        """The "host:port" behind the URL."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"


class AgentSpec(_Strict):
    """An agent of the user's own: the `url` that takes a task, or the words of the `command` that is run in `folder`.

    `key_env` names the environment variable that holds the key for the URL, "" for none.
    """

    url: str = ""
    command: tuple[str, ...] = Field(default=(), strict=False)
    folder: str = ""
    key_env: str = ""

    @property
    def words(self) -> str:
        """The agent as a report names it."""
        return self.url or shlex.join(self.command)


def endpoint_spec(
    *, url: str, model: str, key_env: str, parameters: dict[str, Any], omit: tuple[str, ...]
) -> EndpointSpec:
    """The endpoint at that URL. Raises INVALID_ARGUMENT for a URL that is none, or that has more in it than a place."""
    if not model.strip() or len(model) > 256 or not model.isprintable():
        raise invalid_argument(
            "endpoint_model",
            expected="the model's name beside --model-endpoint",
            got=repr(model[:80]),
            todo="say --model NAME, as the endpoint's /models lists it",
        )
    return EndpointSpec(
        url=checked_url("--model-endpoint", url),
        model=model,
        key_env=key_env,
        parameters=parameters,
        omit=omit,
    )


def checked_url(option: str, url: str) -> str:
    """The URL without a slash at its end. Raises INVALID_ARGUMENT (`url_invalid`): it never repeats a password."""
    try:
        parts = urlsplit(url)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        raise _invalid(option, "a URL such as http://host:8000/v1", "none") from None
    if parts.username is not None or parts.password is not None:
        raise _invalid(
            option, "a URL without credentials", "one with credentials: name a variable that holds the key"
        )
    if parts.query or parts.fragment:
        raise _invalid(option, "a URL without ? and #", "one with more than a path")
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_fits or not url.isprintable():
        raise _invalid(option, "a URL such as http://host:8000/v1", repr(url[:120]))
    return url.rstrip("/")


def _invalid(option: str, expected: str, got: str) -> TreniError:
    return invalid_argument(
        "url_invalid", expected=f"{option}: {expected}", got=got, todo="correct the option"
    )


def key_in(variable: str, *, option: str) -> str:
    """The key in that environment variable, "" for no variable.

    Raises INVALID_ARGUMENT (`key_missing`) where it is not set, or holds what no header can bear; never tells it.
    """
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise invalid_argument(
            "key_missing",
            expected=f"{option}: a key of printable ASCII in the environment variable {variable!r}",
            got="an unset or empty variable" if not key else "something else",
            todo=f"set it: export {variable if variable.isidentifier() else 'NAME'}=...",
        )
    return key

"""Tokens that a checkpoint declares beside `tokenizer.json`, as transformers takes them in when it loads one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from runtime_svc.directory import read_json
from runtime_svc.errors import damaged

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Settings that each name one special token."""

_LISTS = ("additional_special_tokens", "extra_special_tokens")

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_settings(directory: Path) -> dict[str, Any]:
    """What `tokenizer_config.json` says, and of `special_tokens_map.json` what that leaves open."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = directory / name
        if path.is_file():
            settings |= {key: value for key, value in read_json(path).items() if value is not None}
    return settings


def declare(directory: Path, library: Tokenizer) -> frozenset[str]:
    """Adds to the tokenizer what the files beside it declare; the tokens that they flag as special.

    Raises `TreniError` naming file and token where an id that they give is another token's.
    """
    settings = read_settings(directory)
    special = set(_named(settings))
    known = {token.content for token in library.get_added_tokens_decoder().values()}
    for path, token, wanted in [*_decoder(directory, settings), *_legacy(directory)]:
        if token.content not in known:
            library.add_tokens([token])
            known.add(token.content)
        got = library.token_to_id(token.content)
        if got != wanted:
            raise damaged(
                path, f"the added token {token.content!r}", expected=f"of id {wanted}", got=f"{got}"
            )
        if token.special:
            special.add(token.content)
    # No model has weights for a token that is new, and only named.
    named = sorted(content for content in special - known if library.token_to_id(content) is not None)
    library.add_special_tokens([AddedToken(content, special=True, normalized=False) for content in named])
    return frozenset(special)


def content_of(token: object) -> str | None:
    """The text of a token as the files of a checkpoint write it: a string, or an object with its `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def listed(settings: Mapping[str, Any], key: str) -> list[str]:
    """The texts of the tokens in a setting that holds several, in a list or by names of their own."""
    several = settings.get(key)
    values = several.values() if isinstance(several, dict) else several if isinstance(several, list) else ()
    return [text for text in map(content_of, values) if text is not None]


def _named(settings: Mapping[str, Any]) -> Iterator[str]:
    for key in NAMED:
        text = content_of(settings.get(key))
        if text:
            yield text
    for key in _LISTS:
        yield from filter(None, listed(settings, key))


def _decoder(directory: Path, settings: Mapping[str, Any]) -> Iterator[tuple[Path, AddedToken, int]]:
    """The tokens of `added_tokens_decoder` with their file, in the order of their ids."""
    path = directory / "tokenizer_config.json"
    decoder = settings.get("added_tokens_decoder", {})
    wanted = "an object of tokens, each with its content, by their ids"
    if not isinstance(decoder, dict) or not all(key.isdecimal() for key in decoder):
        raise damaged(path, "added_tokens_decoder", expected=wanted, got=repr(decoder)[:80])
    for key in sorted(decoder, key=int):
        content = content_of(decoder[key])
        if not content:
            raise damaged(path, "added_tokens_decoder", expected=wanted, got=f"{key}: {decoder[key]!r}"[:80])
        given = decoder[key] if isinstance(decoder[key], dict) else {}
        flags = {flag: bool(given[flag]) for flag in _FLAGS if flag in given}
        yield path, AddedToken(content, **flags), int(key)


def _legacy(directory: Path) -> Iterator[tuple[Path, AddedToken, int]]:
    """The tokens of `added_tokens.json` likewise: where they were written before."""
    path = directory / "added_tokens.json"
    ids = read_json(path) if path.is_file() else {}
    if not all(type(i) is int for i in ids.values()):
        raise damaged(path, "the text", expected="an object of ids by token", got=repr(ids)[:80])
    for content in sorted(ids, key=lambda token: int(ids[token])):
        yield path, AddedToken(content), ids[content]

"""Jinja as chat templates expect it, which is as transformers sets it up; what a template writes is `Traced`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime_svc.tokens.provenance import Safe, Traced, concat, join, origin_of, written


class Arguments(dict[str, object]):
    """The arguments of a tool call: a mapping, which is written as the text that the model wrote.

    Templates read them in either of two forms, as an object or as its JSON text. `is mapping`, members and `items()`
    find the object; printing, `+`, `~` and `tojson` give the text, so that a prompt goes on from the model's tokens.
    """

    def __init__(self, value: dict[str, object], text: str) -> None:
        super().__init__(value)
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __add__(self, other: str) -> str:
        return self._text + other

    def __radd__(self, other: str) -> str:
        return other + self._text


@cache
def environment() -> jinja2.Environment:
    """The one environment that all templates are compiled in."""
    return _Environment()


class _Code(CodeGenerator):
    """Generates code in which every literal of the template is `Traced`, and stays so where texts are joined."""

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:
        if type(node.value) is str:  # and no `Markup`, which `escape` makes of a literal
            self.write(f"environment.literal({node.value!r})")
        else:
            super().visit_Const(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat(map(str, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.literal({''.join(map(str, group))!r})"


class _Generation(Extension):
    """The tag around what the assistant says, by which transformers finds its tokens: here it only shows its body."""

    tags = {"generation"}  # noqa: RUF012  (the class attribute is Jinja's)

    def parse(self, parser: Parser) -> nodes.Node:
        """A block of its own scope, as in transformers: what is set inside is not seen outside."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_show"), [], [], body).set_lineno(line)

    def _show(self, caller: jinja2.runtime.Macro) -> str:
        return str(caller())


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Code
    concat = staticmethod(concat)
    literal = staticmethod(lru_cache(maxsize=4096)(written))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        self.filters |= {"tojson": _tojson, "join": _join, "replace": _replace, "safe": _safe}
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers defines the filter: not HTML-escaped, and keys in their own order."""
    if isinstance(value, Arguments) and not (ensure_ascii or indent or separators or sort_keys):
        return str(value)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@jinja2.pass_environment
def _join(
    env: jinja2.Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None
) -> str:
    """Jinja's filter, with the origin of every character kept."""
    if attribute is not None:
        value = map(make_attrgetter(env, attribute), value)
    return join(str(d), map(str, value))


def _replace(value: object, old: str, new: str, count: int | None = None) -> str:
    """Jinja's filter, with the origin of every character kept."""
    text = str(value)
    return Traced(text, origin_of(text)).replace(str(old), str(new), -1 if count is None else count)


@jinja2.pass_context  # so that it is not called while the template is compiled, with literals that are not traced yet
def _safe(context: jinja2.runtime.Context, value: object) -> str:
    """Jinja's filter, with the origin of every character kept."""
    text = str(value)
    return Safe(text, origin_of(text))


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)

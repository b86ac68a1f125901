"""Traced text changes nothing of what Jinja computes: every filter, method and operator beside the plain sandbox."""

# ruff: noqa: E501  (the table of expressions)

from __future__ import annotations

import json

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime_svc.tokens.jinja import environment
from runtime_svc.tokens.provenance import SPOKEN, Traced

TEXT = " <a> Ünder\n the 'Bridge', 42 times & once "

PLAIN = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
)
PLAIN.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)

OPERANDS = ["x", "' <lit> é '", "(x ~ 'y')", "('p' + x)", "'a,b,,c'"]
EXPRESSIONS = [
    "@ | " + name
    for name in (
        "trim", "trim(' <')", "upper", "lower", "title", "capitalize", "length", "count", "wordcount", "string",
        "e", "escape", "forceescape", "safe", "striptags", "urlencode", "reverse", "list", "first", "last", "sort",
        "unique | list", "join('-')", "replace('e', 'EE')", "replace('<', '[', 1)", "center(60)", "indent(2)",
        "indent(2, true)", "truncate(9)", "wordwrap(9)", "default('d')", "tojson", "tojson(indent=1)", "int",
        "float", "batch(3) | list", "slice(3) | list", "map('upper') | list", "map('upper') | join", "select | list",
        "reject('in', 'aeiou') | join", "groupby(0) | length", "pprint", "urlize", "filesizeformat",
        "safe + '<'", "safe ~ '<'", "e + '<'", "safe | upper", "safe | replace('e', '<')", "min", "max", "list | sum(start='')",
    )
] + [
    "@." + call
    for call in (
        "strip()", "strip(' <')", "lstrip()", "rstrip()", "split()", "split(' ')", "split(',', 1)", "rsplit(' ', 2)",
        "splitlines()", "partition('<')", "rpartition(' ')", "replace('e', 'x')", "startswith(' ')", "endswith(' ')",
        "find('e')", "rfind('e')", "index('e')", "count('e')", "upper()", "lower()", "title()", "capitalize()",
        "swapcase()", "casefold()", "center(50, '*')", "ljust(50)", "rjust(50)", "zfill(50)", "expandtabs()",
        "isdigit()", "isalpha()", "isspace()", "isupper()", "encode('utf-8')", "join(['a', 'b', x])",
        "removeprefix(' <')", "removesuffix(' ')", "format(1)", "translate({60: '['})", "__class__", "origin is defined and false",
    )
] + [
    "@[0]", "@[-1]", "@[1:4]", "@[::-1]", "@[::2]", "@[99:]", "@[99]", "@['role']", "@ * 2", "2 * @", "@ + 1",
    "@ + @", "@ ~ 1 ~ none", "@ == x", "@ != 'a'", "@ < 'b'", "'e' in @", "@ in [x, 'a']", "@ is string", "@ is mapping",
    "@ is iterable", "@ is sequence", "@ is defined", "@ is escaped", "@ is upper", "@ is eq x", "@ is in 'abc'", "not @", "@ and 1",
    "@ or 1", "'y' if @ else 'n'", "@ % 1", "'%s!' % @", "'%s!' | format(@)", "'a{}b'.format(@)", "'-'.join([@, 'b'])", "[@, 'b'] | join(@)",
    "{'k': @} | tojson", "{@: 1} | tojson", "dict(k=@) | tojson", "{'k': @} | items | list", "[@] | tojson", "@ | tojson | safe",
    "'x'.replace('x', @)", "'x' | replace('x', @)", "@ is sameas x", "range(@ | length) | list | length", "namespace(a=@).a",
]  # fmt: skip


def outcome(env: jinja2.Environment, expression: str, text: str) -> str:
    try:
        return env.from_string("{% set v = " + expression + " %}[{{ v }}]").render(x=text)
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression(expression: str) -> None:
    for operand in OPERANDS:
        written = expression.replace("@", operand)
        expected = outcome(PLAIN, written, TEXT)
        assert "Syntax" not in expected, written
        assert outcome(environment(), written, TEXT) == expected, written
        assert outcome(environment(), written, Traced(TEXT, SPOKEN)) == expected, written


@pytest.mark.parametrize(
    "source",
    [
        "{% macro m(a, b='<') %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(x) }}{{ m(x, b=x) + 'z' }}",
        "{% set s %}<{{ x }}>{% endset %}{{ s | upper }}{{ s + s }}{{ s is string }}",
        "{% set s | upper %}<{{ x }}>{% endset %}{{ s }}",
        "{% filter upper %}a{{ x }}{% endfilter %}",
        "{% macro c() %}({{ caller('q') }}){% endmacro %}{% call(v) c() %}{{ v }}{{ x }}{% endcall %}",
        "{% for c in x[:3] %}{{ loop.index }}{{ c }}{% else %}none{% endfor %}",
        "{% for a in ['b', x] recursive %}{{ a }}{% endfor %}",
        "{% with a = x ~ 'b' %}{{ a }}{% endwith %}",
        "{% set ns = namespace(t='') %}{% for i in range(3) %}{% set ns.t = ns.t ~ i %}{% endfor %}{{ ns.t }}",
        "{% if 'a' 'b' == 'ab' %}{{ 'a' 'b' }}{% endif %}{{ 'é\\n\"\\'' }}{{ \"\\u00e9\" }}",
        "{% raw %}{{ x }}{% endraw %}{# no #}{{- x -}} a",
        "{{ [1, 'a', none, true, 1.5, {'b': 'c'}] }}{{ ('a', 'b') }}{{ none }}{{ undefined }}",
        "{% include 'x' %}",
        "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i == 4 %}{% break %}{% endif %}{{ i }}"
        "{% endfor %}",
    ],
)
def test_a_statement(source: str) -> None:
    def rendered(env: jinja2.Environment, text: str) -> str:
        try:
            return env.from_string(source).render(x=text)
        except Exception as error:
            return type(error).__name__

    expected = rendered(PLAIN, TEXT)
    assert rendered(environment(), TEXT) == expected
    assert rendered(environment(), Traced(TEXT, SPOKEN)) == expected

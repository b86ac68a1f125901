"""`docs/errors.md`, made from the source of every package: `python -m matrices.cli.errors_markdown` prints it.

Read off the syntax, so that what no run ever raised is in it too: calls of `TreniError` and of `invalid_argument`, of
the functions and classes that hand a kind on to them, and their words.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from treni.errors import DEFINITE

PACKAGES = ("treni", "runtime_svc", "controller", "tools_svc", "chaos", "matrices", "deploy")

_HEAD = """# Errors

Every error says what was expected, what was got and what to do, and has a kind, which is a stable name, and a gRPC
status. `python -m matrices.cli.errors_markdown` makes this page from the code, and a test compares the two.
*Certain*: whether the status alone proves that the work did not happen, so that a retry repeats nothing; an error can
say otherwise of itself. On the command line INVALID_ARGUMENT ends with status 2, everything else with 1. What the
checker finds in a history is no error but a finding: [checker.md](checker.md).
"""

_MADE = (
    (
        "a gRPC status in small letters, such as `unavailable`",
        "that status",
        "what is no server of ours said so",
    ),
    ("`http_STATUS`", "by the status", "a model's endpoint answered so (`controller/endpoint`)"),
    ("`sql_unknown_WHAT`", "INVALID_ARGUMENT", "a query names a table or a column that is not there"),
    ("`injected_FAULT`", "the rule's", "the fault of that name struck (`chaos/injector.py`)"),
)
"""Kinds that are made of something else: how they read, with which status, and when."""

HANDED_ON = frozenset(
    {
        "controller/endpoint/failures.py: code.name.lower()",
        "controller/endpoint/failures.py: f'http_{status}'",
        "controller/own_agent/command.py: error.kind",
        "controller/own_agent/wire.py: told.kind",
        "chaos/injector.py: f'injected_{fault.kind.name}'",
        "matrices/running/asking.py: error.kind",
        "matrices/running/preflight.py: error.kind",
        "matrices/running/worker.py: self.error.kind",
        "matrices/topologies/ray_protocol.py: self.kind",
        "tools_svc/facts_sql.py: f\"sql_unknown_{missing['what']}\"",
        "tools_svc/registry.py: error.kind",
        "treni/channels.py: reason.kind",
        "treni/errors.py: code.name.lower()",
        "treni/errors.py: detail.kind",
        "treni/errors.py: reason.kind",
    }
)
"""Where an error of another place is said again, or a kind is made (`_MADE`), so that there is none to name."""

_RAISED_AS = {"Reason": "UNAVAILABLE"}
"""Classes whose values have a kind and no status, and the status with which others raise them."""

_KIND = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+|internal")
_MAKERS = {"TreniError": "", "invalid_argument": "INVALID_ARGUMENT"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Raised:
    """One place that makes an error: its kind and status, what it expected in words, and the file."""

    kind: str
    code: str
    expected: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Maker:
    """What makes an error of a kind that it is given: the kind's place among the arguments (None: by name), the status.

    Only calls in `file` count, where that is not "".
    """

    place: int | None
    code: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class _Module:
    file: str
    tree: ast.Module
    values: Mapping[str, ast.expr]
    """What the names of the module stand for."""


def errors_markdown() -> str:
    """The page, with a row for each kind of error."""
    raised, _ = scanned()
    known = {code.name: definite for code, definite in DEFINITE.items()}
    by_kind: dict[str, list[Raised]] = defaultdict(list)
    for one in raised:
        by_kind[one.kind].append(one)
    lines = [_HEAD, "| kind | status | certain | expected | from |", "| --- | --- | --- | --- | --- |"]
    for kind, places in sorted(by_kind.items()):
        codes = sorted({one.code for one in places})
        certain = {known[code] for code in codes if code in known}
        expected = next((one.expected for one in places if one.expected), "")
        files = sorted({f"`{one.file}`" for one in places})
        said = "yes" if certain == {True} else "no" if certain == {False} else "by the status"
        lines.append(f"| `{kind}` | {', '.join(codes)} | {said} | {_cell(expected)} | {', '.join(files)} |")
    lines += [f"| {kind} | {code} | by the status | | {when} |" for kind, code, when in _MADE]
    return "\n".join(lines) + "\n"


def scanned() -> tuple[tuple[Raised, ...], frozenset[str]]:
    """Every place that makes an error, and those whose kind cannot be read there, each as "FILE: EXPRESSION"."""
    modules = tuple(_modules())
    values = {name: value for module in modules for name, value in module.values.items()}
    makers = {name: [_Maker(place=1 if not code else 0, code=code)] for name, code in _MAKERS.items()}
    for one in modules:
        for name, maker in _makers(one):
            makers.setdefault(name, []).append(maker)
    raised: list[Raised] = []
    unread: set[str] = set()
    for module in modules:
        for call, within in _calls(module.tree, None):
            for maker in makers.get(_name(call.func), ()):
                given = _given(call, maker)
                if given is None or maker.file not in ("", module.file):
                    continue
                kinds = _kinds(given, within, {**values, **module.values})
                if kinds:
                    raised += [
                        Raised(kind=kind, code=_code(call, maker), expected=_words(call), file=module.file)
                        for kind in sorted(kinds)
                    ]
                elif not _is_handed_in(given, within):
                    unread.add(f"{module.file}: {ast.unparse(given)}")
    return tuple(raised), frozenset(unread)


def _modules() -> Iterator[_Module]:
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        for root in spec.submodule_search_locations or ():
            for path in sorted(Path(root).rglob("*.py")):
                if "_pb2" in path.name:
                    continue
                tree = ast.parse(path.read_text(encoding="utf-8"))
                values = {
                    target.id: node.value
                    for node in tree.body
                    if isinstance(node, ast.Assign)
                    for target in node.targets
                    if isinstance(target, ast.Name)
                }
                yield _Module(f"{package}/{path.relative_to(root).as_posix()}", tree, values)


def _makers(module: _Module) -> Iterator[tuple[str, _Maker]]:
    """The functions of a module that hand a parameter `kind` on, and its classes that raise what their `kind` says."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            fields = {
                one.target.id: one.value
                for one in node.body
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
            }
            calls = [call for call, _ in _calls(node, None) if _name(call.func) == "TreniError"]
            raises = any(ast.unparse(argument) == "self.kind" for call in calls for argument in call.args)
            if "kind" in fields and (raises or node.name in _RAISED_AS):
                default = fields.get("code")
                code = _RAISED_AS.get(node.name) or ("" if default is None else _status(default))
                yield node.name, _Maker(place=None, code=code)
        elif isinstance(node, ast.FunctionDef) and node.name not in (*_MAKERS, "__init__"):
            names = [argument.arg for argument in node.args.args]
            every = {*names, *(argument.arg for argument in node.args.kwonlyargs)}
            for call, _ in _calls(node, None):
                if _name(call.func) in _MAKERS and "kind" in every and _has_name(call, "kind"):
                    code = _MAKERS[_name(call.func)] or _status(call.args[0])
                    yield (
                        node.name,
                        _Maker(
                            place=names.index("kind") if "kind" in names else None,
                            code=code,
                            file=module.file if node.name.startswith("_") else "",
                        ),
                    )


def _calls(
    node: ast.AST, within: ast.FunctionDef | ast.AsyncFunctionDef | None
) -> Iterator[tuple[ast.Call, ast.FunctionDef | ast.AsyncFunctionDef | None]]:
    """Every call under the node, with the innermost function that it stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, within
        inner = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else within
        yield from _calls(child, inner)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


def _has_name(call: ast.Call, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in call.args)


def _given(call: ast.Call, maker: _Maker) -> ast.expr | None:
    by_name = next((one.value for one in call.keywords if one.arg == "kind"), None)
    if by_name is not None or maker.place is None:
        return by_name
    return call.args[maker.place] if len(call.args) > maker.place else None


def _kinds(
    given: ast.expr, within: ast.FunctionDef | ast.AsyncFunctionDef | None, values: Mapping[str, ast.expr]
) -> set[str]:
    """The kinds that the expression can stand for: constants in it, or in what its name is given in the function."""
    if isinstance(given, ast.Name):
        if given.id in values and not _is_handed_in(given, within):
            return _constants(values[given.id])
        found: set[str] = set()
        for node in ast.walk(within) if within is not None else ():
            if isinstance(node, ast.Assign | ast.For):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                source = node.value if isinstance(node, ast.Assign) else node.iter
                names = {
                    one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)
                }
                if given.id in names:
                    found |= _constants(source)
                    for one in ast.walk(source):
                        if isinstance(one, ast.Name) and one.id in values:
                            found |= _constants(values[one.id])
        return found
    if isinstance(given, ast.Constant):
        return {str(given.value)}
    return set() if isinstance(given, ast.Attribute | ast.JoinedStr | ast.Call) else _constants(given)


def _constants(expression: ast.expr) -> set[str]:
    return {
        node.value
        for node in ast.walk(expression)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _KIND.fullmatch(node.value)
    }


def _is_handed_in(given: ast.expr, within: ast.FunctionDef | ast.AsyncFunctionDef | None) -> bool:
    """Whether it is a parameter of the function, or a field of the object, that others give a kind."""
    if ast.unparse(given) == "self.kind" and within is not None and within.name != "error":
        return True
    if within is None or not isinstance(given, ast.Name):
        return False
    arguments = [*within.args.args, *within.args.kwonlyargs]
    return given.id in {one.arg for one in arguments}


def _code(call: ast.Call, maker: _Maker) -> str:
    by_name = next((one.value for one in call.keywords if one.arg == "code"), None)
    if by_name is not None:
        return _status(by_name)
    return maker.code or (_status(call.args[0]) if call.args else "")


def _status(expression: ast.expr) -> str:
    """The name of the status, "by the cause" where it is worked out."""
    text = ast.unparse(expression)
    return text.removeprefix("Code.") if re.fullmatch(r"Code\.[A-Z_]+", text) else "by the cause"


def _words(call: ast.Call) -> str:
    """What the call expects, as far as it stands there; dots for what is put in."""
    given = next((one.value for one in call.keywords if one.arg == "expected"), None)
    if isinstance(given, ast.Constant):
        return str(given.value)
    if isinstance(given, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in given.values)
    return ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    click.echo(errors_markdown(), nl=False)

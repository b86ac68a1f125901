"""Finds docstrings that can't be understood away from their identifier: `python -m tests.lint.docstrings`.

A docstring of a public module, class, function, method or attribute is a whole clause: it begins with a noun, a verb or
a word such as "Whether", has more than two words, ends with a full stop, and says more than the name it stands under.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIN_WORDS = 3

_LEANING = """
it its it's this these that those they them he she we you also same like likewise ditto see as if when while because
since of for from by in on at with onto over under until unless then here and or but not so to yes
"""
OPENERS = frozenset(_LEANING.split())
"""Words with which a clause begins that leans on something outside of it: the identifier, or the sentence before."""

ALLOWED = ("of each ", "for each ", "in place of ")
"""Beginnings that are whole for all that."""

_FILLING = """
a an the of for to is are be in on at by and or its it this that with as from into one all every each what which how
whose
"""
FILLERS = frozenset(_FILLING.split())
"""Words that add nothing to those of a name."""

_WORD = re.compile(r"[A-Za-z][\w'-]*|\d+")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One docstring that is no whole clause: where it stands, under which name, its first line, and what it lacks."""

    path: Path
    line: int
    name: str
    said: str
    lacks: str

    def __str__(self) -> str:
        """The fault in one line, as compilers write theirs."""
        return f"{self.path}:{self.line}: {self.name}: {self.lacks}: {self.said[:90]!r}"


def lacking(name: str, text: str) -> str:
    """What the docstring of `name` lacks to be a whole clause, "" for nothing."""
    first = text.strip().split("\n\n", 1)[0].replace("\n", " ").strip()
    words = _WORD.findall(re.split(r"[.:;](?:\s|$)", first, maxsplit=1)[0])
    if not first.endswith((".", ":", "?", '."', ".)")):
        return "a full stop"
    # What begins with code, a file's name or a quotation begins as that is spelt.
    if first[:1].islower() and not re.match(r"[a-z_]+[._/(\d]", first):
        return "a capital at its beginning"
    if len(_WORD.findall(first)) < MIN_WORDS:
        return "a whole clause: it has too few words"
    if words and words[0].lower() in OPENERS and not first.lower().startswith(ALLOWED):
        return "a subject or a verb at its beginning"
    if not _content(_WORD.findall(first)) - _content(_PARTS.findall(name)):
        return "anything that the name does not say"
    return ""


def _content(words: list[str]) -> set[str]:
    return {_stem(word.lower()) for word in words if word.lower() not in FILLERS}


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e")


def faults(path: Path) -> Iterator[Fault]:
    """Every public docstring of the file that is no whole clause."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, name, text in _documented(tree, path.stem if path.stem != "__init__" else path.parent.name):
        if lacks := lacking(name.rpartition(".")[2], text):
            yield Fault(path=path, line=line, name=name, said=text.strip().split("\n")[0], lacks=lacks)


def _documented(tree: ast.Module, module: str) -> Iterator[tuple[int, str, str]]:
    """Line, dotted name and text of each public docstring."""
    if text := ast.get_docstring(tree):
        yield 1, module, text
    yield from _within(tree, "")


def _within(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[int, str, str]]:
    for index, child in enumerate(node.body):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if child.name.startswith("_"):
                continue
            if text := ast.get_docstring(child):
                yield child.body[0].lineno, prefix + child.name, text
            if isinstance(child, ast.ClassDef):
                yield from _within(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.Assign | ast.AnnAssign) and index + 1 < len(node.body):
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            text = _text_of(node.body[index + 1])
            if isinstance(target, ast.Name) and not target.id.startswith("_") and text is not None:
                yield node.body[index + 1].lineno, prefix + target.id, text


def _text_of(statement: ast.stmt) -> str | None:
    """The text that a statement consists of; None for any other statement."""
    constant = statement.value if isinstance(statement, ast.Expr) else None
    value = constant.value if isinstance(constant, ast.Constant) else None
    return value if isinstance(value, str) else None


def sources() -> list[Path]:
    """The project's Python files that git knows, generated ones and tests aside."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], capture_output=True, text=True, check=True
    )
    paths = [Path(line) for line in listed.stdout.splitlines()]
    return [path for path in paths if path.exists() and path.parts[0] != "tests" and "_pb2" not in path.name]


def main() -> int:
    """Exit status 1 where a docstring is no whole clause, each of which is printed."""
    found = [fault for path in sources() for fault in faults(path)]
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

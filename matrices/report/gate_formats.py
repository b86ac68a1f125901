"""What a gate said, for programs that read it: JSON, JUnit's XML, and the annotations of GitHub's workflows."""

from __future__ import annotations

import dataclasses
import math
import xml.etree.ElementTree as ElementTree
from typing import Any

from matrices.report.gate import Check, Gated, GateVerdict

_LEVELS = {
    GateVerdict.PASS: "notice",
    GateVerdict.INCONCLUSIVE: "warning",
    GateVerdict.REGRESSION: "error",
}
_FAILED = {GateVerdict.REGRESSION: "failure", GateVerdict.INCONCLUSIVE: "error"}
"""How JUnit names a test that found something, and one that could not tell."""

_NO_XML = {code: None for code in range(32) if code not in (9, 10, 13)} | {0xFFFE: None, 0xFFFF: None}


def name_of(check: Check) -> str:
    """The check's name, such as "p03 errors external"."""
    return " ".join(filter(None, (check.cell, check.what, check.arm)))


def as_json(gated: Gated) -> dict[str, Any]:
    """The gate's outcome as JSON data; null where a number is not known or not bounded."""
    return {
        "verdict": str(gated.verdict),
        "status": int(gated.status),
        "checks": [_plain(check) for check in gated.checks],
        "notes": list(gated.notes),
        "findings": list(gated.findings),
    }


def _plain(check: Check) -> dict[str, Any]:
    plain = dataclasses.asdict(check)
    return {
        key: None
        if isinstance(value, float) and not math.isfinite(value)
        else str(value)
        if key == "verdict"
        else value
        for key, value in plain.items()
    }


def as_junit(gated: Gated) -> bytes:
    """The gate's outcome as a JUnit file: a regression is a failure, what cannot be told an error, a finding one too.

    No clock is in it, so that the same campaigns give the same bytes.
    """
    found = [("failure" if gated.findings else "", "findings", "\n".join(gated.findings))]
    cases = [
        (_FAILED.get(check.verdict, ""), name_of(check), check.why, f"treni-route.gate.{check.cell}")
        for check in gated.checks
    ]
    cases += [(kind, name, text, "treni-route.gate") for kind, name, text in found]
    kinds = [kind for kind, *_ in cases]
    counts = {
        "tests": str(len(cases)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
    }
    root = ElementTree.Element("testsuites", {"name": "treni-route gate", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "treni-route gate", **counts, "skipped": "0"})
    for kind, name, text, classname in cases:
        case = ElementTree.SubElement(suite, "testcase", {"classname": _xml(classname), "name": _xml(name)})
        if kind:
            said = text.split("\n", 1)[0]
            ElementTree.SubElement(case, kind, {"type": kind, "message": _xml(said)}).text = _xml(text)
        elif text:
            ElementTree.SubElement(case, "system-out").text = _xml(text)
    if gated.notes:
        ElementTree.SubElement(suite, "system-out").text = _xml("\n".join(gated.notes))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def as_github(gated: Gated) -> str:
    """The gate's outcome as workflow commands, a line each, which GitHub shows as annotations."""
    lines = [
        _annotation(_LEVELS[check.verdict], f"{name_of(check)}: {check.verdict}", check.why)
        for check in gated.checks
    ]
    lines += [_annotation("error", "the checker found something", one) for one in gated.findings]
    lines += [_annotation("notice", "treni-route gate", one) for one in gated.notes]
    return "".join(f"{line}\n" for line in lines)


def _annotation(level: str, title: str, message: str) -> str:
    escaped = _data(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={escaped}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _xml(text: str) -> str:
    """The text without what XML has no way to write: control characters and halves of surrogate pairs."""
    return text.translate(_NO_XML).encode("utf-8", "replace").decode()

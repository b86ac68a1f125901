"""Tools that exist in one dialogue only: random names, descriptions and parameters, so that the schema must be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime_svc.training.dialogue import Step, tool
from runtime_svc.training.phrasing import capitalised, frame, phrasings
from runtime_svc.training.real_tools import EMPTY, Single
from runtime_svc.training.vocabulary import Draw

_BOOLEAN = (
    ("{p} on", True), ("{p} off", False), ("{p} yes", True), ("{p} no", False), ("{p} true", True),
    ("{p} false", False), ("with {p}", True), ("without {p}", False),
)  # fmt: skip
_MENTIONS = (
    "{p} {v}", "{p} {v}", "{p} {v}", "the {p} {v}", "{p} = {v}", "{p}: {v}", "{v} as the {p}", "{v} as {p}",
    "the {p} set to {v}", "a {p} of {v}", "{p} being {v}", "{v} for the {p}", "{p} at {v}", "the {p} equal to {v}",
    "{p} set to {v}", "the {p} of {v}", "a {p} equal to {v}", "{v} for its {p}", "its {p} {v}", "its {p} at {v}",
)  # fmt: skip
_MENTIONS_HELD = ("{p} equal to {v}", "{v} for {p}", "the {p} at {v}")
_DESCRIBED = (
    "{p}",
    "the {p}",
    "the {p}",
    "{p} to use",
    "the {p} of the {noun}",
    "what {p} it has",
    "its {p}",
)
_ACTION_NAMES = ("{verb}_{noun}", "{verb}_{noun}", "{verb}_{noun}", "{noun}_{verb}", "{verb}-{noun}", "{verb}{Noun}",
                 "{verb}_the_{noun}")  # fmt: skip
_ACTION_TEXTS = ("{Verb} a {noun}.", "{Verb} the {noun}.", "Use it to {verb} a {noun}.", "Can {verb} the {noun}.",
                 "Lets you {verb} a {noun}.", "{Verb} one {noun} for the user.", "To {verb} a {noun}.",
                 "{Noun} tool: {verb} it.")  # fmt: skip
_LOOKUP_NAMES = ("{noun}_{key}", "get_{key}", "get_{noun}_{key}", "{key}_of_{noun}", "find_{key}", "{noun}-{key}",
                 "lookup_{noun}", "{noun}{Key}", "{key}_lookup", "read_{noun}_{key}")  # fmt: skip
_LOOKUP_TEXTS = ("Gives the {key} of a {noun}.", "Finds the {key} of a {noun}.", "Returns the {key} of the {noun}.",
                 "Looks up the {key} of one {noun}.", "The {key} of a {noun}.", "Tells the {key} of any {noun}.",
                 "Reads the {key} of a {noun}.")  # fmt: skip

_ACT = phrasings("random/action", """
{verb} the {noun} with {details}
{verb} a {noun} with {details}
~ {verb} the {noun} and use {details}
use {details} to {verb} the {noun}
take {details} to {verb} [a|the] {noun}
{verb} a {noun}, {details}
{verb} [the|my] {noun}: {details}
~ with {details}, {verb} a {noun}
{verb} one {noun} using {details}
using {details}, {verb} the {noun}
{verb} [the|this|that] {noun} using {details}
{verb} a {noun}: {details}
~ use {details} and {verb} the {noun}
with {details}, {verb} [the|this] {noun}
{verb} my {noun} with {details}
take {details} and then {verb} the {noun}
{verb} a new {noun} with {details}
~ {verb} that {noun} with {details}
use {details} and then {verb} the {noun}
I have a {noun} to {verb}: {details}
{verb} [the|my] {noun}, {details}
{verb} a {noun}, use {details}
~ use {details} to {verb} a {noun}
{verb} one {noun} and take {details}
""")  # fmt: skip
_ACT_BARE = phrasings("random/action-bare", """
{verb} the {noun}
{verb} a {noun}
~ {verb} one {noun}
{verb} my {noun}
{verb} this {noun}
{verb} that {noun}
{verb} one {noun} for me
~ {verb} a new {noun}
{verb} the new {noun}
{verb} a new {noun} for me
""")  # fmt: skip
_LOOK = phrasings("random/lookup", """
what is the {key} of the {noun} {name}?
tell me the {key} of the {noun} {name}
~ give me the {key} of the {noun} {name}
[find|get|check|read|show me|fetch] the {key} of the {noun} {name}
which {key} does the {noun} {name} have?
look up the {key} of the {noun} {name}
what {key} does {noun} {name} have?
~ what {key} does the {noun} {name} have?
[get|fetch|read|give me] the {key} for the {noun} {name}
what is the {key} for the {noun} {name}?
find out the {key} of the {noun} {name}
find out which {key} the {noun} {name} has
~ tell me what {key} the {noun} {name} has
look up which {key} the {noun} {name} has
[show me|read|tell me] the {key} of {noun} {name}
what is the {key} of {noun} {name}?
fetch the {key} of {noun} {name}
~ tell me which {key} the {noun} {name} has
what is the {key} that the {noun} {name} has?
for the {noun} {name}, what is the {key}?
for the {noun} {name}, [find|get|look up] the {key}
""")  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One parameter of a random tool: `words` is what a user calls it, `name` what the schema does."""

    name: str
    words: str
    schema: dict[str, Any]
    required: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomTool:
    """A made-up tool. An action has a verb; a lookup has the key that it returns and one parameter."""

    spec: dict[str, Any]
    noun: str
    verb: str
    key: str
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        """The name that a call has to spell."""
        name: str = self.spec["function"]["name"]
        return name


def identifier(draw: Draw, words: str) -> str:
    """A parameter or field name for some words: mostly with underscores."""
    if draw.chance(0.1):
        head, *tail = words.split(" ")
        return head + "".join(capitalised(word) for word in tail)
    return words.replace(" ", "_")


def _opaque(draw: Draw) -> str:
    makes: tuple[Callable[[], str], ...] = (
        lambda: f"{draw.pick('abcpqxyz')}{draw.below(1, 9)}",
        lambda: f"arg{draw.below(1, 9)}",
    )
    return draw.pick(makes)()


def parameter(draw: Draw, words: str, noun: str, kind: str | None = None) -> Parameter:
    """A parameter that users call `words`, of a type that is drawn unless `kind` is given."""
    kind = kind or draw.pick(
        ("string", "string", "string", "integer", "integer", "number", "boolean", "enum")
    )
    opaque = draw.chance(0.08)
    schema: dict[str, Any] = {"type": "string" if kind == "enum" else kind}
    if kind == "enum":
        schema["enum"] = draw.words(draw.below(2, 4))
    if opaque or draw.chance(0.7):
        schema["description"] = draw.pick(_DESCRIBED).format(p=words, noun=noun)
    return Parameter(name=_opaque(draw) if opaque else identifier(draw, words), words=words, schema=schema)


def value_of(draw: Draw, schema: dict[str, Any]) -> Any:
    """A value for a parameter (booleans are drawn with their mention)."""
    if "enum" in schema:
        return draw.pick(schema["enum"])
    if schema["type"] == "integer":
        return -draw.integer(1, 999) if draw.chance(0.05) else draw.integer(0, 99999)
    if schema["type"] == "number":
        return float(draw.decimal()) if draw.chance(0.7) else draw.integer(0, 9999)
    return text_value(draw)


def text_value(draw: Draw) -> str:
    """A string: a word, a name, two of them, a code, a time or a date."""
    return draw.pick((draw.word, draw.name, draw.name, lambda: " ".join(draw.words(2)), draw.code, draw.clock,
                      lambda: " ".join(draw.names(2)), draw.date))()  # fmt: skip


def mention(draw: Draw, parameter: Parameter) -> tuple[str, Any]:
    """How a user gives the parameter, and the value that the call must have."""
    if parameter.schema["type"] == "boolean":
        pattern, value = draw.pick(_BOOLEAN)
        return pattern.format(p=parameter.words), value
    value = value_of(draw, parameter.schema)
    text = f'"{value}"' if isinstance(value, str) and draw.chance(0.15) else value
    held = draw.part.phrasings and draw.chance(0.5)
    return draw.pick(_MENTIONS_HELD if held else _MENTIONS).format(p=parameter.words, v=text), value


def details(draw: Draw, mentions: list[str]) -> str:
    """Several mentions in one phrase."""
    if len(mentions) == 1:
        return mentions[0]
    if draw.chance(0.3):
        return ", ".join(mentions)
    return ", ".join(mentions[:-1]) + draw.pick((" and ", ", and ", " and ")) + mentions[-1]


def _spec(draw: Draw, name: str, description: str, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    if draw.chance(0.05):
        name = draw.tool_noun() if draw.chance(0.6) else f"tool_{draw.below(1, 99)}"
    properties = {p.name: p.schema for p in parameters}
    return tool(name, description, properties, [p.name for p in parameters if p.required])


def distinct_words(draw: Draw, count: int) -> list[str]:
    """`count` names for fields, no two alike."""
    chosen: list[str] = []
    while len(chosen) < count:
        words = draw.field_word()
        if all(set(words.split()).isdisjoint(other.split()) for other in chosen):
            chosen.append(words)
    return chosen


def _names(parameters: list[Parameter]) -> bool:
    return len({p.name for p in parameters}) == len(parameters)


def action(
    draw: Draw, verb: str | None = None, noun: str | None = None, *, takes: str | None = None
) -> RandomTool:
    """A tool that does something; with `takes`, it has a string or integer parameter of those words."""
    verb, noun = verb or draw.tool_verb(), noun or draw.tool_noun()
    while True:
        words = distinct_words(draw, draw.pick((1, 1, 2, 2, 2, 3, 3)))
        if takes is not None:
            words[draw.below(0, len(words) - 1)] = takes
            if len(set(" ".join(words).split())) != len(" ".join(words).split()):
                continue
        parameters = [parameter(draw, w, noun, "string" if w == takes else None) for w in words]
        if _names(parameters):
            break
    if len(parameters) > 1 and parameters[-1].words != takes and draw.chance(0.25):
        last = parameters[-1]
        parameters[-1] = Parameter(name=last.name, words=last.words, schema=last.schema, required=False)
    fields = {"verb": verb, "noun": noun, "Noun": capitalised(noun), "Verb": capitalised(verb)}
    name, text = draw.pick(_ACTION_NAMES).format(**fields), draw.pick(_ACTION_TEXTS).format(**fields)
    spec = _spec(draw, name, text, tuple(parameters))
    return RandomTool(spec=spec, noun=noun, verb=verb, key="", parameters=tuple(parameters))


def lookup(draw: Draw, noun: str | None = None, key: str | None = None) -> RandomTool:
    """A tool that returns the `key` of one named `noun`."""
    noun, key = noun or draw.tool_noun(), key or draw.field_word()
    short = key.replace(" ", "_")
    fields = {"noun": noun, "key": short, "Key": capitalised(short)}
    name = draw.pick(_LOOKUP_NAMES).format(**fields)
    text = draw.pick(_LOOKUP_TEXTS).format(noun=noun, key=key)
    label = draw.pick((noun, "name", noun, "which", f"{noun}_name", "id", "item"))
    schema: dict[str, Any] = {"type": "string"}
    if draw.chance(0.7):
        schema["description"] = draw.pick(
            (f"the {noun}", f"name of the {noun}", f"which {noun}", f"{noun} name")
        )
    taken = (Parameter(name=label, words=noun, schema=schema),)
    return RandomTool(spec=_spec(draw, name, text, taken), noun=noun, verb="", key=key, parameters=taken)


def random_tool(draw: Draw) -> RandomTool:
    """An action or a lookup."""
    return action(draw) if draw.chance(0.6) else lookup(draw)


def near(draw: Draw, other: RandomTool) -> RandomTool:
    """A distractor that shares a word with `other`."""
    if other.verb:
        if draw.chance(0.5):
            return action(draw, verb=other.verb)
        return action(draw, noun=other.noun) if draw.chance(0.7) else lookup(draw, noun=other.noun)
    return lookup(draw, noun=other.noun) if draw.chance(0.5) else lookup(draw, key=other.key)


def reported(result: dict[str, Any]) -> str:
    """The final answer for a random tool's result: every field with its value."""
    parts = [f"the {key.replace('_', ' ')} is {value}" for key, value in result.items()]
    return capitalised(" and ".join(parts)) + "."


def result_value(draw: Draw) -> Any:
    """A value for a field of a result."""
    return draw.pick((lambda: draw.integer(0, 99999), lambda: text_value(draw), draw.name, draw.code))()


def result_of(draw: Draw, used: RandomTool) -> dict[str, Any]:
    """What a random tool answers: its key, or one or two fields."""
    if used.key:
        return {used.key.replace(" ", "_"): result_value(draw)}
    words = distinct_words(draw, draw.pick((1, 1, 2)))
    return {w.replace(" ", "_"): result_value(draw) for w in words}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a user asks of one random tool: the clause and the arguments that it means."""

    clause: str
    arguments: dict[str, Any]


def request(draw: Draw, used: RandomTool) -> Request:
    """A clause that asks for one call of `used`; optional parameters are left out half of the time."""
    if used.key:
        others: tuple[Callable[[], str], ...] = (draw.code, draw.word, lambda: " ".join(draw.names(2)))
        name = draw.name() if draw.chance(0.6) else draw.pick(others)()
        clause = _LOOK.clause(draw, key=used.key, noun=used.noun, name=name)
        return Request(clause=clause, arguments={used.parameters[0].name: name})
    given = [p for p in used.parameters if p.required or draw.chance(0.5)]
    if not given:
        return Request(clause=_ACT_BARE.clause(draw, verb=used.verb, noun=used.noun), arguments={})
    mentions, arguments = [], {}
    for one in given:
        text, value = mention(draw, one)
        mentions.append(text)
        arguments[one.name] = value
    draw.rng.shuffle(mentions)
    clause = _ACT.clause(draw, verb=used.verb, noun=used.noun, details=details(draw, mentions))
    return Request(clause=clause, arguments=arguments)


def single(draw: Draw, used: RandomTool) -> Single:
    """One call of `used`, which may find nothing."""
    asked = request(draw, used)
    if draw.chance(0.05):
        result: dict[str, Any] = draw.pick(({}, {"results": []}, {"items": []}))
        answer = EMPTY
    else:
        result = result_of(draw, used)
        answer = reported(result)
    step = Step(name=used.name, arguments=asked.arguments, result=result)
    return frame(draw, asked.clause), (step,), answer

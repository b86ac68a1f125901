"""Arguments as the model wrote them, to arguments a tool can trust: decoded, bounded, checked by the schema."""

from __future__ import annotations

import functools
import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

from tools_svc.suggest import clip, did_you_mean
from treni.errors import TreniError, invalid_argument
from treni.v1.common_pb2 import ToolSpec

if TYPE_CHECKING:
    import jsonschema

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8


class ArgumentsCheck:
    """Decodes and validates the arguments of one tool. Thread-safe."""

    def __init__(self, spec: ToolSpec) -> None:
        schema = json.loads(spec.parameters_json)
        strict = _strict()
        strict.check_schema(schema)
        self._tool = spec.name
        self._names = tuple(schema["properties"])
        self._required = tuple(schema["required"])
        self._validator = strict({**schema, "additionalProperties": False})

    def __call__(self, arguments_json: str) -> dict[str, Any]:
        """The arguments. Raises INVALID_ARGUMENT that says which argument is wrong and why."""
        arguments = decode(arguments_json)
        errors = sorted(
            self._validator.iter_errors(arguments),
            key=lambda error: ([str(part) for part in error.absolute_path], str(error.validator)),
        )
        if errors:
            raise self._refusal(errors[0], arguments)
        return arguments

    def _refusal(self, error: jsonschema.ValidationError, arguments: dict[str, Any]) -> TreniError:
        argument = ".".join(str(part) for part in error.absolute_path)  # "" at the top
        todo = f'correct "{argument}" and call {self._tool} again'
        if error.validator == "additionalProperties" and argument == "":
            unknown = next(name for name in arguments if name not in self._names)
            expected = f"only the arguments {', '.join(self._names)}"
            got = f'"{clip(unknown)}"'
            todo = did_you_mean(unknown, self._names)
        elif error.validator == "required" and argument == "":
            missing = next(name for name in self._required if name not in arguments)
            expected = f'the argument "{missing}"'
            got = "none of that name"
            todo = f'add "{missing}" and call {self._tool} again'
        else:
            expected = f'"{argument}" with {error.validator} {clip(str(error.validator_value))}'
            got = clip(json.dumps(error.instance, ensure_ascii=False))
        return invalid_argument("arguments_invalid", expected=expected, got=got, todo=todo)


@functools.cache
def _strict() -> type[jsonschema.protocols.Validator]:
    """The validator of JSON Schema to which 1.0 is no integer, so that a tool that asked for an integer gets an int."""
    # Not for the controller and a runtime, which know tools by their specs alone: it takes an eighth of their start.
    import jsonschema
    from jsonschema import validators

    integer = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict: type[jsonschema.protocols.Validator] = validators.extend(  # type: ignore[no-untyped-call]
        jsonschema.Draft202012Validator, type_checker=integer
    )
    return strict


def decode(arguments_json: str) -> dict[str, Any]:
    """The JSON object in the text, at most `MAX_BYTES` long and `MAX_DEPTH` deep.

    Raises INVALID_ARGUMENT for anything else: no object, a name given twice, NaN or an infinity (also as a number
    too large for a double), half a surrogate pair.
    """
    size = len(arguments_json.encode("utf-8"))
    if size > MAX_BYTES:
        raise invalid_argument(
            "arguments_too_large",
            expected=f"at most {MAX_BYTES} bytes of arguments",
            got=f"{size} bytes",
            todo="send less",
        )
    try:
        value = json.loads(arguments_json, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise invalid_argument(
            "arguments_not_json",
            expected="a JSON object",
            got=f"{clip(arguments_json)!r} ({clip(str(error))})",
            todo="write the arguments as one JSON object",
        ) from error
    if not isinstance(value, dict):
        raise invalid_argument(
            "arguments_not_object",
            expected="a JSON object",
            got=clip(json.dumps(value)),
            todo="write the arguments as one JSON object",
        )
    _check_values(value)
    return value


def _check_values(root: dict[str, Any]) -> None:
    pending: list[tuple[Any, int]] = [(root, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                raise _too_deep()
            children = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            pending.extend((child, depth + 1) for child in children)
        elif isinstance(value, float) and not math.isfinite(value):
            raise _bad_value("finite numbers", str(value))
        elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise _bad_value("Unicode text", ascii(value))


def _bad_value(expected: str, got: str) -> TreniError:
    return invalid_argument("arguments_invalid", expected=expected, got=clip(got))


def _too_deep() -> TreniError:
    return invalid_argument(
        "arguments_too_deep",
        expected=f"at most {MAX_DEPTH} levels of objects and lists",
        got="more",
        todo="send flatter arguments",
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f'"{clip(ascii(name))}" is given twice')
        result[name] = value
    return result

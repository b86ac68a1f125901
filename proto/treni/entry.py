"""The edge of every program: commands whose every end is a result or a named error, with an exit status of its own.

A command made by `command` or `group` takes `-h` and the options of the log, prints data on stdout and the rest on
stderr, and never ends in a traceback.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, NoReturn, TextIO, cast

import click

from treni import logs
from treni.errors import Code, TreniError, invalid_argument
from treni.storage import storage_error

_log = logging.getLogger(__name__)

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


class Exit(IntEnum):
    """What a program ends with when it has no result; a command may have statuses of its own beside these."""

    ERROR = 1
    USAGE = 2
    INTERRUPTED = 130
    PIPE_CLOSED = 141


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Looks for no garbage among what is imported meanwhile, also later: the search takes a seventh of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


class _Edge(click.Command):
    """A click command that guards itself when it is the one that the program runs."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        context = {
            "help_option_names": ["-h", "--help"],
            "max_content_width": 120,
            **(settings.pop("context_settings", None) or {}),
        }
        super().__init__(name, context_settings=context, **settings)
        if context["help_option_names"]:  # a command without help hands everything on
            self.params += _log_options()

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> NoReturn:
        """Runs the command to the program's end."""
        with guarded():
            given = list(sys.argv[1:] if args is None else args)
            logs.set_up(
                level=_known(logs.LEVEL_VARIABLE, logs.LEVELS, "info"),
                form=_known(logs.FORMAT_VARIABLE, logs.FORMATS, "text"),
            )
            for argument in given:
                _refuse_bytes(argument)
            options["standalone_mode"] = False
            status = super().main(given, *rest, **options)
            sys.exit(status if isinstance(status, int) else 0)


class Command(_Edge):
    """A command of a program."""


class Group(_Edge, click.Group):
    """A command with commands of its own, which are made the same way.

    `lazy` names further ones as "module:attribute", each imported when it is asked for: none waits for what another
    needs.
    """

    command_class = Command
    group_class = type

    def __init__(self, name: str | None, *, lazy: Mapping[str, str] | None = None, **settings: Any) -> None:
        super().__init__(name, **settings)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order of the alphabet."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None where there is none."""
        place = self._lazy.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        with uncollected():
            found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found


class WholeRange(click.IntRange):
    """A whole number within bounds, in the digits 0 to 9: Python would take those of every script."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; fails for what is none."""
        if isinstance(value, str) and _WHOLE.fullmatch(value) is None:
            self.fail(f"{value[:40]!r} is no whole number.", param, ctx)
        return int(super().convert(value, param, ctx))


class FiniteRange(click.FloatRange):
    """A number within bounds: NaN and infinities, which pass every comparison or lie at its end, are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; fails for what is none."""
        if isinstance(value, str) and not value.isascii():
            self.fail(f"{value[:40]!r} is no number.", param, ctx)
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number


def command(name: str | None = None, **options: Any) -> Callable[[Callable[..., Any]], Command]:
    """A decorator that makes a command of a function, as `click.command` does."""
    return click.command(name, cls=Command, **options)


def group(name: str | None = None, **options: Any) -> Callable[[Callable[..., Any]], Group]:
    """A decorator that makes a group of a function, as `click.group` does."""
    return click.group(name, cls=Group, **options)


def _log_options() -> list[click.Parameter]:
    def set_up(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None and not context.resilient_parsing:
            variable = logs.LEVEL_VARIABLE if parameter.name == "log_level" else logs.FORMAT_VARIABLE
            os.environ[variable] = value
            logs.set_up(level=os.environ[logs.LEVEL_VARIABLE], form=os.environ[logs.FORMAT_VARIABLE])

    return [
        click.Option(
            ["--log-level"],
            type=click.Choice(logs.LEVELS),
            expose_value=False,
            is_eager=True,
            callback=set_up,
            help=f"How much is logged on stderr; else ${logs.LEVEL_VARIABLE}, else info.",
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(logs.FORMATS),
            expose_value=False,
            is_eager=True,
            callback=set_up,
            help=f"Lines of key=value, or of JSON; else ${logs.FORMAT_VARIABLE}, else text.",
        ),
    ]


def _known(variable: str, allowed: Sequence[str], default: str) -> str:
    value = os.environ.get(variable) or default
    if value not in allowed:
        raise invalid_argument(
            "environment_invalid",
            expected=f"{variable} to be one of {', '.join(allowed)}",
            got=repr(value),
            todo="correct the variable, or unset it",
        )
    return value


def _refuse_bytes(argument: str) -> None:
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:
        raise invalid_argument(
            "argument_not_utf8",
            expected="arguments in UTF-8",
            got=repr(os.fsencode(argument)),
            todo="rename the file, or reach it by a link with such a name",
        ) from None


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Ends the program by the status that its end has, whatever is raised in the block; one line on stderr says why."""
    with contextlib.ExitStack() as stack:
        try:
            _open_streams(stack)
            yield
            sys.stdout.flush()
        except SystemExit:
            # A result that was lost has the last word on how a command ends that ended itself.
            try:
                sys.stdout.flush()
            except (TreniError, _ReaderGone) as lost:
                sys.exit(_end(lost))
            raise
        except BaseException as error:
            sys.exit(_end(error))


def _end(error: BaseException) -> int:
    """Says what went wrong and how the program ends."""
    error = cause(error)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.ClickException):
        if os.environ.get(logs.FORMAT_VARIABLE) == "json":
            _log.error("the command is used wrongly", extra={"got": error.format_message()})
        else:
            error.show()
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        note("interrupted")
        return Exit.INTERRUPTED
    if isinstance(error, _ReaderGone):
        return Exit.PIPE_CLOSED
    told = _told(error)
    _tell(told)
    return Exit.USAGE if told.code is Code.INVALID_ARGUMENT else Exit.ERROR


def note(message: str) -> None:
    """Says something beside the data: a line on stderr, in the form of the log where that is JSON."""
    if os.environ.get(logs.FORMAT_VARIABLE) == "json":
        _log.info(message)
    else:
        click.echo(message, err=True)


def cause(error: BaseException) -> BaseException:
    """The error itself; of what failed together, what says most: a named error, else the first."""
    leaves = list(_leaves(error))
    for kind in (TreniError, OSError, BaseException):
        for error in leaves:
            if isinstance(error, kind):
                return error
    raise AssertionError("a group has a leaf")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _told(error: BaseException) -> TreniError:
    """The error in the form "expected, got, what to do"."""
    if isinstance(error, TreniError):
        return error
    if isinstance(error, OSError):
        _log.debug("the system refused", exc_info=error)
        return storage_error(error, expected="the system to do what the command needs")
    if isinstance(error, MemoryError):
        return TreniError(
            Code.RESOURCE_EXHAUSTED,
            "memory_exhausted",
            expected="memory enough for what was asked for",
            got="none left",
            todo="ask for less, or give the process more",
        )
    _log.debug("a bug", exc_info=error)
    return TreniError(
        Code.INTERNAL,
        "internal_error",
        expected="a result or a named error",
        got=f"{type(error).__name__}: {error} ({_place(error)})",
        todo="this is a bug of treni-route, or of the package that this module is of: report it with what "
        "--log-level debug prints",
    )


def _place(error: BaseException) -> str:
    """The module and the line that raised it."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return "nowhere" if at is None else f"{at.tb_frame.f_globals.get('__name__')}, line {at.tb_lineno}"


def _tell(error: TreniError) -> None:
    if os.environ.get(logs.FORMAT_VARIABLE) == "json":
        fields = {"kind": error.kind, "expected": error.expected, "got": error.got, "todo": error.todo}
        _log.error("the command failed", extra=fields)
    else:
        click.echo(f"treni-route: {' '.join(str(error).split(chr(10)))}", err=True)


def _open_streams(stack: contextlib.ExitStack) -> None:
    """Makes stdout and stderr fit to be written to, and refuses a closed stdout before there are data for it."""
    for descriptor in (0, 1, 2):
        # A file of ours must not get the number of a stream that the shell closed: others write there.
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            cast(Any, stream).reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for name, wrap in (("stderr", _Forgiving), ("stdout", _Result)):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, wrap):
            stack.callback(setattr, sys, name, stream)
            setattr(sys, name, wrap(stream))
    if sys.stdout is None:
        sys.stdout = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        raise invalid_argument(
            "stdout_closed",
            expected="a standard output for the result",
            got="a closed one",
            todo="send it to a file, or to /dev/null",
        )


class _ReaderGone(Exception):
    """Nobody reads stdout any more."""


class _Result:
    """Stdout, whose refusals are the program's own errors and no other file's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """How much of the text was taken: all. Raises `_ReaderGone`, and as `storage_error` does."""
        # Click tries whether a stream takes bytes or text, with nothing of either, and hears no other refusal.
        if not isinstance(text, str):
            raise TypeError("text is written here")
        if not text:
            return 0
        with self._refusing():
            return self._stream.write(text)

    def flush(self) -> None:
        """Writes what is held. Raises as `write` does."""
        with self._refusing():
            self._stream.flush()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._silence()
            if isinstance(error, BrokenPipeError):
                raise _ReaderGone from None
            raise storage_error(error, expected="stdout to take the result") from None

    def _silence(self) -> None:
        """What is left goes nowhere: Python writes it when it ends, and would fail again."""
        if self._stream is sys.__stdout__:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Forgiving:
    """A stream that loses what it cannot write: progress and logs never cost the work that they tell of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """How much of the text was taken, or could be without harm left out: all."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what is held, if it can be."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

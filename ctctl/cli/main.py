"""The root of the command line: which module holds which command, and how a run ends.

Modules are imported when their command is asked for, and never for the list that ``ctctl --help``
prints, so that help stays instant (docs/reference/cli.md) and a broken optional dependency of one command
cannot take the others down.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ctctl import __version__
from ctctl.cli.commands import COMMANDS, EPILOG, HELP, OPTIONS, WIDEST
from ctctl.cli.lazy import lazy_command, lazy_group
from ctctl.cli.process import hear_ctrl_c, let_notes_go
from ctctl.errors import EXIT_INTERRUPTED, CtctlError

if TYPE_CHECKING:
    from collections.abc import Sequence


class LazyRoot(TyperGroup):
    """A command group that imports a command's module when it is invoked or completed."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in self.commands and cmd_name in COMMANDS:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        # From the table above: completing a command's name must not import every command.
        stubs: dict[str, Any] = {name: TyperCommand(name, help=command.help) for name, command in COMMANDS.items()}
        group = TyperGroup(name=self.name, commands=stubs, params=self.params)
        return group.shell_complete(type(ctx)(group, info_name=ctx.info_name), incomplete)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from ctctl.cli.wrong import no_command

            ctx.fail(no_command(args[0]))
        return super().resolve_command(ctx, args)


def _load(name: str) -> Any:
    where = COMMANDS[name]
    found = getattr(importlib.import_module(where.module), where.attribute)
    loaded = lazy_group(found, _finish) if where.group else lazy_command(found, name, _finish)
    loaded.name = name
    if where.group:
        _finish(loaded)
    return loaded


def _finish(command: Any) -> None:
    _check_words(command)
    if not hasattr(command, "commands"):
        command.invoke = functools.partial(_invoke, command.invoke)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.make_metavar = functools.partial(_place_of, parameter)


def _invoke(command: Any, ctx: Any) -> Any:
    hear_ctrl_c()
    return command(ctx)


def _place_of(argument: Any, ctx: Any, *, usage: bool = False) -> str:  # noqa: ARG001
    """How an argument stands in a line of usage, and in front of what it means: as in any manual."""
    word = argument.metavar or argument.name.upper()
    return f"[{word}]" if usage and not argument.required else word


def _check_words(command: Any) -> None:
    """Refuse, for every command, what could only be taken for something else than was meant.

    An option that takes one value and is given two: the last one must not win without a word. An empty value of an
    option, or of a file: a shell variable that is not set must not become this directory, or what no option would be.
    """
    make_parser = command.make_parser

    def checked_parser(ctx: Any) -> Any:
        parser = make_parser(ctx)
        parse_args = parser.parse_args

        def parse(args: list[str]) -> Any:
            values, rest, order = parse_args(args)
            for option in order:
                single = not (getattr(option, "multiple", True) or getattr(option, "is_flag", True))
                if single and order.count(option) > 1:
                    ctx.fail(f"{option.opts[-1]} is given twice; this command takes one")
            for parameter in command.params:
                given = values.get(parameter.name)
                if "" in (given if isinstance(given, list | tuple) else [given]) and _takes_no_empty(parameter):
                    ctx.fail(f"{_word_of(parameter)} is empty: give {parameter.metavar or 'a value'}, or leave it out")
            return values, rest, order

        parser.parse_args = parse
        return parser

    command.make_parser = checked_parser


def _takes_no_empty(parameter: Any) -> bool:
    return parameter.param_type_name == "option" or "FILE" in (parameter.metavar or "")


def _word_of(parameter: Any) -> str:
    return str(parameter.opts[-1]) if parameter.param_type_name == "option" else "the file's name"


app = typer.Typer(
    cls=LazyRoot,
    help=HELP,
    epilog=EPILOG,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"ctctl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help=OPTIONS["--debug"])] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help=OPTIONS["-v, --verbose"])] = False,
    no_pager: Annotated[bool, typer.Option("--no-pager", help=OPTIONS["--no-pager"])] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help=OPTIONS["--version"])
    ] = False,
) -> None:
    if no_pager:
        os.environ["CTCTL_PAGER"] = ""
    if verbose:
        os.environ["CTCTL_VERBOSE"] = "1"
    if debug:
        from ctctl._ffi import set_debug

        os.environ["CTCTL_DEBUG"] = "1"
        set_debug(lambda line: print(line, file=sys.stderr))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status (documented in ``commands.EPILOG``)."""
    args = list(sys.argv[1:] if argv is None else argv)
    missing = _hold_descriptors()
    let_notes_go()
    if "_CTCTL_COMPLETE" in os.environ:
        with contextlib.suppress(Exception):  # completion fails silently: a traceback in a prompt helps nobody
            _answer_shell()
        return 0
    command = typer.main.get_command(app)
    try:
        result = _run(command, args)
        sys.stdout.flush()
    except SystemExit as exited:
        # click turns a broken pipe into exit status 1; a reader that left is no failure.
        if isinstance(exited.__context__, BrokenPipeError):
            return report(exited.__context__)
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EBADF and error.filename is None and missing:
            _discard_output()
            _say(f"standard {' and '.join(missing)} is closed: open it, or give a file or /dev/null")
            return 1
        return report(error)
    return result if isinstance(result, int) else 0


def _run(command: Any, args: list[str]) -> Any:
    """What a command line comes to; of a group by itself, its help."""
    try:
        return command.main(args, prog_name="ctctl", standalone_mode=False)
    except typer.TyperException as error:
        context, message = getattr(error, "ctx", None), error.format_message()
        if context is None or (message and not message.startswith("Usage:")):
            raise
        asked = context.get_help()
    typer.echo(asked)
    return 0


def _hold_descriptors() -> list[str]:
    """Take the place of standard streams that are closed; the names of the two whose use is then an error.

    A file opened later must not become descriptor 1 and be printed into, and ``print(file=None)`` writes
    notes among the data. What only reads stands in for stdout, what only writes for stdin: using either
    fails with EBADF. Notes to a closed stderr go nowhere.
    """
    missing = []
    for fd, name, mode in ((0, "input", os.O_WRONLY), (1, "output", os.O_RDONLY), (2, "", os.O_WRONLY)):
        try:
            os.fstat(fd)
            continue
        except OSError:
            pass
        found = os.open(os.devnull, mode)
        if found != fd:  # pragma: no cover - the lowest free number is the one that is closed
            os.dup2(found, fd)
            os.close(found)
        if name:
            missing.append(name)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    return missing


def _answer_shell() -> None:
    """Print what completes the words in the environment, as typer's answer to the shell that asks."""
    # A command made with completion makes typer know the shells. Ours has it without its two options.
    shells = typer.Typer(add_completion=True)
    shells.command()(lambda: None)
    typer.main.get_command(shells)
    typer.main.get_command(app).main([], prog_name="ctctl")


def report(error: Exception) -> int:
    """Say in one line what went wrong; the exit status it ends in."""
    debug = os.environ.get("CTCTL_DEBUG") == "1"
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, typer.Abort):
        interrupted = isinstance(error.__context__, KeyboardInterrupt)
        _say("interrupted" if interrupted else "not confirmed, nothing changed")
        return EXIT_INTERRUPTED if interrupted else 1
    if isinstance(error, BrokenPipeError):
        _discard_output()  # the reader left, which is no failure
        return 0
    if debug:
        raise error
    if isinstance(error, CtctlError):
        _say(str(error))
        return error.exit_code
    if isinstance(error, typer.TyperException):
        from ctctl.cli.wrong import usage_message

        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "ctctl"
        _say(f"{usage_message(error, error.format_message())} (see '{path} --help')")
        return 2
    if isinstance(error, OSError) and error.filename is not None:
        _say(f"{error.filename}: {error.strerror}")
        return 4 if isinstance(error, PermissionError) else 1
    if isinstance(error, OSError) and error.errno in _NO_OUTPUT:
        _discard_output()
        _say(f"cannot write: {error.strerror}")
        return 1
    _say(f"unexpected {type(error).__name__}: {error}; please report this (--debug shows the traceback)")
    return 1


#: How writing to what stdout was sent to fails.
_NO_OUTPUT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


def _discard_output() -> None:
    """Keep the interpreter from failing at exit with what is still buffered."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


#: An error of so many characters has room on any terminal that there is.
_SHORT = 32


def _say(message: str) -> None:
    from ctctl.out.fetched import as_named

    # Messages may quote files and dumps: a control character must not reach the terminal.
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in as_named(message).replace("\n", "; "))
    if len(line) > _SHORT and sys.stderr.isatty():
        from ctctl.out.fit import prose

        sys.stderr.write(prose(f"ctctl: {line}", sys.stderr, rest="    "))
        return
    print(f"ctctl: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

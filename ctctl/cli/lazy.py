"""Groups whose commands are made when they are asked for: reading the options of one costs milliseconds."""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, NamedTuple, cast

import typer

#: No first sentence is as long.
_NO_LIMIT = 10_000


class _Later(NamedTuple):
    """Where a command's function is, in a module that is imported for it alone."""

    module: str
    function: str

    def __call__(self) -> None:
        raise AssertionError("a command is made of the function itself")


def later(module: str, function: str) -> Callable[[], None]:
    """For ``app.command(NAME)``: that function of that module, which is imported when the command is asked for."""
    return cast("Callable[[], None]", _Later(module, function))


class _Commands(MutableMapping[str, Any]):
    """The commands of an app by name, each made at the first look. ``finish`` is given each of them."""

    def __init__(self, app: typer.Typer, finish: Callable[[Any], None]) -> None:
        self._app = app
        self._finish = finish
        self._infos: dict[str, Any] = dict(zip(names_of(app), app.registered_commands, strict=True))
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            made = _alone(self._app, self._infos[name])
            self._finish(made)
            self._made[name] = made
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._infos.setdefault(name, None)
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._infos[name]
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)


def names_of(app: typer.Typer) -> list[str]:
    """The names of an app's commands, none of which is made for it."""
    return [_name_of(info) for info in app.registered_commands]


def _name_of(info: Any) -> str:
    return info.name or typer.main.get_command_name(info.callback.__name__)


def _alone(app: typer.Typer, info: Any) -> Any:
    """The command that typer makes of an app with nothing else in it."""
    if isinstance(info.callback, _Later):
        where, info = info.callback, copy.copy(info)
        info.callback = getattr(importlib.import_module(where.module), where.function)
    single = copy.copy(app)
    single.registered_commands, single.registered_callback = [info], None
    return typer.main.get_command(single)


def lazy_group(app: typer.Typer, finish: Callable[[Any], None]) -> Any:
    """The group that an app is. ``finish`` is given each command once it is made."""
    empty = copy.copy(app)
    empty.registered_commands = []
    group: Any = typer.main.get_group(empty)
    group.commands = _Commands(app, finish)
    group.format_commands = functools.partial(_whole_sentences, group)
    return group


def _whole_sentences(group: Any, context: Any, formatter: Any) -> None:
    """The commands of a group with what each does, over as many lines as it takes: typer cuts it off where one ends."""
    commands = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    with formatter.section("Commands"):
        formatter.write_dl([(name, command.get_short_help_str(_NO_LIMIT)) for name, command in commands])


def lazy_command(app: typer.Typer, name: str, finish: Callable[[Any], None]) -> Any:
    """One command of an app, which may be the app's only one."""
    return _Commands(app, finish)[name]

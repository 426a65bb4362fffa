"""Plain types converted plainly.

Newer typer converts every parameter, given or not, through pydantic, whose import and set-up cost
more than all else a short command does. Parameters of plain types get a converter of our own with the
same results; anything unusual, and any typer that works otherwise, is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, get_args, get_origin

import typer


def install() -> None:
    """Let typer's parameters of plain types use plain converters. Does nothing where typer is built otherwise."""
    base = getattr(typer.core, "_TyperParameter", None)
    original = getattr(base, "get_runtime_param", None)
    if base is None or original is None or getattr(original, "plain", False):
        return

    def get_runtime_param(self: Any) -> Any:
        if self._runtime_param is None:
            convert = _converter_for(self)
            if convert is None:
                return original(self)
            self._runtime_param = _Plain(convert)
        return self._runtime_param

    get_runtime_param.plain = True  # type: ignore[attr-defined]
    base.get_runtime_param = get_runtime_param


def _converter_for(parameter: Any) -> Callable[[Any], Any] | None:
    descriptor = getattr(parameter, "type_descriptor", None)
    info = getattr(descriptor, "parameter_info", None)
    if descriptor is None or getattr(info, "parser", None) is not None or getattr(info, "click_type", None) is not None:
        return None
    return _converter(descriptor.annotation, info)


class _Plain:
    """What typer asks of a converter."""

    def __init__(self, convert: Callable[[Any], Any]) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value converted; several for a parameter that takes several."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        try:
            return [self._convert(item) for item in value] if many else self._convert(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def _converter(annotation: Any, info: Any) -> Callable[[Any], Any] | None:
    """For str, bool, int, float, an Enum of texts, or a list of those; None for anything else."""
    if get_origin(annotation) is list:
        arguments = get_args(annotation)
        return _converter(arguments[0], info) if len(arguments) == 1 else None
    if annotation is str:
        return str
    if annotation is bool:
        return _boolean
    if annotation in (int, float):
        return _number(annotation, info)
    if isinstance(annotation, type) and issubclass(annotation, Enum) and issubclass(annotation, str):
        return _word(annotation)
    return None


def _boolean(value: Any) -> bool:
    """A flag's value is a bool already; text comes from an environment variable."""
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if str(value).lower() not in words:
        raise ValueError(f"{value!r} is not a valid boolean.")
    return words[str(value).lower()]


def _number(kind: type[int] | type[float], info: Any) -> Callable[[Any], Any] | None:
    low, high = getattr(info, "min", None), getattr(info, "max", None)
    if getattr(info, "clamp", False):
        return None

    def convert(value: Any) -> Any:
        try:
            number = kind(value)
        except (TypeError, ValueError):
            raise ValueError(f"{value!r} is not a valid {'integer' if kind is int else 'number'}.") from None
        if (low is not None and number < low) or (high is not None and number > high):
            bounds = f">={low}" if high is None else f"<={high}" if low is None else f"{low} to {high}"
            raise ValueError(f"{value} is not in the range {bounds}.")
        return number

    return convert


def _word(kind: type[Enum]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        try:
            return kind(value)
        except ValueError:
            choices = ", ".join(repr(member.value) for member in kind)
            raise ValueError(f"{value!r} is not one of {choices}.") from None

    return convert

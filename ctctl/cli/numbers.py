"""What typed numbers become: durations in seconds, rates. No NaN, no infinity, nothing that a clock cannot wait for."""

from __future__ import annotations

from collections.abc import Callable

import typer


def seconds(least: float) -> Callable[[str], float]:
    """A reader of ``10``, ``0.5`` or ``2m`` as seconds, at least so many: a ``parser=`` of ``typer.Option``."""

    def read(text: str) -> float:
        from ctctl.model.units import parse_duration

        try:
            found = parse_duration(str(text))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return _at_least(found, least)

    return read


def number(least: float, most: float = 1e12) -> Callable[[str], float]:
    """A reader of a number in a range."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is no number") from None
        if not found <= most:  # NaN too
            raise typer.BadParameter(f"{text!r} is not between {least:g} and {most:g}")
        return _at_least(found, least)

    return read


def whole(least: int) -> Callable[[str], int]:
    """A reader of a whole number that fits 63 bits, at least so much."""

    def read(text: str) -> int:
        from ctctl.model.units import decimal

        found = decimal(str(text), 2**63 - 1)
        if found is None or found < least:
            raise typer.BadParameter(f"{text!r} is not in the range of whole numbers from {least} to {2**63 - 1}")
        return found

    return read


def table_time(text: str) -> int:
    """A time of the tables' clock, which has 32 bits. An offset (``+60``) is refused: it would be read as a time."""
    from ctctl.model.units import decimal

    found = decimal(str(text))
    if found is not None:
        return found
    if text[:1] in ("+", "-") and decimal(text[1:]) is not None:
        raise typer.BadParameter(f"{text!r} is an offset: give the time itself, as the tables' clock has it")
    raise typer.BadParameter(f"{text!r} is no time of the tables' clock: a whole number from 0 to {2**32 - 1}")


def _at_least(found: float, least: float) -> float:
    if found < least:
        raise typer.BadParameter(f"{found:g} is less than {least:g}")
    return found

"""Lines of a listing as its program prints them: a run of them is read at once, by columns.

A line that is not of the form, and the last of a run (it may go on in the line below), is read by itself, with care.
Both ways say the same of a line; a property test holds them together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_pton

from ctctl.tables.sources.dump import Dump

#: The fields of lines, as they are printed.
Rows = Sequence[tuple[bytes, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class LineRun:
    """A form of line. ``line`` matches one whole, its feed too, and is linear in its length.

    ``add`` puts lines into a dump; it raises ValueError, and has added none of them, where a field of any does not
    fit. ``work`` is what a line takes (``unpack.Budget``); ``padded``: each has a blank at its end.
    """

    line: re.Pattern[bytes]
    add: Callable[[Dump, Rows], None]
    work: int = 12
    padded: bool = False


def octets_of(family: int, *columns: Sequence[bytes]) -> dict[bytes, bytes]:
    """The bytes of each address in columns of text, brackets allowed. Raises ValueError for what is none."""
    kind = AF_INET if family == 4 else AF_INET6
    try:
        return {text: inet_pton(kind, text.strip(b"[]").decode()) for text in set().union(*columns)}
    except OSError as error:
        raise ValueError(f"no address: {error}") from error

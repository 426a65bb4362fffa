"""What fits a terminal: columns that drop out, cells that go on below, prose wrapped at the terminal's width.

Only a terminal has a width. What goes into a file or a pipe is one whole line a row or sentence.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TextIO

from ctctl.out.text import safe

#: Spaces between two columns of a table.
GAP = 2
#: A column of words is not made narrower than this as long as others can go.
PROSE_LEAST = 24
#: How far what goes on in the next line stands in.
INDENT = 4
#: A word of a command line with its quotes: what is inside them is not broken.
_SHELL_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""")


class CommandLine(NamedTuple):
    """A command to type, behind what it is for: it can be copied as it is shown, on a terminal too."""

    what: str
    command: str

    def __str__(self) -> str:
        return f"{self.what}: {self.command}"


class Sheet(io.StringIO):
    """Text for a part of a screen that is so many columns wide."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns


def columns_of(stream: TextIO) -> int | None:
    """How many columns the terminal behind ``stream`` has, None where it is no terminal."""
    if isinstance(stream, Sheet):
        return stream.columns
    if not stream.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def wrap(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width``, broken between words where there are any."""
    if len(text) <= width:
        return [text]
    import textwrap

    return textwrap.wrap(text, max(width, 1), break_on_hyphens=False) or [""]


def prose(text: str, stream: TextIO, first: str = "", rest: str | None = None) -> str:
    """``first`` and a sentence, ending with a newline; on a terminal wrapped, later lines behind ``rest``."""
    room = columns_of(stream)
    if room is None or len(first) + len(text) <= room:
        return f"{first}{text}\n"
    import textwrap

    # The start of a line keeps its spaces: textwrap would take those inside ``first`` for places to break.
    behind = " " * len(first) if rest is None else rest
    lines = textwrap.wrap(
        text, room, initial_indent=first, subsequent_indent=behind, break_on_hyphens=False, drop_whitespace=True
    )
    return "".join(f"{line}\n" for line in lines) or f"{first}\n"


def told(line: str | CommandLine, stream: TextIO, first: str = "", rest: str | None = None) -> str:
    """``first`` and a line for the operator: a command as ``command`` writes it, anything else as ``prose``."""
    if isinstance(line, CommandLine):
        return command(line.command, stream, f"{first}{line.what}: ")
    return prose(f"{first}{safe(line)}", stream, rest=rest)


def command(text: str, stream: TextIO, first: str = "") -> str:
    """``first`` and a command line, ending with a newline; on a terminal continued as a shell continues it.

    What is shown can be copied as it stands. A word that is longer than a line stays whole.
    """
    room = columns_of(stream)
    if room is None or len(first) + len(text) <= room:
        return f"{first}{text}\n"
    behind = " " * min(len(first) + INDENT, room // 2)
    lines, line = [], first
    for word in _SHELL_WORD.findall(text):
        more = word if line in (first, behind) else f" {word}"
        if len(line) + len(more) > room - 2 and line not in (first, behind):
            lines.append(f"{line} \\\n")
            line, more = behind, word
        line += more
    return "".join([*lines, f"{line}\n"])


def fitting(widths: Sequence[int], priorities: Sequence[int], room: int) -> list[int]:
    """Which columns have room beside each other: those of the highest priority number go first, 0 never."""
    kept = list(range(len(widths)))
    for at in sorted(kept, key=lambda at: (priorities[at], at), reverse=True):
        if _total([widths[index] for index in kept]) <= room or not priorities[at]:
            break
        kept.remove(at)
    return kept


def say_dropped(names: Sequence[str], room: int, stream: TextIO) -> None:
    """Say on stderr which columns a terminal has no room for."""
    if names:
        stream.flush()
        words = ", ".join(name.upper() for name in names)
        said = f"ctctl: no room at {room} columns for {words}; -o wide shows all"
        where = stream if isinstance(stream, Sheet) else sys.stderr
        where.write(prose(said, where, rest=" " * INDENT))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


class Layout(NamedTuple):
    """How the cells of a row are laid out: the width of each, and which stand in a line of the terminal together."""

    widths: tuple[int, ...]
    right: tuple[bool, ...]
    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, widths: Sequence[int], right: Sequence[bool], least: Sequence[int], room: int | None) -> Layout:
        """Columns in ``room``: they become narrower down to ``least``, and what has no room goes to the next line."""
        if room is None or _total(widths) <= room:
            return cls(tuple(widths), tuple(right), (tuple(range(len(widths))),))
        narrow = _narrowed(widths, least, room)
        groups: list[list[int]] = [[]]
        left = room
        for at, width in enumerate(narrow):
            if groups[-1] and width > left:
                groups.append([])
                left = room - INDENT
            # Alone in its line, it takes the line.
            narrow[at] = min(width if groups[-1] else max(width, min(widths[at], left)), max(left, 1))
            groups[-1].append(at)
            left -= narrow[at] + GAP
        return cls(tuple(narrow), tuple(right), tuple(map(tuple, groups)))

    def in_one_line(self, widths: Sequence[int]) -> bool:
        """Whether rows whose columns are so wide are a line each, whose cells are only padded."""
        return len(self.groups) == 1 and self.widths == tuple(widths)

    def padded(self, columns: Sequence[Sequence[str]]) -> Iterator[str]:
        """Rows that are one line each, from the texts of their columns, all of which have room there."""
        cells = [
            [text.rjust(width) if right else text.ljust(width) for text in texts]
            for texts, width, right in zip(columns, self.widths, self.right, strict=True)
        ]
        return map((" " * GAP).join, zip(*cells, strict=True))

    def lines(self, texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
        """The lines of one row: in each the column and its padded text, spaces between columns included.

        A later line in which no column has anything to say is left out.
        """
        for number, group in enumerate(self.groups):
            if number and all(texts[at] in ("", "-") for at in group):
                continue
            cells = [wrap(texts[at], self.widths[at]) for at in group]
            for height in range(max(map(len, cells))):
                line = [(group[0], " " * INDENT)] if number else []
                for place, (at, cell) in enumerate(zip(group, cells, strict=True)):
                    text = cell[height] if height < len(cell) else ""
                    width = self.widths[at]
                    padded = text.rjust(width) if self.right[at] else text.ljust(width)
                    line.append((at, padded + " " * (GAP if place < len(group) - 1 else 0)))
                yield line


def _narrowed(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """The widths as narrow as needed, the widest first; not under their least."""
    narrow = list(widths)
    for _ in range(_total(narrow) - room):
        spare = [at for at, width in enumerate(narrow) if width > least[at]]
        if not spare:
            break
        narrow[max(spare, key=lambda at: narrow[at])] -= 1
    return narrow


def least_of(texts: Iterable[str], width: int) -> int:
    """What a column of words needs at least: room for its longest word."""
    return min(width, max(PROSE_LEAST, *(len(word) for text in texts for word in text.split(" ")), 0))


def wrapped(pieces: Sequence[tuple[str, str]], room: int) -> Iterator[list[tuple[str, str]]]:
    """A line of (text, style) pieces in lines of ``room``, broken between words, later lines standing in."""
    if sum(len(text) for text, _ in pieces) <= room:
        yield list(pieces)
        return
    line: list[tuple[str, str]] = []
    used = 0
    for text, style in pieces:
        for word in re.findall(r" *[^ ]+| +$", text):
            left = word
            if used + len(left.rstrip()) > room and used > INDENT:
                yield line
                line, used, left = [(" " * INDENT, "")], INDENT, left.lstrip()
            while used + len(left) > room > INDENT:
                line.append((left[: room - used], style))
                yield line
                line, used, left = [(" " * INDENT, "")], INDENT, left[room - used :]
            line.append((left, style))
            used += len(left)
    yield line

"""Whose the lines of a stream are, line by line: what names a machine by itself, and names alone above a listing."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from ctctl.tables.sources.hosts import Hosts
from ctctl.tables.sources.names_alone import Alone, NamesAlone, alone_on, may_be_alone

#: What ``date`` prints.
_DATE = re.compile(
    r"\s*+(?:\w{3} )?(?:\d{1,2} \w{3}|\w{3} {1,2}\d{1,2}|20\d\d-\d\d-\d\d)[ T,].{0,3}\b\d\d:\d\d:\d\d\b.{0,30}$"
)


#: So many lines above a listing are looked at.
_LINES = 8


def nothing_between(_line: str) -> bool:
    """No line stands between a name and its listing."""
    return False


class Whose:
    """Whose lines are that are ``hosts``'. ``moved``: whose those are that follow the last one read.

    ``above`` is a line that may be a name below which a listing follows. ``between`` says whether a line may stand
    between both.
    """

    def __init__(self, hosts: Hosts, names: NamesAlone, between: Callable[[str], bool] = nothing_between) -> None:
        self.hosts = hosts
        self.names = names
        self.moved: Hosts | None = None
        self.above: str | None = None
        self._between = between
        #: the lines since the last listing: most are of no interest, so they are looked at when one is; the first of
        #: them, where that may be a name; nothing was there yet but what may be between
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._far: str | None = None
        self._first = True

    def told(self, line: str, *, before: bool) -> bool:
        """Whether a line says that what follows is of another machine. ``before``: there were records before it."""
        name = self.hosts.name
        self.moved = self.hosts.other(line, before=before)
        if self.moved is None and (self.hosts.name == name or self.hosts.by_prompt):
            return False  # a prompt may stand between a name and its listing
        self.names.others |= not (self.moved or self.hosts).by_prompt
        self._forget()
        return self.moved is not None

    def look(self, line: str) -> None:
        """Look at a line that does not say so; an empty one too."""
        if line and not ("closed" in line and self.names.closed(line, self.hosts.name)):
            first, self._first = self._first, self._first and self._may_be_between(line)
            if may_be_alone(line) and (self.above is None or not self._between(line) or alone_on(line) is not None):
                self.above = line
                self._far = line if first else self._far
            elif self.above is not None and not self._may_be_between(line):
                self.above = None
        self._lines.append(line)

    def listed(self) -> None:
        """The last line was of a listing."""
        if self._lines:
            line = next((line for line in reversed(self._lines) if line and not self._may_be_between(line)), None)
            if line is not None and not may_be_alone(line):
                self.names.line_above(line, self.hosts.name)
                if self._far is not None:
                    self.names.far_above(self._far)
            self._forget()

    def name_above(self) -> Alone | None:
        """The name above the next line, where a listing below it may be of another machine."""
        alone = alone_on(self.above) if self.above is not None and not self.names.full else None
        return alone if alone is not None and alone.name != self.hosts.name else None

    def moves_below(self, name: Alone, *, before: bool) -> bool:
        """Whether a listing that starts now may be of another machine, by the name above it."""
        name = name._replace(apart=not self._is_beside())
        self.above = None
        self.names.above(name, moves=before)
        if before:
            self.moved = self.hosts.below(name)
        else:
            self.hosts.named(name)
        return before

    def _is_beside(self) -> bool:
        """Whether the name above stands beside a line of something else, with no empty line between them."""
        lines = reversed(self._lines)
        for line in lines:
            if line is self.above:
                break
        return next((bool(line) for line in lines if not line or not self._may_be_between(line)), False)

    def _may_be_between(self, line: str) -> bool:
        return self._between(line) or (line.count(":") > 1 and _DATE.match(line) is not None)

    def _forget(self) -> None:
        self.above = None
        self._lines.clear()
        self._far, self._first = None, True

"""Elements of YAML that are written like one that was read, as ``json_forms`` has those of JSON."""

from __future__ import annotations

import re
from collections.abc import Collection

from ctctl.config.budget import YAML_WORK
from ctctl.tables.sources.json_forms import Path, Place
from ctctl.tables.sources.regular import MAX_ELEMENT, Form
from ctctl.tables.sources.stream import LINE_WORK

_LINE = re.compile(r"((?:- | )*)([A-Za-z_][A-Za-z0-9_]*):(?: (\S+))?")
_ITEM = re.compile(r"( *- )([A-Za-z0-9][A-Za-z0-9_.-]*)")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def yaml_form_like(text: str, form: Form, place: Place, lists: Collection[str]) -> Form | None:
    """Add to a form what reads elements that are written like this one. None: it is not plain enough to tell.

    Names and blanks are taken literally. ``lists`` are the names of those whose items count, as many as this one has;
    others may have any length. What does not count is one plain word.
    """
    lines = text.splitlines()
    if len(text) > MAX_ELEMENT or not text.endswith("\n"):
        return None
    walk = _Walk(lines, form, place, lists)
    return form.before("- ") if all(walk.line(number) for number in range(len(lines))) else None


class _Walk:
    """Goes through an element's lines, adding to the form."""

    def __init__(self, lines: list[str], form: Form, place: Place, lists: Collection[str]) -> None:
        self._lines, self._form, self._place, self._lists = lines, form, place, lists
        self._stack: list[tuple[int, str]] = []
        self._seen: set[Path] = set()
        #: what stands before the items that are left out
        self._skipped = ""

    def line(self, number: int) -> bool:
        """One line. False: it is not plain enough, or a name is there twice, of which the last one counts."""
        item, match = _ITEM.fullmatch(self._lines[number]), _LINE.fullmatch(self._lines[number])
        if item is not None:
            return self._skipped == item[1] or self._item(item)
        self._skipped = ""
        return match is not None and self._member(match, number)

    def _path(self, last: str | int) -> Path:
        return (*(name for _indent, name in self._stack), last)

    def _item(self, item: re.Match[str]) -> bool:
        before = self._path(0)[:-1]
        at = self._path(sum(path[:-1] == before for path in self._seen))
        self._seen.add(at)
        self._form.literal(item[1])
        known = bool(self._stack) and self._stack[-1][1] in self._lists and self._place(self._form, at, item[2])
        self._form.literal("\n")
        return known

    def _member(self, match: re.Match[str], number: int) -> bool:
        front, name, value = match.groups()
        while self._stack and self._stack[-1][0] >= len(front):
            self._stack.pop()
        at = self._path(name)
        known = at not in self._seen
        self._seen.add(at)
        self._form.literal(f"{front}{name}:")
        following = _ITEM.fullmatch(self._lines[number + 1]) if number + 1 < len(self._lines) else None
        if value == "[]" or (value is None and following is not None and name not in self._lists):
            self._left_out(name, following[1] if following is not None else " " * len(front) + "- ")
        elif value is None:
            self._form.literal("\n")
            self._stack.append((len(front), name))
        else:
            self._form.literal(" ")
            if not self._place(self._form, at, value):
                known &= _TOKEN.fullmatch(value) is not None
                self._form.token()
            self._form.literal("\n")
        return known

    def _left_out(self, name: str, front: str) -> None:
        """A list that does not count, of any length."""
        self._skipped = front
        with self._form.maybe(f"no {name}"):
            self._form.literal(" []\n")
        with self._form.otherwise():
            self._form.literal("\n").items(front)


def yaml_work(text: str) -> int:
    """What reading an element in a pass costs: an eighth of what it costs line by line and as YAML.

    It takes less than a hundredth of that time. At the full price the listing of a large node, which is twenty times as
    long as what it packs to, would look like something that only repeats itself.
    """
    return (sum(LINE_WORK + (len(line) >> 4) for line in text.splitlines()) + len(text) * YAML_WORK) >> 4

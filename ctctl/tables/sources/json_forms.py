"""Records of JSON that are written like one that was read: the form of its text, with fields for what counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import TypeAlias

from ctctl.tables.sources.regular import MAX_ELEMENT, Form

#: Names and numbers of list elements that lead to a value.
Path: TypeAlias = "tuple[str | int, ...]"
#: Adds the part of a form that reads the value at a path, whose text in the record is given. False: it does not count.
Place: TypeAlias = Callable[[Form, Path, str], bool]

#: A word of JSON, or a number in hex as ``bpftool`` has bit fields.
_WORD = re.compile(r'\s*("[^"\\\x00-\x1f\x7f-\uffff]*"|0x[0-9a-f]{1,16}|-?\d{1,20}|true|false|null|[\[\]{},:])')
#: Values of a record at most: one with more is read as ever.
_MAX_VALUES = 512


class _NoFormError(Exception):
    """The text is not plain enough."""


class _Walk:
    """Goes through a record's text, adding to the form."""

    def __init__(self, text: str, form: Form, place: Place, lists: Collection[str]) -> None:
        self._text, self._form, self._place, self._lists = text, form, place, lists
        self._at = self._said = self._values = 0

    def word(self) -> str:
        match = _WORD.match(self._text, self._at)
        if match is None:
            raise _NoFormError
        self._at = match.end()
        return match[1]

    def literal(self, up_to: int) -> None:
        """What stands between the values."""
        if up_to > self._said:
            self._form.literal(self._text[self._said : up_to])

    def value(self, path: Path) -> None:
        word = self.word()
        start = self._at - len(word)
        if word == "{":
            self._members(path)
        elif word == "[" and path and path[-1] in self._lists:
            self._elements(path)
        elif word == "[":
            self._leave_out(start)
        elif word in "]},:":
            raise _NoFormError
        else:
            self._values += 1
            if self._values > _MAX_VALUES:
                raise _NoFormError
            self.literal(start)
            if not self._place(self._form, path, word):
                self._form.value()
            self._said = self._at

    def _members(self, path: Path) -> None:
        names: set[str] = set()
        word = self.word()
        while word != "}":
            if word[0] != '"' or word in names or self.word() != ":":
                raise _NoFormError  # of two members with one name the last one counts
            names.add(word)
            self.value((*path, word[1:-1]))
            word = self.word()
            if word == ",":
                word = self.word()
            elif word != "}":
                raise _NoFormError

    def _elements(self, path: Path) -> None:
        number = 0
        while True:
            self.value((*path, number))
            number += 1
            word = self.word()
            if word == "]":
                return
            if word != ",":
                raise _NoFormError

    def _leave_out(self, start: int) -> None:
        """A list that does not count, of any length: the rest of it, behind its bracket."""
        level = 1
        while level:
            word = self.word()
            level += (word in "[{") - (word in "]}")
        self.literal(start)
        self._form.value()
        self._said = self._at


def form_like(text: str, form: Form, place: Place, lists: Collection[str]) -> Form | None:
    """Add to a form what reads records that are written like this one. None: it is not plain enough to tell.

    Everything but values is taken literally, names and blanks too. ``lists`` are the names of those whose elements
    count, as many as this one has; others may have any length.
    """
    if len(text) > MAX_ELEMENT:
        return None
    walk = _Walk(text, form, place, lists)
    try:
        walk.value(())
    except _NoFormError:
        return None
    walk.literal(len(text))
    return form

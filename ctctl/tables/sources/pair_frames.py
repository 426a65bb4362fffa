"""Rows of two columns in passes: as a table has them, and as the members of a JSON object."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from ctctl.tables.sources.listing_text import PairLines
from ctctl.tables.sources.passes import FormRuns
from ctctl.tables.sources.regular import Form, Sample

#: A member with one text, written so that what stands in it is what it says.
_MEMBER = re.compile(
    r'"(?P<left>[^"\\\x00-\x1f]{1,200})"(?P<between>\s*:\s*\[\s*)"(?P<right>[^"\x00-\x1f]{1,1000})"(?P<behind>\s*\])'
)
#: What programs write for characters that have a meaning in HTML: Go does.
_ESCAPED = {"<": r"\u003c", ">": r"\u003e"}


class Frame(NamedTuple):
    """What stands around the columns of a row. Without ``member`` it is a row of a table, which has blanks there."""

    before: str = ""
    member: tuple[str, str] | None = None
    escaped: bool = False

    def start(self) -> Form:
        """A form, up to where the left column begins."""
        return Form() if self.member is None else Form(strict=True).literal(f'{self.before}"')

    def between(self, form: Form) -> Form:
        """From there to where the right one begins."""
        return form.blanks(3) if self.member is None else form.literal(f'"{self.member[0]}"')

    def end(self, form: Form) -> Form:
        """From there to the end."""
        return form.end() if self.member is None else form.blanks(0).literal(f'"{self.member[1]}')

    def written(self, text: str) -> str:
        """Text as it is written in it."""
        return "".join(_ESCAPED.get(char, char) for char in text) if self.escaped else text


TABLE = Frame()


class PairRuns(FormRuns[PairLines]):
    """A listing of such rows. ``columns`` makes the form of one in a frame."""

    columns: Callable[[Frame], Form]

    def next_form(self, _room: int) -> Form | None:
        """The form of its rows."""
        return _in_table(type(self).columns)


@functools.cache
def _in_table(columns: Callable[[Frame], Form]) -> Form:
    return columns(TABLE)


def frame_of(sample: Sample) -> Frame | None:
    """What stands around the columns of a member of a JSON object; None: it is not written plainly."""
    match = _MEMBER.fullmatch(sample.text)
    if match is None:
        return None
    return Frame(sample.before, (match["between"], match["behind"]), r"\u003" in match["right"])

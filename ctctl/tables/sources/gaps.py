"""Lines that stand where others are not shown: what a pager writes, and what people write for what they left out."""

from __future__ import annotations

import re

from ctctl.tables.sources.values import has_any

#: What a pager writes, in the middle of a table too.
_PAGER = re.compile(r"\s*+(?:--More--.{0,12}|\(END\)|lines \d{1,9}-\d{1,9}\b.{0,24}|[~:])\s*")
_DOTS = r"(?:\.{3,}+|…|(?:\. ){2}\.)"
_WORDS = r"(?:omitted|truncated|left out|elided|skipped|snip(?:ped)?)"
_THINGS = r"(?: (?:lines|entries|rows|output|for brevity|here|like (?:this|that|these))){0,3}"
#: What says that something was left out by hand, in a line of its own.
_LEFT_OUT = re.compile(
    r"\s*+[\[({<*#/-]{0,4}\s{0,4}"
    rf"(?:{_DOTS}(?:.{{0,60}}(?:{_DOTS}|{_WORDS}{_THINGS}))?"
    rf"|(?:(?:\d[\d,]{{0,11}}|output|lines|rows|entries|the|rest|many) ){{0,3}}{_WORDS}{_THINGS}"
    rf"|(?:{_DOTS} ?)?(?:and )?(?:\d[\d,]{{0,11}}|many|some|lots) more{_THINGS}(?: ?{_DOTS})?)"
    r"\s{0,4}[\])}>*#/-]{0,4}\s*+",
    re.IGNORECASE,
)
#: What none of these is without, in small letters.
_IN_LEFT_OUT = ("..", ". .", "omit", "trunc", "left out", "elided", "skip", "snip", "more")
#: A longer line says something else.
MAX_MARK = 120


def is_left_out(line: str) -> bool:
    """Whether a line says that others were left out by hand."""
    if len(line) > MAX_MARK or (line.isascii() and not has_any(line.lower(), _IN_LEFT_OUT)):
        return False
    return _LEFT_OUT.fullmatch(line) is not None


def is_pager(line: str) -> bool:
    """Whether a line is what a pager shows below a page."""
    return len(line) <= MAX_MARK and _PAGER.fullmatch(line) is not None

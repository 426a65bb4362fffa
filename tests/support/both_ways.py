"""Listings read in passes and line by line: what is found, and what it costs."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from typing import Any

import pytest

from ctctl.errors import CtctlError
from ctctl.tables.sources import regular
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Collected, Dump
from ctctl.tables.sources.listings import KINDS


class Spent:
    """The work that was spent."""

    def __init__(self) -> None:
        self.work = 0

    def __call__(self, work: int) -> None:
        self.work += work


def read(text: bytes, *, passes: bool, hint: str = "") -> tuple[dict[str, Any], Spent]:
    """What a file turns out to hold, and what that cost. ``hint`` is its name."""
    dump, spent = Dump(), Spent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regular, "WORTH", 0 if passes else 1 << 62)
        patch.setattr(regular, "MAX_WAIT", 0)
        try:
            read_content(io.BytesIO(text), dump, hint, spent)
        except CtctlError as error:
            dump.partial.append(str(error))
    return said(dump), spent


def said(dump: Dump) -> dict[str, Any]:
    """Everything of a dump."""
    fields = [field for field in Collected.__dataclass_fields__ if field != "known"]
    tables = {name: {field: getattr(table, field) for field in fields} for name, table in dump.tables.items()}
    parts = ("kinds", "partial", "skipped", "skipped_first", "losses", "now", "clock", "broken", "ended", "listings")
    nat = sorted(map(repr, dump.listings.nat))  # one by one or by columns
    dump.listings.nat_entries, dump.listings.nat_text = [], None
    return {"tables": tables, "nat": nat, **{part: getattr(dump, part) for part in parts}}


def agree(text: bytes, hint: str = "") -> dict[str, Any]:
    """Read a file both ways; what both say."""
    one_by_one, spent = read(text, passes=False, hint=hint)
    at_once, also = read(text, passes=True, hint=hint)
    assert at_once == one_by_one
    # A pass is no dearer than what it saves; a return may count once or twice.
    assert _least_share(at_once) * spent.work <= also.work <= spent.work * 21 / 20 + 16
    return at_once


def _least_share(found: dict[str, Any]) -> float:
    """Of the careful reader's work, what a pass costs at least: a file that is read in passes is not for nothing."""
    if any("YAML" in kind or "ctctl" in kind for kind in found["kinds"]):
        return 1 / 24  # it reads an element as YAML does, or twice
    if found["nat"] or any(map(found["listings"].has, KINDS)) or any("nf_" in name for name in found["tables"]):
        return 1 / 8  # it makes each record by itself, and tries some lines more than once
    return 1 / 12


@contextmanager
def counting() -> Iterator[list[int]]:
    """The numbers of rows that passes read inside."""
    taken: list[int] = []
    read_rows = regular.RegularReader.read

    def counted(*words: Any, **named: Any) -> Any:
        rows = read_rows(*words, **named)
        taken.append(len(rows))
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regular.RegularReader, "read", counted)
        yield taken


@contextmanager
def counting_rows(*kinds: type) -> Iterator[Counter[type]]:
    """The numbers of rows that these listings take from passes inside."""
    taken = Counter[type]()
    with pytest.MonkeyPatch.context() as patch:
        for kind in kinds:
            patch.setattr(kind, "add_rows", partialmethod(_counted, kind.add_rows, taken))
        yield taken


def _counted(listing: Any, add_rows: Callable[..., None], taken: Counter[type], rows: Any) -> None:
    taken[type(listing)] += len(rows)
    add_rows(listing, rows)

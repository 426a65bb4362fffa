"""Sums of several nodes as one answer: read back from the JSON of ``ct stats`` and ``ct top``, and joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from ctctl.ct.report import BUCKETS, TableStats, Talker
from ctctl.ct.top import By, name_of
from ctctl.errors import DecodeError

_NO_SUMS = (KeyError, TypeError, IndexError, ValueError, AttributeError)


def stats_of_document(document: Mapping[str, Any]) -> list[TableStats]:
    """The tables of ``ct stats -o json``. Raises DecodeError for what is none."""
    try:
        return [_stats(record) for record in document["tables"]]
    except _NO_SUMS as error:
        raise DecodeError(f"no answer of ct stats: {error!r}") from None


def _stats(record: Mapping[str, Any]) -> TableStats:
    given = {one.name: record[one.name] for one in fields(TableStats)}
    for name in ("remaining", "overdue", "idle"):
        if given[name] is not None:
            counts = [0] * BUCKETS
            for bar in given[name]:
                counts[(bar["le_s"] + 1).bit_length() - 1] = int(bar["count"])
            given[name] = tuple(counts)
    return TableStats(**given)


def talkers_of_document(document: Mapping[str, Any]) -> list[Talker]:
    """The groups of ``ct top -o json``. Raises DecodeError for what is none."""
    try:
        return [Talker(**{one.name: record[one.name] for one in fields(Talker)}) for record in document["talkers"]]
    except _NO_SUMS as error:
        raise DecodeError(f"no answer of ct top: {error!r}") from None


def joined(nodes: Iterable[Iterable[Talker]], by: By, names: Mapping[str, str]) -> list[Talker]:
    """The same groups of all nodes as one, the most entries first. A sum of what one node does not know is unknown."""
    found: dict[str, Talker] = {}
    for talker in (talker for talkers in nodes for talker in talkers):
        old = found.get(talker.key)
        if old is None:
            found[talker.key] = replace(talker, name=name_of(by, talker.key, names) or talker.name)
            continue
        found[talker.key] = replace(
            old,
            name=old.name or talker.name,
            entries=old.entries + talker.entries,
            expired=_sum(old.expired, talker.expired),
            packets=_sum(old.packets, talker.packets),
            bytes=_sum(old.bytes, talker.bytes),
        )
    return sorted(found.values(), key=lambda talker: (-talker.entries, talker.key))


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other

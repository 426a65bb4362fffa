"""Sums of several nodes as one answer: read back from the JSON of ``ct stats`` and ``ct top``, and joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any

from ctctl.ct.report import BUCKETS, TableStats, Talker
from ctctl.ct.top import By, is_of_a_node, name_of
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
    """The groups of ``ct top -o json`` of one node. Raises DecodeError for what is none."""
    try:
        return [_talker(record) for record in document["talkers"]]
    except _NO_SUMS as error:
        raise DecodeError(f"no answer of ct top: {error!r}") from None


def _talker(record: Mapping[str, Any]) -> Talker:
    names = (one.name for one in fields(Talker) if one.default is MISSING or one.name in record)
    return Talker(**{name: record[name] for name in names})


def joined(nodes: Iterable[tuple[str, Iterable[Talker]]], by: By, names: Mapping[str, str]) -> list[Talker]:
    """The same groups of all nodes as one, the most entries first. A sum of what one node does not know is unknown.

    What each node numbers itself stays a group a node, called as that node calls it.
    """
    found: dict[tuple[str | None, str], Talker] = {}
    for node, talker in ((node, talker) for node, talkers in nodes for talker in talkers):
        own = is_of_a_node(by, talker.key)
        place = node if own else None, talker.key
        old = found.get(place)
        if old is None:
            name = None if own else name_of(by, talker.key, names)
            found[place] = replace(talker, name=name or talker.name, node=place[0])
            continue
        found[place] = replace(
            old,
            name=old.name or talker.name,
            entries=old.entries + talker.entries,
            expired=_sum(old.expired, talker.expired),
            packets=_sum(old.packets, talker.packets),
            bytes=_sum(old.bytes, talker.bytes),
        )
    return sorted(found.values(), key=lambda talker: (-talker.entries, talker.key, talker.node or ""))


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other

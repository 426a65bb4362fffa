"""Listings whose names say that they are of one node at several times (``ct.before``, ``ct.after``), not of several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ctctl.decode.ct import KEY_SIZE
from ctctl.tables.sources.dump import Dump

#: Words that say when. Those of the first line are of nothing else; nodes may be called by the others too.
_TIMES = frozenset(("before", "after", "pre", "post", "earlier", "later", "previous", "prev"))
_PERHAPS = frozenset(
    (
        *("old", "new", "first", "second", "last", "start", "end", "begin", "then", "now", "today", "yesterday"),
        *("t0", "t1", "t2", "t3"),
    )
)
_SPLIT = re.compile(r"[-_.+\s/]+")
#: Of larger tables it is not counted how many entries are in both.
_COUNTED = 100_000


def moments_of(names: Iterable[str]) -> Iterator[list[str]]:
    """Names, two or more at a time, that differ only in a word that says when."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        words = _SPLIT.split(name.lower())
        rest = tuple("" if word in _TIMES | _PERHAPS else word for word in words)
        if rest.count("") == 1:
            found.setdefault(rest, []).append(name)
    return (names for names in found.values() if len(names) > 1)


def said_of(dumps: Mapping[str | None, Dump]) -> Iterator[str]:
    """What there is to say of nodes that are moments of one: a sentence for each.

    The names say it; where they may mean something else too, entries that are in all of them do.
    """
    for names in moments_of(node for node, dump in dumps.items() if node and dump.tables):
        shared = _shared([dumps[name] for name in names])
        sure = any(word in _TIMES for name in names for word in _SPLIT.split(name.lower()))
        if not shared and not sure:
            continue
        told = {None: "", 0: ", though no entry is in all of them"}.get(
            shared, f", and {shared} entries are in all of them"
        )
        several = "two" if len(names) == 2 else str(len(names))
        yield (
            f"{', '.join(names)} are {several} moments of one node by their names{told}; they are shown as nodes are,"
            " ctctl ct diff FILE FILE shows what changed"
        )


def _shared(dumps: list[Dump]) -> int | None:
    """How many entries have the same key in all of them; None: there are too many to count."""
    if sum(len(table) for dump in dumps for table in dump.tables.values()) > _COUNTED:
        return None
    keys = [{key for table in dump.tables.values() for key in _keys(table.keys, table.family)} for dump in dumps]
    return len(set.intersection(*keys))


def _keys(data: bytearray, family: int) -> Iterator[bytes]:
    size = KEY_SIZE[family]
    return (bytes(data[at : at + size]) for at in range(0, len(data), size))

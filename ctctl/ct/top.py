"""``ct top``: who has the most entries, grouped by bytes of the table as they lie (``native/rows.c``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from enum import StrEnum
from ipaddress import ip_address

from ctctl._ffi.rows import Field
from ctctl.ct.report import Talker
from ctctl.decode.columns import fields_of
from ctctl.decode.ct import TUPLE_SERVICE
from ctctl.model.identity import FIRST_LOCAL
from ctctl.out.rowtables import Groups
from ctctl.out.rowtext import RowProgram
from ctctl.tables.names import Names, no_names
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.rows import matching
from ctctl.tables.sources.base import CtTable, Source


class By(StrEnum):
    """What ``ct top`` groups by."""

    src = "src"
    dst = "dst"
    pair = "pair"
    service = "service"
    backend = "backend"
    identity = "identity"
    port = "port"


_ADDRESSES = (By.src, By.dst, By.pair)
#: Each agent numbers these itself, of identities some.
_OF_A_NODE = (By.service, By.backend, By.identity)
_NUMBERS = {By.service: "rev_nat", By.backend: "word8", By.identity: "src_sec_id", By.port: "dst_port"}


def top(
    source: Source,
    by: By,
    wanted: Filter = EVERYTHING,
    *,
    limit: int | None = 20,
    names: Names = no_names,
) -> list[Talker]:
    """The groups with the most entries, most first. Raises UsageError if the filter needs an unknown now.

    Of several nodes a number that each gives out itself is a group a node.
    """
    counted = timed = bool(source.tables)
    several = len(source.nodes()) > 1
    kinds: dict[tuple[int, str | None], _Grouper] = {}
    programs = _Programs(by)
    for table in source.tables:
        counted = counted and not table.layout.split_counters and not table.absent & {"packets", "bytes"}
        timed = timed and table.now is not None
        family = table.family if by in _ADDRESSES else 0
        kind = family, table.node if several and by in _OF_A_NODE else None
        totals = kinds.get(kind) or kinds.setdefault(kind, _Grouper(by, family))
        program = programs.of(table)
        for columns in matching(table, wanted):
            program.group(columns, totals.groups)
    found = [
        Talker(
            key=key,
            name=name_of(by, key, names(node)),
            entries=entries,
            expired=expired if timed else None,
            packets=packets if counted and packets else None,  # each entry was made by a packet: 0 is "not counted"
            bytes=octets if counted and packets else None,
            node=node,
        )
        for node, key, (entries, expired, packets, octets) in _groups(kinds, by, limit)
    ]
    found.sort(key=lambda talker: -talker.entries)  # stable: alike ones stay in the order of their keys
    return found[:limit]


def is_of_a_node(by: By, key: str) -> bool:
    """Whether a group is of one node: its number means another thing, or nothing, on any other."""
    return by in _OF_A_NODE and not (by is By.identity and int(key) < FIRST_LOCAL)


def _groups(
    kinds: Mapping[tuple[int, str | None], _Grouper], by: By, limit: int | None
) -> Iterator[tuple[str | None, str, tuple[int, ...]]]:
    """Node, key and figures of the groups that may be among the first."""
    shared: dict[str, tuple[int, ...]] = {}
    for (_family, node), totals in kinds.items():
        # What several nodes share may be much on all together and little on each.
        for key, figures in totals.most(None if by is By.identity and node is not None else limit):
            if node is None or is_of_a_node(by, key):
                yield node, key, figures
            else:
                shared[key] = tuple(map(sum, zip(shared.get(key, (0,) * len(figures)), figures, strict=True)))
    yield from ((None, key, figures) for key, figures in sorted(shared.items(), key=lambda one: int(one[0])))


def name_of(by: By, key: str, names: Mapping[str, str]) -> str | None:
    """What a group is called; None where nothing names it. ``names`` as ``NameBook.shown``."""
    if by is By.service:
        return names.get(f"rev-nat {key}")
    if by is By.backend:
        return names.get(f"backend {key}")
    if by is By.identity:
        return names.get(f"identity {key}")
    if by is By.pair:
        ends = [names.get(end) for end in key.split(" -> ")]
        return " -> ".join(end or "?" for end in ends) if any(ends) else None
    return names.get(key)


class _Grouper:
    """Groups of the rows of any number of tables whose keys are alike."""

    def __init__(self, by: By, family: int) -> None:
        self._by = by
        self._family = family
        half = 4 if family == 4 else 16
        self.groups = Groups({By.src: half, By.dst: half, By.pair: 2 * half}.get(by, 8))

    def most(self, limit: int | None) -> list[tuple[str, tuple[int, ...]]]:
        """The keys with the most entries and their figures, most first, alike ones in the order of the keys."""
        return [(self._text(raw), figures) for raw, figures in self.groups.most(limit)]

    def _text(self, raw: bytes) -> str:
        if self._by not in _ADDRESSES:
            return str(int.from_bytes(raw, "big"))
        half = 4 if self._family == 4 else 16
        return " -> ".join(str(ip_address(raw[at : at + half])) for at in range(0, len(raw), half))


class _Programs:
    """What makes the key of a row and its figures: one program for all tables that are alike, of whatever node."""

    def __init__(self, by: By) -> None:
        self._by = by
        self._made_ones: dict[tuple[int, bool, int | None], RowProgram] = {}

    def of(self, table: CtTable) -> RowProgram:
        """The key of a row and its figures: whether it is expired, its packets, its bytes."""
        alike = table.family, table.layout.split_counters, table.now
        if alike not in self._made_ones:
            self._made_ones[alike] = self._made(*alike)
        return self._made_ones[alike]

    def _made(self, family: int, split: bool, now: int | None) -> RowProgram:
        fields = fields_of(family)
        program = RowProgram(fields["tuple_flags"], TUPLE_SERVICE)
        lifetime = fields["lifetime"]
        program.number("expired", lambda to: None if now is None else program.below(to, lifetime, now))
        program.number("packets", lambda to: None if split else program.take(to, fields["word16"]))
        program.number("bytes", lambda to: None if split else program.take(to, fields["word24"]))
        self._add_key(program, fields)
        return program

    def _add_key(self, program: RowProgram, fields: Mapping[str, Field]) -> None:
        by = self._by
        if by in _ADDRESSES:
            for side in ("src", "dst") if by is By.pair else (by.value,):
                program.copy(fields[side])
            return
        number = fields[_NUMBERS[by]]
        with ExitStack() as only:  # what has no service or backend is of none
            if by is By.backend:
                only.enter_context(program.where(fields["tuple_flags"], TUPLE_SERVICE, TUPLE_SERVICE))
            if by in (By.service, By.backend):
                only.enter_context(program.where(number, (1 << 64) - 1, 0, other=True))
            program.ordered(number)

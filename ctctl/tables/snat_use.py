"""Who uses which ports of SNAT: entries of connections by protocol, egress address and remote end.

Counted from the bytes of the entries by row programs, so that a million of them are no lists of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import numpy as np
from numpy.typing import NDArray

from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED
from ctctl.decode.nat_rows import NatRows, nat_fields
from ctctl.model.tuples import Address
from ctctl.out.rowtables import Groups
from ctctl.out.rowtext import RowProgram

Read = Callable[[], Iterable[NatRows]]


@dataclass(frozen=True, slots=True)
class Ends:
    """Between whom SNAT takes ports: each (protocol, egress, remote, port) has a range of its own."""

    proto: int
    egress: Address
    remote: Address
    remote_port: int


class SnatUse:
    """How many entries each pair of ends has, by family, and which ports.

    The table is read once: reading is most of the work, and what changes meanwhile cannot be in one count and not in
    another. Of each entry that counts eight bytes are kept.
    """

    def __init__(self, read: Read) -> None:
        self._groups: dict[int, Groups] = {}
        #: by family and batch, of each entry in a group the group's number from 0 and its port
        self._codes: dict[int, list[NDArray[np.uint64]]] = {}
        self._programs: dict[int, RowProgram] = {}
        #: all entries of a family, whatever they are of
        self.entries: dict[int, int] = {}
        for rows in read():
            family = rows.family
            groups = self._groups.setdefault(family, Groups(_KEY_SIZE[family]))
            self.entries[family] = self.entries.get(family, 0) + len(rows)
            program = self._program(family)
            program.group(rows, groups)
            places = np.frombuffer(program.find_in(rows, groups), np.uint32)
            self._codes.setdefault(family, []).append(_codes(rows, places))

    def _program(self, family: int) -> RowProgram:
        if family not in self._programs:
            self._programs[family] = _ends_program(family)
        return self._programs[family]

    def most(self, protos: frozenset[int] | None = None) -> tuple[Ends, int] | None:
        """The ends with the most entries; None where there are none."""
        found = [
            (ends, sums[0])
            for family, groups in self._groups.items()
            for ends, sums in ((_ends(family, key), sums) for key, sums in groups.most(_FEW))
            if protos is None or ends.proto in protos
        ]
        return max(found, key=lambda one: one[1], default=None)

    def taken(self, least: int = 1) -> Iterator[Taken]:
        """By family, the ends with at least so many entries and the ports that they take."""
        for family, groups in self._groups.items():
            chosen = groups.counts() >= least
            if chosen.any():
                yield self._taken(family, groups, chosen)

    def _taken(self, family: int, groups: Groups, chosen: NDArray[np.bool_]) -> Taken:
        codes = np.concatenate(self._codes[family])
        if not chosen.all():
            codes = codes[chosen[codes >> _PORT_BITS]]
        codes.sort()
        codes = codes[_first_of_each(codes)]
        numbers = codes >> _PORT_BITS
        starts = np.flatnonzero(_first_of_each(numbers))
        return Taken(family, groups, numbers[starts].astype(np.int64), starts, codes.astype(np.uint16))


@dataclass(frozen=True, slots=True)
class Taken:
    """Ports by ends: of those ``numbers`` of the groups, each ``ports`` from its ``starts`` on, once, ascending."""

    family: int
    groups: Groups
    numbers: NDArray[np.int64]
    starts: NDArray[np.intp]
    ports: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def entries(self) -> NDArray[np.int64]:
        """How many entries each has."""
        found: NDArray[np.int64] = self.groups.counts()[self.numbers].astype(np.int64)
        return found

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many ports each takes."""
        return np.diff(self.starts, append=len(self.ports))

    def within(self, first: int, last: int) -> NDArray[np.int64]:
        """How many of them are from ``first`` to ``last``."""
        return np.add.reduceat(((first <= self.ports) & (self.ports <= last)).astype(np.int64), self.starts)

    def order(self, *columns: NDArray[np.int64]) -> NDArray[np.intp]:
        """The greatest of these columns first, the weightiest first, alike ones in the order of their ends."""
        size = _KEY_SIZE[self.family]
        memory = self.groups.matrices[0][0]
        keys = np.frombuffer(memory, f"S{size}", count=len(self.groups))[self.numbers]
        return np.lexsort((keys, *(-column for column in reversed(columns))))

    def ends(self, at: int) -> Ends:
        """Whose they are."""
        return _ends(self.family, self.groups.key(int(self.numbers[at])))

    def ports_of(self, at: int) -> list[int]:
        """The ports of one."""
        end = self.starts[at + 1] if at + 1 < len(self) else len(self.ports)
        found: list[int] = self.ports[self.starts[at] : end].tolist()
        return found


_PORT_BITS = np.uint64(16)
#: Groups that are looked at for the largest of some protocols.
_FEW = 100
_KEY_SIZE = {4: 11, 6: 35}


def _codes(rows: NatRows, places: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Group and port of each row that is in a group; ``places``: of the groups, from 1."""
    some = np.flatnonzero(places)
    memory, width = rows.matrices[1]
    at = nat_fields(rows.family)["to_port"].at
    pair = np.frombuffer(memory, np.uint8).reshape(-1, width)[some, at : at + 2].astype(np.uint64)
    return (places[some].astype(np.uint64) - np.uint64(1)) << _PORT_BITS | pair[:, 0] << np.uint64(8) | pair[:, 1]


def _first_of_each(ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which are not what stands before them."""
    found = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=found[1:])
    return found


def _ends_program(family: int) -> RowProgram:
    """The key of a connection's entry as it leaves; entries of replies and of errors are in no group."""
    fields = nat_fields(family)
    program = RowProgram()
    with program.where(fields["tuple_flags"], TUPLE_IN | TUPLE_RELATED, 0):
        for name in ("to_addr", "dst", "dst_port", "proto"):
            program.copy(fields[name])
    return program


def _ends(family: int, key: bytes) -> Ends:
    half = 4 if family == 4 else 16
    egress, remote, rest = key[:half], key[half : 2 * half], key[2 * half :]
    return Ends(rest[2], ip_address(egress), ip_address(remote), int.from_bytes(rest[:2], "big"))

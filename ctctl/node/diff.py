"""What ``apply`` has to change, and in which order. Pure.

The order is what keeps a live service resolving at every moment: backends are there before a slot
or a Maglev table names them, slots before a frontend counts them; what is no longer named goes
last, the naming side first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.node import tables as t

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: bytes of a service key behind the backend slot: protocol, scope and pad
_BEHIND_SLOT = 4


class Phase(IntEnum):
    """Steps of an update, in order. Between two phases marked as a border, programs that run may finish."""

    BACKENDS = 0
    REFERENCES = 1
    IDENTITIES = 2
    MAGLEV = 3
    SLOTS = 4
    FRONTENDS = 5
    REMOVE_FRONTENDS = 6
    REMOVE_REFERENCES = 7
    REMOVE_BACKENDS = 8


#: Phases before which every program that still runs on what came before must have ended.
BORDERS = frozenset({Phase.REMOVE_FRONTENDS, Phase.REMOVE_REFERENCES, Phase.REMOVE_BACKENDS})


@dataclass(frozen=True, slots=True)
class Change:
    """One record to write or remove. ``before`` None: it is new; ``after`` None: it goes.

    Values of the Maglev map are whole tables (``<u4``).
    """

    phase: Phase
    table: str
    key: bytes
    before: bytes | None
    after: bytes | None

    @property
    def action(self) -> str:
        """add, change or remove."""
        if self.before is None:
            return "add"
        return "remove" if self.after is None else "change"

    def reversed(self) -> Change:
        """The change that takes this one back."""
        return Change(self.phase, self.table, self.key, self.after, self.before)


def changes(have: t.Tables, want: t.Tables) -> list[Change]:
    """Everything to do to get from ``have`` to ``want``, in order. Both may hold the Maglev tables."""
    found = [change for table in sorted(want) for change in _table_changes(table, have.get(table, {}), want[table])]
    return sorted(found, key=lambda change: change.phase)


def with_maglev(records: t.Tables, maglev: Mapping[bytes, NDArray[np.uint32]], version: int = 4) -> t.Tables:
    """``records`` with the Maglev tables of a family beside them, as bytes."""
    name = pins.of_family(t.MAGLEV, version)
    return {**records, name: {key: table.astype("<u4").tobytes() for key, table in maglev.items()}}


def _table_changes(table: str, have: Mapping[bytes, bytes], want: Mapping[bytes, bytes]) -> Iterator[Change]:
    for key, value in want.items():
        before = have.get(key)
        if before != value:
            yield Change(_write_phase(table, key), table, key, before, value)
    for key, value in have.items():
        if key not in want:
            yield Change(_remove_phase(table, key), table, key, value, None)


def _slot(key: bytes) -> bytes:
    """The backend slot of a service key, of either family; 0 for the frontend."""
    return key[-_BEHIND_SLOT - 2 : -_BEHIND_SLOT]


def _write_phase(table: str, key: bytes) -> Phase:
    table = pins.of_ipv4(table)
    if table == t.BACKENDS:
        return Phase.BACKENDS
    if table == t.MAGLEV:
        return Phase.MAGLEV
    if table == t.SERVICES:
        return Phase.SLOTS if any(_slot(key)) else Phase.FRONTENDS
    # A policy that names an identity comes before the identity itself.
    return Phase.IDENTITIES if table in (t.IPCACHE, t.ENDPOINTS) else Phase.REFERENCES


def _remove_phase(table: str, key: bytes) -> Phase:
    table = pins.of_ipv4(table)
    if table == t.SERVICES:
        return Phase.REMOVE_REFERENCES if any(_slot(key)) else Phase.REMOVE_FRONTENDS
    return Phase.REMOVE_BACKENDS if table == t.BACKENDS else Phase.REMOVE_REFERENCES

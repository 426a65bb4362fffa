"""Write configuration tables: whole ones into fresh maps, single changes into live ones."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ctctl.config.node import NodeFile
from ctctl.datapath import tables as t
from ctctl.datapath.diff import Change, with_maglev
from ctctl.errors import CtctlError, KernelError
from ctctl.kernel.map import Map, MapType

_FIRST = bytes(4)


def wanted_tables(node: NodeFile) -> t.Tables:
    """Every configuration table of a resolved node file, Maglev tables included."""
    return with_maglev(t.table_records(node), t.maglev_tables(node))


def write_tables(maps: Mapping[str, Map], wanted: t.Tables) -> None:
    """Write every record into its map; a table that no loaded program reads has no map and is left out.

    Raises CtctlError when a table does not fit its map.
    """
    for name, records in wanted.items():
        table = maps.get(name)
        if table is None:
            continue
        if len(records) > table.info.max_entries:
            raise CtctlError(f"{name} holds {table.info.max_entries} entries, the node file needs {len(records)}")
        for key, value in records.items():
            put(table, key, value)


def read_tables(maps: Mapping[str, Map]) -> t.Tables:
    """The configuration tables as they are in the kernel."""
    return {
        name: {key: inner_value(value) if name == t.MAGLEV else value for key, value in table.items()}
        for name, table in maps.items()
        if name in (*t.CONFIG_TABLES, t.MAGLEV)
    }


def put(table: Map, key: bytes, value: bytes) -> None:
    """Write one record. A Maglev table becomes an inner map first: readers see the old or the new one."""
    if table.info.type != MapType.HASH_OF_MAPS:
        table.update(key, value)
        return
    with new_lookup_table(len(value) // 4) as inner:
        inner.update(_FIRST, value)
        table.update(key, inner.fd.to_bytes(4, "little"))


def new_lookup_table(size: int) -> Map:
    """An inner map of the Maglev map: one value of ``size`` backend ids (spec/abi.md)."""
    return Map.create("maglev_inner", MapType.ARRAY, 4, 4 * size, 1)


def inner_value(map_id: bytes) -> bytes:
    """The content of a Maglev inner map, which a look-up gives by its id; empty if it just went."""
    with contextlib.suppress(CtctlError), Map.from_id(int.from_bytes(map_id, "little")) as inner:
        return inner.lookup(_FIRST) or b""
    return b""


def carry_out(maps: Mapping[str, Map], change: Change) -> None:
    """Make one change to a live table. Raises KernelError."""
    table = maps[change.table]
    if change.after is not None:
        put(table, change.key, change.after)
    else:
        table.delete(change.key)


class Quiescence:
    """Waits until every program that was running has ended.

    An update of a map of maps returns only after an RCU grace period (kernel/bpf/syscall.c,
    maybe_wait_bpf_programs), so one of our own, with nothing else to it, is the wait.
    """

    def __init__(self) -> None:
        self._inner = Map.create("ctctl_quiesce", MapType.ARRAY, 4, 4, 1)
        try:
            self._outer = Map.create("ctctl_quiesce", MapType.ARRAY_OF_MAPS, 4, 4, 1, inner=self._inner)
        except KernelError:
            self._inner.close()
            raise

    def wait(self) -> None:
        """Returns when no program still runs on what maps held before."""
        self._outer.update(_FIRST, self._inner.fd.to_bytes(4, "little"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._outer.close()
        self._inner.close()

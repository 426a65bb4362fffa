"""Write configuration tables: whole ones into fresh maps, single changes into live ones."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from ctctl.abi import pins
from ctctl.config.node import NodeFile
from ctctl.errors import CtctlError, KernelError
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.map_batch import NO_BATCH
from ctctl.node import tables as t
from ctctl.node.diff import Change, with_maglev

_FIRST = bytes(4)
_BATCH = 4096
#: inner maps made before they are put into the outer one: each is a descriptor
_TABLES_AT_ONCE = 128


def wanted_tables(node: NodeFile) -> t.Tables:
    """Every configuration table of a resolved node file, Maglev tables included."""
    wanted = with_maglev(t.table_records(node), t.maglev_tables(node))
    return with_maglev(wanted, t.maglev_tables(node, 6), 6) if node.datapath.ipv6 else wanted


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
        put_all(table, records)


def read_tables(maps: Mapping[str, Map]) -> t.Tables:
    """The configuration tables as they are in the kernel."""
    return {
        name: {key: inner_value(value) if pins.of_ipv4(name) == t.MAGLEV else value for key, value in table.items()}
        for name, table in maps.items()
        if pins.of_ipv4(name) in (*t.CONFIG_TABLES, t.MAGLEV)
    }


def put_all(table: Map, records: Mapping[bytes, bytes]) -> None:
    """Write many records, in batches where the kernel has them for this type of map."""
    waiting = list(records.items())
    if table.info.type == MapType.HASH_OF_MAPS:
        for start in range(0, len(waiting), _TABLES_AT_ONCE):
            _put_lookup_tables(table, waiting[start : start + _TABLES_AT_ONCE])
    else:
        _put_batch(table, waiting)


def put(table: Map, key: bytes, value: bytes) -> None:
    """Write one record. A Maglev table becomes an inner map first: readers see the old or the new one."""
    if table.info.type == MapType.HASH_OF_MAPS:
        _put_lookup_tables(table, [(key, value)])
    else:
        table.update(key, value)


def _put_lookup_tables(table: Map, records: Sequence[tuple[bytes, bytes]]) -> None:
    """Each write of a map of maps waits for a grace period, some 15 ms: a batch waits once."""
    with contextlib.ExitStack() as closing:
        descriptors = []
        for key, value in records:
            inner = closing.enter_context(new_lookup_table(len(value) // 4))
            inner.update(_FIRST, value)
            descriptors.append((key, inner.fd.to_bytes(4, "little")))
        _put_batch(table, descriptors)


def _put_batch(table: Map, records: Sequence[tuple[bytes, bytes]]) -> None:
    try:
        for start in range(0, len(records), _BATCH):
            keys, values = zip(*records[start : start + _BATCH], strict=True)
            table.update_batch(b"".join(keys), b"".join(values))
    except KernelError as error:
        if error.errno not in NO_BATCH:
            raise
        for key, value in records:
            table.update(key, value)


def new_lookup_table(size: int) -> Map:
    """An inner map of the Maglev map: one value of ``size`` backend ids (docs/reference/abi.md)."""
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


def carry_out_maglev(maps: Mapping[str, Map], changes: Sequence[Change]) -> None:
    """Make changes to the live Maglev map, all at once: each by itself would wait. Raises KernelError."""
    if not changes:
        return
    table = maps[changes[0].table]
    put_all(table, {change.key: change.after for change in changes if change.after is not None})
    gone = [change.key for change in changes if change.after is None]
    if gone:
        table.delete_batch(b"".join(gone))


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

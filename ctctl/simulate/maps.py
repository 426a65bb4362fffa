"""Private, unpinned maps for a simulation: the datapath's own, made small, filled from a node file."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ctctl.abi import pins
from ctctl.kernel.map import Map, MapFlag, MapType
from ctctl.node import diff, tables

if TYPE_CHECKING:
    from ctctl.config.node import NodeFile
    from ctctl.kernel.object import BpfObject


#: entries of a table whose size the node file leaves at the default: enough, and made in a moment
_DEFAULT_ENTRIES = 16384
_SPARE_ENTRIES = 1024
_EVENT_BYTES = 1 << 17


class SimulatedMaps:
    """The maps of one simulated node, by name; owns them. Objects that are loaded share them."""

    def __init__(self, nf: NodeFile, *, full_size: bool = False) -> None:
        self._nf = nf
        self._sizes = _sizes(nf, full_size)
        self._maps: dict[str, Map] = {}
        #: what the configuration tables hold by the node file
        self._written: tables.Tables = {}

    def __getitem__(self, name: str) -> Map:
        return self._maps[name]

    def get(self, name: str) -> Map | None:
        """The map of that name, if an object that was loaded has it."""
        return self._maps.get(name)

    def share(self, bpf: BpfObject) -> None:
        """Point an object that is not loaded yet at these maps; size those that it will make."""
        size = self._nf.datapath.lb.maglev_table_size
        for name in bpf.map_names():
            if name in self._maps:
                bpf.reuse_map(name, self._maps[name])
                continue
            kind, _, _, entries = bpf.map_shape(name)
            if kind == MapType.HASH_OF_MAPS:
                with maglev_map(size) as template:
                    bpf.set_inner_map(name, template)
            if kind == MapType.RINGBUF:
                bpf.set_max_entries(name, _EVENT_BYTES)
            elif name in self._sizes:
                bpf.set_max_entries(name, self._sizes[name])
            else:
                bpf.set_max_entries(name, min(entries, _DEFAULT_ENTRIES))

    def adopt(self, bpf: BpfObject) -> None:
        """Take the maps that a loaded object made, and write the configuration into those."""
        fresh = [name for name in bpf.map_names() if name not in self._maps]
        for name in fresh:
            self._maps[name] = bpf.map(name).dup()
        if any(pins.of_ipv4(name) in (*tables.CONFIG_TABLES, tables.MAGLEV) for name in fresh):
            self.configure(self._nf)

    def begin(self, nf: NodeFile) -> None:
        """Empty every table, and write the configuration of a node file of the same ``shape``."""
        for table in self._maps.values():
            kind = table.info.type
            if kind in (MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE, MapType.HASH_OF_MAPS):
                for key in list(table.every_key()):
                    table.delete(key)
        self._written = {}
        self.configure(nf)

    def configure(self, nf: NodeFile) -> None:
        """Bring the configuration tables to what ``nf`` says, as ``apply`` would on a live node."""
        self._nf = nf
        want = diff.with_maglev(tables.table_records(nf), tables.maglev_tables(nf))
        if nf.datapath.ipv6:
            want = diff.with_maglev(want, tables.maglev_tables(nf, 6), 6)
        present = {name: records for name, records in want.items() if name in self._maps}
        for change in diff.changes(self._written, present):
            self.write(change.table, change.key, change.after)
        self._written = present

    def write(self, table: str, key: bytes, value: bytes | None) -> None:
        """Write one record of a configuration table, or remove it (None); a Maglev table is a value."""
        if table not in self._maps:
            return
        target = self._maps[table]
        if value is None:
            target.delete(key)
        elif pins.of_ipv4(table) == tables.MAGLEV:
            with maglev_map(len(value) // 4) as inner:
                inner.update(bytes(4), value)
                target.update(key, inner.fd.to_bytes(4, "little"))
        else:
            target.update(key, value)

    def entries(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        """Every entry of a table, in no order; none if no object that was loaded has it."""
        table = self._maps.get(name)
        if table is None:
            return
        if table.info.type == MapType.LRU_HASH and table.info.max_entries > _DEFAULT_ENTRIES:
            for batch in table.batches():
                yield from zip(map(bytes, batch.keys), map(bytes, batch.values), strict=True)
        else:
            yield from table.items()

    def close(self) -> None:
        for table in self._maps.values():
            table.close()
        self._maps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def maglev_map(size: int) -> Map:
    """An inner map of the Maglev map: one value, the whole table of ``size`` backend ids."""
    return Map.create("cilium_lb4_magl", MapType.ARRAY, 4, size * 4, 1, flags=MapFlag(0))


def shape(nf: NodeFile) -> tuple[tuple[str, int], ...]:
    """What the maps of a simulation are made by: node files of one shape can have the same maps."""
    return (*sorted(_sizes(nf, False).items()), ("", nf.datapath.lb.maglev_table_size))


def smallest_lru(nf: NodeFile) -> int:
    """Entries of the smallest table that makes room by itself."""
    sizes = _sizes(nf, False)
    return min(size for name, size in sizes.items() if pins.of_ipv4(name) not in tables.CONFIG_TABLES)


def _sizes(nf: NodeFile, full_size: bool) -> dict[str, int]:
    defaults = tables.map_sizes(type(nf)(node=nf.node))
    wanted = tables.map_sizes(nf)
    sizes = {
        name: _DEFAULT_ENTRIES if size == defaults[name] and not full_size else size for name, size in wanted.items()
    }
    for name, records in tables.table_records(nf).items():
        # By powers of two: most nodes' are the same then.
        sizes[name] = 1 << (len(records) * 2 + _SPARE_ENTRIES).bit_length()
    return sizes

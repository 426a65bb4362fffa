"""A node's connections as records of our own tables: conntrack, SNAT, reverse NAT and Maglev.

Whatever layout and clock they were in, they come out in those of our datapath (docs/reference/real-nodes.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.decode.ct import decode_entry, encode_value
from ctctl.decode.nat import encode_nat, encode_nat_key, encode_nat_value
from ctctl.model.entry import CtEntry, CtFlags, Layout
from ctctl.node import records as rec
from ctctl.simulate.whatif import StartTable

if TYPE_CHECKING:
    from ctctl.tables.sources.base import CtTable
    from ctctl.tables.sources.listings import Listings


def start_tables(tables: list[CtTable], listings: Listings, now: int | None) -> tuple[StartTable, ...]:
    """The records of a node's tables to start with; ``now`` in seconds."""
    return (*_conntrack(tables, now), *_translations(listings), *_reverse(listings), *_maglev(listings))


def now_of(tables: list[CtTable], notes: list[str], otherwise: int | None = None) -> int | None:
    """The tables' time in seconds; where they do not say, ``otherwise``, else that of their newest report, noted."""
    for table in tables:
        if table.now is not None:
            return table.clock.seconds(table.now)
    newest = [table.clock.seconds(table.now_at_least) for table in tables if table.now_at_least is not None]
    if otherwise is None and newest:
        notes.append(f"the source does not say when it was read: the clock starts at its newest report, {max(newest)}")
        return max(newest)
    return otherwise


def _conntrack(tables: list[CtTable], now: int | None) -> Iterator[StartTable]:
    for table in tables:
        name = table.name if table.name in pins.CT_TABLES else None
        if name is not None:
            yield StartTable(name, tuple(own_records(table)))
    dsr = [entry for table in tables if table.layout.has_nat for entry in _dsr_entries(table)]
    for family, name in pins.SNAT_TABLES.items():
        records = tuple(_dsr_record(entry, now or 0) for entry in dsr if entry.tuple.src.version == family)
        if records:
            yield StartTable(name, records)


def own_records(table: CtTable) -> Iterator[tuple[bytes, bytes]]:
    """A table's entries in our own layout and clock."""
    as_they_are = table.layout in (Layout.V1_16, Layout.V1_18) and table.clock.hz is None and table.raw
    for keys, values in table.read():
        for key, value in zip(map(bytes, keys), map(bytes, values), strict=True):
            if as_they_are:
                yield key, value
            else:
                entry = decode_entry(key, value, table.layout)
                yield key, encode_value(_in_seconds(entry, table), Layout.V1_16)


def _in_seconds(entry: CtEntry, table: CtTable) -> CtEntry:
    seconds = table.clock.seconds
    changed = replace(
        entry,
        value=None,
        lifetime=seconds(entry.lifetime),
        last_tx_report=seconds(entry.last_tx_report),
        last_rx_report=seconds(entry.last_rx_report),
    )
    if table.layout.split_counters:
        changed = replace(changed, packets=entry.tx_packets, bytes=entry.tx_bytes)
    return changed


def _dsr_entries(table: CtTable) -> Iterator[CtEntry]:
    for keys, values in table.read():
        for key, value in zip(map(bytes, keys), map(bytes, values), strict=True):
            if int.from_bytes(value[36:38], "little") & CtFlags.DSRInternal:
                entry = decode_entry(key, value, table.layout)
                if entry.nat_addr is not None:
                    yield entry


def _dsr_record(entry: CtEntry, now: int) -> tuple[bytes, bytes]:
    """From 1.19 a DSR entry holds the service's address itself; up to 1.18 an SNAT entry of its reply does."""
    value = encode_nat_value(ip_address(str(entry.nat_addr)), entry.nat_port or 0, created=now * 1_000_000_000)
    return encode_nat_key(entry.tuple.reversed(), 0), value


def _translations(listings: Listings) -> Iterator[StartTable]:
    for family, name in pins.SNAT_TABLES.items():
        entries = [entry for entry in listings.nat if entry.tuple.src.version == family]
        if entries:
            yield StartTable(name, tuple(map(encode_nat, entries)))


def _reverse(listings: Listings) -> Iterator[StartTable]:
    """Reverse NAT of every id: replies of services of other protocols, and of ones that are gone."""
    for family, name in ((4, pins.LB4_REVERSE_NAT), (6, pins.LB6_REVERSE_NAT)):
        found = [one for one in listings.rev_nats if one.addr.version == family]
        if found:
            yield StartTable(
                name, tuple((rec.rev_nat_key(one.rev_nat), rec.rev_nat_value(one.addr, one.port)) for one in found)
            )


def _maglev(listings: Listings) -> Iterator[StartTable]:
    """The node's own tables, where the source shows them: as whole values, as ``SimulatedMaps.write`` takes them."""
    for family, name in ((4, pins.LB4_MAGLEV), (6, pins.LB6_MAGLEV)):
        found = [one for one in listings.maglev if one.family == family and one.table]
        if found:
            records = ((rec.rev_nat_key(m.rev_nat), struct.pack(f"<{len(m.table)}I", *m.table)) for m in found)
            yield StartTable(name, tuple(records))

"""The tables of a lake beside conntrack: their columns, and rows of them from a node's listings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final

from ctctl.fleet.lake import Collection
from ctctl.fleet.nat import nat_rows
from ctctl.model.clock import Clock
from ctctl.model.nat import NatEntry
from ctctl.model.service import Backend, EndpointRecord, IpcacheRecord, ServiceSlot
from ctctl.model.tuples import Address, FlowTuple
from ctctl.tables.show.arrow import CT_COLUMNS, Stamp, pyarrow, schema_of, text_of_ipv6
from ctctl.tables.sources.listings import Listings

_STAMP: Final = {
    "cluster": "word",
    "node": "word",
    "collected_at": "timestamp",
    "collection": "word",
    "boot_id": "word",
}


def _ends(*sides: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for side in sides:
        found |= {side: "word", f"{side}_hi": "int64", f"{side}_lo": "int64"}
    return found


#: The tables of a lake: column name to kind (``arrow.CT_COLUMNS``).
TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "ct": CT_COLUMNS,
    "nat": {
        **_STAMP,
        "map": "word",
        "family": "int32",
        "proto": "int32",
        "direction": "word",
        "related": "bool",
        **_ends("src"),
        "src_port": "int32",
        "src_name": "word",
        **_ends("dst"),
        "dst_port": "int32",
        "dst_name": "word",
        "xlate": "word",
        **_ends("to_addr"),
        "to_port": "int32",
        "age_s": "int64",
        "needs_ct": "uint64",
    },
    "services": {
        **_STAMP,
        "family": "int32",
        **_ends("addr"),
        "port": "int32",
        "proto": "int32",
        "scope": "word",
        "slot": "int32",
        "rev_nat": "int32",
        "name": "word",
        "type": "word",
        "count": "int32",
        "flags": "int32",
        "backend_id": "uint64",
        "backend": "word",
    },
    "backends": {
        **_STAMP,
        "backend_id": "uint64",
        "family": "int32",
        **_ends("addr"),
        "port": "int32",
        "proto": "int32",
        "state": "word",
        "name": "word",
        "cluster_id": "int32",
        "zone": "int32",
    },
    "ipcache": {
        **_STAMP,
        "family": "int32",
        "prefix": "word",
        **_ends("first"),
        "prefix_bits": "int32",
        "identity": "int64",
        "identity_name": "word",
        "tunnel_endpoint": "word",
        "cluster_id": "int32",
    },
    "endpoints": {
        **_STAMP,
        "family": "int32",
        **_ends("addr"),
        "endpoint_id": "int64",
        "name": "word",
        "identity": "int64",
        "host": "bool",
        "ifindex": "int64",
        "mac": "word",
    },
}
#: Rows of a listing that are made at once.
_CHUNK = 1 << 16
_HALF = 1 << 64


def listing_rows(table: str, found: Listings, stamp: Stamp, time: tuple[Clock, int | None]) -> Iterable[Any]:
    """The rows of one table as Arrow tables, the same order for the same content."""
    # SNAT entries are kept as bytes, but for those of listings that differ in what they show.
    kept = found.nat_tables() if table == "nat" else None
    if kept is not None:
        yield from nat_rows(kept, TABLES["nat"], stamp, time)
        return
    records: Sequence[Any] = getattr(found, table)
    make, order = _MAKERS[table]
    records = sorted(records, key=order)
    for start in range(0, len(records), _CHUNK):
        part = records[start : start + _CHUNK]
        same: dict[str, list[object]] = {name: [getattr(stamp, name)] * len(part) for name in _STAMP}
        columns = {**same, **make(part, stamp.names, time)}
        yield _arrow(table, columns)


def _arrow(table: str, columns: Mapping[str, list[object]]) -> Any:
    pa = pyarrow()
    schema = schema_of(TABLES[table])
    arrays = [_array(columns[entry.name], entry.type) for entry in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: list[object], kind: Any) -> Any:
    """A column. A number that the table itself could not hold, in a listing that somebody wrote, is not known."""
    pa = pyarrow()
    try:
        return pa.array(values, kind)
    except (OverflowError, pa.ArrowInvalid):
        signed = not str(kind).startswith("u")
        low, high = (-(1 << kind.bit_width - 1), 1 << kind.bit_width - 1) if signed else (0, 1 << kind.bit_width)
        return pa.array([value if isinstance(value, int) and low <= value < high else None for value in values], kind)


def empty_rows(table: str) -> Any:
    """A table without rows."""
    return schema_of(TABLES[table]).empty_table()


def plain_schema(columns: Mapping[str, str]) -> Any:
    """The schema of columns with plain texts for dictionaries: what an engine reads of a lake's files."""
    return schema_of({name: "text" if kind == "word" else kind for name, kind in columns.items()})


def files_of(table: str, collections: Sequence[Collection]) -> list[str]:
    """Where the rows of a table lie, by their paths in the lake."""
    return [one.tables[table].path for one in collections if table in one.tables and one.tables[table].rows]


def halves(address: Address) -> tuple[int, int]:
    """(hi, lo) of an address as signed numbers, as the columns of ``arrow`` have them."""
    high, low = divmod(int(address), _HALF)
    return _signed(high), _signed(low)


def _signed(number: int) -> int:
    return number - _HALF if number >= _HALF >> 1 else number


class _Texts(dict[Address, str]):
    """The text of each address, made once: in a listing they come again, in columns and as what is named."""

    def __missing__(self, address: Address) -> str:
        self[address] = text = _text_of(address)
        return text


def _text_of(address: Address) -> str:
    """As ``str`` has it, of IPv6 sooner."""
    return text_of_ipv6(address.packed) if address.version == 6 and address.scope_id is None else str(address)


def _address(name: str, addresses: Sequence[Address | None], texts: _Texts) -> dict[str, list[object]]:
    pairs = [(None, None) if address is None else halves(address) for address in addresses]
    return {
        name: [None if address is None else texts[address] for address in addresses],
        f"{name}_hi": [high for high, _ in pairs],
        f"{name}_lo": [low for _, low in pairs],
    }


Names = Mapping[str, str]
Time = tuple[Clock, int | None]


def _nat(part: Sequence[NatEntry], names: Names, time: Time) -> dict[str, list[object]]:
    clock, now = time
    texts = _Texts()

    def age(entry: NatEntry) -> int | None:
        if entry.age_s is not None or not entry.created or now is None:
            return entry.age_s
        return clock.seconds(now) - clock.seconds(entry.created)

    return {
        "map": [entry.map for entry in part],
        "family": [entry.tuple.src.version for entry in part],
        "proto": [entry.tuple.proto for entry in part],
        "direction": [entry.direction.value for entry in part],
        "related": [entry.related for entry in part],
        **_address("src", [entry.tuple.src for entry in part], texts),
        "src_port": [entry.tuple.src_port for entry in part],
        "src_name": [names.get(texts[entry.tuple.src]) for entry in part],
        **_address("dst", [entry.tuple.dst for entry in part], texts),
        "dst_port": [entry.tuple.dst_port for entry in part],
        "dst_name": [names.get(texts[entry.tuple.dst]) for entry in part],
        "xlate": [entry.xlate for entry in part],
        **_address("to_addr", [entry.to_addr for entry in part], texts),
        "to_port": [entry.to_port for entry in part],
        "age_s": [age(entry) for entry in part],
        "needs_ct": [entry.needs_ct for entry in part],
    }


def _services(part: Sequence[ServiceSlot], names: Names, _time: Time) -> dict[str, list[object]]:
    texts = _Texts()
    return {
        "family": [slot.addr.version for slot in part],
        **_address("addr", [slot.addr for slot in part], texts),
        **{name: [getattr(slot, name) for slot in part] for name in ("port", "proto", "scope", "slot", "rev_nat")},
        "name": [names.get(f"service {slot.rev_nat}") or names.get(texts[slot.addr]) for slot in part],
        **{
            name: [getattr(slot, name) for slot in part] for name in ("type", "count", "flags", "backend_id", "backend")
        },
    }


def _backends(part: Sequence[Backend], names: Names, _time: Time) -> dict[str, list[object]]:
    texts = _Texts()
    return {
        "family": [one.addr.version for one in part],
        **_address("addr", [one.addr for one in part], texts),
        "name": [names.get(texts[one.addr]) for one in part],
        **{
            name: [getattr(one, name) for one in part]
            for name in ("backend_id", "port", "proto", "state", "cluster_id", "zone")
        },
    }


def _ipcache(part: Sequence[IpcacheRecord], names: Names, _time: Time) -> dict[str, list[object]]:
    texts = _Texts()
    networks = [ip_network(one.prefix, strict=False) for one in part]
    return {
        "family": [network.version for network in networks],
        "prefix": [one.prefix for one in part],
        **_address("first", [network.network_address for network in networks], texts),
        "prefix_bits": [network.prefixlen for network in networks],
        "identity": [one.identity for one in part],
        "identity_name": [names.get(f"identity {one.identity}") for one in part],
        "tunnel_endpoint": [one.tunnel_endpoint for one in part],
        "cluster_id": [one.cluster_id for one in part],
    }


def _endpoints(part: Sequence[EndpointRecord], names: Names, _time: Time) -> dict[str, list[object]]:
    texts = _Texts()
    return {
        "family": [one.addr.version for one in part],
        **_address("addr", [one.addr for one in part], texts),
        "endpoint_id": [one.endpoint_id for one in part],
        "name": [names.get(texts[one.addr]) for one in part],
        "identity": [one.identity for one in part],
        "host": [one.is_host for one in part],
        "ifindex": [one.ifindex for one in part],
        "mac": [one.mac for one in part],
    }


def _order(flow: FlowTuple) -> tuple[int, ...]:
    """Where an entry goes among those of its family: by the end that is elsewhere."""
    return int(flow.dst), flow.proto, int(flow.src), flow.src_port, flow.dst_port


_MAKERS: Final[Mapping[str, tuple[Callable[[Any, Names, Time], dict[str, list[object]]], Callable[[Any], Any]]]] = {
    "nat": (_nat, lambda one: (one.direction.value, one.tuple.src.version, *_order(one.tuple))),
    "services": (
        _services,
        lambda one: (one.addr.version, int(one.addr), one.port, one.proto or 0, one.scope, one.slot),
    ),
    "backends": (_backends, lambda one: one.backend_id),
    "ipcache": (_ipcache, lambda one: one.prefix),
    "endpoints": (_endpoints, lambda one: (one.addr.version, int(one.addr))),
}
#: The tables that are read from a node's listings.
LISTED: Final = tuple(_MAKERS)

#: What ``collections`` says of each collection, as a table of SQL.
COLLECTION_COLUMNS: Final = {
    **_STAMP,
    "time_evidence": "text",
    "source": "text",
    "complete": "bool",
    "latest": "bool",
    **{f"has_{table}": "bool" for table in TABLES},
    **{f"has_{family}_{protocol}": "bool" for family in ("ipv4", "ipv6") for protocol in ("tcp", "other")},
    **{f"{table}_rows": "int64" for table in TABLES},
}


def collection_rows(collections: Sequence[Collection]) -> Any:
    """The collections as an Arrow table. ``latest``: the newest of its node."""
    newest = {(one.cluster, one.node): one.collection for one in collections}  # they come oldest first
    rows = [
        {
            **{name: getattr(one, name) for name in (*_STAMP, "time_evidence", "source", "complete")},
            "latest": newest[one.cluster, one.node] == one.collection,
            **{f"has_{table}": table in one.tables for table in TABLES},
            **{
                f"has_{family}_{word}": f"{family}/{protocol}" in one.covers
                for family in ("ipv4", "ipv6")
                for word, protocol in (("tcp", "TCP"), ("other", "non-TCP"))
            },
            **{f"{table}_rows": one.tables[table].rows if table in one.tables else None for table in TABLES},
        }
        for one in collections
    ]
    return pyarrow().Table.from_pylist(rows, schema=plain_schema(COLLECTION_COLUMNS))


def latest_of(collections: Sequence[Collection]) -> list[Collection]:
    """The newest collection of each node."""
    return list({(one.cluster, one.node): one for one in collections}.values())

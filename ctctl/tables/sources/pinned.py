"""The tables pinned beside the conntrack ones: services, SNAT, identities, endpoints, policy, sockets, counters."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ctctl.abi import pins
from ctctl.decode.ct import TUPLE_IN
from ctctl.errors import DecodeError, KernelError, NotFoundError
from ctctl.kernel.map import Map
from ctctl.kernel.map_batch import ENOTSUPP
from ctctl.model.units import decimal
from ctctl.tables.sources.listings import Listings

# What decodes a table is imported where there is one.
if TYPE_CHECKING:
    from ctctl.decode.nat_rows import NatRows, NatTable
    from ctctl.model.nat import NatEntry
    from ctctl.model.service import MaglevTable
    from ctctl.model.tuples import FlowTuple

#: Entries a batch.
_BATCH = 8192
#: Tables by kind of listing (attributes of ``Listings``).
TABLES: Final[dict[str, tuple[str, ...]]] = {
    "services": (pins.LB4_SERVICES, pins.LB6_SERVICES),
    "backends": (pins.LB4_BACKENDS, pins.LB6_BACKENDS),
    "rev_nats": (pins.LB4_REVERSE_NAT, pins.LB6_REVERSE_NAT),
    "source_ranges": (pins.LB4_SOURCE_RANGE, pins.LB6_SOURCE_RANGE),
    "ipcache": (pins.IPCACHE, pins.IPCACHE_V2),
    "endpoints": (pins.ENDPOINTS,),
    "nat": (pins.SNAT4, pins.SNAT6),
    "maglev": (pins.LB4_MAGLEV, pins.LB6_MAGLEV),
    "sockets": (pins.LB4_SOCKETS, pins.LB6_SOCKETS),
    "tunnels": (pins.TUNNELS,),
    "counters": (pins.CILIUM_METRICS,),
    #: and any that begins with this
    "policy": (pins.CILIUM_POLICY,),
}
#: What every reader asks for who does not say: policy and counters are read by their own commands only.
COMMON: Final = tuple(kind for kind in TABLES if kind not in ("policy", "counters", "sockets", "tunnels"))
#: Errors of maps that exist and cannot be listed from here.
_UNREADABLE = frozenset({errno.EINVAL, errno.ENOTSUP, ENOTSUPP})


def table_names(names: Iterable[str]) -> list[str]:
    """Those of pinned maps that a listing shows."""
    known = {name for kind, tables in TABLES.items() for name in tables if kind != "policy"}
    return [name for name in names if name in known or policy_endpoint(name) is not None]


def policy_endpoint(name: str) -> int | None:
    """The endpoint whose policy map is called so; None if it is none."""
    for prefix in (pins.CILIUM_POLICY_V2, pins.CILIUM_POLICY):
        rest = name.removeprefix(prefix)
        if rest != name and (number := decimal(rest)) is not None:
            return number
    return None


def read_listings(directory: Path, kinds: Collection[str] = COMMON) -> Listings:
    """These kinds of the tables in a directory. A missing table is an empty list.

    Records of sizes that no known version has are left out and named in ``problems``.
    """
    found = Listings()
    for kind in kinds:
        names = _policy_names(directory) if kind == "policy" else TABLES[kind]
        there = [_read_table(found, kind, directory / name) for name in names]
        if not any(there):
            found.missing.add(kind)
    if "policy" in kinds:
        _count_policy(found, directory)
    return found


def _policy_names(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir() if policy_endpoint(path.name) is not None)
    except OSError:
        return []


def _read_table(found: Listings, kind: str, path: Path) -> bool:
    """Whether there is such a table; what could be read of it is in ``found``."""
    try:
        with Map.open_pinned(path, read_only=True) as table:
            _read_listing(found, kind, path.name, table)
    except NotFoundError:
        return False
    except DecodeError as error:
        found.problems.append(f"{path.name}: {error}")
    except KernelError as error:
        if error.errno not in _UNREADABLE:
            raise
        found.problems.append(f"{path.name} cannot be read: {error}")
    return True


def _decoder(kind: str) -> Callable[[bytes, bytes], object]:
    from ctctl.decode import services

    decoders: dict[str, Callable[[bytes, bytes], object]] = {
        "services": services.decode_service,
        "backends": services.decode_backend,
        "rev_nats": services.decode_rev_nat,
        "source_ranges": services.decode_source_range,
        "ipcache": services.decode_ipcache,
        "endpoints": services.decode_endpoint,
        "sockets": services.decode_socket_nat,
        "tunnels": services.decode_tunnel,
    }
    return decoders[kind]


def _read_listing(found: Listings, kind: str, name: str, table: Map) -> None:
    from ctctl.decode.nat import nat_family
    from ctctl.decode.policy import decode_counter, decode_policy

    if kind == "nat":
        family = nat_family(table.info.key_size, table.info.value_size)
        for batch in table.batches(_BATCH):
            found.listed_nat().add_memory(family, batch.key_bytes, batch.value_bytes)
    elif kind == "maglev":
        found.maglev.extend(_maglev(table, 6 if name == pins.LB6_MAGLEV else 4))
    elif kind == "counters":
        stride = table.per_cpu_stride or table.info.value_size
        found.counters.extend(decode_counter(key, value, stride) for key, value in table.items())
    elif kind == "policy":
        endpoint = policy_endpoint(name) or 0
        found.policy.extend(decode_policy(key, value, endpoint, name) for key, value in table.items())
    else:
        decode = _decoder(kind)
        getattr(found, kind).extend(decode(key, value) for key, value in table.items())


def _count_policy(found: Listings, directory: Path) -> None:
    """Fill in what the rules let through, where a table of its own counts it."""
    from ctctl.decode.policy import stats_key, summed

    try:
        with Map.open_pinned(directory / pins.CILIUM_POLICY_STATS, read_only=True) as table:
            stride = table.per_cpu_stride or table.info.value_size
            counts: Mapping[bytes, bytes] = dict(table.items())
    except (NotFoundError, KernelError):
        return
    for index, rule in enumerate(found.policy):
        value = counts.get(stats_key(rule)) if rule.packets is None else None
        if value is not None:
            packets, octets = summed(value, stride, 2)
            found.policy[index] = replace(rule, packets=packets, bytes=octets)


def _maglev(table: Map, family: int) -> Iterator[MaglevTable]:
    from ctctl.model.service import MaglevTable

    for key, value in table.items():
        try:
            with Map.from_id(int.from_bytes(value, "little")) as inner:
                raw = inner.lookup(bytes(4)) or b""
        except NotFoundError:
            continue
        ids = tuple(int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4))
        yield MaglevTable(int.from_bytes(key, "big"), family, ids)


def nat_tables(directory: Path) -> list[NatTable]:
    """The SNAT tables of a directory as they lie.

    What is no SNAT table is left out, and one that cannot be read is empty: ``read_listings`` says so.
    """
    from ctctl.decode.nat_rows import NatTable
    from ctctl.tables.pairs import KEY_LAYOUTS

    found = []
    for family, name in pins.SNAT_TABLES.items():
        layout = KEY_LAYOUTS[family]
        with contextlib.suppress(NotFoundError):
            with Map.open_pinned(directory / name, read_only=True) as table:
                sizes = table.info.key_size, table.info.value_size
            if sizes == (layout.size, layout.nat_value_size):
                found.append(NatTable(name, family, partial(_nat_rows, directory / name, family)))
    return found


def _nat_rows(path: Path, family: int) -> Iterator[NatRows]:
    from ctctl.decode.nat_rows import NatRows

    try:
        with Map.open_pinned(path, read_only=True) as table:
            for batch in table.batches(_BATCH):
                yield NatRows(family, batch.key_bytes, batch.value_bytes, path.name)
    except NotFoundError:  # it went away
        return
    except KernelError as error:
        if error.errno not in _UNREADABLE:
            raise


def find_nat(directory: Path, flows: Iterable[FlowTuple]) -> list[NatEntry]:
    """The SNAT entries of packets, looked up one by one: the table can be big."""
    from ctctl.decode.nat import decode_nat, encode_nat_key

    found: list[NatEntry] = []
    wanted = list(flows)
    for name, family in ((pins.SNAT4, 4), (pins.SNAT6, 6)):
        keys = [encode_nat_key(flow, flags) for flow in wanted if flow.src.version == family for flags in (0, TUPLE_IN)]
        if not keys:
            continue
        try:
            with Map.open_pinned(directory / name, read_only=True) as table:
                pairs = ((key, table.lookup(key)) for key in keys)
                found += [decode_nat(key, value, name) for key, value in pairs if value is not None]
        except NotFoundError:
            continue
    return found

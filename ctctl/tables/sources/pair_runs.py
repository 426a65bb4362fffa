"""Endpoints, backends and reverse NAT of the Cilium CLI's two-column tables in passes, as records."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ctctl.model.service import Backend, EndpointRecord, RevNat
from ctctl.model.tuples import Address
from ctctl.tables.sources.listing_text import PairLines
from ctctl.tables.sources.passes import FormRuns
from ctctl.tables.sources.regular import Form, addresses, octets
from ctctl.tables.sources.service_runs import PROTOCOL_WORDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAC_SIZE = 6
#: Protocols of backends, as far as they have one.
_WORDS = {**PROTOCOL_WORDS, "NONE": 0}


@functools.cache
def _endpoint_form() -> Form:
    form = Form()
    form.address("addr", port=True).blanks(3)
    with form.maybe("local"):
        form.literal("(localhost)")
    with form.otherwise():
        form.literal("id=").decimal("id", 4).blanks(1).literal("sec_id=").decimal("identity", 4).blanks(1)
        form.literal("flags=0x").hex("flags", 4).blanks(1).literal("ifindex=").decimal("ifindex", 4).blanks(1)
        form.literal("mac=")
        _mac(form, "mac")
        form.blanks(1).literal("nodemac=")
        _mac(form, "node_mac")
    with form.maybe("has_parent"):
        form.check("local", 0).blanks(1).literal("parent_ifindex=").decimal("parent", 4)
    return form.end()


def _mac(form: Form, name: str) -> None:
    for number in range(_MAC_SIZE):
        form.literal(":" if number else "").octets(f"{name}{number}", 1)


class EndpointRuns(FormRuns[PairLines]):
    """Rows of ``bpf endpoint list``."""

    form = staticmethod(_endpoint_form)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        ends = addresses(rows, "addr")
        names = ("local", "ifindex", "id", "flags", "identity", "parent", "has_parent")
        columns = (rows[name].tolist() for name in names)
        macs = (_macs(rows, name) for name in ("mac", "node_mac"))
        self._into.dump.listings.endpoints += map(_endpoint, ends, *columns, *macs)
        self._into.group = f"{ends[-1]}:{rows['addr_port'][-1]}"


def _macs(rows: NDArray[Any], name: str) -> list[str]:
    import numpy as np

    parts = np.hstack([octets(rows[f"{name}{number}"]) for number in range(_MAC_SIZE)])
    return [bytes(part).hex(":") for part in parts]


def _endpoint(  # noqa: PLR0917 - a row's columns
    addr: Address,
    local: int,
    ifindex: int,
    endpoint_id: int,
    flags: int,
    identity: int,
    parent: int,
    has_parent: int,
    mac: str,
    node_mac: str,
) -> EndpointRecord:
    if local:
        return EndpointRecord(addr, flags=1)
    return EndpointRecord(addr, ifindex, endpoint_id, flags, mac, node_mac, identity, parent if has_parent else 0)


@functools.cache
def _backend_form() -> Form:
    form = Form()
    form.decimal("id", 4).blanks(3).word("proto", _WORDS).literal("://").address("addr")
    with form.maybe("clustered"):
        form.literal("@").decimal("cluster", 2)
    return form.end()


class BackendRuns(FormRuns[PairLines]):
    """Rows of ``bpf lb list --backends``."""

    form = staticmethod(_backend_form)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        ids = rows["id"].tolist()
        clusters = (rows["cluster"] * rows["clustered"]).tolist()
        protos = [proto or None for proto in rows["proto"].tolist()]
        self._into.dump.listings.backends += [
            Backend(number, addr, proto, cluster_id=cluster)
            for number, addr, proto, cluster in zip(ids, addresses(rows, "addr"), protos, clusters, strict=True)
        ]
        self._into.group = str(ids[-1])


@functools.cache
def _rev_nat_form() -> Form:
    return Form().decimal("id", 2).blanks(3).end_of("front").end()


class RevNatRuns(FormRuns[PairLines]):
    """Rows of ``bpf lb list --revnat``."""

    form = staticmethod(_rev_nat_form)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        columns = rows["id"].tolist(), addresses(rows, "front"), rows["front_port"].tolist()
        self._into.dump.listings.rev_nats += map(RevNat, *columns)
        self._into.group = str(columns[0][-1])

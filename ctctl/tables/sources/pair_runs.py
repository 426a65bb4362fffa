"""Endpoints, backends, reverse NAT and sockets of the Cilium CLI's two-column tables in passes, as records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctctl.model.service import Backend, EndpointRecord, RevNat, SocketNat
from ctctl.model.tuples import Address
from ctctl.tables.sources.pair_frames import Frame, PairRuns
from ctctl.tables.sources.regular import Form, addresses, octets
from ctctl.tables.sources.service_runs import PROTOCOL_WORDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAC_SIZE = 6
#: Protocols of backends, as far as they have one.
_WORDS = {**PROTOCOL_WORDS, "NONE": 0}


def _endpoint_columns(frame: Frame) -> Form:
    form = frame.start()
    frame.between(form.address("addr", port=True))
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
    return frame.end(form)


def _mac(form: Form, name: str) -> None:
    for number in range(_MAC_SIZE):
        form.literal(":" if number else "").octets(f"{name}{number}", 1)


class EndpointRuns(PairRuns):
    """Rows of ``bpf endpoint list``."""

    columns = staticmethod(_endpoint_columns)

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


def _backend_columns(frame: Frame) -> Form:
    form = frame.start()
    frame.between(form.decimal("id", 4)).word("proto", _WORDS).literal("://").address("addr")
    with form.maybe("clustered"):
        form.literal("@").decimal("cluster", 2)
    return frame.end(form)


class BackendRuns(PairRuns):
    """Rows of ``bpf lb list --backends``."""

    columns = staticmethod(_backend_columns)

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


def _rev_nat_columns(frame: Frame) -> Form:
    return frame.end(frame.between(frame.start().decimal("id", 2)).end_of("front"))


class RevNatRuns(PairRuns):
    """Rows of ``bpf lb list --revnat``."""

    columns = staticmethod(_rev_nat_columns)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        columns = rows["id"].tolist(), addresses(rows, "front"), rows["front_port"].tolist()
        self._into.dump.listings.rev_nats += map(RevNat, *columns)
        self._into.group = str(columns[0][-1])


def _socket_columns(frame: Frame) -> Form:
    form = frame.between(frame.start().decimal("cookie", 8)).end_of("backend")
    form.literal(frame.written(" -> ")).end_of("front").literal(" (revnat=").decimal("rev_nat", 2).literal(")")
    return frame.end(form)


class SocketRuns(PairRuns):
    """Rows of ``bpf socknat list``. Their numbers are in network order (``listing_text``)."""

    columns = staticmethod(_socket_columns)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        cookies = rows["cookie"].tolist()
        ports, front_ports, rev_nats = (
            rows[name].byteswap().tolist() for name in ("backend_port", "front_port", "rev_nat")
        )
        columns = addresses(rows, "backend"), ports, addresses(rows, "front"), front_ports, rev_nats
        self._into.dump.listings.sockets += map(SocketNat, cookies, *columns)
        self._into.group = str(cookies[-1])

"""The kernel's own connection tracking (nf_conntrack) through netlink, as a table of the same form.

Kernel states become flag bits, so that filters, states and statistics mean the same: a TCP connection
that has seen an answer has SeenNonSyn, one that is closing has a closing bit, one in TIME_WAIT or CLOSE
both. What nf_conntrack does not have (identities, TCP flags, interfaces) is absent. Counters are per
direction, as in layout 1.15: rx is the original direction, tx the reply's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from ctctl.decode.ct import encode_key
from ctctl.errors import CtctlError, PermissionDenied, UnsupportedError
from ctctl.kernel.clock import monotonic_s
from ctctl.model.clock import Clock
from ctctl.model.entry import BOTH_CLOSING, SEEN_NON_SYN, Layout
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import EITHER_ICMP, Direction, FlowTuple
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.ct_forms import VALUE
from ctctl.tables.sources.dump import Collected
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.options import apply_options

if TYPE_CHECKING:
    from collections.abc import Mapping

ABSENT = frozenset({"ifindex", "backend_id", "packets", "bytes"})
#: What a listing shows only where nf_conntrack_acct is on.
COUNTERS = frozenset({"rx_packets", "rx_bytes", "tx_packets", "tx_bytes"})
#: enum tcp_conntrack (linux/netfilter/nf_conntrack_tcp.h) as flag bits.
TCP_STATES = {
    1: 0,
    2: 0,
    3: SEEN_NON_SYN,
    4: SEEN_NON_SYN | 1,
    5: SEEN_NON_SYN | 1,
    6: SEEN_NON_SYN | 1,
    7: SEEN_NON_SYN | BOTH_CLOSING,
    8: SEEN_NON_SYN | BOTH_CLOSING,
    9: 0,
}
#: IPS_SEEN_REPLY (linux/netfilter/nf_conntrack_common.h)
_SEEN_REPLY = 1 << 1


def open_nf(options: SourceOptions) -> Source:
    """nf_conntrack of this network namespace. Raises PermissionDenied, UnsupportedError."""
    now = options.now if options.now is not None else monotonic_s()
    source = Source("nf_conntrack")
    listings = Listings()
    tables = {4: nf_table(4), 6: nf_table(6)}
    for attributes in _dump():
        record = record_of(attributes, now)
        if record is None:
            continue
        family, key, value, nat = record
        tables[family].add(key, value)
        if nat is not None:
            listings.add_nat(nat)
    clock = Clock(None, "ktime: the kernel tells the time left")
    source.tables = [table.table(None) for table in tables.values()]
    for shown in source.tables:
        shown.clock, shown.now = clock, now
    source.listings = lambda _node: listings
    apply_options(source, SourceOptions(map=options.map))
    return source


def nf_table(family: int) -> Collected:
    """The table of a family, empty."""
    return Collected(f"nf_conntrack{family}", family, Layout.V1_15, "nf_conntrack", raw=False, absent=ABSENT)


def _dump() -> Iterator[Mapping[str, Any]]:
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    try:
        socket = NFCTSocket()
    except OSError as error:
        raise UnsupportedError(f"nf_conntrack: no netlink socket: {error.strerror}") from error
    with socket:
        try:
            for message in socket.dump():
                yield attributes_of(message)
        except NetlinkError as error:
            if error.code in (1, 13):
                raise PermissionDenied("nf_conntrack: needs CAP_NET_ADMIN") from error
            raise UnsupportedError(f"nf_conntrack: this kernel does not offer it ({error})") from error
        except OSError as error:
            raise UnsupportedError(f"nf_conntrack: {error}") from error


def attributes_of(message: Any) -> dict[str, Any]:
    """A netlink message's attributes, nested ones as dicts."""
    found: dict[str, Any] = {}
    for name, value in message["attrs"]:
        found[name] = attributes_of(value) if hasattr(value, "get") and "attrs" in value else value
    return found


def _flow(tuple_: Mapping[str, Any]) -> FlowTuple:
    ip, proto = tuple_["CTA_TUPLE_IP"], tuple_["CTA_TUPLE_PROTO"]
    version = "V4" if "CTA_IP_V4_SRC" in ip else "V6"
    src, dst = ip_address(ip[f"CTA_IP_{version}_SRC"]), ip_address(ip[f"CTA_IP_{version}_DST"])
    if "CTA_PROTO_ICMP_ID" in proto or "CTA_PROTO_ICMPV6_ID" in proto:
        ident = proto.get("CTA_PROTO_ICMP_ID", proto.get("CTA_PROTO_ICMPV6_ID", 0))
        return FlowTuple(proto["CTA_PROTO_NUM"], src, ident, dst, 0)
    ports = proto.get("CTA_PROTO_SRC_PORT", 0), proto.get("CTA_PROTO_DST_PORT", 0)
    return FlowTuple(proto["CTA_PROTO_NUM"], src, ports[0], dst, ports[1])


def _counters(attributes: Mapping[str, Any], side: str) -> tuple[int, int]:
    counters = attributes.get(f"CTA_COUNTERS_{side}") or {}
    return int(counters.get("CTA_COUNTERS_PACKETS", 0)), int(counters.get("CTA_COUNTERS_BYTES", 0))


def record_of(attributes: Mapping[str, Any], now: int) -> tuple[int, bytes, bytes, NatEntry | None] | None:
    """(family, key, value, translation if there is one) of one connection; None if it cannot be shown."""
    try:
        flow, reply = _flow(attributes["CTA_TUPLE_ORIG"]), _flow(attributes["CTA_TUPLE_REPLY"])
    except (KeyError, ValueError, struct.error, CtctlError):
        return None
    info = attributes.get("CTA_PROTOINFO") or {}
    tcp = info.get("CTA_PROTOINFO_TCP") or {}
    if "CTA_PROTOINFO_TCP_STATE" in tcp:
        flags = TCP_STATES.get(int(tcp["CTA_PROTOINFO_TCP_STATE"]), 0)
    else:
        flags = SEEN_NON_SYN if int(attributes.get("CTA_STATUS", 0)) & _SEEN_REPLY else 0
    lifetime = now + int(attributes.get("CTA_TIMEOUT", 0))
    rx, tx = _counters(attributes, "ORIG"), _counters(attributes, "REPLY")
    return nf_record(flow, reply, flags=flags, lifetime=lifetime, rx=rx, tx=tx)


def nf_record(
    flow: FlowTuple, reply: FlowTuple, *, flags: int, lifetime: int, rx: tuple[int, int], tx: tuple[int, int]
) -> tuple[int, bytes, bytes, NatEntry | None] | None:
    """(family, key, value, translation) of one connection by its two directions; None if it cannot be shown."""
    try:
        key = encode_key(flow, 0)
        value = VALUE.pack(*rx, *tx, lifetime, flags, 0, 0, 0, 0, 0, 0, 0)
    except (ValueError, struct.error):
        return None
    return flow.src.version, key, value, _translation(flow, reply)


def _translation(flow: FlowTuple, reply: FlowTuple) -> NatEntry | None:
    """What the replies' tuple shows was rewritten: the source (SRC), else the destination (DST)."""
    if flow.proto in EITHER_ICMP or reply == flow.reversed():
        return None
    source_changed = (reply.dst, reply.dst_port) != (flow.src, flow.src_port)
    to_addr, to_port = (reply.dst, reply.dst_port) if source_changed else (reply.src, reply.src_port)
    xlate = "SRC" if source_changed else "DST"
    return NatEntry("nf_conntrack", flow, Direction.OUT, False, xlate, to_addr, to_port)

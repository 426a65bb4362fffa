"""A conntrack entry: the documented model every source decodes to and every output renders from."""

from __future__ import annotations

import builtins
import re
from enum import IntFlag, StrEnum
from typing import Final

from ctctl.model.light import light_value
from ctctl.model.tuples import Direction, FlowTuple

#: Fields of an entry that are times of its table's clock.
TIMES: Final = ("lifetime", "last_tx_report", "last_rx_report")


class CtFlags(IntFlag):
    """Flag bits of a conntrack entry (docs/reference/abi.md). Unknown bits are kept."""

    RxClosing = 1 << 0
    TxClosing = 1 << 1
    Nat64 = 1 << 2
    LBLoopback = 1 << 3
    SeenNonSyn = 1 << 4
    NodePort = 1 << 5
    ProxyRedirect = 1 << 6
    DSRInternal = 1 << 7
    FromL7LB = 1 << 8
    #: AuthRequired in some 1.14 builds; has no name in the Cilium CLI's text and is no unknown bit there.
    Reserved9 = 1 << 9
    FromTunnel = 1 << 10

    @property
    def closing(self) -> CtFlags:
        return self & (CtFlags.RxClosing | CtFlags.TxClosing)


class CtState(StrEnum):
    """State words for people (docs/reference/datapath.md). "expired" is a separate property."""

    NEW = "new"
    ESTABLISHED = "established"
    CLOSING = "closing"
    CLOSED = "closed"


#: The flag bits that make a state: closed is both of the first.
BOTH_CLOSING: Final = int(CtFlags.RxClosing | CtFlags.TxClosing)
SEEN_NON_SYN: Final = int(CtFlags.SeenNonSyn)
STATE_BITS: Final = BOTH_CLOSING | SEEN_NON_SYN


def state_of(flags: int) -> CtState:
    """The state word of an entry's flag bits (docs/reference/datapath.md)."""
    closing = CtFlags(flags).closing
    if closing == CtFlags.RxClosing | CtFlags.TxClosing:
        return CtState.CLOSED
    if closing:
        return CtState.CLOSING
    return CtState.ESTABLISHED if flags & CtFlags.SeenNonSyn else CtState.NEW


#: The state of each combination of those bits, for tables that are gone through by the million.
STATES: Final = {bits: state_of(bits) for bits in range(STATE_BITS + 1) if bits & STATE_BITS == bits}


class Layout(StrEnum):
    """What the 56 bytes of an entry mean, and how that version's CLI writes them (docs/reference/real-nodes.md).

    Each is named after the first version that has it. 1.14 and 1.15 have the same bytes and differ in
    the text of service entries.
    """

    V1_14 = "1.14"
    V1_15 = "1.15"
    V1_16 = "1.16"
    V1_18 = "1.18"
    V1_19 = "1.19"

    @property
    def split_counters(self) -> bool:
        """Counters of each direction, and a backend id in place of a service entry's received bytes."""
        return self in (Layout.V1_14, Layout.V1_15)

    @property
    def has_nat(self) -> bool:
        """An entry of DSR holds the service's address and port itself."""
        return self is Layout.V1_19

    @classmethod
    def of_version(cls, text: str) -> Layout | None:
        """The layout of a Cilium version (``1.17``, ``v1.18.3``), None for one that is not known."""
        found = re.fullmatch(r"v?1\.(\d+)(?:[.-].*)?", text)
        minor = int(found[1]) if found else 0
        if minor < 14:
            return None
        return max((layout for layout in cls if int(layout.split(".")[1]) <= minor), key=lambda one: one.value)


@light_value
class CtEntry:
    """One conntrack entry, in host order, in the connection's original direction.

    Fields a layout or a source lacks are None, never 0. ``lifetime`` and the report times are in
    units of the table's clock (seconds for ``ktime``). ``backend_id`` counts only for SVC entries.
    ``packets``/``bytes`` are both directions together from 1.16 on; up to 1.15 ``rx_*`` and
    ``tx_*`` hold them apart. ``nat_addr``/``nat_port`` exist from 1.19 on DSR OUT entries, which then
    have no ``backend_id``: its bytes are the address.
    """

    map: str | None
    tuple: FlowTuple
    direction: Direction
    related: bool
    #: the tuple's flag byte as it stands in the key (0 OUT, 1 IN, 2 RELATED, 4 SERVICE; any combination)
    tuple_flags: int
    flags: CtFlags
    lifetime: int
    rev_nat: int
    src_sec_id: int
    tx_flags_seen: int
    rx_flags_seen: int
    last_tx_report: int
    last_rx_report: int
    backend_id: int | None = None
    packets: int | None = None
    bytes: int | None = None
    rx_packets: int | None = None
    rx_bytes: int | None = None
    tx_packets: int | None = None
    tx_bytes: int | None = None
    ifindex: int | None = None
    nat_addr: str | None = None
    nat_port: int | None = None
    #: the record as it lay in the table, where the source has it (``--raw``)
    key: builtins.bytes | None = None
    value: builtins.bytes | None = None

    @property
    def state(self) -> CtState:
        """NEW, ESTABLISHED, CLOSING or CLOSED from the flag bits (docs/reference/datapath.md)."""
        return STATES[int(self.flags) & STATE_BITS]

    def remaining(self, now: int) -> int:
        """Clock units until expiry; negative: expired and not yet collected."""
        return self.lifetime - now

    def expired(self, now: int) -> bool:
        """Whether GC would collect it: ``lifetime < now`` (docs/reference/abi.md)."""
        return self.lifetime < now

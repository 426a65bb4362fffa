"""The line of an entry in the Cilium CLI's form, byte for byte (docs/reference/abi.md).

What a reader of these lines trips over, and this module therefore does too: IPv6 addresses have no
brackets, an IPv4-mapped address prints as plain IPv4, protocol 0 prints no line at all, the form
differs between versions, and each line ends in a space.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from ctctl.decode.ct import TUPLE_IN, flag_names, nat_bytes
from ctctl.model.clock import Clock
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.tuples import Direction

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
_EXTENDED = {**_PROTOCOLS, 2: "IGMP", 112: "VRRP"}


def cilium_protocol(number: int, layout: Layout = Layout.V1_16) -> str:
    """How that version's CLI writes a protocol; unknown ones as their number."""
    names = _EXTENDED if layout in (Layout.V1_18, Layout.V1_19) else _PROTOCOLS
    return names.get(number, str(number))


def cilium_address(address: IPv4Address | IPv6Address) -> str:
    """An address without brackets, IPv4-mapped ones as IPv4."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def cilium_flags(flags: int) -> str:
    """``Flags=0x0013 [ RxClosing TxClosing SeenNonSyn ]``; bit 9 has no name and is not unknown either."""
    names = flag_names(flags)
    if flags & 0xF800:
        names.append(f"Unknown={flags & 0xF800:#06x}")
    return f"Flags={flags:#06x} [ {''.join(name + ' ' for name in names)}]"


def cilium_line(
    entry: CtEntry, layout: Layout = Layout.V1_16, clock: Clock | None = None, now: int | None = None
) -> str | None:
    """The entry's line without its newline, None for protocol 0 (which the original leaves out).

    With ``now`` (and its ``clock``) the remaining time is added, as ``--time-diff`` does.
    """
    flow = entry.tuple
    if flow.proto == 0:
        return None
    word, service = entry.direction.value, ""
    if layout is Layout.V1_14 and entry.direction is Direction.SVC:
        # That version reads the tuple as if it stood reversed, like any other entry's.
        word, service = "IN" if entry.tuple_flags & TUPLE_IN else "OUT", " service"
        flow = flow.reversed()
    left = ""
    if now is not None:
        left = f" (remaining: {(clock or Clock()).remaining_s(entry.lifetime, now)} sec(s))"
    head = (
        f"{cilium_protocol(flow.proto, layout)} {word} {cilium_address(flow.src)}:{flow.src_port}"
        f" -> {cilium_address(flow.dst)}:{flow.dst_port}{' related' if entry.related else ''}{service}"
        f" expires={entry.lifetime}{left}"
    )
    rx = f"RxFlagsSeen=0x{entry.rx_flags_seen:02x} LastRxReport={entry.last_rx_report}"
    tx = f"TxFlagsSeen=0x{entry.tx_flags_seen:02x} LastTxReport={entry.last_tx_report}"
    tail = f"{cilium_flags(int(entry.flags))} RevNAT={entry.rev_nat} SourceSecurityID={entry.src_sec_id}"
    if layout.split_counters:
        rx_bytes = entry.backend_id if entry.rx_bytes is None else entry.rx_bytes
        return (
            f"{head} RxPackets={entry.rx_packets or 0} RxBytes={rx_bytes or 0} {rx}"
            f" TxPackets={entry.tx_packets or 0}"
            f" TxBytes={entry.tx_bytes or 0} {tx} {tail} IfIndex={entry.ifindex or 0} "
        )
    ifindex = f" IfIndex={entry.ifindex or 0}" if layout is Layout.V1_16 else ""
    return (
        f"{head} Packets={entry.packets or 0} Bytes={entry.bytes or 0} {rx} {tx} {tail}{ifindex}"
        f" BackendID={_union(entry) or 0} {_nat_port(entry) if layout.has_nat else ''}"
    )


def _union(entry: CtEntry) -> int | None:
    """What stands where a service entry has its backend: in a 1.19 DSR entry half of an address."""
    if entry.backend_id is None and entry.value is not None:
        return int.from_bytes(entry.value[8:16], "little")
    if entry.nat_addr is None:
        return entry.backend_id
    if entry.value is not None:
        return int.from_bytes(entry.value[8:16], "little")
    return int.from_bytes(nat_bytes(entry.nat_addr)[8:], "little")


def _nat_port(entry: CtEntry) -> str:
    """The port bytes of any entry, where they are at hand."""
    port = int.from_bytes(entry.value[40:42], "big") if entry.value is not None else entry.nat_port
    return f"NatPort={port or 0} "

"""A filter bound to one table: fields become tests of slots, by the table's layout, family and clock.

A condition on a field that the table lacks is false (so its negation is true): absent is not 0.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from ctctl.abi.constants import Slot
from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED, TUPLE_SERVICE
from ctctl.errors import UsageError
from ctctl.model.entry import BOTH_CLOSING, SEEN_NON_SYN, CtFlags
from ctctl.tables.query.ast import MAX, And, HasFlags, Name, Network, Node, Not, Or, Range
from ctctl.tables.query.context import TableContext
from ctctl.tables.query.predicate import Predicate, all_of, any_of, in_range, inverse

_PROTO, _TUPLE_FLAGS, _SRC_HI, _DST_HI = Slot.PROTO, Slot.TUPLE_FLAGS, Slot.SRC_HI, Slot.DST_HI
_SRC_PORT, _DST_PORT, _LIFETIME, _FLAGS, _IFINDEX = (
    Slot.SRC_PORT,
    Slot.DST_PORT,
    Slot.LIFETIME,
    Slot.FLAGS,
    Slot.IFINDEX,
)
_LAST_TX, _LAST_RX = Slot.LAST_TX_REPORT, Slot.LAST_RX_REPORT
_WORD0, _WORD8, _WORD16, _WORD24 = Slot.WORD0, Slot.WORD8, Slot.WORD16, Slot.WORD24
#: Fields that are one slot, whatever the layout.
_PLAIN = {
    slot.name.lower(): slot
    for slot in Slot
    if slot.name not in ("SRC_HI", "SRC", "DST_HI", "DST", "WORD0", "WORD8", "WORD16", "WORD24")
}
_COUNTERS = {"packets": _WORD16, "bytes": _WORD24, "rx_packets": _WORD0, "tx_packets": _WORD16, "tx_bytes": _WORD24}

_DSR_OUT = all_of(
    [
        in_range(_FLAGS, int(CtFlags.DSRInternal), int(CtFlags.DSRInternal), int(CtFlags.DSRInternal)),
        in_range(_TUPLE_FLAGS, 0, 0, TUPLE_IN | TUPLE_SERVICE),
    ]
)
#: From 1.19 the first 16 bytes of such an entry are the service's address, if they are not zero.
_HAS_ADDRESS = any_of([in_range(_WORD0, 1, MAX), in_range(_WORD8, 1, MAX)])


def bind(node: Node | None, table: TableContext) -> Predicate:
    """The predicate of a filter on this table. Raises UsageError if it needs a now that is unknown."""
    if node is None:
        return True
    if isinstance(node, And):
        return all_of([bind(item, table) for item in node.items])
    if isinstance(node, Or):
        return any_of([bind(item, table) for item in node.items])
    if isinstance(node, Not):
        return inverse(bind(node.item, table))
    if isinstance(node, HasFlags):
        return False if table.lacks("flags") else in_range(_FLAGS, node.mask, node.mask, node.mask)
    return any_of([_term(node.field, value, table) for value in node.values])


def _term(name: str, value: object, table: TableContext) -> Predicate:
    if table.lacks(name):
        return False
    if isinstance(value, Name):
        return _named(name, value.text, table)
    if isinstance(value, IPv4Network | IPv6Network):
        if name == "nat_addr":
            return all_of([_DSR_OUT, _translated_to(value)])
        if name == "ip":
            return any_of([_address("src", value, table), _address("dst", value, table)])
        return _address(name, value, table)
    if isinstance(value, str):
        return _word(name, value, table)
    if not isinstance(value, Range):
        raise TypeError(f"{name}: {value!r}")
    return _number(name, value, table)


def _number(name: str, value: Range, table: TableContext) -> Predicate:
    if name in _PLAIN:
        return in_range(_PLAIN[name], value.low, value.high)
    if name == "port":
        return any_of([in_range(_SRC_PORT, value.low, value.high), in_range(_DST_PORT, value.low, value.high)])
    if name == "family":
        return value.low <= table.family <= value.high
    if name == "remaining":
        return _remaining(value, table)
    if name == "idle":
        return _idle(value, table)
    if name in _COUNTERS:
        return in_range(_COUNTERS[name], value.low, value.high)
    if name == "nat_port":
        return all_of([_DSR_OUT, _HAS_ADDRESS, _swapped(_IFINDEX, value)])
    # backend_id and rx_bytes share a word up to 1.15, told apart by the direction.
    second = in_range(_WORD8, value.low, value.high)
    if table.layout.has_nat:
        return all_of([inverse(all_of([_DSR_OUT, _HAS_ADDRESS])), second])
    if not table.layout.split_counters:
        return second
    service = in_range(_TUPLE_FLAGS, TUPLE_SERVICE, TUPLE_SERVICE, TUPLE_SERVICE)
    return all_of([service if name == "backend_id" else inverse(service), second])


def _swapped(slot: int, value: Range) -> Predicate:
    """Two bytes in network order, which the slot has read the other way round."""
    low, high = max(value.low, 0), min(value.high, 0xFFFF)
    if low > high:
        return False

    def first_byte(low_byte: int, high_byte: int) -> Predicate:
        return in_range(slot, low_byte, high_byte, 0xFF)

    def second_byte(low_byte: int, high_byte: int) -> Predicate:
        return in_range(slot, low_byte << 8, high_byte << 8, 0xFF00)

    first, last = low >> 8, high >> 8
    if first == last:
        return all_of([first_byte(first, first), second_byte(low & 0xFF, high & 0xFF)])
    between = first_byte(first + 1, last - 1)
    edges = ((first, low & 0xFF, 0xFF), (last, 0, high & 0xFF))
    return any_of([between, *(all_of([first_byte(at, at), second_byte(a, b)]) for at, a, b in edges)])


def _translated_to(network: Network) -> Predicate:
    """The 16 address bytes at the front of a value; an IPv4 address stands in the last word, or in the first."""
    packed, mask, rest = network.network_address.packed, network.netmask.packed, b"\xff" * 12
    if network.version == 4:
        either = [_bytes_are(bytes(12) + packed, rest + mask), _bytes_are(packed + bytes(12), mask + rest)]
        return all_of([any_of(either), _HAS_ADDRESS])
    is_ipv4 = any_of([_bytes_are(bytes(16), rest + bytes(4)), _bytes_are(bytes(16), bytes(4) + rest)])
    return all_of([inverse(is_ipv4), _bytes_are(packed, mask)])


def _bytes_are(value: bytes, mask: bytes) -> Predicate:
    words = ((slot, value[at : at + 8], mask[at : at + 8]) for slot, at in ((_WORD0, 0), (_WORD8, 8)))
    return all_of(
        [_masked(slot, int.from_bytes(want, "little"), int.from_bytes(bits, "little")) for slot, want, bits in words]
    )


def _named(name: str, text: str, table: TableContext) -> Predicate:
    """A condition on what has that name."""
    if name == "service" and text.isdecimal():
        return _term("rev_nat", Range(int(text), int(text)), table)  # its number, as ``ct top --by service`` has it
    if table.names is None:
        raise UsageError(f"filter: {text!r} is no address, and this source knows no names")
    if name == "backend_id":
        return any_of([_term(name, Range(number, number), table) for number in table.names.backends(text)])
    if name == "src_sec_id":
        return any_of([in_range(_PLAIN[name], number, number) for number in table.names.identities(text)])
    if name != "service":
        return any_of([_term(name, network, table) for network in table.names.networks(text)])
    service = table.names.service(text)
    ids = [in_range(_PLAIN["rev_nat"], number, number) for number in sorted(service.rev_nats)]
    return any_of(ids + [_frontend(*one, table) for one in service.frontends])


def _frontend(network: Network, port: int, proto: int, table: TableContext) -> Predicate:
    """What was opened to a frontend."""
    right_proto: Predicate = in_range(_PROTO, proto, proto) if proto else True
    return all_of([_address("dst", network, table), in_range(_DST_PORT, port, port), right_proto])


def _now(name: str, table: TableContext) -> int:
    if table.now is None:
        raise UsageError(f"filter: {name} needs to know the time of this dump; give it with --now")
    return table.now


def _remaining(value: Range, table: TableContext) -> Predicate:
    """Seconds until expiry, as ``Clock.remaining_s`` has it, as a range of lifetimes."""
    base = table.clock.seconds(_now("remaining", table))
    low = 0 if value.low <= -MAX else table.clock.units(base + value.low)
    high = MAX if value.high >= MAX else table.clock.units(base + value.high + 1) - 1
    return in_range(_LIFETIME, low, high)


def _idle(value: Range, table: TableContext) -> Predicate:
    """Seconds since the last report of either side: at least ``a`` means both reports are that old.

    Without any report it is not known, so within no range.
    """
    base = table.clock.seconds(_now("idle", table))

    def reported_by(seconds: int) -> Predicate:
        last = table.clock.units(seconds + 1) - 1
        return all_of([in_range(_LAST_TX, 0, last), in_range(_LAST_RX, 0, last)])

    old_enough: Predicate = True if value.low <= -MAX else reported_by(base - value.low)
    too_old: Predicate = False if value.high >= MAX else reported_by(base - value.high - 1)
    reported = inverse(all_of([in_range(_LAST_TX, 0, 0), in_range(_LAST_RX, 0, 0)]))
    return all_of([old_enough, inverse(too_old), reported])


def _word(name: str, value: str, table: TableContext) -> Predicate:
    if name == "direction":
        return _direction(value)
    if name == "state":
        return _state(value)
    if name == "related":
        bit = TUPLE_RELATED
        return in_range(_TUPLE_FLAGS, bit, bit, bit) if value == "true" else in_range(_TUPLE_FLAGS, 0, 0, bit)
    if name in ("expired", "live"):
        expired = in_range(_LIFETIME, 0, _now(name, table) - 1)
        return expired if (value == "true") == (name == "expired") else inverse(expired)
    return value == (table.map if name == "map" else table.node)


def _direction(word: str) -> Predicate:
    if word == "svc":
        return in_range(_TUPLE_FLAGS, TUPLE_SERVICE, TUPLE_SERVICE, TUPLE_SERVICE)
    wanted = TUPLE_IN if word == "in" else 0
    return in_range(_TUPLE_FLAGS, wanted, wanted, TUPLE_SERVICE | TUPLE_IN)


def _state(word: str) -> Predicate:
    if word == "closed":
        return in_range(_FLAGS, BOTH_CLOSING, BOTH_CLOSING, BOTH_CLOSING)
    if word == "closing":
        return in_range(_FLAGS, 1, BOTH_CLOSING - 1, BOTH_CLOSING)
    wanted = SEEN_NON_SYN if word == "established" else 0
    return in_range(_FLAGS, wanted, wanted, BOTH_CLOSING | SEEN_NON_SYN)


def _address(side: str, network: Network, table: TableContext) -> Predicate:
    """An address in a network; an IPv4 one also matches IPv4-mapped addresses of an IPv6 table."""
    high = _SRC_HI if side == "src" else _DST_HI
    if table.family == 4:
        if network.version == 6:
            return False
        return _masked(high + 1, int(network.network_address), int(network.netmask))
    if network.version == 4:
        base, mask = (0xFFFF << 32) | int(network.network_address), (2**96 - 1) << 32 | int(network.netmask)
    else:
        base, mask = int(network.network_address), int(network.netmask)
    return all_of([_masked(high, base >> 64, mask >> 64), _masked(high + 1, base & MAX, mask & MAX)])


def _masked(slot: int, value: int, mask: int) -> Predicate:
    return in_range(slot, value, value, mask) if mask else True

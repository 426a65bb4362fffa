"""What a simulation starts from: tables copied in, and entries made up or changed by hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ctctl.abi import pins
from ctctl.decode.ct import decode_entry, encode_key, encode_value, flags_of_direction, table_name
from ctctl.errors import NotFoundError, UsageError
from ctctl.model.entry import CtEntry, CtFlags, Layout
from ctctl.model.suggest import unknown_name
from ctctl.model.tuples import ICMP, ICMPV6, PROTOCOL_NUMBERS, TCP, Address, Direction, FlowTuple
from ctctl.model.units import parse_duration
from ctctl.packet.text import parse_end

if TYPE_CHECKING:
    from ctctl.simulate.journey import Cluster

_FORM = "an entry reads 'PROTO out|in|svc SRC[:PORT] > DST[:PORT] [related] [node=NAME] [field=value ...]'"
#: fields that --set takes as numbers
_NUMBERS = (
    *("backend_id", "packets", "bytes", "rev_nat", "ifindex", "src_sec_id"),
    *("tx_flags_seen", "rx_flags_seen", "last_tx_report", "last_rx_report"),
)
_FIELDS = ("flags", "lifetime", "remaining", *_NUMBERS)


@dataclass(frozen=True, slots=True)
class StartTable:
    """Records to start from: one table of one node (None: of the only one)."""

    name: str
    records: tuple[tuple[bytes, bytes], ...]
    node: str | None = None


@dataclass(frozen=True, slots=True)
class EntryChange:
    """One ``--set``: an entry by its key, and fields to set in it; made anew (zeros) if it is not there.

    ``values`` may hold ``remaining``: seconds from the simulated now.
    """

    flow: FlowTuple
    direction: Direction
    related: bool = False
    node: str | None = None
    values: dict[str, Any] = field(default_factory=dict)


def parse_change(text: str) -> EntryChange:
    """One ``--set``, e.g. ``tcp svc 10.64.0.36:40000 > 10.96.0.10:80 flags=RxClosing,TxClosing remaining=5s``.

    Raises UsageError.
    """
    try:
        words = shlex.split(text.replace("->", " > ").replace(">", " > "))
    except ValueError as error:
        raise UsageError(f"--set {text!r}: {error}") from None
    words = words[1:] if words[:1] == ["entry"] else words
    if len(words) < 5 or words[3] != ">":
        raise UsageError(f"--set {text!r}: {_FORM}")
    protocol = PROTOCOL_NUMBERS.get(words[0].lower())
    direction = next((d for d in Direction if d.value.lower() == words[1].lower()), None)
    if protocol is None or direction is None:
        wrong = words[0] if protocol is None else words[1]
        raise UsageError(f"--set {text!r}: unknown word {wrong!r}; {_FORM}")
    (src, sport), (dst, dport) = _end(text, words[2]), _end(text, words[4])
    if src.version != dst.version:
        raise UsageError(f"--set {text!r}: {src} and {dst} are of two families")
    if protocol == ICMP and src.version == 6:
        protocol = ICMPV6
    change = EntryChange(FlowTuple(protocol, src, sport, dst, dport), direction)
    for word in words[5:]:
        change = _apply_word(text, change, word)
    return change


def _end(text: str, word: str) -> tuple[Address, int]:
    try:
        return parse_end(word)
    except UsageError:
        raise UsageError(f"--set {text!r}: {word!r} is not ADDRESS[:PORT], [ADDRESS]:PORT of IPv6") from None


def _apply_word(text: str, change: EntryChange, word: str) -> EntryChange:
    key, equals, value = word.partition("=")
    if word == "related":
        return replace(change, related=True)
    if key == "node" and equals:
        return replace(change, node=value)
    if not equals or key not in _FIELDS:
        raise UsageError(f"--set {text!r}: {unknown_name('field', key, ['related', 'node', *_FIELDS])}")
    try:
        return replace(change, values={**change.values, key: _value(key, value)})
    except ValueError as error:
        raise UsageError(f"--set {text!r}: {key}: {error}") from None


def _value(key: str, text: str) -> Any:
    if key == "remaining":
        sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text)
        return sign * int(parse_duration(rest))
    if key == "flags" and not text[:1].isdecimal():
        flags = CtFlags(0)
        for name in filter(None, text.split(",")):
            if name not in CtFlags.__members__:
                raise ValueError(unknown_name("flag", name, CtFlags.__members__))
            flags |= CtFlags[name]
        return flags
    number = int(text, 0)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return CtFlags(number) if key == "flags" else number


def apply_changes(cluster: Cluster, changes: Iterable[EntryChange]) -> None:
    """Make or change the entries, each on the node it names. Raises NotFoundError, UsageError."""
    for change in changes:
        simulator = cluster.nodes[_node(cluster, change.node)]
        simulator.load()
        flags = flags_of_direction(change.direction, change.related)
        key = encode_key(change.flow, flags)
        version = change.flow.src.version
        name = table_name(version, TCP if change.flow.proto == TCP and not change.related else ICMP)
        table = simulator.maps.get(name)
        if table is None:
            raise UsageError(f"--set of {change.flow}: the node has no table {name}: IPv{version} is off there")
        value = table.lookup(key) or _fresh(simulator.now)
        entry = _changed(decode_entry(key, value, map_name=name), change.values, simulator.now)
        simulator.maps.write(name, key, encode_value(entry, Layout.V1_16))


def _fresh(now: int) -> bytes:
    return bytes(32) + (now + 60).to_bytes(4, "little") + bytes(20)


def _changed(entry: CtEntry, values: dict[str, Any], now: int) -> CtEntry:
    known = dict(values)
    if "remaining" in known:
        known["lifetime"] = now + known.pop("remaining")
    return replace(entry, **known)


def fill(cluster: Cluster, start: Iterable[StartTable]) -> None:
    """Copy tables in. Tables that a simulation does not have are left out."""
    for table in start:
        simulator = cluster.nodes[_node(cluster, table.node)]
        simulator.load()
        target = simulator.maps.get(table.name)
        if target is not None and pins.of_ipv4(table.name) == pins.LB4_MAGLEV:
            for key, value in table.records:
                simulator.maps.write(table.name, key, value)
        elif target is not None and table.records:
            keys, values = zip(*table.records, strict=True)
            target.update_batch(b"".join(keys), b"".join(values))


def _node(cluster: Cluster, name: str | None) -> str:
    if name is None:
        if len(cluster.nodes) > 1:
            raise UsageError(f"several nodes ({', '.join(cluster.nodes)}): say which with node=NAME")
        return next(iter(cluster.nodes))
    if name not in cluster.nodes:
        raise NotFoundError(unknown_name("node", name, cluster.nodes))
    return name

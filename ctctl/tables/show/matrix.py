"""Conntrack entries as Cilium text and JSON lines from numpy columns: the same bytes as one by one, faster.

``cilium_line`` (ct_text) and ``row_record`` (ct) define the forms; a property test holds these to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import LAYOUT_LACKS, TUPLE_RELATED, TUPLE_SERVICE, direction_of, flag_names, other_bits
from ctctl.model.entry import Layout
from ctctl.out.bytes_matrix import Lines, TextTable, decimals, hex_bytes, ipv4, number, signed_decimals, texts_by_value
from ctctl.tables.show.cilium import cilium_address, cilium_flags, cilium_protocol
from ctctl.tables.show.entry import SCHEMA, protocol_word
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctctl.out.bytes_matrix import Words

_STATES = {0: "new", 16: "established", 3: "closed", 19: "closed"}


def _seconds(times: NDArray[Any], table: CtTable) -> NDArray[np.int64]:
    wide = times.astype(np.int64)
    return wide if table.clock.hz is None else (wide << 8) // table.clock.hz


def _remaining(columns: CtColumns, table: CtTable, now: int) -> Words:
    return signed_decimals(_seconds(columns.slot(Slot.LIFETIME), table) - table.clock.seconds(now))


def _octets(columns: CtColumns) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Source and destination octets (n, 4): a SERVICE tuple is as the packet's, the others reversed."""
    first, second = columns.keys[:, 0:4], columns.keys[:, 4:8]
    service = columns.service
    if not service.any():
        return first, second
    swap = service[:, None]
    return np.where(swap, second, first), np.where(swap, first, second)


def _wide(columns: CtColumns, side: str) -> NDArray[Any]:
    """IPv6 addresses as 16-byte values, for a text each."""
    words = np.stack([columns.slot(Slot[f"{side}_HI"]), columns.slot(Slot[side])], axis=1).astype(">u8")
    return np.ascontiguousarray(words).view("V16")[:, 0]


class CiliumFormatter:
    """``-o cilium`` of one table. ``now`` adds the remaining time."""

    def __init__(self, table: CtTable, now: int | None = None) -> None:
        self._table = table
        self._now = now
        self._old_service = table.layout is Layout.V1_14
        self._head = TextTable(lambda n: self._head_of(n >> 8, n & 255).encode(), 1 << 16)
        self._flags = TextTable(lambda n: cilium_flags(n).encode(), 1 << 16)
        self._after = TextTable(lambda n: self._after_of(n).encode(), 256)

    def _head_of(self, proto: int, tuple_flags: int) -> str:
        shown = tuple_flags & ~TUPLE_SERVICE if self._old_service else tuple_flags
        return f"{cilium_protocol(proto, self._table.layout)} {direction_of(shown).value} "

    def _after_of(self, tuple_flags: int) -> str:
        service = " service" if self._old_service and tuple_flags & TUPLE_SERVICE else ""
        return f"{' related' if tuple_flags & TUPLE_RELATED else ''}{service} expires="

    def format(self, batch: CtColumns) -> bytearray:
        """The lines of a batch."""
        proto = batch.slot(Slot.PROTO)
        columns = batch if proto.all() else batch.select(proto != 0)  # protocol 0 has no line
        if not len(columns):
            return bytearray()
        lines = Lines(len(columns))
        self._add_tuple(lines, columns)
        lines.add(decimals(columns.slot(Slot.LIFETIME)))
        if self._now is not None:
            lines.add(b" (remaining: ", _remaining(columns, self._table, self._now), b" sec(s))")
        self._add_rest(lines, columns)
        return lines.bytes()

    def _add_tuple(self, lines: Lines, columns: CtColumns) -> None:
        tuple_flags = columns.slot(Slot.TUPLE_FLAGS)
        lines.add(self._head(columns.slot(Slot.PROTO).astype(np.int32) << 8 | tuple_flags))
        if columns.family == 4:
            src, dst = (ipv4(octets, b":") for octets in _octets(columns))
        else:
            src, dst = (
                texts_by_value(_wide(columns, side), lambda raw: cilium_address(IPv6Address(raw)).encode() + b":")
                for side in ("SRC", "DST")
            )
        src_port, dst_port = decimals(columns.slot(Slot.SRC_PORT)), decimals(columns.slot(Slot.DST_PORT))
        if self._old_service and columns.service.any():
            turned = columns.service[:, None]
            src, dst = _exchanged(src, dst, turned)
            src_port, dst_port = _exchanged(src_port, dst_port, turned)
        lines.add(src, src_port, b" -> ", dst, dst_port, self._after(tuple_flags))

    def _add_rest(self, lines: Lines, columns: CtColumns) -> None:
        def shown(slot: Slot) -> Words | bytes:
            return number(columns.slot(slot))

        rx = (b" RxFlagsSeen=", hex_bytes(columns.slot(Slot.RX_FLAGS_SEEN)))
        rx_report = (b" LastRxReport=", shown(Slot.LAST_RX_REPORT))
        tx = (b" TxFlagsSeen=", hex_bytes(columns.slot(Slot.TX_FLAGS_SEEN)))
        tx_report = (b" LastTxReport=", shown(Slot.LAST_TX_REPORT))
        layout = self._table.layout
        if layout.split_counters:
            lines.add(b" RxPackets=", shown(Slot.WORD0), b" RxBytes=", shown(Slot.WORD8), *rx, *rx_report)
            lines.add(b" TxPackets=", shown(Slot.WORD16), b" TxBytes=", shown(Slot.WORD24), *tx, *tx_report)
        else:
            lines.add(b" Packets=", shown(Slot.WORD16), b" Bytes=", shown(Slot.WORD24))
            lines.add(*rx, *rx_report, *tx, *tx_report)
        lines.add(b" ", self._flags(columns.slot(Slot.FLAGS)), b" RevNAT=", shown(Slot.REV_NAT))
        lines.add(b" SourceSecurityID=", shown(Slot.SRC_SEC_ID))
        if "ifindex" not in LAYOUT_LACKS[layout]:
            lines.add(b" IfIndex=", shown(Slot.IFINDEX))
        if not layout.split_counters:
            lines.add(b" BackendID=", shown(Slot.WORD8))
        if layout.has_nat:
            lines.add(b" NatPort=", number(columns.slot(Slot.IFINDEX).byteswap()))
        lines.add(b" \n")


def _exchanged(first: Words, second: Words, turned: NDArray[np.bool_]) -> tuple[Words, Words]:
    """Two texts a row, change places where ``turned`` is true; texts are of any width, padded on the left."""
    width = max(first.shape[1], second.shape[1])
    one, other = (np.pad(words, ((0, 0), (width - words.shape[1], 0))) for words in (first, second))
    return np.where(turned, other, one), np.where(turned, one, other)


def _text(value: object) -> bytes:
    return json.dumps(value).encode()


class JsonFormatter:
    """``-o jsonl`` of one table, field for field as ``row_record``. ``names`` are those of addresses.

    With ``element`` each is an element of the list that ``-o json`` prints, with a comma before it.
    """

    def __init__(self, table: CtTable, names: Mapping[str, str], *, raw: bool = False, element: bool = False) -> None:
        self._table = table
        self._names = names
        self._raw = raw
        head = ",\n  {" if element else f'{{"schema": "{SCHEMA}", '
        self._begin = f'{head}"map": {json.dumps(table.name)}, "proto": '.encode()
        self._end = b"}" if element else b"}\n"
        self._proto = TextTable(_proto_json, 1 << 16)
        self._state = TextTable(
            lambda n: f', "state": "{_STATES.get(n & 19, "closing")}", "lifetime": '.encode(), 1 << 16
        )
        self._flags = TextTable(_flags_json, 1 << 16)

    def can(self, columns: CtColumns) -> bool:
        """Whether every entry of the batch has the plain form: a translated address (1.19) needs one of its own."""
        return not columns.translated.any()

    def format(self, columns: CtColumns) -> bytearray:
        """The lines of a batch."""
        lines = Lines(len(columns))
        tuple_flags = columns.slot(Slot.TUPLE_FLAGS)
        lines.add(self._begin, self._proto(columns.slot(Slot.PROTO).astype(np.int32) << 8 | tuple_flags))
        lines.add(self._address(columns, "SRC"), b' "src_port": ', decimals(columns.slot(Slot.SRC_PORT)), b', "dst": "')
        lines.add(self._address(columns, "DST"), b' "dst_port": ', decimals(columns.slot(Slot.DST_PORT)))
        flags = columns.slot(Slot.FLAGS)
        lines.add(self._state(flags), decimals(columns.slot(Slot.LIFETIME)), self._flags(flags))
        self._add_numbers(lines, columns)
        self._add_time(lines, columns)
        if self._raw and self._table.raw:
            lines.add(b', "key_hex": "', _hex(columns.keys), b'", "value_hex": "', _hex(columns.values), b'"')
        if self._table.node is not None:
            lines.add(f', "node": {json.dumps(self._table.node)}'.encode())
        if self._names:
            self._add_names(lines, columns)
        lines.add(self._end)
        return lines.bytes()

    def _address(self, columns: CtColumns, side: str) -> Words:
        if columns.family == 4:
            octets = _octets(columns)[0 if side == "SRC" else 1]
            quoted = ipv4(octets, b'"')
            comma = np.full((len(columns), 1), np.frombuffer(b",\0\0\0", np.uint32)[0])
            return np.concatenate([quoted, comma], axis=1)
        return texts_by_value(_wide(columns, side), lambda raw: f'{IPv6Address(raw)}",'.encode())

    def _add_numbers(self, lines: Lines, columns: CtColumns) -> None:
        for name, slot in _NUMBERS:
            if name in LAYOUT_LACKS[self._table.layout]:
                continue
            label = f', "{name}": '.encode()
            if name in self._table.absent:
                lines.add(label + b"null")
            elif name in ("backend_id", "rx_bytes") and self._table.layout.split_counters:
                lines.add(label, self._shared_word(columns, service=name == "backend_id"))
            else:
                lines.add(label, number(columns.slot(slot)))
        if self._table.layout.has_nat:
            lines.add(b', "nat_addr": null, "nat_port": null')

    def _shared_word(self, columns: CtColumns, *, service: bool) -> Words:
        """Up to 1.15 one word is the backend of SERVICE entries and rx_bytes of all others."""
        digits = decimals(columns.slot(Slot.WORD8))
        null = np.zeros(digits.shape, np.uint32)
        null[:, -1] = np.frombuffer(b"null", np.uint32)[0]
        return np.where((columns.service == service)[:, None], digits, null)

    def _add_time(self, lines: Lines, columns: CtColumns) -> None:
        now = self._table.now
        if now is None:
            return
        expired = (columns.slot(Slot.LIFETIME) < now).astype(np.intp)
        lines.add(b', "remaining": ', _remaining(columns, self._table, now), _EXPIRED(expired))

    def _add_names(self, lines: Lines, columns: CtColumns) -> None:
        names = self._names
        for side in ("SRC", "DST"):
            label = f', "{side.lower()}_name": '.encode()

            def text(number: Any, label: bytes = label) -> bytes:
                address = IPv4Address(number) if isinstance(number, int) else IPv6Address(number)
                name = names.get(str(address))
                return label + _text(name) if name is not None else b""

            values = columns.slot(Slot[side]) if columns.family == 4 else _wide(columns, side)
            lines.add(texts_by_value(values, text))
        backend = columns.slot(Slot.WORD8)
        if self._table.layout.split_counters:
            backend = backend * columns.service
        if "backend_id" not in self._table.absent:
            lines.add(texts_by_value(backend, self._backend_name))

    def _backend_name(self, number: int) -> bytes:
        name = self._names.get(f"backend {number}") if number else None
        return b', "backend": ' + _text(name) if name is not None else b""


_EXPIRED = TextTable(lambda n: b', "expired": true' if n else b', "expired": false', 2)
_NUMBERS = (
    ("backend_id", Slot.WORD8),
    ("packets", Slot.WORD16),
    ("bytes", Slot.WORD24),
    ("rx_packets", Slot.WORD0),
    ("rx_bytes", Slot.WORD8),
    ("tx_packets", Slot.WORD16),
    ("tx_bytes", Slot.WORD24),
    ("rev_nat", Slot.REV_NAT),
    ("ifindex", Slot.IFINDEX),
    ("tx_flags_seen", Slot.TX_FLAGS_SEEN),
    ("rx_flags_seen", Slot.RX_FLAGS_SEEN),
    ("src_sec_id", Slot.SRC_SEC_ID),
    ("last_tx_report", Slot.LAST_TX_REPORT),
    ("last_rx_report", Slot.LAST_RX_REPORT),
    ("tuple_flags", Slot.TUPLE_FLAGS),
)


def _proto_json(number: int) -> bytes:
    proto, tuple_flags = number >> 8, number & 255
    related = "true" if tuple_flags & TUPLE_RELATED else "false"
    return (
        f'{proto}, "proto_name": {json.dumps(protocol_word(proto))}, "direction": "{direction_of(tuple_flags).value}"'
        f', "related": {related}, "src": "'
    ).encode()


def _flags_json(flags: int) -> bytes:
    names = json.dumps(flag_names(flags))
    return f', "flags": {flags}, "flag_names": {names}, "other_bits": {other_bits(flags)}'.encode()


_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)


def _hex(matrix: NDArray[np.uint8]) -> Words:
    """Rows of bytes in hex; 14 and 38 bytes are 28 and 76 digits, whole words both."""
    return np.ascontiguousarray(_HEX[matrix]).view(np.uint32)

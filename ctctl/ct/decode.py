"""``ct decode``: what a number, bytes or a printed line mean: flags, a key, a value, an entry."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass

from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE, decode_entry, decode_key, direction_of, table_name
from ctctl.errors import CtctlError, UsageError
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.nat import NatEntry
from ctctl.model.suggest import unknown_name
from ctctl.model.tuples import Direction, FlowTuple

#: Bits of the TCP header's flag byte, the lowest first (RFC 9293).
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
_WORD = r"0x[0-9a-fA-F]{1,4}|\d{1,5}"
#: Names that a flag word has in listings, and whether it holds TCP flags.
_NAMED = {
    "flags": False,
    "rxflagsseen": True,
    "txflagsseen": True,
    "rx_flags_seen": True,
    "tx_flags_seen": True,
    "tcp_flags": True,
}
#: A flag word as listings have it: ``Flags=0x0013 [ RxClosing TxClosing SeenNonSyn ]``, ``"Flags": 19,``.
_WITH_NAME = re.compile(
    rf"(?:\"?(?P<name>\w+)\"?\s*(?P<sign>[=:])\s*)?(?P<word>{_WORD})\s*+,?(?P<words>\s*+\[[\w\s=]*\])?"
)
#: Bytes in hex, however they are separated, quoted or listed.
_HEX = re.compile(r"[0-9a-fA-Fx\s,:_\"\[\]-]+")
#: What a printed line has and hex has not: an arrow, a JSON object, "expires=".
_LINE = re.compile(r"->|expires=|XLATE_|^\s*[\[{]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was given: ``flags`` (of an entry) or ``tcp_flags``, both where either may be meant; or ``entry``,
    ``nat`` or ``flow`` (with ``tuple_flags``). ``layout`` is the entry's where a line told it."""

    flags: int | None = None
    tcp_flags: int | None = None
    nat: NatEntry | None = None
    layout: Layout | None = None
    entry: CtEntry | None = None
    flow: FlowTuple | None = None
    tuple_flags: int = 0
    #: a value without its key: the entry's tuple is made up
    value_only: bool = False

    @property
    def direction(self) -> Direction:
        """The direction of a bare key."""
        return direction_of(self.tuple_flags)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(re.sub(r"0x|[\s,:_\"\[\]-]", "", text))
    except ValueError:
        raise UsageError(f"{text[:40]!r} is not hex") from None


def decode(text: str, layout: Layout = Layout.V1_16) -> Decoded:
    """``0x0413``, a number or ``NAME=0x1b``: flags; 14 or 38 bytes: a key; 56: a value; ``KEY:VALUE``: an entry.

    A word up to 0xff may be flags of an entry or of TCP: both are told. Also whatever line or record a listing
    has (``TCP IN a -> b expires=…``). Raises UsageError.
    """
    stripped = text.strip()
    shown = _WITH_NAME.fullmatch(stripped)
    if shown is not None and shown["name"] is None:
        number = _flag_word(shown["word"])
        return Decoded(flags=number, tcp_flags=number if number <= 0xFF and shown["words"] is None else None)
    if shown is not None and (shown["sign"] == "=" or shown["name"].lower() in _NAMED):
        return _named(shown["name"], _flag_word(shown["word"]))
    if _LINE.search(stripped) and not _HEX.fullmatch(stripped):
        return _line(stripped)
    key_text, colon, value_text = stripped.partition(":")
    if colon and len(_bytes(key_text)) in KEY_SIZE.values() and len(_bytes(value_text)) == VALUE_SIZE:
        key = _bytes(key_text)
        name = table_name(4 if len(key) == KEY_SIZE[4] else 6, key[-2])
        return Decoded(entry=decode_entry(key, _bytes(value_text), layout, name))
    raw = _bytes(stripped)
    if len(raw) in KEY_SIZE.values():
        flow, flags = decode_key(raw)
        return Decoded(flow=flow, tuple_flags=flags)
    if len(raw) == VALUE_SIZE:
        return Decoded(entry=decode_entry(bytes(KEY_SIZE[4]), raw, layout), value_only=True)
    for size in KEY_SIZE.values():
        if len(raw) == size + VALUE_SIZE:
            name = table_name(4 if size == KEY_SIZE[4] else 6, raw[size - 2])
            return Decoded(entry=decode_entry(raw[:size], raw[size:], layout, name))
    if len(raw) == 2:
        return Decoded(flags=int.from_bytes(raw, "little"))
    raise UsageError(f"{len(raw)} bytes: a key has 14 or 38, a value 56, an entry both, a flag word 2")


def _flag_word(text: str) -> int:
    number = int(text, 0) if text.startswith("0x") else int(text)
    if number > 0xFFFF:
        raise UsageError(f"{text}: a flag word has 16 bits")
    return number


def _named(name: str, number: int) -> Decoded:
    if name.lower() not in _NAMED:
        raise UsageError(unknown_name("flag word", name, ["Flags", "RxFlagsSeen", "TxFlagsSeen"]))
    if not _NAMED[name.lower()]:
        return Decoded(flags=number)
    if number > 0xFF:
        raise UsageError(f"{name}={number:#x}: TCP flags have 8 bits")
    return Decoded(tcp_flags=number)


def _line(text: str) -> Decoded:
    """What a line or record of a listing holds, read as the file that it is of would be. Raises UsageError."""
    from ctctl.tables.sources.base import SourceOptions
    from ctctl.tables.sources.open import open_source

    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write(text.rstrip("\n") + "\n")
        file.flush()
        try:
            with open_source(file.name, SourceOptions()) as source:
                for table in source.tables:
                    for columns in table.columns():
                        return Decoded(entry=columns.entry(0, table.name, table.absent), layout=table.layout)
                for entry in source.listings(None).nat:
                    return Decoded(nat=entry)
        except CtctlError:
            pass
    raise UsageError(f"{text[:60]!r}... is no line of a conntrack or SNAT listing, and no hex")

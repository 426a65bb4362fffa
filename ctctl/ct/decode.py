"""``ct decode``: what a number or bytes mean: a flag word, a key, a value, or both."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE, decode_entry, decode_key, direction_of, table_name
from ctctl.errors import UsageError
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.tuples import Direction, FlowTuple


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was given: exactly one of ``flags``, ``entry`` or ``flow`` (with ``tuple_flags``)."""

    flags: int | None = None
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
    """``0x0413`` or a number: flags; 14 or 38 bytes: a key; 56: a value; ``KEY:VALUE``: an entry. Raises UsageError."""
    stripped = text.strip()
    if re.fullmatch(r"0x[0-9a-fA-F]{1,4}|\d{1,5}", stripped):
        number = int(stripped, 0)
        if number > 0xFFFF:
            raise UsageError(f"{stripped}: a flag word has 16 bits")
        return Decoded(flags=number)
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

"""Records that bpftool prints by their BTF alone are those of their bytes, in every table of ours."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.abi import pins
from ctctl.abi.maps import MAPS, Shape
from ctctl.tables.sources.bpftool import kind_of
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump

#: Tables whose dumps are read and that can be told by a file's name alone.
TABLES = [name for name in MAPS if kind_of(name) and name not in pins.CT_TABLES and "maglev" not in name]


def size_of(shape: Shape) -> int:
    return shape if isinstance(shape, int) else len(bytes(shape()))


def shown(shape: Shape, raw: bytes) -> Any:
    """Bytes as bpftool shows them: numbers as they lie, arrays as lists."""
    if isinstance(shape, int):
        return int.from_bytes(raw, "little")
    found: dict[str, Any] = {}
    for name, kind in shape._fields_:
        place = getattr(shape, name)
        part = raw[place.offset : place.offset + place.size]
        width = len(part) // getattr(kind, "_length_", 1)
        numbers = [int.from_bytes(part[at : at + width], "little") for at in range(0, len(part), width)]
        found[name] = numbers if hasattr(kind, "_length_") else numbers[0]
    return found


def read(text: str, name: str) -> Dump:
    dump = Dump()
    read_content(io.BytesIO(text.encode()), dump, f"{name}.txt")
    return dump


def octets(raw: bytes) -> list[str]:
    return [f"0x{octet:02x}" for octet in raw]


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_fields_are_the_bytes(name: str, data: st.DataObject) -> None:
    key, value = (data.draw(st.binary(min_size=size_of(shape), max_size=size_of(shape))) for shape in MAPS[name])
    if data.draw(st.booleans()):  # like real ones: mostly zeros
        key, value = (bytes(octet if at % 4 == 0 else 0 for at, octet in enumerate(raw)) for raw in (key, value))
    if "snat" in name:  # what stands behind the port is nobody's
        value = value[: -2 if len(value) == 40 else -6].ljust(len(value), b"\0")
    by_fields = [{"key": shown(MAPS[name][0], key), "value": shown(MAPS[name][1], value)}]
    plain = read(json.dumps(by_fields, indent=8), name)
    by_bytes = read(json.dumps([{"key": octets(key), "value": octets(value)}]), name)
    assert (plain.listings, plain.losses) == (by_bytes.listings, by_bytes.losses)


def test_another_builds_fields_are_no_record() -> None:
    shape = MAPS[pins.LB4_SERVICES]
    assert not isinstance(shape[0], int)
    record = {"key": shown(shape[0], bytes(12)), "value": shown(shape[1], bytes(12))}
    for change, lost in (({"proto": None}, 0), ({"more": 1}, 0), ({"dport": 1 << 16}, 1), ({"pad": [0]}, 0)):
        key = {name: one for name, one in {**record["key"], **change}.items() if one is not None}
        found = read(json.dumps([{**record, "key": key}]), pins.LB4_SERVICES)
        assert (found.listings.services, found.listings.shown, found.losses) == ([], set(), lost), change


def test_events_of_a_map_are_no_dump() -> None:
    event = {"key": "10.0.0.1:0", "value": "id=1", "action": "update"}
    for text in ("[]", json.dumps([event, event])):
        dump = Dump()
        read_content(io.BytesIO(text.encode()), dump, "cilium-dbg-map-events-cilium_lxc--o-json.md")
        assert (dump.listings.shown, dump.losses, dump.partial) == (set(), 0, []), text


def test_an_empty_dump_shows_that_there_is_nothing() -> None:
    for text in ("[]\n", "[\n]\n", "Found 0 elements\n"):
        assert read(text, pins.LB4_SERVICES).listings.shown == {"services"}, text

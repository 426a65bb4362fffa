"""``ct diff`` by columns writes what the view of differences says, one by one, in every format and at every width."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.ct.differing import differing
from ctctl.ct.show import diff_view
from ctctl.ct.show_diff import write_differences
from ctctl.errors import UsageError
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.out.options import ColorMode, Format, OutputOptions
from ctctl.out.output import write_rows
from ctctl.tables.sources.base import CtTable, Source
from tests.support.differences import differences

LACKING = [frozenset[str](), frozenset({"backend_id", "ifindex"}), frozenset({"packets", "nat_port"})]
SERVICE_AT_ENDS = (bytes(12) + bytes([10, 9, 0, 1]), bytes([10, 9, 0, 1]) + bytes(12), bytes([253]) + bytes(14) + b"1")
FIELDS = ("change", "map", "direction", "entry", "state", "fields")


@st.composite
def records(draw: st.DrawFn, family: int) -> list[tuple[bytes, bytes]]:
    """Records of a few keys, whose values are alike but for a field or two."""
    found = []
    for number in sorted(draw(st.sets(st.integers(0, 9), max_size=8))):
        ends = [bytes([10, 0, 0, number]), bytes([10, 1, 0, 1])]
        if family == 6:
            ends = [bytes([253]) + bytes(11) + end for end in ends]
        key = b"".join(ends) + bytes([0, 80, 4, number, draw(st.sampled_from([6, 6, 17, 200])), number % 5])
        words = [draw(st.sampled_from([0, 0, 7])) for _ in range(13)]
        words[5] = draw(st.sampled_from([0, 0x10, 0x90, 0x80, 0x0413, 0xFA00]))  # DSR among them
        value = struct.pack("<QQQQIHHHBBIII", *words)
        if draw(st.booleans()):
            value = draw(st.sampled_from(SERVICE_AT_ENDS)) + value[16:]
        found.append((key, value))
    return found


@st.composite
def tables(draw: st.DrawFn, family: int) -> CtTable:
    """A table of some layout, clock and moment."""
    rows = draw(records(family))

    def read() -> Iterator[tuple[Any, Any]]:
        if rows:
            keys, values = zip(*rows, strict=True)
            yield tuple(np.array([list(one) for one in part], np.uint8) for part in (keys, values))

    return CtTable(
        f"cilium_ct{family}_global",
        family,
        draw(st.sampled_from([Layout.V1_16, Layout.V1_19, Layout.V1_19, Layout.V1_15, Layout.V1_18])),
        read,
        node=draw(st.sampled_from([None, "=n: 1"])),
        absent=draw(st.sampled_from(LACKING)),
        clock=draw(st.sampled_from([Clock(), Clock(hz=250)])),
        now=draw(st.sampled_from([None, 5])),
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Source, Source]:
    """Two sources whose tables are of the same names, or one of which lacks one."""
    families = draw(st.sampled_from([(4,), (6,), (4, 6)]))
    first, second = ([draw(tables(family)) for family in families] for _ in range(2))
    return Source("a", first[draw(st.integers(0, 1)) :] if len(first) > 1 else first), Source("b", second)


def by_columns(pair: tuple[Source, Source], options: OutputOptions) -> tuple[str, int]:
    stream = io.StringIO()
    count = write_differences(differing(*pair), options, stream)
    return stream.getvalue(), count


def one_by_one(pair: tuple[Source, Source], options: OutputOptions) -> tuple[str, int]:
    stream = io.StringIO()
    count = write_rows(diff_view(), differences(*pair), options, stream)
    return stream.getvalue(), count


CHOSEN = st.sampled_from([(), ("fields", "entry"), FIELDS[:3], FIELDS])
SORTS = st.sampled_from([None, "entry", "-entry", "change", "state", "-fields", "dir"])


ASKED = st.builds(
    OutputOptions, st.sampled_from(Format), CHOSEN, SORTS, st.sampled_from([None, None, 0, 1, 5]), st.booleans()
)


@settings(max_examples=60, deadline=None)
@given(pairs(), ASKED)
def test_every_form(pair: tuple[Source, Source], options: OutputOptions) -> None:
    form = options.format
    if form is Format.cilium:
        with pytest.raises(UsageError, match="differences have no cilium form"):
            by_columns(pair, options)
        return
    found, expected = by_columns(pair, options), one_by_one(pair, options)
    if form is Format.yaml:
        assert (yaml.safe_load(found[0]), found[1]) == (yaml.safe_load(expected[0]), expected[1])
    elif form in (Format.table, Format.wide) and options.limit is None:
        # Of rows that are left out the columns are as wide as the others'.
        assert found == expected
    elif form in (Format.table, Format.wide):
        assert [line.split() for line in found[0].splitlines()] == [line.split() for line in expected[0].splitlines()]
    else:
        assert found == expected


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@settings(max_examples=40, deadline=None)
@given(pairs(), st.sampled_from([20, 60, 80, 120, 200]), CHOSEN, st.booleans())
def test_terminals(pair: tuple[Source, Source], columns: int, fields: tuple[str, ...], colored: bool) -> None:
    """Every line fits, and the words are those of the wide table."""
    stream, before = Terminal(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    color = ColorMode.always if colored else ColorMode.never
    try:
        write_differences(differing(*pair), OutputOptions(Format.table, fields, color=color), stream)
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    shown = stream.getvalue()
    for code in ("\033[1m", "\033[0m", *(f"\033[{number}m" for number in (31, 32, 33))):
        assert colored or code not in shown
        shown = shown.replace(code, "")
    assert all(len(line) <= columns for line in shown.splitlines())
    wanted = one_by_one(pair, OutputOptions(Format.table, fields))[0].split()
    words = [word for word in shown.split() if columns > 20]
    assert not words or sorted(set(words) - {"-"}) == sorted(set(wanted) - {"-"})


def test_a_service_address_is_one_wherever_it_stands() -> None:
    """IPv4 in front of the room for an address and at its end is the same address."""
    key = bytes([10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 0, 80, 6, 0])

    def source(value: bytes) -> Source:
        raw = np.frombuffer(value + bytes(20) + struct.pack("<H", 1 << 7) + bytes(18), np.uint8)[None]
        return Source("x", [CtTable("t", 4, Layout.V1_19, lambda: iter([(np.frombuffer(key, np.uint8)[None], raw)]))])

    front, end, other = (source(value) for value in SERVICE_AT_ENDS)
    assert by_columns((front, end), OutputOptions(Format.csv, no_headers=True)) == ("", 0)
    text, count = by_columns((front, other), OutputOptions(Format.jsonl))
    assert count == 1
    assert json.loads(text)["fields"]["nat_addr"]["before"] == str(IPv4Address("10.9.0.1"))
    row = next(csv.DictReader(io.StringIO(by_columns((front, other), OutputOptions(Format.csv))[0])))
    assert json.loads(row["fields"])["nat_addr"]["before"] == "10.9.0.1"

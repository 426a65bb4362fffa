"""Row programs write exactly what ``nat_view`` says of SNAT entries, in every format and for every field."""

from __future__ import annotations

import io
import json
import os
from array import array
from unittest import mock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ctctl.decode.nat import decode_nat
from ctctl.decode.nat_rows import NatRows
from ctctl.model.clock import Clock
from ctctl.out.options import ColorMode, Format, OutputOptions
from ctctl.out.output import write_rows
from ctctl.services.nat_form import NatForm
from ctctl.services.nat_rows import Listed, write_tables
from ctctl.services.show_nat import nat_view
from ctctl.tables.sources.nat_listed import NatColumns
from tests.support.drawn_nat import AGES, Drawn, tables

VIEW = nat_view({}, Clock(), None)
#: every field that --fields and --sort take
NAMED = [column.name for column in (*VIEW.columns, *VIEW.extra)]


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def both(drawn: Drawn, options: OutputOptions, kind: type[io.StringIO] = io.StringIO) -> tuple[str, str]:
    """By row programs, and entry by entry."""
    found, clock, now, names, shows_ct = drawn
    view = nat_view(names, clock, now)
    listed, entries, ours, theirs = [], [], kind(), kind()
    for family, pairs in found.items():
        keys, values = b"".join(key for key, _ in pairs), b"".join(value for _, value in pairs)
        name = f"cilium_snat_v{family}_external"
        if shows_ct is None:
            rows, absent = NatRows(family, keys, values), frozenset[str]()
            entries += [decode_nat(*pair, name) for pair in pairs]
        else:
            columns = NatColumns(family, shows_ct, bytearray(keys), bytearray(values), array("q", AGES[: len(pairs)]))
            rows, absent = NatRows(family, keys, values, name, columns.ages.tobytes()), columns.absent
            entries += columns.entries()
        form = NatForm(name, family, names, clock, now, absent=absent)
        listed.append(Listed(form, iter(()), rows if pairs else None))
    write_tables(listed, view, options, ours)
    write_rows(view, entries, options, theirs)
    return ours.getvalue(), theirs.getvalue()


@pytest.mark.parametrize("form", [Format.table, Format.wide, Format.csv, Format.jsonl, Format.json, Format.name])
@given(drawn=tables(), limit=st.none() | st.integers(0, 3), bare=st.booleans())
def test_every_format(form: Format, drawn: Drawn, limit: int | None, bare: bool) -> None:
    if form in (Format.table, Format.wide):
        limit = None  # widths are those of the first rows, of which a limit shows fewer
    ours, theirs = both(drawn, OutputOptions(form, limit=limit, no_headers=bare))
    assert ours == theirs
    if form is Format.json:
        json.loads(ours)


@given(drawn=tables())
def test_lines_of_the_cilium_cli(drawn: Drawn) -> None:
    ours, theirs = both(drawn, OutputOptions(Format.cilium))
    assert ours == theirs


@given(drawn=tables(), limit=st.none() | st.integers(0, 3))
def test_yaml(drawn: Drawn, limit: int | None) -> None:
    ours, theirs = both(drawn, OutputOptions(Format.yaml, limit=limit))
    assert yaml.safe_load(ours) == yaml.safe_load(theirs)


@pytest.mark.parametrize("form", [Format.csv, Format.jsonl, Format.json, Format.table])
@given(drawn=tables())
def test_every_field(form: Format, drawn: Drawn) -> None:
    ours, theirs = both(drawn, OutputOptions(form, tuple(NAMED)))
    assert ours == theirs


@pytest.mark.parametrize("form", [Format.csv, Format.table, Format.cilium])
@given(drawn=tables(), field=st.sampled_from(NAMED), minus=st.booleans(), limit=st.none() | st.integers(0, 5))
def test_sorted(form: Format, drawn: Drawn, field: str, minus: bool, limit: int | None) -> None:
    ours, theirs = both(drawn, OutputOptions(form, sort=f"-{field}" if minus else field, limit=limit))
    assert ours == theirs


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
@given(drawn=tables(), color=st.sampled_from([ColorMode.never]), fields=st.sampled_from([(), ("source", "age")]))
def test_on_a_terminal(columns: int, drawn: Drawn, color: ColorMode, fields: tuple[str, ...]) -> None:
    with mock.patch.dict(os.environ, COLUMNS=str(columns)):
        ours, theirs = both(drawn, OutputOptions(Format.table, fields, color=color), Screen)
    assert ours == theirs
    assert all(len(line) <= columns for line in ours.splitlines()) or fields

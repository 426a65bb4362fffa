"""The output layer: formats, fields, sorting, limits, and that nothing from outside escapes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ctctl.errors import UsageError
from ctctl.out.options import ColorMode, Format, OutputOptions
from ctctl.out.output import write_document, write_rows
from ctctl.out.text import safe
from ctctl.out.view import Column, View


@dataclass(frozen=True)
class Pod:
    pod: str
    address: IPv4Address
    age_s: int | None


VIEW: View[Pod] = View(
    schema="test/pod/v1",
    plural="pods",
    columns=[
        Column("pod", "POD", lambda row: row.pod),
        Column("address", "ADDRESS", lambda row: row.address),
        Column("age_s", "AGE", lambda row: row.age_s, right=True, wide=True),
    ],
    name=lambda row: row.pod,
)
PODS = [
    Pod("b", IPv4Address("10.0.0.10"), 5),
    Pod("a", IPv4Address("10.0.0.9"), None),
    Pod("c", IPv4Address("9.0.0.1"), 3),
]


def written(options: OutputOptions, pods: list[Pod] = PODS) -> str:
    stream = io.StringIO()
    write_rows(VIEW, pods, options, stream, meta={"source": "test"})
    return stream.getvalue()


def test_table_when_piped_is_aligned_and_plain() -> None:
    assert written(OutputOptions()) == "POD  ADDRESS\nb    10.0.0.10\na    10.0.0.9\nc    9.0.0.1\n"
    assert written(OutputOptions(format=Format.wide)).splitlines()[1] == "b    10.0.0.10    5"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch, options: OutputOptions) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    write_rows(VIEW, [Pod("a-pod", IPv4Address("10.64.255.100"), 123456)], options, stream)
    assert write_rows(VIEW, [], options, Terminal()) == 0
    return stream.getvalue().splitlines()


def test_a_narrow_terminal_costs_no_character(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = OutputOptions(color=ColorMode.never)
    assert on_a_terminal(80, monkeypatch, plain) == ["POD    ADDRESS", "a-pod  10.64.255.100"]
    assert on_a_terminal(17, monkeypatch, plain) == ["POD", "    ADDRESS", "a-pod", "    10.64.255.100"]
    assert on_a_terminal(12, monkeypatch, plain)[-2:] == ["    10.64.25", "    5.100"]
    wide = OutputOptions(color=ColorMode.never, format=Format.wide)
    assert on_a_terminal(5, monkeypatch, wide) == ["POD    ADDRESS           AGE", "a-pod  10.64.255.100  123456"]


def test_color_never_and_no_color_leave_a_terminal_without_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1m" in on_a_terminal(80, monkeypatch, OutputOptions())[0]
    never = on_a_terminal(80, monkeypatch, OutputOptions(color=ColorMode.never))
    monkeypatch.setenv("NO_COLOR", "1")
    assert on_a_terminal(80, monkeypatch, OutputOptions()) == never == ["POD    ADDRESS", "a-pod  10.64.255.100"]


def test_sort_is_numeric_for_addresses_and_absent_values_come_last() -> None:
    assert written(OutputOptions(format=Format.name, sort="address")) == "c\na\nb\n"
    assert written(OutputOptions(format=Format.name, sort="-age_s")) == "b\nc\na\n"
    assert written(OutputOptions(format=Format.name, sort="age_s", limit=1)) == "c\n"


def test_json_yaml_csv_say_the_same() -> None:
    expected = [{"pod": p.pod, "address": str(p.address), "age_s": p.age_s} for p in PODS]
    document = json.loads(written(OutputOptions(format=Format.json)))
    assert document == {"schema": "test/pod/v1", "source": "test", "pods": expected}
    assert yaml.safe_load(written(OutputOptions(format=Format.yaml))) == document
    lines = [json.loads(line) for line in written(OutputOptions(format=Format.jsonl)).splitlines()]
    assert lines == [{"schema": "test/pod/v1", **record} for record in expected]
    rows = list(csv.DictReader(io.StringIO(written(OutputOptions(format=Format.csv)))))
    assert [row["address"] for row in rows] == [record["address"] for record in expected]
    assert rows[1]["age_s"] == ""


@pytest.mark.parametrize("form", [Format.json, Format.yaml])
def test_an_empty_list_is_a_list(form: Format) -> None:
    assert yaml.safe_load(written(OutputOptions(format=form), []))["pods"] == []


def test_fields_select_and_a_wrong_one_names_the_nearest() -> None:
    assert written(OutputOptions(fields=("age_s", "pod"), no_headers=True)).splitlines()[0] == "5  b"
    with pytest.raises(UsageError, match="unknown field 'adress'; did you mean 'address'"):
        written(OutputOptions(fields=("adress",)))
    with pytest.raises(UsageError, match="unknown sort field 'ago'"):
        written(OutputOptions(sort="-ago"))


def test_rows_without_a_cilium_form_say_so() -> None:
    with pytest.raises(UsageError, match="no cilium form"):
        written(OutputOptions(format=Format.cilium))


@pytest.mark.parametrize("form", [f for f in Format if f is not Format.cilium])
def test_no_format_lets_an_escape_sequence_through(form: Format) -> None:
    evil = [Pod("\x1b[2Jx\x9b31m\u202e", IPv4Address("1.2.3.4"), 1)]
    text = written(OutputOptions(format=form), evil)
    assert not any(char in text for char in "\x1b\x9b\u202e")


def test_color_is_asked_for_or_absent() -> None:
    assert "\x1b[" not in written(OutputOptions())
    assert "\x1b[" in written(OutputOptions(color=ColorMode.always))


@given(st.text())
def test_safe_text_prints_and_keeps_ordinary_text(text: str) -> None:
    cleaned = safe(text)
    assert all(char.isprintable() or char not in map(chr, range(0xA0)) for char in cleaned)
    assert safe(cleaned) == cleaned


def test_documents_have_structured_forms_only() -> None:
    stream = io.StringIO()
    write_document("test/doc/v1", {"address": IPv4Address("1.1.1.1")}, OutputOptions(format=Format.jsonl), stream)
    assert json.loads(stream.getvalue()) == {"schema": "test/doc/v1", "address": "1.1.1.1"}
    with pytest.raises(UsageError):
        write_document("test/doc/v1", {}, OutputOptions(format=Format.csv), stream)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", "\uff1d", "\uff0d"])
def test_no_formula_can_start_a_cell(start: str) -> None:
    text = f"{start}HYPERLINK(1)"
    view = View("test/v1", "rows", [Column(text, "A", lambda row: row), Column("b", "B", lambda row: [row, row])], str)
    stream = io.StringIO()
    write_rows(view, [text], OutputOptions(format=Format.csv), stream)
    head, row = csv.reader(io.StringIO(stream.getvalue()))
    for cell in (head[0], *row):
        assert not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0d"))
        assert "HYPERLINK(1)" in cell


def test_csv_keeps_numbers_and_leaves_absent_ones_empty() -> None:
    columns: list[Column[int | None]] = [Column("a", "A", lambda row: row), Column("b", "B", lambda _row: None)]
    stream = io.StringIO()
    write_rows(View("test/v1", "rows", columns, str), [-5, None, 0], OutputOptions(format=Format.csv), stream)
    assert stream.getvalue() == "a,b\n-5,\n,\n0,\n"

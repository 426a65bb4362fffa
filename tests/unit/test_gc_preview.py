"""Dry runs of what is no live table: scrubs, nodes without time, and the service entries of a gone backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import StringIO
from ipaddress import IPv4Address
from pathlib import Path
from typing import TextIO

import jsonschema
import numpy as np
import pytest

from ctctl.cli.schemas import SCHEMAS
from ctctl.decode.ct import decode_entry, encode_key, encode_value
from ctctl.errors import CtctlError, NotFoundError, UsageError
from ctctl.gc.backends import entries_of_backend
from ctctl.gc.explain import Scrub
from ctctl.gc.preview import explanations, preview
from ctctl.gc.show import report_document, summary, write_explanations, write_report
from ctctl.model.entry import CtEntry, CtFlags, Layout
from ctctl.model.service import Backend
from ctctl.model.tuples import FlowTuple
from ctctl.out.options import Format, OutputOptions
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.sources.listings import Listings

NOW = 5000
POD, PEER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9")


def entry(
    src: str, sport: int, dst: str, *, way: int = 0, left: int = 60, flags: int = 0x10, **more: object
) -> CtEntry:
    flow = FlowTuple(6, IPv4Address(src), sport, IPv4Address(dst), 80)
    blank = decode_entry(encode_key(flow, way), bytes(56), keep_raw=False)
    return replace(blank, flags=CtFlags(flags), lifetime=NOW + left, **more)  # type: ignore[arg-type]


def table(entries: list[CtEntry], *, node: str | None = None, now: int | None = NOW) -> CtTable:
    keys = np.array([list(encode_key(e.tuple, e.tuple_flags)) for e in entries], np.uint8).reshape(len(entries), 14)
    values = np.array([list(encode_value(e, Layout.V1_16)) for e in entries], np.uint8).reshape(len(entries), 56)
    return CtTable(
        "cilium_ct4_global", 4, Layout.V1_16, lambda: iter([(keys, values)]), node=node, now=now, max_entries=64
    )


def world() -> Source:
    mine = [entry("10.0.0.1", 1, "10.0.0.2"), entry("10.0.0.3", 2, "10.0.0.1", left=-5)]
    others = [entry("10.0.0.3", 3, "10.0.0.4"), entry("10.0.0.3", 4, "10.0.0.4", left=-7)]
    return Source("test", [table([*mine, *others])])


def test_a_scrub_takes_what_is_alive_and_says_so() -> None:
    scrub = Scrub("pod1", (POD.packed,))
    found, notes = explanations(world(), scrub)
    assert notes == []
    assert {(one.goes, one.why) for one in found} == {
        (True, "of pod1; 60 s left of regular-tcp"),
        (True, "of pod1; expired 5 s ago"),
        (False, "not of pod1; 60 s left of regular-tcp"),
        (False, "not of pod1; expired 7 s ago"),
    }
    document = report_document(preview(world(), scrub=scrub))
    assert (document["selected"], document["others"], document["scrubbed"]) == (2, 2, "pod1")
    assert "expired" not in document


def test_a_scrub_of_a_table_whose_time_is_unknown_says_what_it_takes() -> None:
    source = Source("old", [table([entry("10.0.0.1", 1, "10.0.0.2"), entry("10.0.0.3", 3, "10.0.0.4")], now=None)])
    scrub = Scrub("pod1", (POD.packed,))
    found, notes = explanations(source, scrub)
    assert notes == []
    assert [(one.goes, one.count, one.why) for one in found] == [
        (True, 1, "of pod1; what is left of regular-tcp is unknown"),
        (False, 1, "not of pod1; what is left of regular-tcp is unknown"),
    ]
    shown = StringIO()
    write_explanations(found, OutputOptions(Format.jsonl), shown)
    for line in shown.getvalue().splitlines():
        document = json.loads(line)
        jsonschema.validate(document, SCHEMAS[document["schema"]])
        assert (document["least_s"], document["most_s"]) == (None, None)


def test_a_scrub_of_the_other_ip_version_takes_nothing() -> None:
    report = preview(world(), scrub=Scrub("v6", (bytes(16),)))
    assert report.tables[0].expired == 0


def test_without_a_scrub_what_is_expired_goes() -> None:
    found, _ = explanations(world())
    assert {(one.goes, one.count) for one in found} == {(True, 2), (False, 2)}
    document = report_document(preview(world()))
    assert (document["alive"], document["expired"], "selected" in document) == (2, 2, False)
    # A walk that nothing disturbed.
    assert [table.resets for table in preview(world()).tables] == [0]


def test_what_stands_beside_the_rows() -> None:
    """Which entries were meant, where they are kept and how to bring them back; of a foreign table with its flag."""
    plain, scrubbed = preview(world()), preview(world(), scrub=Scrub("pod1", (POD.packed,)))
    assert str(summary(plain)[0]).startswith("dry run, nothing deleted: 2 alive, 2 expired (")
    assert str(summary(scrubbed)[0]).startswith(
        "dry run, nothing deleted: 2 entries of pod1, expired or not, 2 of others ("
    )
    assert report_document(plain)["undo_file"] is None
    kept = replace(plain, undo_file=Path("gone.jsonl"))
    assert report_document(kept)["undo_file"] == "gone.jsonl"
    told = [[line for line in map(str, summary(one)) if line.startswith("undo with: ")] for one in (plain, kept)]
    assert (told[0], len(told[1]), "--allow-foreign" in told[1][0]) == ([], 1, False)
    assert "--allow-foreign" in "".join(map(str, summary(replace(kept, foreign=True))))


def test_a_node_without_time_hides_no_other() -> None:
    timed, untimed = table([entry("10.0.0.1", 1, "10.0.0.2", left=-9)], node="a"), table([], node="b", now=None)
    report = preview(Source("archive", [timed, untimed]))
    assert (sum(t.expired for t in report.tables), report.complete) == (1, False)
    note = "b: cilium_ct4_global: the time of the dump is unknown: give --now"
    assert note in report.notes
    found, notes = explanations(Source("archive", [timed, untimed]))
    assert ([one.count for one in found], notes) == ([1], [note])
    for ask in (preview, explanations):
        with pytest.raises(CtctlError, match="give --now"):
            ask(Source("archive", [untimed]))


def test_figures_of_several_nodes_say_whose_they_are() -> None:
    """Also of the only one that has a time; of one node alone there is nothing to say."""
    a, b = (table([entry("10.0.0.1", 1, "10.0.0.2", left=-9)], node=name) for name in "ab")
    untimed = table([entry("10.0.0.1", 1, "10.0.0.2")], node="c", now=None)
    for tables, named in (([a, b], ["a", "b"]), ([a, untimed], ["a"]), ([a], [None])):
        source = Source("archive", tables)
        report = preview(source)
        shown = StringIO()
        write_report(report, OutputOptions(Format.json), shown, StringIO())
        document = json.loads(shown.getvalue())
        assert [row.get("node") for row in document["rows"]] == named
        assert [one.get("node") for one in document["maps"]] == named
        found, _ = explanations(source)
        why = StringIO()
        write_explanations(found, OutputOptions(Format.jsonl), why, source.nodes())
        assert [json.loads(line).get("node") for line in why.getvalue().splitlines()] == named


def service_world(*, gone: bool) -> Source:
    """Two clients of a service; backend 7 at PEER, backend 8 elsewhere."""
    rows = [
        entry("10.0.0.1", 1, "10.96.0.1", way=4, backend_id=7, rev_nat=5),
        entry("10.0.0.1", 1, str(PEER), rev_nat=5),
        entry("10.0.0.2", 1, "10.96.0.1", way=4, backend_id=7, rev_nat=5),
        entry("10.0.0.1", 2, "10.96.0.1", way=4, backend_id=8, rev_nat=5),
        entry("10.0.0.1", 2, "10.0.0.8", rev_nat=5),
    ]
    backends = [Backend(8, IPv4Address("10.0.0.8"), 6, 80), *([] if gone else [Backend(7, PEER, 6, 80)])]
    return Source("test", [table(rows)], listings=lambda _node: Listings(backends=backends))


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("text", ["10.0.0.9", "7"])
def test_service_entries_of_a_backend(gone: bool, text: str) -> None:
    source = service_world(gone=gone)
    wanted, known = entries_of_backend(source, text)
    assert ("gone" in known) is gone
    (only,) = source.tables
    (columns,) = only.columns()
    chosen = [
        found.tuple.src_port
        for found in (columns.entry(index) for index in range(len(columns)))
        if wanted.matches(found, only.context())
    ]
    assert chosen == [1, 1]


def test_a_backend_is_gone_only_where_its_table_is_shown() -> None:
    source = service_world(gone=True)
    source.listings = lambda _node: Listings(missing={"backends"})
    for text in ("10.0.0.9", "7"):
        assert "may be gone or not" in entries_of_backend(source, text)[1]


def test_each_node_has_numbers_of_its_own() -> None:
    rows = [
        entry("10.0.0.1", 1, "10.96.0.1", way=4, backend_id=7, rev_nat=5),
        entry("10.0.0.1", 1, str(PEER), rev_nat=5),
    ]
    tables = [table(rows, node="a"), table(rows, node="b")]
    backends = {
        "a": [Backend(7, PEER, 6, 80)],
        "b": [Backend(7, IPv4Address("10.0.0.8"), 6, 80), Backend(9, PEER, 6, 80)],
    }
    source = Source("test", tables, listings=lambda node: Listings(backends=backends[node or "a"]))
    wanted, known = entries_of_backend(source, str(PEER))
    assert (
        known == f"a: backend {PEER} (id 7) is still in the backend table; "
        f"b: backend {PEER} (id 9) is still in the backend table"
    )
    assert [[wanted.matches(c.entry(0), t.context()) for c in t.columns()] for t in tables] == [[True], [False]]


@pytest.mark.parametrize("several", [False, True])
def test_a_backend_by_the_name_of_its_pod(several: bool) -> None:
    rows = [entry("10.0.0.1", 1, "10.96.0.1", way=4, backend_id=7, rev_nat=5)]
    tables = [table(rows, node=name) for name in ("a", "b")] if several else [table(rows)]
    names = {"a": {str(PEER): "shop/web-0"}, "b": {}}
    source = Source(
        "test",
        tables,
        listings=lambda node: Listings(backends=[Backend(7, PEER, 6, 80)], names=names[node or "a"]),
    )
    for name in ("web-0", "shop/web-0"):
        wanted, known = entries_of_backend(source, name)
        assert known == f"{'a: ' if several else ''}backend {name} (id 7) is still in the backend table"
        (first, *others) = ([wanted.matches(c.entry(0), t.context()) for c in t.columns()] for t in tables)
        assert (first, others) == ([True], [[False]] if several else [])
    with pytest.raises(UsageError, match="did you mean 'web-0'"):
        entries_of_backend(source, "web-1")


def test_what_is_no_backend() -> None:
    with pytest.raises(NotFoundError, match="no service entry uses a backend at"):
        entries_of_backend(service_world(gone=True), "10.0.0.77")
    with pytest.raises(UsageError):
        entries_of_backend(service_world(gone=True), "web")


def test_figures_stand_below_the_ends_of_their_headers() -> None:
    table_text = StringIO()
    write_report(preview(world()), OutputOptions(Format.table), table_text, StringIO())
    head, row = table_text.getvalue().splitlines()
    for word in ("ALIVE", "EXPIRED", "DELETED", "SKIPPED"):
        end = head.index(word) + len(word)
        assert row[end - 1].isdigit()
        assert not row[end : end + 1].strip()


def first_line_of(form: Format, write: Callable[[OutputOptions, TextIO], None]) -> list[str]:
    stream = StringIO()
    write(OutputOptions(form), stream)
    return stream.getvalue().splitlines()[0].split()


def test_which_columns_a_table_has_by_itself() -> None:
    """What a reader needs to decide; the rest is for -o wide."""
    found, report = explanations(world())[0], preview(world())
    usual = ["MAP", "PROTOCOL", "DIRECTION", "STATE", "FATE", "COUNT", "WHY"]
    more = ["RELATED", "LEAST_S", "MOST_S", "TIMEOUT"]
    explained = [first_line_of(form, partial(write_explanations, found)) for form in (Format.table, Format.wide)]
    assert explained[0] == usual
    assert sorted(explained[1]) == sorted(usual + more)
    reported = [
        first_line_of(form, lambda options, stream: write_report(report, options, stream, StringIO()))
        for form in (Format.table, Format.wide)
    ]
    assert reported[0] == ["MAP", "PROTOCOL", "DIRECTION", "ALIVE", "EXPIRED", "DELETED", "SKIPPED"]
    assert sorted(reported[1]) == sorted([*reported[0], "RELATED", "FAMILY"])

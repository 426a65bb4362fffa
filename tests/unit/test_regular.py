"""Listings read in passes say what the careful reader says, line by line: of every version, whole, cut, edited."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.model.entry import Layout
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.ct_runs import CtRuns
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.ipcache_runs import IpcacheRuns
from ctctl.tables.sources.nat_runs import NatRuns
from ctctl.tables.sources.nf_runs import ConntrackRuns
from ctctl.tables.sources.pair_runs import BackendRuns, EndpointRuns, RevNatRuns
from ctctl.tables.sources.regular import Patience
from ctctl.tables.sources.service_list_runs import AgentServiceRuns
from ctctl.tables.sources.service_runs import MapsRuns, ServiceRuns
from tests.support import captures
from tests.support.both_ways import agree, counting, counting_rows, read
from tests.support.drawn import pairs
from tests.support.drawn_documents import NAT_FORMS, by_fields, documents, nat_document, nat_documents
from tests.support.drawn_lines import listings, worded
from tests.support.wait import PATIENCE_S

DATA = Path(__file__).resolve().parents[1] / "data"
_MARKS = (
    *(b"expires=", b'"Lifetime"', b'"key":', b"ctctl/ct-entry", b"key:\n", b" XLATE_", b"SERVICE ADDRESS"),
    *(b"identity=", b"SVC: ID=", b"dport=", b"Service Type", b"LOCAL ENDPOINT", b"BACKEND ADDRESS (REVNAT_ID)"),
)
LISTINGS = sorted(
    path
    for path in DATA.rglob("*")
    if path.suffix in {".txt", ".json", ".jsonl", ".md", ".yaml", ".log", ""}
    and path.is_file()
    and any(mark in path.read_bytes() for mark in _MARKS)
)


@pytest.mark.parametrize("path", LISTINGS, ids=[str(path.relative_to(DATA)) for path in LISTINGS])
def test_listings_that_people_had(path: Path) -> None:
    text = path.read_bytes()
    agree(text)
    agree(text.replace(b"\n", b"\r\n"))
    agree(b"".join(b"> " + line + b"\n" for line in text.split(b"\n")))


@pytest.mark.parametrize("name", captures.NAMES)
def test_listings_of_nodes(name: str) -> None:
    for file, text in captures.files(name).items():
        if file.endswith(".txt") and any(mark in text for mark in _MARKS):
            agree(text, file)
            agree(b"".join(line + b" \n\n"[len(line) % 3 :] for line in text.split(b"\n")), file)


@settings(max_examples=50, deadline=None)
@given(pairs(), st.sampled_from([None, *Layout]))
def test_fields_are_the_bytes_that_they_were_made_of(pair: tuple[bytes, bytes], layout: Layout | None) -> None:
    found = agree(("[" + by_fields(*pair, layout) + "\n]\n").encode())
    (table,) = found["tables"].values()
    assert (bytes(table["keys"]), bytes(table["values"])) == pair
    assert table["layout"] is (Layout.V1_15 if layout is Layout.V1_14 else layout or Layout.V1_16)


def test_an_entry_without_its_flags_is_none() -> None:
    """Not one of state "new"."""
    text = by_fields(bytes(12) + bytes((6, 0)), bytes(56), Layout.V1_16).replace('"tx_closing"', '"renamed"')
    found, _spent = read(("[" + text + "\n]\n").encode(), passes=True)
    assert not found["tables"]
    assert found["losses"] == 1


@settings(max_examples=80, deadline=None)
@given(documents())
def test_any_document(text: bytes) -> None:
    agree(text)


@settings(max_examples=80, deadline=None)
@given(nat_documents())
def test_any_document_of_translations(document: tuple[bytes, str]) -> None:
    agree(*document)


@pytest.mark.parametrize("form", NAT_FORMS)
@pytest.mark.parametrize("half", [4, 16])
def test_translations_are_read_in_passes(form: str, half: int) -> None:
    tail = bytes(32 + half) + b"\0\x50" + bytes(2 if half == 4 else 6)
    records = [(bytes((n & 255, n >> 8)) + bytes(2 * half + 3) + b"\x06", tail) for n in range(1000)]
    name = "cilium_snat_v6_external"
    with counting() as taken:
        found, _ = read(nat_document(records, form).encode(), passes=True, hint=name)
    assert (len(found["nat"]), found["partial"], found["losses"]) == (1000, [], 0)
    assert sum(taken) > 990


@pytest.mark.parametrize("lacking", ["to_saddr", "to_sport"])
def test_a_translation_without_its_end_is_none(lacking: str) -> None:
    text = nat_document([(bytes(14), bytes(40))], "fields").replace(lacking, "renamed")
    found, _ = read(text.encode(), passes=True, hint="cilium_snat_v4_external")
    assert (found["nat"], found["losses"]) == ([], 1)


@settings(max_examples=150, deadline=None)
@given(listings())
def test_any_listing(text: bytes) -> None:
    agree(text)


@settings(max_examples=150, deadline=None)
@given(worded())
def test_any_listing_behind_words(text: bytes) -> None:
    agree(text)


def test_lines_behind_words_are_read_in_passes() -> None:
    plain = (DATA / "samples/cilium-dbg-1.16.4/ct-list-global.txt").read_bytes()
    whole = read(plain, passes=True)[0]["tables"]
    for front in (b"node-1: ", b"2026-11-25T19:14:%d.4Z pod-%d/cilium ", b"dump.txt:%d:", b"Nov 25 19:14:%d n-%d: "):
        text = b"".join(front.replace(b"%d", b"%d" % at) + line + b"\n" for at, line in enumerate(plain.splitlines()))
        with counting_rows(CtRuns) as taken:
            assert read(text, passes=True)[0]["tables"] == whole, front
        assert taken[CtRuns] > sum(len(table["values"]) for table in whole.values()) // 56 // 2, front


def test_a_document_of_one_long_line() -> None:
    """``bpftool -j`` writes all of a table in one line."""
    element = {"key": ["0x00"] * 13 + ["0x01"], "value": ["0x07"] * 56}
    many = [
        {**element, "key": [f"0x{number >> 8:02x}", f"0x{number & 255:02x}", *element["key"][2:]]}
        for number in range(4000)
    ]
    found = agree(json.dumps(many, separators=(",", ":")).encode())
    assert len(found["tables"]["cilium_ct_any4_global"]["values"]) == 4000 * 56
    assert not found["partial"]


def test_an_endless_line_is_left_out() -> None:
    found = agree(b"[" + b"x" * (1 << 21) + b"\n" + LISTINGS[0].read_bytes())
    assert found["partial"][0] == "1 line(s) of more than 1 MiB: not read" or found["tables"]


def test_passes_take_what_is_regular() -> None:
    """What the tests above compare is not the same way twice: most records of each form are read in passes."""
    with counting() as taken:
        for form in (
            "cilium-dbg-1.16.4/ct-list-global.txt",
            "cilium-dbg-1.16.4/ct-list-global.json",
            "bpftool/no-btf/cilium_ct4_global.txt",
            "bpftool/no-btf/cilium_ct4_global.j.json",
            "bpftool/btf-1.16/cilium_ct4_global.p.json",
            "bpftool/btf-1.16/cilium_ct4_global.txt",
            "cilium-dbg-1.16.4/ct-list-global.yaml",
        ):
            taken.clear()
            found, _ = read((DATA / "samples" / form).read_bytes(), passes=True)
            count = sum(len(table["values"]) // 56 for table in found["tables"].values())
            assert sum(taken) > count / 2, form


_RUNS: tuple[type, ...] = (CtRuns, NatRuns, ServiceRuns, IpcacheRuns, MapsRuns, ConntrackRuns)
_RUNS += (EndpointRuns, BackendRuns, RevNatRuns, AgentServiceRuns)


def test_a_pass_takes_the_lines() -> None:
    """What the tests above compare is not the same way twice."""
    with counting_rows(*_RUNS) as taken:
        for path in LISTINGS:
            read(path.read_bytes(), passes=True)
        for name in captures.NAMES:
            head, *rest = captures.text(name, "cmd/service-list.txt").splitlines(keepends=True)
            many = "".join([head, *rest * 30])  # as wide as each other: whether they were broken takes some to tell
            assert len(read(many.encode(), passes=True)[0]["listings"].services) > 30 * len(rest)
        row = "{:<32}10.61.1.102:8000/TCP (18) (1)".format
        aligned = "".join(f"{row(f'10.96.{n >> 8}.{n & 255}:80/TCP (1)'):<76}\n" for n in range(1000))
        assert len(read(aligned.encode(), passes=True)[0]["listings"].services) == 1000
    assert taken[CtRuns] > 1000
    assert taken[NatRuns] > 1000
    assert taken[ServiceRuns] > 500
    assert taken[IpcacheRuns] > 20
    assert taken[MapsRuns] > 2
    assert taken[ConntrackRuns] > 3
    assert taken[EndpointRuns] > 3
    assert taken[BackendRuns] > 100
    assert taken[RevNatRuns] > 50
    assert taken[AgentServiceRuns] > 50


def test_what_another_thread_reads_is_apart() -> None:
    """Rows that a pass has read stay, while a listing of the same form is read beside it: a server has many threads."""
    text = (DATA / "samples/cilium-dbg-1.16.4/ct-list-global.txt").read_bytes()
    first, _, rest = text.partition(b"\n")
    alone, _ = read(text, passes=True)
    beside: list[threading.Thread] = []
    add_rows = CtRuns.add_rows

    def slow(listing: CtRuns, rows: Any) -> None:
        if not beside:
            beside.append(threading.Thread(target=read_content, args=(io.BytesIO(rest + b"\n" + first), Dump())))
            beside[0].start()
            beside[0].join(PATIENCE_S)
            assert not beside[0].is_alive()
        add_rows(listing, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CtRuns, "add_rows", slow)
        found, _ = read(text, passes=True)
    assert beside
    assert found == alone


def test_a_pass_that_takes_one_line_is_in_vain() -> None:
    """Each costs more than lines that are read one by one."""
    patience = Patience()
    tries = 0
    for _ in range(10_000):
        if patience.ready():
            tries += 1
            patience.after(1)
    assert tries < 100
    patience.after(5000)
    assert patience.ready()

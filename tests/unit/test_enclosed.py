"""Listings within documents of another kind, as people and tools wrap them; what is cut is said by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctctl.errors import NothingReadError
from tests.support import captures
from tests.support.listings import listed, read_text

CAPTURE = "cilium-1.19-dsr-node1"
ROWS = captures.document(CAPTURE, "cli/ct-list-global.json")
LINES = captures.text(CAPTURE, "cli/ct-list-global.txt").splitlines()
MERGED = (
    "a JSON document with several lists (Cilium ct list (JSON): ct, other): shown as one node's; if they are not, give"
    " each a file"
)
WRAPPED: dict[str, Callable[[Any], Any]] = {
    "a list of Kubernetes": lambda rows: {"apiVersion": "v1", "items": rows, "kind": "List"},
    "an object": lambda rows: {"items": rows},
    "deep": lambda rows: [{"node": "n1", "data": {"entries": rows, "more": [1, {}]}}],
    "beside another": lambda rows: {"ct": ROWS[:1], "other": rows, "kind": "x"},
    "behind much else": lambda rows: {"meta": ["x" * 9000], "entries": rows},
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("way", WRAPPED)
@pytest.mark.parametrize("name", ["ct-list-global", "nat-list", "lb-list"])
def test_rows_in_a_document(name: str, way: str, indent: int | None, tmp_path: Path) -> None:
    rows = captures.document(CAPTURE, f"cli/{name}.json")
    text = json.dumps(WRAPPED[way](rows), indent=indent)
    more = json.dumps(ROWS[:1]) + "\n" if way == "beside another" else ""
    behind = "\n10.96.255.1:80 (1)   10.1.1.1:80 (1) (1)\n"
    with (
        read_text(tmp_path / "plain", more + json.dumps(rows, indent=1) + behind) as plain,
        read_text(tmp_path / "wrapped", text + behind) as wrapped,
    ):
        assert sorted(listed(wrapped)) == sorted(listed(plain))
        assert wrapped.listings(None) == plain.listings(None)
        assert wrapped.partial == ([MERGED] if way == "beside another" and name == "ct-list-global" else [])


def test_a_long_list_is_read_as_it_comes(tmp_path: Path) -> None:
    """Beyond what an object may have as a whole."""
    rows = [ROWS[0] | {"Key": ROWS[0]["Key"] | {"SourcePort": n}} for n in range(25_000)]
    text = json.dumps({"items": rows, "kind": "List"})
    assert len(text) > 8 << 20
    with read_text(tmp_path / "long", text) as found:
        assert len(listed(found)) == 25_000
        assert not found.partial


def test_lists_of_several_nodes_are_not_one_silently(tmp_path: Path) -> None:
    """Members may be called as nodes are, or not: the document does not say so."""
    half = len(ROWS) // 2
    with read_text(tmp_path / "x", json.dumps({"n1": ROWS[:half], "n2": ROWS[half:]})) as found:
        assert len(listed(found)) == len(ROWS)
        assert ["n1, n2" in text for text in found.partial] == [True]


NAMED: dict[str, Callable[[Any, Any], Any]] = {
    "a member": lambda one, two: [{"node": "n1", **one}, {"node": "n2", **two}],
    "within": lambda one, two: {"items": [{"hostname": "n1", "of": [one]}, {"hostname": "n2", "of": [two]}]},
    "by node": lambda one, two: {"nodes": {"n1": one, "n2": two}},
}


@pytest.mark.parametrize("way", NAMED)
@pytest.mark.parametrize("indent", [None, 2])
def test_lists_of_nodes_that_the_document_names(way: str, indent: int | None, tmp_path: Path) -> None:
    """Each node has its own, of every kind; what cannot be read is said."""
    nat, pairs = captures.document(CAPTURE, "cli/nat-list.json"), captures.document(CAPTURE, "cli/lb-list.json")
    many = [ROWS[0] | {"Key": ROWS[0]["Key"] | {"SourcePort": n}} for n in range(2000)]
    one, two = {"ct": many, "lb": pairs}, {"ct": many[:700], "nat": nat}
    document = json.dumps(NAMED[way](one, two), indent=indent)
    with read_text(tmp_path / "x", document) as found:
        assert not found.partial
        assert {table.node: table.count for table in found.tables} == {"n1": 2000, "n2": 700}
        first, second = found.listings("n1"), found.listings("n2")
        assert (first.count("nat"), second.count("nat")) == (0, len(nat))
        assert (bool(first.services), bool(second.services)) == (True, False)
    broken = document.replace('"Lifetime"', '"Renamed"', 1)
    with read_text(tmp_path / "x", broken) as found:
        assert {table.node: table.count for table in found.tables} == {"n1": 1999, "n2": 700}
        assert len(found.partial) == 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one, two: {"items": [{"ct": one, "node": "n1"}, {"ct": two, "node": "n2"}]},
        lambda one, two: [one, two],
        lambda one, two: {"n1": {"ct": one}, "n2": {"ct": two}},
        lambda one, two: {"items": [{"metadata": {"nodeName": "n1"}, "ct": one}, {"ct": two}]},
        lambda one, two: {"a": json.dumps(one, indent=1), "b": {"pod_name": "kube-system/x", "a": json.dumps(two)}},
    ],
)
def test_that_several_lists_are_one_is_said_whatever_they_are_called(wrap: Any, tmp_path: Path) -> None:
    half = len(ROWS) // 2
    with read_text(tmp_path / "x", json.dumps(wrap(ROWS[:half], ROWS[half:]))) as found:
        assert len(listed(found)) == len(ROWS)
        assert len({table.node for table in found.tables}) == 2 or [
            "several lists" in text for text in found.partial
        ] == [True]


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "bastion"])
@pytest.mark.parametrize("whose", ["node", "pod"])
def test_a_host_within_is_not_the_node(whose: str, host: str, text: bool, tmp_path: Path) -> None:
    """Where something was asked for is another matter than what it is of; what says more is heeded within, too."""
    parts: list[Any] = ["\n".join(LINES[n::2]) for n in (0, 1)] if text else [ROWS[:3], ROWS[3:]]
    inner = [{whose: f"n{n}", "source": {"host": host, "entries": part}} for n, part in enumerate(parts)]
    outer = {"host": host, "of": [{whose: f"n{n}", "entries": part} for n, part in enumerate(parts)]}
    for document in (inner, outer):
        with read_text(tmp_path / "x", json.dumps(document)) as found:
            assert sorted({str(table.node) for table in found.tables}) == ["n0", "n1"]
            assert not found.partial


def test_what_all_nodes_are_in_is_no_node(tmp_path: Path) -> None:
    items = [{"name": "n1", "entries": ROWS[:3]}, {"name": "n2", "entries": ROWS[3:]}]
    with read_text(tmp_path / "x", json.dumps({"nodes": {"items": items}})) as found:
        assert len(listed(found)) == len(ROWS)
        assert {table.node for table in found.tables} == {None}
        assert ["several lists" in text for text in found.partial] == [True]


@pytest.mark.parametrize("member", ["nodes", "hosts"])
def test_a_list_of_nodes_names_none_by_its_members(member: str, tmp_path: Path) -> None:
    parts = [{"node": f"n{n}", "stdout": "\n".join(LINES[n::2])} for n in (0, 1)]
    with read_text(tmp_path / "x", json.dumps({member: parts})) as found:
        assert sorted({str(table.node) for table in found.tables}) == ["n0", "n1"]
        assert len(listed(found)) == len(set(LINES) - {""})


@pytest.mark.parametrize(
    "document",
    [
        {
            "hits": {
                "hits": [{"_source": {"message": line, "host": {"name": f"n{n & 1}"}}} for n, line in enumerate(LINES)]
            }
        },
        {
            "data": {
                "result": [{"stream": {"node": f"n{n}"}, "values": [["17", s] for s in LINES[n::2]]} for n in (0, 1)]
            }
        },
        {"plays": [{"tasks": [{"hosts": {f"n{n}": {"stdout": "\n".join(LINES[n::2])} for n in (0, 1)}}]}]},
    ],
)
def test_text_of_several_nodes(document: dict[str, Any], tmp_path: Path) -> None:
    """Of logs with a line a field, and of what a tool collected."""
    with (
        read_text(tmp_path / "x", json.dumps(document)) as found,
        read_text(tmp_path / "plain", "\n".join(LINES)) as plain,
    ):
        assert sorted({str(table.node) for table in found.tables}) == ["n0", "n1"]
        assert sorted(listed(found)) == sorted(listed(plain))
        assert not found.partial


def test_lines_of_a_log_of_several_nodes(tmp_path: Path) -> None:
    text = "".join(json.dumps({"MESSAGE": line, "_HOSTNAME": f"n{n & 1}"}) + "\n" for n, line in enumerate(LINES))
    with read_text(tmp_path / "x", text) as found:
        assert ["n0, n1" in said for said in found.partial] == [True]


def test_what_journald_cannot_print(tmp_path: Path) -> None:
    """A message with colours is a list of its bytes."""
    text = "".join(
        json.dumps({"MESSAGE": list(f"\x1b[32m{line}\x1b[0m".encode()), "_HOSTNAME": "n0"}) + "\n" for line in LINES
    )
    with read_text(tmp_path / "x", text) as found, read_text(tmp_path / "plain", "\n".join(LINES)) as plain:
        assert sorted(listed(found)) == sorted(listed(plain))
        assert not found.partial


@pytest.mark.parametrize("name", ["ct-list-global", "nat-list", "lb-list", "endpoint-list"])
@pytest.mark.parametrize("indent", [None, 2])
def test_editors_quote_marks(name: str, indent: int | None, tmp_path: Path) -> None:
    document = captures.document(CAPTURE, f"cli/{name}.json")
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    parts = text.split('"')
    curly = "".join(part + "“”"[n & 1] for n, part in enumerate(parts[:-1])) + parts[-1]
    with read_text(tmp_path / "plain", text) as plain, read_text(tmp_path / "curly", curly) as found:
        assert sorted(listed(found)) == sorted(listed(plain))
        assert found.listings(None) == plain.listings(None)
        assert not found.partial


@pytest.mark.parametrize("marks", ["“”", '""', "„“"])
def test_a_quotation_of_several_lines(marks: str, tmp_path: Path) -> None:
    text = "\n".join(LINES)
    with (
        read_text(tmp_path / "x", f"{marks[0]}{text.strip()}{marks[1]}\n") as found,
        read_text(tmp_path / "plain", text) as plain,
    ):
        assert sorted(listed(found)) == sorted(listed(plain))
        assert not found.partial


@pytest.mark.parametrize("name", ["ct-list-global", "nat-list", "lb-list", "endpoint-list", "ipcache-list"])
@pytest.mark.parametrize("size", [45, 60])
def test_a_document_cut_within_its_first_element(name: str, size: int, tmp_path: Path) -> None:
    text = captures.text(CAPTURE, f"cli/{name}.json")[:size]
    with pytest.raises(NothingReadError, match=r"listing .*, cut off within its first element"):
        read_text(tmp_path / "cut", text)


def test_enclosed_rows_that_are_cut(tmp_path: Path) -> None:
    text = json.dumps({"items": ROWS})
    with read_text(tmp_path / "cut", text[: len(text) // 2]) as found:
        assert 10 < len(listed(found)) < len(ROWS)
        assert found.partial

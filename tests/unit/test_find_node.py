"""The one search for nodes: names, and the one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctctl.abi import pins
from ctctl.errors import NotFoundError, UsageError
from ctctl.node import find
from ctctl.node.paths import NodePaths


def make(bpffs: Path, name: str, *, whole: bool = True) -> NodePaths:
    paths = NodePaths(bpffs, name)
    paths.dir.mkdir(parents=True)
    if whole:
        paths.map(pins.CT4_TCP).touch()
    return paths


@pytest.mark.parametrize("name", ["node-a", "node.example", "100%", "a%2Eb", "%25"])
def test_a_name_comes_back_from_its_directory(tmp_path: Path, name: str) -> None:
    paths = make(tmp_path, name)
    assert "." not in paths.dir.name
    assert find.node_at(paths.dir) == name
    assert find.list_nodes(tmp_path) == [name]
    assert find.choose_node(name, tmp_path) == paths


@pytest.mark.parametrize("place", ["elsewhere/node-a", "ctctl/not.encoded", "ctctl/node-a/links"])
def test_any_other_directory_is_no_node(tmp_path: Path, place: str) -> None:
    assert find.node_at(tmp_path / place) is None


def test_no_node_is_said_once(tmp_path: Path) -> None:
    for search in (lambda: find.choose_node(None, tmp_path), lambda: find.choose_nodes((), tmp_path)):
        with pytest.raises(NotFoundError, match=f"no node is loaded under {tmp_path}/ctctl: ctctl load"):
            search()


def test_a_wrong_name_names_the_nearest(tmp_path: Path) -> None:
    make(tmp_path, "node-a")
    for search in (
        lambda: find.choose_node("node-b", tmp_path),
        lambda: find.choose_nodes(["node-a", "node-b"], tmp_path),
        lambda: find.find_tables("node-b", tmp_path),
    ):
        with pytest.raises(NotFoundError, match=r"no node 'node-b' is loaded; did you mean 'node-a'\?"):
            search()
    with pytest.raises(NotFoundError, match=r"no node 'zzz' is loaded \(loaded: node-a\)"):
        find.choose_node("zzz", tmp_path)


def test_several_must_be_named(tmp_path: Path) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    for search in (lambda: find.choose_node(None, tmp_path), lambda: find.find_tables(None, tmp_path)):
        with pytest.raises(UsageError, match=r"several nodes are loaded \(one, two\): say which with --node"):
            search()
    assert find.choose_nodes((), tmp_path) == [one, two]
    assert find.choose_nodes(["two", "two"], tmp_path) == [two]


def test_tables_are_the_whole_nodes_then_ciliums(tmp_path: Path) -> None:
    half = make(tmp_path, "half", whole=False)
    missing = "no table: no ctctl node is loaded and no Cilium is running; name a source with --from, or ctctl load"
    with pytest.raises(NotFoundError, match=missing):
        find.find_tables(None, tmp_path)
    (tmp_path / "tc/globals").mkdir(parents=True)
    (tmp_path / "tc/globals" / pins.CT6_ANY).touch()
    assert find.find_tables(None, tmp_path) == tmp_path / "tc/globals"
    assert find.find_tables("half", tmp_path) == half.dir
    assert find.find_tables(None, tmp_path) != half.dir
    whole = make(tmp_path, "whole")
    assert find.find_tables(None, tmp_path) == whole.dir

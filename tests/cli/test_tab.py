"""What TAB offers without typer is what typer offers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer._completion_classes import FishComplete

from ctctl.cli import tab
from ctctl.cli.main import app
from tests.support.children import CTCTL

TABLE = json.loads(tab.TABLE.read_bytes())


def nodes(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    yield path, node
    for name, below in node["commands"].items():
        yield from nodes(below, (*path, name))


NODES = dict(nodes(TABLE))


def typers(words: list[str], incomplete: str) -> list[tuple[str, str]]:
    """Typer's own answer."""
    command = typer.main.get_command(app)
    found = FishComplete(command, {}, "ctctl", "_CTCTL_COMPLETE").get_completions(list(words), incomplete)
    return [(item.value, " ".join((item.help or "").split())) for item in found]


def same(ours: Sequence[tuple[str, str]], typers: Sequence[tuple[str, str]]) -> None:
    """A command's first sentence is whole in ours and cut in typer's; the names of --help come out of a set there."""
    ours, typers = ([offer for offer in found if offer[0] not in ("-h", "--help")] for found in (ours, typers))
    assert [word for word, _ in ours] == [word for word, _ in typers]
    for (_, whole), (_, told) in zip(ours, typers, strict=True):
        assert whole.startswith(told.removesuffix("...").rstrip())


@pytest.mark.parametrize("path", NODES, ids=" ".join)
def test_of_every_command_everything(path: tuple[str, ...]) -> None:
    """Its commands, its options, those that are left when each was given, and the values that are always the same."""
    node = NODES[path]
    for incomplete in ("-", "--", *([""] if node["commands"] or node["runs"] or node["filter"] == 0 else [])):
        ours = tab.offers(TABLE, list(path), incomplete)
        assert ours is not None
        same(ours, typers(list(path), incomplete))
    constant = [option for option in node["options"] if isinstance(option["takes"], list)]
    for option in constant:
        for name in option["names"]:
            ours = tab.offers(TABLE, [*path, name], "")
            assert ours
            same(ours, typers([*path, name], ""))
            joined = tab.offers(TABLE, list(path), f"{name}={ours[0].word[:1]}")
            if not name.startswith("--"):
                assert joined == []  # typer offers what it would refuse: -o=json is the value "=json"
                continue
            assert joined is not None
            same(joined, typers(list(path), f"{name}={ours[0].word[:1]}"))
    for option in constant[:1]:
        given = [*path, option["names"][-1], option["takes"][0]]
        ours = tab.offers(TABLE, given, "--")
        assert ours is not None
        same(ours, typers(given, "--"))


ALL = sorted({name for node in NODES.values() for option in node["options"] for name in option["names"]})
WORDS = st.one_of(
    st.sampled_from([word for path in NODES for word in path]),
    st.sampled_from(ALL),
    st.sampled_from(
        ["", "-", "--", "=", "x", "9", "json", "tcp", "a == b", "a == b and st", "--from=x", "-ojson", "-vv", "closed"]
    ),
)


@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from(sorted(NODES)), more=st.lists(WORDS, max_size=4), last=WORDS, cut=st.integers(0, 12))
def test_whatever_was_typed(path: tuple[str, ...], more: list[str], last: str, cut: int) -> None:
    words, incomplete = [*path, *more], last[:cut]
    ours = tab.offers(TABLE, words, incomplete)
    if ours is not None and "cluster" not in words:
        same(ours, typers(words, incomplete))
    elif ours is not None:  # typer knows no options of the command that is run
        assert {word for word, _ in typers(words, incomplete)} <= {word for word, _ in ours}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cluster ct list --so", ["--sort"]),
        ("cluster -n x ct li", ["list"]),
        ("cluster ct list --state c", ["closing", "closed"]),
        ("cluster doctor --dead", ["--deadline"]),
        ("cluster ct top --deadline 5 --by ser", ["service"]),
        ("cluster ct de", ["decode"]),
        ("cluster ct list --fr", ["--from-ip", "--from-port"]),
        ("cluster ct list --all", []),
        ("cluster no", ["nodes"]),
        ("cluster ct list proto", ["proto"]),
    ],
)
def test_what_a_cluster_runs_has_its_options(line: str, words: list[str]) -> None:
    *before, last = line.split()
    found = tab.offers(TABLE, before, last)
    assert found is not None
    assert [offer.word for offer in found] == words


def ask(line: str, protocol: str, *interpreter: str) -> subprocess.CompletedProcess[str]:
    told = {
        "complete_fish": {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": line},
        "complete_bash": {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))},
    }[protocol]
    return subprocess.run(
        [sys.executable, *interpreter, *CTCTL[1:]],
        env={**os.environ, "_CTCTL_COMPLETE": protocol, **told},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("ctctl c", "ct\tThe conntrack table: list, get, stats, top, events, diff, delete."),
        ("ctctl ct list --so", "--sort\tSort by a field; - for descending."),
        ("ctctl ct list --state c", "closing"),
        ("ctctl ct list 'proto == tcp' --state=closi", "closing"),
        ("ctctl cluster --dea", "--deadline\tFor each node."),
        ("ctctl cluster ct list --so", "--sort\tSort by a field; - for descending."),
        ("ctctl ct export x.csv proto\\ ==\\ tcp\\ and\\ sta", "proto == tcp and state"),
    ],
)
def test_a_shell_is_told_without_typer(line: str, word: str) -> None:
    told = ask(line, "complete_fish", "-X", "importtime")
    assert word in told.stdout.splitlines()
    assert "ctctl.cli.tab" in told.stderr
    assert not re.search(r"\| +typer", told.stderr)
    if not any(c in line for c in "'\\"):
        assert word.partition("\t")[0] in ask(line, "complete_bash").stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("ctctl ct top --by dst --fields exp", "expired"),
        ("ctctl ct list --sort rem", "remaining"),
    ],
)
def test_what_it_does_not_tell_typer_does(line: str, word: str) -> None:
    assert ask(line, "complete_fish").stdout.split() == [word]


@pytest.mark.parametrize("what", ["gone", "torn"])
def test_without_its_table_typer_answers(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctctl.cli import start

    (tmp_path / "tab.json").write_text("{")
    monkeypatch.setattr(tab, "TABLE", tmp_path / ("tab.json" if what == "torn" else "none"))
    monkeypatch.setenv("_CTCTL_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "ctctl ct li")
    monkeypatch.setattr(sys, "argv", ["ctctl"])
    asked: list[bool] = []
    monkeypatch.setattr("ctctl.cli.main.main", lambda: asked.append(True) or 0)
    assert start._run() == 0
    assert asked

"""Screens of what needs more than a node: several sources, a lake, a cluster, a file of events; nothing of them wraps.

``test_screen`` has those of a node; its list of commands without a screen there says what is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.captures import BUGTOOL
from tests.support.kubeapi import Cluster, served
from tests.support.screens import ELSEWHERE, Screen, screens

DATA = Path(__file__).resolve().parents[1] / "data"
SAMPLES = DATA / "samples"
OLDER = SAMPLES / "cilium-dbg-1.16.4"
LISTED = OLDER / "ct-list-global.time-diff-ktime.txt"
SYSDUMP = SAMPLES / "archives/cilium-sysdump-20261122-141124.zip"
EVENTS = DATA / "story/monitor-v.txt"
#: Of several nodes: of both families, with names and without, one with all tables, one with a long name.
SEVERAL = ("--from", str(BUGTOOL), "--from", str(LISTED))
OF_SEVERAL = (
    *("ct list", "ct stats", "ct top", "ct top --by identity", "ct top --by pair", "nat list", "nat stats"),
    *("lb list", "lb list --backends", "lb list --frontends", "ipcache list", "endpoint list", "policy list"),
    *("metrics drops", "socknat list", "doctor"),
)
OF_FILES = (
    f"ct diff {LISTED} {BUGTOOL}",
    f"ct diff {OLDER} {SAMPLES}/cilium-dbg-1.19-dev",
    f"trace --from {EVENTS}",
    f"trace --from {EVENTS} -v",
    f"ct sql SQL --from {LISTED}",
    "ct decode 0x0413",
    "ct decode 0a4000240a4000401f40d3f40600",
    f"policy list --from {SAMPLES}/bpftool/btf-1.15",  # nothing but a header
    f"ct stats --from {SAMPLES}/bpftool/empty",
)
OF_A_LAKE = (
    "fleet list",
    *(f"fleet ask {name}" for name in ("top-talkers", "out-without-in", "gone-backends", "snat-ports", "skew")),
    "fleet ask expired",
    "fleet ask node-loss --node cilium-7xk2p",
    "fleet sql SQL",
)
#: One word of a command: more columns than any screen has.
SQL = "SELECT * FROM ct LIMIT 3"
OF_A_CLUSTER = ("nodes", "ct list", "ct stats", "ct top", "gc --dry-run", "doctor", "nat list")


def _words(screen: str) -> list[str]:
    return [SQL if word == "SQL" else word for word in screen.split()]


def test_every_command_that_is_said_to_be_here_is() -> None:
    here = (*OF_FILES, *OF_A_LAKE, "fleet collect", "cluster")
    assert [name for name in ELSEWHERE if not any(f"{screen} ".startswith(f"{name} ") for screen in here)] == []


def _held(shown: list[Screen]) -> None:
    for screen in shown:
        assert screen.code in (0, 1, 3, 5), screen
        assert screen.lines, screen
        assert not any("please report" in line for line in screen.lines), screen
        # A word of a command that is to be copied is not broken.
        over = [line for line in screen.lines if len(line) > screen.columns and not _is_one_word(line)]
        assert not over, (screen.words, over)
        assert not [line for line in screen.lines if "…" in line], screen


def _is_one_word(line: str) -> bool:
    return len(line.removesuffix("\\").split()) == 1


def test_several_nodes() -> None:
    _held(screens([[*words.split(), *SEVERAL] for words in OF_SEVERAL], [80]))


def test_several_nodes_on_wide_terminals() -> None:
    _held(screens([[*words.split(), *SEVERAL] for words in ("ct list", "nat list")], [120, 200]))


def test_files() -> None:
    _held(screens([_words(words) for words in OF_FILES], [80, 120]))


def test_differences_in_ipv4_are_a_line_though_some_are_in_ipv6() -> None:
    (shown,) = screens([["ct", "diff", str(BUGTOOL), str(OLDER)]], [80])
    lines = [line.split() for line in shown.lines if line.startswith("-       ")]
    short = [words for words in lines if words[2] == "tcp" and "[" not in words[3]]
    assert len(short) > 10
    assert all(words[6:] and words[6] in ("new", "established", "closing", "closed") for words in short)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("duckdb", reason="lakes need DuckDB (ctctl[fleet])")
    place = str(tmp_path_factory.mktemp("screens") / "lake")
    (shown,) = screens(
        [["fleet", "collect", place, "--from", str(BUGTOOL), "--from", str(SYSDUMP), "--cluster", "prod"]], [80]
    )
    _held([shown])
    return place


def test_a_lake(lake: str) -> None:
    _held(screens([[*_words(words), "--lake", lake] for words in OF_A_LAKE], [80, 120]))


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """Of a cluster of three nodes: one refuses, the others' agents have a conntrack table and nothing else."""
    pytest.importorskip("lightkube", reason="clusters need lightkube (ctctl[k8s])")
    pytest.importorskip("websockets", reason="clusters need websockets (ctctl[k8s])")
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "cilium-dbg"
    script.write_text(f'#!/bin/sh\ncase "$2 $3" in "ct list") cat {LISTED};; *) exit 0;; esac\n')
    script.chmod(0o755)
    with served(Cluster({"node-1": "ok", "node-2": "ok", "node-3": "refuse"}, folder), tmp_path) as found:
        yield found


def test_a_cluster(kubeconfig: Path) -> None:
    shown = screens([["cluster", "--kubeconfig", str(kubeconfig), *words.split()] for words in OF_A_CLUSTER], [80])
    _held(shown)
    doctor = next(screen for screen in shown if "doctor" in screen.words)
    assert not any("nodes that failed" in line and ": unknown" in line for line in doctor.lines)


def test_nothing_is_known_of_any_of_several(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (shown,) = screens([["nat", "list", "--from", str(tmp_path / "a"), "--from", str(tmp_path / "b")]], [200])
    assert shown.code == 1
    assert shown.lines == [f"ctctl: {tmp_path}/a: no file in it is a dump of any known form"]

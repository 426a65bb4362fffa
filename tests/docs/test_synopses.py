"""The commands that pages only name: each that reads runs, over files of the names that the pages give them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.cli.cluster import command_of
from tests.docs.test_commands import ROOT, commands
from tests.support.children import run_ctctl

SYSDUMP = ROOT / "tests/data/samples/archives/cilium-sysdump-20261122-141124.zip"
BUGTOOL = ROOT / "examples/cilium-bugtool.tar.xz"
#: What needs a cluster, a terminal, the kernel or a node of ours, and what changes one; each has tests of its own.
_ELSEWHERE = {"cluster", "ui", "trace", "load", "unload", "apply", "lab", "status"}
_CHANGING = {("ct", "delete"), ("ct", "flush"), ("ct", "import"), ("ct", "events")}
#: What is shown after a prompt is in a block that is run, and compared.
_NAMED = re.compile(r"^ {4,}(ctctl .*)")
_FAILED, _FINDINGS, _PARTIAL = 1, 3, 5


def reading() -> Iterator[tuple[str, list[str]]]:
    """The commands of all pages that only read, each with a source where the page means the live node."""
    for place, words in commands(_NAMED):
        found = command_of(words)
        assert found is not None, place
        options = {name for option in found[0].params for name in option.opts}
        changes = tuple(words[:2]) in _CHANGING or (words[0] == "gc" and "--dry-run" not in words)
        if words[0] in _ELSEWHERE or changes or "--node" in words:
            continue
        if "auto" in words:
            yield place, ["live.ctsnap" if word == "auto" else word for word in words]
        else:
            yield place, [*words, *(["--from", str(BUGTOOL)] if "--from" in options and "--from" not in words else [])]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that pages speak of."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(SYSDUMP, folder / "cilium-sysdump.zip")
    (folder / "examples").symlink_to(ROOT / "examples")
    captures = ROOT / "tests/data/captures"
    made = {
        "node-a": captures / "cilium-1.16-snat-node1.tar.xz",
        "node-b": captures / "cilium-1.19-snat-node1.tar.xz",
        "before": BUGTOOL,
        "live": BUGTOOL,
    }
    for name, source in made.items():
        assert run_ctctl("ct", "export", folder / f"{name}.ctsnap", "--from", source).returncode == 0
    nodes = ("--from", "node-a.ctsnap", "--from", "node-b.ctsnap")
    assert run_ctctl("fleet", "collect", "lake/", *nodes, cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize(("place", "words"), [pytest.param(place, words, id=place) for place, words in reading()])
def test_a_command_that_a_page_names_runs(place: str, words: list[str], here: Path) -> None:
    done = run_ctctl(*words, cwd=here)
    if words[:2] == ["ct", "get"]:  # the addresses of an example are in no table
        assert done.returncode in (0, _FAILED), (words, done.stderr)
        assert done.returncode == 0 or "no entry of" in done.stderr, (words, done.stderr)
        return
    # The sysdump at hand is one that was cut off.
    assert done.returncode in (0, _FINDINGS, _PARTIAL), (words, done.stderr)
    assert done.returncode != _PARTIAL or "cut off" in done.stderr or "is damaged there" in done.stderr
    assert done.stdout or "wrote" in done.stderr or "collected" in done.stderr or "entries" in done.stderr, words


def test_most_of_what_pages_name_is_run() -> None:
    assert len(list(reading())) >= 15

"""What works on conntrack tables says of a source without any that it has none, and nothing about their entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import captures
from tests.support.children import run_ctctl

CAPTURE = "cilium-1.16-snat-node1"
COMMANDS = (
    *("ct list", "ct list --sort remaining", "ct stats", "ct top", "gc --dry-run", "gc --dry-run --explain"),
    *("gc --dry-run --endpoint 10.61.1.101", "gc --dry-run --backend 10.61.1.102", "gc --dry-run --orphans"),
    *("sizing", "gc simulate --no-plot"),
)


@pytest.mark.parametrize("listing", ["lb-list", "nat-list", "ipcache-list"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_source_without_conntrack_tables_is_called_one(command: str, listing: str, tmp_path: Path) -> None:
    path = tmp_path / "listing.txt"
    path.write_text(captures.text(CAPTURE, f"cli/{listing}.txt"))
    done = run_ctctl(*command.split(), "--from", path)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "has no conntrack table" in done.stderr


@pytest.mark.parametrize("command", ["ct list", "ct stats", "ct top", "gc --dry-run"])
def test_another_table_that_was_named_is_called_none(command: str, tmp_path: Path) -> None:
    """The source has conntrack tables: it is not said of it that it has none."""
    for name in ("ct-list-global", "nat-list"):
        (tmp_path / f"{name}.txt").write_text(captures.text(CAPTURE, f"cli/{name}.txt"))
    done = run_ctctl(*command.split(), "--from", tmp_path, "--map", "cilium_snat_v4_external")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ctctl: --map cilium_snat_v4_external is no conntrack table" in done.stderr


@pytest.mark.parametrize("command", ["gc --dry-run", "gc --dry-run --endpoint 10.61.1.101", "gc --dry-run --explain"])
def test_an_empty_listing_has_nothing_to_collect(command: str, tmp_path: Path) -> None:
    path = tmp_path / "ct.json"
    path.write_text("[]\n")
    done = run_ctctl(*command.split(), "--from", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["sizing --now 5400", "gc simulate --no-plot --now 5400"])
def test_what_is_learned_of_a_part_is_said_to_be(command: str, tmp_path: Path) -> None:
    path = tmp_path / "ct.txt"
    path.write_text(captures.text(CAPTURE, "cli/ct-list-global.txt")[:3000])
    done = run_ctctl(*command.split(), "--from", path)
    assert done.returncode == 5
    assert "cilium_ct4_global" in done.stdout
    assert "no entry" in done.stderr

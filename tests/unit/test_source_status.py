"""What files tell of a node: its version as far as the evidence goes, its tables, what nothing tells."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from ctctl.tables.open import open_source
from ctctl.tables.status import source_statuses
from tests.support import captures
from tests.support.children import run_ctctl
from tests.support.listings import read_text

OLD, MIDDLE, NEW = "cilium-1.14-snat-node1", "cilium-1.16-snat-node1", "cilium-1.19-snat-node1"


def as_1_17(text: str) -> str:
    """``lb list`` of 1.16 as 1.17 prints it: frontends with their protocol."""
    return re.sub(r"(?m)^(\S+:\d+) (\(\d+\))", r"\1/TCP \2", text)


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"ct.txt": (OLD, "cli/ct-list-global.txt")}, "1.14"),
        ({"ct.json": (OLD, "cli/ct-list-global.json")}, "1.14 or 1.15"),
        ({"ct.txt": (MIDDLE, "cli/ct-list-global.txt")}, "1.16 or 1.17"),
        ({"ct.txt": (MIDDLE, "cli/ct-list-global.txt"), "lb.txt": (MIDDLE, "cli/lb-list.txt")}, "1.16"),
        ({"ct.txt": (MIDDLE, "cli/ct-list-global.txt"), "tunnel.txt": (MIDDLE, "cli/tunnel-list.txt")}, "1.16"),
        ({"ct.txt": (NEW, "cli/ct-list-global.txt")}, "1.19"),
        ({"lb.txt": (NEW, "cli/lb-list.txt")}, "1.17 to 1.19"),
        ({"version.txt": (MIDDLE, "cmd/version.txt"), "ct.txt": (MIDDLE, "cli/ct-list-global.txt")}, "1.16.15"),
        ({"ipcache.txt": (NEW, "cli/ipcache-list.txt")}, None),
    ],
)
def test_a_version_is_what_the_evidence_leaves(
    files: dict[str, tuple[str, str]], version: str | None, tmp_path: Path
) -> None:
    for name, (capture, file) in files.items():
        (tmp_path / name).write_text(captures.text(capture, file))
    with open_source(str(tmp_path)) as source:
        (status,) = source_statuses(source)
    assert status.version == version
    assert ("version by" in status.facts) is (version is not None)


def test_services_with_protocols_tell_1_17_from_1_16(tmp_path: Path) -> None:
    (tmp_path / "ct.txt").write_text(captures.text(MIDDLE, "cli/ct-list-global.txt"))
    (tmp_path / "lb.txt").write_text(as_1_17(captures.text(MIDDLE, "cli/lb-list.txt")))
    with open_source(str(tmp_path)) as source:
        assert str(source.versions_of()) == "1.17"


def test_what_no_file_tells_is_unknown_and_not_nothing(tmp_path: Path) -> None:
    source = read_text(tmp_path / "ct.txt", captures.text(MIDDLE, "cli/ct-list-global.txt"))
    (status,) = source_statuses(source)
    assert status.drops is None
    assert any("drop counters" in problem for problem in status.problems)
    assert all(table.max_entries is None and table.entries for table in status.maps)


def test_the_command(tmp_path: Path) -> None:
    for name in (name for name in captures.files(NEW) if "live" not in name):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(captures.text(NEW, name))
    done = run_ctctl("status", "--from", str(tmp_path), "-o", "json")
    (node,) = json.loads(done.stdout)["nodes"]
    assert node["version"].startswith("1.19")
    assert node["facts"]["tunnel"] == "vxlan"
    counts = {table["name"]: table["entries"] for table in node["maps"]}
    assert counts["cilium_ct4_global"] == sum(1 for table, _ in captures.conntrack(NEW) if table == "cilium_ct4_global")
    shown = run_ctctl("status", "--from", str(tmp_path)).stdout
    assert "read from" in shown
    assert "pinned in" not in shown


def test_a_bugtool_in_a_folder_of_nodes_is_a_node_and_says_nothing_of_the_others(tmp_path: Path) -> None:
    for name in (OLD, MIDDLE):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ct.txt").write_text(captures.text(name, "cli/ct-list-global.txt"))
    bugtool = "cilium-bugtool-20261125-191431.402+0000-UTC-538734475"
    with tarfile.open(tmp_path / f"{bugtool}.tar.gz", "w:gz") as archive:
        for name in ("cli/ct-list-global.txt", "cmd/status-verbose.txt"):
            info = tarfile.TarInfo(f"{bugtool}/cmd/{Path(name).name}")
            data = captures.text(NEW, name).encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with open_source(str(tmp_path)) as source:
        told = {status.name: status for status in source_statuses(source)}
        assert set(told) == {OLD, MIDDLE, f"{bugtool}.tar.gz"}
        assert told[f"{bugtool}.tar.gz"].version != told[OLD].version == "1.14"
        assert all(table.max_entries is None for name in (OLD, MIDDLE) for table in told[name].maps)
        assert all(table.max_entries for table in told[f"{bugtool}.tar.gz"].maps)


def test_bugtools_that_are_named_one_by_one_are_of_the_pods_in_their_names(tmp_path: Path) -> None:
    folders = [tmp_path / f"cilium-bugtool-cilium-{pod}-20261125-191431" for pod in ("7xk2p", "q9fzd")]
    for folder, name in zip(folders, (OLD, MIDDLE), strict=True):
        folder.mkdir()
        (folder / "ct.txt").write_text(captures.text(name, "cli/ct-list-global.txt"))
    with open_source([str(folder) for folder in folders]) as source:
        assert source.nodes() == ["cilium-7xk2p", "cilium-q9fzd"]


def test_what_is_none_of_ciliums_is_not_called_so(tmp_path: Path) -> None:
    line = (
        "tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 "
        "src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 [ASSURED] mark=0 use=1\n"
    )
    (status,) = source_statuses(read_text(tmp_path / "nf.txt", line))
    assert (status.owner, status.version) == ("netfilter", None)
    shown = run_ctctl("status", "--from", tmp_path / "nf.txt").stdout
    assert "Cilium" not in shown
    assert "nf_conntrack4" in shown

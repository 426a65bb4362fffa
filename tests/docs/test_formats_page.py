"""Each row of the tables of docs/reference/formats.md is read as it says: a file for it, and what is in that."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ctctl.tables.sources.base import Source
from ctctl.tables.sources.listings import KINDS
from ctctl.trace.story_text import StoryFile
from tests.support import captures
from tests.support.listings import case, read
from tests.support.samples import ROOT as SAMPLES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "formats.md"
STORIES = ROOT / "tests" / "data" / "story"
OLD, MIDDLE, NEW = "cilium-1.14-snat-node1", "cilium-1.16-snat-node1", "cilium-1.19-snat-node1"


class Row(NamedTuple):
    """A row of a table: the heading above it, its cells. An empty first cell is that of the row before it."""

    section: str
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.section}: {self.cells[0]}"


def rows() -> list[Row]:
    """The rows of the page's tables, without their heads."""
    found: list[Row] = []
    section, inside = "", 0
    for line in PAGE.read_text().splitlines():
        section = line.lstrip("# ") if line.startswith("#") else section
        inside = inside + 1 if line.startswith("|") else 0
        if inside > 2:
            cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
            found.append(Row(section, (cells[0] or found[-1].cells[0], *cells[1:])))
    return found


# ---- where a file is from, and what is in it


Write = Callable[[Path], Path]
Look = Callable[[Path], dict[str, Any]]


def captured(name: str, file: str) -> Write:
    def write(folder: Path) -> Path:
        path = folder / Path(file).name
        path.write_bytes(captures.files(name)[file])
        return path

    return write


def in_bugtool(file: str) -> Write:
    def write(folder: Path) -> Path:
        with tarfile.open(captures.BUGTOOL) as archive:
            member = next(member for member in archive if member.name.endswith(f"/{file}"))
            stream = archive.extractfile(member)
            assert stream is not None
            path = folder / Path(file).name
            path.write_bytes(stream.read())
        return path

    return write


def tunnels_as_json(folder: Path) -> Path:
    """As the program writes them: an object with a list of texts for each."""
    path = folder / "tunnel-list.json"
    rows = [line.split() for line in captures.text(MIDDLE, "cli/tunnel-list.txt").splitlines()[1:] if line.strip()]
    path.write_text(json.dumps({left: [right] for left, right in rows}))
    return path


def as_prometheus(folder: Path) -> Path:
    path = folder / "metrics.txt"
    path.write_text(
        "# TYPE cilium_bpf_map_pressure gauge\n"
        'cilium_bpf_map_pressure{map_name="ct4_global"} 0.25\n'
        'cilium_bpf_map_pressure{map_name="ct_any4_global"} 0.5\n'
        'cilium_datapath_conntrack_gc_interval_seconds{global="global"} 12.5\n'
    )
    return path


def kept(path: Path) -> Write:
    return lambda _folder: path


def counted(source: Source) -> dict[str, Any]:
    node = source.nodes()[0] if source.nodes() else None
    found = {kind: len(getattr(source.listings(node), kind)) for kind in KINDS}
    facts = source.facts(node)
    found |= {name: len(getattr(facts, name)) for name in ("capacity", "timeouts_s", "pressure")}
    said: dict[str, Any] = {
        "ct": sum(table.count or 0 for table in source.tables),
        "version": facts.version is not None,
    }
    return (
        found
        | said
        | {
            "clock": facts.clock is not None,
            "alive": facts.alive_ns is not None,
            "gc_interval": facts.gc_interval_s and facts.gc_interval_s.value,
        }
    )


def listed(path: Path) -> dict[str, Any]:
    with read(path) as source:
        assert not source.partial
        return counted(source)


def story(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        file = StoryFile(stream)
        count = len(list(file.read()))
    return {"packets": count, "partial": len(file.partial)}


class Proof(NamedTuple):
    """A file, what reads it, and what it must find there."""

    write: Write
    found: dict[str, Any]
    look: Look = listed


def both(name: str, **counts: tuple[int, int]) -> list[Proof]:
    """Of the oldest and the newest capture, as text and JSON."""
    return [
        Proof(captured(capture, f"cli/{name}.{form}"), {kind: both[at] for kind, both in counts.items()})
        for at, capture in enumerate((OLD, NEW))
        for form in ("txt", "json")
    ]


def texts(file: str, **counts: tuple[Any, Any]) -> list[Proof]:
    """The same of one file."""
    return [
        Proof(captured(capture, file), {kind: both[at] for kind, both in counts.items()})
        for at, capture in enumerate((OLD, NEW))
    ]


LISTINGS, BY_VERSION, VERSIONS, OTHERS = (
    "Listings of a Cilium node",
    "`ct list` text, by version",
    "Each version",
    "Others",
)
CONFIG_MAP = case("31") / "sysdump" / "cilium-configmap-20260101.yaml"
BUGTOOL_CMD = case("31") / "sysdump" / "cilium-bugtool-x" / "cmd"
BTF, _PRETTY = SAMPLES / "bpftool" / "btf-1.16", "cilium_ct4_global.p.json"
GENERATED = "tests/unit/test_listing_kinds.py::test_every_version_s_form_is_read_as_it_is_written"
COUNTERS = {"counters": 20}
#: By the heading and the beginning of the row's cells: files that are read as it says, or tests that hold it.
PROOFS: dict[tuple[str, str], list[Proof | str]] = {
    (LISTINGS, "`bpf ct list global`, with and without `--time-diff` | 1.6"): [
        *texts("cli/ct-list-global.txt", ct=(72, 99)),
        Proof(kept(SAMPLES / "cilium-dbg-1.16.4" / "ct-list-global.time-diff-ktime.txt"), {"ct": 286}),
        Proof(kept(case("03") / "ct.txt"), {"ct": 3}),
        Proof(kept(case("13") / "ct.txt"), {"ct": 3}),
    ],
    (LISTINGS, "`bpf ct list global`, with and without `--time-diff` | 1.14"): [
        *texts("cli/ct-list-global.json", ct=(72, 99)),
        *texts("cli/ct-list-global.yaml", ct=(72, 99)),
    ],
    (LISTINGS, "`bpf nat list`"): [
        *both("nat-list", nat=(24, 58)),
        Proof(kept(case("09") / "nat-ago-4.txt"), {"nat": 4}),
        Proof(kept(case("09") / "nat-hostlocal-3.txt"), {"nat": 3}),
    ],
    (LISTINGS, "`bpf lb list`, `--frontends`"): [
        *both("lb-list", services=(14, 64)),
        *both("lb-list.frontends", services=(14, 64)),
        *both("lb-list.backends", backends=(4, 9)),
        *both("lb-list.revnat", rev_nats=(5, 19)),
        *both("lb-list.source-ranges", source_ranges=(0, 14)),
        Proof(kept(case("11") / "lb.txt"), {"services": 8}),
    ],
    (LISTINGS, "`bpf lb maglev list`"): [
        *(
            Proof(kept(SAMPLES / version / f"lb-maglev-list.{form}"), {"maglev": 12})
            for version in ("cilium-dbg-1.16.4", "cilium-dbg-1.19-dev")
            for form in ("txt", "json")
        ),
        Proof(in_bugtool("cilium-dbg-bpf-lb-maglev-list.md"), {"maglev": 6}),
    ],
    (LISTINGS, "`lb/maps-dump`"): [
        Proof(kept(case("25") / "dump.txt"), {"services": 3, "backends": 2, "rev_nats": 1}),
    ],
    (LISTINGS, "`service list`"): texts("cmd/service-list.txt", services=(14, 44)),
    (LISTINGS, "`bpf ipcache list`, `bpf endpoint list`"): [
        *both("ipcache-list", ipcache=(13, 19)),
        *both("endpoint-list", endpoints=(6, 9)),
    ],
    (LISTINGS, "`bpf socknat list`"): [
        Proof(captured(NEW, "cli/socknat-list.txt"), {"sockets": 2}),
        "tests/unit/test_pair_members.py::test_rows_are_read_in_passes_and_are_those_of_the_text",
    ],
    (LISTINGS, "`bpf tunnel list`"): [
        Proof(captured(OLD, "cli/tunnel-list.txt"), {"tunnels": 1}),
        Proof(captured(MIDDLE, "cli/tunnel-list.txt"), {"tunnels": 2}),
        Proof(tunnels_as_json, {"tunnels": 2}),
    ],
    (LISTINGS, "`bpf policy get`"): [
        *texts("cmd/bpf-policy-get-all.txt", policy=(6, 6)),
        Proof(in_bugtool("cilium-dbg-bpf-policy-get---all---numeric.md"), {"policy": 6}),
        "tests/unit/test_listing_kinds.py::test_rules_by_labels_are_those_by_numbers",
        "tests/unit/test_listing_kinds.py::test_a_policy_list_as_json",
    ],
    (LISTINGS, "`bpf metrics list`"): [
        Proof(captured(NEW, "cmd/bpf-metrics-list.txt"), COUNTERS),
        Proof(captured(NEW, "cmd/bpf-metrics-list.json"), COUNTERS),
        "tests/unit/test_listing_kinds.py::test_counters_of_every_version",
    ],
    (LISTINGS, "`bpf config list`"): [Proof(in_bugtool("cilium-dbg-bpf-config-list.md"), {"alive": True})],
    (LISTINGS, "`status --verbose`"): [
        *texts("cmd/status-verbose.txt", capacity=(6, 6), clock=(True, True)),
        Proof(kept(BUGTOOL_CMD / "cilium-dbg-status---verbose.md"), {"version": True, "clock": True}),
    ],
    (LISTINGS, "`config`, `agent-runtime-config.json`"): [
        *texts("cmd/config.txt", capacity=(6, 6), timeouts_s=(7, 7)),
        *texts("cmd/agent-runtime-config.json", capacity=(6, 6), timeouts_s=(7, 7), clock=(True, True)),
        Proof(kept(CONFIG_MAP), {"capacity": 4, "timeouts_s": 1}),
    ],
    (LISTINGS, "`metrics list`, Prometheus text"): [
        *texts("cmd/metrics-list.txt", pressure=(6, 6)),
        Proof(as_prometheus, {"pressure": 2, "gc_interval": 12.5}),
    ],
    (LISTINGS, "`bpftool map dump`, `map lookup`"): [
        *(
            Proof(kept(case("17") / name), {"ct": 1})
            for name in ("btf.txt", "dump.json", "hex-prompt.txt", "hex.txt", "lookup.json", "bugtool.md")
        ),
        *(
            Proof(kept(BTF / f"cilium_ct4_global.{form}"), {"ct": len(json.loads((BTF / _PRETTY).read_text()))})
            for form in ("txt", "j.json", "p.json")
        ),
        "tests/unit/test_listing_kinds.py::test_the_bugtool_shows_what_the_live_node_shows",
    ],
    (BY_VERSION, "counters"): ["tests/unit/test_formats.py::test_a_capture_read_back_has_the_entries_of_its_maps"],
    (BY_VERSION, "backend of a service entry"): [
        "tests/unit/test_layout_1_15.py::test_decoded_and_encoded_by_direction"
    ],
    (BY_VERSION, "`IfIndex=`"): ["tests/unit/test_round_trips.py::test_layout_names_and_lacking_fields_fit"],
    (BY_VERSION, "DSR entry"): [Proof(kept(case("06") / "ct.txt"), {"ct": 2})],
    (VERSIONS, "1.14"): [Proof(captured(OLD, "cli/tunnel-list.txt"), {"tunnels": 1})],
    (VERSIONS, "1.15"): [GENERATED, Proof(kept(case("11") / "lb.txt"), {"services": 8})],
    (VERSIONS, "1.16"): [Proof(captured(MIDDLE, "cli/ct-list-global.json"), {"ct": len(captures.conntrack(MIDDLE))})],
    (VERSIONS, "1.17"): [GENERATED, Proof(kept(case("25") / "dump.txt"), {"services": 3})],
    (VERSIONS, "1.18"): [GENERATED],
    (VERSIONS, "1.19"): [Proof(captured(NEW, "cli/ct-list-global.json"), {"ct": 99})],
    (OTHERS, "nf_conntrack"): [
        Proof(kept(case("15") / "conntrack-L.txt"), {"ct": 3, "nat": 3}),
        Proof(kept(case("15") / "proc-nf_conntrack.txt"), {"ct": 3, "nat": 3}),
    ],
    (OTHERS, "ctctl"): [
        "tests/unit/test_round_trips.py::test_our_own_lists",
        "tests/unit/test_round_trips.py::test_snapshots",
        "tests/unit/test_own_rows.py::test_the_same_entries_of_the_same_nodes",
        "tests/unit/test_own_rows.py::test_a_table_for_people_is_named",
    ],
    (OTHERS, "packet captures"): [
        "tests/unit/test_capture.py::test_pcap",
        "tests/unit/test_capture.py::test_pcapng",
        "tests/unit/test_capture.py::test_other_link_types_become_ethernet",
        "tests/unit/test_capture.py::test_vlan_tags_are_taken_off",
        "tests/unit/test_cooked.py::test_tunnels_are_unpacked",
    ],
    (OTHERS, "names: Kubernetes objects"): [
        "tests/unit/test_names.py::test_kubernetes_objects_name_what_they_are_of",
        "tests/unit/test_names.py::test_a_sysdump_beside_it",
        "tests/unit/test_names.py::test_the_endpoints_an_agent_stored",
    ],
    (OTHERS, "`cilium monitor`"): [
        Proof(kept(STORIES / "monitor-v.txt"), {"packets": 30, "partial": 0}, story),
        Proof(kept(STORIES / "monitor-j.txt"), {"packets": 17, "partial": 0}, story),
    ],
    (OTHERS, "Hubble"): [
        Proof(kept(STORIES / "hubble.jsonl"), {"packets": 4, "partial": 1}, story),
        "tests/unit/test_story.py::test_objects_over_several_lines_are_read_alike",
        "tests/unit/test_story.py::test_what_hubble_prints_for_people",
    ],
}


def key_of(row: Row) -> list[tuple[str, str]]:
    """The keys that are of a row: one, if the page and this file agree."""
    text = " | ".join(row.cells)
    return [key for key in PROOFS if key[0] == row.section and text.startswith(key[1])]


def test_every_row_has_a_file_that_is_read_as_it_says() -> None:
    """And no row is here that the page has not."""
    found = {row: key_of(row) for row in rows()}
    assert {row.name: keys for row, keys in found.items() if len(keys) != 1} == {}
    assert {keys[0] for keys in found.values()} == set(PROOFS)
    assert all(PROOFS.values())


def file_proofs() -> Iterator[Any]:
    for (section, name), proofs in PROOFS.items():
        for number, proof in enumerate(proofs):
            if isinstance(proof, Proof):
                yield pytest.param(proof, id=f"{section}-{name}-{number}")


@pytest.mark.parametrize("proof", list(file_proofs()))
def test_a_file_of_a_row(proof: Proof, tmp_path: Path) -> None:
    found = proof.look(proof.write(tmp_path))
    assert {kind: found[kind] for kind in proof.found} == proof.found
    assert any(found.values()) or 0 in proof.found.values()


def test_tests_that_hold_a_row_are_there() -> None:
    for named in {proof for proofs in PROOFS.values() for proof in proofs if isinstance(proof, str)}:
        file, _, name = named.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), named

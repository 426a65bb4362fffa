"""Every sample dump of the real programs reads as the truth says."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ctctl.errors import NotFoundError
from ctctl.model.entry import Layout
from ctctl.tables.show.entry import entry_record
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.open import open_source
from tests.support.samples import ROOT, records, truth

FILES = truth()["files"]
CT = [n for n in FILES if "empty" not in n and ("ct-list" in n or n.startswith("bpftool"))]
EMPTY = [n for n in FILES if "empty" in n]
LISTINGS = [n for n in FILES if n.startswith("cilium-dbg") and not ("ct-list" in n or "agent" in n)]


def read(name: str, **options: Any) -> Source:
    return open_source(str(ROOT / name), SourceOptions(**options))


def shown(source: Source) -> dict[str, dict[str, Any]]:
    """Records of all tables, by table and what identifies them."""
    found: dict[str, dict[str, Any]] = {}
    for table in source.tables:
        for columns in table.columns():
            for index in range(len(columns)):
                entry = columns.entry(index, table.name, table.absent)
                record = entry_record(entry, layout=table.layout, raw=table.raw)
                found[identity(record)] = record
    return found


def identity(record: dict[str, Any]) -> str:
    names = ("map", "proto", "direction", "related", "src", "src_port", "dst", "dst_port")
    return " ".join(str(record[name]) for name in names)


def expected_of(about: dict[str, Any], *, text: bool) -> dict[str, dict[str, Any]]:
    expected: dict[str, dict[str, Any]] = {}
    for record in records(about):
        decoded = {
            **record["decoded"],
            "map": record["map"],
            "key_hex": record["key_hex"],
            "value_hex": record["value_hex"],
        }
        if text and decoded["proto"] == 0:
            continue  # the program prints no line for it
        if about.get("exit_code") and "6" in record["map"]:
            continue  # the program stopped before
        if "formatted only" in about and text:
            continue
        expected[identity(decoded)] = decoded
    return expected


def compare(got: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]], *, text: bool) -> None:
    assert set(got) == set(expected)
    for name, record in expected.items():
        for field, value in record.items():
            if field in ("reserved0", "reserved4", "key_hex", "value_hex") and field not in got[name]:
                continue
            if text and field in ("tuple_flags", "proto_name"):
                continue
            if field == "ifindex" and field not in got[name]:
                continue  # 1.19 does not print it
            mine = got[name][field]
            assert mine == value, (name, field)


@pytest.mark.parametrize("name", CT)
def test_conntrack_dumps(name: str) -> None:
    about = FILES[name]
    text = name.startswith("cilium-dbg") and name.endswith(".txt")
    with read(name) as source:
        by_content = name.startswith("cilium-dbg") and not text
        got, expected = shown(source), expected_of(about, text=text)
        if by_content:  # the JSON does not say which table an entry is of
            got = {key.split(" ", 1)[1]: {**record, "map": None} for key, record in got.items()}
            expected = {key.split(" ", 1)[1]: {**record, "map": None} for key, record in expected.items()}
        compare(got, expected, text=text)
        assert not source.partial
        layouts = {table.layout for table in source.tables}
        assert layouts == {Layout.V1_15 if "1.15" in name else Layout.V1_18 if "1.19" in name else Layout.V1_16}
        raw = not text
        assert all(table.raw == raw for table in source.tables)


@pytest.mark.parametrize("name", CT)
def test_time_and_clock_by_evidence(name: str) -> None:
    about = FILES[name]
    with read(name) as source:
        for table in source.tables:
            if "now" in about:
                assert table.now == about["now"]
                assert str(table.clock) == ("jiffies:250" if "jiffies" in name else "ktime")
                assert "agree on now" in table.clock.evidence
            else:
                assert table.now is None
        assert ("now" in about) != any("--now" in note for note in source.notes)


@pytest.mark.parametrize("name", EMPTY)
def test_empty_tables_are_tables(name: str) -> None:
    with read(name) as source:
        assert shown(source) == {}
        assert source.has_ct
        assert not source.partial


def test_a_dump_without_btf_says_what_it_assumed_and_takes_the_users_word() -> None:
    name = "bpftool/no-btf/cilium_ct4_global.txt"
    with read(name) as source:
        assert any("--layout" in note for note in source.notes)
    with read(name, layout=Layout.V1_19) as source:
        assert not any("--layout" in note for note in source.notes)
        assert {table.layout for table in source.tables} == {Layout.V1_19}


# ---- the other listings


def nat_of(listings: Listings) -> dict[str, dict[str, Any]]:
    found = {}
    for entry in listings.nat:
        flow = entry.tuple
        record = {
            "map": entry.map,
            "proto": flow.proto,
            "src": str(flow.src),
            "src_port": flow.src_port,
            "dst": str(flow.dst),
            "dst_port": flow.dst_port,
            "direction": entry.direction.value,
            "related": entry.related,
            "xlate": entry.xlate,
            "to_addr": str(entry.to_addr),
            "to_port": entry.to_port,
            "needs_ct": entry.needs_ct,
            "created": entry.created,
            "age": entry.age_s,
        }
        found[identity(record)] = record
    return found


@pytest.mark.parametrize("name", [n for n in LISTINGS if "nat-list" in n])
def test_nat_listings(name: str) -> None:
    with read(name) as source:
        got = nat_of(source.listings(None))
        assert not source.partial
    everything = {identity({**r["decoded"], "map": r["map"]}): r["decoded"] for r in records(FILES[name])}
    # the program prints no line for protocol 0
    expected = {key: r for key, r in everything.items() if r["proto"] or name.endswith(".json")}
    assert set(got) == set(expected)
    for key, record in expected.items():
        for field in ("xlate", "to_addr", "to_port", "needs_ct"):
            assert got[key][field] == record[field], key
        if name.endswith(".json"):
            assert got[key]["created"] == record["created"]
        else:
            assert got[key]["age"] == FILES[name]["now"] - record["created"]


def wanted(fill_part: str, about: dict[str, Any]) -> list[dict[str, Any]]:
    only4 = about.get("ipv4_only")
    return [r["decoded"] for r in records(about) if fill_part in r["map"] and not (only4 and "lb6" in r["map"])]


def check_services(name: str, listings: Listings, about: dict[str, Any]) -> None:
    if "revnat" in name:
        got = {(r.rev_nat, str(r.addr), r.port) for r in listings.rev_nats}
        assert got == {(r["rev_nat"], r["addr"], r["port"]) for r in wanted("reverse_nat", about)}
    elif "source" in name:
        assert {(r.rev_nat, r.cidr) for r in listings.source_ranges} == {
            (r["rev_nat"], r["cidr"]) for r in wanted("source_range", about)
        }
    elif "backends" in name:
        got_backends = {(r.backend_id, str(r.addr), r.proto, r.cluster_id) for r in listings.backends}
        assert got_backends == {
            (r["backend_id"], r["addr"], r["proto"], r["cluster_id"]) for r in wanted("backends", about)
        }
    elif "maglev" in name:
        assert {(r.rev_nat, r.family, r.table) for r in listings.maglev} == {
            (r["rev_nat"], r["family"], tuple(r["table"])) for r in wanted("maglev", about)
        }
    else:
        check_frontends(name, listings, about)


def check_frontends(name: str, listings: Listings, about: dict[str, Any]) -> None:
    got = {(str(r.addr), r.port, r.proto or 0, r.scope, r.slot): r for r in listings.services}
    expected = {(r["frontend"], r["port"], r["proto"], r["scope"], r["slot"]): r for r in wanted("services", about)}
    assert set(got) == set(expected)
    backends = {r["backend_id"]: (r["addr"], r["port"]) for r in wanted("backends", about)}
    for key, record in expected.items():
        slot = got[key]
        if slot.rev_nat is not None:
            assert slot.rev_nat == record["rev_nat"]
        if key[-1] == 0:
            assert slot.type == record["type"], key
        elif "frontends" in name:
            assert slot.backend_id == record["backend_id"]
        elif slot.backend is not None:
            addr, port = backends[record["backend_id"]]
            plain = re.sub(r"/[A-Z]+$|@\d+", "", slot.backend)
            assert plain in (f"{addr}:{port}", f"[{addr}]:{port}")
        else:
            assert slot.backend_id == record["backend_id"]
        if "frontends" in name and key[-1] == 0:
            names = ("count", "flags", "affinity_timeout", "l7_proxy_port")
            assert [getattr(slot, field) for field in names] == [record.get(field) for field in names]


@pytest.mark.parametrize("name", [n for n in LISTINGS if "/lb-" in n])
def test_service_listings(name: str) -> None:
    with read(name) as source:
        check_services(name, source.listings(None), FILES[name])
        assert not source.partial
        assert not source.has_ct


def check_ipcache(listings: Listings, about: dict[str, Any]) -> None:
    names = ("prefix", "cluster_id", "identity", "tunnel_endpoint", "encrypt_key", "skip_tunnel")
    got = {tuple(getattr(record, name) for name in names) for record in listings.ipcache}
    assert got == {tuple(record[name] for name in names) for record in wanted("ipcache", about)}


def check_endpoints(listings: Listings, about: dict[str, Any]) -> None:
    names = ("addr", "ifindex", "endpoint_id", "mac", "node_mac", "identity")
    got = {tuple(str(getattr(record, name)) for name in names) for record in listings.endpoints}
    assert got == {tuple(str(record[name]) for name in names) for record in wanted("lxc", about)}


@pytest.mark.parametrize("name", [n for n in LISTINGS if "ipcache" in n or "endpoint" in n])
def test_identity_and_endpoint_listings(name: str) -> None:
    with read(name) as source:
        check = check_ipcache if "ipcache" in name else check_endpoints
        check(source.listings(None), FILES[name])
        assert not source.partial


# ---- archives

BUGTOOL, CUT, SYSDUMP = (
    sorted(n for n in FILES if n.startswith("archives"))[1::-1]
    + sorted(n for n in FILES if n.startswith("archives"))[2:]
)
if "cut" in BUGTOOL:
    BUGTOOL, CUT = CUT, BUGTOOL


def members(name: str, part: str, node: str = "") -> list[dict[str, Any]]:
    return [about for member, about in FILES[name]["members"].items() if part in member and node in member]


def check_node(source: Source, name: str, node: str | None) -> None:
    only = SourceOptions(node=node)
    listings = source.listings(node)
    tables = [table for table in source.tables if table.node == node]
    assert only.node == node
    expected: dict[str, dict[str, Any]] = {}
    for about in members(name, "ct-list", node or ""):
        expected |= expected_of(about, text=True)
    for about in members(name, "map-dump", node or ""):
        if about["fills"][0].startswith("ct-") and not about.get("truncated"):
            expected |= expected_of(about, text=False)
    got: dict[str, dict[str, Any]] = {}
    for table in tables:
        got |= shown(Source("", tables=[table]))
    missing = set(expected) - set(got)
    assert not missing
    for key, record in expected.items():
        for field in ("lifetime", "flags", "rev_nat", "src_sec_id", "tx_flags_seen", "rx_flags_seen", "bytes"):
            assert got[key][field] == record[field], (key, field)
    check_ipcache(listings, members(name, "ipcache-list", node or "")[0])
    check_endpoints(listings, members(name, "endpoint-list", node or "")[0])
    for part in ("lb-list---revnat", "lb-list---source", "lb-list---backends", "lb-list---frontends"):
        check_services(part, listings, members(name, part, node or "")[0])
    nat = nat_of(listings)
    for about in members(name, "nat-list", node or ""):
        for record in records(about):
            if (about.get("note") and "v6" in record["map"]) or not record["decoded"]["proto"]:
                continue
            assert identity({**record["decoded"], "map": record["map"]}) in nat


def test_a_bugtool_archive() -> None:
    with read(BUGTOOL) as source:
        check_node(source, BUGTOOL, None)
        assert len(source.partial) == 1
        assert "cilium_ct_any6_global" in source.partial[0]
        assert {table.now for table in source.tables} == {members(BUGTOOL, "nat-list")[0]["now"]}
        assert any("by the ages in the nat list" in note for note in source.details)
        assert {table.clock.evidence for table in source.tables} == {"ktime by the agent's configuration"}


def test_a_sysdump_of_two_nodes() -> None:
    with read(SYSDUMP) as source:
        nodes = source.nodes()
        assert nodes == ["cilium-7xk2p", "cilium-q9fzd"] or set(nodes) > {"cilium-7xk2p", "cilium-q9fzd"}
        for node in ("cilium-7xk2p", "cilium-q9fzd"):
            check_node(source, SYSDUMP, node)
            now = members(SYSDUMP, "ct-list", node)[0]["now"]
            assert {table.now for table in source.tables if table.node == node} == {now}
        assert any("wb4nt" in text for text in source.partial)
        assert any("q9fzd" in text and "ct6_global" in text for text in source.partial)
    with read(SYSDUMP, node="cilium-q9fzd") as source:
        assert source.nodes() == ["cilium-q9fzd"]
    with pytest.raises(NotFoundError, match="did you mean 'cilium-q9fzd'"):
        read(SYSDUMP, node="cilium-q9fzz")


def test_a_cut_archive_gives_what_is_there() -> None:
    with read(CUT) as source:
        assert any("cut off" in text for text in source.partial)
        assert shown(source)


def test_the_same_unpacked_and_packed_otherwise(tmp_path: Path) -> None:
    with tarfile.open(ROOT / BUGTOOL) as archive:
        archive.extractall(tmp_path / "folder")
    with read(BUGTOOL) as source:
        expected = shown(source)
    with open_source(str(tmp_path / "folder")) as source:
        assert shown(source) == expected
    plain = tmp_path / "plain.tar"
    plain.write_bytes(gzip.decompress((ROOT / BUGTOOL).read_bytes()))
    nested = tmp_path / "nested.zip"
    with zipfile.ZipFile(nested, "w") as packed:
        packed.write(ROOT / BUGTOOL, "deep/inside.bin")
    for path in (plain, nested):
        with open_source(str(path)) as source:
            assert shown(source) == expected


def test_a_single_file_in_gzip(tmp_path: Path) -> None:
    name = "cilium-dbg-1.16.4/ct-list-global.txt"
    packed = tmp_path / "x"
    packed.write_bytes(gzip.compress((ROOT / name).read_bytes()))
    with open_source(str(packed)) as source, read(name) as plain:
        assert shown(source) == shown(plain)


def test_a_zip_without_its_directory(tmp_path: Path) -> None:
    whole = (ROOT / SYSDUMP).read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    with open_source(str(cut)) as source:
        assert any("directory is missing" in text or "cut off" in text for text in source.partial)
        assert shown(source)


def test_names_do_not_matter(tmp_path: Path) -> None:
    for index, name in enumerate(n for n in CT if "/no-btf/" not in n):
        copy = tmp_path / str(index)
        shutil.copy(ROOT / name, copy)
        with open_source(str(copy)) as source, read(name) as named:
            assert len(shown(source)) == len(shown(named)), name


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "cilium-dbg-1.19-dev/ct-list-global.json"

    class Stdin:
        buffer = io.BytesIO((ROOT / name).read_bytes())

    monkeypatch.setattr("sys.stdin", Stdin)
    with open_source("-") as source, read(name) as named:
        assert shown(source) == shown(named)

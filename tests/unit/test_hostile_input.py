"""Truncated, corrupt and hostile input: refused or survived, in bounded memory, with one clear line."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import re
import resource
import struct
import subprocess
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from ctctl.config import budget
from ctctl.errors import CtctlError, DecodeError
from ctctl.tables.sources import archive
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.open import open_source
from ctctl.tables.sources.snapshot_head import MAGIC
from tests.support.children import PROGRAM, run_ctctl
from tests.support.cost import is_soon
from tests.support.samples import ROOT, truth

TEXT = ROOT / "cilium-dbg-1.16.4/ct-list-global.txt"
JSON = ROOT / "cilium-dbg-1.16.4/ct-list-global.json"
BUGTOOL = next(ROOT.glob("archives/*2339991198.tar.gz"))
WHOLE = [ROOT / name for name in truth()["files"] if "empty" not in name and "agent" not in name]


def count(source: Source) -> int:
    return sum(len(columns) for table in source.tables for columns in table.columns())


def read(path: Path) -> Source:
    return open_source(str(path), SourceOptions())


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: str(path.relative_to(ROOT)))
def test_cut_anywhere_or_changed_anywhere_it_is_read_or_refused(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    rng = random.Random(path.name)
    # What is inside an archive stands here by itself too: it is its frame that is damaged.
    for _ in range(2 if path.parent.name == "archives" else 6):
        cut = write(tmp_path / "cut", data[: rng.randrange(len(data))])
        damaged = bytearray(data)
        for _ in range(3):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        for attempt in (cut, write(tmp_path / "damaged", bytes(damaged))):
            try:
                with read(attempt) as source:
                    count(source)
                    source.listings(None)
            except CtctlError as error:
                refused = str(error)
                assert "\n" not in refused


def test_a_cut_listing_says_so_and_exits_5(tmp_path: Path) -> None:
    whole = json.loads(JSON.read_text())
    cut = write(tmp_path / "x", JSON.read_bytes()[:-100])
    done = run_ctctl("ct", "list", "-o", "jsonl", "--from", cut)
    assert done.returncode == 5
    assert len(done.stdout.splitlines()) == len(whole) - 1
    assert "partial data: the dump ends in the middle" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello world\n", "not a snapshot, archive, ct list or bpftool dump; it starts with 'hello world'"),
        (b"\n\n  hello\n", "it starts with 'hello'"),
        ("häuser\n".encode(), "it starts with 'häuser'"),
        (b"\x7fELF" + bytes(100), "not a snapshot"),
        (b"[" * 200_000, "no known form"),
        (b'[{"key": ' + b"[" * 100_000, "not JSON|nested too deeply|partial|no table record|ends in the middle"),
        (b'{"a": ' * 100_000, "damaged JSON|nested"),
        (b'{"some": "object"}', "no listing of any known form"),
        (MAGIC + b"\x01\x00\xff\xff\xff\xff" + b"x" * 100, "damaged snapshot"),
        (MAGIC + b"\x09\x00" + bytes(4), "use a newer one"),
        (MAGIC, "cut off in its head"),
        (b"TCP OUT 1.2.3.4:1 -> 2.3.4.5:2 expires=5 " + b"A" * 100_000 + b"\n", "nothing could be read: 1 line"),
        (b"TCP OUT 1.2.3.4:1 -> 2.3.4.5:2 expires=5 " + b"A" * 2_000_000 + b"\n", "more than 1 MiB"),
        (b"\x1f\x8b" + b"garbage" * 10, "damaged|nothing in the archive"),
        (b"PK\x03\x04" + b"garbage" * 10, "cut off|nothing in the archive"),
    ],
)
def test_what_is_no_dump_is_refused_in_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x", data)
    try:
        with read(path) as source:
            assert source.partial
            text = "; ".join(source.partial)
    except DecodeError as error:
        text = str(error)
    assert "\n" not in text
    assert re.search(message, text), text


def test_escape_sequences_and_bad_utf8_never_reach_the_terminal(tmp_path: Path) -> None:
    line = TEXT.read_bytes().splitlines()[0]
    path = write(tmp_path / "x", line + b"\n\x1b[2J\xff\xfe evil \xe2\x80\xae line\n" + line + b"\n")
    for form in ("table", "json", "cilium", "csv", "yaml"):
        done = run_ctctl("ct", "list", "--from", path, "-o", form)
        assert done.returncode == 5
        assert "\x1b" not in done.stdout + done.stderr
        assert "\u202e" not in done.stdout + done.stderr
        assert "1 line(s) that are no entry" in done.stderr


def test_names_in_an_archive_are_only_words(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as packed:
        for name in ("../../../../etc/evil", "/abs/\x1b[31mname", "link"):
            info = tarfile.TarInfo(name)
            data = TEXT.read_bytes()
            info.size = len(data)
            if name == "link":
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
            packed.addfile(info, io.BytesIO(data))
    before = sorted(tmp_path.iterdir())
    with read(path) as source, read(TEXT) as once:
        assert source.nodes() == ["abs", "etc"]  # folders may be nodes, but lead nowhere
        assert count(source) == 2 * count(once)
    assert sorted(tmp_path.iterdir()) == before
    assert not Path("/etc/evil").exists()


def bomb(path: Path, megabytes: int) -> Path:
    """A gzip of a tar with one file of many zeros."""
    with gzip.open(path, "wb", compresslevel=9) as packed, tarfile.open(fileobj=packed, mode="w|") as inner:
        info = tarfile.TarInfo("cmd/cilium-dbg-bpf-ct-list-global.md")
        info.size = megabytes << 20
        inner.addfile(info, _Zeros(info.size))  # type: ignore[arg-type]
    return path


class _Zeros:
    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return bytes(size)


def test_an_archive_that_unpacks_to_too_much_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "FREE_BYTES", 4 << 20)
    with pytest.raises(DecodeError, match="unpacks to more than"):
        read(bomb(tmp_path / "bomb.tar.gz", 32))
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x.md", TEXT.read_text() + "\n".join([" "] * (16 << 20)))
    with read(path) as source:
        assert count(source)
        assert any("not reading on" in text for text in source.partial)


@pytest.mark.parametrize(
    "line", [b"a\n", b"\n", b'{"a":1}\n', b"[]\n", b"key: 00\n", b"Found 0 elements\n", b"1    2\n"]
)
def test_lines_without_end_are_not_read_to_their_end(line: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "x.gz", gzip.compress(line * (4_000_000 // len(line))))
    started = time.process_time()
    with contextlib.suppress(CtctlError), read(path) as source:
        assert count(source) == 0
    assert is_soon(time.process_time() - started)


def test_nesting_has_an_end(tmp_path: Path) -> None:
    data = TEXT.read_bytes()
    for _ in range(archive.MAX_DEPTH + 2):
        data = gzip.compress(data)
    with pytest.raises(DecodeError, match="nested deeper"):
        read(write(tmp_path / "deep", data))


def test_too_many_members_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 10)
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(20):
            packed.writestr(str(number), "x")
    with pytest.raises(DecodeError, match="more than 10 files"):
        read(path)
    (tmp_path / "folder").mkdir()
    for number in range(20):
        (tmp_path / "folder" / str(number)).write_text("x")
    with pytest.raises(DecodeError, match="more than 10 files"):
        read(tmp_path / "folder")


def test_memory_stays_bounded_while_a_bomb_is_read(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb", 512)
    limit = 600 << 20  # the interpreter, numpy and what it maps

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [PROGRAM, "ct", "list", "--from", path],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
        env={"OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin"},
    )
    assert done.returncode == 1
    assert "MemoryError" not in done.stderr
    assert done.stderr.count("\n") == 1


def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "whole.ctsnap"
    done = run_ctctl("ct", "export", path, "--from", JSON)
    assert done.returncode == 0, done.stderr
    return path


def test_a_damaged_snapshot_gives_what_is_good_and_says_so(tmp_path: Path) -> None:
    data = snapshot(tmp_path).read_bytes()
    for damage in (data[:-10], data[: len(data) // 2], data[:-40] + b"\0" * 40):
        with read(write(tmp_path / "bad", damage)) as source:
            count(source)
            assert len(source.partial) == 1
            assert "damaged or cut off" in source.partial[0]
    with read(tmp_path / "whole.ctsnap") as source:
        assert count(source) == 288
        assert not source.partial


def test_a_snapshot_that_lies_about_sizes_is_not_believed(tmp_path: Path) -> None:
    data = snapshot(tmp_path).read_bytes()
    _, _, length = struct.unpack_from("<8sHI", data)
    at = struct.calcsize("<8sHI") + length
    payload = zlib.compress(bytes(64 << 20))
    frame = struct.pack("<BBHIII", 1, 0, 1, 1000, len(payload), zlib.crc32(payload)) + payload
    with read(write(tmp_path / "lie", data[:at] + frame)) as source:
        assert count(source) == 0
        assert source.partial


def made_up_snapshot(path: Path, **head: object) -> Path:
    whole = {"source": "x", "tables": [], "nat": [], "listings": {"": {}}, "notes": [], "partial": [], **head}
    packed = zlib.compress(json.dumps(whole).encode())
    end = struct.pack("<I", 0)
    frame = struct.pack("<BBHIII", 2, 0, 0, 0, len(end), zlib.crc32(end)) + end
    return write(path, MAGIC + struct.pack("<HI", 2, len(packed)) + packed + frame)


_FLOW = {"proto": 6, "src": "10.0.0.1", "src_port": 1, "dst": "10.0.0.2", "dst_port": 2}
_NAT = {"map": None, "tuple": _FLOW, "direction": "OUT", "related": False, "xlate": "SRC", "to_addr": "10.0.0.3"}
_RULE = {"endpoint_id": 7, "egress": True, "identity": 1, "proto": 6, "port": 80, "port_bits": 16, "deny": False}


@pytest.mark.parametrize(
    ("kind", "good", "odd"),
    [
        ("ipcache", {"prefix": "10.0.0.0/8", "identity": 1}, {"prefix": "x/32"}),
        ("ipcache", {"prefix": "10.0.0.0/8", "identity": 1}, {"prefix": 7}),
        ("ipcache", {"prefix": "fd00::/8", "identity": 1}, {"tunnel_endpoint": "192.0.2.999"}),
        ("ipcache", {"prefix": "fd00::/8", "identity": 1}, {"nobody": 1}),
        ("endpoints", {"addr": "10.0.0.2"}, {"flags": "x"}),
        ("endpoints", {"addr": "10.0.0.2"}, {"addr": 167772162}),
        ("backends", {"backend_id": 1, "addr": "10.0.0.2", "proto": 6}, {"port": 80000}),
        ("backends", {"backend_id": 1, "addr": "10.0.0.2", "proto": None}, {"backend_id": True}),
        ("source_ranges", {"rev_nat": 1, "cidr": "10.0.0.0/8"}, {"cidr": "10.0.0.0/99"}),
        ("maglev", {"rev_nat": 1, "family": 4, "table": [1, 2]}, {"table": [1, "x"]}),
        ("policy", {**_RULE, "labels": ["reserved:host"]}, {"port_bits": 17}),
        ("policy", {**_RULE, "identity": None}, {"labels": "reserved:host"}),
        ("nat", {**_NAT, "to_port": 5, "age_s": -3, "key": None}, {"to_port": -1}),
        ("nat", {**_NAT, "to_port": 5}, {"tuple": {**_FLOW, "src_port": 1 << 16}}),
        ("nat", {**_NAT, "to_port": 5}, {"direction": "UP"}),
        ("nat", {**_NAT, "to_port": 5}, {"key": "xx"}),
    ],
)
def test_records_of_a_snapshot_that_are_none_are_refused(
    kind: str, good: dict[str, object], odd: dict[str, object], tmp_path: Path
) -> None:
    with read(made_up_snapshot(tmp_path / "good", listings={"": {kind: [good]}})) as source:
        assert len(getattr(source.listings(None), kind)) == 1
    for record in ({**good, **odd}, {name: value for name, value in good.items() if name != next(iter(good))}, 7, None):
        source = read(made_up_snapshot(tmp_path / "odd", listings={"": {kind: [record]}}))
        with pytest.raises(DecodeError, match="damaged listing"):
            source.listings(None)


@pytest.mark.parametrize(
    "odd", [{"name": 7}, {"family": 5}, {"node": 3}, {"now": "x"}, {"max_entries": -1}, {"absent": [1]}, {"raw": 1}]
)
def test_tables_of_a_snapshot_that_are_none_are_refused(odd: dict[str, object], tmp_path: Path) -> None:
    words = {"layout": "1.16", "layout_evidence": "BTF", "clock": "ktime", "clock_evidence": "said"}
    table = {"name": "cilium_ct4_global", "family": 4, "node": None, "absent": [], "raw": True, **words}
    table |= {"max_entries": None, "now": 5}
    with read(made_up_snapshot(tmp_path / "good", tables=[table])) as source:
        assert [(one.name, one.now, str(one.clock)) for one in source.tables] == [("cilium_ct4_global", 5, "ktime")]
    with pytest.raises(DecodeError, match="damaged snapshot head"):
        read(made_up_snapshot(tmp_path / "odd", tables=[table | odd]))

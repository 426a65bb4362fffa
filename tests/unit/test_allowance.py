"""Work that no byte pays for is given once for one answer, however many files are read for it; each gets a little."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ctctl.cli.groups import SourceArgs
from ctctl.cli.report import opened
from ctctl.config import budget
from ctctl.config.allowance import allowance, shared
from ctctl.config.budget import FREE_WORK, OWN_FREE_WORK, SMALL, WORK_A_BYTE, WORK_A_BYTE_BEYOND, Budget, LimitError
from ctctl.config.yamltree import parse_yaml
from ctctl.errors import ConfigError
from ctctl.fleet.collect import NODE_WORK
from ctctl.tables.namebook import NameBook
from ctctl.tables.names import book_of
from ctctl.tables.names_files import add_file
from ctctl.tables.open import open_source
from ctctl.tables.sources.archive import Walk
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from tests.support import honest
from tests.support.children import run_ctctl
from tests.support.hostile import lines


def exhausted() -> Budget:
    """A file that takes all that it may."""
    budget = Budget()
    budget.packed = 100
    with pytest.raises(LimitError):
        budget.spend(FREE_WORK + 100 * WORK_A_BYTE + 1)
    return budget


def test_files_apart_have_an_allowance_each() -> None:
    assert allowance() is not allowance()
    for _ in range(2):
        assert exhausted().room == 0
        assert Budget().room == FREE_WORK


def test_files_of_one_answer_have_one() -> None:
    with shared():
        exhausted()
        with shared():  # what it is compared with
            second = Budget()
            assert second.room == OWN_FREE_WORK
            second.packed = 1000  # its bytes pay for it as ever
            assert second.room == OWN_FREE_WORK + 1000 * WORK_A_BYTE
            second.spend(OWN_FREE_WORK + 1000 * WORK_A_BYTE)
            with pytest.raises(LimitError):
                second.spend(1)
        assert Budget().room == OWN_FREE_WORK
    assert Budget().room == FREE_WORK


def test_what_is_done_with_each_node_is_paid_for_where_it_is_read(tmp_path: Path) -> None:
    """A small archive of very many nodes: a lake of it is of as many as it pays for, and says so."""
    path = tmp_path / "nodes.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(200):
            archive.writestr(f"n{number}/ct-list.txt", lines("ct", 1))
    nodes = {}
    for a_node in (0, NODE_WORK):
        with shared(a_node), open_source(str(path)) as source:
            nodes[a_node] = len(source.nodes())
            assert bool(source.partial) == bool(a_node)
    assert nodes[0] == 200
    assert 0 < nodes[NODE_WORK] < 150
    bugtool = Path(__file__).parents[2] / "examples" / "cilium-bugtool.tar.xz"
    with shared(10 * NODE_WORK), open_source(str(bugtool)) as source:  # its many files are one node's
        assert not source.partial
    one = tmp_path / "one"
    one.mkdir()
    for number in range(40):  # what pays for itself is whole
        (one / f"n{number}").mkdir()
        (one / f"n{number}" / "ct-list.txt").write_bytes(lines("ct", 100))
    with shared(NODE_WORK), open_source(str(one)) as source:
        assert len(source.nodes()) == 40
        assert not source.partial


def test_what_bytes_pay_for_later_is_given_back() -> None:
    with shared():
        budget = Budget()
        budget.spend(FREE_WORK)
        budget.packed = FREE_WORK
        budget.spend(1)
        assert Budget().room == FREE_WORK


def test_a_part_of_it_stays_for_the_others() -> None:
    with shared():
        Budget().spend(FREE_WORK // 4)
        assert Budget().room == FREE_WORK - FREE_WORK // 4


def hostile(path: Path) -> Path:
    path.write_bytes(gzip.compress(lines("talk", 200_000, same=True), 9, mtime=0))
    return path


def test_several_files_take_little_more_than_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent: list[Budget] = []
    init = Budget.__init__

    def noted(budget: Budget) -> None:
        init(budget)
        spent.append(budget)

    monkeypatch.setattr(Budget, "__init__", noted)
    monkeypatch.setattr(budget, "FREE_WORK", 20_000)
    monkeypatch.setattr(budget, "OWN_FREE_WORK", 1000)
    monkeypatch.setattr(budget, "WORK_A_BYTE", 1)
    whole = tmp_path / "ct.txt"
    whole.write_bytes(lines("ct", 3))
    bad = [hostile(tmp_path / f"{name}.gz") for name in "abcdef"]
    with open_source([*map(str, bad), str(whole)]) as source:
        assert sum(len(columns) for table in source.tables for columns in table.columns()) == 3
        assert len(source.partial) == len(bad)
    sizes = sum(path.stat().st_size for path in [*bad, whole])
    # What goes beyond was one line's.
    assert sum(budget.spent for budget in spent) < 20_000 + len(bad) * 1100 + sizes


def test_names_that_were_left_unread_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = "- kind: Pod\n  metadata: {name: web}\n  status: {podIP: 10.0.0.1}\n"
    folder = tmp_path / "names"
    folder.mkdir()
    (folder / "pods.yaml").write_text("items:\n" + pod)
    (folder / "services.yaml").write_text("items:\n" + pod * 5000)
    monkeypatch.setattr(budget, "FREE_WORK", 1000)
    monkeypatch.setattr(budget, "WORK_A_BYTE", 0)
    told = add_file(NameBook(), folder)
    assert len(told) == 1
    assert told[0].startswith(f"--names {folder}: it repeats itself")
    whole = tmp_path / "ct.txt"
    whole.write_bytes(lines("ct", 3))
    with open_source(str(whole)) as source:
        source.name_files = (str(folder),)
        assert book_of(source).pods
        assert source.partial == told


def test_a_whole_file_beside_one_that_is_cut_short(tmp_path: Path) -> None:
    bad, whole = hostile(tmp_path / "bad.gz"), tmp_path / "ct.txt"
    whole.write_bytes(lines("ct", 3))
    done = run_ctctl("ct", "list", "-o", "name", "--from", str(bad), "--from", str(whole))
    assert done.returncode == 5
    assert len(done.stdout.splitlines()) == 3


def test_what_a_command_compares_has_one_allowance(tmp_path: Path) -> None:
    whole = tmp_path / "ct.txt"
    whole.write_bytes(lines("ct", 3))
    with opened(SourceArgs(source=[str(whole)])):
        exhausted()
        assert Budget().room == OWN_FREE_WORK
    assert Budget().room == FREE_WORK


def entry(rng: random.Random) -> tuple[dict[str, object], dict[str, int]]:
    """An entry as a busy node has them: its ports, times and counts are its own."""
    key = {
        "destaddr": [10, 61, rng.randrange(4), rng.randrange(256)],
        "sourceaddr": [10, 61, 1, rng.randrange(256)],
        "destport": rng.randrange(1 << 16),
        "sourceport": rng.randrange(1 << 16),
        "nextheader": 6,
        "flags": 0,
    }
    seen = {"txflagsseen": 27, "rxflagsseen": 27, "sourcesecurityid": rng.randrange(1 << 16)}
    seen |= {"lasttxreport": rng.randrange(9000, 13000), "lastrxreport": rng.randrange(9000, 13000)}
    value = {"reserved0": 0, "backendid": 0, "packets": rng.randrange(400), "bytes": rng.randrange(1 << 20)}
    return key, value | {"lifetime": rng.randrange(13000, 34000), "flags": 19, "revnat": 0, "ifindex": 0} | seen


def yaml_of(key: dict[str, object], value: dict[str, int]) -> str:
    lines = ["- key:", "    tuplekey4global:", "        tuplekey4:"]
    for name, part in key.items():
        lines.append(f"            {name}:" + ("" if isinstance(part, list) else f" {part}"))
        lines += [f"                - {octet}" for octet in part] if isinstance(part, list) else []
    return "\n".join([*lines, "  value:", *(f"    {name}: {number}" for name, number in value.items()), ""])


def test_a_large_listing_is_paid_for_by_its_bytes_however_well_it_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML packs to a twentieth: what is read in passes must not look as if it only repeated itself."""
    monkeypatch.setattr(budget, "FREE_WORK", 2 << 14)  # what is read before the passes begin, and no more
    monkeypatch.setattr(budget, "OWN_FREE_WORK", 2 << 14)
    rng, count = random.Random(61), 2500
    packed = lzma.compress("".join(yaml_of(*entry(rng)) for _ in range(count)).encode())
    dump = Dump()
    walk = Walk(lambda stream, path, budget: read_content(stream, dump, path.name, budget.spend) and None)
    walk.file(io.BytesIO(packed), "ct-list.yaml.xz", 3)
    assert walk.partial == dump.partial == []
    assert sum(map(len, dump.tables.values())) == count


def cost_of(kind: str, rows: int, pack: Callable[[bytes], bytes]) -> tuple[int, int]:
    """The bytes of a packed listing, and the work of reading all of it."""
    packed = pack(honest.listings(rows)[kind].encode())
    dump = Dump()
    walk = Walk(lambda stream, path, budget: read_content(stream, dump, path.name, budget.spend) and None)
    walk.file(io.BytesIO(packed), "listing", 3)
    assert walk.partial == dump.partial == []
    return len(packed), walk.budget.spent


@pytest.mark.parametrize("kind", list(honest.listings(1)))
@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_no_honest_listing_is_cut_short_of_whatever_size(kind: str, pack: Callable[[bytes], bytes]) -> None:
    """What a packed byte of it costs is less than any byte pays for, and less than a small file's with what is free."""
    size, work = cost_of(kind, 2000, pack)
    more_size, more_work = cost_of(kind, 5000, pack)
    a_byte = (more_work - work) / (more_size - size)
    learning = max(work - a_byte * size, 0)  # how its lines were pasted is found out once, be they a million
    assert a_byte < WORK_A_BYTE_BEYOND
    assert learning + a_byte * SMALL < FREE_WORK + WORK_A_BYTE * SMALL


@pytest.mark.parametrize("pack", ["tar.xz", "zip"])
def test_no_honest_fleet_is_cut_short(pack: str, tmp_path: Path) -> None:
    """Many nodes with little on each: what a node costs is paid by what is in its table."""
    spool = io.BytesIO()
    rows = honest.listings(300 * 20)["ct"].splitlines(keepends=True)
    members = {f"node-{n}/ct-list.txt": "".join(rows[20 * n : 20 * n + 20]).encode() for n in range(300)}
    if pack == "zip":
        with zipfile.ZipFile(spool, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=spool, mode="w:xz") as packed:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
    path = tmp_path / f"fleet.{pack}"
    path.write_bytes(spool.getvalue())
    with open_source(str(path)) as source:
        assert source.partial == []
        assert len(source.nodes()) == 300
        assert sum(table.count or 0 for table in source.tables) > 300 * 20 - 20


@pytest.mark.parametrize("form", ["zip", "cut zip", "tar"])
def test_what_an_archive_writes_around_its_members_pays_for_nothing(form: str) -> None:
    """Else an archive of nothing but names would be read for as long as a listing of its size."""
    spool = io.BytesIO()
    if form == "tar":
        with tarfile.open(fileobj=spool, mode="w") as packed:
            for n in range(3000):
                packed.addfile(tarfile.TarInfo(f"{n:0>80}"))
    else:
        with zipfile.ZipFile(spool, "w") as archive:
            for n in range(9000):
                archive.writestr(f"{n:0>80}", b"")
    data = spool.getvalue()[: 9000 * 110 if form == "cut zip" else None]
    walk = Walk(lambda stream, path, budget: None)
    walk.file(io.BytesIO(data), "x", 3)
    assert "repeats itself" in walk.ended
    assert walk.budget.spent < FREE_WORK + 40_000


def test_a_small_file_may_take_less_for_each_byte_than_a_large_one() -> None:
    budget = Budget()
    budget.packed = SMALL
    assert budget.room == FREE_WORK + WORK_A_BYTE * SMALL < 2_000_000
    budget.packed = SMALL + 100
    assert budget.room == FREE_WORK + WORK_A_BYTE * SMALL + WORK_A_BYTE_BEYOND * 100
    budget.spend(budget.room)
    with pytest.raises(LimitError):
        budget.spend(1)


#: Lists in lists, each of them two characters.
DASHES = "kind: Pod\nitems:\n" + ("- " * 60 + "a\n") * 2400


@pytest.mark.parametrize(
    "words",
    [
        ("load", "--dry-run", "-f", "FILE"),
        ("apply", "--dry-run", "-f", "FILE"),
        ("trace", "--scenario", "FILE"),
        ("trace", "--simulate", "tcp 10.1.1.2:4 > 10.0.0.1:80", "-f", "FILE"),
        ("gc", "simulate", "FILE"),
        ("sizing", "FILE"),
        ("cluster", "nodes", "--kubeconfig", "FILE"),
    ],
    ids=" ".join,
)
def test_a_file_of_yaml_is_refused_before_it_is_parsed(words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "dashes.yaml"
    path.write_text(DASHES)
    done = run_ctctl(*(str(path) if word == "FILE" else word for word in words))
    assert done.returncode in (1, 2)
    assert "more lists and mappings than a file of its size has: not read" in done.stderr
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_cluster_s_objects_pay_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """As kubectl writes them, in blocks and in one line: nothing is taken of what is free."""
    monkeypatch.setattr(budget, "FREE_WORK", 0)
    monkeypatch.setattr(budget, "OWN_FREE_WORK", 0)
    port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}
    spec = {"clusterIP": "10.96.0.10", "ports": [port], "selector": {"app": "web"}, "type": "ClusterIP"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "a"}, "spec": spec}
    listed = {"apiVersion": "v1", "kind": "List", "items": [service] * 300}
    for text in (yaml.safe_dump(listed), json.dumps(listed), json.dumps(listed, indent=4)):
        (read,) = parse_yaml(text, "objects.yaml")
        assert len(read.plain()["items"]) == 300
    with pytest.raises(ConfigError, match="more lists and mappings"):
        parse_yaml(DASHES, "dashes.yaml")

"""Attacks on what deletes and restores, with the real command on real maps: each was seen to work once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctctl.kernel.clock import boot_id, monotonic_s
from ctctl.kernel.map import Map, MapType
from ctctl.model.nat import NatEntry
from ctctl.tables import pairs
from tests.support.children import CTCTL
from tests.support.children import run_ctctl as ctctl
from tests.support.gctables import TableDir, contents, entry, key4, nat4, reverse_nat_value, table_dir
from tests.support.mounts import unmount
from tests.support.names import unique_name
from tests.support.needs import lacking
from tests.support.writing import NAME, SNAT, Refresher, alive, answer_after, count_of, fill, run_undo

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("own_directory")]


@pytest.fixture
def cilium(tmp_path: Path) -> Iterator[TableDir]:
    """Another program's tables, with entries that are alive and some that are not."""
    with table_dir(tmp_path, own=False) as made:
        made.create(NAME)
        made.create(SNAT)
        fill(made.maps[NAME], 50)
        yield made


# ---- whose is it?

WRITING = [
    ("gc", "--yes"),
    ("gc", "--yes", "--endpoint", "10.0.0.1"),
    ("ct", "delete", "expired", "--yes"),
    ("ct", "flush", "--yes"),
]


def links(cilium: TableDir, tmp_path: Path, stack: contextlib.ExitStack) -> dict[str, Path]:
    """Ways to make another's tables look like ours."""
    root = cilium.path.parents[1]
    ways = {"dots": root / "tc" / ".." / "tc" / "globals", "outside": tmp_path / "link"}
    ways["outside"].symlink_to(cilium.path)
    planted = root / "ctctl"
    planted.mkdir(mode=0o777)
    os.chown(planted, 65534, 65534)
    ways["planted link"] = planted / "node"
    ways["planted link"].symlink_to(cilium.path)
    ways["planted directory"] = planted / "other"
    ways["planted directory"].mkdir()
    cilium.maps[NAME].pin(ways["planted directory"] / NAME)
    cilium.maps[SNAT].pin(ways["planted directory"] / SNAT)
    ways["bind mount"] = planted / "bound"
    ways["bind mount"].mkdir()
    subprocess.run(["mount", "--bind", cilium.path, ways["bind mount"]], check=True)
    stack.callback(unmount, ways["bind mount"])
    return ways


def test_no_name_makes_anothers_tables_ours(cilium: TableDir, tmp_path: Path) -> None:
    before = contents(cilium.maps[NAME])
    with contextlib.ExitStack() as stack:
        for way, path in links(cilium, tmp_path, stack).items():
            for command in WRITING:
                done = ctctl(*command, "--from", path)
                assert done.returncode == 4, (way, command, done.stderr)
                assert "--allow-foreign" in done.stderr
                assert contents(cilium.maps[NAME]) == before, (way, command)
    assert list(Path.cwd().iterdir()) == []  # no journal of nothing


def test_a_pin_of_ours_under_any_name_is_ours(node: TableDir, tmp_path: Path) -> None:
    fill(node.maps[NAME], 10)
    (tmp_path / "link").symlink_to(node.path)
    done = ctctl("ct", "flush", "--yes", "--from", tmp_path / "link")
    assert (done.returncode, contents(node.maps[NAME])) == (0, {}), done.stderr


@pytest.mark.parametrize(("owner", "mode", "ours"), [(0, 0o1777, True), (0, 0o777, False), (65534, 0o700, False)])
def test_a_record_below_a_root_that_others_hold_counts_for_nothing(
    node: TableDir, owner: int, mode: int, ours: bool
) -> None:
    """The root of a mount, which is any directory where it is a bind mount: who can move things in it made the node."""
    fill(node.maps[NAME], 10)
    root = node.path.parents[1]
    os.chown(root, owner, owner)
    root.chmod(mode)
    done = ctctl("ct", "flush", "--yes", "--from", node.path)
    assert (done.returncode, len(contents(node.maps[NAME]))) == ((0, 0) if ours else (4, 10)), done.stderr


def test_an_snat_table_of_another_beside_ours_is_not_written(node: TableDir) -> None:
    (node.path / SNAT).unlink()
    with Map.create("foreign_snat", MapType.LRU_HASH, 14, 40, 64) as foreign:
        foreign.pin(node.path / SNAT)
        (key,) = fill(node.maps[NAME], 1)
        foreign.update(pairs.nat_key(key, dsr=False), nat4("1.1.1.1", 1))
        for command in WRITING:
            assert ctctl(*command, "--from", node.path).returncode == 4
        assert (len(contents(foreign)), len(contents(node.maps[NAME]))) == (1, 1)


@pytest.mark.parametrize("name", ["ctctl", "unload"])
def test_unload_takes_no_pins_that_are_not_a_nodes(cilium: TableDir, tmp_path: Path, name: str) -> None:
    root = cilium.path.parents[1]
    policy = Map.create("policy", MapType.HASH, 8, 48, 8)
    with policy:
        policy.pin(cilium.path / "cilium_policy_00123")
        before = sorted(path.name for path in cilium.path.iterdir())

        def refused(*words: object) -> None:
            for command in (("unload", "--all"), ("unload", "--node", "globals"), ("unload", "--all", "--dry-run")):
                done = ctctl(*command, "--bpffs", root, *words)
                assert done.returncode in (1, 4), (command, done.stderr)
                assert sorted(path.name for path in cilium.path.iterdir()) == before, command

        if name == "ctctl":
            (root / "ctctl").symlink_to(root / "tc")
            refused("--yes")
        else:
            (root / "ctctl").mkdir(mode=0o700)
            (root / "ctctl/globals").mkdir(mode=0o700)
            subprocess.run(["mount", "--bind", cilium.path, root / "ctctl/globals"], check=True)
            try:
                refused("--yes")
            finally:
                unmount(root / "ctctl/globals")
            # The same pins in a directory that is ours by all appearances.
            for pin in before:
                with Map.open_pinned(cilium.path / pin) as table:
                    table.pin(root / "ctctl/globals" / pin)
            done = ctctl("unload", "--all", "--bpffs", root, "--yes")
            assert (done.returncode, "cilium_policy_00123" in done.stderr) == (4, True), done.stderr
            assert sorted(path.name for path in (root / "ctctl/globals").iterdir()) == before


@pytest.mark.parametrize("place", ["links", "staging/links", "staging", "."])
def test_unload_takes_no_pin_wherever_it_lies(cilium: TableDir, place: str) -> None:
    """In a directory that is ours by all appearances: a map among the links, and tables of a known name."""
    root = cilium.path.parents[1]
    node = root / "ctctl/evil"
    (node / place).mkdir(parents=True, mode=0o700)
    name = "cilium_policy_00123" if place.endswith("links") else NAME
    cilium.maps[NAME].pin(node / place / name)
    for command in (("unload", "--all", "--yes"), ("unload", "--all", "--dry-run")):
        done = ctctl(*command, "--bpffs", root)
        assert (done.returncode, name in done.stderr) == (4, True), done.stderr
        assert (node / place / name).exists()


def test_load_takes_no_directory_of_another_user(tmp_path: Path) -> None:
    from tests.support.nodes import make_node

    with make_node() as made, table_dir(tmp_path, own=False) as other:
        root = other.path.parents[1]
        (root / "ctctl").mkdir()
        os.chown(root / "ctctl", 65534, 65534)
        file = Path("node.yaml")
        file.write_text(made.text())
        for more in ((), ("--dry-run",)):
            done = ctctl("load", "-f", file, "--netns", made.name, "--bpffs", root, *more)
            assert (done.returncode, "belongs to user 65534" in done.stderr) == (4, True), done.stderr
        assert list((root / "ctctl").iterdir()) == []


@pytest.mark.parametrize("loaded", [False, True])
def test_load_and_apply_take_no_pin_that_is_not_the_nodes(cilium: TableDir, loaded: bool) -> None:
    """In the node's own place: they would rename over it, write it, or clean it away as what a killed load left."""
    from tests.support.nodes import make_node

    root = cilium.path.parents[1]
    there = sorted(path.name for path in cilium.path.iterdir())
    with make_node() as made:
        Path("node.yaml").write_text(made.text())
        load = ("load", "-f", "node.yaml", "--netns", made.name, "--bpffs", root)
        apply = ("apply", "-f", "node.yaml", "--bpffs", root)
        node = root / "ctctl" / made.name
        if loaded:
            assert ctctl(*load).returncode == 0
        else:
            node.mkdir(parents=True, mode=0o700)
        before = sorted(path.name for path in node.iterdir())

        def refused(planted: Path) -> None:
            for command in (load, (*load, "--dry-run"), *([(*apply, "--yes"), (*apply, "--dry-run")] * loaded)):
                done = ctctl(*command)
                assert (done.returncode, planted.name in done.stderr) == (4, True), (command, done.stderr)
                assert sorted(path.name for path in cilium.path.iterdir()) == there, command
            planted.unlink()
            assert sorted(path.name for path in node.iterdir()) == before

        try:
            (node / "staging").symlink_to(cilium.path)
            refused(node / "staging")
            if not loaded:
                (node / "links").symlink_to(cilium.path)
                refused(node / "links")
            (node / NAME).unlink(missing_ok=True)
            cilium.maps[NAME].pin(node / NAME)
            before = [name for name in before if name != NAME]
            refused(node / NAME)
        finally:
            done = ctctl("unload", "--node", made.name, "--bpffs", root, "--yes")
        assert done.returncode == 0, done.stderr


def test_who_listens_writes_no_map_that_is_not_the_nodes() -> None:
    """The trace's lease and filter are written into maps of the node: by their ids, not by a name that leads away."""
    from tests.support.nodes import make_node

    with make_node() as made:
        Path("node.yaml").write_text(made.text())
        assert ctctl("load", "-f", "node.yaml", "--netns", made.name).returncode == 0
        try:
            for name in ("ctctl_trace_ctl", "ctctl_trace_follow"):
                pin = made.dir / name
                with Map.open_pinned(pin) as own:
                    info = own.info
                    pin.unlink()
                    with Map.create(
                        "others", info.type, info.key_size, info.value_size, info.max_entries, flags=info.map_flags
                    ) as others:
                        others.pin(pin)
                        before = contents(others)
                        done = ctctl("trace", "--live", "--node", made.name, "--for", "1s")
                        assert (done.returncode, name in done.stderr) == (4, True), done.stderr
                        assert contents(others) == before
                    pin.unlink()
                    own.pin(pin)
        finally:
            assert ctctl("unload", "--node", made.name, "--yes").returncode == 0


def test_a_reload_keeps_what_is_ours_ours() -> None:
    """The ids in the record follow a load, an apply and a resize."""
    from tests.support.nodes import make_node

    with make_node() as made:
        try:
            for changes in ({}, {}, {"remote": []}):
                Path("node.yaml").write_text(made.text(**changes))
                verb = ("load", "--netns", made.name) if not changes else ("apply",)
                done = ctctl(*verb, "-f", "node.yaml", "--node", made.name, *(("--yes",) if changes else ()))
                assert done.returncode == 0, done.stderr
                with Map.open_pinned(made.dir / NAME) as table:
                    fill(table, 5)
                    done = ctctl("gc", "--yes", "--node", made.name, "-o", "json")
                    assert (done.returncode, json.loads(done.stdout)["deleted"]) == (0, 5), done.stderr
        finally:
            done = ctctl("unload", "--node", made.name, "--yes")
        assert done.returncode == 0, done.stderr


# ---- names from files


def snapshot_with_nat(path: Path, node: TableDir, names: list[str]) -> None:
    """A snapshot whose SNAT records name ``names`` as their tables."""
    from ctctl.ct.export import matching_rows
    from ctctl.decode.nat import decode_nat
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.sources.listings import Listings
    from ctctl.tables.sources.open import open_source
    from ctctl.tables.sources.snapshot_write import write_snapshot

    key = key4("10.0.0.9", 9, "8.8.8.8", 99)
    with open_source(str(node.path)) as source, path.open("wb") as stream:
        found: list[NatEntry] = [decode_nat(key, nat4("6.6.6.6", 6), name) for name in names]
        source.listings, source.partly = (lambda _node: Listings(nat_entries=found)), None
        for table in source.tables:
            table.nat = None
        write_snapshot(source, source.tables, matching_rows(Filter()), stream)


def test_a_file_cannot_name_a_map(node: TableDir) -> None:
    root = node.path.parents[1]
    secret = root / unique_name("secret")
    secret.mkdir()
    globals_dir = root / "tc/globals"
    globals_dir.mkdir(parents=True)
    with (
        Map.create("victim", MapType.LRU_HASH, 14, 40, 64) as victim,
        Map.create("beside", MapType.LRU_HASH, 14, 40, 64) as beside,
    ):
        victim.pin(secret / "victim")
        victim.pin(globals_dir / SNAT)
        beside.pin(node.path / "beside")
        names = [str(secret / "victim"), f"../../tc/globals/{SNAT}", f"../../{secret.name}/victim", "beside", "", "\0"]
        snapshot = Path("evil.ctsnap")
        snapshot_with_nat(snapshot, node, names)
        lines = [{"schema": "ctctl/undo/v1", "source": "", "node": None, "boot_id": boot_id()}]
        lines += [{"map": n, "key_hex": bytes(14).hex(), "value_hex": bytes(40).hex()} for n in names]
        journal = Path("evil.jsonl")
        journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for command in (("ct", "import", snapshot), ("ct", "import", journal), ("gc", "undo", journal)):
            for more in (("--dry-run",), ("--yes",), ("--yes", "--allow-foreign")):
                done = ctctl(*command, "--from", node.path, *more)
                assert done.returncode in (0, 5), done.stderr
                assert "no such table here" in done.stderr
                assert contents(victim) == contents(beside) == contents(node.maps[SNAT]) == {}


def test_import_creates_and_never_overwrites(node: TableDir) -> None:
    first, second = fill(node.maps[NAME], 2, lifetime=alive())
    assert ctctl("ct", "export", "a.ctsnap", "--from", node.path).returncode == 0
    newer = entry(lifetime=alive() + 1, packets=7)
    node.maps[NAME].update(first, newer)
    node.maps[NAME].delete(second)
    # While it writes, the datapath writes too: what is there when its turn comes stays.
    with Refresher(node.maps[NAME], [second], lambda: newer, create=True):
        done = ctctl("ct", "import", "a.ctsnap", "--from", node.path, "--yes")
    assert done.returncode == 0, done.stderr
    assert contents(node.maps[NAME])[first] == newer
    assert ctctl("ct", "import", "a.ctsnap", "--from", node.path, "--yes", "--overwrite").returncode == 2


# ---- look again in the kernel

REFRESHED = [("ct", "delete", "expired", "--yes"), ("gc", "--yes", "--undo", "u")]


@pytest.mark.parametrize("command", REFRESHED, ids=" ".join)
def test_no_refreshed_entry_is_deleted(node: TableDir, command: tuple[str, ...]) -> None:
    table = node.maps[NAME]
    for _ in range(3):
        for key in list(contents(table)):
            table.delete(key)
        keys = fill(table, 30_000)
        Path("u").unlink(missing_ok=True)
        with Refresher(table, keys[::3], lambda: entry(lifetime=alive())) as packets:
            done = ctctl(*command, "--from", node.path)
        assert done.returncode == 0, done.stderr
        left = contents(table)
        assert packets.refreshed <= left.keys()
        assert left.keys() <= packets.refreshed
        if len(packets.refreshed) > 0:
            return
    pytest.fail("no packet came in time: the test shows nothing")


@pytest.mark.parametrize("what", ["expired", "src == 10.0.0.1"])
def test_an_entry_refreshed_while_the_question_stands_stays(node: TableDir, what: str) -> None:
    table = node.maps[NAME]
    key, other = key4("10.0.0.1", 1, "10.0.0.2", 80), key4("10.0.0.1", 2, "10.0.0.2", 80)
    for each in (key, other):
        table.update(each, entry(lifetime=0))
    command = [*CTCTL, "ct", "delete", what, "--from", str(node.path)]
    status, said = answer_after(command, lambda: table.update(key, entry(lifetime=alive())))
    assert status == 0, said
    assert list(contents(table)) == [key]
    assert "1 skipped" in said


def test_a_flush_takes_what_was_refreshed_too(node: TableDir) -> None:
    table = node.maps[NAME]
    keys = fill(table, 200, lifetime=alive())
    command = [*CTCTL, "ct", "flush", "--from", str(node.path)]
    status, said = answer_after(command, lambda: table.update(keys[0], entry(lifetime=alive() + 9)))
    assert (status, contents(table)) == (0, {}), said


# ---- the time


def in_time_namespace(seconds: int) -> list[str]:
    probe = ["unshare", "-T", f"--monotonic={seconds}", "--"]
    if subprocess.run([*probe, "true"], capture_output=True, check=False).returncode:
        lacking("no time namespaces")
    return probe


@pytest.mark.parametrize("seconds", [100_000, -200])
@pytest.mark.parametrize("command", [("gc", "--yes"), ("ct", "delete", "expired", "--yes")], ids=" ".join)
def test_a_shifted_clock_deletes_nothing_that_lives(node: TableDir, command: tuple[str, ...], seconds: int) -> None:
    table = node.maps[NAME]
    living = fill(table, 1000, lifetime=alive())
    dead = key4("10.9.9.9", 1, "10.0.0.2", 80)
    table.update(dead, entry(lifetime=0))
    done = subprocess.run(
        [*in_time_namespace(seconds), *CTCTL, *command, "--from", str(node.path)], capture_output=True, check=False
    )
    left = contents(table)
    assert living == [key for key in living if key in left], done.stderr
    assert (dead in left) is (done.returncode != 0)


def test_a_table_of_another_clock_is_refused(node: TableDir) -> None:
    table = node.maps[NAME]
    keys = fill(table, 20)
    for fields in ({"last_tx_report": monotonic_s() + 100_000}, {"lifetime": monotonic_s() + 20 * 86400}):
        table.update(keys[0], entry(**fields))
        for command in (("gc", "--yes"), ("ct", "delete", "expired", "--yes")):
            done = ctctl(*command, "--from", node.path)
            assert (done.returncode, len(contents(table))) == (1, 20), done.stderr
            assert "clock" in done.stderr


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("command", [("gc",), ("ct", "delete", "expired")], ids=" ".join)
def test_a_clock_that_is_not_the_tables_deletes_nothing_that_lives(
    tmp_path: Path, command: tuple[str, ...], own: bool
) -> None:
    asked = [("--yes", "--allow-foreign"), ("--dry-run",), *([("--explain",)] if command == ("gc",) else [])]
    # Jiffies begin 16 million units before a boot: read by them, everything counted in seconds has expired.
    with table_dir(tmp_path, own=own) as made:
        table = made.create(NAME)
        for times in ({"last_tx_report": monotonic_s()}, {"last_rx_report": monotonic_s()}, {}):
            fill(table, 20, lifetime=alive(), **times)
            for how in asked:
                wrong = ctctl(*command, *how, "--clock", "jiffies:250", "--from", made.path)
                assert (wrong.returncode, wrong.stdout, count_of(table)) == (1, "", 20), wrong.stderr
                assert ("ctctl's own" if own else "nothing in it was reported on for") in wrong.stderr.splitlines()[-1]
        # What only reads goes by the clock that it was told, and says what speaks against it.
        fill(table, 20, lifetime=alive(), last_tx_report=monotonic_s())
        listed = ctctl("ct", "list", "--clock", "jiffies:250", "--from", made.path)
        assert listed.returncode == 0
        assert "clock: --clock jiffies:250 was given, and" in listed.stderr
        table.update(key4("10.9.9.9", 1, "10.0.0.2", 80), entry(lifetime=monotonic_s() - 5))
        right = ctctl(*command, "--yes", "--allow-foreign", "--clock", "ktime", "--from", made.path)
        assert (right.returncode, count_of(table)) == (0, 20), right.stderr


def test_a_time_to_come_is_asked_for_and_kept(node: TableDir) -> None:
    table = node.maps[NAME]
    fill(table, 20, lifetime=alive())
    ahead = ("gc", "--from", node.path, "--now", alive() + 10)
    assert (ctctl(*ahead).returncode, len(contents(table))) == (2, 20)
    done = ctctl(*ahead, "--yes")
    assert (done.returncode, contents(table)) == (0, {}), done.stderr
    assert run_undo(done.stderr).returncode == 0
    assert len(contents(table)) == 20


# ---- every table


def test_per_cluster_tables_are_collected_with_their_own_snat(node: TableDir) -> None:
    ct, nat = "cilium_per_cluster_ct_tcp4", "cilium_per_cluster_snat_v4_external"
    key = key4("10.0.0.1", 1, "8.8.8.8", 53)
    forward = pairs.nat_key(key, dsr=False)
    with (
        Map.create("inner_ct", MapType.LRU_HASH, 14, 56, 4096) as inner_ct,
        Map.create("inner_nat", MapType.LRU_HASH, 14, 40, 4096) as inner_nat,
        Map.create("outer_ct", MapType.ARRAY_OF_MAPS, 4, 4, 8, inner=inner_ct) as outer_ct,
        Map.create("outer_nat", MapType.ARRAY_OF_MAPS, 4, 4, 8, inner=inner_nat) as outer_nat,
    ):
        outer_ct.update((5).to_bytes(4, "little"), inner_ct.fd.to_bytes(4, "little"))
        outer_nat.update((5).to_bytes(4, "little"), inner_nat.fd.to_bytes(4, "little"))
        outer_ct.pin(node.path / ct)
        outer_nat.pin(node.path / nat)
        inner_ct.update(key, entry(lifetime=0))
        inner_nat.update(forward, nat4("1.1.1.1", 1))
        node.maps[SNAT].update(forward, nat4("2.2.2.2", 2))
        assert ctctl("gc", "--yes", "--from", node.path).returncode == 4  # the inner maps are in no record
        plan = ctctl("gc", "--dry-run", "--from", node.path, "-o", "json")
        assert [m["map"] for m in json.loads(plan.stdout)["maps"] if m["expired"]] == [f"{ct}[5]"]
        done = ctctl("gc", "--yes", "--allow-foreign", "--clock", "ktime", "--undo", "u", "--from", node.path)
        assert (done.returncode, contents(inner_ct), contents(inner_nat)) == (0, {}, {}), done.stderr
        assert len(contents(node.maps[SNAT])) == 1
        assert run_undo(done.stderr).returncode == 0
        assert (list(contents(inner_ct)), list(contents(inner_nat))) == ([key], [forward])


def test_an_snat_entry_taken_up_again_is_no_orphan(node: TableDir) -> None:
    """The look behind an orphan is taken by the program that deletes."""
    from ctctl.tables.sources.open import open_source
    from ctctl.tables.writer.remover import Remover
    from ctctl.tables.writer.targets import open_targets

    key = key4("10.0.0.1", 1, "8.8.8.8", 53)
    forward, value = pairs.nat_key(key, dsr=False), nat4("1.1.1.1", 1)
    reverse = pairs.reverse_nat_key(forward, value)
    nat = node.maps[SNAT]
    for again in (True, False):
        nat.update(forward, value)
        nat.update(reverse, reverse_nat_value(forward, value))
        with open_source(str(node.path)) as source, open_targets(source, allow_foreign=False) as targets:

            def meanwhile(_keys: object, again: bool = again) -> None:
                if again:
                    node.maps[NAME].update(key, entry(lifetime=alive()))

            with Remover(targets.tables[0], before_delete=meanwhile, room=8) as remover:
                found = contents(nat)
                matrices = [np.frombuffer(b"".join(part), np.uint8) for part in (found.keys(), found.values())]
                remover.remove_nat(matrices[0].reshape(2, 14), matrices[1].reshape(2, 40), orphans=True)
        assert len(contents(nat)) == (2 if again else 0)
        node.maps[NAME].delete(key)


@pytest.mark.parametrize("scrub", [False, True])
def test_gc_looks_again_for_what_is_behind_an_orphan_and_a_scrub_takes_it_whatever_is(
    node: TableDir, scrub: bool
) -> None:
    from ctctl.gc import orphans
    from ctctl.gc.job import Job
    from ctctl.gc.limit import RateLimit
    from ctctl.tables.sources.open import open_source
    from ctctl.tables.writer.targets import open_targets

    key = key4("10.0.0.1", 1, "8.8.8.8", 53)
    forward, value = pairs.nat_key(key, dsr=False), nat4("1.1.1.1", 1)
    node.create("cilium_ct_any4_global")
    node.maps[SNAT].update(forward, value)
    node.maps[SNAT].update(pairs.reverse_nat_key(forward, value), reverse_nat_value(forward, value))
    stop = threading.Event()
    job = Job(
        monotonic_s(),
        stop,
        RateLimit(None, stop),
        addresses=(bytes([10, 0, 0, 1]),) if scrub else (),
        before_delete=lambda _keys: node.maps[NAME].update(key, entry(lifetime=alive())),
    )
    with open_source(str(node.path)) as source, open_targets(source, allow_foreign=False) as targets:
        purged = orphans.Purged()
        orphans.purge(source, targets, job, purged)
        assert purged.count == (2 if scrub else 0)
    assert len(contents(node.maps[SNAT])) == (0 if scrub else 2)

"""What the kernel layer says and does about the machine: namespaces, bpffs, clocks, features."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ctctl.errors import KernelError, NotFoundError
from ctctl.kernel import bpffs, clock
from ctctl.kernel.features import Feature, libbpf_version, probe
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.netns import netns_id, run_in_netns, run_in_new_netns
from tests.support.children import line_of, started
from tests.support.mounts import unmount
from tests.support.net import netns_with_veth

pytestmark = pytest.mark.kernel


class TestNetns:
    def test_it_is_another_namespace_and_only_for_the_call(self) -> None:
        here = netns_id()
        with netns_with_veth() as netns:
            assert run_in_netns(netns.name, netns_id) == netns_id(netns.name) != here
            assert run_in_netns(Path("/run/netns") / netns.name, netns_id) == netns_id(netns.name)
            assert netns_id() == here

    def test_arguments_results_and_exceptions_pass(self) -> None:
        with netns_with_veth() as netns:
            assert run_in_netns(netns.name, divmod, 7, 2) == (3, 1)
            with pytest.raises(ZeroDivisionError):
                run_in_netns(netns.name, divmod, 7, 0)

    def test_of_a_process(self) -> None:
        command = ("unshare", "--net", "sh", "-c", "echo ready; read line")
        with started(*command, stdin=subprocess.PIPE, stderr=None) as holder:
            assert line_of(holder, holder.stdout) == "ready\n"
            assert run_in_netns(holder.pid, netns_id) == netns_id(holder.pid) != netns_id()

    def test_nothing_there_and_no_namespace(self) -> None:
        with pytest.raises(NotFoundError, match="no network namespace at /run/netns/nowhere"):
            run_in_netns("nowhere", netns_id)
        with pytest.raises(NotFoundError, match="no network namespace at"):
            netns_id("nowhere")
        with pytest.raises(KernelError, match=r"enter network namespace /dev/null: .*it is no network namespace"):
            run_in_netns("/dev/null", netns_id)

    def test_a_new_one_is_empty_and_goes_away(self) -> None:
        seen = run_in_new_netns(lambda: (netns_id(), Path("/proc/thread-self/net/dev").read_text().count(":")))
        assert seen[0] != netns_id()
        assert seen[1] == 1, "only lo"


class TestBpffs:
    def test_mount_where_there_is_a_plain_folder(self, tmp_path: Path) -> None:
        root = tmp_path / "bpf with space"
        assert not bpffs.is_bpffs(root)
        assert bpffs.ensure_mounted(root) is True
        try:
            assert bpffs.ensure_mounted(root) is False
            assert root in bpffs.mounts()
            assert root.stat().st_mode & 0o777 == 0o700, "others could put pins where ctctl looks for its own"
            assert bpffs.is_bpffs(root / "deep" / "inside")
            assert bpffs.mount_of(root / "deep") == root
            with Map.create("table", MapType.ARRAY, 4, 4, 1) as table:
                table.pin(root / "table")
            with Map.open_pinned(root / "table") as again:
                assert again.info.name == "table"
        finally:
            unmount(root)
        assert not bpffs.is_bpffs(root)

    def test_one_below_another_mount_is_none(self, tmp_path: Path) -> None:
        """As where /sys was mounted anew over the machine's: the list of mounts still has what nobody can reach."""
        above = tmp_path / "sys"
        root = above / "bpf"
        bpffs.ensure_mounted(root)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", above], check=True)
        try:
            assert root not in bpffs.mounts()
            assert not bpffs.is_bpffs(root)
            assert bpffs.ensure_mounted(root) is True
            assert root in bpffs.mounts()
            unmount(root)
        finally:
            unmount(above)
        assert root in bpffs.mounts()
        unmount(root)

    def test_what_this_run_mounts_is_on_no_other_runs_machine(self, tmp_path: Path) -> None:
        root = tmp_path / "bpf"
        bpffs.ensure_mounted(root)
        try:
            assert root not in bpffs.mounts(Path("/proc/1/mountinfo"))
            assert bpffs.mounts() == [bpffs.DEFAULT_ROOT, root], "and who else mounted one is not on ours"
        finally:
            unmount(root)

    def test_a_place_that_cannot_be(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(KernelError, match=f"mount the BPF file system at {file}"):
            bpffs.ensure_mounted(file)

    def test_mountinfo_with_odd_paths(self, tmp_path: Path) -> None:
        plain, odd = tmp_path / "bpf", tmp_path / "a b"
        for place in (plain, odd):
            place.mkdir()
        number = f"{os.major(tmp_path.stat().st_dev)}:{os.minor(tmp_path.stat().st_dev)}"
        table = tmp_path / "mountinfo"
        table.write_text(
            "22 1 0:21 / /sys rw,nosuid - sysfs sysfs rw\n"
            f"30 22 {number} / {plain} rw,relatime shared:9 - bpf bpf rw,mode=700\n"
            f"31 22 {number} / {tmp_path}/a\\040b rw master:1 - bpf none rw\n"
        )
        assert bpffs.mounts(table) == [plain, odd]


class TestClock:
    def test_monotonic_is_the_kernels(self) -> None:
        before = time.monotonic_ns()
        assert before <= clock.monotonic_ns() <= time.monotonic_ns()
        assert abs(clock.monotonic_s() - before // 10**9) <= 1

    def test_jiffies_run_with_the_clock(self) -> None:
        hz = clock.kernel_hz()
        assert hz in (100, 250, 300, 1000)
        jiffies = clock.jiffies()
        assert jiffies is not None
        assert clock.jiffies_units() in (jiffies >> 8, (jiffies + hz) >> 8)

    def test_a_kernel_that_hides_them(self, tmp_path: Path) -> None:
        assert clock.jiffies(tmp_path / "nothing") is None
        assert clock.jiffies_units(tmp_path / "nothing") is None
        (tmp_path / "timer_list").write_text("Timer List Version: v0.10\njiffies: 4295347686\n")
        assert clock.jiffies(tmp_path / "timer_list") == 4295347686
        assert clock.jiffies_units(tmp_path / "timer_list") == 4295347686 >> 8


@functools.cache
def probed() -> list[Feature]:
    """What this kernel has: asked once, as every program of ours is loaded for it."""
    return probe()


class TestFeatures:
    def test_every_probe_answers_with_evidence(self) -> None:
        threads = threading.active_count()
        found = probe()
        assert len({feature.name for feature in found}) == len(found)
        assert [feature for feature in found if not feature.detail] == []
        assert threading.active_count() == threads

    def test_what_the_kernel_tests_rely_on_is_there(self) -> None:
        by_name = {feature.name: feature for feature in probed()}
        for name in ("libbpf", "bpf-syscall", "map-lru-hash", "map-batch", "map-ringbuf", "prog-test-run"):
            assert by_name[name].available, by_name[name]

    def test_our_own_programs_load_and_attach_on_every_kernel(self) -> None:
        """Linux 6.1 is the oldest: what may be missing is a way to attach, and fexit."""
        found = {feature.name: feature for feature in probed()}
        own = [name for name in found if name.startswith(("datapath-", "gc-", "ct-", "probe"))]
        assert len(own) == 11
        may_lack = {"probe-returns"} | ({"probe"} if not found["tcx"].available else set())
        assert [found[name] for name in own if not found[name].available and name not in may_lack] == []
        assert found["tcx"].available or found["clsact"].available

    def test_a_no_of_root_is_the_kernels(self) -> None:
        """Where fexit is not allowed, root is not told to become root."""
        (returns,) = probe(("probe-returns",))
        assert returns.available or "needs root" not in returns.detail

    def test_one_of_them(self) -> None:
        found = probe(("map-lru-hash",))
        assert found == [feature for feature in probed() if feature.name == "map-lru-hash"]
        with pytest.raises(NotFoundError, match="unknown feature 'zzzz'; one of: bpf-syscall"):
            probe(("zzzz",))

    def test_bpftool_agrees(self) -> None:
        """Map types, helpers and program types as another program probes them."""
        done = subprocess.run(
            ["bpftool", "-j", "feature", "probe", "kernel"], check=True, capture_output=True, text=True
        )
        theirs = json.loads(done.stdout)
        ours = {feature.name: feature.available for feature in probed()}
        assert ours["map-lru-hash"] == theirs["map_types"]["have_lru_hash_map_type"]
        assert ours["map-lpm-trie"] == theirs["map_types"]["have_lpm_trie_map_type"]
        assert ours["map-ringbuf"] == theirs["map_types"]["have_ringbuf_map_type"]
        assert ours["bpf-syscall"] == theirs["syscall_config"]["have_bpf_syscall"]

    def test_the_version_is_that_of_the_library_in_use(self) -> None:
        """By the name of the file that the loader mapped: libbpf.so.1.1.2 is 1.1."""
        assert libbpf_version() is not None
        mapped = re.findall(r"/libbpf\.so\.(\d+\.\d+)", Path("/proc/self/maps").read_text())
        assert {libbpf_version()} == set(mapped)

    def test_capabilities_are_the_kernels(self) -> None:
        """Bit 12 is CAP_NET_ADMIN, 39 CAP_BPF (capability.h), in the set that proc(5) shows."""
        (bits,) = re.findall(r"^CapEff:\s+([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.M)
        by_name = {feature.name: feature for feature in probed()}
        for name, bit in (("CAP_NET_ADMIN", 12), ("CAP_BPF", 39)):
            held = bool(int(bits, 16) >> bit & 1)
            assert (by_name[name].available, by_name[name].detail) == (held, "held" if held else "not held")

    def test_without_privileges_each_probe_says_what_is_missing(self) -> None:
        script = (
            "from ctctl.kernel.features import probe\n"
            "for feature in probe(): print(feature.name, feature.available, feature.detail, sep='|')\n"
        )
        drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
        done = subprocess.run([*drop, sys.executable, "-c", script], capture_output=True, text=True, check=True)
        rows = {line.split("|")[0]: line.split("|")[1:] for line in done.stdout.splitlines()}
        for name in ("bpf-syscall", "map-lru-hash", "map-batch", "prog-test-run", "gc-kernel", "tcx"):
            assert rows[name][0] == "False"
            assert "needs root" in rows[name][1], name
        assert rows["libbpf"][0] == "True"
        assert rows["CAP_BPF"] == ["False", "not held"]

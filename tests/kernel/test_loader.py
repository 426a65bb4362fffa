"""Loading, replacing and removing a node, seen from the kernel's side."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from ctctl.abi import layouts
from ctctl.errors import BusyError, ConfigError, LayoutError, NotFoundError, UsageError
from ctctl.kernel import tc
from ctctl.kernel.link import Direction, TcxLink, has_tcx
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.object import BpfObject
from ctctl.kernel.program import Program
from ctctl.node.attach import AttachMode, choose_mode
from ctctl.node.loader import load, plan_load
from ctctl.node.lock import node_lock
from ctctl.node.owner import NotOursError
from ctctl.node.paths import remove_tree
from ctctl.node.record import MAP_NAME, read_record
from ctctl.node.status import NodeStatus, node_statuses
from ctctl.node.tables import table_records
from ctctl.node.unload import plan_unload, unload
from tests.support.bpf import compile_source
from tests.support.loaded import attached_ids, entries, link_ids, map_ids, put_entries, status, tcx_programs
from tests.support.nodes import POD_NET, TestNode, make_node, run
from tests.support.standin import stand_ins
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.kernel

MODES = [AttachMode.tcx, AttachMode.tc]


@pytest.fixture
def node() -> Iterator[TestNode]:
    """A node whose programs only count: for what the loader does around them."""
    with stand_ins(), make_node() as made:
        yield made
        _unload(made)


@pytest.fixture
def real_node() -> Iterator[TestNode]:
    """A node of two pods with the datapath itself."""
    with make_node(pods=2) as made:
        yield made
        _unload(made)


def _unload(node: TestNode) -> None:
    with contextlib.suppress(NotFoundError):
        unload(node.name)


def device_programs(node: TestNode) -> set[int]:
    """Program ids on the node's devices, however they are attached."""
    return tcx_programs(node) | {found.prog_id for found in run_in_netns(node.name, tc.list_filters)}


def test_load_pins_maps_and_attaches_programs(real_node: TestNode) -> None:
    node = real_node
    report = load(node.request())
    pods = [f"lxc-{POD_NET.replace('.', '_')}_{n}" for n in (11, 12)]
    slots = {f"{pod}-{program}" for pod in pods for program in ("from_container", "to_container")}
    assert set(report.attached) == slots | {"from_netdev", "to_netdev"}
    assert device_programs(node) == set(attached_ids(node).values())
    # bpftool is the independent witness.
    shown = json.loads(run("bpftool", "-j", "map", "show", "pinned", str(node.dir / "cilium_ct4_global")))
    assert (shown["type"], shown["bytes_key"], shown["bytes_value"], shown["max_entries"]) == ("lru_hash", 14, 56, 4096)
    told = status(node)
    assert told.problems == ()
    assert [p.attached for p in told.programs] == [True] * 6
    assert (told.device, told.netns, told.attach) == ("eth0", f"/run/netns/{node.name}", choose_mode(AttachMode.auto))


def test_tables_are_those_of_the_node_file(node: TestNode) -> None:
    load(node.request())
    with Map.open_pinned(node.dir / "cilium_lb4_services_v2") as table:
        assert dict(table.items()) == table_records(node.file())["cilium_lb4_services_v2"]
    with Map.open_pinned(node.dir / "cilium_lxc") as table:
        pod = next(
            layouts.endpoint_info.from_buffer_copy(v)
            for k, v in table.items()
            if k[:4] == socket.inet_aton(f"{POD_NET}.11")
        )
    mac = json.loads(run("ip", "-n", node.pod(1), "-j", "link", "show", "eth0"))[0]["address"]
    # The file has no MAC: it was asked of the veth's other end.
    assert bytes(pod.mac)[:6].hex(":") == mac


@pytest.mark.parametrize("mode", MODES)
def test_loading_again_keeps_state_and_attachments(node: TestNode, mode: AttachMode) -> None:
    load(node.request(request={"attach": mode}))
    before_maps, before_programs = map_ids(node), attached_ids(node)
    links = link_ids(node)
    put_entries(node, [100, 200])
    report = load(node.request(request={"attach": mode, "netns": None}))
    assert (report.attached, report.detached) == ((), ())
    after_maps = map_ids(node)
    assert {name: after_maps[name] for name in report.kept} == {name: before_maps[name] for name in report.kept}
    assert "cilium_ct4_global" in report.kept
    assert sorted(entries(node).values()) == [100, 200]
    after_programs = attached_ids(node)
    assert after_programs.keys() == before_programs.keys()
    assert not set(after_programs.values()) & set(before_programs.values())
    assert link_ids(node) == links
    assert status(node).problems == ()


def test_a_node_of_one_kind_only(real_node: TestNode) -> None:
    """Without pods, without a device: every table is there all the same, and the other comes by a reload."""
    node = real_node
    document = node.document()
    alone = {key: value for key, value in document["node"].items() if key != "device"}
    load(node.request(endpoints=[], services=[]))
    assert (status(node).problems, len(device_programs(node))) == ((), 2)
    load(node.request(node=alone))
    assert (status(node).problems, len(device_programs(node))) == ((), 4)


def test_a_connection_survives_a_reload(real_node: TestNode) -> None:
    node = real_node
    load(node.request())
    server = run_in_netns(node.pod(2), socket.create_server, (f"{POD_NET}.12", 8000))
    client = run_in_netns(node.pod(1), socket.create_connection, (f"{POD_NET}.12", 8000), PATIENCE_S)
    peer, _ = server.accept()
    stop = threading.Event()
    echoed = 0
    with server, client, peer:
        echo = threading.Thread(target=lambda: [peer.sendall(data) for data in iter(lambda: peer.recv(64), b"")])
        echo.start()
        reload = threading.Thread(target=lambda: (load(node.request()), stop.set()))
        reload.start()
        client.settimeout(PATIENCE_S)
        while not stop.is_set() or echoed < 100:
            client.sendall(b"x" * 64)
            got = b""
            while len(got) < 64:
                got += client.recv(64 - len(got))
            echoed += 1
        reload.join()
        client.shutdown(socket.SHUT_WR)
        echo.join()
    assert echoed >= 100
    told = status(node)
    hooks = {c.hook: c.packets for c in told.counters if c.reason == "ok"}
    assert hooks["from_container"] >= echoed
    # The pods' IPv6 neighbour discovery is no business of an IPv4 datapath.
    assert {c.reason for c in told.counters} <= {"ok", "unknown_l3"}
    # One connection, one pair of entries: it was never taken for a new one.
    with Map.open_pinned(node.dir / "cilium_ct4_global") as table:
        assert len(list(table.items())) == 2


@pytest.mark.parametrize(("first", "second"), [(AttachMode.tc, AttachMode.tcx), (AttachMode.tcx, AttachMode.tc)])
def test_changing_how_programs_are_attached_leaves_one_way(
    node: TestNode, first: AttachMode, second: AttachMode
) -> None:
    load(node.request(request={"attach": first}))
    load(node.request(request={"attach": second}))
    filters = run_in_netns(node.name, tc.list_filters)
    assert (len(filters), len(tcx_programs(node))) == ((0, 4) if second is AttachMode.tcx else (4, 0))
    assert status(node).problems == ()


def test_a_foreign_filter_keeps_its_place(node: TestNode) -> None:
    load(node.request())
    eth0 = run_in_netns(node.name, socket.if_nametoindex, "eth0")
    with Program.from_id(attached_ids(node)["from_netdev"]) as program:
        # At the very place where our own filters go.
        foreign = run_in_netns(
            node.name,
            lambda: tc.attach_filter(program, eth0, Direction.INGRESS, name="another", priority=50, handle=1),
        )
    load(node.request(request={"attach": AttachMode.tc}))
    assert len(run_in_netns(node.name, tc.list_filters, eth0)) == 3
    unload(node.name)
    assert run_in_netns(node.name, tc.list_filters) == [foreign]


def test_size_change_says_its_cost_and_needs_a_flag(node: TestNode) -> None:
    load(node.request())
    put_entries(node, list(range(100, 150)))
    before = (map_ids(node), attached_ids(node))
    smaller = {"ct": {"tcp-max": 16, "any-max": 4096, "snat-max": 4096}, "lb": {"maglev-table-size": 251}}
    with pytest.raises(UsageError, match=r"cilium_ct4_global from 4096 to 16 entries loses \d+ of the \d+ it holds"):
        load(node.request(datapath=smaller))
    assert (map_ids(node), attached_ids(node)) == before
    load(node.request(datapath=smaller, request={"resize": True}))
    kept = sorted(entries(node).values())
    # The common LRU keeps a little less than it says (docs/reference/kernel.md); what it keeps are the longest-living.
    assert 8 <= len(kept) <= 16
    assert min(kept) >= 134
    assert status(node).problems == ()


def test_growing_a_table_keeps_every_entry(node: TestNode) -> None:
    load(node.request())
    put_entries(node, list(range(100, 150)))
    larger = {"ct": {"tcp-max": 8192, "any-max": 4096, "snat-max": 4096}, "lb": {"maglev-table-size": 251}}
    load(node.request(datapath=larger, request={"resize": True}))
    assert sorted(entries(node).values()) == list(range(100, 150))


def test_removed_endpoint_is_detached_by_a_reload() -> None:
    with stand_ins(), make_node(pods=2) as node:
        load(node.request())
        report = load(node.request(endpoints=node.document()["endpoints"][:1]))
        assert len(report.detached) == 2
        assert all("_12-" in slot for slot in report.detached)
        assert len(device_programs(node)) == 4
        unload(node.name)


def test_recreated_interface_is_attached_again(node: TestNode) -> None:
    load(node.request())
    run("ip", "-n", node.name, "link", "del", "lxc1")
    problems = status(node).problems
    assert len(problems) == 2
    assert all("lxc1" in problem and "gone" in problem for problem in problems)
    run("ip", "-n", node.name, "link", "add", "lxc1", "type", "veth", "peer", "name", "eth0", "netns", node.pod(1))
    load(node.request())
    assert status(node).problems == ()
    assert len(device_programs(node)) == 4


@pytest.mark.parametrize("mode", MODES)
def test_a_namespace_that_is_gone(node: TestNode, mode: AttachMode) -> None:
    load(node.request(request={"attach": mode}))
    run("ip", "netns", "del", node.name)
    # The kernel takes the namespace apart in its own time.
    wait_for(lambda: len(status(node).problems) == 4, what="status says that every device is gone")
    assert all("is gone" in problem for problem in status(node).problems)
    with pytest.raises(NotFoundError, match=f"no network namespace at /run/netns/{node.name}"):
        load(node.request(request={"netns": None}))
    unload(node.name)
    assert not node.dir.exists()


@pytest.mark.tcx
def test_detached_program_is_told(node: TestNode) -> None:
    load(node.request())
    with TcxLink.open_pinned(node.dir / "links" / "from_netdev") as link:
        link.detach()
    assert [problem for problem in status(node).problems if "from_netdev" in problem]
    load(node.request())
    assert status(node).problems == ()


@pytest.mark.parametrize("mode", MODES)
def test_everything_works_without_the_record(node: TestNode, mode: AttachMode) -> None:
    load(node.request(request={"attach": mode}))
    put_entries(node, [100])
    (node.dir / MAP_NAME).unlink()
    told = status(node)
    assert [p.attached for p in told.programs] == [True] * 4
    assert {p.interface for p in told.programs} == {"eth0", "lxc1"}
    load(node.request(request={"attach": mode, "netns": None}))
    assert list(entries(node).values()) == [100]
    assert status(node).problems == ()
    (node.dir / MAP_NAME).unlink()
    unload(node.name)
    assert tcx_programs(node) == set()
    assert run_in_netns(node.name, tc.list_filters) == []


def test_filters_whose_pins_are_gone_are_taken_over(node: TestNode) -> None:
    load(node.request(request={"attach": AttachMode.tc}))
    remove_tree(node.dir)
    load(node.request())
    assert len(run_in_netns(node.name, tc.list_filters)) == (0 if has_tcx() else 4)
    assert len(device_programs(node)) == 4


def test_a_torn_record_is_no_record(node: TestNode) -> None:
    load(node.request())
    (node.dir / MAP_NAME).unlink()
    with Map.create("ctctl_node", MapType.ARRAY, 4, 64, 1) as torn:
        torn.update(bytes(4), b"\x30" + bytes(3) + b"\xff" * 60)
        torn.pin(node.dir / MAP_NAME)
    assert read_record(node.dir / MAP_NAME) is None
    assert status(node).problems
    load(node.request())
    assert status(node).problems == ()


def test_map_that_ctctl_did_not_make_is_refused(node: TestNode) -> None:
    """One of ours carries type information."""
    node.dir.mkdir(parents=True)
    with Map.create("cilium_ct4_glob", MapType.LRU_HASH, 14, 56, 16) as foreign:
        foreign.pin(node.dir / "cilium_ct4_global")
    for act in (lambda: load(node.request()), lambda: unload(node.name)):
        with pytest.raises(NotOursError, match="cilium_ct4_global: not pinned there by ctctl"):
            act()
        assert [path.name for path in node.dir.iterdir()] == ["cilium_ct4_global"]
    (node.dir / "cilium_ct4_global").unlink()


FOREIGN = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "ctctl/abi.h"
struct entry {{ __u64 reserved0, backend_id, packets, bytes; __u32 lifetime; __u16 flags; __be16 rev_nat_index;
	{fields} __u32 src_sec_id, last_tx_report, last_rx_report; }};
struct {{
	__uint(type, BPF_MAP_TYPE_{kind});
	__type(key, struct ipv4_ct_tuple);
	__type(value, struct entry);
	__uint(max_entries, 4096);
}} cilium_ct4_global SEC(".maps");
"""


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("LRU_HASH", "__u16 ifindex, seen;", r"value: .*tx_flags_seen"),
        (
            "LRU_HASH",
            "__u16 ifindex; __u8 tx_flags_seen, rx_flags_seen; __u64 more;",
            "value: field src_sec_id is byte 56",
        ),
        ("HASH", "__u16 ifindex; __u8 tx_flags_seen, rx_flags_seen;", "pinned as map type 1, 9 expected"),
    ],
)
def test_map_of_ours_by_another_layout_is_refused(node: TestNode, kind: str, fields: str, said: str) -> None:
    node.dir.mkdir(parents=True)
    source = FOREIGN.format(kind=kind, fields=fields)
    with BpfObject.open(compile_source("foreign_entry.bpf.c", source)) as foreign:
        foreign.load()
        foreign.map("cilium_ct4_global").pin(node.dir / "cilium_ct4_global")
    with pytest.raises(LayoutError, match=f"cilium_ct4_global: {said}"):
        load(node.request())
    assert [path.name for path in node.dir.iterdir()] == ["cilium_ct4_global"]
    assert tcx_programs(node) == set()


def test_a_device_of_another_node_is_refused(node: TestNode) -> None:
    load(node.request())
    document = node.document()
    document["node"]["name"] = f"{node.name}b"
    with pytest.raises(
        UsageError, match=f"interface '(lxc1|eth0)' belongs to node {node.name}: unload that node first"
    ):
        load(node.request(**document))
    assert not node.dir.with_name(f"{node.name}b").exists()
    assert status(node).problems == ()


@pytest.mark.parametrize("what", ["device", "interface"])
def test_missing_interface_is_named(node: TestNode, what: str) -> None:
    changed = node.document()
    if what == "device":
        changed["node"]["device"] = "nodev7"
    else:
        changed["endpoints"][0]["interface"] = "nodev7"
    with pytest.raises(ConfigError, match=f"there is no interface 'nodev7' in network namespace {node.name}"):
        load(node.request(**changed))
    assert not node.dir.exists()


def test_missing_namespace_is_named(node: TestNode) -> None:
    with pytest.raises(NotFoundError, match="no network namespace at /run/netns/nosuchns"):
        load(node.request(request={"netns": "nosuchns"}))
    assert not node.dir.exists()


def test_two_loads_at_once(node: TestNode) -> None:
    with node_lock(node.dir, create=True):
        with pytest.raises(BusyError, match=r"is being changed by process \d+"):
            load(node.request(request={"wait_s": 0.0}))
        said: list[str] = []
        reports = []
        waiting = threading.Thread(target=lambda: reports.append(load(node.request(request={"say": said.append}))))
        waiting.start()
        wait_for(lambda: said, what="the second load says that it waits")
    waiting.join()
    assert "waiting for process" in said[0]
    assert len(reports[0].attached) == 4


def test_load_waits_for_an_unload_and_starts_afresh(node: TestNode) -> None:
    load(node.request())
    said: list[str] = []

    def step(name: str) -> None:
        if name == "unpin":
            waiting.start()
            wait_for(lambda: said, what="the load waits")

    waiting = threading.Thread(target=lambda: load(node.request(request={"say": said.append})))
    unload(node.name, step=step)
    waiting.join()
    assert status(node).problems == ()


def test_plans_change_nothing(node: TestNode) -> None:
    plan = plan_load(node.request())
    assert plan.planned
    assert len(plan.attached) == 4
    assert not node.dir.exists()
    load(node.request())
    before = (map_ids(node), attached_ids(node))
    assert plan_load(node.request()).replaced == plan.attached
    assert len(plan_unload(node.name).detached) == 4
    assert (map_ids(node), attached_ids(node)) == before


def test_unload_leaves_other_nodes_alone(node: TestNode) -> None:
    load(node.request())
    with make_node() as other:
        load(other.request())
        unload(other.name)
        assert not other.dir.exists()
    assert status(node).problems == ()
    with pytest.raises(NotFoundError):
        unload(other.name)


def test_dots_in_node_names(node: TestNode) -> None:
    document = node.document()
    document["node"]["name"] = f"{node.name}.example"
    report = load(node.request(**document))
    assert report.path.endswith("%2Eexample")
    assert node_statuses(f"{node.name}.example")[0].problems == ()
    unload(f"{node.name}.example")


def test_status_in_the_middle_of_a_load(node: TestNode) -> None:
    seen: list[NodeStatus] = []
    load(node.request(request={"step": lambda _step: seen.append(status(node)) if node.dir.exists() else None}))
    assert seen
    assert all(told.changing for told in seen)
    assert not status(node).changing

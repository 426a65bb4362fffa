"""Made-up conversations over hooks and nodes, what-if, and where a simulation starts."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate

from ctctl.config.datapath import SocketLb
from ctctl.config.node import NodeFile, load_node_files
from ctctl.decode.ct import decode_entry
from ctctl.errors import NotFoundError, UnsupportedError, UsageError
from ctctl.lab.nodefile import node_document, node_yaml
from ctctl.lab.topology import Topology
from ctctl.model.entry import CtEntry, CtState
from ctctl.model.tuples import Direction
from ctctl.packet.text import parse_packet_text
from ctctl.simulate import call
from ctctl.simulate.conversation import Journey, Prepared, Request
from ctctl.simulate.conversation import run as simulate
from ctctl.simulate.journey import Outcome
from ctctl.simulate.scenario import StepRecord
from ctctl.simulate.whatif import StartTable, parse_change
from ctctl.trace.schema import TRACE_SCHEMAS
from tests.support.children import PROGRAM, run_ctctl

pytestmark = pytest.mark.kernel

NODES = """\
node: {name: node-a, ip: 10.1.0.1, pod-cidr: 10.64.0.0/24, device: eth0}
endpoints:
  - {name: client, ip: 10.64.0.36, identity: 3096}
  - {name: other, ip: 10.64.0.37, identity: 3097}
remote:
  - {cidr: 10.64.1.0/24, identity: 4711, node: 10.1.0.2}
services:
  - {name: web, ip: 10.96.0.10, port: 80, id: 7,
     backends: [{id: 101, ip: 10.64.1.64, port: 8080}, {id: 102, ip: 10.64.0.37, port: 8080}]}
  - {name: lb, type: LoadBalancer, ip: 172.16.0.10, port: 80, id: 20, backends: [{id: 101, ip: 10.64.1.64, port: 8080}]}
  - {name: self, ip: 10.96.0.11, port: 80, id: 8, backends: [{id: 104, ip: 10.64.0.36, port: 8080}]}
  - {name: local, type: LoadBalancer, ip: 172.16.0.11, port: 80, id: 21, external-traffic-policy: Local,
     backends: [{id: 101, ip: 10.64.1.64, port: 8080}]}
  - {name: none, ip: 10.96.0.12, port: 80, id: 9, backends: []}
---
node: {name: node-b, ip: 10.1.0.2, pod-cidr: 10.64.1.0/24, device: eth0}
endpoints:
  - {name: web, ip: 10.64.1.64, identity: 4711}
remote:
  - {cidr: 10.64.0.0/24, identity: 3096, node: 10.1.0.1}
policy:
  - {endpoint: web, direction: ingress, port: 8080, protocol: TCP}
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nodes") / "nodes.yaml"
    path.write_text(NODES)
    return path


@pytest.fixture(scope="module")
def nodes(path: Path) -> tuple[NodeFile, ...]:
    return load_node_files(path)


class Story:
    """A simulation that ran: the hooks in order, how each packet ended, and each node's entries at the end."""

    def __init__(self, text: str, nodes: tuple[NodeFile, ...], **wishes: Any) -> None:
        self.hooks: list[str] = []
        self.ends: list[Journey] = []
        self._tables: dict[str, StepRecord] = {}
        self.said: list[str] = []
        for part in simulate(Request(parse_packet_text(text), nodes, **wishes)):
            if isinstance(part, Journey):
                self.ends.append(part)
                continue
            if isinstance(part, Prepared):
                self.said.append(part.words)
                continue
            assert part.result is not None
            assert part.result.event is not None
            node = str(part.result.event.node)
            self.hooks.append(f"{node[-1]}:{part.result.event.hook}")
            self._tables[node] = part

    def entries(self, node: str) -> Iterator[CtEntry]:
        for name, records in self._tables[node].tables.ct.items():
            yield from (decode_entry(key, value, map_name=name) for key, value in records)

    def snat(self, node: str) -> list[bytes]:
        return [key for key, _ in self._tables[node].tables.snat]

    def entry(self, node: str, direction: Direction) -> CtEntry:
        (found,) = (entry for entry in self.entries(node) if entry.direction is direction and not entry.related)
        return found


def test_pod_to_pod_over_two_nodes(nodes: tuple[NodeFile, ...]) -> None:
    story = Story("tcp 10.64.0.36:40000 > 10.64.1.64:8080", nodes, handshake=True, close=True)
    assert story.hooks[:4] == ["a:from_container", "a:to_netdev", "b:from_netdev", "b:to_container"]
    assert story.hooks[4:8] == ["b:from_container", "b:to_netdev", "a:from_netdev", "a:to_container"]
    assert [str(end.arrival.outcome) for end in story.ends] == ["delivered"] * 6
    assert story.entry("node-a", Direction.OUT).state is CtState.CLOSED
    assert story.entry("node-b", Direction.IN).state is CtState.CLOSED
    assert story.entry("node-b", Direction.IN).src_sec_id == 3096


def test_a_load_balancer_with_dsr(nodes: tuple[NodeFile, ...]) -> None:
    story = Story("tcp 192.0.2.50:40000 > 172.16.0.10:80", nodes, handshake=True)
    assert story.hooks[:4] == ["a:from_netdev", "a:to_netdev", "b:from_overlay", "b:to_container"]
    assert story.hooks[4:6] == ["b:from_container", "b:to_netdev"]
    reply = story.ends[1]
    assert (reply.sender, reply.arrival.outcome, str(reply.arrival.place)) == ("server", Outcome.LEFT, "outside")
    assert "172.16.0.10:80 > 192.0.2.50:40000 S." in _words(reply.arrival.frame)
    assert story.entry("node-b", Direction.OUT).flags.name is not None
    assert story.entry("node-a", Direction.SVC).backend_id == 101


def _words(frame: bytes) -> str:
    from ctctl.packet.describe import describe_frame

    return describe_frame(frame)


def test_hairpin_comes_back_to_its_own_pod(nodes: tuple[NodeFile, ...]) -> None:
    story = Story("tcp 10.64.0.36:40000 > 10.96.0.11:80", nodes, handshake=True)
    assert set(story.hooks) == {"a:from_container", "a:to_container"}
    assert {str(end.arrival.place) for end in story.ends} == {"client on node-a"}
    assert _words(story.ends[1].arrival.frame).startswith("tcp 10.96.0.11:80 > 10.64.0.36:40000 S.")


def test_a_service_without_backends_answers_with_icmp(nodes: tuple[NodeFile, ...]) -> None:
    story = Story("tcp 10.64.0.36:40000 > 10.96.0.12:80", nodes)
    assert story.hooks == ["a:from_container", "a:to_container"]
    assert _words(story.ends[0].arrival.frame).startswith("icmp 10.96.0.12 > 10.64.0.36")


def test_a_local_traffic_policy_is_for_outside_only(nodes: tuple[NodeFile, ...]) -> None:
    inside = Story("tcp 10.64.0.36:40000 > 172.16.0.11:80", nodes)
    assert str(inside.ends[0].arrival.place) == "web on node-b"
    outside = Story("tcp 192.0.2.50:40000 > 172.16.0.11:80", nodes, via="node-a")
    assert outside.ends[0].arrival.outcome is not Outcome.DELIVERED
    assert list(outside.entries("node-a")) == []


def test_policy_ends_a_conversation_early(nodes: tuple[NodeFile, ...]) -> None:
    story = Story("tcp 10.64.0.36:40000 > 10.64.1.64:9090", nodes, handshake=True)
    assert [(end.arrival.outcome, end.arrival.reason) for end in story.ends] == [(Outcome.DROPPED, "policy")]
    assert str(story.ends[0].arrival.place) == "web on node-b"


def test_a_pod_calls_the_world(nodes: tuple[NodeFile, ...]) -> None:
    story = Story("icmp 10.64.0.36 > 192.0.2.1 id=7", nodes, reply=True)
    assert [end.arrival.outcome for end in story.ends] == [Outcome.LEFT, Outcome.DELIVERED]
    assert story.hooks[2:] == ["a:from_netdev", "a:to_container"]
    assert "echo reply id 7" in _words(story.ends[1].arrival.frame)


def test_udp_and_its_reply(nodes: tuple[NodeFile, ...]) -> None:
    story = Story("udp 10.64.0.36:5000 > 10.64.0.37:53 len=9", nodes, reply=True)
    assert story.hooks == ["a:from_container", "a:to_container"] * 2
    assert [entry.tuple.dst_port for entry in story.entries("node-a") if not entry.related] == [53, 53]


def test_without_a_backend(nodes: tuple[NodeFile, ...]) -> None:
    for port in range(40000, 40006):
        story = Story(f"tcp 10.64.0.36:{port} > 10.96.0.10:80", nodes, without_backends=(101,))
        assert str(story.ends[0].arrival.place) == "other on node-a"
    with pytest.raises(NotFoundError, match=r"no service has a backend 999; backends: 101, 102, 104"):
        Story("tcp 10.64.0.36:1 > 10.96.0.10:80", nodes, without_backends=(999,))


def test_an_entry_that_is_set(nodes: tuple[NodeFile, ...]) -> None:
    text = (
        "tcp out 10.64.0.36:40000 > 10.64.1.64:8080 node=node-a flags=RxClosing,TxClosing remaining=5s tx_flags_seen=3"
    )
    story = Story("tcp 10.64.0.36:40000 > 10.64.1.64:8080 A", nodes, changes=(parse_change(text),), at_s=3)
    entry = story.entry("node-a", Direction.OUT)
    # Both closing bits are set: an ordinary packet changes nothing.
    assert (entry.state, entry.lifetime, entry.tx_flags_seen) == (CtState.CLOSED, 1_000_005, 3)


def test_a_table_to_start_from(nodes: tuple[NodeFile, ...]) -> None:
    first = Story("tcp 10.64.0.36:40000 > 10.64.1.64:8080", nodes, handshake=True)
    records = tuple((entry.key, entry.value) for entry in first.entries("node-a") if entry.map == "cilium_ct4_global")
    start = StartTable("cilium_ct4_global", records, "node-a")  # type: ignore[arg-type]
    story = Story("tcp 10.64.0.36:40000 > 10.64.1.64:8080 FA", nodes, start=(start,), at_s=70)
    assert story.entry("node-a", Direction.OUT).state is CtState.CLOSING
    assert story.entry("node-a", Direction.OUT).lifetime == 1_000_070 + 8000


def test_from_a_large_table_only_what_was_touched_is_shown(nodes: tuple[NodeFile, ...]) -> None:
    whole = Story("tcp 192.0.2.50:40000 > 172.16.0.10:80", nodes, handshake=True)
    others = (
        StartTable("cilium_ct4_global", tuple((n.to_bytes(14, "big"), bytes(56)) for n in range(20000)), name)
        for name in ("node-a", "node-b")
    )
    story = Story("tcp 192.0.2.50:40000 > 172.16.0.10:80", nodes, handshake=True, start=tuple(others))
    for node in ("node-a", "node-b"):
        assert list(story.entries(node)) == list(whole.entries(node))
    assert story.snat("node-b") == whole.snat("node-b") != []


def test_what_makes_no_conversation(nodes: tuple[NodeFile, ...]) -> None:
    with pytest.raises(UsageError, match="are for TCP"):
        Story("udp 10.64.0.36:1 > 10.64.1.64:2", nodes, handshake=True)
    with pytest.raises(NotFoundError, match="no node 'node-c'"):
        Story("tcp 192.0.2.1:1 > 172.16.0.10:80", nodes, via="node-c")
    with pytest.raises(UsageError, match="node=NAME"):
        Story("tcp 10.64.0.36:1 > 10.64.1.64:2", nodes, changes=(parse_change("tcp out 10.64.0.36:1 > 10.64.1.64:2"),))


def test_who_speaks_to_itself_meets_no_hook(nodes: tuple[NodeFile, ...]) -> None:
    for packet, outcome in (
        ("tcp 10.64.0.36:1 > 10.64.0.36:80", Outcome.DELIVERED),
        ("udp 10.1.0.1:1 > 10.1.0.1:53", Outcome.HOST),
    ):
        story = Story(packet, nodes)
        assert (story.hooks, [end.arrival.outcome for end in story.ends]) == ([], [outcome])
        assert len(story.said) == 1
    # By a service it is another matter: the packet comes back through the hooks from the service's address.
    assert Story("tcp 10.64.0.36:1 > 10.96.0.11:80", nodes).hooks != []


# ---- sockets


@pytest.fixture(scope="module")
def sockets(nodes: tuple[NodeFile, ...]) -> tuple[NodeFile, ...]:
    return tuple(
        replace(nf, datapath=replace(nf.datapath, lb=replace(nf.datapath.lb, socket=SocketLb()))) for nf in nodes
    )


WEB = ("10.64.1.64:8080", "10.64.0.37:8080")


def test_a_connection_begins_with_the_call_of_its_socket(sockets: tuple[NodeFile, ...]) -> None:
    story = Story("tcp 10.64.0.36:40000 > 10.96.0.10:80", sockets, handshake=True)
    assert story.hooks[:2] == ["a:connect", "a:from_container"]
    assert [one.arrival.outcome for one in story.ends] == [Outcome.DELIVERED] * 3
    assert (story.ends[0].one_of, story.ends[1].one_of) == (WEB, ())
    # A packet of such a socket is one between client and backend: no service is met on its way.
    (out,) = (entry for entry in story.entries("node-a") if entry.direction is Direction.OUT and not entry.related)
    assert (str(out.tuple), out.rev_nat) == ("TCP 10.64.0.36:40000 -> 10.64.1.64:8080", 0)
    assert not [entry for entry in story.entries("node-a") if entry.direction is Direction.SVC]
    # Of a socket of the node itself it is the same, and where only one backend is there is no choice.
    own = Story("udp 10.1.0.1:40000 > 172.16.0.10:80", sockets)
    assert (own.hooks[0], own.ends[0].one_of) == ("a:connect", ())
    assert str(own.ends[0].arrival.place) == "web on node-b"


def test_a_call_that_is_refused_sends_nothing(sockets: tuple[NodeFile, ...]) -> None:
    story = Story("tcp 10.64.0.36:1 > 10.96.0.12:80", sockets)
    (end,) = story.ends
    assert (story.hooks, end.arrival.outcome, end.arrival.reason) == (["a:connect"], Outcome.REFUSED, "no_service")


def test_what_no_socket_of_the_node_calls_begins_with_its_packet(sockets: tuple[NodeFile, ...]) -> None:
    for packet, settings, first in (
        ("tcp 10.64.0.36:1 > 10.96.0.10:80", {"lb.socket": "false"}, "a:from_container"),
        ("tcp 10.64.0.36:1 > 10.64.1.64:8080", {}, "a:from_container"),
        ("tcp 192.0.2.1:1 > 172.16.0.10:80", {}, "a:from_netdev"),
        ("icmp 10.64.0.36 > 10.96.0.10", {}, "a:from_container"),
    ):
        assert Story(packet, sockets, settings=settings).hooks[0] == first


def test_of_a_connection_that_is_there_the_entry_tells(sockets: tuple[NodeFile, ...]) -> None:
    packet = "tcp 10.64.0.36:40000 > 10.96.0.10:80 A"
    with pytest.raises(
        UnsupportedError, match=r"no entry says to which backend \(10\.64\.1\.64:8080, 10\.64\.0\.37:8080\)"
    ):
        Story(packet, sockets)
    entry = parse_change("tcp out 10.64.0.36:40000 > 10.64.0.37:8080 node=node-a")
    story = Story(packet, sockets, changes=(entry,))
    assert story.hooks == ["a:from_container", "a:to_container"]
    past = parse_change("tcp out 10.64.0.36:40000 > 10.96.0.10:80 node=node-a")
    with pytest.raises(UnsupportedError, match="its OUT entry is to the service itself, so that this one was not"):
        Story(packet, sockets, changes=(past,))
    assert story.said == ["node-a: the connection is to 10.64.0.37:8080 since connect(), as its OUT entry says"]


def test_a_machine_without_cgroups_says_so(sockets: tuple[NodeFile, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    packet = "tcp 10.64.0.36:1 > 10.96.0.10:80"
    monkeypatch.setattr(call, "cgroup2_mount", lambda: None)
    with pytest.raises(UnsupportedError, match="and no cgroup2 file system is mounted here; simulate the packet"):
        Story(packet, sockets)
    monkeypatch.setattr(call, "cgroup2_mount", lambda: Path("/proc"))
    with pytest.raises(UnsupportedError, match=r"and no cgroup can be made \(/proc/ctctl-call-"):
        Story(packet, sockets)


def test_a_user_who_may_make_no_namespace_is_told(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "nodes.yaml"
    file.write_text(path.read_text().replace("endpoints:", "datapath: {lb: {socket: true}}\nendpoints:", 1))
    words = ("trace", "--simulate", "tcp 10.64.0.36:1 > 10.96.0.10:80", "-f", str(file))
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", PROGRAM, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert "and no socket can call (" in done.stderr
    assert "CAP_SYS_ADMIN" in done.stderr
    # As root it is shown whole: the call, and where its packet went.
    done = command(*words[1:])
    assert done.returncode == 0, done.stderr
    first, *_ = done.stdout.splitlines()
    assert re.search(r"connect  tcp 10\.64\.0\.36:1 > 10\.96\.0\.10:80  translated to .* > 10\.64\.1\.64:8080", first)
    assert "(new: the backend is one of 10.64.1.64:8080, 10.64.0.37:8080)" in done.stdout
    lines = [json.loads(line) for line in command(*words[1:], "-o", "jsonl").stdout.splitlines()]
    for line in lines:
        validate(line, TRACE_SCHEMAS[line["schema"]])
    assert (lines[0]["hook"], lines[0]["events"][0]["tcp_flags"]) == ("connect", None)


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return run_ctctl("trace", *options)


def test_the_command_as_json(path: Path) -> None:
    packet = "tcp 10.64.0.36:40000 > 10.64.1.64:8080"
    done = command("--simulate", packet, "-f", str(path), "--reply", "-o", "jsonl", "--raw")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("hook", line.get("outcome")) for line in lines] == [
        *("from_container", "to_netdev", "from_netdev", "to_container", "delivered"),
        *("from_container", "to_netdev", "from_netdev", "to_container", "delivered"),
    ]
    assert (lines[4]["place"], lines[9]["place"]) == ("web on node-b", "client on node-a")
    for line in lines:
        validate(line, TRACE_SCHEMAS[line["schema"]])


def test_the_command_in_words(path: Path) -> None:
    done = command("--simulate", "tcp 10.64.0.36:40000 > 10.64.1.64:9090", "-f", str(path))
    assert done.returncode == 0
    assert "packet 1 of the client, from client on node-a: dropped at web on node-b: policy" in done.stdout
    assert "node node-a" in done.stdout


@pytest.mark.parametrize("datapath", [{}, {"routing": "tunnel"}, {"lb": {"mode": "dsr"}}], ids=str)
@pytest.mark.parametrize("version", [4, 6])
def test_a_request_by_way_of_another_node(tmp_path: Path, datapath: dict[str, Any], version: int) -> None:
    """Answered to the client, and closed by both: also where the node speaks by its address among its pods, which no
    file gives, and where a FIN's last hook sees nothing of the flow.
    """
    mode = {"ipv6": True, "lb": {"mode": "snat"}} | datapath
    lab, path = Topology("said"), tmp_path / "nodes.yaml"
    path.write_text("---\n".join(node_yaml(node_document(lab, node, mode=mode)) for node in lab.nodes))
    ends = ("172.191.0.1:40000", "10.1.0.1:30080") if version == 4 else ("[fd00:191::1]:40000", "[fd00:10:1::1]:30080")
    words = ("--simulate", "tcp {} > {}".format(*ends), "-f", str(path), "--handshake", "--close")
    told = run_ctctl("trace", *words)
    assert told.returncode == 0, told.stderr
    client, *_ = ends
    assert len(re.findall(rf"of the server, .*left the cluster.* > {re.escape(client)} ", told.stdout)) == 2
    assert "verdict: delivered to pod3 on said-node-b, answered, closed by both" in told.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--simulate"], "say which packet"),
        (["--simulate", "tcp 10.64.0.36:1 > 10.64.1.64:2", "--set", "tcp out"], "an entry reads"),
        (["--simulate", "tcp 10.64.0.36:1 > 10.64.1.64:2", "--at", "later"], "not a duration"),
        (["--simulate", "--pcap", "x.pcap"], "give one of them"),
    ],
)
def test_usage(path: Path, options: list[str], words: str) -> None:
    done = command(*options, "-f", str(path))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1

"""Live traces of real traffic: one story through translation, hooks and nodes, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from ctctl.cli.trace_listen import say_summary
from ctctl.events.stream import EventStream
from ctctl.lab.topology import CLIENT, CLIENT_IP, Topology
from ctctl.trace.live import LiveSummary
from tests.support.children import CTCTL, line_of, started
from tests.support.wait import PATIENCE_S, PATIENCE_WORD, wait_for

pytestmark = pytest.mark.lab

VIP, POD1, POD3 = "172.190.0.17", "10.64.0.36", "10.64.1.36"


class Trace:
    """A running ``ctctl trace -o jsonl`` on both nodes of a lab."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert self.process.stderr is not None
        self.messages = [line := line_of(self.process, self.process.stderr)]
        while line and not line.startswith("ready"):
            self.messages.append(line := line_of(self.process, self.process.stderr))

    def stop(self, how: signal.Signals = signal.SIGINT) -> list[dict[str, Any]]:
        """Everything it printed, after the signal."""
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        self.messages += err.splitlines()
        return [json.loads(line) for line in out.splitlines()]


@contextmanager
def running(topology: Topology, *args: str) -> Iterator[Trace]:
    nodes = [word for node in topology.nodes for word in ("--node", topology.datapath_node(node.name))]
    with started(*CTCTL, "trace", *args, *nodes, "-o", "jsonl") as process:
        yield Trace(process)


def run(topology: Topology, member: str, *words: str, check: bool = True) -> None:
    command = ["ip", "netns", "exec", topology.netns(member), *words]
    subprocess.run(command, check=check, capture_output=True, timeout=PATIENCE_S)


def curl(topology: Topology, member: str, address: str, *options: str) -> None:
    run(topology, member, "curl", "-s", "-m", PATIENCE_WORD, *options, f"http://{address}/")


def server_closed(topology: Topology, member: str, peer: str) -> bool:
    """Whether the server there has sent its FIN on every connection of ``peer``, which may be after curl ended."""
    command = ["ip", "netns", "exec", topology.netns(member), "ss", "-Htn", "dst", peer]
    states = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout
    return not any(line.startswith(("ESTAB", "CLOSE-WAIT")) for line in states.splitlines())


@contextmanager
def background(topology: Topology) -> Iterator[None]:
    """Traffic between the same and other members that is no part of the traced flow."""
    turn = f"curl -s -m {PATIENCE_WORD} http://{POD3}:8000/; ping -c1 -W {PATIENCE_WORD} {POD3}"
    loop = f"while :; do {turn}; done >/dev/null"
    commands = [["ip", "netns", "exec", topology.netns(member), "sh", "-c", loop] for member in ("pod1", "pod2")]
    with ExitStack() as stack:
        for command in commands:
            process = stack.enter_context(started(*command, start_new_session=True, stdout=None, stderr=None))
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        yield


def places(events: list[dict[str, Any]], flags: str) -> list[tuple[str, str]]:
    """Node (its lab name) and hook of the events with these TCP flags, in the order shown."""
    return [
        (event["node"].rsplit("-", 2)[1] + "-" + event["node"].rsplit("-", 2)[2], event["hook"])
        for event in events
        if event["tcp_flags"] == flags
    ]


REQUEST = [("node-a", "from_netdev"), ("node-b", "from_overlay"), ("node-b", "to_container")]
REPLY = [("node-b", "from_container"), ("node-b", "to_netdev")]


def test_one_curl_through_the_load_balancer_in_order_and_alone(lab: Topology) -> None:
    with background(lab), running(lab, f"tcp {CLIENT_IP} > {VIP}:80") as trace:
        curl(lab, CLIENT, VIP)
        assert wait_for(lambda: server_closed(lab, "pod3", CLIENT_IP))
        events = trace.stop()
    assert {event["connection"] for event in events} == {1}
    assert {CLIENT_IP} <= {event["tuple_in"]["src"] for event in events} <= {CLIENT_IP, POD3}
    assert places(events, "S") == REQUEST
    assert places(events, "SA") == REPLY
    # The request and its answer, each one segment with data.
    assert places(events, "PA") == [*REQUEST, *REPLY]
    assert places(events, "FA")[:3] == REQUEST
    assert places(events, "FA")[3:] == REPLY
    assert [event["time_ns"] for event in events] == sorted(event["time_ns"] for event in events)
    intermediate, overlay, pod = events[:3]
    assert intermediate["tuple_out"]["dst"] == POD3
    assert intermediate["tunnel"]["dsr"] == {"address": VIP, "port": 80}
    assert [lookup["why"] for lookup in intermediate["lookups"]] == [["created", "backend_maglev"]]
    assert [lookup["kind"] for lookup in overlay["lookups"]] == ["dsr"]
    assert "snat_created" in overlay["lookups"][0]["why"]
    assert {"created", "related_created", "policy_allowed"} <= set(pod["lookups"][0]["why"])
    reply = next(event for event in events if event["hook"] == "to_netdev")
    assert (reply["tuple_out"]["src"], reply["tuple_out"]["src_port"]) == (VIP, 80)
    assert trace.messages[-1].endswith("events of 1 connection; none lost")
    assert trace.process.returncode == 130


def test_cluster_ip_and_backend_are_one_story_on_two_nodes(lab: Topology) -> None:
    with background(lab), running(lab, f"tcp {POD1} > 10.68.174.146:80") as trace:
        curl(lab, "pod1", "10.68.174.146")
        events = trace.stop()
    assert {event["connection"] for event in events} == {1}
    assert places(events, "S") == [("node-a", "from_container"), *_stack(events, "S"), ("node-b", "to_container")]
    last = [event for event in events if event["hook"] == "to_container" and event["translated"]]
    assert last
    assert {event["tuple_out"]["src"] for event in last} == {"10.68.174.146"}


def _stack(events: list[dict[str, Any]], flags: str) -> list[tuple[str, str]]:
    """The node devices' hooks, which see pod traffic as well."""
    return [place for place in places(events, flags) if place[1].endswith("netdev")]


def test_filter_flags_without_a_packet_choose_connections(lab: Topology) -> None:
    with background(lab), running(lab, "--to-port", "80", "--protocol", "tcp") as trace:
        curl(lab, CLIENT, VIP)
        events = trace.stop()
    assert events
    assert {event["connection"] for event in events} == {1}
    assert places(events, "S")[0] == REQUEST[0]


def test_what_remains_when_the_client_is_left_out_has_no_tunnel_packets(lab: Topology) -> None:
    with running(lab, "--ip", CLIENT_IP, "--not") as trace:
        curl(lab, CLIENT, VIP)
        curl(lab, "pod1", "10.68.174.146")
        events = trace.stop()
    assert events
    assert {event["tuple_in"]["proto"] for event in events} == {6}
    assert CLIENT_IP not in {event["tuple_in"][end] for event in events for end in ("src", "dst")}


def test_count_and_time_end_a_trace(lab: Topology) -> None:
    with running(lab, f"tcp {CLIENT_IP} > {VIP}:80", "--count", "2") as trace:
        curl(lab, CLIENT, VIP)
        out, _ = trace.process.communicate(timeout=PATIENCE_S)
    assert (len(out.splitlines()), trace.process.returncode) == (2, 0)
    with running(lab, "--for", "200ms", "--to-port", "1") as trace:
        assert trace.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_hooks_fall_silent_and_the_next_listener_starts(lab: Topology, how: signal.Signals) -> None:
    with running(lab, f"tcp {CLIENT_IP} > {VIP}:80") as trace:
        trace.stop(how)
    name = lab.datapath_node("node-a")
    # Taking over from a killed listener needs no waiting for its lease to run out.
    with EventStream([name]) as stream:
        curl(lab, CLIENT, VIP)
        assert wait_for(lambda: stream.read(0.1))


def test_table_on_a_pipe_is_plain_text(lab: Topology) -> None:
    nodes = [word for node in lab.nodes for word in ("--node", lab.datapath_node(node.name))]
    with started(*CTCTL, "trace", "-v", f"tcp {CLIENT_IP} > {VIP}:80", "--count", "3", *nodes) as process:
        assert process.stderr is not None
        assert line_of(process, process.stderr).startswith("ready")
        curl(lab, CLIENT, VIP)
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert "\x1b" not in out
    assert f"translate  dst {VIP}:80 → {POD3}:8000" in out
    assert "a backend is chosen (backend 241 from the Maglev table)" in out


def test_probes_follow_the_flow_to_the_backend_by_the_tables_alone(lab: Topology) -> None:
    spaces = [word for node in lab.nodes for word in ("--netns", lab.netns(node.name))]
    command = (*CTCTL, "trace", "--probe", f"tcp {CLIENT_IP} > {VIP}:80", *spaces, "-o", "jsonl")
    with background(lab), started(*command) as process:
        assert process.stderr is not None
        assert any(line.startswith("ready") for line in iter(process.stderr.readline, ""))
        curl(lab, CLIENT, VIP)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE_S)
    events = [json.loads(line) for line in out.splitlines()]
    packets = [event for event in events if event["kind"] == "packet"]
    assert {event["tuple"]["src"] for event in packets} == {CLIENT_IP, POD3}
    syn = [(event["device"], event["direction"]) for event in packets if event["tcp_flags"] == "S"]
    # Between the nodes it is in the tunnel, which is looked into.
    assert syn == [("eth0", "ingress"), ("eth0", "egress"), ("eth0", "ingress"), ("lxc-pod3", "egress")]
    assert [event["tunnel"] is not None for event in packets if event["tcp_flags"] == "S"] == [False, True, True, False]
    last = [event for event in packets if event["device"] == "lxc-pod3" and event["direction"] == "egress"][-1]
    assert {entry["direction"] for entry in last["entries"]} == {"OUT", "IN"}
    assert all(event["programs"][0]["via"] in {"tcx", "clsact"} for event in packets)


def test_events_that_find_the_ring_buffer_full_are_counted(lab: Topology) -> None:
    name = lab.datapath_node("node-a")
    with EventStream([name]) as stream:
        # Nobody reads meanwhile: 4 MiB hold some 8000 events, each echo and its reply make four.
        run(lab, "pod1", "ping", "-q", "-f", "-c", "4000", POD3)
        lost = stream.lost()[name]
        read = stream.read(0, last=True)
        assert lost > 0
        assert 4000 < len(read) < 9000
        assert stream.lost()[name] == lost


def test_lost_events_are_shown_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    say_summary(LiveSummary(["node-a", "node-b"], 7, 1, {"node-a": 0, "node-b": 3}))
    assert capsys.readouterr().err == "7 events of 1 connection; 3 lost on node-b\n"


@pytest.mark.parametrize("flow", [f"tcp any > {POD3}:8000", f"tcp any > {VIP}:80", f"tcp {CLIENT_IP} > any"])
def test_one_end_is_enough_also_where_packets_get_or_lose_it_on_the_way(lab: Topology, flow: str) -> None:
    with running(lab, flow) as trace:
        curl(lab, CLIENT, VIP)
        events = trace.stop()
    assert places(events, "S") == REQUEST
    assert places(events, "SA") == REPLY
    assert {event["connection"] for event in events} == {1}


def test_two_traces_of_one_node_each_see_their_own_flow_and_all_of_it(lab: Topology) -> None:
    dns = "udp 10.64.0.36 > 10.64.1.36:8000"
    with running(lab, f"tcp {CLIENT_IP} > {VIP}:80") as first, running(lab, dns) as second:
        for _ in range(3):
            curl(lab, CLIENT, VIP)
            run(lab, "pod1", "bash", "-c", f"echo x > /dev/udp/{POD3}/8000")
        theirs = second.stop()
        # The other goes on as before, with its filter alone.
        curl(lab, CLIENT, VIP)
        mine = first.stop()
    assert {event["tuple_in"]["proto"] for event in theirs} == {17}
    assert len({event["connection"] for event in theirs}) == 3
    assert {event["tuple_in"]["proto"] for event in mine} == {6}
    assert len({event["connection"] for event in mine}) == 4
    assert all("none lost" in trace.messages[-1] for trace in (first, second))


def test_a_killed_trace_takes_nothing_from_another(lab: Topology) -> None:
    with running(lab, f"tcp {CLIENT_IP} > {VIP}:80") as first:
        with running(lab, f"udp {POD1} > {POD3}:8000") as second:
            second.process.kill()
            second.process.wait(PATIENCE_S)
        curl(lab, CLIENT, VIP)
        mine = first.stop()
    assert len({event["connection"] for event in mine}) == 1

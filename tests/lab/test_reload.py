"""Programs exchanged under open connections, and the other way of attaching them."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import ExitStack

import pytest

from ctctl.abi.pins import CT4_TCP, CT6_TCP
from ctctl.decode.ct import decode_key
from ctctl.kernel.map import Map
from ctctl.lab import datapaths
from ctctl.lab.cluster import up
from ctctl.lab.nodefile import NO_MODE
from ctctl.lab.topology import SERVE_PORT, Topology
from tests.lab.conftest import ctctl
from tests.support.lab_modes import ask, change_to, connect
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.lab

#: Who connects to what: a pod, a ClusterIP, a LoadBalancer with its backend elsewhere, one with it here.
CONNECTIONS = [
    ("pod1", ("10.64.1.36", SERVE_PORT)),
    ("pod1", ("10.68.174.146", 80)),
    ("client", ("172.190.0.17", 80)),
    ("client", ("172.190.0.18", 80)),
]


class SlowDownload:
    """A long transfer that is read slowly, in a thread of its own; ``received`` counts the bytes."""

    def __init__(self, connection: socket.socket) -> None:
        self.received = 0
        self._stop = threading.Event()
        self._connection = connection
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> SlowDownload:
        self._connection.sendall(b"GET /bytes/1000000000 HTTP/1.1\r\nHost: lab\r\n\r\n")
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)

    def _read(self) -> None:
        # The pause makes the sender wait for the window: the transfer outlasts any reload.
        while not self._stop.wait(0.005):
            self.received += len(self._connection.recv(1 << 16))


def test_loading_again_keeps_open_connections(lab: Topology) -> None:
    """Through every path; a transfer that runs meanwhile goes on."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(lab, *connection)) for connection in CONNECTIONS]
        answers = [ask(connection) for connection in connections]
        assert answers == ["pod3", "pod3", "pod3", "pod2"]
        bulk = stack.enter_context(connect(lab, "client", ("172.190.0.17", 80)))
        download = stack.enter_context(SlowDownload(bulk))
        up(lab, lambda _line: None)
        before = download.received
        assert before > 0
        wait_for(lambda: download.received > before + 5_000_000, what="the transfer to go on")
        assert [ask(connection) for connection in connections] == answers


#: The same of IPv6, but for the last: the node's port where the backend is.
CONNECTIONS6 = [
    ("pod1", ("fd00:64:1::36", SERVE_PORT)),
    ("pod1", ("fd00:68::10", 80)),
    ("client", ("fd00:190::17", 80)),
    ("client", ("fd00:10:1::2", 30080)),
]
#: Those by way of another node than the backend's.
ON_THE_WAY = {("client", ("172.190.0.17", 80)), ("client", ("fd00:190::17", 80))}

SNAT = {"lb": {"mode": "snat"}}
HYBRID = {"lb": {"mode": "hybrid"}}
OPTION = {"lb": {"dispatch": "opt"}}
TUNNEL = {"routing": "tunnel"}
DUAL = {"ipv6": True}
MASQUERADE = {"masquerade": True, "native-routing-cidr": ["10.64.0.0/16", "10.1.0.0/24", "172.190.0.0/15"]}
MASQUERADE6 = {"masquerade": True, "native-routing-cidr": ["fd00::/16", *MASQUERADE["native-routing-cidr"]]}
#: From which mode to which; whether the way to a backend elsewhere changes for a connection that is open: its node
#: would see another client than before, and no datapath can mend that (docs/loader.md).
CHANGES = {
    "dsr-snat": (NO_MODE, SNAT, True),
    "snat-dsr": (SNAT, NO_MODE, True),
    "dsr-hybrid": (NO_MODE, HYBRID, False),
    "hybrid-dsr": (HYBRID, NO_MODE, False),
    "hybrid-snat": (HYBRID, SNAT, True),
    "geneve-option": (NO_MODE, OPTION, False),
    "option-geneve": (OPTION, NO_MODE, False),
    "native-tunnel": (NO_MODE, TUNNEL, False),
    "tunnel-native": (TUNNEL, NO_MODE, False),
    "snat-native-tunnel": (SNAT, {**SNAT, **TUNNEL}, True),
    "hybrid-native-tunnel": (HYBRID, {**HYBRID, **TUNNEL}, False),
    "one-family-both": (NO_MODE, DUAL, False),
    "both-one-family": (DUAL, NO_MODE, False),
    "v6-dsr-snat": (DUAL, {**DUAL, **SNAT}, True),
    "v6-snat-hybrid-option": ({**DUAL, **SNAT}, {**DUAL, "lb": {"mode": "hybrid", "dispatch": "opt"}}, True),
    "v6-option-geneve": ({**DUAL, **OPTION}, DUAL, False),
    "v6-native-tunnel": (DUAL, {**DUAL, **TUNNEL}, False),
    "v6-masquerade": (DUAL, {**DUAL, **MASQUERADE6}, False),
    "masquerade": (NO_MODE, MASQUERADE, False),
    "no-masquerade": (MASQUERADE, NO_MODE, False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_mode_keeps_what_can_go_on(lab_in_some_mode: Topology, change: str) -> None:
    """Every connection whose ends see no difference answers after the change, and the old entry is the one it uses."""
    lab = lab_in_some_mode
    before, after, breaks_dsr = CHANGES[change]
    both = before.get("ipv6") and after.get("ipv6")
    chosen = [
        connection
        for connection in (*CONNECTIONS, *(CONNECTIONS6 if both else ()))
        if not (breaks_dsr and connection in ON_THE_WAY)
    ]
    change_to(lab, before)
    with ExitStack() as stack:
        if after.get("ipv6"):
            stack.callback(change_to, lab, NO_MODE)  # its tables
        connections = [stack.enter_context(connect(lab, *connection)) for connection in chosen]
        answers = [ask(connection) for connection in connections]
        held = {connection.getsockname()[1] for connection in connections}
        opened = _entries(lab, held)
        assert opened
        change_to(lab, after)
        assert [ask(connection) for connection in connections] == answers
        assert opened <= _entries(lab, held)


def _entries(lab: Topology, ports: set[int]) -> set[tuple[str, bytes]]:
    """Keys of TCP entries of connections from these ports, with their node."""
    found = set()
    tables = [
        (node.name, datapaths.pin_dir(lab, node.name) / name) for node in lab.nodes for name in (CT4_TCP, CT6_TCP)
    ]
    for node, path in tables:
        if path.exists():
            with Map.open_pinned(path, read_only=True) as table:
                found |= {(node, key) for key, _ in table.items() if decode_key(key)[0].src_port in ports}
    return found


def test_clsact_filters_do_as_tcx_links_do(fresh_lab: Topology) -> None:
    """The way for kernels before 6.6: the same stories come out the same."""
    ctctl("lab", "up", "--attach", "tc", "--name", fresh_lab.name)
    status = json.loads(ctctl("status", "--node", fresh_lab.datapath_node("node-a"), "-o", "json").stdout)
    assert {program["mode"] for program in status["nodes"][0]["programs"]} == {"tc"}
    ctctl("lab", "run", "pod-to-pod", "hairpin", "loadbalancer-dsr", "loadbalancer-local", "--name", fresh_lab.name)

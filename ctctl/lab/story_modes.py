"""Stories about the other ways to reach a backend: SNAT, masquerade, hybrid, DSR by an IP option, sockets, IPv6.

Each loads the lab's nodes in the mode it is about; what holds in all of them (docs/reference/datapath.md,
and the recordings' notes) is not said again here.
"""

from __future__ import annotations

from dataclasses import dataclass

from ctctl.abi import pins
from ctctl.lab.nodefile import address_of, backend_id
from ctctl.lab.report import StoryError
from ctctl.lab.session import Answer, Session, Want, end
from ctctl.lab.story import Story
from ctctl.lab.topology import CLIENT, CLIENT_IP, CLIENT_IP6, SERVE_PORT, LabService, Node, Pod
from ctctl.model.entry import CtFlags
from ctctl.model.event import Hook
from ctctl.model.identity import REMOTE_NODE
from ctctl.model.tuples import Direction
from ctctl.tables.snat_ports import FIRST_PORT as SNAT_FIRST_PORT

_SVC, _OUT, _IN = Direction.SVC, Direction.OUT, Direction.IN
#: Where pods keep their own address.
_CLUSTER = ["10.64.0.0/16", "10.1.0.0/24", "fd00:64::/32", "fd00:10:1::/64"]


@dataclass(frozen=True, slots=True)
class _Ends:
    """Who talks to whom in one family."""

    version: int

    @property
    def client(self) -> str:
        return CLIENT_IP if self.version == 4 else CLIENT_IP6

    def of(self, owner: Node | Pod) -> str:
        return address_of(owner, self.version)


def _ask(session: Session, member: str, service: LabService, address: str) -> Answer:
    answer = session.curl(member, address, service.port)
    pods = [backend.pod for backend in service.backends]
    if answer.body not in pods:
        raise StoryError(f"{service.name} was answered by {answer.body!r}, its backends are {', '.join(pods)}")
    return answer


def _service(source: str, address: str, service: LabService, proto: str) -> Want:
    backend = backend_id(service, service.backends[0].pod)
    target = end(address, service.port)
    return Want(_SVC, proto, source, target, src_sec_id=0, rev_nat=service.id, backend_id=backend)


def _expect_snat(session: Session, node: Node, proto: str, ends: tuple[str, str], to: str) -> None:
    """The pair of SNAT entries of a flow between ``ends`` that leaves with ``to`` as its source."""
    source, target = ends
    session.expect_snat(node.name, f"{proto} {source} -> {target}", to)
    session.expect_snat(node.name, f"{proto} {target} -> {to}", source)


def _node_port(session: Session, service: LabService, ends: _Ends) -> None:
    near, far = session.topology.nodes
    server = session.topology.pod("pod3")
    target = end(ends.of(server), SERVE_PORT)
    session.report.say(
        f"The client asks {near.name}'s address; the backend is on {far.name}. {near.name} sends the request on with"
        " its own address, so that the answer comes back to it."
    )
    answer = _ask(session, CLIENT, service, ends.of(near))
    source = end(ends.client, answer.source_port)
    # A port above 32767 is kept.
    node_end = end(ends.of(near), answer.source_port)
    session.expect(near.name, _service(source, ends.of(near), service, "TCP"))
    session.expect(near.name, Want(_OUT, "TCP", source, target, rev_nat=service.id))
    _expect_snat(session, near, "TCP", (source, target), node_end)
    session.expect(
        far.name,
        Want(_IN, "TCP", node_end, target, src_sec_id=REMOTE_NODE, rev_nat=0),
        f"the backend's node sees {near.name}, not the client: TCP IN {node_end} -> {target}",
    )
    session.expect_none(far.name, "and nothing of the client", lambda entry: str(entry.tuple.src) == ends.client)
    session.report.say(f"Then it asks {far.name}, where the backend is: no SNAT, the backend sees the client.")
    answer = _ask(session, CLIENT, service, ends.of(far))
    source = end(ends.client, answer.source_port)
    session.expect(far.name, Want(_IN, "TCP", source, target))
    session.check(not session.snat(far.name), f"{far.name}: no SNAT entry")
    session.show(near.name, far.name)


def nodeport_snat(session: Session) -> None:
    _node_port(session, session.topology.service("nodeport"), _Ends(4))


def nodeport_snat_v6(session: Session) -> None:
    _node_port(session, session.topology.service("nodeport6"), _Ends(6))


def masquerade(session: Session) -> None:
    pod, peer = session.topology.pod("pod1"), session.topology.pod("pod3")
    node = session.topology.node(pod.node)
    session.report.say(f"{pod.name} asks the client outside: the world sees {node.name}'s address.")
    with session.server(CLIENT):
        answer = session.curl(pod.name, CLIENT_IP, SERVE_PORT)
    source, target = end(pod.ip, answer.source_port), end(CLIENT_IP, SERVE_PORT)
    session.expect(node.name, Want(_OUT, "TCP", source, target, src_sec_id=pod.identity))
    _expect_snat(session, node, "TCP", (source, target), end(node.ip, answer.source_port))
    session.report.say(f"Then {peer.name}, in the cluster's own network: {pod.name} keeps its address.")
    answer = session.curl(pod.name, peer.ip, SERVE_PORT)
    session.expect(peer.node, Want(_IN, "TCP", end(pod.ip, answer.source_port), end(peer.ip, SERVE_PORT)))
    session.check(len(session.snat(node.name)) == 2, f"{node.name}: no more SNAT entries than before")
    session.show(node.name)


def masquerade_icmp(session: Session) -> None:
    pod = session.topology.pod("pod1")
    node = session.topology.node(pod.node)
    session.report.say(f"{pod.name} pings the client outside. Of an echo request the identifier stands for the port.")
    session.ping(pod.name, CLIENT_IP, count=2)
    rows = session.snat(node.name)
    out = [row for row in rows if row.flow.startswith(f"ICMP {pod.ip}:")]
    session.check(len(out) == 1 and len(rows) == 2, f"{node.name}: one pair of SNAT entries for both requests")
    identifier = int(out[0].to.rpartition(":")[2])
    session.check(out[0].to.startswith(f"{node.ip}:"), f"they leave as {node.ip} with identifier {identifier}")
    session.check(
        identifier >= SNAT_FIRST_PORT, f"an identifier of SNAT's range: {identifier} is not below {SNAT_FIRST_PORT}"
    )
    session.expect_snat(node.name, f"ICMP {CLIENT_IP}:0 -> {out[0].to}", out[0].flow.removeprefix("ICMP ").split()[0])
    session.show(node.name)


#: Asks for one page, says whom it reached and whom it thinks it reached.
_ASK_TWICE = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
with socket.create_connection((host, port), 15) as c:
    c.sendall(b"GET / HTTP/1.1\\r\\nHost: lab\\r\\nConnection: close\\r\\n\\r\\n")
    body = c.makefile("rb").read().split(b"\\r\\n\\r\\n", 1)[1].decode().strip()
    print(body, c.getsockname()[1], "%s:%s" % c.getpeername()[:2])
"""
_ASK_UDP = """
import socket, sys
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.settimeout(15)
c.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
body, sender = c.recvfrom(2048)
print(body.decode(), "from %s:%s" % sender)
"""


def socket_lb(session: Session) -> None:
    topology, service, dns = session.topology, session.topology.service("api"), session.topology.service("dns")
    client, server = topology.pod("pod1"), topology.pod("pod3")
    session.report.say(
        f"{client.name} connects to {service.ip}:{service.port}. The kernel connects it to a backend from the start:"
        " no packet ever has the service's address, and no SERVICE entry is needed."
    )
    what = f"connect to {service.ip}:{service.port}, GET /, getpeername"
    body, port, peer = session.python(client.name, _ASK_TWICE, str(service.ip), str(service.port), what=what).split()
    session.check(body == server.name, f"{server.name} answers")
    session.check(peer == f"{service.ip}:{service.port}", f"the program is told of {peer}")
    source = f"{client.ip}:{port}"
    flow = (source, f"{server.ip}:{SERVE_PORT}")
    session.expect(client.node, Want(_OUT, "TCP", *flow, rev_nat=0, src_sec_id=client.identity))
    session.expect(server.node, Want(_IN, "TCP", *flow, src_sec_id=client.identity))
    first = session.events()[0]
    session.check(
        first.hook is Hook.CONNECT and first.node == client.node,
        f"the first event is the connect at {client.node}, to backend {first.backend_id}",
    )
    session.report.say(f"A datagram to {dns.ip}:{dns.port} is sent to a backend, the answer comes from the service.")
    what = f"datagram to {dns.ip}:{dns.port}"
    told = session.python(client.name, _ASK_UDP, str(dns.ip), str(dns.port), what=what)
    session.check(told == f"{server.name} hello from {dns.ip}:{dns.port}", f"the program is told: {told}")
    session.check(len(session.records(client.node, pins.LB4_SOCKETS)) == 2, "a reverse entry for each of the sockets")
    session.expect_none(client.node, "no SERVICE entry", lambda entry: entry.direction is _SVC)
    session.show(client.node, server.node)


def dual_stack(session: Session) -> None:
    topology = session.topology
    client, server = topology.pod("pod1"), topology.pod("pod3")
    api, balancer = topology.service("api6"), topology.service("lb6")
    session.report.say(f"{client.name} and {server.name} talk over IPv6, beside IPv4: ping, a datagram, HTTP.")
    for ends, icmp in ((_Ends(4), "ICMP"), (_Ends(6), "ICMPv6")):
        address = ends.of(server)
        session.ping(client.name, address)
        datagram = session.datagram(client.name, address, SERVE_PORT)
        answer = session.curl(client.name, address, SERVE_PORT)
        for node, direction in ((client.node, _OUT), (server.node, _IN)):
            for proto, port in (("UDP", datagram.source_port), ("TCP", answer.source_port)):
                flow = (end(ends.of(client), port), end(address, SERVE_PORT))
                session.expect(node, Want(direction, proto, *flow, src_sec_id=client.identity))
            related = (end(ends.of(client), 0), end(address, 0))
            session.expect(node, Want(direction, icmp, *related, related=True))
    six = _Ends(6)
    target = end(six.of(server), SERVE_PORT)
    session.report.say(f"Then a ClusterIP of IPv6, {end(str(api.ip), api.port)}.")
    source = end(six.of(client), _ask(session, client.name, api, str(api.ip)).source_port)
    session.expect(client.node, _service(source, str(api.ip), api, "TCP"))
    session.expect(client.node, Want(_OUT, "TCP", source, target, rev_nat=api.id))
    session.report.say(f"And a load balancer's address from outside, {end(str(balancer.ip), balancer.port)}: DSR.")
    source = end(CLIENT_IP6, _ask(session, CLIENT, balancer, str(balancer.ip)).source_port)
    session.expect(topology.nodes[0].name, _service(source, str(balancer.ip), balancer, "TCP"))
    session.expect(server.node, Want(_OUT, "TCP", source, target))
    session.expect_snat(server.node, f"TCP {target} -> {source}", end(str(balancer.ip), balancer.port))
    session.show(client.node, server.node)


def hybrid(session: Session) -> None:
    topology = session.topology
    near, far = topology.nodes
    server, tcp, udp = topology.pod("pod3"), topology.service("lb-dsr"), topology.service("lb-udp")
    target = end(server.ip, SERVE_PORT)
    session.report.say(f"TCP to {tcp.ip}:{tcp.port} is answered by the backend's node directly (DSR).")
    source = end(CLIENT_IP, _ask(session, CLIENT, tcp, str(tcp.ip)).source_port)
    session.expect(near.name, _service(source, str(tcp.ip), tcp, "TCP"))
    dsr = Want(_OUT, "TCP", source, target)
    session.expect(far.name, dsr, "an OUT entry with DSRInternal at the backend's node")
    session.expect_snat(far.name, f"TCP {target} -> {source}", f"{tcp.ip}:{tcp.port}")
    session.check(not session.snat(near.name), f"{near.name}: no SNAT entry")
    session.report.say(f"UDP to {udp.ip}:{udp.port} goes on with {near.name}'s address (SNAT).")
    port = session.datagram(CLIENT, str(udp.ip), udp.port).source_port
    source, node_end = end(CLIENT_IP, port), end(near.ip, port)
    session.expect(near.name, Want(_OUT, "UDP", source, target, flags=CtFlags.NodePort, rev_nat=udp.id))
    _expect_snat(session, near, "UDP", (source, target), node_end)
    session.expect(far.name, Want(_IN, "UDP", node_end, target, src_sec_id=REMOTE_NODE))
    session.show(near.name, far.name)


def dsr_opt(session: Session) -> None:
    topology = session.topology
    near, far = topology.nodes
    server, tcp, udp = topology.pod("pod3"), topology.service("lb-dsr"), topology.service("lb-udp")
    target = end(server.ip, SERVE_PORT)
    session.report.say(
        "The intermediate node tells the backend's node the service's address in an option of the IP header, in TCP"
        " packets with SYN and in every datagram: no tunnel."
    )
    source = end(CLIENT_IP, _ask(session, CLIENT, tcp, str(tcp.ip)).source_port)
    session.expect(near.name, _service(source, str(tcp.ip), tcp, "TCP"))
    session.expect(far.name, Want(_OUT, "TCP", source, target))
    session.expect_snat(far.name, f"TCP {target} -> {source}", f"{tcp.ip}:{tcp.port}")
    source = end(CLIENT_IP, session.datagram(CLIENT, str(udp.ip), udp.port).source_port)
    session.expect(far.name, Want(_OUT, "UDP", source, target, flags=CtFlags.DSRInternal))
    session.expect_snat(far.name, f"UDP {target} -> {source}", f"{udp.ip}:{udp.port}")
    tunnelled = [event for event in session.events() if event.tunnel_remote is not None]
    session.check(not tunnelled, "no packet went through a tunnel")
    session.show(near.name, far.name)


#: A datagram from each source port in turn to a service, and how many were sent.
_FLOOD = """
import socket, sys
host, port, low, high = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
sent = 0
for source in range(low, high):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.bind(("", source))
            s.sendto(b"x", (host, port))
            sent += 1
        except OSError:
            pass
print(sent)
"""
_FLOOD_FROM, _FLOOD_TO = 31000, 65536


def port_exhaustion(session: Session) -> None:
    near = session.topology.nodes[0]
    service = session.topology.service("nodeport-udp")
    session.report.say(
        f"The client sends a datagram from each port above {_FLOOD_FROM} to {near.ip}:{service.port}. Each needs a port"
        f" of {near.name}'s own towards the one backend, and there are {65536 - SNAT_FIRST_PORT}."
    )
    words = (near.ip, str(service.port), str(_FLOOD_FROM), str(_FLOOD_TO))
    sent = int(session.python(CLIENT, _FLOOD, *words, what=f"datagrams to {near.ip}:{service.port}, each from a port"))
    pairs = len(session.records(near.name, pins.SNAT4)) // 2
    session.check(pairs > (65536 - SNAT_FIRST_PORT) * 9 // 10, f"{sent} datagrams were sent, {pairs} got a port")
    session.check(pairs < sent, f"{sent - pairs} got none: dropped, nat_no_mapping")
    findings = session.findings(near.name)
    session.check("snat-exhausted" in findings, "the doctor names it: snat-exhausted")
    session.report.say(findings["snat-exhausted"])
    # The tables are to shrink again, which takes along what is in them.
    session.empty_tables()


MODE_STORIES = (
    Story(
        "nodeport-snat",
        "NodePort by SNAT: the backend sees the node, and answers it",
        nodeport_snat,
        mode={"lb": {"mode": "snat"}},
    ),
    Story(
        "nodeport-snat-v6",
        "The same over IPv6",
        nodeport_snat_v6,
        mode={"ipv6": True, "lb": {"mode": "snat"}},
    ),
    Story(
        "masquerade",
        "A pod speaks to the world by its node's address",
        masquerade,
        mode={"masquerade": True, "native-routing-cidr": _CLUSTER, "lb": {"mode": "snat"}},
    ),
    Story(
        "masquerade-icmp",
        "A pod pings the world: the echo's identifier is translated",
        masquerade_icmp,
        ("ping",),
        mode={"masquerade": True, "native-routing-cidr": _CLUSTER, "lb": {"mode": "snat"}},
    ),
    Story("socket-lb", "Services for sockets: translated at connect, and no packet knows", socket_lb, (), sockets=True),
    Story("dual-stack", "Pods and services with both families", dual_stack, ("curl", "ping"), mode={"ipv6": True}),
    Story("hybrid", "TCP by DSR, UDP by SNAT", hybrid, mode={"lb": {"mode": "hybrid"}}),
    Story("dsr-opt", "DSR by an option in the IP header", dsr_opt, mode={"lb": {"dispatch": "opt"}}),
    Story(
        "port-exhaustion",
        "SNAT runs out of ports: counted, and named by the doctor",
        port_exhaustion,
        (),
        # Two entries a flow, and none may make room for another.
        mode={"lb": {"mode": "snat"}, "ct": {"snat-max": 262144, "any-max": 262144}},
    ),
)

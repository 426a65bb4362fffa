"""Stories about services: which node writes which entry, and why."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import ExitStack

from ctctl.lab.nodefile import backend_id
from ctctl.lab.report import StoryError
from ctctl.lab.session import Answer, Session, Want
from ctctl.lab.story import Story
from ctctl.lab.story_pods import ALL_SEEN, ANY_S, CLOSED, TCP_FIN_S, related_to
from ctctl.lab.topology import CLIENT, CLIENT_IP, SERVE_PORT, LabService, Pod
from ctctl.model.entry import CtFlags
from ctctl.model.identity import WORLD
from ctctl.model.tuples import Direction

NO_FLAGS = CtFlags(0)
_SVC, _OUT, _IN = Direction.SVC, Direction.OUT, Direction.IN


def _vip(service: LabService) -> str:
    assert service.ip is not None
    return service.ip


def _expect_service(
    session: Session, node: str, source: str, service: LabService, pod: str, *, vip: str | None = None
) -> None:
    """The SERVICE entry of a closed TCP connection: the client's FIN closed both sides of it."""
    session.expect(
        node,
        Want(
            _SVC,
            "TCP",
            source,
            f"{vip or _vip(service)}:{service.port}",
            flags=CLOSED,
            src_sec_id=0,
            rev_nat=service.id,
            backend_id=backend_id(service, pod),
            tx_flags_seen=ALL_SEEN,
            rx_flags_seen=0,
            timeout_s=TCP_FIN_S,
        ),
        f"TCP SVC {source} -> {vip or _vip(service)}:{service.port}, backend {backend_id(service, pod)} ({pod})",
    )


def _expect_flow(
    session: Session,
    node: str,
    direction: Direction,
    source: str,
    target: Pod,
    *,
    identity: int,
    rev_nat: int = 0,
    extra: CtFlags = NO_FLAGS,
    related: bool = True,
) -> None:
    """A closed TCP connection to a backend, with its related entry (or, asked so, without)."""
    connection = Want(
        direction,
        "TCP",
        source,
        f"{target.ip}:{SERVE_PORT}",
        flags=CLOSED | extra,
        src_sec_id=identity,
        rev_nat=rev_nat,
        tx_flags_seen=ALL_SEEN,
        rx_flags_seen=ALL_SEEN,
        timeout_s=TCP_FIN_S,
    )
    session.expect(node, connection)
    if related:
        session.expect(node, related_to(connection, extra))


def _fetch(session: Session, member: str, service: LabService, *, vip: str | None = None) -> tuple[Answer, str]:
    """One request to the service: the answer, and the client's address and port as in the table."""
    answer = session.curl(member, vip or _vip(service), service.port)
    pods = [backend.pod for backend in service.backends]
    if answer.body not in pods:
        raise StoryError(f"{service.name} was answered by {answer.body!r}, its backends are {', '.join(pods)}")
    host = CLIENT_IP if member == CLIENT else session.topology.pod(member).ip
    return answer, f"{host}:{answer.source_port}"


def clusterip(session: Session) -> None:
    topology, service = session.topology, session.topology.service("api")
    client, server = topology.pod("pod1"), topology.pod("pod3")
    spread = topology.service("web")
    session.report.say(f"Twelve requests of {client.name} to {_vip(spread)}:{spread.port}, which has three backends.")
    answers = Counter(session.curl(client.name, _vip(spread), spread.port, quiet=True).body for _ in range(12))
    told = ", ".join(f"{pod} {count} times" for pod, count in sorted(answers.items()))
    session.check(1 < len(answers) <= len(spread.backends), f"answered by {told}")
    session.begin_anew()
    session.report.say(
        f"Then one to {_vip(service)}:{service.port}, from the beginning. The client's node picks the backend and"
        " translates, so that only it knows of the service."
    )
    _, source = _fetch(session, client.name, service)
    _expect_service(session, client.node, source, service, server.name)
    _expect_flow(session, client.node, _OUT, source, server, identity=client.identity, rev_nat=service.id)
    _expect_flow(session, server.node, _IN, source, server, identity=client.identity)
    session.show(client.node, server.node)


def clusterip_affinity(session: Session) -> None:
    service, client = session.topology.service("sticky"), session.topology.pod("pod1")
    session.report.say(
        f"Three requests to {_vip(service)}:{service.port}, three backends, session affinity {service.affinity}:"
        " the first choice holds for all."
    )
    answers = [_fetch(session, client.name, service) for _ in range(3)]
    chosen = answers[0][0].body
    session.check({answer.body for answer, _ in answers} == {chosen}, f"all three were answered by {chosen}")
    for _, source in answers:
        _expect_service(session, client.node, source, service, chosen)
    session.show(client.node)


def hairpin(session: Session) -> None:
    service, pod = session.topology.service("self"), session.topology.pod("pod1")
    loopback = "169.254.42.1"
    session.report.say(
        f"{pod.name} asks a service whose only backend is {pod.name} itself: the request comes back to it from"
        f" {loopback}, or the pod would answer itself past the datapath."
    )
    answer, source = _fetch(session, pod.name, service)
    _expect_service(session, pod.node, source, service, pod.name)
    looped = f"{loopback}:{answer.source_port}"
    for direction in (_OUT, _IN):
        _expect_flow(
            session,
            pod.node,
            direction,
            looped,
            pod,
            identity=pod.identity,
            rev_nat=service.id,
            extra=CtFlags.LBLoopback,
        )
    session.show(pod.node)


def nodeport(session: Session) -> None:
    topology, service = session.topology, session.topology.service("nodeport")
    near, far = topology.nodes
    server = topology.pod("pod3")
    session.report.say(
        f"The client asks {near.name}'s address; the backend is on {far.name}: DSR, like a load balancer's."
    )
    _, source = _fetch(session, CLIENT, service, vip=near.ip)
    _expect_service(session, near.name, source, service, server.name, vip=near.ip)
    _expect_dsr(session, far.name, source, server, f"{near.ip}:{service.port}")
    session.report.say(f"Then it asks {far.name}'s address, where the backend is.")
    _, source = _fetch(session, CLIENT, service, vip=far.ip)
    _expect_service(session, far.name, source, service, server.name, vip=far.ip)
    _expect_flow(
        session,
        far.name,
        _OUT,
        source,
        server,
        identity=WORLD,
        rev_nat=service.id,
        extra=CtFlags.NodePort,
        related=False,
    )
    _expect_flow(session, far.name, _IN, source, server, identity=WORLD)
    session.show(near.name, far.name)


def _expect_dsr(session: Session, node: str, source: str, server: Pod, vip: str) -> None:
    """What a DSR connection leaves at the backend's node: IN, OUT, the related one and the SNAT entry."""
    _expect_flow(session, node, _IN, source, server, identity=WORLD, extra=CtFlags.FromTunnel)
    _expect_flow(session, node, _OUT, source, server, identity=WORLD, extra=CtFlags.DSRInternal, related=False)
    session.expect_snat(node, f"TCP {server.ip}:{SERVE_PORT} -> {source}", vip)


def loadbalancer_dsr(session: Session) -> None:
    topology, service = session.topology, session.topology.service("lb-dsr")
    server = topology.pod("pod3")
    middle = topology.nodes[0].name
    session.report.say(
        f"The client asks {_vip(service)}:{service.port}. {middle} is the intermediate node: it picks the backend"
        f" and sends the packet on through Geneve with the address the client used. {server.node} answers the"
        f" client directly, past {middle}."
    )
    _, source = _fetch(session, CLIENT, service)
    _expect_service(session, middle, source, service, server.name)
    session.expect_none(
        middle,
        "nothing but the SERVICE entry at the intermediate node",
        lambda entry: entry.direction is not _SVC,
    )
    _expect_dsr(session, server.node, source, server, f"{_vip(service)}:{service.port}")
    session.show(middle, server.node)


def loadbalancer_local(session: Session) -> None:
    topology, service = session.topology, session.topology.service("lb-local")
    node, local = topology.nodes[0].name, topology.pod("pod2")
    session.report.say(
        f"{_vip(service)}:{service.port} has externalTrafficPolicy Local: {node}, where the packets arrive, uses"
        f" only its own backend {local.name}, and the client's address stays."
    )
    for _ in range(2):
        answer, source = _fetch(session, CLIENT, service)
        session.check(answer.body == local.name, f"answered by {local.name}")
        _expect_service(session, node, source, service, local.name)
        _expect_flow(
            session,
            node,
            _OUT,
            source,
            local,
            identity=WORLD,
            rev_nat=service.id,
            extra=CtFlags.NodePort,
            related=False,
        )
        _expect_flow(session, node, _IN, source, local, identity=WORLD)
    other = topology.nodes[1].name
    session.expect_none(other, "nothing reached the other node", lambda entry: str(entry.tuple.src) == CLIENT_IP)
    session.show(node)


def udp(session: Session) -> None:
    topology = session.topology
    dns, outside = topology.service("dns"), topology.service("lb-udp")
    client, server = topology.pod("pod1"), topology.pod("pod3")
    session.report.say(f"A datagram to the ClusterIP {_vip(dns)}:{dns.port}, answered from that address.")
    port = session.datagram(client.name, _vip(dns), dns.port).source_port
    source, target = f"{client.ip}:{port}", f"{server.ip}:{SERVE_PORT}"
    session.expect(
        client.node,
        Want(_SVC, "UDP", source, f"{_vip(dns)}:{dns.port}", rev_nat=dns.id, backend_id=backend_id(dns, "pod3")),
    )
    session.expect(client.node, Want(_OUT, "UDP", source, target, rev_nat=dns.id, timeout_s=ANY_S))
    session.expect(server.node, Want(_IN, "UDP", source, target, rev_nat=0, src_sec_id=client.identity))
    session.report.say(f"Three from outside to {_vip(outside)}:{outside.port}: DSR, with the option on each.")
    for _ in range(3):
        port = session.datagram(CLIENT, _vip(outside), outside.port).source_port
        source = f"{CLIENT_IP}:{port}"
        session.expect(topology.nodes[0].name, Want(_SVC, "UDP", source, f"{_vip(outside)}:{outside.port}"))
        dsr, tunnelled = CtFlags.DSRInternal, CtFlags.FromTunnel
        session.expect(server.node, Want(_OUT, "UDP", source, target, flags=dsr, src_sec_id=WORLD))
        session.expect(server.node, Want(_IN, "UDP", source, target, flags=tunnelled, src_sec_id=WORLD))
        session.expect_snat(server.node, f"UDP {target} -> {source}", f"{_vip(outside)}:{outside.port}")
    session.show(client.node, server.node)


def no_backend(session: Session) -> None:
    service, client = session.topology.service("empty"), session.topology.pod("pod1")
    session.report.say(
        f"{_vip(service)}:{service.port} has no backend: the datapath answers with ICMP port unreachable at once,"
        " so that the client does not wait for a timeout, and writes no entry for the connection. The error itself"
        " passes the pod's other hook, which tracks it like any packet from outside."
    )
    session.curl_refused(client.name, _vip(service), service.port)
    session.expect_none(
        client.node, "no entry for the connection", lambda entry: entry.tuple.proto == 6 or not entry.related
    )
    session.show(client.node)


def _ask(connection: socket.socket) -> str:
    """One request on an open connection; the answer's body, or what went wrong."""
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
        answer = connection.recv(4096).decode("latin-1")
    except OSError as error:
        return type(error).__name__
    return answer.rpartition("\r\n")[2].strip() or "closed"


def backend_drain(session: Session) -> None:
    topology, service = session.topology, session.topology.service("drain")
    client = topology.pod("pod1")
    vip = (_vip(service), service.port)
    session.report.say(f"{client.name} opens a connection to {vip[0]}:{vip[1]} and keeps it open.")
    with ExitStack() as stack:
        held = stack.enter_context(session.socket(client.name, socket.SOCK_STREAM))
        held.settimeout(15)
        held.connect(vip)
        first = _ask(held)
        source = f"{client.ip}:{held.getsockname()[1]}"
        pods = [backend.pod for backend in service.backends]
        session.check(first in pods, f"{first} answers")
        other = next(pod for pod in pods if pod != first)
        session.report.say(f"{first} is set to terminating.")
        session.configure(states={first: "terminating"})
        session.check(_ask(held) == first, f"the open connection stays with {first}")
        session.check(_fetch(session, client.name, service)[0].body == other, f"a new one goes to {other}")
        session.report.say(f"{first} is removed.")
        session.configure(without={first})
        after = _ask(held)
        session.check(after not in pods, f"the open connection breaks ({after}): {other} does not know it")
        session.expect(
            client.node,
            Want(_SVC, "TCP", source, f"{vip[0]}:{vip[1]}", backend_id=backend_id(service, other)),
            f"the SERVICE entry of the open connection was updated in place to {other}",
        )
        session.check(_fetch(session, client.name, service)[0].body == other, f"new ones go to {other}")
    session.show(client.node)


SERVICE_STORIES = (
    Story("clusterip", "ClusterIP: SVC and OUT at the client's node, IN at the backend's", clusterip),
    Story("clusterip-affinity", "ClusterIP with session affinity: one backend for one client", clusterip_affinity),
    Story("hairpin", "A pod reaches itself through its service", hairpin),
    Story("nodeport", "NodePort with the backend elsewhere, and on the node that was asked", nodeport),
    Story(
        "loadbalancer-dsr",
        "LoadBalancer over Geneve with direct server return: who writes what on which node",
        loadbalancer_dsr,
    ),
    Story("loadbalancer-local", "LoadBalancer with externalTrafficPolicy Local", loadbalancer_local),
    Story("udp", "UDP through a ClusterIP and through a LoadBalancer with DSR", udp, ()),
    Story("no-backend", "A service without backends refuses at once", no_backend),
    Story("backend-drain", "A backend terminates, then goes, under an open connection", backend_drain),
)

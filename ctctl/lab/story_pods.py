"""Stories between pods, without a service: what issue reports are most often about."""

from __future__ import annotations

import socket
from dataclasses import replace

from ctctl.lab.report import StoryError
from ctctl.lab.session import Session, Want
from ctctl.lab.story import Story
from ctctl.lab.topology import CLOSED_PORT, SERVE_PORT, Pod
from ctctl.model.entry import CtFlags, CtState
from ctctl.model.event import CtResult
from ctctl.model.tuples import Direction

#: A TCP connection that both sides closed.
CLOSED = CtFlags.RxClosing | CtFlags.TxClosing | CtFlags.SeenNonSyn
#: SYN, ACK, PSH and FIN: what each side of a closed HTTP connection has sent.
ALL_SEEN = 0x1B
SYN_SEEN = 0x02

TCP_FIN_S = 10
ANY_S = 60


def _expect_closed_tcp(session: Session, node: str, direction: Direction, flow: tuple[Pod, int, Pod]) -> None:
    """A TCP connection ``flow`` (client, its port, server) that ended, with its ICMP related entry."""
    client, port, server = flow
    connection = Want(
        direction,
        "TCP",
        f"{client.ip}:{port}",
        f"{server.ip}:{SERVE_PORT}",
        flags=CLOSED,
        src_sec_id=client.identity,
        rev_nat=0,
        tx_flags_seen=ALL_SEEN,
        rx_flags_seen=ALL_SEEN,
        timeout_s=TCP_FIN_S,
    )
    session.expect(
        node,
        connection,
        f"TCP {direction} {client.ip}:{port} -> {server.ip}:{SERVE_PORT}, closed by both sides, 10 s to live",
    )
    session.expect(
        node,
        related_to(connection, CtFlags(0)),
        f"ICMP {direction} related {client.ip} -> {server.ip}, written with the SYN",
    )


def related_to(connection: Want, flags: CtFlags) -> Want:
    """The ICMP related entry that was written with ``connection``'s SYN and that no error has refreshed since."""
    outgoing = connection.direction is Direction.OUT
    return replace(
        connection,
        proto="ICMP",
        src=connection.src.rpartition(":")[0] + ":0",
        dst=connection.dst.rpartition(":")[0] + ":0",
        related=True,
        flags=flags,
        tx_flags_seen=SYN_SEEN if outgoing else 0,
        rx_flags_seen=0 if outgoing else SYN_SEEN,
        timeout_s=ANY_S,
    )


def _talk(session: Session, client: Pod, server: Pod, client_node: str, server_node: str) -> None:
    """Ping, a datagram, an HTTP request: TCP last, since the related entry is one per pair of addresses."""
    session.ping(client.name, server.ip, count=2)
    datagram = session.datagram(client.name, server.ip, SERVE_PORT)
    session.check(datagram.body == f"{server.name} hello", f"the datagram was answered by {server.name}")
    answer = session.curl(client.name, server.ip, SERVE_PORT)
    session.check(answer.body == server.name, f"the HTTP request was answered by {server.name}")
    for node, direction in ((client_node, Direction.OUT), (server_node, Direction.IN)):
        _expect_closed_tcp(session, node, direction, (client, answer.source_port, server))
        flow = (f"{client.ip}:{datagram.source_port}", f"{server.ip}:{SERVE_PORT}")
        session.expect(node, Want(direction, "UDP", *flow, flags=CtFlags(0), state=CtState.NEW, timeout_s=ANY_S))
        _expect_echo(session, node, direction, client, server)


def _expect_echo(session: Session, node: str, direction: Direction, client: Pod, server: Pod) -> None:
    """Echo requests are tracked with their identifier as the source port, 0 as the destination's."""
    found = [
        entry.tuple
        for entry in session.entries(node)
        if entry.tuple.proto == 1 and not entry.related and entry.direction == direction
    ]
    if len(found) != 1:
        raise StoryError(f"{node}: expected one ICMP echo entry, there are {len(found)}")
    echo = found[0]
    right = (str(echo.src), str(echo.dst), echo.dst_port) == (client.ip, server.ip, 0) and echo.src_port
    session.check(
        bool(right), f"{node}: ICMP {direction} {echo.src}:{echo.src_port} -> {echo.dst}, the echo's identifier"
    )


def pod_to_pod(session: Session) -> None:
    client, server = session.topology.pod("pod1"), session.topology.pod("pod3")
    session.report.say(f"{client.name} on {client.node} talks to {server.name} on {server.node}, without any service.")
    _talk(session, client, server, client.node, server.node)
    session.show(client.node, server.node)


def same_node(session: Session) -> None:
    client, server = session.topology.pod("pod1"), session.topology.pod("pod2")
    session.report.say(
        f"{client.name} talks to {server.name} on the same node: one table holds both ends, OUT and IN of equal keys."
    )
    _talk(session, client, server, client.node, client.node)
    session.show(client.node)


def icmp_error(session: Session) -> None:
    topology = session.topology
    client, server = topology.pod("pod1"), topology.pod("pod3")
    session.report.say(
        f"A datagram to a port of {server.name} where nobody listens: the ICMP error finds its way back by the"
        " related entry that was written with the datagram's own."
    )
    with session.socket(client.name, socket.SOCK_DGRAM) as sock:
        sock.settimeout(15)
        sock.connect((server.ip, CLOSED_PORT))
        port = sock.getsockname()[1]
        sock.send(b"anybody there?")
        try:
            sock.recv(2048)
        except ConnectionRefusedError:
            refused = True
        except TimeoutError:
            refused = False
    session.report.command(client.name, f"datagram to {server.ip}:{CLOSED_PORT}", "refused" if refused else "silence")
    session.check(refused, "the ICMP port unreachable reached the socket")
    for node, direction in ((client.node, Direction.OUT), (server.node, Direction.IN)):
        flow = (f"{client.ip}:{port}", f"{server.ip}:{CLOSED_PORT}")
        session.expect(node, Want(direction, "UDP", *flow, src_sec_id=client.identity, timeout_s=ANY_S))
        session.expect(node, Want(direction, "ICMP", f"{client.ip}:0", f"{server.ip}:0", related=True, timeout_s=ANY_S))
    _error_through_service(session, client)
    related = [event for event in session.events() if any(r.result is CtResult.RELATED for r in event.lookups)]
    session.check(len(related) >= 4, f"{len(related)} lookups of ICMP errors answered RELATED, and skipped policy")
    session.show(client.node, server.node)


def _error_through_service(session: Session, client: Pod) -> None:
    """The same through a ClusterIP: the error must seem to come from the service's address."""
    service = session.topology.service("closed")
    assert service.ip is not None
    session.report.say(f"The same through the service {service.ip}:{service.port}, whose backend does not listen.")
    with (
        session.socket(client.name, socket.SOCK_RAW, socket.IPPROTO_ICMP) as errors,
        session.socket(client.name, socket.SOCK_DGRAM) as sock,
    ):
        errors.settimeout(15)
        sock.sendto(b"anybody there?", (service.ip, service.port))
        try:
            packet, sender = errors.recvfrom(2048)
        except TimeoutError:
            raise StoryError(f"{client.name}: no ICMP error for a datagram to {service.ip}:{service.port}") from None
    kind, code = packet[20], packet[21]
    session.report.command(
        client.name, f"datagram to {service.ip}:{service.port}", f"ICMP type {kind} code {code} from {sender[0]}"
    )
    session.check((kind, code) == (3, 3), "it is a port unreachable")
    session.check(sender[0] == service.ip, f"it comes from the service's address {service.ip}, not the backend's")


POD_STORIES = (
    Story(
        "pod-to-pod",
        "TCP, UDP and ICMP between pods on two nodes: OUT at the client's, IN at the server's",
        pod_to_pod,
        ("curl", "ping"),
    ),
    Story(
        "same-node", "TCP, UDP and ICMP between pods on one node: OUT and IN in one table", same_node, ("curl", "ping")
    ),
    Story("icmp-error", "Port unreachable, directly and through a service: the related entries", icmp_error, ()),
)

"""A made-up packet, or a whole conversation, through the datapath's own programs on private maps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ctctl.config.node import NodeFile
from ctctl.config.service import check_services
from ctctl.errors import NotFoundError, UsageError
from ctctl.kernel.cpus import one_cpu
from ctctl.model.event import Why
from ctctl.model.units import counted
from ctctl.packet.dissect import dissect
from ctctl.packet.frame import build_frame
from ctctl.packet.spec import (
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PacketSpec,
    TcpFlags,
)
from ctctl.simulate.changes import RuleChange, check_pods, fill_up, with_rules, with_settings
from ctctl.simulate.journey import Arrival, Cluster, Hop, Outcome, Place, with_ifindexes
from ctctl.simulate.scenario import StepRecord
from ctctl.simulate.scenario_changes import collect_garbage
from ctctl.simulate.scenario_file import PacketStep, Step
from ctctl.simulate.simulator import StepResult
from ctctl.simulate.sockets import begin
from ctctl.simulate.whatif import EntryChange, StartTable, apply_changes, fill

#: entries that the tables of a simulation hold without evicting any
_SMALL_TABLE = 8192
_SYN, _SYN_ACK = TcpFlags.SYN, TcpFlags.SYN | TcpFlags.ACK
_CHOSEN = Why.BACKEND_MAGLEV | Why.BACKEND_RANDOM
#: (protocol, type) of an echo request → the type that answers it
_ECHO_ANSWERS: dict[tuple[int, int | None], int] = {
    (PROTO_ICMP, ICMP_ECHO_REQUEST): ICMP_ECHO_REPLY,
    (PROTO_ICMPV6, ICMPV6_ECHO_REQUEST): ICMPV6_ECHO_REPLY,
}
_ACK, _FIN_ACK = TcpFlags.ACK, TcpFlags.FIN | TcpFlags.ACK


@dataclass(frozen=True, slots=True)
class Request:
    """What to simulate.

    ``start`` are conntrack and SNAT tables to begin with, by node (None: the only node).
    ``at_s`` moves the clock before the first packet. ``via`` names the node that traffic from
    outside comes to. ``collect`` runs GC before the first packet, ``full`` fills its tables. ``one_of`` are
    the backends of a service (by rev-NAT id and IP version) whose choice for a new connection is not known.
    """

    packet: PacketSpec
    nodes: tuple[NodeFile, ...]
    via: str | None = None
    reply: bool = False
    handshake: bool = False
    close: bool = False
    at_s: int = 0
    now: int | None = None
    changes: tuple[EntryChange, ...] = ()
    without_backends: tuple[int, ...] = ()
    start: tuple[StartTable, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[RuleChange, ...] = ()
    collect: bool = False
    full: bool = False
    one_of: Mapping[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One packet of a conversation: whose it is, and its TCP flags (None: as given)."""

    from_client: bool
    flags: int | None = None

    def flags_of(self, packet: PacketSpec) -> int:
        """The packet's TCP flags in this turn."""
        given = packet.tcp_flags if self.flags is None else self.flags
        return _SYN if given is None else given

    @property
    def sender(self) -> str:
        """client or server."""
        return "client" if self.from_client else "server"


@dataclass(frozen=True, slots=True)
class Journey:
    """One packet's end: which of the conversation it was, from where, and how it ended.

    ``one_of``: its connection is new and could as well go to any other of these backends.
    """

    number: int
    sender: str
    origin: Place
    arrival: Arrival
    one_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a what-if changed before the first packet, in words."""

    words: str


@dataclass(slots=True)
class _Talk:
    """The state of a conversation: where its two ends are, and what the server sees of the client."""

    client: Place
    packet: PacketSpec
    server: Place | None = None
    #: the client's last packet as the server got it
    seen: PacketSpec | None = None
    sequence: dict[bool, int] = field(default_factory=lambda: {True: 1000, False: 5000})


def turns(packet: PacketSpec, *, reply: bool, handshake: bool, close: bool) -> list[Turn]:
    """The packets of a conversation in order. Raises UsageError where TCP is needed and it is not TCP."""
    if (handshake or close) and packet.proto != PROTO_TCP:
        raise UsageError("--handshake and --close are for TCP")
    flags = _SYN if packet.tcp_flags is None else packet.tcp_flags
    sequence: list[Turn] = []
    if handshake:
        sequence += [Turn(True, _SYN), Turn(False, _SYN_ACK), Turn(True, _ACK)]
    # The handshake's own SYN is the packet, unless another one was asked for.
    if not handshake or not flags & TcpFlags.SYN:
        sequence.append(Turn(True))
        if reply:
            sequence.append(Turn(False, _answer(flags) if packet.proto == PROTO_TCP else None))
    if close:
        sequence += [Turn(True, _FIN_ACK), Turn(False, _FIN_ACK), Turn(True, _ACK)]
    return sequence


def _answer(flags: int) -> int:
    """What a receiver answers: SYN-ACK, FIN-ACK, data to data, else an ACK."""
    if flags & TcpFlags.SYN:
        return _SYN_ACK
    return _FIN_ACK if flags & TcpFlags.FIN else flags & TcpFlags.PSH | _ACK


def run(request: Request) -> Iterator[StepRecord | Journey | Prepared]:
    """Run the conversation: a StepRecord for every hook a packet meets, then the packet's Journey.

    What is done to the tables before the first packet comes as Prepared.

    It ends early when a packet does not arrive. With tables to start from, records show the entries
    that the conversation met or made. Raises UsageError, NotFoundError, UnsupportedError, KernelError.
    """
    files = tuple(without_backends(with_ifindexes(nf), request.without_backends) for nf in request.nodes)
    files = tuple(with_rules(with_settings(nf, request.settings), request.rules) for nf in files)
    _check_removed(request)
    check_pods(files, request.rules)
    large = request.full or any(len(table.records) > _SMALL_TABLE for table in request.start)
    with contextlib.ExitStack() as stack:
        if request.full:
            stack.enter_context(one_cpu())
        shown = bool(request.start) or request.full
        cluster = stack.enter_context(Cluster.of(files, request.now, full_size=large, only_touched=shown))
        fill(cluster, request.start)
        apply_changes(cluster, request.changes)
        yield from _prepared(cluster, request)
        yield from converse(cluster, request)


def _prepared(cluster: Cluster, request: Request) -> Iterator[Prepared]:
    for name, simulator in cluster.nodes.items():
        if request.collect:
            # Late, as GC is: after the time that the packet comes after.
            simulator.advance(request.at_s)
            gone = collect_garbage(simulator)
            simulator.advance(-request.at_s)
            yield Prepared(f"{name}: GC removed {counted(gone, 'entry', 'entries')}")
        if request.full:
            evicted = fill_up(simulator, request.packet.dst.version, request.packet.proto)
            lost = ", ".join(f"{table} ({number} of its own entries gone)" for table, number in evicted.items())
            yield Prepared(f"{name}: filled to the last place: {lost}")


def converse(cluster: Cluster, request: Request) -> Iterator[StepRecord | Journey | Prepared]:
    """The same on a cluster that is there already, with the tables as earlier conversations left them."""
    sequence = turns(request.packet, reply=request.reply, handshake=request.handshake, close=request.close)
    cluster.advance(request.at_s)
    client = cluster.origin(request.packet.src, request.packet.dst, request.via)
    talk = _Talk(client, request.packet)
    call = begin(cluster, client, request.packet, sequence[0].flags_of(request.packet))
    if call.words is not None:
        yield Prepared(call.words)
    if call.hop is not None:
        yield _record(1, call.hop, sequence[0], request.packet)
    if call.packet is None:
        assert call.hop is not None
        refused = call.hop.result
        yield Journey(1, "client", client, Arrival(Outcome.REFUSED, client, refused.frame, refused.reason))
        return
    talk.packet, number = call.packet, int(call.hop is not None)
    if cluster.speaks_to_itself(client, talk.packet.dst) is not None:
        yield Prepared(f"{client} speaks to itself: its packets meet no hook")
    for index, turn in enumerate(sequence, 1):
        origin, spec = _packet(talk, turn)
        one_of = call.one_of if index == 1 else ()
        for part in cluster.send(build_frame(spec), origin):
            if isinstance(part, Hop):
                number += 1
                one_of = one_of or _unknown_choice(part.result, request)
                yield _record(number, part, turn, spec)
                continue
            yield Journey(index, turn.sender, origin, part, one_of)
            if not _remember(talk, turn, part):
                return


def _unknown_choice(result: StepResult, request: Request) -> tuple[str, ...]:
    """The backends of which a hook has just chosen one, where the node itself might choose another."""
    for event in result.events:
        if event.rev_nat is not None and any(lookup.why & _CHOSEN for lookup in event.lookups):
            return request.one_of.get((event.rev_nat, event.tuple_in.dst.version), ())
    return ()


def _packet(talk: _Talk, turn: Turn) -> tuple[Place, PacketSpec]:
    """Where the turn's packet starts, and the packet."""
    sent = talk.sequence
    if turn.from_client:
        spec = talk.packet if turn.flags is None else replace(talk.packet, tcp_flags=turn.flags, length=None)
        origin = talk.client
    else:
        assert talk.server is not None
        assert talk.seen is not None
        spec, origin = _reply(talk.seen, turn.flags), talk.server
    if spec.proto == PROTO_TCP and spec.seq is None:
        mine, theirs = sent[turn.from_client], sent[not turn.from_client]
        acknowledged = theirs if (spec.tcp_flags or 0) & TcpFlags.ACK else 0
        spec = replace(spec, seq=mine, ack=acknowledged)
        syn_or_fin = (spec.tcp_flags if spec.tcp_flags is not None else _SYN) & (TcpFlags.SYN | TcpFlags.FIN)
        sent[turn.from_client] += (spec.length or 0) + bool(syn_or_fin)
    return origin, spec


def _reply(seen: PacketSpec, flags: int | None) -> PacketSpec:
    icmp_type = _ECHO_ANSWERS.get((seen.proto, seen.icmp_type), seen.icmp_type)
    return PacketSpec(
        seen.proto,
        seen.dst,
        seen.src,
        src_port=seen.dst_port,
        dst_port=seen.src_port,
        tcp_flags=flags,
        ident=seen.ident,
        icmp_type=icmp_type,
        length=seen.length if seen.proto not in (PROTO_TCP, PROTO_ICMP, PROTO_ICMPV6) else None,
    )


def _remember(talk: _Talk, turn: Turn, arrival: Arrival) -> bool:
    """Note who answers; False when the conversation cannot go on."""
    if arrival.outcome not in (Outcome.DELIVERED, Outcome.LEFT, Outcome.AWAY):
        return False
    if arrival.outcome is Outcome.AWAY and arrival.encapsulated:
        return False
    if turn.from_client:
        packet = dissect(arrival.frame)
        if packet.src is None or packet.dst is None:
            return False
        talk.server = arrival.place
        talk.seen = PacketSpec(
            packet.proto,
            packet.src,
            packet.dst,
            src_port=packet.src_port or 0,
            dst_port=packet.dst_port or 0,
            ident=packet.ident,
            icmp_type=packet.icmp_type,
            length=packet.length,
        )
    return True


def _record(number: int, hop: Hop, turn: Turn, spec: PacketSpec) -> StepRecord:
    step = Step(number, 0, f"{hop.node}: packet of the {turn.sender}", 0, None)
    return StepRecord(PacketStep(step, hop.result.hook, None, spec), hop.now, hop.tables, hop.result)


def without_backends(nf: NodeFile, gone: tuple[int, ...]) -> NodeFile:
    """The node file with these backends taken out of every service."""
    services = tuple(replace(s, backends=tuple(b for b in s.backends if b.id not in gone)) for s in nf.services)
    check_services(services, nf.path)
    return replace(nf, services=services)


def _check_removed(request: Request) -> None:
    known = {backend.id for nf in request.nodes for service in nf.services for backend in service.backends}
    for number in request.without_backends:
        if number not in known:
            listed = ", ".join(map(str, sorted(known))) or "none"
            raise NotFoundError(f"no service has a backend {number}; backends: {listed}")

"""Workloads from what was seen: a table (live or a dump), or a packet capture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctctl.doctor.facts import TableFacts
from ctctl.errors import CtctlError, DecodeError
from ctctl.packet.capture import ethernet_frame, read_capture
from ctctl.packet.dissect import dissect
from ctctl.predict.model import Duration, Kind, Pattern, Shape, TimeoutPolicy
from ctctl.predict.workload import empirical
from ctctl.tables.sources.base import Source

#: A connection whose last packet is older than this counts as lost, not as open.
QUIET_S = 300.0
#: Fewer than this many entries of a sort say nothing about a rate.
_FEW = 3


def kinds_of_source(source: Source, timeouts: TimeoutPolicy) -> tuple[Kind, ...]:
    """Kinds of connections that would leave the tables as they are, by Little's law.

    What is closed and not expired ended within the FIN timeout, what never got an answer began within
    the SYN timeout, and so on: counts over timeouts are rates; open connections over their rate the
    mean duration. Raises CtctlError where the time of the dump is unknown or nothing is alive.
    """
    kinds: list[Kind] = []
    for table in source.tables:
        facts = TableFacts(table)
        if facts.now is None:
            raise CtctlError(f"{table.name}: the time of the dump is unknown, so no rate can be told: give --now")
        kinds += _kinds_of_table(facts, timeouts)
    if not kinds:
        raise CtctlError(f"{source.description}: nothing alive to learn a workload from")
    return tuple(kinds)


def _kinds_of_table(table: TableFacts, timeouts: TimeoutPolicy) -> Iterator[Kind]:
    v6 = float(table.family == 6)
    for mask, pattern, long, plain in (
        (table.flow, Pattern.POD, timeouts.regular_tcp, timeouts.regular_any),
        (table.service, Pattern.LB_REMOTE, timeouts.service_tcp, timeouts.service_any),
    ):
        alive = mask & table.alive
        tcp, other = alive & table.tcp, alive & ~table.tcp
        if int(other.sum()) >= _FEW:
            # How long others last cannot be told from one look; short ones are what tables are full of.
            rate = int(other.sum()) / plain
            yield Kind(f"{table.name} {pattern} other", "udp", rate, Duration(Shape.CONSTANT, 0.0), pattern, ipv6=v6)
        if int(tcp.sum()) >= _FEW:
            yield _tcp_kind(table, tcp, pattern, long, timeouts)


def _tcp_kind(table: TableFacts, tcp: np.ndarray, pattern: Pattern, long: float, timeouts: TimeoutPolicy) -> Kind:
    closed = int((tcp & table.closed).sum()) / timeouts.regular_tcp_fin
    new = tcp & ~table.seen_non_syn & ~table.closed
    unanswered = int(new.sum()) / timeouts.regular_tcp_syn
    open_ = tcp & table.seen_non_syn & ~table.closed
    quiet = open_ & (table.left < long - QUIET_S)
    lost = int(quiet.sum()) / max(1.0, long - QUIET_S)
    ended = max(closed + lost, 1e-6)
    rate = ended + unanswered
    mean = (int(open_.sum()) - int(quiet.sum())) / ended
    return Kind(
        f"{table.name} {pattern} tcp",
        "tcp",
        rate,
        Duration(Shape.EXPONENTIAL, mean) if mean > 0 else Duration(Shape.CONSTANT, 0.0),
        pattern,
        lost=lost / ended,
        unanswered=unanswered / rate,
        ipv6=float(table.family == 6),
    )


@dataclass(slots=True)
class _Flow:
    first_s: float
    last_s: float
    answered: bool = False
    closing: int = 0


def kinds_of_capture(path: Path) -> tuple[Kind, ...]:
    """Kinds of connections in a pcap or pcapng file, with the durations seen.

    Raises DecodeError for a file that is no capture or has no connection in it.
    """
    flows: dict[tuple[int, object, int, object, int], _Flow] = {}
    data = path.read_bytes()
    for time_ns, offset, length, _wire, link_type in read_capture(data, str(path)):
        frame = ethernet_frame(data[offset : offset + length], link_type)
        if frame is not None:
            _take(flows, frame, time_ns / 1e9)
    if not flows:
        raise DecodeError(f"{path}: no TCP or UDP connection in it")
    first, last = min(f.first_s for f in flows.values()), max(f.last_s for f in flows.values())
    span = max(last - first, 1e-3)
    kinds = []
    for proto, name in ((6, "tcp"), (17, "udp")):
        for version in (4, 6):
            mine = {key: flow for key, flow in flows.items() if key[0] == proto and _version(key) == version}
            if mine:
                kinds.append(_kind_of_flows(name, version, mine, span, str(path)))
    return tuple(kinds)


def _version(key: tuple[int, object, int, object, int]) -> int:
    return int(getattr(key[1], "version", 4))


def _take(flows: dict[tuple[int, object, int, object, int], _Flow], frame: bytes, at: float) -> None:
    packet = dissect(frame)
    if packet.proto not in (6, 17) or packet.src is None or packet.dst is None or packet.src_port is None:
        return
    key = (packet.proto, packet.src, packet.src_port, packet.dst, packet.dst_port or 0)
    reverse = (packet.proto, packet.dst, packet.dst_port or 0, packet.src, packet.src_port)
    if reverse in flows:
        flow = flows[reverse]
        flow.answered = True
    else:
        flow = flows.setdefault(key, _Flow(at, at))
    flow.last_s = max(flow.last_s, at)
    flags = packet.tcp_flags or 0
    if flags & 0x04:
        flow.closing = 2
    elif flags & 0x01:
        flow.closing += 1


def _kind_of_flows(
    name: str, version: int, flows: dict[tuple[int, object, int, object, int], _Flow], span: float, where: str
) -> Kind:
    answered = [flow for flow in flows.values() if flow.answered]
    lost = sum(flow.closing < 2 for flow in answered) if name == "tcp" else 0
    durations = (flow.last_s - flow.first_s for flow in answered)
    return Kind(
        f"{name} in {Path(where).name}" + (" (IPv6)" if version == 6 else ""),
        name,
        len(flows) / span,
        empirical(durations, where) if answered else Duration(Shape.CONSTANT, 0.0),
        lost=lost / len(answered) if answered else 0.0,
        unanswered=1 - len(answered) / len(flows),
        pairs=float(len({(key[1], key[3]) for key in flows})),
        ipv6=float(version == 6),
    )

"""Workloads from what was seen: a table (live or a dump), or a packet capture."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ctctl.doctor.table import TableFacts
from ctctl.errors import CtctlError, DecodeError, PartialDataError
from ctctl.model.timeouts import Timeouts
from ctctl.model.units import counted, format_duration
from ctctl.packet.capture import ethernet_frame, read_capture
from ctctl.packet.cooked import Sightings, sighting, without_tunnel
from ctctl.packet.dissect import dissect
from ctctl.predict.model import MODELLED_TIMEOUTS, Duration, Kind, Pattern, Shape
from ctctl.predict.workload import empirical
from ctctl.tables.sources.base import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A connection whose last packet is older than this counts as lost, not as open.
QUIET_S = 300.0
#: Fewer than this many entries of a sort say nothing about a rate.
_FEW = 3
#: The distance from report to lifetime that so many entries stay below is noise (a timeout that was changed).
_LEAST = 0.05
#: Idle entries are taken in so many groups of like time left.
_GROUPS = 16


@dataclass(frozen=True, slots=True)
class Observed:
    """What tables tell of their workload: kinds of connections, the timeouts they were written with, and by
    table how many entries are alive and how large it is (None: unknown)."""

    kinds: tuple[Kind, ...]
    timeouts: Timeouts
    alive: dict[str, int]
    sizes: dict[str, int | None]


def observe(source: Source, timeouts: Timeouts, given: Collection[str] = ()) -> Observed:
    """Kinds of connections that would leave the tables as they are, by Little's law.

    What is closed and not expired ended within the FIN timeout, what never got an answer began within
    the SYN timeout, and so on: counts over timeouts are rates; open connections over their rate the
    mean duration. Where none has ended, none is expected to. The timeouts are those ``given`` (names), else
    what the node says, else what the entries were written with, else ``timeouts``. Raises CtctlError where the
    time of the dump is unknown or nothing is alive.
    """
    tables = [TableFacts(table) for table in source.tables]
    for table in tables:
        if table.now is None:
            raise CtctlError(f"{table.name}: the time of the dump is unknown, so no rate can be told: give --now")
    nodes: list[str | None] = [*source.nodes()] or [None]
    told = {name: float(fact.value) for node in nodes for name, fact in source.facts(node).timeouts_s.items()}
    known = set(MODELLED_TIMEOUTS)
    learned = {**learned_timeouts(tables), **{name: value for name, value in told.items() if name in known}}
    policy = replace(timeouts, **{name: value for name, value in learned.items() if name not in given})
    policy = _lengthened(policy, tables, {*given, *learned})
    kinds = [kind for table in tables for kind in _kinds_of_table(table, policy)]
    alive: dict[str, int] = {}
    sizes: dict[str, int | None] = {}
    for table in tables:
        # Of several nodes the fullest counts: all have tables of one size.
        alive[table.name] = max(alive.get(table.name, 0), int(table.alive.sum()))
        sizes[table.name] = table.max_entries or sizes.get(table.name)
    if not kinds:
        count = sum(alive.values())
        few = f"{counted(count, 'entry is', 'entries are')} alive, too few of a sort" if count else "nothing alive"
        raise CtctlError(f"{source.description}: {few} to learn a workload from")
    return Observed(tuple(kinds), policy, alive, sizes)


def learned_timeouts(tables: Sequence[TableFacts]) -> dict[str, float]:
    """Timeouts that entries were written with: a packet sets the lifetime to its time and the timeout.

    Reports are as late as the report interval, so the least distance counts.
    """
    found: dict[str, list[Any]] = {}
    for table in tables:
        for name, mask in _by_timeout(table):
            distance = table.timeouts[mask & (table.reports > 0)]
            found.setdefault(name, []).append(distance[distance > 0])
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    return {
        name: float(np.quantile(distances, _LEAST, method="lower"))
        for name, distances in joined.items()
        if len(distances) >= _FEW
    }


def _lengthened(policy: Timeouts, tables: Sequence[TableFacts], fixed: Collection[str]) -> Timeouts:
    """The policy with no timeout shorter than the time that an entry has left of it, but for the ``fixed`` ones."""
    longest: dict[str, float] = {}
    for table in tables:
        for name, mask in _by_timeout(table):
            if name not in fixed and mask.any():
                longest[name] = max(longest.get(name, getattr(policy, name)), float(table.left[mask].max()))
    return replace(policy, **longest)


def _by_timeout(table: TableFacts) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The entries whose lifetime each timeout set (docs/reference/datapath.md, refresh and close)."""
    tcp, service, related = table.tcp, table.service, table.related
    open_ = table.seen_non_syn & (table.closing == 0)
    yield "regular_tcp", tcp & open_ & ~service & ~related
    yield "service_tcp", tcp & open_ & service
    yield "regular_tcp_syn", tcp & ~table.seen_non_syn & (table.closing == 0) & ~related
    yield "regular_tcp_fin", tcp & table.closed & ~service
    yield "regular_any", ~tcp & ~service & ~related
    yield "service_any", ~tcp & service


def _kinds_of_table(table: TableFacts, timeouts: Timeouts) -> Iterator[Kind]:
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


def _tcp_kind(table: TableFacts, tcp: np.ndarray, pattern: Pattern, long: float, timeouts: Timeouts) -> Kind:
    closed = int((tcp & table.closed).sum()) / timeouts.regular_tcp_fin
    new = tcp & ~table.seen_non_syn & ~table.closed
    unanswered = int(new.sum()) / timeouts.regular_tcp_syn
    open_ = tcp & table.seen_non_syn & ~table.closed
    quiet = open_ & (table.left < long - QUIET_S)
    lost = int(quiet.sum()) / max(1.0, long - QUIET_S)
    ended, busy = closed + lost, int(open_.sum()) - int(quiet.sum())
    mean = busy / ended if ended else math.inf
    rate = ended + unanswered
    return Kind(
        f"{table.name} {pattern} tcp",
        "tcp",
        rate,
        Duration(Shape.EXPONENTIAL, mean) if mean > 0 else Duration(Shape.CONSTANT, 0.0),
        pattern,
        lost=lost / ended if ended else 0.0,
        unanswered=unanswered / rate if rate else 0.0,
        ipv6=float(table.family == 6),
        open=float(busy),
        idle=_left(table.left[quiet]),
    )


def _left(left: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Times left, in a few groups of like ones: (seconds, how many)."""
    groups = [group for group in np.array_split(np.sort(left), _GROUPS) if len(group)]
    return tuple((float(group.mean()), float(len(group))) for group in groups)


@dataclass(slots=True)
class _Flow:
    first_s: float
    last_s: float
    answered: bool = False
    closing: int = 0


#: Fewer connections, or a shorter time, tell no rate that hours can be predicted by.
_FEW_CONNECTIONS, _SHORT_S = 30, 10.0


class Captured(NamedTuple):
    """Kinds of connections in a capture; how many connections of how long a time they are of."""

    kinds: tuple[Kind, ...]
    connections: int
    span_s: float

    @property
    def doubt(self) -> str | None:
        """Why the rates are little to go by, None where they are not."""
        if self.connections >= _FEW_CONNECTIONS and self.span_s >= _SHORT_S:
            return None
        return f"{counted(self.connections, 'connection')} in {format_duration(self.span_s)}: no rate for hours"


def kinds_of_capture(path: Path) -> Captured:
    """Kinds of connections in a pcap or pcapng file, with the durations seen; those in tunnels, not the tunnels.

    Raises DecodeError for a file that is no capture or has no connection in it.
    """
    flows: dict[tuple[int, object, int, object, int], _Flow] = {}
    data = path.read_bytes()
    seen = Sightings()
    with contextlib.suppress(PartialDataError):  # what is missing at its end changes no rate
        for time_ns, offset, length, _wire, link_type in read_capture(data, str(path)):
            packet = data[offset : offset + length]
            frame = ethernet_frame(packet, link_type)
            where = sighting(packet, link_type)
            frame = None if frame is None else without_tunnel(frame) or frame
            if frame is not None and not (where is not None and seen.again(frame[14:], where, time_ns)):
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
    return Captured(tuple(kinds), len(flows), last - first)


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

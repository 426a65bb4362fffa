"""Simulated against real: the next packet of every connection that a captured node's tables hold.

What must come of it is worked out here from the captured tables alone: which entries Cilium made for the
connection, and to which addresses they translate. ``compare`` sends the packets through the simulation and
says for each what differs. Run in a captured node (tests/support/captures) it prints them as JSON; by itself

    sudo .venv/bin/python -m tests.support.agreement     # docs/reference/agreement.md
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ctctl.abi import pins
from ctctl.decode.ct import decode_entry
from ctctl.errors import UnsupportedError
from ctctl.model.entry import CtEntry, CtFlags
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import TCP, Direction, FlowTuple
from ctctl.packet.describe import describe_frame
from ctctl.packet.dissect import dissect
from ctctl.packet.frame import build_frame
from ctctl.packet.geneve import strip_geneve
from ctctl.packet.spec import PacketSpec, TcpFlags
from ctctl.simulate.carry import Carried
from ctctl.simulate.journey import Arrival, Cluster, with_ifindexes
from ctctl.simulate.limits import check, turns
from ctctl.simulate.sockets import begin, with_sockets
from ctctl.simulate.start import carried_node
from ctctl.simulate.whatif import fill
from ctctl.tables.open import open_source
from tests.support.wait import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "agreement.md"
_ICMP = {1: (8, 0), 58: (128, 129)}


@dataclass(frozen=True)
class Expected:
    """The next packet of a connection: what it is, how it leaves, and the entries it meets."""

    what: str
    packet: PacketSpec
    leaves: FlowTuple
    ct: frozenset[bytes]


class Tables:
    """A captured node's tables, looked up as Cilium would."""

    def __init__(self, carried: Carried) -> None:
        self.carried = carried
        records = {table.name: table.records for table in carried.tables}
        self.entries = [decode_entry(key, value) for name in pins.CT_TABLES for key, value in records.get(name, ())]
        self.by_tuple = {(e.tuple, e.direction, e.related): e for e in self.entries}
        self.nat: dict[tuple[FlowTuple, Direction], NatEntry] = {
            (e.tuple, e.direction): e for e in carried.listings.nat
        }
        self.backends = {(b.backend_id, b.addr.version): b for b in carried.listings.backends}
        self.rev_nats = {(r.rev_nat, r.addr.version): r for r in carried.listings.rev_nats}
        records_of = carried.listings.endpoints
        self.pods = {r.addr for r in records_of if not r.flags & 1}
        self.hosts = {r.addr for r in records_of if r.flags & 1}

    def kept(self, flow: FlowTuple, *directions: Direction) -> frozenset[bytes]:
        """The keys of a flow's entries in these directions."""
        found = (self.by_tuple.get((flow, direction, False)) for direction in directions)
        return frozenset(e.key for e in found if e is not None and e.key is not None)


def reverse(flow: FlowTuple) -> FlowTuple:
    """The other way."""
    return FlowTuple(flow.proto, flow.dst, flow.dst_port, flow.src, flow.src_port)


def packets(tables: Tables) -> Iterator[Expected]:
    """The next packet in both directions of every connection."""
    for entry in tables.entries:
        if entry.related or entry.tuple.dst.is_multicast or entry.tuple.src.is_unspecified:
            continue
        if entry.direction is Direction.SVC:
            yield from _to_service(tables, entry)
        elif entry.direction is Direction.OUT:
            if not entry.rev_nat and not entry.flags & (CtFlags.DSRInternal | CtFlags.NodePort):
                yield _forward(tables, entry)
            yield from _reply(tables, entry)
        elif entry.tuple.src not in tables.pods and (entry.tuple, Direction.OUT, False) not in tables.by_tuple:
            yield _inward(tables, entry)


def _to_service(tables: Tables, entry: CtEntry) -> Iterator[Expected]:
    backend = tables.backends.get((entry.backend_id or 0, entry.tuple.dst.version))
    if backend is None or backend.port is None:
        return
    flow = replace(entry.tuple, dst=backend.addr, dst_port=backend.port)
    keys = frozenset([entry.key or b""]) | tables.kept(flow, Direction.OUT, Direction.IN)
    nat = tables.nat.get((flow, Direction.OUT))
    leaves = (
        flow if nat is None or backend.addr in tables.pods else replace(flow, src=nat.to_addr, src_port=nat.to_port)
    )
    yield Expected("to a service", _packet(entry.tuple), leaves, keys)


def _forward(tables: Tables, entry: CtEntry) -> Expected:
    flow = entry.tuple
    nat = tables.nat.get((flow, Direction.OUT))
    leaves = flow if nat is None else replace(flow, src=nat.to_addr, src_port=nat.to_port)
    what = "of the node itself" if flow.src in tables.hosts else "forward"
    return Expected(what, _packet(flow), leaves, tables.kept(flow, Direction.OUT, Direction.IN))


def _inward(tables: Tables, entry: CtEntry) -> Expected:
    return Expected("inward", _packet(entry.tuple), entry.tuple, tables.kept(entry.tuple, Direction.IN))


def _reply(tables: Tables, entry: CtEntry) -> Iterator[Expected]:
    flow, back = entry.tuple, reverse(entry.tuple)
    nat = tables.nat.get((flow, Direction.OUT))
    arrives = back if nat is None else replace(back, dst=nat.to_addr, dst_port=nat.to_port)
    leaves = back
    if entry.rev_nat:
        service = tables.rev_nats.get((entry.rev_nat, flow.src.version))
        if service is None:
            return
        leaves = replace(back, src=service.addr, src_port=service.port)
    elif entry.flags & CtFlags.DSRInternal and entry.nat_addr:
        leaves = replace(back, src=ip_address(entry.nat_addr), src_port=entry.nat_port or 0)
    keys = tables.kept(flow, Direction.OUT, *((Direction.IN,) if flow.dst in tables.pods else ()))
    what = "reply of a service" if entry.rev_nat else "reply"
    yield Expected(what, _packet(arrives, reply=True), leaves, keys)


def _packet(flow: FlowTuple, *, reply: bool = False) -> PacketSpec:
    if flow.proto in _ICMP:
        ident = flow.dst_port if reply else flow.src_port
        return PacketSpec(flow.proto, flow.src, flow.dst, ident=ident, icmp_type=_ICMP[flow.proto][reply])
    flags = TcpFlags.ACK if flow.proto == TCP else None
    return PacketSpec(
        flow.proto, flow.src, flow.dst, src_port=flow.src_port, dst_port=flow.dst_port, tcp_flags=flags, seq=1, ack=1
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one packet: ``agrees``, or in words what differs, or why it cannot be simulated."""

    capture: str
    what: str
    packet: str
    agrees: bool
    words: str = ""
    refused: bool = False


def compare(capture: str) -> Iterator[Outcome]:
    """Every packet of the node whose tables are pinned here. Raises CtctlError."""
    with open_source("auto") as source:
        for proto in (6, 17, 1, 58):
            known = packets(Tables(carried_node(source, None, proto, {}, ())))
            wanted = [one for one in known if one.packet.proto == proto]
            carried = carried_node(source, None, proto, {}, [one.packet for one in wanted])
            # Together so many packets of one connection, each from the tables as captured.
            file = with_sockets(carried.file)  # asked about packets of connections that begin with a call only
            with Cluster.of((with_ifindexes(file),), _moment(carried)) as cluster:
                fill(cluster, carried.tables)
                for expected in wanted:
                    yield _compared(capture, carried, cluster, expected)


def _moment(carried: Carried) -> int:
    """When the packets are sent: late enough after the newest report that whatever a packet meets changes by it.

    A machine that booted after the capture was made has an earlier clock than its entries, and at the capture's
    own last second an entry has the lifetime already that a packet would give it.
    """
    reports = [max(e.last_tx_report, e.last_rx_report) for e in Tables(carried).entries]
    return max([carried.now or 0, *reports]) + 2 * carried.file.datapath.ct.report_interval


def _compared(capture: str, carried: Carried, cluster: Cluster, expected: Expected) -> Outcome:
    packet = expected.packet
    text = describe_frame(build_frame(packet)).split(" seq ")[0]
    about = (capture, expected.what, text)
    client = cluster.origin(packet.src, packet.dst)
    try:
        check(carried, packet)
        call = begin(cluster, client, packet, packet.tcp_flags or 0) if turns(carried, packet) else None
    except UnsupportedError as error:
        return Outcome(*about, agrees=False, words=str(error).partition(": ")[2], refused=True)
    before, differ = _state(cluster), []
    arrival: Arrival | None = None
    met: set[bytes] = set()
    packet = packet if call is None or call.packet is None else call.packet
    for part in cluster.send(build_frame(packet), client):
        if isinstance(part, Arrival):
            arrival = part
    after = _state(cluster)
    assert arrival is not None
    stripped = strip_geneve(arrival.frame)
    frame = arrival.frame if stripped is None else stripped[1]
    out = dissect(frame)
    left = (out.src, out.src_port or 0, out.dst, out.dst_port or 0)
    wanted = expected.leaves
    if arrival.reason:
        differ.append(f"dropped: {arrival.reason}")
    elif packet.proto in _ICMP:
        if (out.src, out.dst, out.ident) != (wanted.src, wanted.dst, wanted.src_port or wanted.dst_port):
            differ.append(f"left as {describe_frame(frame)}")
    elif left != (wanted.src, wanted.src_port, wanted.dst, wanted.dst_port):
        differ.append(f"left as {describe_frame(frame)}, not as {wanted}")
    met = {key for name, rows in after.items() for key, value in rows.items() if before[name].get(key) != value}
    for name, rows in after.items():
        for key in rows.keys() - before[name].keys():
            differ.append(f"made {_words(name, key, rows[key])}")
        for key in before[name].keys() - rows.keys():
            differ.append(f"removed {_words(name, key, before[name][key])}")
    strange = met - expected.ct - {key for name in after for key in after[name].keys() - before[name].keys()}
    touched = [
        _words(name, key, after[name][key]) for name in pins.CT_TABLES for key in strange if key in after.get(name, {})
    ]
    differ += [f"touched {one}" for one in touched]
    missed = [key for key in expected.ct if key not in met and not _dead(before, key)]
    differ += [f"did not meet {_found(before, key)}" for key in missed]
    return Outcome(*about, agrees=not differ, words="; ".join(differ))


def _dead(state: dict[str, dict[bytes, bytes]], key: bytes) -> bool:
    """A closed entry is met and left as it is."""
    closing = CtFlags.RxClosing | CtFlags.TxClosing
    return any(decode_entry(key, rows[key]).flags & closing for rows in state.values() if key in rows)


def _found(state: dict[str, dict[bytes, bytes]], key: bytes) -> str:
    return next((_words(name, key, rows[key]) for name, rows in state.items() if key in rows), key.hex())


def _words(name: str, key: bytes, value: bytes) -> str:
    if name not in pins.CT_TABLES:
        return f"{name} {key.hex()}"
    entry = decode_entry(key, value)
    return f"{entry.direction} {entry.tuple}{' related' if entry.related else ''}"


def _state(cluster: Cluster) -> dict[str, dict[bytes, bytes]]:
    simulator = next(iter(cluster.nodes.values()))
    tables = simulator.tables()
    connections = {name: dict(rows) for name, rows in tables.ct.items()}
    return connections | {pins.SNAT4: dict(tables.snat), pins.SNAT6: dict(tables.snat6)}


# ---- the page


def of_capture(name: str, *, agent: bool = True) -> list[dict[str, Any]]:
    """The outcomes of one capture, restored in a mount namespace of its own."""
    from tests.support.captures import captured_node

    with captured_node(name, agent=agent) as node:
        done = subprocess.run(
            ["nsenter", "-t", str(node.pid), "-m", sys.executable, "-m", "tests.support.agreement", "--here", name],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=5 * PATIENCE_S,
        )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


_HEAD = """# Simulated against real

For every connection that the captured nodes' tables hold (`tests/data/captures`), its next packet in both directions,
sent through `ctctl trace --simulate`'s own path. It agrees when it meets every entry that Cilium made for the
connection, leaves with the addresses and ports that those entries translate to, and touches nothing else. What must
come of a packet is worked out from the captured tables alone (`tests/support/agreement.py`, which writes this page;
`tests/kernel/test_agreement.py` holds it to the captures).

| capture | packets | agree | differ | cannot be simulated |
|---|---|---|---|---|
"""


def row(name: str, outcomes: list[dict[str, Any]]) -> str:
    """The page's line of a capture."""
    kinds = Counter(one["what"] for one in outcomes)
    agree = Counter(one["what"] for one in outcomes if one["agrees"])
    differ = sum(not one["agrees"] and not one["refused"] for one in outcomes)
    words = ", ".join(f"{agree[kind]} of {number} {kind}" for kind, number in sorted(kinds.items()))
    reasons = Counter(short_reason(one["words"]) for one in outcomes if one["refused"])
    refused = "; ".join(f"{number}: {reason}" for reason, number in sorted(reasons.items())) or "none"
    return f"| {name} | {len(outcomes)} | {sum(agree.values())} ({words}) | {differ} | {refused} |\n"


def short_reason(words: str) -> str:
    """A reason without what is this packet's or this machine's own."""
    return words.partition("; simulate")[0].partition(" (")[0]


def _main() -> None:
    if sys.argv[1:2] == ["--here"]:
        print(json.dumps([vars(one) for one in compare(sys.argv[2])]))
        return
    from tests.support.captures import NAMES

    rows = []
    for name in NAMES:
        outcomes = of_capture(name)
        rows.append(row(name, outcomes))
        for one in outcomes:
            if not one["agrees"] and not one["refused"]:
                print(f"{name}: {one['what']}: {one['packet']}: {one['words']}")
    PAGE.write_text(_HEAD + "".join(rows))


if __name__ == "__main__":
    _main()

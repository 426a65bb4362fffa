"""The tables of the datapath that a probe stands in front of: what they say of a packet, read as it passes.

Everything is opened for reading only; a table that is not there says nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ctctl.abi import pins
from ctctl.decode.ct import KEY_SIZE, TUPLE_IN, TUPLE_SERVICE, decode_entry, encode_key, table_name
from ctctl.decode.nat import VALUE_SIZE as NAT_SIZE
from ctctl.decode.nat import decode_nat, encode_nat_key
from ctctl.decode.policy import decode_counter
from ctctl.decode.services import decode_backend, decode_rev_nat, decode_socket_nat
from ctctl.errors import CtctlError, NotFoundError
from ctctl.kernel.map import Map
from ctctl.model.drops import CountedDrop, files_of, reason_name
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.nat import NatEntry
from ctctl.model.policy import PolicyEntry, decide
from ctctl.model.service import Backend, RevNat, identity_of
from ctctl.model.tuples import Address, Direction, FlowTuple
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.live import open_directory
from ctctl.tables.sources.pinned import read_listings


class NodeTables:
    """The tables pinned in one directory. A context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = contextlib.ExitStack()
        self._maps: dict[str, Map | None] = {}
        self.layout = Layout.V1_16
        #: at the time before last, and last
        self._counted: tuple[Counter[tuple[int, int, int]], Counter[tuple[int, int, int]]] = (Counter(), Counter())

    def __enter__(self) -> NodeTables:
        try:
            with open_directory(self.directory, SourceOptions()) as source:
                self.layout = source.tables[0].layout
            self._counted = self._counters(), self._counters()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def conntrack(self, family: int) -> dict[str, Map] | None:
        """The family's two conntrack tables; None where one is missing."""
        names = pins.OWN_CT_TABLES if family == 4 else pins.OWN_CT6_TABLES
        found = {name: self._open(name) for name in names}
        whole = {name: table for name, table in found.items() if table is not None}
        return whole if len(whole) == len(names) else None

    def snat(self, family: int) -> tuple[str, Map] | None:
        """The family's SNAT table with its name; None where there is none, or none of the layout that probes know."""
        name = pins.SNAT_TABLES[family]
        table = self._open(name)
        sizes = (KEY_SIZE[family], NAT_SIZE[family])
        return (name, table) if table is not None and (table.info.key_size, table.info.value_size) == sizes else None

    def _open(self, name: str) -> Map | None:
        if name not in self._maps:
            try:
                opened = Map.open_pinned(self.directory / name, read_only=True)
                self._maps[name] = self._stack.enter_context(opened)
            except NotFoundError:
                self._maps[name] = None
        return self._maps[name]

    def _lookup(self, name: str, key: bytes) -> bytes | None:
        table = self._open(name)
        if table is None or table.info.key_size != len(key):
            return None
        with contextlib.suppress(CtctlError):
            return table.lookup(key)
        return None

    # ---- translations

    def nat(self, flow: FlowTuple) -> tuple[NatEntry, ...]:
        """The SNAT entries of a packet's tuple: how it leaves the node, or what an answer is turned to."""
        name = pins.SNAT_TABLES[flow.src.version]
        found = []
        for flags in (0, TUPLE_IN):
            key = encode_nat_key(flow, flags)
            value = self._lookup(name, key)
            if value is not None:
                with contextlib.suppress(CtctlError):
                    found.append(decode_nat(key, value, name))
        return tuple(found)

    def backend(self, entry: CtEntry) -> FlowTuple | None:
        """The tuple of a SERVICE entry's packets once they are turned to its backend."""
        version = entry.tuple.src.version
        name = pins.of_family(pins.LB4_BACKENDS, version)
        key = (entry.backend_id or 0).to_bytes(4, "little")
        value = self._lookup(name, key) if entry.backend_id else None
        if value is None:
            return None
        try:
            found: Backend = decode_backend(key, value)
        except CtctlError:
            return None
        flow = entry.tuple
        return FlowTuple(flow.proto, flow.src, flow.src_port, found.addr, found.port or 0)

    def service(self, rev_nat: int, version: int) -> tuple[Address, int] | None:
        """The address and port that replies of a rev-NAT id are turned back to."""
        key = rev_nat.to_bytes(2, "big")
        value = self._lookup(pins.of_family(pins.LB4_REVERSE_NAT, version), key)
        if value is None:
            return None
        try:
            found: RevNat = decode_rev_nat(key, value)
        except CtctlError:
            return None
        return found.addr, found.port

    def entry(self, flow: FlowTuple, flags: int) -> CtEntry | None:
        """The conntrack entry of a connection, from client to server, with these flags in its key."""
        name = table_name(flow.src.version, flow.proto)
        key = encode_key(flow, flags)
        value = self._lookup(name, key)
        return None if value is None else decode_entry(key, value, self.layout, name)

    def entries_behind(self, flow: FlowTuple) -> Iterator[CtEntry]:
        """The entries of a packet's connection that its own tuple does not lead to.

        A reply that has the service's address again has the SERVICE entry; what has the node's address by SNAT,
        either way, has the OUT entry of the client's own tuple.
        """
        back = flow.reversed()
        service = self.entry(back, TUPLE_SERVICE)
        if service is not None:
            yield service
        for arriving in (flow, back):
            for found in self.nat(arriving):
                if found.direction is Direction.IN:
                    forward = FlowTuple(flow.proto, found.to_addr, found.to_port, arriving.src, arriving.src_port)
                    entry = self.entry(forward, 0)
                    if entry is not None:
                        yield entry

    def socket(self, cookie: int, backend: tuple[Address, int]) -> tuple[Address, int] | None:
        """The frontend that the socket asked for, whose packets go to this backend; None: it asked for no service."""
        address, port = backend
        name = pins.LB4_SOCKETS if address.version == 4 else pins.LB6_SOCKETS
        key = cookie.to_bytes(8, "little") + address.packed + port.to_bytes(2, "big")
        table = self._open(name)
        if table is None:
            return None
        key = key.ljust(table.info.key_size, b"\0")
        value = self._lookup(name, key)
        if value is None:
            return None
        with contextlib.suppress(CtctlError):
            found = decode_socket_nat(key, value)
            return found.frontend, found.frontend_port
        return None

    # ---- drops

    def _counters(self) -> Counter[tuple[int, int, int]]:
        """Dropped packets by reason, file and line."""
        table = self._open(pins.CILIUM_METRICS)
        found: Counter[tuple[int, int, int]] = Counter()
        if table is None:
            return found
        stride = table.per_cpu_stride or table.info.value_size
        with contextlib.suppress(CtctlError):
            for key, value in table.items():
                counter = decode_counter(key, value, stride)
                if counter.dropped:
                    found[counter.reason, counter.file, counter.line] += counter.packets
        return found

    def look_at_drops(self) -> None:
        """Once in a while: what was counted before the time before last is no news at the next drop."""
        self._counted = self._counted[1], self._counters()

    def dropped_since(self) -> tuple[CountedDrop, ...]:
        """What the datapath has counted of drops since it was looked at the time before last, or asked this."""
        now = self._counters()
        more = now - self._counted[0]
        self._counted = now, now
        files = files_of(None, (file for _, file, _ in now))
        return tuple(
            CountedDrop(reason_name(reason), f"{files[file]}:{line}" if file in files else None)
            for reason, file, line in sorted(more)
        )

    def denial(self, flow: FlowTuple) -> str | None:
        """What the policy maps say of a packet that they denied: which rule, or that none allows it."""
        try:
            listings = read_listings(self.directory, ("policy", "endpoints", "ipcache"))
        except CtctlError:
            return None
        pods = {record.addr: record for record in listings.endpoints if not record.is_host}
        said = []
        for end, peer, egress in ((flow.src, flow.dst, True), (flow.dst, flow.src, False)):
            pod = pods.get(end)
            if pod is None:
                continue
            rules = [rule for rule in listings.policy if rule.endpoint_id == pod.endpoint_id]
            words = _denied(rules, egress, identity_of(peer, listings.ipcache), flow)
            if words is not None:
                way = "egress" if egress else "ingress"
                said.append(f"{way} of endpoint {pod.endpoint_id} ({end}): {words}")
        return "; ".join(said) or None


def _denied(rules: Sequence[PolicyEntry], egress: bool, identity: int | None, flow: FlowTuple) -> str | None:
    """Why these rules do not let a packet through; None where they do, or nothing tells whose the peer is."""
    if identity is None:
        return None
    rule = decide(rules, egress, identity, flow.proto, flow.dst_port)
    if rule is None:
        return f"no rule allows identity {identity} to port {flow.dst_port}"
    if not rule.deny:
        return None
    ports = f"port {rule.port}" if rule.port_bits == 16 else f"ports {rule.ports[0]}-{rule.ports[1]}"
    peer = f"identity {rule.identity}" if rule.identity else "anyone"
    return f"denied by the rule for {peer}, {ports if rule.port_bits else 'every port'}"

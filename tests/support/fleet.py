"""Snapshots of made-up nodes whose right answers are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np

from ctctl.abi import pins
from ctctl.decode.ct import VALUE_SIZE, encode_key, flags_of_direction
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.model.nat import NatEntry
from ctctl.model.service import Backend, EndpointRecord
from ctctl.model.tuples import TCP, Direction, FlowTuple
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.snapshot_write import write_snapshot

NOW = 10_000
#: 2026-01-15 10:00:00 UTC
MADE = 1768471200.0


@dataclass(frozen=True)
class Row:
    """An entry: its connection, what it was made for, seconds it has left, backend."""

    flow: FlowTuple
    direction: Direction = Direction.OUT
    remaining: int = 300
    backend: int = 0
    flags: int = 0x10
    idle: int = 0
    rev_nat: int = 0
    identity: int = 1

    def bytes(self) -> tuple[bytes, bytes]:
        value = pack(
            "<QQQQIHHHBBIII",
            0,
            self.backend,
            5,
            500,
            NOW + self.remaining,
            self.flags,
            self.rev_nat,
            0,
            0,
            0,
            self.identity,
            NOW - self.idle,
            0,
        )
        assert len(value) == VALUE_SIZE
        return encode_key(self.flow, flags_of_direction(self.direction)), value


def flow(src: str, src_port: int, dst: str, dst_port: int, proto: int = TCP) -> FlowTuple:
    return FlowTuple(proto, ip_address(src), src_port, ip_address(dst), dst_port)


@dataclass
class Node:
    """A node to be written as a snapshot. What is None was not collected of it."""

    name: str
    rows: Sequence[Row] | None = ()
    pods: Sequence[str] | None = ()
    backends: Sequence[int] | None = ()
    nat: Sequence[NatEntry] | None = ()
    made: float = MADE
    now: int | None = NOW
    boot: str = "boot-1"
    names: dict[str, str] = field(default_factory=dict)

    def source(self) -> Source:
        found = Listings(names=self.names)
        found.endpoints = [EndpointRecord(ip_address(pod), endpoint_id=n + 1) for n, pod in enumerate(self.pods or ())]
        found.backends = [Backend(n, ip_address("10.9.9.9"), TCP, 80, "active") for n in self.backends or ()]
        found.nat_entries = list(self.nat or ())
        lists = {"endpoints": self.pods, "backends": self.backends, "nat": self.nat}
        found.missing = {name for name, given in lists.items() if given is None}
        source = Source(f"made up {self.name}", self._tables(), lambda _node: found)
        source.collected_at, source.boot_id = self.made, self.boot
        source.node_names = [self.name]
        return source

    def _tables(self) -> list[CtTable]:
        tables = []
        for family, name in ((4, pins.CT4_TCP), (6, pins.CT6_TCP)):
            rows = [row.bytes() for row in self.rows or () if row.flow.src.version == family]
            if self.rows is not None and (rows or family == 4):
                table = CtTable(
                    name, family, Layout.V1_16, _reader(rows), "made up", self.name, clock=Clock(None, "made")
                )
                table.now = self.now
                tables.append(table)
        return tables

    def write(self, folder: Path) -> Path:
        path = folder / f"{self.name}.ctsnap"
        source = self.source()
        with path.open("wb") as stream:
            write_snapshot(source, source.tables, lambda table: table.read(), stream)
        return path


def _reader(rows: list[tuple[bytes, bytes]]) -> Any:
    def read() -> Iterator[Any]:
        if rows:
            yield tuple(
                np.frombuffer(b"".join(part), np.uint8).reshape(len(rows), -1) for part in zip(*rows, strict=True)
            )

    return read


def snat(source: str, port: int, to_port: int, remote: str = "198.51.100.1", egress: str = "192.0.2.1") -> NatEntry:
    return NatEntry(None, flow(source, port, remote, 443), Direction.OUT, False, "SRC", ip_address(egress), to_port)


A, B, C = "10.0.1.1", "10.0.2.1", "10.0.3.1"


def small_fleet() -> list[Node]:
    """Three nodes: a connection that arrives, one that does not, one to a node whose tables were not collected, a
    backend that is gone, an expired entry, SNAT ports, IPv6."""
    arrives, lost, unjudged = flow(A, 1000, B, 80), flow(A, 1001, B, 80), flow(A, 1002, C, 80)
    six = flow("fd00::1", 1003, "fd00::2", 80)
    lost_six = flow("fd00::1", 1004, "fd00::2", 80)
    svc = flow(A, 1000, "10.96.0.1", 80)
    return [
        Node(
            "node-a",
            [
                Row(arrives),
                Row(lost),
                Row(unjudged),
                Row(six),
                Row(lost_six),
                Row(svc, Direction.SVC, backend=7),
                Row(flow(A, 1009, "10.96.0.1", 80), Direction.SVC, backend=8, remaining=-5),
                Row(flow(A, 1005, B, 80), remaining=-10),
                Row(flow(A, 1006, B, 80), flags=0x18),
            ],
            [A, "fd00::1"],
            [7],
            [snat(A, 2000, 40000), snat(A, 2001, 40001), snat(A, 2002, 2002), snat(A, 2003, 40000, "198.51.100.2")],
            names={A: "shop/client"},
        ),
        Node("node-b", [Row(arrives, Direction.IN), Row(six, Direction.IN)], [B, "fd00::2"], [7], [], made=MADE + 2),
        Node("node-c", None, [C], None, None),
    ]

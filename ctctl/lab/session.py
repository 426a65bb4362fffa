"""A story's hands: ordinary programs in the lab's namespaces, the nodes' tables, and expectations."""

from __future__ import annotations

import contextlib
import errno
import json
import shlex
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ctctl.abi import pins
from ctctl.decode.ct import decode_entry
from ctctl.decode.nat import decode_nat
from ctctl.errors import NotFoundError
from ctctl.kernel.child import own_command
from ctctl.kernel.map import Map
from ctctl.kernel.netns import run_in_netns
from ctctl.lab import processes, servers
from ctctl.lab.report import EventSource, Reporter, SnatRow, StoryError
from ctctl.lab.topology import SERVE_PORT, Topology
from ctctl.lab.wait import wait_until
from ctctl.model.entry import CtEntry, CtFlags, CtState
from ctctl.model.event import HookEvent
from ctctl.model.tuples import ICMP, ICMPV6, TCP, UDP, Direction, protocol_name
from ctctl.node.owner import open_own, own_ids

#: The first local port that clients take, so that the tables of a story are easy to read.
FIRST_PORT = 54260
LAST_PORT = 54999

_PROTOCOLS = {"TCP": TCP, "UDP": UDP, "ICMP": ICMP, "ICMPv6": ICMPV6}

#: A table is written before the packet is delivered, but the last ACK of a connection may still be on its way.
_SETTLE_S = 15.0
_PROGRAM_S = 120.0
#: Tables that packets and calls write.
_FORGOTTEN = (
    *pins.OWN_CT_TABLES,
    *pins.OWN_CT6_TABLES,
    *pins.SNAT_TABLES.values(),
    pins.LB4_AFFINITY,
    pins.LB6_AFFINITY,
    pins.LB4_SOCKETS,
    pins.LB6_SOCKETS,
)
_REPORT_INTERVAL_S = 5


@dataclass(frozen=True, slots=True)
class Want:
    """What an entry has to be; None: anything. ``src``/``dst`` are ``address:port`` in the original direction."""

    direction: Direction
    proto: str
    src: str
    dst: str
    related: bool = False
    flags: CtFlags | None = None
    state: CtState | None = None
    src_sec_id: int | None = None
    rev_nat: int | None = None
    tx_flags_seen: int | None = None
    rx_flags_seen: int | None = None
    backend_id: int | None = None
    #: What its last packet gave it to live, seconds. A report can be up to the report interval (5 s) older
    #: than the last packet, so that a few more are fine.
    timeout_s: int | None = None

    def __str__(self) -> str:
        words = [f"{self.proto} {self.direction} {self.src} -> {self.dst}{' related' if self.related else ''}"]
        for field in fields(self)[5:]:
            value = getattr(self, field.name)
            if value is not None:
                words.append(f"{field.name}={_word(field.name, value)}")
        return " ".join(words)

    def mismatches(self, entry: CtEntry) -> list[str]:
        """What of ``entry`` differs, in words; empty if it is the wanted one."""
        wrong = []
        for name in ("flags", "state", "src_sec_id", "rev_nat", "tx_flags_seen", "rx_flags_seen", "backend_id"):
            wanted, found = getattr(self, name), getattr(entry, name)
            if wanted is not None and wanted != found:
                wrong.append(f"{name} is {_word(name, found)}")
        given = entry.lifetime - max(entry.last_tx_report, entry.last_rx_report)
        if self.timeout_s is not None and not self.timeout_s <= given <= self.timeout_s + _REPORT_INTERVAL_S:
            wrong.append(f"it expires {given} s after its last report")
        return wrong


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, and the local port the client had."""

    body: str
    source_port: int


class Session:
    """One story on one lab.

    ``pins`` maps a node's name to its pin directory, ``tap`` listens to the nodes' hooks,
    ``configure(states, without)`` changes backends on all nodes.
    """

    def __init__(
        self,
        topology: Topology,
        pins: dict[str, Path],
        report: Reporter,
        tap: EventSource,
        configure: Callable[[dict[str, str], frozenset[str]], None],
    ) -> None:
        self.topology = topology
        self.report = report
        self._pins = pins
        self._tap = tap
        self._configure = configure
        self._configured = False
        self._first_event = 0

    # ---- the datapath

    def configure(self, *, states: dict[str, str] | None = None, without: Collection[str] = ()) -> None:
        """Give pods' backends another state, or take pods out of every service; the rest is as in the topology."""
        self._configured = True
        self._configure(states or {}, frozenset(without))

    def restore(self) -> None:
        """Undo what ``configure`` did."""
        if self._configured:
            self._configure({}, frozenset())
            self._configured = False

    def events(self) -> Sequence[HookEvent]:
        """What the hooks have reported since the beginning or ``begin_anew``, in order of time."""
        return self._tap.events()[self._first_event :]

    def begin_anew(self) -> None:
        """Empty the tables and forget the events: what went before was a prelude."""
        self.empty_tables()
        self._first_event = len(self._tap.events())

    # ---- traffic

    def curl(self, member: str, address: str, port: int, *, path: str = "/", quiet: bool = False) -> Answer:
        """One HTTP request with curl, ``quiet``: not told. Raises StoryError without an answer in 15 seconds."""
        done = self._curl(member, address, port, path)
        if done.returncode:
            why = done.stderr.strip() or f"exit status {done.returncode}"
            raise StoryError(f"{member}: no answer from {end(address, port)}: {why}")
        body, _, source_port = done.stdout.rpartition("\n")
        answer = Answer(body.strip(), int(source_port))
        if not quiet:
            self.report.command(member, f"curl http://{end(address, port)}{path}", answer.body)
        return answer

    def curl_refused(self, member: str, address: str, port: int) -> None:
        """The same, which must be refused (ICMP port unreachable or RST), and not merely time out."""
        done = self._curl(member, address, port, "/")
        if done.returncode != 7:
            raise StoryError(f"{member}: {address}:{port} must refuse, curl ended with status {done.returncode}")
        said = done.stderr.strip().removeprefix("curl: ")
        self.report.command(member, f"curl http://{address}:{port}/", said)

    def _curl(self, member: str, address: str, port: int, path: str) -> processes.Finished:
        ports = f"{FIRST_PORT}-{LAST_PORT}"
        url = f"http://{end(address, port)}{path}"
        argv = ("curl", "-sS", "--globoff", "--noproxy", "*", "--max-time", "15", "--local-port", ports)
        return processes.run(self.topology, member, (*argv, "-w", "\n%{local_port}", url), check=False)

    def ping(self, member: str, address: str, count: int = 1) -> None:
        """Echo requests with ping, all of which must be answered."""
        argv = ("ping", "-n", "-c", str(count), "-i", "0.2", "-W", "3", address)
        done = processes.run(self.topology, member, argv, check=False)
        summary = next((line for line in done.stdout.splitlines() if "packets transmitted" in line), "no answer")
        if done.returncode:
            raise StoryError(f"{member}: ping {address}: {summary}")
        self.report.command(member, shlex.join(argv), summary)

    def datagram(self, member: str, address: str, port: int, text: str = "hello") -> Answer:
        """One UDP datagram, whose answer must come from where it was sent to."""
        with self.socket(member, socket.SOCK_DGRAM, family=family_of(address)) as sock:
            source_port = _bind_next(sock)
            sock.settimeout(_SETTLE_S)
            sock.connect((address, port))
            sock.send(text.encode())
            try:
                body = sock.recv(2048).decode(errors="replace")
            except TimeoutError:
                raise StoryError(f"{member}: no answer to a datagram to {end(address, port)}") from None
            except ConnectionRefusedError:
                raise StoryError(f"{member}: the datagram to {end(address, port)} was refused") from None
        self.report.command(member, f"datagram {text!r} to {end(address, port)}", body)
        return Answer(body, source_port)

    def socket(
        self, member: str, kind: socket.SocketKind, proto: int = 0, family: int = socket.AF_INET
    ) -> socket.socket:
        """A socket that lives in ``member``'s namespace; it is of this process, and of its cgroup."""
        made: socket.socket = run_in_netns(self.topology.netns(member), lambda: socket.socket(family, kind, proto))
        return made

    @contextlib.contextmanager
    def server(self, member: str) -> Iterator[None]:
        """What every pod runs, in ``member`` for a while. Raises StoryError if it does not come up."""
        process = servers.start(self.topology, member)
        try:
            if not servers.is_ready(self.topology, member):
                raise StoryError(f"the server of {member} does not answer on port {SERVE_PORT}")
            yield
        finally:
            process.kill()
            process.wait()

    def python(self, member: str, script: str, *words: str, what: str) -> str:
        """What a Python program prints that runs in ``member``, in its cgroup too. ``what`` it is, in words."""
        argv = (sys.executable, "-I", "-S", "-c", script, *words)
        done = processes.run(self.topology, member, argv, timeout_s=_PROGRAM_S, check=False)
        if done.returncode:
            raise StoryError(f"{member}: {what}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
        self.report.command(member, what, done.stdout.strip())
        return done.stdout.strip()

    # ---- tables

    def entries(self, node: str) -> list[CtEntry]:
        """The conntrack tables of a node, those of both families where it has them."""
        found = [
            decode_entry(key, value, map_name=table)
            for table in (*pins.OWN_CT_TABLES, *pins.OWN_CT6_TABLES)
            for key, value in self.records(node, table)
        ]
        return sorted(found, key=lambda entry: (entry.map or "", entry.direction, str(entry.tuple)))

    def snat(self, node: str) -> list[SnatRow]:
        """The SNAT tables of a node: what flow leaves, or is taken in, as what."""
        rows = []
        for table in pins.SNAT_TABLES.values():
            for key, value in self.records(node, table):
                entry = decode_nat(key, value)
                flow = entry.tuple
                ends = f"{end(str(flow.src), flow.src_port)} -> {end(str(flow.dst), flow.dst_port)}"
                rows.append(SnatRow(f"{protocol_name(flow.proto)} {ends}", end(str(entry.to_addr), entry.to_port)))
        return sorted(rows, key=lambda row: row.flow)

    def findings(self, node: str) -> dict[str, str]:
        """What the doctor finds at a node: each check's summary."""
        argv = own_command("ctctl.cli.start", "doctor", "--from", str(self._pins[node]), "-o", "json")
        done = processes.run(self.topology, node, argv, timeout_s=_PROGRAM_S, check=False)
        try:
            found = json.loads(done.stdout)["findings"]
        except (ValueError, KeyError):
            raise StoryError(f"{node}: the doctor ended with status {done.returncode}: {done.stderr.strip()}") from None
        return {finding["check"]: finding["summary"] for finding in found}

    def records(self, node: str, table: str) -> list[tuple[bytes, bytes]]:
        """The raw records of one of a node's tables; none where it has no such table."""
        try:
            with Map.open_pinned(self._pins[node] / table, read_only=True) as opened:
                return list(opened.items())
        except NotFoundError:
            return []

    def empty_tables(self) -> None:
        """Forget every connection on both nodes: a story's tables show that story."""
        for node, directory in self._pins.items():
            ids = own_ids(directory)
            for table in _FORGOTTEN:
                records = self.records(node, table)
                if not records:
                    continue
                with open_own(directory / table, ids) as opened:
                    for key, _ in records:
                        opened.delete(key)

    def show(self, *nodes: str) -> None:
        """Report the tables of these nodes."""
        for node in nodes:
            self.report.table(node, self.entries(node), self.snat(node), int(time.monotonic()))

    # ---- expectations

    def expect(self, node: str, want: Want, what: str = "") -> CtEntry:
        """The wanted entry of a node; waits up to fifteen seconds for it.

        Raises:
            StoryError: it is not there, or not like that; says what is.
        """
        found: list[CtEntry] = []

        def there() -> bool:
            found[:] = [entry for entry in self.entries(node) if _same_flow(want, entry)]
            return any(not want.mismatches(entry) for entry in found)

        if not wait_until(there, _SETTLE_S):
            if not found:
                raise StoryError(f"{node}: no entry {want}")
            wrong = "; ".join(want.mismatches(found[0]))
            raise StoryError(f"{node}: expected {want}, but {wrong}")
        self.report.checked(f"{node}: {what or want}")
        return found[0]

    def expect_none(self, node: str, what: str, unwanted: Callable[[CtEntry], bool]) -> None:
        """No entry of the node may be like that. Raises StoryError with the first one."""
        for entry in self.entries(node):
            if unwanted(entry):
                raise StoryError(f"{node}: {what}, but there is {entry.direction} {entry.tuple}")
        self.report.checked(f"{node}: {what}")

    def expect_snat(self, node: str, flow: str, to: str) -> None:
        """The SNAT table rewrites ``flow`` to ``to``. Raises StoryError."""
        rows = self.snat(node)
        if SnatRow(flow, to) not in rows:
            there = ", ".join(f"{row.flow} => {row.to}" for row in rows) or "it is empty"
            raise StoryError(f"{node}: no SNAT entry {flow} => {to}; {there}")
        self.report.checked(f"{node}: SNAT {flow} => {to}")

    def check(self, holds: bool, what: str) -> None:
        """``what`` must hold. Raises StoryError."""
        if not holds:
            raise StoryError(f"not so: {what}")
        self.report.checked(what)


def _same_flow(want: Want, entry: CtEntry) -> bool:
    flow = entry.tuple
    return (
        entry.direction == want.direction
        and entry.related == want.related
        and flow.proto == _PROTOCOLS[want.proto]
        and end(str(flow.src), flow.src_port) == want.src
        and end(str(flow.dst), flow.dst_port) == want.dst
    )


def end(address: str, port: int) -> str:
    """An address with its port, as everybody writes it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _word(name: str, value: object) -> str:
    if isinstance(value, CtFlags):
        return "|".join(str(flag.name) for flag in CtFlags if flag & value) or "none"
    return f"0x{value:02x}" if name.endswith("_seen") else str(value)


def _bind_next(sock: socket.socket) -> int:
    """Bind to the first free local port of the range."""
    for port in range(FIRST_PORT, LAST_PORT):
        try:
            sock.bind(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return port
    raise StoryError("no free local port left")

"""Run packets through the datapath's own BPF programs, on private maps, under a clock that is set.

Nothing real is touched: the maps are not pinned, the programs attached nowhere, and every packet
is a test run of the kernel (BPF_PROG_TEST_RUN). It is the very code of ``ctctl load``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from ctctl.abi import layouts, pins
from ctctl.errors import UsageError
from ctctl.events.decode import decode_event
from ctctl.kernel.cpus import one_cpu
from ctctl.kernel.link import XDP_MODES
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.kernel.ringbuf import RingBuffer
from ctctl.model.event import Hook, HookEvent, Verdict
from ctctl.node.slots import XDP_OBJECT, object_name, program_name
from ctctl.node.tables import rodata
from ctctl.packet.dissect import dissect
from ctctl.packet.geneve import Geneve, strip_geneve, wrap_geneve
from ctctl.simulate.maps import SimulatedMaps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ctctl.config.node import Endpoint, NodeFile
    from ctctl.kernel.program import PreparedRun, Program

#: second of the simulated clock at which a simulation starts that says nothing
DEFAULT_CLOCK = 1_000_000

_OBJECT_OF = {
    Hook.FROM_CONTAINER: "lxc",
    Hook.TO_CONTAINER: "lxc",
    Hook.FROM_NETDEV: "netdev",
    Hook.TO_NETDEV: "netdev",
    Hook.FROM_OVERLAY: "overlay",
    Hook.TO_OVERLAY: "overlay",
    Hook.XDP_NETDEV: XDP_OBJECT,
}
#: (hook, endpoint's name, IP version): what a packet asks for
_Slot: TypeAlias = tuple[Hook, str, int]
#: (hook, IP version, read-only data): a program that is loaded
_Program: TypeAlias = tuple[Hook, int, frozenset[tuple[str, int | bytes]]]
_ETHERTYPE_IPV6 = bytes.fromhex("86dd")
#: return code of a program that leaves the packet to the hook's next one
_NEXT = 0xFFFFFFFF
#: return codes of tc programs (linux/pkt_cls.h), and what each means for the packet
_RETURN_CODES = {
    -1: ("TC_ACT_UNSPEC", Verdict.PASS),
    0: ("TC_ACT_OK", Verdict.PASS),
    2: ("TC_ACT_SHOT", Verdict.DROP),
    7: ("TC_ACT_REDIRECT", Verdict.REDIRECT),
}
#: and of XDP's (enum xdp_action)
_XDP_CODES = {
    0: ("XDP_ABORTED", Verdict.DROP),
    1: ("XDP_DROP", Verdict.DROP),
    2: ("XDP_PASS", Verdict.PASS),
    3: ("XDP_TX", Verdict.REDIRECT),
}
_MAX_FRAME = 65535
#: of a tunnel's options, as many as any program looks at
_OPTION_ROOM = len(layouts.ctctl_sim().option)
_FOREVER = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one program did with one packet.

    ``came`` is the packet as it came, ``frame`` as it left, without the tunnel's headers; ``wire`` the whole of an
    encapsulated one. ``reason`` is None unless the packet was dropped.
    """

    hook: Hook
    verdict: Verdict
    reason: str | None
    return_code: str
    frame: bytes
    mark: int
    events: tuple[HookEvent, ...]
    tunnel: Geneve | None = None
    wire: bytes | None = None
    came: bytes = b""

    @property
    def event(self) -> HookEvent | None:
        """The packet's own event: the last one, where a hook called another."""
        return self.events[-1] if self.events else None


@dataclass(frozen=True, slots=True)
class SimulatedTables:
    """The tables as they stand: raw records, sorted by key."""

    ct: dict[str, list[tuple[bytes, bytes]]]
    snat: list[tuple[bytes, bytes]]
    affinity: list[tuple[bytes, bytes]]
    snat6: list[tuple[bytes, bytes]] = field(default_factory=list)
    affinity6: list[tuple[bytes, bytes]] = field(default_factory=list)


def identity_mark(identity: int) -> int:
    """``skb->mark`` by which a hook hands a source identity to the next, as Cilium writes it."""
    return (identity & 0xFFFF) << 16 | identity >> 16 & 0xFF | 0x0F00


class Simulator:
    """One simulated node. A context manager: closes its programs and maps.

    A program is loaded when a packet first needs it, and once for each endpoint.
    ``full_size``: tables as large as on a live node, where the file leaves their size at the default.
    """

    def __init__(self, nf: NodeFile, *, now: int | None = None, full_size: bool = False) -> None:
        self.nf = nf
        self.now = now or nf.clock or DEFAULT_CLOCK
        self.maps = SimulatedMaps(nf, full_size=full_size)
        self._owner = contextlib.ExitStack()
        self._loaded: dict[_Program, tuple[Program, PreparedRun]] = {}
        self._programs: dict[_Slot, tuple[Program, PreparedRun]] = {}
        self._sim: memoryview | None = None
        self._ring: RingBuffer | None = None
        self._records: list[bytes] = []

    def run(
        self,
        hook: Hook,
        frame: bytes,
        *,
        endpoint: Endpoint | None = None,
        identity: int | None = None,
        mark: int = 0,
        geneve: Geneve | None = None,
        random: int = 0,
    ) -> StepResult:
        """Run one packet (a whole Ethernet frame) through one hook.

        ``endpoint`` of a pod hook defaults to the one the packet comes from or goes to. ``identity``
        is the source identity handed over in the mark, ``geneve`` the tunnel the packet came by,
        ``random`` what the random source returns. Raises UsageError, KernelError.

        What comes to a device that is accelerated meets XDP first: of a packet that goes on from there, that is
        what is told, and ``hook`` says so.
        """
        if self.nf.datapath.lb.acceleration in XDP_MODES and (wire := self._at_device(hook, frame, geneve)) is not None:
            ahead = self.run(Hook.XDP_NETDEV, wire, random=random)
            if ahead.verdict is not Verdict.PASS:
                return replace(ahead, came=frame)
        endpoint = endpoint or self.endpoint_of(hook, frame)
        version = self._version_ahead(frame) if hook is Hook.XDP_NETDEV else self._version(frame)
        run = self._prepared(hook, endpoint, version)
        self._set_sim(random, geneve)
        self._records.clear()
        run.context.mark = mark if identity is None else identity_mark(identity)
        # As the kernel does: what a program leaves for the next one is its CPU's.
        with one_cpu():
            code = run.run(frame)
            if version == 4 and code == _NEXT and self.nf.datapath.ipv6:
                # The outer headers of an IPv6 packet are off: the hook's next program goes on with it.
                first, run = run, self._prepared(hook, endpoint, 6)
                run.context.mark, run.context.cb[0] = first.mark_out, first.result().cb[0]
                code = run.run(first.data)
                run.context.cb[0] = 0
        assert self._ring is not None
        self._ring.consume()
        result = self._result(hook, endpoint, code if code < 1 << 31 else code - (1 << 32), run)
        return replace(result, came=frame)

    def heard(self, call: Callable[[], object]) -> tuple[HookEvent, ...]:
        """What hooks of sockets tell while ``call`` runs, at the simulated time; something must be loaded."""
        self._set_sim(0, None)
        self._records.clear()
        call()
        assert self._ring is not None
        self._ring.consume()
        return tuple(decode_event(record, node=self.nf.node.name) for record in self._records)

    def _at_device(self, hook: Hook, frame: bytes, geneve: Geneve | None) -> bytes | None:
        """The frame as the node's device gets it; None: it is past the device, or a device of the tunnel gets it."""
        if hook is Hook.FROM_NETDEV:
            return frame
        if hook is not Hook.FROM_OVERLAY or geneve is None or self.nf.datapath.tunnel == "device":
            return None
        return wrap_geneve(frame, replace(geneve, local=self.nf.node.ip), src_mac=frame[6:12], dst_mac=frame[:6])

    def _version_ahead(self, frame: bytes) -> int:
        """The same of XDP's, where IPv4's goes on to IPv6's for what has outer headers, which are IPv4's."""
        stripped = strip_geneve(frame)
        return self._version(frame if stripped is None else stripped[1])

    def _version(self, frame: bytes) -> int:
        """The IP version of the program that a frame is for."""
        return 6 if self.nf.datapath.ipv6 and frame[12:14] == _ETHERTYPE_IPV6 else 4

    def advance(self, seconds: int) -> None:
        """Move the clock; nothing sleeps."""
        self.now += seconds

    def configure(self, nf: NodeFile) -> None:
        """Change services, identities, endpoints and policy between packets, as ``apply`` does."""
        self.nf = replace(nf, datapath=self.nf.datapath)
        self.load()
        self.maps.configure(self.nf)

    def begin(self, nf: NodeFile) -> None:
        """Begin anew with a node file of the same shape (``simulate.maps.shape``): tables as if they were new.

        What is loaded already with the same read-only data is not loaded again.
        """
        self.nf, self.now = nf, nf.clock or DEFAULT_CLOCK
        self._programs.clear()
        self.maps.begin(nf)
        if self._ring is not None:
            self._ring.consume()
            self._emit(_FOREVER)
        self._records.clear()

    def load(self, hook: Hook = Hook.TO_NETDEV, endpoint: Endpoint | None = None) -> None:
        """Load one hook's programs now rather than with the first packet: the maps are there then."""
        for version in (4, 6) if self.nf.datapath.ipv6 else (4,):
            self._ready(hook, endpoint, version)

    def tables(self) -> SimulatedTables:
        """The connection tables as they stand."""
        return SimulatedTables(
            ct={name: sorted(self.maps.entries(name)) for name in self.ct_tables},
            snat=sorted(self.maps.entries(pins.SNAT4)),
            affinity=sorted(self.maps.entries(pins.LB4_AFFINITY)),
            snat6=sorted(self.maps.entries(pins.SNAT6)),
            affinity6=sorted(self.maps.entries(pins.LB6_AFFINITY)),
        )

    @property
    def ct_tables(self) -> tuple[str, ...]:
        """The conntrack tables of this node."""
        return (*pins.OWN_CT_TABLES, *pins.OWN_CT6_TABLES) if self.nf.datapath.ipv6 else pins.OWN_CT_TABLES

    def endpoint_of(self, hook: Hook, frame: bytes) -> Endpoint | None:
        """The endpoint a pod hook's packet belongs to by its addresses; None at a device's hooks.

        Raises UsageError for a pod hook and a packet of no endpoint of this node.
        """
        if _OBJECT_OF[hook] != "lxc":
            return None
        address = _end(frame, source=hook is Hook.FROM_CONTAINER)
        found = self.nf.endpoint(str(address))
        if found is None:
            which = "source" if hook is Hook.FROM_CONTAINER else "destination"
            raise UsageError(f"{hook}: no endpoint has the packet's {which} {address}; name one with 'endpoint'")
        return found

    def close(self) -> None:
        """Drop programs and maps."""
        if self._ring is not None:
            self._ring.close()
        self._sim = self._ring = None
        self._programs.clear()
        self._loaded.clear()
        self._owner.close()
        self.maps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    # ---- programs

    def program(self, hook: Hook, endpoint: Endpoint | None = None, version: int = 4) -> Program:
        """The hook's program for one IP version, for replay; mark, clock and tunnel are the caller's."""
        return self._ready(hook, endpoint, version)[0]

    def _prepared(self, hook: Hook, endpoint: Endpoint | None, version: int) -> PreparedRun:
        return self._ready(hook, endpoint, version)[1]

    def _ready(self, hook: Hook, endpoint: Endpoint | None, version: int) -> tuple[Program, PreparedRun]:
        slot = (hook, endpoint.name if endpoint else "", version)
        if slot not in self._programs:
            settings = {**rodata(self.nf, endpoint, version=version), "cfg_sim": 1}
            known = (hook, version, frozenset(settings.items()))
            if known not in self._loaded:
                program = self._owner.enter_context(self._load(hook, version, settings))
                self._loaded[known] = program, program.prepare_test_run(max_frame=_MAX_FRAME)
            self._programs[slot] = self._loaded[known]
        return self._programs[slot]

    def _load(self, hook: Hook, version: int, settings: Mapping[str, int | bytes]) -> Program:
        """The loaded program, owned; of the object nothing else stays open."""
        with BpfObject.open(OBJECTS / f"{object_name(_OBJECT_OF[hook], version)}.bpf.o") as bpf:
            # The verifier takes most of the time: only the program that is asked for goes through it.
            wanted = program_name(hook, version)
            for program in bpf.program_names():
                if program != wanted and program in {program_name(other, version) for other in Hook}:
                    bpf.disable_program(program)
            known = bpf.config_names()
            for variable, value in settings.items():
                if variable in known:
                    bpf.set_config(variable, value)
            self.maps.share(bpf)
            bpf.load()
            self.maps.adopt(bpf)
            if self._ring is None:
                self._listen()
            return bpf.program(wanted).dup()

    def _listen(self) -> None:
        """Have hooks emit every packet's event, and map the simulated clock."""
        self._sim = self.maps[pins.SIM].mmap()
        self._emit(_FOREVER)
        self._ring = RingBuffer(self.maps[pins.EVENTS], lambda record: self._records.append(bytes(record)))

    def mute(self) -> None:
        """Stop emitting events: for replay at full speed."""
        self._emit(0)

    def _emit(self, until_ns: int) -> None:
        control = bytes(layouts.ctctl_trace_ctl(until_ns=until_ns))
        self.maps[pins.TRACE_CTL].mmap()[: len(control)] = control

    # ---- one packet

    def set_clock(self, now: int) -> None:
        """Set the clock without a packet, with no tunnel and a random number of 0: for replay."""
        self.now = now
        self._set_sim(0, None)

    def _set_sim(self, random: int, geneve: Geneve | None) -> None:
        assert self._sim is not None
        options = geneve.options if geneve else b""
        state = layouts.ctctl_sim(
            now_ns=self.now * 1_000_000_000,
            random=random,
            has_tunnel_key=int(geneve is not None),
            tunnel_vni=geneve.vni if geneve else 0,
            tunnel_remote=int(geneve.remote) if geneve else 0,
            option_len=len(options),
            option=options[:_OPTION_ROOM],
        )
        self._sim[: len(bytes(state))] = bytes(state)

    def _result(self, hook: Hook, endpoint: Endpoint | None, code: int, run: PreparedRun) -> StepResult:
        node = self.nf.node.name
        decoded = (decode_event(record, node=node, devices=self._devices()) for record in self._records)
        events = tuple(self._located(event, endpoint) for event in decoded)
        word, verdict = (_XDP_CODES if hook is Hook.XDP_NETDEV else _RETURN_CODES).get(code, (str(code), Verdict.PASS))
        frame, wire, tunnel = _unwrap(run.data, events)
        return StepResult(
            hook=hook,
            verdict=verdict,
            reason=next((event.reason for event in reversed(events) if event.reason), None),
            return_code=word,
            frame=frame,
            mark=run.mark_out,
            events=events,
            tunnel=tunnel,
            wire=wire,
        )

    def _located(self, event: HookEvent, endpoint: Endpoint | None) -> HookEvent:
        """The event at the device it would be at: a test run has none of the node's."""
        if _OBJECT_OF[event.hook] == "lxc":
            ifindex, name = (endpoint.ifindex, endpoint.interface or endpoint.name) if endpoint else (None, None)
        else:
            tunnel = event.hook in (Hook.FROM_OVERLAY, Hook.TO_OVERLAY)
            device = self.nf.node.overlay if tunnel else self.nf.node.device
            ifindex, name = (device.ifindex, device.name) if device else (None, None)
        return replace(event, ifindex=ifindex or 0, device=name)

    def _devices(self) -> dict[int, str]:
        devices = {e.ifindex: e.interface or e.name for e in self.nf.endpoints if e.ifindex}
        for device in (self.nf.node.device, self.nf.node.overlay):
            if device is not None and device.ifindex:
                devices[device.ifindex] = device.name
        return devices


def _end(frame: bytes, *, source: bool) -> IPv4Address | IPv6Address | None:
    """The packet's source or destination address, None where it has none."""
    if frame[12:14] == _ETHERTYPE_IPV6 and len(frame) >= 54:
        return IPv6Address(frame[22:38] if source else frame[38:54])
    packet = dissect(frame)
    return packet.src if source else packet.dst


def _unwrap(frame: bytes, events: tuple[HookEvent, ...]) -> tuple[bytes, bytes | None, Geneve | None]:
    """(inner frame, whole frame, outer headers) of a packet that a hook encapsulated; else the frame alone."""
    event = events[-1] if events else None
    stripped = strip_geneve(frame) if event is not None and event.tunnel_remote is not None else None
    if event is None or stripped is None or stripped[0].local != event.tunnel_remote:
        return frame, None, None
    outer, inner = stripped
    # Seen from here the remote end is where it goes to.
    return inner, frame, Geneve(outer.local, outer.remote, outer.vni, outer.options)

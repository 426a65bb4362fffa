"""Random and mutated packets of both families through every hook, in every mode of the datapath.

Where packets start from is in ``tests.support.fuzz_seeds``; what the tables must keep to afterwards in
``tests.support.fuzz_rules``. What comes to XDP goes on to the device's hook where XDP passes it on, and every packet
of the run goes to a second node too, whose device has no XDP: it must do the same with each.
"""

from __future__ import annotations

import random
import struct
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv6Address

from ctctl.config.node import Endpoint
from ctctl.kernel.cpus import one_cpu
from ctctl.kernel.program import PreparedRun
from ctctl.model.event import Hook
from ctctl.packet.geneve import dsr_option
from ctctl.simulate.simulator import Simulator, identity_mark
from tests.support.datapath import (
    LB_VIP,
    NOW,
    counters,
    drops,
    frame,
)
from tests.support.fuzz_rules import MIN_FRAME, RELATED, Rules, key_of
from tests.support.fuzz_seeds import ETH_P_IPV6, FOUR, SIX, seeds

#: nothing, from the host, translated, a tunnel's, a pod's identity, the world's by the tunnel
MARKS = (0, 0, 0x0C00, 0x0300, 0x0400, identity_mark(20001), identity_mark(2) | 0x1000)
#: hooks whose packets are counted together: what comes by the tunnel from the wire is from_overlay's in the end, in XDP
#: too
COUNTED = (
    ("from_container",),
    ("to_container",),
    ("from_netdev", "from_overlay", "xdp_netdev"),
    ("to_netdev",),
    ("to_overlay",),
)
RETURN_CODES = {0: "pass", 2: "drop", 7: "redirect"}
#: of XDP's program; what it passes on it has not touched, and is the device's next program's
XDP_CODES = {1: "drop", 2: "passed on", 3: "redirect"}
#: where a destination's and a source's MAC address end: XDP writes them, of tc's packets the kernel does
MACS = 12
#: what of a difference is told at most
TOLD = 5
#: to the latest packets that XDP sent on
ANSWERS = 500
ETH_P_IP = bytes.fromhex("0800")
UDP = 17
#: the tunnel's port
GENEVE = (6081).to_bytes(2, "big")
#: leaves the packet to the hook's program of the other family
NEXT = 0xFFFFFFFF
#: the same of IPv6 as MIN_FRAME of IPv4: Linux 6.18 refuses to test run what has no whole IP header
MIN_FRAME6 = 54
#: a frame's bytes that mutations prefer: Ethernet, IP and L4 headers, of a tunnelled packet too
HEADERS = 110
EXTENSIONS = (0, 60, 43, 44, 51)


def mutated(rng: random.Random, packet: bytes) -> bytes:
    """The packet, in half of the cases with bytes changed, cut off, added, or all of it random."""
    choice = rng.random()
    if choice < 0.5:
        return packet
    data = bytearray(packet)
    if choice < 0.85:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(12, min(len(data), HEADERS))] = rng.randrange(256)
    elif choice < 0.90 and data[12:14] == ETH_P_IPV6:
        _extend(rng, data)
    elif choice < 0.93:
        del data[rng.randrange(MIN_FRAME, len(data) + 1) :]
    elif choice < 0.97:
        data += rng.randbytes(rng.randrange(1, 200))
    else:
        data[14:] = rng.randbytes(rng.randrange(20, 120))
    return bytes(data.ljust(MIN_FRAME6, b"\0") if data[12:14] == ETH_P_IPV6 else data)


def _extend(rng: random.Random, data: bytearray) -> None:
    """One to six extension headers in front of what the IPv6 header has next."""
    for _ in range(rng.randrange(1, 7)):
        kind = rng.choice(EXTENSIONS)
        # A fragment header has 8 bytes and no length; an authentication header counts in words of 4, less 2.
        words = 0 if kind == 44 else 1 if kind == 51 else rng.randrange(3)
        size = 12 if kind == 51 else 8 + 8 * words
        header = bytes([data[20], words]) + (bytes(2) if kind == 44 else rng.randbytes(2)) + rng.randbytes(size - 4)
        data[54:54] = header
        data[20] = kind
    data[18:20] = struct.pack(">H", (len(data) - 54) & 0xFFFF)


def answer(packet: bytes) -> bytes:
    """The packet back to where it came from: addresses and ports in each other's place; its checksums stay right."""
    data = bytearray(packet)
    tunnelled = data[12:14] == ETH_P_IP and data[23] == UDP and data[36:38] == GENEVE
    for at in (0, 50) if tunnelled else (0,):
        address, size, ports = (22, 16, 54) if data[at + 12 : at + 14] == ETH_P_IPV6 else (26, 4, 34)
        _exchange(data, at + address, size)
        if not (tunnelled and at == 0):
            _exchange(data, at + ports, 2)
    return bytes(data)


def _exchange(data: bytearray, at: int, size: int) -> None:
    """Two fields that follow one another, as far as they are there."""
    if len(data) >= at + 2 * size:
        data[at : at + 2 * size] = data[at + size : at + 2 * size] + data[at : at + size]


@dataclass
class Fuzz:
    """One run over a simulator: ``ran`` packets by hook, their ``codes``; ``in_xdp``, what XDP did with its own.

    ``twin``: a simulator of the same node, to which packets come without XDP.
    """

    simulator: Simulator
    rng: random.Random
    twin: Simulator | None = None
    ran: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    in_xdp: Counter[str] = field(default_factory=Counter)
    frames: list[bytes] = field(init=False)
    #: what XDP took, or something made of it; and answers to what it sent on
    taken: list[bytes] = field(default_factory=list)
    answers: deque[bytes] = field(default_factory=lambda: deque(maxlen=ANSWERS))
    _differ: list[str] = field(default_factory=list)
    _runs: dict[tuple[int, Hook, str, int], PreparedRun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.frames = seeds(self.simulator.nf)

    @property
    def _families(self) -> tuple[int, ...]:
        return (4, 6) if self.simulator.nf.datapath.ipv6 else (4,)

    def plant(self) -> dict[bytes, bytes]:
        """Connections that no packet of the run is of; their entries as they stand."""
        node = self.simulator
        if self.twin is not None:
            Fuzz(self.twin, self.rng).plant()
        for at in (FOUR, SIX)[: len(self._families)]:
            ends = {name: address if at is FOUR else f"[{address}]" for name, address in at.items()}
            for text in (
                f"tcp {ends['pod']}:61234 > {ends['far']}:443 S",
                f"udp {ends['pod2']}:61234 > {ends['far']}:443",
            ):
                node.run(Hook.FROM_CONTAINER, frame(text))
            node.run(Hook.TO_CONTAINER, frame(f"tcp {ends['far']}:61234 > {ends['pod2']}:8080 S"))
            self.ran += Counter({"from_container": 2, "to_container": 1})
        now = {key: value for _, records in self._conntrack() for key, value in records}
        tunnelled = sum(n for (hook, reason), n in drops(node).items() if hook == "from_container" and reason == "ok")
        assert tunnelled == self.ran["from_container"], "a planted connection was not let through"
        self.codes["pass"] += sum(self.ran.values())
        return {key: value for key, value in now.items() if not key_of(key).flags & RELATED}

    def _conntrack(self) -> Iterable[tuple[str, list[tuple[bytes, bytes]]]]:
        return self.simulator.tables().ct.items()

    def run(self, hook: Hook, packets: int) -> None:
        """So many packets through one hook; a pod hook's pod, the clock and the tunnel change on the way."""
        node, rng = self.simulator, self.rng
        pods = node.nf.endpoints if hook in {Hook.FROM_CONTAINER, Hook.TO_CONTAINER} else (None,)
        # What the first program leaves for the second is its CPU's.
        with one_cpu():
            for done in range(packets):
                if done % 64 == 0:
                    node.now += rng.choice((0, 0, 1, 5, 61))
                    self._set_sim()
                    pools = [self._pools(hook, pod) for pod in pods]
                at = rng.randrange(len(pods))
                seed = rng.choice(rng.choice(pools[at]))
                # What comes to a device has no mark.
                mark = 0 if hook is Hook.XDP_NETDEV else rng.choice(MARKS)
                self._packet(hook, pods[at], seed, mutated(rng, seed), mark)

    def _packet(self, hook: Hook, pod: Endpoint | None, seed: bytes, packet: bytes, mark: int) -> None:
        last, name, sent = self._whole(self.simulator, hook, pod, packet, mark)
        self.codes[name] += 1
        self.ran[last.value] += 1
        if last is Hook.XDP_NETDEV:
            self._remember(seed, sent)
        if self.twin is None:
            return
        there = Hook.FROM_NETDEV if hook is Hook.XDP_NETDEV else hook
        _, alone, want = self._whole(self.twin, there, pod, packet, mark)
        if (name, sent[MACS:]) != (alone, want[MACS:]) and len(self._differ) < TOLD:
            self._differ.append(f"{packet.hex()} at {last}: {name} {sent.hex()}, without XDP {alone} {want.hex()}")

    def _remember(self, seed: bytes, sent: bytes) -> None:
        if seed not in self.taken and seed not in self.answers:
            self.taken.append(seed)
        self.answers.append(answer(sent))

    def _whole(
        self, node: Simulator, hook: Hook, pod: Endpoint | None, packet: bytes, mark: int
    ) -> tuple[Hook, str, bytes]:
        """Through one hook, and from XDP on to the device's: the last hook, what became of the packet, its bytes."""
        if hook is Hook.XDP_NETDEV:
            code, left = self._in_xdp(node, packet)
            self.in_xdp[name := XDP_CODES.get(code, f"code {code:#x}")] += 1
            if name != "passed on":
                return hook, name, left
            if left != packet:
                self._differ.append(f"{packet.hex()} was passed on by XDP as {left.hex()}")
            hook = Hook.FROM_NETDEV
        code, left = self._one(node, hook, pod, packet, mark)
        return hook, RETURN_CODES.get(code, f"code {code:#x}"), left

    def _in_xdp(self, node: Simulator, packet: bytes) -> tuple[int, bytes]:
        # IPv4's program leaves to IPv6's what is in the tunnel, too.
        version = 6 if len(self._families) > 1 and ETH_P_IPV6 in {packet[12:14], packet[62:64]} else 4
        run = self._prepared(node, Hook.XDP_NETDEV, None, version)
        return run.run(packet), run.data

    def _one(self, node: Simulator, hook: Hook, pod: Endpoint | None, packet: bytes, mark: int) -> tuple[int, bytes]:
        """Through the program of its family; what that one leaves to the other (after decapsulation), through both."""
        version = 6 if len(self._families) > 1 and packet[12:14] == ETH_P_IPV6 else 4
        run = self._prepared(node, hook, pod, version)
        run.context.mark = mark
        code = run.run(packet)
        if code != NEXT or version == 6 or len(self._families) == 1:
            return code, run.data
        first, run = run, self._prepared(node, hook, pod, 6)
        run.context.mark, run.context.cb[0] = first.mark_out, first.result().cb[0]
        # What is shorter cannot be test run, where a device would bring it.
        code = run.run(first.data.ljust(MIN_FRAME6, b"\0"))
        run.context.cb[0] = 0
        return code, run.data

    def _prepared(self, node: Simulator, hook: Hook, pod: Endpoint | None, version: int) -> PreparedRun:
        slot = (id(node), hook, pod.name if pod else "", version)
        if slot not in self._runs:
            program = node.program(hook, pod, version)
            self._runs[slot] = program.prepare_test_run(max_frame=4096)
        return self._runs[slot]

    def _pools(self, hook: Hook, pod: Endpoint | None) -> list[list[bytes]]:
        """What packets are taken from: out of a pod mostly its own, the rest would get no further; XDP takes few."""
        if hook is Hook.XDP_NETDEV:
            return [self.frames, self.taken or self.frames, self.answers or self.frames]
        if pod is None or hook is not Hook.FROM_CONTAINER:
            return [self.frames]
        own = [packet for packet in self.frames if packet[26:30] == pod.ip.packed]
        pools = [own, own, own, self.frames]
        if pod.ip6 and len(self._families) > 1:
            own6 = [packet for packet in self.frames if packet[22:38] == pod.ip6.packed]
            pools += [own6, own6, own6]
        return pools

    def _set_sim(self) -> None:
        rng = self.rng
        vip = rng.choice((IPv4Address(LB_VIP), IPv6Address(SIX["lb"])))
        option = rng.choice((b"", dsr_option(vip, 80), rng.randbytes(12)))
        vni = rng.choice((2, 2, 6, 30001, rng.randrange(1 << 24)))
        record = struct.pack(
            "<QIII4sI36s", self.simulator.now * 1_000_000_000, rng.randrange(1 << 32), int(rng.random() < 0.9), vni,
            IPv4Address("10.1.0.9").packed, len(option), option,
        )  # fmt: skip
        for node in (self.simulator, self.twin):
            if node is not None:
                node.maps["ctctl_sim"].update(bytes(4), record)

    def problems(self, planted: dict[bytes, bytes]) -> list[str]:
        """What is not as it has to be after the run: entries, translations, counters, return codes."""
        return [*self._differ, *self._planted(planted), *self._tables(), *self._counters(), *self._twins()]

    def _twins(self) -> Iterator[str]:
        """What the node without XDP has otherwise: entries, and what was counted by whoever took a packet."""
        if self.twin is None:
            return
        for table in fields(mine := self.simulator.tables()):
            here, there = getattr(mine, table.name), getattr(self.twin.tables(), table.name)
            pairs = [(name, here[name], there[name]) for name in here] if table.name == "ct" else [("", here, there)]
            for name, records, others in pairs:
                for raw, value in sorted({*records} ^ {*others})[:TOLD]:
                    whose = "with" if (raw, value) in records else "without"
                    yield f"{name or table.name}: only {whose} XDP: {raw.hex()} {value.hex()}"
        mine_counted, others_counted = (_by_group(counters(node)) for node in (self.simulator, self.twin))
        for at in sorted(mine_counted.keys() | others_counted.keys()):
            if mine_counted[at] != others_counted[at]:
                yield f"{at}: {mine_counted[at]} are counted, {others_counted[at]} without XDP"

    def _planted(self, planted: dict[bytes, bytes]) -> Iterator[str]:
        now = {key: value for _, records in self._conntrack() for key, value in records}
        for key, value in planted.items():
            if now.get(key) != value:
                yield f"another flow's entry changed: {key.hex()}"

    def _tables(self) -> Iterator[str]:
        node = self.simulator
        rules = Rules(node.nf, NOW, node.now)
        for table, records in self._conntrack():
            yield from rules.conntrack(table, records)
        tables = node.tables()
        for snat in (tables.snat, tables.snat6):
            yield from rules.snat(dict(snat))

    def _counters(self) -> Iterator[str]:
        counted = drops(self.simulator)
        for hooks in COUNTED:
            seen = sum(n for (hook, _), n in counted.items() if hook in hooks)
            if seen != (want := sum(self.ran[hook] for hook in hooks)):
                yield f"{hooks}: {want} packets ran, {seen} are counted"
        dropped = sum(n for (_, reason), n in counted.items() if reason != "ok")
        if dropped != self.codes["drop"]:
            yield f"{self.codes['drop']} packets were dropped, {dropped} are counted"
        yield from (f"return {code}: {n}" for code, n in self.codes.items() if code not in RETURN_CODES.values())


def _by_group(counted: Mapping[tuple[str, str], tuple[int, int]]) -> Counter[tuple[str, str, str]]:
    """Packets and bytes by reason of the hooks that are counted together."""
    group_of = {hook: hooks[0] for hooks in COUNTED for hook in hooks}
    found: Counter[tuple[str, str, str]] = Counter()
    for (hook, reason), (packets, size) in counted.items():
        found[group_of[hook], reason, "packets"] += packets
        found[group_of[hook], reason, "bytes"] += size
    return found

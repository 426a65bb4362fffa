"""Random and mutated packets of both families through every hook, in every mode of the datapath.

Where packets start from is in ``tests.support.fuzz_seeds``; what the tables must keep to afterwards in
``tests.support.fuzz_rules``.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
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
    drops,
    frame,
)
from tests.support.fuzz_rules import MIN_FRAME, RELATED, Rules, key_of
from tests.support.fuzz_seeds import ETH_P_IPV6, FOUR, SIX, seeds

#: nothing, from the host, translated, a tunnel's, a pod's identity, the world's by the tunnel
MARKS = (0, 0, 0x0C00, 0x0300, 0x0400, identity_mark(20001), identity_mark(2) | 0x1000)
#: hooks whose packets are counted together: what comes by the tunnel from the wire is from_overlay's in the end
COUNTED = (
    ("from_container",),
    ("to_container",),
    ("from_netdev", "from_overlay"),
    ("to_netdev",),
    ("to_overlay",),
    ("xdp_netdev",),
)
RETURN_CODES = {0: "pass", 2: "drop", 7: "redirect"}
#: of XDP's program; what it passes on it has not touched, and is no packet of its counters
XDP_CODES = {1: "drop", 2: "passed on", 3: "redirect"}
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


@dataclass
class Fuzz:
    """One run over a simulator: ``ran`` packets by hook, their ``codes``."""

    simulator: Simulator
    rng: random.Random
    ran: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    frames: list[bytes] = field(init=False)
    _runs: dict[tuple[Hook, str, int], PreparedRun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.frames = seeds(self.simulator.nf)

    @property
    def _families(self) -> tuple[int, ...]:
        return (4, 6) if self.simulator.nf.datapath.ipv6 else (4,)

    def plant(self) -> dict[bytes, bytes]:
        """Connections that no packet of the run is of; their entries as they stand."""
        node = self.simulator
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
        pools = [self._pools(hook, pod) for pod in pods]
        for done in range(packets):
            if done % 64 == 0:
                node.now += rng.choice((0, 0, 1, 5, 61))
                self._set_sim()
            at = rng.randrange(len(pods))
            # What the first program leaves for the second is its CPU's.
            with one_cpu():
                code = self._one(hook, pods[at], mutated(rng, rng.choice(rng.choice(pools[at]))), rng.choice(MARKS))
            name = (XDP_CODES if hook is Hook.XDP_NETDEV else RETURN_CODES).get(code, f"code {code:#x}")
            self.codes[name] += 1
            self.ran[hook.value] += name != "passed on"

    def _one(self, hook: Hook, pod: Endpoint | None, packet: bytes, mark: int) -> int:
        """Through the program of its family; what that one leaves to the other (after decapsulation), through both."""
        if hook is Hook.XDP_NETDEV:
            return self._prepared(hook, pod, 4).run(packet)
        version = 6 if len(self._families) > 1 and packet[12:14] == ETH_P_IPV6 else 4
        run = self._prepared(hook, pod, version)
        run.context.mark = mark
        code = run.run(packet)
        if code != NEXT or version == 6 or len(self._families) == 1:
            return code
        first, run = run, self._prepared(hook, pod, 6)
        run.context.mark, run.context.cb[0] = first.mark_out, first.result().cb[0]
        # What is shorter cannot be test run, where a device would bring it.
        code = run.run(first.data.ljust(MIN_FRAME6, b"\0"))
        run.context.cb[0] = 0
        return code

    def _prepared(self, hook: Hook, pod: Endpoint | None, version: int) -> PreparedRun:
        slot = (hook, pod.name if pod else "", version)
        if slot not in self._runs:
            program = self.simulator.program(hook, pod, version)
            self._runs[slot] = program.prepare_test_run(max_frame=4096)
        return self._runs[slot]

    def _pools(self, hook: Hook, pod: Endpoint | None) -> list[list[bytes]]:
        """What packets are taken from: out of a pod mostly its own, the rest would get no further."""
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
        self.simulator.maps["ctctl_sim"].update(bytes(4), record)

    def problems(self, planted: dict[bytes, bytes]) -> list[str]:
        """What is not as it has to be after the run: entries, translations, counters, return codes."""
        return [*self._planted(planted), *self._tables(), *self._counters()]

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
        yield from (
            f"return {code}: {n}"
            for code, n in self.codes.items()
            if code not in {*RETURN_CODES.values(), *XDP_CODES.values()}
        )

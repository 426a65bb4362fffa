"""No sentence of a trace that nothing provokes: the code's are listed from the code, and held to those told.

The packets are those of the conformance vectors and a few of this file's, every one through the real programs.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP

from ctctl.decode.ct import TUPLE_SERVICE, encode_key
from ctctl.events import explain as module
from ctctl.events.explain import DROP_SENTENCES, explain
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.object import BpfObject
from ctctl.model.event import HookEvent, Why
from ctctl.model.tuples import FlowTuple
from ctctl.packet.geneve import Geneve
from ctctl.simulate.maps import SimulatedMaps
from ctctl.simulate.scenario import run
from ctctl.simulate.simulator import Simulator
from tests.conformance.run import load, scenario
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    MAC_HERE,
    MAC_THERE,
    NODE,
    NODE_IP,
    NOW,
    POD,
    POD2,
    REMOTE,
    VIP,
    node_file,
    send,
    service,
    simulated,
)

pytestmark = pytest.mark.kernel

CONFORMANCE = Path(__file__).parents[1] / "conformance"
VECTORS = sorted([*(CONFORMANCE / "vectors").glob("*.json"), *(CONFORMANCE / "vectors-2").rglob("*.json.xz")])

#: What no packet can provoke, and why.
BEYOND = {
    "no explanation for this reason": "of a reason that the command does not know: the programs are newer",
    DROP_SENTENCES["write_error"]: "the kernel has no memory to change a packet",
    DROP_SENTENCES["csum_l3"]: "the IP checksum is written by the program itself",
    DROP_SENTENCES["unknown_ct"]: "a state that lookups do not return",
}


def events(documents: Iterator[dict[str, Any]], tmp_path: Path) -> Iterator[HookEvent]:
    """Every event of some scenarios."""
    for number, document in enumerate(documents):
        path = tmp_path / f"{number}.yaml"
        path.write_text(json.dumps(document))
        for record in run(path, lambda _record: {}):
            yield from record.result.events if record.result is not None else ()


def own_events() -> Iterator[HookEvent]:
    """What no recording has: Maglev, the frames that only we refuse, a table that cannot take an entry."""
    web = service("web", VIP, 80, 7, (101, REMOTE, 8080))
    host = Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), 1)
    with simulated(node_file({"lb": {"algorithm": "maglev"}}, services=[web])) as node:
        for hook, packet, how in (
            ("from_container", f"tcp {POD}:1 > {VIP}:80 S", {}),
            ("from_container", bytes(12) + (40).to_bytes(2, "big") + bytes(46), {"endpoint": "pod1"}),
            ("from_overlay", f"tcp {CLIENT}:1 > {POD2}:80 S", {"geneve": host}),
        ):
            yield from send(node, hook, packet, **how).events
        # An entry that another service left behind.
        _write(node, FlowTuple(6, IPv4Address(POD), 2, IPv4Address(VIP), 80), rev_nat=99)
        yield from send(node, "from_container", f"tcp {POD}:2 > {VIP}:80 A").events
    yield from _of_full_table({}, [], "from_container", f"tcp {POD}:1 > {REMOTE}:80 S")
    yield from _of_full_table({"masquerade": True}, [], "to_netdev", f"tcp {NODE_IP}:40000 > {CLIENT}:80 S")
    here = service("here", LB_VIP, 80, 8, (102, POD2, 8080), type="LoadBalancer")
    known = FlowTuple(6, IPv4Address(CLIENT), 1, IPv4Address(LB_VIP), 80)
    yield from _of_full_table({}, [here], "from_netdev", f"tcp {CLIENT}:1 > {LB_VIP}:80 S", known)
    yield from _of_unknown_l4()


def _value(rev_nat: int = 0, backend: int = 0) -> bytes:
    head = bytes(8) + backend.to_bytes(8, "little") + bytes(16) + (NOW + 60).to_bytes(4, "little")
    return (head + bytes(2) + rev_nat.to_bytes(2, "big")).ljust(56, b"\0")


def _write(node: Simulator, flow: FlowTuple, rev_nat: int) -> None:
    node.maps["cilium_ct4_global"].update(encode_key(flow, TUPLE_SERVICE), _value(rev_nat))


def _of_full_table(
    datapath: dict[str, Any], services: list[Any], hook: str, packet: str, known: FlowTuple | None = None
) -> Iterator[HookEvent]:
    """An LRU never fails: here the table is a plain hash, full with the SERVICE entry of ``known`` or another."""
    share = SimulatedMaps.share
    with Map.create("full", MapType.HASH, 14, 56, 1) as full, pytest.MonkeyPatch.context() as patch:
        full.update(bytes(14) if known is None else encode_key(known, TUPLE_SERVICE), _value(8, 102))

        def share_full(maps: SimulatedMaps, bpf: BpfObject) -> None:
            share(maps, bpf)
            bpf.reuse_map("cilium_ct4_global", full)

        patch.setattr(SimulatedMaps, "share", share_full)
        with simulated(node_file(datapath, services=services)) as node:
            yield from send(node, hook, packet).events


def _of_unknown_l4() -> Iterator[HookEvent]:
    """The last hop of an IPv6 packet that nobody knows how much of to quote."""
    node = {**NODE["node"], "ip6": "fd00:1::1", "pod-cidr6": "fd00:64::/112"}
    endpoints = [{**pod, "ip6": f"fd00:64::{number}"} for number, pod in enumerate(NODE["endpoints"], 1)]
    at = Geneve(IPv4Address("10.1.0.2"), IPv4Address(NODE_IP), 30001)
    inner = IPv6(src="fd00:65::9", dst="fd00:64::2", hlim=1) / SCTP(sport=1, dport=2)
    packet = bytes(Ether(src=MAC_THERE.hex(":"), dst=MAC_HERE.hex(":")) / inner)
    with simulated(node_file({"ipv6": True, "sctp": True}, node=node, endpoints=endpoints)) as six:
        yield from send(six, "from_overlay", packet, geneve=at).events


@pytest.fixture(scope="module")
def provoked(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, set[str]]:
    """Every sentence that was told, as one text, and the names of every reason why."""
    documents = (scenario(load(path)) for path in VECTORS)
    sentences: set[str] = set()
    why: set[str] = set()
    for event in (*events(documents, tmp_path_factory.mktemp("sentences")), *own_events()):
        sentences.update(explain(event))
        why.update(name for lookup in event.lookups for name in lookup.why.names())
    return "\n".join(sorted(sentences)), why


def templates() -> list[str]:
    """Every sentence of the module as a pattern, in the order of its lines."""
    tree = ast.parse(Path(module.__file__).read_text())
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        values: list[ast.expr] = []
        if isinstance(node, ast.Yield) and node.value is not None:
            values = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            values = node.args
        elif isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Dict | ast.Tuple):
            values = [one for one in ast.walk(node.value) if isinstance(one, ast.Constant) and _is_words(one)]
            if isinstance(node.value, ast.Dict):
                values = [one for one in node.value.values if isinstance(one, ast.Constant)]
        elif isinstance(node, ast.Return) and node.value is not None:
            values = [node.value]
        for value in values:
            pattern = _pattern(value)
            if pattern is not None:
                found[pattern] = None
    return list(found)


def _is_words(constant: ast.Constant) -> bool:
    return isinstance(constant.value, str) and " " in constant.value


def _pattern(value: ast.expr) -> str | None:
    for one in ast.walk(value):
        if isinstance(one, ast.JoinedStr):
            parts = [re.escape(p.value) if isinstance(p, ast.Constant) else ".*" for p in one.values]
            text = "".join(str(part) for part in parts)
            return text if len(re.sub(r"\.\*|\W", "", text)) > 6 else None
        if isinstance(one, ast.Constant) and _is_words(one):
            return re.escape(str(one.value))
    return None


def test_every_sentence_is_provoked(provoked: tuple[str, set[str]]) -> None:
    text, _ = provoked
    known = {re.escape(words) for words in BEYOND}
    found = templates()
    assert len(found) > 60
    missing = [pattern for pattern in found if pattern not in known and re.search(pattern, text) is None]
    assert missing == []
    # What is said to be beyond is: else it is a sentence like any other.
    assert [pattern for pattern in known if re.search(pattern, text) is not None] == []


def test_every_reason_why_is_provoked(provoked: tuple[str, set[str]]) -> None:
    _, why = provoked
    assert {str(bit.name).lower() for bit in Why} - why == set()

"""A live service resolves at every moment of an update: never to nothing, never to a backend that is not its own."""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import pytest

from ctctl.kernel.map import Map
from ctctl.kernel.object import BpfObject
from ctctl.kernel.program import PreparedRun, Program
from ctctl.node import update as update_module
from ctctl.node import write
from ctctl.node.attach import AttachMode
from ctctl.node.diff import Change
from ctctl.node.loader import load
from ctctl.node.unload import unload
from ctctl.node.update import update
from ctctl.packet.frame import build_frame
from ctctl.packet.text import parse_packet_text
from tests.support.bpf import FRAME, compile_file
from tests.support.loaded import attached_ids
from tests.support.nodes import POD_NET, TestNode, make_node, run
from tests.support.wait import PATIENCE_S, wait_for

pytestmark = pytest.mark.kernel

CLIENT = f"{POD_NET}.11"
VIP = "10.68.0.1"
TC_ACT_SHOT = 2
_DESTINATION = slice(30, 34)
_SOURCE_PORT = 34


def backend(number: int, state: str = "active") -> dict[str, Any]:
    return {"id": 100 + number, "ip": f"10.244.8.{number}", "port": 8000, "state": state}


#: What the service's backends become in turn: grown, shrunk, exchanged altogether, drained, re-ordered.
BACKENDS = [
    [backend(1), backend(2), backend(3)],
    [backend(4)],
    [backend(5), backend(6), backend(7), backend(8)],
    [backend(8), backend(5)],
    [backend(8, "terminating"), backend(9)],
    [backend(9), backend(1), backend(2)],
]


def changes(node: TestNode, number: int, algorithm: str) -> dict[str, Any]:
    document = node.document()
    document["datapath"]["lb"]["algorithm"] = algorithm
    chosen = BACKENDS[number % len(BACKENDS)]
    document["services"] = [{"name": "live", "ip": VIP, "port": 80, "id": 15, "backends": chosen}]
    # A service that comes and goes beside it.
    if number % 2:
        document["services"].append({"ip": "10.68.0.2", "port": 80, "id": 16, "backends": [backend(1)]})
    return document


class Client:
    """New connections to the service, by test run of the very program that is attached to the pod."""

    def __init__(self, node: TestNode) -> None:
        slots = attached_ids(node)
        self._program = Program.from_id(next(slots[slot] for slot in slots if slot.endswith("from_container")))
        self._run: PreparedRun = self._program.prepare_test_run()
        spec = parse_packet_text(f"tcp {CLIENT}:1024 > {VIP}:80 S")
        self._frame = bytearray(build_frame(spec, "02:00:00:00:00:01", "02:00:00:00:00:02"))
        self._port = 1024

    def connect(self) -> str | None:
        """A SYN from a port that was not used for long: the backend's address, None if it was dropped or refused."""
        self._port = 1024 + (self._port - 1023) % 60000
        # The checksum stays that of the first port: the datapath updates it without looking at it.
        struct.pack_into("!H", self._frame, _SOURCE_PORT, self._port)
        if self._run.run(bytes(self._frame)) == TC_ACT_SHOT:
            return None
        address = str(IPv4Address(self._run.data[_DESTINATION]))
        return address if address.startswith("10.244.8.") else None

    def close(self) -> None:
        self._program.close()


@pytest.fixture(params=["maglev", "random"])
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def node(algorithm: str) -> Iterator[TestNode]:
    with make_node() as made:
        load(made.request(**changes(made, 0, algorithm)))
        yield made
        unload(made.name)


def flush(node: TestNode) -> None:
    """Forget old connections: each port is a new one again."""
    with Map.open_pinned(node.dir / "cilium_ct4_global") as table:
        for _batch in table.drain():
            pass


@dataclass
class Watched:
    """What new connections met after every single change of a table."""

    failures: list[str]
    lookups: int = 0


def watch(node: TestNode, monkeypatch: pytest.MonkeyPatch) -> Watched:
    client, seen = Client(node), Watched([])

    def carry_out(maps: dict[str, Map], change: Change) -> None:
        write.carry_out(maps, change)
        for _ in range(32):
            seen.lookups += 1
            if client.connect() is None:
                seen.failures.append(f"{change.action} in {change.table}")

    monkeypatch.setattr(update_module, "carry_out", carry_out)
    return seen


def test_service_resolves_after_every_single_change(
    node: TestNode, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(node, monkeypatch)
    for number in range(1, 2 * len(BACKENDS) + 1):
        flush(node)
        update(node.request(**changes(node, number, algorithm)))
    assert seen.failures == []
    assert seen.lookups > 2000


def test_the_watch_sees_a_wrong_order(node: TestNode, algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same changes in the opposite order do leave moments without a backend."""
    seen = watch(node, monkeypatch)
    right = update_module.changes
    monkeypatch.setattr(update_module, "changes", lambda have, want: right(have, want)[::-1])
    monkeypatch.setattr(update_module, "is_addition", lambda change: True)
    for number in range(1, len(BACKENDS)):
        flush(node)
        update(node.request(**changes(node, number, algorithm)))
    assert seen.failures


def test_service_resolves_while_updates_run(node: TestNode, algorithm: str) -> None:
    """The same from another process, at moments nobody chose, while backends are exchanged again and again."""
    reading, writing = os.pipe()
    made = mmap.mmap(-1, mmap.PAGESIZE)  # shared: the process counts, this one reads
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os._exit(_connect_until_closed(node, reading, made))
    os.close(reading)
    try:
        numbers = itertools.count(1)

        def updated_enough() -> bool:
            number = next(numbers)
            update(node.request(**changes(node, number, algorithm)))
            return number >= 40 and _count(made) > 10_000

        wait_for(updated_enough, what="enough connections and enough updates beside them")
    finally:
        os.close(writing)
        status = os.waitpid(pid, 0)[1]
        made.close()
    assert os.waitstatus_to_exitcode(status) == 0


def _count(made: mmap.mmap) -> int:
    return int.from_bytes(made[:8], "little")


def _connect_until_closed(node: TestNode, stop: int, made: mmap.mmap) -> int:
    """0: every connection found a backend; 1: one did not."""
    os.set_blocking(stop, False)
    client = Client(node)
    while True:
        for _ in range(64):
            if client.connect() is None:
                made[:8] = (1 << 62).to_bytes(8, "little")  # nobody need wait for more
                return 1
        made[:8] = (_count(made) + 64).to_bytes(8, "little")
        try:
            if os.read(stop, 1) == b"":
                return 0
        except BlockingIOError:
            continue


def test_the_wait_outlasts_a_program_that_is_running() -> None:
    """A real program in the middle of a packet: nothing it may have looked at is taken away before it has ended."""
    with BpfObject.open(compile_file("slow.bpf.c")) as bpf:
        bpf.load()
        with bpf.map("words").mmap() as raw, raw.cast("Q") as words, write.Quiescence() as quiescence:
            started_at, end, ended = 0, 1, 2
            seen: list[int] = []

            def wait() -> None:
                quiescence.wait()
                seen.append(words[ended])

            running = threading.Thread(target=bpf.program("slow").test_run, args=(FRAME,))
            waiting = threading.Thread(target=wait)
            running.start()
            wait_for(lambda: words[started_at], what="the program to run")
            waiting.start()
            # Long enough for one that does not wait to be found out. Who waits is right after any time.
            waiting.join(0.2)
            words[end] = 1
            running.join(PATIENCE_S)
            waiting.join(PATIENCE_S)
            assert seen == [1]


def test_nothing_is_removed_without_the_wait(node: TestNode, algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a removed record was named by, packets under way have ended between the one going and the other."""
    told: list[str] = []
    own_wait, own_maglev = write.Quiescence.wait, write.carry_out_maglev

    def wait(self: write.Quiescence) -> None:
        own_wait(self)
        told.append("wait")

    def carry_out(maps: dict[str, Map], change: Change) -> None:
        write.carry_out(maps, change)
        told.append(change.phase.name)

    def carry_out_maglev(maps: dict[str, Map], changes: list[Change]) -> None:
        own_maglev(maps, changes)
        told.extend(change.phase.name for change in changes)

    monkeypatch.setattr(write.Quiescence, "wait", wait)
    monkeypatch.setattr(update_module, "carry_out", carry_out)
    monkeypatch.setattr(update_module, "carry_out_maglev", carry_out_maglev)
    removals = set()
    for number in range(1, len(BACKENDS)):
        told.clear()
        update(node.request(**changes(node, number, algorithm)))
        for at, phase in enumerate(told):
            if phase.startswith("REMOVE") and phase not in told[:at]:
                assert told[at - 1] == "wait", told
        removals |= {phase for phase in told if phase.startswith("REMOVE")}
    assert removals == {"REMOVE_FRONTENDS", "REMOVE_REFERENCES", "REMOVE_BACKENDS"}


def test_a_pods_records_are_there_while_its_programs_run_until_it_goes(algorithm: str) -> None:
    """Looked at in the kernel at every step of an apply that makes a pod come."""
    with make_node(pods=2) as made:
        document = changes(made, 0, algorithm)
        one = {**document, "endpoints": document["endpoints"][:1]}
        # Filters, which every kernel has and tc(8) shows.
        load(made.request(request={"attach": AttachMode.tc}, **one))
        try:
            looks: list[tuple[bool, bool]] = []
            address = IPv4Address(f"{POD_NET}.12").packed

            def look(_step: str) -> None:
                with Map.open_pinned(made.dir / "cilium_lxc") as table:
                    known = any(key[:4] == address for key, _ in table.items())
                attached = run("tc", "-n", made.name, "filter", "show", "dev", "lxc2", "ingress")
                looks.append((known, "bpf" in attached))

            rule = {"endpoint": "pod2", "direction": "ingress", "cidr": "10.0.0.0/8", "port": 80}
            update(made.request(request={"step": look}, **{**document, "policy": [rule]}))
            look("afterwards")
            assert looks[0] == (False, False)
            assert looks[-1] == (True, True)
            assert (False, True) not in looks
            assert (True, False) in looks
        finally:
            unload(made.name)

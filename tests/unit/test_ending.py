"""What became of a connection, from what hooks told: said as far as it was seen, and no further."""

from __future__ import annotations

import io
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ctctl.events.brief import brief_line
from ctctl.events.ending import Ending
from ctctl.events.explain import DROP_SENTENCES
from ctctl.model.event import CtResult, Hook, HookEvent, LookupDirection, LookupKind, LookupRecord, Verdict, Why
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.out.fit import command, wrapped
from ctctl.trace.show import TableTrace

CLIENT, VIP, POD = ip_address("172.191.0.1"), ip_address("172.190.0.17"), ip_address("10.64.0.98")
TO_VIP = FlowTuple(6, CLIENT, 54260, VIP, 80)
TO_POD = FlowTuple(6, CLIENT, 54260, POD, 8000)
SYN, SYN_ACK, ACK, FIN, RST = 0x02, 0x12, 0x10, 0x11, 0x14


def at(hook: Hook, came: FlowTuple, left: FlowTuple | None = None, flags: int | None = ACK) -> HookEvent:
    return HookEvent(
        1, 0, hook, 7, came, left or came, Verdict.PASS, node="node-a", device="lxc1" if "cont" in hook else "eth0",
        tcp_flags=flags,
    )  # fmt: skip


ASKED = [
    at(Hook.FROM_NETDEV, TO_VIP, TO_POD, SYN),
    at(Hook.TO_CONTAINER, TO_POD, flags=SYN),
]
ANSWER = at(Hook.FROM_CONTAINER, TO_POD.reversed(), TO_VIP.reversed(), SYN_ACK)
DROP = replace(at(Hook.TO_CONTAINER, TO_POD, flags=SYN), verdict=Verdict.DROP, reason="policy")
CLIENT_FIN, POD_FIN = at(Hook.FROM_NETDEV, TO_VIP, TO_POD, FIN), at(Hook.FROM_CONTAINER, TO_POD.reversed(), flags=FIN)
RESET = at(Hook.FROM_CONTAINER, TO_POD.reversed(), TO_VIP.reversed(), RST)
SERVER_FIN = at(Hook.FROM_CONTAINER, TO_POD.reversed(), TO_VIP.reversed(), FIN)
CLIENT_RST = at(Hook.FROM_NETDEV, TO_VIP, TO_POD, RST)


def icmp(kind: int, code: int) -> HookEvent:
    """An ICMP error of the pod about the connection."""
    flow = FlowTuple(1, POD, 0, CLIENT, 0)
    record = LookupRecord(
        LookupKind.CT,
        LookupDirection.EGRESS,
        CtResult.RELATED,
        "cilium_ct_any4_global",
        flow,
        Direction.IN,
        True,
        Why.HIT,
    )
    event = at(Hook.FROM_CONTAINER, flow, flags=None)
    return replace(event, icmp_type=kind, icmp_code=code, lookups=(record,))


def found(event: HookEvent, kind: LookupKind, direction: LookupDirection, entry: Direction) -> HookEvent:
    """The event, with an entry that the programs call a reply's."""
    record = LookupRecord(kind, direction, CtResult.REPLY, "cilium_ct4_global", event.tuple_in, entry, False, Why.HIT)
    return replace(event, lookups=(record,))


#: A trace that is begun while the connection is known: the service's entry is found, and says nothing of who answers.
KEPT = found(at(Hook.FROM_CONTAINER, TO_VIP, TO_POD, SYN), LookupKind.SERVICE, LookupDirection.SERVICE, Direction.SVC)
REPLIED = found(at(Hook.TO_CONTAINER, TO_VIP.reversed()), LookupKind.CT, LookupDirection.INGRESS, Direction.OUT)

DENIED = DROP_SENTENCES["policy"]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (ASKED[:1], "sent on by from_netdev on eth0 of node-a, where it went then no hook here saw, "
                    "not answered while this was watched"),
        (ASKED, "delivered to lxc1 of node-a, not answered while this was watched"),
        ([*ASKED, ANSWER], "delivered to lxc1 of node-a, answered, still open"),
        ([ANSWER, ASKED[0]], "delivered, answered, still open"),
        ([KEPT, ASKED[1]], "delivered to lxc1 of node-a, not answered while this was watched"),
        ([KEPT, replace(KEPT, tcp_flags=FIN), ANSWER], "delivered, answered, "
                                                       "half closed: only the client has sent FIN"),
        ([REPLIED, CLIENT_FIN], "delivered, answered, half closed: only the client has sent FIN"),
        ([*ASKED, RESET], "delivered to lxc1 of node-a, refused with RST"),
        ([*ASKED, ANSWER, RESET], "delivered to lxc1 of node-a, answered, reset by the server"),
        ([*ASKED, ANSWER, CLIENT_FIN], "delivered to lxc1 of node-a, answered, "
                                       "half closed: only the client has sent FIN"),
        ([*ASKED, ANSWER, SERVER_FIN], "delivered to lxc1 of node-a, answered, "
                                       "half closed: only the server has sent FIN"),
        ([*ASKED, ANSWER, CLIENT_RST], "delivered to lxc1 of node-a, answered, reset by the client"),
        ([*ASKED, icmp(3, 3)], "delivered to lxc1 of node-a, refused with ICMP type 3 code 3 from 10.64.0.98"),
        ([*ASKED, icmp(3, 4)], "delivered to lxc1 of node-a, answered by ICMP type 3 code 4 from 10.64.0.98"),
        ([*ASKED, ANSWER, icmp(11, 0)], "delivered to lxc1 of node-a, answered, still open"),
        ([*ASKED, ANSWER, CLIENT_FIN, POD_FIN], "delivered to lxc1 of node-a, answered, closed by both"),
        ([ASKED[0], DROP], f"dropped at to_container on lxc1 of node-a: policy ({DENIED})"),
        ([ASKED[0], DROP, DROP], "dropped 2 times, last at to_container on lxc1 of node-a: policy "
                                 f"({DENIED})"),
        ([*(replace(ASKED[0], time_ns=n) for n in range(8)), replace(DROP, reason="ttl_exceeded")],
            "a loop: the same packet came by again and again until dropped at to_container on lxc1 of node-a: "
            "ttl_exceeded (the TTL has run out)"),
        ([replace(ASKED[0], time_ns=n) for n in range(8)],
            "sent on by from_netdev on eth0 of node-a, where it went then no hook here saw, not answered while this "
            "was watched, the same SYN again and again within a second: a loop, or a sender that does not wait"),
    ],
)  # fmt: skip
def test_what_became_of_it(events: list[HookEvent], said: str) -> None:
    ending = Ending()
    for event in events:
        ending.add(event)
    assert ending.sentence() == said


def test_what_is_sent_again_is_no_loop() -> None:
    ending = Ending()
    for seconds in range(20):
        ending.add(replace(ASKED[0], time_ns=seconds * 200_000_000))
    assert "loop" not in ending.sentence()


def test_a_line_an_event_and_the_end_of_each_connection() -> None:
    stream = io.StringIO()
    table = TableTrace(stream, color=False)
    for event in (*ASKED, ANSWER):
        table.event(event, 1)
    table.finish(lost=2)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == (
        "0s  #1  node-a  from_netdev eth0  tcp 172.191.0.1:54260 > 172.190.0.17:80 S  "
        "translated to 172.191.0.1:54260 > 10.64.0.98:8000  passed"
    )
    assert lines[3].startswith("── connection 1: ")
    assert lines[3].endswith("answered, still open")
    assert "2 events were lost" in lines[4]


def test_a_drop_is_said_with_its_reason() -> None:
    assert ("  dropped: policy", "bold red") in brief_line(DROP, time_text="0s")


@pytest.mark.parametrize("room", [20, 33, 80])
def test_a_wrapped_line_loses_nothing(room: int) -> None:
    pieces = [("one two", "bold"), ("  three four five", ""), (" " + "x" * 50, "red"), ("", ""), (" six", "")]
    lines = list(wrapped(pieces, room))
    texts = ["".join(text for text, _ in line) for line in lines]
    assert max(map(len, texts)) <= room
    assert "".join("".join(texts).split()) == "".join("".join(text for text, _ in pieces).split())


def test_a_wrapped_command_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "40")
    text = "ctctl ct list --from cilium-sysdump.zip --expired --sort remaining --limit 5"
    shown = command(text, Terminal(), "  show: ")
    assert max(map(len, shown.splitlines())) <= 40
    assert shown.removeprefix("  show: ").replace("\\\n", " ").split() == text.split()
    assert command(text, io.StringIO(), "  show: ") == f"  show: {text}\n"


def test_connections_beyond_what_is_remembered_are_counted() -> None:
    stream = io.StringIO()
    table = TableTrace(stream, color=False)
    for number in range(1002):
        table.event(ASKED[0], number)
    table.finish()
    assert stream.getvalue().splitlines()[-1] == "── and 2 connections more"

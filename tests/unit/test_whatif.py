"""What-if entries (``--set``): what is read, and what is refused with the reason."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from ctctl.errors import UsageError
from ctctl.model.entry import CtFlags
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.simulate.whatif import parse_change

FLOW = FlowTuple(6, IPv4Address("10.64.0.36"), 40000, IPv4Address("10.96.0.10"), 80)


def test_a_change() -> None:
    change = parse_change(
        "entry tcp svc 10.64.0.36:40000 > 10.96.0.10:80 node=a flags=RxClosing,TxClosing remaining=-5s backend_id=0x10"
    )
    assert (change.flow, change.direction, change.related, change.node) == (FLOW, Direction.SVC, False, "a")
    assert change.values == {
        "flags": CtFlags.RxClosing | CtFlags.TxClosing,
        "remaining": -5,
        "backend_id": 16,
    }


def test_the_arrow_needs_no_blanks_and_flags_may_be_numbers() -> None:
    change = parse_change("tcp SVC 10.64.0.36:40000->10.96.0.10:80 flags=0x813 lifetime=12")
    assert change.flow == FLOW
    assert change.values == {"flags": CtFlags(0x813), "lifetime": 12}


def test_related_and_without_ports() -> None:
    change = parse_change("icmp out 10.64.0.36 > 10.64.1.1 related")
    assert (change.related, change.flow.proto, change.flow.src_port) == (True, 1, 0)


def test_both_families() -> None:
    change = parse_change("tcp out [fd00::1]:40000 > [fd00::2]:80 remaining=5s")
    assert change.flow == FlowTuple(6, IPv6Address("fd00::1"), 40000, IPv6Address("fd00::2"), 80)
    # ICMP is of the addresses' family.
    assert parse_change("icmp out fd00::1 > [fd00::2]").flow == FlowTuple(
        58, IPv6Address("fd00::1"), 0, IPv6Address("fd00::2"), 0
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an entry reads"),
        ("tcp out [fd00::1]:1 > 10.64.1.1:2", "two families"),
        ("tcp out [fd00::1:1 > [fd00::2]:2", "is not ADDRESS"),
        ("tcp out 10.64.0.36:1", "an entry reads"),
        ("tpc out 10.64.0.36:1 > 10.64.1.1:2", "tpc"),
        ("tcp sideways 10.64.0.36:1 > 10.64.1.1:2", "sideways"),
        ("tcp out 10.64.0.366:1 > 10.64.1.1:2", "10.64.0.366:1"),
        ("tcp out 10.64.0.36:70000 > 10.64.1.1:2", "70000"),
        ("tcp out 10.64.0.36:1 > 10.64.1.1:2 flag=RxClosing", "did you mean 'flags'"),
        ("tcp out 10.64.0.36:1 > 10.64.1.1:2 flags=RxClosed", "RxClosing"),
        ("tcp out 10.64.0.36:1 > 10.64.1.1:2 lifetime=long", "lifetime"),
        ("tcp out 10.64.0.36:1 > 10.64.1.1:2 lifetime=-1", "negative"),
        ("tcp out '10.64.0.36:1 > 10.64.1.1:2", "quotation"),
    ],
)
def test_what_is_no_change(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_change(text)

"""``conntrack -L`` and ``/proc/net/nf_conntrack`` as text: what ``--from nf`` reads by netlink.

The two directions stand one after the other as ``src= dst= sport= dport= …``; what netfilter says in
words (a TCP state, ``[UNREPLIED]``) becomes the same flag bits as there.
"""

from __future__ import annotations

import re

from ctctl.errors import DecodeError
from ctctl.model.clock import Clock
from ctctl.model.entry import SEEN_NON_SYN
from ctctl.model.tuples import EITHER_ICMP, FlowTuple
from ctctl.tables.sources.dump import Collected, Dump
from ctctl.tables.sources.nf import COUNTERS, TCP_STATES, nf_record, nf_table
from ctctl.tables.sources.values import address, digits

#: A line of either form: the family's name and number, or an event's word, may stand in front.
LINE = re.compile(
    r"\s{0,40}(?:\[[\d.]{1,20}\]\s{0,8})?(?:\[(?P<event>NEW|UPDATE|DESTROY)\]\s{1,8})?(?:ipv[46]\s+\d{1,2}\s+)?"
    r"(?P<name>[a-z][a-z0-9-]{1,9})\s+(?P<proto>\d{1,3})\s+"
    r"(?:(?P<timeout>\d{1,10})\s+)?(?:(?P<state>[A-Z][A-Z_0-9]{2,12})\s+)?"
    r"(?P<rest>(?:\[[A-Z]+\]\s+)?src=[0-9a-fA-F.:]{2,45}\s.*)"
)
#: The line that the program ends with.
END = re.compile(r"conntrack v\d.{0,60}flow entries have been shown")
_PAIR = re.compile(r"(?<![\w-])([a-z][a-z-]{1,9})=([0-9a-fA-F.:x]{1,45})(?![\w.:])")
#: The kernel's TCP states by the name that listings have.
STATES = (
    *("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT"),
    *("CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"),
)
#: The time left counts from the listing, whose time nothing says: lifetimes are seconds from then.
CLOCK = Clock(None, "ktime: lifetimes count from the listing, whose time is taken for 0")


def add_line(dump: Dump, match: re.Match[str]) -> None:
    """One connection, or an event of one. Raises DecodeError if it cannot be read."""
    if match["event"] is not None:
        dump.lose(
            "event(s) of conntrack -E", match.string, "that are no table: what has ended since may be among these"
        )
    if match["event"] == "DESTROY":
        return
    pairs = _PAIR.findall(match["rest"][:1000])
    starts = [index for index, (name, _) in enumerate(pairs) if name == "src"]
    if len(starts) < 2:
        raise DecodeError("a connection without both directions")
    original, reply = dict(pairs[starts[0] : starts[1]]), dict(pairs[starts[1] :])
    proto = digits(match["proto"], 8)
    flow, answer = _flow(proto, original), _flow(proto, reply)
    state = match["state"]
    if proto == 6 and state in STATES:
        flags = TCP_STATES.get(STATES.index(state), 0)
    else:
        flags = 0 if "[UNREPLIED]" in match["rest"] else SEEN_NON_SYN
    counters = tuple(_counters(side) for side in (original, reply))
    timeout = digits(match["timeout"]) if match["timeout"] else 0
    record = nf_record(flow, answer, flags=flags, lifetime=timeout, rx=counters[0], tx=counters[1])
    if record is None:
        raise DecodeError("a connection that no key can hold")
    family, key, value, nat = record
    table_of(dump, family, counted="packets" in original or "packets" in reply).add(key, value)
    if nat is not None:
        dump.listings.add_nat(nat)


def table_of(dump: Dump, family: int, *, counted: bool) -> Collected:
    """The table of a family, made when it is first asked for; ``counted``: of a connection with counters."""
    table = dump.tables.get(f"nf_conntrack{family}")
    if table is None:
        table = dump.tables[f"nf_conntrack{family}"] = nf_table(family)
        table.absent |= COUNTERS
        table.time = (CLOCK, 0)
    if counted:
        table.absent -= COUNTERS
    return table


def _flow(proto: int, side: dict[str, str]) -> FlowTuple:
    try:
        src, dst = address(side["src"]), address(side["dst"])
    except KeyError as error:
        raise DecodeError(f"a direction without {error}") from error
    if src.version != dst.version:
        raise DecodeError("addresses of both families")
    if proto in EITHER_ICMP:
        return FlowTuple(proto, src, digits(side.get("id", "0"), 16), dst, 0)
    return FlowTuple(proto, src, digits(side.get("sport", "0"), 16), dst, digits(side.get("dport", "0"), 16))


def _counters(side: dict[str, str]) -> tuple[int, int]:
    return digits(side.get("packets", "0"), 64), digits(side.get("bytes", "0"), 64)

"""Are entries what they should be, each by itself and together with those it belongs to?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ctctl.decode.columns import Slot
from ctctl.decode.ct import TUPLE_RELATED
from ctctl.doctor.facts import BUILD_UP, BUILD_UP_SHARE, Facts
from ctctl.doctor.finding import Finding, Severity
from ctctl.doctor.table import TableFacts, words
from ctctl.model.entry import CtFlags
from ctctl.model.timeouts import Timeouts
from ctctl.model.units import counted
from ctctl.tables import pairs as _keys

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: By default an open connection is kept longer than the kernel's keepalive (2 h), which must stay so.
_DEFAULT_TCP_S = Timeouts().regular_tcp


def _one_sided(table: TableFacts) -> NDArray[np.bool_]:
    """Half closed entries that never saw a packet of the side that has not closed."""
    found: NDArray[np.bool_] = np.where(
        (table.closing & np.uint16(CtFlags.TxClosing)) != 0, ~table.saw_rx, ~table.saw_tx
    )
    # Where neither side was ever seen, nobody told (nf_conntrack).
    return found & table.half_closed & (table.saw_rx | table.saw_tx)


def half_closed(facts: Facts) -> Iterator[Finding]:
    """Connections with one FIN seen and the other side's packets too: they keep the long lifetime."""
    for table in facts.large_tables:
        tcp = table.flow & table.tcp & table.alive
        mask = tcp & table.half_closed & ~_one_sided(table)
        count, of = int(mask.sum()), int(tcp.sum())
        if count >= BUILD_UP and count >= BUILD_UP_SHARE * of:
            yield Finding(
                "half-closed",
                Severity.WARNING,
                table.name,
                f"{count} of {of} TCP entries are half closed: one side sent FIN, the other never did",
                "look for the server that does not close (ctctl ct top --by dst 'state == closing'); until it does, "
                "each entry lives as long as an open connection",
                {"half_closed": count, "tcp": of, "top": table.top(mask, Slot.DST), "examples": table.examples(mask)},
                (
                    facts.look("ctctl ct top 'tcp and state == closing' --by dst"),
                    facts.look("ctctl ct list 'tcp and not svc and state == closing' --limit 20"),
                ),
                (facts.change("ctctl ct delete 'tcp and not svc and state == closing and idle > 600s'"),),
            )


def one_way(facts: Facts) -> Iterator[Finding]:
    """Connections that were used and of which one direction was never seen: its packets take another way."""
    for table in facts.large_tables:
        tcp = table.flow & table.tcp & table.alive
        used = table.seen_non_syn & ~table.closed & (table.saw_rx ^ table.saw_tx)
        mask = tcp & (_one_sided(table) | used)
        count, of = int(mask.sum()), int(tcp.sum())
        if count >= BUILD_UP and count >= BUILD_UP_SHARE * of:
            unseen = [side for side, saw in (("rx", table.saw_rx), ("tx", table.saw_tx)) if (mask & ~saw).any()]
            long = table.now is None or int(table.left[mask].max()) > _DEFAULT_TCP_S
            top = table.top(mask, Slot.DST)
            yield Finding(
                "one-way",
                Severity.WARNING,
                table.name,
                f"{count} of {of} TCP entries never saw a packet of one side: replies do not pass this node",
                "the other direction takes another way (a balancer with direct return, asymmetric routes): entries "
                "never see its FIN and keep the long lifetime; let both directions pass here"
                + (", or shorten bpf-ct-timeout-regular-tcp" if long else ""),
                {"one_way": count, "tcp": of, "top": top, "examples": table.examples(mask)},
                tuple(
                    facts.look(
                        f"ctctl ct list 'tcp and not svc and {side}_flags_seen == 0 and last_{side}_report == 0'"
                        " --limit 20"
                    )
                    for side in unseen
                ),
                ("cilium config set bpf-ct-timeout-regular-tcp 2h13m20s",)
                if long
                else (f"ip route get {next(iter(top))}",),
            )


def syn_only(facts: Facts) -> Iterator[Finding]:
    """Connections that never got beyond SYN, by the source that opens them."""
    for table in facts.large_tables:
        mask = table.flow & table.tcp & table.alive & ~table.seen_non_syn & (table.closing == 0)
        count, of = int(mask.sum()), int((table.flow & table.tcp & table.alive).sum())
        answered = int((mask & np.where(table.inbound, table.saw_tx, table.saw_rx)).sum())
        if count >= BUILD_UP and count >= BUILD_UP_SHARE * of:
            yield Finding(
                "syn-only",
                Severity.WARNING,
                table.name,
                f"{count} of {of} TCP entries never got an answer to their SYN"
                if not answered
                else f"{count} of {of} TCP entries never got beyond their SYN: {count - answered} without an answer, "
                f"{answered} with one that nobody acknowledged",
                "a scan, a flood, or a destination that is down: look at the sources named, and at drops "
                "(ctctl status) if they are your own pods",
                {"syn_only": count, "answered": answered, "tcp": of, "sources": table.top(mask, Slot.SRC)},
                (facts.look("ctctl ct top 'tcp and state == new' --by src"),),
                (facts.change("ctctl gc"),),
            )


def shadowed(facts: Facts) -> Iterator[Finding]:
    """A closed NodePort OUT entry in front of an IN entry of the same tuple, that lives or died of it."""
    for table in facts.tables:
        dead = table.out & table.closed & table.flag(int(CtFlags.NodePort))
        live = table.inbound & table.alive & ~table.closed
        if not dead.any():
            continue
        keys = words(table.columns.keys[:, :-1])
        mask, past = dead & np.isin(keys, keys[live]), dead & np.isin(keys, keys[_reset_at_once(table)])
        if (mask | past).any():
            told = [
                f"{counted(int(found.sum()), 'closed NodePort entry', 'closed NodePort entries')} {what}"
                for found, what in (
                    (mask, f"shadow{'s' if mask.sum() == 1 else ''} a live connection"),
                    (past, "shadowed a connection, which was reset at once"),
                )
                if found.any()
            ]
            yield Finding(
                "shadowed",
                Severity.CRITICAL,
                table.name,
                f"{'; '.join(told)} (on the same tuple): its replies match the dead entry and are translated as if "
                "they were the service's",
                "delete the closed entries (ctctl ct delete with the tuples named); GC takes them once they expire",
                {
                    "entries": int((mask | past).sum()),
                    "reset": int(past.sum()),
                    "examples": table.examples(mask | past),
                },
                (facts.look("ctctl ct list 'out and state == closed and flag(NodePort)'"),),
                facts.delete(table, mask | past),
            )


def _reset_at_once(table: TableFacts) -> NDArray[np.bool_]:
    """IN entries whose client answered the SYN-ACK with a RST: it came from an address it did not ask.

    ACK is left out: not every datapath reports it (monitor aggregation flags).
    """
    client = table.slot(Slot.RX_FLAGS_SEEN) & np.uint8(~_ACK & 0xFF)
    server = table.slot(Slot.TX_FLAGS_SEEN) & np.uint8(~_ACK & 0xFF)
    found: NDArray[np.bool_] = table.inbound & table.closed & (client == _SYN | _RST) & (server == _SYN)
    return found


_SYN, _RST, _ACK = 0x02, 0x04, 0x10


def related_gone(facts: Facts) -> Iterator[Finding]:
    """New connections whose ICMP related entry, written with them for the same time, is not there any more."""
    for family in (4, 6):
        tables = facts.of_family(family)
        others = [table for table in tables if "any" in table.name]
        if not others:
            continue
        there = {_pair(key) for table in others for key in table.keys_where(table.related)}
        for table in tables:
            # Service and DSR entries get none; NodePort ones are made at the node's device, which writes none.
            none = table.flag(int(CtFlags.DSRInternal | CtFlags.NodePort))
            young = table.flow & table.alive & table.tcp & ~table.seen_non_syn & (table.closing == 0) & ~none
            lost = [key for key in table.keys_where(young) if _pair(key) not in there]
            if lost:
                chosen = young & np.isin(words(table.columns.keys), np.array(lost, f"S{len(lost[0])}"))
                yield Finding(
                    "related-gone",
                    Severity.WARNING,
                    table.name,
                    f"{len(lost)} of {int(young.sum())} new connections lost their ICMP related entry: "
                    "path MTU and unreachable messages for them are not recognised",
                    "the non-TCP table evicts (look at its pressure): make it larger (ct.any-max)",
                    {"lost": len(lost), "new": int(young.sum()), "examples": table.examples(chosen)},
                    (facts.look("ctctl ct stats"), facts.look("ctctl ct list --related")),
                    (facts.change("ctctl gc"),),
                )


def _pair(key: bytes) -> bytes:
    """What a flow and its related entry have in common: the addresses and the direction."""
    return key[: 2 * _keys.layout_of(key).address] + bytes([key[-1] & ~TUPLE_RELATED & 0xFF])


def identity_zero(facts: Facts) -> Iterator[Finding]:
    """Connections whose source should have a security identity and has none.

    SERVICE entries have none by design, nor what the node itself opens: the SNAT engine writes those OUT
    entries. So an OUT entry counts only if its source is known as a pod, an IN entry if it is not the node.
    """
    for table in facts.tables:
        bare = table.flow & table.alive & (table.slot(Slot.SRC_SEC_ID) == 0)
        if not bare.any():
            continue
        pods = table.is_any(Slot.SRC, facts.pod_addresses)
        mask = bare & np.where(table.inbound, ~table.is_any(Slot.SRC, facts.host_addresses), pods)
        if mask.any():
            yield Finding(
                "identity-0",
                Severity.WARNING,
                table.name,
                f"{counted(int(mask.sum()), 'connection comes', 'connections come')} from a source without an "
                "identity (0, unknown)",
                "policy treats it as unknown: look for the addresses in the identity table (ctctl ipcache list); "
                "the agent was late, or the entry was written before the address was known",
                {
                    "entries": int(mask.sum()),
                    "sources": table.top(mask, Slot.SRC),
                    "examples": table.examples(mask),
                },
                (
                    facts.look("ctctl ct list --identity 0 --no-related"),
                    *((facts.show("ctctl ipcache list"),) if facts.listings.ipcache else ()),
                ),
                facts.delete(table, mask),
            )

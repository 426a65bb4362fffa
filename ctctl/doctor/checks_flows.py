"""Are entries what they should be, each by itself and together with those it belongs to?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ctctl.decode.columns import Slot
from ctctl.decode.ct import TUPLE_RELATED
from ctctl.doctor.facts import Facts, TableFacts
from ctctl.doctor.finding import Finding, Severity
from ctctl.model.entry import CtFlags
from ctctl.tables import pairs as _keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A build-up: at least so many, and this share of the table's TCP entries.
BUILD_UP = 100
BUILD_UP_SHARE = 0.1


def backends(facts: Facts) -> Iterator[Finding]:
    """SERVICE entries whose backend is gone, or is not to get new connections."""
    states = {backend.backend_id: backend.state for backend in facts.listings.backends}
    for table in facts.tables:
        mask = table.service & table.alive & ~table.closed
        ids = table.slot(Slot.WORD8)
        used = np.unique(ids[mask])
        gone = [int(i) for i in used if int(i) and int(i) not in states]
        leaving = [int(i) for i in used if states.get(int(i)) in ("terminating", "quarantined", "maintenance")]
        for name, chosen, severity, what, advice in (
            (
                "backend-gone",
                gone,
                Severity.WARNING,
                "that no longer exists",
                "their next packet selects another backend and the connection breaks; if it lasts, services "
                "are not kept up to date here",
            ),
            (
                "backend-terminating",
                leaving,
                Severity.INFO,
                "that is terminating",
                "they keep working until the pod exits; wait for them before it goes (ctctl ct list --backend-id)",
            ),
        ):
            if chosen:
                hit = mask & np.isin(ids, np.array(chosen, ids.dtype))
                yield Finding(
                    name,
                    severity,
                    table.name,
                    f"{int(hit.sum())} service entries use a backend {what}",
                    advice,
                    {"backend_ids": chosen[:10], "entries": int(hit.sum()), "examples": table.examples(hit)},
                )


def half_closed(facts: Facts) -> Iterator[Finding]:
    """Connections with one FIN seen: they keep the long lifetime."""
    for table in facts.tables:
        mask = table.flow & table.tcp & table.alive & table.half_closed
        count, of = int(mask.sum()), int((table.flow & table.tcp & table.alive).sum())
        if count >= BUILD_UP and count >= BUILD_UP_SHARE * of:
            yield Finding(
                "half-closed",
                Severity.WARNING,
                table.name,
                f"{count} of {of} TCP entries are half closed: one side sent FIN, the other never did",
                "look for the server that does not close (ctctl ct top --by dst 'state == closing'); until it does, "
                "each entry lives as long as an open connection",
                {"half_closed": count, "tcp": of, "top": _top(table, mask, Slot.DST), "examples": table.examples(mask)},
            )


def syn_only(facts: Facts) -> Iterator[Finding]:
    """Connections that never got beyond SYN, by the source that opens them."""
    for table in facts.tables:
        mask = table.flow & table.tcp & table.alive & ~table.seen_non_syn & (table.closing == 0)
        count, of = int(mask.sum()), int((table.flow & table.tcp & table.alive).sum())
        if count >= BUILD_UP and count >= BUILD_UP_SHARE * of:
            yield Finding(
                "syn-only",
                Severity.WARNING,
                table.name,
                f"{count} of {of} TCP entries never got an answer to their SYN",
                "a scan, a flood, or a destination that is down: look at the sources named, and at drops "
                "(ctctl status) if they are your own pods",
                {"syn_only": count, "tcp": of, "sources": _top(table, mask, Slot.SRC)},
            )


def _top(table: TableFacts, mask: NDArray[np.bool_], slot: Slot, count: int = 5) -> dict[str, int]:
    """The commonest addresses of the chosen entries, with how many each has."""
    order = np.flatnonzero(mask)
    rows = np.stack([table.slot(Slot(slot - 1))[order], table.slot(slot)[order]], axis=1).astype(np.uint64)
    _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
    found: dict[str, int] = {}
    for at in np.argsort(-counts, kind="stable")[:count]:
        entry = table.columns.entry(int(order[first[at]]))
        address = entry.tuple.src if slot is Slot.SRC else entry.tuple.dst
        found[str(address)] = int(counts[at])
    return found


def snat_pairs(facts: Facts) -> Iterator[Finding]:
    """DSR connections without the SNAT entry that turns their replies into the VIP's."""
    known = facts.nat_keys()
    for table in facts.tables:
        if table.layout.has_nat:
            continue  # the translation is in the entry itself there
        mask = table.out & table.alive & table.flag(int(CtFlags.DSRInternal)) & ~table.closed
        lost = [key for key in table.keys_where(mask) if _keys.nat_key(key, dsr=True) not in known]
        if lost:
            chosen = mask & np.isin(_words(table.columns.keys), np.array(lost, f"S{len(lost[0])}"))
            yield Finding(
                "snat-missing",
                Severity.CRITICAL,
                table.name,
                f"{len(lost)} DSR connections have no SNAT entry: their replies leave with the pod's address",
                "the SNAT table evicted them (look at its pressure); the client must connect anew",
                {"entries": len(lost), "examples": table.examples(chosen)},
            )


def snat_orphans(facts: Facts) -> Iterator[Finding]:
    """SNAT entries that no conntrack entry stands behind."""
    known = facts.nat_keys()
    for family in (4, 6):
        tables = facts.of_family(family)
        mine = {key: entry for key, entry in known.items() if len(key) == (14 if family == 4 else 38)}
        if len(tables) < 2 or not mine:
            continue
        outs = {key for table in tables for key in table.keys_where(table.out)}
        orphans = [entry for key, entry in mine.items() if _is_orphan(key, entry.value or b"", outs)]
        if orphans:
            yield Finding(
                "snat-orphans",
                Severity.INFO if len(orphans) < BUILD_UP else Severity.WARNING,
                f"cilium_snat_v{family}_external",
                f"{len(orphans)} of {len(mine)} SNAT entries have no connection behind them",
                "ctctl gc --orphans purges them",
                {"orphans": len(orphans), "entries": len(mine), "examples": [str(entry) for entry in orphans[:3]]},
            )


def _is_orphan(key: bytes, value: bytes, outs: set[bytes]) -> bool:
    if not _keys.is_out(key):
        if not value:
            return False  # a listing without raw values: its forward entry cannot be told
        key = _keys.forward_nat_key(key, value)
    return not outs.intersection(_keys.ct_keys(key))


def shadowed(facts: Facts) -> Iterator[Finding]:
    """A closed NodePort OUT entry in front of a live IN entry of the same tuple."""
    for table in facts.tables:
        dead = table.out & table.closed & table.flag(int(CtFlags.NodePort))
        live = table.inbound & table.alive & ~table.closed
        if not dead.any() or not live.any():
            continue
        words = _words(table.columns.keys[:, :-1])
        mask = dead & np.isin(words, words[live])
        if mask.any():
            yield Finding(
                "shadowed",
                Severity.CRITICAL,
                table.name,
                f"{int(mask.sum())} closed NodePort entries shadow a live connection on the same tuple: its replies "
                "match the dead one and are translated as if they were the service's",
                "delete the closed entries (ctctl ct delete with the tuples named); GC takes them once they expire",
                {"entries": int(mask.sum()), "examples": table.examples(mask)},
            )


def _words(keys: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Keys as one bytes value each. Only trailing NULs are lost, which equal widths make harmless."""
    rows = np.ascontiguousarray(keys)
    return rows.view(f"S{rows.shape[1]}")[:, 0]


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
                chosen = young & np.isin(_words(table.columns.keys), np.array(lost, f"S{len(lost[0])}"))
                yield Finding(
                    "related-gone",
                    Severity.WARNING,
                    table.name,
                    f"{len(lost)} of {int(young.sum())} new connections lost their ICMP related entry: "
                    "path MTU and unreachable messages for them are not recognised",
                    "the non-TCP table evicts (look at its pressure): make it larger (ct.any-max)",
                    {"lost": len(lost), "new": int(young.sum()), "examples": table.examples(chosen)},
                )


def _pair(key: bytes) -> bytes:
    """What a flow and its related entry have in common: the addresses and the direction."""
    return key[: 2 * _keys.layout_of(key).address] + bytes([key[-1] & ~TUPLE_RELATED & 0xFF])


def identity_zero(facts: Facts) -> Iterator[Finding]:
    """Connections whose source has no security identity. SERVICE entries have none by design."""
    for table in facts.tables:
        mask = table.flow & table.alive & (table.slot(Slot.SRC_SEC_ID) == 0)
        if mask.any():
            yield Finding(
                "identity-0",
                Severity.WARNING,
                table.name,
                f"{int(mask.sum())} connections come from a source without an identity (0, unknown)",
                "policy treats it as unknown: look for the addresses in the identity table (ctctl ipcache list); "
                "the agent was late, or the entry was written before the address was known",
                {"entries": int(mask.sum()), "sources": _top(table, mask, Slot.SRC), "examples": table.examples(mask)},
            )

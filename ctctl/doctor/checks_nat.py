"""SNAT: are ports left, and do translations and connections belong together?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ctctl.abi import pins
from ctctl.decode.ct import KEY_SIZE
from ctctl.decode.nat import decode_nat
from ctctl.doctor.facts import BUILD_UP, Facts
from ctctl.doctor.finding import Finding, Severity
from ctctl.doctor.table import TableFacts
from ctctl.model.entry import CtFlags
from ctctl.model.tuples import endpoint, protocol_name
from ctctl.model.units import counted
from ctctl.out.rowtables import Groups
from ctctl.tables import pair_rows
from ctctl.tables.snat_ports import DEFAULT, SMALLEST, range_by

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Shares of an egress address's ports to one remote from which new connections begin to fail.
PORTS_WARNING, PORTS_CRITICAL = 0.75, 0.9
#: Fewer orphans than this, and than this share, are those that the next GC takes.
_FEW_ORPHANS, _ORPHAN_SHARE = 20, 0.25
_EXAMPLES = 3
_PORTED = frozenset({6, 17, 132})


def ports(facts: Facts) -> Iterator[Finding]:
    """Egress addresses that have used up their ports to one remote address and port."""
    smallest = len(facts.snat_range) if facts.snat_range is not None else SMALLEST
    users = (
        (taken.ends(at), taken.ports_of(at))
        for taken in facts.snat_use.taken(least=max(1, int(PORTS_WARNING * smallest)))
        for at in range(len(taken))
    )
    for ends, ports_used in users:
        proto, egress, remote, port = ends.proto, ends.egress, ends.remote, ends.remote_port
        if proto not in _PORTED:
            continue
        ranged = range_by(ports_used, facts.snat_range)
        taken = sum(number in ranged for number in ports_used)
        share = taken / len(ranged)
        left = "find none" if taken == len(ranged) else "may find none"
        unsaid = "" if ranged.said else f" ({ranged}: {ranged.evidence})"
        if share >= PORTS_WARNING:
            yield Finding(
                "snat-ports",
                Severity.CRITICAL if share >= PORTS_CRITICAL else Severity.WARNING,
                pins.SNAT_TABLES[egress.version],
                f"{egress} -> {endpoint(remote, port)} ({protocol_name(proto)}) uses {taken:,} of "
                f"{len(ranged):,} ports{unsaid}: new connections {left} (No mapping for NAT masquerade)",
                "spread them over more egress addresses or remote ones, let connections be kept open, or purge "
                "translations that no connection stands behind",
                {
                    "egress": str(egress),
                    "remote": endpoint(remote, port),
                    "used": taken,
                    "ports": str(ranged),
                    "by": ranged.evidence,
                },
                (facts.look("ctctl nat stats --limit 5"), facts.look("ctctl ct top --by dst")),
                (facts.change("ctctl gc --orphans"),),
            )


def exhausted(facts: Facts) -> Iterator[Finding]:
    """Packets that were dropped because SNAT found no free port for them."""
    hooks = {hook: packets for (hook, reason), (packets, _) in facts.drops.items() if reason == "nat_no_mapping"}
    dropped = max(facts.stats.get("snat_exhausted", 0), sum(hooks.values()))
    if not dropped:
        return
    worst = facts.snat_use.most(_PORTED)
    to_whom, evidence = "", {}
    if worst is not None:
        ends, used = worst
        given = len(facts.snat_range or DEFAULT)
        remote = endpoint(ends.remote, ends.remote_port)
        to_whom = (
            f"; most ports are in use from {ends.egress} to {remote} ({protocol_name(ends.proto)}): "
            f"{used:,} of {given:,}"
        )
        evidence = {"egress": str(ends.egress), "remote": remote, "used": used}
    yield Finding(
        "snat-exhausted",
        Severity.CRITICAL,
        pins.SNAT_TABLES[worst[0].egress.version] if worst is not None else None,
        f"{dropped:,} packets dropped because no port of the node's address was free{to_whom}",
        "spread the load over more nodes or backends, let connections be kept open, answer with DSR instead of SNAT, "
        "or purge translations that no connection stands behind",
        {"dropped": dropped, "by_hook": hooks, **evidence},
        ("ctctl status", facts.look("ctctl nat list --limit 20"), facts.look("ctctl ct top --by dst")),
        (facts.change("ctctl gc --orphans"), facts.change("ctctl gc")),
    )


def pairs(facts: Facts) -> Iterator[Finding]:
    """DSR connections without the SNAT entry that turns their replies into the VIP's."""
    for table in facts.tables:
        if table.layout.has_nat:
            continue  # the translation is in the entry itself there
        mask = table.out & table.alive & table.flag(int(CtFlags.DSRInternal)) & ~table.closed
        chosen = np.flatnonzero(mask)
        lost = np.zeros_like(mask)
        lost[chosen[~_have_nat(facts, table, chosen)]] = True
        count = int(lost.sum())
        if count:
            yield Finding(
                "snat-missing",
                Severity.CRITICAL,
                table.name,
                f"{counted(count, 'DSR connection has', 'DSR connections have')} no SNAT entry: "
                f"{'its' if count == 1 else 'their'} replies leave with the pod's address",
                "evicted (look at the SNAT table's pressure), deleted or never written; the client must connect anew",
                {"entries": count, "examples": table.examples(lost)},
                (facts.look("ctctl ct list 'out and flag(DSRInternal)'"), facts.look("ctctl nat list")),
                facts.delete(table, lost),
            )


def _have_nat(facts: Facts, table: TableFacts, chosen: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of a table's DSR entries have an SNAT entry. Each of a table's keys stands for an SNAT key of its own."""
    there = np.zeros(len(chosen) + 1, np.bool_)
    if len(chosen):
        wanted, exact = Groups(KEY_SIZE[table.family]), pair_rows.key_itself(table.family)
        pair_rows.dsr_nat_key(table.family).group(table.columns.select(chosen), wanted)
        for rows in facts.nat_rows():
            if rows.family == table.family:
                there[np.frombuffer(exact.find_in(rows, wanted), np.uint32)] = True
    return there[1:]


def orphans(facts: Facts) -> Iterator[Finding]:
    """SNAT entries that no conntrack entry stands behind."""
    for family, entries in sorted(facts.snat_use.entries.items()):
        tables = facts.of_family(family)
        if len(tables) < 2 or not entries:
            continue
        count, examples = _without_ct(facts, family)
        if count >= BUILD_UP or (count >= _FEW_ORPHANS and count >= _ORPHAN_SHARE * entries):
            yield Finding(
                "snat-orphans",
                Severity.WARNING,
                pins.SNAT_TABLES[family],
                f"{count} of {entries} SNAT entries have no connection behind them",
                "ctctl gc --orphans purges them",
                {"orphans": count, "entries": entries, "examples": examples},
                (facts.look("ctctl nat list --limit 20"),),
                (facts.change("ctctl gc --orphans"),),
            )


def _without_ct(facts: Facts, family: int) -> tuple[int, list[str]]:
    """How many SNAT entries have no OUT entry that keeps them, and the first of them in words."""
    outs = Groups(KEY_SIZE[family])
    for table in facts.of_family(family):
        pair_rows.out_key(family).group(table.columns, outs)
    programs = [pair_rows.keeper(family, dsr=dsr) for dsr in (False, True)]
    count, examples = 0, list[str]()
    for rows in facts.nat_rows():
        if rows.family != family:
            continue
        plain, dsr = (np.frombuffer(program.find_in(rows, outs), np.uint32) for program in programs)
        alone = np.flatnonzero((plain == 0) & (dsr == 0))
        count += len(alone)
        examples += [str(decode_nat(*rows.record(int(at)))) for at in alone[: _EXAMPLES - len(examples)]]
    return count, examples

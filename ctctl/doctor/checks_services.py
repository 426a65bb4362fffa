"""Services: do connections have the backend they were given, and do frontends have one to give?"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import TYPE_CHECKING

import numpy as np

from ctctl.decode.columns import Slot
from ctctl.doctor.facts import BUILD_UP, BUILD_UP_SHARE, Facts
from ctctl.doctor.finding import Finding, Severity
from ctctl.doctor.table import TableFacts, words
from ctctl.model.entry import CtFlags
from ctctl.model.service import LOOPBACK, ServiceSlot
from ctctl.model.timeouts import Timeouts
from ctctl.model.tuples import Address, endpoint
from ctctl.model.units import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: States of a backend that is not to get new connections.
_LEAVING = ("terminating", "quarantined", "maintenance")
#: So many new connections to a frontend without backends are no stray one.
ATTEMPTS = 3
#: The part of a cluster's range that one node's pods come from, where only their addresses tell.
_POD_PREFIX = {4: 24, 6: 96}


def backends(facts: Facts) -> Iterator[Finding]:
    """SERVICE entries whose backend is gone, or is not to get new connections."""
    states = {backend.backend_id: backend.state for backend in facts.listings.backends}
    for table in facts.tables:
        mask = table.service & table.alive & ~table.closed
        ids = table.slot(Slot.WORD8)
        used = np.unique(ids[mask])
        gone = [int(i) for i in used if int(i) and int(i) not in states]
        leaving = [int(i) for i in used if states.get(int(i)) in _LEAVING]
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
                which = " ".join(f"--backend-id {number}" for number in chosen[:5])
                yield Finding(
                    name,
                    severity,
                    table.name,
                    f"{counted(int(hit.sum()), 'service entry uses', 'service entries use')} a backend {what}",
                    advice,
                    {"backend_ids": chosen[:10], "entries": int(hit.sum()), "examples": table.examples(hit)},
                    (facts.look(f"ctctl ct list --direction svc {which}"), facts.show("ctctl lb list --backends")),
                    (facts.change(f"ctctl ct delete --direction svc {which}"),) if name == "backend-gone" else (),
                )


def frontends(facts: Facts) -> Iterator[Finding]:
    """Frontends that connections go to and that have no backend to give."""
    known = {backend.backend_id for backend in facts.listings.backends} if facts.has_backends else set()
    by_frontend: dict[object, list[ServiceSlot]] = {}
    for slot in facts.listings.services:
        if slot.slot:
            by_frontend.setdefault(_frontend(slot), []).append(slot)
    for master in facts.listings.services:
        if master.slot or not master.port:
            continue
        slots = by_frontend.get(_frontend(master), [])
        if any(_leads_somewhere(slot, known) for slot in slots):
            continue
        finding = _without(facts, master, slots)
        if finding is not None:
            yield finding


def _leads_somewhere(slot: ServiceSlot, known: set[int]) -> bool:
    """Whether a slot has a backend: by its id, where the backends are known, else by the address it is listed with."""
    if slot.backend_id and known:
        return slot.backend_id in known
    return bool(slot.backend_id or slot.backend)


def _frontend(slot: ServiceSlot) -> object:
    return slot.addr, slot.port, slot.scope, slot.proto


def _without(facts: Facts, master: ServiceSlot, slots: list[ServiceSlot]) -> Finding | None:
    """A Service without endpoints is nothing special as long as nobody uses it."""
    tried, open_ = _users(facts, master)
    count = master.count or len(slots)
    if facts.tables and not count and not open_ and tried < ATTEMPTS:
        return None
    where = endpoint(master.addr, master.port)
    lost = f" although it should have {count}" if count else ""
    open_words = counted(open_, "open connection uses", "open connections use")
    new_words = counted(tried, "new one was", "new ones were")
    used = f": {open_words} it, {new_words} tried" if facts.tables else ""
    return Finding(
        "no-backends",
        Severity.WARNING if facts.tables else Severity.INFO,
        None,
        f"frontend {where}{' (internal)' if master.scope == 'internal' else ''} has no backend{lost}{used}",
        "new connections to it are refused or dropped: see whether its pods are ready, and whether the agent "
        "follows services",
        {"frontend": where, "rev_nat": master.rev_nat} | ({"tried": tried, "open": open_} if facts.tables else {}),
        (facts.show("ctctl lb list"), *((facts.look(f"ctctl ct list --to-ip {master.addr}"),) if facts.tables else ())),
        ("kubectl get endpointslices --all-namespaces",),
    )


def _users(facts: Facts, master: ServiceSlot) -> tuple[int, int]:
    """New connections to a frontend, and open service entries of it."""
    tried = open_ = 0
    for table in facts.tables:
        if table.family != master.addr.version:
            continue
        end = (int(master.addr) >> 64, int(master.addr) & 2**64 - 1, master.port)
        open_ += table.open_services.get(end, 0)
        tried += table.new_connections.get(end, 0)
    return tried, open_


def lost_backends(facts: Facts) -> Iterator[Finding]:
    """Backends with an address of this node's pods that no pod has."""
    prefixes = [record.prefix for record in facts.listings.ipcache]
    single = {ip_network(prefix).network_address for prefix in prefixes if prefix.endswith(("/32", "/128"))}
    pods = {_pod_network(address) for address in facts.pod_addresses}
    present = facts.pod_addresses | facts.host_addresses | single
    lost = [
        backend
        for backend in facts.listings.backends
        if backend.state not in _LEAVING and _pod_network(backend.addr) in pods and backend.addr not in present
    ]
    if lost:
        yield Finding(
            "backend-without-endpoint",
            Severity.WARNING,
            None,
            f"{counted(len(lost), 'backend has', 'backends have')} an address of this node's pods, and no pod has it",
            "what is sent there is lost: the pod is gone and the agent has not taken it out of its services",
            {"backend_ids": [one.backend_id for one in lost[:10]], "backends": [one.where for one in lost[:10]]},
            (facts.show("ctctl lb list --backends"), facts.show("ctctl endpoint list")),
            ("kubectl get pods --all-namespaces --output wide",),
        )


def _pod_network(address: Address) -> object:
    return ip_network(f"{address}/{_POD_PREFIX[address.version]}", strict=False)


def finished(facts: Facts) -> Iterator[Finding]:
    """SERVICE entries whose client has closed and that keep the long lifetime: they never see the other side."""
    for table in facts.large_tables:
        services = table.service & table.tcp & table.alive
        mask = services & table.half_closed & (table.left > HELD_S)
        count, of = int(mask.sum()), int(services.sum())
        if count >= BUILD_UP and count >= BUILD_UP_SHARE * of:
            longest = int(table.left[mask].max())
            new = facts.minor is not None and facts.minor >= 17
            # A default timeout is not to be shortened, and from 1.17 on there is nothing to upgrade to.
            shorten = longest > Timeouts().service_tcp
            ways = ["shorten bpf-ct-timeout-service-tcp"] if shorten else []
            ways = ways if new else ["upgrade", *ways]
            advice = "not normal from Cilium 1.17 on" if new else "normal before Cilium 1.17"
            advice += f": {' or '.join(ways)}" if ways else ""
            yield Finding(
                "service-finished",
                Severity.WARNING,
                table.name,
                f"{count} of {of} TCP service entries are of finished connections and are kept for hours: a service "
                "entry does not see the FIN of the other side",
                f"{advice}; GC does not take them before they expire",
                {
                    "finished": count,
                    "service_tcp": of,
                    "longest_s": longest,
                    "top": table.top(mask, Slot.DST),
                    "examples": table.examples(mask),
                },
                (facts.look("ctctl ct list 'svc and tcp and state == closing' --sort -remaining --limit 20"),),
                ("cilium config set bpf-ct-timeout-service-tcp 2h13m20s",)
                if shorten
                else (facts.change("ctctl ct delete 'svc and tcp and state == closing and idle > 600s'"),),
            )


#: A finished connection is over after the FIN timeout, seconds; what has more than this left is held.
HELD_S = 900


def hairpins(facts: Facts) -> Iterator[Finding]:
    """Pods that talk to themselves through a service: both entries of the pair say the same, and who they are."""
    for table in facts.tables:
        marked = table.flag(int(CtFlags.LBLoopback)) & table.flow
        loop = table.flow & table.alive & _from_loopback(table, marked)
        bare = loop & ~marked
        split = _split(table, marked & table.alive)
        mask = bare | split
        if mask.any():
            yield Finding(
                "hairpin",
                Severity.WARNING,
                table.name,
                f"{counted(int(mask.sum()), 'entry', 'entries')} of pods that reach themselves through a service "
                f"disagree{'s' if mask.sum() == 1 else ''} with {'its' if mask.sum() == 1 else 'their'} partner: "
                f"{int(bare.sum())} from the loopback address without its mark, {int(split.sum())} closed on one side "
                "only",
                "such a connection hangs: its replies are not translated back; it must be opened anew",
                {"bare": int(bare.sum()), "split": int(split.sum()), "examples": table.examples(mask, 6)},
                (facts.look("ctctl ct list --flag LBLoopback"), facts.look(f"ctctl ct list --from-ip {LOOPBACK}")),
                facts.delete(table, mask),
            )


def _from_loopback(table: TableFacts, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Entries from the address that marked entries come from, or from the default one."""
    if table.family != 4:
        return marked
    found: NDArray[np.bool_] = table.slot(Slot.SRC) == int(LOOPBACK)
    if marked.any():
        found |= np.isin(table.slot(Slot.SRC), table.slot(Slot.SRC)[marked & table.out])
    return found


def _split(table: TableFacts, alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pairs of OUT and IN of which one is closed and the other has long to live."""
    if table.now is None or not alive.any():
        return np.zeros(len(table), bool)
    long = alive & ~table.closed & (table.left > HELD_S)
    keys = words(table.columns.keys[:, :-1])
    mask = np.zeros(len(table), bool)
    for mine, other in ((table.out, table.inbound), (table.inbound, table.out)):
        mask |= long & mine & np.isin(keys, keys[other & table.closed])
    return mask

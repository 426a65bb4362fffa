"""The tables beside conntrack as the Cilium CLI of a version prints them, line for line.

``minor`` is that of Cilium 1.x everywhere. The CLI prints in the order of its maps, which is none; here
the order is that of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address

from ctctl.abi import pins
from ctctl.decode.services import IPCACHE_FLAGS
from ctctl.model.clock import Clock
from ctctl.model.drops import DatapathCounter, files_of, reason_name
from ctctl.model.nat import NatEntry
from ctctl.model.policy import PolicyEntry
from ctctl.model.service import (
    Backend,
    EndpointRecord,
    IpcacheRecord,
    MaglevTable,
    RevNat,
    ServiceFlags,
    ServiceSlot,
    SocketNat,
    SourceRange,
    TunnelRecord,
    service_type,
)
from ctctl.model.tuples import Direction, endpoint, protocol_name
from ctctl.out.tabwriter import align

_SERVICE_WORDS = (
    (ServiceFlags.ExtLocalScope, "Local"),
    (ServiceFlags.IntLocalScope, "InternalLocal"),
    (ServiceFlags.TwoScopes, "two-scopes"),
    (ServiceFlags.Affinity, "sessionAffinity"),
)
_AUTH_TYPES = {0: "disabled", 1: "spire", 2: "test-always-fail"}


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, open_header: bool = True) -> list[str]:
    """A table whose rows end in a tab; ``open_header``: its header does not."""
    header = [*titles] if open_header else [*titles, ""]
    return align([header, *([*row, ""] for row in rows)])


# ---- SNAT


def nat_lines(entries: Iterable[NatEntry], clock: Clock, now: int | None) -> Iterator[str]:
    """``bpf nat list``: each family's lines, then an empty one."""
    by_family: dict[str | None, list[str]] = {}
    for entry in entries:
        flow = entry.tuple
        if flow.proto:
            family = pins.SNAT_TABLES[flow.src.version] if entry.map is None else entry.map
            by_family.setdefault(family, []).append(_nat_line(entry, clock, now))
    for name in sorted(by_family, key=str):
        yield from by_family[name]
        yield ""


def _nat_line(entry: NatEntry, clock: Clock, now: int | None) -> str:
    flow = entry.tuple
    age = entry.age_s
    if age is None and now is not None and entry.created is not None:
        age = clock.remaining_s(now, entry.created)
    word = "IN" if entry.direction is Direction.IN else "OUT"
    return (
        f"{protocol_name(flow.proto)} {word} {endpoint(flow.src, flow.src_port)} -> {endpoint(flow.dst, flow.dst_port)}"
        f"{' related' if entry.related else ''} XLATE_{entry.xlate} {endpoint(entry.to_addr, entry.to_port)}"
        f" Created={age if age is not None else 0}sec ago NeedsCT={entry.needs_ct or 0}"
    )


# ---- load balancer


def _proto(number: int | None) -> str:
    return protocol_name(number) if number else "ANY"


def _service_key(slot: ServiceSlot, minor: int) -> str:
    """``10.96.0.10:80/TCP (1)``: the protocol from 1.17 on, ``/i`` for the internal scope."""
    proto = f"/{_proto(slot.proto)}" if minor >= 17 else ""
    return f"{endpoint(slot.addr, slot.port)}{proto}{'/i' if slot.scope == 'internal' else ''} ({slot.slot})"


def _service_words(slot: ServiceSlot, minor: int) -> list[str]:
    if slot.flags is None:
        return list(slot.flag_words)
    flags, kind = ServiceFlags(slot.flags), service_type(slot.flags)
    words = [kind, *(word for flag, word in _SERVICE_WORDS if flags & flag)]
    if not flags & ServiceFlags.Routable:
        words.append("non-routable")
    if flags & ServiceFlags.SourceRange:
        words.append("check source-range")
        if minor >= 17 and flags & ServiceFlags.Quarantined:
            words.append("deny")
    if flags & ServiceFlags.Nat46x64:
        words.append("46x64")
    if flags & ServiceFlags.L7LoadBalancer:
        words.append("l7-load-balancer")
    if flags & ServiceFlags.Loopback:
        words.append("loopback" if kind == "HostPort" or minor < 17 else "delegate-if-local")
    if minor >= 17:
        if flags & ServiceFlags.Quarantined and not flags & ServiceFlags.SourceRange:
            words.append("quarantined")
        if flags & ServiceFlags.FwdModeDSR:
            words.append("dsr")
    return words


def _service_value(slot: ServiceSlot, backends: Mapping[int, Backend], minor: int) -> str:
    tail = f"({slot.rev_nat or 0}) ({slot.slot})"
    if not slot.slot:
        proxy = f"(L7LB Proxy Port: {slot.l7_proxy_port})" if slot.l7_proxy_port else ""
        nowhere = "0.0.0.0:0" if slot.addr.version == 4 else "[::]:0"
        return f"{nowhere} {tail} [{', '.join(_service_words(slot, minor))}] {proxy}"
    backend = backends.get(slot.backend_id or 0)
    if backend is None or backend.port is None:
        return f"{slot.backend} {tail}" if slot.backend else f"backend {slot.backend_id} not found"
    proto = f"/{_proto(backend.proto)}" if minor >= 17 else ""
    return f"{endpoint(backend.addr, backend.port)}{proto} {tail}"


def service_lines(slots: Iterable[ServiceSlot], backends: Iterable[Backend], minor: int) -> list[str]:
    """``bpf lb list``."""
    by_id = {backend.backend_id: backend for backend in backends}
    rows = [(_service_key(slot, minor), _service_value(slot, by_id, minor)) for slot in slots]
    return _table(("SERVICE ADDRESS", "BACKEND ADDRESS (REVNAT_ID) (SLOT)"), rows)


def frontend_lines(slots: Iterable[ServiceSlot], minor: int) -> list[str]:
    """``bpf lb list --frontends``: the records as they stand."""
    rows = []
    for slot in slots:
        first = slot.word if slot.word is not None else slot.backend_id or slot.affinity_timeout or 0
        held = f"[{slot.quarantined or 0}]" if minor >= 17 else ""
        flags = slot.flags or 0
        value = f"{first} {slot.count or 0}{held} ({slot.rev_nat or 0}) [{flags & 0xFF:#x} {flags >> 8:#x}]"
        rows.append((_service_key(slot, minor), value))
    return _table(("SERVICE ADDRESS", "BACKEND ID"), rows)


def backend_lines(backends: Iterable[Backend]) -> list[str]:
    """``bpf lb list --backends``."""
    rows = []
    for backend in backends:
        cluster = f"@{backend.cluster_id}" if backend.cluster_id else ""
        rows.append((str(backend.backend_id), f"{_proto(backend.proto)}://{backend.addr}{cluster}"))
    return _table(("ID", "BACKEND ADDRESS (REVNAT_ID) (SLOT)"), rows)


def rev_nat_lines(rev_nats: Iterable[RevNat]) -> list[str]:
    """``bpf lb list --revnat``."""
    rows = [(str(one.rev_nat), endpoint(one.addr, one.port)) for one in rev_nats]
    return _table(("ID", "BACKEND ADDRESS (REVNAT_ID) (SLOT)"), rows)


def source_range_lines(ranges: Iterable[SourceRange]) -> list[str]:
    """``bpf lb list --source-ranges``."""
    rows = [(f"{one.cidr} ({one.rev_nat})", "") for one in ranges]
    return _table(("SOURCE RANGE (REVNAT_ID)", ""), rows)


def maglev_lines(tables: Iterable[MaglevTable]) -> list[str]:
    """``bpf lb maglev list``."""
    rows = [(f"[{one.rev_nat}]/v{one.family}", f"[{' '.join(map(str, one.table))}]") for one in tables]
    return _table(("SVC ID", "LOOKUP TABLE"), rows)


# ---- identities, endpoints, tunnels, sockets


def ipcache_lines(records: Iterable[IpcacheRecord], minor: int) -> list[str]:
    """``bpf ipcache list``. Flags came with 1.16."""
    rows = []
    for record in records:
        tunnel = record.tunnel_endpoint or str(IPv4Address(0))
        value = f"identity={record.identity} encryptkey={record.encrypt_key} tunnelendpoint={tunnel}"
        if minor >= 16:
            value += f"{',' if minor == 16 else ''} flags={_ipcache_flags(record)}"
        rows.append((record.prefix + (f"@{record.cluster_id}" if record.cluster_id else ""), value))
    return _table(("IP PREFIX/ADDRESS", "IDENTITY"), rows)


def _ipcache_flags(record: IpcacheRecord) -> str:
    flags = record.flags if record.flags is not None else int(record.skip_tunnel)
    return ",".join(word for bit, word in IPCACHE_FLAGS if flags & bit) or "<none>"


def endpoint_lines(records: Iterable[EndpointRecord], minor: int) -> list[str]:
    """``bpf endpoint list``. The parent interface is shown from 1.17 on."""
    rows = []
    for record in records:
        value = "(localhost)"
        if not record.is_host:
            value = (
                f"id={record.endpoint_id:<5} sec_id={record.identity:<5} flags=0x{record.flags:04X}"
                f" ifindex={record.ifindex:<3} mac={_mac(record.mac)} nodemac={_mac(record.node_mac)}"
            )
            if minor >= 17:
                value += f" parent_ifindex={record.parent_ifindex:<3}"
        rows.append((f"{record.addr}:0", value))
    return _table(("IP ADDRESS", "LOCAL ENDPOINT INFO"), rows)


def _mac(address: str | None) -> str:
    return (address or "00:00:00:00:00:00").upper()


def tunnel_lines(records: Iterable[TunnelRecord]) -> list[str]:
    """``bpf tunnel list`` (up to 1.16)."""
    return _table(("TUNNEL", "VALUE"), [(str(one.prefix), f"{one.endpoint}:{one.key}") for one in records])


def socket_lines(records: Iterable[SocketNat]) -> list[str]:
    """``bpf socknat list``: ports and the rev-NAT id are printed as they stand, in network order."""
    rows = []
    for one in records:
        backend = endpoint(one.backend, _turned(one.backend_port))
        frontend = endpoint(one.frontend, _turned(one.frontend_port))
        rows.append((str(one.cookie), f"{backend} -> {frontend} (revnat={_turned(one.rev_nat)})"))
    return _table(("Socket Cookie", "Backend -> Frontend"), rows)


def _turned(number: int) -> int:
    return int.from_bytes(number.to_bytes(2, "big"), "little")


# ---- policy, counters


def policy_lines(entries: Iterable[PolicyEntry], minor: int, directory: str = "/sys/fs/bpf/tc/globals") -> list[str]:
    """``bpf policy get --all --numeric``: a table an endpoint."""
    by_endpoint: dict[tuple[int, str | None], list[PolicyEntry]] = {}
    for entry in entries:
        by_endpoint.setdefault((entry.endpoint_id or 0, entry.map), []).append(entry)
    found: list[str] = []
    for (number, name), rules in sorted(by_endpoint.items(), key=lambda one: (one[0][0], one[0][1] or "")):
        found += [f"Endpoint ID: {number}", f"Path: {directory}/{name or ''}", ""]
        titles = ["POLICY", "DIRECTION", "IDENTITY", "PORT/PROTO", "PROXY PORT", "AUTH TYPE", "BYTES", "PACKETS"]
        titles.append("PREFIX")
        if minor >= 18:
            lines = align([[*titles, "COOKIE"], *([*_policy_cells(rule), str(rule.cookie or 0)] for rule in rules)])
        else:
            lines = _table(titles, [_policy_cells(rule) for rule in rules], open_header=False)
        found += [*lines, "", ""]
    return found


def _policy_cells(rule: PolicyEntry) -> list[str]:
    ports = "ANY"
    if rule.proto:
        first, last = rule.ports
        port = f"{first}/" if rule.port_bits == 16 else f"{first}-{last}/" if rule.port_bits else ""
        ports = f"{port}{_proto(rule.proto)}"
    return [
        "Deny" if rule.deny else "Allow",
        "Egress" if rule.egress else "Ingress",
        str(rule.identity) if rule.identity is not None else ",".join(rule.labels),
        ports,
        str(rule.proxy_port) if rule.proxy_port else "NONE",
        _AUTH_TYPES.get(rule.auth_type, str(rule.auth_type)),
        "-" if rule.bytes is None else str(rule.bytes),
        "-" if rule.packets is None else str(rule.packets),
        str(rule.prefix_bits),
    ]


def counter_lines(counters: Iterable[DatapathCounter], minor: int, files: Mapping[int, str] | None = None) -> list[str]:
    """``bpf metrics list``; line and file are shown from 1.16 on. ``files``: their names by number."""
    where = minor >= 16
    names = files_of(minor) if files is None else files
    rows = []
    for one in counters:
        cells = [reason_name(one.reason), one.direction.upper(), str(one.packets), str(one.bytes)]
        file = one.place or names.get(one.file) or f"unknown({one.file})"
        rows.append([*cells, *([str(one.line), file] if where else [])])
    titles = ["REASON", "DIRECTION", "PACKETS", "BYTES", *(["LINE", "FILE"] if where else [])]
    return align([titles, *sorted(rows)])

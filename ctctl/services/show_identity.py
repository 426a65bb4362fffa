"""Identity, endpoint, tunnel and socket tables as views."""

from __future__ import annotations

from collections.abc import Mapping

from ctctl.model.service import EndpointRecord, IpcacheRecord, SocketNat, TunnelRecord
from ctctl.model.tuples import endpoint
from ctctl.out.view import Column, View
from ctctl.tables.show import listings


def ipcache_view(names: Mapping[str, str], minor: int) -> View[IpcacheRecord]:
    """``ipcache list``."""

    def identity(record: IpcacheRecord) -> str:
        name = names.get(f"identity {record.identity}")
        return f"{record.identity} ({name})" if name else str(record.identity)

    columns: list[Column[IpcacheRecord]] = [
        Column("prefix", "PREFIX", lambda r: r.prefix),
        Column("name", "NAME", lambda r: names.get(r.prefix.partition("/")[0]), prose=True),
        Column("identity", "IDENTITY", lambda r: r.identity, identity, prose=True),
        Column("labels", "LABELS", lambda r: names.get(f"identity {r.identity}"), wide=True, prose=True),
        Column("tunnel_endpoint", "TUNNEL_ENDPOINT", lambda r: r.tunnel_endpoint),
        Column("encrypt_key", "ENCRYPT_KEY", lambda r: r.encrypt_key, wide=True, right=True),
        Column("cluster_id", "CLUSTER_ID", lambda r: r.cluster_id, wide=True, right=True),
        Column("skip_tunnel", "SKIP_TUNNEL", lambda r: r.skip_tunnel, wide=True),
    ]
    return View(
        "ctctl/ipcache-entry/v1",
        "prefixes",
        columns,
        lambda r: r.prefix,
        cilium_lines=lambda rows: listings.ipcache_lines(rows, minor),
    )


def endpoint_view(names: Mapping[str, str], minor: int) -> View[EndpointRecord]:
    """``endpoint list``."""

    def identity(record: EndpointRecord) -> str:
        if record.is_host:
            return "-"
        name = names.get(f"identity {record.identity}")
        return f"{record.identity} ({name})" if name else str(record.identity)

    columns: list[Column[EndpointRecord]] = [
        Column("addr", "ADDR", lambda e: e.addr),
        Column("name", "NAME", lambda e: "host" if e.is_host else names.get(str(e.addr)), prose=True),
        Column("endpoint_id", "ENDPOINT_ID", lambda e: e.endpoint_id, right=True),
        Column("identity", "IDENTITY", lambda e: e.identity, identity, prose=True),
        Column("labels", "LABELS", lambda e: None if e.is_host else names.get(f"identity {e.identity}"), wide=True),
        Column("ifindex", "IFINDEX", lambda e: e.ifindex, right=True, priority=2),
        Column("mac", "MAC", lambda e: e.mac, priority=1),
        Column("node_mac", "NODE_MAC", lambda e: e.node_mac, wide=True),
        Column("flags", "FLAGS", lambda e: e.flags, lambda e: f"{e.flags:#06x}", wide=True, right=True),
        Column("parent_ifindex", "PARENT_IFINDEX", lambda e: e.parent_ifindex, wide=True, right=True),
    ]
    return View(
        "ctctl/endpoint/v1",
        "endpoints",
        columns,
        lambda e: str(e.addr),
        cilium_lines=lambda rows: listings.endpoint_lines(rows, minor),
    )


def tunnel_view() -> View[TunnelRecord]:
    """``tunnel list``."""
    columns: list[Column[TunnelRecord]] = [
        Column("prefix", "PREFIX", lambda t: t.prefix),
        Column("endpoint", "ENDPOINT", lambda t: t.endpoint),
        Column("key", "KEY", lambda t: t.key, right=True),
    ]
    return View("ctctl/tunnel/v1", "tunnels", columns, lambda t: str(t.prefix), cilium_lines=listings.tunnel_lines)


def socket_view(names: Mapping[str, str]) -> View[SocketNat]:
    """``socknat list``: what a socket connected to, and where its packets go."""

    def backend(one: SocketNat) -> str:
        name = names.get(str(one.backend))
        return endpoint(one.backend, one.backend_port) + (f" ({name})" if name else "")

    def service(one: SocketNat) -> str | None:
        return names.get(f"service {one.rev_nat}", names.get(str(one.frontend)))

    columns: list[Column[SocketNat]] = [
        Column("cookie", "COOKIE", lambda s: s.cookie, right=True),
        Column("frontend", "FRONTEND", lambda s: endpoint(s.frontend, s.frontend_port)),
        Column("service", "SERVICE", service, prose=True),
        Column("backend", "BACKEND", lambda s: endpoint(s.backend, s.backend_port), backend, prose=True),
        Column("rev_nat", "REV_NAT", lambda s: s.rev_nat, right=True, priority=1),
    ]
    return View("ctctl/socket/v1", "sockets", columns, lambda s: str(s.cookie), cilium_lines=listings.socket_lines)

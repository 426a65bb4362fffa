"""Names of pods, services and backends by address, from whatever knows them."""

from __future__ import annotations

from pathlib import Path

from ctctl.errors import CtctlError
from ctctl.tables.sources.base import Listings, Source


def names_of(source: Source, node: str | None = None) -> dict[str, str]:
    """Names by address; also ``backend N`` and ``rev-nat N`` (addresses), ``service N`` (a name). Never raises."""
    names: dict[str, str] = {}
    try:
        listings = source.some(node, "backends", "rev_nats", "services")
    except CtctlError:
        listings = Listings()
    names.update(listings.names)
    services: dict[str, str] = {}
    if source.directory is not None and not source.foreign:
        pods, services = _of_our_node(Path(source.directory))
        names.update(pods)
    for rev_nat in listings.rev_nats:
        address = str(rev_nat.addr)
        text = f"{address}:{rev_nat.port}" if rev_nat.addr.version == 4 else f"[{address}]:{rev_nat.port}"
        name = services.get(str(rev_nat.rev_nat))
        names[f"rev-nat {rev_nat.rev_nat}"] = f"{name} {text}" if name else text
        if name:
            names[f"service {rev_nat.rev_nat}"] = name
            names.setdefault(address, name)
    ports = {slot.backend_id: slot.backend for slot in listings.services if slot.backend_id and slot.backend}
    for backend in listings.backends:
        address = str(backend.addr) if backend.addr.version == 4 else f"[{backend.addr}]"
        known = f"{address}:{backend.port}" if backend.port is not None else ports.get(backend.backend_id, address)
        names[f"backend {backend.backend_id}"] = known
    return names


def endpoints_of(source: Source) -> dict[str, str]:
    """Names of the pods of a node of ours by address; empty for any other source."""
    if source.directory is None or source.foreign:
        return {}
    return _of_our_node(Path(source.directory))[0]


def _of_our_node(directory: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Pods by address and services by rev-NAT id, from the record of the file a node of ours was loaded with."""
    from ctctl.node.record import MAP_NAME, read_record

    try:
        record = read_record(directory / MAP_NAME)
    except CtctlError:
        return {}, {}
    return ({}, {}) if record is None else (record.endpoints, record.services)

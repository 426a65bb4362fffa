"""Changes between the packets of a scenario: single table operations, and garbage collection."""

from __future__ import annotations

import threading
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ctctl.abi import pins
from ctctl.config.service import Backend
from ctctl.decode.ct import family_of_key
from ctctl.model.service import BACKEND_STATES
from ctctl.node import records as rec
from ctctl.node import tables
from ctctl.simulate.maps import SimulatedMaps
from ctctl.simulate.simulator import Simulator


def apply_operation(simulator: Simulator, op: str, args: dict[str, Any]) -> None:
    """Do one ``op`` step (docs/scenarios.md). Only the tables change: the node file still says what it said."""
    if op == "service_set":
        _service_set(simulator, args["service"])
    elif op == "service_del":
        _service_del(simulator, args["addr"], args["port"])
    elif op.startswith(("snat_", "ct_")):
        _change_state(simulator.maps, op, args)
    else:
        _change_settings(simulator.maps, op, args)


def _change_settings(maps: SimulatedMaps, op: str, args: dict[str, Any]) -> None:
    """An ``op`` on one record of a configuration table; a number without an address means both families'."""
    match op:
        case "backend_del":
            for version in (4, 6):
                maps.write(pins.of_family(tables.BACKENDS, version), rec.backend_key(args["backend_id"]), None)
        case "backend_set":
            name = pins.of_family(tables.BACKENDS, args["ip"].version)
            maps.write(name, rec.backend_key(args["backend_id"]), _backend(args))
        case "revnat_del":
            for version in (4, 6):
                maps.write(pins.of_family(tables.REVERSE_NAT, version), rec.rev_nat_key(args["rev_nat_id"]), None)
        case "affmatch_del":
            key = rec.affinity_match_key(args["backend_id"], args["rev_nat_id"])
            maps.write(tables.AFFINITY_MATCH, key, None)
        case "srcrange_add":
            name = pins.of_family(tables.SOURCE_RANGES, args["cidr"].version)
            maps.write(name, rec.source_range_key(args["rev_nat_id"], args["cidr"]), b"\0")
        case "policy_del":
            maps.write(tables.POLICY, rec.policy_key(args["endpoint_id"], bool(args["egress"])), None)


def _change_state(maps: SimulatedMaps, op: str, args: dict[str, Any]) -> None:
    """An ``op`` on a table that packets write: what GC or an older agent could leave."""
    if op == "snat_clear":
        for name in pins.SNAT_TABLES.values():
            for key, _ in list(maps.entries(name)):
                maps.write(name, key, None)
        return
    key = args["key_hex"]
    version = family_of_key(len(key))
    if op == "ct_del":
        for name in pins.OWN_CT_TABLES if version == 4 else pins.OWN_CT6_TABLES:
            maps.write(name, key, None)
    else:
        maps.write(pins.SNAT_TABLES[version], key, args.get("value_hex"))


def _backend(args: dict[str, Any]) -> bytes:
    backend = Backend(args["backend_id"], args["ip"], args["port"], args["state"])
    return rec.backend_value(backend.ip, backend.port, rec.ANY_PROTOCOL, BACKEND_STATES.index(backend.state))


def _service_set(simulator: Simulator, service: Any) -> None:
    for name, entries in tables.service_records(simulator.nf, service).items():
        for key, value in entries.items():
            simulator.maps.write(name, key, value)
    if simulator.nf.datapath.lb.algorithm == "maglev":
        built = tables.service_maglev_tables(simulator.nf, service)
        name = pins.of_family(tables.MAGLEV, service.ip.version)
        for number in service.ids:
            key = rec.rev_nat_key(number)
            simulator.maps.write(name, key, built[key].astype("<u4").tobytes() if key in built else None)


def _service_del(simulator: Simulator, address: IPv4Address | IPv6Address, port: int) -> None:
    """Frontends and slots of both scopes go; the reverse NAT entry stays for connections that live."""
    frontend = address.packed + rec.be16(port)
    name = pins.of_family(tables.SERVICES, address.version)
    for key, _ in list(simulator.maps.entries(name)):
        if key.startswith(frontend):
            simulator.maps.write(name, key, None)


def collect_garbage(simulator: Simulator, endpoint: IPv4Address | IPv6Address | None = None) -> int:
    """Run the per-key engine of ``ctctl gc`` at the simulated time; how many entries went.

    With ``endpoint`` every entry with that address goes, expired or not, and nothing else (docs/reference/abi.md).
    """
    # The engine brings numpy along, which scenarios without this step do without.
    from ctctl.gc import perkey
    from ctctl.gc.job import Job
    from ctctl.gc.limit import RateLimit
    from ctctl.gc.tally import Tally
    from ctctl.tables.sources.live import table_of
    from ctctl.tables.writer.targets import private_target

    stop = threading.Event()
    job = Job(simulator.now, stop, RateLimit(None, stop), addresses=(endpoint.packed,) if endpoint else ())
    simulator.load()
    deleted = 0
    for name in simulator.ct_tables:
        nat = simulator.maps.get(pins.SNAT_TABLES[6 if name in pins.OWN_CT6_TABLES else 4])
        table = table_of(name, simulator.maps[name], nat)
        tally = Tally()
        perkey.collect(table, private_target(table), job, tally)
        deleted += int(tally.deleted.sum())
    return deleted

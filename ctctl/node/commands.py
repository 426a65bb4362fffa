"""Use cases around a node: load, apply, unload, status, features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ctctl.config.node import NodeFile
from ctctl.errors import NotFoundError
from ctctl.model.tuples import endpoint
from ctctl.node import tables as t
from ctctl.node.diff import Change
from ctctl.node.find import choose_node
from ctctl.node.foreign import all_statuses
from ctctl.node.loader import LoadReport, LoadRequest, load, plan_load
from ctctl.node.record import MAP_NAME, read_record
from ctctl.node.report import FeatureRow, TableChange
from ctctl.node.status import NodeStatus
from ctctl.node.unload import UnloadReport, nodes_to_unload, plan_unload, unload
from ctctl.node.update import UpdateReport, plan_update, update

__all__ = [
    "FeatureRow",
    "LoadReport",
    "LoadRequest",
    "NodeStatus",
    "TableChange",
    "UnloadReport",
    "UpdateReport",
    "all_statuses",
    "features",
    "load",
    "nodes_to_unload",
    "plan_load",
    "plan_unload",
    "plan_update",
    "read_apply_file",
    "read_file",
    "table_changes",
    "unload",
    "update",
]


def features() -> list[FeatureRow]:
    """What this machine can do, each feature tried out."""
    from ctctl.kernel.features import probe

    return [FeatureRow(f.name, f.available, f.used_for, f.detail) for f in probe()]


def read_file(path: Path, name: str | None) -> tuple[NodeFile, str]:
    """(node, text) of a node file. A file with one node may be loaded under another ``name``; of several
    the name chooses. Raises ConfigError, NotFoundError."""
    from ctctl.config.node import load_node_file, load_node_files

    nodes = load_node_files(path)
    text = path.read_text(encoding="utf-8")
    if len(nodes) == 1:
        node = nodes[0]
        return (replace(node, node=replace(node.node, name=name)) if name else node), text
    return load_node_file(path, name), text


def read_apply_file(path: Path, name: str | None, bpffs: Path) -> tuple[NodeFile, str]:
    """As ``read_file``; a file of Kubernetes objects alone replaces the services of what was loaded."""
    from ctctl.config.k8s import is_kubernetes, load_kubernetes_services
    from ctctl.config.node import parse_node_files
    from ctctl.config.yamltree import load_yaml

    if not all(map(is_kubernetes, load_yaml(path))):
        return read_file(path, name)
    paths = choose_node(name, bpffs)
    record = read_record(paths.map(MAP_NAME))
    if record is None:
        raise NotFoundError(f"node {paths.node} is not completely loaded: run ctctl load first")
    nodes = parse_node_files(record.file_text, record.file_path)
    base = next((node for node in nodes if node.node.name == paths.node), nodes[0])
    base = replace(base, node=replace(base.node, name=paths.node))
    found = load_kubernetes_services(path, base.node.ip)
    return replace(base, services=found.services, notes=found.notes), record.file_text


def table_changes(changes: Iterable[Change]) -> list[TableChange]:
    """Changes in words, one row a record; padding and slots that only moved are shown as they are."""
    return [
        TableChange(
            change.action, *_KINDS[change.table](change.key), _say(change, change.before), _say(change, change.after)
        )
        for change in changes
    ]


def _say(change: Change, value: bytes | None) -> str | None:
    return None if value is None else _VALUES[change.table](change.key, value)


def _service_key(key: bytes) -> tuple[str, str]:
    from ctctl.decode.services import decode_service

    slot = decode_service(key, bytes(12))
    where = endpoint(slot.addr, slot.port) + (f" ({slot.scope})" if slot.scope != "external" else "")
    return ("slot", f"{where} #{slot.slot}") if slot.slot else ("service", where)


def _service_value(key: bytes, value: bytes) -> str:
    from ctctl.decode.services import decode_service

    slot = decode_service(key, value)
    if slot.slot:
        flags = value[8] | value[9] << 8
        return f"backend {slot.backend_id}" + (f", flags {flags:#06x}" if flags else "")
    affinity = f", affinity {slot.affinity_timeout}s" if slot.affinity_timeout else ""
    return f"{slot.type} id {slot.rev_nat}, {slot.count} backends{affinity}"


def _backend_value(key: bytes, value: bytes) -> str:
    from ctctl.decode.services import decode_backend

    backend = decode_backend(key, value)
    return f"{backend.where} {backend.state}"


def _rev_nat_value(key: bytes, value: bytes) -> str:
    from ctctl.decode.services import decode_rev_nat

    found = decode_rev_nat(key, value)
    return endpoint(found.addr, found.port)


def _range_key(key: bytes) -> tuple[str, str]:
    from ctctl.decode.services import decode_source_range

    found = decode_source_range(key)
    return "source-range", f"{found.cidr} of id {found.rev_nat}"


def _endpoint_key(key: bytes) -> tuple[str, str]:
    from ctctl.decode.services import decode_endpoint

    return "endpoint", str(decode_endpoint(key, bytes(48)).addr)


def _endpoint_value(key: bytes, value: bytes) -> str:
    from ctctl.decode.services import decode_endpoint

    found = decode_endpoint(key, value)
    if found.is_host:
        return "the host"
    return f"id {found.endpoint_id} identity {found.identity} ifindex {found.ifindex} mac {found.mac}"


def _ipcache_key(key: bytes) -> tuple[str, str]:
    from ctctl.decode.services import decode_ipcache

    return "identity", decode_ipcache(key, bytes(12)).prefix


def _ipcache_value(key: bytes, value: bytes) -> str:
    from ctctl.decode.services import decode_ipcache

    found = decode_ipcache(key, value)
    return f"{found.identity}" + (f" via {found.tunnel_endpoint}" if found.tunnel_endpoint else "")


def _policy_key(key: bytes) -> tuple[str, str]:
    from ctctl.abi.layouts import ctctl_policy_key
    from ctctl.model.tuples import protocol_name

    found = ctctl_policy_key.from_buffer_copy(key)
    peer = f"identity {found.identity}" if found.identity else "any peer"
    what = protocol_name(found.proto) if found.proto else "any protocol"
    port = f" port {found.dport}" if found.dport else ""
    way = "to" if found.egress else "from"
    return "policy", f"endpoint {found.endpoint_id} {way} {peer}, {what}{port}"


def _id_key(kind: str, order: str) -> Callable[[bytes], tuple[str, str]]:
    def name(key: bytes) -> tuple[str, str]:
        number = int.from_bytes(key, "big" if order == "big" else "little")
        return kind, f"id {number}" if kind != "backend" else str(number)

    return name


def _affinity_key(key: bytes) -> tuple[str, str]:
    return "affinity", f"backend {int.from_bytes(key[:4], 'little')} of id {int.from_bytes(key[4:6], 'big')}"


def _maglev_value(_key: bytes, value: bytes) -> str:
    import numpy as np

    backends = np.unique(np.frombuffer(value, "<u4"))
    return f"{len(value) // 4} slots over {len(backends)} backends"


#: table → (kind, name) of a key
_KINDS: dict[str, Callable[[bytes], tuple[str, str]]] = {
    t.SERVICES: _service_key,
    t.BACKENDS: _id_key("backend", "little"),
    t.REVERSE_NAT: _id_key("rev-nat", "big"),
    t.AFFINITY_MATCH: _affinity_key,
    t.SOURCE_RANGES: _range_key,
    t.ENDPOINTS: _endpoint_key,
    t.IPCACHE: _ipcache_key,
    t.POLICY: _policy_key,
    t.MAGLEV: _id_key("maglev", "big"),
}

#: table → a value in words
_VALUES: dict[str, Callable[[bytes, bytes], str]] = {
    t.SERVICES: _service_value,
    t.BACKENDS: _backend_value,
    t.REVERSE_NAT: _rev_nat_value,
    t.AFFINITY_MATCH: lambda _key, _value: "yes",
    t.SOURCE_RANGES: lambda _key, _value: "allowed",
    t.ENDPOINTS: _endpoint_value,
    t.IPCACHE: _ipcache_value,
    t.POLICY: lambda _key, value: "deny" if value[0] else "allow",
    t.MAGLEV: _maglev_value,
}

"""JSON of what services, addresses and endpoints are listed with."""

from __future__ import annotations

from ctctl.out.schema_words import (
    ADDRESS,
    BOOL,
    COUNT,
    COUNTS,
    NUMBER,
    PORT,
    STRING,
    STRINGS,
    Schema,
    array,
    listing,
    maybe,
    record,
    words,
)
from ctctl.tables.show.schema import BACKEND, NAT


def _rows(name: str, plural: str, item: Schema) -> Schema:
    """A list whose rows name their node, where there are several."""
    return listing(name, plural, {**item, "properties": {"node": maybe(STRING), **item["properties"]}})


SERVICES_SCHEMAS: dict[str, Schema] = {
    "ctctl/nat-entry/v1": _rows("ctctl/nat-entry/v1", "entries", NAT),
    "ctctl/lb-backend/v1": _rows("ctctl/lb-backend/v1", "backends", BACKEND),
    "ctctl/lb-frontend/v1": _rows(
        "ctctl/lb-frontend/v1",
        "frontends",
        record(
            {
                "frontend": STRING,
                "name": maybe(STRING),
                "proto": maybe(COUNT),
                "scope": STRING,
                "rev_nat": maybe(COUNT),
                "type": maybe(STRING),
                "flags": STRINGS,
                "affinity_timeout": maybe(COUNT),
                "backends": STRINGS,
            }
        ),
    ),
    "ctctl/lb-slot/v1": _rows(
        "ctctl/lb-slot/v1",
        "slots",
        record(
            {
                "frontend": STRING,
                "proto": maybe(COUNT),
                "scope": STRING,
                "slot": COUNT,
                **dict.fromkeys(("word", "count", "quarantined", "rev_nat", "flags"), maybe(COUNT)),
            }
        ),
    ),
    "ctctl/nat-port-use/v1": _rows(
        "ctctl/nat-port-use/v1",
        "port_use",
        record(
            {
                "proto": COUNT,
                "egress": ADDRESS,
                "remote": STRING,
                "ports": COUNT,
                "range_size": COUNT,
                "range": STRING,
                "range_by": STRING,
                "share": NUMBER,
                "entries": COUNT,
            }
        ),
    ),
    "ctctl/tunnel/v1": _rows(
        "ctctl/tunnel/v1", "tunnels", record({"prefix": ADDRESS, "endpoint": ADDRESS, "key": COUNT})
    ),
    "ctctl/socket/v1": _rows(
        "ctctl/socket/v1",
        "sockets",
        record({"cookie": COUNT, "frontend": STRING, "service": maybe(STRING), "backend": STRING, "rev_nat": COUNT}),
    ),
    "ctctl/policy-rule/v1": _rows(
        "ctctl/policy-rule/v1",
        "rules",
        record(
            {
                "endpoint_id": maybe(COUNT),
                "endpoint": maybe(STRING),
                "direction": words("ingress", "egress"),
                "verdict": words("allow", "deny"),
                "identity": maybe(COUNT),
                "labels": STRINGS,
                "ports": STRING,
                "proxy_port": maybe(PORT),
                "auth_type": COUNT,
                "packets": maybe(COUNT),
                "bytes": maybe(COUNT),
                "precedence": maybe(COUNT),
                "prefix_bits": COUNT,
                "map": maybe(STRING),
            }
        ),
    ),
    "ctctl/policy-verdict/v1": _rows(
        "ctctl/policy-verdict/v1",
        "verdicts",
        record(
            {
                "verdict": words("allowed", "denied", "unknown"),
                "direction": words("ingress", "egress"),
                "endpoint": ADDRESS,
                "endpoint_id": maybe(COUNT),
                "peer": ADDRESS,
                "peer_identity": maybe(COUNT),
                "proto": COUNT,
                "port": PORT,
                "why": STRING,
                "derived_from": STRINGS,
            }
        ),
    ),
    "ctctl/datapath-counter/v1": _rows(
        "ctctl/datapath-counter/v1",
        "counters",
        record(
            {
                "reason": STRING,
                "code": COUNT,
                "direction": words("ingress", "egress", "service", "unknown"),
                "packets": COUNT,
                "bytes": COUNT,
                "where": STRING,
                "file": maybe(STRING),
                "line": maybe(COUNT),
                "dropped": BOOL,
            }
        ),
    ),
    "ctctl/lb-revnat/v1": _rows(
        "ctctl/lb-revnat/v1", "revnats", record({"rev_nat": COUNT, "addr": ADDRESS, "port": PORT})
    ),
    "ctctl/lb-source-range/v1": _rows(
        "ctctl/lb-source-range/v1", "source_ranges", record({"rev_nat": COUNT, "cidr": STRING})
    ),
    "ctctl/lb-maglev/v1": _rows(
        "ctctl/lb-maglev/v1",
        "maglev",
        record({"rev_nat": COUNT, "family": {"enum": [4, 6]}, "share": COUNTS, "table": array(COUNT)}),
    ),
    "ctctl/ipcache-entry/v1": _rows(
        "ctctl/ipcache-entry/v1",
        "prefixes",
        record(
            {
                "prefix": STRING,
                "name": maybe(STRING),
                "identity": COUNT,
                "labels": maybe(STRING),
                "tunnel_endpoint": maybe(STRING),
                "encrypt_key": COUNT,
                "cluster_id": COUNT,
                "skip_tunnel": BOOL,
            }
        ),
    ),
    "ctctl/endpoint/v1": _rows(
        "ctctl/endpoint/v1",
        "endpoints",
        record(
            {
                "addr": ADDRESS,
                "name": maybe(STRING),
                "endpoint_id": COUNT,
                "identity": COUNT,
                "labels": maybe(STRING),
                "ifindex": COUNT,
                "mac": maybe(STRING),
                "node_mac": maybe(STRING),
                "flags": COUNT,
                "parent_ifindex": COUNT,
            }
        ),
    ),
}

"""The JSON Schema of everything ctctl prints as JSON, by schema name. ``--fields`` prints less than these say."""

from __future__ import annotations

from ctctl.ct.report import Change, CtEventKind
from ctctl.gc.schema import GC_SCHEMAS
from ctctl.lab.schema import LAB_SCHEMAS
from ctctl.model.entry import CtFlags, CtState
from ctctl.out.schema_words import (
    ADDRESS,
    ANY,
    BOOL,
    COUNT,
    COUNTS,
    HEX,
    INT,
    NUMBER,
    OBJECT,
    PORT,
    STRING,
    STRINGS,
    Schema,
    array,
    document,
    listing,
    maybe,
    record,
    words,
)
from ctctl.trace.schema import TRACE_SCHEMAS

_DIRECTION = words("OUT", "IN", "SVC")
_STATE = words(*(state.value for state in CtState))
_FLAG_NAMES: Schema = array(words(*(str(flag.name) for flag in CtFlags if flag is not CtFlags.Reserved9)))
_TUPLE = {
    "proto": {"type": "integer", "minimum": 0, "maximum": 255},
    "proto_name": maybe(STRING),
    "src": ADDRESS,
    "src_port": PORT,
    "dst": ADDRESS,
    "dst_port": PORT,
}
_COUNTERS = ("backend_id", "packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "ifindex")

#: An entry of ``ct list`` and of every other command that shows entries.
ENTRY = record(
    {
        "map": maybe(STRING),
        **_TUPLE,
        "direction": _DIRECTION,
        "related": BOOL,
        "state": _STATE,
        "lifetime": COUNT,
        "flags": {"type": "integer", "minimum": 0, "maximum": 65535},
        "flag_names": _FLAG_NAMES,
        "other_bits": COUNT,
        "rev_nat": PORT,
        "tx_flags_seen": COUNT,
        "rx_flags_seen": COUNT,
        "src_sec_id": COUNT,
        "last_tx_report": COUNT,
        "last_rx_report": COUNT,
        "tuple_flags": COUNT,
    },
    {
        **{name: maybe(COUNT) for name in _COUNTERS},
        "nat_addr": maybe(ADDRESS),
        "nat_port": maybe(PORT),
        "remaining": INT,
        "expired": BOOL,
        "node": STRING,
        "src_name": STRING,
        "dst_name": STRING,
        "backend": STRING,
        "key_hex": maybe(HEX),
        "value_hex": maybe(HEX),
        "mark": words("new", "closing", "gone", ""),
    },
)
_META = {
    "source": STRING,
    "clock": array(record({"clock": STRING, "evidence": STRING})),
    "now": maybe(INT),
    "layout": STRINGS,
    "partial": STRINGS,
}
_NAT = record(
    {
        "map": maybe(STRING),
        **_TUPLE,
        "direction": _DIRECTION,
        "related": BOOL,
        "xlate": words("SRC", "DST"),
        "to_addr": ADDRESS,
        "to_port": PORT,
        "created": maybe(COUNT),
        "age": maybe(INT),
        "needs_ct": maybe(COUNT),
        "key_hex": maybe(HEX),
    }
)
_BACKEND = record(
    {
        "backend_id": COUNT,
        "addr": ADDRESS,
        "port": maybe(PORT),
        "proto": maybe(COUNT),
        "state": maybe(STRING),
        "cluster_id": maybe(COUNT),
        "zone": maybe(COUNT),
    }
)
_HISTOGRAM = maybe(array(record({"le_s": COUNT, "count": COUNT})))
_CHANGED: Schema = {"type": "object", "additionalProperties": record({"before": ANY, "after": ANY})}
_STATS = record(
    {
        "map": STRING,
        "node": maybe(STRING),
        "entries": COUNT,
        "capacity": maybe(COUNT),
        "pressure": maybe(NUMBER),
        "by_protocol": COUNTS,
        "by_direction": COUNTS,
        "by_state": COUNTS,
        "related": COUNT,
        "expired": maybe(COUNT),
        "half_open": COUNT,
        "half_closed": COUNT,
        "flags": COUNTS,
        "remaining": _HISTOGRAM,
        "overdue": _HISTOGRAM,
        "idle": _HISTOGRAM,
        "engine": words("kernel", "batch"),
    }
)
_TALKER = record(
    {
        "by": STRING,
        "key": STRING,
        "name": maybe(STRING),
        "entries": COUNT,
        "expired": maybe(COUNT),
        "packets": maybe(COUNT),
        "bytes": maybe(COUNT),
        "rate": maybe(NUMBER),
    }
)
_CONNECTION = record(
    {
        "flow": record(_TUPLE),
        "state": STRING,
        "why": STRING,
        "notes": STRINGS,
        "service": maybe(STRING),
        "backend_id": maybe(COUNT),
        "backend": maybe(_BACKEND),
        "snat": array(_NAT),
        "entries": array(record({"role": words("service", "out", "in", "related")}, more=True)),
    }
)

_CT = {
    "ctctl/ct-entry/v1": listing("ctctl/ct-entry/v1", "entries", ENTRY, _META),
    "ctctl/connection/v1": document("ctctl/connection/v1", _CONNECTION),
    "ctctl/connections/v1": document("ctctl/connections/v1", record({"connections": array(_CONNECTION)})),
    "ctctl/ct-stats/v1": listing("ctctl/ct-stats/v1", "tables", _STATS),
    "ctctl/ct-top/v1": listing("ctctl/ct-top/v1", "talkers", _TALKER),
    "ctctl/ct-diff/v1": listing(
        "ctctl/ct-diff/v1",
        "differences",
        record({"change": words(*(change.value for change in Change)), "entry": ENTRY, "fields": _CHANGED}),
    ),
    "ctctl/ct-event/v1": listing(
        "ctctl/ct-event/v1",
        "events",
        record(
            {
                "event": words(*(kind.value for kind in CtEventKind)),
                "time": NUMBER,
                "cause": STRING,
                "entry": ENTRY,
                "fields": _CHANGED,
            }
        ),
    ),
    "ctctl/ct-decode/v1": document(
        "ctctl/ct-decode/v1", record({"kind": words("flags", "key", "value", "entry", "snat")}, more=True)
    ),
}
_TABLES = {
    "ctctl/nat-entry/v1": listing("ctctl/nat-entry/v1", "entries", _NAT),
    "ctctl/lb-backend/v1": listing("ctctl/lb-backend/v1", "backends", _BACKEND),
    "ctctl/lb-frontend/v1": listing(
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
    "ctctl/lb-slot/v1": listing(
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
    "ctctl/nat-port-use/v1": listing(
        "ctctl/nat-port-use/v1",
        "port_use",
        record(
            {
                "proto": COUNT,
                "egress": ADDRESS,
                "remote": STRING,
                "ports": COUNT,
                "range_size": COUNT,
                "share": NUMBER,
                "entries": COUNT,
            }
        ),
    ),
    "ctctl/tunnel/v1": listing(
        "ctctl/tunnel/v1", "tunnels", record({"prefix": ADDRESS, "endpoint": ADDRESS, "key": COUNT})
    ),
    "ctctl/socket/v1": listing(
        "ctctl/socket/v1",
        "sockets",
        record({"cookie": COUNT, "frontend": STRING, "service": maybe(STRING), "backend": STRING, "rev_nat": COUNT}),
    ),
    "ctctl/policy-rule/v1": listing(
        "ctctl/policy-rule/v1",
        "rules",
        record(
            {
                "endpoint_id": COUNT,
                "endpoint": maybe(STRING),
                "direction": words("ingress", "egress"),
                "verdict": words("allow", "deny"),
                "identity": COUNT,
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
    "ctctl/policy-verdict/v1": listing(
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
    "ctctl/datapath-counter/v1": listing(
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
    "ctctl/lb-revnat/v1": listing(
        "ctctl/lb-revnat/v1", "revnats", record({"rev_nat": COUNT, "addr": ADDRESS, "port": PORT})
    ),
    "ctctl/lb-source-range/v1": listing(
        "ctctl/lb-source-range/v1", "source_ranges", record({"rev_nat": COUNT, "cidr": STRING})
    ),
    "ctctl/lb-maglev/v1": listing(
        "ctctl/lb-maglev/v1",
        "maglev",
        record({"rev_nat": COUNT, "family": {"enum": [4, 6]}, "share": COUNTS, "table": array(COUNT)}),
    ),
    "ctctl/ipcache-entry/v1": listing(
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
    "ctctl/endpoint/v1": listing(
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
_GC_ROW = record(
    {
        "map": STRING,
        "protocol": STRING,
        "direction": _DIRECTION,
        "related": BOOL,
        "family": ANY,
        "deleted": COUNT,
        "skipped": COUNT,
    },
    # A scrub does not ask what is expired: it counts what it selects, and what is of others.
    dict.fromkeys(("alive", "expired", "others", "selected"), COUNT),
)
_GC_META = {
    "source": STRING,
    "engine": STRING,
    "dry_run": BOOL,
    "now": INT,
    "complete": BOOL,
    "duration_s": NUMBER,
    **dict.fromkeys(("alive", "expired", "others", "selected", "deleted", "skipped", "nat_deleted"), COUNT),
    "scrubbed": STRING,
    "orphans": maybe(COUNT),
    "ratio": NUMBER,
    "interval_s": NUMBER,
    "next_interval_s": NUMBER,
    "undo_file": maybe(STRING),
    "notes": STRINGS,
    "maps": array(record({"map": STRING}, more=True)),
}
_PROGRAM = record({"program": STRING, "interface": ANY, "direction": STRING}, more=True)
_MAP = record({"name": STRING, "id": COUNT, "type": STRING, "entries": maybe(COUNT), "max_entries": COUNT}, more=True)
_COUNTER = record({"hook": STRING, "reason": STRING, "packets": COUNT, "bytes": COUNT})
_NODE = {
    "ctctl/status/v1": listing(
        "ctctl/status/v1",
        "nodes",
        record(
            {"name": STRING, "programs": array(_PROGRAM), "maps": array(_MAP), "counters": array(_COUNTER)}, more=True
        ),
    ),
    "ctctl/features/v1": listing(
        "ctctl/features/v1",
        "features",
        record({"name": STRING, "available": BOOL, "needed_for": STRING, "detail": maybe(STRING)}),
    ),
    "ctctl/load/v1": document(
        "ctctl/load/v1",
        record(
            {
                **dict.fromkeys(("node", "path", "attach", "tunnel"), STRING),
                "netns": maybe(STRING),
                **dict.fromkeys(("kept", "made", "attached", "replaced", "detached"), STRINGS),
                "mounted": BOOL,
                "planned": BOOL,
            }
        ),
    ),
    "ctctl/unload/v1": document(
        "ctctl/unload/v1",
        record(
            {
                "nodes": array(
                    record({"node": STRING, "path": STRING, "detached": STRINGS, "maps": STRINGS, "planned": BOOL})
                )
            }
        ),
    ),
    "ctctl/apply/v1": listing(
        "ctctl/apply/v1",
        "changes",
        record({"action": STRING, "kind": STRING, "name": STRING, "before": maybe(STRING), "after": maybe(STRING)}),
        {
            "node": STRING,
            "planned": BOOL,
            **dict.fromkeys(("attached", "replaced", "detached"), STRINGS),
        },
    ),
    "ctctl/gc-report/v1": listing("ctctl/gc-report/v1", "rows", _GC_ROW, _GC_META),
    "ctctl/doctor/v1": listing(
        "ctctl/doctor/v1",
        "findings",
        record(
            {
                "severity": words("critical", "warning", "info"),
                "check": STRING,
                "node": maybe(STRING),
                "map": maybe(STRING),
                "summary": STRING,
                "advice": ANY,
                "evidence": OBJECT,
                "show": STRINGS,
                "mend": STRINGS,
            }
        ),
        {"sources": array(record({"source": STRING, "verdict": words("healthy", "findings", "unknown")}, more=True))},
    ),
}
#: By schema name, in the order of the commands in ``ctctl --help``.
SCHEMAS: dict[str, Schema] = {**_CT, **_TABLES, **TRACE_SCHEMAS, **_NODE, **GC_SCHEMAS, **LAB_SCHEMAS}


def whole() -> Schema:
    """One schema for every output: the definitions by name, and a choice by the output's ``schema`` field."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://ctctl.invalid/schema.json",
        "title": "What ctctl prints as JSON",
        "oneOf": [{"$ref": f"#/$defs/{name.replace('/', '~1')}"} for name in SCHEMAS],
        "$defs": SCHEMAS,
    }
